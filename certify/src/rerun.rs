//! One more run of the tool, on a disk that somebody has prepared: a rebooted one, or one that fails.
//!
//! Each run has a server, a mount and a trace of its own, and is judged by itself. Several go on at once; nothing is
//! shared between them, and their results are in the order in which they were asked for, whatever ended first.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use simfs::{Disk, Fs, MarkKind, Trace};

use crate::judge::{Past, Promise, Scenario, Verdict, judge};
use crate::record::{self, DEPLOY_DIR, Plan, RecordError};
use crate::tool::{self, Ended, Run};
use crate::tree::show;

/// The most lines of a tool's output that a counterexample quotes.
const QUOTED_LINES: usize = 8;

/// What all further runs of a subject have in common.
pub(crate) struct Reruns<'a> {
    /// How the tool is run.
    pub(crate) plan: &'a Plan,
    /// What the first history was judged by.
    pub(crate) scenario: &'a Scenario,
    /// Whether to stop.
    pub(crate) interrupted: &'a (dyn Fn() -> bool + Sync),
    /// Told when a run has ended.
    pub(crate) tick: &'a (dyn Fn() + Sync),
}

/// What a further run has left.
pub(crate) struct Ran {
    pub(crate) trace: Trace,
    pub(crate) scenario: Scenario,
    /// Each run of the tool: which deploy it was told to do, and how it ended.
    pub(crate) runs: Vec<(u32, Run)>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
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
    /// Runs the tool for one deploy after the other, until one fails.
    pub(crate) fn run(&self, disk: Fs, past: Past, deploys: &[u32]) -> Result<Ran, RecordError> {
        let work = record::work_dir()?;
        let disk = Disk::new(disk);
        let server = record::start_server(&disk)?;
        let deploy_path = server.mount_at().join(DEPLOY_DIR);
        let mut runs = Vec::new();
        for deploy in deploys {
            let source = &self.plan.sources[*deploy as usize - 1];
            let task = record::Task {
                server: &server,
                deploy_path: &deploy_path,
                source,
                deploy: *deploy as usize,
                work: work.path(),
            };
            let command = task.command(&self.plan.subject).map_err(RecordError::Prepare)?;
            let (reports, limit) = (&self.plan.reports, self.plan.limit);
            let run = tool::run(command, &disk, *deploy, reports, limit, &self.interrupted)
                .map_err(RecordError::Start)?;
            if !server.wait_idle(record::SETTLE) {
                let what = "what it started on the server was still running 10 s after its end".to_owned();
                disk.mark(MarkKind::Blind { what });
            }
            let ended = run.ended.clone();
            runs.push((*deploy, run));
            if ended != Ended::Exit(0) {
                break;
            }
        }
        server.shutdown();
        let scenario = Scenario { past: Some(Arc::new(past)), ..self.scenario.clone() };
        Ok(Ran { trace: disk.take_trace(), scenario, runs })
    }

    /// Does something for each job, on as many threads as there are processors, at most two: a run mostly waits for
    /// processes of its own. Stops early when interrupted or when one fails.
    pub(crate) fn each<T: Sync, R: Send>(
        &self,
        jobs: &[T],
        work: impl Fn(&T) -> Result<R, RecordError> + Sync,
    ) -> Result<Vec<R>, RecordError> {
        let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(2)).min(jobs.len());
        let next = AtomicUsize::new(0);
        let results: Mutex<Vec<(usize, Result<R, RecordError>)>> = Mutex::new(Vec::new());
        let worker = || {
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
            for _ in 0..workers {
                scope.spawn(worker);
            }
        });
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_by_key(|(at, _)| *at);
        results.into_iter().map(|(_, result)| result).collect()
    }
}

impl Ran {
    /// Whether the last run of the tool succeeded and all promises hold.
    pub(crate) fn fate(&self) -> Fate {
        match self.runs.last() {
            Some((deploy, run)) if run.ended != Ended::Exit(0) => match complaint(*deploy, run) {
                Some(lines) => Fate::Broken(lines),
                None => Fate::Interrupted,
            },
            _ => self.promises(),
        }
    }

    /// Whether all promises hold, however the tool ended.
    pub(crate) fn promises(&self) -> Fate {
        let judgement = judge(&self.trace, &self.scenario, &simfs::POSIX);
        let mut unknown = None;
        for row in &judgement.rows {
            for verdict in row.verdicts() {
                match verdict {
                    Verdict::Broken(found) => return Fate::Broken(broken(row.promise, &found.lines)),
                    Verdict::Unknown { why } => unknown = Some(why.clone()),
                    Verdict::Proved | Verdict::Held { .. } | Verdict::NotAsked { .. } => {}
                }
            }
        }
        unknown.map_or(Fate::Held, Fate::Unknown)
    }
}

fn broken(promise: Promise, lines: &[String]) -> Vec<String> {
    let mut all = vec![format!("it ended with exit status 0, but {} is broken then:", promise.name())];
    all.extend(lines.iter().map(|line| format!("  {line}")));
    all
}

/// How a run failed; nothing if it was us who stopped it.
pub(crate) fn complaint(deploy: u32, run: &Run) -> Option<Vec<String>> {
    let how = match run.ended {
        Ended::Exit(status) => format!("deploy {deploy} failed with exit status {status}"),
        Ended::TimedOut => format!("deploy {deploy} did not end within the time limit"),
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
