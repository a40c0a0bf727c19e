//! The command line of `cutover-certify`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use globset::Glob;
use regex::bytes::Regex;
use simfs::{FILE_SYSTEMS, MODELS, Model};

use crate::app::{Content, SharedEntry};
use crate::failed::{Faults, One};
use crate::judge::{Adds, Expect, SharedRule};

/// Runs a deploy tool against an embedded SSH server on a simulated disk, and decides for every instant and every
/// possible power loss whether `current` resolves to a complete release.
///
/// Without a command: certifies Cutover itself.
///
/// Exit status: 0 nothing broken or unknown, 1 a promise is broken, 2 could not run, 3 unknown.
#[derive(Debug, Parser)]
#[command(name = "cutover-certify", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do instead of certifying Cutover.
    #[command(subcommand)]
    pub command: Option<Verb>,

    /// Options.
    #[command(flatten)]
    pub run: Common,

    /// The `cutover` program [default: beside this program, else on PATH]
    #[arg(long, value_name = "FILE")]
    pub cutover: Option<PathBuf>,
}

/// What can be asked for by name.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Certifies any other deploy command
    Run(Box<Run>),
    /// Judges recorded traces: live and crash states, without FUSE and without the tool; runs are not in them
    Judge(Judge),
    /// Shows or converts a recorded trace
    #[command(subcommand)]
    Trace(TraceVerb),
    /// Shows the crashed disk of a counterexample, the same each time
    Replay(Replay),
    /// Prints the models of what a power loss may leave: their rules, and where each comes from
    Models(ShowModels),
    /// Reads what a recording tells it to; started by this program itself
    #[command(name = crate::readers::VERB, hide = true)]
    Reader,
}

/// Options of `replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// The token that was told with the counterexample
    pub token: String,

    /// The trace file that it is of [default: kept by the run that found it, in $XDG_STATE_HOME/cutover-certify]
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,

    /// Mounts the disk on a directory, until Ctrl-C
    #[arg(long, value_name = "DIR", conflicts_with = "export")]
    pub mount: Option<PathBuf>,

    /// Writes the disk to a directory that does not exist yet or is empty; needs no FUSE
    #[arg(long, value_name = "DIR")]
    pub export: Option<PathBuf>,

    /// How the trace is read.
    #[command(flatten)]
    pub reading: Reading,
}

/// Options of `models`.
#[derive(Debug, Args)]
pub struct ShowModels {
    /// Only this one [default: all]
    #[arg(value_name = "NAME", value_parser = model)]
    pub name: Option<&'static Model>,
}

/// Options about the crash states that are judged.
#[derive(Debug, Args)]
pub struct Power {
    /// The model of what a power loss may leave; can be repeated. `cutover-certify models` prints them all
    /// [default: posix, and what it contains: ext4-ordered, xfs and btrfs]
    #[arg(long = "model", value_name = "NAME", value_parser = model)]
    models: Vec<&'static Model>,

    /// A host of yours and the model of its file system, as `cutover check` says: what is broken there is told at the end.
    /// Can be repeated
    #[arg(long = "host", value_name = "HOST=MODEL", value_parser = host)]
    hosts: Vec<Host>,
}

impl Power {
    /// The models to judge under: those that were asked for and those that hosts have, each once.
    pub fn models(&self) -> Vec<&'static Model> {
        let mut models = self.models.clone();
        if models.is_empty() {
            models.extend(FILE_SYSTEMS);
        }
        models.extend(self.hosts.iter().map(|host| host.model));
        let mut each: Vec<&'static Model> = Vec::new();
        for model in models {
            if !each.iter().any(|before| before.name == model.name) {
                each.push(model);
            }
        }
        each
    }

    /// The user's hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }
}

/// A `--host`.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name, for people.
    pub name: String,
    /// The model of its file system.
    pub model: &'static Model,
}

fn model(name: &str) -> Result<&'static Model, String> {
    Model::named(name).ok_or_else(|| {
        let names: Vec<&str> = MODELS.iter().map(|model| model.name).collect();
        format!("has to be one of {}", names.join(", "))
    })
}

fn host(text: &str) -> Result<Host, String> {
    let (name, of) = text.rsplit_once('=').ok_or("has to be a host and a model, like web1=ext4-ordered")?;
    Ok(Host { name: name.to_owned(), model: model(of)? })
}

/// Options of `judge`.
#[derive(Debug, Args)]
pub struct Judge {
    /// Trace files, in either encoding; several are judged as histories of one tool, of each promise the worst verdict
    #[arg(required = true, value_name = "TRACE")]
    pub traces: Vec<PathBuf>,

    /// Writes all verdicts as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Under which models.
    #[command(flatten)]
    pub power: Power,

    /// How it is read.
    #[command(flatten)]
    pub reading: Reading,
}

/// Options of everything that reads a trace file.
#[derive(Debug, Args)]
pub struct Reading {
    /// The most memory that a trace may take, in MiB
    #[arg(long, value_name = "MIB", default_value = "4096", value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    pub memory: u64,
}

impl Reading {
    /// The same in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.memory << 20
    }
}

/// What can be done with a trace file.
#[derive(Debug, Subcommand)]
pub enum TraceVerb {
    /// Prints the operations, one line each, with the paths of that instant
    Show(Show),
    /// Prints what it holds, in numbers
    Stats(Stats),
    /// Prints the tree that was on the disk after an operation: type, mode, length, SHA-256 or link text, path
    Tree(TreeAt),
    /// Writes it as JSON lines, for other programs; nothing is lost
    Export(Convert),
    /// Writes it in the compact encoding
    Import(Convert),
}

/// Options of `trace show`.
#[derive(Debug, Args)]
pub struct Show {
    /// A trace file, in either encoding
    pub trace: PathBuf,

    /// Only this history, counted from 1
    #[arg(long, value_name = "N")]
    pub history: Option<usize>,

    /// The first operation
    #[arg(long, value_name = "OP", default_value_t = 0)]
    pub from: u32,

    /// The last operation [default: the last of all]
    #[arg(long, value_name = "OP")]
    pub to: Option<u32>,

    /// Also what each operation changed
    #[arg(long)]
    pub effects: bool,

    /// How it is read.
    #[command(flatten)]
    pub reading: Reading,
}

/// Options of `trace stats`.
#[derive(Debug, Args)]
pub struct Stats {
    /// A trace file, in either encoding
    pub trace: PathBuf,

    /// How it is read.
    #[command(flatten)]
    pub reading: Reading,
}

/// Options of `trace tree`.
#[derive(Debug, Args)]
pub struct TreeAt {
    /// A trace file, in either encoding
    pub trace: PathBuf,

    /// Only this history, counted from 1
    #[arg(long, value_name = "N")]
    pub history: Option<usize>,

    /// After this operation [default: the last]
    #[arg(long, value_name = "OP")]
    pub at: Option<u32>,

    /// How it is read.
    #[command(flatten)]
    pub reading: Reading,
}

/// Options of `trace export` and `trace import`.
#[derive(Debug, Args)]
pub struct Convert {
    /// A trace file, in either encoding
    pub trace: PathBuf,

    /// Where to write it [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// How it is read.
    #[command(flatten)]
    pub reading: Reading,
}

/// Options of every certification.
#[derive(Debug, Args)]
pub struct Common {
    /// The releases to deploy, oldest first; the last is deployed once more unchanged [default: a bundled application]
    #[arg(long, value_name = "DIR", num_args = 1..)]
    pub app: Vec<PathBuf>,

    /// Writes all verdicts as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Under which models.
    #[command(flatten)]
    pub power: Power,

    /// Writes what was recorded to a trace file, for `judge` and `trace`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// Time limit of one deploy, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub timeout: Duration,

    /// Records the history so often, and merges the verdicts; from the second time on some programs on the server are slowed
    /// down, so that parallel parts of the tool overtake each other [default: 3 for Cutover with the bundled application, else 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub recordings: Option<u32>,

    /// A path below shared/ that holds user data before the first deploy and is linked into each release; a trailing
    /// slash makes it a directory. Can be repeated
    #[arg(long, value_name = "PATH", value_parser = shared_path)]
    pub shared: Vec<SharedPath>,

    /// How many classes of crash states, and as many of states after a killed client, to reboot into and run the tool
    /// again from; 0 asks nothing about recovery [default: 64 for Cutover with the
    /// bundled application, else 0]
    #[arg(long, value_name = "N")]
    pub recoveries: Option<u32>,

    /// How many faults (EIO, ENOSPC, kills …) to try, chosen at random, in the middle of the second deploy and of the first
    /// that removes a release; `all`: EIO and ENOSPC at every operation, in minutes; a fault by the
    /// name that a counterexample gives it, like 2:17:eio: that one alone; 0 asks nothing about failures [default: 96 for Cutover with
    /// the bundled application, else 0]
    #[arg(long, value_name = "N", value_parser = faults)]
    pub faults: Option<Faults>,

    /// A program that the server does not have, such as flock. Can be repeated
    #[arg(long, value_name = "PROGRAM")]
    pub without: Vec<String>,

    /// What random choices are made from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The deploy command, run by `sh -c` once for each release; what to do is in its environment: CERTIFY_HOST,
    /// CERTIFY_PORT, CERTIFY_USER, CERTIFY_IDENTITY, CERTIFY_KNOWN_HOSTS, CERTIFY_SSH_CONFIG (`ssh -F
    /// "$CERTIFY_SSH_CONFIG" target` just works), CERTIFY_DEPLOY_PATH, CERTIFY_SOURCE (the directory to deploy),
    /// CERTIFY_VERSION (1, 2, 3 …) and CERTIFY_ACTION (`deploy`)
    #[arg(long, value_name = "COMMAND")]
    pub tool: String,

    /// Options that every certification has.
    #[command(flatten)]
    pub common: Common,

    /// How many releases it keeps
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep: Option<u32>,

    /// Links in a release follow Cutover's drop-down rule, for all that is below shared/, instead of being exactly
    /// the --shared paths
    #[arg(long)]
    pub drop_down: bool,

    /// Also reads the releases while they are deployed, as a visitor of a site does, in three processes
    #[arg(long)]
    pub readers: bool,

    /// Also records a history that starts without the deploy path, which the tool then has to make
    #[arg(long)]
    pub from_nothing: bool,

    /// Paths that it adds to a release or changes in it, like REVISION; a glob, can be repeated
    #[arg(long, value_name = "GLOB", value_parser = Glob::new)]
    pub adds: Vec<Glob>,

    /// Permission bits that have to be those of the source, in octal
    #[arg(long, value_name = "MASK", default_value = "7777", value_parser = octal)]
    pub mode_mask: u32,

    /// A line of its output that matches this regular expression says: live now. Exit status 0 says it in any case
    #[arg(long, value_name = "PATTERN", value_parser = Regex::new)]
    pub ack: Option<Regex>,
}

impl Run {
    /// What its releases look like.
    pub fn expect(&self) -> Expect {
        let shared = if self.drop_down {
            SharedRule::DropDown
        } else if self.common.shared.is_empty() {
            SharedRule::None
        } else {
            SharedRule::Exact(self.common.shared.iter().map(|shared| shared.path.clone()).collect())
        };
        // Each glob was parsed by itself; together they can only be too large.
        let adds = Adds::new(self.adds.clone()).unwrap_or_default();
        Expect { shared, adds, mode_mask: self.mode_mask }
    }
}

/// A `--shared` path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPath {
    path: Vec<u8>,
    directory: bool,
}

impl SharedPath {
    /// The user data that is there before the first deploy.
    pub fn data(&self) -> Vec<SharedEntry> {
        let file = |path: Vec<u8>, bytes: &[u8]| SharedEntry {
            path,
            content: Content::File { bytes: bytes.to_vec(), mode: 0o640 },
        };
        if !self.directory {
            return vec![file(self.path.clone(), b"written by a user\n")];
        }
        let below = |name: &[u8]| [&self.path, &b"/"[..], name].concat();
        vec![
            SharedEntry { path: self.path.clone(), content: Content::Directory { mode: 0o755 } },
            file(below(b"kept.txt"), b"written by a user\n"),
            file(below(b"deep/er/kept.bin"), &[7; 10_000]),
        ]
    }
}

fn shared_path(text: &str) -> Result<SharedPath, String> {
    let path = text.trim_end_matches('/');
    if path.is_empty() || path.starts_with('/') {
        return Err("has to be a path below shared/, like `storage/uploads/` or `.env`".to_owned());
    }
    if path.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return Err("must not contain `.`, `..` or empty names".to_owned());
    }
    Ok(SharedPath { path: path.as_bytes().to_vec(), directory: text.ends_with('/') })
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(n @ 1..=86_400) => Ok(Duration::from_secs(n)),
        _ => Err("has to be a whole number of seconds, from 1 to 86400".to_owned()),
    }
}

fn faults(text: &str) -> Result<Faults, String> {
    match (text, text.parse()) {
        ("all", _) => Ok(Faults::All),
        (_, Ok(most)) => Ok(Faults::Some(most)),
        _ => One::named(text).map(Faults::Only).ok_or_else(|| {
            "has to be a number, `all`, or a fault as a counterexample names it, like 2:17:eio".to_owned()
        }),
    }
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mask @ 0..=0o7777) => Ok(mask),
        _ => Err("has to be octal permission bits, from 0 to 7777".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn shared_paths_stay_below_shared() {
        for bad in ["", "/", "/etc", "../x", "a/../b", "a//b", "."] {
            assert!(shared_path(bad).is_err(), "{bad}");
        }
        let directory = SharedPath { path: b"a/b".to_vec(), directory: true };
        assert_eq!(shared_path("a/b/"), Ok(directory));
    }
}
