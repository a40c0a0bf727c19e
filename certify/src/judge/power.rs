//! The promises about crash states: what can be there after a power loss.
//!
//! For each way in which `current` (or a release's own path) can resolve, the window of crash points in which that
//! would break a promise, and then one question to the decision procedure. No enumeration anywhere.

use simfs::{Crashes, Window};

use super::decide::{Broken, Comparison};
use super::golden::Golden;
use super::history::History;
use super::protect::Protected;
use super::walk::{End, Outcome, States, walk};
use super::words::Words;
use super::{Counterexample, Promise, Scenario};
use crate::tree::Difference;

/// Judges crash states.
pub(crate) struct Power<'a> {
    pub(crate) crashes: &'a Crashes<'a>,
    pub(crate) scenario: &'a Scenario,
    pub(crate) history: &'a History,
    pub(crate) protected: &'a [Protected],
    pub(crate) shared: Option<&'a Golden>,
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
            Promise::NeverAbsent | Promise::ImmutableAfterCutover | Promise::Retention => None,
        }?;
        let words = Words::new(self.crashes.trace(), self.scenario);
        let lines = words.counterexample(self.crashes, &found.broken, &found.sentence);
        Some(Counterexample {
            at: found.broken.state.at,
            lines,
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
    fn happens(&self, way: &Outcome, window: Window, sentence: String) -> Option<Found> {
        let state = self.crashes.find(way.window.and(window), &way.pins)?;
        let difference = Difference { path: Vec::new(), what: String::new() };
        Some(Found { broken: Broken { state, pins: way.pins.clone(), difference }, sentence })
    }

    /// A state in which an outcome happens within a window, and the tree there is not the golden one.
    fn differs(&self, way: &Outcome, golden: &Golden, window: Window, what: &str) -> Option<Found> {
        let End::Dir { ino, .. } = &way.end else { return None };
        let comparison = Comparison { crashes: self.crashes, extra_allowed: false };
        let broken = comparison.find(*ino, golden, &way.pins, way.window.and(window))?;
        let sentence = format!("{what}, in which {}", broken.difference);
        Some(Found { broken, sentence })
    }

    fn release_of(&self, way: &Outcome) -> Option<usize> {
        match &way.end {
            End::Dir { ino, .. } => self.history.releases.iter().position(|r| r.golden.ino == *ino),
            _ => None,
        }
    }

    fn current_complete(&self) -> Option<Found> {
        let last = self.crashes.trace().last();
        self.ways().iter().find_map(|way| {
            let text = resolves_to(way, self.scenario);
            if way.end == End::Nothing {
                let first_ack = self.history.first_ack()?;
                return self.happens(way, Window { lo: first_ack, hi: last }, text);
            }
            let Some(release) = self.release_of(way) else {
                return self.happens(way, self.all(), format!("{text}, which was never live"));
            };
            let early = match self.history.permitted_from(release) {
                Some(0) => None,
                Some(from) => Some(Window { lo: 0, hi: from - 1 }),
                None => Some(self.all()),
            };
            let unpermitted = early.and_then(|window| {
                self.happens(way, window, format!("{text}, which no deploy had put there yet"))
            });
            let golden = &self.history.releases[release].golden;
            unpermitted.or_else(|| self.differs(way, golden, self.all(), &text))
        })
    }

    fn durable_ack(&self) -> Option<Found> {
        let ways = self.ways();
        self.history.segments.iter().filter(|segment| segment.acked).find_map(|segment| {
            ways.iter().find_map(|way| {
                let text = resolves_to(way, self.scenario);
                match self.release_of(way).filter(|release| segment.permitted.contains(release)) {
                    Some(release) => {
                        let golden = &self.history.releases[release].golden;
                        self.differs(way, golden, segment.window, &text)
                    }
                    None => {
                        self.happens(way, segment.window, format!("{text}, not to what was acknowledged"))
                    }
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
                let text = format!("{}, which has to stay,", release.name());
                match way.end {
                    End::Dir { .. } => {
                        self.differs(way, &release.golden, protected.window, &format!("{text} is damaged"))
                    }
                    _ => self.happens(way, protected.window, format!("{text} is not there")),
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
                return self.happens(way, self.all(), "shared/ is not there".to_owned());
            };
            let comparison = Comparison { crashes: self.crashes, extra_allowed: true };
            let broken = comparison.find(*ino, golden, &way.pins, way.window)?;
            let sentence = format!("in shared/, {}", broken.difference);
            Some(Found { broken, sentence })
        })
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
