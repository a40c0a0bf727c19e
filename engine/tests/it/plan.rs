//! Plans, as they are printed, and the order that no plan can break.

use std::collections::{BTreeMap, BTreeSet};

use cutover::manifest::{Entry, Manifest};
use cutover::path::RelPath;
use cutover::plan::{Step, StepsError, Wish, check, plan};
use cutover::release::ReleaseId;
use cutover::remote::listing::{Seen, Tree};
use cutover::remote::observed::{Base, Current, Observed, Room};

use crate::shared::app;

fn id(text: &str) -> ReleaseId {
    ReleaseId::parse(text.as_bytes()).expect("an id")
}

fn wish() -> Wish {
    Wish { now: id("20260101120000"), used: Vec::new(), full: false, keep: 3, skip_unreadable: false }
}

/// The tree that a manifest describes, as `stat` would see it.
pub(crate) fn seen(manifest: &Manifest) -> Tree {
    let (mut all, mut links) = (BTreeMap::new(), BTreeMap::new());
    for (path, entry) in manifest.entries() {
        let (raw_mode, size, mtime) = match entry {
            Entry::Dir { mode, mtime } => (0o040_000 | mode, 4096, *mtime),
            Entry::File { mode, mtime, size, .. } => (0o100_000 | mode, *size, *mtime),
            Entry::Link { target } => {
                links.insert(path.clone(), target.clone());
                (0o120_777, target.len() as u64, 0)
            }
        };
        all.insert(path.clone(), Seen { raw_mode, size, mtime: i64::try_from(mtime).expect("a time") });
    }
    Tree::from_parts(all, links)
}

fn fresh() -> Observed {
    Observed { exists: true, has_syncfs: true, one_file_system: true, ..Observed::default() }
}

/// A host on which releases 1 to `n` were deployed; the last one is live and holds `entries`.
fn host(n: u32, entries: &[&str]) -> Observed {
    let ids: Vec<ReleaseId> = (1..=n).map(|k| id(&format!("2025010100000{k}"))).collect();
    let seal = app(entries);
    let newest = ids.last().expect("one").clone();
    Observed {
        current: Current::Link { text: newest.link_text().into_bytes(), identity: Some(format!("1:{n}")) },
        releases: ids.iter().cloned().zip((1..=n).map(|k| format!("1:{k}"))).collect(),
        seals: ids.iter().cloned().collect(),
        markers: ids.iter().cloned().collect(),
        base: Some(Base { id: newest, tree: seen(&seal), seal: Some(seal) }),
        ..fresh()
    }
}

fn print(host: &Observed, source: &Manifest) -> String {
    plan(host, source, &wish()).map_or_else(|e| format!("refused: {e}"), |p| p.to_string())
}

#[test]
fn first_deploy() {
    insta::assert_snapshot!(print(&fresh(), &app(&["index.html", "lib/a", "empty/"])), @r"
    release 20260101120000 from a full upload
    upload 2 of 2 files, 15 B
    steps
      note the release as unfinished (durable)
      upload into staging
      make the upload the release
      verify
      seal
      temporary link
      barrier: sync -f .
      rename onto current
      sync the directory of current
      report live
      mark as live (durable)
      log
      remove staging
    ");
}

#[test]
fn second_deploy() {
    let mut host = host(4, &["index.html", "gone/x", "gone/y", "was-file", "was-dir/x"]);
    host.shared = BTreeMap::from([(RelPath::new("uploads").expect("path"), true)]);
    insta::assert_snapshot!(print(&host, &app(&["index.html", "new/deep/x", "was-file/x", "was-dir@"])), @r"
    release 20260101120000 from a copy of 20250101000004
    upload 2 of 3 files, 20 B
      add    new (10 B)
      change was-dir
      change was-file (10 B)
      remove gone (2 files, 12 B)
      link   uploads -> ../../shared/uploads
      prune  releases/20250101000002
      prune  releases/20250101000001
    steps
      note the release as unfinished (durable)
      copy 20250101000004
      upload into staging
      put the upload into the copy
      verify
      seal
      temporary link
      barrier: sync -f .
      rename onto current
      sync the directory of current
      report live
      mark as live (durable)
      log
      remove staging
      prune: 20250101000002 20250101000001
    ");
}

#[test]
fn nothing_to_do() {
    insta::assert_snapshot!(print(&host(2, &["index.html"]), &app(&["index.html"])), @r"
    nothing to do: releases/20250101000002 is equal to the source
    upload 0 of 1 files, 0 B
    steps
      stay with 20250101000002, which is live
      temporary link
      barrier: sync -f .
      rename onto current
      sync the directory of current
      report nothing to do
      mark as live (durable)
    ");
}

#[test]
fn after_a_kill() {
    let mut host = host(2, &["index.html"]);
    host.markers.remove(&id("20250101000002"));
    host.unfinished = BTreeSet::from([id("20250101000002"), id("20250101000003")]);
    host.releases.insert(id("20250101000003"), "1:3".to_owned());
    host.staging = vec![b"20250101000003".to_vec()];
    host.temporary_links = vec![b"next.20250101000003.x".to_vec()];
    host.has_syncfs = false;
    insta::assert_snapshot!(print(&host, &app(&["index.html", "b"])), @r"
    release 20260101120000 from a copy of 20250101000002
    upload 1 of 2 files, 1 B
      add    b (1 B)
    steps
      recover: mark 20250101000002, which is live
      sweep .cutover: staging/20250101000003 next.20250101000003.x
      sweep unfinished: 20250101000003
      note the release as unfinished (durable)
      copy 20250101000002
      upload into staging
      put the upload into the copy
      verify
      seal
      temporary link
      barrier: sync
      rename onto current
      sync the directory of current
      report live
      mark as live (durable)
      remove the notes about 20250101000002, which are whole
      log
      remove staging
    ");
}

#[test]
fn refusals() {
    let source = app(&["index.html"]);
    let other = Observed { current: Current::Other, ..fresh() };
    assert_eq!(print(&other, &source), "refused: `current` is not a symbolic link");
    let full = Observed { room: Some(Room { block_bytes: 1, free_bytes: 3, free_inodes: None }), ..fresh() };
    assert_eq!(print(&full, &source), "refused: not enough room: 10 B needed, 3 B free");
    let mut odd = fresh();
    odd.releases.insert(id("99991399999999"), "1:9".to_owned());
    assert_eq!(print(&odd, &source), "refused: release 99991399999999 is not a date, no id can be newer");
}

#[test]
fn what_is_live_is_kept_by_inode() {
    // Four releases; an alias in `current` leads to the oldest.
    let mut host = host(4, &["a"]);
    host.current =
        Current::Link { text: b"/alias/releases/20250101000001".to_vec(), identity: Some("1:1".to_owned()) };
    host.base = None;
    let plan = plan(&host, &app(&["b"]), &wish()).expect("a plan");
    let prune = Step::Prune(vec![id("20250101000003"), id("20250101000002")]);
    assert!(plan.steps().contains(&prune), "{plan}");
}

/// Every way to leave one step of a good plan out, or to swap two: what breaks the order is refused.
#[test]
fn no_plan_without_its_barrier() {
    let plan = plan(&host(4, &["a"]), &app(&["b"]), &wish()).expect("a plan");
    let good = plan.steps();
    let without =
        |gone: &dyn Fn(&Step) -> bool| check(&good.iter().filter(|s| !gone(s)).cloned().collect::<Vec<_>>());
    assert_eq!(without(&|_| false), Ok(()));
    assert_eq!(without(&|s| matches!(s, Step::Barrier(_))), Err(StepsError::Uncovered));
    assert_eq!(without(&|s| *s == Step::Verify), Err(StepsError::Unverified));
    assert_eq!(without(&|s| *s == Step::SyncCurrent), Err(StepsError::Early));
    assert_eq!(without(&|s| *s == Step::Rename), Err(StepsError::Early));
    let at = |step: &dyn Fn(&Step) -> bool| good.iter().position(step).expect("there");
    let barrier = at(&|s| matches!(s, Step::Barrier(_)));
    for early in 0..barrier {
        let mut moved = good.to_vec();
        let step = moved.remove(barrier);
        moved.insert(early, step);
        assert_eq!(check(&moved), Err(StepsError::Uncovered), "{moved:?}");
    }
    let live = at(&|s| *s == Step::ReportLive);
    for early in 0..at(&|s| *s == Step::SyncCurrent) {
        let mut moved = good.to_vec();
        let step = moved.remove(live);
        moved.insert(early, step);
        assert!(check(&moved).is_err(), "{moved:?}");
    }
}
