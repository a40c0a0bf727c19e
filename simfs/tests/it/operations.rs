//! Single operations of `Fs`: what they record, and what they refuse.

use std::fmt::Write as _;

use simfs::fs::{Allocate, RenameHow, Seek, XattrHow};
use simfs::{Caller, Errno, Fs, Ino, Limits, OpKind, ROOT};

use crate::replay::assert_replay_is_live;

const ME: Caller = Caller { uid: 1000, gid: 100 };

fn disk() -> Fs {
    let mut fs = Fs::new(0, 0, 0o755);
    fs.start_recording();
    fs
}

/// The last op and its effects, for people.
fn last(fs: &Fs) -> String {
    let trace = fs.trace();
    let op = &trace.ops()[trace.last() as usize];
    let mut lines = String::new();
    for effect in &trace.effects()[op.effects.start as usize..op.effects.end as usize] {
        let value = match &effect.value {
            simfs::Value::Block(bytes) => format!("Block({} bytes)", bytes.len()),
            simfs::Value::Target(text) => format!("Target({})", text.escape_ascii()),
            other => format!("{other:?}"),
        };
        let cell = match trace.cell(effect.cell) {
            simfs::Cell::Entry(dir, name) => format!("Entry({}, {})", dir.0, name.escape_ascii()),
            simfs::Cell::Xattr(ino, name) => format!("Xattr({}, {})", ino.0, name.escape_ascii()),
            other => format!("{other:?}"),
        };
        writeln!(lines, "{cell} = {value}").unwrap();
    }
    lines
}

#[test]
fn creation_is_the_inode_then_its_text_then_its_name() {
    let mut fs = disk();
    fs.create(ROOT, b"f", 0o640, ME).unwrap();
    assert_eq!(
        last(&fs),
        "Inode(Ino(2)) = Inode(Birth { kind: File, mode: 416, uid: 1000, gid: 100 })\n\
         Entry(1, f) = Entry(Some(Ino(2)))\n"
    );
    fs.symlink(ROOT, b"l", b"releases/1", ME).unwrap();
    assert_eq!(
        last(&fs),
        "Inode(Ino(3)) = Inode(Birth { kind: Symlink, mode: 511, uid: 1000, gid: 100 })\n\
         Target(Ino(3)) = Target(releases/1)\n\
         Entry(1, l) = Entry(Some(Ino(3)))\n"
    );
}

#[test]
fn a_rename_is_the_new_name_then_the_old_one() {
    let mut fs = disk();
    let f = fs.create(ROOT, b"f", 0o644, ME).unwrap();
    let g = fs.create(ROOT, b"g", 0o644, ME).unwrap();
    fs.rename(ROOT, b"f", ROOT, b"h", RenameHow::NoReplace).unwrap();
    assert_eq!(last(&fs), "Entry(1, h) = Entry(Some(Ino(2)))\nEntry(1, f) = Entry(None)\n");
    fs.rename(ROOT, b"g", ROOT, b"h", RenameHow::Exchange).unwrap();
    assert_eq!(last(&fs), "Entry(1, h) = Entry(Some(Ino(3)))\nEntry(1, g) = Entry(Some(Ino(2)))\n");
    fs.rename(ROOT, b"g", ROOT, b"h", RenameHow::Replace).unwrap();
    assert_eq!(fs.lookup(ROOT, b"h"), Ok(f));
    assert_eq!(fs.stat(g), Err(Errno::NOENT), "the replaced file is gone");
    assert_replay_is_live(&fs);
}

#[test]
fn a_write_is_whole_blocks_then_the_length() {
    let mut fs = disk();
    let f = fs.create(ROOT, b"f", 0o644, ME).unwrap();
    fs.write(f, 4090, b"0123456789", false).unwrap();
    assert_eq!(
        last(&fs),
        "Block(Ino(2), 0) = Block(4096 bytes)\nBlock(Ino(2), 1) = Block(4 bytes)\nSize(Ino(2)) = Size(4100)\n"
    );
    fs.write(f, 0, b"x", false).unwrap();
    assert_eq!(last(&fs), "Block(Ino(2), 0) = Block(4096 bytes)\n", "the length did not change");
    fs.truncate(f, 4092, false).unwrap();
    assert_eq!(
        last(&fs),
        "Block(Ino(2), 0) = Block(4092 bytes)\nBlock(Ino(2), 1) = Block(0 bytes)\nSize(Ino(2)) = Size(4092)\n"
    );
    fs.truncate(f, 1 << 40, false).unwrap();
    assert_eq!(last(&fs), "Size(Ino(2)) = Size(1099511627776)\n");
    let mut bytes = Vec::new();
    fs.read(f, 4088, 8, &mut bytes).unwrap();
    assert_eq!(bytes, b"\0\x0001\0\0\0\0", "what was cut off does not come back");
}

#[test]
fn nothing_is_recorded_that_cannot_be_lost() {
    let mut fs = disk();
    let f = fs.create(ROOT, b"f", 0o644, ME).unwrap();
    fs.link(f, ROOT, b"g").unwrap();
    fs.write(f, 0, b"x", false).unwrap();
    let before = fs.trace().last();
    fs.rename(ROOT, b"f", ROOT, b"g", RenameHow::Replace).unwrap();
    fs.rename(ROOT, b"f", ROOT, b"f", RenameHow::Replace).unwrap();
    fs.write(f, 9, b"", false).unwrap();
    fs.truncate(f, 1, false).unwrap();
    fs.set_times(f, None, Some(std::time::SystemTime::UNIX_EPOCH)).unwrap();
    fs.fallocate(f, Allocate::Reserve, 0, 1 << 20, ME).unwrap();
    fs.fallocate(f, Allocate::Punch, 8192, 1 << 20, ME).unwrap();
    fs.create(ROOT, b"f", 0o644, ME).unwrap_err();
    assert_eq!(fs.trace().last(), before);
    assert_eq!(fs.stat(f).unwrap().nlink, 2);
    fs.chmod(f, 0o644).unwrap();
    assert_eq!(last(&fs), "Mode(Ino(2)) = Mode(420)\n", "an equal mode is a new version");
}

#[test]
fn what_was_there_before_recording_is_op_0() {
    let mut fs = Fs::new(7, 8, 0o700);
    fs.mkdir_p("a/b").unwrap();
    fs.write_file("a/b/f", b"old").unwrap();
    fs.write_file("a/b/f", b"new").unwrap();
    fs.symlink_at("b", "a/l").unwrap();
    fs.start_recording();
    assert_eq!(fs.trace().last(), 0);
    assert_eq!(fs.trace().ops()[0].kind, OpKind::Initial);
    assert!((0..fs.trace().cell_count()).all(|id| fs.trace().versions(simfs::CellId(id as u32)).len() == 1));
    assert_replay_is_live(&fs);
    assert_eq!(fs.read_file(fs.resolve("/a/l/f").unwrap()).unwrap(), b"new");
    assert_eq!(fs.resolve_link("a/l").and_then(|l| fs.readlink(l)).unwrap().as_ref(), b"b");
    assert_eq!(fs.resolve("a/../a/./b/..").unwrap(), fs.resolve("a").unwrap());
}

#[test]
fn refusals_are_those_of_linux() {
    let mut fs = disk();
    let d = fs.mkdir(ROOT, b"d", 0o755, ME).unwrap();
    let e = fs.mkdir(d, b"e", 0o755, ME).unwrap();
    let f = fs.create(ROOT, b"f", 0o644, ME).unwrap();
    let before = fs.trace().last();
    let long = [b'x'; 256];
    assert_eq!(fs.create(ROOT, &long, 0o644, ME), Err(Errno::NAMETOOLONG));
    assert_eq!(fs.create(ROOT, b"", 0o644, ME), Err(Errno::NOENT));
    assert_eq!(fs.create(f, b"x", 0o644, ME), Err(Errno::NOTDIR));
    assert_eq!(fs.create(Ino(99), b"x", 0o644, ME), Err(Errno::NOENT));
    assert_eq!(fs.mkdir(ROOT, b"f", 0o755, ME), Err(Errno::EXIST));
    assert_eq!(fs.unlink(ROOT, b"d"), Err(Errno::ISDIR));
    assert_eq!(fs.rmdir(ROOT, b"f"), Err(Errno::NOTDIR));
    assert_eq!(fs.rmdir(ROOT, b"d"), Err(Errno::NOTEMPTY));
    assert_eq!(fs.link(d, ROOT, b"x"), Err(Errno::PERM));
    assert_eq!(fs.symlink(ROOT, b"x", b"", ME), Err(Errno::NOENT));
    assert_eq!(fs.symlink(ROOT, b"x", &[b'x'; 4096], ME), Err(Errno::NAMETOOLONG));
    assert_eq!(fs.rename(ROOT, b"d", e, b"x", RenameHow::Replace), Err(Errno::INVAL));
    assert_eq!(fs.rename(d, b"e", ROOT, b"d", RenameHow::Replace), Err(Errno::NOTEMPTY));
    assert_eq!(fs.rename(d, b"e", ROOT, b"d", RenameHow::Exchange), Err(Errno::INVAL));
    assert_eq!(fs.rename(ROOT, b"f", ROOT, b"d", RenameHow::Replace), Err(Errno::ISDIR));
    assert_eq!(fs.rename(ROOT, b"d", ROOT, b"f", RenameHow::Replace), Err(Errno::NOTDIR));
    assert_eq!(fs.rename(ROOT, b"f", ROOT, b"d", RenameHow::NoReplace), Err(Errno::EXIST));
    assert_eq!(fs.rename(ROOT, b"f", ROOT, b"x", RenameHow::Exchange), Err(Errno::NOENT));
    assert_eq!(fs.write(d, 0, b"x", false), Err(Errno::ISDIR));
    assert_eq!(fs.write(f, u64::MAX, b"x", false), Err(Errno::FBIG));
    assert_eq!(fs.readlink(f), Err(Errno::INVAL));
    assert_eq!(fs.remove_xattr(f, b"user.x"), Err(Errno::NODATA));
    assert_eq!(fs.set_xattr(f, b"user.x", b"", XattrHow::Replace), Err(Errno::NODATA));
    assert_eq!(fs.xattr(f, b"system.posix_acl_access"), Err(Errno::OPNOTSUPP));
    assert_eq!(fs.seek(f, 0, Seek::Data), Err(Errno::NXIO));
    assert_eq!(fs.trace().last(), before);
    fs.open(e).unwrap();
    fs.rmdir(d, b"e").unwrap();
    assert_eq!(fs.create(e, b"x", 0o644, ME), Err(Errno::NOENT), "a removed directory takes nothing");
}

#[test]
fn a_group_is_inherited_from_a_set_gid_directory() {
    let mut fs = disk();
    let d = fs.mkdir(ROOT, b"d", 0o755, ME).unwrap();
    fs.chown(d, None, Some(33)).unwrap();
    fs.chmod(d, 0o2775).unwrap();
    let f = fs.create(d, b"f", 0o644, ME).unwrap();
    let e = fs.mkdir(d, b"e", 0o755, ME).unwrap();
    assert_eq!((fs.stat(f).unwrap().gid, fs.stat(f).unwrap().mode), (33, 0o644));
    assert_eq!((fs.stat(e).unwrap().gid, fs.stat(e).unwrap().mode), (33, 0o2755));
}

#[test]
fn set_id_bits_and_capabilities_do_not_outlive_changes() {
    let mut fs = disk();
    let f = fs.create(ROOT, b"f", 0o6755, ME).unwrap();
    fs.set_xattr(f, b"security.capability", b"cap", XattrHow::Create).unwrap();
    fs.write(f, 0, b"x", true).unwrap();
    assert_eq!(
        last(&fs),
        "Block(Ino(2), 0) = Block(1 bytes)\nSize(Ino(2)) = Size(1)\nMode(Ino(2)) = Mode(493)\n\
         Xattr(2, security.capability) = Xattr(None)\n"
    );
    fs.chmod(f, 0o6745).unwrap();
    fs.chown(f, Some(5), None).unwrap();
    assert_eq!(
        last(&fs),
        "Owner(Ino(2)) = Owner(5, 100)\nMode(Ino(2)) = Mode(1509)\n",
        "without group execution the set-group-id bit means locking and stays"
    );
    assert_replay_is_live(&fs);
}

#[test]
fn an_open_file_outlives_its_name_and_then_its_room_is_free() {
    let mut fs = disk();
    let f = fs.write_file("f", b"still here").unwrap();
    fs.open(f).unwrap();
    fs.unlink(ROOT, b"f").unwrap();
    assert_eq!(fs.read_file(f).unwrap(), b"still here");
    assert_eq!(fs.stat(f).unwrap().nlink, 0);
    assert_eq!(fs.link(f, ROOT, b"g"), Err(Errno::NOENT));
    fs.remember(f).unwrap();
    assert_eq!((fs.usage().used_bytes, fs.usage().used_inodes), (4096, 2));
    fs.close(f);
    assert_eq!(
        (fs.usage().used_bytes, fs.usage().used_inodes),
        (0, 1),
        "the kernel's memory of it takes no room"
    );
    fs.write(f, 8192, b"x", false).unwrap();
    fs.open(f).unwrap();
    assert_eq!((fs.usage().used_bytes, fs.usage().used_inodes), (8192, 2), "opened again through its number");
    fs.close(f);
    assert_eq!(fs.stat(f).unwrap().nlink, 0);
    fs.forget(f, 1);
    assert_eq!(fs.stat(f), Err(Errno::NOENT));
    assert_eq!(fs.usage().used_bytes, 0);
}

#[test]
fn a_full_disk_cuts_a_write_short_then_refuses() {
    let mut fs = disk();
    fs.set_limits(Limits { bytes: 3 * 4096, inodes: 3, ..Limits::default() });
    let f = fs.create(ROOT, b"f", 0o644, ME).unwrap();
    assert_eq!(fs.write(f, 100, &vec![1; 5 * 4096], false), Ok(3 * 4096 - 100));
    assert_eq!(fs.write(f, 3 * 4096, b"x", false), Err(Errno::NOSPC));
    assert_eq!(fs.write(f, 0, b"rewrites need no room", false), Ok(21));
    assert_eq!(fs.fallocate(f, Allocate::Grow, 0, 4 * 4096, ME), Err(Errno::NOSPC));
    fs.create(ROOT, b"g", 0o644, ME).unwrap();
    assert_eq!(fs.create(ROOT, b"h", 0o644, ME), Err(Errno::NOSPC), "no inode is left");
    fs.truncate(f, 1, false).unwrap();
    assert_eq!(fs.usage().used_bytes, 4096);
    fs.unlink(ROOT, b"f").unwrap();
    assert_eq!((fs.usage().used_bytes, fs.usage().used_inodes), (0, 2));
}

#[test]
fn copies_share_blocks_that_line_up() {
    let mut fs = disk();
    let from = fs.write_file("from", &[7; 3 * 4096]).unwrap();
    let to = fs.write_file("to", &[9; 100]).unwrap();
    assert_eq!(fs.copy_range(from, 4096, to, 4096, u64::MAX, ME), Ok(2 * 4096));
    let shared = |ino, n| fs.blocks(ino).unwrap().find(|(at, _)| *at == n).map(|(_, bytes)| bytes.as_ptr());
    assert_eq!(shared(from, 1), shared(to, 1));
    assert_eq!(fs.copy_range(from, 3 * 4096, to, 0, 10, ME), Ok(0), "nothing is left to copy");
    assert_eq!(fs.copy_range(to, 0, to, 50, 100, ME), Err(Errno::INVAL), "the ranges overlap");
    assert_replay_is_live(&fs);
}

#[test]
fn holes_are_found() {
    let mut fs = disk();
    let f = fs.create(ROOT, b"f", 0o644, ME).unwrap();
    fs.write(f, 8192, &[1; 5000], false).unwrap();
    fs.truncate(f, 1 << 20, false).unwrap();
    assert_eq!(fs.seek(f, 0, Seek::Data), Ok(8192));
    assert_eq!(fs.seek(f, 9000, Seek::Data), Ok(9000));
    assert_eq!(fs.seek(f, 0, Seek::Hole), Ok(0));
    assert_eq!(fs.seek(f, 9000, Seek::Hole), Ok(16384));
    assert_eq!(fs.seek(f, 16384, Seek::Data), Err(Errno::NXIO));
    assert_eq!(fs.seek(f, 1 << 20, Seek::Hole), Err(Errno::NXIO));
    assert_eq!(fs.stat(f).unwrap().allocated_bytes, 8192);
}
