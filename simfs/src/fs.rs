//! The live state of a simulated disk, and the trace of how it came to be.
//!
//! [`Fs`] is a plain value: no mount, no threads, no permissions (the kernel checks those before it asks), and no clock
//! except for the times that it keeps for readers. State is keyed by inode, never by path. It does not know about
//! models, crashes or deploys.
//!
//! Each mutating method validates as Linux does, then applies and records exactly one op. The invariant: the newest
//! version of each cell in the trace is the live state. What records nothing:
//!
//! - a refused call (it also changes nothing);
//! - a call without a change that could be lost: a write of no bytes, a rename onto the same inode, a truncate or
//!   fallocate that changes neither the length nor a byte, setting times. `chmod`, `chown` and `setxattr` always record
//!   a new version, even an equal one.
//!
//! Sources: the man pages of section 2, `fs/namei.c` and `fs/attr.c` of Linux 6.18.

mod attrs;
mod content;
mod data;
mod names;
mod node;
mod paths;
mod restore;

use rustc_hash::FxHashMap;
pub use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::time::SystemTime;

use crate::cell::{Birth, Cell, Ino, Kind, ROOT, Value};
use crate::store::BlockStore;
use crate::trace::{MarkKind, OpKind, Seq, SyncScope, Trace};

pub use attrs::XattrHow;
pub use data::{Allocate, MAX_FILE_BYTES, Seek};
pub use names::RenameHow;
pub use node::{DirEntry, Stat};

use node::{Body, Directory, Inode};
use paths::NameIndex;

/// What an operation answers: its result, or the error number that the caller of the system call sees.
pub type FsResult<T> = Result<T, Errno>;

/// The effects of one op, in order.
type Effects = SmallVec<[(Cell, Value); 2]>;

/// Who makes a system call, as far as it decides who owns what it creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// How much fits on a disk. What exceeds it fails with the error of [`Limits::full`]; a write that fits in part is cut
/// short, as on Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of file content, counted in whole blocks that hold data.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
    /// Whose limit it is.
    pub full: Full,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 30, inodes: 4 << 20, full: Full::Disk }
    }
}

/// Whose limit it is that has been reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Full {
    /// The disk's: `ENOSPC`.
    #[default]
    Disk,
    /// A user's: `EDQUOT`.
    Quota,
}

impl Full {
    /// The error of what does not fit.
    pub fn errno(self) -> Errno {
        match self {
            Self::Disk => Errno::NOSPC,
            Self::Quota => Errno::DQUOT,
        }
    }
}

/// What `statfs` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// How much fits.
    pub limits: Limits,
    /// Bytes in blocks that hold data.
    pub used_bytes: u64,
    /// Inodes that exist.
    pub used_inodes: u64,
}

/// The live state of a disk with its trace.
#[derive(Clone, Debug)]
pub struct Fs {
    inodes: FxHashMap<Ino, Inode>,
    next_ino: u64,
    used_blocks: u64,
    used_inodes: u64,
    limits: Limits,
    store: BlockStore,
    names: Option<NameIndex>,
    trace: Trace,
    recording: bool,
}

impl Fs {
    /// An empty disk whose root directory has this owner and these permission bits.
    ///
    /// Nothing is recorded before [`Fs::start_recording`], so the same methods populate the initial disk.
    pub fn new(uid: u32, gid: u32, mode: u32) -> Self {
        let root = Inode::new(
            Birth { kind: Kind::Dir, mode: mode & 0o7777, uid, gid },
            Body::Dir(Directory::new(ROOT)),
        );
        Self {
            inodes: FxHashMap::from_iter([(ROOT, root)]),
            next_ino: ROOT.0 + 1,
            used_blocks: 0,
            used_inodes: 1,
            limits: Limits::default(),
            store: BlockStore::default(),
            names: None,
            trace: Trace::new(),
            recording: false,
        }
    }

    /// Begins a trace whose op 0 is the state as it is now, with one version of each cell. From here on every op is
    /// recorded. Returns the trace so far.
    pub fn start_recording(&mut self) -> Trace {
        let mut trace = Trace::new();
        for (cell, value) in self.cells() {
            trace.push_initial(cell, value);
        }
        self.recording = true;
        std::mem::replace(&mut self.trace, trace)
    }

    /// The trace so far.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Places a mark after the last op.
    pub fn mark(&mut self, kind: MarkKind) {
        self.trace.mark(kind);
    }

    /// Records a sync call that returned `ok`. It changes nothing in the live state.
    pub fn sync(&mut self, scope: SyncScope, ok: bool) -> Seq {
        if self.recording { self.trace.push_sync(scope, ok) } else { self.trace.last() }
    }

    /// Where the disk stores content from here on; what it has already stays where it is. Disks and sources that share
    /// a store hold equal content once.
    pub fn set_store(&mut self, store: BlockStore) {
        self.store = store;
    }

    /// Where the disk stores content.
    pub fn store(&self) -> &BlockStore {
        &self.store
    }

    /// Sets how much fits. What is already there stays, even if it is more.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// How much fits and how much is used.
    pub fn usage(&self) -> Usage {
        Usage {
            limits: self.limits,
            used_bytes: self.used_blocks * crate::cell::BLOCK_BYTES,
            used_inodes: self.used_inodes,
        }
    }

    /// Notes that the inode was opened: it stays, and uses space, although it may lose its last name. Not an effect.
    pub fn open(&mut self, ino: Ino) -> FsResult<()> {
        self.node_mut(ino)?.opens += 1;
        self.settle(ino);
        Ok(())
    }

    /// Ends one [`Fs::open`].
    pub fn close(&mut self, ino: Ino) {
        if let Ok(node) = self.node_mut(ino) {
            node.opens = node.opens.saturating_sub(1);
            self.settle(ino);
        }
    }

    /// Notes that the kernel knows the inode by its number. Then it stays, but without name and opener it no longer
    /// uses space: the kernel forgets in its own time, and on a real disk the space would be free at once.
    pub fn remember(&mut self, ino: Ino) -> FsResult<()> {
        self.node_mut(ino)?.lookups += 1;
        Ok(())
    }

    /// Ends `count` times [`Fs::remember`].
    pub fn forget(&mut self, ino: Ino, count: u64) {
        if let Ok(node) = self.node_mut(ino) {
            node.lookups = node.lookups.saturating_sub(count);
            self.settle(ino);
        }
    }

    /// Nothing is open and nothing is remembered any more: the front end is gone.
    pub fn forget_all(&mut self) {
        let mut nameless = Vec::new();
        for (ino, node) in &mut self.inodes {
            (node.opens, node.lookups) = (0, 0);
            if node.nlink == 0 {
                nameless.push(*ino);
            }
        }
        for ino in nameless {
            self.settle(ino);
        }
    }

    fn node(&self, ino: Ino) -> FsResult<&Inode> {
        self.inodes.get(&ino).ok_or(Errno::NOENT)
    }

    fn node_mut(&mut self, ino: Ino) -> FsResult<&mut Inode> {
        self.inodes.get_mut(&ino).ok_or(Errno::NOENT)
    }

    /// Follows a change of names, openers or lookups up: space that is free now, and inodes that are gone.
    fn settle(&mut self, ino: Ino) {
        let Some(node) = self.inodes.get_mut(&ino) else { return };
        let counted = node.nlink > 0 || node.opens > 0;
        let gone = !counted && node.lookups == 0;
        if counted != node.counted {
            node.counted = counted;
            if counted {
                self.used_inodes += 1;
                self.used_blocks += node.block_count();
            } else {
                self.used_inodes -= 1;
                self.used_blocks -= node.block_count();
            }
        }
        if gone {
            self.inodes.remove(&ino);
        }
    }

    fn record(&mut self, kind: OpKind, effects: Effects) {
        if self.recording {
            self.trace.push(kind, effects);
        }
    }
}

/// The time that new `mtime`s get.
fn now() -> SystemTime {
    SystemTime::now()
}
