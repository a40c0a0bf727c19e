//! Each fault as a real program meets it, and what the trace holds afterwards.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Output;
use std::time::{Duration, Instant};

use simfs::fault::{At, Calls, Fault, Schedule, When};
use simfs::{Errno, Full, Limits};

use crate::mounted::{Rig, on_mount};

const PATIENCE: Duration = Duration::from_secs(30);

fn set(rig: &Rig, when: When, fault: Fault) {
    rig.disk.set_faults(&Schedule::one(when, fault)).expect("a good schedule");
}

/// Runs a script that must fail, and returns what it says.
fn fails(rig: &Rig, script: &str) -> String {
    let Output { status, stderr, .. } = rig.try_sh(script);
    let told = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!status.success(), "{script} succeeded, and said: {told}");
    told
}

fn hits(rig: &Rig) -> Vec<String> {
    rig.disk.hits().iter().map(ToString::to_string).collect()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// For every kind of call that changes something: a program that makes it, and the errors that it tells.
#[test]
fn every_changing_call_fails_with_exactly_the_error() {
    on_mount(|rig| {
        let errors = [
            (Errno::IO, "Input/output error"),
            (Errno::NOSPC, "No space left on device"),
            (Errno::DQUOT, "Disk quota exceeded"),
            (Errno::ROFS, "Read-only file system"),
            (Errno::STALE, "Stale file handle"),
        ];
        let programs = [
            (Calls::CREATE, "touch new"),
            (Calls::CREATE, "mkfifo new"),
            (Calls::MKDIR, "mkdir new"),
            (Calls::SYMLINK, "ln -s f new"),
            (Calls::LINK, "ln f new"),
            (Calls::UNLINK, "rm f"),
            (Calls::RMDIR, "rmdir d"),
            (Calls::RENAME, "mv -T link g"),
            (Calls::WRITE, "exec echo more >> f"),
            (Calls::WRITE, "dd if=/dev/zero of=f conv=notrunc bs=4096 count=1 status=none"),
            (Calls::TRUNCATE, "truncate -s 1 f"),
            (Calls::FALLOCATE, "fallocate -l 9000 f"),
            (Calls::CHMOD, "chmod 600 f"),
            (Calls::CHOWN, "chown $(id -u):$(id -g) f"),
            (Calls::TIMES, "touch -d yesterday f"),
            (Calls::SET_XATTR, "exec setfattr -n user.a -v b f"),
        ];
        rig.sh("echo text > f; mkdir d; ln -s f link; ln -s d g");
        let (before, listed) = (rig.last(), rig.sh("ls -lR --time-style=full-iso"));
        for (errno, text) in errors {
            for (calls, program) in programs {
                if calls == Calls::SET_XATTR && rig.sh_if("setfattr", "true").is_none() {
                    continue;
                }
                set(rig, When::every(calls), Fault::Error(errno));
                let told = fails(rig, program);
                assert!(told.contains(text), "{program}: {text} was expected, and it said: {told}");
                assert!(!rig.disk.hits().is_empty(), "{program}");
                assert!(rig.disk.hits().iter().all(|hit| hit.calls.intersects(calls)));
            }
        }
        rig.disk.set_faults(&Schedule::default()).unwrap();
        assert_eq!(rig.recorded(before), "", "nothing was applied");
        assert_eq!(rig.sh("ls -lR --time-style=full-iso"), listed);
    });
}

#[test]
fn one_call_fails_once_and_is_told() {
    on_mount(|rig| {
        rig.sh("mkdir a; echo x > a/f");
        let next = rig.last() + 1;
        set(rig, When::nth(Calls::CREATE, 2), Fault::Error(Errno::NOSPC));
        rig.sh("touch a/one");
        assert!(fails(rig, "touch a/two").contains("No space left on device"));
        rig.sh("touch a/two");
        assert_eq!(hits(rig), [format!("ENOSPC at op {}: create a/two", next + 1)]);
    });
}

#[test]
fn an_op_is_chosen_by_its_number() {
    on_mount(|rig| {
        rig.sh("mkdir a");
        let next = rig.last() + 1;
        set(rig, When::op(next + 2), Fault::Error(Errno::IO));
        let told = fails(rig, "mkdir a/1; echo x > a/2; mkdir a/3");
        assert!(told.contains("echo: I/O error") || told.contains("Input/output error"), "{told}");
        // The number stays, but it is not met again.
        rig.sh("mkdir a/3");
        assert_eq!(hits(rig), [format!("EIO at op {}: write a/2", next + 2)]);
        set(rig, When::from_op(rig.last() + 2), Fault::Error(Errno::IO));
        rig.sh("mkdir a/4");
        for _ in 0..3 {
            assert!(fails(rig, "mkdir a/5").contains("Input/output error"));
        }
        assert_eq!(rig.disk.hits().len(), 3);
    });
}

#[test]
fn paths_are_those_of_the_moment() {
    on_mount(|rig| {
        rig.sh("mkdir -p a/b; echo x > a/b/f; ln a/b/f other");
        let io = || Fault::Error(Errno::IO);
        set(rig, When::every(Calls::WRITE).path("other"), io());
        assert!(
            fails(rig, "exec dd if=/dev/zero of=a/b/f bs=1 count=1 status=none").contains("Input/output")
        );
        rig.sh("rm other; echo y > a/b/f");
        set(rig, When::default().path("moved/*/f"), io());
        rig.sh("echo z > a/b/f; mv a moved");
        assert!(fails(rig, "truncate -s 0 moved/b/f").contains("Input/output"));
        assert_eq!(hits(rig), [format!("EIO at op {}: truncate moved/b/f", rig.last() + 1)]);
        // Both names of a rename.
        for glob in ["here", "**/there"] {
            set(rig, When::every(Calls::RENAME).path(glob), io());
            assert!(fails(rig, "touch here; mv here moved/there").contains("Input/output"));
        }
        set(rig, When::every(Calls::RENAME).path("*/here"), io());
        rig.sh("mv here moved/there");
        assert_eq!(hits(rig), [""; 0]);
    });
}

#[test]
fn a_quota_cuts_a_write_short_and_refuses_the_next() {
    on_mount(|rig| {
        for (full, text, name) in [
            (Full::Disk, "No space left on device", "ENOSPC"),
            (Full::Quota, "Disk quota exceeded", "EDQUOT"),
        ] {
            let limits = Limits { bytes: 3 * 4096, inodes: 100, full };
            set(rig, When::default(), Fault::Quota(limits));
            let told = fails(rig, "dd if=/dev/zero bs=100K count=1 2>&1 | tr '\\0' x > f");
            assert!(told.contains(text), "{told}");
            assert_eq!(rig.sh("stat -c %s f").trim(), (3 * 4096).to_string());
            let hit = hits(rig);
            assert!(hit.len() == 1 && hit[0].starts_with(&format!("{name} beyond 12288 bytes")), "{hit:?}");
            rig.sh("rm f");
            let limits = Limits { bytes: 1 << 20, inodes: 2, full };
            set(rig, When::default(), Fault::Quota(limits));
            rig.sh("touch one");
            assert!(fails(rig, "mkdir two").contains(text));
            rig.sh("rm one");
        }
    });
}

#[test]
fn a_power_cut_is_not_applied_and_ends_everything() {
    on_mount(|rig| {
        rig.sh("mkdir a");
        let before = rig.last();
        set(rig, When::nth(Calls::MKDIR, 2), Fault::Crash);
        let told = fails(rig, "mkdir a/1; mkdir a/2");
        assert!(told.contains("not connected"), "{told}");
        assert!(rig.disk.is_frozen());
        assert!(fails(rig, "touch later").contains("not connected"));
        assert_eq!(rig.recorded(before), "mkdir 1 +2\n");
        assert_eq!(hits(rig), [format!("a power cut at op {}: mkdir a/2", before + 2)]);
        rig.crash();
        rig.disk.thaw();
        rig.remount();
        assert_eq!(rig.sh("ls -A a"), "1\n");
    });
}

#[test]
fn a_kill_hits_the_process_that_calls_and_nobody_else() {
    on_mount(|rig| {
        let before = rig.last();
        set(rig, When::nth(Calls::MKDIR, 2), Fault::Kill);
        let output = rig.try_sh("mkdir 1; status=0; mkdir 2 || status=$?; echo $status; mkdir 3");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "137\n", "{output:?}");
        assert_eq!(rig.recorded(before), "mkdir 1 +2\nmkdir 3 +2\n");
        set(rig, When::nth(Calls::MKDIR, 1), Fault::Kill);
        assert_eq!(rig.try_sh("exec mkdir 4").status.signal(), Some(9));
        assert!(hits(rig)[0].starts_with("killed process "), "{:?}", hits(rig));
        // We live on.
        set(rig, When::nth(Calls::MKDIR, 1), Fault::Kill);
        let error = std::fs::create_dir(rig.at.join("5")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        assert!(!rig.disk.hits()[0].killed);
    });
}

#[test]
fn a_call_hangs_until_it_is_released() {
    on_mount(|rig| {
        let before = rig.last();
        set(rig, When::nth(Calls::MKDIR, 1), Fault::Hang);
        let waiting = rig.shell("mkdir slow").spawn().unwrap();
        until("it hangs", || rig.disk.waiting() == 1);
        // The disk can be looked at and marked meanwhile.
        assert_eq!(rig.recorded(before), "");
        rig.disk.poll();
        rig.disk.release();
        assert!(waiting.wait_with_output().unwrap().status.success());
        assert_eq!(rig.recorded(before), "mkdir slow +2\n");
        assert_eq!(rig.disk.waiting(), 0);
    });
}

#[test]
fn cutting_the_mount_or_the_power_ends_a_hang() {
    on_mount(|rig| {
        let before = rig.last();
        set(rig, When { calls: Calls::MKDIR, at: At::Every, path: None }, Fault::Hang);
        let waiting = rig.shell("mkdir slow").stderr(std::process::Stdio::null()).spawn().unwrap();
        until("it hangs", || rig.disk.waiting() == 1);
        rig.crash();
        assert!(!waiting.wait_with_output().unwrap().status.success());
        rig.remount();
        let waiting = rig.shell("mkdir slow").stderr(std::process::Stdio::null()).spawn().unwrap();
        until("it hangs", || rig.disk.waiting() == 1);
        rig.disk.freeze();
        assert!(!waiting.wait_with_output().unwrap().status.success());
        assert_eq!(rig.recorded(before), "");
    });
}
