//! Rollback, recovery and prune as plans, from any state that a host can be in or pretend to be in.

use std::collections::BTreeSet;

use cutover::history::{Event, Record};
use cutover::manifest::Manifest;
use cutover::plan::{
    Course, Refusal, Rollback, Step, StepsError, Wish, check, complete_releases, live_id, plan, previous,
    prune, recover, rollback, rollback_target, stay_with,
};
use cutover::release::ReleaseId;
use cutover::remote::observed::{Base, Current, Observed};
use proptest::prelude::*;

use crate::plan::seen;
use crate::shared::app;

fn id(n: usize) -> ReleaseId {
    ReleaseId::parse(format!("2025010100000{n}").as_bytes()).expect("an id")
}

fn steps(course: &Course) -> String {
    course.steps().iter().map(|step| format!("{step}\n")).collect()
}

/// Six releases, of which any part is there, and anything is live.
fn host() -> impl Strategy<Value = Observed> {
    let some = || proptest::collection::btree_set(0..6_usize, 0..6);
    let record = (proptest::option::of(0..7_usize), proptest::option::of(0..7_usize));
    let live = (proptest::option::of(0..7_usize), any::<bool>(), any::<bool>());
    (some(), some(), some(), some(), live, proptest::option::of(record)).prop_map(
        |(releases, seals, markers, unfinished, (live, is_sealed, has_staging), record)| {
            let ids = |set: &BTreeSet<usize>| set.iter().map(|n| id(*n)).collect::<BTreeSet<_>>();
            // The host says what the base is; whether it is in the listing is another matter.
            let seal = app(&["a"]);
            let base = live.filter(|n| *n < 6).map(|n| Base {
                id: id(n),
                tree: seen(&seal),
                seal: (is_sealed && seals.contains(&n)).then(|| seal.clone()),
            });
            let current = match live {
                None => Current::Absent,
                Some(n) => {
                    Current::Link { text: id(n).link_text().into_bytes(), identity: Some(format!("1:{n}")) }
                }
            };
            let last_record = record.map(|(live, was)| Record {
                newest: id(6),
                event: Event::Rollback,
                live: live.map(id),
                was: was.map(id),
            });
            Observed {
                exists: true,
                has_syncfs: true,
                one_file_system: true,
                current,
                releases: releases.iter().map(|n| (id(*n), format!("1:{n}"))).collect(),
                seals: ids(&seals),
                markers: ids(&markers),
                unfinished: ids(&unfinished),
                staging: if has_staging { vec![b"20250101000009".to_vec()] } else { vec![] },
                last_logged: last_record.as_ref().map(|r| r.newest.clone()),
                last_record,
                base,
                ..Observed::default()
            }
        },
    )
}

/// What a course removes, each once.
fn removed(course: &[Step]) -> Vec<ReleaseId> {
    let mut all = Vec::new();
    for step in course {
        if let Step::Sweep(ids) | Step::Prune(ids) = step {
            all.extend(ids.iter().cloned());
        }
    }
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "twice in {all:?}");
    all
}

/// `live` is what is live after the course; what was live before it stays too.
fn assert_kept(host: &Observed, course: &[Step], live: Option<&ReleaseId>, keep: usize) {
    let gone = removed(course);
    let was = if live == live_id(host) { previous(host) } else { live_id(host).cloned() };
    // What the log calls live may be what a power loss left unfinished.
    let was = was.filter(|id| complete_releases(host).contains(id));
    let kept = live_id(host).cloned().into_iter().chain(was);
    for id in kept {
        assert!(!gone.contains(&id), "{id} is removed, and is live or was before");
    }
    // A host that calls something live which it does not list loses nothing of this, but cannot be counted.
    if live_id(host).is_none_or(|id| host.releases.contains_key(id)) {
        let left = complete_releases(host).iter().filter(|id| !gone.contains(id)).count();
        assert!(left >= keep.min(complete_releases(host).len()), "{left} of {keep} are left");
    }
    for id in &gone {
        let ours = host.unfinished.contains(id) || complete_releases(host).contains(id);
        assert!(ours, "{id} is not ours");
    }
}

proptest! {
    #[test]
    fn nothing_that_counts_is_lost(host in host(), keep in 2..5_usize) {
        if let Ok(Some(course)) = recover(&host) {
            assert_kept(&host, course.steps(), live_id(&host), usize::MAX);
            prop_assert!(!course.steps().iter().any(|s| matches!(s, Step::Prune(_))));
        }
        match prune(&host, keep) {
            Ok(Some(course)) => {
                assert_kept(&host, course.steps(), live_id(&host), keep);
                let first = |step: &dyn Fn(&Step) -> bool| course.steps().iter().position(step);
                prop_assert!(first(&|s| *s == Step::SyncCurrent) < first(&|s| matches!(s, Step::Prune(_))));
            }
            Ok(None) => {}
            Err(refusal) => prop_assert_eq!(refusal, Refusal::NothingLive),
        }
        for wanted in [None, Some(id(3))] {
            match rollback_target(&host, wanted.as_ref()) {
                Ok(Rollback::To(to)) => {
                    prop_assert!(complete_releases(&host).contains(&to) && live_id(&host) != Some(&to));
                    prop_assert!(wanted.is_some() || live_id(&host).is_some_and(|live| to < *live));
                    let course = rollback(&host, &to).expect("a course");
                    prop_assert_eq!(removed(course.steps()), vec![]);
                    prop_assert!(course.steps().contains(&Step::Check(to)));
                }
                Ok(Rollback::Already(id)) => prop_assert_eq!(Some(&id), live_id(&host)),
                Err(Refusal::Steps(defect)) => panic!("{defect}"),
                Err(_) => {}
            }
        }
        let wish = Wish { now: id(0), used: Vec::new(), full: false, keep, skip_unreadable: false };
        for source in [app(&["a"]), app(&["b"])] {
            let plan = plan(&host, &source, &wish).expect("a plan");
            let new = usize::from(!plan.is_nothing_to_do());
            assert_kept(&host, plan.steps(), Some(plan.release()), keep - new);
        }
    }
}

/// Three complete releases, the newest live, with this last line in the log.
fn three(live: usize, was: usize) -> Observed {
    let seal: Manifest = app(&["a"]);
    let all = || (1..=3).map(id);
    Observed {
        exists: true,
        has_syncfs: true,
        one_file_system: true,
        current: Current::Link {
            text: id(live).link_text().into_bytes(),
            identity: Some(format!("1:{live}")),
        },
        releases: (1..=3).map(|n| (id(n), format!("1:{n}"))).collect(),
        seals: all().collect(),
        markers: all().collect(),
        last_logged: Some(id(3)),
        last_record: Some(Record {
            newest: id(3),
            event: Event::Rollback,
            live: Some(id(live)),
            was: Some(id(was)),
        }),
        base: Some(Base { id: id(live), tree: seen(&seal), seal: Some(seal) }),
        ..Observed::default()
    }
}

#[test]
fn the_release_before() {
    assert_eq!(previous(&three(1, 2)), Some(id(2)), "as the log says");
    let mut host = three(3, 2);
    host.last_record.as_mut().expect("a line").live = Some(id(1));
    assert_eq!(previous(&host), Some(id(1)), "a run died between its cutover and its line");
    host.last_record = None;
    assert_eq!(previous(&host), None);
    assert_eq!(previous(&three(3, 4)), None, "it is gone");
}

#[test]
fn the_courses() {
    let course = rollback(&three(3, 2), &id(1)).expect("a course");
    insta::assert_snapshot!(steps(&course), @r"
    compare 20250101000001 with its seal
    temporary link
    barrier: sync -f .
    rename onto current
    sync the directory of current
    report live
    mark as live (durable)
    log
    ");
    let course = stay_with(&three(3, 2), &id(3)).expect("a course");
    insta::assert_snapshot!(steps(&course), @r"
    stay with 20250101000003, which is live
    temporary link
    barrier: sync -f .
    rename onto current
    sync the directory of current
    report nothing to do
    mark as live (durable)
    ");
    let course = prune(&three(1, 2), 2).expect("a course").expect("one to remove");
    insta::assert_snapshot!(steps(&course), @r"
    stay with 20250101000001, which is live
    temporary link
    barrier: sync -f .
    rename onto current
    sync the directory of current
    report nothing to do
    mark as live (durable)
    prune: 20250101000003
    log
    ");
    let mut host = three(3, 2);
    host.markers.remove(&id(3));
    host.unfinished = [id(3), id(5)].into();
    host.temporary_links = vec![b"next.x".to_vec()];
    let course = recover(&host).expect("a course").expect("something to do");
    insta::assert_snapshot!(steps(&course), @r"
    recover: mark 20250101000003, which is live
    sweep .cutover: next.x
    sweep unfinished: 20250101000005
    stay with 20250101000003, which is live
    temporary link
    barrier: sync -f .
    rename onto current
    sync the directory of current
    report nothing to do
    mark as live (durable)
    remove the notes about 20250101000003, which are whole
    log
    ");
    // The live one is of another tool: nothing is switched, what is unfinished goes all the same.
    host.base.as_mut().expect("base").seal = None;
    let course = recover(&host).expect("a course").expect("something to do");
    insta::assert_snapshot!(steps(&course), @r"
    sweep .cutover: next.x
    sweep unfinished: 20250101000005
    log
    ");
}

/// A rollback without one of its steps is no course.
#[test]
fn no_rollback_without_its_barrier() {
    let course = rollback(&three(3, 2), &id(1)).expect("a course");
    let without = |gone: &dyn Fn(&Step) -> bool| {
        Course::new(Some(id(1)), course.steps().iter().filter(|s| !gone(s)).cloned().collect()).map(|_| ())
    };
    assert_eq!(without(&|_| false), Ok(()));
    assert_eq!(without(&|s| matches!(s, Step::Barrier(_))), Err(StepsError::Uncovered));
    assert_eq!(without(&|s| matches!(s, Step::Check(_))), Err(StepsError::Unverified));
    assert_eq!(without(&|s| *s == Step::SyncCurrent), Err(StepsError::Early));
    assert_eq!(without(&|s| *s == Step::Rename), Err(StepsError::Early));
    assert_eq!(check(course.steps()), Ok(()));
    assert_eq!(Course::new(None, course.steps().to_vec()), Err(StepsError::Nameless));
}
