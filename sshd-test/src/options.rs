//! What a sandbox and its server are made of.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::Observer;

/// Mounts the disk at the path it is given. Runs on a thread of the sandbox, inside its private mount namespace.
pub type MountDisk = Box<dyn FnOnce(&Path) -> io::Result<()> + Send>;

/// The one place of the sandbox that is writable and outlives a session.
pub enum Disk {
    /// A closure that must mount something at the path it gets. It runs in the sandbox's private mount namespace, before
    /// the machine becomes read-only there. Threads it starts are not observed and keep the namespace alive while they run.
    Mount(MountDisk),
    /// An existing directory of the machine, bind-mounted read-write. File systems mounted below it are not included.
    Dir(PathBuf),
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount(_) => f.write_str("Mount(..)"),
            Self::Dir(path) => f.debug_tuple("Dir").field(path).finish(),
        }
    }
}

/// How to start a [`Server`](crate::Server) or a [`Sandbox`](crate::Sandbox).
#[non_exhaustive]
pub struct Options {
    /// The disk.
    pub disk: Disk,
    /// Where programs find the disk: an existing directory, absolute, outside `/tmp`, `/var/tmp`, `/run`, `/dev`, `/proc`
    /// and home directories. Default: `/srv` if it exists, else `/mnt`.
    pub mount_at: PathBuf,
    /// Who is told of sync(2) and syncfs(2).
    pub observer: Arc<dyn Observer>,
    /// The login shell; commands run as `SHELL -c COMMAND`. Default: `/bin/sh`.
    pub shell: PathBuf,
    /// Added to the environment of everything that runs in the sandbox, over the defaults (`PATH`, `HOME`, `USER`,
    /// `LOGNAME`, `SHELL`). Default: nothing.
    pub env: Vec<(String, String)>,
    /// Programs of `PATH` that are not there for what runs in the sandbox: names without a slash. Running one fails with
    /// EACCES. Default: none.
    pub without: Vec<String>,
    /// Keep the server, what runs in the sandbox, and the threads of a mount that [`Disk::Mount`] makes on one processor,
    /// the one on which the server is started. With a disk that another thread serves (FUSE), each operation waits for
    /// that thread and back, and a wake-up on another processor costs several times as much as one on the same. Programs
    /// in the sandbox count one processor. Default: false.
    pub one_processor: bool,
}

impl Options {
    /// The defaults, for this disk and this observer.
    pub fn new(disk: Disk, observer: Arc<dyn Observer>) -> Self {
        let srv = Path::new("/srv");
        let mount_at = if srv.is_dir() { srv } else { Path::new("/mnt") };
        Self {
            disk,
            mount_at: mount_at.to_owned(),
            observer,
            shell: "/bin/sh".into(),
            env: Vec::new(),
            without: Vec::new(),
            one_processor: false,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("disk", &self.disk)
            .field("mount_at", &self.mount_at)
            .field("shell", &self.shell)
            .field("env", &self.env)
            .field("without", &self.without)
            .field("one_processor", &self.one_processor)
            .finish_non_exhaustive()
    }
}
