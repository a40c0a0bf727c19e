//! A server with one account made for the test: a normal user with a login shell, a home and start-up files of its own.
//!
//! The account exists in a private mount namespace only, where `/etc/passwd` and `/etc/group` are copies with one line
//! more; the machine's own files are never touched. That takes root.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::sshd::{Host, answers, chmod, sshd_program, whoami};

/// Name of the user and of the user's own group.
pub(crate) const USER: &str = "deployer";
/// Its uid and gid: some number that is nobody's.
pub(crate) const ID: u32 = 54_321;
/// A group that the user is a member of too.
pub(crate) const WEB_GROUP: u32 = 54_322;
/// A user who is not the deployer, as a web server is.
pub(crate) const OTHER: u32 = 54_323;

/// What is special about the account.
#[derive(Default)]
pub(crate) struct Account<'a> {
    /// The login shell; `/bin/sh` if not said.
    pub(crate) shell: Option<PathBuf>,
    /// Files of the home directory.
    pub(crate) home: &'a [(&'a str, &'a str)],
    /// The umask that sessions start with.
    pub(crate) umask: Option<u32>,
    /// Further lines of `sshd_config`.
    pub(crate) config: &'a str,
    /// Mounts a file system of so many bytes and inodes where the deploy path is to be made.
    pub(crate) disk: Option<(u32, u32)>,
    /// dropbear in place of OpenSSH's sshd.
    pub(crate) dropbear: bool,
}

/// Where a program is, or a skipped test.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let dirs = path.split(':').chain(["/usr/sbin", "/sbin"]);
    let found = dirs.map(|d| Path::new(d).join(name)).find(|p| p.exists());
    if found.is_none() {
        crate::skip(&format!("there is no {name} on this machine"));
    }
    found
}

impl Account<'_> {
    /// Starts the server; `None` (after saying why) where that is not possible.
    pub(crate) fn start(&self) -> Option<Host> {
        if whoami() != "root" {
            crate::skip("only root can give a test a user of its own");
            return None;
        }
        let sshd =
            if self.dropbear { program("dropbear")? } else { sshd_program().or_else(|| program("sshd"))? };
        let _ = fs::create_dir_all("/run/sshd");
        let dir = tempfile::tempdir().expect("a temporary folder");
        chmod(dir.path(), 0o755);
        self.prepare(dir.path());
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
            let mut child = self.command(&sshd, dir.path(), port).spawn().expect("a server");
            if answers(port, &mut child) {
                let key = fs::read_to_string(dir.path().join("host_key.pub")).expect("host key");
                let known = format!("[127.0.0.1]:{port} {key}");
                fs::write(dir.path().join("known_hosts"), known).expect("known_hosts");
                return Some(Host::of(dir, child, port, USER));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        let log = fs::read_to_string(dir.path().join("sshd.log")).unwrap_or_default();
        panic!("the server does not start: {log}");
    }

    fn prepare(&self, dir: &Path) {
        let own = |path: &Path| chown(path, Some(ID), Some(ID)).expect("chown");
        let home = dir.join("home");
        for folder in ["home", "home/.ssh", "srv"] {
            fs::create_dir(dir.join(folder)).expect("mkdir");
            own(&dir.join(folder));
        }
        for (name, text) in self.home {
            let file = home.join(name);
            fs::create_dir_all(file.parent().expect("a folder")).expect("mkdir");
            fs::write(&file, text).expect("a file of the home directory");
            own(&file);
        }
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
            .arg(dir.join("id"))
            .status();
        assert!(made.is_ok_and(|s| s.success()), "ssh-keygen");
        let keys = home.join(".ssh/authorized_keys");
        fs::copy(dir.join("id.pub"), &keys).expect("authorized_keys");
        own(&keys);
        chmod(&keys, 0o600);
        chmod(&home.join(".ssh"), 0o700);
        let shell = self.shell.clone().unwrap_or_else(|| PathBuf::from("/bin/sh"));
        let more = |file: &str, line: String| {
            let text = fs::read_to_string(Path::new("/etc").join(file)).expect("read");
            fs::write(dir.join(file), format!("{text}{line}\n")).expect("write");
        };
        more("passwd", format!("{USER}:x:{ID}:{ID}::{}:{}", home.display(), shell.display()));
        more("group", format!("{USER}:x:{ID}:\nweb:x:{WEB_GROUP}:{USER}"));
        // dropbear asks whether a shell is one.
        more("shells", shell.display().to_string());
        let host_key = dir.join("host_key");
        if self.dropbear {
            let made = Command::new("dropbearkey").args(["-t", "ed25519", "-f"]).arg(&host_key).output();
            let said = made.expect("dropbearkey").stdout;
            let said = String::from_utf8_lossy(&said).into_owned();
            let line = said.lines().find(|l| l.starts_with("ssh-ed25519 ")).expect("a public key");
            fs::write(dir.join("host_key.pub"), format!("{line}\n")).expect("write");
        } else {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
                .arg(&host_key)
                .status();
            assert!(made.is_ok_and(|s| s.success()), "ssh-keygen");
        }
    }

    fn command(&self, server: &Path, dir: &Path, port: u16) -> Command {
        // The umask is inherited: neither server sets one without PAM.
        let script = "umask \"$1\"; cd \"$2\"; shift 2; for f in passwd group shells; do mount --bind $f /etc/$f || exit; done; \
                      if [ -n \"$disk\" ]; then mount -t tmpfs -o \"$disk\" tmpfs srv || exit; fi; exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
        let disk = self.disk.map_or(String::new(), |(bytes, inodes)| {
            format!("size={bytes},nr_inodes={inodes},uid={ID},gid={ID},mode=755")
        });
        command.env("disk", disk);
        command.arg(format!("{:03o}", self.umask.unwrap_or(0o022))).arg(dir).arg(server);
        if self.dropbear {
            command.args(["-F", "-E", "-s", "-m", "-r", "host_key", "-P", "dropbear.pid", "-p"]);
            command.arg(format!("127.0.0.1:{port}"));
        } else {
            let at = |name: &str| dir.join(name).display().to_string();
            let config = format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\nStrictModes no\nUsePAM no\n\
                 PasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxStartups 100\n\
                 Subsystem sftp internal-sftp\n{}\n",
                at("host_key"),
                self.config,
            );
            fs::write(dir.join("sshd_config"), config).expect("sshd_config");
            command.args(["-D", "-e", "-f"]).arg(at("sshd_config"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(dir.join("sshd.log")).expect("log"));
        command
    }
}
