//! The promises about live states: what a reader can see at some instant.
//!
//! One pass over the trace. Trees that must not change are indexed by inode, so an op is looked at closer only when
//! it writes into one of them; a full comparison happens only then.

use rustc_hash::FxHashMap;
use simfs::{Cell, Ino, Seq, Trace, Value, View};

use super::golden::Golden;
use super::history::{Current, History};
use super::protect::{Protected, kept};
use super::walk::{End, walk_live};
use super::words::Words;
use super::{Counterexample, Promise, Scenario};
use crate::tree::{self, Difference, Tree};

/// When a tree that must not change first did.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) at: Seq,
    pub(crate) difference: Difference,
}

/// A tree under watch.
struct Watched {
    root: Ino,
    since: Seq,
    should: Tree,
    extra_allowed: bool,
    change: Option<Change>,
}

/// Finds the first change of each tree.
struct Watch<'t> {
    trace: &'t Trace,
    trees: Vec<Watched>,
    by_inode: FxHashMap<Ino, Vec<usize>>,
}

impl Watch<'_> {
    fn add(&mut self, golden: &Golden, since: Seq, extra_allowed: bool) -> usize {
        let at = self.trees.len();
        let (root, should) = (golden.ino, golden.to_tree());
        self.trees.push(Watched { root, since, should, extra_allowed, change: None });
        self.index(golden, at);
        at
    }

    fn index(&mut self, golden: &Golden, at: usize) {
        golden.inodes(&mut |ino| {
            let trees = self.by_inode.entry(ino).or_default();
            if !trees.contains(&at) {
                trees.push(at);
            }
        });
    }

    fn op(&mut self, k: Seq) {
        let mut touched = Vec::new();
        for effect in self.trace.ops()[k as usize].effects.clone() {
            let effect = &self.trace.effects()[effect as usize];
            let cell = self.trace.cell(effect.cell);
            if matches!(cell, Cell::Owner(_) | Cell::Xattr(..)) {
                continue;
            }
            for at in self.by_inode.get(&cell.ino()).into_iter().flatten() {
                let tree = &self.trees[*at];
                let before = View::live(self.trace, tree.since).newest(effect.cell);
                let same = before.is_some_and(|e| self.trace.effect(e).value == effect.value);
                let nothing = before.is_none() && effect.value == Value::Entry(None);
                if k > tree.since && tree.change.is_none() && !same && !nothing && !touched.contains(at) {
                    touched.push(*at);
                }
            }
        }
        for at in touched {
            self.compare(at, k);
        }
    }

    fn compare(&mut self, at: usize, k: Seq) {
        let tree = &self.trees[at];
        let now = Golden::capture(View::live(self.trace, k), tree.root);
        let is = now.as_ref().map_or_else(Tree::new, Golden::to_tree);
        let difference = tree::difference(&is, &tree.should, tree.extra_allowed);
        match (difference, now) {
            (Some(difference), _) => self.trees[at].change = Some(Change { at: k, difference }),
            // Equal by value, but made of other inodes now: those count from here on.
            (None, Some(now)) => self.index(&now, at),
            (None, None) => {}
        }
    }
}

/// The first change of each release since it went live, and of the shared data.
pub(crate) struct Changes {
    pub(crate) releases: Vec<Option<Change>>,
    pub(crate) shared: Option<Change>,
}

/// Goes through the trace once.
pub(crate) fn changes(trace: &Trace, history: &History, shared: Option<&Golden>) -> Changes {
    let mut watch = Watch { trace, trees: Vec::new(), by_inode: FxHashMap::default() };
    if let Some(shared) = shared {
        watch.add(shared, 0, true);
    }
    let first = watch.trees.len();
    let mut born = 0;
    for k in 0..=trace.last() {
        watch.op(k);
        while history.releases.get(born).is_some_and(|release| release.born == k) {
            watch.add(&history.releases[born].golden, k, false);
            born += 1;
        }
    }
    let mut changes = watch.trees.into_iter().map(|tree| tree.change);
    let shared = changes.by_ref().take(first).next().flatten();
    Changes { releases: changes.collect(), shared }
}

/// Judges live states.
pub(crate) struct Live<'a> {
    pub(crate) trace: &'a Trace,
    pub(crate) scenario: &'a Scenario,
    pub(crate) history: &'a History,
    pub(crate) changes: &'a Changes,
    pub(crate) protected: &'a [Protected],
}

impl Live<'_> {
    /// A live state that breaks a promise, if there is one.
    pub(crate) fn judge(&self, promise: Promise) -> Option<Counterexample> {
        match promise {
            Promise::CurrentComplete => self.current_complete(),
            Promise::NeverAbsent => self.never_absent(),
            Promise::DurableAck => None,
            Promise::ImmutableAfterCutover => self.immutable(),
            Promise::PreviousIntact => self.previous_intact(),
            Promise::SharedIntact => self.shared_intact(),
            Promise::Retention => self.retention(),
        }
    }

    fn found(&self, at: Seq, what: String) -> Counterexample {
        let words = Words::new(self.trace, self.scenario);
        Counterexample { at, lines: vec![format!("after {}:", words.op(at)), what], survived: Vec::new() }
    }

    fn current_complete(&self) -> Option<Counterexample> {
        let mut all: Vec<(Seq, String)> = Vec::new();
        let first_ack = self.history.first_ack();
        for (at, (from, current)) in self.history.current.iter().enumerate() {
            let until = self.history.current.get(at + 1).map_or(self.trace.last(), |next| next.0 - 1);
            match current {
                Current::Release(release) => {
                    let known = &self.history.releases[*release];
                    let name = known.name();
                    if let Some(wrong) = &known.wrong {
                        all.push((*from, format!("`current` is {name}, in which {wrong}")));
                    }
                    let permitted = self.history.permitted_from(*release);
                    if permitted.is_none_or(|first| first > *from) {
                        all.push((*from, format!("`current` is {name}, which no deploy had put there yet")));
                    }
                    if let Some(change) = &self.changes.releases[*release]
                        && change.at <= until
                    {
                        let what = format!("`current` is {name}, in which {}", change.difference);
                        all.push((change.at.max(*from), what));
                    }
                }
                Current::Nothing => {
                    if let Some(ack) = first_ack
                        && ack <= until
                    {
                        all.push((ack.max(*from), "`current` resolves to nothing".to_owned()));
                    }
                }
                Current::Elsewhere(what) => all.push((*from, format!("`current` resolves to {what}"))),
            }
        }
        for (at, deploy, wrong) in &self.history.false_acks {
            all.push((*at, format!("deploy {deploy} was reported as live, but {wrong}")));
        }
        all.sort_by_key(|(at, _)| *at);
        all.into_iter().next().map(|(at, what)| self.found(at, what))
    }

    fn never_absent(&self) -> Option<Counterexample> {
        let appeared = self.history.current.iter().position(|(_, c)| matches!(c, Current::Release(_)))?;
        let gone =
            self.history.current[appeared..].iter().find(|(_, c)| !matches!(c, Current::Release(_)))?;
        Some(self.found(gone.0, "`current` does not resolve to a directory".to_owned()))
    }

    fn immutable(&self) -> Option<Counterexample> {
        let changed = self.changes.releases.iter().enumerate();
        changed.filter_map(|(release, change)| Some((release, change.as_ref()?))).find_map(
            |(release, change)| {
                let known = &self.history.releases[release];
                if self.is_removal(release, change.at) {
                    return None;
                }
                Some(self.found(change.at, format!("in {}, {}", known.name(), change.difference)))
            },
        )
    }

    /// A change is a removal only if the whole release is gone when the deploy ends, and it was neither live nor
    /// promised by retention. That the release before the live one stays is another promise.
    fn is_removal(&self, release: usize, at: Seq) -> bool {
        let Some(deploy) = self.history.deploy_of(at) else { return false };
        let deploy = &self.history.deploys[deploy];
        let end = deploy.end.map_or(deploy.until, |end| end.at.max(at));
        let known = &self.history.releases[release];
        let gone = match walk_live(self.trace, end, &self.scenario.mount, &known.path).0 {
            End::Dir { ino, .. } => ino != known.golden.ino,
            _ => true,
        };
        let live = (at..=end).any(|k| *self.history.current_at(k) == Current::Release(release));
        let cutover = self.history.cutovers.iter().rposition(|cutover| cutover.at <= at);
        let promised = known.acked.is_some_and(|acked| acked <= at)
            && cutover
                .zip(self.scenario.keep)
                .is_some_and(|(cutover, keep)| kept(self.history, cutover, keep).contains(&release));
        gone && !live && !promised
    }

    fn previous_intact(&self) -> Option<Counterexample> {
        self.protected.iter().find_map(|protected| {
            let change = self.changes.releases[protected.release].as_ref()?;
            let known = &self.history.releases[protected.release];
            (change.at <= protected.window.hi).then(|| {
                let at = change.at.max(protected.window.lo);
                self.found(at, format!("in {}, which has to stay, {}", known.name(), change.difference))
            })
        })
    }

    fn shared_intact(&self) -> Option<Counterexample> {
        let change = self.changes.shared.as_ref()?;
        Some(self.found(change.at, format!("in shared/, {}", change.difference)))
    }

    fn retention(&self) -> Option<Counterexample> {
        let keep = self.scenario.keep?;
        self.history.deploys.iter().find_map(|deploy| {
            let end = deploy.end.filter(|end| end.ok)?;
            let cutover = self.history.cutovers.iter().rposition(|cutover| cutover.at <= end.at)?;
            let so_far = self.history.releases.iter().filter(|release| release.born <= end.at).count();
            let kept = kept(self.history, cutover, keep);
            let left: Vec<usize> = (0..so_far).filter(|release| self.is_there(*release, end.at)).collect();
            let missing = kept.iter().find(|release| !left.contains(release));
            let what = if let Some(missing) = missing {
                format!(
                    "{} is gone, though {keep} releases are to be kept",
                    self.history.releases[*missing].name()
                )
            } else if left.len() > kept.len() && !end.cleanup_pending {
                format!("{} releases are there instead of {}", left.len(), kept.len())
            } else {
                return None;
            };
            Some(self.found(end.at, format!("when deploy {} ended, {what}", deploy.number)))
        })
    }

    fn is_there(&self, release: usize, k: Seq) -> bool {
        let known = &self.history.releases[release];
        let end = walk_live(self.trace, k, &self.scenario.mount, &known.path).0;
        matches!(end, End::Dir { ino, .. } if ino == known.golden.ino)
    }
}
