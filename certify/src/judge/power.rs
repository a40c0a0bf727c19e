//! The promises about crash states: what can be there after a power loss.
//!
//! For each way in which `current` (or a release's own path) can resolve, the window of crash points in which that
//! would break a promise, and then one question to the decision procedure. No enumeration anywhere.
//!
//! Ways and stretches of crash points are many in a long history, and each stretch meets few ways: those are found by
//! their windows, so that a history costs what its releases cost, not the square of their number.

use std::cell::OnceCell;
use std::collections::HashMap;

use rustc_hash::{FxBuildHasher, FxHashMap};
use simfs::{Crashes, EffectId, Ino, Seq, Window};

use super::decide::{Broken, Comparison, Doubt};
use super::golden::Golden;
use super::history::History;
use super::protect::Protected;
use super::walk::{End, Outcome, States, walk};
use super::words::{Words, kept};
use super::{Counterexample, Promise, Scenario};
use crate::tree::Difference;

/// Judges crash states.
pub(crate) struct Power<'a> {
    pub(crate) crashes: &'a Crashes<'a>,
    pub(crate) scenario: &'a Scenario,
    pub(crate) history: &'a History,
    pub(crate) protected: &'a [Protected],
    pub(crate) shared: Option<&'a Golden>,
    pub(crate) doubts: &'a Doubts,
}

/// For each release, when anything in it could be wrong. Worked out when it is first asked for. That depends on what is
/// forced alone, so models that force the same can share it.
pub(crate) struct Doubts(Vec<OnceCell<Doubt>>);

impl Doubts {
    pub(crate) fn new(history: &History) -> Self {
        Self(history.releases.iter().map(|_| OnceCell::new()).collect())
    }
}

/// Finds the ways that are open in a window without a look at all of them.
struct Index<'w> {
    ways: &'w [Outcome],
    /// Places in `ways`, by where their windows begin.
    by_begin: Vec<usize>,
    /// For each of these, the last crash point of all windows up to it.
    reach: Vec<Seq>,
}

impl<'w> Index<'w> {
    fn new(ways: &'w [Outcome]) -> Self {
        let mut by_begin: Vec<usize> = (0..ways.len()).filter(|at| !ways[*at].window.is_empty()).collect();
        by_begin.sort_by_key(|at| ways[*at].window.lo);
        let mut reach = Vec::with_capacity(by_begin.len());
        for at in &by_begin {
            let hi = ways[*at].window.hi;
            reach.push(reach.last().map_or(hi, |before: &Seq| hi.max(*before)));
        }
        Self { ways, by_begin, reach }
    }

    /// The ways whose windows meet another, in their order.
    fn meeting(&self, window: Window) -> Vec<&'w Outcome> {
        let begun = self.by_begin.partition_point(|at| self.ways[*at].window.lo <= window.hi);
        let first = self.reach.partition_point(|reach| *reach < window.lo);
        let places = self.by_begin.get(first..begun).unwrap_or_default().iter();
        let mut meeting: Vec<usize> =
            places.copied().filter(|at| !self.ways[*at].window.and(window).is_empty()).collect();
        meeting.sort_unstable();
        meeting.into_iter().map(|at| &self.ways[at]).collect()
    }
}

/// A crash state that breaks a promise, with the sentence that says how.
struct Found {
    broken: Broken,
    sentence: String,
}

impl Power<'_> {
    /// A crash state that breaks a promise, if there is one.
    pub(crate) fn judge(&self, promise: Promise) -> Option<Counterexample> {
        let found = match promise {
            Promise::CurrentComplete => self.current_complete(),
            Promise::DurableAck => self.durable_ack(),
            Promise::PreviousIntact => self.previous_intact(),
            Promise::SharedIntact => self.shared_intact(),
            Promise::NeverAbsent
            | Promise::ImmutableAfterCutover
            | Promise::ReadersWhole
            | Promise::Retention
            | Promise::Recoverable
            | Promise::FailedIsFailed => None,
        }?;
        let words = Words::new(self.crashes.trace(), self.scenario);
        let lines = words.counterexample(self.crashes, &found.broken, &found.sentence);
        let ids = |effects: Vec<EffectId>| effects.into_iter().map(|effect| effect.0).collect();
        Some(Counterexample {
            token: None,
            lost: ids(words.lost(self.crashes, &found.broken)),
            kept: ids(kept(self.crashes, &found.broken)),
            at: found.broken.state.at,
            lines,
            chain: found.broken.state.chain,
            survived: found.broken.state.extra.iter().map(|effect| effect.0).collect(),
        })
    }

    fn all(&self) -> Window {
        Window { lo: 0, hi: self.crashes.trace().last() }
    }

    fn ways(&self) -> Vec<Outcome> {
        let states = States::Crash(self.crashes, self.all());
        walk(states, &self.scenario.mount, &self.scenario.current_path())
    }

    /// A state in which an outcome happens within a window.
    fn happens(&self, way: &Outcome, window: Window, sentence: impl FnOnce() -> String) -> Option<Found> {
        let state = self.crashes.find(way.window.and(window), &way.pins)?;
        let difference = Difference { path: Vec::new(), what: String::new() };
        Some(Found { broken: Broken { state, pins: way.pins.clone(), difference }, sentence: sentence() })
    }

    /// A state in which an outcome happens within a window, and the tree there is not that of the release.
    fn differs(
        &self,
        way: &Outcome,
        release: usize,
        window: Window,
        what: impl FnOnce() -> String,
    ) -> Option<Found> {
        let End::Dir { ino, .. } = &way.end else { return None };
        let comparison = Comparison { crashes: self.crashes, extra_allowed: false };
        let golden = &self.history.releases[release].golden;
        let doubt = self.doubts.0[release].get_or_init(|| comparison.doubt(golden));
        let broken = comparison.find(*ino, golden, Some(doubt), &way.pins, way.window.and(window))?;
        let sentence = format!("{}, in which {}", what(), broken.difference);
        Some(Found { broken, sentence })
    }

    /// The releases by their directories.
    fn roots(&self) -> FxHashMap<Ino, usize> {
        let mut roots = HashMap::with_capacity_and_hasher(self.history.releases.len(), FxBuildHasher);
        for (at, release) in self.history.releases.iter().enumerate() {
            roots.entry(release.golden.ino).or_insert(at);
        }
        roots
    }

    fn current_complete(&self) -> Option<Found> {
        let last = self.crashes.trace().last();
        let (roots, permitted_from) = (self.roots(), self.history.permitted_from_all());
        let judged = Window { lo: self.history.judged_from, hi: last };
        self.ways().iter().find_map(|way| {
            let text = || resolves_to(way, self.scenario);
            if way.end == End::Nothing {
                let first_ack = self.history.first_ack()?;
                return self.happens(way, Window { lo: first_ack, hi: last }, text);
            }
            let Some(release) = release_of(way, &roots) else {
                return self.happens(way, judged, || format!("{}, which was never live", text()));
            };
            let early = match permitted_from[release] {
                Some(0) => None,
                Some(from) => Some(judged.and(Window { lo: 0, hi: from - 1 })),
                None => Some(judged),
            };
            let unpermitted = early.and_then(|window| {
                self.happens(way, window, || format!("{}, which no deploy had put there yet", text()))
            });
            unpermitted.or_else(|| self.differs(way, release, judged, text))
        })
    }

    fn durable_ack(&self) -> Option<Found> {
        let (ways, roots) = (self.ways(), self.roots());
        let index = Index::new(&ways);
        self.history.segments.iter().filter(|segment| segment.acked).find_map(|segment| {
            index.meeting(segment.window).into_iter().find_map(|way| {
                let text = || resolves_to(way, self.scenario);
                match release_of(way, &roots).filter(|release| segment.permitted.contains(release)) {
                    Some(release) => self.differs(way, release, segment.window, text),
                    None => self
                        .happens(way, segment.window, || format!("{}, not to what was acknowledged", text())),
                }
            })
        })
    }

    fn previous_intact(&self) -> Option<Found> {
        self.protected.iter().find_map(|protected| {
            let release = &self.history.releases[protected.release];
            let states = States::Crash(self.crashes, protected.window);
            let ways = walk(states, &self.scenario.mount, &release.path);
            ways.iter().find_map(|way| {
                let text = || format!("{}, which has to stay,", release.name());
                match way.end {
                    End::Dir { .. } => self.differs(way, protected.release, protected.window, || {
                        format!("{} is damaged", text())
                    }),
                    _ => self.happens(way, protected.window, || format!("{} is not there", text())),
                }
            })
        })
    }

    fn shared_intact(&self) -> Option<Found> {
        let golden = self.shared?;
        let ways =
            walk(States::Crash(self.crashes, self.all()), &self.scenario.mount, &self.scenario.shared_path());
        ways.iter().find_map(|way| {
            let End::Dir { ino, .. } = &way.end else {
                return self.happens(way, self.all(), || "shared/ is not there".to_owned());
            };
            let comparison = Comparison { crashes: self.crashes, extra_allowed: true };
            let broken = comparison.find(*ino, golden, None, &way.pins, way.window)?;
            let sentence = format!("in shared/, {}", broken.difference);
            Some(Found { broken, sentence })
        })
    }
}

fn release_of(way: &Outcome, roots: &FxHashMap<Ino, usize>) -> Option<usize> {
    match &way.end {
        End::Dir { ino, .. } => roots.get(ino).copied(),
        _ => None,
    }
}

fn resolves_to(way: &Outcome, scenario: &Scenario) -> String {
    match &way.end {
        End::Dir { path, .. } => {
            let names: Vec<_> =
                scenario.mount.iter().chain(path).map(|name| crate::tree::show(name)).collect();
            format!("`current` resolves to /{}", names.join("/"))
        }
        End::Nothing => "`current` resolves to nothing".to_owned(),
        End::File { .. } => "`current` resolves to a file".to_owned(),
        End::Elsewhere(what) => format!("`current` resolves to {what}"),
    }
}
