//! Crash states one by one, straight from the definition: the witness for the procedure.
//!
//! It shares nothing with the procedure but the model's data, and is meant to be seen to be right: all subsets of the
//! effects that no sync has forced, in the order of binary counting, without those in which something lacks what it
//! requires. It never answers a question about trees.

use rustc_hash::FxHashMap;

use crate::cell::{Cell, Ino, Value};
use crate::model::Model;
use crate::trace::{Effect, OpKind, Seq, SyncScope, Trace};

/// The crash states at one crash point, each exactly once.
pub struct Enumeration {
    /// By effect: whether it is in the state.
    survived: Vec<bool>,
    /// The effects that may or may not be there. What an effect requires stands before it.
    free: Vec<usize>,
    /// For each of `free`, the effects that it requires.
    needs: Vec<Vec<usize>>,
    begun: bool,
}

impl Enumeration {
    /// Before the first state at crash point `k`, which is what was forced there and nothing else.
    pub fn new(trace: &Trace, model: &Model, k: Seq) -> Self {
        let survived = forced_by_definition(trace, model, k);
        let mut births: FxHashMap<Ino, Vec<usize>> = FxHashMap::default();
        for (at, effect) in trace.effects().iter().enumerate() {
            if let Cell::Inode(ino) = trace.cell(effect.cell) {
                births.entry(*ino).or_default().push(at);
            }
        }
        let required = |at: usize| match trace.effects()[at].value {
            Value::Entry(Some(ino)) if model.entry_requires_inode => births.get(&ino).cloned(),
            _ => None,
        };
        let may_be = |at: usize| trace.effects()[at].seq <= k && !survived[at];
        // What is required requires nothing in its turn, and comes first.
        let (mut free, mut needs) = (Vec::new(), Vec::new());
        let mut placed = vec![false; survived.len()];
        for at in (0..survived.len()).filter(|at| may_be(*at)) {
            let required = required(at).unwrap_or_default();
            for (at, needed) in required.iter().map(|at| (*at, Vec::new())).chain([(at, required.clone())]) {
                if may_be(at) && !placed[at] {
                    placed[at] = true;
                    free.push(at);
                    needs.push(needed);
                }
            }
        }
        Self { survived, free, needs, begun: false }
    }

    /// How many effects may or may not be in a state.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// The next state, as a table indexed by effect; none after the last.
    pub fn next_state(&mut self) -> Option<&[bool]> {
        if !self.begun {
            self.begun = true;
            return Some(&self.survived);
        }
        // One more, in binary: the last digit that can become 1 does, and all behind it become 0. A digit cannot
        // become 1 while something that it requires is missing: no number with that 1 is a crash state.
        for at in (0..self.free.len()).rev() {
            let effect = self.free[at];
            if self.survived[effect] {
                self.survived[effect] = false;
            } else if self.needs[at].iter().all(|needed| self.survived[*needed]) {
                self.survived[effect] = true;
                return Some(&self.survived);
            }
        }
        None
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{Birth, Kind, Name};
    use crate::fs::{Caller, Fs, RenameHow};
    use crate::model::{POSIX, forced_at};
    use proptest::prelude::*;
    use proptest::sample::select;

    /// One thing that happens in one of two directories, to one of the inodes so far. Which, is told by numbers: there may
    /// be fewer.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        New(Kind, usize),
        Name(usize, usize),
        Unname(usize, usize),
        Write(usize),
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
            1 => nth.clone().prop_map(Step::Chmod),
            3 => (select(vec!['a', 'f', 'f', 'd', 'e']), nth, any::<bool>(), 0_u32..8)
                .prop_map(|(what, nth, ok, lasts)| Step::Sync(what, nth, ok, lasts)),
        ]
    }

    /// Only what is asked of a trace here: which cells were written when, what entries name, and the sync calls.
    fn trace_of(steps: &[Step]) -> Trace {
        let mut trace = Trace::new();
        let dirs = [crate::ROOT, Ino(2)];
        let mut inodes = vec![Ino(3)];
        for step in steps {
            let seq = trace.last() + 1;
            let name =
                |dir: usize, nth: usize| Cell::Entry(dirs[dir], Name::from(nth.to_string().as_bytes()));
            let inode = |nth: usize| inodes[nth % inodes.len()];
            let effects = match *step {
                Step::New(kind, dir) => {
                    let new = Ino(3 + inodes.len() as u64);
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

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Calls of all kinds that succeed and fail, one inside the other and one across the other.
        #[test]
        fn the_model_forces_what_the_definition_does(steps in proptest::collection::vec(any_step(), 1..24)) {
            let trace = trace_of(&steps);
            let forced = forced_at(&trace, &POSIX);
            for k in 0..=trace.last() {
                let here: Vec<bool> = forced.iter().map(|at| *at <= k).collect();
                prop_assert_eq!(&here, &forced_by_definition(&trace, &POSIX, k), "at crash point {}", k);
            }
        }
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
        let closed = |survived: &Vec<bool>| {
            free.iter().filter(|at| survived[**at]).all(|at| match trace.effects()[*at].value {
                Value::Entry(Some(ino)) if model.entry_requires_inode => {
                    let births = |effect: &Effect| *trace.cell(effect.cell) == Cell::Inode(ino);
                    (0..survived.len()).all(|other| !births(&trace.effects()[other]) || survived[other])
                }
                _ => true,
            })
        };
        subsets.filter(closed).collect()
    }

    #[test]
    fn counting_visits_each_closed_subset_once() {
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
        let mut states = 0;
        for k in 0..=trace.last() {
            let mut seen: Vec<Vec<bool>> = Vec::new();
            enumerate(trace, &POSIX, k, |survived| seen.push(survived.to_vec()));
            states += seen.len();
            seen.sort_unstable();
            let mut expected = all_subsets(trace, &POSIX, k);
            expected.sort_unstable();
            assert_eq!(seen, expected, "at crash point {k}");
        }
        assert!(states > 200, "{states}");
    }
}
