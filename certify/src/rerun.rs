//! Further runs of the tool, on a disk that somebody has prepared: a rebooted one, or one that fails.
//!
//! Each has a server, a mount and a trace of its own, and is judged by itself. Several go on at once; nothing is shared
//! between them, and their results are in the order in which they were asked for, whatever ended first.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use simfs::fault::{Hit, Schedule};
use simfs::{CrashState, Crashes, Disk, Fs, MarkKind, Model, Trace, View};

use crate::judge::{Past, Pasts, Promise, Scenario, Verdict, judge};
use crate::record::{self, Action, DEPLOY_DIR, Plan, RecordError, Times};
use crate::replay::Token;
use crate::tool::{self, Ended, Order, Reports, Run};
use crate::tree::show;

/// The most lines of a tool's output that a counterexample quotes.
const QUOTED_LINES: usize = 8;

/// How long what a killed client has left running may take to die. What a tool has put into the background does not.
const KILLED: Duration = Duration::from_secs(1);

/// What all further runs of a subject have in common.
pub struct Reruns<'a> {
    /// How the tool is run.
    pub plan: &'a Plan,
    /// What the first history was judged by.
    pub scenario: &'a Scenario,
    /// Whether to stop.
    pub interrupted: &'a (dyn Fn() -> bool + Sync),
    /// Told when a run has ended.
    pub tick: &'a (dyn Fn() + Sync),
}

/// One run of the tool.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// Its number, no other run's in a history: that of the source it is told to deploy; greater than all of these for a
    /// run that is to deploy nothing.
    pub deploy: u32,
    /// What it is asked for.
    pub action: Action,
    /// What fails meanwhile.
    pub faults: Schedule,
    /// What is done as soon as an op hangs; only then may that op go on.
    pub when_hanging: Option<WhenHanging>,
    /// What came before is a history of its own: the trace begins with this run.
    pub new_history: bool,
}

/// What happens to a client while an op hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenHanging {
    /// It is killed.
    KillClient,
    /// All its connections are cut.
    CutConnections,
}

impl Step {
    /// An undisturbed run.
    pub fn deploy(deploy: u32) -> Self {
        Self { deploy, ..Self::default() }
    }
}

/// What further runs have left.
pub struct Ran {
    /// The trace from the last new history on.
    pub trace: Trace,
    /// What the judge has to know beside it.
    pub scenario: Scenario,
    /// The times of files, for a reboot.
    pub times: Times,
    /// Each run of the tool: which deploy it was told to do, and how it ended.
    pub runs: Vec<(u32, Run)>,
    /// Which faults happened.
    pub hits: Vec<Hit>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It ended well, and broke no promise.
    Held,
    /// It did not; why, one line each.
    Broken(Vec<String>),
    /// Not all of it was observed.
    Unknown(String),
    /// We were asked to stop.
    Interrupted,
}

impl Reruns<'_> {
    /// Runs the tool once for each step, one after the other, whether they succeed or not.
    pub fn run(&self, disk: Fs, past: Past, steps: &[Step]) -> Result<Ran, RecordError> {
        let work = record::work_dir()?;
        let disk = Disk::new(disk);
        let server = record::start_server(&disk, NonZeroUsize::MIN, &self.plan.without)?;
        let deploy_path = server.mount_at().join(DEPLOY_DIR);
        let mount = record::names_of(server.mount_at());
        let mut scenario = Scenario { past: Some(Arc::new(past)), mount, ..self.scenario.clone() };
        let mut times = Times::default();
        times.note(&disk);
        let (mut runs, mut hits) = (Vec::new(), Vec::new());
        for step in steps {
            let deploy = step.deploy;
            if step.new_history {
                let trace = disk.take_trace();
                let past = Pasts::new(&trace, &scenario).at(trace.last());
                scenario.past = Some(Arc::new(past));
                times = Times::default();
                times.note(&disk);
            }
            let task = record::Task {
                server: &server,
                deploy_path: &deploy_path,
                source: self.plan.source(deploy),
                deploy: deploy as usize,
                action: step.action,
                work: work.path(),
            };
            let command = task.command(&self.plan.subject).map_err(RecordError::Prepare)?;
            disk.set_faults(&step.faults)?;
            let orders = || match step.when_hanging {
                _ if (self.interrupted)() => Order::Interrupt,
                Some(WhenHanging::KillClient) if disk.waiting() > 0 => Order::Kill,
                Some(WhenHanging::CutConnections) if disk.waiting() > 0 => {
                    server.cut_connections();
                    disk.release();
                    Order::GoOn
                }
                _ => Order::GoOn,
            };
            let acknowledges = self.plan.reports.acknowledges && step.action.acknowledges();
            let reports = Reports { acknowledges, ..self.plan.reports.clone() };
            let run = tool::run(command, &disk, deploy, &reports, self.plan.limit, &orders);
            if step.when_hanging == Some(WhenHanging::KillClient) {
                // What the server ran for the client dies with it, before the op that hangs goes on: nothing comes after that.
                server.wait_idle_but_for(disk.waiting(), KILLED);
            }
            // Nothing may wait for us any more, however this goes on.
            disk.release();
            let run = run.map_err(RecordError::Start)?;
            if !server.wait_idle(record::SETTLE) {
                let what = "what it started on the server was still running 10 s after its end".to_owned();
                disk.mark(MarkKind::Blind { what });
            }
            times.note(&disk);
            hits.extend(disk.hits());
            disk.set_faults(&Schedule::default())?;
            let stop = matches!(run.ended, Ended::Interrupted | Ended::TimedOut);
            runs.push((deploy, run));
            if stop {
                break;
            }
        }
        server.shutdown();
        Ok(Ran { trace: disk.take_trace(), scenario, times, runs, hits })
    }

    /// Does something for each job, on as many threads as there are processors, at most two: a run mostly waits for
    /// processes of its own. Each thread has a processor for itself, which everything that it starts inherits: a run is a
    /// conversation of tool, server and disk, and two runs should not meet on one processor. Stops early when interrupted or when one fails.
    pub fn each<T: Sync, R: Send>(
        &self,
        jobs: &[T],
        work: impl Fn(&T) -> Result<R, RecordError> + Sync,
    ) -> Result<Vec<R>, RecordError> {
        let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(2)).min(jobs.len());
        let next = AtomicUsize::new(0);
        let results: Mutex<Vec<(usize, Result<R, RecordError>)>> = Mutex::new(Vec::new());
        let processors = processors();
        let worker = |number: usize| {
            if let Some(processor) = processors.get(number) {
                // It is about speed only: a kernel that refuses does no harm.
                let _ = sched_setaffinity(None, processor);
            }
            loop {
                let at = next.fetch_add(1, Ordering::SeqCst);
                let Some(job) = jobs.get(at).filter(|_| !(self.interrupted)()) else { break };
                let result = work(job);
                let failed = result.is_err();
                results.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
                (self.tick)();
                if failed {
                    next.store(jobs.len(), Ordering::SeqCst);
                }
            }
        };
        std::thread::scope(|scope| {
            for number in 0..workers {
                let worker = &worker;
                scope.spawn(move || worker(number));
            }
        });
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_by_key(|(at, _)| *at);
        results.into_iter().map(|(_, result)| result).collect()
    }
}

/// Each processor that this thread may use, as a set of its own: first the one on which it happens to run, so that several
/// certifications of one machine do not all meet on the same.
fn processors() -> Vec<CpuSet> {
    let usable = sched_getaffinity(None).ok();
    let of = |at| {
        let mut one = CpuSet::new();
        one.set(at);
        one
    };
    let set = |at: &usize| usable.as_ref().is_some_and(|usable| usable.is_set(*at));
    let here = sched_getcpu();
    (here..CpuSet::MAX_CPU).chain(0..here).filter(set).map(of).collect()
}

impl Ran {
    /// The disk as a power loss has left it in that state, and what was promised before.
    pub fn reboot(&self, state: &CrashState) -> (Fs, Past) {
        let crashes = Crashes::new(&self.trace, &simfs::POSIX);
        let mut disk = Fs::from_cells(View::crash(&crashes, state).cells());
        self.times.give(&mut disk, state.at);
        (disk, Pasts::new(&self.trace, &self.scenario).at(state.at))
    }

    /// Whether the last run of the tool succeeded and all promises hold.
    pub fn fate(&self) -> Fate {
        match self.runs.last() {
            Some((deploy, run)) if run.ended != Ended::Exit(0) => match complaint(*deploy, run) {
                Some(lines) => Fate::Broken(lines),
                None => Fate::Interrupted,
            },
            _ => self.promises(&[], "it ended with exit status 0"),
        }
    }

    /// Whether the promises hold, but for those given. `although` begins the sentence that says what does not.
    pub fn promises(&self, but: &[Promise], although: &str) -> Fate {
        let judgement = judge(&self.trace, &self.scenario, &[&simfs::POSIX]);
        let mut unknown = None;
        for row in judgement.rows.iter().filter(|row| !but.contains(&row.promise)) {
            for verdict in row.verdicts() {
                match verdict {
                    Verdict::Broken(found) => {
                        let first = format!("{although}, but {} is broken:", row.promise.name());
                        let rest = found.lines.iter().map(|line| format!("  {line}"));
                        return Fate::Broken(std::iter::once(first).chain(rest).collect());
                    }
                    Verdict::Unknown { why } => unknown = Some(why.clone()),
                    Verdict::Proved | Verdict::Held { .. } | Verdict::NotAsked { .. } => {}
                }
            }
        }
        unknown.map_or(Fate::Held, Fate::Unknown)
    }

    /// The promises that are broken.
    pub fn broken(&self) -> Vec<Promise> {
        let judgement = judge(&self.trace, &self.scenario, &[&simfs::POSIX]);
        let broken = |verdict: &Verdict| matches!(verdict, Verdict::Broken(_));
        let rows = judgement.rows.iter().filter(|row| row.verdicts().any(broken));
        rows.map(|row| row.promise).collect()
    }
}

/// How a run failed; nothing if it was us who stopped it.
fn complaint(deploy: u32, run: &Run) -> Option<Vec<String>> {
    let how = match run.ended {
        Ended::Exit(status) => format!("deploy {deploy} failed with exit status {status}"),
        Ended::TimedOut => format!("deploy {deploy} did not end within the time limit"),
        Ended::Killed => format!("deploy {deploy} was killed"),
        Ended::Interrupted => return None,
    };
    let lines: Vec<&[u8]> = run.output.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return Some(vec![format!("{how}; it printed nothing")]);
    }
    let mut all = vec![format!("{how}; the end of its output:")];
    let end = &lines[lines.len().saturating_sub(QUOTED_LINES)..];
    all.extend(end.iter().map(|line| format!("  | {}", show(line))));
    Some(all)
}

/// How a further run began, for a counterexample.
#[derive(Clone, Debug, Default)]
pub(crate) struct Start {
    /// In words, one line each.
    pub(crate) lines: Vec<String>,
    /// The op of the recorded history.
    pub(crate) at: u32,
    /// The effects that survived there beyond those that were forced.
    pub(crate) survived: Vec<u32>,
    /// The crash state of the recorded history whose disk it began with.
    pub(crate) disk: Option<(&'static Model, CrashState)>,
}

/// The verdict over all runs that began in a recorded history; where some failed, the first of them is told.
pub(crate) fn verdict(fates: &[(Start, Fate)], recorded: &Trace) -> Verdict {
    let of = fates.len() as u32;
    let held = fates.iter().filter(|(_, fate)| *fate == Fate::Held).count() as u32;
    let is_broken = |fate: &Fate| matches!(fate, Fate::Broken(_));
    let broken = fates.iter().filter(|(_, fate)| is_broken(fate)).count();
    for (start, fate) in fates {
        if let Fate::Broken(lines) = fate {
            let count = format!("in {broken} of {of} runs; the first of them:");
            let mut lines: Vec<String> =
                std::iter::once(&count).chain(&start.lines).chain(lines).cloned().collect();
            let survived = start.survived.clone();
            let disk = start.disk.clone().map(|(model, state)| Token::of_run(recorded, model, state));
            let token = disk.as_ref().and_then(Token::told);
            if disk.is_some() && token.is_none() {
                lines.push(
                    "the disk that this began with cannot be replayed: no short token names it".to_owned(),
                );
            }
            return Verdict::Broken(crate::judge::Counterexample {
                survived,
                token,
                ..crate::judge::Counterexample::at(start.at, lines)
            });
        }
    }
    let unknown = fates.iter().find_map(|(_, fate)| match fate {
        Fate::Unknown(why) => Some(why.clone()),
        Fate::Interrupted => Some("a run was interrupted".to_owned()),
        Fate::Held | Fate::Broken(_) => None,
    });
    match unknown {
        Some(why) => Verdict::Unknown { why },
        None if of == 0 => Verdict::NotAsked { why: "there was nothing to try".to_owned() },
        None => Verdict::Held { held, of },
    }
}
