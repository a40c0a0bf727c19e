//! What the sync calls of a trace force under a model.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::{Forces, Medium, Model, Order, Reach};
use crate::cell::{Cell, Ino, Value};
use crate::trace::{EffectId, OpKind, Seq, SyncScope, Trace};

/// Never: the op number of a sync that did not happen.
pub const NEVER: Seq = Seq::MAX;

/// For each effect, the op at whose return a sync forced it, or [`NEVER`].
///
/// Linear in the trace plus the work that the sync calls themselves ask for: an effect is looked at again only by
/// sync calls that cover its inode.
pub fn forced_at(trace: &Trace, model: &Model) -> Vec<Seq> {
    let effects = trace.effects().iter();
    match model.medium {
        Medium::Honest => Forcing::new(trace, model).run(),
        Medium::Lying => effects.map(|effect| if effect.seq == 0 { 0 } else { NEVER }).collect(),
        Medium::Lasting => effects.map(|effect| effect.seq).collect(),
    }
}

/// An effect's state on the way to the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Dirty,
    Forced(Seq),
    /// A failed sync covered it.
    Lost,
}

/// What was done to one inode. Most have few effects, and there are as many inodes as files: none allocates for those.
#[derive(Default)]
struct Dirty {
    /// Its effects, oldest first.
    all: SmallVec<[EffectId; 4]>,
    /// How many of them a sync call has looked at.
    seen: usize,
    /// Those among them that it did not cover and that may still be dirty, oldest first.
    left: SmallVec<[EffectId; 2]>,
    /// Where a call reaches along the chain of metadata up to the last change: the ops that changed its metadata or gave it a name, in order.
    changes: SmallVec<[Seq; 2]>,
}

struct Forcing<'t> {
    trace: &'t Trace,
    model: &'t Model,
    fate: Vec<Fate>,
    /// The effects of each inode that some sync call names alone.
    dirty: FxHashMap<Ino, Dirty>,
    /// The effects below this one are all settled.
    settled: u32,
    /// The links of the chain of metadata, if there is one, and how many of them a sync call has reached.
    chain: Vec<EffectId>,
    reached: usize,
    /// The entries that name an inode, oldest first, where a model asks for names.
    named: FxHashMap<Ino, SmallVec<[EffectId; 1]>>,
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
        let (mut chain, mut named) = (Vec::new(), FxHashMap::<Ino, SmallVec<[EffectId; 1]>>::default());
        let calls = [model.fsync_file, model.fdatasync_file, model.fsync_dir];
        let asks_for_changes = calls.iter().any(|forces| forces.reach == Reach::LastChange);
        let asks_for_names = !dirty.is_empty() && (model.fsync_file.names || model.fdatasync_file.names);
        for (at, effect) in trace.effects().iter().enumerate() {
            let id = EffectId(at as u32);
            if effect.seq == 0 {
                fate[at] = Fate::Forced(0);
            }
            if dirty.is_empty() {
                continue;
            }
            let cell = trace.cell(effect.cell);
            let links = model.chains(trace, id);
            if let Some(dirty) = dirty.get_mut(&cell.ino()) {
                if effect.seq > 0 {
                    dirty.all.push(id);
                }
                if links && asks_for_changes {
                    dirty.changes.push(effect.seq);
                }
            }
            if let Value::Entry(Some(child)) = effect.value {
                if links
                    && asks_for_changes
                    && let Some(dirty) = dirty.get_mut(&child)
                {
                    dirty.changes.push(effect.seq);
                }
                if asks_for_names {
                    named.entry(child).or_default().push(id);
                }
            }
            if links && effect.seq > 0 {
                chain.push(id);
            }
        }
        let settled = trace.ops()[0].effects.end;
        Self { trace, model, fate, dirty, settled, chain, reached: 0, named }
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
            let Some((ino, forces)) = self.model.forces(scope) else {
                self.settle_all(began, fate);
                continue;
            };
            self.settle_inode(ino, began, fate, forces);
            // A call that failed covers no more than this.
            if ok {
                self.reach(ino, began, fate, forces.reach);
                if forces.names {
                    self.settle_names(ino, began, fate);
                }
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
            let open = self.fate[id.0 as usize] == Fate::Dirty;
            let effect = trace.effect(*id);
            // A name that was settled with its file says nothing yet of what else there is to say about its child.
            let names = !self.named.is_empty() && matches!(effect.value, Value::Entry(Some(_)));
            if !open && !names {
                return false;
            }
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
        // A later call asks for the rest, and, of a chain, for the last change.
        if dirty.seen < dirty.all.len() || !dirty.left.is_empty() || !dirty.changes.is_empty() {
            self.dirty.insert(ino, dirty);
        }
    }

    /// Forces the chain of metadata as far as an inode's sync call reaches.
    fn reach(&mut self, ino: Ino, began: Seq, fate: Fate, reach: Reach) {
        if self.model.order == Order::Free {
            return;
        }
        let until = match reach {
            Reach::Own => None,
            Reach::Birth => self.birth(ino).map(|birth| self.trace.effect(birth).seq),
            Reach::LastChange => self.last_change(ino, began),
        };
        let Some(until) = until.filter(|until| *until < began) else { return };
        while let Some(next) = self.chain.get(self.reached).copied() {
            if self.trace.effect(next).seq > until {
                break;
            }
            self.reached += 1;
            self.settle_along(next, fate);
        }
    }

    fn last_change(&self, ino: Ino, began: Seq) -> Option<Seq> {
        let changes = &self.dirty.get(&ino)?.changes;
        changes[..changes.partition_point(|at| *at < began)].last().copied()
    }

    fn birth(&self, ino: Ino) -> Option<EffectId> {
        self.trace.versions(self.trace.cell_id(&Cell::Inode(ino))?).first().copied()
    }

    /// Forces what a call covers beyond its own inode. A name whose inode a failed call has lost is left alone: that
    /// would say more than `posix` does of the inode's existence.
    fn settle_along(&mut self, id: EffectId, fate: Fate) {
        if let Value::Entry(Some(child)) = self.trace.effect(id).value
            && self.birth(child).is_some_and(|birth| self.fate[birth.0 as usize] == Fate::Lost)
        {
            return;
        }
        self.settle(id, fate);
    }

    /// Forces the names of an inode, and that what they lead through exists.
    fn settle_names(&mut self, ino: Ino, began: Seq, fate: Fate) {
        let (mut above, mut todo) = (SmallVec::<[Ino; 16]>::new(), SmallVec::<[Ino; 16]>::from_slice(&[ino]));
        while let Some(at) = todo.pop() {
            let birth = self.birth(at);
            let made_in = birth.map(|birth| self.trace.effect(birth).seq);
            if at != ino
                && let Some(birth) = birth
            {
                self.settle(birth, fate);
            }
            let Some(names) = self.named.get(&at) else { continue };
            for id in names.clone() {
                let effect = self.trace.effect(id);
                // Of the directories above, a later name is not logged with the file.
                if !self.is_newest(id, began) || (at != ino && made_in != Some(effect.seq)) {
                    continue;
                }
                self.settle_along(id, fate);
                let dir = self.trace.cell(effect.cell).ino();
                if !above.contains(&dir) {
                    above.push(dir);
                    todo.push(dir);
                }
            }
        }
    }

    /// Whether an effect is what its cell held when a call began.
    fn is_newest(&self, id: EffectId, began: Seq) -> bool {
        let versions = self.trace.versions(self.trace.effect(id).cell);
        let issued = versions.partition_point(|version| self.trace.effect(*version).seq < began);
        versions[..issued].last() == Some(&id)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Fs;
    use crate::model::POSIX;

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
