//! Crash states at random, on traces of any size.
//!
//! All states at one crash point can come up. They are not equally likely: some are drawn effect by effect with an even
//! chance, others with nearly everything there or nearly nothing, whole inodes or none, or a part of the run and then
//! nothing, since it is those that find mistakes. From one seed always come the same states.

use fastrand::Rng;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::{CrashState, Crashes};
use crate::cell::Ino;
use crate::model::Order;
use crate::trace::{EffectId, Seq};

/// Crash states at one crash point, without end; the same one may come again.
pub struct Samples {
    at: Seq,
    /// The effects that are not forced.
    free: Vec<Free>,
    /// How many inodes they belong to.
    inodes: u32,
    /// By place in `free`: whether it is in the state that is being drawn.
    chosen: Vec<bool>,
    /// By cell: whether a newer version has been seen.
    seen: Vec<bool>,
    /// Up to which op the chain of metadata is in the state that is being drawn.
    chain: Seq,
    /// Whether the model has such a chain.
    chained: bool,
    rng: Rng,
}

struct Free {
    effect: EffectId,
    /// What it requires of `free`, by place; what that requires in its turn is not listed.
    needs: Vec<u32>,
    /// It requires something that is not there at this crash point.
    never: bool,
    /// The op up to which it requires the chain of metadata, itself included if it is a link; 0 if it does not.
    chain: Seq,
    /// It is a link of the chain.
    link: bool,
    seq: Seq,
    /// Its inode, and its cell, counted among those of `free`.
    inode: u32,
    cell: u32,
}

/// How one state is drawn.
#[derive(Clone, Copy)]
enum Style {
    /// Each effect with this chance, in 256ths.
    Each(u8),
    /// All effects but a few, or (false) none but a few.
    Few(bool),
    /// Of each inode everything or nothing.
    Inodes,
    /// Everything up to some effect, and of the rest nothing.
    Prefix,
}

impl Samples {
    /// States at crash point `k`, drawn from a seed. Costs a look at every effect up to `k`.
    pub fn new(crashes: &Crashes<'_>, k: Seq, seed: u64) -> Self {
        let trace = crashes.trace();
        let issued = trace.effects().partition_point(|effect| effect.seq <= k) as u32;
        let ids: Vec<EffectId> =
            (0..issued).map(EffectId).filter(|effect| crashes.forced_at(*effect) > k).collect();
        let (mut inodes, mut cells) = (FxHashMap::<Ino, u32>::default(), FxHashMap::default());
        let free: Vec<Free> = ids
            .iter()
            .map(|effect| {
                let mut needs = Vec::new();
                let (mut never, mut chain) = (false, 0);
                let mut required = SmallVec::new();
                let link = crashes.is_link(*effect);
                if link && k < crashes.loose_from(*effect) {
                    chain = trace.effect(*effect).seq;
                } else {
                    crashes.requirements(*effect, &mut required);
                }
                for required in required {
                    match ids.binary_search(&required) {
                        Ok(_) if crashes.is_link(required) && k < crashes.loose_from(required) => {
                            chain = chain.max(trace.effect(required).seq);
                        }
                        Ok(place) => needs.push(place as u32),
                        Err(_) => never |= crashes.forced_at(required) > k,
                    }
                }
                let cell = trace.effect(*effect).cell;
                let (next_inode, next_cell) = (inodes.len() as u32, cells.len() as u32);
                Free {
                    effect: *effect,
                    needs,
                    never,
                    chain,
                    link,
                    seq: trace.effect(*effect).seq,
                    inode: *inodes.entry(trace.cell(cell).ino()).or_insert(next_inode),
                    cell: *cells.entry(cell).or_insert(next_cell),
                }
            })
            .collect();
        let (chosen, seen) = (vec![false; free.len()], vec![false; cells.len()]);
        let mut free = free;
        // What requires that in its turn is not there either.
        while let Some(place) = free
            .iter()
            .position(|one| !one.never && one.needs.iter().any(|needed| free[*needed as usize].never))
        {
            free[place].never = true;
        }
        let (inodes, rng) = (inodes.len() as u32, Rng::with_seed(seed));
        let chained = crashes.model().order == Order::Chain;
        Self { at: k, free, inodes, chosen, seen, chain: 0, chained, rng }
    }

    /// How many effects may or may not be in a state.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Draws the next state into `state`, which keeps its allocation, and returns what tells disks apart: a hash of
    /// the newest version of each cell. Two states have the same one if no reader could tell them apart: they differ
    /// at most in versions that a newer one hides. (Different disks have the same one with a chance of 2⁻⁶⁴.)
    pub fn draw(&mut self, state: &mut CrashState) -> u64 {
        self.choose();
        (state.at, state.chain) = (self.at, self.chain);
        state.extra.clear();
        self.seen.fill(false);
        let mut disk = 0_u64;
        for (place, free) in self.free.iter().enumerate().rev() {
            if self.chosen[place] {
                if !(free.link && free.seq <= self.chain) {
                    state.extra.push(free.effect);
                }
                if !std::mem::replace(&mut self.seen[free.cell as usize], true) {
                    disk = disk.wrapping_add(mixed(u64::from(free.effect.0)));
                }
            }
        }
        state.extra.reverse();
        disk
    }

    /// The next state as a value of its own.
    pub fn next_state(&mut self) -> CrashState {
        let mut state = CrashState::default();
        self.draw(&mut state);
        state
    }

    fn choose(&mut self) {
        let style = match self.rng.u8(0..8) {
            0..=2 => Style::Each(128),
            3 => Style::Each(self.rng.u8(1..)),
            4 => Style::Few(true),
            5 => Style::Few(false),
            6 => Style::Inodes,
            _ => Style::Prefix,
        };
        self.rough(style);
        // Closed again: what an effect requires comes along, or the effect goes.
        let along = self.rng.bool();
        self.chain = 0;
        if self.chained {
            self.draw_chain();
        }
        // Births require nothing; only with a chain do requirements have some in their turn.
        while self.close_once(along) && self.chained {}
    }

    /// How much of the chain survived: nothing, all, or up to some effect. Its links follow, whatever was drawn for them.
    fn draw_chain(&mut self) {
        let last = self.at;
        self.chain = match (self.rng.u8(0..4), self.free.len()) {
            (0, _) | (_, 0) => 0,
            (1, _) => last,
            (_, count) => self.free[self.rng.usize(..count)].seq,
        };
        for (free, chosen) in self.free.iter().zip(&mut self.chosen) {
            let tied = free.chain == free.seq;
            if free.link && (tied || free.seq <= self.chain) {
                *chosen = free.seq <= self.chain;
            }
        }
    }

    /// Looks at each effect once; whether anything changed.
    fn close_once(&mut self, along: bool) -> bool {
        let mut changed = false;
        for place in 0..self.free.len() {
            let Free { needs, never, chain, seq, link, .. } = &self.free[place];
            let (never, chain) = (*never, *chain);
            if *link && *seq <= self.chain {
                changed |= !std::mem::replace(&mut self.chosen[place], true);
                continue;
            }
            if !self.chosen[place] || (needs.is_empty() && !never && chain <= self.chain) {
                continue;
            }
            let complete =
                !never && chain <= self.chain && needs.iter().all(|needed| self.chosen[*needed as usize]);
            if complete {
                continue;
            }
            changed = true;
            if along && !never {
                for needed in needs {
                    self.chosen[*needed as usize] = true;
                }
                self.chain = self.chain.max(chain);
            } else {
                self.chosen[place] = false;
            }
        }
        changed
    }

    fn rough(&mut self, style: Style) {
        let count = self.free.len();
        match style {
            Style::Each(128) => {
                for places in self.chosen.chunks_mut(64) {
                    let bits = self.rng.u64(..);
                    for (bit, chosen) in places.iter_mut().enumerate() {
                        *chosen = bits >> bit & 1 == 1;
                    }
                }
            }
            Style::Each(chance) => {
                for places in self.chosen.chunks_mut(8) {
                    let bytes = self.rng.u64(..).to_le_bytes();
                    for (byte, chosen) in bytes.into_iter().zip(places) {
                        *chosen = byte < chance;
                    }
                }
            }
            Style::Few(lost) => {
                self.chosen.fill(lost);
                if count > 0 {
                    for _ in 0..self.rng.u8(1..=5) {
                        let at = self.rng.usize(..count);
                        self.chosen[at] = !lost;
                    }
                }
            }
            Style::Inodes => {
                let salt = self.rng.u64(..);
                let whole = |inode: u32| mixed(u64::from(inode) ^ salt) & 1 == 1;
                let fates: Vec<bool> = (0..self.inodes).map(whole).collect();
                for (free, chosen) in self.free.iter().zip(&mut self.chosen) {
                    *chosen = fates[free.inode as usize];
                }
            }
            Style::Prefix => {
                let until = self.rng.usize(..=count);
                self.chosen[..until].fill(true);
                self.chosen[until..].fill(false);
            }
        }
    }
}

/// Spreads a number over 64 bits (the finaliser of splitmix64).
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::crash::enumerate;
    use crate::fs::{Caller, Fs};
    use crate::model::{FILE_SYSTEMS, POSIX};
    use crate::trace::{CellId, SyncScope, Trace};
    use crate::view::View;

    fn trace() -> Trace {
        let mut fs = Fs::new(0, 0, 0o755);
        fs.start_recording();
        fs.write_file("a", b"one").unwrap();
        fs.sync(SyncScope::All, true);
        fs.write_file("a", b"two").unwrap();
        let dir = fs.mkdir(crate::ROOT, b"d", 0o755, Caller { uid: 0, gid: 0 }).unwrap();
        fs.chmod(dir, 0o700).unwrap();
        fs.chmod(dir, 0o711).unwrap();
        fs.trace().clone()
    }

    fn table(trace: &Trace, crashes: &Crashes<'_>, state: &CrashState) -> Vec<bool> {
        (0..trace.effects().len() as u32).map(|at| state.contains(crashes, EffectId(at))).collect()
    }

    #[test]
    fn every_state_is_a_crash_state_and_every_crash_state_comes_up() {
        let trace = trace();
        for model in FILE_SYSTEMS {
            let crashes = Crashes::new(&trace, model);
            for k in 0..=trace.last() {
                let mut all = BTreeSet::new();
                enumerate(&trace, model, k, |survived| {
                    all.insert(survived.to_vec());
                });
                let mut samples = Samples::new(&crashes, k, 7);
                let drawn: BTreeSet<_> =
                    (0..20_000).map(|_| table(&trace, &crashes, &samples.next_state())).collect();
                assert_eq!(drawn, all, "seed 7, {} at crash point {k}", model.name);
            }
        }
    }

    #[test]
    fn states_count_as_one_if_they_are_the_same_disk() {
        let trace = trace();
        let crashes = Crashes::new(&trace, &POSIX);
        let mut samples = Samples::new(&crashes, trace.last(), 7);
        let mut state = samples.next_state();
        let (mut by_hash, mut by_disk) = (BTreeMap::new(), BTreeMap::new());
        for _ in 0..2_000 {
            let hash = samples.draw(&mut state);
            let view = View::crash(&crashes, &state);
            let disk: Vec<_> = (0..trace.cell_count() as u32).map(|cell| view.newest(CellId(cell))).collect();
            assert_eq!(*by_hash.entry(hash).or_insert_with(|| disk.clone()), disk);
            assert_eq!(*by_disk.entry(disk).or_insert(hash), hash);
        }
        let effects = samples.free();
        assert!(by_disk.len() > 20 && by_disk.len() < 1 << effects, "{} disks", by_disk.len());
    }

    #[test]
    fn the_same_seed_draws_the_same_states() {
        let trace = trace();
        let crashes = Crashes::new(&trace, &POSIX);
        let draw = |seed| {
            let mut samples = Samples::new(&crashes, trace.last(), seed);
            (0..50).map(|_| samples.next_state()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
