//! A naive reading of a tree, to compare what was deployed with what was meant. Shares nothing with the engine.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// Path → what is there, in words.
pub(crate) type Words = BTreeMap<Vec<u8>, String>;

/// Reads a tree; links are not followed. File times are part of the words where `times` says so.
pub(crate) fn read(root: &Path, times: bool) -> Words {
    let mut out = Words::new();
    walk(root, root, times, &mut out);
    out
}

fn walk(root: &Path, at: &Path, times: bool, out: &mut Words) {
    let meta = fs::symlink_metadata(at).expect("lstat");
    let name = at.strip_prefix(root).expect("inside").as_os_str().as_bytes().to_vec();
    let mode = meta.permissions().mode() & 0o7777;
    if meta.is_symlink() {
        out.insert(name, format!("link {}", fs::read_link(at).expect("readlink").display()));
    } else if meta.is_dir() {
        out.insert(
            name,
            if times { format!("dir {mode:o} {}", meta.mtime()) } else { format!("dir {mode:o}") },
        );
        for entry in fs::read_dir(at).expect("readdir") {
            walk(root, &entry.expect("entry").path(), times, out);
        }
    } else {
        let bytes = fs::read(at).expect("read");
        let time = if times { format!(" {}", meta.mtime()) } else { String::new() };
        out.insert(name, format!("file {mode:o}{time} {:?}", String::from_utf8_lossy(&bytes)));
    }
}
