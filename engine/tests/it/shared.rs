//! The drop-down rule, case by case.

use std::collections::BTreeMap;

use cutover::manifest::{Entry, Manifest, Sha};
use cutover::path::RelPath;
use cutover::shared::{SharedTree, links};

/// `a/` is a directory, `a@` a link, anything else a file; parents are added.
pub(crate) fn app(entries: &[&str]) -> Manifest {
    let dir = || Entry::Dir { mode: 0o755, mtime: 1 };
    let mut all = BTreeMap::from([(RelPath::root(), dir())]);
    for text in entries {
        let name = text.trim_end_matches(['/', '@']);
        let path = RelPath::new(name).expect("path");
        for above in path.ancestors() {
            all.entry(above).or_insert_with(dir);
        }
        let entry = match text.chars().last() {
            Some('/') => dir(),
            Some('@') => Entry::Link { target: b"somewhere".to_vec() },
            _ => {
                Entry::File { mode: 0o644, mtime: 1, size: name.len() as u64, sha: Sha::of(name.as_bytes()) }
            }
        };
        all.insert(path, entry);
    }
    Manifest::new(all).expect("a tree")
}

fn shared(entries: &[&str]) -> SharedTree {
    entries.iter().map(|t| (RelPath::new(t.trim_end_matches('/')).expect("path"), t.ends_with('/'))).collect()
}

/// What the rule says, one line a decision.
fn decide(app_entries: &[&str], shared_entries: &[&str]) -> String {
    let found = links(&app(app_entries), &shared(shared_entries));
    let linked = found.links.iter().map(|(p, t)| format!("{p} -> {}", String::from_utf8_lossy(t)));
    let hidden = found.hidden.iter().map(|p| format!("hidden {p}"));
    let dropped = found.dropped_into.iter().map(|p| format!("into {p}"));
    linked.chain(hidden).chain(dropped).collect::<Vec<_>>().join("; ")
}

#[test]
fn table() {
    let cases: &[(&[&str], &[&str], &str)] = &[
        // nothing shared, nothing linked
        (&["a"], &[], ""),
        // not in the application: linked
        (&[], &["uploads/"], "uploads -> ../../shared/uploads"),
        (&[], &[".env"], ".env -> ../../shared/.env"),
        // an empty shared directory is linked like any other
        (&["a"], &["logs/"], "logs -> ../../shared/logs"),
        // a directory there: descend
        (
            &["public/x"],
            &["public/", "public/media/"],
            "public/media -> ../../../shared/public/media; into public",
        ),
        // an empty directory of the application is a directory
        (
            &["public/"],
            &["public/", "public/media/"],
            "public/media -> ../../../shared/public/media; into public",
        ),
        // a directory there, and nothing in the shared one
        (&["public/"], &["public/"], "into public"),
        // two levels down
        (&["a/b/c"], &["a/", "a/b/", "a/b/d"], "a/b/d -> ../../../../shared/a/b/d; into a; into a/b"),
        // a file there: the application's wins
        (&["config"], &["config"], "hidden config"),
        (&["config"], &["config/"], "hidden config"),
        (&["public/x"], &["public/", "public/x"], "hidden public/x; into public"),
        // a link of the application wins too, and is never descended
        (&["public@"], &["public/"], "hidden public"),
        (&["public@"], &["public/", "public/x"], "hidden public"),
        // a directory of the application over a shared file
        (&["config/x"], &["config"], "hidden config"),
        // a shared link to a directory that the application has too: what lies behind it is there, but it is no directory
        (&["a/x"], &["a", "a-b", "a/y"], "a-b -> ../../shared/a-b; a/y -> ../../../shared/a/y; into a"),
        (&["a/x"], &["a", "a-b", "ab/"], "a-b -> ../../shared/a-b; ab -> ../../shared/ab; hidden a"),
        // below a linked directory everything is there already
        (&[], &["a/", "a/b/", "a/b/c"], "a -> ../../shared/a"),
        // siblings are decided one by one
        (
            &["public/x", "b"],
            &["public/", "public/x", "public/y", "b", "c"],
            "c -> ../../shared/c; public/y -> ../../../shared/public/y; hidden b; hidden public/x; into public",
        ),
        // a name that is the start of another
        (&["ab/x"], &["a/", "ab/"], "a -> ../../shared/a; into ab"),
        // names with anything in them
        (
            &["-d/x"],
            &["-d/", "-d/-f", "new\nline"],
            "-d/-f -> ../../../shared/-d/-f; new\\nline -> ../../shared/new\nline; into -d",
        ),
    ];
    for (app_entries, shared_entries, expected) in cases {
        assert_eq!(decide(app_entries, shared_entries), *expected, "{app_entries:?} {shared_entries:?}");
    }
}
