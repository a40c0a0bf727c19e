//! `--record`: the trace file of a run gives the verdicts of that run.

use std::fs;

use serde_json::Value;

use crate::room::{Room, machine_has};

/// The verdicts, without how often the history was recorded, and what came of runs: a trace file has the histories alone.
fn json(room: &Room, name: &str) -> Value {
    let mut json: Value = serde_json::from_slice(&fs::read(room.path(name)).unwrap()).unwrap();
    json.as_object_mut().unwrap().remove("recordings");
    for row in json["rows"].as_array_mut().unwrap() {
        row.as_object_mut().unwrap().remove("runs");
    }
    json
}

/// A report without what it says about runs, and without empty lines.
fn without_runs(report: &str) -> Vec<&str> {
    report.lines().filter(|line| !line.is_empty() && !line.contains(" (runs): ")).collect()
}

/// Two histories, one of them starting without the deploy path, by a tool that breaks promises.
#[test]
fn a_recorded_run_is_judged_as_it_was() {
    if !machine_has(&["ssh", "tar"]) {
        return;
    }
    let room = Room::new();
    let (one, two, trace) = (room.app("1"), room.app("2"), room.path("run.cutover-trace"));
    let mut run = room.certify_tool("sh certify/subjects/rm-ln.sh");
    run.args(["--keep", "3", "--from-nothing", "--shared", "uploads/", "--adds", "uploads"]);
    run.arg("--app").args([&one, &two]).arg("--record").arg(&trace).arg("--json").arg(room.path("run.json"));
    let ran = room.run(&mut run);
    assert_eq!(ran.code, Some(1), "{}", room.show(&ran));
    let judged = room.run(room.certify().arg("judge").arg(&trace).arg("--json").arg(room.path("judge.json")));
    assert_eq!(judged.code, Some(1), "{}", room.show(&judged));
    assert_eq!(json(&room, "run.json"), json(&room, "judge.json"));
    let report = |text: &[u8]| room.normal(text).replace("Recorded and judged", "Read and judged");
    assert_eq!(without_runs(&report(&ran.stdout)), without_runs(&report(&judged.stdout)));
    for promise in ["readers_whole", "recoverable", "failed_is_failed"] {
        let told =
            format!("{promise} was not asked (runs): a trace file holds recorded operations, not runs");
        assert!(report(&judged.stdout).contains(&told), "{}", room.show(&judged));
    }
    assert_eq!(room.left_behind(), Vec::<std::path::PathBuf>::new());
}

/// A deploy that fails cuts the history short; that is in the file, and its verdicts stay unknown.
#[test]
fn a_history_that_was_cut_short_stays_so() {
    if !machine_has(&["ssh", "tar"]) {
        return;
    }
    let room = Room::new();
    let (one, two, trace) = (room.app("1"), room.app("2"), room.path("short.cutover-trace"));
    let tool = "[ $CERTIFY_VERSION = 1 ] || exit 9; sh certify/subjects/correct.sh";
    let mut run = room.certify_tool(tool);
    run.arg("--app").args([&one, &two]).arg("--record").arg(&trace);
    let ran = room.run(&mut run);
    assert_eq!(ran.code, Some(3), "{}", room.show(&ran));
    let judged = room.run(room.certify().arg("judge").arg(&trace));
    assert_eq!(judged.code, Some(3), "{}", room.show(&judged));
    let stats = room.run(room.certify().args(["trace", "stats"]).arg(&trace));
    let stats = room.normal(&stats.stdout);
    assert!(stats.contains("cut short             deploy 2 failed with exit status 9"), "{stats}");
}

#[test]
fn where_nothing_can_be_recorded_nothing_is_run() {
    let room = Room::new();
    let (one, marker) = (room.app("1"), room.path("it-ran"));
    let mut run = room.certify_tool(&format!("touch {}", marker.display()));
    run.arg("--app").arg(&one).arg("--record").arg(room.path("nowhere/trace"));
    let ran = room.run(&mut run);
    insta::assert_snapshot!(room.show(&ran), @r"
    exit code: 2
    ----- stderr
    error: cannot write [ROOM]/nowhere/trace: entity not found
    hint: check the path, its permissions and the space there
    ");
    assert!(!marker.exists());
}
