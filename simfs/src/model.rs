//! Persistence models: what a power loss may leave of a trace.
//!
//! A model is data: requirements between effects, and what each kind of sync call forces. It says nothing else, and
//! never looks at paths or deploys. A model may only *force* what the file systems it speaks for guarantee: a rule
//! too few makes proofs harder, a rule too many would make them false.

use std::fmt;

use crate::cell::{Cell, Ino, Value};
use crate::trace::{EffectId, OpKind, Seq, SyncScope, Trace};
use rustc_hash::FxHashMap;

/// Which of an inode's cells a sync call forces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "a set of kinds of cells, written out")]
pub struct Forces {
    /// The existence of the inode itself.
    pub inode: bool,
    /// All data blocks.
    pub data: bool,
    /// The length.
    pub size: bool,
    /// Permission bits, owner and extended attributes.
    pub attributes: bool,
    /// For directories: the entries, the existence of each child they name and the text of symlinks among them.
    pub entries: bool,
}

/// One rule in words, with where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The rule.
    pub text: &'static str,
    /// A standard, a paper or a kernel source.
    pub evidence: &'static str,
}

/// A persistence model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// Name, as in the verdict table.
    pub name: &'static str,
    /// Whether an entry that survived brings the inode it names with it.
    pub entry_requires_inode: bool,
    /// What `fsync` of a file forces.
    pub fsync_file: Forces,
    /// What `fdatasync` of a file forces.
    pub fdatasync_file: Forces,
    /// What `fsync` of a directory forces.
    pub fsync_dir: Forces,
    /// The rules in words.
    pub rules: &'static [Rule],
}

/// The weakest promise that still lets software be written: POSIX's synchronised I/O, and nothing more.
///
/// Meant to contain every state that ext4, xfs or btrfs can leave, so that what is proved here holds on them: each rule
/// forces no more than they document. No test holds this against the real ones yet.
pub const POSIX: Model = Model {
    name: "posix",
    entry_requires_inode: true,
    fsync_file: Forces { inode: true, data: true, size: true, attributes: true, entries: false },
    fdatasync_file: Forces { inode: true, data: true, size: true, attributes: false, entries: false },
    fsync_dir: Forces { inode: true, data: false, size: false, attributes: true, entries: true },
    rules: &[
        Rule {
            text: "nothing is ordered, except that a directory entry that survived brings the inode it names, \
                   possibly without its content: an empty file, an empty directory, an empty symlink",
            evidence: "Pillai et al., All File Systems Are Not Created Equal, OSDI 2014, table 1",
        },
        Rule {
            text: "rename: the new name is one effect (it replaces atomically), the removal of the old name another",
            evidence: "POSIX.1-2024 rename(); the same paper, section 3",
        },
        Rule {
            text: "fsync of a file makes its inode, data, size, mode and owner durable; not its name",
            evidence: "POSIX.1-2024 fsync(); fsync(2), NOTES: the directory needs an fsync of its own",
        },
        Rule {
            text: "fdatasync of a file makes its inode, its data and the size needed to read it durable",
            evidence: "POSIX.1-2024 fdatasync(), synchronized I/O data integrity completion",
        },
        Rule {
            text: "fsync of a directory makes its entries durable, the existence of each child they name, the \
                   text of symlinks among them, and its own inode, mode and owner",
            evidence: "fsync(2); a symlink cannot be opened for fsync, so its directory's fsync is the only way",
        },
        Rule {
            text: "syncfs and sync make everything before them durable",
            evidence: "syncfs(2), sync(2): Linux waits for completion",
        },
        Rule {
            text: "a sync call that failed makes nothing durable, and what it covered can never be made durable \
                   by a later one: the pages are clean",
            evidence: "Rebello et al., Can Applications Recover from fsync Failures?, USENIX ATC 2020",
        },
        Rule { text: "close, exit and time make nothing durable", evidence: "close(2), NOTES" },
    ],
};

impl fmt::Display for Model {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.name)?;
        for rule in self.rules {
            writeln!(out, "- {}\n  [{}]", rule.text, rule.evidence)?;
        }
        Ok(())
    }
}

/// Never: the op number of a sync that did not happen.
pub const NEVER: Seq = Seq::MAX;

/// For each effect, the op at whose return a sync forced it, or [`NEVER`].
///
/// Linear in the trace plus the work that the sync calls themselves ask for: an effect is looked at again only by
/// sync calls that cover its inode.
pub fn forced_at(trace: &Trace, model: &Model) -> Vec<Seq> {
    Forcing::new(trace, model).run()
}

/// An effect's state on the way to the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Dirty,
    Forced(Seq),
    /// A failed sync covered it.
    Lost,
}

/// What was done to one inode.
#[derive(Default)]
struct Dirty {
    /// Its effects, oldest first.
    all: Vec<EffectId>,
    /// How many of them a sync call has looked at.
    seen: usize,
    /// Those among them that it did not cover and that may still be dirty, oldest first.
    left: Vec<EffectId>,
}

struct Forcing<'t> {
    trace: &'t Trace,
    model: &'t Model,
    fate: Vec<Fate>,
    /// The effects of each inode that some sync call names alone.
    dirty: FxHashMap<Ino, Dirty>,
    /// The effects below this one are all settled.
    settled: u32,
}

impl<'t> Forcing<'t> {
    fn new(trace: &'t Trace, model: &'t Model) -> Self {
        let mut dirty: FxHashMap<Ino, Dirty> = FxHashMap::default();
        for op in trace.ops() {
            if let OpKind::Sync { scope, .. } = op.kind
                && let SyncScope::File(ino) | SyncScope::FileData(ino) | SyncScope::Dir(ino) = scope
            {
                dirty.entry(ino).or_default();
            }
        }
        let mut fate = vec![Fate::Dirty; trace.effects().len()];
        for (at, effect) in trace.effects().iter().enumerate() {
            if effect.seq == 0 {
                fate[at] = Fate::Forced(0);
            } else if !dirty.is_empty()
                && let Some(dirty) = dirty.get_mut(&trace.cell(effect.cell).ino())
            {
                dirty.all.push(EffectId(at as u32));
            }
        }
        Self { trace, model, fate, dirty, settled: trace.ops()[0].effects.end }
    }

    fn run(mut self) -> Vec<Seq> {
        let mut syncs: Vec<(Seq, Seq, SyncScope, bool)> = Vec::new();
        for (seq, op) in self.trace.ops().iter().enumerate() {
            if let OpKind::Sync { scope, returned, ok } = op.kind {
                syncs.push((returned, seq as Seq, scope, ok));
            }
        }
        // What a sync forces is durable when it returns, so the one that returned first settles first.
        syncs.sort_by_key(|(returned, began, ..)| (*returned, *began));
        for (returned, began, scope, ok) in syncs {
            let fate = if ok { Fate::Forced(returned) } else { Fate::Lost };
            match scope {
                SyncScope::All => self.settle_all(began, fate),
                SyncScope::File(ino) => self.settle_inode(ino, began, fate, self.model.fsync_file),
                SyncScope::FileData(ino) => self.settle_inode(ino, began, fate, self.model.fdatasync_file),
                SyncScope::Dir(ino) => self.settle_inode(ino, began, fate, self.model.fsync_dir),
            }
        }
        let at = |fate| if let Fate::Forced(seq) = fate { seq } else { NEVER };
        self.fate.into_iter().map(at).collect()
    }

    fn settle_all(&mut self, began: Seq, fate: Fate) {
        let end = self.trace.effects().partition_point(|effect| effect.seq < began) as u32;
        for at in self.settled..end.max(self.settled) {
            self.settle(EffectId(at), fate);
        }
        self.settled = self.settled.max(end);
    }

    fn settle(&mut self, effect: EffectId, fate: Fate) {
        let now = &mut self.fate[effect.0 as usize];
        if *now == Fate::Dirty {
            *now = fate;
        }
    }

    fn settle_inode(&mut self, ino: Ino, began: Seq, fate: Fate, forces: Forces) {
        let Some(mut dirty) = self.dirty.remove(&ino) else { return };
        let trace = self.trace;
        // Each effect is looked at once, and again only while sync calls do not cover its kind of cell. Those that
        // were made after the call began wait for a later one.
        let ready = dirty.all[dirty.seen..].partition_point(|id| trace.effect(*id).seq < began);
        dirty.left.extend_from_slice(&dirty.all[dirty.seen..dirty.seen + ready]);
        dirty.seen += ready;
        dirty.left.retain(|id| {
            if self.fate[id.0 as usize] != Fate::Dirty {
                return false;
            }
            let effect = trace.effect(*id);
            // Calls are in the order of their returns: one that began earlier may come later.
            if effect.seq >= began || !forces.covers(trace.cell(effect.cell)) {
                return true;
            }
            if let Value::Entry(Some(child)) = effect.value {
                self.settle_child(child, began, fate);
            }
            self.settle(*id, fate);
            false
        });
        if dirty.seen < dirty.all.len() || !dirty.left.is_empty() {
            self.dirty.insert(ino, dirty);
        }
    }

    /// A directory's sync also covers that its children exist, and what its symlinks say.
    fn settle_child(&mut self, child: Ino, began: Seq, fate: Fate) {
        for cell in [Cell::Inode(child), Cell::Target(child)] {
            let Some(id) = self.trace.cell_id(&cell) else { continue };
            for effect in self.trace.versions(id) {
                if self.trace.effect(*effect).seq < began {
                    self.settle(*effect, fate);
                }
            }
        }
    }
}

impl Forces {
    fn covers(self, cell: &Cell) -> bool {
        match cell {
            Cell::Inode(_) => self.inode,
            Cell::Block(..) => self.data,
            Cell::Size(_) => self.size,
            Cell::Mode(_) | Cell::Owner(_) | Cell::Xattr(..) => self.attributes,
            Cell::Entry(..) => self.entries,
            Cell::Target(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Fs;

    #[test]
    fn what_one_call_leaves_the_next_one_forces() {
        let mut fs = Fs::new(0, 0, 0o755);
        fs.start_recording();
        let ino = fs.write_file("f", b"x").unwrap();
        fs.chmod(ino, 0o600).unwrap();
        let data = fs.sync(SyncScope::FileData(ino), true);
        let all = fs.sync(SyncScope::File(ino), true);
        let trace = fs.trace();
        let forced = forced_at(trace, &POSIX);
        let at = |cell| forced[trace.versions(trace.cell_id(&cell).unwrap())[0].0 as usize];
        assert_eq!([at(Cell::Size(ino)), at(Cell::Block(ino, 0)), at(Cell::Mode(ino))], [data, data, all]);
    }
}
