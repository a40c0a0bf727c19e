//! The system calls of the sandbox that have no safe wrapper: entering namespaces, changing the attributes of mounts,
//! forking the init process, and preparing a child between fork and exec.
//!
//! Between fork and exec of a program with threads only async-signal-safe functions may be called; every function here
//! that runs there says so.
#![allow(unsafe_code)]

use std::{
    ffi::CStr,
    io::{self, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
    ptr,
};

use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::Pid,
    thread::{UnshareFlags, unshare_unsafe},
};
use tokio::io::{Interest, unix::AsyncFd};

/// `struct mount_attr` of linux/mount.h, in its first version.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MountAttr {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
    pub(crate) userns_fd: u64,
}

pub(crate) const RDONLY: u64 = 0x1;
pub(crate) const NOSUID: u64 = 0x2;
pub(crate) const NODEV: u64 = 0x4;
pub(crate) const NOEXEC: u64 = 0x8;

/// The capabilities that programs in the sandbox keep, by number (linux/capability.h): chown, dac_override, fowner,
/// fsetid, kill, setgid, setuid, setpcap, net_bind_service, sys_chroot, sys_nice.
///
/// dac_read_search is not among them, although dac_override is: with it open_by_handle_at(2) leaves a bind mount and
/// reaches the rest of its file system, writable through the disk.
const KEPT: u64 =
    1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18 | 1 << 23;

/// Moves the calling thread into new namespaces, or gives it its own working directory and umask.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: no flag that callers pass (FS, NEWNS, NEWIPC, NEWUTS, NEWPID, NEWUSER) changes file descriptors or memory,
    // which is what makes unshare unsafe.
    Ok(unsafe { unshare_unsafe(flags) }?)
}

/// mount_setattr(2) on the mount at `path`, and with `recursive` on everything below it.
pub(crate) fn mount_setattr(path: &CStr, recursive: bool, set: u64, clear: u64) -> io::Result<()> {
    let attr = MountAttr { set, clear, ..MountAttr::default() };
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `path` and `attr` are valid for the length that is passed, and the kernel only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets a task wait until a descriptor is readable, as the descriptor of a process is once the process has ended.
pub(crate) fn watch_readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` stays the same open descriptor until it is dropped, and the `AsyncFd` owns it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// Blocks every signal for the calling thread, so that no handler of the program runs in it or in a child it forks.
pub(crate) fn block_signals() {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset initialises the set before it is read.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut());
    }
}

/// Gives every signal its default action and blocks none, as a program expects to find them; std's `spawn` leaves blocked
/// what its thread blocks. Async-signal-safe.
fn default_signals() {
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: installs no handler. Numbers that cannot be changed or that libc reserves fail with EINVAL. sigemptyset
    // initialises the set before it is read.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
}

/// Forks the first process of the process namespace that the calling thread's children go to. It mounts `/proc`, then
/// does nothing but hold the namespace and reap orphans, until it is killed or the calling thread ends.
pub(crate) fn fork_init() -> io::Result<Pid> {
    // Two pipes: the child tells that it will die with this thread, is told that this thread still lived after that, and
    // tells how mounting went. Without the middle part it could outlive a parent that died at the wrong moment.
    let (tell_parent, told_by_child) = pipe()?;
    let (tell_child, told_by_parent) = pipe()?;
    // SAFETY: the child only calls `init_main`, which calls async-signal-safe functions only and never returns.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        init_main(tell_parent.as_raw_fd(), told_by_parent.as_raw_fd(), tell_child.as_raw_fd());
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    drop((tell_parent, told_by_parent));
    let mut from_child = std::fs::File::from(told_by_child);
    let mut to_child = std::fs::File::from(tell_child);
    let mut answer = [0; 4];
    let result = from_child
        .read_exact(&mut answer)
        .and_then(|()| to_child.write_all(&answer))
        .and_then(|()| from_child.read_exact(&mut answer));
    let died = || io::Error::other("the init process died while it started");
    result.map_err(|_| died())?;
    match i32::from_ne_bytes(answer) {
        0 => Pid::from_raw(pid).ok_or_else(died),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((write, read))
}

/// The whole life of the init process. Async-signal-safe.
fn init_main(tell_parent: RawFd, told_by_parent: RawFd, parents_end: RawFd) -> ! {
    // SAFETY: system calls on descriptors that are open here and on memory of this frame; the environment is this
    // process's private copy and no other thread exists in it.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::close(parents_end);
        let mut answer = [0_u8; 4];
        libc::write(tell_parent, answer.as_ptr().cast(), answer.len());
        if libc::read(told_by_parent, answer.as_mut_ptr().cast(), answer.len()) != 4 {
            libc::_exit(1);
        }
        default_signals();
        // Orphans are reaped by the kernel itself then.
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, c"sandbox-init".as_ptr());
        // What /proc/1/environ shows is the program's own environment, secrets included.
        let mut variable = environ;
        while !variable.is_null() && !(*variable).is_null() {
            ptr::write_bytes(*variable, 0, libc::strlen(*variable));
            variable = variable.add(1);
        }
        let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let mounted = libc::mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), flags, ptr::null());
        let errno = if mounted == 0 { 0 } else { *libc::__errno_location() };
        let answer = errno.to_ne_bytes();
        libc::write(tell_parent, answer.as_ptr().cast(), answer.len());
        libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
        if errno != 0 {
            libc::_exit(1);
        }
        loop {
            libc::pause();
        }
    }
}

unsafe extern "C" {
    static environ: *const *mut libc::c_char;
}

/// Makes `command` start as a session leader with few capabilities, default signals, umask 022 and no inherited
/// descriptor but its three standard ones.
pub(crate) fn confine(command: &mut Command) {
    // SAFETY: `confine_child` only makes system calls.
    unsafe { command.pre_exec(confine_child) };
}

/// Runs between fork and exec. Async-signal-safe.
fn confine_child() -> io::Result<()> {
    default_signals();
    // SAFETY: plain system calls without pointers. CLOSE_RANGE_CLOEXEC leaves the pipe of std's `spawn` open until exec.
    unsafe {
        if libc::setsid() < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::umask(0o022);
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        for capability in 0..64 {
            if KEPT & (1 << capability) == 0 && libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 {
                match *libc::__errno_location() {
                    // Past the last capability that this kernel knows.
                    libc::EINVAL => break,
                    errno => return Err(io::Error::from_raw_os_error(errno)),
                }
            }
        }
    }
    // Root gains its inheritable capabilities at exec, whatever the bounding set says.
    rustix::thread::clear_ambient_capability_set()?;
    let mut sets = rustix::thread::capabilities(None)?;
    sets.inheritable = rustix::thread::CapabilitySet::empty();
    rustix::thread::set_capabilities(None, sets)?;
    Ok(())
}
