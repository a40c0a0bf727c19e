//! The command line: parses it, runs a deploy, renders the outcome.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config;
use crate::deploy::{self, Options, Outcome};
use crate::error::{DeployError, Live};

/// Live, or nothing to do.
pub const EXIT_LIVE: u8 = 0;
/// Not live; `current` is untouched.
pub const EXIT_NOT_LIVE: u8 = 1;
/// The command line or `cutover.toml` is wrong; nothing was connected to.
pub const EXIT_USAGE: u8 = 2;
/// It is not known, or not certain to survive a power loss, what is live.
pub const EXIT_UNKNOWN: u8 = 3;

/// Zero-downtime deploys over plain SSH.
#[derive(Debug, Parser)]
#[command(name = "cutover", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Deploy a directory: prepare a release beside the live one, then switch to it atomically
    ///
    /// Exit codes: 0 live, or nothing to do; 1 not live, `current` untouched; 2 wrong usage or configuration;
    /// 3 not certain what is live.
    Deploy {
        /// The target in cutover.toml; needed if there are several
        target: Option<String>,
        /// The configuration
        #[arg(long, value_name = "FILE", default_value = "cutover.toml")]
        config: PathBuf,
        /// Print the plan from the host's real state and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Print the plan before it is carried out
        #[arg(long, short)]
        verbose: bool,
    },
}

/// Runs the program.
pub fn main() -> ExitCode {
    let Cli { command: Command::Deploy { target, config, dry_run, verbose } } = Cli::parse();
    let target = match config::load(&config, target.as_deref()) {
        Ok(target) => target,
        Err(error) => {
            complain(&error.to_string(), error.hint.as_deref(), None);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error.to_string(), None, None);
            return ExitCode::from(EXIT_NOT_LIVE);
        }
    };
    let options = Options { dry_run, verbose };
    let result = runtime.block_on(deploy::deploy(&target, &options, &mut |line| say(line)));
    // A thread that still reads the source must not keep the process.
    runtime.shutdown_background();
    ExitCode::from(report(&result))
}

fn report(result: &Result<Outcome, DeployError>) -> u8 {
    match result {
        Ok(Outcome::Live { cleanup: Some(pending) }) => {
            say(&format!("live, cleanup pending: {pending}"));
            EXIT_LIVE
        }
        Ok(_) => EXIT_LIVE,
        Err(error) => {
            complain(&error.to_string(), error.hint().as_deref(), Some(&error.live().to_string()));
            match error.live() {
                Live::Uncertain(_) => EXIT_UNKNOWN,
                _ => EXIT_NOT_LIVE,
            }
        }
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
