//! OpenSSH's own server on loopback, with keys of its own, and a real directory to deploy to.

use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io};

use tempfile::TempDir;

/// A running server; it ends with the value, and everything it served from goes.
#[derive(Debug)]
pub struct OpenSsh {
    dir: TempDir,
    server: Child,
    master: Option<Child>,
    port: u16,
}

impl OpenSsh {
    /// Starts a server whose directory is below `CUTOVER_BENCH_DIR`, or where temporary files go: sync calls have to reach a
    /// disk. `path` is the `PATH` of its sessions.
    ///
    /// # Errors
    /// There is no sshd, or it does not start.
    pub fn start(path: Option<&str>) -> io::Result<Self> {
        let root = env::var_os("CUTOVER_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from);
        let sshd = ["/usr/sbin/sshd", "/usr/bin/sshd"].iter().map(Path::new).find(|p| p.exists());
        let sshd = sshd.ok_or_else(|| io::Error::other("there is no sshd"))?;
        // Privilege separation of a root sshd wants this folder.
        let _ = fs::create_dir_all("/run/sshd");
        let dir = TempDir::with_prefix_in("cutover-benches-ssh-", root)?;
        let at = |name: &str| dir.path().join(name);
        for key in ["host_key", "id"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
                .arg(at(key))
                .status()?;
            if !made.success() {
                return Err(io::Error::other("ssh-keygen failed"));
            }
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n",
            at("host_key").display(),
            at("id.pub").display(),
        );
        // A home of its own: the start-up files of whoever measures are not measured.
        let _ = write!(config, "SetEnv HOME={}", dir.path().display());
        if let Some(path) = path {
            let _ = write!(config, " PATH={path}");
        }
        config.push('\n');
        fs::write(at("sshd_config"), config)?;
        let public = fs::read_to_string(at("host_key.pub"))?;
        fs::write(at("known_hosts"), format!("[127.0.0.1]:{port} {public}"))?;
        let server =
            Command::new(sshd).args(["-D", "-f"]).arg(at("sshd_config")).stdin(Stdio::null()).spawn()?;
        let server = Self { dir, server, master: None, port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if begun.elapsed() > Duration::from_secs(10) {
                return Err(io::Error::other("sshd does not answer"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes `cutover.toml` for this source and deploy path, and returns where it is.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn configure(&self, source: &Path, deploy_path: &Path) -> io::Result<PathBuf> {
        let text = format!(
            "version = 1\n[targets.bench]\nhost = \"127.0.0.1\"\nport = {}\nuser = {:?}\npath = '{}'\nsource = '{}'\n\
             identity = \"id\"\nknown_hosts = \"known_hosts\"\n",
            self.port,
            user()?,
            deploy_path.display(),
            source.display(),
        );
        let file = self.path("cutover.toml");
        fs::write(&file, text)?;
        Ok(file)
    }

    /// Opens the connection that [`OpenSsh::ssh`] shares, as people have it with `ControlMaster`.
    ///
    /// # Errors
    /// There is no ssh, or it does not get in.
    pub fn open_master(&mut self) -> io::Result<()> {
        let config = format!(
            "Host bench\n HostName 127.0.0.1\n Port {}\n User {}\n IdentityFile {}\n IdentitiesOnly yes\n IdentityAgent none\n \
             UserKnownHostsFile {}\n ControlPath {}\n Ciphers ^aes256-gcm@openssh.com\n",
            self.port,
            user()?,
            self.path("id").display(),
            self.path("known_hosts").display(),
            self.path("control").display(),
        );
        fs::write(self.path("ssh_config"), config)?;
        let master = Command::new("ssh")
            .arg("-F")
            .arg(self.path("ssh_config"))
            .args(["-M", "-N", "bench"])
            .stdin(Stdio::null())
            .spawn()?;
        self.master = Some(master);
        let begun = Instant::now();
        while !self.path("control").exists() {
            if begun.elapsed() > Duration::from_secs(10) {
                return Err(io::Error::other("ssh does not get in"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The options with which `ssh` uses the shared connection.
    pub fn ssh(&self) -> Vec<String> {
        vec!["ssh".to_owned(), "-F".to_owned(), self.path("ssh_config").display().to_string()]
    }

    /// Makes a folder of shims, programs that note in the file `profile` when they began and ended, and returns the `PATH`
    /// with it. The server does not have to run yet.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn shims(dir: &Path, programs: &[&str]) -> io::Result<String> {
        for name in programs {
            let real = ["/usr/bin", "/bin"].iter().map(|dir| Path::new(dir).join(name)).find(|p| p.exists());
            let real = real.ok_or_else(|| io::Error::other(format!("there is no {name}")))?;
            let script = format!(
                "#!/bin/sh\ns=$(date +%s%N)\n{} \"$@\"\nr=$?\necho \"{name} $s $(date +%s%N)\" >>'{}'\nexit $r\n",
                real.display(),
                dir.join("profile").display(),
            );
            fs::write(dir.join(name), script)?;
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755))?;
        }
        Ok(format!("{}:/usr/bin:/bin", dir.display()))
    }
}

impl Drop for OpenSsh {
    fn drop(&mut self) {
        for process in self.master.iter_mut().chain([&mut self.server]) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn user() -> io::Result<String> {
    let out = Command::new("id").arg("-un").output()?;
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}
