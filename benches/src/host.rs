//! A place to deploy to with Cutover: the embedded server on a simulated disk that records, or on a real ext4.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io};

use cutover::config;
use cutover::deploy::{Options as DeployOptions, Outcome, deploy};
use cutover_certify::record::SyncsToDisk;
use simfs::{Disk, Fs};
use sshd_test::{Caller, Observer, Options, Server, SyncCall};
use tempfile::TempDir;

use crate::real_root;

/// What the ext4 image may grow to; it is sparse.
const IMAGE_BYTES: u64 = 4 << 30;

/// A server to deploy to, with an empty disk.
pub struct Host {
    server: Option<Server>,
    deploy_path: PathBuf,
    recorded: Option<Disk>,
    /// What has to outlive the server: the mount, or the image.
    _disk: Held,
}

enum Held {
    Simulated { _mounted: Arc<Mutex<Option<simfs::fuse::Mounted>>> },
    Real { _image: TempDir },
}

impl Host {
    /// With a simulated disk that records everything: what a certification deploys to.
    ///
    /// # Errors
    /// The server cannot be started, or the disk cannot be mounted; the error says what it wants.
    pub fn on_simfs() -> io::Result<Self> {
        let mut fs = Fs::new(0, 0, 0o755);
        fs.start_recording();
        let disk = Disk::new(fs);
        let mounted = Arc::new(Mutex::new(None));
        let (serve, slot) = (disk.clone(), mounted.clone());
        let mount = Box::new(move |at: &Path| {
            let mount = simfs::fuse::mount_here(&serve, at)?;
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(mount);
            Ok(())
        });
        let observer = Arc::new(SyncsToDisk(disk.clone()));
        Self::start(mount, observer, Some(disk), Held::Simulated { _mounted: mounted })
    }

    /// With ext4 on an image in [`real_root`], mounted in the sandbox's own namespace: nothing of it outlives the server.
    ///
    /// # Errors
    /// There is no mkfs.ext4 or no loop device, or this user may not mount.
    pub fn on_ext4() -> io::Result<Self> {
        let dir = TempDir::with_prefix_in("cutover-benches-ext4-", real_root())?;
        let image = dir.path().join("image");
        File::create(&image)?.set_len(IMAGE_BYTES)?;
        run(Command::new("mkfs.ext4")
            .args(["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
            .arg(&image))?;
        // Attached from here: a file that is open for writing would keep the sandbox from making its view of the machine
        // read-only.
        let device = run(Command::new("losetup").args(["--find", "--show"]).arg(&image))?;
        let root = Arc::new(Mutex::new(None));
        let slot = root.clone();
        let mount = Box::new(move |at: &Path| {
            let mounted =
                run(Command::new("mount").args(["-n", "-t", "ext4", "-o", "nodev,nosuid", &device]).arg(at));
            // While it is mounted that only means: let it go afterwards, whatever becomes of us.
            run(Command::new("losetup").args(["--detach", &device]))?;
            mounted?;
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(File::open(at)?);
            Ok(())
        });
        Self::start(mount, Arc::new(Syncing(root)), None, Held::Real { _image: dir })
    }

    fn start(
        mount: sshd_test::MountDisk,
        observer: Arc<dyn Observer>,
        recorded: Option<Disk>,
        held: Held,
    ) -> io::Result<Self> {
        let mut options = Options::new(sshd_test::Disk::Mount(mount), observer);
        // As the certifier does it.
        options.one_processor = recorded.is_some();
        let deploy_path = options.mount_at.join("app");
        let server = Server::start(options).map_err(io::Error::other)?;
        Ok(Self { server: Some(server), deploy_path, recorded, _disk: held })
    }

    /// Deploys a directory with Cutover, and says how long it took.
    ///
    /// # Errors
    /// The release is not live.
    pub fn deploy(&self, source: &Path) -> io::Result<Duration> {
        let server = self.server.as_ref().ok_or_else(|| io::Error::other("the server has ended"))?;
        let text = format!(
            "version = 1\n[targets.bench]\nhost = {:?}\nport = {}\nuser = {:?}\npath = '{}'\nsource = '{}'\n\
             identity = '{}'\nknown_hosts = '{}'\n",
            server.host(),
            server.port(),
            server.user(),
            self.deploy_path.display(),
            source.display(),
            server.identity().display(),
            server.known_hosts().display(),
        );
        let target = config::parse(&text, Path::new("cutover.toml"), None).map_err(io::Error::other)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let started = Instant::now();
        let outcome = runtime.block_on(deploy(&target, &DeployOptions::default(), &mut |_| ()));
        let took = started.elapsed();
        match outcome {
            Ok(Outcome::Live { cleanup: None }) if server.wait_idle(Duration::from_secs(30)) => Ok(took),
            Ok(other) => Err(io::Error::other(format!("the deploy ended with {other:?}"))),
            Err(error) => Err(io::Error::other(error.to_string())),
        }
    }

    /// How many operations have been recorded; none on a real disk.
    pub fn ops(&self) -> Option<u32> {
        self.recorded.as_ref().map(|disk| disk.with(|fs| fs.trace().last()))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The server's processes have to be gone before the disk is.
        drop(self.server.take());
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("deploy_path", &self.deploy_path).finish_non_exhaustive()
    }
}

/// Does on the real disk what the program asked for: the sandbox has kept the call from it.
struct Syncing(Arc<Mutex<Option<File>>>);

impl Observer for Syncing {
    fn sync(&self, _: SyncCall, _: Caller<'_>) -> Result<(), i32> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(root) => rustix::fs::syncfs(root).map_err(rustix::io::Errno::raw_os_error),
            None => Ok(()),
        }
    }

    fn blind(&self, _: &str) {}
}

/// Runs a program and returns what it printed, without the line's end.
fn run(command: &mut Command) -> io::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let out =
        command.output().map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).trim_end().to_owned());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    Err(io::Error::other(format!("{program}: {}: {}", out.status, said.trim())))
}
