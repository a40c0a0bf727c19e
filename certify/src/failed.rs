//! Failures: deploys on a disk that fails, and what the tool makes of it.
//!
//! Two deploys are done again and again, each time with one fault, on the disk as the deploy before had left it: the second
//! of the recorded history, and, from its cutover on, the first that removes a release that had been live. A run may fail,
//! with `current` on a complete release that was permitted; or it may succeed, and then everything has to be right, power
//! losses included: what a failed sync did not make durable must not be reported as live. Promises that the tool breaks
//! without any fault are not held against it again. A run in which no fault happened does not count.
//!
//! Of a history that starts without the deploy path it is the first deploy, and no other.

use std::fmt::Write as _;

use fastrand::Rng;
use simfs::fault::{Calls, Fault, Schedule, When};
use simfs::{Errno, Fs, MarkKind, Seq, View};

use crate::judge::{Past, Pasts, Promise, Removal, Tried, Verdict, first_to_remove};
use crate::record::{Plan, RecordError, Recording};
use crate::recover::Outcome;
use crate::rerun::{Fate, Reruns, Start, Step, WhenHanging, verdict};
use crate::tool::Ended;

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
}

impl Faults {
    /// What of it goes to deploy `at` of `of`.
    fn share(self, at: usize, of: usize) -> Self {
        match self {
            Self::All => Self::All,
            Self::Some(most) => {
                let (at, of) = (at as u32, of as u32);
                Self::Some(most / of + u32::from(at < most % of))
            }
        }
    }
}

/// A fault to try.
struct Job {
    faults: Schedule,
    when_hanging: Option<WhenHanging>,
    followed: bool,
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
    let targets = targets(plan, recording);
    if targets.is_empty() {
        let why = "no deploy began after another one had ended".to_owned();
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
    Ok(Some(Outcome { verdict: verdict(&fates), tried }))
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
    let (jobs, what) = jobs(deploy, removal, usual.trace.last(), faults, seed);
    let done = reruns.each(&jobs, |job| try_job(job, deploy, disk(), past.clone(), reruns, &but))?;
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
fn try_job(
    job: &Job,
    deploy: u32,
    disk: Fs,
    past: Past,
    reruns: &Reruns<'_>,
    but: &[Promise],
) -> Result<Option<(Start, Fate)>, RecordError> {
    let first = Step { faults: job.faults.clone(), when_hanging: job.when_hanging, ..Step::deploy(deploy) };
    let next = job.followed && (deploy as usize) < reruns.plan.sources.len();
    let steps = if next { vec![first, Step::deploy(deploy + 1)] } else { vec![first] };
    let ran = reruns.run(disk, past, &steps)?;
    let Some(hit) = ran.hits.first() else { return Ok(None) };
    let mut lines = vec![match job.when_hanging {
        None => format!("deploy {deploy} met {hit}"),
        Some(WhenHanging::KillClient) => format!("the client of deploy {deploy} was killed during {hit}"),
        Some(WhenHanging::CutConnections) => {
            format!("the connections of deploy {deploy} were cut during {hit}")
        }
    }];
    if let [_, again, ..] = &ran.hits[..] {
        lines.push(format!("and more of it, first {again}"));
    }
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
    Ok(Some((Start { lines, at: hit.op, survived: Vec::new() }, fate)))
}

/// The second deploy, and the first that removes a release that had been live, if there is one: only there a fault meets a
/// cleanup that matters. Without the deploy path there is another thing to do, and that is done by the first.
fn targets(plan: &Plan, recording: &Recording) -> Vec<Target> {
    let trace = &recording.trace;
    let begins: Vec<(u32, Seq)> = trace
        .marks()
        .iter()
        .filter_map(|mark| match mark.kind {
            MarkKind::Begin { deploy } => Some((deploy, mark.after)),
            _ => None,
        })
        .collect();
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

/// The faults to try, and what they are in words: at all operations of a deploy, or from the given part of it on. Without
/// any, the deploy makes `ops` operations.
fn jobs(deploy: u32, removal: Option<Removal>, ops: Seq, faults: Faults, seed: u64) -> (Vec<Job>, String) {
    let mut rng = Rng::with_seed(seed);
    let first = removal.map_or(1, |removal| removal.from);
    let once = |op, errno| Schedule::one(When::op(op), Fault::Error(errno));
    let last = ops + SOME_MORE;
    // ENOSPC also for what only takes away: where nothing is written in place, that needs space too.
    let errors = [Errno::IO, Errno::NOSPC];
    let mut simple: Vec<Schedule> =
        errors.into_iter().flat_map(|errno| (first..=last).map(move |op| once(op, errno))).collect();
    let mut rarer: Vec<(Schedule, Option<WhenHanging>)> = Vec::new();
    for op in first..=last {
        let from = |fault| Schedule::one(When::from_op(op), fault);
        rarer.push((from(Fault::Error(Errno::IO)), None));
        rarer.push((from(Fault::Error(Errno::NOSPC)), None));
        rarer.push((Schedule::one(When::op(op), Fault::ReadOnly), None));
        rarer.push((Schedule::one(When::op(op), Fault::Kill), None));
        for then in [WhenHanging::KillClient, WhenHanging::CutConnections] {
            rarer.push((Schedule::one(When::op(op), Fault::Hang), Some(then)));
        }
    }
    let reads = Calls::OPEN | Calls::READ | Calls::OPENDIR | Calls::READDIR;
    for nth in 1..=64 {
        rarer.push((Schedule::one(When::nth(reads, nth), Fault::Error(Errno::IO)), None));
    }
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
    let (simple, rarer, what) = match faults {
        Faults::All => {
            rarer.truncate(RARER);
            let what = format!(
                "EIO and ENOSPC at each of {ops} operations of deploy {deploy}{which}, and {RARER} others chosen at \
                 random ({rare})"
            );
            (simple, rarer, what)
        }
        Faults::Some(most) => {
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
    let all = simple.into_iter().map(|faults| (faults, None)).chain(rarer);
    let jobs = all.enumerate().map(|(at, (faults, when_hanging))| Job {
        faults,
        when_hanging,
        followed: at % FOLLOWED_ONE_IN == FOLLOWED_ONE_IN - 1,
    });
    (jobs.collect(), what)
}
