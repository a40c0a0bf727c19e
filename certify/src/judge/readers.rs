//! Readers, interleaved with a deploy at every operation: `readers_whole`.
//!
//! Three readers, each of which may start after any op and read each path after any later op:
//!
//! - *once*: resolves `current` to a real path (realpath(3)), then reads each file of the release by that path. This is
//!   also what a single lookup of `current/FILE` is when looked at closely: the link is read at one instant and the
//!   rest is looked up later.
//! - *held*: opens the directory that `current` resolves to, then reads each file from that directory, wherever it is.
//! - *each*: goes through `current` for each file.
//!
//! The first two have to find in each place what their release had there when it went live: the same bytes, mode and
//! type, and nothing where it had nothing. The one exception is a *lawful prune* of that release: an op that takes
//! something out of it while it is neither live nor promised to stay (by retention, or as the release before the live
//! one), in a deploy at whose end it is gone, and not live in between; after one that fails, the next that succeeds may
//! finish it. From that op on something may be missing, until
//! the release is whole again. It may never be something else: a prune that overwrites before it removes, or a release
//! name that comes to mean another tree, is a mixed view. The third reader has to find a file of a permitted release, or
//! nothing where that release has nothing; that its files come from different releases across a cutover is counted, and
//! is no fault.
//!
//! Reads are independent of each other, so no interleaving has to be enumerated: a reader of a release can go wrong if,
//! and only if, at some instant after the release was first live one place of its tree is wrong. That takes one pass over
//! the effects on changed releases, and one walk for each change on the way to a release's path.

mod passes;
mod places;

use std::collections::BTreeMap;

use serde::Serialize;
use simfs::{Ino, Name, Seq, Trace, View};

use super::golden::{Body, Golden};
use super::history::{Current, History, RemovedBy};
use super::live::Changes;
use super::protect::Protected;
use super::walk::{End, walk_live};
use super::words::Words;
use super::{Counterexample, Scenario, Verdict};
use crate::readers::Passes;
use crate::tree::{self, Difference};
pub use passes::Tally;
use places::{Holders, Places};

/// How much the verdict about readers covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Readers {
    /// Combinations of the instant at which a reader resolved `current` or opened its directory, the instant at which
    /// it read, and the path: each of them was decided.
    pub interleavings: u64,
    /// Lookups through `current`, one for each path of the live release at each instant: each of them was decided.
    pub lookups: u64,
    /// Switches from one release to another: at each of them a reader that goes through `current` for each file may
    /// get files of both.
    pub mixes: u64,
    /// What readers as processes found; none if there were none.
    pub processes: Option<Tally>,
}

impl Readers {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            interleavings: self.interleavings.saturating_add(other.interleavings),
            lookups: self.lookups.saturating_add(other.lookups),
            mixes: self.mixes.saturating_add(other.mixes),
            processes: match (self.processes, other.processes) {
                (Some(mine), Some(theirs)) => Some(mine.and(theirs)),
                (mine, theirs) => mine.or(theirs),
            },
        }
    }
}

/// What was decided.
pub(crate) struct Decided {
    /// The first interleaving that breaks the promise.
    pub(crate) found: Option<Counterexample>,
    pub(crate) readers: Readers,
    /// For each release, the first op of its first lawful prune.
    pub(crate) prunes: Vec<Option<Seq>>,
}

/// Decides the promise over all interleavings.
pub(crate) fn decide(
    trace: &Trace,
    scenario: &Scenario,
    history: &History,
    changes: &Changes,
    protected: &[Protected],
) -> Decided {
    let resolved = resolved(trace, scenario, history);
    let mut pass = Pass {
        trace,
        scenario,
        history,
        protected,
        resolved: &resolved,
        watches: Vec::new(),
        holders: Holders::default(),
        agenda: BTreeMap::new(),
        faults: through_current(trace, history),
        prunes: vec![None; history.releases.len()],
    };
    pass.prepare(changes);
    pass.run();
    let first = pass.faults.iter().min_by_key(|fault| fault.at);
    let found = first
        .map(|fault| Counterexample::at(fault.at, pass.interleaving(fault, &Words::new(trace, scenario))));
    Decided { found, readers: count(trace, history, &resolved), prunes: pass.prunes }
}

/// Judges what readers as processes found, and notes how much that was.
pub(crate) fn judge_passes(
    passes: &Passes,
    trace: &Trace,
    scenario: &Scenario,
    history: &History,
    decided: &mut Decided,
) -> Verdict {
    let (verdict, tally) = passes::judge(passes, history, decided, &Words::new(trace, scenario));
    decided.readers.processes = Some(tally);
    verdict
}

/// From an op on, until the next of these: which release `current` resolves to, and by which path.
struct Resolved {
    from: Seq,
    to: Option<(usize, Vec<Name>)>,
}

fn resolved(trace: &Trace, scenario: &Scenario, history: &History) -> Vec<Resolved> {
    let ends = ends(trace, scenario, &scenario.current_path(), 0);
    let mut changes: Vec<Seq> = ends.iter().map(|end| end.0).collect();
    changes.extend(history.current.iter().map(|current| current.0));
    changes.sort_unstable();
    changes.dedup();
    let to = |k| match (history.current_at(k), &ends[ends.partition_point(|end| end.0 <= k) - 1].1) {
        (Current::Release(release), End::Dir { path, .. }) => Some((*release, path.clone())),
        _ => None,
    };
    changes.into_iter().map(|from| Resolved { from, to: to(from) }).collect()
}

/// Where a path leads from op `from` on, with each op after which that is something else.
fn ends(trace: &Trace, scenario: &Scenario, path: &[Name], from: Seq) -> Vec<(Seq, End)> {
    let mut ends: Vec<(Seq, End)> = Vec::new();
    let mut at = Some(from);
    while let Some(k) = at {
        let (end, cells) = walk_live(trace, k, &scenario.mount, path);
        // As long as none of the cells on the way changes, the path leads there.
        let next = |cell| {
            let versions = trace.versions(trace.cell_id(cell)?);
            let later = versions.partition_point(|effect| trace.effect(*effect).seq <= k);
            versions.get(later).map(|effect| trace.effect(*effect).seq)
        };
        at = cells.iter().filter_map(next).min();
        if ends.last().is_none_or(|(_, before)| *before != end) {
            ends.push((k, end));
        }
    }
    ends
}

/// Which readers go wrong.
#[derive(Clone, Debug)]
enum Who {
    /// Whoever goes through `current` at this instant.
    Each,
    /// Whoever resolved `current` to this path before.
    Once(Vec<Name>),
    /// Whoever opened the directory before.
    Held,
}

/// A read that goes wrong.
#[derive(Clone, Debug)]
struct Fault {
    at: Seq,
    who: Who,
    /// Which release the reader is in; none if `current` leads to none.
    release: Option<usize>,
    what: String,
    /// Why something may not be missing.
    why: Option<&'static str>,
}

/// What readers that go through `current` find wrong, besides changes in a release.
fn through_current(trace: &Trace, history: &History) -> Vec<Fault> {
    let first_ack = history.first_ack();
    let fault = |at, release, what| Some(Fault { at, who: Who::Each, release, what, why: None });
    let stretches = history.current.iter().enumerate();
    let found = stretches.filter_map(|(at, (from, current))| {
        let until = history.current.get(at + 1).map_or(trace.last(), |next| next.0 - 1);
        match current {
            Current::Release(release) => {
                let known = &history.releases[*release];
                let permitted = history.permitted_from(*release);
                if let Some(wrong) = &known.wrong {
                    fault(*from, Some(*release), wrong.to_string())
                } else if permitted.is_none_or(|first| first > *from) {
                    fault(*from, Some(*release), "no deploy had put it there yet".to_owned())
                } else {
                    None
                }
            }
            // Before the first acknowledgement nothing is what is permitted.
            Current::Nothing => {
                let ack = first_ack.filter(|ack| *ack <= until)?;
                fault(ack.max(*from), None, "nothing".to_owned())
            }
            Current::Elsewhere(what) => fault(*from, None, (*what).to_owned()),
            Current::AsFound => None,
        }
    });
    found.collect()
}

/// Readers of one release, by path or by directory.
struct Watch<'a> {
    release: usize,
    /// The path that was resolved; none for those that hold the directory.
    path: Option<Vec<Name>>,
    /// None as long as the readers find the directory of the release itself, and with it what those find that hold it.
    places: Option<Places<'a>>,
    /// A lawful prune has begun.
    pruned: bool,
    /// Something was found wrong; one is enough.
    done: bool,
}

/// What happens besides effects.
enum Event {
    /// A release changed for the first time.
    Changed(usize),
    /// The path of a watch leads elsewhere now; to this inode, or nowhere.
    Leads(usize, Option<Ino>),
    /// A release is live from here on.
    Live(usize),
}

struct Pass<'a> {
    trace: &'a Trace,
    scenario: &'a Scenario,
    history: &'a History,
    protected: &'a [Protected],
    resolved: &'a [Resolved],
    /// First those that hold a directory, one for each release in the order of the releases; then those by path.
    watches: Vec<Watch<'a>>,
    holders: Holders,
    agenda: BTreeMap<Seq, Vec<Event>>,
    faults: Vec<Fault>,
    prunes: Vec<Option<Seq>>,
}

impl<'a> Pass<'a> {
    /// Makes the watches, and the agenda. Releases that never change and never move cost nothing.
    fn prepare(&mut self, changes: &Changes) {
        let watch = |release, path| Watch { release, path, places: None, pruned: false, done: false };
        for (release, change) in changes.releases.iter().enumerate() {
            self.watches.push(watch(release, None));
            // A release of before a reboot has no readers until `current` resolves to it again.
            let is_it = |resolved: &&Resolved| resolved.to.as_ref().is_some_and(|(to, _)| *to == release);
            if let (Some(change), Some(first)) = (change, self.resolved.iter().find(is_it)) {
                self.agenda.entry(change.at.max(first.from)).or_default().push(Event::Changed(release));
            }
        }
        for at in 0..self.resolved.len() {
            let Resolved { from, to: Some((release, path)) } = &self.resolved[at] else { continue };
            self.agenda.entry(*from).or_default().push(Event::Live(*release));
            let seen = |watch: &Watch<'_>| watch.release == *release && watch.path.as_ref() == Some(path);
            if self.watches.iter().any(seen) {
                continue;
            }
            let id = self.watches.len();
            self.watches.push(watch(*release, Some(path.clone())));
            for (k, end) in ends(self.trace, self.scenario, path, *from).into_iter().skip(1) {
                let to = match end {
                    End::Dir { ino, .. } | End::File { ino } => Some(ino),
                    End::Nothing | End::Elsewhere(_) => None,
                };
                self.agenda.entry(k).or_default().push(Event::Leads(id, to));
            }
        }
    }

    fn run(&mut self) {
        let Some((first, _)) = self.agenda.first_key_value() else { return };
        for k in *first..=self.trace.last() {
            let mut touched: Vec<usize> = Vec::new();
            self.effects(k, &mut touched);
            for event in self.agenda.remove(&k).unwrap_or_default() {
                touched.push(self.event(k, &event));
            }
            if self.holders.is_empty() && touched.is_empty() && self.agenda.is_empty() {
                break;
            }
            touched.sort_unstable();
            touched.dedup();
            // Those that hold a directory come first: whoever comes by path relies on what was found out about them.
            for watch in touched {
                self.look(watch, k);
            }
        }
    }

    fn effects(&mut self, k: Seq, touched: &mut Vec<usize>) {
        if self.holders.is_empty() {
            return;
        }
        let view = View::live(self.trace, k);
        for effect in self.trace.ops()[k as usize].effects.clone() {
            let cell = self.trace.cell(self.trace.effects()[effect as usize].cell);
            let Some(held) = self.holders.get(&cell.ino()) else { continue };
            for (watch, place) in held.clone() {
                if let (false, Some(places)) = (self.watches[watch].done, &mut self.watches[watch].places) {
                    places.effect(place, cell, view, &mut self.holders);
                    touched.push(watch);
                }
            }
        }
    }

    /// Returns the watch that it is about.
    fn event(&mut self, k: Seq, event: &Event) -> usize {
        let (id, root) = match event {
            Event::Live(release) => return *release,
            Event::Changed(release) => (*release, Some(self.golden(*release).ino)),
            Event::Leads(watch, root) => (*watch, *root),
        };
        let release = self.watches[id].release;
        let pruned = self.watches[release].pruned;
        let golden = self.golden(release);
        let watch = &mut self.watches[id];
        let view = View::live(self.trace, k);
        if watch.path.is_some() && root == Some(golden.ino) {
            // Back where those are that hold it.
            if let Some(mut places) = watch.places.take() {
                places.set_root(None, view, &mut self.holders);
            }
            return id;
        }
        if watch.path.is_some() && watch.places.is_none() {
            watch.pruned = pruned;
        }
        let places = watch.places.get_or_insert_with(|| Places::new(id, golden));
        places.set_root(root, view, &mut self.holders);
        id
    }

    fn golden(&self, release: usize) -> &'a Golden {
        &self.history.releases[release].golden
    }

    /// Judges what the readers of a watch find after op `k`.
    fn look(&mut self, id: usize, k: Seq) {
        let watch = &self.watches[id];
        let Some(places) = watch.places.as_ref().filter(|_| !watch.done) else { return };
        let release = watch.release;
        let fault = |what: String, why| {
            let who = watch.path.clone().map_or(Who::Held, Who::Once);
            Fault { at: k, who, release: Some(release), what, why }
        };
        let mut pruned = watch.pruned;
        let found = if let Some(wrong) = places.wrong() {
            Some(fault(wrong.to_string(), None))
        } else if !places.is_something_missing() {
            pruned = false;
            None
        } else {
            // A reader may start now, whatever began before.
            let live = watch.path.is_none() && *self.history.current_at(k) == Current::Release(release);
            let unlawful = if live {
                Some(LIVE)
            } else if pruned {
                None
            } else {
                self.unlawful(release, k)
            };
            pruned = unlawful.is_none();
            let missing = || Difference { path: places.first_missing(), what: "is missing".to_owned() };
            unlawful.map(|why| fault(missing().to_string(), Some(why)))
        };
        if pruned && self.prunes[release].is_none() {
            self.prunes[release] = Some(k);
        }
        let watch = &mut self.watches[id];
        watch.pruned = pruned;
        watch.done = found.is_some();
        self.faults.extend(found);
    }

    /// Why an op that takes something out of a release does not begin a lawful prune.
    fn unlawful(&self, release: usize, at: Seq) -> Option<&'static str> {
        if self.protected.iter().any(|p| p.release == release && p.window.lo <= at && at <= p.window.hi) {
            return Some(PROMISED);
        }
        let Some(by) = self.history.removed_by(at, self.scenario) else {
            return Some("no deploy was running");
        };
        let end = by.until(self.trace.last());
        let stretches = self.history.current.iter().enumerate();
        let live =
            stretches.filter(|(_, (_, current))| *current == Current::Release(release)).any(|(n, _)| {
                let until = self.history.current.get(n + 1).map_or(self.trace.last(), |next| next.0 - 1);
                self.history.current[n].0 <= end && at <= until
            });
        if live {
            return Some(LIVE);
        }
        let ino = self.golden(release).ino;
        let paths = self.watches.iter().filter(|watch| watch.release == release);
        let there = paths.filter_map(|watch| watch.path.as_ref()).any(|path| {
            let end = walk_live(self.trace, end, &self.scenario.mount, path).0;
            matches!(end, End::Dir { ino: found, .. } if found == ino)
        });
        (there && by != RemovedBy::Open).then_some("it is still there when the deploy ends")
    }

    /// An interleaving in words: what the reader did, in order.
    fn interleaving(&self, fault: &Fault, words: &Words<'_>) -> Vec<String> {
        let now = words.op(fault.at);
        let Some(release) = fault.release else {
            return vec![
                format!("a reader that goes through `current` for each file, after {now}:"),
                format!("`current` resolves to {}", fault.what),
            ];
        };
        let name = self.history.releases[release].name();
        let path = match &fault.who {
            Who::Each => {
                return vec![
                    format!("a reader that goes through `current` for each file, after {now}:"),
                    format!("`current` resolves to {name}, in which {}", fault.what),
                ];
            }
            Who::Once(path) => Some(path),
            Who::Held => None,
        };
        // The last moment at which such a reader could start: before this op if possible.
        let mut starts = self.resolved.iter().enumerate().filter_map(|(at, resolved)| {
            let (to, by) = resolved.to.as_ref()?;
            let until = self.resolved.get(at + 1).map_or(self.trace.last(), |next| next.from - 1);
            let fits = *to == release && path.is_none_or(|path| path == by) && resolved.from <= fault.at;
            fits.then(|| (until.min(fault.at.saturating_sub(1)).max(resolved.from), by))
        });
        let (start, by) = starts.next_back().unwrap_or((fault.at, &self.history.releases[release].path));
        let by: String =
            self.scenario.mount.iter().chain(by).map(|name| format!("/{}", tree::show(name))).collect();
        let then = words.op(start);
        let mut lines = match &fault.who {
            Who::Once(_) => vec![
                format!("a reader resolves `current` to {by} after {then},"),
                format!("and reads below that path after {now}: {}", fault.what),
            ],
            _ => vec![
                format!("a reader opens {by}, to which `current` resolves, after {then},"),
                format!("and reads from that directory after {now}: {}", fault.what),
            ],
        };
        lines.extend(fault.why.map(|why| format!("this is no lawful prune of {name}: {why}")));
        lines
    }
}

const LIVE: &str = "it is live";
const PROMISED: &str = "it is promised to stay";

/// How much was decided.
fn count(trace: &Trace, history: &History, resolved: &[Resolved]) -> Readers {
    let sizes: Vec<u64> = history.releases.iter().map(|release| paths(&release.golden)).collect();
    let last = u64::from(trace.last());
    let mut readers = Readers { mixes: 0, ..Readers::default() };
    for (at, stretch) in resolved.iter().enumerate() {
        let Some((release, _)) = &stretch.to else { continue };
        let lo = u64::from(stretch.from);
        let hi = resolved.get(at + 1).map_or(last, |next| u64::from(next.from) - 1);
        let (instants, size) = (hi - lo + 1, sizes[*release]);
        // For each start in the stretch, all instants from there to the end; by path and by directory.
        let pairs = instants.saturating_mul((last - lo + 1) + (last - hi + 1));
        readers.interleavings = readers.interleavings.saturating_add(pairs.saturating_mul(size));
        readers.lookups = readers.lookups.saturating_add(instants.saturating_mul(size));
    }
    readers.mixes = history.cutovers.iter().filter(|cutover| cutover.from.is_some()).count() as u64;
    readers
}

fn paths(golden: &Golden) -> u64 {
    match &golden.body {
        Body::Dir { entries, .. } => 1 + entries.values().map(paths).sum::<u64>(),
        _ => 1,
    }
}
