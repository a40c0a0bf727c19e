//! What `sha256sum` says about files whose names are known: GNU and busybox print odd names differently. And what a
//! release differs in from its seal, going by that.
//!
//! The input is lines of paths, an empty line, and what the host said about them.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use cutover::drift::{Hashes, compare, to_hash};
use cutover::manifest::{Entry, Manifest, Sha};
use cutover::path::RelPath;
use cutover::remote::listing::{Seen, Tree, parse_hashes, parse_hashes_there, parse_tree};
use cutover::text::printable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let end = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
    let (names, said) = data.split_at(end);
    // NUL stands for a newline inside of a name.
    let names = names
        .split(|byte| *byte == b'\n')
        .map(|name| name.iter().map(|byte| if *byte == 0 { b'\n' } else { *byte }).collect::<Vec<u8>>());
    let paths: Vec<RelPath> = names.filter_map(RelPath::new).collect();
    let paths: Vec<&RelPath> = paths.iter().collect();
    let said = said.get(2..).unwrap_or_default();
    if let Some(hashes) = parse_hashes(&paths, said) {
        assert_eq!(hashes.len(), paths.len());
        // Cut short or with something behind it, it is not an answer about all of them.
        assert!(said.is_empty() || parse_hashes(&paths, &said[..said.len() - 1]).is_none());
        assert_eq!(parse_hashes(&paths, &[said, b"\n"].concat()), None);
        assert_eq!(parse_hashes_there(&paths, said), Some(hashes.into_iter().map(Some).collect()));
    }
    if let Some(hashes) = parse_hashes_there(&paths, said) {
        assert_eq!(hashes.len(), paths.len());
        assert!(said.is_empty() || parse_hashes_there(&paths, &said[..said.len() - 1]).is_none());
        assert_eq!(parse_hashes_there(&paths, &[said, b"\n"].concat()), None);
    }
    let hashes: Vec<Sha> = paths.iter().map(|path| Sha::of(path.as_bytes())).collect();
    for line in [gnu, busybox] {
        let said: Vec<u8> = paths.iter().zip(&hashes).flat_map(|(path, sha)| line(path, *sha)).collect();
        assert_eq!(parse_hashes(&paths, &said).as_ref(), Some(&hashes));
    }
    let seal = seal(&paths);
    for line in [gnu, busybox] {
        some_there(&seal, line);
    }
    drift(&seal, said);
});

/// A seal of these files, as far as none is in the other's way.
fn seal(paths: &[&RelPath]) -> Manifest {
    let file = |path: &RelPath| {
        let sha = Sha::of(path.as_bytes());
        Entry::File { mode: 0o644, mtime: 7, size: path.as_bytes().len() as u64, sha }
    };
    let mut entries: BTreeMap<RelPath, Entry> =
        paths.iter().map(|path| ((*path).clone(), file(path))).collect();
    let dirs = paths.iter().flat_map(|path| path.ancestors()).chain([RelPath::root()]);
    entries.extend(dirs.map(|dir| (dir, Entry::Dir { mode: 0o755, mtime: 7 })));
    Manifest::new(entries).expect("a tree")
}

/// Files that cannot be read have no line: the others are told apart, and those that cannot be read or are other ones
/// differ, and nothing else.
fn some_there(seal: &Manifest, line: fn(&RelPath, Sha) -> Vec<u8>) {
    let seen = seal.entries().iter().map(|(path, entry)| (path.clone(), as_seen(entry))).collect();
    let tree = Tree::from_parts(seen, BTreeMap::new());
    assert!(compare(seal, &tree, None).is_none());
    // Without escapes a name that holds a line of another file cannot be told from it.
    let asked: Vec<&RelPath> =
        to_hash(seal, &tree).into_iter().filter(|path| !path.as_bytes().contains(&b'\n')).collect();
    let fate = |path: &RelPath| match Sha::of(path.as_bytes()).0[0] % 4 {
        0 => None,
        1 => Some(Sha::of(b"another")),
        _ => Some(Sha::of(path.as_bytes())),
    };
    let said: Vec<u8> = asked.iter().filter_map(|path| Some(line(path, fate(path)?))).flatten().collect();
    let found = parse_hashes_there(&asked, &said).expect("our own lines");
    let hashes: Hashes = asked.iter().map(|path| (*path).clone()).zip(found).collect();
    assert!(hashes.iter().all(|(path, found)| *found == fate(path)));
    let drift = compare(seal, &tree, Some(&hashes));
    let good = |path: &&RelPath| fate(path) == Some(Sha::of(path.as_bytes()));
    let bad: BTreeSet<&RelPath> = asked.into_iter().filter(|path| !good(path)).collect();
    assert_eq!(drift.differs.keys().collect::<BTreeSet<_>>(), bad);
    assert!(drift.added.is_empty());
}

fn as_seen(entry: &Entry) -> Seen {
    match entry {
        Entry::File { mode, mtime, size, .. } => {
            Seen { raw_mode: 0o100_000 | mode, size: *size, mtime: mtime.cast_signed() }
        }
        _ => Seen { raw_mode: 0o040_755, size: 4096, mtime: 9 },
    }
}

/// Any listing: a release that is said to be whole has everything of its seal, and what is told is one line.
fn drift(seal: &Manifest, listing: &[u8]) {
    let Some(seen) = parse_tree(listing) else { return };
    let tree = Tree::from_parts(seen, BTreeMap::new());
    let asked = to_hash(seal, &tree);
    let hashes: Hashes = asked.iter().map(|path| ((*path).clone(), None)).collect();
    for hashes in [None, Some(&hashes)] {
        let drift = compare(seal, &tree, hashes);
        for (path, entry) in seal.entries() {
            let is_file = matches!(entry, Entry::File { .. });
            let whole = tree.contains(path) && (!is_file || hashes.is_none_or(|all| all.contains_key(path)));
            assert!(whole || drift.differs.contains_key(path), "{path} is not there, and nobody says so");
            assert!(hashes.is_none() || !is_file || drift.differs.contains_key(path), "{path} was not read");
        }
        assert!(drift.differs.keys().all(|path| seal.get(path).is_some()));
        for path in &drift.added {
            let topmost = path.parent().is_none_or(|parent| seal.get(&parent).is_some());
            assert!(tree.contains(path) && seal.get(path).is_none() && topmost, "{path}");
        }
        let text = drift.to_string();
        assert!(printable(text.as_bytes()) == text && text.is_empty() == drift.is_none());
    }
}

fn gnu(path: &RelPath, sha: Sha) -> Vec<u8> {
    let name = path.dotted();
    if !name.iter().any(|byte| b"\\\n\r".contains(byte)) {
        return busybox(path, sha);
    }
    let escaped = name.iter().flat_map(|byte| match byte {
        b'\\' => b"\\\\".to_vec(),
        b'\n' => b"\\n".to_vec(),
        b'\r' => b"\\r".to_vec(),
        other => vec![*other],
    });
    [b"\\", sha.to_string().as_bytes(), b"  "].concat().into_iter().chain(escaped).chain([b'\n']).collect()
}

fn busybox(path: &RelPath, sha: Sha) -> Vec<u8> {
    [sha.to_string().as_bytes(), b"  ", &path.dotted(), b"\n"].concat()
}
