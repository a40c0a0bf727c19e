//! An index of a trace for its sync calls: what is the same under each model.
//!
//! Models differ in little of what they force, and a trace can have as many sync calls as files. So what does not depend on
//! the model is worked out once, as tables by effect and by inode, each part when a model first asks for it.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::forcing::Forcing;
use super::{Forces, Medium, Model, NEVER, Order, Reach, is_link};
use crate::cell::{Cell, Ino, Value};
use crate::trace::{CellId, EffectId, OpKind, Seq, SyncScope, Trace};

/// No effect.
const NONE: u32 = u32::MAX;

/// What is forced under a model, by effect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forced {
    /// The op at whose return it was forced, or [`NEVER`].
    pub(crate) at: Vec<Seq>,
    /// When the first *newer* version of its cell is forced.
    pub(crate) newer_at: Vec<Seq>,
}

/// What there is to know of a trace and its sync calls whatever the model: for [`Crashes::under`](crate::Crashes::under).
pub struct SyncIndex<'t> {
    pub(super) trace: &'t Trace,
    /// In the order in which they settle things.
    pub(super) calls: Vec<Call>,
    /// By effect: the next version of its cell, or [`NONE`].
    pub(super) next: Vec<u32>,
    /// What only calls of single inodes ask for.
    pub(super) inodes: Option<Inodes>,
    pub(super) links: Option<Arc<[bool]>>,
    /// What was found last, since models that force the same stand side by side.
    last: Option<(Model, Arc<Forced>)>,
}

/// A sync call.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) scope: SyncScope,
    /// The effects below this one were made before it began.
    pub(super) before: u32,
    pub(super) returned: Seq,
    pub(super) ok: bool,
}

/// Tables by inode, for traces in which a sync call names one.
pub(super) struct Inodes {
    pub(super) slots: Slots,
    /// Whether a call names it.
    is_called: Vec<bool>,
    /// By effect: which kind of cell it is of, as one bit.
    pub(super) kinds: Vec<u8>,
    /// The effects on each inode that a call names, oldest first, without those of the initial disk.
    pub(super) own: Lists,
    /// The links of the chain of metadata that change such an inode or give it a name, oldest first.
    pub(super) changes: Option<Lists>,
    /// The effects by which a name came to stand for an inode, oldest first.
    pub(super) named: Option<Lists>,
}

/// Numbers for inodes, to be used as indices. Inodes are numbered one by one, and those numbers will do; a trace from
/// elsewhere may have others, and is not given a table for them.
pub(super) struct Slots {
    near: u64,
    far: FxHashMap<Ino, u32>,
}

/// A list of numbers for each inode, all in one vector.
pub(super) struct Lists {
    /// Where each begins, and the end of the last.
    bounds: Vec<u32>,
    pub(super) all: Vec<u32>,
}

impl Slots {
    /// Of all inodes that have cells, and of these.
    fn new(trace: &Trace, others: impl Iterator<Item = Ino> + Clone) -> Self {
        let cells = (0..trace.cell_count() as u32).map(|id| trace.cell(CellId(id)).ino());
        let all = cells.chain(others);
        let most = 4 * trace.cell_count() as u64 + 1024;
        let near =
            all.clone().map(|ino| ino.0.saturating_add(1)).filter(|end| *end <= most).max().unwrap_or(0);
        let mut far = FxHashMap::default();
        for ino in all.filter(|ino| ino.0 >= near) {
            let slot = near as u32 + far.len() as u32;
            far.entry(ino).or_insert(slot);
        }
        Self { near, far }
    }

    pub(super) fn count(&self) -> usize {
        self.near as usize + self.far.len()
    }

    pub(super) fn of(&self, ino: Ino) -> Option<u32> {
        if ino.0 < self.near { Some(ino.0 as u32) } else { self.far.get(&ino).copied() }
    }
}

impl Lists {
    /// Of pairs of a list and what to add to it.
    fn new(count: usize, pairs: impl Iterator<Item = (u32, u32)> + Clone) -> Self {
        let mut bounds = vec![0; count + 1];
        for (list, _) in pairs.clone() {
            bounds[list as usize + 1] += 1;
        }
        let mut end = 0;
        for bound in &mut bounds {
            end += *bound;
            *bound = end;
        }
        let mut all = vec![0; end as usize];
        let mut next = bounds.clone();
        for (list, item) in pairs {
            let at = &mut next[list as usize];
            all[*at as usize] = item;
            *at += 1;
        }
        Self { bounds, all }
    }

    pub(super) fn range(&self, list: u32) -> (usize, usize) {
        (self.bounds[list as usize] as usize, self.bounds[list as usize + 1] as usize)
    }

    pub(super) fn of(&self, list: u32) -> &[u32] {
        let (from, to) = self.range(list);
        &self.all[from..to]
    }
}

/// One bit for each kind of cell.
fn kind(cell: &Cell) -> u8 {
    match cell {
        Cell::Inode(_) => 1,
        Cell::Target(_) => 2,
        Cell::Entry(..) => ENTRY,
        Cell::Block(..) => 8,
        Cell::Size(_) => 16,
        Cell::Mode(_) => 32,
        Cell::Owner(_) => 64,
        Cell::Xattr(..) => 128,
    }
}

const ENTRY: u8 = 4;

impl Forces {
    /// The kinds of cells of the inode that the call names which it forces by itself.
    pub(super) fn kinds(self) -> u8 {
        [
            (self.inode, 1),
            (self.entries, ENTRY),
            (self.data, 8),
            (self.size, 16),
            (self.attributes, 32 | 64 | 128),
        ]
        .into_iter()
        .filter(|(forces, _)| *forces)
        .fold(0, |kinds, (_, kind)| kinds | kind)
    }
}

/// Whether two models force the same in every trace. All that a model has is named here: what is left out forces nothing.
fn force_alike(one: &Model, other: &Model) -> bool {
    let Model {
        name: _,
        about: _,
        likely: _,
        seen_on: _,
        medium,
        order,
        growth: _,
        logs: _,
        fsync_file,
        fdatasync_file,
        fsync_dir,
        rules: _,
    } = one;
    *medium == other.medium
        && *order == other.order
        && *fsync_file == other.fsync_file
        && *fdatasync_file == other.fdatasync_file
        && *fsync_dir == other.fsync_dir
}

impl<'t> SyncIndex<'t> {
    /// Goes through the trace once.
    pub fn new(trace: &'t Trace) -> Self {
        let mut calls: Vec<(Seq, Call)> = Vec::new();
        for (seq, op) in (0..).zip(trace.ops()) {
            if let OpKind::Sync { scope, returned, ok } = op.kind {
                calls.push((seq, Call { scope, before: op.effects.start, returned, ok }));
            }
        }
        // What a sync forces is durable when it returns, so the one that returned first settles first.
        calls.sort_by_key(|(began, call)| (call.returned, *began));
        let mut next = vec![NONE; trace.effects().len()];
        for cell in (0..trace.cell_count() as u32).map(CellId) {
            for pair in trace.versions(cell).windows(2) {
                next[pair[0].0 as usize] = pair[1].0;
            }
        }
        let calls = calls.into_iter().map(|(_, call)| call).collect();
        Self { trace, calls, next, inodes: None, links: None, last: None }
    }

    /// The trace.
    pub fn trace(&self) -> &'t Trace {
        self.trace
    }

    /// What is forced under a model.
    pub(crate) fn forced(&mut self, model: &Model) -> Arc<Forced> {
        if let Some((known, forced)) = &self.last
            && force_alike(known, model)
        {
            return forced.clone();
        }
        // Only one is kept at a time: these are large.
        self.last = None;
        let at = self.forced_at(model);
        let mut newer_at = vec![NEVER; at.len()];
        for (effect, next) in self.next.iter().enumerate().rev().filter(|(_, next)| **next != NONE) {
            newer_at[effect] = at[*next as usize].min(newer_at[*next as usize]);
        }
        let forced = Arc::new(Forced { at, newer_at });
        self.last = Some((*model, forced.clone()));
        forced
    }

    /// By effect, whether it is a link of the chain of metadata where there is one.
    pub(crate) fn links(&mut self) -> Arc<[bool]> {
        let trace = self.trace;
        let all = || (0..trace.effects().len() as u32).map(|id| is_link(trace, EffectId(id))).collect();
        self.links.get_or_insert_with(all).clone()
    }

    pub(super) fn forced_at(&mut self, model: &Model) -> Vec<Seq> {
        let effects = self.trace.effects().iter();
        match model.medium {
            Medium::Honest => {}
            Medium::Lying => return effects.map(|effect| if effect.seq == 0 { 0 } else { NEVER }).collect(),
            Medium::Lasting => return effects.map(|effect| effect.seq).collect(),
        }
        self.prepare(model);
        Forcing::new(self, model).run()
    }

    /// Works out what the model asks for.
    fn prepare(&mut self, model: &Model) {
        let asked: Vec<Forces> =
            self.calls.iter().filter_map(|call| Some(model.forces(call.scope)?.1)).collect();
        if asked.is_empty() {
            return;
        }
        let trace = self.trace;
        let inodes = self.inodes.get_or_insert_with(|| Inodes::new(trace, &self.calls));
        if asked.iter().any(|forces| forces.names) {
            inodes.note_names(trace);
        }
        if model.order == Order::Chain && asked.iter().any(|forces| forces.reach != Reach::Own) {
            let links = self.links();
            if let Some(inodes) = &mut self.inodes {
                inodes.note_changes(trace, &links);
            }
        }
    }
}

impl Inodes {
    fn new(trace: &Trace, calls: &[Call]) -> Self {
        let called = calls.iter().filter_map(|call| call.scope.ino());
        let slots = Slots::new(trace, called.clone());
        let mut is_called = vec![false; slots.count()];
        for slot in called.filter_map(|ino| slots.of(ino)) {
            is_called[slot as usize] = true;
        }
        let cell = |id| trace.cell(trace.effect(EffectId(id)).cell);
        let count = trace.effects().len() as u32;
        let kinds = (0..count).map(|id| kind(cell(id))).collect();
        let own = (trace.ops()[0].effects.end..count).filter_map(|id| {
            let slot = slots.of(cell(id).ino())?;
            is_called[slot as usize].then_some((slot, id))
        });
        let own = Lists::new(slots.count(), own);
        Self { slots, is_called, kinds, own, changes: None, named: None }
    }

    /// What a name that an effect makes stands for.
    pub(super) fn named_by(&self, trace: &Trace, id: u32) -> Option<Ino> {
        match trace.effect(EffectId(id)).value {
            _ if self.kinds[id as usize] != ENTRY => None,
            Value::Entry(child) => child,
            _ => None,
        }
    }

    fn note_names(&mut self, trace: &Trace) {
        if self.named.is_none() {
            let names = (0..trace.effects().len() as u32)
                .filter_map(|id| Some((self.slots.of(self.named_by(trace, id)?)?, id)));
            self.named = Some(Lists::new(self.slots.count(), names));
        }
    }

    fn note_changes(&mut self, trace: &Trace, links: &[bool]) {
        if self.changes.is_none() {
            let links = (0..trace.effects().len() as u32).filter(|id| links[*id as usize]);
            let changes = links.flat_map(|id| {
                let changed = self.slots.of(trace.cell(trace.effect(EffectId(id)).cell).ino());
                let slots = [changed, self.named_by(trace, id).and_then(|ino| self.slots.of(ino))]
                    .into_iter()
                    .flatten();
                slots.filter(|slot| self.is_called[*slot as usize]).map(move |slot| (slot, id))
            });
            self.changes = Some(Lists::new(self.slots.count(), changes));
        }
    }
}
