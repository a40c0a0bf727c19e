//! What the observer is told of sync(2) and syncfs(2), and what their callers see.

use std::{fs, process::Command, time::Duration};

use sshd_test::SyncCall::{Sync, Syncfs};

use crate::support::{Fixture, eventually, run};

#[test]
fn sync_and_syncfs_on_the_disk_are_observed() {
    let Some(fixture) = Fixture::new(&["ssh", "sync"]) else { return };
    let srv = fixture.srv();
    fixture.ssh_ok("sync");
    assert_eq!(fixture.recorder.calls(), [Sync]);
    fixture.ssh_ok(&format!("cd {srv} && touch f && sync -f f && sync -f ."));
    assert_eq!(fixture.recorder.calls(), [Sync, Syncfs, Syncfs]);
    assert!(fixture.recorder.blind_reasons().is_empty());
}

#[test]
fn static_programs_and_interpreters_are_observed() {
    let Some(fixture) = Fixture::new(&["ssh", "busybox", "perl"]) else { return };
    fixture.ssh_ok("busybox sync");
    assert_eq!(fixture.recorder.calls(), [Sync]);
    // 162 and 306 are the numbers on x86_64, 81 and 267 on aarch64.
    let (sync, syncfs) = if cfg!(target_arch = "x86_64") { (162, 306) } else { (81, 267) };
    fixture.ssh_ok(&format!("perl -e 'syscall({sync}) == 0 or die'"));
    fixture.ssh_ok(&format!(
        "perl -e 'open F, \"<\", \"{}\"; syscall({syncfs}, fileno F) == 0 or die'",
        fixture.srv()
    ));
    assert_eq!(fixture.recorder.calls(), [Sync, Sync, Syncfs]);
}

/// Children, orphans, threads of other users: the filter is inherited by all.
#[test]
fn descendants_are_observed() {
    let Some(fixture) = Fixture::new(&["ssh", "setsid", "unshare"]) else { return };
    fixture.ssh_ok("(setsid sh -c 'sleep 0.2; sync' >/dev/null 2>&1 &)");
    eventually("the orphan syncs", || fixture.recorder.calls() == [Sync]);
    fixture.ssh_ok("unshare -U sync");
    assert_eq!(fixture.recorder.calls(), [Sync, Sync]);
}

#[test]
fn what_is_not_about_the_disk_is_not_reported() {
    let Some(fixture) = Fixture::new(&["ssh", "sync", "perl"]) else { return };
    let srv = fixture.srv();
    // fsync and fdatasync reach the disk by themselves.
    fixture.ssh_ok(&format!("touch {srv}/f && sync {srv}/f && sync -d {srv}/f"));
    fixture.ssh_ok("sync -f /tmp; sync -f /proc; sync -f /dev/null");
    let syncfs = if cfg!(target_arch = "x86_64") { 306 } else { 267 };
    let bad = fixture.ssh_ok(&format!("perl -e 'print syscall({syncfs}, 99), \" \", $!+0'"));
    assert_eq!(bad, "-1 9", "a descriptor that is not open: EBADF");
    let path_only = fixture.ssh_ok(&format!(
        "perl -e 'sysopen(F, \"{srv}\", 010000000) or die $!; print syscall({syncfs}, fileno F), \" \", $!+0'"
    ));
    assert_eq!(path_only, "-1 9", "a descriptor that only stands for a path: EBADF");
    assert!(fixture.recorder.calls().is_empty(), "{:?}", fixture.recorder.calls());
}

/// The caller waits for the observer: what it does next is certainly after.
#[test]
fn a_call_returns_only_when_the_observer_does() {
    let Some(fixture) = Fixture::new(&["ssh", "sync"]) else { return };
    fixture.recorder.hold(true);
    let line = format!("cd {} && touch before && sync -f . && touch after", fixture.srv());
    let mut client = fixture.client("ssh").args(["target", &line]).spawn().unwrap();
    eventually("the call begins", || fixture.recorder.calls() == [Syncfs]);
    assert!(fixture.on_disk("before").exists());
    std::thread::sleep(Duration::from_millis(300));
    assert!(!fixture.on_disk("after").exists() && client.try_wait().unwrap().is_none());
    fixture.recorder.hold(false);
    assert!(client.wait().unwrap().success());
    assert!(fixture.on_disk("after").exists());
}

/// A caller that is killed while it waits leaves the supervisor in working order.
#[test]
fn a_caller_may_be_killed_while_it_waits() {
    let Some(fixture) = Fixture::new(&["ssh", "sync"]) else { return };
    fixture.recorder.hold(true);
    let mut client = fixture.client("ssh").args(["target", "sync"]).spawn().unwrap();
    eventually("the call begins", || !fixture.recorder.calls().is_empty());
    client.kill().unwrap();
    client.wait().unwrap();
    eventually("the caller is gone", || fixture.server.sandbox().processes().unwrap() == 0);
    fixture.recorder.hold(false);
    fixture.ssh_ok("sync");
    assert_eq!(fixture.recorder.calls(), [Sync, Sync]);
    assert_eq!(fixture.recorder.given_up(), 1);
}

#[test]
fn an_injected_error_is_what_the_caller_sees() {
    let Some(fixture) = Fixture::new(&["ssh", "sync"]) else { return };
    fixture.recorder.fail_with(libc_eio());
    let output = fixture.ssh(&format!("sync -f {}", fixture.srv()));
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Input/output error"), "{output:?}");
}

fn libc_eio() -> i32 {
    rustix::io::Errno::IO.raw_os_error()
}

#[test]
fn no_call_is_lost_among_many() {
    let Some(fixture) = Fixture::new(&["ssh", "perl"]) else { return };
    let sync = if cfg!(target_arch = "x86_64") { 162 } else { 81 };
    let line = format!(
        "for i in 1 2 3 4; do perl -e 'for (1..2000) {{ syscall({sync}) == 0 or die }}' & done; wait"
    );
    let start = std::time::Instant::now();
    fixture.ssh_ok(&line);
    println!("8000 calls: {:?}", start.elapsed());
    assert_eq!(fixture.recorder.calls().len(), 8000);
}

/// 32-bit programs have other numbers.
#[test]
fn a_32_bit_program_is_observed() {
    const PROGRAM: &str = r#"
        int main(void) {
            long result;
            __asm__ volatile("int $0x80" : "=a"(result) : "a"(36) : "memory");
            return result != 0;
        }"#;
    let Some(fixture) = Fixture::new(&["ssh", "cc"]) else { return };
    if !cfg!(target_arch = "x86_64") {
        crate::skip("not x86_64");
        return;
    }
    let source = fixture.on_disk("sync32.c");
    fs::write(&source, PROGRAM).unwrap();
    let built = run(Command::new("cc").arg(&source).arg("-o").arg(fixture.on_disk("sync32")));
    assert!(built.status.success(), "{built:?}");
    let output = fixture.ssh(&format!("{}/sync32", fixture.srv()));
    if output.status.code() == Some(255) {
        crate::skip("this kernel runs no 32-bit calls");
        return;
    }
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fixture.recorder.calls(), [Sync]);
}

/// A disk that is replaced is recognised: neither the old device number nor none.
#[test]
fn a_disk_that_was_mounted_again_is_recognised() {
    let Some(fixture) = Fixture::new(&["ssh", "sync"]) else { return };
    let sandbox = fixture.server.sandbox();
    let unmount =
        |path: &std::path::Path| Ok(rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH)?);
    sandbox.in_namespace(unmount).unwrap();
    fixture.ssh_ok(&format!("sync -f {}", fixture.srv()));
    assert!(fixture.recorder.calls().is_empty(), "there is no disk now");
    let mount = |path: &std::path::Path| {
        Ok(rustix::mount::mount("tmpfs", path, "tmpfs", rustix::mount::MountFlags::empty(), None)?)
    };
    sandbox.in_namespace(mount).unwrap();
    fixture.ssh_ok(&format!("sync -f {}; sync -f /tmp", fixture.srv()));
    assert_eq!(fixture.recorder.calls(), [Syncfs]);
    // It is unmounted with the rest of the namespace: the directory of the machine was never touched.
    fixture.ssh_ok(&format!("touch {}/on-tmpfs", fixture.srv()));
    assert!(!fixture.on_disk("on-tmpfs").exists());
}

/// The observer is told who calls, in numbers that are valid outside of the sandbox.
#[test]
fn the_caller_is_known_and_can_be_killed() {
    let Some(fixture) = Fixture::new(&["ssh", "sync"]) else { return };
    fixture.recorder.kill_callers();
    assert_eq!(fixture.ssh_ok("sync; echo $?"), "137\n");
    assert_eq!(fixture.ssh_ok(&format!("sync -f {}; echo $?", fixture.srv())), "137\n");
    assert_eq!(fixture.recorder.calls(), [Sync, Syncfs]);
}
