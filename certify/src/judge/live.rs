//! The promises about live states: what a reader can see at some instant.
//!
//! Never by a look at each state: when a tree that must not change first did is found from the versions of its own cells
//! ([`super::change`]), and where a path leads only where one of the cells on the way changes. A whole tree is compared
//! only to say what is wrong in a state that is already known to be.

use simfs::{Seq, Trace, View};

use super::change::Search;
use super::golden::Golden;
use super::history::{Current, History, RemovedBy};
use super::protect::{Protected, kept, kept_count};
use super::walk::{End, next_change, walk_live};
use super::words::Words;
use super::{Counterexample, Promise, Scenario};
use crate::tree::{self, Difference, Tree};

/// When a tree that must not change first did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) at: Seq,
}

/// The first change of each release since it went live, and of the shared data.
pub(crate) struct Changes {
    pub(crate) releases: Vec<Option<Change>>,
    /// With what is different then.
    pub(crate) shared: Option<(Change, Difference)>,
}

/// Finds them.
pub(crate) fn changes(trace: &Trace, history: &History, shared: Option<&Golden>) -> Changes {
    let mut search = Search::new(trace, false);
    let releases = history
        .releases
        .iter()
        .map(|release| Some(Change { at: search.first(&release.golden, release.born)? }))
        .collect();
    let shared = shared.and_then(|golden| {
        let at = Search::new(trace, true).first(golden, 0)?;
        Some((Change { at }, difference(trace, golden, at, true)))
    });
    Changes { releases, shared }
}

/// What is different in a live state in which a tree is not golden.
fn difference(trace: &Trace, golden: &Golden, k: Seq, extra_allowed: bool) -> Difference {
    let now = Golden::capture(View::live(trace, k), golden.ino);
    let is = now.as_ref().map_or_else(Tree::new, Golden::to_tree);
    tree::difference(&is, &golden.to_tree(), extra_allowed).expect("some cell of the tree is wrong")
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
            // Judged elsewhere.
            Promise::DurableAck | Promise::ReadersWhole | Promise::Recoverable | Promise::FailedIsFailed => {
                None
            }
            Promise::ImmutableAfterCutover => self.immutable(),
            Promise::PreviousIntact => self.previous_intact(),
            Promise::SharedIntact => self.shared_intact(),
            Promise::Retention => self.retention(),
        }
    }

    fn found(&self, at: Seq, what: String) -> Counterexample {
        let words = Words::new(self.trace, self.scenario);
        Counterexample::at(at, vec![format!("after {}:", words.op(at)), what])
    }

    /// How a release that changed differs when it did.
    fn difference(&self, release: usize, change: Change) -> Difference {
        difference(self.trace, &self.history.releases[release].golden, change.at, false)
    }

    fn current_complete(&self) -> Option<Counterexample> {
        let mut all: Vec<(Seq, Box<dyn Fn() -> String + '_>)> = Vec::new();
        let first_ack = self.history.first_ack();
        let permitted_from = self.history.permitted_from_all();
        for (at, (from, current)) in self.history.current.iter().enumerate() {
            let until = self.history.current.get(at + 1).map_or(self.trace.last(), |next| next.0 - 1);
            match current {
                Current::Release(release) => {
                    let known = &self.history.releases[*release];
                    let is = || format!("`current` is {}", known.name());
                    if let Some(wrong) = &known.wrong {
                        all.push((*from, Box::new(move || format!("{}, in which {wrong}", is()))));
                    }
                    if permitted_from[*release].is_none_or(|first| first > *from) {
                        let what = move || format!("{}, which no deploy had put there yet", is());
                        all.push((*from, Box::new(what)));
                    }
                    if let Some(change) = self.changes.releases[*release]
                        && change.at <= until
                    {
                        let what =
                            move || format!("{}, in which {}", is(), self.difference(*release, change));
                        all.push((change.at.max(*from), Box::new(what)));
                    }
                }
                Current::Nothing => {
                    if let Some(ack) = first_ack
                        && ack <= until
                    {
                        let what = || "`current` resolves to nothing".to_owned();
                        all.push((ack.max(*from), Box::new(what)));
                    }
                }
                Current::Elsewhere(what) => {
                    all.push((*from, Box::new(move || format!("`current` resolves to {what}"))));
                }
                Current::AsFound => {}
            }
        }
        for (at, deploy, wrong) in &self.history.false_acks {
            let what = move || format!("deploy {deploy} was reported as live, but {wrong}");
            all.push((*at, Box::new(what)));
        }
        // The first of the earliest.
        let (at, what) = all.into_iter().min_by_key(|(at, _)| *at)?;
        Some(self.found(at, what()))
    }

    fn never_absent(&self) -> Option<Counterexample> {
        let appeared = self.history.current.iter().position(|(_, c)| matches!(c, Current::Release(_)))?;
        let gone =
            self.history.current[appeared..].iter().find(|(_, c)| !matches!(c, Current::Release(_)))?;
        Some(self.found(gone.0, "`current` does not resolve to a directory".to_owned()))
    }

    fn immutable(&self) -> Option<Counterexample> {
        let changed = self.changes.releases.iter().enumerate();
        changed.filter_map(|(release, change)| Some((release, (*change)?))).find_map(|(release, change)| {
            let known = &self.history.releases[release];
            if self.is_removal(release, change.at) {
                return None;
            }
            let difference = self.difference(release, change);
            Some(self.found(change.at, format!("in {}, {difference}", known.name())))
        })
    }

    /// A change is a removal only if the whole release is gone when the deploy ends ([`History::removed_by`]), and it was
    /// neither live nor promised by retention. That the release before the live one stays is another promise.
    fn is_removal(&self, release: usize, at: Seq) -> bool {
        let Some(by) = self.history.removed_by(at, self.scenario) else { return false };
        let end = by.until(self.trace.last());
        let known = &self.history.releases[release];
        let gone = match walk_live(self.trace, end, &self.scenario.mount, &known.path).0 {
            End::Dir { ino, .. } => ino != known.golden.ino,
            _ => true,
        };
        let during = self.history.current.partition_point(|(from, _)| *from <= at);
        let later = self.history.current[during..].iter().take_while(|(from, _)| *from <= end);
        let live = std::iter::once(self.history.current_at(at))
            .chain(later.map(|(_, current)| current))
            .any(|current| *current == Current::Release(release));
        let cutover = self.history.cutovers.partition_point(|cutover| cutover.at <= at).checked_sub(1);
        let promised = known.acked.is_some_and(|acked| acked <= at)
            && cutover
                .zip(self.scenario.keep)
                .is_some_and(|(cutover, keep)| kept(self.history, cutover, keep).contains(&release));
        (gone || by == RemovedBy::Open) && !live && !promised
    }

    fn previous_intact(&self) -> Option<Counterexample> {
        self.protected.iter().find_map(|protected| {
            let change = self.changes.releases[protected.release]?;
            let known = &self.history.releases[protected.release];
            (change.at <= protected.window.hi).then(|| {
                let at = change.at.max(protected.window.lo);
                let difference = self.difference(protected.release, change);
                self.found(at, format!("in {}, which has to stay, {difference}", known.name()))
            })
        })
    }

    fn shared_intact(&self) -> Option<Counterexample> {
        let (change, difference) = self.changes.shared.as_ref()?;
        Some(self.found(change.at, format!("in shared/, {difference}")))
    }

    fn retention(&self) -> Option<Counterexample> {
        let keep = self.scenario.keep?;
        let presence: Vec<Vec<Seq>> =
            (0..self.history.releases.len()).map(|release| self.presence(release)).collect();
        // When how many more, or fewer, are there.
        let mut changes: Vec<(Seq, bool)> = presence
            .iter()
            .flat_map(|turns| turns.iter().enumerate().map(|(nth, at)| (*at, nth % 2 == 0)))
            .collect();
        changes.sort_unstable();
        let mut changes = changes.into_iter().peekable();
        let mut left = 0;
        self.history.deploys.iter().find_map(|deploy| {
            let end = deploy.end.filter(|end| end.ok)?;
            let cutover = self.history.cutovers.partition_point(|cutover| cutover.at <= end.at);
            let cutover = cutover.checked_sub(1)?;
            while let Some((_, appears)) = changes.next_if(|(at, _)| *at <= end.at) {
                if appears { left += 1 } else { left -= 1 }
            }
            let kept = kept(self.history, cutover, keep);
            let is_there = |release: usize| presence[release].partition_point(|at| *at <= end.at) % 2 == 1;
            let missing = kept.iter().find(|release| !is_there(**release));
            let what = if let Some(missing) = missing {
                format!(
                    "{} is gone, though {keep} releases are to be kept",
                    self.history.releases[*missing].name()
                )
            } else if left < kept_count(self.history, cutover, keep) {
                format!("only {left} releases are there instead of {keep}")
            } else if left > keep && !end.cleanup_pending && self.scenario.deploys_something(deploy.number) {
                format!("{left} releases are there instead of {keep}")
            } else {
                return None;
            };
            Some(self.found(end.at, format!("when deploy {} ended, {what}", deploy.number)))
        })
    }

    /// The ops at which a release came to be where it went live, was gone from there, came back, and so on.
    fn presence(&self, release: usize) -> Vec<Seq> {
        let known = &self.history.releases[release];
        let mut turns = Vec::new();
        let mut next = Some(known.born);
        while let Some(k) = next {
            let (end, cells) = walk_live(self.trace, k, &self.scenario.mount, &known.path);
            let is_there = matches!(end, End::Dir { ino, .. } if ino == known.golden.ino);
            if is_there != (turns.len() % 2 == 1) {
                turns.push(k);
            }
            next = next_change(self.trace, &cells, k);
        }
        turns
    }
}
