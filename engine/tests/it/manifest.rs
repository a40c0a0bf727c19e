//! The seal: what is written is read, and nothing else is.

use std::collections::BTreeMap;

use cutover::manifest::{Entry, Manifest, ManifestError, Sha, parse};
use cutover::path::RelPath;
use proptest::prelude::*;

fn dir() -> Entry {
    Entry::Dir { mode: 0o755, mtime: 1_700_000_000 }
}

/// A manifest of arbitrary names; parents are added as directories.
pub(crate) fn any_manifest() -> impl Strategy<Value = Manifest> {
    let name = prop::collection::vec(1_u8..=255, 1..12)
        .prop_map(|b| b.into_iter().filter(|b| *b != b'/').collect::<Vec<u8>>());
    let path = prop::collection::vec(name, 1..4);
    let entry = prop_oneof![
        (0_u32..=0o7777, any::<u64>()).prop_map(|(mode, mtime)| Entry::Dir { mode, mtime }),
        (0_u32..=0o7777, any::<u64>(), any::<u64>(), any::<[u8; 32]>())
            .prop_map(|(mode, mtime, size, sha)| Entry::File { mode, mtime, size, sha: Sha(sha) }),
        prop::collection::vec(1_u8..=255, 1..40).prop_map(|target| Entry::Link { target }),
    ];
    prop::collection::vec((path, entry), 0..30).prop_map(|all| {
        let mut entries = BTreeMap::from([(RelPath::root(), dir())]);
        for (names, entry) in all {
            let Some(path) = RelPath::new(names.join(&b'/')) else { continue };
            let fits =
                path.ancestors().iter().all(|a| matches!(entries.get(a), None | Some(Entry::Dir { .. })));
            if path.is_root() || !fits || entries.contains_key(&path) {
                continue;
            }
            for above in path.ancestors() {
                entries.entry(above).or_insert_with(dir);
            }
            entries.insert(path, entry);
        }
        Manifest::new(entries).expect("parents are there")
    })
}

proptest! {
    #[test]
    fn round_trip(manifest in any_manifest()) {
        let bytes = manifest.to_bytes();
        prop_assert_eq!(parse(&bytes), Ok(manifest));
    }

    #[test]
    fn any_other_byte_is_noticed(manifest in any_manifest(), at in any::<prop::sample::Index>(), flip in 1_u8..=255) {
        let mut bytes = manifest.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert_eq!(parse(&bytes), Err(ManifestError::Digest));
    }

    #[test]
    fn a_part_is_noticed(manifest in any_manifest(), at in any::<prop::sample::Index>()) {
        let bytes = manifest.to_bytes();
        let part = &bytes[..at.index(bytes.len())];
        prop_assert_eq!(parse(part), Err(ManifestError::Digest));
    }

    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    /// Behind a digest that fits, too.
    #[test]
    fn one_tree_has_one_form(lines in "([dfl] [0-7]{1,4} ?[0-9]{0,3} ?[a-z./%0-9]{0,6} ?[a-z.]{0,3}\n){0,4}") {
        let body = format!("cutover-manifest 1\nd 755 0 .\n{lines}");
        let bytes = format!("{body}sha256 {}\n", Sha::of(body.as_bytes())).into_bytes();
        if let Ok(manifest) = parse(&bytes) {
            prop_assert_eq!(manifest.to_bytes(), bytes);
        }
    }
}

#[test]
fn its_form() {
    let path = |p: &str| RelPath::new(p).expect("path");
    let manifest = Manifest::new(BTreeMap::from([
        (RelPath::root(), dir()),
        (path("a b%\n"), Entry::File { mode: 0o4755, mtime: 7, size: 0, sha: Sha::of(b"") }),
        (path("logs"), Entry::Link { target: b"../../shared/logs".to_vec() }),
    ]))
    .expect("a tree");
    insta::assert_snapshot!(String::from_utf8_lossy(&manifest.to_bytes()), @r"
    cutover-manifest 1
    d 755 1700000000 .
    f 4755 7 0 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 a%20b%25%0A
    l logs ../../shared/logs
    sha256 680ce3c2b7fa6d46ac6e73b0ab67142d1786f7f2f3625a6b086f6b8481e9922b
    ");
}

#[test]
fn no_way_out_of_the_tree() {
    for bad in ["/etc", "..", "a/../b", "a//b", "./a", "a/", "a\0b", "."] {
        assert_eq!(RelPath::new(bad), None, "{bad}");
    }
    let orphan = BTreeMap::from([(RelPath::root(), dir()), (RelPath::new("a/b").expect("path"), dir())]);
    assert!(matches!(Manifest::new(orphan), Err(ManifestError::Orphan(_))));
    assert!(Manifest::new(BTreeMap::new()).is_err());
}
