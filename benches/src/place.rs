//! Places to deploy to, and the one piece of work that is done in each.
//!
//! A [`Place`] runs a shell command with bytes on its standard input: on this machine, or over `ssh` on the embedded
//! server. The command is the same, and so is where the bytes come from, so the difference is the way there and the disk.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use simfs::{Disk, Fs, fuse::Mounted};
use sshd_test::{Caller, Observer, Options, Server, SyncCall};
use tempfile::TempDir;

use crate::{App, real_root};

/// A writable directory, and a way to run commands in it.
pub struct Place {
    /// None: commands run on this machine.
    server: Option<Server>,
    disk: Storage,
    /// As the commands see it.
    root: PathBuf,
    runs: u32,
}

/// What the directory lies on.
enum Storage {
    Real(TempDir),
    Simulated { disk: Disk, _mounted: Arc<Mutex<Option<Mounted>>> },
}

impl Place {
    /// A directory of this machine, without SSH: the floor.
    ///
    /// # Errors
    /// The temporary directory cannot be made.
    pub fn here() -> io::Result<Self> {
        let dir = real_dir()?;
        let root = dir.path().to_owned();
        Ok(Self { server: None, disk: Storage::Real(dir), root, runs: 0 })
    }

    /// A directory of this machine, behind the embedded server.
    ///
    /// # Errors
    /// The server cannot be started; the error says what it wants.
    pub fn ssh_to_real_directory() -> io::Result<Self> {
        let dir = real_dir()?;
        let options = Options::new(sshd_test::Disk::Dir(dir.path().to_owned()), Arc::new(Deaf));
        Self::ssh(options, Storage::Real(dir))
    }

    /// A simulated disk that records everything, behind the embedded server: what a certification deploys to.
    ///
    /// # Errors
    /// The server cannot be started, or the disk cannot be mounted; the error says what it wants.
    pub fn ssh_to_simfs() -> io::Result<Self> {
        let mut fs = Fs::new(0, 0, 0o755);
        fs.start_recording();
        let disk = Disk::new(fs);
        let mounted = Arc::new(Mutex::new(None));
        let (serve, slot) = (disk.clone(), mounted.clone());
        let mount = sshd_test::Disk::Mount(Box::new(move |at: &Path| {
            let mount = simfs::fuse::mount_here(&serve, at)?;
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(mount);
            Ok(())
        }));
        let options = Options::new(mount, Arc::new(Deaf));
        Self::ssh(options, Storage::Simulated { disk, _mounted: mounted })
    }

    fn ssh(options: Options, disk: Storage) -> io::Result<Self> {
        let root = options.mount_at.clone();
        let server = Server::start(options).map_err(io::Error::other)?;
        Ok(Self { server: Some(server), disk, root, runs: 0 })
    }

    /// Uploads the application as one tar stream into a new directory, and copies that to a second: what a deploy does
    /// with bytes. Returns where the two are; [`Place::remove`] takes them away.
    ///
    /// # Errors
    /// A program is missing or fails.
    pub fn upload_and_copy(&mut self, app: &App) -> io::Result<Deployed> {
        self.runs += 1;
        let dir = self.root.join(format!("run-{}", self.runs));
        let at = dir.display();
        let script = format!("mkdir {at} {at}/new && tar -xpf - -C {at}/new && cp -a {at}/new {at}/copy");
        let mut tar = Command::new("tar")
            .args(["-cf", "-", "-C"])
            .arg(app.path())
            .arg(".")
            .stdout(Stdio::piped())
            .spawn()?;
        let archive = tar.stdout.take().ok_or_else(|| io::Error::other("tar has no output"))?;
        let there = self.command(&script).stdin(archive).output();
        let here = tar.wait()?;
        let there = there?;
        if here.success() && there.status.success() {
            return Ok(Deployed { dir });
        }
        let said = String::from_utf8_lossy(&there.stderr);
        Err(io::Error::other(format!("tar here: {here}; the command there: {}: {said}", there.status)))
    }

    /// Removes what was deployed, and forgets the trace of it.
    ///
    /// # Errors
    /// The removal fails.
    pub fn remove(&self, deployed: &Deployed) -> io::Result<()> {
        let out = self.command(&format!("rm -r {}", deployed.dir.display())).stdin(Stdio::null()).output()?;
        if let Storage::Simulated { disk, .. } = &self.disk {
            drop(disk.take_trace());
        }
        if out.status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!("rm: {}: {}", out.status, String::from_utf8_lossy(&out.stderr))))
    }

    /// Files and bytes below both directories, counted on the disk itself and not through the way there.
    ///
    /// # Errors
    /// What was deployed is not there.
    pub fn count(&self, deployed: &Deployed) -> io::Result<(usize, u64)> {
        match &self.disk {
            Storage::Real(dir) => {
                let name = deployed.dir.file_name().unwrap_or_default();
                count_files(&dir.path().join(name))
            }
            Storage::Simulated { disk, .. } => disk.with(|fs| {
                let name = deployed.dir.file_name().unwrap_or_default();
                let mut total = (0, 0);
                for (_, ino) in fs.walk_tree(fs.resolve(name)?)? {
                    let stat = fs.stat(ino)?;
                    if stat.kind == simfs::Kind::File {
                        total = (total.0 + 1, total.1 + stat.size);
                    }
                }
                Ok(total)
            }),
        }
    }

    fn command(&self, script: &str) -> Command {
        let mut command = if let Some(server) = &self.server {
            let mut ssh = Command::new("ssh");
            ssh.arg("-F").arg(server.ssh_config()).arg("target");
            ssh
        } else {
            let mut sh = Command::new("sh");
            sh.arg("-c");
            sh
        };
        command.arg(script);
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The server's processes have to be gone before the disk is.
        drop(self.server.take());
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("root", &self.root).finish_non_exhaustive()
    }
}

/// What [`Place::upload_and_copy`] left.
#[derive(Debug)]
pub struct Deployed {
    dir: PathBuf,
}

/// Nothing syncs here, and if it does, nobody is told.
struct Deaf;

impl Observer for Deaf {
    fn sync(&self, _: SyncCall, _: Caller<'_>) -> Result<(), i32> {
        Ok(())
    }

    fn blind(&self, _: &str) {}
}

/// Below [`real_root`].
fn real_dir() -> io::Result<TempDir> {
    TempDir::with_prefix_in("cutover-benches-disk-", real_root())
}

fn count_files(dir: &Path) -> io::Result<(usize, u64)> {
    let mut total = (0, 0);
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        let more = if meta.is_dir() { count_files(&entry.path())? } else { (1, meta.len()) };
        total = (total.0 + more.0, total.1 + more.1);
    }
    Ok(total)
}
