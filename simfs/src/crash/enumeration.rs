//! Crash states one by one, straight from the definition: the witness for the procedure.
//!
//! It shares nothing with the procedure but the model's data, and is meant to be seen to be right: all subsets of the
//! effects that no sync has forced, in the order of binary counting, without those in which something lacks what it
//! requires. It never answers a question about trees.

use crate::cell::{BLOCK_BYTES, Cell, Ino, Value};
use crate::model::{Growth, Medium, Model, Order, Reach};
use crate::trace::{OpKind, Seq, SyncScope, Trace};

/// The crash states at one crash point, each exactly once.
pub struct Enumeration {
    /// By effect: whether it is in the state.
    survived: Vec<bool>,
    /// By effect: whether a sync call has forced it.
    forced: Vec<bool>,
    /// By effect: whether it is a link of the chain of metadata, and the op of which all links before have to be there
    /// if it is; 0 for what may survive without them.
    links: Vec<Option<Seq>>,
    /// By effect: its op.
    seqs: Vec<Seq>,
    /// How far the chain of metadata may have come, the one in hand last. Without a chain, nowhere.
    chains: Vec<Seq>,
    /// The effects that may or may not be there, and those that each requires, which stand before it.
    all: Vec<(usize, Vec<usize>)>,
    /// Those of them that the chain in hand does not settle.
    free: Vec<(usize, Vec<usize>)>,
    begun: bool,
}

impl Enumeration {
    /// Before the first state at crash point `k`, which is what was forced there and nothing else.
    pub fn new(trace: &Trace, model: &Model, k: Seq) -> Self {
        let forced = forced_by_definition(trace, model, k);
        let seqs: Vec<Seq> = trace.effects().iter().map(|effect| effect.seq).collect();
        let may_be = |at: usize| seqs[at] <= k && !forced[at];
        let links: Vec<Option<Seq>> = (0..seqs.len())
            .map(|at| {
                is_link(trace, model, at).then(|| if is_loose(trace, model, at, k) { 0 } else { seqs[at] })
            })
            .collect();
        // Each op of which something cannot be there without all links before.
        let mut chains: Vec<Seq> = (0..seqs.len())
            .filter(|at| may_be(*at))
            .filter_map(|at| links[at].filter(|seq| *seq > 0))
            .collect();
        chains.push(0);
        chains.sort_unstable_by(|a, b| b.cmp(a));
        chains.dedup();
        // What is required comes first.
        let mut all = Vec::new();
        let mut placed = vec![false; seqs.len()];
        for at in (0..seqs.len()).filter(|at| may_be(*at)) {
            place(trace, model, at, &may_be, &mut placed, &mut all);
        }
        let survived = forced.clone();
        let mut states = Self { survived, forced, links, seqs, chains, all, free: Vec::new(), begun: false };
        states.settle();
        states
    }

    /// Begins with the chain in hand.
    fn settle(&mut self) {
        let until = self.chains.last().copied().unwrap_or(0);
        for (at, survived) in self.survived.iter_mut().enumerate() {
            *survived = self.forced[at] || (self.links[at].is_some() && self.seqs[at] <= until);
        }
        let is_open = |(at, _): &&(usize, Vec<usize>)| match self.links[*at] {
            Some(0) => self.seqs[*at] > until,
            Some(_) => false,
            None => true,
        };
        self.free = self.all.iter().filter(is_open).cloned().collect();
    }

    /// How many effects may or may not be in a state.
    pub fn free(&self) -> usize {
        self.all.len()
    }

    /// The next state, as a table indexed by effect; none after the last.
    pub fn next_state(&mut self) -> Option<&[bool]> {
        if !self.begun {
            self.begun = true;
            return Some(&self.survived);
        }
        // One more, in binary: the last digit that can become 1 does, and all behind it become 0. A digit cannot
        // become 1 while something that it requires is missing: no number with that 1 is a crash state.
        for (effect, needs) in self.free.iter().rev() {
            if self.survived[*effect] {
                self.survived[*effect] = false;
            } else if needs.iter().all(|needed| self.survived[*needed]) {
                self.survived[*effect] = true;
                return Some(&self.survived);
            }
        }
        self.chains.pop();
        if self.chains.is_empty() {
            return None;
        }
        self.settle();
        Some(&self.survived)
    }
}

/// Puts an effect behind all that it requires.
fn place(
    trace: &Trace,
    model: &Model,
    at: usize,
    may_be: &dyn Fn(usize) -> bool,
    placed: &mut [bool],
    all: &mut Vec<(usize, Vec<usize>)>,
) {
    if placed[at] || !may_be(at) {
        return;
    }
    placed[at] = true;
    let required = required(trace, model, at);
    for needed in &required {
        place(trace, model, *needed, may_be, placed, all);
    }
    all.push((at, required));
}

/// Whether an effect is metadata that becomes durable in the order of the ops.
fn is_link(trace: &Trace, model: &Model, at: usize) -> bool {
    let effect = &trace.effects()[at];
    let is_metadata = match trace.cell(effect.cell) {
        Cell::Inode(_)
        | Cell::Target(_)
        | Cell::Entry(..)
        | Cell::Mode(_)
        | Cell::Owner(_)
        | Cell::Xattr(..) => true,
        Cell::Size(_) => {
            !grows(trace, at) && matches!(effect.value, Value::Size(size) if size != length_before(trace, at))
        }
        // A truncation takes away whole blocks.
        Cell::Block(_, n) => matches!(
            trace.ops()[effect.seq as usize].kind,
            OpKind::Truncate { size, .. } if n * BLOCK_BYTES >= size
        ),
    };
    model.order == Order::Chain && is_metadata
}

/// Whether, at crash point `k`, a log may hold it on its own.
fn is_loose(trace: &Trace, model: &Model, at: usize, k: Seq) -> bool {
    // The call after crash point `k` may be under way.
    let after = trace.effects()[at].seq as usize + 1..=k as usize + 1;
    let mut ops = trace.ops().iter().enumerate().filter(|(seq, _)| after.contains(seq)).map(|(_, op)| op);
    model.logs && ops.any(|op| matches!(op.kind, OpKind::Sync { scope, .. } if scope != SyncScope::All))
}

/// The version of the same cell before.
fn version_before(trace: &Trace, at: usize) -> Option<usize> {
    (0..at).rev().find(|before| trace.effects()[*before].cell == trace.effects()[at].cell)
}

fn length_before(trace: &Trace, at: usize) -> u64 {
    match version_before(trace, at).map(|before| &trace.effects()[before].value) {
        Some(Value::Size(size)) => *size,
        _ => 0,
    }
}

fn grows(trace: &Trace, at: usize) -> bool {
    matches!(trace.effects()[at].value, Value::Size(size) if size > length_before(trace, at))
}

/// What has to be there if an effect is, was not forced and does not bring the chain.
fn required(trace: &Trace, model: &Model, at: usize) -> Vec<usize> {
    let effects = trace.effects();
    let effect = &effects[at];
    let births = |ino: Ino| -> Vec<usize> {
        (0..effects.len()).filter(|other| *trace.cell(effects[*other].cell) == Cell::Inode(ino)).collect()
    };
    if let Value::Entry(Some(child)) = effect.value {
        let mut all = births(child);
        let is_text = |other: &usize| *trace.cell(effects[*other].cell) == Cell::Target(child);
        if model.logs {
            // A log has symlinks whole.
            all.extend((0..effects.len()).filter(is_text));
        }
        return all;
    }
    if model.order == Order::Free || is_link(trace, model, at) {
        return Vec::new();
    }
    match *trace.cell(effect.cell) {
        Cell::Size(ino) => {
            let mut all = births(ino);
            all.extend(version_before(trace, at));
            let old = length_before(trace, at);
            all.extend((0..effects.len()).filter(|other| {
                let is_in_op = effects[*other].seq == effect.seq;
                is_in_op
                    && matches!(*trace.cell(effects[*other].cell), Cell::Block(i, n) if i == ino
                    && match model.growth {
                        Growth::Nothing => false,
                        // Those beyond the old end, and the one that it is in.
                        Growth::AllBlocks => (n + 1) * BLOCK_BYTES > old,
                    })
            }));
            all
        }
        Cell::Block(..) => {
            let mut before = version_before(trace, at);
            while let Some(version) = before
                && !is_link(trace, model, version)
            {
                before = version_before(trace, version);
            }
            before.into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// Visits every crash state at crash point `k`, each once, as a table indexed by effect. For small traces.
///
/// # Panics
/// With more than 24 free effects.
pub fn enumerate(trace: &Trace, model: &Model, k: Seq, mut visit: impl FnMut(&[bool])) {
    let mut states = Enumeration::new(trace, model, k);
    assert!(states.free() <= 24, "{} free effects are too many to enumerate", states.free());
    while let Some(survived) = states.next_state() {
        visit(survived);
    }
}

/// What the sync calls that returned up to `k` force: each effect asked on its own, in the words of the definition.
fn forced_by_definition(trace: &Trace, model: &Model, k: Seq) -> Vec<bool> {
    let count = trace.effects().len();
    match model.medium {
        Medium::Honest => {}
        Medium::Lying => return trace.effects().iter().map(|effect| effect.seq == 0).collect(),
        Medium::Lasting => return trace.effects().iter().map(|effect| effect.seq <= k).collect(),
    }
    let mut syncs = Vec::new();
    for (began, op) in trace.ops().iter().enumerate() {
        if let OpKind::Sync { scope, returned, ok } = op.kind
            && returned <= k
        {
            syncs.push((returned, began as Seq, scope, ok));
        }
    }
    syncs.sort_by_key(|(returned, began, ..)| (*returned, *began));
    let calls: Vec<Call> = syncs.into_iter().map(|(_, began, scope, ok)| Call { scope, began, ok }).collect();
    (0..count).map(|at| fate(trace, model, &calls, at) == Some(true)).collect()
}

/// A sync call that returned.
struct Call {
    scope: SyncScope,
    began: Seq,
    ok: bool,
}

/// What came of an effect with these calls: forced, lost, or neither. The first call that covers it decides: after a
/// failed one the pages are clean.
fn fate(trace: &Trace, model: &Model, calls: &[Call], at: usize) -> Option<bool> {
    let effect = &trace.effects()[at];
    if effect.seq == 0 {
        return Some(true);
    }
    calls.iter().enumerate().find_map(|(nth, call)| {
        let covered = effect.seq < call.began
            && (covers(trace, model, call, trace.cell(effect.cell))
                || (call.ok && takes_along(trace, model, &calls[..nth], call, at)));
        covered.then_some(call.ok)
    })
}

/// Whether a call covers a cell by itself.
fn covers(trace: &Trace, model: &Model, call: &Call, cell: &Cell) -> bool {
    let Some((ino, forces)) = model.forces(call.scope) else { return true };
    let names = |child: Ino| {
        trace.effects().iter().any(|effect| {
            effect.seq < call.began
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

/// Whether a successful call takes an effect along: by the chain, or by the names of its file.
fn takes_along(trace: &Trace, model: &Model, earlier: &[Call], call: &Call, at: usize) -> bool {
    let effects = trace.effects();
    let effect = &effects[at];
    let Some((ino, forces)) = model.forces(call.scope) else { return false };
    // A name whose inode was lost is left alone.
    let birth_of =
        |ino: Ino| (0..effects.len()).find(|at| *trace.cell(effects[*at].cell) == Cell::Inode(ino));
    if let Value::Entry(Some(child)) = effect.value
        && let Some(birth) = birth_of(child)
        && fate(trace, model, earlier, birth) == Some(false)
    {
        return false;
    }
    let changes = |other: &usize| {
        let other = &effects[*other];
        trace.cell(other.cell).ino() == ino || other.value == Value::Entry(Some(ino))
    };
    let until = match forces.reach {
        Reach::Own => None,
        Reach::Birth => birth_of(ino).map(|at| effects[at].seq),
        Reach::LastChange => (0..effects.len())
            .filter(|other| effects[*other].seq < call.began && is_link(trace, model, *other))
            .filter(changes)
            .map(|other| effects[other].seq)
            .max(),
    };
    if is_link(trace, model, at) && until.is_some_and(|until| effect.seq <= until && until < call.began) {
        return true;
    }
    if !forces.names {
        return false;
    }
    // The directories above the file, by the names that count.
    let counts = |at: usize, child: Ino| {
        let newest = (0..effects.len())
            .filter(|other| effects[*other].seq < call.began && effects[*other].cell == effects[at].cell)
            .max();
        let made = birth_of(child).map(|birth| effects[birth].seq);
        effects[at].value == Value::Entry(Some(child))
            && newest == Some(at)
            && (child == ino || made == Some(effects[at].seq))
    };
    let mut above = vec![ino];
    let mut seen = 0;
    while let Some(child) = above.get(seen).copied() {
        seen += 1;
        for other in (0..effects.len()).filter(|other| counts(*other, child)) {
            let dir = trace.cell(effects[other].cell).ino();
            if !above.contains(&dir) {
                above.push(dir);
            }
        }
    }
    match *trace.cell(effect.cell) {
        Cell::Inode(dir) => dir != ino && above.contains(&dir),
        Cell::Entry(..) => above.iter().any(|child| counts(at, *child)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
