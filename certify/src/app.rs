//! The bundled application: the web site of a small boat hire, in five releases, with the data its guests
//! leave behind.
//!
//! It is what `cutover-certify` deploys when it is given nothing else. It looks like a site, and it is a
//! minefield: names, types, modes and changes that have broken deploy tools, each at least once. It is *not*
//! a golden: the judge learns what a complete release is from the directory that [`write_release`] filled, as
//! from any user's directory.
//!
//! Invariant: the same version always has the same names, bytes, modes and modification times, whatever the
//! umask. Content that changes gets a new modification time, so tools that compare size and time are not lied
//! to. One file goes back to an older content *and* time, as after a revert: "newer wins" is wrong.
//!
//! What each release changes, against the one before:
//!
//! 1. All there is at first: pages, scripts, two images, an executable, 1 MiB of map tiles, files of 4095,
//!    4096, 4097 and 8192 zero bytes, an empty file, an empty directory, links (to a file, to a directory,
//!    dangling, absolute and outside), modes 0600, 0444, 0700, 0755, 0750 and setgid 2755, and the names of
//!    `odd_names.rs`. `public/robots.txt` is in `shared/` as well: the application's file wins.
//! 2. An ordinary week. Edits, some of equal size; a file becomes empty; a file and a whole directory are
//!    removed; a file becomes a directory that holds a file of the same name (`CHANGELOG`), a directory
//!    becomes a file (`lang/fr`); a change of mode alone, for a file and a directory; a file and a directory
//!    are renamed; a link gets another target of equal length. `storage`, linked whole until now, is in the
//!    application: drop down. `public/robots.txt` leaves it: link.
//! 3. Types. A file becomes a link (`public/favicon.ico`), a link becomes a file (`public/latest.html`), a
//!    directory becomes a link to one with the same names in it (`public/fonts`): whoever writes the old
//!    names goes through it. One page of the map tiles changes. `public/maintenance.html` comes into the
//!    application as a file, and `public/downloads` as a link: each wins over `shared/`.
//! 4. A link becomes a directory with the names of its former target (`public/guide`). Whole directories go.
//!    The tides are reverted, time included. An empty file gets content, odd names go. `.well-known` and
//!    `tmp` come into the application: drop down, the application's file wins over one entry, and an empty
//!    directory has nothing to link. `public/downloads` becomes a directory (drop down),
//!    `public/maintenance.html` leaves (link).
//! 5. Back again. A file and a directory swap their names, two files of equal size swap their contents, a
//!    name changes its case alone, a file becomes a link into the directory beside it, a link becomes a
//!    directory, odd names return with other bytes. `storage` leaves the application (link it whole again).
//!    `public/notice` is a file in `shared/` and comes as a directory: the application wins, and a file has
//!    no entries to descend into.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink,
};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

mod odd_names;
mod releases;
mod tree;
mod user_data;

#[cfg(test)]
mod tests;

pub use user_data::{SharedEntry, shared_data};

/// How many different releases there are; versions are `1..=RELEASES`.
pub const RELEASES: u32 = 5;

/// What stands at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A regular file.
    File {
        /// All of its bytes.
        bytes: Vec<u8>,
        /// Permission bits, as for chmod(2).
        mode: u32,
    },
    /// A directory; what it holds are entries of their own.
    Directory {
        /// Permission bits, as for chmod(2), setgid included.
        mode: u32,
    },
    /// A symbolic link.
    Symlink {
        /// The link text, never resolved here.
        target: Vec<u8>,
    },
}

/// Writes release `version` below `into`, which is created if it is missing.
///
/// # Errors
/// `InvalidInput` for a version outside of `1..=RELEASES`, `AlreadyExists` if `into` is not empty (two
/// releases mixed would make a wrong golden), `PermissionDenied` if the disk does not keep a mode, and
/// whatever the disk says.
pub fn write_release(version: u32, into: &Path) -> io::Result<()> {
    if !(1..=RELEASES).contains(&version) {
        let message = format!("the bundled application has releases 1 to {RELEASES}, not {version}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    fs::create_dir_all(into)?;
    if fs::read_dir(into)?.next().is_some() {
        let message = format!("{} is not empty", into.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    let tree = releases::tree(version);
    for (path, node) in tree.iter() {
        create(&into.join(std::ffi::OsStr::from_bytes(path)), &node.content)?;
    }
    // Backwards, so that a directory gets its own mode and time after everything in it.
    for (path, node) in tree.iter().rev() {
        settle(&into.join(std::ffi::OsStr::from_bytes(path)), &node.content, node.mtime_s)?;
    }
    settle(into, &Content::Directory { mode: 0o755 }, releases::date_s(version))
}

/// Creates the entry, open to its owner alone until [`settle`].
fn create(at: &Path, content: &Content) -> io::Result<()> {
    match content {
        Content::File { bytes, .. } => {
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(at)?.write_all(bytes)
        }
        Content::Directory { .. } => DirBuilder::new().mode(0o700).create(at),
        Content::Symlink { target } => symlink(std::ffi::OsStr::from_bytes(target), at),
    }
}

/// Gives the entry its mode, then its time.
fn settle(at: &Path, content: &Content, mtime_s: i64) -> io::Result<()> {
    if let Content::File { mode, .. } | Content::Directory { mode } = content {
        fs::set_permissions(at, Permissions::from_mode(*mode))?;
        // chmod(2) drops the setgid bit silently where the group is not one of ours.
        let kept = fs::symlink_metadata(at)?.mode() & 0o7777;
        if kept != *mode {
            let message = format!("{}: mode {mode:04o} was asked for, {kept:04o} was kept", at.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
    }
    let time = Timespec { tv_sec: mtime_s, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, at, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}
