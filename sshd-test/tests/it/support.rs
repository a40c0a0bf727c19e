//! A server with a directory as its disk, an observer that remembers, and clients as child processes.

use std::{
    ffi::OsStr,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use sshd_test::{Caller, Disk, Observer, Options, Server, SyncCall};
use tempfile::TempDir;

/// Long enough for a busy machine, short enough to notice a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Remembers what it is told, and answers as it is set.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    state: Mutex<Recorded>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Recorded {
    calls: Vec<SyncCall>,
    blind: Vec<String>,
    fail_with: Option<i32>,
    kill_callers: bool,
    given_up: usize,
    hold: bool,
}

impl Recorder {
    pub(crate) fn calls(&self) -> Vec<SyncCall> {
        self.state.lock().unwrap().calls.clone()
    }

    pub(crate) fn blind_reasons(&self) -> Vec<String> {
        self.state.lock().unwrap().blind.clone()
    }

    /// How many callers had been killed before they could be answered.
    pub(crate) fn given_up(&self) -> usize {
        self.state.lock().unwrap().given_up
    }

    pub(crate) fn fail_with(&self, errno: i32) {
        self.state.lock().unwrap().fail_with = Some(errno);
    }

    /// From now on, whoever calls is killed.
    pub(crate) fn kill_callers(&self) {
        self.state.lock().unwrap().kill_callers = true;
    }

    /// While held, no observed call returns.
    pub(crate) fn hold(&self, hold: bool) {
        self.state.lock().unwrap().hold = hold;
        self.changed.notify_all();
    }
}

impl Observer for Recorder {
    fn sync(&self, call: SyncCall, caller: Caller<'_>) -> Result<(), i32> {
        let mut state = self.state.lock().unwrap();
        state.calls.push(call);
        if state.kill_callers {
            let pid = rustix::process::Pid::from_raw(caller.thread.cast_signed()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        let mut state = self.changed.wait_while(state, |state| state.hold).unwrap();
        state.given_up += usize::from(!caller.still_waits());
        state.fail_with.map_or(Ok(()), Err)
    }

    fn ending(&self) {
        self.hold(false);
    }

    fn blind(&self, what: &str) {
        self.state.lock().unwrap().blind.push(what.to_owned());
    }
}

/// A server on a fresh directory.
pub(crate) struct Fixture {
    pub(crate) server: Server,
    pub(crate) recorder: Arc<Recorder>,
    /// The disk, as the machine sees it.
    pub(crate) disk: TempDir,
    /// For files of the test, outside of everything.
    pub(crate) scratch: TempDir,
}

/// Why a test that needs these programs cannot run here, said and returned.
pub(crate) fn lacks(programs: &[&str]) -> bool {
    let skipped = |why: &str| {
        crate::skip(why);
        true
    };
    if !rustix::process::geteuid().is_root() {
        return skipped("the sandbox needs root here, since a test program has threads");
    }
    programs.iter().any(|program| find(program).is_none() && skipped(&format!("{program} is not installed")))
}

/// A program, where the sandbox finds it as well.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let places = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"];
    places.iter().map(|place| Path::new(place).join(program)).find(|path| path.exists())
}

impl Fixture {
    /// `None`: skipped, and said why.
    pub(crate) fn new(programs: &[&str]) -> Option<Self> {
        Self::with(programs, |_| ())
    }

    /// The same with other options.
    pub(crate) fn with(programs: &[&str], set: impl FnOnce(&mut Options)) -> Option<Self> {
        if lacks(programs) {
            return None;
        }
        let (disk, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let recorder = Arc::new(Recorder::default());
        let mut options = Options::new(Disk::Dir(disk.path().to_owned()), Arc::clone(&recorder) as _);
        set(&mut options);
        let server = Server::start(options).unwrap();
        Some(Self { server, recorder, disk, scratch })
    }

    /// Where programs in the sandbox find the disk.
    pub(crate) fn srv(&self) -> String {
        self.server.sandbox().mount_at().display().to_string()
    }

    /// A client program with the configuration of the server; `-F FILE` first.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-F").arg(self.server.ssh_config()).stdin(Stdio::null());
        command
    }

    /// `ssh target LINE` with an empty standard input.
    pub(crate) fn ssh(&self, line: &str) -> Output {
        run(self.client("ssh").arg("target").arg(line))
    }

    /// Standard output of `ssh target LINE`, which must succeed.
    pub(crate) fn ssh_ok(&self, line: &str) -> String {
        let output = self.ssh(line);
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// `sftp -b -` with these commands.
    pub(crate) fn sftp(&self, batch: &str) -> Output {
        let mut command = self.client("sftp");
        command.args(["-b", "-", "target"]).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(batch.as_bytes()).unwrap();
        wait(child)
    }

    pub(crate) fn on_disk(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.disk.path().join(name.as_ref())
    }
}

/// Runs a command, and fails the test instead of waiting for ever.
pub(crate) fn run(command: &mut Command) -> Output {
    wait(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

pub(crate) fn wait(child: std::process::Child) -> Output {
    let pid = child.id();
    let (send, receive) = std::sync::mpsc::channel();
    thread::spawn(move || send.send(child.wait_with_output()));
    let output = receive.recv_timeout(PATIENCE * 4);
    output.unwrap_or_else(|_| panic!("process {pid} hangs")).unwrap()
}

/// Waits until something is true.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes without a pattern that a length error could hide in.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}
