//! What runs that died have left, and the steps that finish or undo it. Every command that changes something begins
//! with them, so that no state needs a command of its own. Pure.

use std::collections::BTreeSet;

use super::Step;
use super::retention::{complete_releases, is_live};
use crate::release::ReleaseId;
use crate::remote::observed::Observed;

/// The steps to begin with, and the releases whose notes can be removed once those steps are durable.
///
/// - The release that `current` resolves to has no marker: its run died after the rename. It is *finished*: marked.
/// - A release is noted as unfinished, and is neither live nor whole: its run died before. It is *undone*: removed.
/// - Uploads and temporary links: removed.
pub fn leftovers(host: &Observed) -> (Vec<Step>, Vec<ReleaseId>) {
    let complete = complete_releases(host);
    let mut steps = Vec::new();
    if let Some(base) = host.base.as_ref().filter(|b| b.seal.is_some() && !host.markers.contains(&b.id)) {
        steps.push(Step::Recover(base.id.clone()));
    }
    let private = private(host);
    steps.extend((!private.is_empty()).then_some(Step::SweepPrivate(private)));
    // Sealed and marked is whole, note or no note: the note is older than a power loss.
    let is_whole =
        |id: &&ReleaseId| complete.contains(*id) || (host.seals.contains(*id) && host.markers.contains(*id));
    let (whole, rest): (BTreeSet<_>, BTreeSet<_>) = host.unfinished.iter().partition(is_whole);
    let swept: Vec<ReleaseId> = rest.into_iter().filter(|id| !is_live(host, id)).cloned().collect();
    steps.extend((!swept.is_empty()).then_some(Step::Sweep(swept)));
    (steps, whole.into_iter().cloned().collect())
}

/// Staging folders and temporary links, as names in `.cutover`.
fn private(host: &Observed) -> Vec<Vec<u8>> {
    let staging = host.staging.iter().map(|n| [b"staging/", n.as_slice()].concat());
    staging.chain(host.temporary_links.iter().cloned()).collect()
}
