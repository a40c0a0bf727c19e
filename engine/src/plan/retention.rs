//! Which releases count, and which remain. Pure.
//!
//! Kept are: what `current` resolves to, what it resolved to just before that, then the newest sealed ones, by id.
//! Compared by device and inode, never by the link's text. Only what Cutover made and finished is ever removed here.

use std::collections::BTreeSet;

use crate::release::ReleaseId;
use crate::remote::observed::{Current, Observed};

/// The release that `current` resolves to, sealed or not; `None` if it resolves to something else.
pub fn live_id(host: &Observed) -> Option<&ReleaseId> {
    host.base.as_ref().map(|base| &base.id)
}

/// What `current` resolved to just before what it resolves to now.
///
/// The last line of the log knows both. If it speaks of another release as live, a run died between its cutover and
/// its line: then what that line calls live is what was live before.
pub fn previous(host: &Observed) -> Option<ReleaseId> {
    let live = live_id(host)?;
    let last = host.last_record.as_ref()?;
    let was = if last.live.as_ref() == Some(live) { &last.was } else { &last.live };
    // What a killed prune has begun to remove is nothing to go back to.
    let is_there = |id: &ReleaseId| {
        host.releases.contains_key(id)
            && (!host.unfinished.contains(id) || complete_releases(host).contains(id))
    };
    was.clone().filter(|id| id != live && is_there(id))
}

/// Releases that count: ours, sealed and marked, or sealed and live.
pub fn complete_releases(host: &Observed) -> BTreeSet<ReleaseId> {
    let live = host.base.as_ref().filter(|b| b.seal.is_some()).map(|b| &b.id);
    let counts =
        |id: &&ReleaseId| host.seals.contains(*id) && (host.markers.contains(*id) || Some(*id) == live);
    host.releases.keys().filter(counts).cloned().collect()
}

/// Whether `current` resolves to a release: by device and inode, and by what the host calls the base. A host that
/// contradicts itself must not lose what is live.
pub(super) fn is_live(host: &Observed, id: &ReleaseId) -> bool {
    let live = if let Current::Link { identity, .. } = &host.current { identity.as_ref() } else { None };
    (live.is_some() && host.releases.get(id) == live) || live_id(host) == Some(id)
}

/// What goes, when `live` is live (or will be) and `was` was before it: all but these, what is live now, and then the
/// newest, `keep` in all.
pub(super) fn prunable(
    host: &Observed,
    keep: usize,
    live: &ReleaseId,
    was: Option<&ReleaseId>,
) -> Vec<ReleaseId> {
    let complete = complete_releases(host);
    let stays = |id: &ReleaseId| id == live || Some(id) == was || is_live(host, id);
    // A release of another tool stays too, but does not count.
    let counted = 1 + complete.iter().filter(|id| stays(id) && *id != live).count();
    complete.iter().rev().filter(|id| !stays(id)).skip(keep.saturating_sub(counted)).cloned().collect()
}
