//! Each script of `certify/subjects` through the real certifier: the control breaks nothing, and each canary exactly
//! the promises that its header says, for the reasons given there.

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use crate::room::{Room, checkout, machine_has};

/// The verdicts about a script, one line a promise; none if this machine cannot run it.
fn verdicts(script: &str, needs: &[&str], options: &[&str]) -> Option<String> {
    if !machine_has(&[&["ssh", "tar"], needs].concat()) {
        return None;
    }
    let room = Room::new();
    let json = room.path("verdicts.json");
    let mut command = room.certify_tool(&format!("sh certify/subjects/{script}"));
    let ran = room.run(command.args(options).arg("--json").arg(&json));
    let judgement = fs::read(&json).unwrap_or_else(|_| panic!("nothing was judged: {}", room.show(&ran)));
    let judgement: Value = serde_json::from_slice(&judgement).unwrap();
    assert_eq!(judgement["exit_status"], ran.code.expect("an exit code"), "{}", room.show(&ran));
    assert_eq!(room.left_behind(), [""; 0].map(std::path::PathBuf::from));
    let mut text = format!("exit code: {}\n", judgement["exit_status"]);
    for row in judgement["rows"].as_array().unwrap() {
        let of = |states: &str, model: &str| match row[states]["verdict"].as_str()? {
            "broken" => Some(format!("{model} BROKEN")),
            word => Some(format!("{model} {}", word.replace('_', " "))),
        };
        let words = [of("live", "live"), of("crash", judgement["model"].as_str().unwrap())];
        let words: Vec<String> = words.into_iter().flatten().collect();
        let _ = writeln!(text, "{}: {}", row["promise"].as_str().unwrap(), words.join(", "));
    }
    Some(text)
}

/// Every script, so that none is forgotten.
const SCRIPTS: [&str; 11] = [
    "cleanup-before-durable.sh",
    "correct.sh",
    "keeps-two.sh",
    "link-after-barrier.sh",
    "ln-sfn.sh",
    "no-barrier-after.sh",
    "no-barrier-before.sh",
    "rm-ln.sh",
    "seed-shared.sh",
    "shreds-pruned.sh",
    "upload-into-live.sh",
];

#[test]
fn every_script_has_its_test() {
    let there = fs::read_dir(checkout().join("certify/subjects")).unwrap();
    let mut there: Vec<_> = there.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    there.sort();
    // The steps that all of them are made of; it is never run by itself.
    there.retain(|file| file != "steps.sh");
    assert_eq!(there, SCRIPTS);
    let this = include_str!("canaries.rs");
    let untested = SCRIPTS.iter().find(|script| !this.contains(&format!("verdicts(\"{script}\"")));
    assert_eq!(untested, None);
}

const KEEP_3: [&str; 2] = ["--keep", "3"];

/// User data that the application has a file for as well, and that the script need not link.
const SHARED: [&str; 4] = ["--shared", "public/robots.txt", "--adds", "public/robots.txt"];

#[test]
fn the_control_keeps_all_promises() {
    if let Some(verdicts) = verdicts("correct.sh", &[], &[&KEEP_3[..], &SHARED].concat()) {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 0
        current_complete: live proved, posix proved
        never_absent: live proved
        durable_ack: posix proved
        immutable_after_cutover: live proved
        readers_whole: live proved
        previous_intact: live proved, posix proved
        shared_intact: live proved, posix proved
        retention: live proved
        ");
    }
}

#[test]
fn cleaning_up_before_the_rename_is_durable() {
    if let Some(verdicts) = verdicts("cleanup-before-durable.sh", &[], &["--keep", "1"]) {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        current_complete: live proved, posix BROKEN
        never_absent: live proved
        durable_ack: posix BROKEN
        immutable_after_cutover: live proved
        readers_whole: live BROKEN
        previous_intact: live BROKEN, posix BROKEN
        shared_intact: live not asked, posix not asked
        retention: live proved
        ");
    }
}

#[test]
fn cleaning_up_what_was_promised_to_stay() {
    if let Some(verdicts) = verdicts("cleanup-before-durable.sh", &[], &KEEP_3) {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        current_complete: live proved, posix BROKEN
        never_absent: live proved
        durable_ack: posix BROKEN
        immutable_after_cutover: live BROKEN
        readers_whole: live BROKEN
        previous_intact: live BROKEN, posix BROKEN
        shared_intact: live not asked, posix not asked
        retention: live BROKEN
        ");
    }
}

#[test]
fn keeping_one_release_too_few() {
    if let Some(verdicts) = verdicts("keeps-two.sh", &[], &KEEP_3) {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        current_complete: live proved, posix proved
        never_absent: live proved
        durable_ack: posix proved
        immutable_after_cutover: live BROKEN
        readers_whole: live BROKEN
        previous_intact: live BROKEN, posix BROKEN
        shared_intact: live not asked, posix not asked
        retention: live BROKEN
        ");
    }
}

#[test]
fn making_the_link_after_the_barrier() {
    if let Some(verdicts) = verdicts("link-after-barrier.sh", &[], &KEEP_3) {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        current_complete: live proved, posix BROKEN
        never_absent: live proved
        durable_ack: posix BROKEN
        immutable_after_cutover: live proved
        readers_whole: live proved
        previous_intact: live proved, posix proved
        shared_intact: live not asked, posix not asked
        retention: live proved
        ");
    }
}

#[test]
fn replacing_current_by_ln_sfn() {
    if let Some(verdicts) = verdicts("ln-sfn.sh", &[], &KEEP_3) {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        current_complete: live proved, posix BROKEN
        never_absent: live proved
        durable_ack: posix BROKEN
        immutable_after_cutover: live proved
        readers_whole: live proved
        previous_intact: live proved, posix proved
        shared_intact: live not asked, posix not asked
        retention: live proved
        ");
    }
}

#[test]
fn reporting_before_the_rename_is_durable() {
    if let Some(verdicts) = verdicts("no-barrier-after.sh", &[], &KEEP_3) {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        current_complete: live proved, posix BROKEN
        never_absent: live proved
        durable_ack: posix BROKEN
        immutable_after_cutover: live proved
        readers_whole: live proved
        previous_intact: live proved, posix proved
        shared_intact: live not asked, posix not asked
        retention: live proved
        ");
    }
}

#[test]
fn switching_before_the_content_is_durable() {
    if let Some(verdicts) = verdicts("no-barrier-before.sh", &[], &KEEP_3) {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        current_complete: live proved, posix BROKEN
        never_absent: live proved
        durable_ack: posix BROKEN
        immutable_after_cutover: live proved
        readers_whole: live proved
        previous_intact: live proved, posix BROKEN
        shared_intact: live not asked, posix not asked
        retention: live proved
        ");
    }
}

#[test]
fn removing_current_and_making_it_again() {
    if let Some(verdicts) = verdicts("rm-ln.sh", &[], &KEEP_3) {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        current_complete: live BROKEN, posix BROKEN
        never_absent: live BROKEN
        durable_ack: posix BROKEN
        immutable_after_cutover: live proved
        readers_whole: live BROKEN
        previous_intact: live proved, posix proved
        shared_intact: live not asked, posix not asked
        retention: live proved
        ");
    }
}

#[test]
fn overwriting_user_data() {
    if let Some(verdicts) = verdicts("seed-shared.sh", &[], &[&KEEP_3[..], &SHARED].concat()) {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        current_complete: live proved, posix proved
        never_absent: live proved
        durable_ack: posix proved
        immutable_after_cutover: live proved
        readers_whole: live proved
        previous_intact: live proved, posix proved
        shared_intact: live BROKEN, posix BROKEN
        retention: live proved
        ");
    }
}

#[test]
fn uploading_into_the_live_release() {
    if let Some(verdicts) = verdicts("upload-into-live.sh", &["rsync"], &KEEP_3) {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        current_complete: live BROKEN, posix BROKEN
        never_absent: live proved
        durable_ack: posix BROKEN
        immutable_after_cutover: live BROKEN
        readers_whole: live BROKEN
        previous_intact: live not asked, posix not asked
        shared_intact: live not asked, posix not asked
        retention: live not asked
        ");
    }
}

#[test]
fn shredding_what_readers_may_still_read() {
    if let Some(verdicts) = verdicts("shreds-pruned.sh", &["shred"], &KEEP_3) {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        current_complete: live proved, posix proved
        never_absent: live proved
        durable_ack: posix proved
        immutable_after_cutover: live proved
        readers_whole: live BROKEN
        previous_intact: live proved, posix proved
        shared_intact: live not asked, posix not asked
        retention: live proved
        ");
    }
}
