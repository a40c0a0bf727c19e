//! A host's whole answer to the opening script, up to the plan that is made from it, and to the courses of rollback,
//! recover and prune.
//!
//! Whatever a host says: no panic, no plan that breaks its own rules, nothing removed that is live or was before it, and
//! nothing switched to that does not count.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use cutover::manifest::{Entry, Manifest, Sha};
use cutover::path::RelPath;
use cutover::plan::{
    Course, KEEP_MIN, Plan, Refusal, Rollback, Step, Wish, check, complete_releases, live_id, plan, previous,
    prune, recover, rollback, rollback_target,
};
use cutover::release::ReleaseId;
use cutover::remote::frame::Frames;
use cutover::remote::observed::{Current, Observed, parse};
use cutover::remote::steps::{Names, phase};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let events = Frames::new("c0ffee").feed(data).expect("far from too much");
    let Ok(host) = parse(&events) else { return };
    for full in [false, true] {
        let wish = Wish {
            now: id("20260102030405"),
            used: vec![id("20260102030404")],
            full,
            keep: 3,
            skip_unreadable: full,
        };
        match plan(&host, &source(), &wish) {
            Ok(plan) => judge(&host, &wish, &plan),
            Err(Refusal::Steps(defect)) => panic!("not the host's fault: {defect}"),
            Err(refusal) => assert!(is_one_line(&refusal.to_string())),
        }
    }
    recovered(&host);
    (KEEP_MIN..5).for_each(|keep| pruned(&host, keep));
    // None, those there are, and one that is not.
    let all = host.releases.keys().chain(&host.seals).take(8).cloned().chain([id("20770101000000")]);
    for wanted in all.map(Some).chain([None]) {
        rolled_back(&host, wanted.as_ref());
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
    let gone = removed(host, plan.steps());
    assert!(!gone.contains(new), "{new} is removed, and will be live");
    // Also where the host names a base that its own listing says is not live, or is not there at all.
    assert!(plan.base().is_none_or(|base| !gone.contains(base)), "the base is removed");
    changes(plan);
    let text = plan.to_string();
    assert!(text.lines().all(is_one_line), "control characters in {text:?}");
    scripted(plan.course());
}

/// What a course removes: only what may be.
fn removed<'a>(host: &Observed, steps: &'a [Step]) -> BTreeSet<&'a ReleaseId> {
    let live = match &host.current {
        Current::Link { identity, .. } => identity.as_ref(),
        _ => None,
    };
    // A host may contradict itself: then neither goes.
    let is_live = |id: &ReleaseId| {
        (live.is_some() && host.releases.get(id) == live) || live_id(host).is_some_and(|live| live == id)
    };
    let mut gone = BTreeSet::new();
    for step in steps {
        if let Step::Sweep(ids) | Step::Prune(ids) = step {
            for id in ids {
                assert!(!is_live(id), "{id} is removed, and is live");
                assert!(gone.insert(id), "{id} is removed twice");
            }
        }
        match step {
            Step::Sweep(ids) => {
                let dead = |id| host.unfinished.contains(id) && !complete_releases(host).contains(id);
                assert!(ids.iter().all(dead), "only what was noted as unfinished, and is, is swept");
            }
            Step::Prune(ids) => {
                let counts = |id| complete_releases(host).contains(id);
                assert!(ids.iter().all(counts), "only what is sealed and was live is pruned");
            }
            Step::SweepPrivate(names) => {
                let last = |name: &[u8]| match name.strip_prefix(b"staging/") {
                    Some(name) => !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/'),
                    None => name.starts_with(b"next.") && !name.contains(&b'/'),
                };
                assert!(names.iter().all(|name| last(name)), "{names:?} leads elsewhere");
            }
            _ => {}
        }
    }
    let kept = previous(host).filter(|id| complete_releases(host).contains(id));
    let switched = steps.contains(&Step::ReportLive);
    assert!(switched || kept.is_none_or(|id| !gone.contains(&id)), "what was live before is removed");
    gone
}

/// What is live stays live: it is only made durable.
fn stays(host: &Observed, course: &Course) {
    assert_eq!(check(course.steps()), Ok(()));
    let live = live_id(host);
    for step in course.steps() {
        match step {
            Step::Rename => assert!(course.release() == live && live.is_some()),
            Step::Stay(id) | Step::Recover(id) => assert_eq!(Some(id), live),
            Step::ReportLive | Step::Copy(_) | Step::Upload | Step::Put { .. } | Step::Seal => {
                panic!("{step} has no place here")
            }
            _ => {}
        }
    }
    if course.steps().contains(&Step::Rename) {
        assert!(course.steps().iter().any(|step| matches!(step, Step::Stay(_))), "something is switched");
    }
    scripted(course);
}

fn recovered(host: &Observed) {
    match recover(host) {
        Ok(Some(course)) => {
            stays(host, &course);
            removed(host, course.steps());
            assert!(!course.steps().iter().any(|step| matches!(step, Step::Prune(_))));
        }
        Ok(None) => {}
        Err(refusal) => assert_eq!(refusal, Refusal::CurrentNotLink),
    }
}

fn pruned(host: &Observed, keep: usize) {
    match prune(host, keep) {
        Ok(Some(course)) => {
            stays(host, &course);
            let gone = removed(host, course.steps());
            let first = |is: &dyn Fn(&Step) -> bool| course.steps().iter().position(is);
            let durable = first(&|step| *step == Step::SyncCurrent);
            assert!(durable.is_some() && durable < first(&|step| matches!(step, Step::Prune(_))));
            let complete = complete_releases(host);
            // A host that calls something live which it does not list has one less to count.
            let listed = usize::from(live_id(host).is_some_and(|live| complete.contains(live)));
            let left = complete.iter().filter(|id| !gone.contains(id)).count();
            assert!(left + 1 - listed >= keep.min(complete.len()), "{left} of {keep} are left");
        }
        Ok(None) => {}
        Err(refusal) => assert!(matches!(refusal, Refusal::NothingLive | Refusal::CurrentNotLink)),
    }
}

fn rolled_back(host: &Observed, wanted: Option<&ReleaseId>) {
    match rollback_target(host, wanted) {
        Ok(Rollback::To(to)) => {
            assert!(complete_releases(host).contains(&to), "{to} does not count");
            assert!(live_id(host) != Some(&to));
            assert!(wanted.map_or(live_id(host).is_some_and(|live| to < *live), |wanted| *wanted == to));
            let course = rollback(host, &to).expect("a course");
            assert_eq!(check(course.steps()), Ok(()));
            assert_eq!(course.release(), Some(&to));
            assert!(course.steps().contains(&Step::Check(to)), "it was compared");
            let removes =
                |step: &Step| matches!(step, Step::Sweep(_) | Step::Prune(_) | Step::SweepPrivate(_));
            assert!(!course.steps().iter().any(removes), "a rollback removes nothing");
            scripted(&course);
        }
        Ok(Rollback::Already(id)) => assert_eq!(Some(&id), live_id(host)),
        Err(Refusal::Steps(defect)) => panic!("not the host's fault: {defect}"),
        Err(refusal) => assert!(is_one_line(&refusal.to_string())),
    }
}

fn scripted(course: &Course) {
    let names = Names {
        link: ".cutover/next.20260102030405.c0ffee".to_owned(),
        at: "2026-01-02T03:04:05Z".to_owned(),
        by: "fuzz".to_owned(),
    };
    assert!(!phase(course, course.steps(), &names).contains(&0), "no script holds a NUL");
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
