//! A command that cannot outlive us, nor leave anything running.
//!
//! The command runs in a process namespace of its own, under an init that ends with it, and that the kernel kills when
//! the thread that started it ends, however it ends: SIGKILL of this program included. It is *not* confined otherwise:
//! it is the user's own command on the user's own machine; what it starts on the server is confined there.
#![allow(unsafe_code, reason = "fork and namespaces; nothing else in this package needs it")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes a command run jailed. Its exit status is passed on; death by a signal `n` becomes status `128 + n`.
///
/// The thread that spawns it has to live as long as it should.
pub(crate) fn jail(command: &mut Command) -> &mut Command {
    let parent = std::process::id().cast_signed();
    // SAFETY: `enter` makes system calls only; it neither allocates nor takes locks, as is required between fork and
    // exec in a program with several threads.
    unsafe { command.pre_exec(move || enter(parent)) }
}

/// Three processes: this one waits outside and passes the status on, its child is init of the new namespace, and the
/// child's child goes on to become the command.
fn enter(parent: libc::pid_t) -> io::Result<()> {
    // SAFETY: plain system calls on values that live on this stack; the forked children go on with this stack copied,
    // and leave by `_exit` or by returning to exec.
    unsafe {
        check(libc::setsid())?;
        die_with_parent()?;
        // The parent may have died before it was asked for.
        if libc::getppid() != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        let this = libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0);
        let this = check(this as libc::c_int)?;
        check(libc::unshare(libc::CLONE_NEWPID | libc::CLONE_NEWNS))?;
        // Nothing that is mounted in there may reach the machine.
        let none = std::ptr::null::<libc::c_char>();
        check(libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()))?;
        let init = check(libc::fork())?;
        if init != 0 {
            pass_on(init);
        }
        die_with_parent()?;
        // The same for this process and the one outside, whose number means nothing in here: its descriptor is
        // readable once it has ended.
        let mut outside = libc::pollfd { fd: this, events: libc::POLLIN, revents: 0 };
        if check(libc::poll(&raw mut outside, 1, 0))? != 0 {
            libc::_exit(127);
        }
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        check(libc::mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), flags, none.cast()))?;
        let command = check(libc::fork())?;
        if command != 0 {
            pass_on(command);
        }
        Ok(())
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// # Safety
/// Only for the child of a fork.
unsafe fn die_with_parent() -> io::Result<()> {
    // SAFETY: sets an attribute of this process.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    Ok(())
}

/// Waits for `child`, reaping whatever else ends, and leaves with its status.
///
/// # Safety
/// Only for the child of a fork: it never returns, and closes every file.
unsafe fn pass_on(child: libc::pid_t) -> ! {
    // SAFETY: system calls on local values. The files are closed because a pipe that this process held would never
    // come to its end for those who read it.
    unsafe {
        libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0);
        loop {
            let mut status = 0;
            let ended = libc::waitpid(-1, &raw mut status, 0);
            if ended == child {
                let code = if libc::WIFSIGNALED(status) {
                    128 + libc::WTERMSIG(status)
                } else {
                    libc::WEXITSTATUS(status)
                };
                libc::_exit(code);
            }
            if ended < 0 && *libc::__errno_location() != libc::EINTR {
                libc::_exit(127);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    /// Whether a jail can be made here. In CI it has to be.
    pub(crate) fn allowed() -> bool {
        let root = rustix::process::geteuid().is_root();
        if !root {
            let why = "a jail needs root, or a user namespace entered before any thread was started";
            let _ = writeln!(std::io::stderr(), "skipped: {why}");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped in CI: {why}");
        }
        root
    }

    #[test]
    fn the_status_is_passed_on_and_nothing_is_left() {
        if !allowed() {
            return;
        }
        let run = |line: &str| jail(Command::new("sh").args(["-c", line])).output().unwrap();
        assert_eq!(run("exit 7").status.code(), Some(7));
        assert_eq!(run("kill -TERM $$; sleep 9").status.code(), Some(128 + 15));
        let start = Instant::now();
        let out = run("sleep 100 & echo $$; readlink /proc/self/fd/1");
        assert!(start.elapsed() < Duration::from_secs(50), "the sleep in the background was waited for");
        assert!(out.stdout.starts_with(b"2\npipe:"), "{:?}", String::from_utf8_lossy(&out.stdout));
        let missing = jail(&mut Command::new("/nonexistent/tool")).stdout(Stdio::null()).spawn();
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn killing_the_outer_process_ends_all() {
        if !allowed() {
            return;
        }
        let mut child = jail(Command::new("sh").args(["-c", "sleep 1000 & sleep 1000"]))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = child.stdout.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // The pipe ends when the last process that holds it has.
        io::copy(&mut out, &mut io::sink()).unwrap();
    }
}
