//! Several sessions on one connection, and clients that do not read.

use std::{
    io::Read,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::support::{Fixture, PATIENCE, eventually, noise, run, wait};

/// A connection of OpenSSH that several clients share.
struct Master<'a> {
    fixture: &'a Fixture,
    child: Child,
}

impl<'a> Master<'a> {
    fn start(fixture: &'a Fixture) -> Self {
        let mut master = Self::with(fixture, &["-N", "-o", "ControlMaster=yes"]);
        let child = master.stderr(Stdio::null()).spawn().unwrap();
        eventually("the master listens", || fixture.scratch.path().join("control").exists());
        Self { fixture, child }
    }

    fn with(fixture: &Fixture, options: &[&str]) -> Command {
        let path = fixture.scratch.path().join("control");
        let mut command = fixture.client("ssh");
        command.arg("-o").arg(format!("ControlPath={}", path.display())).args(options).arg("target");
        command
    }

    /// A session on the shared connection.
    fn session(&self, line: &str) -> Command {
        let mut command = Self::with(self.fixture, &[]);
        command.arg(line);
        command
    }
}

impl Drop for Master<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One session sends without end to a client that reads nothing, one is sent much that its program does not read: the others
/// go on.
#[test]
fn sessions_that_nobody_reads_freeze_no_other() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let master = Master::start(&fixture);
    let mut unread = master.session("yes").stdout(Stdio::piped()).spawn().unwrap();
    let much = fixture.scratch.path().join("much");
    std::fs::write(&much, noise(24 << 20)).unwrap();
    let mut stuffed = master
        .session("sleep 300")
        .stdin(std::fs::File::open(&much).unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    for number in 0..20 {
        let output = run(&mut master.session(&format!("echo {number}; cat >/dev/null")));
        assert_eq!(output.stdout, format!("{number}\n").into_bytes(), "{output:?}");
    }
    assert!(unread.try_wait().unwrap().is_none() && stuffed.try_wait().unwrap().is_none());
    // What the program did not read was kept: it is all there for one that reads late.
    let late = master
        .session("sleep 1; wc -c")
        .stdin(std::fs::File::open(&much).unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(wait(late).stdout, format!("{}\n", 24 << 20).into_bytes());
    for child in [&mut unread, &mut stuffed] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    drop(master);
    assert!(fixture.server.wait_idle(PATIENCE), "both programs die with their clients");
}

#[test]
fn eight_sessions_at_once_on_one_connection() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let master = Master::start(&fixture);
    let start = |number: usize| {
        let line = format!("head -c 3000000 /dev/zero | tr '\\0' {number}");
        master.session(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let sessions: Vec<Child> = (0..8).map(start).collect();
    for (number, session) in sessions.into_iter().enumerate() {
        let output = wait(session);
        let expected = b'0' + number as u8;
        assert!(
            output.stdout.len() == 3_000_000 && output.stdout.iter().all(|byte| *byte == expected),
            "{number}"
        );
    }
}

#[test]
fn sixteen_connections_at_once() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let start = |number: usize| {
        let mut client = fixture.client("ssh");
        client
            .args(["target", &format!("echo {number}")])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let clients: Vec<Child> = (0..16).map(start).collect();
    for (number, client) in clients.into_iter().enumerate() {
        assert_eq!(wait(client).stdout, format!("{number}\n").into_bytes());
    }
    assert!(fixture.server.wait_idle(PATIENCE));
}

/// A client that stops reading altogether is not served faster than it reads.
#[test]
fn output_is_not_collected_for_a_client_that_does_not_read() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let counter = format!("{}/count", fixture.srv());
    let line = format!("i=0; while head -c 1000000 /dev/zero; do i=$((i+1)); echo $i > {counter}; done");
    let mut client = fixture.client("ssh").args(["target", &line]).stdout(Stdio::piped()).spawn().unwrap();
    let count = || std::fs::read_to_string(fixture.on_disk("count")).unwrap_or_default();
    let mut before = String::from("none");
    eventually("the program waits for its client", || {
        let now = count();
        std::thread::sleep(Duration::from_millis(300));
        let stands = now == before && !now.is_empty();
        before = now;
        stands
    });
    let megabytes: u32 = before.trim().parse().unwrap();
    assert!(megabytes < 64, "{megabytes} MB were sent to a client that reads nothing");
    let mut some = [0; 4096];
    client.stdout.take().unwrap().read_exact(&mut some).unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
}
