//! Why a server or a sandbox could not be started, and what to do about it.

use std::{io, path::PathBuf};

/// Why a [`Server`](crate::Server) or a [`Sandbox`](crate::Sandbox) could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel or its configuration does not let this user make a user namespace.
    #[error("cannot enter a user namespace ({step}): {source}; {hint}")]
    UserNamespace {
        /// The step that failed.
        step: &'static str,
        /// What to do about it.
        hint: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The place for the disk cannot be used.
    #[error(
        "the disk cannot be mounted at {path}: {why}; choose another existing directory with `Options::mount_at`"
    )]
    MountPoint {
        /// [`Options::mount_at`](crate::Options::mount_at).
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A program cannot be hidden.
    #[error("cannot hide the program {name}: {why}")]
    Program {
        /// One of [`Options::without`](crate::Options::without).
        name: String,
        /// Why not.
        why: String,
    },
    /// The disk could not be put into place.
    #[error("cannot mount the disk at {path}: {source}")]
    Disk {
        /// [`Options::mount_at`](crate::Options::mount_at).
        path: PathBuf,
        /// What the closure, or the kernel, said.
        source: io::Error,
    },
    /// A step of building the sandbox was refused.
    #[error("cannot build the sandbox ({step}): {source}; {hint}")]
    Sandbox {
        /// The step that failed.
        step: String,
        /// What to do about it.
        hint: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The keys and client files could not be made.
    #[error(
        "cannot write the keys and client files to the temporary directory: {0}; check TMPDIR and its free space"
    )]
    Keys(io::Error),
    /// No socket on 127.0.0.1, or no thread to serve it.
    #[error("cannot listen on 127.0.0.1: {0}; check that the loopback interface is up")]
    Listen(io::Error),
}
