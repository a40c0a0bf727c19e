//! Whether a profile allows a tree, decided without enumerating: for traces of any size.
//!
//! A tree leaves open which versions of cells are behind it, and how far the chain of metadata was. For each length of the
//! chain, what may be behind a path is found cell by cell: the newest version that must be there, or a newer one that may.
//! What a file's length requires of its blocks is asked of the certifier's procedure ([`Crashes::feasible`]), which is
//! thereby held against the kernels as well. The enumeration ([`crate::allowed`]) is the witness for small programs.

use std::cell::RefCell;
use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use simfs::{
    BLOCK_BYTES, Cell, CellId, CrashState, Crashes, EffectId, Ino, Kind as Type, ROOT, Seq, Trace, Value,
};

use crate::tree::{Node, Tree, shown};

/// The smallest part of a block that a disk writes whole.
pub(crate) const SECTOR_BYTES: usize = 512;

/// A tree with directories as values.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Nested<'n> {
    node: &'n Node,
    below: BTreeMap<&'n str, Nested<'n>>,
}

impl<'n> Nested<'n> {
    /// Nothing if the tree has no root.
    pub(crate) fn of(tree: &'n Tree) -> Option<Self> {
        let mut nested = Self { node: tree.nodes.get("")?, below: BTreeMap::new() };
        // A directory comes before what is in it.
        for (path, node) in tree.nodes.iter().filter(|(path, _)| !path.is_empty()) {
            let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
            let mut at = &mut nested;
            for part in above.split('/').filter(|part| !part.is_empty()) {
                at = at.below.get_mut(part)?;
            }
            at.below.insert(name, Self { node, below: BTreeMap::new() });
        }
        Some(nested)
    }
}

/// How a tree is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// But for lengths and blocks that were being written.
    Partly,
    /// As it is.
    Exactly,
}

/// The trees that are allowed at one crash point.
pub(crate) struct Decider<'c, 't> {
    crashes: &'c Crashes<'t>,
    trace: &'t Trace,
    k: Seq,
    /// The lengths of the chain that make a difference.
    chains: Vec<Seq>,
    /// The least state that has an effect as the newest of its cell, if there is one.
    least: RefCell<FxHashMap<EffectId, Option<CrashState>>>,
}

/// What has to be found: one of these inodes, as this.
type Goal<'n> = (Vec<Ino>, &'n Nested<'n>);

impl<'c, 't> Decider<'c, 't> {
    /// At crash point `k`.
    pub(crate) fn new(crashes: &'c Crashes<'t>, k: Seq) -> Self {
        let trace = crashes.trace();
        let issued = trace.effects().partition_point(|effect| effect.seq <= k) as u32;
        let open = (0..issued).map(EffectId).filter(|id| crashes.is_link(*id) && crashes.forced_at(*id) > k);
        let mut chains: Vec<Seq> = open.map(|id| trace.effect(id).seq).collect();
        chains.push(0);
        chains.sort_unstable_by(|a, b| b.cmp(a));
        chains.dedup();
        Self { crashes, trace, k, chains, least: RefCell::default() }
    }

    /// The lengths of the chain of metadata that make a difference.
    pub(crate) fn chains(&self) -> &[Seq] {
        &self.chains
    }

    /// Whether the tree is allowed, and how.
    pub(crate) fn allows(&self, seen: &Nested<'_>) -> Option<How> {
        let is = |how: &How| {
            self.chains.iter().any(|chain| At { decider: self, chain: *chain, how: *how }.has(seen))
        };
        [How::Exactly, How::Partly].into_iter().find(is)
    }

    fn least(&self, id: EffectId) -> Option<CrashState> {
        if let Some(known) = self.least.borrow().get(&id) {
            return known.clone();
        }
        let state = self.crashes.feasible(self.k, &[(self.trace.effect(id).cell, Some(id))]);
        self.least.borrow_mut().insert(id, state.clone());
        state
    }

    /// The versions of a cell that were made by then, newest first.
    fn versions(&self, cell: CellId) -> impl Iterator<Item = EffectId> + use<'t> {
        let (trace, k) = (self.trace, self.k);
        let versions = trace.versions(cell);
        let issued = versions.partition_point(|id| trace.effect(*id).seq <= k);
        versions[..issued].iter().rev().copied()
    }
}

/// One length of the chain.
struct At<'d, 'c, 't> {
    decider: &'d Decider<'c, 't>,
    chain: Seq,
    how: How,
}

impl At<'_, '_, '_> {
    fn has(&self, seen: &Nested<'_>) -> bool {
        self.solve(vec![(vec![ROOT], seen)], FxHashMap::default())
    }

    /// Finds each goal; an inode that is found twice has to look the same.
    fn solve<'n>(&self, mut goals: Vec<Goal<'n>>, mut found: FxHashMap<Ino, &'n Nested<'n>>) -> bool {
        while let Some((inos, seen)) = goals.pop() {
            let [ino] = inos[..] else {
                return inos.into_iter().any(|ino| {
                    let mut goals = goals.clone();
                    goals.push((vec![ino], seen));
                    self.solve(goals, found.clone())
                });
            };
            if let Some(before) = found.insert(ino, seen) {
                if before != seen {
                    return false;
                }
                continue;
            }
            let Some(below) = self.is(ino, seen) else { return false };
            goals.extend(below);
        }
        true
    }

    /// What has to be found below an inode, if it may look like this itself.
    fn is<'n>(&self, ino: Ino, seen: &'n Nested<'n>) -> Option<Vec<Goal<'n>>> {
        let kind = self.kind(ino)?;
        match (kind, seen.node) {
            (Type::Dir, Node::Dir { mode }) if self.may_have_mode(ino, *mode) => self.entries(ino, seen),
            (Type::File, Node::File { mode, bytes }) => {
                (self.may_have_mode(ino, *mode) && self.may_hold(ino, bytes)).then(Vec::new)
            }
            // What it says was looked at with the name that leads to it.
            (Type::Symlink, Node::Link { .. }) => Some(Vec::new()),
            _ => None,
        }
    }

    fn kind(&self, ino: Ino) -> Option<Type> {
        let trace = self.decider.trace;
        let birth = trace.versions(trace.cell_id(&Cell::Inode(ino))?).first()?;
        match trace.effect(*birth).value {
            Value::Inode(birth) => Some(birth.kind),
            _ => None,
        }
    }

    fn may_have_mode(&self, ino: Ino, mode: u32) -> bool {
        let trace = self.decider.trace;
        let born = trace.cell_id(&Cell::Inode(ino)).and_then(|id| trace.versions(id).first());
        let born = match born.map(|birth| &trace.effect(*birth).value) {
            Some(Value::Inode(birth)) => birth.mode,
            _ => 0,
        };
        self.may(&Cell::Mode(ino), |value| match value {
            Some(Value::Mode(found)) => *found == mode,
            _ => born == mode,
        })
    }

    fn entries<'n>(&self, dir: Ino, seen: &'n Nested<'n>) -> Option<Vec<Goal<'n>>> {
        let mut goals = Vec::new();
        for (name, cell) in self.decider.trace.names(dir) {
            let candidates = self.candidates(cell);
            let child = |id: &Option<EffectId>| id.and_then(|id| self.child(id));
            match seen.below.get(&*shown(name)) {
                None if candidates.iter().any(|id| child(id).is_none()) => {}
                None => return None,
                Some(below) => {
                    let named = candidates.iter().filter_map(|id| Some(((*id)?, child(id)?)));
                    let fits = named.filter(|(id, ino)| self.may_be_named(*ino, *id, below.node));
                    let mut inos: Vec<Ino> = fits.map(|(_, ino)| ino).collect();
                    inos.sort_unstable();
                    inos.dedup();
                    if inos.is_empty() {
                        return None;
                    }
                    goals.push((inos, below));
                }
            }
        }
        (goals.len() == seen.below.len()).then_some(goals)
    }

    /// Whether an entry may name this inode and that be of this kind; of a symlink, whether it may have this text then.
    fn may_be_named(&self, ino: Ino, entry: EffectId, node: &Node) -> bool {
        let trace = self.decider.trace;
        match (self.kind(ino), node) {
            (Some(Type::Dir), Node::Dir { .. }) | (Some(Type::File), Node::File { .. }) => true,
            (Some(Type::Symlink), Node::Link { text }) => {
                let target =
                    trace.cell_id(&Cell::Target(ino)).and_then(|cell| trace.versions(cell).first().copied());
                let brought = self.decider.least(entry);
                let is_there = |id| {
                    self.is_certain(id)
                        || brought.as_ref().is_some_and(|state| state.contains(self.decider.crashes, id))
                };
                let is = |id: EffectId| matches!(&trace.effect(id).value, Value::Target(found) if **found == **text);
                match target {
                    Some(id) if is_there(id) => is(id),
                    Some(id) => text.is_empty() || (self.may_survive(id) && is(id)),
                    None => text.is_empty(),
                }
            }
            _ => false,
        }
    }

    /// What an entry names, where that exists: no sync of it has failed.
    fn child(&self, id: EffectId) -> Option<Ino> {
        match self.decider.trace.effect(id).value {
            Value::Entry(child) => child,
            _ => None,
        }
    }

    /// The versions that a cell may have; none stands for its initial value.
    fn candidates(&self, cell: CellId) -> Vec<Option<EffectId>> {
        let mut candidates = Vec::new();
        for id in self.decider.versions(cell) {
            if self.is_certain(id) {
                candidates.push(Some(id));
                return candidates;
            }
            if self.may_survive(id) {
                candidates.push(Some(id));
            }
        }
        candidates.push(None);
        candidates
    }

    fn may(&self, cell: &Cell, is: impl Fn(Option<&Value>) -> bool) -> bool {
        let trace = self.decider.trace;
        let Some(cell) = trace.cell_id(cell) else { return is(None) };
        self.candidates(cell).into_iter().any(|id| is(id.map(|id| &trace.effect(id).value)))
    }

    /// Whether an effect is there with this length of the chain, whatever else is.
    fn is_certain(&self, id: EffectId) -> bool {
        let crashes = self.decider.crashes;
        crashes.forced_at(id) <= self.decider.k
            || (crashes.is_link(id) && self.decider.trace.effect(id).seq <= self.chain)
    }

    fn may_survive(&self, id: EffectId) -> bool {
        self.decider.least(id).is_some_and(|state| state.chain <= self.chain)
    }

    fn may_hold(&self, ino: Ino, seen: &[u8]) -> bool {
        let Some(cell) = self.decider.trace.cell_id(&Cell::Size(ino)) else { return seen.is_empty() };
        self.candidates(cell).into_iter().any(|size| self.may_hold_with(ino, cell, size, seen))
    }

    /// Whether a file may have this content while its length is that.
    fn may_hold_with(&self, ino: Ino, cell: CellId, size: Option<EffectId>, seen: &[u8]) -> bool {
        let Decider { crashes, trace, k, .. } = *self.decider;
        let bytes = |id: Option<EffectId>| match id.map(|id| &trace.effect(id).value) {
            Some(Value::Size(bytes)) => *bytes,
            _ => 0,
        };
        let (len, size_bytes) = (seen.len() as u64, bytes(size));
        // Where no sync has forced the length, the file may still be growing.
        let growing = || {
            let unforced = size.filter(|id| crashes.forced_at(*id) > k);
            let before = unforced.map(|id| bytes(self.decider.versions(cell).find(|older| *older < id)));
            self.how == How::Partly
                && before.is_some_and(|before| before < len)
                && len < size_bytes
                && len.is_multiple_of(BLOCK_BYTES)
        };
        if len != size_bytes && !growing() {
            return false;
        }
        // What the length brings along.
        let brought =
            size.and_then(|id| self.decider.least(id)).unwrap_or(CrashState { at: k, ..Default::default() });
        let is_there = |id: EffectId| self.is_certain(id) || brought.contains(crashes, id);
        seen.chunks(BLOCK_BYTES as usize).zip(0..).all(|(seen, n)| {
            let cell = trace.cell_id(&Cell::Block(ino, n));
            let versions: Vec<EffectId> =
                cell.map(|cell| self.decider.versions(cell).collect()).unwrap_or_default();
            let until = versions.iter().position(|id| is_there(*id));
            let newer = &versions[..until.unwrap_or(versions.len())];
            // What is torn is a write. A block that is cut off is so as a whole, and what was written after that is on top
            // of it alone.
            let mut layers: Vec<Vec<&[u8]>> = vec![vec![until.map_or(&[], |at| block(trace, versions[at]))]];
            for id in newer.iter().rev().copied() {
                let may = self.may_survive(id).then(|| block(trace, id));
                match layers.last_mut() {
                    Some(layer) if !crashes.is_link(id) => layer.extend(may),
                    _ => layers.push(may.into_iter().collect()),
                }
            }
            layers.iter().any(|layer| self.how.may_show(layer, seen))
        })
    }
}

impl How {
    /// Whether a block that is one of these, or is torn between them, may look like this.
    fn may_show(self, contents: &[&[u8]], seen: &[u8]) -> bool {
        let is = |from: usize, seen: &[u8]| {
            contents.iter().any(|content| {
                let content = content.get(from..).unwrap_or_default();
                let (bytes, zeros) = seen.split_at(content.len().min(seen.len()));
                content.starts_with(bytes) && zeros.iter().all(|byte| *byte == 0)
            })
        };
        match self {
            Self::Exactly => is(0, seen),
            Self::Partly => {
                seen.chunks(SECTOR_BYTES).zip(0..).all(|(part, nth)| is(nth * SECTOR_BYTES, part))
            }
        }
    }
}

fn block(trace: &Trace, id: EffectId) -> &[u8] {
    match &trace.effect(id).value {
        Value::Block(bytes) => bytes,
        _ => &[],
    }
}
