//! Failures: deploys on a disk that fails, and what the tool makes of it.
//!
//! One deploy is done again and again, each time with one fault: the second of the recorded history, on the disk as the
//! first had left it. A run may fail, with `current` on a complete release that was permitted; or it may succeed, and then
//! everything has to be right, power losses included: what a failed sync did not make durable must not be
//! reported as live. Promises that the tool breaks without any fault are not held against it again. A run in
//! which no fault happened does not count.

use std::fmt::Write as _;

use fastrand::Rng;
use simfs::fault::{Calls, Fault, Schedule, When};
use simfs::{Errno, Fs, MarkKind, OpKind, Seq, View};

use crate::judge::{Past, Pasts, Promise, Tried, Verdict};
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
    /// So many of all of these, chosen at random.
    Some(u32),
}

/// A fault to try.
struct Job {
    faults: Schedule,
    when_hanging: Option<WhenHanging>,
    followed: bool,
}

/// Lets one deploy fail in many ways. None when it was interrupted.
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
    let Some((deploy, disk, past)) = starting_point(recording) else {
        let why = "no deploy began after another one had ended".to_owned();
        return Ok(Some(Outcome { verdict: Verdict::NotAsked { why }, tried: Vec::new() }));
    };
    let usual = reruns.run(disk(), past.clone(), &[Step::deploy(deploy)])?;
    if interrupted() {
        return Ok(None);
    }
    if usual.runs.iter().any(|(_, run)| run.ended != Ended::Exit(0)) {
        let why = format!("deploy {deploy} did not succeed a second time, without any fault");
        return Ok(Some(Outcome { verdict: Verdict::Unknown { why }, tried: Vec::new() }));
    }
    let but = usual.broken();
    let (jobs, what) = jobs(&usual.trace, deploy, faults, seed);
    let done = reruns.each(&jobs, |job| {
        let first =
            Step { faults: job.faults.clone(), when_hanging: job.when_hanging, ..Step::deploy(deploy) };
        let next = job.followed && (deploy as usize) < plan.sources.len();
        let steps = if next { vec![first, Step::deploy(deploy + 1)] } else { vec![first] };
        let ran = reruns.run(disk(), past.clone(), &steps)?;
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
        let fate = if failed_after { ran.fate() } else { ran.promises(&but, &although) };
        Ok(Some((Start { lines, at: hit.op, survived: Vec::new() }, fate)))
    })?;
    if interrupted() {
        return Ok(None);
    }
    let none = done.iter().filter(|done| done.is_none()).count();
    let fates: Vec<(Start, Fate)> = done.into_iter().flatten().collect();
    let runs = fates.len() as u32;
    let mut what = format!("{what}: {runs} runs with a fault");
    if none > 0 {
        let _ = write!(what, ", {none} without that do not count");
    }
    let tried = vec![Tried { promise: Promise::FailedIsFailed, what, runs, seed }];
    Ok(Some(Outcome { verdict: verdict(&fates), tried }))
}

/// The second deploy and the disk that it began on.
fn starting_point(recording: &Recording) -> Option<(u32, impl Fn() -> Fs, Past)> {
    let trace = &recording.trace;
    let mut begins = trace.marks().iter().filter_map(|mark| match mark.kind {
        MarkKind::Begin { deploy } => Some((deploy, mark.after)),
        _ => None,
    });
    let (deploy, at) = begins.nth(1)?;
    let past = Pasts::new(trace, &recording.scenario).at(at);
    let disk = move || {
        let mut disk = Fs::from_cells(View::live(trace, at).cells());
        recording.times.give(&mut disk, at);
        disk
    };
    Some((deploy, disk, past))
}

/// What could need space: not what only takes away or sets bits.
fn needs_space(kind: &OpKind) -> bool {
    !matches!(
        kind,
        OpKind::Initial
            | OpKind::Unlink { .. }
            | OpKind::Rmdir { .. }
            | OpKind::Truncate { .. }
            | OpKind::Chmod { .. }
            | OpKind::Chown { .. }
    )
}

/// The faults to try, and what they are in words. `usual` is the deploy without any.
fn jobs(usual: &simfs::Trace, deploy: u32, faults: Faults, seed: u64) -> (Vec<Job>, String) {
    let mut rng = Rng::with_seed(seed);
    let once = |op, errno| Schedule::one(When::op(op), Fault::Error(errno));
    let last = usual.last() + SOME_MORE;
    let mut simple: Vec<Schedule> = (1..=last).map(|op| once(op, Errno::IO)).collect();
    for op in 1..=last {
        if usual.ops().get(op as usize).is_none_or(|op| needs_space(&op.kind)) {
            simple.push(once(op, Errno::NOSPC));
        }
    }
    let mut rarer: Vec<(Schedule, Option<WhenHanging>)> = Vec::new();
    for op in 1..=last {
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
    let rare = "from an operation on, reading, read-only disk, killed process, killed client, cut connection";
    let (simple, rarer, what) = match faults {
        Faults::All => {
            rarer.truncate(RARER);
            let what = format!(
                "EIO at each of {last} operations of deploy {deploy}, ENOSPC at each of them that could need space, \
                 and {RARER} others chosen at random ({rare})"
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
                "a random choice of EIO and ENOSPC at each of {last} operations of deploy {deploy}, and of others ({rare})"
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
