//! Killing who called, and never ourselves.

use std::os::fd::OwnedFd;

use rustix::fs::{Access, AtFlags, Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::gettid;

/// Knows our own threads. A mount may be served where another `/proc` is seen, or none, so ours is held open.
pub(super) struct Killer {
    own_threads: OwnedFd,
}

impl Killer {
    /// Nothing without a `/proc` that shows this process: then nobody could tell who we are.
    pub(super) fn new() -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own_threads = rustix::fs::open("/proc/self/task", flags, Mode::empty()).ok()?;
        Some(Self { own_threads }).filter(|killer| killer.is_ours(gettid()))
    }

    /// Kills a process by one of its threads; false if it could not, or is ours. The thread waits for us, so its number
    /// cannot have been given to another.
    pub(super) fn kill(&self, thread: u32) -> bool {
        // 0 is a thread that cannot be seen from here; to kill(2) it would be our own process group.
        let pid = i32::try_from(thread).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| !self.is_ours(pid) && kill_process(pid, Signal::KILL).is_ok())
    }

    fn is_ours(&self, thread: Pid) -> bool {
        let name = thread.as_raw_pid().to_string();
        rustix::fs::accessat(&self.own_threads, name, Access::EXISTS, AtFlags::empty()).is_ok()
    }
}
