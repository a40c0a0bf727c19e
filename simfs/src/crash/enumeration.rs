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
mod tests {
    use super::*;
    use crate::cell::{Birth, Kind, Name};
    use crate::crash::Crashes;
    use crate::crash::{Pin, Window};
    use crate::fs::{Caller, Fs, RenameHow};
    use crate::model::{FILE_SYSTEMS, MODELS, Mutation, POSIX, forced_at, mutations};
    use crate::trace::{CellId, EffectId};
    use crate::view::View;
    use proptest::prelude::*;
    use proptest::sample::select;
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
    use std::collections::BTreeSet;

    /// One thing that happens in one of two directories, to one of the inodes so far. Which, is told by numbers: there may
    /// be fewer.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        New(Kind, usize),
        Name(usize, usize),
        Unname(usize, usize),
        Write(usize),
        /// Adds to its second block, or begins one there.
        Append(usize),
        Cut(usize),
        Chmod(usize),
        /// The call returns after so many more ops.
        Sync(char, usize, bool, u32),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let (dir, nth) = (0_usize..2, 0_usize..6);
        prop_oneof![
            1 => (select(vec![Kind::File, Kind::Symlink]), dir.clone()).prop_map(|(kind, dir)| Step::New(kind, dir)),
            1 => (dir.clone(), nth.clone()).prop_map(|(dir, nth)| Step::Name(dir, nth)),
            1 => (dir, nth.clone()).prop_map(|(dir, nth)| Step::Unname(dir, nth)),
            1 => nth.clone().prop_map(Step::Write),
            1 => nth.clone().prop_map(Step::Append),
            1 => nth.clone().prop_map(Step::Cut),
            1 => nth.clone().prop_map(Step::Chmod),
            3 => (select(vec!['a', 'f', 'f', 'd', 'e']), nth, any::<bool>(), 0_u32..8)
                .prop_map(|(what, nth, ok, lasts)| Step::Sync(what, nth, ok, lasts)),
        ]
    }

    /// Only what is asked of a trace here: which cells were written when, what entries name, and the sync calls.
    fn trace_of(steps: &[Step]) -> Trace {
        let mut trace = Trace::new();
        let dirs = [crate::ROOT, Ino(2)];
        // A directory is given names too, in the other one or in itself: the model does not look at kinds.
        let mut inodes = vec![Ino(3), dirs[1]];
        for step in steps {
            let seq = trace.last() + 1;
            let name =
                |dir: usize, nth: usize| Cell::Entry(dirs[dir], Name::from(nth.to_string().as_bytes()));
            let inode = |nth: usize| inodes[nth % inodes.len()];
            let effects = match *step {
                Step::New(kind, dir) => {
                    let new = Ino(2 + inodes.len() as u64);
                    let birth = Birth { kind, mode: 0o644, uid: 0, gid: 0 };
                    let mut effects = vec![(Cell::Inode(new), Value::Inode(birth))];
                    if kind == Kind::Symlink {
                        effects.push((Cell::Target(new), Value::Mode(0)));
                    }
                    effects.push((name(dir, inodes.len()), Value::Entry(Some(new))));
                    inodes.push(new);
                    effects
                }
                Step::Name(dir, nth) => vec![(name(dir, nth + 1), Value::Entry(Some(inode(nth))))],
                Step::Unname(dir, nth) => vec![(name(dir, nth), Value::Entry(None))],
                Step::Write(nth) => vec![
                    (Cell::Block(inode(nth), 0), Value::Mode(0)),
                    (Cell::Size(inode(nth)), Value::Size(u64::from(seq))),
                ],
                Step::Append(nth) => vec![
                    (Cell::Block(inode(nth), 1), Value::Mode(0)),
                    (Cell::Size(inode(nth)), Value::Size(BLOCK_BYTES + u64::from(seq))),
                ],
                Step::Cut(nth) => {
                    let ino = inode(nth);
                    let gone = [0, 1].map(|n| (Cell::Block(ino, n), Value::Block([].into())));
                    let effects = gone.into_iter().chain([(Cell::Size(ino), Value::Size(10))]);
                    trace.push(OpKind::Truncate { ino, size: 10 }, effects);
                    continue;
                }
                Step::Chmod(nth) => vec![(Cell::Mode(inode(nth)), Value::Mode(0))],
                Step::Sync(what, nth, ok, lasts) => {
                    let scope = match what {
                        'a' => SyncScope::All,
                        'f' => SyncScope::File(inode(nth)),
                        'd' => SyncScope::FileData(inode(nth)),
                        _ => SyncScope::Dir(dirs[nth % 2]),
                    };
                    let returned = (seq + lasts).min(steps.len() as Seq);
                    trace.push(OpKind::Sync { scope, returned, ok }, []);
                    continue;
                }
            };
            trace.push(OpKind::Chmod { ino: Ino(3) }, effects);
        }
        trace
    }

    /// The definition once more, without any counting: all subsets, and of each whether it is closed.
    fn all_subsets(trace: &Trace, model: &Model, k: Seq) -> Vec<Vec<bool>> {
        let forced = forced_by_definition(trace, model, k);
        let free: Vec<usize> =
            (0..forced.len()).filter(|at| trace.effects()[*at].seq <= k && !forced[*at]).collect();
        let subsets = (0_u32..1 << free.len()).map(|subset| {
            let mut survived = forced.clone();
            for (bit, at) in free.iter().enumerate() {
                survived[*at] = subset & (1 << bit) != 0;
            }
            survived
        });
        subsets.filter(|survived| is_closed(trace, model, k, &forced, survived)).collect()
    }

    fn is_closed(trace: &Trace, model: &Model, k: Seq, forced: &[bool], survived: &[bool]) -> bool {
        let needs = |at: usize| -> Vec<usize> {
            if is_link(trace, model, at) && !is_loose(trace, model, at, k) {
                let until = trace.effects()[at].seq;
                let links = |other: &usize| is_link(trace, model, *other);
                (0..survived.len())
                    .filter(|other| trace.effects()[*other].seq <= until)
                    .filter(links)
                    .collect()
            } else {
                required(trace, model, at)
            }
        };
        let may_be = |at: &usize| survived[*at] && !forced[*at];
        (0..survived.len()).filter(may_be).all(|at| needs(at).into_iter().all(|needed| survived[needed]))
    }

    fn states(trace: &Trace, model: &Model, k: Seq) -> Vec<Vec<bool>> {
        let mut seen: Vec<Vec<bool>> = Vec::new();
        enumerate(trace, model, k, |survived| seen.push(survived.to_vec()));
        seen.sort_unstable();
        seen
    }

    fn cases(few: u32) -> ProptestConfig {
        ProptestConfig { cases: few, failure_persistence: None, ..ProptestConfig::default() }
    }

    proptest! {
        #![proptest_config(cases(4000))]

        /// Calls of all kinds that succeed and fail, one inside the other and one across the other.
        #[test]
        fn the_model_forces_what_the_definition_does(steps in proptest::collection::vec(any_step(), 1..24)) {
            let trace = trace_of(&steps);
            for model in MODELS {
                let forced = forced_at(&trace, model);
                for k in 0..=trace.last() {
                    let here: Vec<bool> = forced.iter().map(|at| *at <= k).collect();
                    let expected = forced_by_definition(&trace, model, k);
                    prop_assert_eq!(&here, &expected, "{} at crash point {}", model.name, k);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(cases(1000))]

        /// What the definition counts is what it says, and each state once.
        #[test]
        fn counting_visits_each_closed_subset_once(steps in proptest::collection::vec(any_step(), 1..7)) {
            let trace = trace_of(&steps);
            for model in MODELS {
                for k in 0..=trace.last() {
                    if Enumeration::new(&trace, model, k).free() > 10 {
                        continue;
                    }
                    let mut expected = all_subsets(&trace, model, k);
                    expected.sort_unstable();
                    prop_assert_eq!(states(&trace, model, k), expected, "{} at crash point {}", model.name, k);
                }
            }
        }

        /// What `posix` proves holds on each file system: it has all their states.
        #[test]
        fn posix_contains_every_state_of_the_file_systems(steps in proptest::collection::vec(any_step(), 1..10)) {
            let trace = trace_of(&steps);
            for k in 0..=trace.last() {
                let forced = forced_by_definition(&trace, &POSIX, k);
                for model in FILE_SYSTEMS {
                    if Enumeration::new(&trace, model, k).free() > 12 {
                        continue;
                    }
                    for survived in states(&trace, model, k) {
                        let all_forced = forced.iter().zip(&survived).all(|(forced, there)| *there || !forced);
                        prop_assert!(all_forced, "{} at crash point {}: {:?}", model.name, k, survived);
                        let closed = is_closed(&trace, &POSIX, k, &forced, &survived);
                        prop_assert!(closed, "{} at crash point {}: {:?}", model.name, k, survived);
                    }
                }
            }
        }

        /// For any two cells, the procedure finds just the pairs of versions that the definition has.
        #[test]
        fn the_procedure_agrees_with_the_definition(steps in proptest::collection::vec(any_step(), 1..10)) {
            let trace = trace_of(&steps);
            for model in MODELS {
                let crashes = Crashes::new(&trace, model);
                for k in 0..=trace.last() {
                    if Enumeration::new(&trace, model, k).free() > 12 {
                        continue;
                    }
                    let states = states(&trace, model, k);
                    let newest = |survived: &Vec<bool>| -> Vec<Option<EffectId>> {
                        let view = View::survivors(&trace, survived);
                        (0..trace.cell_count() as u32).map(|cell| view.newest(CellId(cell))).collect()
                    };
                    let disks: BTreeSet<Vec<Option<EffectId>>> = states.iter().map(newest).collect();
                    let cells = (0..trace.cell_count() as u32).map(CellId);
                    let pins: Vec<Pin> = cells
                        .flat_map(|cell| {
                            let versions = trace.versions(cell).iter().copied().map(Some);
                            std::iter::once(None).chain(versions).map(move |version| (cell, version))
                        })
                        .collect();
                    for (nth, first) in pins.iter().enumerate() {
                        for second in &pins[nth..] {
                            let both = [*first, *second];
                            let has = |(cell, version): &Pin, disk: &[Option<EffectId>]| disk[cell.0 as usize] == *version;
                            let expected = disks.iter().any(|disk| both.iter().all(|pin| has(pin, disk)));
                            let found = crashes.feasible(k, &both);
                            prop_assert_eq!(found.is_some(), expected, "{} at {}: {:?}", model.name, k, both);
                            if let Some(state) = found {
                                let table: Vec<bool> =
                                    (0..trace.effects().len() as u32).map(|at| state.contains(&crashes, EffectId(at))).collect();
                                prop_assert!(states.contains(&table), "{} at {}: {:?}", model.name, k, both);
                            }
                        }
                    }
                }
                // And no crash point is missed.
                let all = Window { lo: 0, hi: trace.last() };
                for cell in (0..trace.cell_count() as u32).map(CellId) {
                    for version in std::iter::once(None).chain(trace.versions(cell).iter().copied().map(Some)) {
                        for other in (0..trace.cell_count() as u32).map(CellId) {
                            let both = [(cell, version), (other, trace.versions(other).first().copied())];
                            let first = (0..=trace.last()).find_map(|k| crashes.feasible(k, &both));
                            prop_assert_eq!(crashes.find(all, &both).map(|s| s.at), first.map(|s| s.at));
                        }
                    }
                }
            }
        }
    }

    /// Whether some state of a file system is none of a model, in random traces from one seed.
    fn is_left(model: &Model) -> bool {
        let mut runner = TestRunner::new_with_rng(cases(1), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        let steps = proptest::collection::vec(any_step(), 1..10);
        (0..3000).any(|_| {
            let trace = trace_of(&steps.new_tree(&mut runner).unwrap().current());
            let k = trace.last();
            let forced = forced_by_definition(&trace, model, k);
            FILE_SYSTEMS.into_iter().any(|contained| {
                Enumeration::new(&trace, contained, k).free() <= 10
                    && states(&trace, contained, k).iter().any(|survived| {
                        let lacks = forced.iter().zip(survived).any(|(forced, there)| *forced && !there);
                        lacks || !is_closed(&trace, model, k, &forced, survived)
                    })
            })
        })
    }

    /// `posix` says all that the three keep: whatever it would say more, one of them contradicts.
    #[test]
    fn posix_could_say_little_more() {
        assert!(!is_left(&POSIX));
        let stronger: Vec<Mutation> =
            mutations(&POSIX).into_iter().filter(|mutation| !mutation.weaker).collect();
        for mutation in &stronger {
            assert!(is_left(&mutation.model), "no file system contradicts: {}", mutation.what);
        }
        println!("mutation score: {0} of {0} stronger models than posix are contradicted", stronger.len());
        assert_eq!(stronger.len(), 4);
    }

    #[test]
    fn counting_an_exchange() {
        let who = Caller { uid: 0, gid: 0 };
        let mut fs = Fs::new(0, 0, 0o755);
        fs.write_file("old", b"x").unwrap();
        fs.start_recording();
        fs.write_file("a", b"one").unwrap();
        let (a, old) = (fs.resolve("a").unwrap(), fs.resolve("old").unwrap());
        let dir = fs.mkdir(crate::ROOT, b"d", 0o755, who).unwrap();
        fs.link(a, dir, b"b").unwrap();
        fs.sync(SyncScope::Dir(dir), true);
        fs.rename(dir, b"b", crate::ROOT, b"old", RenameHow::Exchange).unwrap();
        fs.sync(SyncScope::File(old), false);
        fs.write(old, 0, b"two", false).unwrap();
        let trace = fs.trace();
        for model in MODELS {
            let mut count = 0;
            for k in 0..=trace.last() {
                let mut expected = all_subsets(trace, model, k);
                expected.sort_unstable();
                let seen = states(trace, model, k);
                count += seen.len();
                assert_eq!(seen, expected, "{} at crash point {k}", model.name);
            }
            println!("{}: {count} states", model.name);
            assert!(model.name != "posix" || count > 200, "{count}");
        }
    }
}
