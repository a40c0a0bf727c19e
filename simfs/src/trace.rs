//! The trace: what was done to a disk, in the order in which it was applied.
//!
//! A trace only records. It knows nothing about models, crashes or deploys. Op 0 is the initial disk; everything in
//! it is durable. Ops that only read, and ops that were refused, are not in the trace.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::ops::Range;

use hashbrown::HashTable;
use rustc_hash::{FxBuildHasher, FxHashMap};
use smallvec::SmallVec;

use crate::cell::{Cell, Ino, Name, Value};

/// The number of an op in its trace; also a crash point or live state: "just after op `k`".
pub type Seq = u32;

/// Index of an effect in its trace. Effects are in the order of their ops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectId(pub u32);

/// Index of a cell in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellId(pub u32);

/// One op's new version of one cell.
#[derive(Clone, Debug)]
pub struct Effect {
    /// The op that made it.
    pub seq: Seq,
    /// Which cell.
    pub cell: CellId,
    /// The cell's new value.
    pub value: Value,
}

/// What a sync call covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SyncScope {
    /// `fsync` of a file (also a write through `O_SYNC`).
    File(Ino),
    /// `fdatasync` of a file (also a write through `O_DSYNC`).
    FileData(Ino),
    /// `fsync` or `fdatasync` of a directory.
    Dir(Ino),
    /// `syncfs` of this disk or `sync` of all.
    All,
}

impl SyncScope {
    /// The inode that is named, if it is not the whole disk.
    pub fn ino(self) -> Option<Ino> {
        match self {
            Self::File(ino) | Self::FileData(ino) | Self::Dir(ino) => Some(ino),
            Self::All => None,
        }
    }
}

/// What an op did, in terms that can be told to a person. The effects say exactly what changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// Op 0: the disk as it was found.
    Initial,
    /// `mkdir`.
    Mkdir {
        /// Directory it was made in.
        dir: Ino,
        /// Its name.
        name: Name,
    },
    /// `open(O_CREAT)` or `mknod` of a new file, FIFO or socket.
    Create {
        /// Directory it was made in.
        dir: Ino,
        /// Its name.
        name: Name,
    },
    /// `symlink`.
    Symlink {
        /// Directory it was made in.
        dir: Ino,
        /// Its name.
        name: Name,
    },
    /// `link`: another name for a file.
    Link {
        /// The file.
        ino: Ino,
        /// Directory of the new name.
        dir: Ino,
        /// The new name.
        name: Name,
    },
    /// `unlink`.
    Unlink {
        /// Directory.
        dir: Ino,
        /// The name removed.
        name: Name,
    },
    /// `rmdir`.
    Rmdir {
        /// Directory.
        dir: Ino,
        /// The name removed.
        name: Name,
    },
    /// `rename`, `renameat2`.
    Rename {
        /// Old directory.
        from_dir: Ino,
        /// Old name.
        from: Name,
        /// New directory.
        to_dir: Ino,
        /// New name.
        to: Name,
        /// `RENAME_EXCHANGE`: both names stay and swap what they stand for.
        exchange: bool,
    },
    /// `write`.
    Write {
        /// File.
        ino: Ino,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// `truncate`, `ftruncate`, `open(O_TRUNC)`.
    Truncate {
        /// File.
        ino: Ino,
        /// New length in bytes.
        size: u64,
    },
    /// `fallocate`, hole punching included.
    Fallocate {
        /// File.
        ino: Ino,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// `copy_file_range`.
    CopyRange {
        /// File copied from.
        from: Ino,
        /// File copied to.
        to: Ino,
        /// First byte in the file copied to.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// `chmod`.
    Chmod {
        /// Inode.
        ino: Ino,
    },
    /// `chown`.
    Chown {
        /// Inode.
        ino: Ino,
    },
    /// `setxattr`, `removexattr`.
    Xattr {
        /// Inode.
        ino: Ino,
        /// Attribute.
        name: Name,
    },
    /// A sync call. It has no effects; what it forces depends on the model.
    Sync {
        /// What it covers.
        scope: SyncScope,
        /// The last op applied before the call returned: its own number where nothing overtook it.
        returned: Seq,
        /// Whether it returned success. A failed sync forces nothing.
        ok: bool,
    },
}

/// One file-system operation.
#[derive(Clone, Debug)]
pub struct Op {
    /// What it did.
    pub kind: OpKind,
    /// Its effects, as indices into [`Trace::effects`].
    pub effects: Range<u32>,
}

/// What the harness noted between two ops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// A deploy was started. `deploy` counts from 1.
    Begin {
        /// Which deploy.
        deploy: u32,
    },
    /// The tool said that the deploy is live.
    Ack {
        /// Which deploy.
        deploy: u32,
    },
    /// The tool ended.
    End {
        /// Which deploy.
        deploy: u32,
        /// Exit status 0.
        ok: bool,
        /// The tool said that it is live but that old releases could not be removed.
        cleanup_pending: bool,
    },
    /// Something happened that could not be observed in full: verdicts of this trace are `unknown`.
    Blind {
        /// What was not seen, for people.
        what: String,
    },
}

/// A mark and its place: after op `after`, before the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The last op applied before the mark.
    pub after: Seq,
    /// What was noted.
    pub kind: MarkKind,
}

/// A recorded history of one disk. Append-only.
#[derive(Clone, Debug)]
pub struct Trace {
    ops: Vec<Op>,
    effects: Vec<Effect>,
    cells: Vec<Cell>,
    /// Almost every cell has one or two versions: up to four stand here, without an allocation of their own.
    versions: Vec<SmallVec<[EffectId; 4]>>,
    /// By inode number, the cells that almost every inode has: found without hashing, and next to one another.
    usual: Vec<[CellId; USUAL]>,
    /// Ids of all other cells. Only ids are stored: the cells themselves are in `cells`.
    ids: HashTable<CellId>,
    /// How many of those in `ids` are of a usual kind, of inodes whose numbers are too high for a table.
    far: usize,
    entries: FxHashMap<Ino, BTreeMap<Name, CellId>>,
    marks: Vec<Mark>,
}

/// How many cells of an inode are found by its number: existence, link text, first block, size and mode.
const USUAL: usize = 5;

/// No cell.
const NO_CELL: CellId = CellId(u32::MAX);

/// What a cell is found by: its parts, so that a name need not be cloned to ask for an entry.
#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    kind: u8,
    ino: Ino,
    block: u64,
    name: &'a [u8],
}

impl<'a> Key<'a> {
    fn of(cell: &'a Cell) -> Self {
        let plain = |kind, ino: &Ino| Key { kind, ino: *ino, block: 0, name: &[] };
        match cell {
            Cell::Inode(ino) => plain(0, ino),
            Cell::Target(ino) => plain(1, ino),
            Cell::Entry(dir, name) => Self::entry(*dir, name),
            Cell::Block(ino, block) => Key { block: *block, ..plain(3, ino) },
            Cell::Size(ino) => plain(4, ino),
            Cell::Mode(ino) => plain(5, ino),
            Cell::Owner(ino) => plain(6, ino),
            Cell::Xattr(ino, name) => Key { name, ..plain(7, ino) },
        }
    }

    fn entry(dir: Ino, name: &'a [u8]) -> Self {
        Key { kind: 2, ino: dir, block: 0, name }
    }

    fn hash(&self) -> u64 {
        FxBuildHasher.hash_one(self)
    }

    /// Its place among the usual cells of its inode, if it is one.
    fn usual(&self) -> Option<usize> {
        match self.kind {
            0 | 1 => Some(usize::from(self.kind)),
            3 if self.block == 0 => Some(2),
            4 => Some(3),
            5 => Some(4),
            _ => None,
        }
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

impl Trace {
    /// A trace of an empty initial disk: op 0 exists and has no effects yet.
    pub fn new() -> Self {
        Self {
            ops: vec![Op { kind: OpKind::Initial, effects: 0..0 }],
            effects: Vec::new(),
            cells: Vec::new(),
            versions: Vec::new(),
            usual: Vec::new(),
            ids: HashTable::new(),
            far: 0,
            entries: FxHashMap::default(),
            marks: Vec::new(),
        }
    }

    /// Adds an effect to op 0.
    ///
    /// # Panics
    /// When ops have already been recorded: the initial disk is what was there before them.
    pub fn push_initial(&mut self, cell: Cell, value: Value) {
        assert!(self.ops.len() == 1, "the initial disk is written before the first op");
        self.push_effect(0, cell, value);
        self.ops[0].effects.end = self.effects.len() as u32;
    }

    /// Appends an op with its effects and returns its number.
    pub fn push(&mut self, kind: OpKind, effects: impl IntoIterator<Item = (Cell, Value)>) -> Seq {
        let seq = self.ops.len() as Seq;
        let start = self.effects.len() as u32;
        for (cell, value) in effects {
            self.push_effect(seq, cell, value);
        }
        self.ops.push(Op { kind, effects: start..self.effects.len() as u32 });
        seq
    }

    /// Appends a sync call that returned before any other op was applied.
    pub fn push_sync(&mut self, scope: SyncScope, ok: bool) -> Seq {
        let returned = self.ops.len() as Seq;
        self.push(OpKind::Sync { scope, returned, ok }, [])
    }

    /// Places a mark after the last op.
    pub fn mark(&mut self, kind: MarkKind) {
        self.marks.push(Mark { after: self.last(), kind });
    }

    fn push_effect(&mut self, seq: Seq, cell: Cell, value: Value) {
        let id = EffectId(self.effects.len() as u32);
        let cell_id = self.intern(cell);
        self.versions[cell_id.0 as usize].push(id);
        self.effects.push(Effect { seq, cell: cell_id, value });
    }

    fn intern(&mut self, cell: Cell) -> CellId {
        let key = Key::of(&cell);
        if let Some(id) = self.find(&key) {
            return id;
        }
        let id = CellId(self.cells.len() as u32);
        let usual = key.usual();
        let (hash, ino) = (key.hash(), key.ino.0);
        if let Some(kind) = usual
            && ino <= 4 * u64::from(id.0) + 1024
        {
            // Inodes are numbered one by one. A trace from elsewhere may say otherwise, and is not given a table for it.
            if self.usual.len() as u64 <= ino {
                self.usual.resize(ino as usize + 1, [NO_CELL; USUAL]);
            }
            self.usual[ino as usize][kind] = id;
        } else {
            self.far += usize::from(usual.is_some());
            let cells = &self.cells;
            self.ids.insert_unique(hash, id, |id| Key::of(&cells[id.0 as usize]).hash());
        }
        if let Cell::Entry(dir, name) = &cell {
            self.entries.entry(*dir).or_default().insert(name.clone(), id);
        }
        self.cells.push(cell);
        self.versions.push(SmallVec::new());
        id
    }

    fn find(&self, key: &Key<'_>) -> Option<CellId> {
        if let Some(kind) = key.usual() {
            let known = usize::try_from(key.ino.0).ok().and_then(|ino| self.usual.get(ino));
            match known.map(|cells| cells[kind]) {
                Some(id) if id != NO_CELL => return Some(id),
                _ if self.far == 0 => return None,
                _ => {}
            }
        }
        self.ids.find(key.hash(), |id| Key::of(&self.cells[id.0 as usize]) == *key).copied()
    }

    /// The same trace, in which these sync calls cover nothing, as if they had not been made. All ops keep their numbers.
    #[must_use]
    pub fn without_syncs(mut self, calls: &[Seq]) -> Self {
        for call in calls {
            if let OpKind::Sync { scope, .. } = &mut self.ops[*call as usize].kind {
                // Nothing else is known of this one.
                *scope = SyncScope::File(Ino(u64::MAX));
            }
        }
        self
    }

    /// The number of the last op; also the last live state.
    pub fn last(&self) -> Seq {
        self.ops.len() as Seq - 1
    }

    /// All ops; the index is the op's number.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// All effects in order; the index is the effect's id.
    pub fn effects(&self) -> &[Effect] {
        &self.effects
    }

    /// All marks in order.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// One effect.
    pub fn effect(&self, id: EffectId) -> &Effect {
        &self.effects[id.0 as usize]
    }

    /// The id of a cell that some op wrote.
    pub fn cell_id(&self, cell: &Cell) -> Option<CellId> {
        self.find(&Key::of(cell))
    }

    /// The id of the cell of a name in a directory: [`Trace::cell_id`] without a [`Name`] to hand.
    pub fn entry_id(&self, dir: Ino, name: &[u8]) -> Option<CellId> {
        self.find(&Key::entry(dir, name))
    }

    /// A cell by its id.
    pub fn cell(&self, id: CellId) -> &Cell {
        &self.cells[id.0 as usize]
    }

    /// The number of cells that were ever written.
    pub fn cell_count(&self) -> usize {
        self.cells.len()
    }

    /// All versions of a cell, oldest first.
    pub fn versions(&self, id: CellId) -> &[EffectId] {
        &self.versions[id.0 as usize]
    }

    /// Every name that a directory ever held, in byte order, with its cell.
    pub fn names(&self, dir: Ino) -> impl Iterator<Item = (&Name, CellId)> {
        self.entries.get(&dir).into_iter().flatten().map(|(name, id)| (name, *id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also where numbers are far apart, as they may be in a trace from elsewhere, and become near later.
    #[test]
    fn every_cell_is_found_again_and_no_other() {
        let name = |n: u64| Name::from(n.to_string().as_bytes());
        let cells = |n: u64| {
            let i = Ino(n);
            let plain = [Cell::Inode(i), Cell::Target(i), Cell::Size(i), Cell::Mode(i), Cell::Owner(i)];
            let more = [Cell::Block(i, 0), Cell::Block(i, 1), Cell::Block(i, n), Cell::Entry(i, name(n))];
            plain.into_iter().chain(more).chain([Cell::Xattr(i, name(n)), Cell::Entry(i, name(n / 2))])
        };
        let written = [1, 2, u64::MAX, 3000, 1 << 40, 7, 1025, 4, u64::from(u32::MAX)];
        let mut trace = Trace::new();
        for round in 0..2 {
            for (nth, ino) in written.into_iter().enumerate() {
                trace.push(OpKind::Chmod { ino: Ino(ino) }, cells(ino).map(|cell| (cell, Value::Mode(0))));
                if round == 0 && nth == 4 {
                    // From here on, what was far is near.
                    for ino in 10_000..12_000 {
                        trace.push(OpKind::Chmod { ino: Ino(ino) }, [(Cell::Mode(Ino(ino)), Value::Mode(0))]);
                    }
                }
            }
        }
        for ino in written {
            for cell in cells(ino) {
                let id = trace.cell_id(&cell).unwrap_or_else(|| panic!("{cell:?} is lost"));
                assert_eq!(*trace.cell(id), cell);
                assert!(trace.versions(id).len() >= 2, "{cell:?} has two ids");
                if let Cell::Entry(dir, name) = &cell {
                    assert_eq!(trace.entry_id(*dir, name), Some(id));
                }
            }
        }
        for ino in [0, 5, 8, 2999, u64::MAX - 1] {
            assert!(cells(ino).all(|cell| trace.cell_id(&cell).is_none()));
        }
    }
}
