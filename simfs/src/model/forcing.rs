//! What the sync calls of a trace force under a model.

use smallvec::SmallVec;

use super::sync_index::{Call, Inodes, SyncIndex};
use super::{Forces, Model, Order, Reach};
use crate::cell::{Cell, Ino, Value};
use crate::trace::{EffectId, Seq, Trace};

/// Never: the op number of a sync that did not happen.
pub const NEVER: Seq = Seq::MAX;

/// For each effect, the op at whose return a sync forced it, or [`NEVER`].
///
/// Linear in the trace plus the work that the sync calls themselves ask for: an effect is looked at again only by
/// sync calls that cover its inode.
pub fn forced_at(trace: &Trace, model: &Model) -> Vec<Seq> {
    SyncIndex::new(trace).forced_at(model)
}

/// How far sync calls have come with the effects of one inode.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// How many they have looked at.
    seen: u32,
    /// How many of those they did not cover, and may still be dirty: they stand first, oldest first.
    left: u32,
}

/// Goes through the sync calls under one model.
pub(super) struct Forcing<'i, 't> {
    trace: &'t Trace,
    model: &'i Model,
    index: &'i SyncIndex<'t>,
    links: &'i [bool],
    /// By effect: when it was forced, or [`NEVER`].
    at: Vec<Seq>,
    /// By effect: whether a failed call has covered it before it was forced. Empty until one has.
    lost: Vec<bool>,
    /// What is in the lists of [`Inodes::own`], in another order.
    own: Vec<u32>,
    progress: Vec<Progress>,
    /// The effects below this one are all settled.
    settled: u32,
    /// The links of the chain below this effect have been reached.
    reached: u32,
}

impl<'i, 't> Forcing<'i, 't> {
    pub(super) fn new(index: &'i SyncIndex<'t>, model: &'i Model) -> Self {
        let trace = index.trace;
        let made = trace.ops()[0].effects.end;
        let mut at = vec![NEVER; trace.effects().len()];
        at[..made as usize].fill(0);
        let inodes = index.inodes.as_ref();
        Self {
            trace,
            model,
            index,
            links: index.links.as_deref().unwrap_or_default(),
            at,
            lost: Vec::new(),
            own: inodes.map_or_else(Vec::new, |inodes| inodes.own.all.clone()),
            progress: vec![Progress::default(); inodes.map_or(0, |inodes| inodes.slots.count())],
            settled: made,
            reached: made,
        }
    }

    pub(super) fn run(mut self) -> Vec<Seq> {
        let index = self.index;
        for call in &index.calls {
            let Some((ino, forces)) = self.model.forces(call.scope) else {
                self.settle_all(call);
                continue;
            };
            let Some(inodes) = &index.inodes else { continue };
            let Some(slot) = inodes.slots.of(ino) else { continue };
            self.settle_inode(inodes, slot, call, forces);
            // A call that failed covers no more than this.
            if call.ok {
                self.reach(inodes, ino, slot, call, forces.reach);
                if forces.names {
                    self.settle_names(inodes, ino, call);
                }
            }
        }
        self.at
    }

    fn settle_all(&mut self, call: &Call) {
        for id in self.settled..call.before {
            self.settle(id, call);
        }
        self.settled = self.settled.max(call.before);
    }

    fn is_lost(&self, id: u32) -> bool {
        self.lost.get(id as usize).is_some_and(|lost| *lost)
    }

    fn is_dirty(&self, id: u32) -> bool {
        self.at[id as usize] == NEVER && !self.is_lost(id)
    }

    fn settle(&mut self, id: u32, call: &Call) {
        if !self.is_dirty(id) {
            return;
        }
        if call.ok {
            self.at[id as usize] = call.returned;
        } else {
            self.lost.resize(self.at.len(), false);
            self.lost[id as usize] = true;
        }
    }

    fn settle_inode(&mut self, inodes: &Inodes, slot: u32, call: &Call, forces: Forces) {
        let (from, to) = inodes.own.range(slot);
        let Progress { seen, left } = self.progress[slot as usize];
        // Each effect is looked at once, and again only while sync calls do not cover its kind of cell. Those that
        // were made after the call began wait for a later one.
        let ready = self.own[from + seen as usize..to].partition_point(|id| *id < call.before) as u32;
        let mut still_left = 0;
        for nth in (0..left).chain(seen..seen + ready) {
            let id = self.own[from + nth as usize];
            if self.leaves(inodes, id, call, forces) {
                self.own[from + still_left as usize] = id;
                still_left += 1;
            }
        }
        self.progress[slot as usize] = Progress { seen: seen + ready, left: still_left };
    }

    /// Settles an effect if the call covers it, and tells whether a later call of its inode has to look at it again.
    fn leaves(&mut self, inodes: &Inodes, id: u32, call: &Call, forces: Forces) -> bool {
        let kind = inodes.kinds[id as usize];
        let child = inodes.named_by(self.trace, id);
        // A name that was settled with its file says nothing yet of what else there is to say about its child.
        let names = self.model.fsync_file.names || self.model.fdatasync_file.names;
        let is_open = self.is_dirty(id) || (names && child.is_some());
        if !is_open {
            return false;
        }
        // Calls are in the order of their returns: one that began earlier may come later.
        if id >= call.before || forces.kinds() & kind == 0 {
            return true;
        }
        if let Some(child) = child {
            self.settle_child(child, call);
        }
        self.settle(id, call);
        false
    }

    /// Forces the chain of metadata as far as an inode's sync call reaches.
    fn reach(&mut self, inodes: &Inodes, ino: Ino, slot: u32, call: &Call, reach: Reach) {
        if self.model.order == Order::Free {
            return;
        }
        let until = match reach {
            Reach::Own => None,
            Reach::Birth => self.birth(ino),
            Reach::LastChange => {
                let changes = inodes.changes.as_ref().map_or(&[][..], |changes| changes.of(slot));
                changes[..changes.partition_point(|id| *id < call.before)].last().copied()
            }
        };
        let Some(until) = until.filter(|until| *until < call.before) else { return };
        // Each op whole.
        let end = self.trace.ops()[self.trace.effect(EffectId(until)).seq as usize].effects.end;
        for id in self.reached..end {
            if self.links[id as usize] {
                self.settle_along(id, call);
            }
        }
        self.reached = self.reached.max(end);
    }

    fn birth(&self, ino: Ino) -> Option<u32> {
        let versions = self.trace.versions(self.trace.cell_id(&Cell::Inode(ino))?);
        versions.first().map(|id| id.0)
    }

    /// Forces what a call covers beyond its own inode. A name whose inode a failed call has lost is left alone: that
    /// would say more than `posix` does of the inode's existence.
    fn settle_along(&mut self, id: u32, call: &Call) {
        if !self.lost.is_empty()
            && let Value::Entry(Some(child)) = self.trace.effect(EffectId(id)).value
            && self.birth(child).is_some_and(|birth| self.is_lost(birth))
        {
            return;
        }
        self.settle(id, call);
    }

    /// Forces the names of an inode, and that what they lead through exists.
    fn settle_names(&mut self, inodes: &Inodes, ino: Ino, call: &Call) {
        let Some(named) = &inodes.named else { return };
        let (mut above, mut todo) = (SmallVec::<[Ino; 16]>::new(), SmallVec::<[Ino; 16]>::from_slice(&[ino]));
        while let Some(at) = todo.pop() {
            let birth = self.birth(at);
            let made_in = birth.map(|birth| self.trace.effect(EffectId(birth)).seq);
            if at != ino
                && let Some(birth) = birth
            {
                self.settle(birth, call);
            }
            let Some(slot) = inodes.slots.of(at) else { continue };
            for id in named.of(slot) {
                let effect = self.trace.effect(EffectId(*id));
                // Of the directories above, a later name is not logged with the file.
                if !self.is_newest(*id, call) || (at != ino && made_in != Some(effect.seq)) {
                    continue;
                }
                self.settle_along(*id, call);
                let dir = self.trace.cell(effect.cell).ino();
                if !above.contains(&dir) {
                    above.push(dir);
                    todo.push(dir);
                }
            }
        }
    }

    /// Whether an effect is what its cell held when a call began.
    fn is_newest(&self, id: u32, call: &Call) -> bool {
        id < call.before && self.index.next[id as usize] >= call.before
    }

    /// A directory's sync also covers that its children exist, and what its symlinks say.
    fn settle_child(&mut self, child: Ino, call: &Call) {
        for cell in [Cell::Inode(child), Cell::Target(child)] {
            let Some(cell) = self.trace.cell_id(&cell) else { continue };
            for id in self.trace.versions(cell).iter().filter(|id| id.0 < call.before) {
                self.settle(id.0, call);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Fs;
    use crate::model::POSIX;
    use crate::trace::SyncScope;

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
