//! `cutover-certify`: see [`cutover_certify`].

mod output;
mod traces;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use simfs::ContentBytes;

use cutover_certify::app;
use cutover_certify::cli::{Cli, Common, Verb};
use cutover_certify::failed::{self, Faults, failed_is_failed};
use cutover_certify::judge::{Judgement, Promise, SharedRule, judge_with_readers};
use cutover_certify::readers;
use cutover_certify::record::{CutShort, Plan, Progress, RecordError, Recording, Subject, record};
use cutover_certify::recover::{self, recover};
use cutover_certify::report::{self, Outcome};
use cutover_certify::tool::Reports;
use cutover_certify::tree::{TreeError, show, show_path};

/// How the second history differs from the first.
const FROM_NOTHING: &str = "starting without the deploy path:";

fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Some(Verb::Reader)) {
        return match readers::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    match run(cli) {
        Ok(outcome) => ExitCode::from(outcome as u8),
        Err(failure) => {
            eprintln!("error: {}", failure.error);
            if let Some(hint) = failure.hint {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(Outcome::CouldNotRun as u8)
        }
    }
}

/// Why nothing was judged.
struct Failure {
    error: String,
    hint: Option<String>,
}

impl Failure {
    fn new(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { error: error.into(), hint: Some(hint.into()) }
    }
}

fn run(cli: Cli) -> Result<Outcome, Failure> {
    match cli.command {
        Some(Verb::Judge(judge)) => return traces::judge(&judge),
        Some(Verb::Trace(verb)) => return traces::trace(&verb),
        Some(Verb::Run(_) | Verb::Reader) | None => {}
    }
    // Before any thread is started: a process with several threads cannot enter a user namespace.
    sshd_test::enter_user_namespace_if_needed()
        .map_err(|error| could_not_record(&RecordError::Server(error)))?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, stop.clone()).map_err(|error| {
            Failure::new(format!("cannot handle signals: {error}"), "check the system's limits")
        })?;
    }
    let is_ours = cli.command.is_none();
    let from_nothing = match &cli.command {
        Some(Verb::Run(run)) => run.from_nothing,
        _ => true,
    };
    let (common, mut plan) = plan(cli)?;
    let _bundled = sources(&common, &mut plan)?;
    let mut keeper = traces::Keeper::new(common.record.as_deref(), &plan.subject)?;
    let started = Instant::now();
    let (recording, mut judgement, mut judging) = history(&plan, "", &mut keeper, &stop)?;
    let mut content = vec![ContentBytes::of(&recording.trace)];
    if recording.cut_short.is_none() {
        further_runs(&plan, &recording, &common, is_ours, &mut judgement, &stop)?;
    }
    if from_nothing {
        plan.deploy_path_exists = false;
        plan.shared.clear();
        plan.sources.truncate(2);
        eprintln!("once more, starting without the deploy path");
        let (recording, other, took) = history(&plan, FROM_NOTHING, &mut keeper, &stop)?;
        content.push(ContentBytes::of(&recording.trace));
        judgement = judgement.and(other, FROM_NOTHING);
        judging += took;
    }
    keeper.finish()?;
    let outcome = report::outcome(&judgement);
    if let Some(file) = &common.json {
        write_json(file, &judgement, &content, outcome)?;
    }
    let text = format!(
        "{}Recorded and judged in {:.1} s, of which {:.1} s for judging.\n",
        report::text(&judgement),
        started.elapsed().as_secs_f64(),
        judging.as_secs_f64()
    );
    // Nobody may be reading any more; the verdict is the exit status.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(outcome)
}

/// Records one history and judges it; also tells how long the judging took. `label` says how it differs from the first.
fn history(
    plan: &Plan,
    label: &str,
    keeper: &mut traces::Keeper<'_>,
    stop: &AtomicBool,
) -> Result<(Recording, Judgement, Duration), Failure> {
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
    let judgement =
        judge_with_readers(&recording.trace, &recording.scenario, &simfs::POSIX, recording.passes.as_ref());
    Ok((recording, judgement, started.elapsed()))
}

/// Runs the tool again on what power losses and kills leave, and on a disk that fails.
fn further_runs(
    plan: &Plan,
    recording: &Recording,
    common: &Common,
    is_ours: bool,
    judgement: &mut Judgement,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let most = common.recoveries.unwrap_or(if is_ours { recover::MOST } else { 0 });
    let faults = common.faults.unwrap_or(Faults::Some(if is_ours { failed::SOME } else { 0 }));
    let seed = common.seed;
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
    if most > 0 {
        let options = recover::Options { most, seed };
        runs(Promise::Recoverable, "running it again after power losses and kills", &|tick| {
            recover(plan, recording, options, tick, &interrupted)
        })?;
    }
    if faults != Faults::Some(0) {
        runs(Promise::FailedIsFailed, "running it on a disk that fails", &|tick| {
            failed_is_failed(plan, recording, faults, seed, tick, &interrupted)
        })?;
    }
    Ok(())
}

fn was_interrupted() -> Failure {
    Failure::new("interrupted", "nothing was left behind; run it again")
}

fn plan(cli: Cli) -> Result<(Common, Plan), Failure> {
    match cli.command {
        Some(Verb::Run(run)) => {
            let expect = run.expect();
            let plan = Plan {
                subject: Subject::Tool { command: run.tool.clone() },
                sources: Vec::new(),
                deploy_path_exists: true,
                shared: Vec::new(),
                expect,
                keep: run.keep.map(|keep| keep as usize),
                reports: Reports { ack: run.ack.clone(), cleanup_pending: None },
                limit: run.common.timeout,
                readers: run.readers,
            };
            Ok((run.common, plan))
        }
        // The other commands record nothing: they never come here.
        None | Some(Verb::Judge(_) | Verb::Trace(_) | Verb::Reader) => {
            let ours = Plan::for_cutover(find_cutover(cli.cutover)?);
            let plan = Plan { limit: cli.run.timeout, readers: true, ..ours };
            Ok((cli.run, plan))
        }
    }
}

/// Beside this program, else on PATH, the way git finds its commands.
fn find_cutover(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(named) = named {
        return fs::canonicalize(&named).map_err(|error| {
            Failure::new(
                format!("cannot find {}: {error}", show_path(&named)),
                "check the path after --cutover",
            )
        });
    }
    let beside = std::env::current_exe().ok().map(|exe| exe.with_file_name("cutover"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join("cutover"));
    beside.into_iter().chain(on_path).find(|file| file.is_file()).ok_or_else(|| {
        Failure::new(
            "the program `cutover` is neither beside this one nor on PATH",
            "`cargo certify` builds both; or name it with --cutover FILE; or certify another tool with `run --tool`",
        )
    })
}

/// Fills in what is deployed. The bundled application lives in a temporary directory as long as the result.
fn sources(common: &Common, plan: &mut Plan) -> Result<Option<tempfile::TempDir>, Failure> {
    plan.shared = common.shared.iter().flat_map(cutover_certify::cli::SharedPath::data).collect();
    if let Some(last) = common.app.last() {
        for dir in &common.app {
            let dir = fs::canonicalize(dir).map_err(|error| {
                Failure::new(
                    format!("cannot read {}: {error}", show_path(dir)),
                    "check the paths after --app",
                )
            })?;
            plan.sources.push(dir);
        }
        debug_assert!(!last.as_os_str().is_empty(), "canonicalize refuses an empty path");
    } else {
        let failed = |error| {
            let error = format!("cannot write the bundled application to a temporary directory: {error}");
            Failure::new(error, "check TMPDIR, and the space and permissions there")
        };
        let temp = tempfile::Builder::new().prefix("cutover-app-").tempdir().map_err(failed)?;
        for version in 1..=app::RELEASES {
            let dir = temp.path().join(version.to_string());
            fs::create_dir(&dir).and_then(|()| app::write_release(version, &dir)).map_err(failed)?;
            plan.sources.push(dir);
        }
        if plan.expect.shared == SharedRule::DropDown && common.shared.is_empty() {
            plan.shared = app::shared_data();
        }
        plan.sources.extend(plan.sources.last().cloned());
        return Ok(Some(temp));
    }
    plan.sources.extend(plan.sources.last().cloned());
    Ok(None)
}

fn could_not_record(error: &RecordError) -> Failure {
    let hint = match error {
        RecordError::Source(TreeError::Read { error, .. })
            if error.kind() == io::ErrorKind::NotADirectory =>
        {
            Some("name the directory that holds the release".to_owned())
        }
        RecordError::Source(_) => Some("make it readable, or leave it out of the directory".to_owned()),
        RecordError::SourceChanged { .. } => {
            Some("nothing may write to a directory while it is being deployed; run it again".to_owned())
        }
        RecordError::Server(sshd_test::Error::Disk { .. }) => Some(
            "it needs FUSE: `modprobe fuse`; in a container pass the device /dev/fuse; else run it as root"
                .to_owned(),
        ),
        _ => None,
    };
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors say themselves what their cause said.
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    Failure { error: text, hint }
}

#[derive(Serialize)]
struct Json<'a> {
    version: u32,
    exit_status: u8,
    #[serde(flatten)]
    judgement: &'a Judgement,
    /// One for each history.
    content: Vec<JsonContent>,
}

#[derive(Serialize)]
struct JsonContent {
    recorded_bytes: u64,
    stored_bytes: u64,
}

fn write_json(
    file: &Path,
    judgement: &Judgement,
    content: &[ContentBytes],
    outcome: Outcome,
) -> Result<(), Failure> {
    let content = content
        .iter()
        .map(|bytes| JsonContent { recorded_bytes: bytes.recorded, stored_bytes: bytes.stored })
        .collect();
    let json = Json { version: 1, exit_status: outcome as u8, judgement, content };
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("cannot write {}: {error}", show_path(file)), "check the path after --json")
    };
    let mut text = serde_json::to_vec_pretty(&json).map_err(|error| failed(&error))?;
    text.push(b'\n');
    fs::write(file, text).map_err(|error| failed(&error))
}

/// Progress: a bar on a terminal, plain lines elsewhere. All of it on standard error.
struct Console {
    bar: ProgressBar,
    terminal: bool,
}

impl Console {
    fn new(deploys: usize) -> Self {
        let terminal = io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(deploys as u64) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} [{bar:24}] {pos}/{len} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, terminal }
    }

    /// Runs whose number is not known before.
    fn runs(&self, what: &'static str) {
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}: {pos} {elapsed}") {
            self.bar.set_style(style);
        }
        self.bar.set_message(what);
        if !self.terminal {
            eprintln!("{what}");
        }
    }

    fn line(&self, text: &str) {
        if self.terminal { self.bar.println(text) } else { eprintln!("{text}") }
    }

    fn tool_output(&self, cut: &CutShort) {
        let lines: Vec<&[u8]> = cut.output.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return self.line(&format!("{cut}; it printed nothing"));
        }
        self.line(&format!("{cut}; the end of its output:"));
        for line in &lines[lines.len().saturating_sub(20)..] {
            self.line(&format!("  | {}", show(line)));
        }
    }
}

impl Progress for Console {
    fn begins(&mut self, deploy: usize, of: usize, source: &Path) {
        self.bar.set_message(format!("deploy {deploy} of {of}: {}", show_path(source)));
    }

    fn ended(&mut self, deploy: usize, ops: u32, took: Duration) {
        self.bar.inc(1);
        self.line(&format!("deploy {deploy}: {ops} operations on the disk, {:.2} s", took.as_secs_f64()));
    }
}
