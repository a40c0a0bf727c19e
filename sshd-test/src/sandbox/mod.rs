//! The place where everything runs that a client starts.
//!
//! Two threads own it. The *mounter* lives in the private mount namespace, may run closures there at any time, and makes no
//! process. The *spawner* starts every process: its children go to the process namespace, inherit the seccomp filter, and
//! die with it, because the kernel kills the init process when the thread that forked it ends. They are two because a
//! thread whose children go to another process namespace cannot start threads, and because threads that a mounting closure
//! starts must not carry the filter. A third thread, the *supervisor*, answers the calls that the filter stops.
//!
//! Nothing is left behind by SIGKILL: the threads end, so init ends, so every process in its namespace ends, so the mount
//! namespace has no user left.

mod command;
mod process;
mod seccomp;
mod supervisor;
pub(crate) mod sys;
mod view;
mod worker;

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    process::Output,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid},
    thread::UnshareFlags,
};

pub use self::{command::Command, process::Process};
use self::{
    process::Children,
    supervisor::DiskDevice,
    view::Layout,
    worker::{Worker, gone},
};
use crate::{Disk, Error, Observer, Options, processor::OneProcessor};

/// How long processes get to disappear after they were killed; they take that long only in uninterruptible sleep.
const DYING: Duration = Duration::from_secs(10);

/// What all threads of a sandbox know.
struct Shared {
    layout: Layout,
    shell: PathBuf,
    env: Vec<(String, String)>,
    observer: Arc<dyn Observer>,
    children: Arc<Children>,
    disk: DiskDevice,
    /// A disk that a closure mounted, and whose server may hang: abort it on the way out.
    abort_disk: bool,
    /// Why sync calls are not observed, if they are not.
    blind: Option<String>,
    init: Pid,
    root: OwnedFd,
}

/// A confined place to run programs in; see the [crate documentation](crate).
///
/// Dropping it kills everything in it. It can be used without any SSH.
pub struct Sandbox {
    shared: Arc<Shared>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    mounter: Worker,
    spawner: Worker,
    supervisor: Option<(OwnedFd, JoinHandle<()>)>,
}

impl Sandbox {
    /// Builds a sandbox. Needs the right to mount: root, or
    /// [`enter_user_namespace_if_needed`](crate::enter_user_namespace_if_needed).
    pub fn start(options: Options) -> Result<Self, Error> {
        let Options { disk, mount_at, observer, shell, env, without, one_processor } = options;
        let _here = one_processor.then(OneProcessor::enter).flatten();
        let layout = Layout::new(&mount_at)?;
        let path = env.iter().find(|(name, _)| name == "PATH").map_or(command::PATH, |(_, value)| value);
        let without = view::programs(path, &without)?;
        let disk = match disk {
            Disk::Dir(path) => Disk::Dir(
                std::path::absolute(&path).map_err(|source| Error::Disk { path: mount_at, source })?,
            ),
            mount @ Disk::Mount(_) => mount,
        };
        let abort_disk = matches!(disk, Disk::Mount(_));
        let built = layout.clone();
        // The spawner is started by the mounter, to be born into its namespaces.
        let (mounter, (spawner, started)) = Worker::start("sandbox-mounts", move || {
            view::build(&built, disk, &without)?;
            Worker::start("sandbox-spawn", start_spawner)
        })?;
        let SpawnerStarted { listener, init, root } = started;
        let (listener, blind) = match listener {
            Ok(listener) => (Some(listener), None),
            Err(error) => (None, Some(why_blind(&error))),
        };
        let device = view_device(&mounter, &layout);
        let disk: DiskDevice = Arc::new(Mutex::new(device));
        let supervisor = match listener {
            Some(listener) => Some(start_supervisor(listener, &disk, &observer)?),
            None => None,
        };
        let children = Arc::new(Children::default());
        let shared = Shared { layout, shell, env, observer, children, disk, abort_disk, blind, init, root };
        let threads = Mutex::new(Some(Threads { mounter, spawner, supervisor }));
        Ok(Self { shared: Arc::new(shared), threads })
    }

    /// Starts a command, with pipes for its standard descriptors. It finds `PATH`, `HOME`, `USER`, `LOGNAME`, `SHELL`, what
    /// [`Options::env`] and [`Command::env`] add, and starts in `HOME`.
    ///
    /// If sync calls cannot be observed, the observer is told so each time.
    pub fn spawn(&self, command: &Command) -> io::Result<Process> {
        if let Some(why) = &self.shared.blind {
            self.shared.observer.blind(why);
        }
        let (shared, command) = (Arc::clone(&self.shared), command.clone());
        let jobs = match &*self.lock() {
            Some(threads) => threads.spawner.jobs.clone(),
            None => return Err(gone()),
        };
        let (send, receive) = mpsc::channel();
        let job = Box::new(move || {
            let _ = send.send(shared.spawn_here(&command));
        });
        jobs.send(job).map_err(|_| gone())?;
        receive.recv().map_err(|_| gone())?
    }

    /// Runs a shell line with an empty standard input, and waits for its end and for the end of its output.
    pub fn run(&self, line: &str) -> io::Result<Output> {
        let mut process = self.spawn(&Command::shell(line))?;
        process.stdin = None;
        let read = |fd: Option<OwnedFd>| {
            thread::spawn(move || {
                let mut all = Vec::new();
                fd.map_or(Ok(0), |fd| io::Read::read_to_end(&mut std::fs::File::from(fd), &mut all))
                    .map(|_| all)
            })
        };
        let (stdout, stderr) = (read(process.stdout.take()), read(process.stderr.take()));
        let join = |thread: JoinHandle<io::Result<Vec<u8>>>| thread.join().unwrap_or_else(|_| Err(gone()));
        let (stdout, stderr) = (join(stdout)?, join(stderr)?);
        let status = process.wait(Duration::MAX)?.ok_or_else(gone)?;
        Ok(Output { status, stdout, stderr })
    }

    /// Runs a closure on a thread inside the sandbox's mount namespace, with all rights of the caller and no filter, and
    /// gives it the path of the disk: for example to unmount the disk and mount another. One closure runs at a time.
    pub fn in_namespace<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let jobs = match &*self.lock() {
            Some(threads) => threads.mounter.jobs.clone(),
            None => return Err(gone()),
        };
        let shared = Arc::clone(&self.shared);
        let (send, receive) = mpsc::channel();
        let job = Box::new(move || {
            let path = &shared.layout.mount_at;
            let result = f(path);
            view::harden_disk(path);
            *shared.disk.lock().unwrap_or_else(PoisonError::into_inner) = view::disk_device(path);
            let _ = send.send(result);
        });
        jobs.send(job).map_err(|_| gone())?;
        receive.recv().map_err(|_| gone())?
    }

    /// The number of processes in the sandbox, besides its init; those that ended and were not waited for count as well.
    pub fn processes(&self) -> io::Result<usize> {
        self.shared.children.reap_all(false);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::openat(&self.shared.root, "proc", flags, Mode::empty())?;
        let mut count = 0;
        for entry in rustix::fs::Dir::new(proc)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            count += usize::from(name.iter().all(u8::is_ascii_digit) && name != b"1");
        }
        Ok(count)
    }

    /// Kills every process in the sandbox, and waits until they are gone. False: some are still there, as those that wait
    /// for a disk whose server does not answer.
    pub fn kill_all(&self, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            // kill(-1) reaches all but its caller and init; programs may fork meanwhile, hence again.
            drop(self.spawn(&Command::shell("kill -KILL -1")).and_then(|mut kill| kill.wait(timeout)));
            if matches!(self.processes(), Ok(0)) {
                return true;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Why sync calls are not observed, if they are not.
    pub fn blind(&self) -> Option<&str> {
        self.shared.blind.as_deref()
    }

    /// Where programs find the disk.
    pub fn mount_at(&self) -> &Path {
        &self.shared.layout.mount_at
    }

    /// The fresh home directory of the programs.
    pub fn home(&self) -> &Path {
        &self.shared.layout.home
    }

    /// The root directory of the sandbox, for calls that take a directory descriptor.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.shared.root.as_fd()
    }

    /// Kills everything in it and removes it. Dropping does the same.
    pub fn shutdown(self) {
        self.close();
    }

    /// What `shutdown` does, for owners that share the sandbox. Later calls fail.
    pub(crate) fn close(&self) {
        let Some(threads) = self.lock().take() else {
            return;
        };
        let Threads { mounter, spawner, supervisor } = threads;
        let shared = &self.shared;
        let _ = kill_process(shared.init, Signal::KILL);
        let (path, abort) = (shared.layout.mount_at.clone(), shared.abort_disk);
        let _ = mounter.call(move || {
            view::remove_disk(&path, abort);
            Ok(())
        });
        // The kernel lets init end only after everything in its namespace was reaped, some of it by us.
        let deadline = Instant::now() + DYING;
        while Instant::now() < deadline {
            shared.children.reap_all(true);
            if !matches!(waitpid(Some(shared.init), WaitOptions::NOHANG), Ok(None)) {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        spawner.join();
        mounter.join();
        if let Some((stop, thread)) = supervisor {
            drop(stop);
            shared.observer.ending();
            let _ = thread.join();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Threads>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("layout", &self.shared.layout).finish_non_exhaustive()
    }
}

impl Shared {
    /// Runs on the spawner.
    fn spawn_here(&self, command: &Command) -> io::Result<Process> {
        self.children.reap_all(false);
        let mut child = command.prepare(&self.shell, &self.layout.home, &self.env)?.spawn()?;
        let pid = Pid::from_child(&child);
        self.children.insert(pid);
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let mut process = Process::new(pid, pidfd, Arc::clone(&self.children));
        process.stdin = child.stdin.take().map(OwnedFd::from);
        process.stdout = child.stdout.take().map(OwnedFd::from);
        process.stderr = child.stderr.take().map(OwnedFd::from);
        Ok(process)
    }
}

struct SpawnerStarted {
    listener: io::Result<OwnedFd>,
    init: Pid,
    root: OwnedFd,
}

/// Makes the calling thread the spawner.
fn start_spawner() -> Result<SpawnerStarted, Error> {
    let step = |step: &str, source| Error::Sandbox {
        step: step.to_owned(),
        hint: "in a container, allow it to mount /proc and to make namespaces",
        source,
    };
    // A working directory and umask of its own, so that closures on the mounter cannot change them.
    sys::unshare(UnshareFlags::FS | UnshareFlags::NEWPID).map_err(|e| step("process namespace", e))?;
    let init = sys::fork_init().map_err(|e| step("init process", e))?;
    let listener = seccomp::install();
    let root = view::open_root().map_err(|e| step("root directory", e))?;
    Ok(SpawnerStarted { listener, init, root })
}

fn why_blind(error: &io::Error) -> String {
    let reason = match error.raw_os_error() {
        Some(libc::EBUSY) => "another seccomp listener already watches this program",
        Some(libc::EINVAL) => "the kernel is older than 5.19",
        _ => "the kernel refused the seccomp filter",
    };
    format!("sync(2) and syncfs(2) cannot be observed: {reason} ({error})")
}

fn view_device(mounter: &Worker, layout: &Layout) -> Option<(u32, u32)> {
    let path = layout.mount_at.clone();
    mounter.call(move || Ok(view::disk_device(&path))).ok().flatten()
}

fn start_supervisor(
    listener: OwnedFd,
    disk: &DiskDevice,
    observer: &Arc<dyn Observer>,
) -> Result<(OwnedFd, JoinHandle<()>), Error> {
    let failed = |source| Error::Sandbox {
        step: "supervisor".to_owned(),
        hint: "check the limits of threads and of open files",
        source,
    };
    let flags = rustix::pipe::PipeFlags::CLOEXEC;
    let (stopped, stop) = rustix::pipe::pipe_with(flags).map_err(|e| failed(e.into()))?;
    let (disk, observer) = (Arc::clone(disk), Arc::clone(observer));
    let run = move || {
        sys::block_signals();
        supervisor::supervise(&listener, &stopped, &disk, observer.as_ref());
    };
    let thread = thread::Builder::new().name("sandbox-syncs".to_owned()).spawn(run).map_err(failed)?;
    Ok((stop, thread))
}
