//! Trace files through the program: the recorded traces of `tests/traces` keep their verdicts, and files that are no
//! traces are told apart. Needs no FUSE.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::skip;

fn traces() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/traces")
}

fn trace(name: &str) -> PathBuf {
    traces().join(format!("{name}.cutover-trace"))
}

fn certify(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cutover-certify"));
    command.current_dir(traces()).args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    certify(arguments).output().expect("it was built for this test")
}

fn good(arguments: &[&str]) -> Vec<u8> {
    let out = run(arguments);
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(String::from_utf8_lossy(&out.stderr), "");
    out.stdout
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("what is printed for people is UTF-8")
}

/// The recorded traces, by name.
fn recorded() -> Vec<String> {
    let files =
        fs::read_dir(traces()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        files.filter_map(|file| file.strip_suffix(".cutover-trace").map(str::to_owned)).collect();
    names.sort();
    names
}

/// Judges a trace: exit code, and for each promise its verdicts.
fn verdicts(file: &Path, json: &Path) -> String {
    let out = run(&["judge", file.to_str().unwrap(), "--json", json.to_str().unwrap()]);
    assert_eq!(String::from_utf8_lossy(&out.stderr), "");
    let judgement: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    assert_eq!(judgement["exit_status"], out.status.code().unwrap());
    let mut text = format!("exit {}", judgement["exit_status"]);
    for row in judgement["rows"].as_array().unwrap() {
        let none = Vec::new();
        let crash = row["crash"].as_array().unwrap_or(&none);
        let under = |model: &str| crash.iter().find(|crash| crash["model"] == model);
        for (verdict, sign) in [(Some(&row["live"]), ""), (under("posix"), "*")] {
            let word = match verdict.and_then(|verdict| verdict["verdict"].as_str()) {
                Some("broken") => "BROKEN",
                Some("not_asked") => "not asked",
                Some("unknown") => "unknown",
                _ => continue,
            };
            let _ = write!(text, ", {}{sign} {word}", row["promise"].as_str().unwrap());
            let proved = crash.iter().filter(|crash| crash["verdict"] == "proved");
            let proved: Vec<&str> = proved.map(|crash| crash["model"].as_str().unwrap()).collect();
            if sign == "*" && !proved.is_empty() {
                let _ = write!(text, " (not {})", proved.join(", "));
            }
        }
    }
    text
}

#[test]
fn recorded_traces_keep_their_verdicts() {
    let dir = tempfile::tempdir().unwrap();
    let mut shown = String::from("all proved but what is named; * is under posix\n");
    for name in recorded() {
        let _ = writeln!(shown, "{name}: {}", verdicts(&trace(&name), &dir.path().join("json")));
    }
    insta::assert_snapshot!(shown, @r"
    all proved but what is named; * is under posix
    barrier-after-cutover: exit 1, current_complete* BROKEN (not ext4-ordered, xfs, btrfs), durable_ack* BROKEN (not ext4-ordered, xfs, btrfs), shared_intact not asked, shared_intact* not asked
    cleanup-before-durable: exit 1, current_complete* BROKEN (not ext4-ordered, xfs), durable_ack* BROKEN (not ext4-ordered, xfs), immutable_after_cutover BROKEN, readers_whole BROKEN, previous_intact BROKEN, previous_intact* BROKEN, shared_intact not asked, shared_intact* not asked, retention BROKEN
    correct: exit 0, shared_intact not asked, shared_intact* not asked
    correct-copy-fsync: exit 0, shared_intact not asked, shared_intact* not asked
    correct-fdatasync: exit 0, shared_intact not asked, shared_intact* not asked
    directories-first: exit 1, current_complete* BROKEN (not ext4-ordered, xfs, btrfs), durable_ack* BROKEN (not ext4-ordered, xfs, btrfs), previous_intact* BROKEN (not ext4-ordered, xfs, btrfs), shared_intact not asked, shared_intact* not asked
    engine: exit 0
    fdatasync-modes: exit 1, current_complete* BROKEN (not ext4-ordered, xfs), durable_ack* BROKEN (not ext4-ordered, xfs), previous_intact* BROKEN (not ext4-ordered, xfs), shared_intact not asked, shared_intact* not asked
    fdatasync-status: exit 1, current_complete* BROKEN (not ext4-ordered, xfs), durable_ack* BROKEN (not ext4-ordered, xfs), previous_intact* BROKEN (not ext4-ordered, xfs, btrfs), shared_intact not asked, shared_intact* not asked
    fsync-files-only: exit 1, current_complete* BROKEN (not ext4-ordered, xfs), durable_ack* BROKEN (not ext4-ordered, xfs), previous_intact* BROKEN (not ext4-ordered, xfs), shared_intact not asked, shared_intact* not asked
    fsync-not-releases: exit 1, current_complete* BROKEN (not ext4-ordered, xfs, btrfs), durable_ack* BROKEN (not ext4-ordered, xfs, btrfs), previous_intact* BROKEN (not ext4-ordered, xfs, btrfs), shared_intact not asked, shared_intact* not asked
    fsync-status: exit 1, current_complete* BROKEN (not ext4-ordered, xfs), durable_ack* BROKEN (not ext4-ordered, xfs), shared_intact not asked, shared_intact* not asked
    keeps-two: exit 1, immutable_after_cutover BROKEN, readers_whole BROKEN, previous_intact BROKEN, previous_intact* BROKEN, shared_intact not asked, shared_intact* not asked, retention BROKEN
    link-after-barrier: exit 1, current_complete* BROKEN (not ext4-ordered, xfs, btrfs), durable_ack* BROKEN (not ext4-ordered, xfs, btrfs), shared_intact not asked, shared_intact* not asked
    ln-sfn: exit 1, current_complete* BROKEN (not ext4-ordered, xfs, btrfs), durable_ack* BROKEN (not ext4-ordered, xfs, btrfs), shared_intact not asked, shared_intact* not asked
    never-syncs: exit 1, current_complete* BROKEN, durable_ack* BROKEN, previous_intact* BROKEN, shared_intact not asked, shared_intact* not asked
    no-barrier-after: exit 1, current_complete* BROKEN, durable_ack* BROKEN, shared_intact not asked, shared_intact* not asked
    no-barrier-before: exit 1, current_complete* BROKEN, durable_ack* BROKEN, previous_intact* BROKEN, shared_intact not asked, shared_intact* not asked
    rm-ln: exit 1, current_complete BROKEN, current_complete* BROKEN, never_absent BROKEN, durable_ack* BROKEN, readers_whole BROKEN, shared_intact not asked, shared_intact* not asked
    rsync: exit 0, shared_intact not asked, shared_intact* not asked
    seed-shared: exit 1, shared_intact BROKEN, shared_intact* BROKEN
    upload-into-live: exit 1, current_complete BROKEN, current_complete* BROKEN, durable_ack* BROKEN, immutable_after_cutover BROKEN, readers_whole BROKEN, previous_intact not asked, previous_intact* not asked, shared_intact not asked, shared_intact* not asked, retention not asked
    ");
}

#[test]
fn an_export_says_all_that_a_trace_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (lines, compact, json) = (path("lines"), path("compact"), path("json"));
    for name in recorded() {
        let file = trace(&name);
        let file = file.to_str().unwrap();
        assert_eq!(good(&["trace", "export", file, "-o", &lines]), b"");
        assert_eq!(good(&["trace", "import", &lines, "-o", &compact]), b"");
        assert!(fs::read(&compact).unwrap() == fs::read(file).unwrap(), "{name}: import gives another file");
        assert!(fs::read(&lines).unwrap() == good(&["trace", "export", &compact]), "{name}: another export");
        let judged = |file: &str| {
            run(&["judge", file, "--json", &json]);
            fs::read(&json).unwrap()
        };
        assert!(judged(&lines) == judged(file), "{name}: other verdicts");
    }
    let mut left: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["compact", "json", "lines"]);
}

/// Somebody who knows the documentation and nothing else finds the same trees.
#[test]
fn another_reader_finds_the_same() {
    if Command::new("python3").arg("--version").output().is_err() {
        return skip("there is no `python3` on PATH");
    }
    for name in recorded() {
        let file = trace(&name);
        let mut export =
            certify(&["trace", "export", file.to_str().unwrap()]).stdout(Stdio::piped()).spawn().unwrap();
        let reader = Command::new("python3")
            .arg("read.py")
            .current_dir(traces())
            .stdin(export.stdout.take().unwrap())
            .output()
            .unwrap();
        assert!(export.wait().unwrap().success());
        assert!(reader.status.success(), "{}", String::from_utf8_lossy(&reader.stderr));
        let ours = text(good(&["trace", "tree", file.to_str().unwrap()]));
        assert_eq!(text(reader.stdout), ours, "{name}");
        assert!(ours.contains("/app/current"), "{name}: {ours}");
    }
}

#[test]
fn a_trace_can_be_looked_at() {
    let file = trace("rm-ln");
    let file = file.to_str().unwrap();
    let show = text(good(&["trace", "show", file, "--from", "48", "--to", "53"]));
    insta::assert_snapshot!(show, @"
    48  chmod /srv/app/releases/20240101000002/bin
    49  sync of the whole disk
    50  unlink /srv/app/current
    51  symlink /srv/app/current
    52  fsync /srv/app
        -- deploy 2 is reported as live
        -- deploy 2 ends well
        -- deploy 3 begins
    53  mkdir /srv/app/releases/20240101000003
    ");
    let show = text(good(&["trace", "show", file, "--from", "1", "--to", "4", "--effects"]));
    insta::assert_snapshot!(show, @r"
    1  mkdir /srv/app/releases
         the existence of /srv/app/releases: a dir, mode 0755
         the name /srv/app/releases: inode 3
    2  mkdir /srv/app/releases/20240101000001
         the existence of /srv/app/releases/20240101000001: a dir, mode 0755
         the name /srv/app/releases/20240101000001: inode 4
    3  create /srv/app/releases/20240101000001/caf\xe9 50%25\nx
         the existence of /srv/app/releases/20240101000001/caf\xe9 50%25\nx: a file, mode 0644
         the name /srv/app/releases/20240101000001/caf\xe9 50%25\nx: inode 5
    4  write 4 bytes at 0 of /srv/app/releases/20240101000001/caf\xe9 50%25\nx
         the bytes at 0 of /srv/app/releases/20240101000001/caf\xe9 50%25\nx: 4 bytes and zeros
         the length of /srv/app/releases/20240101000001/caf\xe9 50%25\nx: 4 bytes
    ");
    insta::assert_snapshot!(text(good(&["trace", "stats", file])), @"
    file                  2501 bytes, compact, format version 1
    written by            cutover-certify 0.1.0
    distinct contents     16 blocks, 3995 bytes
    subject               sh certify/subjects/rm-ln.sh
    deploy                1: begins after op 0, live after op 26 with 0 effects not yet durable under posix, done after op 26
    deploy                2: begins after op 26, live after op 52 with 0 effects not yet durable under posix, done after op 52
    deploy                3: begins after op 52, live after op 78 with 0 effects not yet durable under posix, done after op 78
    deploy                4: begins after op 78, live after op 116 with 12 effects not yet durable under posix, done after op 116
    deploy                5: begins after op 116, live after op 154 with 12 effects not yet durable under posix, done after op 154
    operations            154: 30 create, 30 write, 26 mkdir, 20 chmod, 18 unlink, 10 rmdir, 10 symlink, 10 sync
    effects               258: 95 entry, 68 inode, 35 block, 30 size, 20 mode, 10 target
    sync calls            10: 5 of a directory, 5 of the whole disk
    bytes written         60285
    contents on the disk  16 blocks, 3995 bytes
    ");
    insta::assert_snapshot!(text(good(&["trace", "tree", file, "--at", "8"])), @"
    dir 0755 - - /
    dir 0755 - - /app
    dir 0755 - - /app/releases
    dir 0755 - - /app/releases/20240101000001
    file 0644 4 80a3ef2f5539b0a6b5ee045e2a1de83bfb38550da54aa4d60dc1b9526b4b0805 /app/releases/20240101000001/caf%E9 50%2525%0Ax
    dir 0700 - - /app/releases/20240101000001/public
    file 0644 12003 a192e86f110989c441b51fe578a656d1b725a45ab3dd52aa9cce063943365145 /app/releases/20240101000001/sparse
    ");
}

#[test]
fn several_files_are_histories_of_one_tool() {
    let out = run(&["judge", "correct.cutover-trace", "keeps-two.cutover-trace"]);
    let shown = text(out.stdout);
    let broken: Vec<&str> = shown.lines().skip_while(|line| !line.contains("is broken")).take(4).collect();
    insta::assert_snapshot!(broken.join("\n"), @"
    immutable_after_cutover is broken (live states):
      keeps-two.cutover-trace:
      after op 80 (unlink /srv/app/releases/20240101000001/bin/run):
      in releases/20240101000001, bin/run is missing
    ");
    assert_eq!(out.status.code(), Some(1));
}

#[test]
fn nobody_has_to_read_to_the_end() {
    for arguments in [
        &["trace", "show", "engine.cutover-trace", "--effects"][..],
        &["trace", "export", "engine.cutover-trace"],
        &["trace", "tree", "engine.cutover-trace"],
        &["judge", "engine.cutover-trace"],
    ] {
        let mut child = certify(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty());
        let out = child.wait_with_output().unwrap();
        assert_eq!((out.status.code(), String::from_utf8_lossy(&out.stderr)), (Some(0), "".into()));
    }
}

#[test]
fn what_is_no_trace_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let engine = fs::read(trace("engine")).unwrap();
    fs::write(path("short"), &engine[..engine.len() / 2]).unwrap();
    fs::write(path("esc\x1b[2J"), "\x1b[2J").unwrap();
    fs::write(path("future"), "cutover-trace 2\nwhatever").unwrap();
    fs::write(path("old"), "what was there before").unwrap();
    let mut shown = String::new();
    for arguments in [
        &["judge", "short"][..],
        &["judge", "esc\x1b[2J"],
        &["trace", "show", "future"],
        &["trace", "stats", "missing"],
        &["trace", "tree", "."],
        &["trace", "export", "short", "-o", "old"],
        &["trace", "import", "short", "-o", "nowhere/out"],
        &["judge", "/dev/null"],
    ] {
        let out = certify(arguments).current_dir(dir.path()).output().unwrap();
        assert_eq!((out.status.code(), text(out.stdout)), (Some(2), String::new()), "{arguments:?}");
        let _ = write!(shown, "{}", text(out.stderr));
    }
    let out = run(&["trace", "show", "engine.cutover-trace", "--history", "3"]);
    assert_eq!(out.status.code(), Some(2));
    let _ = write!(shown, "{}", text(out.stderr));
    insta::assert_snapshot!(shown, @r"
    error: cannot read short: the file is cut short: it ends at record 341 (byte 26524 of the unpacked stream), before its seal
    hint: copy it again, or record it again; part of a trace is never judged
    error: cannot read esc\u{1b}[2J: this is not a trace file: it begins with '\u{1b}[2J'
    hint: trace files are made by `cutover-certify --record FILE` and `cutover-certify trace export`
    error: cannot read future: this trace file has format version 2; this program reads version 1
    hint: use the version of cutover-certify that wrote it, or its `trace export`; docs/trace-format.md says what changed
    error: cannot read missing: No such file or directory (os error 2)
    hint: check the path, its permissions and the space there
    error: cannot read .: is a directory
    hint: check the path, its permissions and the space there
    error: cannot read short: the file is cut short: it ends at record 341 (byte 26524 of the unpacked stream), before its seal
    hint: copy it again, or record it again; part of a trace is never judged
    error: cannot write nowhere/out: entity not found
    hint: check the path, its permissions and the space there
    error: cannot read /dev/null: the file is empty
    hint: trace files are made by `cutover-certify --record FILE` and `cutover-certify trace export`
    error: there is no history 3
    hint: the file holds 2
    ");
    assert_eq!(
        fs::read(path("old")).unwrap(),
        b"what was there before",
        "half of a file replaced a whole one"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "something was left behind");
}

/// A pipe or a device is written to, never replaced.
#[test]
fn a_device_stays_a_device() {
    good(&["trace", "export", "rm-ln.cutover-trace", "-o", "/dev/null"]);
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    assert!(File::options().write(true).open("/dev/null").is_ok());
}
