//! A real OpenSSH server on loopback for one test: own keys, own folder, dies with the value.

use std::fmt::Write as _;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The server and everything a deploy to it needs.
pub(crate) struct Host {
    pub(crate) dir: tempfile::TempDir,
    child: Child,
    port: u16,
    /// Who is logged in as.
    user: String,
    /// Environment of the client.
    pub(crate) env: Vec<(String, String)>,
}

/// What one run of the program said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The id in the line that says what is live.
    pub(crate) fn live(&self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        let line = self.stdout.lines().find_map(|l| l.strip_prefix("live: releases/"));
        line.unwrap_or_else(|| panic!("not live: {self:#?}")).to_owned()
    }
}

pub(crate) fn sshd_program() -> Option<PathBuf> {
    ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"].iter().map(PathBuf::from).find(|p| p.exists())
}

impl Host {
    /// Starts a server whose sessions use the machine's own tools; `None` (after saying why) where there is none.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(None)
    }

    /// The same with another `PATH` in its sessions, to choose the tools.
    pub(crate) fn start_with(path: Option<&Path>) -> Option<Self> {
        let Some(sshd) = sshd_program() else {
            crate::skip("there is no sshd on this machine");
            return None;
        };
        // Privilege separation of a root sshd wants this folder.
        let _ = fs::create_dir_all("/run/sshd");
        let dir = tempfile::tempdir().expect("a temporary folder");
        for key in ["host_key", "id"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
                .arg(dir.path().join(key))
                .status();
            assert!(made.is_ok_and(|s| s.success()), "ssh-keygen");
        }
        let at = |name: &str| dir.path().join(name);
        fs::copy(at("id.pub"), at("authorized_keys")).expect("authorized_keys");
        // Somebody else may take the port between this and sshd's start: then another one is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
            let mut config = format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
                 UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nMaxStartups 100\n",
                at("host_key").display(),
                at("authorized_keys").display(),
            );
            // A home of its own: the start-up files of whoever runs the tests are none of ours.
            let _ = write!(config, "SetEnv HOME={}", dir.path().display());
            if let Some(path) = path {
                let _ = write!(config, " PATH={}", path.display());
            }
            config.push('\n');
            fs::write(at("sshd_config"), config).expect("sshd_config");
            let mut child = Command::new(&sshd)
                .args(["-D", "-e", "-f"])
                .arg(at("sshd_config"))
                .stdin(Stdio::null())
                .stderr(fs::File::create(at("sshd.log")).expect("log"))
                .spawn()
                .expect("sshd");
            if answers(port, &mut child) {
                let key = fs::read_to_string(at("host_key.pub")).expect("host key");
                fs::write(at("known_hosts"), format!("[127.0.0.1]:{port} {key}")).expect("known_hosts");
                return Some(Self::of(dir, child, port, &whoami()));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        let log = fs::read_to_string(at("sshd.log")).unwrap_or_default();
        crate::skip(&format!("sshd does not start here: {log}"));
        None
    }

    /// A server that answers, with the host's key in `known_hosts` and the client's in `id`.
    pub(crate) fn of(dir: tempfile::TempDir, child: Child, port: u16, user: &str) -> Self {
        let host = Self { dir, child, port, user: user.to_owned(), env: Vec::new() };
        fs::create_dir_all(host.source()).expect("source");
        host.configure(&host.path());
        host
    }

    /// Writes `cutover.toml` for this deploy path.
    pub(crate) fn configure(&self, deploy_path: &Path) {
        let user = &self.user;
        let text = format!(
            "version = 1\n[targets.test]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{user}\"\npath = \"{}\"\nsource = \"source\"\n\
             identity = \"id\"\nknown_hosts = \"known_hosts\"\n",
            self.port,
            deploy_path.display(),
        );
        fs::write(self.dir.path().join("cutover.toml"), text).expect("cutover.toml");
    }

    /// The deploy path.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("srv/my app")
    }

    /// A path as the server sees it, which may have mounts of its own.
    pub(crate) fn inside(&self, path: &Path) -> PathBuf {
        let path = path.strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.child.id().to_string()).join("root").join(path)
    }

    /// The folder that is deployed.
    pub(crate) fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    /// Adds lines to the target in `cutover.toml`.
    pub(crate) fn set(&self, lines: &str) {
        let file = self.dir.path().join("cutover.toml");
        let text = fs::read_to_string(&file).expect("cutover.toml");
        fs::write(file, format!("{text}{lines}\n")).expect("cutover.toml");
    }

    /// Runs `cutover deploy`.
    pub(crate) fn deploy(&self, args: &[&str]) -> Ran {
        self.start_deploy(args).finish()
    }

    /// Runs any command.
    pub(crate) fn run(&self, command: &str, args: &[&str]) -> Ran {
        self.start_command(command, args).finish()
    }

    /// Starts `cutover deploy` and does not wait.
    pub(crate) fn start_deploy(&self, args: &[&str]) -> Running {
        self.start_command("deploy", args)
    }

    pub(crate) fn start_command(&self, command: &str, args: &[&str]) -> Running {
        let child = Command::new(env!("CARGO_BIN_EXE_cutover"))
            .arg(command)
            .args(args)
            .arg("--config")
            .arg(self.dir.path().join("cutover.toml"))
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cutover");
        Running(child)
    }

    /// What the link `current` says.
    pub(crate) fn current(&self) -> String {
        let text = fs::read_link(self.path().join("current")).expect("current");
        text.to_str().expect("plain text").to_owned()
    }

    /// The names in `releases/`, sorted.
    pub(crate) fn releases(&self) -> Vec<String> {
        names(&self.path().join("releases"))
    }

    /// The server's process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Cuts every connection: the server's processes for them are killed.
    pub(crate) fn cut_connections(&self) {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).expect("children");
        for child in children.split_whitespace() {
            let _ = Command::new("kill").args(["-KILL", child]).status();
        }
    }

    /// Every promise about what lies around after a deploy.
    pub(crate) fn assert_tidy(&self) {
        self.assert_tidy_but(&[]);
    }

    /// The same, but for entries of `releases/` that are none of ours.
    pub(crate) fn assert_tidy_but(&self, foreign: &[&str]) {
        let private = self.path().join(".cutover");
        assert!(names(&private.join("staging")).is_empty(), "staging is empty");
        assert!(names(&private.join("unfinished")).is_empty(), "no release is unfinished");
        assert!(names(&private).iter().all(|n| !n.starts_with("next.")), "no temporary link");
        let mut seals = names(&private.join("seals"));
        seals.retain(|s| s.len() == 14);
        let mut ours = self.releases();
        ours.retain(|name| !foreign.contains(&name.as_str()));
        assert_eq!(seals, ours, "one seal a release");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A deploy under way.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn finish(self) -> Ran {
        let out = self.0.wait_with_output().expect("its end");
        Ran {
            code: out.status.code(),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        }
    }
}

/// The names in a folder, sorted; none if there is no such folder.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut all: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    all.sort();
    all
}

pub(crate) fn whoami() -> String {
    let out = Command::new("id").arg("-un").output().expect("id");
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

pub(crate) fn answers(port: u16, child: &mut Child) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if child.try_wait().ok().flatten().is_some() {
            return false;
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// A folder with every busybox applet (and util-linux' flock) as links, to be the only `PATH`.
pub(crate) fn busybox_tools(dir: &Path) -> Option<PathBuf> {
    let tools = dir.join("busybox-tools");
    let Ok(out) = Command::new("busybox").arg("--list").output() else {
        crate::skip("there is no busybox on this machine");
        return None;
    };
    fs::create_dir_all(&tools).expect("tools");
    let find = |name: &str| {
        let path = std::env::var("PATH").unwrap_or_default();
        path.split(':').map(|d| Path::new(d).join(name)).find(|p| p.exists())
    };
    let busybox = find("busybox")?;
    for applet in String::from_utf8_lossy(&out.stdout).lines() {
        let _ = std::os::unix::fs::symlink(&busybox, tools.join(applet));
    }
    if !tools.join("flock").exists() {
        std::os::unix::fs::symlink(find("flock")?, tools.join("flock")).expect("flock");
    }
    Some(tools)
}

/// Sets a mode.
pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}
