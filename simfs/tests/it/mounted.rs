//! The rig: a disk mounted in a private mount namespace, on a thread of its own.
//!
//! Programs started through the rig inherit the namespace, and nothing of it outlives the test. A test that hangs ends
//! the whole run, loudly, because a program that waits for a mount cannot be killed.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use simfs::fuse::{Mounted, enter_private_namespace, mount_here, mount_here_with};
use simfs::{Disk, Fs};

use crate::replay::assert_replay_is_live;

const TEST_LIMIT: Duration = Duration::from_mins(2);

/// A mounted disk, and a real directory beside it.
pub(crate) struct Rig {
    pub(crate) disk: Disk,
    /// The mount point.
    pub(crate) at: PathBuf,
    /// A real directory, empty at first.
    pub(crate) real: PathBuf,
    pub(crate) mounted: Option<Mounted>,
    _dir: tempfile::TempDir,
}

/// Runs a test on an empty mounted disk, or says why it is skipped. Afterwards the trace must agree with the disk.
pub(crate) fn on_mount(test: impl FnOnce(&mut Rig) + Send + 'static) {
    on_mount_of(
        Fs::new(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw(), 0o755),
        test,
    );
}

/// Like [`on_mount`], of a disk with something on it.
pub(crate) fn on_mount_of(fs: Fs, test: impl FnOnce(&mut Rig) + Send + 'static) {
    let (ended, watch) = channel::<()>();
    let thread = std::thread::spawn(move || {
        let _ended = ended;
        match rig(fs) {
            Ok(mut rig) => {
                test(&mut rig);
                rig.crash();
                rig.disk.with(|fs| assert_replay_is_live(fs));
            }
            Err(why) => crate::skip(&why.to_string()),
        }
    });
    if watch.recv_timeout(TEST_LIMIT) == Err(RecvTimeoutError::Timeout) {
        eprintln!(
            "a test on a mount did not end in {TEST_LIMIT:?}; the processes that wait for it end with this one"
        );
        std::process::abort();
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn rig(mut fs: Fs) -> std::io::Result<Rig> {
    let dir = tempfile::tempdir()?;
    let (at, real) = (dir.path().join("disk"), dir.path().join("real"));
    std::fs::create_dir(&at)?;
    std::fs::create_dir(&real)?;
    // Other users are let through in the tests that need them.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
    fs.start_recording();
    let disk = Disk::new(fs);
    enter_private_namespace()?;
    let mounted = mount_here(&disk, &at)?;
    Ok(Rig { disk, at, real, mounted: Some(mounted), _dir: dir })
}

impl Rig {
    /// Runs a shell script in the mount; `$REAL` is the real directory. Panics unless it succeeds.
    pub(crate) fn sh(&self, script: &str) -> String {
        let output = self.try_sh(script);
        assert!(
            output.status.success(),
            "{script}\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn try_sh(&self, script: &str) -> Output {
        self.shell(script).output().expect("sh starts")
    }

    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-euc", script]).current_dir(&self.at).stdin(Stdio::null());
        command.env("REAL", &self.real).env("LC_ALL", "C").env("HOME", &self.real).env("TMPDIR", &self.real);
        command
    }

    /// Runs a script if the program exists.
    pub(crate) fn sh_if(&self, program: &str, script: &str) -> Option<String> {
        if self.try_sh(&format!("command -v {program} > /dev/null")).status.success() {
            return Some(self.sh(script));
        }
        crate::skip(&format!("no {program}"));
        None
    }

    /// Cuts the connection, if that has not been done.
    pub(crate) fn crash(&mut self) {
        if let Some(mounted) = self.mounted.take() {
            mounted.crash().expect("the server ends");
        }
    }

    /// Mounts the disk again.
    pub(crate) fn remount(&mut self) {
        self.remount_with(1);
    }

    /// Mounts the disk again, served by this many threads.
    pub(crate) fn remount_with(&mut self, threads: usize) {
        self.crash();
        let threads = NonZeroUsize::new(threads).expect("a server has threads");
        let mounted = mount_here_with(&self.disk, &self.at, threads);
        self.mounted = Some(mounted.expect("it could be mounted before"));
    }

    /// What was recorded since op `after`, one op a line.
    pub(crate) fn recorded(&self, after: u32) -> String {
        let trace = self.disk.trace();
        let mut lines = String::new();
        for op in &trace.ops()[after as usize + 1..] {
            let effects = op.effects.len();
            writeln!(lines, "{} +{effects}", told(&op.kind)).expect("a string takes it");
        }
        lines
    }

    pub(crate) fn last(&self) -> u32 {
        self.disk.with(|fs| fs.trace().last())
    }
}

fn told(kind: &simfs::OpKind) -> String {
    use simfs::OpKind as K;
    let text = |name: &simfs::Name| name.escape_ascii().to_string();
    match kind {
        K::Initial => "initial".into(),
        K::Mkdir { name, .. } => format!("mkdir {}", text(name)),
        K::Create { name, .. } => format!("create {}", text(name)),
        K::Symlink { name, .. } => format!("symlink {}", text(name)),
        K::Link { name, .. } => format!("link {}", text(name)),
        K::Unlink { name, .. } => format!("unlink {}", text(name)),
        K::Rmdir { name, .. } => format!("rmdir {}", text(name)),
        K::Rename { from, to, exchange, .. } => {
            format!("{} {} {}", if *exchange { "exchange" } else { "rename" }, text(from), text(to))
        }
        K::Write { offset, len, .. } => format!("write {offset} {len}"),
        K::Truncate { size, .. } => format!("truncate {size}"),
        K::Fallocate { offset, len, .. } => format!("fallocate {offset} {len}"),
        K::CopyRange { offset, len, .. } => format!("copy {offset} {len}"),
        K::Chmod { .. } => "chmod".into(),
        K::Chown { .. } => "chown".into(),
        K::Xattr { name, .. } => format!("xattr {}", text(name)),
        K::Sync { scope, ok, .. } => format!("sync {scope:?} {ok}"),
    }
}

/// Everything below a directory that programs preserve, as `find` sees it, in a fixed order. Lengths of directories
/// differ between file systems, and so does the number of their links.
pub(crate) fn listing(dir: &Path) -> Vec<String> {
    let format = "%P|%y|%m|%U:%G|%l|%T@";
    let find = |kinds: &[&str], extra: &str| {
        let output = Command::new("find")
            .arg(dir)
            .args(["-mindepth", "1"])
            .args(kinds)
            .args(["-printf", &format!("{format}{extra}\\0")])
            .output()
            .expect("find starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let mut found = find(&["-type", "d"], "");
    found.extend(find(&["!", "-type", "d"], "|%s|%n"));
    let mut lines: Vec<String> =
        found.split(|byte| *byte == 0).map(|line| line.escape_ascii().to_string()).collect();
    lines.sort();
    lines
}

/// A real tree with everything that copying programs stumble over.
pub(crate) fn make_awkward_tree(dir: &Path) {
    use std::ffi::OsStr;
    let write = |name: &[u8], bytes: &[u8]| {
        let path = dir.join(OsStr::from_bytes(name));
        std::fs::create_dir_all(path.parent().expect("a file has a directory")).expect("it can be made");
        std::fs::write(path, bytes).expect("it can be written");
    };
    write(b"plain", b"text\n");
    write(b"empty", b"");
    write(b"-rf", b"a leading dash\n");
    write(b"two\nlines", b"a newline\n");
    write(b" spaces and 'quotes\" ", b"quotes\n");
    write(b"not-utf8-\xff\xfe", b"bytes\n");
    write("größe/日本語".as_bytes(), b"utf-8\n");
    write(b"deep/er/and/deeper/file", b"deep\n");
    write(&[b'n'; 255], b"a long name\n");
    let block: Vec<u8> = (0..=255_u8).cycle().take(4096).collect();
    write(b"one block", &block);
    write(b"one block and one byte", &[&block[..], b"x"].concat());
    write(b"large", &block.repeat(700));
    std::fs::create_dir(dir.join("empty dir")).expect("it can be made");
    for n in 0..50 {
        write(format!("many/{n:03}").as_bytes(), format!("file {n}\n").as_bytes());
    }
    let sparse = std::fs::File::create(dir.join("sparse")).expect("it can be made");
    sparse.set_len(3 << 20).expect("it can be grown");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"in the middle", 1 << 20).expect("it can be written");
    std::os::unix::fs::symlink("plain", dir.join("link")).expect("it can be linked");
    std::os::unix::fs::symlink("no\nwhere/-x", dir.join("dangling")).expect("it can be linked");
    std::os::unix::fs::symlink("../deep", dir.join("deep/up")).expect("it can be linked");
    std::fs::hard_link(dir.join("plain"), dir.join("deep/same as plain")).expect("it can be linked");
    for (name, mode) in [("empty", 0o000), ("one block", 0o755), ("deep/er", 0o1777), ("empty dir", 0o2750)] {
        std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(mode))
            .expect("it can be set");
    }
}
