//! Processes of a sandbox, as their parent sees them. A process id is used for a signal only while the process is known not
//! to have been reaped: afterwards it may belong to a stranger.

use std::{
    collections::HashMap,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::ExitStatus,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, WaitOptions, kill_process_group, waitpid},
};

/// As long as one poll waits at most.
const LONG: Duration = Duration::from_hours(1);

/// Every process that was started in the sandbox and has not been reaped. The flag: nobody waits for it any more.
#[derive(Debug, Default)]
pub(super) struct Children(Mutex<HashMap<i32, bool>>);

impl Children {
    fn lock(&self) -> MutexGuard<'_, HashMap<i32, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn insert(&self, pid: Pid) {
        self.lock().insert(pid.as_raw_pid(), false);
    }

    fn signal_group(&self, pid: Pid, signal: Signal) {
        let live = self.lock();
        if live.contains_key(&pid.as_raw_pid()) {
            // It made a group of its own before it was known here.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Reaps this one if it has ended. Nothing to reap counts as an end with an unknown status.
    fn reap(&self, pid: Pid) -> Option<ExitStatus> {
        let mut live = self.lock();
        let status = match waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(None) => return None,
            Ok(Some((_, status))) => ExitStatus::from_raw(status.as_raw()),
            // A program that ignores SIGCHLD: the kernel has reaped it.
            Err(_) => ExitStatus::from_raw(255 << 8),
        };
        live.remove(&pid.as_raw_pid());
        Some(status)
    }

    /// Reaps those that nobody waits for, or all; true when none of these is left.
    pub(super) fn reap_all(&self, waited_for_too: bool) -> bool {
        let pids: Vec<i32> = {
            let live = self.lock();
            live.iter().filter(|(_, abandoned)| waited_for_too || **abandoned).map(|(pid, _)| *pid).collect()
        };
        pids.into_iter().filter_map(Pid::from_raw).filter(|pid| self.reap(*pid).is_none()).count() == 0
    }
}

/// A running process of a [`Sandbox`](crate::Sandbox), leader of its own session and process group.
///
/// Dropping it kills the group, unless the process has ended.
#[derive(Debug)]
pub struct Process {
    /// The write end of its standard input.
    pub stdin: Option<OwnedFd>,
    /// The read end of its standard output.
    pub stdout: Option<OwnedFd>,
    /// The read end of its standard error.
    pub stderr: Option<OwnedFd>,
    pid: Pid,
    pidfd: OwnedFd,
    children: Arc<Children>,
    status: Option<ExitStatus>,
}

impl Process {
    pub(super) fn new(pid: Pid, pidfd: OwnedFd, children: Arc<Children>) -> Self {
        Self { stdin: None, stdout: None, stderr: None, pid, pidfd, children, status: None }
    }

    /// Its process id, as the program that owns the sandbox sees it.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    /// Sends a signal, by its number, to its process group; nothing happens if the process has been waited for.
    pub fn signal(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal) {
            self.children.signal_group(self.pid, signal);
        }
    }

    /// Readable once the process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// How it ended, if it has.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.children.reap(self.pid);
        }
        self.status
    }

    /// Waits for its end. `None`: it took longer.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let left = deadline.map_or(LONG, |deadline| deadline.saturating_duration_since(Instant::now()));
            let ended = self.try_wait();
            if ended.is_some() || left.is_zero() {
                return Ok(ended);
            }
            let left = Timespec::try_from(left.min(LONG)).map_err(|_| io::ErrorKind::InvalidInput)?;
            match poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&left)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.try_wait().is_some() {
            return;
        }
        self.signal(libc::SIGKILL);
        // Long enough for most; the rest is reaped when the next process starts, or with the sandbox.
        if !matches!(self.wait(Duration::from_millis(50)), Ok(Some(_))) {
            self.children.lock().insert(self.pid.as_raw_pid(), true);
        }
    }
}
