//! `cutover-certify`: see [`cutover_certify`].

mod certification;
mod console;
mod findings;
mod output;
mod traces;

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use cutover_certify::app;
use cutover_certify::cli::{Cli, Common, ShowModels, Verb};
use cutover_certify::judge::SharedRule;
use cutover_certify::memory;
use cutover_certify::readers;
use cutover_certify::record::{Plan, RecordError, Subject};
use cutover_certify::report::Outcome;
use cutover_certify::tool::Reports;
use cutover_certify::tree::{TreeError, show_path};

use certification::Asked;
use simfs::MODELS;

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
        Some(Verb::Models(which)) => return Ok(models(&which)),
        Some(Verb::Replay(options)) => return traces::replay(&options),
        Some(Verb::Run(_) | Verb::Reader) | None => {}
    }
    memory::give_back_freed();
    // Before any thread is started: a process with several threads cannot enter a user namespace.
    sshd_test::enter_user_namespace_if_needed()
        .map_err(|error| could_not_record(&RecordError::Server(error)))?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, stop.clone()).map_err(|error| {
            Failure::new(format!("cannot handle signals: {error}"), "check the system's limits")
        })?;
    }
    let asked = Asked::of(&cli);
    let (common, mut plan) = plan(cli)?;
    let _bundled = sources(&common, &mut plan)?;
    certification::certify(plan, &common, asked, &stop)
}

/// `cutover-certify models`.
fn models(which: &ShowModels) -> Outcome {
    let all = which.name.map_or_else(|| MODELS.to_vec(), |one| vec![one]);
    let text: Vec<String> = all.iter().map(ToString::to_string).collect();
    // Nobody may be reading any more.
    let _ = io::stdout().write_all(text.join("\n").as_bytes());
    Outcome::Holds
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
                reports: Reports { ack: run.ack.clone(), ..Reports::default() },
                limit: run.common.timeout,
                readers: run.readers,
                delays: None,
                without: run.common.without.clone(),
            };
            Ok((run.common, plan))
        }
        // The other commands record nothing: they never come here.
        None | Some(Verb::Judge(_) | Verb::Trace(_) | Verb::Models(_) | Verb::Replay(_) | Verb::Reader) => {
            let ours = Plan::for_cutover(find_cutover(cli.cutover)?);
            let without = cli.run.without.clone();
            let plan = Plan { limit: cli.run.timeout, readers: true, without, ..ours };
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
