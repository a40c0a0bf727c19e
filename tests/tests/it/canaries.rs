//! Each script of `certify/subjects` through the real certifier: the scripts that do it right break nothing, and each
//! canary exactly the promises that its header says, for the reasons given there.
//!
//! A snapshot names what is not proved. The header of a script is read as well, so the two can never differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use cutover_certify::judge::Promise;
use serde_json::Value;

use crate::room::{Room, checkout, machine_has};

/// A script to certify.
struct Case<'a> {
    script: &'a str,
    needs: &'a [&'a str],
    options: &'a [&'a str],
    small_app: bool,
    shared: &'a str,
    as_in_header: bool,
    leaves: &'a str,
}

/// A script, with the bundled application and no options.
fn script(script: &str) -> Case<'_> {
    Case { script, needs: &[], options: &[], small_app: false, shared: "", as_in_header: true, leaves: "" }
}

impl<'a> Case<'a> {
    /// Programs that it needs beside ssh and tar.
    fn needs(self, needs: &'a [&'a str]) -> Self {
        Self { needs, ..self }
    }

    /// Options of `cutover-certify run`.
    fn options(self, options: &'a [&'a str]) -> Self {
        Self { options, ..self }
    }

    /// Deploys three small releases instead of the bundled application, and the last again.
    fn small_app(self) -> Self {
        Self { small_app: true, ..self }
    }

    /// What it is told to link from shared/.
    fn shared(self, shared: &'a str) -> Self {
        Self { shared, ..self }
    }

    /// The options are not those that its header speaks of.
    fn unlike_header(self) -> Self {
        Self { as_in_header: false, ..self }
    }

    /// What lies, below the deploy path, on the disk that its first broken run began with.
    fn leaves(self, leaves: &'a str) -> Self {
        Self { leaves, ..self }
    }

    /// What is not proved about it, or all that is if nothing is broken: a line for each verdict and kind of states. None
    /// if this machine cannot run it.
    fn verdicts(self) -> Option<String> {
        if !machine_has(&[&["ssh", "tar"], self.needs].concat()) {
            return None;
        }
        let room = Room::new();
        let json = room.path("verdicts.json");
        let tool = format!("SHARED='{}' sh certify/subjects/{}", self.shared, self.script);
        let mut command = room.certify_tool(&tool);
        command.args(self.options).arg("--json").arg(&json);
        if self.small_app {
            command.arg("--app").args(small_app(&room));
        }
        let ran = room.run(&mut command);
        let judgement = fs::read(&json).unwrap_or_else(|_| panic!("nothing was judged: {}", room.show(&ran)));
        let judgement: Value = serde_json::from_slice(&judgement).unwrap();
        assert_eq!(judgement["exit_status"], ran.code.expect("an exit code"), "{}", room.show(&ran));
        assert_eq!(room.left_behind(), [""; 0].map(PathBuf::from));
        if self.as_in_header {
            let header = expected(self.script);
            assert_eq!(with_verdict(&judgement, "broken"), header, "{}", room.show(&ran));
        }
        if !self.leaves.is_empty() {
            let recoverable = row(&judgement, "recoverable");
            let token = recoverable["runs"]["token"].as_str().unwrap_or_else(|| panic!("{recoverable:#}"));
            let shown = room.run(room.certify().args(["replay", token]));
            assert_eq!(shown.code, Some(0), "{}", room.show(&shown));
            let shown = String::from_utf8(shown.stdout).unwrap();
            assert!(
                shown.contains("this is the disk that the further run of the tool began with\n"),
                "{shown}"
            );
            let path = format!(" /app/{}", self.leaves);
            assert!(shown.lines().any(|line| line.ends_with(&path)), "no{path} in {shown}{recoverable:#}");
        }
        let mut text = format!("exit code: {}\n", judgement["exit_status"]);
        let (recorded, traces) =
            ["recorded", "distinct_traces"].map(|key| judgement["recordings"][key].as_u64().unwrap()).into();
        if recorded > 1 {
            // How many of those that a parallel script can have were met is a matter of luck.
            let traces = if traces == 1 { "one trace" } else { "several traces" };
            let _ = writeln!(text, "{recorded} recordings: {traces}");
        }
        let broken = !with_verdict(&judgement, "broken").is_empty();
        let rest =
            if broken { &["unknown", "not_asked"][..] } else { &["unknown", "not_asked", "proved", "held"] };
        for verdict in ["broken"].iter().chain(rest) {
            for (states, promises) in with_verdict(&judgement, verdict) {
                let promises: Vec<&str> = promises.iter().map(String::as_str).collect();
                let _ = writeln!(text, "{} {states}: {}", verdict.replace('_', " "), promises.join(", "));
            }
        }
        text.push_str(&where_it_holds(&judgement));
        assert_short(&judgement, self.script);
        Some(text)
    }
}

/// Promises for each kind of states: `live`, `posix`; and `runs`.
type Promises = BTreeMap<String, BTreeSet<String>>;

fn with_verdict(judgement: &Value, verdict: &str) -> Promises {
    let mut found = Promises::new();
    for row in judgement["rows"].as_array().unwrap() {
        for states in ["live", "posix", "runs"] {
            // Most scripts are not run again.
            let asked = states != "runs" || verdict != "not_asked";
            let column = if states == "posix" { under(row, states) } else { &row[states] };
            if column["verdict"] == verdict && asked {
                let promise = row["promise"].as_str().unwrap().to_owned();
                found.entry(states.to_owned()).or_default().insert(promise);
            }
        }
    }
    found
}

/// A counterexample teaches if it is short: it names no more operations than this, of those that survived and those that did
/// not.
const MOST_OPERATIONS: usize = 6;

fn assert_short(judgement: &Value, script: &str) {
    for row in judgement["rows"].as_array().unwrap() {
        for crash in row["crash"].as_array().unwrap().iter().filter(|crash| crash["verdict"] == "broken") {
            let lines = crash["lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
            let told =
                lines.filter(|line| line.starts_with("survived") || line.starts_with("did not survive"));
            let ops: BTreeSet<&str> =
                told.map(|line| line.rsplit_once(", from op ").expect("it says which").1).collect();
            assert!(ops.len() <= MOST_OPERATIONS, "{script}: {crash:#}");
        }
    }
}

fn row<'v>(judgement: &'v Value, promise: &str) -> &'v Value {
    judgement["rows"].as_array().unwrap().iter().find(|row| row["promise"] == promise).unwrap()
}

/// The verdict of a row over the crash states of a model.
fn under<'v>(row: &'v Value, model: &str) -> &'v Value {
    let crash = row["crash"].as_array().unwrap();
    crash.iter().find(|crash| crash["model"] == model).unwrap_or(&Value::Null)
}

/// The models of file systems under which less is broken than under `posix`, a line for those with the same.
fn where_it_holds(judgement: &Value) -> String {
    let broken = |model: &str| -> Vec<&str> {
        let rows = judgement["rows"].as_array().unwrap().iter();
        let broken = rows.filter(|row| under(row, model)["verdict"] == "broken");
        broken.map(|row| row["promise"].as_str().unwrap()).collect()
    };
    let all = broken("posix");
    let mut those: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
    for model in judgement["models"].as_array().unwrap().iter().map(|model| model.as_str().unwrap()) {
        let here = broken(model);
        assert!(
            here.iter().all(|promise| all.contains(promise)),
            "{model} is not contained in posix: {here:?}"
        );
        if here != all {
            those.entry(here).or_default().push(model);
        }
    }
    let line = |(promises, models): (Vec<&str>, Vec<&str>)| {
        let what = if promises.is_empty() { "nothing".to_owned() } else { promises.join(", ") };
        format!("under {}: {what}\n", models.join(", "))
    };
    those.into_iter().map(line).collect()
}

/// What the header of a script says will be broken: `# - promise, promise: why`, below `# Expected, live:` or
/// `# Expected, live and posix:`.
fn expected(script: &str) -> Promises {
    let text = fs::read_to_string(checkout().join("certify/subjects").join(script)).unwrap();
    let mut expected = Promises::new();
    let mut states: Vec<&str> = Vec::new();
    for line in text.lines().take_while(|line| line.starts_with('#')) {
        if let Some(about) = line.strip_prefix("# Expected, ") {
            let until = about.find([',', ':', ' ']).unwrap_or(about.len());
            states = vec![&about[..until]];
            states.extend(about.strip_prefix("live and posix").map(|_| "posix"));
        } else if let Some((promises, _)) = line.strip_prefix("# - ").and_then(|line| line.split_once(':')) {
            for state in &states {
                expected
                    .entry((*state).to_owned())
                    .or_default()
                    .extend(promises.split(", ").map(str::to_owned));
            }
        }
    }
    assert!(!states.is_empty(), "{script} does not say what is expected");
    expected
}

/// Three releases of files and directories. Between them, a file changes in place, one grows, one comes and one goes.
fn small_app(room: &Room) -> Vec<PathBuf> {
    let write = |path: PathBuf, text: &str, mode| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let release = |version: usize| {
        let dir = room.path(&format!("app-{version}"));
        write(dir.join("index.html"), &format!("<p>{version}</p>\n"), 0o644);
        write(dir.join("always.txt"), "the same\n", 0o644);
        write(dir.join("bin/run"), "#!/bin/sh\n", 0o755);
        write(dir.join("lib/deep/grows.txt"), &"longer ".repeat(version), 0o644);
        write(dir.join(format!("lib/only-{version}.txt")), "here\n", 0o644);
        write(dir.join("storage/kept.txt"), "the application's\n", 0o644);
        for dir in ["", "bin", "lib", "lib/deep", "storage"].map(|path| dir.join(path)) {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        }
        dir
    };
    (1..=3).map(release).collect()
}

/// Sourced by the others.
const PARTS: [&str; 2] = ["steps.sh", "parts.sh"];

fn is_script(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|extension| extension == "sh")
}

fn scripts() -> BTreeSet<String> {
    let there = fs::read_dir(checkout().join("certify/subjects")).unwrap();
    let there = there.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // What they are made of; it is never run by itself.
    there.filter(|file| is_script(file) && !PARTS.contains(&&**file)).collect()
}

#[test]
fn every_script_has_its_test_and_its_line() {
    let this = include_str!("canaries.rs");
    let readme = fs::read_to_string(checkout().join("certify/subjects/README.md")).unwrap();
    for name in scripts() {
        assert!(this.contains(&format!("script(\"{name}\")")), "{name} has no test");
        let broken: Vec<String> = expected(&name)
            .into_iter()
            .map(|(states, promises)| {
                format!("{states}: {}", promises.into_iter().collect::<Vec<_>>().join(", "))
            })
            .collect();
        let row = |line: &str| line.contains(&format!("`{name}` |")) && line.contains(&broken.join("; "));
        assert!(
            readme.lines().any(row),
            "certify/subjects/README.md has to say: `{name}` | {}",
            broken.join("; ")
        );
    }
    let named = readme.split('`').filter(|word| is_script(word) && !word.contains([' ', '*']));
    let known = |name: &&str| PARTS.contains(name) || scripts().contains(*name);
    assert_eq!(named.filter(|name| !known(name)).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn every_promise_has_its_canary() {
    let broken_by = |script: String| {
        let promises = expected(&script).into_values().flatten().collect::<BTreeSet<String>>();
        (script, promises)
    };
    let all: Vec<(String, BTreeSet<String>)> = scripts().into_iter().map(broken_by).collect();
    let mut text = String::new();
    for promise in Promise::ALL.map(Promise::name) {
        let by: Vec<_> = all.iter().filter(|(_, promises)| promises.contains(promise)).collect();
        assert!(!by.is_empty(), "no canary breaks {promise}");
        let alone = by.iter().filter(|(_, promises)| promises.len() == 1).map(|(script, _)| &**script);
        let alone: Vec<&str> = alone.collect();
        let _ = writeln!(text, "{promise}: {}, alone: {}", by.len(), alone.join(" "));
    }
    insta::assert_snapshot!(text, @r"
    current_complete: 39, alone: 
    never_absent: 11, alone: relinks-first.sh
    durable_ack: 39, alone: fsync-current.sh
    immutable_after_cutover: 19, alone: 
    readers_whole: 27, alone: shreds-pruned.sh
    previous_intact: 25, alone: 
    shared_intact: 3, alone: rm-through-link.sh seed-shared.sh tar-through-link.sh
    retention: 9, alone: keeps-all.sh
    recoverable: 3, alone: lock-leaks.sh setup-once.sh stale-link.sh
    failed_is_failed: 3, alone: ignores-failed-sync.sh ignores-failure.sh retries-sync.sh
    ");
}

const KEEP_3: [&str; 2] = ["--keep", "3"];

/// User data that the application has a file for as well, and that the script need not link.
const SHARED: [&str; 4] = ["--shared", "public/robots.txt", "--adds", "public/robots.txt"];

/// All that can be asked of a deploy that is right; it is told to link the same paths.
const ALL: [&str; 7] =
    ["--keep", "3", "--from-nothing", "--shared", "storage/", "--shared", "public/robots.txt"];

/// And further runs.
const RUNS: [&str; 4] = ["--recoveries", "24", "--faults", "32"];
const ALL_SHARED: &str = "storage public/robots.txt";

#[test]
fn uploading_anew_is_right() {
    if let Some(verdicts) =
        script("correct.sh").shared(ALL_SHARED).options(&[&ALL[..], &RUNS].concat()).verdicts()
    {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 0
        proved live: current_complete, immutable_after_cutover, never_absent, previous_intact, readers_whole, retention, shared_intact
        proved posix: current_complete, durable_ack, previous_intact, shared_intact
        held runs: failed_is_failed, recoverable
        ");
    }
}

#[test]
fn copying_the_live_release_is_right() {
    if let Some(verdicts) =
        script("correct-copy-fsync.sh").needs(&["rsync"]).shared(ALL_SHARED).options(&ALL).verdicts()
    {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 0
        proved live: current_complete, immutable_after_cutover, never_absent, previous_intact, readers_whole, retention, shared_intact
        proved posix: current_complete, durable_ack, previous_intact, shared_intact
        ");
    }
}

#[test]
fn syncing_the_data_of_files_alone_is_right() {
    if let Some(verdicts) =
        script("correct-fdatasync.sh").small_app().shared(ALL_SHARED).options(&ALL).verdicts()
    {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 0
        proved live: current_complete, immutable_after_cutover, never_absent, previous_intact, readers_whole, retention, shared_intact
        proved posix: current_complete, durable_ack, previous_intact, shared_intact
        ");
    }
}

#[test]
fn linking_what_did_not_change_is_right() {
    if let Some(verdicts) =
        script("correct-link-dest.sh").needs(&["rsync"]).shared(ALL_SHARED).options(&ALL).verdicts()
    {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 0
        proved live: current_complete, immutable_after_cutover, never_absent, previous_intact, readers_whole, retention, shared_intact
        proved posix: current_complete, durable_ack, previous_intact, shared_intact
        ");
    }
}

#[test]
fn uploading_over_sftp_is_right() {
    if let Some(verdicts) =
        script("correct-sftp.sh").needs(&["sftp"]).small_app().shared(ALL_SHARED).options(&ALL).verdicts()
    {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 0
        proved live: current_complete, immutable_after_cutover, never_absent, previous_intact, readers_whole, retention, shared_intact
        proved posix: current_complete, durable_ack, previous_intact, shared_intact
        ");
    }
}

#[test]
fn cleaning_up_before_the_rename_is_durable() {
    if let Some(verdicts) =
        script("cleanup-before-durable.sh").small_app().options(&["--keep", "1"]).verdicts()
    {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: previous_intact, readers_whole
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        under ext4-ordered, xfs: previous_intact
        ");
    }
}

#[test]
fn cleaning_up_what_was_promised_to_stay() {
    if let Some(verdicts) =
        script("cleanup-before-durable.sh").small_app().options(&KEEP_3).unlike_header().verdicts()
    {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: immutable_after_cutover, previous_intact, readers_whole, retention
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        under ext4-ordered, xfs: previous_intact
        ");
    }
}

#[test]
fn keeping_one_release_too_few() {
    if let Some(verdicts) = script("keeps-two.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: immutable_after_cutover, previous_intact, readers_whole, retention
        broken posix: previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn keeping_the_new_release_alone() {
    if let Some(verdicts) = script("keeps-one.sh").small_app().options(&["--keep", "1"]).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: previous_intact, readers_whole
        broken posix: previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn keeping_all_releases() {
    if let Some(verdicts) = script("keeps-all.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: retention
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn counting_partial_uploads_as_releases() {
    if let Some(verdicts) = script("counts-partials.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: immutable_after_cutover, previous_intact, readers_whole, retention
        broken posix: previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn cleaning_up_without_looking_at_current() {
    if let Some(verdicts) = script("cleanup-forgets-live.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: current_complete, immutable_after_cutover, never_absent, previous_intact, readers_whole, retention
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn comparing_paths_as_texts() {
    if let Some(verdicts) = script("cleanup-by-string.sh").small_app().options(&["--keep", "1"]).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: current_complete, immutable_after_cutover, never_absent, readers_whole, retention
        broken posix: current_complete, durable_ack
        not asked live: previous_intact, shared_intact
        not asked posix: previous_intact, shared_intact
        ");
    }
}

#[test]
fn ordering_releases_by_time() {
    if let Some(verdicts) = script("order-by-mtime.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: current_complete, immutable_after_cutover, never_absent, readers_whole, retention
        broken posix: current_complete, durable_ack
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn ids_of_a_clock_that_is_set_back() {
    if let Some(verdicts) = script("skewed-clock.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: current_complete, immutable_after_cutover, never_absent, readers_whole, retention
        broken posix: current_complete, durable_ack
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn ids_of_one_second() {
    if let Some(verdicts) = script("same-second.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: current_complete, immutable_after_cutover, previous_intact, readers_whole
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: retention, shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn a_lock_that_two_can_take() {
    if let Some(verdicts) = script("test-then-create-lock.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: current_complete, immutable_after_cutover, never_absent, previous_intact, readers_whole, retention
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn marking_an_old_release() {
    if let Some(verdicts) = script("marks-old-release.sh").small_app().verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: immutable_after_cutover, readers_whole
        not asked live: retention, shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn backing_out_by_removing_what_is_live() {
    if let Some(verdicts) = script("failure-path-removes-live.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: current_complete, immutable_after_cutover, never_absent, readers_whole
        broken posix: current_complete, durable_ack
        unknown live: previous_intact
        unknown posix: previous_intact
        not asked live: retention, shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn making_the_link_after_the_barrier() {
    if let Some(verdicts) = script("link-after-barrier.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken posix: current_complete, durable_ack
        not asked live: shared_intact
        not asked posix: shared_intact
        under ext4-ordered, xfs, btrfs: nothing
        ");
    }
}

#[test]
fn replacing_current_by_ln_sfn() {
    if let Some(verdicts) = script("ln-sfn.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken posix: current_complete, durable_ack
        not asked live: shared_intact
        not asked posix: shared_intact
        under ext4-ordered, xfs, btrfs: nothing
        ");
    }
}

#[test]
fn replacing_current_by_the_ln_sfn_of_busybox() {
    if let Some(verdicts) =
        script("ln-sfn-busybox.sh").needs(&["busybox"]).small_app().options(&KEEP_3).verdicts()
    {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: current_complete, never_absent, readers_whole
        broken posix: current_complete, durable_ack
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn removing_current_and_making_it_again() {
    if let Some(verdicts) = script("rm-ln.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: current_complete, never_absent, readers_whole
        broken posix: current_complete, durable_ack
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn removing_current_for_the_rename_of_sftp() {
    if let Some(verdicts) =
        script("sftp-rm-rename.sh").needs(&["sftp"]).small_app().options(&KEEP_3).verdicts()
    {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: current_complete, never_absent, readers_whole
        broken posix: current_complete, durable_ack
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn trying_current_before_the_first_report() {
    if let Some(verdicts) = script("relinks-first.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: never_absent
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn moving_the_link_into_the_live_release() {
    if let Some(verdicts) = script("mv-into.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: current_complete, immutable_after_cutover, readers_whole
        broken posix: current_complete, durable_ack
        not asked live: previous_intact, retention, shared_intact
        not asked posix: previous_intact, shared_intact
        ");
    }
}

#[test]
fn a_current_that_is_a_directory() {
    if let Some(verdicts) = script("current-is-a-directory.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: current_complete, immutable_after_cutover, readers_whole
        broken posix: current_complete, durable_ack
        not asked live: previous_intact, retention, shared_intact
        not asked posix: previous_intact, shared_intact
        ");
    }
}

#[test]
fn making_room_for_the_link() {
    if let Some(verdicts) = script("replaces-directory.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: current_complete, immutable_after_cutover, never_absent, previous_intact, readers_whole, retention
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn reporting_before_the_rename() {
    if let Some(verdicts) =
        script("ack-before-rename.sh").small_app().options(&["--keep", "3", "--ack", "^live: "]).verdicts()
    {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: current_complete, readers_whole
        broken posix: current_complete, durable_ack
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn reporting_before_the_rename_is_durable() {
    if let Some(verdicts) = script("no-barrier-after.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken posix: current_complete, durable_ack
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn syncing_what_current_leads_to() {
    if let Some(verdicts) = script("fsync-current.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken posix: durable_ack
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn switching_before_the_content_is_durable() {
    if let Some(verdicts) = script("no-barrier-before.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn never_syncing_at_all() {
    if let Some(verdicts) = script("never-syncs.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn writing_after_the_barrier() {
    if let Some(verdicts) = script("barrier-too-early.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn syncing_files_without_directories() {
    if let Some(verdicts) = script("fsync-files-only.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        under ext4-ordered, xfs: nothing
        ");
    }
}

#[test]
fn syncing_directories_without_files() {
    if let Some(verdicts) = script("fsync-directories-only.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn syncing_all_but_releases() {
    if let Some(verdicts) = script("fsync-not-releases.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        under ext4-ordered, xfs, btrfs: nothing
        ");
    }
}

#[test]
fn syncing_all_but_the_way_to_the_deploy_path() {
    if let Some(verdicts) =
        script("fsync-not-ancestors.sh").small_app().options(&["--keep", "3", "--from-nothing"]).verdicts()
    {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        under ext4-ordered, xfs, btrfs: nothing
        ");
    }
}

#[test]
fn syncing_the_same_on_a_path_that_is_there() {
    if let Some(verdicts) =
        script("fsync-not-ancestors.sh").small_app().options(&KEEP_3).unlike_header().verdicts()
    {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 0
        not asked live: shared_intact
        not asked posix: shared_intact
        proved live: current_complete, immutable_after_cutover, never_absent, previous_intact, readers_whole, retention
        proved posix: current_complete, durable_ack, previous_intact
        ");
    }
}

#[test]
fn syncing_data_without_modes() {
    if let Some(verdicts) = script("fdatasync-modes.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        under ext4-ordered, xfs: nothing
        ");
    }
}

#[test]
fn syncing_directories_before_files_are_named_in_them() {
    if let Some(verdicts) = script("directories-first.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        under ext4-ordered, xfs, btrfs: nothing
        ");
    }
}

#[test]
fn syncing_all_after_the_cutover() {
    if let Some(verdicts) = script("barrier-after-cutover.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken posix: current_complete, durable_ack
        not asked live: shared_intact
        not asked posix: shared_intact
        under ext4-ordered, xfs, btrfs: nothing
        ");
    }
}

#[test]
fn syncing_a_file_named_after_the_cutover() {
    if let Some(verdicts) = script("fsync-status.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken posix: current_complete, durable_ack
        not asked live: shared_intact
        not asked posix: shared_intact
        under ext4-ordered, xfs: nothing
        ");
    }
}

#[test]
fn syncing_the_data_of_a_file_made_after_the_cutover() {
    if let Some(verdicts) = script("fdatasync-status.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        under ext4-ordered, xfs: nothing
        under btrfs: current_complete, durable_ack
        ");
    }
}

#[test]
fn uploading_over_sftp_alone() {
    if let Some(verdicts) = script("sftp-only.sh").needs(&["sftp"]).small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        under ext4-ordered, xfs, btrfs: current_complete, durable_ack
        ");
    }
}

#[test]
fn uploading_half_of_the_files() {
    if let Some(verdicts) = script("pipe-truncates.sh").small_app().options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: current_complete, readers_whole
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn uploading_into_the_live_release() {
    if let Some(verdicts) =
        script("upload-into-live.sh").needs(&["rsync"]).small_app().options(&KEEP_3).verdicts()
    {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: current_complete, immutable_after_cutover, readers_whole
        broken posix: current_complete, durable_ack
        not asked live: previous_intact, retention, shared_intact
        not asked posix: previous_intact, shared_intact
        ");
    }
}

#[test]
fn uploading_into_slots_in_turn() {
    if let Some(verdicts) =
        script("two-slots.sh").needs(&["rsync"]).small_app().options(&["--keep", "2"]).verdicts()
    {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: current_complete, immutable_after_cutover, previous_intact, readers_whole
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: retention, shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn writing_into_hard_links() {
    if let Some(verdicts) =
        script("hardlink-in-place.sh").needs(&["rsync"]).small_app().options(&KEEP_3).verdicts()
    {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: current_complete, immutable_after_cutover, previous_intact, readers_whole
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn changing_the_mode_of_hard_links() {
    if let Some(verdicts) = script("hardlink-chmod.sh").needs(&["rsync"]).options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: current_complete, immutable_after_cutover, previous_intact, readers_whole
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn linking_shared_data_into_the_live_release() {
    if let Some(verdicts) = script("links-shared-late.sh")
        .small_app()
        .shared("storage")
        .options(&["--keep", "3", "--shared", "storage/"])
        .verdicts()
    {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: current_complete, immutable_after_cutover, previous_intact, readers_whole
        broken posix: current_complete, durable_ack, previous_intact
        ");
    }
}

#[test]
fn overwriting_user_data() {
    if let Some(verdicts) = script("seed-shared.sh").options(&[&KEEP_3[..], &SHARED].concat()).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: shared_intact
        broken posix: shared_intact
        ");
    }
}

#[test]
fn overwriting_user_data_through_a_link() {
    if let Some(verdicts) =
        script("tar-through-link.sh").small_app().options(&["--keep", "3", "--shared", "storage/"]).verdicts()
    {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: shared_intact
        broken posix: shared_intact
        ");
    }
}

#[test]
fn removing_user_data_through_a_link() {
    if let Some(verdicts) =
        script("rm-through-link.sh").small_app().options(&["--keep", "3", "--shared", "public/"]).verdicts()
    {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: shared_intact
        broken posix: shared_intact
        ");
    }
}

#[test]
fn a_temporary_link_that_is_left_over() {
    let options = ["--keep", "3", "--recoveries", "24"];
    if let Some(verdicts) = script("stale-link.sh").small_app().options(&options).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken runs: recoverable
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn ignoring_that_the_upload_failed() {
    let options = ["--keep", "3", "--recoveries", "8", "--faults", "48"];
    if let Some(verdicts) = script("ignores-failure.sh").small_app().options(&options).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken runs: failed_is_failed
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

/// A counterexample of a run names the fault, and that is enough to make the run again.
#[test]
fn a_fault_that_broke_something_can_be_asked_for_alone() {
    if !machine_has(&["ssh", "tar"]) {
        return;
    }
    let found = |faults: &str| {
        let room = Room::new();
        let json = room.path("verdicts.json");
        let mut command = room.certify_tool("sh certify/subjects/ignores-failure.sh");
        command.args(["--faults", faults, "--json"]).arg(&json).arg("--app").args(small_app(&room));
        let ran = room.run(&mut command);
        assert_eq!(ran.code, Some(1), "{}", room.show(&ran));
        let judgement: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
        let row =
            judgement["rows"].as_array().unwrap().iter().find(|row| row["promise"] == "failed_is_failed");
        let lines = row.unwrap()["runs"]["lines"].as_array().unwrap().clone();
        lines.iter().map(|line| line.as_str().unwrap().to_owned()).collect::<Vec<String>>()
    };
    let name = |lines: &[String]| {
        let line = lines.iter().find_map(|line| line.split_once("--faults ")?.1.strip_suffix(')'));
        line.unwrap_or_else(|| panic!("{lines:?}")).to_owned()
    };
    let among_others = found("48");
    let alone = found(&name(&among_others));
    assert_eq!(alone[0], "in 1 of 1 runs; the first of them:");
    assert_eq!(alone[1], among_others[1], "{alone:?}");
    assert_eq!(name(&alone), name(&among_others));
}

#[test]
fn ignoring_that_a_sync_failed() {
    let options = ["--keep", "3", "--faults", "96"];
    if let Some(verdicts) = script("ignores-failed-sync.sh").small_app().options(&options).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken runs: failed_is_failed
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn trying_a_failed_sync_again() {
    let options = ["--keep", "3", "--faults", "96"];
    if let Some(verdicts) = script("retries-sync.sh").small_app().options(&options).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken runs: failed_is_failed
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn a_lock_that_outlives_its_holder() {
    let options = ["--keep", "3", "--recoveries", "24"];
    if let Some(verdicts) = script("lock-leaks.sh").small_app().options(&options).leaves("lock").verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken runs: recoverable
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

/// Only a run that starts without the deploy path can be interrupted while it makes that.
#[test]
fn a_sign_that_outlives_who_sets_the_host_up() {
    let options = ["--keep", "3", "--recoveries", "24", "--from-nothing"];
    if let Some(verdicts) = script("setup-once.sh").small_app().options(&options).leaves(".setup").verdicts()
    {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken runs: recoverable
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
    let options = ["--keep", "3", "--recoveries", "8"];
    let case = script("setup-once.sh").small_app().options(&options).unlike_header();
    if let Some(verdicts) = case.verdicts() {
        assert!(verdicts.contains("held runs: recoverable"), "{verdicts}");
    }
}

#[test]
fn the_seed_of_the_command_line_draws_the_delays() {
    if !machine_has(&["ssh", "tar"]) {
        return;
    }
    let room = Room::new();
    let mut command = room.certify_tool("sh certify/subjects/correct.sh");
    command.args(["--recordings", "4", "--seed", "18446744073709551615"]).arg("--app").args(small_app(&room));
    let ran = room.run(&mut command);
    assert_eq!(ran.code, Some(0), "{}", room.show(&ran));
    let stderr = String::from_utf8(ran.stderr.clone()).unwrap();
    let told: Vec<&str> = stderr.lines().filter(|line| line.starts_with("recording ")).collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    recording 2 of 4, with one half of the programs delayed, by seed 18446744073709551615
    recording 3 of 4, with the other half of the programs delayed, by seed 18446744073709551615
    recording 4 of 4, with one half of the programs delayed, by seed 0
    ");
}

#[test]
fn one_thing_after_the_other_has_one_trace() {
    let case = script("correct.sh").small_app().options(&["--keep", "3", "--recordings", "3"]);
    if let Some(verdicts) = case.verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 0
        3 recordings: one trace
        not asked live: shared_intact
        not asked posix: shared_intact
        proved live: current_complete, immutable_after_cutover, never_absent, previous_intact, readers_whole, retention
        proved posix: current_complete, durable_ack, previous_intact
        ");
    }
}

#[test]
fn uploading_in_parallel_is_right() {
    let options = [&ALL[..], &["--recordings", "3"]].concat();
    if let Some(verdicts) = script("correct-parallel.sh").shared(ALL_SHARED).options(&options).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 0
        3 recordings: several traces
        proved live: current_complete, immutable_after_cutover, never_absent, previous_intact, readers_whole, retention, shared_intact
        proved posix: current_complete, durable_ack, previous_intact, shared_intact
        ");
    }
}

#[test]
fn not_waiting_for_all_parts_of_an_upload() {
    let case = script("waits-for-last.sh").options(&["--keep", "3", "--recordings", "3"]);
    if let Some(verdicts) = case.verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        3 recordings: several traces
        broken live: current_complete, immutable_after_cutover, previous_intact, readers_whole
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn syncing_before_all_parts_of_an_upload_are_there() {
    let case = script("barrier-beside-upload.sh").options(&["--keep", "3", "--recordings", "3"]);
    if let Some(verdicts) = case.verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        3 recordings: several traces
        broken posix: current_complete, durable_ack, previous_intact
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}

#[test]
fn shredding_what_is_pruned() {
    if let Some(verdicts) = script("shreds-pruned.sh").needs(&["shred"]).options(&KEEP_3).verdicts() {
        insta::assert_snapshot!(verdicts, @r"
        exit code: 1
        broken live: readers_whole
        not asked live: shared_intact
        not asked posix: shared_intact
        ");
    }
}
