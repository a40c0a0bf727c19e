//! The persistence profiles against the file systems of the running kernel, in short: a handful of programs and deploys, no
//! waits.
//!
//! `cargo run -p cutover-tests --bin real-kernels` is the long version; `docs/real-kernels.md` has what it found.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::room::Room;
use crate::skip;

const PROGRAM: &str = env!("CARGO_BIN_EXE_real-kernels");

/// Litmus tests: those that refute what says too much.
const LITMUS: &str = "replace-via-rename-fsync,chmod-fdatasync,two-creations-one-dir,two-creations-fdatasync,create-fsync-new-dir,rename-fdatasync-file,syncfs-between,swap-fsync-dir,deploy-fsyncs";
/// Deploys: one that is right, and three canaries. Ours are recorded anew.
const DEPLOYS: &str = "correct,never-syncs,no-barrier-before,fsync-files-only";

/// What is not refuted here. The first is so by long runs alone, since it takes a power loss in the middle of writeback. The
/// others this kernel keeps; POSIX does not promise them, so no profile says them: docs/real-kernels.md.
const KEPT: [&str; 5] = [
    "ext4-ordered, but a length that grew brings its blocks",
    "btrfs, but fdatasync of a file forces its mode and owner",
    "xfs, but fdatasync of a file forces its mode and owner",
    "xfs, but fdatasync of a file forces its names",
    "xfs, but fdatasync of a file forces the chain up to its last change",
];

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

/// A run over these programs; nothing that is seen is outside of a profile.
fn report(programs: &str, options: &[&str]) -> (Output, Value) {
    let ran = run(&[&["--json", "--images", "60", "--program", programs], options].concat());
    let told = String::from_utf8_lossy(&ran.stdout);
    let report: Value = serde_json::from_str(&told).unwrap_or_else(|error| {
        panic!("no report ({error}): {}", String::from_utf8_lossy(&ran.stderr));
    });
    for fs in FILE_SYSTEMS {
        let results = of(&report, fs);
        let errors = String::from_utf8_lossy(&ran.stderr);
        assert!(results.len() >= programs.split(',').count(), "{fs}: {errors}");
        for result in results {
            assert_eq!(
                result["misread"].as_array().unwrap().len(),
                0,
                "{fs}: the rig read wrongly: {result:#}"
            );
            for profile in result["profiles"].as_array().unwrap() {
                if profile["is_profile"] == false {
                    continue;
                }
                assert_eq!(profile["outside"].as_array().unwrap().len(), 0, "{fs}: not allowed: {result:#}");
                assert!(profile["witnessed"].as_u64() > Some(0), "{fs}: nothing was seen: {result:#}");
            }
        }
    }
    (ran, report)
}

const FILE_SYSTEMS: [&str; 3] = ["ext4", "xfs", "btrfs"];

fn of<'r>(report: &'r Value, fs: &str) -> Vec<&'r Value> {
    report["results"].as_array().unwrap().iter().filter(|result| result["fs"] == fs).collect()
}

#[test]
fn the_profiles_allow_what_real_file_systems_do_and_what_says_too_much_is_refuted() {
    if !machine_can() {
        return;
    }
    let (ran, report) = report(LITMUS, &["--refute"]);
    for fs in FILE_SYSTEMS {
        // Few where a sync is one write between two flushes, as on xfs.
        let images: u64 =
            of(&report, fs).iter().map(|result| result["images_distinct"].as_u64().unwrap()).sum();
        assert!(images >= 10, "{fs}: only {images} images");
    }
    let (mut left, mut all) = (Vec::new(), 0);
    for (belief, said) in report["refuted"].as_object().unwrap() {
        let is_refuted = !said["on"].as_array().unwrap().is_empty();
        // A rig that does not catch these would not catch a wrong profile.
        assert!(said["canary"] == false || is_refuted, "{belief} was not refuted by any file system");
        if said["canary"] == false {
            all += 1;
            left.extend((!is_refuted).then_some(belief.as_str()));
        }
    }
    let score = all - left.len();
    let told = format!(
        "mutation score, stronger profiles that a real kernel refutes: {score} of {all}; not: {left:#?}"
    );
    // Shown though the test passes.
    let _ = writeln!(std::io::stderr(), "{told}");
    // Another kernel may keep other things.
    if report["kernel"].as_str().unwrap().starts_with("Linux 6.18.") {
        left.retain(|belief| !KEPT.contains(belief));
        assert!(left.is_empty(), "not refuted any more: {left:#?}");
    }
    assert_eq!((ran.status.code(), &report["holds"]), (Some(0), &Value::Bool(true)));
}

/// What the certifier says under a profile is what is seen on the file system; of our engine as it is now.
#[test]
fn real_deploys_do_on_real_file_systems_what_the_certifier_says() {
    if !machine_can() {
        return;
    }
    let room = Room::new();
    let trace = room.path("ours.cutover-trace");
    let apps = ["1", "2", "3"].map(|version| room.app(version));
    let mut certify = room.certify();
    certify.args(["--recordings", "1", "--recoveries", "0", "--faults", "0"]);
    let ran = room.run(certify.arg("--record").arg(&trace).arg("--app").args(apps));
    assert_eq!(ran.code, Some(0), "{}", room.show(&ran));
    let (ran, report) = report(DEPLOYS, &["--trace", trace.to_str().unwrap()]);
    let mut proved = String::new();
    let mut seen_broken = BTreeSet::new();
    for result in report["results"].as_array().unwrap() {
        let [program, fs] = ["program", "fs"].map(|key| result[key].as_str().unwrap());
        for promise in result["promises"].as_array().unwrap() {
            let name = promise["promise"].as_str().unwrap();
            let is_broken = promise["images_broken"].as_u64() > Some(0);
            if promise["proved"] == true {
                assert!(!is_broken, "certified, and broken: {result:#}");
                let _ = writeln!(proved, "{program} on {fs}: {name}");
            }
            if is_broken {
                seen_broken.insert(format!("{program} on {fs}: {name}"));
            }
        }
    }
    // Ours and the one that is right on each; what syncs the files alone, not on btrfs.
    insta::assert_snapshot!(proved, @r"
    correct on ext4: current_complete
    correct on ext4: durable_ack
    correct on xfs: current_complete
    correct on xfs: durable_ack
    correct on btrfs: current_complete
    correct on btrfs: durable_ack
    fsync-files-only on ext4: current_complete
    fsync-files-only on ext4: durable_ack
    fsync-files-only on xfs: current_complete
    fsync-files-only on xfs: durable_ack
    ours on ext4: current_complete
    ours on ext4: durable_ack
    ours on xfs: current_complete
    ours on xfs: durable_ack
    ours on btrfs: current_complete
    ours on btrfs: durable_ack
    ours-2 on ext4: current_complete
    ours-2 on ext4: durable_ack
    ours-2 on xfs: current_complete
    ours-2 on xfs: durable_ack
    ours-2 on btrfs: current_complete
    ours-2 on btrfs: durable_ack
    ");
    // What is broken is seen broken, without a wait. On a machine that is slow enough, more is.
    for fs in FILE_SYSTEMS {
        for broken in ["never-syncs: durable_ack", "no-barrier-before: current_complete"] {
            let broken = broken.replace(':', &format!(" on {fs}:"));
            assert!(seen_broken.contains(&broken), "not seen: {broken}; seen: {seen_broken:#?}");
        }
    }
    assert!(seen_broken.contains("fsync-files-only on btrfs: current_complete"), "seen: {seen_broken:#?}");
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

/// A run over nothing would hold.
#[test]
fn nothing_to_run_is_refused() {
    let ran = run(&["--after-each", "--waits", "7", "--program", "engine"]);
    assert_eq!(ran.status.code(), Some(2));
    insta::assert_snapshot!(String::from_utf8_lossy(&ran.stderr), @r"
    error: there is nothing to run
    hint: --after-each leaves deploys out
    ");
}
