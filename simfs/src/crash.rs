//! Crash states, and the question that everything else is built from: can these cells have these versions?
//!
//! The crash states at one crash point are closed under union and intersection, so the question is answered by one
//! closure, never by search. This module knows cells and versions, no trees, no deploys. Three parts: the procedure
//! ([`Crashes::feasible`]); its witness, an enumeration from the definition that shares nothing with it ([`enumerate`],
//! [`Enumeration`]); and crash states drawn at random, for traces of any size ([`Samples`]).

mod enumeration;
mod sampling;

pub use enumeration::{Enumeration, enumerate};
pub use sampling::Samples;

use crate::cell::{Cell, Value};
use crate::model::{self, Model, NEVER};
use crate::trace::{CellId, EffectId, Seq, Trace};

/// A demand on a crash state: this cell is at exactly this version, or (none) still has its initial value.
pub type Pin = (CellId, Option<EffectId>);

/// A range of crash points, both ends included; empty when `lo > hi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First crash point.
    pub lo: Seq,
    /// Last crash point.
    pub hi: Seq,
}

impl Window {
    /// The crash points in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { lo: self.lo.max(other.lo), hi: self.hi.min(other.hi) }
    }

    /// Whether there is no crash point in it.
    pub fn is_empty(self) -> bool {
        self.lo > self.hi
    }
}

/// One crash state: everything forced at its crash point, and `extra`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashState {
    /// The crash point: power was lost just after this op.
    pub at: Seq,
    /// The effects that survived without having been forced, in order.
    pub extra: Vec<EffectId>,
}

impl CrashState {
    /// Whether an effect survived.
    pub fn contains(&self, crashes: &Crashes<'_>, effect: EffectId) -> bool {
        crashes.forced_at(effect) <= self.at || self.extra.binary_search(&effect).is_ok()
    }
}

/// All crash states of a trace under a model.
pub struct Crashes<'t> {
    trace: &'t Trace,
    model: &'t Model,
    forced_at: Vec<Seq>,
    /// For each effect, when the first *newer* version of its cell is forced.
    newer_forced_at: Vec<Seq>,
}

impl<'t> Crashes<'t> {
    /// Works out what the sync calls of the trace force under the model.
    pub fn new(trace: &'t Trace, model: &'t Model) -> Self {
        let forced_at = model::forced_at(trace, model);
        let mut newer_forced_at = vec![NEVER; forced_at.len()];
        for cell in (0..trace.cell_count() as u32).map(CellId) {
            let mut first = NEVER;
            for effect in trace.versions(cell).iter().rev() {
                newer_forced_at[effect.0 as usize] = first;
                first = first.min(forced_at[effect.0 as usize]);
            }
        }
        Self { trace, model, forced_at, newer_forced_at }
    }

    /// The trace.
    pub fn trace(&self) -> &'t Trace {
        self.trace
    }

    /// The model.
    pub fn model(&self) -> &'t Model {
        self.model
    }

    /// The op at whose return the effect was forced, or [`NEVER`].
    pub fn forced_at(&self, effect: EffectId) -> Seq {
        self.forced_at[effect.0 as usize]
    }

    /// The crash points at which the pin alone does not contradict what is forced. Outside of it the pin is
    /// infeasible; inside, [`Crashes::feasible`] decides.
    pub fn window(&self, (cell, version): Pin) -> Window {
        let (lo, newer) = match version {
            Some(effect) => (self.trace.effect(effect).seq, self.newer_forced_at[effect.0 as usize]),
            None => match self.trace.versions(cell).first() {
                Some(first) => {
                    let at = first.0 as usize;
                    (0, self.forced_at[at].min(self.newer_forced_at[at]))
                }
                None => (0, NEVER),
            },
        };
        let last = self.trace.last();
        // A newer version that is forced at 0 leaves no crash point at all.
        newer.checked_sub(1).map_or(Window { lo: 1, hi: 0 }, |hi| Window { lo, hi: hi.min(last) })
    }

    /// The least crash state at crash point `k` with all pins, if there is one.
    pub fn feasible(&self, k: Seq, pins: &[Pin]) -> Option<CrashState> {
        let mut extra = Vec::new();
        for (_, version) in pins {
            if let Some(effect) = *version {
                if self.trace.effect(effect).seq > k {
                    return None;
                }
                self.close(k, effect, &mut extra);
            }
        }
        extra.sort_unstable();
        extra.dedup();
        let state = CrashState { at: k, extra };
        pins.iter().all(|(cell, version)| self.newest_in(&state, *cell) == *version).then_some(state)
    }

    /// The first crash point in `range` at which the pins are feasible, with the least state there.
    ///
    /// Within the pins' own windows nothing forced contradicts them, so only what they bring along can. That changes
    /// where a sync call forces some of it, and nowhere else: the first crash point and those are worth asking.
    pub fn find(&self, range: Window, pins: &[Pin]) -> Option<CrashState> {
        let range = pins.iter().fold(range, |range, pin| range.and(self.window(*pin)));
        if range.is_empty() {
            return None;
        }
        if let Some(state) = self.feasible(range.lo, pins) {
            return Some(state);
        }
        let mut brought = Vec::new();
        for effect in pins.iter().filter_map(|(_, version)| *version) {
            self.close(range.lo, effect, &mut brought);
        }
        let mut changes: Vec<Seq> = brought.into_iter().map(|effect| self.forced_at(effect)).collect();
        changes.retain(|at| range.lo < *at && *at <= range.hi);
        changes.sort_unstable();
        changes.dedup();
        changes.into_iter().find_map(|k| self.feasible(k, pins))
    }

    fn newest_in(&self, state: &CrashState, cell: CellId) -> Option<EffectId> {
        let versions = self.trace.versions(cell);
        let issued = versions.partition_point(|effect| self.trace.effect(*effect).seq <= state.at);
        versions[..issued].iter().rev().copied().find(|effect| state.contains(self, *effect))
    }

    /// Adds an effect and all that it requires, stopping at what is forced.
    fn close(&self, k: Seq, effect: EffectId, into: &mut Vec<EffectId>) {
        if self.forced_at(effect) <= k {
            return;
        }
        into.push(effect);
        for required in requirements(self.trace, self.model, effect) {
            if !into.contains(&required) {
                self.close(k, required, into);
            }
        }
    }
}

/// What must have survived if this effect did and was not forced.
fn requirements<'t>(
    trace: &'t Trace,
    model: &Model,
    effect: EffectId,
) -> impl Iterator<Item = EffectId> + use<'t> {
    let child = match trace.effect(effect).value {
        Value::Entry(Some(ino)) if model.entry_requires_inode => Some(ino),
        _ => None,
    };
    let births = child.and_then(|ino| trace.cell_id(&Cell::Inode(ino)));
    births.into_iter().flat_map(move |id| trace.versions(id).iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Fs;
    use crate::model::POSIX;
    use crate::trace::SyncScope;

    /// A name brings its inode along only until a sync forces the name alone: the inode's own sync had failed.
    #[test]
    fn what_is_forced_brings_nothing_along() {
        let mut fs = Fs::new(0, 0, 0o755);
        fs.start_recording();
        let ino = fs.write_file("f", b"x").unwrap();
        fs.sync(SyncScope::File(ino), false);
        let forced = fs.sync(SyncScope::Dir(crate::ROOT), true);
        let trace = fs.trace();
        let crashes = Crashes::new(trace, &POSIX);
        let (name, birth) =
            (trace.entry_id(crate::ROOT, b"f").unwrap(), trace.cell_id(&Cell::Inode(ino)).unwrap());
        let pins = [(name, Some(trace.versions(name)[0])), (birth, None)];
        let all = Window { lo: 0, hi: trace.last() };
        assert!((0..forced).all(|k| crashes.feasible(k, &pins).is_none()));
        assert_eq!(crashes.find(all, &pins).map(|state| state.at), Some(forced));
    }
}
