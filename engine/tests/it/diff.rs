//! What is done to the copy of the base, against a naive model of doing it.

use std::collections::BTreeMap;

use cutover::diff::against;
use cutover::manifest::{Entry, Manifest};
use cutover::path::RelPath;
use proptest::prelude::*;

use crate::manifest::any_manifest;
use crate::plan::seen;

/// Carries the changes out on a map.
fn apply(base: &Manifest, new: &Manifest) -> BTreeMap<RelPath, Entry> {
    let changes = against(new, base, &seen(base)).expect("a base");
    let mut tree = base.entries().clone();
    let below = |p: &RelPath, top: &RelPath| p == top || p.ancestors().contains(top);
    for gone in changes.remove.iter().chain(&changes.put) {
        let parent = gone.parent().expect("never the root");
        assert!(changes.guards.contains(&parent), "{gone:?} is in a guarded folder");
        assert!(base.is_dir(&parent) && new.is_dir(&parent), "whose folder is one before and after");
        tree.retain(|p, _| !below(p, gone));
    }
    for path in &changes.upload {
        tree.insert(path.clone(), changes.manifest.get(path).expect("in the manifest").clone());
    }
    for path in &changes.dirs {
        tree.insert(path.clone(), changes.manifest.get(path).expect("in the manifest").clone());
    }
    assert_eq!(&tree, changes.manifest.entries(), "the copy is what the seal will say");
    tree
}

/// Content without times.
fn content(tree: &BTreeMap<RelPath, Entry>) -> BTreeMap<RelPath, Entry> {
    let mut out = tree.clone();
    for entry in out.values_mut() {
        if let Entry::Dir { mtime, .. } | Entry::File { mtime, .. } = entry {
            *mtime = 0;
        }
    }
    out
}

proptest! {
    #[test]
    fn the_copy_becomes_the_new_tree(base in any_small(), new in any_small()) {
        prop_assert_eq!(content(&apply(&base, &new)), content(new.entries()));
    }

    #[test]
    fn nothing_changes_nothing(base in any_small()) {
        prop_assert!(against(&base, &base, &seen(&base)).expect("a base").is_empty());
    }
}

/// Few names, so that trees meet; times that `stat` can show.
fn any_small() -> impl Strategy<Value = Manifest> {
    any_manifest().prop_map(|m| {
        let mut out = BTreeMap::new();
        for (path, entry) in m.entries() {
            let short: Vec<Vec<u8>> = path
                .as_bytes()
                .split(|b| *b == b'/')
                .map(|c| c.iter().take(1).map(|b| b'a' + b % 3).collect())
                .collect();
            let Some(path) = RelPath::new(short.join(&b'/')) else { continue };
            let mut entry = entry.clone();
            if let Entry::Dir { mtime, .. } | Entry::File { mtime, .. } = &mut entry {
                *mtime %= 1 << 31;
            }
            if path.is_root() {
                entry = Entry::Dir { mode: 0o755, mtime: 1 };
            }
            let fits = path.ancestors().iter().all(|a| matches!(out.get(a), Some(Entry::Dir { .. })));
            if fits && !matches!(out.get(&path), Some(Entry::Dir { .. })) {
                out.insert(path, entry);
            }
        }
        Manifest::new(out).expect("a tree")
    })
}
