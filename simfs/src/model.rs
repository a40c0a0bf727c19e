//! Persistence models: what a power loss may leave of a trace.
//!
//! A model is data: requirements between effects, and what each kind of sync call forces. It says nothing else, and
//! never looks at paths or deploys. A model may only *force* what the file systems it speaks for guarantee: a rule
//! too few makes proofs harder, a rule too many would make them false.

mod forcing;
mod mutations;
mod profiles;
mod sync_index;

use std::fmt;

use crate::cell::{BLOCK_BYTES, Cell, Ino, Value};
use crate::trace::{EffectId, OpKind, SyncScope, Trace};

pub use forcing::{NEVER, forced_at};
pub use mutations::{Mutation, mutations};
pub use profiles::{BTRFS, EXT4_ORDERED, FILE_SYSTEMS, LYING_DISK, MODELS, POSIX, PROCESS_KILL, XFS};
pub(crate) use sync_index::Forced;
pub use sync_index::SyncIndex;

/// Which cells a sync call of an inode forces.
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
    /// The names that the inode has when the call begins, and, for each directory they are in, that it exists and the
    /// name that it was made with, if it still has it; and so on up to the root. Not the removal of former names.
    pub names: bool,
    /// Where metadata is one chain: how much of it.
    pub reach: Reach,
}

/// Up to which op a sync call of an inode forces the chain of metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nothing but what is listed.
    Own,
    /// Up to the op that made the inode.
    Birth,
    /// Up to the last op that changed the inode's metadata or gave it a name.
    LastChange,
}

/// In which order metadata becomes durable by itself: names, existence, attributes, link texts, and lengths that shrink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// In any.
    Free,
    /// In the order of the ops, each op whole: what survived of it brings all metadata of all ops before.
    Chain,
}

/// What a length that has grown brings along where [`Order::Chain`] holds, besides the lengths before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// No block: what the file did not have before may be zeros.
    Nothing,
    /// The blocks that the file did not have before, and the one that was the last.
    AllBlocks,
}

/// What the disk does with what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// Keeps what a sync call covers.
    Honest,
    /// Ignores flushes: nothing is ever certain.
    Lying,
    /// Never loses power: everything is kept at once.
    Lasting,
}

/// What a rule speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Which metadata may survive without which other.
    Order,
    /// The bytes of files.
    Data,
    /// Lengths that grew.
    Length,
    /// Metadata that a log may hold out of its order.
    Log,
    /// What makes durable, and the rest.
    Other,
}

/// One rule in words, with where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it speaks of.
    pub about: About,
    /// The rule.
    pub text: &'static str,
    /// A standard, a paper, a kernel source, or a litmus program that runs against the real file system.
    pub evidence: &'static str,
}

/// A persistence model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// Name, as in the verdict table.
    pub name: &'static str,
    /// What it speaks for, in one line.
    pub about: &'static str,
    /// How likely it is in practice that something is lost: said apart from whether it is possible.
    pub likely: &'static [(About, &'static str)],
    /// The kernel that it was compared with, and when; none for what speaks for no kernel.
    pub seen_on: Option<&'static str>,
    /// What the disk does.
    pub medium: Medium,
    /// The order of metadata. In any order, an entry that survived still brings the inode it names.
    pub order: Order,
    /// What a length that has grown brings along. Nothing where metadata has no order.
    pub growth: Growth,
    /// Whether a sync call of one file or directory may log metadata of before it on its own: from its begin on, that is
    /// out of the chain, and only an entry still brings its inode.
    pub logs: bool,
    /// What `fsync` of a file forces.
    pub fsync_file: Forces,
    /// What `fdatasync` of a file forces.
    pub fdatasync_file: Forces,
    /// What `fsync` of a directory forces.
    pub fsync_dir: Forces,
    /// The rules in words.
    pub rules: &'static [Rule],
}

impl Model {
    /// The model with a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        MODELS.into_iter().find(|model| model.name == name)
    }

    /// Whether an effect is a link of the chain of metadata.
    fn chains(&self, trace: &Trace, id: EffectId) -> bool {
        self.order == Order::Chain && is_link(trace, id)
    }

    /// The rule that allows an effect to be lost; `overtaken`: though something of an op after it survived. Every model has
    /// one.
    pub fn rule_about(&self, trace: &Trace, id: EffectId, overtaken: bool) -> Option<&'static Rule> {
        let about = match self.about(trace, id) {
            About::Order if overtaken && self.logs => About::Log,
            about => about,
        };
        let rule = |about| self.rules.iter().find(|rule| rule.about == about);
        rule(about).or_else(|| rule(About::Order))
    }

    /// How likely that is, where something is known of it.
    pub fn likely(&self, trace: &Trace, id: EffectId) -> Option<&'static str> {
        let about = self.about(trace, id);
        self.likely.iter().find(|(of, _)| *of == about).map(|(_, words)| *words)
    }

    fn about(&self, trace: &Trace, id: EffectId) -> About {
        match trace.cell(trace.effect(id).cell) {
            Cell::Block(..) if !self.chains(trace, id) => About::Data,
            Cell::Size(_) if !self.chains(trace, id) => About::Length,
            _ => About::Order,
        }
    }

    /// What a sync call of one inode forces, and which inode; none for calls of the whole disk.
    pub fn forces(&self, scope: SyncScope) -> Option<(Ino, Forces)> {
        match scope {
            SyncScope::All => None,
            SyncScope::File(ino) => Some((ino, self.fsync_file)),
            SyncScope::FileData(ino) => Some((ino, self.fdatasync_file)),
            SyncScope::Dir(ino) => Some((ino, self.fsync_dir)),
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}: {}", self.name, self.about)?;
        if let Some(seen_on) = self.seen_on {
            writeln!(out, "compared with {seen_on}")?;
        }
        for rule in self.rules {
            writeln!(out, "- {}\n  [{}]", rule.text, rule.evidence)?;
        }
        Ok(())
    }
}

/// Whether an effect is a link of the chain of metadata where there is one. A length that shrinks is, and the blocks that it
/// cuts off: they are gone in the same op. One that grows is not, nor is anything that holds bytes.
pub(crate) fn is_link(trace: &Trace, id: EffectId) -> bool {
    let effect = trace.effect(id);
    match (trace.cell(effect.cell), &effect.value) {
        (Cell::Block(_, n), _) => match trace.ops()[effect.seq as usize].kind {
            OpKind::Truncate { size, .. } => n * BLOCK_BYTES >= size,
            _ => false,
        },
        (Cell::Size(_), Value::Size(size)) => size_before(trace, id) > *size,
        (Cell::Size(_), _) => false,
        _ => true,
    }
}

/// The length that a file had before an effect that changes it.
pub(crate) fn size_before(trace: &Trace, id: EffectId) -> u64 {
    let versions = trace.versions(trace.effect(id).cell);
    let before = versions.partition_point(|version| *version < id).checked_sub(1);
    match before.map(|at| &trace.effect(versions[at]).value) {
        Some(Value::Size(size)) => *size,
        _ => 0,
    }
}
