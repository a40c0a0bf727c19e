//! The persistence profiles against the file systems of the running kernel, in short: a handful of programs, no waits.
//!
//! `cargo run -p cutover-tests --bin real-kernels` is the long version; `docs/real-kernels.md` has what it found.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::skip;

const PROGRAM: &str = env!("CARGO_BIN_EXE_real-kernels");

const PROGRAMS: &str = "replace-via-rename-fsync,chmod-fdatasync,two-creations-one-dir,syncfs-between,swap-fsync-dir,deploy-fsyncs";

/// Whether this machine can run them; says what is missing.
fn machine_can() -> bool {
    if !rustix::process::geteuid().is_root() {
        skip("only root can attach loop devices");
        return false;
    }
    for device in ["/dev/fuse", "/dev/loop-control", "/dev/btrfs-control"] {
        if let Err(error) = fs::File::options().read(true).write(true).open(device) {
            skip(&format!("{device} cannot be opened: {error}"));
            return false;
        }
    }
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    for name in ["mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"] {
        if !path.split(':').any(|dir| Path::new(dir).join(name).is_file()) {
            skip(&format!("there is no `{name}`"));
            return false;
        }
    }
    let kernel = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    for name in ["ext4", "xfs", "btrfs"] {
        if !kernel.lines().any(|line| line.trim() == name) {
            skip(&format!("the kernel has no {name}, or has not loaded it"));
            return false;
        }
    }
    true
}

fn run(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().expect("the program has been built")
}

#[test]
fn the_profiles_allow_what_real_file_systems_do_and_false_beliefs_are_refuted() {
    if !machine_can() {
        return;
    }
    let ran = run(&["--json", "--refute", "--images", "120", "--program", PROGRAMS]);
    let told = String::from_utf8_lossy(&ran.stdout);
    let report: Value = serde_json::from_str(&told).unwrap_or_else(|error| {
        panic!("no report ({error}): {}", String::from_utf8_lossy(&ran.stderr));
    });
    for fs in ["ext4", "xfs", "btrfs"] {
        let results: Vec<&Value> =
            report["results"].as_array().unwrap().iter().filter(|result| result["fs"] == fs).collect();
        let errors = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(results.len(), PROGRAMS.split(',').count(), "{fs}: {errors}");
        // Few where a sync is one write between two flushes, as on xfs.
        let images: u64 = results.iter().map(|result| result["images_distinct"].as_u64().unwrap()).sum();
        assert!(images >= 10, "{fs}: only {images} images");
        for result in results {
            for profile in result["profiles"].as_array().unwrap() {
                let is_false = profile["profile"].as_str().unwrap().starts_with("false:");
                let outside = profile["outside"].as_array().unwrap();
                assert!(is_false || outside.is_empty(), "{fs}: not allowed: {result:#}");
                assert!(
                    is_false || profile["witnessed"].as_u64() > Some(0),
                    "{fs}: nothing was seen: {result:#}"
                );
            }
        }
    }
    // The canaries: a rig that does not catch these would not catch a wrong profile.
    let refuted = report["refuted"].as_object().unwrap();
    assert_eq!(refuted.len(), 2);
    for (belief, by) in refuted {
        assert!(!by.as_array().unwrap().is_empty(), "{belief} was not refuted by any file system");
    }
    assert_eq!((ran.status.code(), &report["holds"]), (Some(0), &Value::Bool(true)));
}

#[test]
fn nothing_is_left_of_a_run_that_was_killed() {
    if !machine_can() {
        return;
    }
    // A path of its own, by which its loop devices are told from those of others. The kernel tells the path within the
    // file system when the mount namespace is gone.
    let room = tempfile::tempdir().unwrap();
    let is_ours = |file: &String| {
        let starts = [room.path().to_str().unwrap(), "/disk", "/held"];
        starts.iter().any(|start| file.starts_with(start))
    };
    let attached = || {
        let devices = fs::read_dir("/sys/block").unwrap().filter_map(Result::ok);
        let backing =
            devices.filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok());
        backing.filter(is_ours).count()
    };
    let within = |limit: Duration, holds: &mut dyn FnMut() -> bool| {
        let deadline = Instant::now() + limit;
        while !holds() {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    };
    // While file systems are made, mounted, written to and synced, looked at, and while nothing happens.
    for delay_ms in [0, 10, 30, 60, 100, 200, 400, 1500] {
        let mut run = Command::new(PROGRAM)
            .args(["--program", "deploy-fsyncs,swap-nothing-synced", "--waits", "0,600"])
            .env("TMPDIR", room.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program has been built");
        let began = within(Duration::from_mins(1), &mut || attached() > 0);
        thread::sleep(Duration::from_millis(delay_ms));
        run.kill().unwrap();
        let mut ended = || run.try_wait().unwrap().is_some();
        assert!(
            within(Duration::from_mins(1), &mut ended),
            "it does not end when killed after {delay_ms} ms"
        );
        assert!(began, "there are no loop devices");
        assert!(
            within(Duration::from_mins(1), &mut || attached() == 0),
            "loop devices are left after {delay_ms} ms"
        );
    }
    assert_eq!(
        fs::read_dir(room.path()).unwrap().count(),
        0,
        "something is left in {}",
        room.path().display()
    );
}

#[test]
fn an_unknown_program_is_refused() {
    let ran = run(&["--program", "no-such-program"]);
    assert_eq!(ran.status.code(), Some(2));
    insta::assert_snapshot!(String::from_utf8_lossy(&ran.stderr), @r#"
    error: there is no program "no-such-program"
    hint: --list has the names
    "#);
}
