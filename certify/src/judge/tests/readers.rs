//! The decision about readers against every reader there is: on random small traces, each start, each later instant
//! and each path, with plain maps. Shares no code with the decision but the golden trees and what is protected.

use std::cell::Cell;
use std::collections::BTreeSet;

use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::tree::Node;

/// Where a path leads, by text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    At(Vec<u8>),
    Nothing,
    Elsewhere,
}

/// Follows a path of the disk, which is mounted on `/disk`.
fn follow(disk: &Tree, path: &str) -> Place {
    let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut at = vec!["disk".to_owned()];
    let mut links = 0;
    while let Some(name) = todo.pop() {
        match &name[..] {
            "" | "." => continue,
            ".." => {
                at.pop();
                continue;
            }
            _ => at.push(name),
        }
        if at[0] != "disk" || at.len() == 1 {
            continue;
        }
        match disk.get(at[1..].join("/").as_bytes()) {
            None => return Place::Nothing,
            Some(Node::Dir { .. }) => {}
            Some(Node::Symlink { target }) => {
                links += 1;
                if links > 40 {
                    return Place::Elsewhere;
                }
                at.pop();
                if target.starts_with(b"/") {
                    at.clear();
                }
                todo.extend(std::str::from_utf8(target).unwrap().split('/').rev().map(str::to_owned));
            }
            Some(_) if todo.is_empty() => {}
            Some(_) => return Place::Elsewhere,
        }
    }
    match at.first() {
        Some(first) if first == "disk" => Place::At(at[1..].join("/").into_bytes()),
        _ => Place::Elsewhere,
    }
}

/// What lies below a path of a map, the path itself as the root.
pub(super) fn below(disk: &Tree, root: &[u8]) -> Tree {
    let prefix = golden::join(root, b"");
    let inside = |path: &Vec<u8>| {
        if root.is_empty() || path == root {
            return Some(path[root.len()..].to_vec());
        }
        path.strip_prefix(&prefix[..]).map(<[u8]>::to_vec)
    };
    disk.iter().filter_map(|(path, node)| Some((inside(path)?, node.clone()))).collect()
}

/// What a reader finds of a release after each op: by a path, or from its directory.
pub(super) struct Sight {
    pub(super) release: usize,
    /// The first instant at which such a reader can start.
    pub(super) from: usize,
    pub(super) held: bool,
    path: Vec<u8>,
    pub(super) trees: Vec<Tree>,
    /// Whether something may be missing.
    pruned: Vec<bool>,
}

pub(super) struct Witness {
    pub(super) naive: Naive,
    /// For each op, the path of the release that is live.
    pub(super) paths: Vec<Option<Vec<u8>>>,
    pub(super) sights: Vec<Sight>,
    pub(super) disks: Vec<Tree>,
    protected: Vec<protect::Protected>,
    prunes: usize,
}

impl Witness {
    pub(super) fn new(trace: &Trace, scenario: &Scenario) -> Self {
        let history = History::new(trace, scenario);
        let whole = |k| Disk::new(View::live(trace, k)).tree(b"");
        let mut witness = Self {
            naive: Naive::new(trace, scenario),
            paths: Vec::new(),
            sights: Vec::new(),
            disks: (0..=trace.last()).map(whole).collect(),
            protected: protect::protected(&history, scenario.keep, trace.last()),
            prunes: 0,
        };
        for k in 0..witness.disks.len() {
            let path = match (witness.naive.current[k], follow(&witness.disks[k], "app/current")) {
                (Some(_), Place::At(path)) => Some(path),
                _ => None,
            };
            witness.paths.push(path);
        }
        for k in 0..witness.disks.len() {
            let (Some(release), Some(path)) = (witness.naive.current[k], witness.paths[k].clone()) else {
                continue;
            };
            for held in [true, false] {
                let known = |s: &Sight| s.release == release && s.held == held && (held || s.path == path);
                if !witness.sights.iter().any(known) {
                    let sight = witness.sight(trace, release, k, held, &path);
                    witness.sights.push(sight);
                }
            }
        }
        for at in 0..witness.sights.len() {
            let pruned = witness.pruned(trace, &witness.sights[at]);
            witness.prunes += usize::from(pruned.contains(&true));
            witness.sights[at].pruned = pruned;
        }
        witness
    }

    fn sight(&self, trace: &Trace, release: usize, from: usize, held: bool, path: &[u8]) -> Sight {
        let ino = self.naive.releases[release].ino;
        let tree = |k: usize| {
            if held {
                let tree = golden::Golden::capture(View::live(trace, k as Seq), ino);
                return tree.map(|tree| tree.to_tree()).unwrap_or_default();
            }
            match follow(&self.disks[k], std::str::from_utf8(path).unwrap()) {
                Place::At(path) => below(&self.disks[k], &path),
                _ => Tree::new(),
            }
        };
        let trees = (0..self.disks.len()).map(tree).collect();
        Sight { release, from, held, path: path.to_vec(), trees, pruned: Vec::new() }
    }

    /// Whether a reader that sees this can start after op `k`.
    pub(super) fn can_start(&self, sight: &Sight, k: usize) -> bool {
        self.naive.current[k] == Some(sight.release)
            && (sight.held || self.paths[k].as_ref() == Some(&sight.path))
    }

    fn is_missing(&self, sight: &Sight, k: usize) -> bool {
        self.naive.releases[sight.release].tree.keys().any(|path| !sight.trees[k].contains_key(path))
    }

    fn pruned(&self, trace: &Trace, sight: &Sight) -> Vec<bool> {
        let mut pruned = vec![false; self.disks.len()];
        for k in sight.from..self.disks.len() {
            let before = k > sight.from && pruned[k - 1];
            pruned[k] = self.is_missing(sight, k) && (before || self.is_lawful(trace, sight.release, k));
        }
        pruned
    }

    fn is_lawful(&self, trace: &Trace, release: usize, k: usize) -> bool {
        let at = k as Seq;
        let begun = |mark: &&simfs::Mark| matches!(mark.kind, MarkKind::Begin { .. }) && mark.after < at;
        let Some(MarkKind::Begin { deploy }) = trace.marks().iter().rfind(begun).map(|m| m.kind.clone())
        else {
            return false;
        };
        // Nobody came who could have finished what a failed one began.
        let mut open = false;
        let end = trace.marks().iter().find_map(|mark| match mark.kind {
            MarkKind::End { deploy: ended, ok: true, .. } if ended == deploy => Some(mark.after.max(at)),
            // Its own has failed, so a later one has to end well.
            MarkKind::End { deploy: ended, ok: false, .. } if ended == deploy => {
                let later = trace.marks().iter().find_map(|later| match later.kind {
                    MarkKind::End { deploy: other, ok: true, .. } if other > deploy => Some(later.after),
                    _ => None,
                });
                open = later.is_none();
                Some(later.unwrap_or(trace.last()))
            }
            MarkKind::Begin { deploy: next } if next == deploy + 1 => Some(mark.after),
            _ => None,
        });
        let end = end.unwrap_or(trace.last()) as usize;
        let live = (k..=end).any(|k| self.naive.current[k] == Some(release));
        let promised =
            self.protected.iter().any(|p| p.release == release && p.window.lo <= at && at <= p.window.hi);
        let ino = self.naive.releases[release].ino;
        let there = self.sights.iter().filter(|s| s.release == release).any(|sight| {
            let path = names(&sight.path);
            let disk = Disk::new(View::live(trace, end as Seq));
            disk.directory_at(&names(b"/disk"), &path).is_some_and(|(found, _)| found == ino)
        });
        !live && !promised && (!there || open)
    }

    /// The first instant at which some reader goes wrong.
    fn first_fault(&self) -> Option<Seq> {
        let mut faults: BTreeSet<usize> = BTreeSet::new();
        for start in 0..self.disks.len() {
            for sight in self.sights.iter().filter(|sight| self.can_start(sight, start)) {
                let release = sight.release;
                let should = &self.naive.releases[release].tree;
                for k in start..self.disks.len() {
                    for path in should.keys().chain(sight.trees[k].keys()) {
                        let (is, should) = (sight.trees[k].get(path), should.get(path));
                        let live = sight.held && self.naive.current[k] == Some(release);
                        let excused = is.is_none() && sight.pruned[k] && !live;
                        if is != should && !excused {
                            faults.insert(k);
                        }
                    }
                }
            }
        }
        faults.extend((0..self.disks.len()).filter(|k| !self.is_right_through_current(*k)));
        faults.first().map(|k| *k as Seq)
    }

    fn is_right_through_current(&self, k: usize) -> bool {
        match (self.naive.current[k], follow(&self.disks[k], "app/current")) {
            (Some(release), _) => {
                self.naive.permitted[..=k].iter().flatten().any(|(permitted, _)| permitted.contains(&release))
            }
            (None, Place::Nothing) => self.naive.permitted[k].iter().all(|(_, acked)| !acked),
            (None, _) => false,
        }
    }
}

/// Two or three deploys, the third of which uses the name of the first again, with steps left out and put in at random.
pub(super) fn histories() -> impl Strategy<Value = Vec<Step>> {
    let prune = [Remove("app/r/1/f"), Remove("app/r/1")];
    let edits =
        proptest::collection::vec((0_usize..32, prop_oneof![Just(None), any_step().prop_map(Some)]), 0..5);
    let again = select(vec![None, Some(&b"one"[..]), Some(b"two")]);
    (edits, 0..5, again).prop_map(move |(edits, how, again)| {
        let mut steps = [right(0), right(1)].concat();
        match how {
            0 => {}
            // After the acknowledgement, between deploys, in the next one; and renamed out of the way.
            1 => drop(steps.splice(17..17, prune.clone())),
            2 => steps.extend(prune.clone()),
            3 => steps.extend([Begin].into_iter().chain(prune.clone()).chain([Ack, End(true)])),
            _ => steps.extend([Begin, Rename("app/r/1", "app/r/2/d"), Ack, End(true)]),
        }
        let third = again.map(|text| {
            right(0).into_iter().map(move |step| match step {
                Write(path, _) => Write(path, text),
                other => other,
            })
        });
        steps.extend(third.into_iter().flatten());
        for (at, edit) in edits {
            let at = at.min(steps.len() - 1);
            match edit {
                None => drop(steps.remove(at)),
                Some(step) => steps.insert(at, step),
            }
        }
        steps
    })
}

/// The verdict on a history, after the decision and the witness have agreed on it.
fn agreed(steps: &[Step], keep: Option<usize>) -> Result<(Option<Counterexample>, usize), TestCaseError> {
    let trace = run(steps);
    let bare = scenario(Vec::new(), keep);
    let witness = Witness::new(&trace, &bare);
    let judgement = judge(&trace, &bare, &[&POSIX]);
    let row = judgement.rows.iter().find(|row| row.promise == Promise::ReadersWhole).unwrap();
    let found = match &row.live {
        Some(Verdict::Broken(found)) => Some(found.clone()),
        _ => None,
    };
    prop_assert_eq!(found.as_ref().map(|found| found.at), witness.first_fault(), "{:?}", found);
    Ok((found, witness.prunes))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn every_reader_was_thought_of(steps in histories(), keep in select(vec![None, Some(1), Some(2)])) {
        agreed(&steps, keep)?;
    }
}

/// The property above would hold of nothing if its histories never came to the interesting cases.
#[test]
fn the_histories_have_readers_of_every_kind_that_go_wrong() {
    let seen = [const { Cell::new(0) }; 7];
    let count = |at: usize, is: bool| seen[at].set(seen[at].get() + usize::from(is));
    let mut runner = TestRunner::new_with_rng(
        Config { cases: 800, failure_persistence: None, ..Config::default() },
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let strategy = (histories(), select(vec![None, Some(1), Some(2)]));
    let ran = runner.run(&strategy, |(steps, keep)| {
        let (found, prunes) = agreed(&steps, keep)?;
        let text = found.as_ref().map(|found| found.lines.join("\n")).unwrap_or_default();
        count(0, found.is_none() && prunes == 0);
        count(1, found.is_none() && prunes > 0);
        count(2, text.contains("resolves `current` to"));
        count(3, text.contains("from that directory"));
        count(4, text.contains("through `current`"));
        count(5, text.contains("no lawful prune"));
        count(6, text.contains("has wrong content") || text.contains("bytes instead of"));
        Ok(())
    });
    ran.unwrap();
    let seen = seen.map(|count| count.get());
    assert!(seen.iter().all(|count| *count >= 5), "too few of some kind: {seen:?}");
}
