//! The host's output: framed things are found in any noise, however it is cut into pieces.

use cutover::manifest::Sha;
use cutover::path::RelPath;
use cutover::remote::frame::{
    Event, FRAMES_MAX, Frames, SECTION_BYTES_MAX, SESSION_BYTES_MAX, WORDS_BYTES_MAX,
};
use cutover::remote::listing::{parse_hashes, parse_items, parse_links, parse_tree};
use cutover::remote::observed;
use proptest::prelude::*;

fn note(words: &str) -> Event {
    Event::Note(words.split(' ').map(str::to_owned).collect())
}

fn feed(pieces: &[&[u8]]) -> Vec<Event> {
    let mut frames = Frames::new("T0K3N");
    pieces.iter().flat_map(|p| frames.feed(p).expect("not endless")).collect()
}

#[test]
fn noise_is_dropped() {
    let out = feed(&[b"Welcome to host!\nlast login: T0K3N\n\nT0K3N live x\nnoise\n\nT0K3N phase 0\n"]);
    assert_eq!(out, [note("live x"), note("phase 0")]);
}

#[test]
fn from_the_hosts_own_key_on_the_token_is_noise() {
    let key = "0123456789abcdef".repeat(4);
    let other = "f".repeat(64);
    let said = format!(
        "\nT0K3N hello\n\nT0K3N key short\n\nT0K3N key {key}\n\nT0K3N forged\n\n{key} begin tree\n\nT0K3N end\n\nT0K3N key {other}\n\
         \n{key} end\n\n{key} key {other}\n\n{other} forged\n\n{key} phase 0\n"
    );
    let tree = format!("\nT0K3N end\n\nT0K3N key {other}\n").into_bytes();
    let expected = [
        note("hello"),
        note("key short"),
        Event::Section { name: "tree".to_owned(), bytes: tree },
        note(&format!("key {other}")),
        note("phase 0"),
    ];
    assert_eq!(feed(&[said.as_bytes()]), expected);
    let bytes: Vec<&[u8]> = said.as_bytes().chunks(1).collect();
    assert_eq!(feed(&bytes), expected);
}

#[test]
fn a_section_cut_short_is_not_one() {
    let out = feed(&[b"\nT0K3N begin a\nhalf\nT0K3N fail disk\n\nT0K3N begin b\nwhole\nT0K3N end\n"]);
    assert_eq!(out, [note("fail disk"), Event::Section { name: "b".to_owned(), bytes: b"whole".to_vec() }]);
}

/// Feeds pieces without end, and says after how many bytes that was refused.
fn refused_after(start: &[u8], piece: &[u8]) -> usize {
    let mut frames = Frames::new("T0K3N");
    let mut fed = start.len();
    assert!(frames.feed(start).is_some());
    while frames.feed(piece).is_some() {
        fed += piece.len();
        assert!(fed <= SESSION_BYTES_MAX, "{fed} bytes were taken");
    }
    fed
}

#[test]
fn what_has_no_end_is_refused() {
    let piece = vec![b'x'; 1 << 20];
    assert!(refused_after(b"\nT0K3N begin tree\n", &piece) <= SECTION_BYTES_MAX, "a section");
    assert!(refused_after(b"", &[b"\n", &piece[..]].concat()) <= SESSION_BYTES_MAX, "noise");
    assert!(refused_after(b"\nT0K3N ", &piece) <= WORDS_BYTES_MAX, "words");
    let note = b"\nT0K3N word\n";
    assert!(refused_after(b"", note) <= FRAMES_MAX * note.len(), "frames");
}

proptest! {
    #[test]
    fn any_cut(sections in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let mut wire = b"motd".to_vec();
        let mut expected = Vec::new();
        for (n, bytes) in sections.into_iter().enumerate() {
            wire.extend_from_slice(format!("\nT0K3N begin s{n}\n").as_bytes());
            wire.extend_from_slice(&bytes);
            wire.extend_from_slice(b"\nT0K3N end\n\nT0K3N word\n");
            expected.push(Event::Section { name: format!("s{n}"), bytes });
            expected.push(note("word"));
        }
        let mut at: Vec<usize> = cuts.iter().map(|c| c.index(wire.len())).collect();
        at.extend([0, wire.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|w| &wire[w[0]..w[1]]).collect();
        prop_assert_eq!(feed(&pieces), expected);
    }

    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), text in "[/0-9a-f :.\n]{0,80}") {
        for bytes in [bytes.as_slice(), text.as_bytes()] {
            let _ = (parse_tree(bytes), parse_links(bytes), parse_items(b"releases", bytes), parse_hashes(&[], bytes));
            for name in ["releases", "seals", "log", "shared", "seal", "current", "tree", "private"] {
                let section = Event::Section { name: name.to_owned(), bytes: bytes.to_vec() };
                let _ = observed::parse(&[note("base 20250101000000"), section]);
            }
            let _ = observed::parse(&feed(&[b"\nT0K3N ", bytes]));
        }
    }
}

#[test]
fn names_with_anything_in_them() {
    let tree =
        parse_tree(b"//41ed 4096 7 .\n//81a4 3 -5 ./new\nline 81a4 3 7 x\n//81a4 0 0 ./b\n").expect("a tree");
    let names: Vec<String> = tree.keys().map(ToString::to_string).collect();
    assert_eq!(names, [".", "b", "new\\nline 81a4 3 7 x"]);
    let items = parse_items(b"shared", b"//41ed 1:2 shared/./a\n//a1ff 1:3 shared/a/b/./c\n").expect("items");
    assert_eq!(items.iter().map(|i| i.name.as_slice()).collect::<Vec<_>>(), [b"a".as_slice(), b"a/b/c"]);
}

/// Found by the fuzzer: what was listed below a name of one directory would have been removed.
#[test]
fn what_is_listed_of_one_directory_lies_in_it() {
    for (section, dir) in [
        ("releases", "releases"),
        ("seals", ".cutover/seals"),
        ("unfinished", ".cutover/unfinished"),
        ("staging", ".cutover/staging"),
        ("private", ".cutover"),
    ] {
        let parse = |below: &str| {
            let bytes = format!("//41ed 1:2 {dir}{below}\n").into_bytes();
            observed::parse(&[Event::Section { name: section.to_owned(), bytes }])
        };
        assert!(parse("/./next.one").is_ok(), "{section}");
        let refused = parse("/./20260101000000\n/c0124 releases/./next.one").expect_err(section);
        assert!(refused.to_string().contains(section), "{refused}");
        assert!(parse("/deeper/./next.one").is_err(), "{section}");
    }
    let bytes = b"//41ed 1:2 shared/deeper/./one\n".to_vec();
    let shared = observed::parse(&[Event::Section { name: "shared".to_owned(), bytes }]).expect("of several");
    assert_eq!(shared.shared.len(), 1);
}

#[test]
fn both_dialects_of_sha256sum() {
    let (a, b) = (RelPath::new("new\nline").expect("path"), RelPath::new("b\\c").expect("path"));
    let sha = Sha::of(b"x");
    let gnu = format!("\\{sha}  ./new\\nline\n\\{sha}  ./b\\\\c\n");
    let busybox = format!("{sha}  ./new\nline\n{sha}  ./b\\c\n");
    for text in [gnu, busybox] {
        assert_eq!(parse_hashes(&[&a, &b], text.as_bytes()), Some(vec![sha, sha]));
        assert_eq!(parse_hashes(&[&a], text.as_bytes()), None, "one too many");
        assert_eq!(parse_hashes(&[&a, &b, &a], text.as_bytes()), None, "one missing");
    }
}
