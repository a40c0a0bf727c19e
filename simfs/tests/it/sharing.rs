//! Equal content is one allocation in live state and trace, whatever way it got there.

use std::sync::Arc;

use simfs::fs::Allocate;
use simfs::{BLOCK_BYTES, BlockStore, Caller, ContentBytes, Fs, Ino};

const ROOT_USER: Caller = Caller { uid: 0, gid: 0 };
const BLOCK: usize = BLOCK_BYTES as usize;

/// A block like no other, of bytes that are not zero.
fn block(n: u8) -> Vec<u8> {
    let mut bytes = vec![n; BLOCK];
    bytes[0] = 255;
    bytes
}

fn file(fs: &mut Fs, name: &str, bytes: &[u8]) -> Ino {
    fs.write_file(name, bytes).unwrap()
}

fn held(fs: &Fs, ino: Ino) -> Vec<Arc<[u8]>> {
    fs.blocks(ino).unwrap().map(|(_, block)| block.clone()).collect()
}

#[test]
fn equal_blocks_are_stored_once_whatever_way_they_arrive() {
    let mut fs = Fs::new(0, 0, 0o755);
    fs.start_recording();
    let (a, b) = (block(1), block(2));
    let whole = [a.clone(), b.clone()].concat();

    let written = file(&mut fs, "written", &whole);
    let copied = file(&mut fs, "copied", b"");
    fs.copy_range(written, 0, copied, 0, whole.len() as u64, ROOT_USER).unwrap();
    let in_parts = file(&mut fs, "in parts", &a[..700]);
    fs.write(in_parts, 700, &whole[700..], false).unwrap();
    let shifted = file(&mut fs, "shifted", &[&b"x"[..], &whole].concat());
    let unshifted = file(&mut fs, "unshifted", b"");
    fs.copy_range(shifted, 1, unshifted, 0, whole.len() as u64, ROOT_USER).unwrap();
    for ino in [copied, in_parts, unshifted] {
        for (one, other) in held(&fs, written).iter().zip(held(&fs, ino)) {
            assert!(Arc::ptr_eq(one, &other), "of {ino:?}");
        }
    }

    let half = [&a[..BLOCK / 2], &[0; BLOCK / 2]].concat();
    let cut = file(&mut fs, "cut", &a);
    fs.truncate(cut, BLOCK_BYTES / 2, false).unwrap();
    let punched = file(&mut fs, "punched", &a);
    fs.fallocate(punched, Allocate::Punch, BLOCK_BYTES / 2, BLOCK_BYTES, ROOT_USER).unwrap();
    let half = file(&mut fs, "half", &half);
    for ino in [cut, punched] {
        assert!(Arc::ptr_eq(&held(&fs, half)[0], &held(&fs, ino)[0]), "of {ino:?}");
    }

    // Stored: two blocks, the first 700 bytes, the three blocks of `shifted`, half a block. Recorded: each of the six
    // files with whole blocks for itself too.
    let bytes = ContentBytes::of(fs.trace());
    let block = BLOCK_BYTES;
    assert_eq!(bytes.stored, 2 * block + 700 + (2 * block + 1) + block / 2);
    assert_eq!(bytes.recorded, 10 * block + 700 + (2 * block + 1) + 3 * (block / 2));
}

#[test]
fn disks_that_share_a_store_hold_equal_content_once() {
    let store = BlockStore::default();
    let mut one = Fs::new(0, 0, 0o755);
    one.set_store(store.clone());
    let first = file(&mut one, "file", &block(1));
    let mut rebooted = Fs::from_cells(one.cells());
    rebooted.set_store(one.store().clone());
    let second = file(&mut rebooted, "another", &block(1));
    let kept = rebooted.resolve("file").unwrap();
    let expected = store.share(&block(1));
    for found in [&held(&one, first)[0], &held(&rebooted, second)[0], &held(&rebooted, kept)[0]] {
        assert!(Arc::ptr_eq(found, &expected));
    }
}

#[test]
fn content_is_the_same_with_and_without_a_twin() {
    // What is shared must never be changed through another file.
    let mut fs = Fs::new(0, 0, 0o755);
    let one = file(&mut fs, "one", &block(1));
    let two = file(&mut fs, "two", &block(1));
    fs.write(two, 5, b"changed", false).unwrap();
    fs.truncate(two, 100, false).unwrap();
    assert_eq!(fs.read_file(one).unwrap(), block(1));
    let mut expected = block(1)[..100].to_vec();
    expected[5..12].copy_from_slice(b"changed");
    assert_eq!(fs.read_file(two).unwrap(), expected);
}
