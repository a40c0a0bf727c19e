//! Which states a deploy can be interrupted in, and which of them look alike.
//!
//! There are far too many crash states to reboot into each. Two states are of one *class* when the deploy tree looks
//! alike in them: `current` leads to the same place, and each entry of the deploy path, down to [`DEPTH`] names but
//! never into a release or into `shared/`, is in the same condition: absent, left over, older, empty, damaged or whole,
//! compared with the live state at that crash point. Names that differ only in digits count as one, and how often a
//! condition is met under one name does not matter. A state that nothing is lost in looks like its live state, and a
//! client that was killed leaves just that; those are of one class when the same names are there, empty or not.
//!
//! This looks and counts. It judges nothing, and what it looks at is a bounded choice, made by a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use fastrand::Rng;
use rustc_hash::{FxHashMap, FxHashSet};
use simfs::{Cell, CrashState, Crashes, EffectId, Ino, Kind, Name, OpKind, ROOT, Seq, Value, View};

use super::golden::join;
use super::walk::{End, States, walk};
use super::{Pasts, Scenario};
use crate::tree::show;

/// How far below the deploy path entries are told apart by themselves.
pub const DEPTH: usize = 3;

/// At each crash point: states of which each free effect has survived by the toss of a coin.
const RANDOM_STATES: usize = 2;
/// Where something becomes durable or is reported: how many free effects are tried alone, and left out alone.
const MOST_SINGLES: usize = 48;

/// Classes of states, each with one of its members.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    /// How many states were looked at.
    pub states: u32,
    /// The member chosen for each class; the key is the class in words.
    pub members: BTreeMap<String, CrashState>,
    /// How many states each class had so far.
    seen: FxHashMap<String, u32>,
}

impl Classes {
    fn add(&mut self, class: String, state: impl FnOnce() -> CrashState, rng: &mut Rng) {
        self.states += 1;
        let seen = self.seen.entry(class.clone()).or_default();
        *seen += 1;
        // Each member is the chosen one with the same probability.
        if *seen == 1 || rng.u32(0..*seen) == 0 {
            self.members.insert(class, state());
        }
    }
}

/// What a survey has found.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// What a power loss can leave.
    pub lost: Classes,
    /// What the death of all processes can leave: the live states.
    pub killed: Classes,
}

/// Under a model in which metadata has no order, looks at the states of a trace from its first deploy on: at each crash point the least one, the whole live state,
/// random ones, each new effect alone with what it requires; and where something becomes durable or is reported, free
/// effects alone and all but one. Nothing after op `until` is looked at, and of more than `most_points` crash points, so many.
pub fn survey(
    crashes: &Crashes<'_>,
    scenario: &Scenario,
    pasts: &Pasts<'_>,
    until: Seq,
    most_points: usize,
    seed: u64,
) -> Survey {
    look_at(Look::new(crashes, scenario, pasts), until, most_points, seed, None)
}

/// The same, but only states are looked at that lack one of these effects at their crash point: what a power loss cannot leave
/// once a sync call has forced them. Beside the other states, each of them is left out alone, all of them are, and some. The
/// member of a class is one that has lost as little as any.
pub fn survey_lacking(
    crashes: &Crashes<'_>,
    scenario: &Scenario,
    pasts: &Pasts<'_>,
    seed: u64,
    lacking: &Lacking<'_>,
) -> Classes {
    let until = crashes.trace().last();
    look_at(Look::new(crashes, scenario, pasts), until, usize::MAX, seed, Some(lacking)).lost
}

/// Whether an effect is one of which a state at that crash point has to lack some.
pub type Lacking<'a> = dyn Fn(EffectId, Seq) -> bool + 'a;

fn look_at(
    mut look: Look<'_>,
    until: Seq,
    most_points: usize,
    seed: u64,
    lacking: Option<&Lacking<'_>>,
) -> Survey {
    let crashes = look.crashes;
    let trace = crashes.trace();
    let first = trace.marks().first().map_or(0, |mark| mark.after);
    let mut points: Vec<Seq> = (first..=until).collect();
    let mut rng = Rng::with_seed(seed);
    if points.len() > most_points {
        rng.shuffle(&mut points);
        points.truncate(most_points);
    }
    let points: FxHashSet<Seq> = points.into_iter().collect();
    let turns: FxHashSet<Seq> = trace.marks().iter().map(|mark| mark.after).collect();
    let mut free: Vec<EffectId> = Vec::new();
    let mut found = Survey::default();
    // Of each class, how many effects its member has lost.
    let mut fewest: FxHashMap<String, usize> = FxHashMap::default();
    for k in 0..=until {
        let op = &trace.ops()[k as usize];
        let new: Vec<EffectId> = op.effects.clone().map(EffectId).collect();
        for id in &new {
            let effect = trace.effect(*id);
            look.newest.insert(effect.cell, *id);
            if let (Cell::Entry(dir, _), Value::Entry(Some(child))) = (trace.cell(effect.cell), &effect.value)
            {
                look.parents.insert(*child, *dir);
            }
        }
        free.extend(new.iter().copied());
        free.retain(|effect| crashes.forced_at(*effect) > k);
        let to_lack: Option<Vec<EffectId>> =
            lacking.map(|is| free.iter().copied().filter(|effect| is(*effect, k)).collect());
        if !points.contains(&k) || to_lack.as_ref().is_some_and(Vec::is_empty) {
            continue;
        }
        let live = look.live(k);
        found.killed.add(
            live.words.clone(),
            || CrashState { at: k, chain: 0, extra: free.clone() },
            &mut rng,
        );
        let mut states = vec![Vec::new(), free.clone()];
        for _ in 0..RANDOM_STATES {
            let odds = rng.f64();
            states.push(free.iter().copied().filter(|_| rng.f64() < odds).collect());
        }
        let mut alone: Vec<EffectId> = new.iter().copied().filter(|e| crashes.forced_at(*e) > k).collect();
        let next = trace.ops().get(k as usize + 1);
        if turns.contains(&k) || next.is_none_or(|op| matches!(op.kind, OpKind::Sync { .. })) {
            let mut singles = free.clone();
            rng.shuffle(&mut singles);
            singles.truncate(MOST_SINGLES);
            for left_out in &singles {
                states.push(free.iter().copied().filter(|effect| effect != left_out).collect());
            }
            alone.extend(singles);
        }
        if let Some(to_lack) = &to_lack {
            let without = |gone: &[EffectId]| free.iter().copied().filter(|e| !gone.contains(e)).collect();
            states.push(without(to_lack));
            states.extend(to_lack.iter().take(MOST_SINGLES).map(|gone| without(&[*gone])));
            for _ in 0..RANDOM_STATES {
                let gone: Vec<EffectId> = to_lack.iter().copied().filter(|_| rng.bool()).collect();
                states.push(without(&gone));
            }
        }
        for effect in alone {
            let pin = (trace.effect(effect).cell, Some(effect));
            states.extend(crashes.feasible(k, &[pin]).map(|state| state.extra));
        }
        for mut extra in states {
            keep_closed(crashes, k, &mut extra);
            let has_all = |to_lack: &Vec<EffectId>| to_lack.iter().all(|e| extra.binary_search(e).is_ok());
            if to_lack.as_ref().is_some_and(has_all) {
                continue;
            }
            let state = CrashState { at: k, chain: 0, extra };
            let class = look.class(&state, &free, &live);
            let lost = free.len() - state.extra.len();
            if lacking.is_none() {
                found.lost.add(class, || state, &mut rng);
                continue;
            }
            found.lost.states += 1;
            if fewest.get(&class).is_none_or(|fewest| lost < *fewest) {
                fewest.insert(class.clone(), lost);
                found.lost.members.insert(class, state);
            }
        }
    }
    found
}

/// Takes out effects until all that the rest requires is there: a name requires that its inode exists.
fn keep_closed(crashes: &Crashes<'_>, k: Seq, extra: &mut Vec<EffectId>) {
    let trace = crashes.trace();
    let all = extra.clone();
    extra.retain(|effect| match trace.effect(*effect).value {
        Value::Entry(Some(child)) => {
            let birth = trace.cell_id(&Cell::Inode(child)).map(|cell| trace.versions(cell));
            let there = |birth: &EffectId| crashes.forced_at(*birth) <= k || all.binary_search(birth).is_ok();
            birth.is_none_or(|births| births.iter().all(there))
        }
        _ => true,
    });
}

/// What is needed to look at states in the order of the trace.
struct Look<'a> {
    crashes: &'a Crashes<'a>,
    scenario: &'a Scenario,
    pasts: &'a Pasts<'a>,
    /// The directory in which each inode was last given a name.
    parents: FxHashMap<Ino, Ino>,
    /// The newest effect of each cell.
    newest: FxHashMap<simfs::CellId, EffectId>,
}

/// A live state.
struct Live {
    /// The directories in which releases lie.
    closed: Vec<Ino>,
    /// Entries that are not looked into: their inodes.
    leaves: FxHashSet<Ino>,
    /// Directories that are.
    listed: FxHashSet<Ino>,
    /// Its class.
    words: String,
}

/// One name of a deploy tree, in a state and in the live state there.
struct Entry {
    path: Vec<u8>,
    is: Option<Ino>,
    live: Option<Ino>,
    leaf: bool,
}

impl<'a> Look<'a> {
    fn new(crashes: &'a Crashes<'a>, scenario: &'a Scenario, pasts: &'a Pasts<'a>) -> Self {
        Self { crashes, scenario, pasts, parents: FxHashMap::default(), newest: FxHashMap::default() }
    }
}

impl Look<'_> {
    fn top(&self, view: View<'_>) -> Option<Ino> {
        let ways = walk(States::Live(view), &self.scenario.mount, &self.scenario.deploy_path);
        ways.into_iter().find_map(|way| match way.end {
            End::Dir { ino, .. } => Some(ino),
            _ => None,
        })
    }

    fn current(&self, view: View<'_>) -> String {
        let ways = walk(States::Live(view), &self.scenario.mount, &self.scenario.current_path());
        match ways.into_iter().next().map(|way| way.end) {
            Some(End::Dir { path, .. }) => pattern(&path.join(&b'/')),
            Some(End::File { .. }) => "a file".to_owned(),
            Some(End::Elsewhere(what)) => what.to_owned(),
            Some(End::Nothing) | None => "nothing".to_owned(),
        }
    }

    fn live(&self, k: Seq) -> Live {
        let view = View::live(self.crashes.trace(), k);
        let closed = self.pasts.release_dirs(k, self.scenario);
        let mut entries = Vec::new();
        Self::list(view, view, [self.top(view); 2], (b"", 1), &closed, &mut entries);
        let (mut leaves, mut listed) = (FxHashSet::default(), FxHashSet::default());
        listed.extend(self.top(view));
        let mut lines: BTreeSet<String> = BTreeSet::new();
        for entry in entries {
            let Some(ino) = entry.live else { continue };
            if entry.leaf {
                leaves.insert(ino)
            } else {
                listed.insert(ino)
            };
            let what = if is_empty(view, ino) { "empty" } else { "there" };
            lines.insert(format!("{} {what}", pattern(&entry.path)));
        }
        Live { closed, leaves, listed, words: words(&self.current(view), lines) }
    }

    fn class(&self, state: &CrashState, free: &[EffectId], live: &Live) -> String {
        let trace = self.crashes.trace();
        let (is, at) = (View::crash(self.crashes, state), View::live(trace, state.at));
        let mut damaged: FxHashSet<Ino> = FxHashSet::default();
        let mut survivors = state.extra.iter().peekable();
        for effect in free {
            if survivors.next_if_eq(&effect).is_some() {
                continue;
            }
            let cell = trace.effect(*effect).cell;
            if self.newest.get(&cell) == Some(effect)
                && let Some(leaf) = self.leaf_of(trace.cell(cell).ino(), live)
            {
                damaged.insert(leaf);
            }
        }
        let mut entries = Vec::new();
        Self::list(is, at, [self.top(is), self.top(at)], (b"", 1), &live.closed, &mut entries);
        let mut lines: BTreeSet<String> = BTreeSet::new();
        for entry in entries {
            let what = match (entry.is, entry.live) {
                (None, _) => "absent",
                (Some(_), None) => "left over",
                (Some(is), Some(live)) if is != live => "older",
                (Some(ino), _) if damaged.contains(&ino) && is_empty(is, ino) && !is_empty(at, ino) => {
                    "empty"
                }
                (Some(ino), _) if damaged.contains(&ino) => "damaged",
                _ => "whole",
            };
            lines.insert(format!("{} {what}", pattern(&entry.path)));
        }
        words(&self.current(is), lines)
    }

    /// The entry that is not looked into and holds an inode.
    fn leaf_of(&self, mut ino: Ino, live: &Live) -> Option<Ino> {
        for _ in 0..512 {
            if live.leaves.contains(&ino) {
                return Some(ino);
            }
            if ino == ROOT || live.listed.contains(&ino) {
                return None;
            }
            ino = *self.parents.get(&ino)?;
        }
        None
    }

    /// The names below a directory, in either state.
    fn list(
        is: View<'_>,
        live: View<'_>,
        [dir_is, dir_live]: [Option<Ino>; 2],
        (above, depth): (&[u8], usize),
        closed: &[Ino],
        into: &mut Vec<Entry>,
    ) {
        let names_in = |view: View<'_>, dir: Option<Ino>| -> Vec<Name> {
            dir.into_iter().flat_map(|dir| view.entries(dir)).map(|(name, _)| name.clone()).collect()
        };
        let names: BTreeSet<Name> =
            names_in(is, dir_is).into_iter().chain(names_in(live, dir_live)).collect();
        for name in names {
            let child = |view: View<'_>, dir: Option<Ino>| dir.and_then(|dir| view.entry(dir, &name));
            let (now, then) = (child(is, dir_is), child(live, dir_live));
            let path = join(above, &name);
            let same_dir = now.is_some()
                && now == then
                && now.and_then(|ino| is.birth(ino)).is_some_and(|birth| birth.kind == Kind::Dir);
            let is_release = dir_live.is_some_and(|dir| closed.contains(&dir));
            let leaf = !same_dir || depth == DEPTH || is_release || path == b"shared";
            into.push(Entry { path: path.clone(), is: now, live: then, leaf });
            if !leaf {
                Self::list(is, live, [now, then], (&path, depth + 1), closed, into);
            }
        }
    }
}

fn is_empty(view: View<'_>, ino: Ino) -> bool {
    match view.birth(ino).map(|birth| birth.kind) {
        Some(Kind::Dir) => view.entries(ino).next().is_none(),
        Some(Kind::File) => view.size_bytes(ino) == 0,
        Some(Kind::Symlink) => view.target(ino).is_empty(),
        _ => false,
    }
}

/// A path in which each number is `#`.
fn pattern(path: &[u8]) -> String {
    let mut out = String::new();
    for c in show(path).chars() {
        match c {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            c => out.push(c),
        }
    }
    out
}

fn words(current: &str, lines: BTreeSet<String>) -> String {
    let mut text = format!("current leads to {current}");
    for line in lines {
        let _ = write!(text, "; {line}");
    }
    text
}
