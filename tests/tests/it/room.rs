//! The rig: a private place on the machine, programs that run there under a hard time limit, and the one normaliser
//! for what they print.
//!
//! A room has its own `TMPDIR` and `HOME`, so what a program leaves behind is seen, and is gone with the room.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use regex::Regex;
use tempfile::TempDir;

use crate::skip;

/// A certification takes seconds; whatever takes longer than this hangs, on the slowest machine too.
pub(crate) const LIMIT: Duration = Duration::from_mins(2);

/// A program of this workspace, built beside the running test.
pub(crate) fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let built = test.parent().and_then(Path::parent).expect("tests are built into TARGET/PROFILE/deps");
    let program = built.join(name);
    assert!(program.is_file(), "there is no {}: run `cargo test --workspace`", program.display());
    program
}

/// The top of the checkout.
pub(crate) fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is a folder of the workspace")
}

/// Whether this user can mount FUSE file systems on this machine, and it has these programs; says what is missing.
pub(crate) fn machine_has(programs: &[&str]) -> bool {
    if let Err(error) = File::options().read(true).write(true).open("/dev/fuse") {
        skip(&format!("/dev/fuse cannot be opened: {error}"));
        return false;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |name: &&&str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    match programs.iter().find(|name| !found(name)) {
        Some(missing) => {
            skip(&format!("there is no `{missing}` on PATH"));
            false
        }
        None => true,
    }
}

/// A private place; see the [module](self).
pub(crate) struct Room {
    dir: TempDir,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code; none after a signal.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: Vec<u8>,
    /// Standard error.
    pub(crate) stderr: Vec<u8>,
}

impl Room {
    pub(crate) fn new() -> Self {
        let room = Self { dir: tempfile::Builder::new().prefix("cutover-room-").tempdir().unwrap() };
        for dir in [room.tmp(), room.home()] {
            fs::create_dir(dir).unwrap();
        }
        room
    }

    /// A path in it that no program uses by itself.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What programs use as `TMPDIR`.
    pub(crate) fn tmp(&self) -> PathBuf {
        self.path("tmp")
    }

    /// What programs use as `HOME`.
    pub(crate) fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// What is left in `TMPDIR`.
    pub(crate) fn left_behind(&self) -> Vec<PathBuf> {
        fs::read_dir(self.tmp()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// A directory with two files to deploy; `version` makes it differ from others.
    pub(crate) fn app(&self, version: &str) -> PathBuf {
        let dir = self.path(&format!("app-{version}"));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("index.html"), format!("<p>{version}</p>\n")).unwrap();
        fs::write(dir.join("always.txt"), "the same\n").unwrap();
        dir
    }

    /// `cutover-certify`, in this room.
    pub(crate) fn certify(&self) -> Command {
        self.command(&program("cutover-certify"))
    }

    /// `cutover-certify run --tool`, in this room; the tool's directory is the top of the checkout.
    pub(crate) fn certify_tool(&self, tool: &str) -> Command {
        let mut command = self.certify();
        command.args(["run", "--tool", tool]);
        command
    }

    /// A program in this room, at the top of the checkout, with no terminal and nothing of the user's settings.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(checkout())
            .env("TMPDIR", self.tmp())
            .env("HOME", self.home())
            .env_remove("COLUMNS")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// Starts it with its output going to files of the room, so that nobody has to read along.
    pub(crate) fn start(&self, command: &mut Command) -> Child {
        command.stdout(File::create(self.path("stdout")).unwrap());
        command.stderr(File::create(self.path("stderr")).unwrap());
        command.spawn().unwrap()
    }

    /// What a started program has written to standard error so far.
    pub(crate) fn stderr(&self) -> Vec<u8> {
        fs::read(self.path("stderr")).unwrap()
    }

    /// Waits for the end of a started program.
    pub(crate) fn wait(&self, child: &mut Child, limit: Duration) -> Ran {
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() >= deadline {
                // What it started dies with it; that is a promise of its own.
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("not ended after {limit:?}:\n{}", String::from_utf8_lossy(&self.stderr()));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let stdout = fs::read(self.path("stdout")).unwrap();
        Ran { code: status.code(), stdout, stderr: self.stderr() }
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, command: &mut Command) -> Ran {
        let mut child = self.start(command);
        self.wait(&mut child, LIMIT)
    }

    /// Text in which everything that differs from run to run has a name instead.
    pub(crate) fn normal(&self, bytes: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(bytes).into_owned();
        let built = program("cutover-certify");
        let names = [
            (self.dir.path(), "[ROOM]"),
            (built.parent().expect("a file is in a folder"), "[BUILT]"),
            (checkout(), "[CHECKOUT]"),
        ];
        for (path, name) in names {
            text = text.replace(path.to_str().expect("a test runs below a path of UTF-8"), name);
        }
        let patterns = [
            (r"\bop \d+\b", "op N"),
            (r"(\.current\.\d{14})\.\d+\b", "$1.PID"),
            (r"\b\d+ (operations|effects|sync calls|crash points|interleavings|lookups)\b", "N $1"),
            (r"\breplay [a-z2-7]{16,}", "replay TOKEN"),
            (r"\bheld \d+/\d+\b", "held N/N"),
            (r"\b\d+ (times|mixed releases)\b", "N $1"),
            // A table is as wide as its longest cell.
            ("─{3,}", "───"),
            ("═{3,}", "═══"),
            (r"\b\d+\.\d+ s\b", "T s"),
            // Where there is no /srv, the disk is at /mnt.
            (r"/mnt/app\b", "/srv/app"),
            (r"(?m) +$", ""),
            (r"cutover-(app|certify)-\w{6}", "cutover-$1-RANDOM"),
        ];
        for (pattern, name) in patterns {
            text = Regex::new(pattern).unwrap().replace_all(&text, name).into_owned();
        }
        text
    }

    /// Exit code, standard output and standard error, normalised, for a snapshot.
    pub(crate) fn show(&self, ran: &Ran) -> String {
        let mut text = match ran.code {
            Some(code) => format!("exit code: {code}\n"),
            None => "killed by a signal\n".to_owned(),
        };
        for (name, bytes) in [("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
            if !bytes.is_empty() {
                let _ = write!(text, "----- {name}\n{}", self.normal(bytes));
            }
        }
        text
    }
}
