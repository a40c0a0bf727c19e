//! A host's whole answer to the opening script, up to the plan that is made from it.
//!
//! Whatever a host says: no panic, no plan that breaks its own rules, and nothing removed that is live.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use cutover::manifest::{Entry, Manifest, Sha};
use cutover::path::RelPath;
use cutover::plan::{Plan, Refusal, Step, Wish, check, plan};
use cutover::release::ReleaseId;
use cutover::remote::frame::Frames;
use cutover::remote::observed::{Current, Observed, parse};
use cutover::remote::steps::{Names, phase};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let events = Frames::new("c0ffee").feed(data).expect("far from too much");
    let Ok(host) = parse(&events) else { return };
    for full in [false, true] {
        let wish = Wish { now: id("20260102030405"), used: vec![id("20260102030404")], full, keep: 3, skip_unreadable: full };
        match plan(&host, &source(), &wish) {
            Ok(plan) => judge(&host, &wish, &plan),
            Err(Refusal::Steps(defect)) => panic!("not the host's fault: {defect}"),
            Err(refusal) => assert!(is_one_line(&refusal.to_string())),
        }
    }
});

fn id(digits: &str) -> ReleaseId {
    ReleaseId::parse(digits.as_bytes()).expect("14 digits")
}

/// What is deployed: one of each, so that everything a host has can be in its way.
fn source() -> Manifest {
    let file =
        |text: &[u8]| Entry::File { mode: 0o644, mtime: 7, size: text.len() as u64, sha: Sha::of(text) };
    let dir = Entry::Dir { mode: 0o755, mtime: 7 };
    let entries = [
        ("", dir.clone()),
        ("a", file(b"one")),
        ("d", dir.clone()),
        ("d/b", file(b"two")),
        ("d/e", dir),
        ("l", Entry::Link { target: b"a".to_vec() }),
    ];
    let entries: BTreeMap<RelPath, Entry> =
        entries.into_iter().map(|(path, entry)| (RelPath::new(path).expect("a path"), entry)).collect();
    Manifest::new(entries).expect("a tree")
}

fn judge(host: &Observed, wish: &Wish, plan: &Plan) {
    assert_eq!(check(plan.steps()), Ok(()));
    assert!(plan.steps().contains(&Step::Rename), "the cutover is part of every plan");
    let new = plan.release();
    if !plan.is_nothing_to_do() {
        let known = host.releases.keys().chain(&host.seals).chain(&host.markers).chain(&host.unfinished);
        assert!(
            known.chain(&host.last_logged).chain(&wish.used).all(|old| old < new),
            "{new} is not the newest"
        );
        assert!(*new >= wish.now);
    }
    let live = match &host.current {
        Current::Link { identity, .. } => identity.as_ref(),
        _ => None,
    };
    let is_live = |id: &ReleaseId| live.is_some() && host.releases.get(id) == live;
    let mut gone = BTreeSet::new();
    for step in plan.steps() {
        if let Step::Sweep(ids) | Step::Prune(ids) = step {
            for id in ids {
                assert!(id != new && !is_live(id), "{id} is removed, but is live or will be");
                assert!(gone.insert(id), "{id} is removed twice");
            }
        }
        if let Step::Sweep(ids) = step {
            assert!(
                ids.iter().all(|id| host.unfinished.contains(id)),
                "only what was noted as unfinished is swept"
            );
        }
        if let Step::Prune(ids) = step {
            assert!(ids.iter().all(|id| host.seals.contains(id)), "only what is sealed is pruned");
        }
    }
    // Also where the host names a base that its own listing says is not live, or is not there at all.
    assert!(plan.base().is_none_or(|base| !gone.contains(base)), "the base is removed");
    changes(plan);
    let text = plan.to_string();
    assert!(text.lines().all(is_one_line), "control characters in {text:?}");
    let names = Names {
        link: format!(".cutover/next.{new}.c0ffee"),
        at: "2026-01-02T03:04:05Z".to_owned(),
        by: "fuzz".to_owned(),
    };
    assert!(!phase(plan.course(), plan.steps(), &names).contains(&0), "no script holds a NUL");
}

/// The new tree is the source and links into `shared/`, and each change is made inside of a directory that stays.
fn changes(plan: &Plan) {
    let changes = plan.changes();
    let is_link = |path: &RelPath| matches!(changes.manifest.get(path), Some(Entry::Link { .. }));
    let source = source();
    assert!(source.entries().keys().all(|path| changes.manifest.get(path).is_some()));
    assert!(changes.manifest.entries().keys().all(|path| source.get(path).is_some() || is_link(path)));
    for path in changes.put.iter().chain(&changes.remove).filter(|_| plan.base().is_some()) {
        let parent = path.parent().expect("the root is never put into a copy");
        assert!(
            changes.manifest.is_dir(&parent) && changes.guards.contains(&parent),
            "{path} is put in unguarded"
        );
    }
}

fn is_one_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}
