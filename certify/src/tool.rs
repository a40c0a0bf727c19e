//! One run of the tool under test, watched: its output and its end become marks in the trace.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use regex::bytes::Regex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use simfs::{Disk, MarkKind};

use crate::jail::jail;

/// The most of a tool's output that is kept, from its end, in bytes.
const KEPT_OUTPUT: usize = 64 << 10;

/// What a tool says about itself while it runs.
#[derive(Clone, Debug)]
pub struct Reports {
    /// Whether a run says at all what is live: not one that only cleans up.
    pub acknowledges: bool,
    /// A line of output that matches means: live now. Exit status 0 means it in any case.
    pub ack: Option<Regex>,
    /// A line of output that matches means: live, but old releases could not be removed.
    pub cleanup_pending: Option<Regex>,
}

impl Default for Reports {
    /// By its exit status alone.
    fn default() -> Self {
        Self { acknowledges: true, ack: None, cleanup_pending: None }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status; death by signal `n` is `128 + n`.
    Exit(i32),
    /// It was killed after the time limit.
    TimedOut,
    /// We were asked to stop.
    Interrupted,
    /// It was killed on purpose, as by a user or by a machine that goes down.
    Killed,
}

/// What a run is to do next, asked again and again while it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Go on.
    GoOn,
    /// End it: nobody wants to know any more.
    Interrupt,
    /// Kill it: that is what is tried.
    Kill,
}

/// A finished run.
#[derive(Clone, Debug)]
pub struct Run {
    /// How it ended.
    pub ended: Ended,
    /// The end of its standard output and standard error, as they came.
    pub output: Vec<u8>,
}

/// Runs a command as deploy number `deploy` and places the marks of that deploy into the disk's trace.
pub fn run(
    mut command: Command,
    disk: &Disk,
    deploy: u32,
    reports: &Reports,
    limit: Duration,
    orders: &dyn Fn() -> Order,
) -> io::Result<Run> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    disk.mark(MarkKind::Begin { deploy });
    let watched = Watched::start(jail(&mut command), deploy, reports)?;
    let fds = watched.fds()?;
    let watched = Arc::new(Mutex::new(watched));
    let lock = |watched: &Arc<Mutex<Watched>>| -> Vec<MarkKind> {
        watched.lock().unwrap_or_else(PoisonError::into_inner).look()
    };
    let polled = watched.clone();
    disk.set_poll(Some(Box::new(move || lock(&polled))));
    let started = Instant::now();
    let mut cut_off = None;
    loop {
        disk.poll();
        // Before the lock: whoever gives the orders may look at the disk, whose poll takes the same lock.
        let order = orders();
        let mut state = watched.lock().unwrap_or_else(PoisonError::into_inner);
        if state.ended.is_some() {
            break;
        }
        cut_off = match order {
            Order::Interrupt => Some(Ended::Interrupted),
            Order::Kill => Some(Ended::Killed),
            Order::GoOn => (started.elapsed() >= limit).then_some(Ended::TimedOut),
        };
        if cut_off.is_some() {
            state.child.kill()?;
            break;
        }
        drop(state);
        wait(&fds, Duration::from_millis(50));
    }
    disk.set_poll(None);
    let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
    let status = watched.child.wait()?;
    if let Some(ended) = cut_off {
        let what = match ended {
            Ended::TimedOut => Some(format!("deploy {deploy} was cut off after {} s", limit.as_secs())),
            Ended::Interrupted => Some(format!("deploy {deploy} was interrupted")),
            // What it did up to then was seen.
            Ended::Killed | Ended::Exit(_) => None,
        };
        if let Some(what) = what {
            disk.mark(MarkKind::Blind { what });
        }
        disk.mark(MarkKind::End { deploy, ok: false, cleanup_pending: watched.cleanup_pending });
        return Ok(Run { ended, output: std::mem::take(&mut watched.output) });
    }
    Ok(Run { ended: Ended::Exit(code(status)), output: std::mem::take(&mut watched.output) })
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Sleeps until something can be read, the process ended, or the time is over.
fn wait(fds: &[OwnedFd], timeout: Duration) {
    let mut set: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let timeout = Timespec::try_from(timeout).ok();
    // A pipe at its end is always ready; then only the clock is left to wait for.
    if poll(&mut set, timeout.as_ref()).is_ok_and(|ready| ready > 0) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A running tool.
struct Watched {
    child: Child,
    deploy: u32,
    stdout: Lines<ChildStdout>,
    stderr: Lines<ChildStderr>,
    output: Vec<u8>,
    reports: Reports,
    acked: bool,
    cleanup_pending: bool,
    ended: Option<bool>,
}

impl Watched {
    fn start(command: &mut Command, deploy: u32, reports: &Reports) -> io::Result<Self> {
        let mut child = command.spawn()?;
        let (stdout, stderr) = match (child.stdout.take(), child.stderr.take()) {
            (Some(stdout), Some(stderr)) => (Lines::new(stdout)?, Lines::new(stderr)?),
            _ => return Err(io::Error::other("the tool has no output pipes")),
        };
        Ok(Self {
            child,
            deploy,
            stdout,
            stderr,
            output: Vec::new(),
            reports: reports.clone(),
            acked: false,
            cleanup_pending: false,
            ended: None,
        })
    }

    fn fds(&self) -> io::Result<Vec<OwnedFd>> {
        let pid = rustix::process::Pid::from_child(&self.child);
        Ok(vec![
            self.stdout.from.as_fd().try_clone_to_owned()?,
            self.stderr.from.as_fd().try_clone_to_owned()?,
            pidfd_open(pid, PidfdFlags::empty())?,
        ])
    }

    /// What happened since the last look, as marks.
    fn look(&mut self) -> Vec<MarkKind> {
        let mut marks = Vec::new();
        if self.ended.is_some() {
            return marks;
        }
        // The status first: what it wrote before it ended is then in the pipes.
        let exit = self.exit();
        let mut lines = Vec::new();
        self.stdout.read(&mut self.output, &mut lines, exit.is_some());
        self.stderr.read(&mut self.output, &mut lines, exit.is_some());
        let excess = self.output.len().saturating_sub(KEPT_OUTPUT);
        self.output.drain(..excess);
        let says = |pattern: &Option<Regex>| {
            pattern.as_ref().is_some_and(|pattern| lines.iter().any(|line| pattern.is_match(line)))
        };
        self.cleanup_pending |= says(&self.reports.cleanup_pending);
        if self.reports.acknowledges && !self.acked && (says(&self.reports.ack) || exit == Some(true)) {
            self.acked = true;
            marks.push(MarkKind::Ack { deploy: self.deploy });
        }
        if let Some(ok) = exit {
            self.ended = Some(ok);
            let (deploy, cleanup_pending) = (self.deploy, self.cleanup_pending);
            marks.push(MarkKind::End { deploy, ok, cleanup_pending });
        }
        marks
    }

    /// Whether it has ended, and whether well; it stays a zombie until `wait`.
    fn exit(&self) -> Option<bool> {
        let pid = rustix::process::Pid::from_child(&self.child);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(pid), options).ok().flatten()?;
        Some(status.exit_status() == Some(0))
    }
}

/// A pipe that is read without waiting, cut into lines.
struct Lines<R> {
    from: R,
    partial: Vec<u8>,
    open: bool,
}

/// A line longer than this is looked at in parts.
const LONGEST_LINE: usize = 64 << 10;

impl<R: Read + AsFd> Lines<R> {
    fn new(from: R) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&from, true)?;
        Ok(Self { from, partial: Vec::new(), open: true })
    }

    fn read(&mut self, all: &mut Vec<u8>, lines: &mut Vec<Vec<u8>>, last: bool) {
        let mut buffer = [0; 16 << 10];
        while self.open {
            match self.from.read(&mut buffer) {
                Ok(0) => self.open = false,
                Ok(n) => {
                    all.extend_from_slice(&buffer[..n]);
                    self.partial.extend_from_slice(&buffer[..n]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.open = false,
            }
            while let Some(end) = self.partial.iter().position(|b| *b == b'\n') {
                let rest = self.partial.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.partial, rest);
                line.pop();
                lines.push(line);
            }
            if self.partial.len() > LONGEST_LINE {
                lines.push(std::mem::take(&mut self.partial));
            }
        }
        if last && !self.partial.is_empty() {
            lines.push(std::mem::take(&mut self.partial));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simfs::Fs;

    fn run_line(line: &str, ack: Option<&str>, limit: Duration) -> (Run, Vec<MarkKind>) {
        let mut fs = Fs::new(0, 0, 0o755);
        fs.start_recording();
        let disk = Disk::new(fs);
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        let reports = Reports { ack: ack.map(|p| Regex::new(p).unwrap()), ..Reports::default() };
        let run = run(command, &disk, 1, &reports, limit, &|| Order::GoOn).unwrap();
        let marks = disk.trace().marks().iter().map(|mark| mark.kind.clone()).collect();
        (run, marks)
    }

    #[test]
    fn output_and_status_become_marks() {
        if !crate::jail::tests::allowed() {
            return;
        }
        let long = Duration::from_mins(1);
        let (begin, ack) = (MarkKind::Begin { deploy: 1 }, MarkKind::Ack { deploy: 1 });
        let end = |ok| MarkKind::End { deploy: 1, ok, cleanup_pending: false };

        let (run, marks) = run_line("echo hello; exit 0", None, long);
        assert_eq!((run.ended, &run.output[..]), (Ended::Exit(0), &b"hello\n"[..]));
        assert_eq!(marks, [begin.clone(), ack.clone(), end(true)]);

        let (run, marks) = run_line("exit 3", None, long);
        assert_eq!((run.ended, marks), (Ended::Exit(3), vec![begin.clone(), end(false)]));

        let (run, marks) = run_line("echo 'now live' >&2; exit 3", Some("^now"), long);
        assert_eq!((run.ended, marks), (Ended::Exit(3), vec![begin.clone(), ack, end(false)]));

        let (run, marks) = run_line("sleep 100", None, Duration::from_millis(100));
        assert_eq!(run.ended, Ended::TimedOut);
        assert!(matches!(marks[1], MarkKind::Blind { .. }), "{marks:?}");
        assert_eq!(marks[2], end(false));
    }
}
