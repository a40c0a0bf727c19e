//! A private mount namespace for one thread.

use std::io;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

use super::explain;

/// Moves the calling thread into a mount namespace of its own, from which no mount reaches the rest of the system.
///
/// Threads and processes started from this thread inherit it; other threads stay where they are. Use a thread made for
/// the purpose: there is no way back. When the last thread and process in it have ended, however they did, its mounts
/// are gone. Working directory and umask of the thread are its own from here on.
///
/// # Errors
/// Not root, or not allowed to (a container without `CAP_SYS_ADMIN`).
pub fn enter_private_namespace() -> io::Result<()> {
    // SAFETY: `unshare` is unsafe only because of `CLONE_FILES`, which takes the descriptors of other threads away.
    // It is not asked for here, nor implied by `CLONE_NEWNS` (that implies `CLONE_FS` only).
    #[allow(
        unsafe_code,
        reason = "the one call that moves a thread, and only a thread, into a new namespace"
    )]
    let moved = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) };
    moved.map_err(|error| explain(error, "cannot make a private mount namespace"))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|error| explain(error, "cannot make the mounts private"))
}
