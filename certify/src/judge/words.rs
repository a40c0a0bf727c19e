//! Counterexamples in words.

use rustc_hash::FxHashMap;
use simfs::{Cell, Crashes, EffectId, Ino, Name, OpKind, ROOT, Seq, SyncScope, Trace, Value};

use super::Scenario;
use super::decide::Broken;
use crate::tree::show;

/// Tells ops of a trace with the paths they had.
pub(crate) struct Words<'a> {
    trace: &'a Trace,
    mount: String,
    /// The last name that each inode was given.
    names: FxHashMap<Ino, (Ino, Name)>,
    /// Other names that inodes still have, where names are followed from op to op.
    more: FxHashMap<Ino, Vec<(Ino, Name)>>,
}

impl<'a> Words<'a> {
    pub(crate) fn new(trace: &'a Trace, scenario: &Scenario) -> Self {
        let mut names = FxHashMap::default();
        for effect in trace.effects() {
            if let (Cell::Entry(dir, name), Value::Entry(Some(ino))) =
                (trace.cell(effect.cell), &effect.value)
            {
                names.insert(*ino, (*dir, name.clone()));
            }
        }
        Self { names, ..Self::at_start(trace, scenario) }
    }

    /// Before op 0: nothing has a name yet. [`Words::follow`] each op to have the names of an instant.
    pub(crate) fn at_start(trace: &'a Trace, scenario: &Scenario) -> Self {
        let mount: String = scenario.mount.iter().map(|name| format!("/{}", show(name))).collect();
        Self { trace, mount, names: FxHashMap::default(), more: FxHashMap::default() }
    }

    /// Names are those after op `k` from now on. What has none any more keeps its last.
    pub(crate) fn follow(&mut self, k: Seq) {
        for id in self.trace.ops()[k as usize].effects.clone().map(EffectId) {
            let effect = self.trace.effect(id);
            let Cell::Entry(dir, name) = self.trace.cell(effect.cell) else { continue };
            let versions = self.trace.versions(effect.cell);
            let before = versions.iter().rev().find(|version| **version < id);
            if let Some(Value::Entry(Some(ino))) = before.map(|id| &self.trace.effect(*id).value) {
                self.lose(*ino, *dir, name);
            }
            if let Value::Entry(Some(ino)) = effect.value
                && let Some(before) = self.names.insert(ino, (*dir, name.clone()))
            {
                self.more.entry(ino).or_default().push(before);
            }
        }
    }

    fn lose(&mut self, ino: Ino, dir: Ino, name: &Name) {
        let lost = (dir, name.clone());
        let Some(more) = self.more.get_mut(&ino) else { return };
        if self.names.get(&ino) == Some(&lost) {
            if let Some(other) = more.pop() {
                self.names.insert(ino, other);
            }
        } else {
            more.retain(|other| *other != lost);
        }
    }

    /// A path on the machine, safe on a terminal.
    pub(crate) fn path(&self, ino: Ino) -> String {
        let mut names = Vec::new();
        let mut at = ino;
        // A hard-linked or renamed directory could name itself; no real path is this deep.
        while at != ROOT && names.len() < 256 {
            let Some((dir, name)) = self.names.get(&at) else { break };
            names.push(show(name));
            at = *dir;
        }
        names.push(self.mount.clone());
        names.reverse();
        names.join("/")
    }

    fn entry(&self, dir: Ino, name: &Name) -> String {
        format!("{}/{}", self.path(dir), show(name))
    }

    /// One op: its number and what it did.
    pub(crate) fn op(&self, k: Seq) -> String {
        format!("op {k} ({})", self.what(k))
    }

    /// What an op did.
    pub(crate) fn what(&self, k: Seq) -> String {
        match &self.trace.ops()[k as usize].kind {
            OpKind::Initial => "the disk as it was found".to_owned(),
            OpKind::Mkdir { dir, name } => format!("mkdir {}", self.entry(*dir, name)),
            OpKind::Create { dir, name } => format!("create {}", self.entry(*dir, name)),
            OpKind::Symlink { dir, name } => format!("symlink {}", self.entry(*dir, name)),
            OpKind::Link { ino, dir, name } => format!("link {} {}", self.path(*ino), self.entry(*dir, name)),
            OpKind::Unlink { dir, name } => format!("unlink {}", self.entry(*dir, name)),
            OpKind::Rmdir { dir, name } => format!("rmdir {}", self.entry(*dir, name)),
            OpKind::Rename { from_dir, from, to_dir, to, exchange } => {
                let how = if *exchange { "exchange" } else { "rename" };
                format!("{how} {} {}", self.entry(*from_dir, from), self.entry(*to_dir, to))
            }
            OpKind::Write { ino, offset, len } => {
                format!("write {len} bytes at {offset} of {}", self.path(*ino))
            }
            OpKind::Truncate { ino, size } => format!("truncate {} to {size} bytes", self.path(*ino)),
            OpKind::Fallocate { ino, offset, len } => {
                format!("fallocate {len} bytes at {offset} of {}", self.path(*ino))
            }
            OpKind::CopyRange { from, to, offset, len } => {
                format!("copy {len} bytes of {} to {offset} of {}", self.path(*from), self.path(*to))
            }
            OpKind::Chmod { ino } => format!("chmod {}", self.path(*ino)),
            OpKind::Chown { ino } => format!("chown {}", self.path(*ino)),
            OpKind::Xattr { ino, name } => format!("xattr {} of {}", show(name), self.path(*ino)),
            OpKind::Sync { scope, ok, .. } => {
                let what = match scope {
                    SyncScope::All => "sync of the whole disk".to_owned(),
                    SyncScope::File(ino) | SyncScope::Dir(ino) => format!("fsync {}", self.path(*ino)),
                    SyncScope::FileData(ino) => format!("fdatasync {}", self.path(*ino)),
                };
                if *ok { what } else { format!("{what} (failed)") }
            }
        }
    }

    /// One effect: what of an op survived or did not.
    fn effect(&self, id: EffectId) -> String {
        format!("{}, from {}", self.cell(id), self.op(self.trace.effect(id).seq))
    }

    /// What an effect changed.
    pub(crate) fn cell(&self, id: EffectId) -> String {
        let effect = self.trace.effect(id);
        match (self.trace.cell(effect.cell), &effect.value) {
            (Cell::Inode(ino), _) => format!("the existence of {}", self.path(*ino)),
            (Cell::Target(ino), _) => format!("the text of the symlink {}", self.path(*ino)),
            (Cell::Entry(dir, name), Value::Entry(None)) => {
                format!("the removal of {}", self.entry(*dir, name))
            }
            (Cell::Entry(dir, name), _) => format!("the name {}", self.entry(*dir, name)),
            (Cell::Block(ino, n), _) => {
                format!("the bytes at {} of {}", n * simfs::BLOCK_BYTES, self.path(*ino))
            }
            (Cell::Size(ino), _) => format!("the length of {}", self.path(*ino)),
            (Cell::Mode(ino), _) => format!("the mode of {}", self.path(*ino)),
            (Cell::Owner(ino), _) => format!("the owner of {}", self.path(*ino)),
            (Cell::Xattr(ino, _), _) => format!("an attribute of {}", self.path(*ino)),
        }
    }

    /// A power loss: when, what is wrong, what survived and what did not.
    pub(crate) fn counterexample(
        &self,
        crashes: &Crashes<'_>,
        broken: &Broken,
        sentence: &str,
    ) -> Vec<String> {
        let at = broken.state.at;
        let mut lines = vec![format!("power loss after {}:", self.op(at)), sentence.to_owned()];
        // What the pins name is what matters; the rest of the state is there only because a pin requires it, or
        // because no sync could take it back.
        let pinned = |effect: &&EffectId| broken.pins.iter().any(|pin| pin.1 == Some(**effect));
        for effect in broken.state.extra.iter().filter(pinned) {
            lines.push(format!("survived, though no sync covered it: {}", self.effect(*effect)));
        }
        let mut lost: Vec<EffectId> =
            broken.pins.iter().filter_map(|pin| self.lost(crashes, pin, at)).collect();
        lost.sort_unstable();
        lost.dedup();
        for effect in lost {
            lines.push(format!("did not survive, since no sync had covered it: {}", self.effect(effect)));
        }
        lines
    }

    /// The newest version of a pinned cell that was issued and is not in the state.
    fn lost(&self, crashes: &Crashes<'_>, pin: &simfs::Pin, at: Seq) -> Option<EffectId> {
        let mut versions = self.trace.versions(pin.0).iter().rev().copied();
        let newest = versions.find(|effect| self.trace.effect(*effect).seq <= at)?;
        (Some(newest) != pin.1 && crashes.forced_at(newest) > at).then_some(newest)
    }
}
