//! Crash states, and the question that everything else is built from: can these cells have these versions?
//!
//! The crash states at one crash point are closed under union and intersection, so the question is answered by one
//! closure, never by search. This module knows cells and versions, no trees, no deploys. Two independent parts: the
//! procedure ([`Crashes::feasible`]) and, for small traces, an enumeration from the definition ([`enumerate`]).

use crate::cell::{Cell, Ino, Value};
use crate::model::{self, Model, NEVER};
use crate::trace::{CellId, Effect, EffectId, OpKind, Seq, SyncScope, Trace};

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
    /// Where sync calls returned, ascending.
    returns: Vec<Seq>,
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
        let mut returns: Vec<Seq> = trace
            .ops()
            .iter()
            .filter_map(|op| match op.kind {
                OpKind::Sync { returned, ok: true, .. } => Some(returned),
                _ => None,
            })
            .collect();
        returns.sort_unstable();
        Self { trace, model, forced_at, newer_forced_at, returns }
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

    /// A crash point in `range` at which the pins are feasible, with the least state there. Worth asking are where
    /// the last pinned version was issued and each later return of a sync call: in between nothing changes.
    pub fn find(&self, range: Window, pins: &[Pin]) -> Option<CrashState> {
        let range = pins.iter().fold(range, |range, pin| range.and(self.window(*pin)));
        if range.is_empty() {
            return None;
        }
        let from = self.returns.partition_point(|at| *at <= range.lo);
        std::iter::once(range.lo)
            .chain(self.returns[from..].iter().copied().take_while(|at| *at <= range.hi))
            .find_map(|k| self.feasible(k, pins))
    }

    fn newest_in(&self, state: &CrashState, cell: CellId) -> Option<EffectId> {
        self.trace.versions(cell).iter().rev().copied().find(|effect| state.contains(self, *effect))
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

/// Every crash state at crash point `k`, straight from the definition, as tables indexed by effect. The witness for
/// the procedure above: it goes through all subsets of the effects that are free at `k`, so it is for small traces,
/// and it shares nothing with the procedure but the model's data.
///
/// # Panics
/// With more than 24 free effects.
pub fn enumerate(trace: &Trace, model: &Model, k: Seq, mut visit: impl FnMut(&[bool])) {
    let forced = forced_by_definition(trace, model, k);
    let free: Vec<usize> =
        (0..trace.effects().len()).filter(|at| trace.effects()[*at].seq <= k && !forced[*at]).collect();
    assert!(free.len() <= 24, "{} free effects are too many to enumerate", free.len());
    for subset in 0_u32..1 << free.len() {
        let mut survived = forced.clone();
        for (bit, at) in free.iter().enumerate() {
            survived[*at] = subset & (1 << bit) != 0;
        }
        let closed = free.iter().filter(|at| survived[**at]).all(|at| {
            let needed = match trace.effects()[*at].value {
                Value::Entry(Some(ino)) if model.entry_requires_inode => Some(Cell::Inode(ino)),
                _ => None,
            };
            let of = |effect: &Effect| Some(trace.cell(effect.cell)) == needed.as_ref();
            (0..survived.len()).all(|other| !of(&trace.effects()[other]) || survived[other])
        });
        if closed {
            visit(&survived);
        }
    }
}

/// What the sync calls that returned up to `k` force: each effect asked on its own, in the words of the definition.
fn forced_by_definition(trace: &Trace, model: &Model, k: Seq) -> Vec<bool> {
    let mut syncs = Vec::new();
    for (began, op) in trace.ops().iter().enumerate() {
        if let OpKind::Sync { scope, returned, ok } = op.kind
            && returned <= k
        {
            syncs.push((returned, began as Seq, scope, ok));
        }
    }
    syncs.sort_by_key(|(returned, began, ..)| (*returned, *began));
    let fate = |effect: &Effect| {
        if effect.seq == 0 {
            return true;
        }
        let first = syncs.iter().find(|(_, began, scope, _)| {
            effect.seq < *began && covers(trace, model, *scope, *began, trace.cell(effect.cell))
        });
        // The first sync that covers an effect decides: after a failed one the pages are clean.
        first.is_some_and(|(.., ok)| *ok)
    };
    trace.effects().iter().map(fate).collect()
}

fn covers(trace: &Trace, model: &Model, scope: SyncScope, began: Seq, cell: &Cell) -> bool {
    let (ino, forces) = match scope {
        SyncScope::All => return true,
        SyncScope::File(ino) => (ino, model.fsync_file),
        SyncScope::FileData(ino) => (ino, model.fdatasync_file),
        SyncScope::Dir(ino) => (ino, model.fsync_dir),
    };
    let names = |child: Ino| {
        trace.effects().iter().any(|effect| {
            effect.seq < began
                && trace.cell(effect.cell).ino() == ino
                && effect.value == Value::Entry(Some(child))
        })
    };
    match cell {
        Cell::Inode(i) => (*i == ino && forces.inode) || (forces.entries && names(*i)),
        Cell::Target(i) => forces.entries && names(*i),
        Cell::Entry(i, _) => *i == ino && forces.entries,
        Cell::Block(i, _) => *i == ino && forces.data,
        Cell::Size(i) => *i == ino && forces.size,
        Cell::Mode(i) | Cell::Owner(i) | Cell::Xattr(i, _) => *i == ino && forces.attributes,
    }
}
