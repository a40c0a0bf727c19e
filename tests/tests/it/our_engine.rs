//! Our own engine, certified as a user would do it.

use serde_json::Value;

use crate::room::{LIMIT, Room, machine_has};

#[test]
fn our_engine_keeps_its_promises() {
    if !machine_has(&[]) {
        return;
    }
    let room = Room::new();
    let ran = room.run(room.certify().args(["--recoveries", "0", "--faults", "0"]));
    insta::assert_snapshot!(room.show(&ran), @r"
    exit code: 0
    ----- stdout
    ───
     promise                   live states   posix    ext4-ordered   xfs      btrfs    runs
    ═══
     current_complete          proved        proved   proved         proved   proved   –
    ───
     never_absent              proved        –        –              –        –        –
    ───
     durable_ack               –             proved   proved         proved   proved   –
    ───
     immutable_after_cutover   proved        –        –              –        –        –
    ───
     readers_whole             proved        –        –              –        –        held N/N
    ───
     previous_intact           proved        proved   proved         proved   proved   –
    ───
     shared_intact             proved        proved   proved         proved   proved   –
    ───
     retention                 proved        –        –              –        –        –
    ───
     recoverable               –             –        –              –        –        not asked
    ───
     failed_is_failed          –             –        –              –        –        not asked
    ───

    recoverable was not asked (runs): the tool was not run again (--recoveries)

    failed_is_failed was not asked (runs): no faults were tried (--faults)

    20 deploys, 17 releases, N operations, N effects, N sync calls.
    Read meanwhile, by processes: N times a release by the path that `current` resolved to, N times one by a directory kept open, N times each file through `current`, of which N mixed releases; 0 undecided; N times across a cutover, N times in a directory that `current` had left.
    Decided for readers: N interleavings of those that resolve `current` once or hold its directory, N lookups through `current`. Who goes through it for each file may mix releases at 13 cutovers.
    Decided for what was recorded: every live state, and every crash state of the models posix, ext4-ordered, xfs, btrfs at each of N crash points.
    3 recordings, 3 distinct traces.
    Recorded and judged in T s, of which T s for judging.
    ----- stderr
    deploy 1: N operations on the disk, T s
    deploy 2: N operations on the disk, T s
    deploy 3: N operations on the disk, T s
    deploy 4: N operations on the disk, T s
    deploy 5: N operations on the disk, T s
    deploy 6: N operations on the disk, T s
    recording 2 of 3, with one half of the programs delayed, by seed 1
    deploy 1: N operations on the disk, T s
    deploy 2: N operations on the disk, T s
    deploy 3: N operations on the disk, T s
    deploy 4: N operations on the disk, T s
    deploy 5: N operations on the disk, T s
    deploy 6: N operations on the disk, T s
    recording 3 of 3, with the other half of the programs delayed, by seed 1
    deploy 1: N operations on the disk, T s
    deploy 2: N operations on the disk, T s
    deploy 3: N operations on the disk, T s
    deploy 4: N operations on the disk, T s
    deploy 5: N operations on the disk, T s
    deploy 6: N operations on the disk, T s
    once more, starting without the deploy path
    deploy 1: N operations on the disk, T s
    deploy 2: N operations on the disk, T s
    ");
    assert_eq!(room.left_behind(), Vec::<std::path::PathBuf>::new());
}

/// The lock that needs no flock(1): what it leaves when a client is killed is in the history too.
#[test]
fn our_engine_on_a_host_without_flock() {
    if !machine_has(&[]) {
        return;
    }
    let room = Room::new();
    let trace = room.path("trace");
    let mut command = room.certify();
    command.args(["--without", "flock", "--recordings", "1", "--recoveries", "12", "--faults", "12"]);
    let ran = room.run(command.arg("--record").arg(&trace));
    assert_eq!(ran.code, Some(0), "{}", room.show(&ran));
    let shown = room.run(room.certify().args(["trace", "show"]).arg(&trace));
    let operations = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(operations.contains("/.cutover/lock.held"), "{operations}");
}

/// A few of the further runs; with `CUTOVER_SLOW_TESTS=1` `EIO` and `ENOSPC` at every operation of a deploy, and of all that
/// follows the cutover of one that removes a release. That is the one place where `.ci/run` asks for all of them: its `cargo certify` tries some.
#[test]
fn our_engine_recovers_and_never_reports_a_failure_as_live() {
    if !machine_has(&[]) {
        return;
    }
    let slow = std::env::var("CUTOVER_SLOW_TESTS").as_deref() == Ok("1");
    let [recoveries, faults] = if slow { ["64", "all"] } else { ["12", "24"] };
    let room = Room::new();
    let json = room.path("verdicts.json");
    let mut command = room.certify();
    // One history is enough to start from.
    command.args(["--recordings", "1", "--recoveries", recoveries, "--faults", faults, "--json"]).arg(&json);
    let mut child = room.start(&mut command);
    let ran = room.wait(&mut child, LIMIT * 15);
    assert_eq!(ran.code, Some(0), "{}", room.show(&ran));
    let judgement: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    for promise in ["recoverable", "failed_is_failed"] {
        let row = judgement["rows"].as_array().unwrap().iter().find(|row| row["promise"] == promise).unwrap();
        assert_eq!(row["runs"]["verdict"], "held", "{promise}: {}", room.show(&ran));
        assert_eq!(row["runs"]["held"], row["runs"]["of"]);
    }
    // Every run counts, those of the history that starts without the deploy path too.
    for promise in ["recoverable", "failed_is_failed"] {
        let row = judgement["rows"].as_array().unwrap().iter().find(|row| row["promise"] == promise).unwrap();
        let tried = judgement["tried"].as_array().unwrap().iter().filter(|tried| tried["promise"] == promise);
        let runs: u64 = tried.map(|tried| tried["runs"].as_u64().unwrap()).sum();
        assert_eq!(row["runs"]["of"], runs, "{promise}: {}", room.show(&ran));
    }
    let tried = |what: &str| -> u64 {
        let tried = judgement["tried"].as_array().unwrap();
        let found = tried.iter().find(|tried| tried["what"].as_str().unwrap().contains(what));
        found.unwrap_or_else(|| panic!("nothing about '{what}': {}", room.show(&ran)))["runs"]
            .as_u64()
            .unwrap()
    };
    assert!(tried("(depth 2)") > 0, "{}", room.show(&ran));
    assert!(tried("really killed") > 0, "{}", room.show(&ran));
    let from_nothing = "starting without the deploy path: a smaller share: ";
    let first = "classes of crash states of the first deploy among";
    assert!(tried_of(&judgement, from_nothing, first) > 0, "{}", room.show(&ran));
    let first = "classes of states after a killed client of the first deploy among";
    assert!(tried_of(&judgement, from_nothing, first) > 0, "{}", room.show(&ran));
    assert!(tried_of(&judgement, from_nothing, " operations of deploy 1, and") > 0, "{}", room.show(&ran));
    // What the recording counted is a witness of how many operations there are.
    let stderr = String::from_utf8(ran.stderr.clone()).unwrap();
    let line = stderr.lines().find_map(|line| line.strip_prefix("deploy 2: "));
    let ops: u64 = line.unwrap().split(' ').next().unwrap().parse().unwrap();
    let told = format!("each of {ops} operations of deploy 2, and");
    assert!(tried(&told) >= if slow { 2 * ops } else { 8 }, "{told}: {}", room.show(&ran));
    // The bundled application has its first release to remove in deploy 4, and everything in that has to go.
    let removal = " operations of deploy 4 after its cutover, with the removal of a release";
    let what = judgement["tried"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|tried| tried["what"].as_str()?.split_once(removal));
    let ops: u64 = what.unwrap().0.rsplit(' ').next().unwrap().parse().unwrap();
    let first = room.path("first");
    std::fs::create_dir(&first).unwrap();
    cutover_certify::app::write_release(1, &first).unwrap();
    let released =
        cutover_certify::tree::read_dir(&first, &simfs::BlockStore::default()).unwrap().len() as u64;
    assert!(ops > released, "{ops} operations, and a release of {released} files and directories");
    assert!(tried(removal) >= if slow { 2 * ops } else { 8 }, "{removal}: {}", room.show(&ran));
    assert_eq!(room.left_behind(), Vec::<std::path::PathBuf>::new());
}

/// How many runs there were of what begins and goes on like this.
fn tried_of(judgement: &Value, begin: &str, part: &str) -> u64 {
    let tried = judgement["tried"].as_array().unwrap().iter();
    let found = tried.filter(|tried| {
        let what = tried["what"].as_str().unwrap();
        what.starts_with(begin) && what.contains(part)
    });
    found.map(|tried| tried["runs"].as_u64().unwrap()).sum()
}
