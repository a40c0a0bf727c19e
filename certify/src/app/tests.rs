//! Everything that `app.rs` claims, looked for in the trees and on a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::tree::Tree;
use super::{Content, RELEASES, SharedEntry, odd_names, releases, shared_data, write_release};

/// One entry as a disk shows it.
type Seen = (Content, i64);

fn trees() -> Vec<Tree> {
    (1..=RELEASES).map(releases::tree).collect()
}

fn look(root: &Path, below: &Path, seen: &mut BTreeMap<Vec<u8>, Seen>) {
    for entry in std::fs::read_dir(root.join(below)).unwrap() {
        let path = below.join(entry.unwrap().file_name());
        let at = root.join(&path);
        let meta = at.symlink_metadata().unwrap();
        let mode = meta.mode() & 0o7777;
        let content = if meta.is_symlink() {
            Content::Symlink { target: at.read_link().unwrap().into_os_string().into_vec() }
        } else if meta.is_dir() {
            look(root, &path, seen);
            Content::Directory { mode }
        } else {
            Content::File { bytes: std::fs::read(&at).unwrap(), mode }
        };
        seen.insert(path.into_os_string().into_vec(), (content, meta.mtime()));
    }
}

fn type_of(content: &Content) -> &'static str {
    match content {
        Content::File { .. } => "file",
        Content::Directory { .. } => "directory",
        Content::Symlink { .. } => "link",
    }
}

/// What the pair of contents is an example of.
fn changes(old: &Content, new: &Content) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut add = |what: &str| found.insert(what.to_owned());
    match (old, new) {
        (Content::File { bytes: old, mode: old_mode }, Content::File { bytes: new, mode: new_mode }) => {
            match (old == new, old.len().cmp(&new.len())) {
                (true, _) if old_mode != new_mode => add("file: mode alone"),
                (true, _) => add("file: same"),
                (false, std::cmp::Ordering::Equal) => add("file: equal size"),
                (false, std::cmp::Ordering::Less) => add("file: grows"),
                (false, std::cmp::Ordering::Greater) => add("file: shrinks"),
            };
            if new.is_empty() && !old.is_empty() {
                add("file: becomes empty");
            }
            if old.is_empty() && !new.is_empty() {
                add("file: was empty");
            }
            if old.len() == 1 << 20 && old != new {
                add("file: large one changes");
            }
        }
        (Content::Directory { mode: old }, Content::Directory { mode: new }) if old != new => {
            add("directory: mode alone");
        }
        (Content::Symlink { target: old }, Content::Symlink { target: new }) if old != new => {
            add("link: other target");
        }
        (old, new) if type_of(old) != type_of(new) => {
            add(&format!("{} to {}", type_of(old), type_of(new)));
        }
        _ => {}
    }
    found
}

#[test]
fn every_change_is_there() {
    let mut found = BTreeSet::new();
    for pair in trees().windows(2) {
        for (path, node) in pair[0].iter() {
            match pair[1].get(path) {
                Some(new) => found.extend(changes(&node.content, new)),
                None => _ = found.insert(format!("{} goes", type_of(&node.content))),
            }
        }
        for (path, node) in pair[1].iter().filter(|(path, _)| pair[0].get(path).is_none()) {
            found.insert(format!("{} comes", type_of(&node.content)));
            let content_alike = |(_, old): (&[u8], &super::tree::Node)| old == node;
            if matches!(node.content, Content::File { .. }) && pair[0].iter().any(content_alike) {
                found.insert(format!("renamed to {}", String::from_utf8_lossy(path)));
            }
        }
    }
    let expected = [
        "directory comes",
        "directory goes",
        "directory to file",
        "directory to link",
        "directory: mode alone",
        "file comes",
        "file goes",
        "file to directory",
        "file to link",
        "file: becomes empty",
        "file: equal size",
        "file: grows",
        "file: large one changes",
        "file: mode alone",
        "file: same",
        "file: shrinks",
        "file: was empty",
        "link comes",
        "link goes",
        "link to directory",
        "link to file",
        "link: other target",
        "renamed to Readme.md",
        "renamed to mail/hello.txt",
        "renamed to vendor/normalize-8/package.json",
    ];
    let missing: Vec<_> = expected.iter().filter(|what| !found.contains(**what)).collect();
    assert!(missing.is_empty(), "missing {missing:?} of {found:#?}");
}

#[test]
fn every_release_differs_and_has_a_plausible_size() {
    let trees = trees();
    for (n, tree) in trees.iter().enumerate() {
        let count = tree.iter().count();
        let bytes: usize = tree
            .iter()
            .map(|(_, node)| if let Content::File { bytes, .. } = &node.content { bytes.len() } else { 0 })
            .sum();
        assert!((60..=130).contains(&count), "release {}: {count} entries", n + 1);
        assert!((1 << 20..4 << 20).contains(&bytes), "release {}: {bytes} bytes", n + 1);
        for other in &trees[..n] {
            assert!(!tree.iter().eq(other.iter()));
        }
    }
}

#[test]
fn every_kind_of_entry_is_in_the_first_release() {
    let tree = &trees()[0];
    let modes: BTreeSet<u32> = tree
        .iter()
        .filter_map(|(_, node)| match node.content {
            Content::File { mode, .. } | Content::Directory { mode } => Some(mode),
            Content::Symlink { .. } => None,
        })
        .collect();
    assert_eq!(modes, BTreeSet::from([0o444, 0o600, 0o644, 0o700, 0o750, 0o755, 0o2755]));
    let link = |path: &str| match tree.get(path) {
        Some(Content::Symlink { target }) => String::from_utf8(target.clone()).unwrap(),
        other => panic!("{path}: {other:?}"),
    };
    assert_eq!(link("public/latest.html"), "about.html");
    assert_eq!(link("public/guide"), "../guide");
    assert!(matches!(tree.get("guide"), Some(Content::Directory { .. })));
    assert_eq!(link("public/summer.pdf"), "../reports/2099/summer.pdf");
    assert_eq!(tree.get("reports"), None);
    assert!(link("config/timezone").starts_with('/'));
    assert!(!tree.iter().any(|(path, _)| path.starts_with(b"data/outbox/")));
    assert_eq!(tree.bytes_of(b"data/sizes/empty"), b"");
    assert_eq!(tree.bytes_of(b"data/tiles.pack").len(), 1 << 20);
    assert!(tree.bytes_of(b"data/tide-model.bin").contains(&0));
    assert!(tree.bytes_of(b"public/images/harbour.png").starts_with(b"\x89PNG\r\n\x1a\n"));
    assert!(tree.bytes_of(b"bin/worker").starts_with(b"#!/bin/sh\n"));
    assert!(tree.get("deep/1/2/3/4/5/6/7/8/leaf.txt").is_some());
}

#[test]
fn every_odd_name_is_in_the_first_release() {
    let tree = &trees()[0];
    let names = odd_names::all();
    for name in &names {
        assert!(tree.get([b"names/", name.as_slice()].concat()).is_some());
    }
    assert_eq!(odd_names::long().len(), 200);
    assert!(names.iter().any(|name| std::str::from_utf8(name).is_err()));
    for byte in b" '\"\n\t\\$*" {
        assert!(names.iter().any(|name| name.contains(byte)), "no name with {:?}", char::from(*byte));
    }
    assert!(tree.get("-rf").is_some());
}

/// The rule of `app.rs` at each path where `shared/` and the application meet, release by release:
/// `-` not in the application (link), `d` a directory there (drop down), `a` the application's own.
#[test]
fn every_case_of_the_drop_down_rule_is_met() {
    let table = [
        (".well-known", "---dd"),
        (".well-known/security.txt", "---aa"),
        (".well-known/acme-challenge", "-----"),
        ("config", "ddddd"),
        ("config/local.env", "-----"),
        ("guests' \"best\" photos", "-----"),
        ("public/downloads", "--add"),
        ("public/downloads/brochure.pdf", "-----"),
        ("public/maintenance.html", "--a--"),
        ("public/notice", "----d"),
        ("public/robots.txt", "a----"),
        ("storage", "-ddd-"),
        ("storage/uploads", "-----"),
        ("tmp", "---dd"),
    ];
    let trees = trees();
    let shared = shared_data();
    for (path, expected) in table {
        assert!(shared.iter().any(|entry| entry.path == path.as_bytes()), "{path} is not shared");
        let actual: String = trees
            .iter()
            .map(|tree| match tree.get(path) {
                None => '-',
                Some(Content::Directory { .. }) => 'd',
                Some(_) => 'a',
            })
            .collect();
        assert_eq!(actual, expected, "{path}");
    }
}

#[test]
fn shared_data_is_listed_parents_first() {
    let mut above = BTreeSet::from([Vec::new()]);
    for SharedEntry { path, content } in shared_data() {
        let parent = path.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |end| &path[..end]);
        assert!(above.contains(parent), "{}", String::from_utf8_lossy(&path));
        if matches!(content, Content::Directory { .. }) {
            above.insert(path);
        }
    }
    assert_eq!(shared_data(), shared_data());
    assert!(shared_data().iter().any(|entry| std::str::from_utf8(&entry.path).is_err()));
}

#[test]
fn what_is_written_is_the_tree() {
    for version in 1..=RELEASES {
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("new");
        write_release(version, &into).unwrap();
        let mut seen = BTreeMap::new();
        look(&into, Path::new(""), &mut seen);
        let expected: BTreeMap<_, _> = releases::tree(version)
            .iter()
            .map(|(path, node)| (path.to_vec(), (node.content.clone(), node.mtime_s)))
            .collect();
        assert!(seen.keys().eq(expected.keys()));
        for (path, entry) in &expected {
            assert!(seen[path] == *entry, "release {version}: {:?}", OsStr::from_bytes(path));
        }
        assert_eq!(into.metadata().unwrap().permissions().mode() & 0o7777, 0o755);
    }
}

#[test]
fn changed_content_has_another_time_and_a_revert_goes_back() {
    for pair in trees().windows(2) {
        for (path, node) in pair[0].iter() {
            let Some((_, new)) = pair[1].iter().find(|(other, _)| *other == path) else { continue };
            if let (Content::File { bytes: old, .. }, Content::File { bytes, .. }) =
                (&node.content, &new.content)
            {
                assert_eq!(old == bytes, node.mtime_s == new.mtime_s, "{}", String::from_utf8_lossy(path));
            }
        }
    }
    let tides = |version| {
        let tree = releases::tree(version);
        let found = tree.iter().find(|(path, _)| *path == b"data/tides.csv").unwrap().1.clone();
        (found.content, found.mtime_s)
    };
    assert_eq!(tides(4), tides(1));
    assert!(tides(4).1 < tides(3).1);
}

#[test]
fn a_wrong_version_and_a_used_directory_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for version in [0, RELEASES + 1] {
        let error = write_release(version, dir.path()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
    write_release(1, dir.path()).unwrap();
    let error = write_release(2, dir.path()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
}
