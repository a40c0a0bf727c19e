//! Counterexamples in words.

use rustc_hash::FxHashMap;
use simfs::{Cell, Crashes, EffectId, Ino, Name, OpKind, ROOT, Seq, SyncScope, Trace, Value};

use super::Scenario;
use super::decide::Broken;
use super::repair::Call;
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

    /// A sync call that would help: where it belongs, and how to say it to a shell.
    pub(crate) fn call(&self, call: &Call, scenario: &Scenario) -> String {
        let deploy_path: String =
            scenario.deploy_path.iter().map(|name| format!("/{}", show(name))).collect();
        let command = match call.scope {
            SyncScope::All => format!("`sync -f {}`", for_shell(&format!("{}{deploy_path}", self.mount))),
            SyncScope::File(ino) | SyncScope::FileData(ino) | SyncScope::Dir(ino) => {
                format!("`sync {}`", for_shell(&self.path(ino)))
            }
        };
        if call.before_marks || call.after == self.trace.last() {
            format!("after {}, before anything is reported: {command}", self.op(call.after))
        } else {
            format!("before {}: {command}", self.op(call.after + 1))
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
        let (kept, lost) = (kept(crashes, broken), self.lost(crashes, broken));
        // What came before anything was lost is no surprise.
        let from = lost.first().map_or(0, |lost| self.trace.effect(*lost).seq);
        let before = kept.partition_point(|effect| self.trace.effect(*effect).seq < from);
        for (seq, cells) in self.by_op(&kept[before..]) {
            lines.push(format!("survived, though no sync covered it: {cells}, from {}", self.op(seq)));
        }
        for (seq, cells) in self.by_op(&lost) {
            lines.push(format!(
                "did not survive, since no sync had covered it: {cells}, from {}",
                self.op(seq)
            ));
        }
        let model = crashes.model();
        let mut rules: Vec<&str> = Vec::new();
        for effect in &lost {
            let seq = self.trace.effect(*effect).seq;
            let overtaken = kept.last().is_some_and(|kept| self.trace.effect(*kept).seq > seq);
            let rule = model.rule_about(self.trace, *effect, overtaken).map(|rule| rule.text);
            if let Some(rule) = rule.filter(|rule| !rules.contains(rule)) {
                rules.push(rule);
            }
        }
        lines.extend(rules.iter().map(|rule| format!("allowed by `{}`: {rule}", model.name)));
        // Of several, what stays open longest.
        if let Some(likely) = lost.iter().rev().find_map(|effect| model.likely(self.trace, *effect)) {
            lines.push(format!("how likely: {likely}"));
        }
        lines
    }

    /// Effects, in order, by the ops that they are from: what each changed.
    fn by_op(&self, effects: &[EffectId]) -> Vec<(Seq, String)> {
        let seq = |effect: &EffectId| self.trace.effect(*effect).seq;
        let ops = effects.chunk_by(|a, b| seq(a) == seq(b));
        let told = |op: &[EffectId]| {
            let cells: Vec<String> = op.iter().map(|effect| self.cell(*effect)).collect();
            Some((seq(op.first()?), cells.join(", ")))
        };
        ops.filter_map(told).collect()
    }

    /// The newest versions of pinned cells that were issued and are not in the state.
    pub(crate) fn lost(&self, crashes: &Crashes<'_>, broken: &Broken) -> Vec<EffectId> {
        let at = broken.state.at;
        let mut lost: Vec<EffectId> =
            broken.pins.iter().filter_map(|pin| self.lost_of(crashes, pin, at)).collect();
        lost.sort_unstable();
        lost.dedup();
        lost
    }

    fn lost_of(&self, crashes: &Crashes<'_>, pin: &simfs::Pin, at: Seq) -> Option<EffectId> {
        let mut versions = self.trace.versions(pin.0).iter().rev().copied();
        let newest = versions.find(|effect| self.trace.effect(*effect).seq <= at)?;
        (Some(newest) != pin.1 && crashes.forced_at(newest) > at).then_some(newest)
    }
}

/// A path as one word of a shell, however it is called. What is shown escaped (control characters, what is not UTF-8) is
/// not the name itself then, and finds nothing.
fn for_shell(path: &str) -> String {
    shlex::try_quote(path).map_or_else(|_| "PATH".to_owned(), std::borrow::Cow::into_owned)
}

/// What is pinned and survived without having been forced.
pub(crate) fn kept(crashes: &Crashes<'_>, broken: &Broken) -> Vec<EffectId> {
    let pinned = broken.pins.iter().filter_map(|pin| pin.1);
    let mut kept: Vec<EffectId> =
        pinned.filter(|effect| crashes.forced_at(*effect) > broken.state.at).collect();
    kept.sort_unstable();
    kept.dedup();
    kept
}
