//! Readers as real processes, beside a real deploy: what they catch is what the trace says, and they disturb nobody.

use serde_json::Value;

use crate::room::{Room, machine_has};

/// The row about readers, and what was read.
fn read(script: &str, needs: &[&str]) -> Option<(Value, Value)> {
    if !machine_has(&[&["ssh", "tar"], needs].concat()) {
        return None;
    }
    let room = Room::new();
    let json = room.path("verdicts.json");
    let mut command = room.certify_tool(&format!("sh certify/subjects/{script}"));
    let ran = room.run(command.args(["--keep", "3", "--readers", "--json"]).arg(&json));
    let judgement =
        std::fs::read(&json).unwrap_or_else(|_| panic!("nothing was judged: {}", room.show(&ran)));
    let judgement: Value = serde_json::from_slice(&judgement).unwrap();
    let mut rows = judgement["rows"].as_array().unwrap().iter();
    let row = rows.find(|row| row["promise"] == "readers_whole").unwrap().clone();
    println!("{script}: {row} {}", judgement["readers"]);
    assert_eq!(room.left_behind(), [""; 0].map(std::path::PathBuf::from));
    Some((row, judgement["readers"]["processes"].clone()))
}

#[test]
fn nobody_is_disturbed_by_a_deploy_that_is_right() {
    let Some((row, read)) = read("correct.sh", &[]) else { return };
    assert_eq!(row["live"]["verdict"], "proved");
    assert_eq!(row["runs"]["verdict"], "held");
    assert_eq!(row["runs"]["held"], row["runs"]["of"]);
    // There are six deploys, and after each of them everybody reads once more.
    for how in ["once", "held", "each"] {
        assert!(read[how].as_u64().unwrap() >= 6, "{how}: {read}");
    }
    assert_eq!(read["undecided"], 0);
    // There are four cutovers from one release to another, and each waits until all three readers are looking. One of them
    // can be answered from the kernel's caches and be done before.
    assert!(read["across"].as_u64().unwrap() >= 4, "{read}");
    assert!(read["left"].as_u64().unwrap() >= 4, "{read}");
}

/// Luck is not needed: after the first upload into it, the live release never is what it was again.
#[test]
fn an_upload_into_the_live_release_is_seen() {
    let Some((row, _)) = read("upload-into-live.sh", &["rsync"]) else { return };
    assert_eq!(row["live"]["verdict"], "broken");
    assert_eq!(row["runs"]["verdict"], "broken");
}
