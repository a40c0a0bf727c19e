//! The courses of `rollback`, `recover` and `prune`: the tail of a deploy, without a new release. Pure.

use super::leftovers::leftovers;
use super::retention::{complete_releases, live_id, previous, prunable};
use super::{Course, Refusal, Step, StepsError, barrier, stay, taken};
use crate::history::{Event, Record};
use crate::release::ReleaseId;
use crate::remote::observed::{Current, Observed};

/// Where a rollback goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollback {
    /// To this release, once it was compared with its seal.
    To(ReleaseId),
    /// This one is live already.
    Already(ReleaseId),
}

/// Chooses the release to roll back to: `wanted`, or the newest complete one that is older than the live one.
///
/// # Errors
/// If it is not there, or does not count.
pub fn rollback_target(host: &Observed, wanted: Option<&ReleaseId>) -> Result<Rollback, Refusal> {
    if host.current == Current::Other {
        return Err(Refusal::CurrentNotLink);
    }
    let complete = complete_releases(host);
    let live = live_id(host);
    let Some(id) = wanted else {
        let Some(live) = live else {
            let why = "`current` does not lead to a release, so none is older; name the one to switch to";
            return Err(Refusal::NothingOlder(why.to_owned()));
        };
        let older = complete.range(..live).next_back().cloned();
        return older
            .map(Rollback::To)
            .ok_or_else(|| Refusal::NothingOlder(format!("there is no complete release older than {live}")));
    };
    if !host.releases.contains_key(id) {
        return Err(Refusal::NoSuchRelease(id.clone()));
    }
    if !complete.contains(id) {
        let why = match (host.unfinished.contains(id), host.seals.contains(id)) {
            (true, _) => "is unfinished; the next deploy or `cutover recover` removes it",
            (false, true) => "has never been live: its seal has no marker",
            (false, false) => "has no seal: Cutover did not make it, or did not finish it",
        };
        return Err(Refusal::NotComplete { id: id.clone(), why });
    }
    if live == Some(id) { Ok(Rollback::Already(id.clone())) } else { Ok(Rollback::To(id.clone())) }
}

/// Switches to `id`, which was compared with its seal. Removes nothing.
///
/// # Errors
/// If the steps break a rule: a defect.
pub fn rollback(host: &Observed, id: &ReleaseId) -> Result<Course, StepsError> {
    // What is live counts from now on, or the next run would sweep it.
    let (first, _) = leftovers(host);
    let mut steps: Vec<Step> = first.into_iter().filter(|s| matches!(s, Step::Recover(_))).collect();
    steps.extend([Step::Check(id.clone()), Step::Link, Step::Barrier(barrier(host)), Step::Rename]);
    steps.extend([Step::SyncCurrent, Step::ReportLive, Step::Mark]);
    let (newest, was) = (newest(host, id), live_id(host).cloned());
    steps.push(Step::Log(Record { newest, event: Event::Rollback, live: Some(id.clone()), was }));
    Course::new(Some(id.clone()), steps)
}

/// Stays with `id`, which is live, and makes that durable for certain. Removes nothing.
///
/// # Errors
/// If the steps break a rule: a defect.
pub fn stay_with(host: &Observed, id: &ReleaseId) -> Result<Course, StepsError> {
    Course::new(Some(id.clone()), stay(id, barrier(host)).into())
}

/// Finishes or undoes what runs that died have left. `None` if nothing has to be done.
///
/// # Errors
/// If nothing may be done on a host in this state.
pub fn recover(host: &Observed) -> Result<Option<Course>, Refusal> {
    if host.current == Current::Other {
        return Err(Refusal::CurrentNotLink);
    }
    let (mut steps, forgotten) = leftovers(host);
    let swept = steps.iter().find_map(|s| if let Step::Sweep(ids) = s { Some(ids.clone()) } else { None });
    let live = sealed_live(host);
    // Only the last line of a log can be missing or old: its run died before it could write it.
    let unlogged = live.is_some() && host.last_record.as_ref().is_none_or(|last| last.live.as_ref() != live);
    let found = !steps.is_empty() || !forgotten.is_empty() || unlogged;
    if let Some(id) = live {
        steps.extend(stay(id, barrier(host)));
    }
    steps.extend((!forgotten.is_empty()).then_some(Step::Forget(forgotten)));
    if found && let Some(any) = live.cloned().or_else(|| taken(host).max()) {
        let event = Event::Recover { swept: swept.unwrap_or_default() };
        let (newest, was) = (newest(host, &any), previous(host));
        steps.push(Step::Log(Record { newest, event, live: live_id(host).cloned(), was }));
    }
    if steps.is_empty() { Ok(None) } else { Ok(Some(Course::new(live.cloned(), steps)?)) }
}

/// Removes all releases but `keep`. `None` if there is none to remove.
///
/// # Errors
/// If nothing may be done on a host in this state.
pub fn prune(host: &Observed, keep: usize) -> Result<Option<Course>, Refusal> {
    if host.current == Current::Other {
        return Err(Refusal::CurrentNotLink);
    }
    let id = sealed_live(host).ok_or(Refusal::NothingLive)?;
    let was = previous(host);
    let gone = prunable(host, keep, id, was.as_ref());
    if gone.is_empty() {
        return Ok(None);
    }
    let (mut steps, forgotten) = leftovers(host);
    steps.extend(stay(id, barrier(host)));
    steps.extend((!forgotten.is_empty()).then_some(Step::Forget(forgotten)));
    steps.push(Step::Prune(gone.clone()));
    let (newest, event) = (newest(host, id), Event::Prune { removed: gone });
    steps.push(Step::Log(Record { newest, event, live: Some(id.clone()), was }));
    Ok(Some(Course::new(Some(id.clone()), steps)?))
}

/// What is live, if it is one of ours and whole.
fn sealed_live(host: &Observed) -> Option<&ReleaseId> {
    host.base.as_ref().filter(|base| base.seal.is_some()).map(|base| &base.id)
}

fn newest(host: &Observed, at_least: &ReleaseId) -> ReleaseId {
    taken(host).max().filter(|newest| newest > at_least).unwrap_or_else(|| at_least.clone())
}
