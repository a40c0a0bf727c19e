//! One inode of the live state.
//!
//! Invariants: `nlink` is the number of entries that name the inode (for a directory: 2 plus its subdirectories, or 0
//! once it is removed); a directory has one name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::content::Content;
use super::{Errno, Fs, FsResult, now};
use crate::cell::{BLOCK_BYTES, Birth, Ino, Kind, Name};

/// Names and what they stand for.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    pub(super) parent: Ino,
    pub(super) entries: BTreeMap<Name, Ino>,
}

impl Directory {
    pub(super) fn new(parent: Ino) -> Self {
        Self { parent, entries: BTreeMap::new() }
    }
}

/// What only inodes of one kind have.
#[derive(Clone, Debug)]
pub(super) enum Body {
    File(Content),
    Dir(Directory),
    Symlink(Arc<[u8]>),
    /// FIFO or socket: nothing but a name and attributes.
    Special,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) accessed: SystemTime,
    pub(super) modified: SystemTime,
    pub(super) changed: SystemTime,
}

#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) birth: Birth,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) nlink: u32,
    /// Open files and directories.
    pub(super) opens: u64,
    /// Lookups that the kernel has not forgotten.
    pub(super) lookups: u64,
    /// Whether it uses space: it has a name or is open.
    pub(super) counted: bool,
    pub(super) times: Times,
    pub(super) xattrs: BTreeMap<Name, Arc<[u8]>>,
    pub(super) body: Body,
}

impl Inode {
    /// A new inode with one name.
    pub(super) fn new(birth: Birth, body: Body) -> Self {
        let time = now();
        Self {
            birth,
            mode: birth.mode,
            uid: birth.uid,
            gid: birth.gid,
            nlink: if birth.kind == Kind::Dir { 2 } else { 1 },
            opens: 0,
            lookups: 0,
            counted: true,
            times: Times { accessed: time, modified: time, changed: time },
            xattrs: BTreeMap::new(),
            body,
        }
    }

    pub(super) fn is_dir(&self) -> bool {
        matches!(self.body, Body::Dir(_))
    }

    pub(super) fn dir(&self) -> FsResult<&Directory> {
        match &self.body {
            Body::Dir(dir) => Ok(dir),
            _ => Err(Errno::NOTDIR),
        }
    }

    pub(super) fn dir_mut(&mut self) -> FsResult<&mut Directory> {
        match &mut self.body {
            Body::Dir(dir) => Ok(dir),
            _ => Err(Errno::NOTDIR),
        }
    }

    pub(super) fn content(&self) -> FsResult<&Content> {
        match &self.body {
            Body::File(content) => Ok(content),
            Body::Dir(_) => Err(Errno::ISDIR),
            _ => Err(Errno::INVAL),
        }
    }

    pub(super) fn content_mut(&mut self) -> FsResult<&mut Content> {
        match &mut self.body {
            Body::File(content) => Ok(content),
            Body::Dir(_) => Err(Errno::ISDIR),
            _ => Err(Errno::INVAL),
        }
    }

    pub(super) fn block_count(&self) -> u64 {
        match &self.body {
            Body::File(content) => content.block_count(),
            _ => 0,
        }
    }

    /// The content or the entries changed.
    pub(super) fn touch_modified(&mut self) {
        let time = now();
        self.times.modified = time;
        self.times.changed = time;
    }

    /// An attribute changed.
    pub(super) fn touch_changed(&mut self) {
        self.times.changed = now();
    }
}

/// What `stat` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Inode number.
    pub ino: Ino,
    /// Type.
    pub kind: Kind,
    /// Permission bits (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names; for a directory 2 plus its subdirectories; 0 once removed.
    pub nlink: u32,
    /// Length in bytes; of a link's text for a symlink.
    pub size: u64,
    /// Bytes in blocks that hold data.
    pub allocated_bytes: u64,
    /// Last access as set by `utimensat`; reading does not change it.
    pub accessed: SystemTime,
    /// Last change of content or entries.
    pub modified: SystemTime,
    /// Last change of anything.
    pub changed: SystemTime,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: Name,
    /// What it stands for.
    pub ino: Ino,
    /// Of which type that is.
    pub kind: Kind,
}

impl Fs {
    /// Attributes of an inode.
    pub fn stat(&self, ino: Ino) -> FsResult<Stat> {
        let node = self.node(ino)?;
        let size = match &node.body {
            Body::File(content) => content.size(),
            Body::Dir(_) => BLOCK_BYTES,
            Body::Symlink(target) => target.len() as u64,
            Body::Special => 0,
        };
        Ok(Stat {
            ino,
            kind: node.birth.kind,
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            nlink: node.nlink,
            size,
            allocated_bytes: node.block_count() * BLOCK_BYTES,
            accessed: node.times.accessed,
            modified: node.times.modified,
            changed: node.times.changed,
        })
    }

    /// All names of a directory in byte order, without `.` and `..`.
    pub fn read_dir(&self, dir: Ino) -> FsResult<Vec<DirEntry>> {
        let entries = &self.node(dir)?.dir()?.entries;
        entries
            .iter()
            .map(|(name, ino)| {
                Ok(DirEntry { name: name.clone(), ino: *ino, kind: self.node(*ino)?.birth.kind })
            })
            .collect()
    }

    /// The text of a symbolic link; empty if a crash lost it.
    pub fn readlink(&self, ino: Ino) -> FsResult<Arc<[u8]>> {
        match &self.node(ino)?.body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => Err(Errno::INVAL),
        }
    }
}
