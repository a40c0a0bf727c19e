//! What a program in the sandbox cannot do, as root of the sandbox and with the usual ways out.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sshd_test::{Disk, Error, Options, Sandbox};

use crate::support::{Fixture, Recorder, eventually, find, lacks, run, wait};

/// Places of the machine that nobody in the sandbox may write to.
const MACHINE: [&str; 8] = ["/", "/etc", "/usr", "/var", "/var/lib", "/opt", "/work", "/dev"];

/// Fails the test unless the machine is read-only inside. Every test that runs something harmful calls it first.
fn assert_read_only(fixture: &Fixture) {
    let own = std::env::current_dir().unwrap();
    let executable = std::env::current_exe().unwrap();
    let own = [own.as_path(), executable.parent().unwrap()];
    for place in MACHINE.map(Path::new).iter().chain(own.iter()) {
        let file = place.join("sshd-test-attack");
        let output = fixture.ssh(&format!("touch '{}'", file.display()));
        assert!(!output.status.success(), "{} is writable in the sandbox", place.display());
        assert!(!file.exists(), "{} was written", file.display());
    }
    let mounts = fixture.ssh_ok("cat /proc/self/mountinfo");
    let writable: Vec<&str> = mounts
        .lines()
        .filter(|line| {
            line.split(' ').nth(5).is_some_and(|options| options.split(',').any(|option| option == "rw"))
        })
        .filter_map(|line| line.split(' ').nth(4))
        .collect();
    let expected =
        [fixture.srv().as_str(), "/tmp", "/var/tmp", "/run", "/root", "/home", "/dev/shm", "/dev/pts"]
            .map(str::to_owned);
    let home = std::env::var("HOME").unwrap_or_default();
    for place in writable {
        assert!(expected.contains(&place.to_owned()) || place == home, "{place} is writable in the sandbox");
    }
}

#[test]
fn only_the_disk_and_fresh_places_are_writable() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    assert_read_only(&fixture);
    let srv = fixture.srv();
    fixture
        .ssh_ok(&format!("touch {srv}/f /tmp/f /var/tmp/f /run/f /root/f ~/g /dev/shm/f; echo x >/dev/null"));
    assert!(fixture.on_disk("f").exists());
    for place in ["/tmp/f", "/var/tmp/f", "/run/f", "/root/f", "/dev/shm/f"] {
        assert!(!Path::new(place).exists(), "{place} reached the machine");
    }
}

#[test]
fn nothing_private_of_the_machine_is_visible() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let marker = tempfile::NamedTempFile::new_in("/tmp").unwrap();
    assert!(!fixture.ssh(&format!("cat {}", marker.path().display())).status.success());
    assert_eq!(fixture.ssh_ok("find /tmp /var/tmp /root /home -mindepth 1"), "");
    // Its own shell, ps, and init.
    let processes = fixture.ssh_ok("ls /proc | grep -c '^[0-9]'");
    assert!(processes.trim().parse::<u32>().unwrap() <= 5, "{processes}");
    assert!(!fixture.ssh("cat /proc/1/environ").status.success());
    assert!(!fixture.ssh("ls /proc/1/root/").status.success());
    let environment = fixture.server.sandbox().in_namespace(|_| fs::read("/proc/1/environ")).unwrap();
    assert!(environment.iter().all(|byte| *byte == 0), "init has the environment of the program");
}

#[test]
fn capabilities_are_few_and_none_can_be_regained() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let status = fixture.ssh_ok("grep ^Cap /proc/self/status");
    let value = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    let kept: u64 = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 23].iter().map(|bit| 1 << bit).sum();
    assert_eq!((value("CapBnd"), value("CapPrm"), value("CapEff")), (kept, kept, kept));
    assert_eq!((value("CapInh"), value("CapAmb")), (0, 0));
}

#[test]
fn mounts_cannot_be_changed() {
    let Some(fixture) = Fixture::new(&["ssh", "mount", "unshare"]) else { return };
    let attempts = [
        "mount -o remount,rw /",
        "mount -o remount,bind,rw /",
        "mount -t tmpfs none /mnt",
        "mount --bind / /mnt",
        "umount /proc",
        "umount -l /tmp",
        "umount /root",
        "chroot /proc/1/root touch /etc/sshd-test-attack",
        "mknod /tmp/disk b 254 0 && dd if=/dev/zero of=/tmp/disk count=0",
        "echo b > /proc/sysrq-trigger",
        "echo 1 > /proc/sys/kernel/sysrq",
        "echo core > /proc/sys/kernel/core_pattern",
        "date -s '2001-01-01'",
        "hostname attacked",
        "echo 1 > /sys/kernel/mm/ksm/run",
        "nsenter -t 1 -m touch /etc/sshd-test-attack",
    ];
    for attempt in attempts {
        assert!(!fixture.ssh(attempt).status.success(), "{attempt} succeeded");
    }
    // With all capabilities in namespaces of its own, what was locked stays locked.
    let in_namespaces = |line: &str| fixture.ssh(&format!("unshare -Umpf --keep-caps sh -c '{line}'"));
    let possible = in_namespaces("mount --bind /usr /mnt && ls /mnt/bin/env");
    if !possible.status.success() {
        crate::skip(&format!("no nested user namespaces here: {possible:?}"));
        return;
    }
    let nested = [
        "mount -o remount,bind,rw / && touch /etc/sshd-test-attack",
        "umount /root",
        "umount /tmp",
        "umount /proc",
        "mount -t proc proc /proc && echo h > /proc/sysrq-trigger",
        "mount --bind /usr /mnt && mount -o remount,bind,rw /mnt && touch /mnt/sshd-test-attack",
    ];
    for attempt in nested {
        assert!(!in_namespaces(attempt).status.success(), "{attempt} succeeded in a user namespace");
    }
    assert!(!Path::new("/etc/sshd-test-attack").exists() && !Path::new("/usr/sshd-test-attack").exists());
}

/// What leads out of a bind mount where CAP_DAC_READ_SEARCH is kept: the handle of a file outside of it.
#[test]
fn file_handles_do_not_lead_out_of_the_disk() {
    const PROGRAM: &str = r#"
        #define _GNU_SOURCE
        #include <fcntl.h>
        #include <stdio.h>
        #include <stdlib.h>
        int main(int argc, char **argv) {
            struct file_handle *h = malloc(sizeof *h + 128);
            int mount_id;
            h->handle_bytes = 128;
            if (name_to_handle_at(AT_FDCWD, "/etc/passwd", h, &mount_id, 0)) return 3;
            int disk = open(argv[1], O_RDONLY | O_DIRECTORY);
            return open_by_handle_at(disk, h, O_RDWR) < 0 ? 4 : 0;
        }"#;
    let Some(fixture) = Fixture::new(&["ssh", "cc"]) else { return };
    let source = fixture.on_disk("handle.c");
    fs::write(&source, PROGRAM).unwrap();
    let built = run(Command::new("cc").arg(&source).arg("-o").arg(fixture.on_disk("handle")));
    assert!(built.status.success(), "{built:?}");
    let output = fixture.ssh(&format!("{0}/handle {0}", fixture.srv()));
    assert!(matches!(output.status.code(), Some(3 | 4)), "{output:?}");
    // The program itself works: outside, as root, it opens the file.
    let outside = run(Command::new(fixture.on_disk("handle")).arg("/"));
    assert!(matches!(outside.status.code(), Some(0 | 3)), "{outside:?}");
}

#[test]
fn devices_on_the_disk_are_dead() {
    let Some(fixture) = Fixture::new(&["ssh", "mknod"]) else { return };
    let made = run(Command::new("mknod").arg(fixture.on_disk("zero")).args(["c", "1", "5"]));
    assert!(made.status.success(), "{made:?}");
    assert!(!fixture.ssh(&format!("head -c 1 {}/zero", fixture.srv())).status.success());
}

#[test]
fn killing_everything_kills_only_the_sandbox() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let mut outside = Command::new("sleep").arg("300").spawn().unwrap();
    let line = format!("touch {}/started; sleep 300", fixture.srv());
    let mut inside = fixture.client("ssh").args(["target", &line]).spawn().unwrap();
    eventually("it runs", || fixture.on_disk("started").exists());
    let _ = fixture.ssh("kill -9 -1; kill -9 1");
    assert!(!inside.wait().unwrap().success());
    assert!(outside.try_wait().unwrap().is_none());
    assert_eq!(fixture.ssh_ok("echo alive"), "alive\n");
    outside.kill().unwrap();
    outside.wait().unwrap();
}

#[test]
fn removing_everything_removes_only_the_sandbox() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    assert_read_only(&fixture);
    let outside = fixture.scratch.path().join("canary");
    let mut in_tmp = tempfile::NamedTempFile::new_in("/tmp").unwrap();
    in_tmp.write_all(b"alive").unwrap();
    let in_home = std::env::var_os("HOME")
        .map(|home| PathBuf::from(home).join(format!(".sshd-test-canary-{}", std::process::id())));
    let canaries: Vec<PathBuf> = [Some(outside), in_home].into_iter().flatten().collect();
    for canary in &canaries {
        fs::write(canary, "alive").unwrap();
    }
    fs::write(fixture.on_disk("victim"), "").unwrap();
    fixture.ssh_ok("touch /tmp/victim ~/victim");
    let output = fixture.ssh("rm -rf --no-preserve-root / 2>/dev/null");
    let alive: Vec<bool> =
        canaries.iter().map(|canary| fs::read(canary).is_ok_and(|content| content == b"alive")).collect();
    for canary in &canaries {
        let _ = fs::remove_file(canary);
    }
    assert!(!output.status.success());
    assert!(alive.iter().all(|alive| *alive), "{canaries:?} {alive:?}");
    assert_eq!(fs::read(in_tmp.path()).unwrap(), b"alive");
    for file in ["/etc/passwd", "/bin/sh", "/usr/bin/env"] {
        assert!(Path::new(file).exists(), "{file}");
    }
    assert!(std::env::current_exe().unwrap().exists());
    // The disk and the fresh places are fair game; the sandbox still works.
    assert!(!fixture.on_disk("victim").exists());
    assert_eq!(fixture.ssh_ok("ls -A /tmp ~ | grep victim; echo works >/dev/null; echo works"), "works\n");
}

#[test]
fn a_place_that_cannot_hold_the_disk_is_refused() {
    if lacks(&[]) {
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    for place in ["relative", "/nowhere", "/tmp", "/dev/shm", "/proc", "/", "/etc/passwd", "/root"] {
        let mut options =
            Options::new(Disk::Dir(disk.path().to_owned()), std::sync::Arc::new(Recorder::default()));
        options.mount_at = place.into();
        let error = Sandbox::start(options).unwrap_err();
        assert!(matches!(error, Error::MountPoint { .. }), "{place}: {error}");
        assert!(error.to_string().contains("Options::mount_at"), "{error}");
    }
    let missing = Options::new(Disk::Dir("/nowhere".into()), std::sync::Arc::new(Recorder::default()));
    assert!(matches!(Sandbox::start(missing).unwrap_err(), Error::Disk { .. }));
    let nothing = Options::new(Disk::Mount(Box::new(|_| Ok(()))), std::sync::Arc::new(Recorder::default()));
    let error = Sandbox::start(nothing).unwrap_err();
    assert!(error.to_string().contains("without mounting anything"), "{error}");
}

/// An unprivileged user in a user namespace of its own gets the same sandbox.
#[test]
fn an_unprivileged_user_can_serve() {
    let Some(fixture) = Fixture::new(&["setpriv", "ssh"]) else { return };
    let program = fixture.scratch.path().join("serve");
    fs::copy(env!("CARGO_BIN_EXE_sshd-test-serve"), &program).unwrap();
    let nobody = |path: &Path| std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    for path in [fixture.scratch.path(), fixture.disk.path(), &program] {
        nobody(path);
    }
    let mut server = Command::new(find("setpriv").unwrap());
    server
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(&program)
        .arg(fixture.disk.path());
    server.env("TMPDIR", fixture.scratch.path()).env("HOME", "/nonexistent");
    let mut child =
        server.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let Some(config) = lines.next() else {
        crate::skip(&String::from_utf8_lossy(&wait(child).stderr));
        return;
    };
    let config = config.unwrap();
    // The client, as root, may read the key of another user, but ssh wants to own it.
    let client = |line: &str| {
        let mut ssh = Command::new(find("setpriv").unwrap());
        ssh.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--",
            "ssh",
            "-F",
            &config,
            "target",
            line,
        ]);
        run(ssh.stdin(Stdio::null()))
    };
    let output = client(
        "id -u; echo hi > /srv/file; touch /etc/x || touch /var/tmp/../lib/x; sync; ls -A /home ~; mount -o remount,rw /",
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("0\n") && !output.status.success(), "{output:?}");
    assert_eq!(fs::read(fixture.on_disk("file")).unwrap(), b"hi\n", "{output:?}");
    assert_eq!(lines.next().unwrap().unwrap(), "Sync");
    drop(child.stdin.take());
    assert!(wait(child).status.success());
}
