//! The right to mount, for a program that does not run as root.

use std::{fs, io};

use rustix::{
    process::{getegid, geteuid},
    thread::UnshareFlags,
};

use crate::{Error, sandbox::sys};

/// Gives an unprivileged program the right to mount, by moving it into a user and mount namespace of its own, in which its
/// user is root and is the only one there is. As root it does nothing.
///
/// Call it at the very start of `main`, before any thread exists. Files of other users then seem to belong to `nobody`, and
/// programs in the sandbox cannot give files away: chown to any other user fails with EINVAL.
pub fn enter_user_namespace_if_needed() -> Result<(), Error> {
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() {
        return Ok(());
    }
    let step = |step, hint| move |source| Error::UserNamespace { step, hint, source };
    sys::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).map_err(|source: io::Error| {
        let hint = match source.raw_os_error() {
            Some(libc::EINVAL) => "it must be called before the program starts a thread",
            Some(libc::ENOSPC) => "raise /proc/sys/user/max_user_namespaces, or run as root",
            _ => {
                "run as root, or allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, \
                 kernel.apparmor_restrict_unprivileged_userns=0)"
            }
        };
        step("unshare", hint)(source)
    })?;
    let write = |file: &'static str, text: String| {
        fs::write(file, text).map_err(step(file, "run as root, or allow unprivileged user namespaces"))
    };
    // Without this the kernel does not let an unprivileged user map a group.
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("0 {} 1", uid.as_raw()))?;
    write("/proc/self/gid_map", format!("0 {} 1", gid.as_raw()))
}
