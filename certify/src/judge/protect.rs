//! Which releases have to stay, and for how long.
//!
//! The release that was live before a cutover survives the whole deploy that replaces it; with a declared retention
//! the newest others stay too, until a later cutover pushes them out. What `current` resolves to is not listed here:
//! `current_complete` and `durable_ack` speak about it.

use simfs::{Seq, Window};

use super::history::{Cutover, History};

/// A release and the crash points at which it has to be complete where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Protected {
    pub(crate) release: usize,
    pub(crate) window: Window,
}

/// The releases that a retention of `keep` holds after the cutovers up to `at`, newest first.
///
/// After a rollback it can be told in two ways which are the newest: those that went live last, or those that were made
/// last. What is meant, a tool does not say, so only what stays either way has to. The two are the same if there was no
/// rollback.
pub(crate) fn kept(history: &History, cutover: usize, keep: usize) -> Vec<usize> {
    let last = history.cutovers[cutover];
    let went_live = |release: &usize| {
        history.cutovers[..=cutover].iter().rev().any(|c| c.to == *release || c.from == Some(*release))
    };
    let made = history.releases.partition_point(|release| release.born <= last.at);
    let by_age = first(last, (0..made).rev().filter(went_live), keep);
    let mut kept = by_last_time(history, cutover, keep);
    kept.retain(|release| by_age.contains(release));
    kept
}

/// How many releases a retention of `keep` holds after the cutovers up to `at`, whichever they are.
pub(crate) fn kept_count(history: &History, cutover: usize, keep: usize) -> usize {
    by_last_time(history, cutover, keep).len()
}

/// The newest by the last time each went live.
fn by_last_time(history: &History, cutover: usize, keep: usize) -> Vec<usize> {
    let earlier = history.cutovers[..cutover].iter().rev().map(|before| before.to);
    first(history.cutovers[cutover], earlier, keep)
}

/// What is live, what was before, and then the first of the others.
fn first(last: Cutover, others: impl Iterator<Item = usize>, keep: usize) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    for release in [last.to].into_iter().chain(last.from).chain(others) {
        if kept.len() >= keep {
            break;
        }
        if !kept.contains(&release) {
            kept.push(release);
        }
    }
    kept
}

/// All protected releases of a history. `last` is the last op of the trace.
pub(crate) fn protected(history: &History, keep: Option<usize>, last: Seq) -> Vec<Protected> {
    let mut all = Vec::new();
    let mut add = |release: usize, lo: Seq, hi: Seq| {
        // What was never acknowledged was never promised.
        let Some(acked) = history.releases[release].acked else { return };
        let window = Window { lo: lo.max(acked), hi };
        if !window.is_empty() {
            all.push(Protected { release, window });
        }
    };
    for (at, cutover) in history.cutovers.iter().enumerate() {
        let next = history.cutovers.get(at + 1).map_or(Some(last), |next| next.at.checked_sub(1));
        if let (Some(from), Some(deploy)) = (cutover.from, cutover.deploy) {
            let deploy = &history.deploys[deploy];
            add(from, deploy.begin, deploy.end.map_or(deploy.until, |end| end.at));
        }
        // Before this history, one cutover followed another at once.
        let Some(next) = next else { continue };
        for release in kept(history, at, keep.unwrap_or(0)) {
            if release != cutover.to {
                add(release, cutover.at, next);
            }
        }
    }
    all
}
