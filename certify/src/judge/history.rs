//! What happened in a trace, in terms of deploys: who went live when, and what was permitted when.
//!
//! Read off the live states alone. This is bookkeeping; whether a promise holds is decided elsewhere.

use rustc_hash::FxHashMap;
use simfs::trace::OpKind;
use simfs::{CellId, Ino, MarkKind, Name, Seq, Trace, Value, View, Window};

use super::Scenario;
use super::expect::{Expected, complaint, link_complaint, shared_names};
use super::golden::Golden;
use super::walk::{End, next_change, walk_live};
use crate::tree::Difference;

/// One run of the tool.
#[derive(Clone, Debug)]
pub(crate) struct Deploy {
    pub(crate) number: u32,
    /// The last op before it began.
    pub(crate) begin: Seq,
    /// The last op before it first reported that it is live.
    pub(crate) ack: Option<Seq>,
    /// The last op before it ended.
    pub(crate) end: Option<DeployEnd>,
    /// The last op before the next deploy began.
    pub(crate) until: Seq,
}

/// How a run of the tool ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeployEnd {
    pub(crate) at: Seq,
    pub(crate) ok: bool,
    pub(crate) cleanup_pending: bool,
}

/// When the removal of a release has to be through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RemovedBy {
    /// When this op has happened.
    Op(Seq),
    /// By a deploy that this history does not have any more.
    Open,
}

impl RemovedBy {
    /// The last op at which it may still be under way. `last` is that of the trace.
    pub(crate) fn until(self, last: Seq) -> Seq {
        match self {
            Self::Op(at) => at,
            Self::Open => last,
        }
    }
}

/// A directory that `current` resolved to at some instant.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    pub(crate) golden: Golden,
    /// Where it was when it went live, from the root of the disk.
    pub(crate) path: Vec<Name>,
    /// The op that made it live.
    pub(crate) born: Seq,
    /// How it differed from what its deploy should have put live.
    pub(crate) wrong: Option<Difference>,
    /// When it was first acknowledged.
    pub(crate) acked: Option<Seq>,
}

impl Release {
    /// For people: the path below the deploy path.
    pub(crate) fn name(&self) -> String {
        let from = self.path.len().saturating_sub(2);
        let names: Vec<_> = self.path[from..].iter().map(|name| crate::tree::show(name)).collect();
        names.join("/")
    }
}

/// What `current` resolves to, from an op on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Current {
    Release(usize),
    Nothing,
    Elsewhere(&'static str),
    /// What a power loss before this history had left there, and is not a whole release.
    AsFound,
}

/// A switch from one directory to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cutover {
    pub(crate) at: Seq,
    pub(crate) to: usize,
    pub(crate) from: Option<usize>,
    /// Index of the deploy it happened in.
    pub(crate) deploy: Option<usize>,
}

/// A stretch of crash points with one permitted set. Stretches meet at marks: the op before a mark is in both, so a
/// state there has to be permitted by both.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) window: Window,
    /// Releases.
    pub(crate) permitted: Vec<usize>,
    /// Something was acknowledged before.
    pub(crate) acked: bool,
}

/// All of it.
pub(crate) struct History {
    pub(crate) deploys: Vec<Deploy>,
    pub(crate) releases: Vec<Release>,
    pub(crate) cutovers: Vec<Cutover>,
    /// Changes of `current`, ascending; the first is at op 0.
    pub(crate) current: Vec<(Seq, Current)>,
    pub(crate) segments: Vec<Segment>,
    /// Acknowledgements of something that is not what was deployed.
    pub(crate) false_acks: Vec<(Seq, u32, String)>,
    /// Something was acknowledged before op 0, and the power loss before it has not taken it.
    pub(crate) acked_before: bool,
    /// The first crash point that this history answers for: 0, unless it began with what was already broken.
    pub(crate) judged_from: Seq,
    /// Where `current` led at op 0, if not to a whole release or to nothing: a directory, or something else.
    #[allow(clippy::option_option, reason = "whether there was something, and whether it was a directory")]
    pub(crate) as_found: Option<Option<simfs::Ino>>,
}

impl History {
    /// Reads the history off a trace.
    pub(crate) fn new(trace: &Trace, scenario: &Scenario) -> Self {
        let mut history = Self {
            deploys: deploys(trace),
            releases: Vec::new(),
            cutovers: Vec::new(),
            current: Vec::new(),
            segments: Vec::new(),
            false_acks: Vec::new(),
            acked_before: false,
            judged_from: 0,
            as_found: None,
        };
        if let Some(past) = &scenario.past {
            past.inherit(&mut history, trace, scenario);
        }
        history.follow_current(trace, scenario);
        history.judge_acks(trace, scenario);
        history.segments = history.permissions(trace);
        history
    }

    /// The deploy during which, or after which, an op happened.
    pub(crate) fn deploy_of(&self, k: Seq) -> Option<usize> {
        self.deploys.partition_point(|deploy| deploy.begin < k).checked_sub(1)
    }

    /// The op by which a release has to be gone that began to go at op `at`, if that is to be its removal: the end of the
    /// deploy that this happens in. One that was killed or cut off cannot finish what it began, and one may report that it
    /// could not; then it is the end of the next deploy that succeeds and does not report the same. `None` if no deploy
    /// was running.
    pub(crate) fn removed_by(&self, at: Seq, scenario: &Scenario) -> Option<RemovedBy> {
        let index = self.deploy_of(at)?;
        let deploy = &self.deploys[index];
        let Some(end) = deploy.end else { return Some(RemovedBy::Op(deploy.until)) };
        let is_done = |end: &DeployEnd| end.ok && !end.cleanup_pending;
        if is_done(&end) {
            return Some(RemovedBy::Op(end.at.max(at)));
        }
        let later =
            self.deploys[index + 1..].iter().filter(|deploy| scenario.deploys_something(deploy.number));
        let next = later.filter_map(|deploy| deploy.end).find(is_done);
        Some(next.map_or(RemovedBy::Open, |end| RemovedBy::Op(end.at)))
    }

    /// The first op after which a release that had been live has no name any more, and which release that is.
    pub(crate) fn first_removal(&self, trace: &Trace) -> Option<(Seq, usize)> {
        let known: FxHashMap<Ino, usize> =
            self.releases.iter().enumerate().map(|(at, release)| (release.golden.ino, at)).collect();
        let mut named: FxHashMap<CellId, Ino> = FxHashMap::default();
        for (seq, op) in (0..).zip(trace.ops()) {
            let mut lost = Vec::new();
            for effect in &trace.effects()[op.effects.start as usize..op.effects.end as usize] {
                let Value::Entry(now) = effect.value else { continue };
                let before = match now.filter(|ino| known.contains_key(ino)) {
                    Some(ino) => named.insert(effect.cell, ino),
                    None => named.remove(&effect.cell),
                };
                lost.extend(before);
            }
            // One that was renamed has another name.
            let born = |ino: &Ino| self.releases[known[ino]].born;
            let gone = |ino: &&Ino| born(ino) < seq && !named.values().any(|named| named == *ino);
            if let Some(ino) = lost.iter().find(gone) {
                return Some((seq, known[ino]));
            }
        }
        None
    }

    /// What `current` resolves to after op `k`.
    pub(crate) fn current_at(&self, k: Seq) -> &Current {
        let upto = self.current.partition_point(|(at, _)| *at <= k);
        upto.checked_sub(1).map_or(&Current::Nothing, |at| &self.current[at].1)
    }

    /// The first crash point at which a release is permitted.
    pub(crate) fn permitted_from(&self, release: usize) -> Option<Seq> {
        self.segments.iter().find(|s| s.permitted.contains(&release)).map(|s| s.window.lo)
    }

    /// The same for all releases.
    pub(crate) fn permitted_from_all(&self) -> Vec<Option<Seq>> {
        let mut from = vec![None; self.releases.len()];
        for segment in &self.segments {
            for release in &segment.permitted {
                from[*release] = from[*release].or(Some(segment.window.lo));
            }
        }
        from
    }

    /// The first acknowledgement of all.
    pub(crate) fn first_ack(&self) -> Option<Seq> {
        if self.acked_before {
            return Some(0);
        }
        self.deploys.iter().filter_map(|deploy| deploy.ack).min()
    }

    fn follow_current(&mut self, trace: &Trace, scenario: &Scenario) {
        let path = scenario.current_path();
        let mut live: Option<usize> = None;
        let mut roots: FxHashMap<Ino, usize> =
            self.releases.iter().enumerate().map(|(at, release)| (release.golden.ino, at)).collect();
        // As long as none of the cells on the way changes, the path leads where it led.
        let mut next = Some(0);
        while let Some(k) = next {
            let (end, cells) = walk_live(trace, k, &scenario.mount, &path);
            let turn = self.turning_point(k).filter(|turn| *turn <= trace.last());
            next = next_change(trace, &cells, k).into_iter().chain(turn).min();
            let now = match end {
                _ if self.is_as_found(k, &end) => Current::AsFound,
                End::Dir { ino, path } => {
                    let known = roots.get(&ino).copied();
                    let to = known.unwrap_or_else(|| self.add_release(trace, scenario, k, ino, path));
                    roots.insert(ino, to);
                    if live != Some(to) && k > 0 {
                        let deploy = self.deploy_of(k);
                        self.cutovers.push(Cutover { at: k, to, from: live, deploy });
                    }
                    live = Some(to);
                    Current::Release(to)
                }
                End::Nothing => Current::Nothing,
                End::File { .. } => Current::Elsewhere("a file"),
                End::Elsewhere(what) => Current::Elsewhere(what),
            };
            if self.current.last().is_none_or(|(_, before)| *before != now) {
                self.current.push((k, now));
            }
        }
    }

    fn add_release(
        &mut self,
        trace: &Trace,
        scenario: &Scenario,
        k: Seq,
        ino: Ino,
        path: Vec<Name>,
    ) -> usize {
        let golden = Golden::capture(View::live(trace, k), ino)
            .expect("the walk just ended at this directory, so it exists");
        let wrong = match self.deploy_of(k) {
            Some(deploy) => self.complaint(trace, scenario, deploy, k, &golden, &path),
            None => None,
        };
        self.releases.push(Release { golden, path, born: k, wrong, acked: None });
        self.releases.len() - 1
    }

    fn complaint(
        &self,
        trace: &Trace,
        scenario: &Scenario,
        deploy: usize,
        k: Seq,
        golden: &Golden,
        path: &[Name],
    ) -> Option<Difference> {
        let expected = self.expected(trace, scenario, deploy)?;
        complaint(trace, k, scenario, golden, path, &expected)
    }

    fn expected<'a>(&self, trace: &Trace, scenario: &'a Scenario, deploy: usize) -> Option<Expected<'a>> {
        let deploy = &self.deploys[deploy];
        let source = scenario.source(deploy.number)?;
        let shared = |path: &[u8]| shared_names(trace, deploy.begin, scenario, path);
        Some(Expected::new(source, &scenario.expect.shared, &shared))
    }

    /// An acknowledgement has to find the release that was deployed, each of them if there are several.
    fn judge_acks(&mut self, trace: &Trace, scenario: &Scenario) {
        let numbers = self.numbers();
        for mark in trace.marks() {
            let MarkKind::Ack { deploy: number } = mark.kind else { continue };
            let (ack, Some(at)) = (mark.after, numbers.get(&number).copied()) else { continue };
            let wrong = match self.current_at(ack).clone() {
                Current::Release(release) => {
                    let known = &mut self.releases[release];
                    known.acked = known.acked.or(Some(ack));
                    let known = &self.releases[release];
                    // What was found right when this deploy put it live is right, but for where its links lead.
                    let right = known.wrong.is_none() && self.deploy_of(known.born) == Some(at);
                    let wrong = if right {
                        self.expected(trace, scenario, at).and_then(|expected| {
                            link_complaint(trace, ack, scenario, &known.golden, &known.path, &expected)
                        })
                    } else {
                        self.complaint(trace, scenario, at, ack, &known.golden, &known.path)
                    };
                    wrong.map(|difference| format!("`current` is {}, in which {difference}", known.name()))
                }
                Current::Nothing => Some("`current` resolves to nothing".to_owned()),
                Current::Elsewhere(what) => Some(format!("`current` resolves to {what}")),
                Current::AsFound => Some("`current` is what the power loss had left".to_owned()),
            };
            if let Some(wrong) = wrong {
                self.false_acks.push((ack, number, wrong));
            }
        }
    }

    /// The deploy with each number, the first if there are several.
    fn numbers(&self) -> FxHashMap<u32, usize> {
        self.deploys.iter().enumerate().rev().map(|(at, deploy)| (deploy.number, at)).collect()
    }

    fn permissions(&self, trace: &Trace) -> Vec<Segment> {
        let mut segments: Vec<Segment> = Vec::new();
        let mut permitted: Vec<usize> = Vec::new();
        let mut acked = self.acked_before;
        let mut lo = 0;
        let numbers = self.numbers();
        // What each deploy brings, and what it switches to last: one that fails its check switches back, and was not wrong
        // to switch. On the way it has no business with what an earlier one brought.
        let mut brought: FxHashMap<Option<usize>, Vec<usize>> = FxHashMap::default();
        for (at, cutover) in self.cutovers.iter().enumerate() {
            let is_last = self.cutovers.get(at + 1).is_none_or(|next| next.deploy != cutover.deploy);
            if is_last || self.deploy_of(self.releases[cutover.to].born) == cutover.deploy {
                brought.entry(cutover.deploy).or_default().push(cutover.to);
            }
        }
        if let Some((0, Current::Release(release))) = self.current.first() {
            permitted.push(*release);
        }
        for mark in trace.marks() {
            let (before, acked_before) = (permitted.clone(), acked);
            match mark.kind {
                MarkKind::Begin { deploy } => {
                    for to in brought.get(&numbers.get(&deploy).copied()).into_iter().flatten() {
                        if !permitted.contains(to) {
                            permitted.push(*to);
                        }
                    }
                }
                MarkKind::Ack { .. } => {
                    if let Current::Release(release) = self.current_at(mark.after) {
                        permitted = vec![*release];
                    }
                    acked = true;
                }
                MarkKind::End { .. } | MarkKind::Blind { .. } => continue,
            }
            let window = Window { lo, hi: mark.after };
            segments.push(Segment { window, permitted: before, acked: acked_before });
            lo = mark.after;
        }
        segments.push(Segment { window: Window { lo, hi: trace.last() }, permitted, acked });
        segments
    }
}

fn deploys(trace: &Trace) -> Vec<Deploy> {
    let mut deploys: Vec<Deploy> = Vec::new();
    let mut numbers: FxHashMap<u32, usize> = FxHashMap::default();
    for mark in trace.marks() {
        let at = mark.after;
        match mark.kind {
            MarkKind::Begin { deploy: number } => {
                if let Some(before) = deploys.last_mut() {
                    before.until = at;
                }
                numbers.entry(number).or_insert(deploys.len());
                deploys.push(Deploy { number, begin: at, ack: None, end: None, until: trace.last() });
            }
            MarkKind::Ack { deploy } => {
                if let Some(known) = numbers.get(&deploy).map(|at| &mut deploys[*at]) {
                    known.ack = known.ack.or(Some(at));
                }
            }
            MarkKind::End { deploy, ok, cleanup_pending } => {
                if let Some(known) = numbers.get(&deploy).map(|at| &mut deploys[*at]) {
                    known.end = Some(DeployEnd { at, ok, cleanup_pending });
                }
            }
            MarkKind::Blind { .. } => {}
        }
    }
    deploys
}

/// Whether an op only tells that something was made durable.
pub(crate) fn is_sync(kind: &OpKind) -> bool {
    matches!(kind, OpKind::Sync { .. })
}
