//! What was promised before a reboot, for a history that goes on after it.
//!
//! A rebooted disk does not say what should be on it: a damaged release could pass for one that was always like that.
//! So the history before the power loss is read, up to its crash point, and the one after is judged with it.

use simfs::{Ino, Seq, Trace, View};

use super::expect::shared_at;
use super::golden::Golden;
use super::history::{Cutover, History, Release};
use super::walk::{End, walk_live};
use super::{Scenario, SharedRule};
use crate::tree;

/// Reads pasts off one history.
pub struct Pasts<'t> {
    trace: &'t Trace,
    history: History,
    shared: Option<Golden>,
}

/// What a power loss, or the death of all processes, has left to be kept.
///
/// The default is the past of an empty disk: nothing.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// All releases so far, in the order in which they went live.
    releases: Vec<Release>,
    /// All cutovers so far: which release each switched to.
    cutovers: Vec<usize>,
    /// The releases that were permitted at that instant.
    permitted: Vec<usize>,
    /// Something had been acknowledged.
    acked: bool,
    /// The user data.
    shared: Option<Golden>,
}

impl<'t> Pasts<'t> {
    /// Reads the history off a trace.
    pub fn new(trace: &'t Trace, scenario: &Scenario) -> Self {
        Self { trace, history: History::new(trace, scenario), shared: shared(trace, scenario) }
    }

    /// What was promised at a crash point.
    pub fn at(&self, k: Seq) -> Past {
        let history = &self.history;
        let here = history.segments.iter().filter(|s| s.window.lo <= k && k <= s.window.hi);
        let releases = history.releases.iter().take_while(|release| release.born <= k).cloned();
        let releases = releases.map(|release| Release {
            acked: release.acked.filter(|at| *at <= k),
            wrong: None,
            ..release
        });
        Past {
            releases: releases.collect(),
            cutovers: history.cutovers.iter().filter(|c| c.at <= k).map(|c| c.to).collect(),
            permitted: here.flat_map(|segment| segment.permitted.iter().copied()).collect(),
            acked: history.first_ack().is_some_and(|ack| ack <= k),
            shared: self.shared.clone(),
        }
    }

    /// The deploy that was under way at a crash point, or the last one before it; the first if there was none yet.
    pub fn deploy_at(&self, k: Seq) -> u32 {
        let at = self.history.deploy_of(k).unwrap_or(0);
        self.history.deploys.get(at).map_or(1, |deploy| deploy.number)
    }

    /// The directories in which releases lie.
    pub(crate) fn release_dirs(&self, k: Seq, scenario: &Scenario) -> Vec<Ino> {
        let mut dirs: Vec<Ino> = Vec::new();
        for release in &self.history.releases {
            let Some((_, above)) = release.path.split_last() else { continue };
            if let End::Dir { ino, .. } = walk_live(self.trace, k, &scenario.mount, above).0
                && !dirs.contains(&ino)
            {
                dirs.push(ino);
            }
        }
        dirs
    }
}

/// The user data that has to stay: as it was before the first deploy, whatever a power loss did to it since.
pub(super) fn shared(trace: &Trace, scenario: &Scenario) -> Option<Golden> {
    if scenario.expect.shared == SharedRule::None {
        return None;
    }
    let found = shared_at(trace, 0, scenario);
    let known = scenario.past.as_ref().and_then(|past| past.shared.clone());
    let golden = match (found, known) {
        // What is there already is compared by its own inodes; what the power loss took is not this run's doing.
        (Some(found), Some(known)) if differs(&found, &known, true) => Some(found),
        (_, Some(known)) => Some(known),
        (found, None) => found,
    };
    golden.filter(|golden| golden.to_tree().len() > 1)
}

fn differs(is: &Golden, should: &Golden, extra_allowed: bool) -> bool {
    tree::difference(&is.to_tree(), &should.to_tree(), extra_allowed).is_some()
}

impl Past {
    /// Puts what is left of the past before a history that begins on the rebooted disk. What the power loss itself has
    /// broken is no fault of that history: it is judged from its first acknowledgement on then, and until there
    /// `current` is as it was found.
    pub(super) fn inherit(&self, history: &mut History, trace: &Trace, scenario: &Scenario) {
        let view = View::live(trace, 0);
        let ends = |path: &[simfs::Name]| walk_live(trace, 0, &scenario.mount, path).0;
        let current = match ends(&scenario.current_path()) {
            End::Dir { ino, .. } => Some(ino),
            _ => None,
        };
        let nothing = ends(&scenario.current_path()) == End::Nothing;
        // The index here of each release there, if it is whole.
        let mut whole: Vec<Option<usize>> = vec![None; self.releases.len()];
        for (at, known) in self.releases.iter().enumerate() {
            let ino = known.golden.ino;
            let there = matches!(ends(&known.path), End::Dir { ino: found, .. } if found == ino);
            if !there && current != Some(ino) {
                continue;
            }
            let Some(found) = Golden::capture(view, ino) else { continue };
            let damaged = differs(&found, &known.golden, false);
            if damaged && current == Some(ino) {
                // Added when it is acknowledged, as it is then.
                continue;
            }
            if !damaged {
                whole[at] = Some(history.releases.len());
            }
            history.releases.push(Release {
                golden: found,
                path: known.path.clone(),
                born: 0,
                wrong: None,
                acked: known.acked.filter(|_| !damaged).map(|_| 0),
            });
        }
        let live = self.releases.iter().position(|known| Some(known.golden.ino) == current);
        let live = live.filter(|at| whole[*at].is_some());
        // A cutover after the one to what is live now was lost with the power.
        let kept = match live.and_then(|live| self.cutovers.iter().rposition(|to| *to == live)) {
            Some(last) => &self.cutovers[..=last],
            None => &self.cutovers[..],
        };
        for to in kept {
            let acked = self.releases[*to].acked.is_some();
            if let (Some(to), true) = (whole[*to], acked || live.is_some()) {
                let from = history.cutovers.last().map(|before| before.to).filter(|from| *from != to);
                history.cutovers.push(Cutover { at: 0, to, from, deploy: None });
            }
        }
        let sound = match live {
            Some(live) => !self.acked || self.permitted.contains(&live),
            None => nothing && !self.acked,
        };
        history.acked_before = sound && self.acked;
        if !sound {
            let first_ack = history.deploys.iter().filter_map(|deploy| deploy.ack).min();
            history.judged_from = first_ack.unwrap_or(Seq::MAX);
        }
        if live.is_none() && !nothing {
            history.as_found = Some(current);
        }
    }
}

impl History {
    /// Whether an end of `current` at op `k` is only what a power loss had left, and no run has reported it as live.
    pub(super) fn is_as_found(&self, k: Seq, end: &End) -> bool {
        let ino = match end {
            End::Dir { ino, .. } => Some(*ino),
            End::Nothing => return false,
            _ => None,
        };
        k < self.judged_from && self.as_found == Some(ino)
    }

    /// When, after op `k`, it has to be looked at again what `current` is, though no op has touched it.
    pub(super) fn turning_point(&self, k: Seq) -> Option<Seq> {
        (self.as_found.is_some() && self.judged_from > k).then_some(self.judged_from)
    }
}
