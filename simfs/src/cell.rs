//! Cells: the smallest things that can be durable, or not, by themselves.
//!
//! Everything in this crate is keyed by inode, never by path: a rename or a hard link changes entries, not files.
//! Times are never cells, they are served to readers but never compared. Invariant: a cell without any version has
//! the value named at its variant.

use std::sync::Arc;

/// Bytes in one data block, the unit in which file content becomes durable.
pub const BLOCK_BYTES: u64 = 4096;

/// An inode number. Numbered once and never reused, so one number always means one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

/// The inode of the root directory of a disk.
pub const ROOT: Ino = Ino(1);

/// A name in a directory, or of an extended attribute: bytes without `/` and NUL, not text.
pub type Name = Arc<[u8]>;

/// What an inode is. Device nodes do not exist on a simulated disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Regular file.
    File,
    /// Directory.
    Dir,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Unix socket.
    Socket,
}

/// How an inode was born.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Birth {
    /// Type, fixed for the life of the inode.
    pub kind: Kind,
    /// Permission bits at creation (`0o7777`).
    pub mode: u32,
    /// Owner at creation.
    pub uid: u32,
    /// Group at creation.
    pub gid: u32,
}

/// A cell of a disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cell {
    /// The existence of an inode; exactly one version. Without it: the inode does not exist.
    Inode(Ino),
    /// The text of a symbolic link; exactly one version. Without it: an empty link.
    Target(Ino),
    /// What a name in a directory stands for. Without a version: nothing.
    Entry(Ino, Name),
    /// The bytes of block `n` of a file, `n` counted in [`BLOCK_BYTES`]. Without a version: zeros.
    Block(Ino, u64),
    /// A file's length in bytes. Without a version: 0.
    Size(Ino),
    /// Permission bits set after creation. Without a version: those of [`Birth`].
    Mode(Ino),
    /// Owner and group set after creation. Without a version: those of [`Birth`].
    Owner(Ino),
    /// One extended attribute. Without a version: not set.
    Xattr(Ino, Name),
}

impl Cell {
    /// The inode the cell belongs to; for an entry, the directory.
    pub fn ino(&self) -> Ino {
        match self {
            Self::Inode(i)
            | Self::Target(i)
            | Self::Entry(i, _)
            | Self::Block(i, _)
            | Self::Size(i)
            | Self::Mode(i)
            | Self::Owner(i)
            | Self::Xattr(i, _) => *i,
        }
    }
}

/// One version of a cell. The variant is always that of the cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// The inode exists.
    Inode(Birth),
    /// Link text.
    Target(Arc<[u8]>),
    /// The inode the name stands for, or nothing.
    Entry(Option<Ino>),
    /// The block's bytes with trailing zeros cut off, so that equal content is equal bytes; at most [`BLOCK_BYTES`].
    Block(Arc<[u8]>),
    /// Length in bytes.
    Size(u64),
    /// Permission bits.
    Mode(u32),
    /// Owner and group.
    Owner(u32, u32),
    /// The attribute's value, or not set.
    Xattr(Option<Arc<[u8]>>),
}

/// Cuts trailing zeros off a block's bytes: the normal form of [`Value::Block`].
pub fn trim_zeros(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    &bytes[..end]
}
