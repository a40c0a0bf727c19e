//! Mounting a simulated disk through FUSE.
//!
//! This is plumbing: it turns kernel requests into operations on a [`Disk`], one at a time and in order, and the power
//! switch ([`Mounted::crash`]). It records nothing by itself.
//!
//! We call mount(2) ourselves, without libfuse and fusermount, so that a mount can be made inside a private mount
//! namespace: on whichever thread [`mount_here`] is called, the mount lands in that thread's namespace, and a crash can
//! be asked for from any thread. In a private namespace nothing outlives the process, even if it is killed.
//!
//! Invariant: while mounted, the kernel is the only one that changes the disk. Attributes, names and content are cached
//! in the kernel without limit, so a harness that changes the disk from outside must crash the mount and make another.
//!
//! Sources: `fs/fuse` of Linux 6.18, fuse(4).

mod convert;
mod listing;
mod namespace;
mod serve;

use std::ffi::CString;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fuser::{Config, Session, SessionACL};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::disk::Disk;
use serve::Server;

pub use namespace::enter_private_namespace;

/// How long a crash waits for the server to notice before it gives the threads up.
const NOTICE_WAIT: Duration = Duration::from_secs(10);

/// A disk that is mounted. Dropping it is [`Mounted::crash`] with the result ignored.
#[derive(Debug)]
pub struct Mounted {
    at: PathBuf,
    live: Arc<AtomicBool>,
    stop: Option<Sender<()>>,
    keeper: Option<JoinHandle<io::Result<()>>>,
}

/// Mounts a disk on a directory, in the mount namespace of the calling thread, and serves it on one thread of its own.
///
/// A disk must not be mounted twice at the same time.
///
/// # Errors
/// No `/dev/fuse`, no permission to open it or to mount, or no such directory; the message says which.
pub fn mount_here(disk: &Disk, at: &Path) -> io::Result<Mounted> {
    mount_here_with(disk, at, NonZeroUsize::MIN)
}

/// Like [`mount_here`], with this many threads, so that a call which a [fault](crate::fault) makes wait holds up its own
/// caller alone, as long as there are threads left. The order of the ops is still that in which they are applied, one at a
/// time; calls that were under way together may be applied in any order, as on a real disk.
///
/// # Errors
/// As [`mount_here`].
pub fn mount_here_with(disk: &Disk, at: &Path, threads: NonZeroUsize) -> io::Result<Mounted> {
    let device =
        rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|error| {
            explain(error, "cannot open /dev/fuse (is the fuse module loaded, and are you allowed?)")
        })?;
    let options = CString::new(format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions,allow_other",
        device.as_raw_fd(),
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    ))?;
    mount("simfs", at, "fuse.simfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str()).map_err(
        |error| {
            explain(
                error,
                &format!("cannot mount on {} (root, or a user and mount namespace, is needed)", at.display()),
            )
        },
    )?;
    serve(disk, at, device, threads).inspect_err(|_| {
        // Nothing serves it: without this the next look at the directory would hang.
        let _ = unmount(at, UnmountFlags::DETACH);
    })
}

fn serve(disk: &Disk, at: &Path, device: OwnedFd, threads: NonZeroUsize) -> io::Result<Mounted> {
    // Held so that the mount can be found whatever happens to its path. O_PATH asks nothing of the server.
    let root = rustix::fs::open(at, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let live = Arc::new(AtomicBool::new(true));
    let server = Server::new(disk.clone(), live.clone());
    let mut config = Config::default();
    config.n_threads = Some(threads.get());
    let session = Session::from_fd(server, device, SessionACL::All, config)?;
    let (stop, stopped) = channel();
    let at = at.to_path_buf();
    let keeper = {
        let (disk, at) = (disk.clone(), at.clone());
        // Threads inherit the mount namespace of the one that starts them, and only from within it can a mount be
        // taken down.
        thread::Builder::new()
            .name("simfs-mount".into())
            .spawn(move || keep(session, &disk, &at, root, &stopped))?
    };
    Ok(Mounted { at, live, stop: Some(stop), keeper: Some(keeper) })
}

fn keep(
    session: Session<Server>,
    disk: &Disk,
    at: &Path,
    root: OwnedFd,
    stop: &Receiver<()>,
) -> io::Result<()> {
    let server = thread::Builder::new().name("simfs-serve".into()).spawn(move || session.run())?;
    // Either the wish to crash, or a `Mounted` that is gone.
    let _ = stop.recv();
    // MNT_FORCE says EBUSY as long as anything is open, but it aborts the connection before it says so: everybody who
    // waits gets ECONNABORTED or ENOTCONN. It needs a privileged owner of the mount's user namespace.
    let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
    for flags in [UnmountFlags::FORCE, UnmountFlags::DETACH] {
        if unmount(&by_descriptor, flags) == Err(rustix::io::Errno::NOENT) {
            // No /proc to name a descriptor by.
            let _ = unmount(at, flags | UnmountFlags::NOFOLLOW);
        }
    }
    drop(root);
    let deadline = Instant::now() + NOTICE_WAIT;
    while !server.is_finished() {
        if Instant::now() > deadline {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "the server of {} did not end: a request is still being served, or could not be aborted",
                    at.display()
                ),
            ));
        }
        // What a fault makes wait waits for nobody now.
        disk.wake();
        thread::sleep(Duration::from_micros(50));
    }
    disk.with(super::fs::Fs::forget_all);
    server.join().map_err(|_| io::Error::other("the FUSE server panicked"))?
}

impl Mounted {
    /// Where it is mounted.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Cuts the connection: every operation that waits and every later one fails (`ENOTCONN`, `ECONNABORTED`), and an
    /// op that was being held up by the disk's poll is not applied. Then the mount is removed and the server ended.
    ///
    /// The disk keeps its live state and can be mounted again. Works from any thread and mount namespace.
    ///
    /// # Errors
    /// The server did not end within ten seconds (a poll hook that never returns), or it had failed.
    pub fn crash(mut self) -> io::Result<()> {
        self.cut()
    }

    fn cut(&mut self) -> io::Result<()> {
        self.live.store(false, Ordering::SeqCst);
        drop(self.stop.take());
        match self.keeper.take() {
            Some(keeper) => keeper.join().map_err(|_| io::Error::other("the mount's keeper panicked"))?,
            None => Ok(()),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.cut();
    }
}

fn explain(error: rustix::io::Errno, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
