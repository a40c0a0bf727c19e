//! Which trees a profile allows, and whether those that were seen are among them.
//!
//! Of small programs straight from the definition: every crash state is enumerated, turned into a tree, and compared. What
//! the decision procedure leaves out because it never changes a verdict is expanded here: a file that was growing may have
//! any length in whole blocks on the way; a block that was being written may be torn between sectors. Each tree is also
//! decided without enumerating ([`crate::decide`]), and the two must say the same; of deploys, which cannot be enumerated, that
//! is all.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::{FxHashMap, FxHashSet};
use simfs::crash::Enumeration;
use simfs::model::Order;
use simfs::{
    BLOCK_BYTES, Cell, CellId, CrashState, Crashes, Ino, Kind as Type, Model, OpKind, ROOT, Seq, Trace,
    Value, View,
};

use crate::decide::{Decider, How, Nested, SECTOR_BYTES};
use crate::rebuild::Cuts;
use crate::run::{Doing, Simulated, Step, What};
use crate::tree::{MAX_DEPTH, Node, Tree, joined, shown};

/// More cannot be enumerated in a time that anybody waits for.
const MAX_FREE: usize = 20;

/// When the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    /// After this op of the trace.
    pub(crate) k: Seq,
    /// Which is a sync call that has begun and not returned.
    pub(crate) under_way: bool,
}

/// The crash points that are possible when the power goes at one of these positions in the log.
///
/// What had returned by then is done. The operation under way may be; a sync call under way forces nothing yet.
pub(crate) fn crash_points(cuts: Cuts, doings: &[Doing], steps: &[Step]) -> BTreeSet<Point> {
    (cuts.first..=cuts.last)
        .map(|cut| {
            let mut point = Point { k: 0, under_way: false };
            // Steps follow each other, so this is where those that have returned end.
            let returned = steps.partition_point(|step| step.end <= cut);
            if let Some(last) = doings[..returned].last() {
                point.k = last.after;
            }
            if let Some((step, doing)) = steps.iter().zip(doings).nth(returned)
                && step.begin <= cut
                && doing.what != What::Wait
            {
                point = Point { k: doing.after, under_way: doing.what == What::Sync };
            }
            point
        })
        .collect()
}

/// The trace in which the sync call that is op `k` never returned.
fn unreturned(trace: &Trace, k: Seq) -> Trace {
    trace_with(trace, |seq, kind| match kind {
        OpKind::Sync { scope, ok, .. } if seq == k => OpKind::Sync { scope, returned: Seq::MAX, ok },
        kind => kind,
    })
}

/// A trace with other kinds of ops, and the same effects.
pub(crate) fn trace_with(trace: &Trace, kind: impl Fn(Seq, OpKind) -> OpKind) -> Trace {
    let mut other = Trace::new();
    for (seq, op) in trace.ops().iter().enumerate() {
        let effects = trace.effects()[op.effects.start as usize..op.effects.end as usize]
            .iter()
            .map(|effect| (trace.cell(effect.cell).clone(), effect.value.clone()));
        if seq == 0 {
            effects.for_each(|(cell, value)| other.push_initial(cell, value));
        } else {
            other.push(kind(seq as Seq, op.kind.clone()), effects);
        }
    }
    other
}

/// What a model says about the trees that were seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judged {
    /// How many different trees the model allows, at the crash points that were asked about, partial lengths and torn
    /// blocks not counted; of small programs.
    pub(crate) allowed: Option<usize>,
    /// Where metadata is one chain and nothing is logged alone: how many different trees but for the content of files it
    /// allows, and how many of these were seen.
    pub(crate) chain: Option<(usize, usize)>,
    /// Which of the seen ones are allowed as they are.
    pub(crate) witnessed: BTreeSet<usize>,
    /// Those that are allowed at no more than their lengths and torn blocks.
    pub(crate) partial: BTreeSet<usize>,
    /// Those that are not allowed, and at which crash point.
    pub(crate) outside: Vec<(usize, Point)>,
}

/// Which trees were seen, by crash point.
pub(crate) type Seen = BTreeMap<Point, BTreeSet<usize>>;

/// Compares the trees that were seen with what the model allows.
pub(crate) fn judge(
    simulated: &Simulated,
    model: &Model,
    trees: &[Tree],
    seen: &Seen,
    small: bool,
) -> Result<Judged, String> {
    let judged = decided(simulated, model, trees, seen);
    if !small {
        return Ok(judged);
    }
    let mut enumerated = enumerated(simulated, model, trees, seen)?;
    if let Some(nth) = differ(&enumerated, &judged) {
        let says = |judged: &Judged| {
            let outside = judged.outside.iter().filter(|(other, _)| *other == nth).map(|(_, point)| *point);
            let outside: Vec<_> = outside.map(|Point { k, under_way }| (k, under_way)).collect();
            let (exactly, partly) = (judged.witnessed.contains(&nth), judged.partial.contains(&nth));
            format!("exactly somewhere: {exactly}, partly: {partly}, outside at {outside:?}")
        };
        let (model, tree) = (model.name, &trees[nth]);
        let [one, other] = [&enumerated, &judged].map(says);
        return Err(format!("under {model} enumeration and decision differ about\n{tree}\n{one}\n{other}"));
    }
    enumerated.chain = judged.chain;
    Ok(enumerated)
}

/// The first tree about which these differ.
fn differ(one: &Judged, other: &Judged) -> Option<usize> {
    let outside = |judged: &Judged| judged.outside.iter().copied().collect::<BTreeSet<_>>();
    let (one_outside, other_outside) = (outside(one), outside(other));
    let places = one_outside.symmetric_difference(&other_outside).map(|(nth, _)| *nth);
    let how = one.witnessed.symmetric_difference(&other.witnessed).copied();
    let partly = one.partial.symmetric_difference(&other.partial).copied();
    places.chain(how).chain(partly).min()
}

/// Without enumerating.
fn decided(simulated: &Simulated, model: &Model, trees: &[Tree], seen: &Seen) -> Judged {
    let nested: Vec<_> = trees.iter().map(Nested::of).collect();
    let returned = Crashes::new(&simulated.trace, model);
    let mut judged = Judged::default();
    let (mut shapes, mut seen_shapes) = (FxHashSet::default(), FxHashSet::default());
    for (point, seen) in seen {
        let unreturned = point.under_way.then(|| unreturned(&simulated.trace, point.k));
        let under_way = unreturned.as_ref().map(|trace| Crashes::new(trace, model));
        let crashes = under_way.as_ref().unwrap_or(&returned);
        let decider = Decider::new(crashes, point.k);
        for nth in seen {
            match nested[*nth].as_ref().and_then(|seen| decider.allows(seen)) {
                Some(How::Exactly) => judged.witnessed.insert(*nth),
                Some(How::Partly) => judged.partial.insert(*nth),
                None => {
                    judged.outside.push((*nth, *point));
                    continue;
                }
            };
            seen_shapes.insert(trees[*nth].shape());
        }
        if model.order == Order::Chain && !model.logs {
            for chain in decider.chains() {
                let state = CrashState { at: point.k, chain: *chain, extra: Vec::new() };
                if let Some(state) = State::of(View::crash(crashes, &state)) {
                    shapes.insert(state.tree.shape());
                }
            }
        }
    }
    if !shapes.is_empty() {
        judged.chain = Some((shapes.len(), seen_shapes.intersection(&shapes).count()));
    }
    judged
}

/// By the definition.
fn enumerated(simulated: &Simulated, model: &Model, trees: &[Tree], seen: &Seen) -> Result<Judged, String> {
    let mut judged = Judged::default();
    let mut allowed = FxHashSet::default();
    for (point, seen) in seen {
        let k = &point.k;
        let unreturned = point.under_way.then(|| unreturned(&simulated.trace, *k));
        let trace = unreturned.as_ref().unwrap_or(&simulated.trace);
        let mut states = Enumeration::new(trace, model, *k);
        if states.free() > MAX_FREE {
            return Err(format!("{} effects may or may not survive op {k}: too many", states.free()));
        }
        let by_hash: FxHashMap<u64, usize> = seen.iter().map(|nth| (trees[*nth].hash(), *nth)).collect();
        let mut by_shape: FxHashMap<u64, Vec<usize>> = FxHashMap::default();
        for nth in seen {
            by_shape.entry(trees[*nth].shape()).or_default().push(*nth);
        }
        let (mut exact, mut partial) = (BTreeSet::new(), BTreeSet::new());
        let mut disks = FxHashSet::default();
        // The first state is what is forced, and nothing else.
        let mut forced: Option<Vec<bool>> = None;
        while let Some(survived) = states.next_state() {
            let forced = forced.get_or_insert_with(|| survived.to_vec());
            let view = View::survivors(trace, survived);
            // States that differ only in what a newer version hides are the same disk.
            let disk: Vec<_> = (0..trace.cell_count() as u32).map(|id| view.newest(CellId(id))).collect();
            if !disks.insert(disk) {
                continue;
            }
            let Some(state) = State::of(view) else { continue };
            let hash = state.tree.hash();
            allowed.insert(hash);
            if let Some(nth) = by_hash.get(&hash)
                && trees[*nth] == state.tree
            {
                exact.insert(*nth);
            }
            for nth in by_shape.get(&state.tree.shape()).into_iter().flatten() {
                if !exact.contains(nth)
                    && !partial.contains(nth)
                    && state.may_be(model, *k, forced, &trees[*nth])
                {
                    partial.insert(*nth);
                }
            }
        }
        for nth in seen {
            if exact.contains(nth) {
                judged.witnessed.insert(*nth);
            } else if partial.contains(nth) {
                judged.partial.insert(*nth);
            } else {
                judged.outside.push((*nth, *point));
            }
        }
    }
    judged.allowed = Some(allowed.len());
    Ok(judged)
}

/// A crash state as a tree, and which file is behind each path.
pub(crate) struct State<'t> {
    view: View<'t>,
    /// The tree.
    pub(crate) tree: Tree,
    files: Vec<(String, Ino)>,
}

impl<'t> State<'t> {
    /// Nothing if a directory is inside of itself, which no tree is.
    pub(crate) fn of(view: View<'t>) -> Option<Self> {
        let mut state = Self { view, tree: Tree::default(), files: Vec::new() };
        state.add(ROOT, String::new(), 0).then_some(state)
    }

    fn add(&mut self, ino: Ino, path: String, depth: usize) -> bool {
        let Some(birth) = self.view.birth(ino) else { return true };
        let mode = self.view.mode(ino);
        match birth.kind {
            Type::Dir => {
                if depth > MAX_DEPTH {
                    return false;
                }
                let entries: Vec<_> = self.view.entries(ino).collect();
                for (name, child) in entries {
                    let below = joined(&path, &shown(name));
                    if !self.add(child, below, depth + 1) {
                        return false;
                    }
                }
                self.tree.nodes.insert(path, Node::Dir { mode });
            }
            Type::File => {
                let bytes = whole(&self.view, ino, self.view.size_bytes(ino));
                self.files.push((path.clone(), ino));
                self.tree.nodes.insert(path, Node::File { mode, bytes });
            }
            Type::Symlink => {
                self.tree.nodes.insert(path, Node::Link { text: self.view.target(ino).to_vec() });
            }
            // No program makes one.
            Type::Fifo | Type::Socket => return false,
        }
        true
    }

    /// Whether a tree of the same shape is this one but for what was still being written.
    fn may_be(&self, model: &Model, k: Seq, forced: &[bool], seen: &Tree) -> bool {
        let mut contents: FxHashMap<Ino, &[u8]> = FxHashMap::default();
        self.files.iter().all(|(path, ino)| match seen.nodes.get(path) {
            // One file, whatever name it is read by.
            Some(Node::File { bytes, .. }) => match contents.insert(*ino, bytes) {
                Some(by_other_name) => by_other_name == bytes,
                None => self.content_may_be(model, k, forced, *ino, bytes),
            },
            _ => false,
        })
    }

    fn content_may_be(&self, model: &Model, k: Seq, forced: &[bool], ino: Ino, seen: &[u8]) -> bool {
        let trace = self.view.trace();
        let size = self.view.size_bytes(ino);
        // Where no sync has forced the length, the file may still be growing.
        let before = self.size_before(ino, forced).unwrap_or(size);
        let len = seen.len() as u64;
        let on_the_way = before < len && len < size && len.is_multiple_of(BLOCK_BYTES);
        if len != size && !on_the_way {
            return false;
        }
        seen.chunks(SECTOR_BYTES).enumerate().all(|(sector, seen)| {
            let at = (sector * SECTOR_BYTES) as u64;
            let (block, from) = (at / BLOCK_BYTES, (at % BLOCK_BYTES) as usize);
            let is = |bytes: &[u8]| {
                (0..seen.len()).all(|nth| seen[nth] == bytes.get(from + nth).copied().unwrap_or(0))
            };
            if is(self.view.block(ino, block)) {
                return true;
            }
            // Torn: part of a newer version, which was being written. Blocks are not cut off in part, and what was written
            // after that does not survive without it.
            let Some(id) = trace.cell_id(&Cell::Block(ino, block)) else { return false };
            let newest = self.view.newest(id);
            let newer =
                trace.versions(id).iter().filter(|id| Some(**id) > newest).map(|id| trace.effect(*id));
            let cut_off = |seq: Seq| match trace.ops()[seq as usize].kind {
                OpKind::Truncate { size, .. } => model.order == Order::Chain && block * BLOCK_BYTES >= size,
                _ => false,
            };
            newer
                .take_while(|effect| effect.seq <= k && !cut_off(effect.seq))
                .any(|effect| matches!(&effect.value, Value::Block(bytes) if is(bytes)))
        })
    }

    /// The length before the one that survived without being forced.
    fn size_before(&self, ino: Ino, forced: &[bool]) -> Option<u64> {
        let trace = self.view.trace();
        let id = trace.cell_id(&Cell::Size(ino))?;
        let newest = self.view.newest(id).filter(|effect| !forced[effect.0 as usize])?;
        let before = trace.versions(id).iter().rev().find(|effect| **effect < newest);
        match before.map(|effect| &trace.effect(*effect).value) {
            Some(Value::Size(bytes)) => Some(*bytes),
            _ => Some(0),
        }
    }
}

fn whole(view: &View<'_>, ino: Ino, len: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len as usize);
    for block in 0..len.div_ceil(BLOCK_BYTES) {
        let take = (len - block * BLOCK_BYTES).min(BLOCK_BYTES) as usize;
        let held = view.block(ino, block);
        let held = &held[..held.len().min(take)];
        bytes.extend_from_slice(held);
        bytes.resize(bytes.len() + take - held.len(), 0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{Op, Program};
    use crate::run::on_simulated;

    fn file(bytes: &[u8]) -> Tree {
        let mut tree = Tree::default();
        tree.nodes.insert(String::new(), Node::Dir { mode: 0o755 });
        tree.nodes.insert("f".to_owned(), Node::File { mode: 0o644, bytes: bytes.to_vec() });
        tree
    }

    fn blocks(letters: &str) -> Vec<u8> {
        letters.bytes().flat_map(|letter| std::iter::repeat_n(letter, 4096)).collect()
    }

    #[test]
    fn partial_lengths_and_torn_blocks_are_allowed_and_nothing_else() {
        let program = Program {
            name: "test",
            source: "",
            asks: "",
            setup: &[Op::Put("f", "a")],
            ops: &[Op::Write("f", 0, "bcd"), Op::Fsync("f")],
        };
        let simulated = on_simulated(&program, program.ops).unwrap();
        let torn = [&blocks("b")[..512], &blocks("a")[512..]].concat();
        let long_and_torn = [&torn[..], &blocks("c")[..]].concat();
        let odd = [&blocks("b")[..], &blocks("c")[..100]].concat();
        let trees = [
            file(&blocks("a")),
            file(&blocks("bcd")),
            file(&blocks("bc")),
            file(&torn),
            file(&long_and_torn),
            file(&odd),
            file(&blocks("x")),
        ];
        let everything: BTreeSet<usize> = (0..trees.len()).collect();
        let at = |k, under_way| Point { k, under_way };
        let seen = BTreeMap::from([
            (at(1, false), everything.clone()),
            (at(2, false), everything.clone()),
            (at(2, true), everything),
        ]);
        let judged = judge(&simulated, &simfs::POSIX, &trees, &seen, true).unwrap();
        assert_eq!(judged.witnessed, BTreeSet::from([0, 1]));
        assert_eq!(judged.partial, BTreeSet::from([2, 3, 4]));
        let outside = |point| -> Vec<usize> {
            judged.outside.iter().filter(|(_, at)| *at == point).map(|(nth, _)| *nth).collect()
        };
        assert_eq!(outside(at(1, false)), [5, 6]);
        assert_eq!(outside(at(2, true)), [5, 6]);
        assert_eq!(outside(at(2, false)), [0, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn what_returned_is_done_and_what_is_under_way_may_be() {
        let doing = |after, what| Doing { after, what };
        let doings = [doing(1, What::Change), doing(2, What::Sync), doing(3, What::Change)];
        let steps = [Step { begin: 0, end: 1 }, Step { begin: 1, end: 4 }, Step { begin: 4, end: 4 }];
        let points = |first, last| {
            let points = crash_points(Cuts { first, last }, &doings, &steps);
            points.into_iter().map(|point| (point.k, point.under_way)).collect::<Vec<_>>()
        };
        assert_eq!(points(0, 0), [(1, false)]);
        assert_eq!(points(1, 3), [(2, true)]);
        assert_eq!(points(3, 4), [(2, true), (3, false)]);
    }

    /// All trees that any model allows of a random program at any crash point, held against each model at each.
    #[test]
    fn enumeration_and_decision_say_the_same() {
        use crate::program::Op::{
            Append, Chmod, Create, Exchange, Fdatasync, Fsync, Link, Mkdir, Put, Rename, Rewrite, Rmdir,
            Symlink, Syncfs, Truncate, Unlink, Write,
        };
        const PATHS: [&str; 6] = ["a", "b", "d", "d/a", "d/b", "e"];
        let mut allowed = (0, 0);
        for seed in 0..150 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let setup = &[Mkdir("d"), Put("d/a", "xy"), Symlink("d/a", "e")];
            let program = Program { name: "random", source: "", asks: "", setup, ops: &[] };
            let mut ops = Vec::new();
            for _ in 0..40 {
                let mut path = || PATHS[rng.usize(..PATHS.len())];
                let (one, other) = (path(), path());
                ops.push(match rng.u8(..20) {
                    0 => Mkdir(one),
                    1 => Create(one),
                    2 => Put(one, "pq"),
                    3 => Rewrite(one, "r"),
                    4 => Write(one, 1, "s"),
                    5 => Append(one, 4096, 't'),
                    6 => Truncate(one, 4096),
                    7 | 8 => Rename(one, other),
                    9 => Exchange(one, other),
                    10 => Link(one, other),
                    11 => Symlink("d/b", one),
                    12 => Unlink(one),
                    13 => Rmdir(one),
                    14 => Chmod(one, 0o700),
                    15 | 16 => Fsync(one),
                    17 => Fsync(""),
                    18 => Fdatasync(one),
                    _ => Syncfs,
                });
                // What cannot be done is left out.
                if on_simulated(&program, &ops).is_err() {
                    ops.pop();
                }
                if ops.len() == 6 {
                    break;
                }
            }
            let simulated = on_simulated(&program, &ops).unwrap();
            let mut points = vec![Point { k: 0, under_way: false }];
            for doing in &simulated.doings {
                points.push(Point { k: doing.after, under_way: false });
                if doing.what == What::Sync {
                    points.push(Point { k: doing.after, under_way: true });
                }
            }
            let mut trees = BTreeSet::new();
            for model in simfs::FILE_SYSTEMS {
                for k in 0..=simulated.trace.last() {
                    simfs::crash::enumerate(&simulated.trace, model, k, |survived| {
                        trees.extend(
                            State::of(View::survivors(&simulated.trace, survived)).map(|state| state.tree),
                        );
                    });
                }
            }
            // Enough of them, and some that no program makes.
            let mut trees: Vec<Tree> = trees.into_iter().collect();
            rng.shuffle(&mut trees);
            trees.truncate(60);
            for nth in 0..trees.len().min(20) {
                let mut odd = trees[nth].clone();
                if let Some(Node::File { bytes, .. }) = odd.nodes.get_mut("d/a")
                    && !bytes.is_empty()
                {
                    let at = rng.usize(..bytes.len());
                    let from = at / SECTOR_BYTES * SECTOR_BYTES;
                    bytes[from..].fill([b'p', b'r', b's', b'?', 0][rng.usize(..5)]);
                }
                if !trees.contains(&odd) {
                    trees.push(odd);
                }
            }
            let all: BTreeSet<usize> = (0..trees.len()).collect();
            let seen: Seen = points.into_iter().map(|point| (point, all.clone())).collect();
            for model in simfs::FILE_SYSTEMS {
                let judged = judge(&simulated, model, &trees, &seen, true);
                let judged = judged.unwrap_or_else(|why| panic!("seed {seed}, {ops:?}: {why}"));
                allowed.0 += judged.witnessed.len();
                allowed.1 += judged.outside.len();
            }
        }
        assert!(allowed.0 > 1000 && allowed.1 > 1000, "that says little: {allowed:?}");
    }
}
