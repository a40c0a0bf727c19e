//! The drop-down rule: how `shared/` is linked into a release.
//!
//! Everything under `shared/` appears in the release at the same path. Decided from the *application's own tree*, never
//! from a copied folder, where last time's links already are:
//! - the application has nothing at that path: link it;
//! - the application has a directory there: descend, if the shared entry is a directory too, or a link to one: what
//!   lies behind it is the user's data;
//! - the application has a file or a link there: the application wins, and the plan says so.
//!
//! Links are relative, so the deploy path can be moved or reached through an alias.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::manifest::{Entry, Manifest};
use crate::path::RelPath;

/// What is under `shared/`, as far as the rule needs it: path, and whether it is a directory. A link to one is none,
/// but has what lies behind it below its path.
pub type SharedTree = BTreeMap<RelPath, bool>;

/// What the rule decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedLinks {
    /// Links to make in the release, with their text.
    pub links: BTreeMap<RelPath, Vec<u8>>,
    /// Shared entries hidden by something of the application.
    pub hidden: BTreeSet<RelPath>,
    /// Directories that are both: files newly written beside the links stay in the release.
    pub dropped_into: BTreeSet<RelPath>,
}

/// Applies the rule to the application's tree.
pub fn links(app: &Manifest, shared: &SharedTree) -> SharedLinks {
    let mut out = SharedLinks::default();
    for (path, is_dir) in shared {
        let Some(parent) = path.parent() else { continue };
        // Only what hangs in a directory of the application (or in the root) is an entry to decide about; below a
        // linked directory everything is there already.
        if !app.is_dir(&parent) {
            continue;
        }
        match app.get(path) {
            None => {
                out.links.insert(path.clone(), link_text(path));
            }
            Some(Entry::Dir { .. }) if *is_dir || has_below(shared, path) => {
                out.dropped_into.insert(path.clone());
            }
            Some(_) => {
                out.hidden.insert(path.clone());
            }
        }
    }
    out
}

/// Whether something is known below `path`, as below a link to a directory that holds something.
fn has_below(shared: &SharedTree, path: &RelPath) -> bool {
    // Nothing sorts between a path and what is below it but names that start with that path's.
    let start = |p: &RelPath| p.as_bytes().starts_with(path.as_bytes());
    let after = shared.range((Bound::Excluded(path), Bound::Unbounded));
    after
        .map(|(p, _)| p)
        .take_while(|p| start(p))
        .any(|p| p.as_bytes().get(path.as_bytes().len()) == Some(&b'/'))
}

/// From `releases/<id>/a/b` to `shared/a/b`: two levels for `releases/<id>`, one more for each folder above the link.
fn link_text(path: &RelPath) -> Vec<u8> {
    let mut text = b"../".repeat(path.depth() + 1);
    text.extend_from_slice(b"shared/");
    text.extend_from_slice(path.as_bytes());
    text
}
