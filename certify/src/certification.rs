//! One certification: records histories and judges them, makes further runs, and tells what was found.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cutover_certify::cli::{Cli, Common, Verb};
use cutover_certify::delays::Delays;
use cutover_certify::distinct::{Outline, distinct};
use cutover_certify::failed::{self, Faults, failed_is_failed};
use cutover_certify::judge::{Judgement, Promise, explain, judge_with_readers};
use cutover_certify::record::{Plan, RecordError, Recording, Subject, record};
use cutover_certify::recover::{self, recover};
use cutover_certify::report::{Outcome, Recordings};
use cutover_certify::tree::show_path;
use simfs::Model;

use crate::console::Console;
use crate::findings::Findings;
use crate::traces::{Keeper, keep_for_replay};
use crate::{Failure, could_not_record};

/// How the history differs that starts with an empty disk.
const FROM_NOTHING: &str = "starting without the deploy path:";

/// How many of the further runs there are from that history: one for so many from the first one. What it has of its own is
/// one deploy.
const FROM_NOTHING_ONE_IN: u32 = 4;

/// Cutover copies on the host while it uploads; two recordings with delays let either be the slower.
const CUTOVER_RECORDINGS: u32 = 3;

/// How much is asked for beyond one history.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    /// A history that starts without the deploy path.
    from_nothing: bool,
    recordings: u32,
    recoveries: u32,
    faults: Faults,
}

impl Asked {
    /// What the command line says; what it does not say is asked for where it takes seconds: of Cutover itself, on the
    /// bundled application.
    pub(crate) fn of(cli: &Cli) -> Self {
        let (common, from_nothing, by_default) = match &cli.command {
            Some(Verb::Run(run)) => (&run.common, run.from_nothing, false),
            _ => (&cli.run, true, cli.run.app.is_empty()),
        };
        Self {
            from_nothing,
            recordings: common.recordings.unwrap_or(if by_default { CUTOVER_RECORDINGS } else { 1 }),
            recoveries: common.recoveries.unwrap_or(if by_default { recover::MOST } else { 0 }),
            faults: common.faults.unwrap_or(Faults::Some(if by_default { failed::SOME } else { 0 })),
        }
    }

    /// What of it is asked from the history that starts with an empty disk.
    fn share_from_nothing(self) -> Self {
        let faults = match self.faults {
            Faults::All => Faults::Some(failed::SOME),
            Faults::Some(most) => Faults::Some(most.div_ceil(FROM_NOTHING_ONE_IN)),
            Faults::Only(one) => Faults::Only(one),
        };
        let recoveries = self.recoveries.div_ceil(FROM_NOTHING_ONE_IN);
        Self { recoveries, faults, ..self }
    }
}

/// A history, and what was found about it.
struct Judged {
    recording: Recording,
    judgement: Judgement,
    judging: Duration,
}

/// Does all of it. What is deployed is in the plan.
pub(crate) fn certify(
    mut plan: Plan,
    common: &Common,
    asked: Asked,
    stop: &AtomicBool,
) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let mut keeper = Keeper::new(common.record.as_deref(), &plan.subject)?;
    let mut findings = Findings::new(common.power.hosts(), common.record.as_deref().map(show_path));
    let models = common.power.models();
    let file = common.record.as_deref();
    let mut history = |plan: &Plan, label: &str| history(plan, &models, label, &mut keeper, stop);
    let first = history(&plan, "")?;
    let mut outlines = vec![Outline::new(&first.recording.trace)];
    first.run_again(&plan, asked, common.seed, stop)?.told(&mut findings, "", &plan.subject, file);
    for number in 2..=asked.recordings {
        plan.delays = Delays::of_recording(number, common.seed);
        let how = plan.delays.map_or_else(String::new, |delays| format!(", {delays}"));
        eprintln!("recording {number} of {}{how}", asked.recordings);
        let label = format!("in recording {number}{how}:");
        let again = history(&plan, &label)?;
        outlines.push(Outline::new(&again.recording.trace));
        again.told(&mut findings, &label, &plan.subject, file);
    }
    plan.delays = None;
    findings.recordings =
        Some(Recordings { recorded: asked.recordings, distinct_traces: distinct(&outlines) });
    if asked.from_nothing {
        plan.deploy_path_exists = false;
        plan.shared.clear();
        plan.sources.truncate(2);
        eprintln!("once more, starting without the deploy path");
        let from_nothing = history(&plan, FROM_NOTHING)?;
        let mut from_nothing =
            from_nothing.run_again(&plan, asked.share_from_nothing(), common.seed, stop)?;
        for tried in &mut from_nothing.judgement.tried {
            tried.what = format!("a smaller share: {}", tried.what);
        }
        from_nothing.told(&mut findings, FROM_NOTHING, &plan.subject, file);
    }
    keeper.finish()?;
    findings.tell("Recorded", started.elapsed(), common.json.as_deref())
}

/// Records one history and judges it. `label` says how it differs from the first.
fn history(
    plan: &Plan,
    models: &[&Model],
    label: &str,
    keeper: &mut Keeper<'_>,
    stop: &AtomicBool,
) -> Result<Judged, Failure> {
    let mut console = Console::new(plan.sources.len());
    let recording = record(plan, &mut console, &|| stop.load(Ordering::Relaxed));
    console.bar.finish_and_clear();
    let recording = recording.map_err(|error| could_not_record(&error))?;
    if let Some(cut) = &recording.cut_short {
        console.tool_output(cut);
        if stop.load(Ordering::Relaxed) {
            return Err(was_interrupted());
        }
        if !recording.trace.marks().iter().any(|mark| matches!(mark.kind, simfs::MarkKind::Ack { .. })) {
            return Err(Failure::new(
                format!("{cut}, and no deploy before it was reported as live: there is nothing to judge"),
                "the tool's own output is above; its task is in the environment, see `cutover-certify run --help`",
            ));
        }
    }
    keeper.keep(label, &recording)?;
    let started = Instant::now();
    let mut judgement =
        judge_with_readers(&recording.trace, &recording.scenario, models, recording.passes.as_ref());
    let judging = started.elapsed();
    explain(&mut judgement, &recording.trace, &recording.scenario);
    Ok(Judged { recording, judgement, judging })
}

impl Judged {
    /// Makes the further runs that are asked for, if the history is whole.
    fn run_again(mut self, plan: &Plan, asked: Asked, seed: u64, stop: &AtomicBool) -> Result<Self, Failure> {
        if self.recording.cut_short.is_none() {
            further_runs(plan, &self.recording, asked, seed, &mut self.judgement, stop)?;
        }
        Ok(self)
    }

    /// Adds it to what is told. If that has a token, the trace is kept, where the user does not do it.
    fn told(self, findings: &mut Findings, label: &str, subject: &Subject, file: Option<&Path>) {
        if let (Some(token), None) = (self.judgement.token(), file) {
            // The verdict stands without it.
            if let Err(failure) = keep_for_replay(&self.recording, subject, token) {
                eprintln!("warning: this run cannot be replayed without --record FILE: {}", failure.error);
            }
        }
        findings.add(self.judgement, label, self.judging, &self.recording.trace);
    }
}

/// Runs the tool again on what power losses and kills leave, and on a disk that fails.
fn further_runs(
    plan: &Plan,
    recording: &Recording,
    asked: Asked,
    seed: u64,
    judgement: &mut Judgement,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let interrupted = || stop.load(Ordering::Relaxed);
    let mut runs = |promise, what, make: &dyn Fn(&(dyn Fn() + Sync)) -> _| {
        let console = Console::new(0);
        console.runs(what);
        let tried: Result<Option<recover::Outcome>, RecordError> = make(&|| console.bar.inc(1));
        console.bar.finish_and_clear();
        let tried = tried.map_err(|error| could_not_record(&error))?.ok_or_else(was_interrupted)?;
        judgement.add_runs(promise, tried.verdict, tried.tried);
        Ok::<(), Failure>(())
    };
    if asked.recoveries > 0 {
        let options = recover::Options { most: asked.recoveries, seed };
        runs(Promise::Recoverable, "running it again after power losses and kills", &|tick| {
            recover(plan, recording, options, tick, &interrupted)
        })?;
    }
    if asked.faults != Faults::Some(0) {
        runs(Promise::FailedIsFailed, "running it on a disk that fails", &|tick| {
            failed_is_failed(plan, recording, asked.faults, seed, tick, &interrupted)
        })?;
    }
    Ok(())
}

fn was_interrupted() -> Failure {
    Failure::new("interrupted", "nothing was left behind; run it again")
}
