//! Fault schedules as values, and which calls their rules meet.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use simfs::fault::{About, At, Call, Calls, Fault, Schedule, When};
use simfs::{Caller, Disk, Errno, Fs, Full, Limits, ROOT, Trace};

use crate::against_kernel::{TOP, simulated, step};

const WHO: Caller = Caller { uid: 0, gid: 0 };

fn empty_disk() -> Disk {
    let mut fs = Fs::new(0, 0, 0o755);
    fs.start_recording();
    Disk::new(fs)
}

fn mkdir(disk: &Disk, name: &str) -> Result<(), Errno> {
    let call = Call::new(Calls::MKDIR, About::Name(ROOT, name.as_bytes()), 0);
    disk.apply(&call, |fs| fs.mkdir(ROOT, name.as_bytes(), 0o755, WHO)).map(drop)
}

/// Which of the calls `mkdir 0`, `mkdir 1` … failed.
fn failed(disk: &Disk, calls: usize) -> Vec<usize> {
    (0..calls).filter(|n| mkdir(disk, &n.to_string()).is_err()).collect()
}

fn everything() -> Schedule {
    Schedule::one(When::default(), Fault::Error(Errno::IO))
        .and(When::nth(Calls::SYNCS, 3).path("a/*/b"), Fault::Error(Errno::from_raw_os_error(133)))
        .and(
            When { calls: Calls::CREATE | Calls::WRITE, at: At::From(2), path: None },
            Fault::Quota(Limits { bytes: 4096, inodes: 7, full: Full::Quota }),
        )
        .and(When::op(9), Fault::ReadOnly)
        .and(When::from_op(10), Fault::Delay(Duration::from_millis(1500)))
        .and(When::every(Calls::READS), Fault::Hang)
        .and(When { at: At::Random { seed: u64::MAX, one_in: 3 }, ..When::every(Calls::all()) }, Fault::Crash)
        .and(When::default(), Fault::Kill)
        .and(When::default(), Fault::Hook)
}

#[test]
fn a_schedule_can_be_kept_and_read_again() {
    let text = serde_json::to_string(&everything()).unwrap();
    assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), everything());
    assert!(empty_disk().set_faults(&everything()).is_ok());
    // What is left out has its default.
    let short = r#"[{"when":{"calls":"RENAME | SYNCFS","at":{"Nth":2}},"fault":{"Error":"EDQUOT"}},
                    {"when":{},"fault":"Crash"}]"#;
    let written = Schedule::one(When::nth(Calls::RENAME | Calls::SYNCFS, 2), Fault::Error(Errno::DQUOT))
        .and(When::default(), Fault::Crash);
    assert_eq!(serde_json::from_str::<Schedule>(short).unwrap(), written);
}

#[test]
fn what_means_nothing_is_refused_with_a_reason() {
    for (text, why) in [
        (r#"[{"when":{},"fault":{"Error":"EWHAT"}}]"#, "unknown error name \"EWHAT\""),
        (r#"[{"when":{},"fault":{"Error":0}}]"#, "0 is no error number"),
        (r#"[{"when":{"calls":"RENAMES"},"fault":"Crash"}]"#, "unrecognized named flag"),
        (r#"[{"when":{"paths":"a"},"fault":"Crash"}]"#, "unknown field `paths`"),
        (r#"[{"when":{},"fault":"Explode"}]"#, "unknown variant `Explode`"),
    ] {
        let told = serde_json::from_str::<Schedule>(text).unwrap_err().to_string();
        assert!(told.contains(why), "{text}: {told}");
    }
    let at = |at| (When { at, ..When::default() }, Fault::Crash);
    let error = |errno| (When::default(), Fault::Error(errno));
    for ((when, fault), why) in [
        (at(At::Nth(0)), "calls are counted from 1"),
        (at(At::From(0)), "calls are counted from 1"),
        (at(At::Op(0)), "op 0 is the initial disk"),
        (at(At::FromOp(0)), "op 0 is the initial disk"),
        (at(At::Random { seed: 1, one_in: 0 }), "one in 0 calls is none"),
        ((When::every(Calls::empty()), Fault::Hang), "no kind of call"),
        ((When::default().path("/app"), Fault::Hang), "a path starts at the disk's root, without a slash"),
        ((When::default().path("a[b"), Fault::Hang), "unclosed character class"),
        (error(Errno::NOSYS), "ENOSYS makes the kernel do without"),
        (error(Errno::NOENT), "ENOENT is an answer"),
        (error(Errno::from_raw_os_error(600)), "600 is no error number"),
    ] {
        let disk = empty_disk();
        disk.set_faults(&Schedule::one(When::nth(Calls::MKDIR, 1), Fault::Error(Errno::IO))).unwrap();
        let bad = Schedule::one(When::default(), Fault::Hook).and(when, fault);
        let told = disk.set_faults(&bad).unwrap_err().to_string();
        assert!(told.starts_with("rule 2 of the fault schedule: ") && told.contains(why), "{told}");
        assert_eq!(failed(&disk, 2), [0], "what was set before stays");
    }
}

#[test]
fn calls_are_counted_and_ops_are_numbered() {
    let at = |at| {
        let disk = empty_disk();
        let when = When { at, ..When::every(Calls::MKDIR) };
        disk.set_faults(&Schedule::one(when, Fault::Error(Errno::IO))).unwrap();
        failed(&disk, 6)
    };
    assert_eq!(at(At::Every), [0, 1, 2, 3, 4, 5]);
    assert_eq!(at(At::Nth(3)), [2]);
    assert_eq!(at(At::From(5)), [4, 5]);
    // Op 3 is refused once; what comes next becomes it.
    assert_eq!(at(At::Op(3)), [2]);
    assert_eq!(at(At::FromOp(3)), [2, 3, 4, 5]);
    assert_eq!(at(At::Random { seed: 1, one_in: 1 }), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn setting_a_schedule_counts_anew() {
    let disk = empty_disk();
    let schedule = Schedule::one(When::nth(Calls::MKDIR, 2), Fault::Error(Errno::IO));
    for _ in 0..2 {
        disk.set_faults(&schedule).unwrap();
        assert_eq!(disk.hits(), []);
        assert_eq!(failed(&disk, 3), [1]);
        for name in [b"0", b"2"] {
            disk.with(|fs| fs.rmdir(ROOT, name)).unwrap();
        }
    }
}

#[test]
fn rules_are_met_in_order_and_all_of_them_count() {
    let disk = empty_disk();
    let schedule = Schedule::one(When::nth(Calls::MKDIR, 1), Fault::Error(Errno::IO))
        .and(When::nth(Calls::MKDIR, 2), Fault::Error(Errno::NOSPC))
        .and(When::nth(Calls::MKDIR, 1), Fault::Error(Errno::ROFS));
    disk.set_faults(&schedule).unwrap();
    assert_eq!(mkdir(&disk, "a"), Err(Errno::IO));
    assert_eq!(mkdir(&disk, "a"), Err(Errno::NOSPC));
    assert_eq!(mkdir(&disk, "a"), Ok(()));
    let hits: Vec<_> = disk.hits().iter().map(|hit| (hit.rule, hit.op)).collect();
    assert_eq!(hits, [(0, 1), (1, 1)]);
}

#[test]
fn the_harness_is_exempt() {
    let disk = empty_disk();
    disk.set_faults(&Schedule::one(When::every(Calls::all()), Fault::Error(Errno::IO))).unwrap();
    disk.with(|fs| fs.mkdir_p("a/b")).unwrap();
    assert!(disk.hits().is_empty());
    assert_eq!(disk.trace().last(), 2);
}

#[test]
fn chance_is_chosen_by_the_seed() {
    let run = |seed| {
        let disk = empty_disk();
        let when = When { at: At::Random { seed, one_in: 10 }, ..When::every(Calls::MKDIR) };
        disk.set_faults(&Schedule::one(when, Fault::Error(Errno::IO))).unwrap();
        failed(&disk, 1000)
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
    for seed in 0..20 {
        let met = run(seed).len();
        assert!((60..160).contains(&met), "seed {seed}: {met} of 1000 instead of about 100");
    }
}

#[test]
fn a_seeded_schedule_is_one_fault_at_one_op() {
    let faults = [Fault::Error(Errno::IO), Fault::Crash, Fault::Kill];
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let schedule = Schedule::seeded(seed, 5..=8, &faults);
        assert_eq!(schedule, Schedule::seeded(seed, 5..=8, &faults));
        let [rule] = schedule.rules.as_slice() else { panic!("{schedule:?}") };
        let At::Op(op) = rule.when.at else { panic!("{schedule:?}") };
        seen.insert((op, faults.iter().position(|fault| *fault == rule.fault).unwrap()));
    }
    let all = (5..=8).flat_map(|op| (0..3).map(move |fault| (op, fault))).collect();
    assert_eq!(seen, all, "200 seeds reach every fault at every op");
    assert_eq!(Schedule::seeded(1, 5..=8, &[]), Schedule::default());
    #[allow(clippy::reversed_empty_ranges, reason = "an empty range")]
    let none = Schedule::seeded(1, 8..=5, &faults);
    assert_eq!(none, Schedule::default());
}

#[test]
fn hits_are_safe_on_a_terminal() {
    let disk = empty_disk();
    disk.set_faults(&Schedule::one(When::default(), Fault::Error(Errno::IO))).unwrap();
    for name in ["\u{1b}[2J", "größe", "new\nline", "\u{202e}txt"] {
        assert_eq!(mkdir(&disk, name), Err(Errno::IO));
    }
    let told: Vec<_> = disk.hits().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            r"EIO at op 1: mkdir \x1b[2J",
            "EIO at op 1: mkdir größe",
            r"EIO at op 1: mkdir new\nline",
            r"EIO at op 1: mkdir \xe2\x80\xaetxt",
        ]
    );
}

#[test]
fn a_call_on_what_lost_its_name_has_no_path() {
    let disk = empty_disk();
    let file = disk.with(|fs| fs.write_file("f", b"x")).unwrap();
    disk.with(|fs| fs.open(file).and_then(|()| fs.unlink(ROOT, b"f"))).unwrap();
    let write =
        || disk.apply(&Call::new(Calls::WRITE, About::Inode(file), 0), |fs| fs.write(file, 0, b"y", false));
    disk.set_faults(&Schedule::one(When::default().path("**"), Fault::Error(Errno::IO))).unwrap();
    assert_eq!(write(), Ok(1));
    disk.set_faults(&Schedule::one(When::default(), Fault::Error(Errno::IO))).unwrap();
    assert_eq!(write(), Err(Errno::IO));
    assert_eq!(disk.hits()[0].to_string(), "EIO at op 5: write");
}

/// Ops, effects and marks of a trace, as text.
fn told(trace: &Trace) -> String {
    let effects: Vec<_> = trace.effects().iter().map(|effect| (effect, trace.cell(effect.cell))).collect();
    format!("{:?}\n{effects:?}\n{:?}", trace.ops(), trace.marks())
}

proptest! {
    /// A schedule of which nothing is met leaves no mark: the same answers, the same trace.
    #[test]
    fn what_is_never_met_changes_nothing(steps in prop::collection::vec(step(), 1..60)) {
        let run = |schedule: &Schedule| {
            let disk = empty_disk();
            disk.with(|fs| fs.mkdir_p(TOP)).unwrap();
            disk.set_faults(schedule).unwrap();
            let call = Call::new(Calls::WRITE | Calls::RENAME, About::Name(ROOT, TOP.as_bytes()), 0);
            let answers: Vec<_> =
                steps.iter().map(|step| disk.apply(&call, |fs| simulated(fs, WHO, step))).collect();
            (answers, told(&disk.trace()), disk)
        };
        let never = Schedule::one(When::default().path("nowhere/**"), Fault::Crash)
            .and(When::every(Calls::SYNCS), Fault::Crash)
            .and(When::nth(Calls::WRITE, 1000), Fault::ReadOnly)
            .and(When::op(100_000), Fault::Error(Errno::IO));
        let (answers, trace, _) = run(&Schedule::default());
        let (with_faults, with_trace, disk) = run(&never);
        prop_assert_eq!(with_faults, answers);
        prop_assert_eq!(with_trace, trace);
        prop_assert!(disk.hits().is_empty());

        // The paths that were kept up to date all along are those that a walk finds.
        let walked = disk.with(|fs| fs.walk_tree(ROOT)).unwrap();
        let mut expected: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (path, ino) in walked {
            expected.entry(ino).or_default().push(path);
        }
        for (ino, mut paths) in expected {
            paths.sort();
            prop_assert_eq!(disk.with(|fs| fs.paths(ino)), paths);
        }
    }
}
