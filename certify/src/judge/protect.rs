//! Which releases have to stay, and for how long.
//!
//! The release that was live before a cutover survives the whole deploy that replaces it; with a declared retention
//! the newest others stay too, until a later cutover pushes them out. What `current` resolves to is not listed here:
//! `current_complete` and `durable_ack` speak about it.

use simfs::{Seq, Window};

use super::history::History;

/// A release and the crash points at which it has to be complete where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Protected {
    pub(crate) release: usize,
    pub(crate) window: Window,
}

/// The releases that a retention of `keep` holds after the cutovers up to `at`, newest first.
pub(crate) fn kept(history: &History, cutover: usize, keep: usize) -> Vec<usize> {
    let last = history.cutovers[cutover];
    // The newest by the last time each went live.
    let earlier = history.cutovers[..cutover].iter().rev().map(|before| before.to);
    let mut kept: Vec<usize> = Vec::new();
    for release in [last.to].into_iter().chain(last.from).chain(earlier) {
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
