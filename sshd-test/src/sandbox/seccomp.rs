//! Seccomp user notification of sync(2) and syncfs(2): the filter, and the three requests of its listener.
//!
//! Source: seccomp(2), seccomp_unotify(2), linux/audit.h. No system call is refused here: what is not one of the two runs as
//! if there were no filter.
#![allow(unsafe_code)]

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use crate::SyncCall;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// The bit that x32 programs set in the number of a system call.
const X32: u32 = 0x4000_0000;

/// For each architecture that a program may use: its number in linux/audit.h, its sync and its syncfs.
const CALLS: [(u32, u32, u32); 5] = [
    (0xc000_003e, 162, 306),             // x86_64
    (0xc000_003e, X32 + 162, X32 + 306), // x32, which calls itself x86_64
    (0x4000_0003, 36, 344),              // i386
    (0xc000_00b7, 81, 267),              // aarch64
    (0x4000_0028, 36, 373),              // arm
];

/// A call that waits for an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Notification {
    pub(super) id: u64,
    /// The thread that called, as the supervisor's process namespace numbers it.
    pub(super) thread: u32,
    pub(super) call: SyncCall,
    /// The descriptor that syncfs was called with.
    pub(super) descriptor: i32,
}

/// What the caller sees.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    /// The call returns 0 without being made.
    Done,
    /// The call fails with this errno without being made.
    Fail(i32),
    /// The kernel makes the call.
    Continue,
}

/// Installs the filter on the calling thread and on what it starts from now on, and returns its listener.
///
/// Needs CAP_SYS_ADMIN in the user namespace, so that no_new_privs can stay unset and sudo keeps working.
pub(super) fn install() -> io::Result<OwnedFd> {
    let filter = filter();
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: filter.as_ptr().cast_mut(),
    };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
        | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW
        | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    // SAFETY: `program` points to `filter`, which outlives the call; the kernel copies it.
    let fd =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    match i32::try_from(fd) {
        // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A block for each architecture (compare, load the number, compare twice, allow), then the two ends.
fn filter() -> Vec<libc::sock_filter> {
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // Offsets in struct seccomp_data.
    let (number, architecture) = (0, 4);
    let mut filter = Vec::new();
    for (arch, sync, syncfs) in CALLS {
        filter.push(op(LOAD, 0, 0, architecture));
        filter.push(op(JUMP_EQUAL, 0, 4, arch));
        filter.push(op(LOAD, 0, 0, number));
        // To the third instruction after these two: notify.
        filter.push(op(JUMP_EQUAL, 1, 0, sync));
        filter.push(op(JUMP_EQUAL, 0, 1, syncfs));
        filter.push(op(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF));
    }
    filter.push(op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    filter
}

/// Takes the next call. `None`: its caller was killed before it could be taken. Blocks if there is none: poll first.
pub(super) fn receive(listener: BorrowedFd<'_>) -> io::Result<Option<Notification>> {
    let mut raw = MaybeUninit::<libc::seccomp_notif>::zeroed();
    // SAFETY: the kernel wants the structure zeroed, and fills all of it when it returns 0.
    let raw = unsafe {
        if libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, raw.as_mut_ptr()) != 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::ENOENT | libc::EINTR | libc::EAGAIN) => Ok(None),
                _ => Err(error),
            };
        }
        raw.assume_init()
    };
    let syncfs =
        CALLS.iter().any(|call| call.0 == raw.data.arch && i64::from(call.2) == i64::from(raw.data.nr));
    Ok(Some(Notification {
        id: raw.id,
        thread: raw.pid,
        call: if syncfs { SyncCall::Syncfs } else { SyncCall::Sync },
        // The kernel itself looks at the low half only: it is an int.
        descriptor: raw.data.args[0] as i32,
    }))
}

/// True while the caller still waits: what was read from /proc about its thread was about that thread.
pub(super) fn still_waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads one u64.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
}

/// Lets the call return. A caller that was killed meanwhile is not an error.
pub(super) fn answer(listener: BorrowedFd<'_>, id: u64, answer: Answer) -> io::Result<()> {
    let (error, flags) = match answer {
        Answer::Done => (0, 0),
        Answer::Fail(errno) => (-errno, 0),
        Answer::Continue => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
    };
    let mut response = libc::seccomp_notif_resp { id, val: 0, error, flags };
    // SAFETY: the structure is valid for the call.
    let sent =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) };
    if sent == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        error => Err(error),
    }
}
