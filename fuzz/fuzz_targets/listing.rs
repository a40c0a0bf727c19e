//! Listings of trees and directories: what is understood, written down again, is understood as the same.
#![no_main]

use cutover::path::RelPath;
use cutover::remote::listing::{Item, parse_items, parse_tree};
use cutover::text::printable;
use libfuzzer_sys::fuzz_target;

const DIR: &[u8] = b"shared";

fuzz_target!(|data: &[u8]| {
    if let Some(tree) = parse_tree(data) {
        let mut written = Vec::new();
        for (path, seen) in &tree {
            check(path);
            let line = format!("//{:x} {} {} ", seen.raw_mode, seen.size, seen.mtime);
            written.extend([line.as_bytes(), &path.dotted(), b"\n"].concat());
        }
        assert_eq!(parse_tree(&written), Some(tree));
    }
    // `find` prints no empty names; a host that makes some up is not told back to itself.
    let found = |item: &Item| RelPath::new(item.name.clone()).is_some_and(|path| !path.is_root());
    if let Some(items) = parse_items(DIR, data).filter(|items| items.iter().all(found)) {
        let written: Vec<u8> = items.iter().flat_map(write).collect();
        assert_eq!(parse_items(DIR, &written), Some(items));
    }
});

/// As `find DIR/. … -exec stat` prints it.
fn write(item: &Item) -> Vec<u8> {
    let mode = if item.is_dir {
        "41ed"
    } else if item.is_link {
        "a1ff"
    } else {
        "81a4"
    };
    let path = [DIR, b"/", &item.name].concat();
    let at = path.iter().rposition(|byte| *byte == b'/').expect("there is one");
    let (dir, name) = (&path[..at], &path[at + 1..]);
    [b"//", mode.as_bytes(), b" ", item.identity.as_bytes(), b" ", dir, b"/./", name, b"\n"].concat()
}

/// No path leads out of the tree it is joined to, or steers the terminal it is printed on.
fn check(path: &RelPath) {
    let bytes = path.as_bytes();
    assert!(!bytes.contains(&0) && !bytes.starts_with(b"/"));
    assert!(
        path.is_root() || bytes.split(|byte| *byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."))
    );
    assert_eq!(RelPath::from_find(&path.dotted()).as_ref(), Some(path));
    assert_eq!(RelPath::new(bytes).as_ref(), Some(path));
    assert_eq!(path.ancestors().len(), path.depth());
    let name = bytes.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    assert_eq!(path.parent().and_then(|parent| parent.join(name)), (!path.is_root()).then(|| path.clone()));
    assert!(!printable(bytes).chars().any(char::is_control));
}
