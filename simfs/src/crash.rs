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

use std::sync::Arc;

use smallvec::SmallVec;

use crate::cell::{BLOCK_BYTES, Cell, Ino, Value};
use crate::model::{self, Forced, Growth, Model, NEVER, Order, SyncIndex};
use crate::trace::{CellId, EffectId, OpKind, Seq, SyncScope, Trace};

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

/// One crash state: everything forced at its crash point, the chain of metadata up to an op, and `extra`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CrashState {
    /// The crash point: power was lost just after this op.
    pub at: Seq,
    /// Where the model has metadata in one chain: all of it up to and with this op survived. 0 where it has not.
    pub chain: Seq,
    /// What else survived without having been forced, in order.
    pub extra: Vec<EffectId>,
}

impl CrashState {
    /// Whether an effect survived.
    pub fn contains(&self, crashes: &Crashes<'_>, effect: EffectId) -> bool {
        crashes.forced_at(effect) <= self.at
            || (self.chain > 0 && crashes.trace.effect(effect).seq <= self.chain && crashes.is_link(effect))
            || self.extra.binary_search(&effect).is_ok()
    }
}

/// All crash states of a trace under a model.
pub struct Crashes<'t> {
    trace: &'t Trace,
    model: &'t Model,
    forced: Arc<Forced>,
    /// For each effect, whether it is a link of the chain of metadata; none if the model has no chain.
    links: Option<Arc<[bool]>>,
    /// For each op, the first one from which on a log may hold its metadata alone; empty if the model has no such log.
    logged_from: Vec<Seq>,
}

impl<'t> Crashes<'t> {
    /// Works out what the sync calls of the trace force under the model.
    pub fn new(trace: &'t Trace, model: &'t Model) -> Self {
        Self::under(&mut SyncIndex::new(trace), model)
    }

    /// The same, for who asks about several models.
    pub fn under(index: &mut SyncIndex<'t>, model: &'t Model) -> Self {
        let trace = index.trace();
        let links = match model.order {
            Order::Free => None,
            Order::Chain => Some(index.links()),
        };
        let logged_from = if model.logs { logged_from(trace) } else { Vec::new() };
        Self { trace, model, forced: index.forced(model), links, logged_from }
    }

    /// Whether it was found out that the same is forced as in these: of models of one index, one after the other.
    pub fn force_the_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.forced, &other.forced)
    }

    /// Whether an effect is a link of the chain of metadata, where the model has one.
    pub fn is_link(&self, effect: EffectId) -> bool {
        self.links.as_ref().is_some_and(|links| links[effect.0 as usize])
    }

    /// From which crash point on a link may survive without the chain before it.
    fn loose_from(&self, effect: EffectId) -> Seq {
        self.logged_from.get(self.trace.effect(effect).seq as usize).copied().unwrap_or(NEVER)
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
        self.forced.at[effect.0 as usize]
    }

    /// The crash points at which the pin alone does not contradict what is forced. Outside of it the pin is
    /// infeasible; inside, [`Crashes::feasible`] decides.
    pub fn window(&self, (cell, version): Pin) -> Window {
        let (lo, newer) = match version {
            Some(effect) => (self.trace.effect(effect).seq, self.forced.newer_at[effect.0 as usize]),
            None => match self.trace.versions(cell).first() {
                Some(first) => {
                    let at = first.0 as usize;
                    (0, self.forced.at[at].min(self.forced.newer_at[at]))
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
        let mut state = CrashState { at: k, ..CrashState::default() };
        for (_, version) in pins {
            if let Some(effect) = *version {
                if self.trace.effect(effect).seq > k {
                    return None;
                }
                self.close(effect, &mut state);
            }
        }
        // What is in the chain is not said twice.
        let chain = state.chain;
        state.extra.retain(|effect| !self.is_link(*effect) || self.trace.effect(*effect).seq > chain);
        state.extra.sort_unstable();
        state.extra.dedup();
        pins.iter().all(|(cell, version)| self.newest_in(&state, *cell) == *version).then_some(state)
    }

    /// The first crash point in `range` at which the pins are feasible, with the least state there.
    ///
    /// Within the pins' own windows nothing forced contradicts them, so only what they bring along can. That changes
    /// where a sync call forces some of it, or may log it, and nowhere else: the first crash point and those are worth
    /// asking. The chain before a link is the same at each of them.
    pub fn find(&self, range: Window, pins: &[Pin]) -> Option<CrashState> {
        let range = pins.iter().fold(range, |range, pin| range.and(self.window(*pin)));
        if range.is_empty() {
            return None;
        }
        if let Some(state) = self.feasible(range.lo, pins) {
            return Some(state);
        }
        let mut brought = Vec::new();
        let mut state = CrashState { at: range.lo, ..CrashState::default() };
        for effect in pins.iter().filter_map(|(_, version)| *version) {
            self.close_noting(effect, &mut state, |effect| brought.push(effect));
        }
        let mut changes: Vec<Seq> = brought
            .into_iter()
            .flat_map(|effect| [self.forced_at(effect), self.loose_from(effect)])
            .filter(|at| range.lo < *at && *at <= range.hi)
            .collect();
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
    fn close(&self, effect: EffectId, into: &mut CrashState) {
        self.close_noting(effect, into, |_| {});
    }

    /// The same, and tells each effect that is brought along as itself, not as a part of the chain.
    ///
    /// What is required never leads back: names to births, lengths to blocks, births and the lengths before them, blocks to
    /// truncations, and links to the chain.
    fn close_noting(&self, effect: EffectId, into: &mut CrashState, mut note: impl FnMut(EffectId)) {
        let mut todo: SmallVec<[EffectId; 8]> = SmallVec::from_slice(&[effect]);
        while let Some(effect) = todo.pop() {
            if self.forced_at(effect) <= into.at {
                continue;
            }
            note(effect);
            if self.is_link(effect) && into.at < self.loose_from(effect) {
                into.chain = into.chain.max(self.trace.effect(effect).seq);
            } else {
                into.extra.push(effect);
                self.requirements(effect, &mut todo);
            }
        }
    }

    /// What must have survived if this effect did, was not forced and does not bring the chain.
    fn requirements(&self, id: EffectId, into: &mut SmallVec<[EffectId; 8]>) {
        let effect = self.trace.effect(id);
        let birth = |ino: Ino| self.trace.cell_id(&Cell::Inode(ino));
        match (self.trace.cell(effect.cell), &effect.value) {
            (_, Value::Entry(Some(child))) => {
                into.extend(birth(*child).iter().flat_map(|id| self.trace.versions(*id)).copied());
                let text = self.trace.cell_id(&Cell::Target(*child)).filter(|_| self.model.logs);
                into.extend(text.iter().flat_map(|id| self.trace.versions(*id)).copied());
            }
            (_, Value::Entry(None)) => {}
            _ if self.links.is_none() || self.is_link(id) => {}
            (Cell::Block(..), _) => {
                // A truncation before it: these blocks are new ones.
                let before = self.before(id);
                into.extend(before.iter().rev().find(|version| self.is_link(**version)).copied());
            }
            (Cell::Size(ino), _) => {
                into.extend(birth(*ino).iter().flat_map(|id| self.trace.versions(*id)).copied());
                into.extend(self.before(id).last().copied());
                let first = match self.model.growth {
                    Growth::Nothing => return,
                    Growth::AllBlocks => model::size_before(self.trace, id) / BLOCK_BYTES,
                };
                // All that the op added; the lengths before bring what was there already.
                let written = self.trace.ops()[effect.seq as usize].effects.clone().map(EffectId);
                into.extend(written.filter(|other| {
                    matches!(self.trace.cell(self.trace.effect(*other).cell), Cell::Block(i, n) if i == ino && *n >= first)
                }));
            }
            _ => {}
        }
    }

    /// The versions of an effect's cell before it, oldest first.
    fn before(&self, id: EffectId) -> &'t [EffectId] {
        let versions = self.trace.versions(self.trace.effect(id).cell);
        &versions[..versions.partition_point(|version| *version < id)]
    }
}

/// For each op, the first crash point at which a sync call of a file or directory may be under way that began after it:
/// the op before that call.
fn logged_from(trace: &Trace) -> Vec<Seq> {
    let mut from = vec![NEVER; trace.ops().len()];
    let mut next = NEVER;
    for (seq, op) in trace.ops().iter().enumerate().rev() {
        from[seq] = next;
        if let OpKind::Sync {
            scope: SyncScope::File(_) | SyncScope::FileData(_) | SyncScope::Dir(_), ..
        } = op.kind
        {
            next = (seq as Seq).saturating_sub(1);
        }
    }
    from
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
