//! The command line: parses it, runs a command, renders the outcome.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::check::{self, Report, Verdict};
use crate::command::{self, Answer, Say};
use crate::config::{self, ConfigError, Target};
use crate::deploy::{self, Options, Outcome};
use crate::error::{DeployError, Live};
use crate::plan::KEEP_MIN;
use crate::progress::Progress;
use crate::release::ReleaseId;
use crate::text::printable;

/// Done; of `deploy`: live, or nothing to do.
pub const EXIT_DONE: u8 = 0;
/// Not done. Of `deploy` and `rollback`: not live, `current` is untouched.
pub const EXIT_FAILED: u8 = 1;
/// The command line or `cutover.toml` is wrong; nothing was connected to.
pub const EXIT_USAGE: u8 = 2;
/// It is not known, or not certain to survive a power loss, what is live.
pub const EXIT_UNKNOWN: u8 = 3;
/// The answer is no: nothing to do (`plan`), not equal to its seal (`verify`), nothing guaranteed (`check`).
pub const EXIT_NO: u8 = 4;

/// Zero-downtime deploys over plain SSH.
#[derive(Debug, Parser)]
#[command(name = "cutover", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find out whether deploys work on a host, and what is guaranteed there
    ///
    /// Connects and tries what a deploy stands on, in one temporary directory that it removes: in the deploy path, or in
    /// the nearest folder above it that exists. Nothing else is changed, and no lock is taken.
    ///
    /// Exit codes: 0 deploys work, and what is live survives a power loss; 4 deploys work, but nothing is guaranteed
    /// after a power loss; 1 deploys do not work; 2 wrong usage or configuration.
    Check {
        #[command(flatten)]
        at: Where,
    },
    /// Print what a deploy would do, from the host's real state, and change nothing
    ///
    /// Exit codes: 0 there is something to do; 4 nothing to do, the source is live; 1 there is no plan; 2 wrong usage
    /// or configuration.
    Plan {
        #[command(flatten)]
        at: Where,
    },
    /// Deploy a directory: prepare a release beside the live one, then switch to it atomically
    ///
    /// Exit codes: 0 live, or nothing to do; 1 not live, `current` untouched; 2 wrong usage or configuration;
    /// 3 not certain what is live.
    Deploy {
        #[command(flatten)]
        at: Where,
        /// Print the plan before it is carried out
        #[arg(long, short)]
        verbose: bool,
        /// Upload everything again, and copy nothing that is on the host
        #[arg(long)]
        full: bool,
        #[command(flatten)]
        lock: Lock,
    },
    /// Say what is live, since when and by whom, and what lies around; changes nothing
    ///
    /// Exit codes: 0 said; 1 the host cannot be looked at; 2 wrong usage or configuration.
    Status {
        #[command(flatten)]
        at: Where,
    },
    /// List the releases on the host, the newest first, and which of them count; changes nothing
    ///
    /// Exit codes: 0 listed; 1 the host cannot be looked at; 2 wrong usage or configuration.
    Releases {
        #[command(flatten)]
        at: Where,
    },
    /// Switch back, atomically, to an earlier release
    ///
    /// To RELEASE, or to the newest complete one that is older than the live one. It is compared with its seal first:
    /// type, size, mode, time and link text of everything in it. Nothing is removed.
    ///
    /// Exit codes: 0 live; 1 not live, `current` untouched; 2 wrong usage or configuration; 3 not certain what is live.
    Rollback {
        #[command(flatten)]
        of: Which,
        /// Compare the content of every file too, by its hash
        #[arg(long)]
        verify: bool,
        #[command(flatten)]
        lock: Lock,
    },
    /// Compare a release on the host with its seal, by the hashes of its files; changes nothing
    ///
    /// RELEASE, or what is live. What was added at run time is noted, and no difference.
    ///
    /// Exit codes: 0 equal; 4 it drifted; 1 it cannot be compared; 2 wrong usage or configuration.
    Verify {
        #[command(flatten)]
        of: Which,
    },
    /// Finish or undo what a run that died has left, and say which; a deploy does the same by itself
    ///
    /// Exit codes: 0 recovered, or nothing to recover; 1 not all of it; 2 wrong usage or configuration; 3 not certain
    /// what is live.
    Recover {
        #[command(flatten)]
        at: Where,
        #[command(flatten)]
        lock: Lock,
    },
    /// Remove old releases
    ///
    /// Kept are: what `current` resolves to; what it resolved to just before that, by the log; then the newest complete
    /// releases, by id; as many in all as `keep` says. Releases that Cutover did not make are never removed.
    ///
    /// Exit codes: 0 removed, or none to remove; 1 not all of them; 2 wrong usage or configuration; 3 not certain what
    /// is live.
    Prune {
        #[command(flatten)]
        at: Where,
        /// How many releases remain; as in cutover.toml, and there 3, if not given. At least 2
        #[arg(long, value_name = "N", value_parser = keep)]
        keep: Option<usize>,
        #[command(flatten)]
        lock: Lock,
    },
    /// Say who holds the lock of the deploy path, and free it if its run is not alive any more
    ///
    /// The lock ends with the last process of its run, so it is seldom stale. A run that is alive is left alone.
    ///
    /// Exit codes: 0 it is free; 1 it is held; 2 wrong usage or configuration.
    Unlock {
        #[command(flatten)]
        at: Where,
        /// End the processes of the run that holds it
        #[arg(long)]
        kill: bool,
    },
    /// Print the audit log that is kept on the host: who made what live, and instead of what
    ///
    /// Exit codes: 0 printed; 1 the host cannot be looked at; 2 wrong usage or configuration.
    Log {
        #[command(flatten)]
        at: Where,
        /// How many lines, the newest last
        #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
        lines: usize,
    },
}

/// Which target.
#[derive(Debug, Args)]
struct Where {
    /// The target in cutover.toml; needed if there are several
    target: Option<String>,
    #[command(flatten)]
    file: File,
}

/// Which release of which target.
#[derive(Debug, Args)]
struct Which {
    /// The target in cutover.toml; needed if there are several
    target: Option<String>,
    /// The release's 14 digits; without TARGET too
    release: Option<String>,
    #[command(flatten)]
    file: File,
}

#[derive(Debug, Args)]
struct File {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "cutover.toml")]
    config: PathBuf,
}

/// What changes something takes the lock.
#[derive(Debug, Args)]
struct Lock {
    /// Wait for another run to end, so long at most: `90s`, `10m`, `1h30m`
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
}

impl Lock {
    fn wait(&self) -> Duration {
        self.wait.unwrap_or_default()
    }
}

fn keep(text: &str) -> Result<usize, String> {
    let least = "what is live and what was live before always stay";
    let number: usize = text.parse().map_err(|_| "not a number".to_owned())?;
    if number < KEEP_MIN { Err(format!("less than {KEEP_MIN}: {least}")) } else { Ok(number) }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "not a duration such as `90s`, `10m` or `1h30m`".to_owned();
    let duration: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(duration).map_err(|_| wrong())
}

impl Where {
    fn load(&self) -> Result<Target, ConfigError> {
        config::load(&self.file.config, self.target.as_deref())
    }
}

impl Which {
    /// A single word of 14 digits is the release, any other the target.
    fn load(&self) -> Result<(Target, Option<ReleaseId>), Usage> {
        let id = |word: &String| ReleaseId::parse(word.as_bytes());
        let (name, release) = match (&self.target, &self.release) {
            (Some(word), None) if id(word).is_some() => (None, id(word)),
            (name, None) => (name.as_deref(), None),
            (name, Some(word)) => {
                let not_one = || {
                    Usage::Word(format!("`{}` is not the 14 digits of a release", printable(word.as_bytes())))
                };
                (name.as_deref(), Some(id(word).ok_or_else(not_one)?))
            }
        };
        Ok((config::load(&self.file.config, name)?, release))
    }
}

/// Why nothing was connected to.
enum Usage {
    Config(ConfigError),
    Word(String),
}

impl From<ConfigError> for Usage {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error.to_string(), None, None);
            return ExitCode::from(EXIT_FAILED);
        }
    };
    let code = match runtime.block_on(run(Cli::parse().command)) {
        Ok(code) => code,
        Err(Usage::Config(error)) => {
            complain(&error.to_string(), error.hint.as_deref(), None);
            EXIT_USAGE
        }
        Err(Usage::Word(error)) => {
            complain(&error, None, None);
            EXIT_USAGE
        }
    };
    // A thread that still reads the source must not keep the process.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn run(command: Command) -> Result<u8, Usage> {
    let say: Say<'_> = &mut |line: &str| self::say(line);
    Ok(match command {
        Command::Check { at } => checked(&check::check(&at.load()?).await),
        Command::Plan { at } => answer(command::plan(&at.load()?, say).await),
        Command::Deploy { at, verbose, full, lock } => {
            let target = at.load()?;
            let progress = Progress::on_stderr();
            let options = Options { verbose, wait: lock.wait(), full, progress: progress.clone() };
            let mut beside = |line: &str| progress.beside(|| say(line));
            let result = deploy::deploy(&target, &options, &mut beside).await;
            progress.end();
            deployed(&result)
        }
        Command::Unlock { at, kill } => answer(command::unlock(&at.load()?, kill, say).await),
        Command::Status { at } => answer(command::status(&at.load()?, say).await),
        Command::Releases { at } => answer(command::releases(&at.load()?, say).await),
        Command::Rollback { of, verify, lock } => {
            let (target, id) = of.load()?;
            let result = command::rollback(&target, id.as_ref(), verify, lock.wait(), say).await;
            result.map_or_else(|error| failed(&error, true), |_| EXIT_DONE)
        }
        Command::Verify { of } => {
            let (target, id) = of.load()?;
            answer(command::verify(&target, id.as_ref(), say).await)
        }
        Command::Recover { at, lock } => answer(command::recover(&at.load()?, lock.wait(), say).await),
        Command::Prune { at, keep, lock } => {
            let target = at.load()?;
            answer(command::prune(&target, keep.unwrap_or(target.keep), lock.wait(), say).await)
        }
        Command::Log { at, lines } => answer(command::log(&at.load()?, lines, say).await),
    })
}

fn deployed(result: &Result<Outcome, DeployError>) -> u8 {
    match result {
        Ok(Outcome::Live { cleanup: Some(pending) }) => {
            say(&format!("live, cleanup pending: {pending}"));
            EXIT_DONE
        }
        Ok(_) => EXIT_DONE,
        Err(error) => failed(error, true),
    }
}

fn checked(result: &Result<Report, DeployError>) -> u8 {
    match result {
        Ok(report) => {
            report.to_string().lines().for_each(say);
            match report.verdict() {
                Verdict::Guaranteed => EXIT_DONE,
                Verdict::Unguaranteed => EXIT_NO,
                Verdict::Unfit => EXIT_FAILED,
            }
        }
        Err(error) => failed(error, false),
    }
}

fn answer(result: Result<Answer, DeployError>) -> u8 {
    match result {
        Ok(Answer::Yes) => EXIT_DONE,
        Ok(Answer::No) => EXIT_NO,
        Err(error) => failed(&error, false),
    }
}

/// The error, what to do, and last what `current` points to; `switches` where something was to become live.
fn failed(error: &DeployError, switches: bool) -> u8 {
    let state = if switches { error.live().to_string() } else { error.live().state() };
    complain(&error.to_string(), error.hint().as_deref(), Some(&state));
    match error.live() {
        Live::Uncertain(_) => EXIT_UNKNOWN,
        _ => EXIT_FAILED,
    }
}

/// One plain line, out at once: whoever reads it may act on it.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A closed pipe does not undo a deploy.
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

fn complain(error: &str, hint: Option<&str>, state: Option<&str>) {
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "error: {error}");
    if let Some(hint) = hint {
        let _ = writeln!(out, "hint: {hint}");
    }
    if let Some(state) = state {
        let _ = writeln!(out, "state: {state}");
    }
}
