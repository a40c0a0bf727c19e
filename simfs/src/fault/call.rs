//! A call as it reaches a disk: its kind, and what it is about.

use serde::{Deserialize, Serialize};

use crate::cell::Ino;
use crate::fs::Fs;

bitflags::bitflags! {
    /// A set of kinds of calls.
    ///
    /// One call can be of more than one kind: attributes that are set together are [`Calls::TRUNCATE`],
    /// [`Calls::CHOWN`], [`Calls::CHMOD`] and [`Calls::TIMES`], and a rule meets it if its set holds any of them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub struct Calls: u32 {
        /// A new file, FIFO or socket (`open` with `O_CREAT`, `mknod`).
        const CREATE = 1;
        /// `mkdir`.
        const MKDIR = 1 << 1;
        /// `symlink`.
        const SYMLINK = 1 << 2;
        /// `link`.
        const LINK = 1 << 3;
        /// `unlink`.
        const UNLINK = 1 << 4;
        /// `rmdir`.
        const RMDIR = 1 << 5;
        /// `rename`, `renameat2`.
        const RENAME = 1 << 6;
        /// `write`; the kernel splits one of more than 1 MiB into several.
        const WRITE = 1 << 7;
        /// `truncate`, `ftruncate`, `open` with `O_TRUNC` of a file that exists.
        const TRUNCATE = 1 << 8;
        /// `fallocate`.
        const FALLOCATE = 1 << 9;
        /// `copy_file_range`; reads as well as writes.
        const COPY_RANGE = 1 << 10;
        /// `chmod`.
        const CHMOD = 1 << 11;
        /// `chown`.
        const CHOWN = 1 << 12;
        /// `setxattr`, `removexattr`.
        const SET_XATTR = 1 << 13;
        /// `utimensat`. Changes something, but never becomes an op of the trace.
        const TIMES = 1 << 14;

        /// `fsync` of a file, and what `O_SYNC` does after a write.
        const FSYNC = 1 << 16;
        /// `fdatasync` of a file, and what `O_DSYNC` does after a write.
        const FDATASYNC = 1 << 17;
        /// `fsync` or `fdatasync` of a directory.
        const FSYNC_DIR = 1 << 18;
        /// `syncfs`, as `sync -f` calls it.
        const SYNCFS = 1 << 19;
        /// `sync` of all disks.
        const SYNC = 1 << 20;

        /// A name is looked up. Cached by the kernel.
        const LOOKUP = 1 << 22;
        /// `stat`. Cached by the kernel.
        const GETATTR = 1 << 23;
        /// `readlink`, and following a link. Cached by the kernel.
        const READLINK = 1 << 24;
        /// `open` of a file that exists.
        const OPEN = 1 << 25;
        /// `read`. Cached by the kernel, also what was written before; it reads ahead.
        const READ = 1 << 26;
        /// `opendir`.
        const OPENDIR = 1 << 27;
        /// `readdir`.
        const READDIR = 1 << 28;
        /// `getxattr`, `listxattr`.
        const GET_XATTR = 1 << 29;
        /// `lseek` to data or to a hole.
        const SEEK = 1 << 30;
        /// `statfs`.
        const STATFS = 1 << 31;

        /// All that change something.
        const CHANGES = Self::CREATE.bits() | Self::MKDIR.bits() | Self::SYMLINK.bits() | Self::LINK.bits()
            | Self::UNLINK.bits() | Self::RMDIR.bits() | Self::RENAME.bits() | Self::WRITE.bits()
            | Self::TRUNCATE.bits() | Self::FALLOCATE.bits() | Self::COPY_RANGE.bits() | Self::CHMOD.bits()
            | Self::CHOWN.bits() | Self::SET_XATTR.bits() | Self::TIMES.bits();
        /// All that make something durable.
        const SYNCS = Self::FSYNC.bits() | Self::FDATASYNC.bits() | Self::FSYNC_DIR.bits() | Self::SYNCFS.bits()
            | Self::SYNC.bits();
        /// All that only read.
        const READS = Self::LOOKUP.bits() | Self::GETATTR.bits() | Self::READLINK.bits() | Self::OPEN.bits()
            | Self::READ.bits() | Self::OPENDIR.bits() | Self::READDIR.bits() | Self::GET_XATTR.bits()
            | Self::SEEK.bits() | Self::STATFS.bits();
    }
}

/// What can become an op of the trace: [`Calls::CHANGES`] without [`Calls::TIMES`], and [`Calls::SYNCS`].
impl Default for Calls {
    fn default() -> Self {
        (Self::CHANGES | Self::SYNCS) - Self::TIMES
    }
}

/// What a call is about.
#[derive(Clone, Copy, Debug)]
pub enum About<'a> {
    /// The disk as a whole.
    Disk,
    /// An inode, whatever its names.
    Inode(Ino),
    /// A name in a directory.
    Name(Ino, &'a [u8]),
    /// Two names: those of a rename.
    Names([(Ino, &'a [u8]); 2]),
    /// An inode and a new name for it.
    Link(Ino, (Ino, &'a [u8])),
    /// Two inodes: those of a copy.
    Inodes([Ino; 2]),
}

/// A call as it reaches a disk: all that a rule can ask about.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Of which kinds it is.
    pub calls: Calls,
    /// What it is about.
    pub about: About<'a>,
    /// The thread that called, as this process sees it; 0 if it cannot.
    pub caller: u32,
    /// Whether it opens something for writing.
    pub for_writing: bool,
}

impl<'a> Call<'a> {
    /// A call that opens nothing for writing.
    pub fn new(calls: Calls, about: About<'a>, caller: u32) -> Self {
        Self { calls, about, caller, for_writing: false }
    }

    pub(super) fn paths(&self, fs: &mut Fs) -> Vec<Vec<u8>> {
        let (inodes, names): (&[Ino], &[(Ino, &[u8])]) = match &self.about {
            About::Disk => (&[], &[]),
            About::Inode(ino) => (&[*ino], &[]),
            About::Inodes(inos) => (inos, &[]),
            About::Link(ino, name) => (&[*ino], &[*name]),
            About::Name(dir, name) => (&[], &[(*dir, *name)]),
            About::Names(names) => (&[], names),
        };
        let mut paths: Vec<Vec<u8>> = inodes.iter().flat_map(|ino| fs.paths(*ino)).collect();
        for (dir, name) in names {
            for mut path in fs.paths(*dir) {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(name);
                paths.push(path);
            }
        }
        paths
    }
}
