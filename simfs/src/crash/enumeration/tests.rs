//! The definition against itself, the procedure against the definition, and `posix` against what it contains.

use super::*;
use crate::cell::{Birth, Kind, Name};
use crate::crash::Crashes;
use crate::crash::{Pin, Window};
use crate::fs::{Caller, Fs, RenameHow};
use crate::model::{
    EXT4_ORDERED, FILE_SYSTEMS, MODELS, Model, Mutation, POSIX, SyncIndex, XFS, forced_at, mutations,
};
use crate::trace::{CellId, EffectId};
use crate::view::View;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeSet;
use std::io::Write as _;

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
        3 => (select(vec!['a', 'f', 'f', 'd', 'e', 'g']), nth, any::<bool>(), 0_u32..8)
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
        let name = |dir: usize, nth: usize| Cell::Entry(dirs[dir], Name::from(nth.to_string().as_bytes()));
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
                    'g' => SyncScope::Dir(inode(nth)),
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
            (0..survived.len()).filter(|other| trace.effects()[*other].seq <= until).filter(links).collect()
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

    /// Why no mutation says so: what reaches the last change of a file has forced its names.
    #[test]
    fn names_are_part_of_the_chain_up_to_the_last_change(steps in proptest::collection::vec(any_step(), 1..24)) {
        let trace = trace_of(&steps);
        for model in [EXT4_ORDERED, XFS] {
            prop_assert_eq!(model.fsync_file.reach, Reach::LastChange);
            let mut with_names = model;
            with_names.fsync_file.names = true;
            prop_assert_eq!(forced_at(&trace, &with_names), forced_at(&trace, &model));
        }
    }

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

proptest! {
    #![proptest_config(cases(200))]

    /// Also for models that nobody has yet, whatever was asked of the index before.
    #[test]
    fn models_that_share_an_index_force_what_the_definition_does(steps in proptest::collection::vec(any_step(), 1..24)) {
        let trace = trace_of(&steps);
        let mutated: Vec<Model> = FILE_SYSTEMS.iter().flat_map(|model| mutations(model)).map(|found| found.model).collect();
        let mut index = SyncIndex::new(&trace);
        for model in mutated.iter().chain(MODELS).chain(mutated.iter().rev()) {
            let crashes = Crashes::under(&mut index, model);
            for k in 0..=trace.last() {
                let here: Vec<bool> =
                    (0..trace.effects().len() as u32).map(|id| crashes.forced_at(EffectId(id)) <= k).collect();
                let expected = forced_by_definition(&trace, model, k);
                prop_assert_eq!(&here, &expected, "{:?} at crash point {}", model, k);
            }
        }
    }

    /// Inodes are numbered one by one here, and a trace from elsewhere may do otherwise.
    #[test]
    fn how_inodes_are_numbered_changes_nothing(
        steps in proptest::collection::vec(any_step(), 1..24),
        factor in select(vec![3, 1_000_003, u64::MAX / 64]),
    ) {
        let trace = trace_of(&steps);
        let other = renumbered(&trace, |ino| if ino == crate::ROOT { ino } else { Ino(ino.0 * factor) });
        for model in FILE_SYSTEMS {
            prop_assert_eq!(forced_at(&other, model), forced_at(&trace, model), "{}", model.name);
        }
    }
}

/// The same trace with other numbers.
fn renumbered(trace: &Trace, number: impl Fn(Ino) -> Ino) -> Trace {
    let effects = |op: &crate::trace::Op| -> Vec<(Cell, Value)> {
        let effects = &trace.effects()[op.effects.start as usize..op.effects.end as usize];
        effects
            .iter()
            .map(|effect| {
                let cell = match trace.cell(effect.cell).clone() {
                    Cell::Inode(ino) => Cell::Inode(number(ino)),
                    Cell::Target(ino) => Cell::Target(number(ino)),
                    Cell::Entry(ino, name) => Cell::Entry(number(ino), name),
                    Cell::Block(ino, n) => Cell::Block(number(ino), n),
                    Cell::Size(ino) => Cell::Size(number(ino)),
                    Cell::Mode(ino) => Cell::Mode(number(ino)),
                    Cell::Owner(ino) => Cell::Owner(number(ino)),
                    Cell::Xattr(ino, name) => Cell::Xattr(number(ino), name),
                };
                let value = match effect.value.clone() {
                    Value::Entry(child) => Value::Entry(child.map(&number)),
                    value => value,
                };
                (cell, value)
            })
            .collect()
    };
    let mut other = Trace::new();
    for (cell, value) in effects(&trace.ops()[0]) {
        other.push_initial(cell, value);
    }
    for op in &trace.ops()[1..] {
        let kind = match op.kind.clone() {
            OpKind::Sync { scope, returned, ok } => {
                let scope = match scope {
                    SyncScope::File(ino) => SyncScope::File(number(ino)),
                    SyncScope::FileData(ino) => SyncScope::FileData(number(ino)),
                    SyncScope::Dir(ino) => SyncScope::Dir(number(ino)),
                    SyncScope::All => scope,
                };
                OpKind::Sync { scope, returned, ok }
            }
            // Nothing else that an op says of itself forces anything or is forced.
            kind => kind,
        };
        other.push(kind, effects(op));
    }
    other
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
    let stronger: Vec<Mutation> = mutations(&POSIX).into_iter().filter(|mutation| !mutation.weaker).collect();
    for mutation in &stronger {
        assert!(is_left(&mutation.model), "no file system contradicts: {}", mutation.what);
    }
    let told = format!(
        "mutation score, stronger models than posix that one it contains contradicts: {0} of {0}",
        stronger.len()
    );
    // Shown though the test passes.
    let _ = writeln!(std::io::stderr(), "{told}");
    assert_eq!(stronger.len(), 4);
}

/// What can be seen of a state: what each name stands for, and of each inode that has a name, all that can be asked of it.
fn seen(trace: &Trace, survived: &[bool]) -> Vec<(CellId, Option<EffectId>)> {
    let view = View::survivors(trace, survived);
    let cells = || (0..trace.cell_count() as u32).map(CellId).map(|cell| (cell, view.newest(cell)));
    let is_entry = |cell: CellId| matches!(trace.cell(cell), Cell::Entry(..));
    let child = |(_, newest): (CellId, Option<EffectId>)| match trace.effect(newest?).value {
        Value::Entry(child) => child,
        _ => None,
    };
    let named: BTreeSet<Ino> = cells().filter(|(cell, _)| is_entry(*cell)).filter_map(child).collect();
    cells().filter(|(cell, _)| is_entry(*cell) || named.contains(&trace.cell(*cell).ino())).collect()
}

/// Whether some random trace is as asked for, of 3000 from one seed. `failing`: sync calls may fail.
fn any_trace(failing: bool, mut is_so: impl FnMut(&Trace) -> bool) -> bool {
    let mut runner = TestRunner::new_with_rng(cases(1), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let steps = proptest::collection::vec(any_step(), 1..10);
    (0..3000).any(|_| {
        let mut steps = steps.new_tree(&mut runner).unwrap().current();
        for step in &mut steps {
            if let Step::Sync(_, _, ok, _) = step {
                *ok |= !failing;
            }
        }
        is_so(&trace_of(&steps))
    })
}

/// Some rules follow from others as long as no sync call fails: what makes a name durable makes its inode exist, and a chain
/// up to an inode's own last change has its mode, its owner and its entries. Without such a rule nobody could see a
/// difference, so no proof can rest on it. All others show.
#[test]
fn rules_that_follow_from_others() {
    let mut unseen = Vec::new();
    for model in FILE_SYSTEMS {
        for mutation in mutations(model).into_iter().filter(|mutation| mutation.weaker) {
            let shows = any_trace(false, |trace| {
                let k = trace.last();
                let disks = |model: &Model| -> BTreeSet<_> {
                    states(trace, model, k).iter().map(|survived| seen(trace, survived)).collect()
                };
                Enumeration::new(trace, &mutation.model, k).free() <= 10
                    && disks(model) != disks(&mutation.model)
            });
            if !shows {
                unseen.push(format!("{}: {}", model.name, mutation.what));
            }
        }
    }
    assert_eq!(
        unseen,
        [
            "posix: fsync of a file does not force the existence of the inode",
            "posix: fdatasync of a file does not force the existence of the inode",
            "posix: fsync of a directory does not force the existence of the inode",
            "ext4-ordered: fsync of a file does not force the existence of the inode",
            "ext4-ordered: fsync of a file does not force its mode and owner",
            "ext4-ordered: fdatasync of a file does not force the existence of the inode",
            "ext4-ordered: fsync of a directory does not force the existence of the inode",
            "ext4-ordered: fsync of a directory does not force its mode and owner",
            "ext4-ordered: fsync of a directory does not force its entries",
            "xfs: fsync of a file does not force the existence of the inode",
            "xfs: fsync of a file does not force its mode and owner",
            "xfs: fdatasync of a file does not force the existence of the inode",
            "xfs: fsync of a directory does not force the existence of the inode",
            "xfs: fsync of a directory does not force its mode and owner",
            "xfs: fsync of a directory does not force its entries",
            "btrfs: fsync of a directory does not force the existence of the inode",
        ]
    );
}

/// That a length that grew brings its blocks only says more of files that are not whole. Each state that there is without
/// the rule is one with it, but for lengths that are shorter: no sync call ever forces a length without the blocks.
#[test]
fn no_file_is_whole_because_its_length_brings_its_blocks() {
    for model in FILE_SYSTEMS.into_iter().filter(|model| model.growth == Growth::AllBlocks) {
        let without = Model { growth: Growth::Nothing, ..*model };
        let mut more = 0;
        let contradicts = any_trace(true, |trace| {
            let k = trace.last();
            if Enumeration::new(trace, &without, k).free() > 10 {
                return false;
            }
            let forced = forced_by_definition(trace, model, k);
            states(trace, &without, k).into_iter().any(|mut survived| {
                more += u32::from(!is_closed(trace, model, k, &forced, &survived));
                for at in 0..survived.len() {
                    let is_length = matches!(trace.cell(trace.effects()[at].cell), Cell::Size(_));
                    if survived[at] && !forced[at] && is_length {
                        survived[at] = required(trace, model, at).into_iter().all(|needed| survived[needed]);
                    }
                }
                !is_closed(trace, model, k, &forced, &survived)
            })
        });
        assert!(!contradicts, "{}", model.name);
        assert!(more > 100, "{}: only {more} states more", model.name);
    }
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
