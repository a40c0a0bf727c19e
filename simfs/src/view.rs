//! A view: the disk in one live state or one crash state, read straight from a trace.
//!
//! Opening a view copies nothing: every cell keeps all its versions in the trace, and a view only says which of them
//! counts. A view never changes and knows no paths, only inodes and names.

use std::sync::Arc;

use crate::cell::{Birth, Cell, Ino, Name, Value};
use crate::crash::{CrashState, Crashes};
use crate::trace::{CellId, EffectId, Seq, Trace};

/// Which versions count.
#[derive(Clone, Copy)]
enum Pick<'t> {
    /// All up to an op.
    Live(Seq),
    /// Those of a crash state.
    Crash(&'t Crashes<'t>, &'t CrashState),
    /// Those that a table, indexed by effect, says survived.
    Survivors(&'t [bool]),
}

/// One state of a disk.
#[derive(Clone, Copy)]
pub struct View<'t> {
    trace: &'t Trace,
    pick: Pick<'t>,
}

impl<'t> View<'t> {
    /// The live state just after op `k`.
    pub fn live(trace: &'t Trace, k: Seq) -> Self {
        Self { trace, pick: Pick::Live(k) }
    }

    /// The disk as found after a power loss.
    pub fn crash(crashes: &'t Crashes<'t>, state: &'t CrashState) -> Self {
        Self { trace: crashes.trace(), pick: Pick::Crash(crashes, state) }
    }

    /// The disk made of the effects for which `survived`, indexed by effect, is true.
    pub fn survivors(trace: &'t Trace, survived: &'t [bool]) -> Self {
        Self { trace, pick: Pick::Survivors(survived) }
    }

    /// The trace the view is of.
    pub fn trace(&self) -> &'t Trace {
        self.trace
    }

    /// The version of a cell that counts, or none if the cell still has its initial value.
    pub fn newest(&self, cell: CellId) -> Option<EffectId> {
        let versions = self.trace.versions(cell);
        match self.pick {
            Pick::Live(k) => {
                let upto = versions.partition_point(|e| self.trace.effect(*e).seq <= k);
                upto.checked_sub(1).map(|at| versions[at])
            }
            Pick::Crash(crashes, state) => {
                versions.iter().rev().copied().find(|e| state.contains(crashes, *e))
            }
            Pick::Survivors(survived) => versions.iter().rev().copied().find(|e| survived[e.0 as usize]),
        }
    }

    fn value(&self, cell: &Cell) -> Option<&'t Value> {
        let id = self.trace.cell_id(cell)?;
        self.newest(id).map(|e| &self.trace.effect(e).value)
    }

    /// How an inode was born, if it exists in this state.
    pub fn birth(&self, ino: Ino) -> Option<Birth> {
        match self.value(&Cell::Inode(ino)) {
            Some(Value::Inode(birth)) => Some(*birth),
            _ => None,
        }
    }

    /// What a name stands for; nothing also where the inode it names does not exist.
    pub fn entry(&self, dir: Ino, name: &Name) -> Option<Ino> {
        let id = self.trace.entry_id(dir, name)?;
        self.entry_at(id)
    }

    fn entry_at(&self, id: CellId) -> Option<Ino> {
        match &self.trace.effect(self.newest(id)?).value {
            Value::Entry(Some(ino)) if self.birth(*ino).is_some() => Some(*ino),
            _ => None,
        }
    }

    /// The entries of a directory, in byte order.
    pub fn entries(&self, dir: Ino) -> impl Iterator<Item = (&'t Name, Ino)> + use<'t> {
        let view = *self;
        self.trace.names(dir).filter_map(move |(name, id)| view.entry_at(id).map(|ino| (name, ino)))
    }

    /// A symlink's text; empty where it did not survive.
    pub fn target(&self, ino: Ino) -> &'t [u8] {
        match self.value(&Cell::Target(ino)) {
            Some(Value::Target(text)) => text,
            _ => &[],
        }
    }

    /// A file's length in bytes.
    pub fn size_bytes(&self, ino: Ino) -> u64 {
        match self.value(&Cell::Size(ino)) {
            Some(Value::Size(bytes)) => *bytes,
            _ => 0,
        }
    }

    /// A block's bytes without trailing zeros.
    pub fn block(&self, ino: Ino, n: u64) -> &'t [u8] {
        match self.value(&Cell::Block(ino, n)) {
            Some(Value::Block(bytes)) => bytes,
            _ => &[],
        }
    }

    /// The same as [`View::block`], shared.
    pub fn shared_block(&self, ino: Ino, n: u64) -> Option<Arc<[u8]>> {
        match self.value(&Cell::Block(ino, n)) {
            Some(Value::Block(bytes)) => Some(bytes.clone()),
            _ => None,
        }
    }

    /// Permission bits.
    pub fn mode(&self, ino: Ino) -> u32 {
        match self.value(&Cell::Mode(ino)) {
            Some(Value::Mode(mode)) => *mode,
            _ => self.birth(ino).map_or(0, |birth| birth.mode),
        }
    }

    /// Every cell that has a value in this state, in the order in which these values were made: what
    /// [`Fs::from_cells`](crate::Fs::from_cells) starts a rebooted disk from.
    pub fn cells(&self) -> impl Iterator<Item = (Cell, Value)> + use<'t> {
        let trace = self.trace;
        let mut newest: Vec<EffectId> =
            (0..trace.cell_count() as u32).filter_map(|id| self.newest(CellId(id))).collect();
        newest.sort_unstable();
        newest.into_iter().map(move |id| {
            let effect = trace.effect(id);
            (trace.cell(effect.cell).clone(), effect.value.clone())
        })
    }
}
