//! The thread that answers sync(2) and syncfs(2) of everything in the sandbox.
//!
//! It must never wait for the disk: whoever serves the disk may be waiting for it.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{AtFlags, CWD, StatxFlags},
};

use super::seccomp::{self, Answer, Notification};
use crate::{Caller, Observer, SyncCall};

/// The device number of the disk, shared with the thread that mounts it.
pub(super) type DiskDevice = Arc<Mutex<Option<(u32, u32)>>>;

/// Answers until nothing with the filter is left, or `stop` is closed.
pub(super) fn supervise(listener: &OwnedFd, stop: &OwnedFd, disk: &DiskDevice, observer: &dyn Observer) {
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => {
                observer.blind(&format!("waiting for sync calls failed: {error}"));
                return;
            }
        }
        let [calls, stopped] = fds.map(|fd| fd.revents());
        if calls.contains(PollFlags::IN) {
            if let Err(error) = serve_one(listener, disk, observer) {
                observer.blind(&format!("a sync call could not be answered: {error}"));
                return;
            }
        } else if !calls.is_empty() || !stopped.is_empty() {
            return;
        }
    }
}

fn serve_one(listener: &OwnedFd, disk: &DiskDevice, observer: &dyn Observer) -> std::io::Result<()> {
    let Some(call) = seccomp::receive(listener.as_fd())? else {
        return Ok(());
    };
    let ours = call.call == SyncCall::Sync || is_on_disk(&call, disk);
    // The thread may have been killed and its number given to another while /proc was read.
    if !seccomp::still_waits(listener.as_fd(), call.id) {
        return Ok(());
    }
    let still_waits = || seccomp::still_waits(listener.as_fd(), call.id);
    let caller = Caller { thread: call.thread, still_waits: &still_waits };
    let answer = if ours { ask(observer, call.call, caller) } else { Answer::Continue };
    seccomp::answer(listener.as_fd(), call.id, answer)
}

fn ask(observer: &dyn Observer, call: SyncCall, caller: Caller<'_>) -> Answer {
    match catch_unwind(AssertUnwindSafe(|| observer.sync(call, caller))) {
        Ok(Ok(())) => Answer::Done,
        Ok(Err(errno)) if (1..4096).contains(&errno) => Answer::Fail(errno),
        Ok(Err(_)) => Answer::Fail(libc::EIO),
        Err(_) => {
            observer.blind("the observer panicked while a program waited in a sync call");
            Answer::Fail(libc::EIO)
        }
    }
}

/// Whether the descriptor of a syncfs is an open file of the disk. What is not, the kernel handles, errors included.
fn is_on_disk(call: &Notification, disk: &DiskDevice) -> bool {
    let Some(device) = *disk.lock().unwrap_or_else(PoisonError::into_inner) else {
        return false;
    };
    let (thread, descriptor) = (call.thread, call.descriptor);
    // An empty mask and DONT_SYNC: a FUSE server is not asked.
    let path = format!("/proc/{thread}/fd/{descriptor}");
    let Ok(stat) = rustix::fs::statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::empty()) else {
        return false;
    };
    (stat.stx_dev_major, stat.stx_dev_minor) == device && !is_path_only(thread, descriptor)
}

/// syncfs fails with EBADF on a descriptor that was opened with `O_PATH`.
fn is_path_only(thread: u32, descriptor: i32) -> bool {
    let info = fs::read_to_string(format!("/proc/{thread}/fdinfo/{descriptor}")).unwrap_or_default();
    info.lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .and_then(|flags| i64::from_str_radix(flags.trim(), 8).ok())
        .is_some_and(|flags| flags & i64::from(libc::O_PATH) != 0)
}
