//! The command line of `cutover-certify`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use globset::{Glob, GlobSet, GlobSetBuilder};
use regex::bytes::Regex;

use crate::app::{Content, SharedEntry};
use crate::judge::{Expect, SharedRule};

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

    /// Time limit of one deploy, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub timeout: Duration,

    /// A path below shared/ that holds user data before the first deploy and is linked into each release; a trailing
    /// slash makes it a directory. Can be repeated
    #[arg(long, value_name = "PATH", value_parser = shared_path)]
    pub shared: Vec<SharedPath>,
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
        let mut adds = GlobSetBuilder::new();
        for glob in &self.adds {
            adds.add(glob.clone());
        }
        // Each glob was parsed by itself; together they can only be too large.
        let adds = adds.build().unwrap_or_else(|_| GlobSet::empty());
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
