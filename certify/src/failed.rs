//! Failures: deploys on a disk that fails, and what the tool makes of it.
//!
//! Two deploys are done again and again, each time with one fault, on the disk as the deploy before had left it: the second
//! of the recorded history, and, from its cutover on, the first that removes a release that had been live. A run may fail,
//! with `current` on a complete release that was permitted; or it may succeed, and then everything has to be right, power
//! losses included: what a failed sync did not make durable must not be reported as live. Promises that the tool breaks
//! without any fault are not held against it again. A run in which no fault happened does not count.
//!
//! Of a history that starts without the deploy path it is the first deploy, and no other.

mod one;

use std::fmt::Write as _;

use fastrand::Rng;
use simfs::{Fs, MarkKind, Seq, View};

use crate::judge::{Past, Pasts, Promise, Removal, Tried, Verdict, first_to_remove};
use crate::record::{Plan, RecordError, Recording};
use crate::recover::Outcome;
use crate::rerun::{Fate, Reruns, Start, Step, WhenHanging, verdict};
use crate::tool::Ended;
pub use one::One;
use one::What;

/// How many faults are tried unless somebody says otherwise.
pub const SOME: u32 = 96;

/// How many runs with rarer faults there are beside `EIO` and `ENOSPC` at every operation.
pub const RARER: usize = 24;

/// A run can take a few ops more than the one before.
const SOME_MORE: Seq = 4;

/// After one in so many runs the next version is deployed, undisturbed.
const FOLLOWED_ONE_IN: usize = 16;

/// What to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// `EIO` and `ENOSPC` at every operation, and some rarer faults.
    All,
    /// So many of all of these, chosen at random, for all deploys together.
    Some(u32),
    /// This one alone, without those that are beside it otherwise.
    Only(One),
}

impl Faults {
    /// What of it goes to deploy `at` of `of`.
    fn share(self, at: usize, of: usize) -> Self {
        match self {
            Self::All | Self::Only(_) => self,
            Self::Some(most) => {
                let (at, of) = (at as u32, of as u32);
                Self::Some(most / of + u32::from(at < most % of))
            }
        }
    }
}

/// How runs began, and what came of them.
type Fates = Vec<(Start, Fate)>;

/// A deploy that is to fail.
struct Target {
    deploy: u32,
    /// The op before it.
    at: Seq,
    /// What is tried of it.
    part: Part,
}

/// The operations of a deploy at which something fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// All.
    Whole,
    /// Those that follow its cutover, all of the removal of a release among them; more if it removes before. The cutover
    /// and not the report: where a tool goes on while it reports, which op comes first is luck.
    Removal,
}

/// Lets deploys fail in many ways. None when it was interrupted.
///
/// # Errors
/// A run could not be made.
pub fn failed_is_failed(
    plan: &Plan,
    recording: &Recording,
    faults: Faults,
    seed: u64,
    tick: &(dyn Fn() + Sync),
    interrupted: &(dyn Fn() -> bool + Sync),
) -> Result<Option<Outcome>, RecordError> {
    let reruns = Reruns { plan, scenario: &recording.scenario, interrupted, tick };
    let targets = targets(plan, recording, faults);
    if targets.is_empty() {
        let why = match faults {
            Faults::Only(one) => format!("no deploy was recorded that {one} could be in"),
            _ => "no deploy began after another one had ended".to_owned(),
        };
        return Ok(Some(Outcome { verdict: Verdict::NotAsked { why }, tried: Vec::new() }));
    }
    let (mut fates, mut tried) = (Vec::new(), Vec::new());
    for (at, target) in targets.iter().enumerate() {
        let share = faults.share(at, targets.len());
        if share == Faults::Some(0) {
            continue;
        }
        let (came_of_it, what) = fail(target, recording, &reruns, share, seed)?;
        if interrupted() {
            return Ok(None);
        }
        fates.extend(came_of_it);
        tried.extend(what);
    }
    Ok(Some(Outcome { verdict: verdict(&fates, &recording.trace), tried }))
}

/// Lets one deploy fail in many ways.
fn fail(
    target: &Target,
    recording: &Recording,
    reruns: &Reruns<'_>,
    faults: Faults,
    seed: u64,
) -> Result<(Fates, Option<Tried>), RecordError> {
    let deploy = target.deploy;
    let past = Pasts::new(&recording.trace, &recording.scenario).at(target.at);
    let disk = || disk_at(recording, target.at);
    let usual = reruns.run(disk(), past.clone(), &[Step::deploy(deploy)])?;
    if usual.runs.iter().any(|(_, run)| run.ended != Ended::Exit(0)) {
        let why = format!("deploy {deploy} did not succeed a second time, without any fault");
        return Ok((vec![(Start::default(), Fate::Unknown(why))], None));
    }
    let but = usual.broken();
    let removal = match target.part {
        Part::Whole => None,
        Part::Removal => first_to_remove(&usual.trace, &usual.scenario),
    };
    let any = One {
        from_nothing: !reruns.plan.deploy_path_exists,
        deploy,
        at: 1,
        what: What::Eio,
        followed: false,
    };
    let some = |most| jobs(any, removal, usual.trace.last(), most, seed);
    let (jobs, what) = match faults {
        Faults::All => some(None),
        Faults::Some(most) => some(Some(most)),
        Faults::Only(one) => (vec![one], format!("{one} alone")),
    };
    let done = reruns.each(&jobs, |one| try_one(*one, disk(), past.clone(), reruns, &but))?;
    let none = done.iter().filter(|done| done.is_none()).count();
    let fates: Fates = done.into_iter().flatten().collect();
    let runs = fates.len() as u32;
    let mut what = format!("{what}: {runs} runs with a fault");
    if none > 0 {
        let _ = write!(what, ", {none} without that do not count");
    }
    Ok((fates, Some(Tried { promise: Promise::FailedIsFailed, what, runs, seed })))
}

/// A deploy with a fault. Nothing if the fault was never met.
fn try_one(
    one: One,
    disk: Fs,
    past: Past,
    reruns: &Reruns<'_>,
    but: &[Promise],
) -> Result<Option<(Start, Fate)>, RecordError> {
    let (deploy, first) = (one.deploy, one.step());
    let when_hanging = first.when_hanging;
    let next = one.followed && (deploy as usize) < reruns.plan.sources.len();
    let steps = if next { vec![first, Step::deploy(deploy + 1)] } else { vec![first] };
    let ran = reruns.run(disk, past, &steps)?;
    let Some(hit) = ran.hits.first() else { return Ok(None) };
    let mut lines = vec![match when_hanging {
        None => format!("deploy {deploy} met {hit}"),
        Some(WhenHanging::KillClient) => format!("the client of deploy {deploy} was killed during {hit}"),
        Some(WhenHanging::CutConnections) => {
            format!("the connections of deploy {deploy} were cut during {hit}")
        }
    }];
    if let [_, again, ..] = &ran.hits[..] {
        lines.push(format!("and more of it, first {again}"));
    }
    lines.push(format!("(this run alone: the same command with --faults {one})"));
    let ended = |at: usize| match ran.runs.get(at).map(|(_, run)| &run.ended) {
        Some(Ended::Exit(status)) => format!("exit status {status}"),
        Some(Ended::Killed) => "being killed".to_owned(),
        _ => "no end".to_owned(),
    };
    let mut although = format!("it ended with {}", ended(0));
    if next {
        let _ = write!(although, ", and deploy {} after it, undisturbed, with {}", deploy + 1, ended(1));
    }
    let failed_after = next && ran.runs.get(1).is_some_and(|(_, run)| run.ended != Ended::Exit(0));
    let fate = if failed_after { ran.fate() } else { ran.promises(but, &although) };
    Ok(Some((Start { lines, at: hit.op, ..Start::default() }, fate)))
}

/// The second deploy, and the first that removes a release that had been live, if there is one: only there a fault meets a
/// cleanup that matters. Without the deploy path there is another thing to do, and that is done by the first.
fn targets(plan: &Plan, recording: &Recording, faults: Faults) -> Vec<Target> {
    let trace = &recording.trace;
    let begins: Vec<(u32, Seq)> = trace
        .marks()
        .iter()
        .filter_map(|mark| match mark.kind {
            MarkKind::Begin { deploy } => Some((deploy, mark.after)),
            _ => None,
        })
        .collect();
    if let Faults::Only(one) = faults {
        let is_it =
            |(deploy, _): &&(u32, Seq)| *deploy == one.deploy && one.from_nothing != plan.deploy_path_exists;
        let target = |(deploy, at): &(u32, Seq)| Target { deploy: *deploy, at: *at, part: Part::Whole };
        return begins.iter().filter(is_it).map(target).collect();
    }
    let removes = first_to_remove(trace, &recording.scenario);
    let whole = usize::from(plan.deploy_path_exists);
    let chosen = begins.iter().enumerate().skip(whole);
    chosen
        .filter_map(|(nth, (deploy, at))| {
            let part = match nth {
                _ if nth == whole => Part::Whole,
                _ if !plan.deploy_path_exists => return None,
                _ if removes.is_some_and(|removal| removal.deploy == *deploy) => Part::Removal,
                _ => return None,
            };
            Some(Target { deploy: *deploy, at: *at, part })
        })
        .collect()
}

/// The disk after an op of the recorded history.
fn disk_at(recording: &Recording, at: Seq) -> Fs {
    let mut disk = Fs::from_cells(View::live(&recording.trace, at).cells());
    recording.times.give(&mut disk, at);
    disk
}

/// The faults to try in the deploy of `any`, and what they are in words: at all operations, or from the given part on.
/// Without any fault, the deploy makes `ops` operations.
fn jobs(any: One, removal: Option<Removal>, ops: Seq, most: Option<u32>, seed: u64) -> (Vec<One>, String) {
    let deploy = any.deploy;
    let mut rng = Rng::with_seed(seed);
    let first = removal.map_or(1, |removal| removal.from);
    let last = ops + SOME_MORE;
    // ENOSPC also for what only takes away: where nothing is written in place, that needs space too.
    let errors = [What::Eio, What::Enospc];
    let each = |what| (first..=last).map(move |at| One { at, what, ..any });
    let mut simple: Vec<One> = errors.into_iter().flat_map(each).collect();
    let rare =
        [What::EioFrom, What::EnospcFrom, What::ReadOnly, What::Kill, What::KillClient, What::CutConnections];
    let mut rarer: Vec<One> =
        (first..=last).flat_map(|at| rare.map(|what| One { at, what, ..any })).collect();
    rarer.extend((1..=64).map(|at| One { at, what: What::EioReading, ..any }));
    rng.shuffle(&mut rarer);
    let which = match removal {
        None => "",
        Some(Removal { after_cutover: true, .. }) => {
            " after its cutover, with the removal of a release that had been live"
        }
        Some(Removal { after_cutover: false, .. }) => {
            " from the removal of a release that had been live on, which begins before its cutover"
        }
    };
    let ops = ops + 1 - first;
    let rare = "from an operation on, reading, read-only disk, killed process, killed client, cut connection";
    let (simple, rarer, what) = match most {
        None => {
            rarer.truncate(RARER);
            let what = format!(
                "EIO and ENOSPC at each of {ops} operations of deploy {deploy}{which}, and {RARER} others chosen at \
                 random ({rare})"
            );
            (simple, rarer, what)
        }
        Some(most) => {
            rng.shuffle(&mut simple);
            let most = most as usize;
            // Mostly what happens most.
            simple.truncate(most - most / 4);
            rarer.truncate(most / 4);
            let what = format!(
                "a random choice of EIO and ENOSPC at each of {ops} operations of deploy {deploy}{which}, and of \
                 others ({rare})"
            );
            (simple, rarer, what)
        }
    };
    let mut jobs = [simple, rarer].concat();
    for (at, job) in jobs.iter_mut().enumerate() {
        job.followed = at % FOLLOWED_ONE_IN == FOLLOWED_ONE_IN - 1;
    }
    (jobs, what)
}
