//! What was promised about `current`, looked at on the trees of real file systems: without the certifier, and without a
//! profile.

use std::collections::BTreeMap;

use cutover_certify::judge::Promise;
use simfs::{MarkKind, Seq, View};

use crate::allowed::{Point, State};
use crate::deploys::Deploys;
use crate::tree::{Node, Tree, joined, shown};

/// The promises that are looked at.
pub(crate) const PROMISES: [Promise; 2] = [Promise::CurrentComplete, Promise::DurableAck];

/// A release by path, as its deploy left it.
type Release = BTreeMap<String, Node>;

/// What each deploy of a trace promised.
pub(crate) struct Promised {
    deploy_path: String,
    mount: String,
    releases: Vec<Release>,
    /// After which op each was reported as live.
    acknowledged: Vec<Option<Seq>>,
}

impl Promised {
    /// By what was on the disk when each deploy had ended.
    pub(crate) fn new(deploys: &Deploys) -> Self {
        let Deploys { trace, scenario, .. } = deploys;
        let path = |names: &[simfs::Name]| {
            names.iter().fold(String::new(), |path, name| joined(&path, &shown(name)))
        };
        let mut promised = Self {
            deploy_path: path(&scenario.deploy_path),
            mount: path(&scenario.mount),
            releases: Vec::new(),
            acknowledged: Vec::new(),
        };
        let mut acknowledged = None;
        for mark in trace.marks() {
            match mark.kind {
                MarkKind::Ack { .. } => acknowledged = Some(mark.after),
                MarkKind::End { .. } => {
                    let tree =
                        State::of(View::live(trace, mark.after)).map(|state| state.tree).unwrap_or_default();
                    promised.releases.push(promised.release(&tree).unwrap_or_default());
                    promised.acknowledged.push(acknowledged.take());
                }
                _ => {}
            }
        }
        promised
    }

    /// What `current` leads to.
    fn release(&self, tree: &Tree) -> Option<Release> {
        let mut at = joined(&self.deploy_path, "current");
        if let Node::Link { text } = tree.nodes.get(&at)? {
            let text = shown(text);
            at = match text.strip_prefix('/') {
                Some(text) => text.strip_prefix(&*self.mount)?.trim_start_matches('/').to_owned(),
                None => joined(&self.deploy_path, &text),
            };
        }
        let at = at.trim_end_matches('/');
        tree.nodes.get(at)?;
        let below = format!("{at}/");
        let inside = tree.nodes.iter().filter_map(|(path, node)| {
            let path = if path == at { "" } else { path.strip_prefix(&*below)? };
            Some((path.to_owned(), node.clone()))
        });
        Some(inside.collect())
    }

    /// Which of [`PROMISES`] a tree breaks that was found after the power went there.
    pub(crate) fn broken(&self, tree: &Tree, point: Point) -> [bool; 2] {
        let has_current = tree.nodes.contains_key(&joined(&self.deploy_path, "current"));
        let release = self.release(tree);
        let found = release.and_then(|release| self.releases.iter().rposition(|whole| *whole == release));
        let acknowledged = self.acknowledged.iter().rposition(|after| {
            // A sync call under way has not returned, so nothing that came after it was said.
            after.is_some_and(|after| after < point.k || (after == point.k && !point.under_way))
        });
        [has_current && found.is_none(), acknowledged.is_some() && found < acknowledged]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploys;

    /// Each deploy has the disk as it left it, and what a power loss has spoiled of that.
    #[test]
    fn what_is_broken_is_seen() {
        let deploys = deploys::all().iter().find(|deploys| deploys.name == "correct").unwrap();
        let promised = Promised::new(deploys);
        let ends: Vec<Seq> = deploys
            .trace
            .marks()
            .iter()
            .filter(|mark| matches!(mark.kind, MarkKind::End { .. }))
            .map(|mark| mark.after)
            .collect();
        let tree = |k| State::of(View::live(&deploys.trace, k)).unwrap().tree;
        let at = |k| Point { k, under_way: false };
        assert_eq!(promised.broken(&tree(0), at(0)), [false, false]);
        assert_eq!(promised.broken(&tree(0), at(ends[0])), [false, true]);
        assert_eq!(promised.broken(&tree(ends[0]), at(ends[1])), [false, true]);
        assert_eq!(promised.broken(&tree(ends[1]), at(ends[1])), [false, false]);
        // The last sync call of the deploy has not returned.
        assert_eq!(promised.broken(&tree(ends[0]), Point { k: ends[1], under_way: true }), [false, false]);
        let mut spoiled = tree(ends[1]);
        let (release, _) =
            spoiled.nodes.iter().rfind(|(path, _)| path.ends_with("public/index.html")).unwrap();
        let release = release.clone();
        spoiled.nodes.insert(release, Node::File { mode: 0o644, bytes: Vec::new() });
        assert_eq!(promised.broken(&spoiled, at(ends[1])), [true, true]);
        let mut absent = tree(ends[1]);
        absent.nodes.retain(|path, _| !path.ends_with("/current"));
        assert_eq!(promised.broken(&absent, at(ends[1])), [false, true]);
    }
}
