//! Recovery: reboots into what a power loss or a killed client has left, and runs the tool again.
//!
//! One state of each class ([`crate::judge::classes`]) is tried, up to a bound; what was chosen is in the report. The tool
//! is told the deploy that was under way, with the same version and source, and now and then the next one instead, as
//! by a user who has moved on. It has to succeed, and the new history has to keep all promises, those of the old one
//! included. Then the same again from states of these second runs: a power loss during recovery.

use fastrand::Rng;
use simfs::{CrashState, Crashes, Fs, POSIX, Seq, View};

use crate::judge::classes::{self, Classes};
use crate::judge::{Counterexample, Pasts, Promise, Tried, Verdict, op_in_words};
use crate::record::{Plan, RecordError, Recording};
use crate::rerun::{Fate, Ran, Reruns};

/// How many states are tried unless somebody says otherwise: after a power loss, and again so many after a kill.
pub const MOST: u32 = 64;

/// The most crash points of the recorded history that are looked at.
const MOST_POINTS: usize = 4000;

/// And of each of the second runs.
const MOST_POINTS_AGAIN: usize = 24;

/// One in so many runs is told the next version instead of the same.
const NEXT_VERSION_ONE_IN: usize = 4;

/// What to try.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The most classes of each kind of which one state is tried; half as many of the second runs.
    pub most: u32,
    /// What random choices are made from.
    pub seed: u64,
}

/// What was tried, and what came of it.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// `held`, `broken` or `unknown`.
    pub verdict: Verdict,
    /// For the report.
    pub tried: Vec<Tried>,
}

/// A state to start from, and what to do there.
struct Job {
    /// In which history.
    of: usize,
    state: CrashState,
    /// A kill, not a power loss.
    killed: bool,
    class: String,
    deploy: u32,
    told: u32,
}

/// A state, told as it happened.
struct Start {
    lines: Vec<String>,
    at: Seq,
    survived: Vec<u32>,
}

/// A history that a job starts in.
struct Before<'a> {
    crashes: Crashes<'a>,
    pasts: Pasts<'a>,
    ran: Option<&'a Ran>,
    /// How it began.
    lines: Vec<String>,
}

/// Tries to recover from states of a recorded history. None when it was interrupted.
///
/// # Errors
/// A run could not be made.
pub fn recover(
    plan: &Plan,
    recording: &Recording,
    options: Options,
    tick: &(dyn Fn() + Sync),
    interrupted: &(dyn Fn() -> bool + Sync),
) -> Result<Option<Recovered>, RecordError> {
    let reruns = Reruns { plan, scenario: &recording.scenario, interrupted, tick };
    let mut rng = Rng::with_seed(options.seed);
    let first = Before {
        crashes: Crashes::new(&recording.trace, &POSIX),
        pasts: Pasts::new(&recording.trace, &recording.scenario),
        ran: None,
        lines: Vec::new(),
    };
    let survey =
        classes::survey(&first.crashes, &recording.scenario, &first.pasts, MOST_POINTS, options.seed);
    let mut tried = Vec::new();
    let mut jobs = Vec::new();
    for (found, killed) in [(&survey.lost, false), (&survey.killed, true)] {
        let chosen = choose(found, killed, options.most as usize, &mut rng);
        tried.push(Tried {
            promise: Promise::Recoverable,
            what: format!(
                "{} classes of {} among {} that were looked at, {} tried",
                found.members.len(),
                if killed { "states after a killed client" } else { "crash states" },
                found.states,
                chosen.len(),
            ),
            runs: chosen.len() as u32,
            seed: options.seed,
        });
        jobs.extend(chosen);
    }
    assign(&mut jobs, std::slice::from_ref(&first), plan);
    let ran = reruns.each(&jobs, |job| start(job, &first, &reruns))?;
    if interrupted() {
        return Ok(None);
    }
    let mut fates: Vec<(Start, Fate)> = Vec::new();
    let mut second = Vec::new();
    for (job, ran) in jobs.iter().zip(&ran) {
        let (fate, start) = (ran.fate(), told(job, &first, &recording.scenario));
        if fate == Fate::Held {
            second.push(Before {
                crashes: Crashes::new(&ran.trace, &POSIX),
                pasts: Pasts::new(&ran.trace, &ran.scenario),
                ran: Some(ran),
                lines: start.lines.clone(),
            });
        }
        fates.push((start, fate));
    }
    let (again, what) = choose_again(&second, options, &mut rng, plan);
    tried.push(Tried { promise: Promise::Recoverable, what, runs: again.len() as u32, seed: options.seed });
    let ran = reruns.each(&again, |job| {
        let ran = start(job, &second[job.of], &reruns)?;
        Ok(ran.fate())
    })?;
    if interrupted() {
        return Ok(None);
    }
    for (job, fate) in again.iter().zip(ran) {
        let before = &second[job.of];
        let scenario = before.ran.map_or(&recording.scenario, |ran| &ran.scenario);
        let mut start = told(job, before, scenario);
        start.lines.splice(0..0, before.lines.iter().cloned());
        fates.push((start, fate));
    }
    Ok(Some(Recovered { verdict: verdict(fates), tried }))
}

/// Boots into a state and runs the tool.
fn start(job: &Job, before: &Before<'_>, reruns: &Reruns<'_>) -> Result<Ran, RecordError> {
    let disk = Fs::from_cells(View::crash(&before.crashes, &job.state).cells());
    reruns.run(disk, before.pasts.at(job.state.at), &[job.told])
}

/// One state of each class, of as many classes as allowed.
fn choose(found: &Classes, killed: bool, most: usize, rng: &mut Rng) -> Vec<Job> {
    let mut jobs: Vec<Job> = found
        .members
        .iter()
        .map(|(class, state)| Job {
            of: 0,
            state: state.clone(),
            killed,
            class: class.clone(),
            deploy: 0,
            told: 0,
        })
        .collect();
    rng.shuffle(&mut jobs);
    jobs.truncate(most);
    jobs
}

/// The states of second runs, over all of them one of each class.
fn choose_again(before: &[Before<'_>], options: Options, rng: &mut Rng, plan: &Plan) -> (Vec<Job>, String) {
    let (mut states, mut jobs) = (0, Vec::new());
    let mut seen = std::collections::BTreeSet::new();
    for (of, history) in before.iter().enumerate() {
        let Some(ran) = history.ran else { continue };
        let survey = classes::survey(
            &history.crashes,
            &ran.scenario,
            &history.pasts,
            MOST_POINTS_AGAIN,
            options.seed ^ of as u64,
        );
        for (found, killed) in [(&survey.lost, false), (&survey.killed, true)] {
            states += found.states;
            let mut chosen = choose(found, killed, usize::MAX, rng);
            chosen.retain(|job| seen.insert((killed, job.class.clone())));
            jobs.extend(chosen.into_iter().map(|job| Job { of, ..job }));
        }
    }
    rng.shuffle(&mut jobs);
    jobs.truncate(options.most as usize / 2);
    assign(&mut jobs, before, plan);
    let what = format!(
        "a second crash or kill, during these runs: {} classes among {states} states, {} tried (depth 2)",
        seen.len(),
        jobs.len(),
    );
    (jobs, what)
}

/// What the tool is told: the deploy that was under way; now and then the one after it.
fn assign(jobs: &mut [Job], before: &[Before<'_>], plan: &Plan) {
    for (at, job) in jobs.iter_mut().enumerate() {
        job.deploy = before[job.of].pasts.deploy_at(job.state.at);
        let next = at % NEXT_VERSION_ONE_IN == NEXT_VERSION_ONE_IN - 1;
        let there = (job.deploy as usize) < plan.sources.len();
        job.told = if next && there { job.deploy + 1 } else { job.deploy };
    }
}

fn told(job: &Job, before: &Before<'_>, scenario: &crate::judge::Scenario) -> Start {
    let CrashState { at, extra } = &job.state;
    let op = op_in_words(before.crashes.trace(), scenario, *at);
    let what = if job.killed { "client killed" } else { "power loss" };
    let mut lines = vec![format!("{what} after {op}, in deploy {}; what was left:", job.deploy)];
    lines.extend(job.class.split("; ").map(|part| format!("  {part}")));
    let again = if job.told == job.deploy { "again" } else { "instead" };
    lines.push(format!("then, on that disk, deploy {} {again}:", job.told));
    Start { lines, at: *at, survived: extra.iter().map(|effect| effect.0).collect() }
}

/// The verdict over all runs; of those that failed the first.
fn verdict(fates: Vec<(Start, Fate)>) -> Verdict {
    let of = fates.len() as u32;
    let held = fates.iter().filter(|(_, fate)| *fate == Fate::Held).count() as u32;
    let mut unknown = None;
    for (start, fate) in fates {
        match fate {
            Fate::Broken(lines) => {
                let count = format!("in {} of {of} runs; the first of them:", of - held);
                let lines = std::iter::once(count).chain(start.lines).chain(lines).collect();
                return Verdict::Broken(Counterexample { at: start.at, lines, survived: start.survived });
            }
            Fate::Unknown(why) => unknown = Some(why),
            Fate::Interrupted => unknown = Some("a run was interrupted".to_owned()),
            Fate::Held => {}
        }
    }
    match unknown {
        Some(why) => Verdict::Unknown { why },
        None if of == 0 => Verdict::NotAsked { why: "there was no state to start from".to_owned() },
        None => Verdict::Held { held, of },
    }
}
