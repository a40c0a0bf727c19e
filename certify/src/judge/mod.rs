//! The judge: decides every promise over a recorded trace.
//!
//! Live states in one incremental pass (`live`), crash states by the exact procedure (`power`, `decide`), and every
//! counterexample again by an oracle that knows none of that (`oracle`). The judge never depends on a deploy
//! tool and never asks one: what a release should be comes from the source it was told to deploy ([`expect`]).

mod change;
pub mod classes;
mod decide;
pub mod expect;
mod explain;
mod golden;
mod history;
mod live;
mod oracle;
mod past;
mod power;
mod protect;
mod readers;
mod repair;
#[cfg(test)]
mod tests;
mod walk;
pub(crate) mod words;

use serde::Serialize;
use simfs::{CrashState, Crashes, EffectId, MarkKind, Model, Name, POSIX, SyncIndex, Trace, View};

pub use expect::{Adds, Expect};
pub use explain::explain;
pub use past::{Past, Pasts};

use crate::readers::Passes;
use crate::tree::{Node, Tree};
use history::{Current, History};
pub use readers::{Readers, Tally};

/// What is judged. The order is that of the verdict table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// In every state `current` resolves to a complete release that was permitted at some instant up to now.
    CurrentComplete,
    /// After `current` first appeared, there is no live state without it.
    NeverAbsent,
    /// After an acknowledgement every crash state resolves to the acknowledged release.
    DurableAck,
    /// No content of a release changes from its cutover until its removal.
    ImmutableAfterCutover,
    /// Whoever reads a release, from before a deploy or during it, reads what went live, until it is lawfully pruned.
    ReadersWhole,
    /// The release that was live before, and the others that retention promises, stay complete.
    PreviousIntact,
    /// Nothing that was under `shared/` is changed or removed.
    SharedIntact,
    /// At a deploy's end the declared number of releases remains.
    Retention,
    /// After a power loss or a kill, running the tool again succeeds, and all of the above hold.
    Recoverable,
    /// A fault never ends in exit status 0 with a wrong tree.
    FailedIsFailed,
}

impl Promise {
    /// All, in the order of the verdict table.
    pub const ALL: [Self; 10] = [
        Self::CurrentComplete,
        Self::NeverAbsent,
        Self::DurableAck,
        Self::ImmutableAfterCutover,
        Self::ReadersWhole,
        Self::PreviousIntact,
        Self::SharedIntact,
        Self::Retention,
        Self::Recoverable,
        Self::FailedIsFailed,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::CurrentComplete => "current_complete",
            Self::NeverAbsent => "never_absent",
            Self::DurableAck => "durable_ack",
            Self::ImmutableAfterCutover => "immutable_after_cutover",
            Self::ReadersWhole => "readers_whole",
            Self::PreviousIntact => "previous_intact",
            Self::SharedIntact => "shared_intact",
            Self::Retention => "retention",
            Self::Recoverable => "recoverable",
            Self::FailedIsFailed => "failed_is_failed",
        }
    }

    /// Whether it speaks about live states.
    pub fn is_about_live_states(self) -> bool {
        self != Self::DurableAck && !self.is_about_runs()
    }

    /// Whether it speaks about crash states.
    pub fn is_about_crash_states(self) -> bool {
        !matches!(
            self,
            Self::NeverAbsent | Self::ImmutableAfterCutover | Self::ReadersWhole | Self::Retention
        ) && !self.is_about_runs()
    }

    /// Whether it speaks about further runs of the tool, which can be tried and never enumerated.
    pub fn is_about_runs(self) -> bool {
        self.further_runs().is_some()
    }

    /// What to ask for to have these runs made.
    fn further_runs(self) -> Option<&'static str> {
        match self {
            Self::Recoverable => Some("the tool was not run again (--recoveries)"),
            Self::FailedIsFailed => Some("no faults were tried (--faults)"),
            _ => None,
        }
    }
}

/// What was decided about a promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// Holds in all states of the recorded run.
    Proved,
    /// Held in each of the runs that were tried, of what can only be tried.
    Held {
        /// Runs in which it held.
        held: u32,
        /// Runs.
        of: u32,
    },
    /// Nothing to judge, and why.
    NotAsked {
        /// What was not declared, or not exercised.
        why: String,
    },
    /// Something was not observed or was cut off.
    Unknown {
        /// What.
        why: String,
    },
    /// Does not hold.
    Broken(Counterexample),
}

impl Verdict {
    /// Worst wins. A history that did not ask says nothing against one that did.
    fn rank(&self) -> u8 {
        match self {
            Self::NotAsked { .. } => 0,
            Self::Proved => 1,
            Self::Held { .. } => 2,
            Self::Unknown { .. } => 3,
            Self::Broken(_) => 4,
        }
    }

    fn labelled(self, what: &str) -> Self {
        match self {
            Self::Broken(mut found) => {
                found.lines.insert(0, what.to_owned());
                Self::Broken(found)
            }
            Self::Unknown { why } => Self::Unknown { why: format!("{what} {why}") },
            other => other,
        }
    }

    /// A word or two, as in the table.
    pub fn word(&self) -> String {
        match self {
            Self::Proved => "proved".to_owned(),
            Self::Held { held, of } => format!("held {held}/{of}"),
            Self::NotAsked { .. } => "not asked".to_owned(),
            Self::Unknown { .. } => "unknown".to_owned(),
            Self::Broken(_) => "BROKEN".to_owned(),
        }
    }
}

/// A state that breaks a promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counterexample {
    /// The op after which it happens.
    pub at: u32,
    /// In words, one line each.
    pub lines: Vec<String>,
    /// For a crash state, where the model has metadata in one chain: the op up to which it survived, or 0.
    pub chain: u32,
    /// For a crash state: what else survived beyond the effects that were forced, by their index in the trace.
    pub survived: Vec<u32>,
    /// Of these and the chain, what the promise breaks on; by their index in the trace.
    pub kept: Vec<u32>,
    /// What it breaks on that was lost.
    pub lost: Vec<u32>,
    /// What replays it, if it was told to people; of a further run, the disk that it began with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

impl Counterexample {
    /// One that is no crash state.
    pub fn at(at: u32, lines: Vec<String>) -> Self {
        Self { at, lines, chain: 0, survived: Vec::new(), kept: Vec::new(), lost: Vec::new(), token: None }
    }

    /// The crash state, if it is one.
    pub fn state(&self) -> CrashState {
        CrashState {
            at: self.at,
            chain: self.chain,
            extra: self.survived.iter().map(|effect| EffectId(*effect)).collect(),
        }
    }
}

/// How `shared/` appears in a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharedRule {
    /// Not at all.
    None,
    /// Cutover's rule: what the application does not have is linked; where it has a directory too, look into it.
    DropDown,
    /// Exactly these paths are links, whatever the application has there.
    Exact(Vec<Vec<u8>>),
}

/// What was recorded, as far as a trace does not say it itself.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Where the disk was mounted, as names from `/`.
    pub mount: Vec<Name>,
    /// The deploy path, as names from the root of the disk.
    pub deploy_path: Vec<Name>,
    /// The source of each deploy, the first deploy first.
    pub sources: Vec<std::sync::Arc<Tree>>,
    /// What else releases hold.
    pub expect: Expect,
    /// How many releases are to be kept, if declared.
    pub keep: Option<usize>,
    /// What was promised before, if the disk is a rebooted one.
    pub past: Option<std::sync::Arc<Past>>,
}

impl Scenario {
    /// The deploy path with one more name.
    fn below(&self, name: &[u8]) -> Vec<Name> {
        self.deploy_path.iter().cloned().chain([Name::from(name)]).collect()
    }

    fn current_path(&self) -> Vec<Name> {
        self.below(b"current")
    }

    fn shared_path(&self) -> Vec<Name> {
        self.below(b"shared")
    }

    /// Whether a run with this number is to put something live, and to keep as many releases as were declared. Where no
    /// sources are known, each is.
    fn deploys_something(&self, deploy: u32) -> bool {
        self.sources.is_empty() || self.source(deploy).is_some()
    }

    fn source(&self, deploy: u32) -> Option<&Tree> {
        self.sources.get((deploy as usize).checked_sub(1)?).map(|tree| &**tree)
    }
}

/// The verdicts about one promise.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which promise.
    pub promise: Promise,
    /// Over live states; none where it does not speak about them.
    pub live: Option<Verdict>,
    /// Over crash states, under each model; none where it does not speak about them.
    pub crash: Vec<UnderModel>,
    /// Over further runs of the tool; none where it does not speak about them.
    pub runs: Option<Verdict>,
}

/// A verdict over crash states.
#[derive(Clone, Debug, Serialize)]
pub struct UnderModel {
    /// The model's name.
    pub model: &'static str,
    /// Over all crash states of that model.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Row {
    /// Its verdicts.
    pub fn verdicts(&self) -> impl Iterator<Item = &Verdict> {
        self.live.iter().chain(self.crash.iter().map(|crash| &crash.verdict)).chain(&self.runs)
    }

    /// The verdict of the model whose counterexample is told, if it is broken: the first one that another contains, since its
    /// states are states of that too.
    pub fn told(&self) -> Option<&UnderModel> {
        let broken = |crash: &&UnderModel| matches!(crash.verdict, Verdict::Broken(_));
        let contained = self.crash.iter().filter(broken).find(|crash| crash.model != POSIX.name);
        contained.or_else(|| self.crash.iter().find(broken))
    }

    /// The verdict over the crash states of a model.
    pub fn under(&self, model: &str) -> Option<&Verdict> {
        self.crash.iter().find(|crash| crash.model == model).map(|crash| &crash.verdict)
    }
}

/// All verdicts about a trace, and how much was judged.
#[derive(Clone, Debug, Serialize)]
pub struct Judgement {
    /// The names of the models, in their order.
    pub models: Vec<&'static str>,
    /// One row a promise.
    pub rows: Vec<Row>,
    /// Recorded histories. Each has one live state and crash point more than it has ops.
    pub histories: u32,
    /// Runs of the tool.
    pub deploys: usize,
    /// Directories that `current` resolved to at some instant.
    pub releases: usize,
    /// Ops recorded.
    pub ops: u32,
    /// Effects recorded.
    pub effects: usize,
    /// Successful sync calls.
    pub syncs: usize,
    /// What was decided about readers.
    pub readers: Readers,
    /// The further runs that were made.
    pub tried: Vec<Tried>,
    /// What was not durable when a deploy was reported as live: for the first such one, in words, once it is explained.
    pub unsynced: Option<String>,
}

/// Further runs of the tool, of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Tried {
    /// The promise that they were made for.
    pub promise: Promise,
    /// What was tried, out of what, in words.
    pub what: String,
    /// Runs.
    pub runs: u32,
    /// What random choices were made from.
    pub seed: u64,
}

impl Judgement {
    /// The verdicts over two histories of the same subject: of each promise the worse, and all counts added. `what`
    /// says, in what is told of the other history alone, what was different there.
    #[must_use]
    pub fn and(mut self, other: Self, what: &str) -> Self {
        for (row, other) in self.rows.iter_mut().zip(other.rows) {
            // What held in some runs, or passes of readers, and in some more.
            if let (Some(Verdict::Held { held, of }), Some(Verdict::Held { held: more, of: too })) =
                (&mut row.runs, &other.runs)
            {
                (*held, *of) = (*held + more, *of + too);
            }
            let pairs = [(row.live.as_mut(), other.live), (row.runs.as_mut(), other.runs)];
            let pairs = pairs.into_iter().filter_map(|(mine, theirs)| mine.zip(theirs));
            let crash = row.crash.iter_mut().zip(other.crash);
            for (mine, theirs) in pairs.chain(crash.map(|(mine, theirs)| (&mut mine.verdict, theirs.verdict)))
            {
                if theirs.rank() > mine.rank() {
                    *mine = theirs.labelled(what);
                }
            }
        }
        self.histories += other.histories;
        self.deploys += other.deploys;
        self.releases += other.releases;
        self.ops += other.ops;
        self.effects += other.effects;
        self.syncs += other.syncs;
        self.readers = self.readers.and(other.readers);
        self.unsynced = self.unsynced.or_else(|| other.unsynced.map(|unsynced| format!("{what} {unsynced}")));
        let labelled = |tried: Tried| Tried { what: format!("{what} {}", tried.what), ..tried };
        self.tried.extend(other.tried.into_iter().map(labelled));
        self
    }

    /// Adds what came of the further runs of a history that nothing else was added to yet.
    pub fn add_runs(&mut self, promise: Promise, verdict: Verdict, tried: Vec<Tried>) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.promise == promise) {
            row.runs = Some(verdict);
        }
        self.tried.extend(tried);
    }

    /// What replays the first counterexample that was told with a token.
    pub fn token(&self) -> Option<&str> {
        self.rows.iter().flat_map(Row::verdicts).find_map(|verdict| match verdict {
            Verdict::Broken(found) => found.token.as_deref(),
            _ => None,
        })
    }

    /// Whether some verdict has this word.
    pub fn any(&self, test: impl Fn(&Verdict) -> bool) -> bool {
        self.rows.iter().flat_map(Row::verdicts).any(test)
    }
}

/// Decides all promises, over live states and over the crash states of each model.
///
/// # Panics
/// When the procedure and the oracle disagree about a counterexample: that would be a defect of the judge, and no
/// verdict of it could be trusted.
pub fn judge(trace: &Trace, scenario: &Scenario, models: &[&Model]) -> Judgement {
    judge_with_readers(trace, scenario, models, None)
}

/// The same, and judges what readers as processes found while the trace was recorded.
///
/// # Panics
/// As [`judge`].
pub fn judge_with_readers(
    trace: &Trace,
    scenario: &Scenario,
    models: &[&Model],
    passes: Option<&Passes>,
) -> Judgement {
    let history = History::new(trace, scenario);
    let shared = past::shared(trace, scenario);
    let changes = live::changes(trace, &history, shared.as_ref());
    let protected = protect::protected(&history, scenario.keep, trace.last());
    let mut readers = readers::decide(trace, scenario, &history, &changes, &protected);
    let found = passes.map(|passes| readers::judge_passes(passes, trace, scenario, &history, &mut readers));
    let live = live::Live { trace, scenario, history: &history, changes: &changes, protected: &protected };
    // Whole trees, and only a counterexample is judged again.
    let facts = std::cell::LazyCell::new(|| oracle::Facts::new(&history, shared.as_ref()));
    let too_deep = too_deep(&history, shared.as_ref());
    let blind = blind(trace).or_else(|| too_deep.clone());
    let rows = Promise::ALL.map(|promise| {
        let excuse = not_asked(promise, &history, scenario, shared.is_some(), !protected.is_empty());
        let verdict = |found| verdict_of(found, excuse.clone(), blind.as_ref());
        Row {
            promise,
            live: promise.is_about_live_states().then(|| match promise {
                // To a reader, what lies deeper than was captured looks like what should not be there.
                Promise::ReadersWhole => verdict(readers.found.clone().filter(|_| too_deep.is_none())),
                _ => verdict(live.judge(promise)),
            }),
            crash: Vec::new(),
            // A trace says nothing about further runs: whoever makes them adds their verdict.
            runs: match promise {
                Promise::ReadersWhole if found.is_some() && too_deep.is_some() => {
                    too_deep.clone().map(|why| Verdict::Unknown { why })
                }
                Promise::ReadersWhole => Some(found.clone().unwrap_or(Verdict::NotAsked {
                    why: "no readers were started as processes (--readers)".to_owned(),
                })),
                _ => promise.further_runs().map(|how| Verdict::NotAsked { why: how.to_owned() }),
            },
        }
    });
    let mut rows = Vec::from(rows);
    // One model after the other: what is known about the crash states of one is large.
    let mut index = SyncIndex::new(trace);
    let mut before: Option<(Crashes<'_>, power::Doubts)> = None;
    for model in models {
        let crashes = Crashes::under(&mut index, model);
        let known = before.take().filter(|(others, _)| crashes.force_the_same(others));
        let doubts = known.map_or_else(|| power::Doubts::new(&history), |(_, doubts)| doubts);
        let power = power::Power {
            crashes: &crashes,
            scenario,
            history: &history,
            protected: &protected,
            shared: shared.as_ref(),
            doubts: &doubts,
        };
        for row in rows.iter_mut().filter(|row| row.promise.is_about_crash_states()) {
            let found = power.judge(row.promise);
            if let Some(found) = &found {
                confirm(row.promise, found, &crashes, scenario, &history, &protected, &facts);
            }
            let excuse = not_asked(row.promise, &history, scenario, shared.is_some(), !protected.is_empty());
            let verdict = verdict_of(found, excuse, blind.as_ref());
            row.crash.push(UnderModel { model: model.name, verdict });
        }
        before = Some((crashes, doubts));
    }
    Judgement {
        models: models.iter().map(|model| model.name).collect(),
        rows,
        histories: 1,
        deploys: history.deploys.len(),
        releases: history.releases.len(),
        ops: trace.last(),
        effects: trace.effects().len(),
        syncs: trace.ops().iter().filter(|op| history::is_sync(&op.kind)).count(),
        readers: readers.readers,
        tried: Vec::new(),
        unsynced: None,
    }
}

/// A crash state of a model that breaks a promise, if there is one.
fn crash_counterexample(
    trace: &Trace,
    scenario: &Scenario,
    model: &Model,
    promise: Promise,
) -> Option<Counterexample> {
    let (history, shared) = (History::new(trace, scenario), past::shared(trace, scenario));
    let crashes = Crashes::new(trace, model);
    let power = power::Power {
        crashes: &crashes,
        scenario,
        history: &history,
        protected: &protect::protected(&history, scenario.keep, trace.last()),
        shared: shared.as_ref(),
        doubts: &power::Doubts::new(&history),
    };
    power.judge(promise)
}

/// What to say where nothing was found: that there was nothing to find it in, or that not all of it was seen.
fn verdict_of(found: Option<Counterexample>, excuse: Option<String>, blind: Option<&String>) -> Verdict {
    match (found, excuse, blind) {
        (Some(found), ..) => Verdict::Broken(found),
        (None, Some(why), _) => Verdict::NotAsked { why },
        (None, None, Some(why)) => Verdict::Unknown { why: why.clone() },
        (None, None, None) => Verdict::Proved,
    }
}

/// The part of a deploy that removes a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    /// Which deploy.
    pub(crate) deploy: u32,
    /// The first op after its cutover, or the first that takes something from that release, whichever is earlier.
    pub(crate) from: simfs::Seq,
    /// It is the former.
    pub(crate) after_cutover: bool,
}

/// The first deploy that removes a release that had been live.
pub(crate) fn first_to_remove(trace: &Trace, scenario: &Scenario) -> Option<Removal> {
    let history = History::new(trace, scenario);
    let (gone, release) = history.first_removal(trace)?;
    let index = history.deploy_of(gone)?;
    let deploy = &history.deploys[index];
    let golden = &history.releases[release].golden;
    let begun =
        change::Search::new(trace, false).first(golden, deploy.begin + 1).map_or(gone, |at| at.min(gone));
    let cutover = history.cutovers.iter().find(|cutover| cutover.deploy == Some(index));
    let after = cutover.map(|cutover| cutover.at + 1).filter(|after| *after <= begun);
    Some(Removal { deploy: deploy.number, from: after.unwrap_or(begun), after_cutover: after.is_some() })
}

/// What an inode is in a state, without what is below it.
pub(crate) fn node(view: View<'_>, ino: simfs::Ino) -> Option<Node> {
    oracle::Disk::new(view).node(ino)
}

/// Where `current` leads in a state, in words.
pub(crate) fn current_in_words(view: View<'_>, scenario: &Scenario) -> String {
    oracle::Disk::new(view).current_in_words(scenario)
}

/// An op of a trace in words.
pub fn op_in_words(trace: &Trace, scenario: &Scenario, k: simfs::Seq) -> String {
    words::Words::new(trace, scenario).op(k)
}

/// Judges a counterexample's disk again.
fn confirm(
    promise: Promise,
    found: &Counterexample,
    crashes: &Crashes<'_>,
    scenario: &Scenario,
    history: &History,
    protected: &[protect::Protected],
    facts: &oracle::Facts,
) {
    let state = found.state();
    let disk = oracle::Disk::new(View::crash(crashes, &state));
    let duty = oracle::Duty::at(history, protected, found.at);
    assert!(
        !oracle::holds(promise, &disk, scenario, facts, &duty),
        "the judge contradicts itself: {} holds on the disk of its own counterexample {found:?}",
        promise.name(),
    );
}

/// Why some state could not be observed.
fn blind(trace: &Trace) -> Option<String> {
    trace.marks().iter().find_map(|mark| match &mark.kind {
        MarkKind::Blind { what } => Some(what.clone()),
        _ => None,
    })
}

/// Why a tree could not be compared as a whole, if one could not.
fn too_deep(history: &History, shared: Option<&golden::Golden>) -> Option<String> {
    let why = |what: &str| {
        let most = golden::MAX_DEPTH;
        format!(
            "{what} has more than {most} directories within each other, and what lies deeper is not compared"
        )
    };
    let release = history.releases.iter().find(|release| release.golden.is_cut_off());
    let shared = || shared.filter(|golden| golden.is_cut_off()).map(|_| why("shared/"));
    release.map(|release| why(&release.name())).or_else(shared)
}

/// Why a promise was not put to the test in this run, if it was not.
fn not_asked(
    promise: Promise,
    history: &History,
    scenario: &Scenario,
    shared: bool,
    protected: bool,
) -> Option<String> {
    let acks = history.deploys.iter().filter(|deploy| deploy.ack.is_some()).count();
    let switches = history.cutovers.iter().filter(|cutover| cutover.from.is_some()).count();
    let why = match promise {
        Promise::CurrentComplete | Promise::DurableAck if acks == 0 => "no deploy was reported as live",
        Promise::NeverAbsent | Promise::ImmutableAfterCutover | Promise::ReadersWhole
            if history.deploys.len() < 2 || acks == 0 =>
        {
            "there was no deploy after the first"
        }
        Promise::NeverAbsent | Promise::ImmutableAfterCutover | Promise::ReadersWhole
            if !history.current.iter().any(|(_, c)| matches!(c, Current::Release(_))) =>
        {
            "`current` never appeared"
        }
        Promise::PreviousIntact if switches == 0 || !protected => "no release replaced another",
        Promise::SharedIntact if !shared => "no shared data was declared",
        Promise::Retention => match scenario.keep {
            None => "no number of releases was declared (--keep)",
            Some(keep) if history.releases.len() <= keep => "there were not enough releases to remove any",
            Some(_) => return None,
        },
        _ => return None,
    };
    Some(why.to_owned())
}
