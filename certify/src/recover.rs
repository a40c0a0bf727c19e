//! Recovery: reboots into what a power loss or a killed client has left, and runs the tool again.
//!
//! One state of each class ([`crate::judge::classes`]) is tried, up to a bound; what was chosen is in the report. The tool
//! is told the deploy that was under way, with the same version and source, and now and then the next one instead, as
//! by a user who has moved on. It has to succeed, and the new history has to keep all promises, those of the old one
//! included. After every other of these runs it is done once more, from a state in the middle of that run: a power
//! loss during recovery. And a few clients are really killed, and the tool is run again on the same machine.
//!
//! Of a history that starts without the deploy path, only the first deploy is tried: the others are as anywhere else.

use fastrand::Rng;
use simfs::fault::{Fault, Schedule, When};
use simfs::model::PROCESS_KILL;
use simfs::{CrashState, Crashes, Fs, MarkKind, POSIX, Seq, View};

use crate::judge::classes::{self, Classes, Survey};
use crate::judge::{Pasts, Promise, Scenario, Tried, Verdict, op_in_words};
use crate::record::{Plan, RecordError, Recording, Times};
use crate::rerun::{Fate, Ran, Reruns, Start, Step, WhenHanging, verdict};

/// How many states are tried unless somebody says otherwise: after a power loss, and again so many after a kill.
pub const MOST: u32 = 64;

/// The most crash points of the recorded history that are looked at.
const MOST_POINTS: usize = 4000;

/// And of each of the second runs.
const MOST_POINTS_AGAIN: usize = 24;

/// One in so many runs is told the next version instead of the same.
const NEXT_VERSION_ONE_IN: usize = 4;

/// One in so many runs is itself interrupted.
const AGAIN_ONE_IN: usize = 2;

/// The most clients that are really killed.
const REAL_KILLS: u32 = 8;

/// What to try.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The most classes of each kind of which one state is tried.
    pub most: u32,
    /// What random choices are made from.
    pub seed: u64,
}

/// What was tried, and what came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// `held`, `broken`, `unknown` or `not asked`.
    pub verdict: Verdict,
    /// For the report.
    pub tried: Vec<Tried>,
}

/// A state to start from, and what to do there.
struct Job {
    state: CrashState,
    /// A kill, not a power loss.
    killed: bool,
    class: String,
    deploy: u32,
    told: u32,
    /// The run is interrupted as well.
    again: bool,
}

/// What came of a job, and of the one in the middle of it.
struct Done {
    fate: Fate,
    again: Option<(Start, Fate)>,
    /// The classes that the second state was chosen from.
    classes: usize,
}

/// A history that jobs start in.
struct Before<'a> {
    scenario: &'a Scenario,
    crashes: Crashes<'a>,
    pasts: Pasts<'a>,
    times: &'a Times,
}

impl<'a> Before<'a> {
    fn new(trace: &'a simfs::Trace, scenario: &'a Scenario, times: &'a Times) -> Self {
        Self { scenario, crashes: Crashes::new(trace, &POSIX), pasts: Pasts::new(trace, scenario), times }
    }

    fn survey(&self, until: Seq, most_points: usize, seed: u64) -> Survey {
        classes::survey(&self.crashes, self.scenario, &self.pasts, until, most_points, seed)
    }

    /// The last op of which something is tried.
    fn until(&self, plan: &Plan) -> Seq {
        let trace = self.crashes.trace();
        let second = trace.marks().iter().find(|mark| mark.kind == MarkKind::Begin { deploy: 2 });
        second.filter(|_| !plan.deploy_path_exists).map_or(trace.last(), |mark| mark.after)
    }

    /// Boots into a state and runs the tool.
    fn start(&self, job: &Job, reruns: &Reruns<'_>) -> Result<Ran, RecordError> {
        let mut disk = Fs::from_cells(View::crash(&self.crashes, &job.state).cells());
        self.times.give(&mut disk, job.state.at);
        reruns.run(disk, self.pasts.at(job.state.at), &[Step::deploy(job.told)])
    }

    fn told(&self, job: &Job) -> Start {
        let CrashState { at, extra, .. } = &job.state;
        let op = op_in_words(self.crashes.trace(), self.scenario, *at);
        let what = if job.killed { "client killed" } else { "power loss" };
        let mut lines = vec![format!("{what} after {op}, in deploy {}; what was left:", job.deploy)];
        lines.extend(job.class.split("; ").map(|part| format!("  {part}")));
        let again = if job.told == job.deploy { "again" } else { "instead" };
        lines.push(format!("then, on that disk, deploy {} {again}:", job.told));
        let disk = if job.killed {
            // Nothing is lost: to say it so needs no list.
            (&PROCESS_KILL, CrashState { at: *at, ..CrashState::default() })
        } else {
            (&POSIX, job.state.clone())
        };
        let survived = extra.iter().map(|effect| effect.0).collect();
        Start { lines, at: *at, survived, disk: Some(disk) }
    }
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
) -> Result<Option<Outcome>, RecordError> {
    let reruns = Reruns { plan, scenario: &recording.scenario, interrupted, tick };
    let seed = options.seed;
    let tell =
        |what: String, runs: usize| Tried { promise: Promise::Recoverable, what, runs: runs as u32, seed };
    let mut rng = Rng::with_seed(seed);
    let first = Before::new(&recording.trace, &recording.scenario, &recording.times);
    let until = first.until(plan);
    let survey = first.survey(until, MOST_POINTS, seed);
    let mut tried = Vec::new();
    let mut jobs = Vec::new();
    for (found, killed) in [(&survey.lost, false), (&survey.killed, true)] {
        let mut chosen = jobs_of(found, killed);
        rng.shuffle(&mut chosen);
        chosen.truncate(options.most as usize);
        let of = if killed { "states after a killed client" } else { "crash states" };
        let (classes, states, chosen_count) = (found.members.len(), found.states, chosen.len());
        let which = if plan.deploy_path_exists { "" } else { " of the first deploy" };
        let what = format!("{classes} classes of {of}{which} among {states} looked at, {chosen_count} tried");
        tried.push(tell(what, chosen_count));
        jobs.extend(chosen);
    }
    for (at, job) in jobs.iter_mut().enumerate() {
        job.again = at % AGAIN_ONE_IN == 0;
        assign(job, &first, plan, at % NEXT_VERSION_ONE_IN == NEXT_VERSION_ONE_IN - 1);
    }
    let done = reruns.each(&jobs, |job| try_job(job, &first, &reruns, seed))?;
    if interrupted() {
        return Ok(None);
    }
    let mut fates: Vec<(Start, Fate)> = Vec::new();
    let (mut again, mut classes) = (0, 0);
    for (job, done) in jobs.iter().zip(done) {
        let start = first.told(job);
        if let Some((second, fate)) = done.again {
            (again, classes) = (again + 1, classes + done.classes);
            let lines = start.lines.iter().cloned().chain(second.lines).collect();
            fates.push((Start { lines, ..start.clone() }, fate));
        }
        fates.push((start, done.fate));
    }
    let what = format!(
        "a second power loss or kill in the middle of {again} of these runs, each from one of {classes} classes \
         (depth 2)"
    );
    tried.push(tell(what, again));
    let kills = real_kills(plan, &first, until, &mut rng, options.most.min(REAL_KILLS));
    let killed = reruns.each(&kills, |kill| really_kill(kill, &first, &reruns))?;
    if interrupted() {
        return Ok(None);
    }
    let killed: Vec<(Start, Fate)> = killed.into_iter().flatten().collect();
    tried.push(tell(
        format!("client processes really killed, the tool run again: {}", killed.len()),
        killed.len(),
    ));
    fates.extend(killed);
    Ok(Some(Outcome { verdict: verdict(&fates, &recording.trace), tried }))
}

/// One state of each class.
fn jobs_of(found: &Classes, killed: bool) -> Vec<Job> {
    let job = |(class, state): (&String, &CrashState)| Job {
        state: state.clone(),
        killed,
        class: class.clone(),
        deploy: 0,
        told: 0,
        again: false,
    };
    found.members.iter().map(job).collect()
}

/// What the tool is told: the deploy that was under way, or the one after it.
fn assign(job: &mut Job, before: &Before<'_>, plan: &Plan, next: bool) {
    job.deploy = before.pasts.deploy_at(job.state.at);
    let there = (job.deploy as usize) < plan.sources.len();
    job.told = if next && there { job.deploy + 1 } else { job.deploy };
}

fn try_job(job: &Job, first: &Before<'_>, reruns: &Reruns<'_>, seed: u64) -> Result<Done, RecordError> {
    let ran = first.start(job, reruns)?;
    let fate = ran.fate();
    let mut done = Done { fate, again: None, classes: 0 };
    if !job.again || done.fate != Fate::Held {
        return Ok(done);
    }
    let second = Before::new(&ran.trace, &ran.scenario, &ran.times);
    let mut rng = Rng::with_seed(seed ^ (u64::from(job.state.at) << 1 | u64::from(job.killed)));
    let survey = second.survey(ran.trace.last(), MOST_POINTS_AGAIN, rng.u64(..));
    let mut jobs = jobs_of(&survey.lost, false);
    jobs.extend(jobs_of(&survey.killed, true));
    done.classes = jobs.len();
    rng.shuffle(&mut jobs);
    if let Some(mut job) = jobs.pop() {
        assign(&mut job, &second, reruns.plan, false);
        let fate = second.start(&job, reruns)?.fate();
        done.again = Some((second.told(&job), fate));
    }
    Ok(done)
}

/// A client that is to be killed.
struct Kill {
    deploy: u32,
    /// The op, counted from the beginning of its deploy.
    op: Seq,
    /// The op before its deploy.
    begin: Seq,
}

/// Ops of the recorded deploys, chosen at random.
fn real_kills(plan: &Plan, first: &Before<'_>, until: Seq, rng: &mut Rng, most: u32) -> Vec<Kill> {
    let marks = first.crashes.trace().marks();
    let mut kills = Vec::new();
    for mark in marks {
        let MarkKind::Begin { deploy } = mark.kind else { continue };
        let ends = |kind: &MarkKind| matches!(kind, MarkKind::End { deploy: ended, .. } if *ended == deploy);
        let end = marks.iter().find(|mark| ends(&mark.kind)).map_or(mark.after, |mark| mark.after);
        if deploy as usize <= plan.sources.len() && end <= until {
            kills.extend((1..=end - mark.after).map(|op| Kill { deploy, op, begin: mark.after }));
        }
    }
    rng.shuffle(&mut kills);
    kills.truncate(most as usize);
    kills
}

/// Runs a deploy on the disk that it began on, kills it at an op, and runs it again on the same machine. Nothing if it
/// never came to that op.
fn really_kill(
    kill: &Kill,
    first: &Before<'_>,
    reruns: &Reruns<'_>,
) -> Result<Option<(Start, Fate)>, RecordError> {
    let trace = first.crashes.trace();
    let mut disk = Fs::from_cells(View::live(trace, kill.begin).cells());
    first.times.give(&mut disk, kill.begin);
    let faults = Schedule::one(When::op(kill.op), Fault::Hang);
    let when_hanging = Some(WhenHanging::KillClient);
    let killed = Step { faults, when_hanging, ..Step::deploy(kill.deploy) };
    let again = Step { new_history: true, ..Step::deploy(kill.deploy) };
    let ran = reruns.run(disk, first.pasts.at(kill.begin), &[killed, again])?;
    let Some(hit) = ran.hits.first() else { return Ok(None) };
    let (deploy, op) = (kill.deploy, kill.op);
    let lines = vec![
        format!("the client of deploy {deploy} was killed while an op hung, which then went on: {hit}"),
        format!("(op {op} of that deploy); then, on the same machine, deploy {deploy} again:"),
    ];
    let disk = Some((&PROCESS_KILL, CrashState { at: kill.begin, ..CrashState::default() }));
    let start = Start { lines, at: kill.begin + op, survived: Vec::new(), disk };
    Ok(Some((start, ran.fate())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{Adds, Expect, SharedRule};
    use crate::replay::Token;
    use simfs::{Name, SyncScope};

    /// Whether it was a power loss or a kill: the token shows the disk that is booted.
    #[test]
    fn the_token_of_a_run_is_of_the_disk_that_it_began_with() {
        let mut fs = Fs::new(0, 0, 0o755);
        fs.mkdir_p("app/releases").unwrap();
        fs.start_recording();
        fs.mark(MarkKind::Begin { deploy: 1 });
        fs.mkdir_p("app/releases/1").unwrap();
        fs.write_file("app/releases/1/a", b"a").unwrap();
        fs.sync(SyncScope::All, true);
        let b = fs.write_file("app/releases/1/b", &[7; 9000]).unwrap();
        fs.chmod(b, 0o600).unwrap();
        fs.symlink_at("releases/1", "app/current").unwrap();
        let trace = fs.trace();
        let scenario = Scenario {
            mount: vec![Name::from(&b"srv"[..])],
            deploy_path: vec![Name::from(&b"app"[..])],
            sources: Vec::new(),
            expect: Expect { shared: SharedRule::None, adds: Adds::none(), mode_mask: 0o7777 },
            keep: None,
            past: None,
        };
        let times = Times::default();
        let before = Before::new(trace, &scenario, &times);
        let survey = before.survey(trace.last(), MOST_POINTS, 1);
        let mut disks = Vec::new();
        for (found, killed) in [(&survey.lost, false), (&survey.killed, true)] {
            let jobs = jobs_of(found, killed);
            assert!(jobs.len() > 2, "killed: {killed}");
            for job in jobs {
                let (model, state) = before.told(&job).disk.unwrap();
                let shown = Token::of_run(trace, model, state).disk(trace).unwrap();
                assert_eq!(shown, Token::new(trace, &POSIX, job.state.clone()).disk(trace).unwrap());
                disks.push(shown);
            }
        }
        disks.dedup();
        assert!(disks.len() > 5);
    }
}
