//! What readers as processes find, judged against readers made up from the trace: one that read at some instant of its
//! pass is never called broken where the trace has no fault, and one that saw a fault is.

use std::sync::Arc;

use proptest::test_runner::{Config, TestRng, TestRunner};

use super::readers::{Sight, Witness, histories};
use super::*;
use crate::readers::{Found, How, Pass, Passes, Seen, View as Files, seen};

fn view(tree: &Tree) -> Files {
    tree.iter().map(|(path, node)| (path.clone(), seen(node))).collect()
}

/// The verdict about passes over a trace, and what was counted.
fn judged(trace: &Trace, scenario: &Scenario, passes: &Passes) -> (Verdict, Verdict, Tally) {
    let judgement = judge_with_readers(trace, scenario, &[&POSIX], Some(passes));
    let row = judgement.rows.into_iter().find(|row| row.promise == Promise::ReadersWhole).unwrap();
    (row.live.unwrap(), row.runs.unwrap(), judgement.readers.processes.unwrap())
}

/// A pass over each release that reads each path at an instant of its own, and each such pass through `current`.
fn made_up(witness: &Witness, mut random: impl FnMut(usize, usize) -> usize) -> Passes {
    let mut passes = Passes::default();
    let last = witness.disks.len() - 1;
    for sight in &witness.sights {
        // A reader can only start where `current` leads there.
        let starts: Vec<usize> = (0..=last).filter(|k| witness.can_start(sight, *k)).collect();
        for _ in 0..4 {
            let begin = starts[random(0, starts.len() - 1)];
            let end = random(begin, last);
            let paths: std::collections::BTreeSet<&Vec<u8>> =
                sight.trees[begin..=end].iter().flat_map(|tree| tree.keys()).collect();
            let found = paths.into_iter().filter_map(|path| {
                let node = sight.trees[random(begin, end)].get(path)?;
                Some((path.clone(), seen(node)))
            });
            let (dir, view) = (witness.naive.releases[sight.release].ino, Arc::new(found.collect()));
            let how = if sight.held { How::Held } else { How::Once };
            let found = Found::Release { dir, view };
            passes.all.push(Pass { how, begin: begin as Seq, end: end as Seq, found });
        }
    }
    let of = |k: usize| witness.naive.current[k].zip(witness.paths[k].as_ref());
    let files =
        |k: usize| of(k).map_or(Tree::new(), |(_, path)| super::readers::below(&witness.disks[k], path));
    passes.paths = (0..=last).flat_map(|k| files(k).into_keys()).filter(|path| !path.is_empty()).collect();
    passes.paths.sort();
    passes.paths.dedup();
    for _ in 0..8 {
        let begin = random(0, last);
        let end = random(begin, last);
        let found = passes.paths.iter().filter_map(|path| {
            let k = random(begin, end);
            Some((path.clone(), seen(files(k).get(path)?)))
        });
        let found = Found::Files(Arc::new(found.collect()));
        passes.all.push(Pass { how: How::Each, begin: begin as Seq, end: end as Seq, found });
    }
    passes
}

#[test]
fn no_reader_is_called_broken_that_was_not() {
    let deterministic = TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    let config = Config { cases: 600, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, deterministic);
    let sum = std::cell::Cell::new((Tally::default(), 0));
    let strategy = (histories(), select(vec![None, Some(1), Some(2)]), any::<u64>());
    let ran = runner.run(&strategy, |(steps, keep, seed)| {
        let (trace, bare) = (run(&steps), scenario(Vec::new(), keep));
        let witness = Witness::new(&trace, &bare);
        let mut state = seed | 1;
        let random = |lo: usize, hi: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            lo + (state % (hi - lo + 1) as u64) as usize
        };
        let passes = made_up(&witness, random);
        let (live, runs, tally) = judged(&trace, &bare, &passes);
        let (before, broken) = sum.get();
        sum.set((before.and(tally), broken + u32::from(matches!(runs, Verdict::Broken(_)))));
        if !matches!(live, Verdict::Broken(_)) {
            prop_assert!(!matches!(runs, Verdict::Broken(_)), "{:?}", runs);
            prop_assert_eq!(tally.undecided, 0);
        }
        Ok(())
    });
    ran.unwrap();
    let (tally, broken) = sum.get();
    // To mix releases takes two files, and most of these have one.
    let enough = tally.mixed > 0 && [tally.once, tally.held, tally.each, broken].iter().all(|n| *n > 20);
    assert!(enough, "the histories were too poor: {tally:?}, {broken} broken");
}

fn row(steps: &[Step], passes: impl Fn(&Witness, &Sight) -> Vec<Pass>) -> (Verdict, Tally) {
    let (trace, bare) = (run(steps), scenario(Vec::new(), Some(1)));
    let witness = Witness::new(&trace, &bare);
    let first = witness.sights.iter().find(|sight| sight.held && sight.release == 0).unwrap();
    let passes = Passes { all: passes(&witness, first), paths: vec![b"f".to_vec()], lost: None };
    let (_, runs, tally) = judged(&trace, &bare, &passes);
    (runs, tally)
}

fn pass(how: How, begin: Seq, end: Seq, found: Found) -> Pass {
    Pass { how, begin, end, found }
}

#[test]
fn each_kind_of_finding_has_its_verdict() {
    let prune = [Begin, Remove("app/r/1/f"), Remove("app/r/1"), Ack, End(true)];
    let steps = [&[right(0), right(1)].concat()[..], &prune].concat();
    let last = run(&steps).last();
    let release = |witness: &Witness, sight: &Sight, edit: &dyn Fn(&mut Files)| {
        let mut files = view(&witness.naive.releases[sight.release].tree);
        edit(&mut files);
        Found::Release { dir: witness.naive.releases[sight.release].ino, view: Arc::new(files) }
    };
    let of_release = |end: Seq, edit: &dyn Fn(&mut Files)| {
        row(&steps, |witness, sight| {
            let from = sight.from as Seq;
            vec![pass(How::Held, from, end, release(witness, sight, edit))]
        })
        .0
    };
    let gone: &dyn Fn(&mut Files) = &|files| drop(files.remove(&b"f"[..]));
    let other: &dyn Fn(&mut Files) = &|files| drop(files.insert(b"f".to_vec(), Seen::Dir { mode: 0o755 }));
    let extra: &dyn Fn(&mut Files) = &|files| drop(files.insert(b"g".to_vec(), Seen::Other));
    let odd: &dyn Fn(&mut Files) =
        &|files| drop(files.insert(b"f".to_vec(), Seen::Unreadable { error: "no".to_owned() }));
    let held = Verdict::Held { held: 1, of: 1 };
    assert_eq!(of_release(last, &|_| ()), held);
    assert_eq!(of_release(last, gone), held, "it was pruned");
    for (end, edit) in [(last - 2, gone), (last, other), (last, extra)] {
        assert!(matches!(of_release(end, edit), Verdict::Broken(_)), "until op {end}");
    }
    assert!(matches!(of_release(last, odd), Verdict::Unknown { .. }));

    let single = |how, begin, found: Found| row(&steps, |_, _| vec![pass(how, begin, begin, found.clone())]);
    let no_release = || Found::NoRelease("no".to_owned());
    assert!(matches!(single(How::Once, 0, no_release()).0, Verdict::NotAsked { .. }), "nothing was live yet");
    // Far enough behind the first acknowledgement that no reader can be that late: made long by syncs.
    let long = [&right(0)[..], &[const { SyncAll(true) }; 40], &right(1)].concat();
    let late = run(&long).last() - 8;
    let verdict = row(&long, |_, _| vec![pass(How::Once, late, late, no_release())]).0;
    assert!(matches!(verdict, Verdict::Broken(_)), "{verdict:?}");
    let missing = Found::Files(Arc::new(Files::new()));
    let verdict = row(&long, |_, _| vec![pass(How::Each, late, late, missing.clone())]).0;
    assert!(matches!(verdict, Verdict::Broken(_)), "{verdict:?}");
}

/// Nine whole passes, and some of another kind.
fn beside_nine(found: &Found, times: usize) -> (Verdict, Tally) {
    row(&[right(0), right(1)].concat(), |witness, sight| {
        let release = &witness.naive.releases[sight.release];
        let whole = Found::Release { dir: release.ino, view: Arc::new(view(&release.tree)) };
        let from = sight.from as Seq;
        let whole = std::iter::repeat_n(whole, 9).chain(std::iter::repeat_n(found.clone(), times));
        whole.map(|found| pass(How::Held, from, from, found)).collect()
    })
}

#[test]
fn what_few_could_not_read_is_counted_and_what_many_could_not_is_unknown() {
    let odd = Files::from([(b"f".to_vec(), Seen::Unreadable { error: "no".to_owned() })]);
    let odd = Found::Files(Arc::new(odd));
    let (verdict, tally) = beside_nine(&odd, 1);
    assert_eq!((verdict, tally.undecided), (Verdict::Held { held: 9, of: 9 }, 1));
    let (verdict, tally) = beside_nine(&odd, 2);
    assert_eq!(tally.undecided, 2);
    let Verdict::Unknown { why } = verdict else { panic!("{verdict:?}") };
    insta::assert_snapshot!(why, @"2 of 11 passes of readers could not be judged, the first: f: no");
}

#[test]
fn a_directory_that_the_trace_does_not_know_is_unknown_at_once() {
    let nowhere = Found::Release { dir: simfs::Ino(u64::MAX), view: Arc::default() };
    let (verdict, _) = beside_nine(&nowhere, 1);
    let Verdict::Unknown { why } = verdict else { panic!("{verdict:?}") };
    insta::assert_snapshot!(why, @"a reader was led to a directory that `current` never resolved to in the trace");
}

#[test]
fn a_reader_that_was_lost_proves_nothing() {
    let (trace, bare) = (run(&[right(0), right(1)].concat()), scenario(Vec::new(), None));
    let passes = Passes { lost: Some("it hung".to_owned()), ..Passes::default() };
    let (_, runs, _) = judged(&trace, &bare, &passes);
    assert!(matches!(runs, Verdict::Unknown { .. }), "{runs:?}");
}
