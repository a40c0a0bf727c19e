//! What ends when: programs with their client, everything with the server, and everything with the program that hosts it.

use std::{
    fs,
    io::{BufRead, BufReader, Read as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use sshd_test::{Command as Inside, Disk, Options, Sandbox};

use crate::support::{Fixture, PATIENCE, Recorder, eventually, lacks, wait};

/// A number of seconds to sleep that no other process on the machine sleeps: finds our processes by their command line.
fn marker() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("3600.{:07}{:03}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The processes on the machine whose command line contains this.
fn processes_with(marker: &str) -> usize {
    let contains = |entry: std::io::Result<fs::DirEntry>| {
        let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line).contains(marker).then_some(())
    };
    fs::read_dir("/proc").unwrap().filter_map(contains).count()
}

#[test]
fn a_killed_client_takes_its_programs_along() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let marker = marker();
    // A pipeline: the whole process group has to go.
    let line = format!("sleep {marker} | sleep {marker}");
    let mut client = fixture.client("ssh").args(["target", &line]).stdin(Stdio::piped()).spawn().unwrap();
    eventually("both run", || processes_with(&format!("sleep\0{marker}")) == 2);
    assert!(!fixture.server.wait_idle(Duration::from_millis(50)), "a connection is open");
    client.kill().unwrap();
    client.wait().unwrap();
    assert!(fixture.server.wait_idle(PATIENCE));
    assert_eq!(processes_with(&marker), 0);
}

#[test]
fn a_cut_connection_ends_client_and_program() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    assert_eq!(fixture.server.cut_connections(), 0);
    let marker = marker();
    let line = format!("echo before; sleep {marker}; echo after");
    let start = || {
        let mut client = fixture.client("ssh");
        client.args(["target", &line]).stdout(Stdio::piped()).stderr(Stdio::piped());
        client.spawn().unwrap()
    };
    let mut clients = [start(), start()];
    for client in &mut clients {
        let mut before = [0; 7];
        client.stdout.as_mut().unwrap().read_exact(&mut before).unwrap();
        assert_eq!(&before, b"before\n");
    }
    eventually("both run", || processes_with(&format!("sleep\0{marker}")) == 2);
    assert_eq!(fixture.server.cut_connections(), 2);
    for client in clients {
        let output = wait(client);
        assert_eq!(output.status.code(), Some(255), "{output:?}");
        assert_eq!(output.stdout, b"");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("closed by remote host") || told.contains("Connection reset"), "{told}");
    }
    assert!(fixture.server.wait_idle(PATIENCE));
    assert_eq!(processes_with(&marker), 0);
    // The server goes on, and knows of no connection that is gone.
    assert_eq!(fixture.ssh_ok("echo again"), "again\n");
    assert!(fixture.server.wait_idle(PATIENCE));
    assert_eq!(fixture.server.cut_connections(), 0);
}

#[test]
fn idle_means_no_process_left() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    assert!(fixture.server.wait_idle(PATIENCE));
    fixture.ssh_ok("setsid sleep 1 >/dev/null 2>&1 </dev/null &");
    let start = Instant::now();
    assert!(!fixture.server.wait_idle(Duration::from_millis(50)), "a daemon lives");
    assert!(fixture.server.wait_idle(PATIENCE));
    assert!(start.elapsed() > Duration::from_millis(200));
}

#[test]
fn all_processes_can_be_killed_at_once() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let marker = marker();
    fixture.ssh_ok(&format!("for i in 1 2 3; do setsid sleep {marker} >/dev/null 2>&1 </dev/null & done"));
    assert_eq!(processes_with(&marker), 3);
    assert!(fixture.server.sandbox().kill_all(PATIENCE));
    assert_eq!(processes_with(&marker), 0);
    assert_eq!(fixture.ssh_ok("echo again"), "again\n");
}

#[test]
fn dropping_the_server_ends_everything() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let marker = marker();
    fixture.ssh_ok(&format!("setsid sleep {marker} >/dev/null 2>&1 </dev/null &"));
    let mut client = fixture
        .client("ssh")
        .args(["target", &format!("sleep {marker}")])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("both run", || processes_with(&format!("sleep\0{marker}")) == 2);
    let start = Instant::now();
    fixture.server.shutdown();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(!client.wait().unwrap().success());
    assert_eq!(processes_with(&format!("sleep\0{marker}")), 0);
}

/// Dropped while a program waits in a sync call.
#[test]
fn a_waiting_sync_does_not_hold_up_the_end() {
    let Some(fixture) = Fixture::new(&["ssh", "sync"]) else { return };
    fixture.recorder.hold(true);
    let mut client = fixture.client("ssh").args(["target", "sync"]).stderr(Stdio::null()).spawn().unwrap();
    eventually("the call begins", || !fixture.recorder.calls().is_empty());
    // The observer is told that it has to let go.
    fixture.server.shutdown();
    assert_eq!(fixture.recorder.given_up(), 1);
    client.wait().unwrap();
}

/// SIGKILL leaves neither a process nor a mount.
#[test]
fn nothing_outlives_a_killed_program() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let mounts_before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut host = Command::new(env!("CARGO_BIN_EXE_sshd-test-serve"))
        .arg(fixture.disk.path())
        .env("TMPDIR", fixture.scratch.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut config = String::new();
    BufReader::new(host.stdout.take().unwrap()).read_line(&mut config).unwrap();
    let marker = marker();
    let line = format!("touch /srv/started; (setsid sleep {marker} >/dev/null 2>&1 &); sleep {marker}");
    let mut client = Command::new("ssh");
    client.args(["-F", config.trim(), "target", &line]).stdin(Stdio::null()).stderr(Stdio::null());
    let mut client = client.spawn().unwrap();
    let sleeping = format!("sleep\0{marker}");
    eventually("both run", || processes_with(&sleeping) == 2);
    let namespaces = namespaces_of(host.id());
    assert!(namespaces.len() > 1, "the sandbox has a mount namespace of its own");
    host.kill().unwrap();
    host.wait().unwrap();
    client.wait().unwrap();
    eventually("all processes are gone", || processes_with(&sleeping) == 0);
    eventually("nobody is in its namespaces", || {
        let own = fs::read_link("/proc/self/ns/mnt").unwrap();
        let left = all_mount_namespaces();
        namespaces.iter().all(|namespace| *namespace == own || !left.contains(namespace))
    });
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), mounts_before);
    assert!(fixture.on_disk("started").exists());
    // Nothing is mounted there any more, or it could not be removed.
    fs::remove_dir_all(fixture.disk.path()).unwrap();
    fs::create_dir(fixture.disk.path()).unwrap();
}

/// The mount namespaces of the threads of a process.
fn namespaces_of(pid: u32) -> Vec<std::path::PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut found: Vec<_> =
        tasks.filter_map(|task| fs::read_link(task.ok()?.path().join("ns/mnt")).ok()).collect();
    found.sort();
    found.dedup();
    found
}

fn all_mount_namespaces() -> Vec<std::path::PathBuf> {
    let processes = fs::read_dir("/proc").unwrap();
    processes.filter_map(|process| fs::read_link(process.ok()?.path().join("ns/mnt")).ok()).collect()
}

#[test]
fn a_sandbox_works_without_ssh() {
    if lacks(&[]) {
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let mut options = Options::new(Disk::Dir(disk.path().to_owned()), Arc::new(Recorder::default()));
    options.env.push(("GREETING".to_owned(), "hi".to_owned()));
    let sandbox = Sandbox::start(options).unwrap();
    let output = sandbox.run("echo $GREETING; echo err >&2; exit 9").unwrap();
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (b"hi\n".as_slice(), b"err\n".as_slice())
    );
    assert_eq!(output.status.code(), Some(9));
    let missing = sandbox.spawn(&Inside::new(["/nowhere/program"])).unwrap_err();
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    let mut process = sandbox.spawn(&Inside::new(["sleep", "3600"])).unwrap();
    assert!(process.wait(Duration::from_millis(20)).unwrap().is_none());
    process.signal(15);
    let status = process.wait(PATIENCE).unwrap().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15));
    drop(sandbox.spawn(&Inside::new(["sleep", "3600"])).unwrap());
    assert_eq!(sandbox.processes().unwrap(), 0, "a process that is dropped is killed");
    sandbox.shutdown();
}

/// A closure mounts the disk; its mount is gone with the sandbox.
#[test]
fn a_closure_can_mount_the_disk() {
    if lacks(&[]) {
        return;
    }
    let mount = |path: &Path| {
        Ok(rustix::mount::mount("tmpfs", path, "tmpfs", rustix::mount::MountFlags::empty(), None)?)
    };
    let options = Options::new(Disk::Mount(Box::new(mount)), Arc::new(Recorder::default()));
    let sandbox = Sandbox::start(options).unwrap();
    let srv = sandbox.mount_at().to_owned();
    let output = sandbox.run(&format!("echo kept > {}/file; touch /etc/x", srv.display())).unwrap();
    assert!(!output.status.success());
    let content = sandbox.in_namespace(|path| fs::read(path.join("file"))).unwrap();
    assert_eq!(content, b"kept\n");
    assert!(!srv.join("file").exists(), "the mount is not visible to the machine");
}

/// Many sandboxes at once and one after the other: starting one takes milliseconds.
#[test]
fn sandboxes_come_and_go() {
    if lacks(&[]) {
        return;
    }
    let start = Instant::now();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                for _ in 0..5 {
                    let disk = tempfile::tempdir().unwrap();
                    let options =
                        Options::new(Disk::Dir(disk.path().to_owned()), Arc::new(Recorder::default()));
                    let sandbox = Sandbox::start(options).unwrap();
                    assert!(sandbox.run("exit 0").unwrap().status.success());
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    println!("20 sandboxes: {:?}", start.elapsed());
}
