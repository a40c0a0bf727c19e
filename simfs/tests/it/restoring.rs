//! Reboots into states that only a crash can leave.

use std::sync::Arc;

use simfs::{BLOCK_BYTES, Birth, Cell, Errno, Fs, Ino, Kind, Name, ROOT, Value};

fn name(text: &str) -> Name {
    Arc::from(text.as_bytes())
}

fn inode(ino: u64, kind: Kind) -> (Cell, Value) {
    (Cell::Inode(Ino(ino)), Value::Inode(Birth { kind, mode: 0o755, uid: 5, gid: 6 }))
}

fn entry(dir: u64, text: &str, ino: u64) -> (Cell, Value) {
    (Cell::Entry(Ino(dir), name(text)), Value::Entry(Some(Ino(ino))))
}

fn no_entry(dir: u64, text: &str) -> (Cell, Value) {
    (Cell::Entry(Ino(dir), name(text)), Value::Entry(None))
}

#[test]
fn names_without_an_inode_are_absent_and_inodes_without_a_name_are_gone() {
    let fs = Fs::from_cells([
        inode(1, Kind::Dir),
        entry(1, "dangling", 7),
        inode(9, Kind::File),
        entry(8, "in no directory", 9),
        inode(3, Kind::File),
        entry(1, "f", 3),
        entry(3, "in a file", 9),
    ]);
    let names: Vec<_> = fs.read_dir(ROOT).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, [name("f")]);
    assert_eq!(fs.stat(Ino(9)), Err(Errno::NOENT));
    let mut fs = fs;
    assert_eq!(fs.write_file("new", b"").unwrap(), Ino(10), "numbers are not used twice");
}

#[test]
fn content_ends_at_the_length_and_missing_blocks_are_zeros() {
    let fs = Fs::from_cells([
        inode(2, Kind::File),
        entry(1, "longer than its blocks", 2),
        (Cell::Size(Ino(2)), Value::Size(BLOCK_BYTES + 3)),
        (Cell::Block(Ino(2), 0), Value::Block(name("ab"))),
        inode(3, Kind::File),
        entry(1, "shorter than its blocks", 3),
        (Cell::Size(Ino(3)), Value::Size(1)),
        (Cell::Block(Ino(3), 0), Value::Block(name("stale"))),
        (Cell::Block(Ino(3), 5), Value::Block(name("stale"))),
    ]);
    let long = fs.read_file(Ino(2)).unwrap();
    assert_eq!((long.len(), &long[..3]), (4099, b"ab\0".as_slice()));
    let mut fs = fs;
    fs.truncate(Ino(3), 5, false).unwrap();
    assert_eq!(fs.read_file(Ino(3)).unwrap(), b"s\0\0\0\0", "stale bytes do not come back");
    assert_eq!(fs.usage().used_bytes, 2 * BLOCK_BYTES);
}

#[test]
fn an_empty_link_stays_and_leads_nowhere() {
    let fs = Fs::from_cells([inode(2, Kind::Symlink), entry(1, "current", 2)]);
    assert_eq!(fs.readlink(Ino(2)).unwrap().len(), 0);
    assert_eq!(fs.resolve("current"), Err(Errno::NOENT));
    assert_eq!(fs.resolve("current/x"), Err(Errno::NOENT));
}

#[test]
fn the_newest_version_and_the_newest_name_of_a_directory_stay() {
    let fs = Fs::from_cells([
        inode(2, Kind::Dir),
        entry(1, "old", 2),
        entry(1, "new", 2),
        inode(3, Kind::File),
        entry(2, "f", 3),
        entry(1, "also f", 3),
        entry(1, "removed", 3),
        no_entry(1, "removed"),
    ]);
    assert_eq!(fs.resolve("old"), Err(Errno::NOENT));
    assert_eq!(fs.resolve("new/f").unwrap(), Ino(3));
    assert_eq!(fs.resolve("removed"), Err(Errno::NOENT));
    assert_eq!(fs.stat(Ino(3)).unwrap().nlink, 2);
    assert_eq!(fs.stat(ROOT).unwrap().nlink, 3);
    assert_eq!(fs.parent(Ino(2)), Ok(ROOT));
}

#[test]
fn cycles_are_cut_where_something_is_reachable() {
    // /a was moved into /a/b, which had been moved out of it; only the removals were lost.
    let fs = Fs::from_cells([
        inode(2, Kind::Dir),
        inode(3, Kind::Dir),
        entry(1, "a", 2),
        entry(2, "b", 3),
        entry(3, "a", 2),
        entry(4, "nowhere", 3),
    ]);
    assert_eq!(fs.resolve("a/b").unwrap(), Ino(3));
    assert_eq!(fs.read_dir(Ino(3)).unwrap(), []);
    // The same with the way in lost: nothing leads there.
    let fs = Fs::from_cells([inode(2, Kind::Dir), inode(3, Kind::Dir), entry(2, "b", 3), entry(3, "a", 2)]);
    assert_eq!(fs.read_dir(ROOT).unwrap(), []);
    assert_eq!(fs.usage().used_inodes, 1);
    // A directory in itself, and the root in another.
    let fs = Fs::from_cells([inode(2, Kind::Dir), entry(1, "a", 2), entry(2, "a", 2), entry(2, "root", 1)]);
    assert_eq!(fs.read_dir(Ino(2)).unwrap(), []);
}

#[test]
fn nothing_at_all_is_an_empty_disk() {
    let fs = Fs::from_cells([]);
    assert_eq!(fs.read_dir(ROOT).unwrap(), []);
    assert_eq!(fs.trace().last(), 0);
}
