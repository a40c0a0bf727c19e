//! The engine keeps its promises on histories that nobody thought of: releases derived from one another by changes of
//! content, type, mode and place, with awkward names, over user data that collides with them.
//!
//! Each history is deployed by the real engine over real SSH onto a simulated disk, and judged under `posix`: nothing
//! may be broken or unknown. [`crate::chance`] says which histories are tried.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::Config;

use crate::chance;
use crate::history::{Entries, Entry, History, Mode, Text};
use crate::room::machine_has;
use crate::skip;

const MOST_ENTRIES: usize = 60;

/// A small pool, so that paths meet again and collide. The first is the simplest.
const NAMES: [&[u8]; 16] = [
    b"a",
    b"b",
    b"public",
    b"storage",
    b"-rf",
    b" with space ",
    b"it's \"quoted\"",
    b"new\nline",
    b"caf\xe9",
    "café".as_bytes(),
    b"$(touch pwned)",
    b"*",
    b"back\\slash",
    b"...",
    "日本".as_bytes(),
    // As long as a name can be: nothing can be appended to it.
    &[b'n'; 255],
];

const TARGETS: [&[u8]; 9] =
    [b"a", b"b", b"public", b".", b"../b", b"nowhere", b"/etc/hostname", b"caf\xe9", b"../shared/a"];

const FILE_MODES: [u32; 7] = [0o644, 0o755, 0o600, 0o444, 0o640, 0o4755, 0o000];
const DIR_MODES: [u32; 6] = [0o755, 0o700, 0o775, 0o2755, 0o1777, 0o555];

/// One change of a tree. Each can be done to every tree, so any may be left out while a failure is made smaller.
#[derive(Clone, Debug)]
enum Edit {
    Put(Names, Entry),
    Remove(Index),
    Move(Index, Names),
}

/// A path, as its names.
type Names = Vec<&'static [u8]>;

fn path() -> impl Strategy<Value = Names> {
    vec(select(&NAMES[..]), 1..=3)
}

fn entry(targets: &'static [&'static [u8]]) -> impl Strategy<Value = Entry> {
    let mode = |modes: &'static [u32]| select(modes).prop_map(Mode);
    // Around the block size, where sizes matter, and anything else.
    let bytes = prop_oneof![select(vec![0_usize, 1, 4095, 4096, 4097, 8192]), 0..=10_000_usize];
    prop_oneof![
        5 => (mode(&FILE_MODES), bytes, 0..4_u8).prop_map(|(mode, bytes, seed)| Entry::File { mode, bytes, seed }),
        2 => mode(&DIR_MODES).prop_map(|mode| Entry::Dir { mode }),
        2 => select(targets).prop_map(|to| Entry::Link { to: Text(to.to_vec()) }),
    ]
}

fn edit(targets: &'static [&'static [u8]]) -> impl Strategy<Value = Edit> {
    prop_oneof![
        6 => (path(), entry(targets)).prop_map(|(path, entry)| Edit::Put(path, entry)),
        2 => any::<Index>().prop_map(Edit::Remove),
        1 => (any::<Index>(), path()).prop_map(|(from, to)| Edit::Move(from, to)),
    ]
}

/// Everything at or below a path.
fn take(tree: &mut Entries, path: &[u8]) -> Vec<(Vec<u8>, Entry)> {
    let below = |at: &[u8]| at.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
    let taken = tree.extract_if(.., |at, _| below(&at.0));
    taken.map(|(at, entry)| (at.0[path.len()..].to_vec(), entry)).collect()
}

/// Puts an entry in place of whatever is there; a directory stays one, with what it holds.
fn put(tree: &mut Entries, path: &[&[u8]], entry: Entry) {
    let room = MOST_ENTRIES.saturating_sub(tree.len());
    if room < path.len() {
        return;
    }
    for end in 1..path.len() {
        let parent = path[..end].join(&b'/');
        if !matches!(tree.get(&Text(parent.clone())), Some(Entry::Dir { .. })) {
            tree.insert(Text(parent), Entry::Dir { mode: Mode(0o755) });
        }
    }
    let at = path.join(&b'/');
    let is_dir = matches!(tree.get(&Text(at.clone())), Some(Entry::Dir { .. }));
    if !(is_dir && matches!(entry, Entry::Dir { .. })) {
        take(tree, &at);
    }
    tree.insert(Text(at), entry);
}

fn apply(tree: &mut Entries, edit: &Edit) {
    let chosen = |tree: &Entries, index: &Index| {
        (!tree.is_empty()).then(|| tree.keys().nth(index.index(tree.len())).cloned()).flatten()
    };
    match edit {
        Edit::Put(path, entry) => put(tree, path, entry.clone()),
        Edit::Remove(index) => {
            if let Some(path) = chosen(tree, index) {
                take(tree, &path.0);
            }
        }
        Edit::Move(index, to) => {
            let Some(from) = chosen(tree, index) else { return };
            let moved = take(tree, &from.0);
            for (below, entry) in moved {
                let below: Vec<&[u8]> =
                    below.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
                put(tree, &[&to[..], &below].concat(), entry);
            }
        }
    }
}

fn history() -> impl Strategy<Value = History> {
    let first = vec(edit(&TARGETS), 1..40);
    let later = vec(vec(edit(&TARGETS), 0..15), 1..=4);
    // Mostly there is user data.
    let shared = prop_oneof![3 => vec(edit(&TARGETS), 0..15).prop_map(Some), 1 => Just(None)];
    (any::<bool>(), shared, first, later).prop_map(|(same_times, shared, first, later)| {
        let edited = |mut tree: Entries, edits: &[Edit]| {
            for edit in edits {
                apply(&mut tree, edit);
            }
            tree
        };
        let mut releases = vec![edited(BTreeMap::new(), &first)];
        for edits in &later {
            releases.push(edited(releases[releases.len() - 1].clone(), edits));
        }
        let deploy_path_exists = shared.is_some();
        let shared = edited(BTreeMap::new(), &shared.unwrap_or_default());
        History { story: "found at random".to_owned(), same_times, deploy_path_exists, shared, releases }
    })
}

/// Recording in this process, which has threads, needs the right to mount.
pub(crate) fn can_record() -> bool {
    if !rustix::process::geteuid().is_root() {
        skip("needs root: a program with threads cannot enter a user namespace");
        return false;
    }
    machine_has(&[])
}

#[test]
fn random_histories_break_no_promise() {
    if can_record() {
        chance::try_some(history, 200, History::complaint, History::to_json);
    }
}

#[test]
fn what_failed_once_stays_fixed() {
    if can_record() {
        chance::try_kept("histories", |history: &History| &history.story, History::complaint);
    }
}

proptest! {
    #![proptest_config(Config { cases: 64, failure_persistence: None, ..Config::default() })]
    #[test]
    fn a_history_survives_being_written_down(history in history()) {
        let back: History = serde_json::from_str(&history.to_json()).unwrap();
        prop_assert_eq!(back, history);
    }
}
