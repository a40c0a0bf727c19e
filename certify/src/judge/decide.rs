//! The decision procedure: is there a crash state in which a tree differs from what it should be?
//!
//! Comparing a tree is a conjunction: it fails as soon as one cell is wrong. So each cell of the golden tree is
//! asked *alone*, together with the pins of its own path: one question to [`Crashes::find`] for each version that
//! differs, never a product over cells. Knows cells and trees, nothing about deploys.
//!
//! The same tree is asked about with many pins and windows. [`Comparison::doubt`] goes through it once and notes, for
//! each directory, the crash points at which any cell below could be wrong by itself; a later question skips those
//! directories that are beyond doubt in its window. Pins can only take crash states away, so nothing is missed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use simfs::cell::trim_zeros;
use simfs::{BLOCK_BYTES, Birth, Cell, CellId, CrashState, Crashes, Ino, Kind, Name, Pin, Value, Window};

use super::golden::{Body, Golden, MAX_DEPTH, beside};
use super::walk::alternatives;
use crate::tree::Difference;

/// A crash state that shows a difference, and the pins that make it.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) state: CrashState,
    pub(crate) pins: Vec<Pin>,
    pub(crate) difference: Difference,
}

/// Compares trees over all crash states of a window.
pub(crate) struct Comparison<'a> {
    pub(crate) crashes: &'a Crashes<'a>,
    /// Names beside the golden ones do not count.
    pub(crate) extra_allowed: bool,
}

/// Crash points, as windows in order that do not touch. May hold more than what was added, never less.
#[derive(Clone, Debug, Default)]
pub(crate) struct Windows(Vec<Window>);

impl Windows {
    /// More than these are joined where the gap between them is smallest: a release is in doubt before its barrier
    /// and after its removal, and hardly ever more often.
    const MOST: usize = 8;

    fn add(&mut self, window: Window) {
        if window.is_empty() || self.0.iter().any(|has| has.lo <= window.lo && window.hi <= has.hi) {
            return;
        }
        // Those that end before it, those that meet or touch it, and the rest.
        let from = self.0.partition_point(|has| has.hi < window.lo.saturating_sub(1));
        let to = self.0.partition_point(|has| has.lo <= window.hi.saturating_add(1));
        let lo = self.0[from..to].iter().map(|has| has.lo).min().map_or(window.lo, |lo| lo.min(window.lo));
        let hi = self.0[from..to].iter().map(|has| has.hi).max().map_or(window.hi, |hi| hi.max(window.hi));
        self.0.splice(from..to, [Window { lo, hi }]);
        if self.0.len() > Self::MOST {
            let gap = |at: &usize| self.0[*at].lo - self.0[*at - 1].hi;
            let at = (1..self.0.len()).min_by_key(gap).unwrap_or(1);
            self.0[at - 1].hi = self.0[at].hi;
            self.0.remove(at);
        }
    }

    fn add_all(&mut self, other: &Self) {
        other.0.iter().for_each(|window| self.add(*window));
    }

    fn meets(&self, window: Window) -> bool {
        self.0.iter().any(|has| !has.and(window).is_empty())
    }
}

/// When something in a golden directory, made of its golden inodes, could be wrong by itself.
#[derive(Debug, Default)]
pub(crate) struct Doubt {
    windows: Windows,
    /// The same of each golden directory among the entries, in their order.
    below: Vec<Doubt>,
}

/// What to do about a version that is wrong.
enum Purpose<'d> {
    /// Ask whether it can be. Where the doubt is known, only there.
    Ask(Option<&'d Doubt>),
    /// Note when it can be, and go on.
    Note(&'d mut Doubt),
}

impl Purpose<'_> {
    /// The same for a directory among the entries, the `nth`.
    fn below(&mut self, nth: usize) -> Purpose<'_> {
        match self {
            Self::Ask(doubt) => Purpose::Ask(doubt.and_then(|doubt| doubt.below.get(nth))),
            Self::Note(doubt) => {
                if doubt.below.len() <= nth {
                    doubt.below.resize_with(nth + 1, Doubt::default);
                }
                Purpose::Note(&mut doubt.below[nth])
            }
        }
    }

    fn again(&mut self) -> Purpose<'_> {
        match self {
            Self::Ask(doubt) => Purpose::Ask(*doubt),
            Self::Note(doubt) => Purpose::Note(doubt),
        }
    }
}

/// In what way a cell is wrong. Put into words only when there is a crash state to tell about.
#[derive(Clone, Copy)]
enum Wrong {
    Missing,
    Extra,
    OtherType,
    Mode { is: u32, should: u32 },
    Size { is: Option<u64>, should: u64 },
    Block { n: u64, zeros: bool },
    Target,
    EmptyTarget,
}

impl fmt::Display for Wrong {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(out, "is missing"),
            Self::Extra => write!(out, "should not be there"),
            Self::OtherType => write!(out, "is of another type"),
            Self::Mode { is, should } => write!(out, "has mode {is:04o} instead of {should:04o}"),
            Self::Size { is: Some(is), should } => write!(out, "has {is} bytes instead of {should}"),
            Self::Size { is: None, should } => write!(out, "is empty instead of {should} bytes"),
            Self::Block { n, zeros } => {
                let how = if *zeros { "zeros" } else { "other bytes" };
                write!(out, "has {how} instead of its content at byte {}", n * BLOCK_BYTES)
            }
            Self::Target => write!(out, "points elsewhere"),
            Self::EmptyTarget => write!(out, "is an empty symlink"),
        }
    }
}

/// Where a comparison is.
struct At<'p, 'n> {
    path: &'p mut Vec<&'n Name>,
    pins: &'p mut Vec<Pin>,
}

impl<'a> Comparison<'a> {
    /// A crash state within `window` in which all `pins` hold and the tree at `ino` is not `golden`. `doubt` is that of
    /// the same golden tree.
    pub(crate) fn find(
        &self,
        ino: Ino,
        golden: &Golden,
        doubt: Option<&Doubt>,
        pins: &[Pin],
        window: Window,
    ) -> Option<Broken> {
        let (mut path, mut pins) = (Vec::new(), pins.to_vec());
        let doubt = doubt.filter(|_| ino == golden.ino);
        self.node(ino, golden, &mut At { path: &mut path, pins: &mut pins }, Purpose::Ask(doubt), window)
    }

    /// When a golden directory could be wrong, without any pins.
    pub(crate) fn doubt(&self, golden: &Golden) -> Doubt {
        let mut doubt = Doubt::default();
        let window = Window { lo: 0, hi: self.crashes.trace().last() };
        let mut at = At { path: &mut Vec::new(), pins: &mut Vec::new() };
        self.node(golden.ino, golden, &mut at, Purpose::Note(&mut doubt), window);
        doubt
    }

    fn node<'n>(
        &self,
        ino: Ino,
        golden: &'n Golden,
        at: &mut At<'_, 'n>,
        mut purpose: Purpose<'_>,
        window: Window,
    ) -> Option<Broken>
    where
        'a: 'n,
    {
        if let (Purpose::Ask(Some(doubt)), Body::Dir { .. }) = (&purpose, &golden.body)
            && !doubt.windows.meets(window)
        {
            return None;
        }
        let (birth, pin, window) = match self.birth(ino, at, &mut purpose, window) {
            Ok(exists) => exists?,
            Err(broken) => return Some(broken),
        };
        let pushed = push(at.pins, pin);
        let found = self.value(ino, birth, golden, at, &mut purpose, window);
        if pushed {
            at.pins.pop();
        }
        found
    }

    /// How an inode was born, if it can exist, or a state in which it does not.
    #[allow(clippy::type_complexity, reason = "private, and each part is named where it is used")]
    fn birth(
        &self,
        ino: Ino,
        at: &At<'_, '_>,
        purpose: &mut Purpose<'_>,
        window: Window,
    ) -> Result<Option<(Birth, Pin, Window)>, Broken> {
        let crashes = self.crashes;
        let Some(cell) = crashes.trace().cell_id(&Cell::Inode(ino)) else {
            return self.wrong(None, Wrong::Missing, at, purpose, window).map_or(Ok(None), Err);
        };
        let mut exists = None;
        for (pin, window) in alternatives(crashes, cell, at.pins, window) {
            match pin.1.map(|effect| &crashes.trace().effect(effect).value) {
                Some(Value::Inode(birth)) => exists = Some((*birth, pin, window)),
                _ => {
                    if let Some(broken) = self.wrong(Some(pin), Wrong::Missing, at, purpose, window) {
                        return Err(broken);
                    }
                }
            }
        }
        Ok(exists)
    }

    fn value<'n>(
        &self,
        ino: Ino,
        birth: Birth,
        golden: &'n Golden,
        at: &mut At<'_, 'n>,
        purpose: &mut Purpose<'_>,
        window: Window,
    ) -> Option<Broken>
    where
        'a: 'n,
    {
        if golden.body.kind() != birth.kind {
            return self.wrong(None, Wrong::OtherType, at, purpose, window);
        }
        if let Some(should) = golden.body.mode() {
            let found = self.cell(&Cell::Mode(ino), at, purpose, window, |value| {
                let is = if let Some(Value::Mode(mode)) = value { *mode } else { birth.mode };
                (is != should).then_some(Wrong::Mode { is, should })
            });
            if found.is_some() {
                return found;
            }
        }
        match &golden.body {
            Body::Dir { entries, .. } => self.entries(ino, entries, at, purpose, window),
            Body::File { content, .. } => {
                let should = content.size_bytes;
                self.cell(&Cell::Size(ino), at, purpose, window, |value| {
                    let is = if let Some(Value::Size(is)) = value { Some(*is) } else { None };
                    (is.unwrap_or(0) != should).then_some(Wrong::Size { is, should })
                })
                .or_else(|| self.blocks(ino, should, &content.blocks, at, purpose, window))
            }
            Body::Symlink { target } => {
                self.cell(&Cell::Target(ino), at, purpose, window, |value| match value {
                    Some(Value::Target(text)) if text[..] == target[..] => None,
                    Some(_) => Some(Wrong::Target),
                    None => Some(Wrong::EmptyTarget),
                })
            }
            Body::Other { .. } => None,
        }
    }

    fn blocks(
        &self,
        ino: Ino,
        size: u64,
        golden: &[Arc<[u8]>],
        at: &At<'_, '_>,
        purpose: &mut Purpose<'_>,
        window: Window,
    ) -> Option<Broken> {
        (0..).zip(golden).find_map(|(n, should)| {
            // Bytes past the end are not content.
            let visible = (size - n * BLOCK_BYTES).min(BLOCK_BYTES) as usize;
            self.cell(&Cell::Block(ino, n), at, purpose, window, |value| {
                let is: &[u8] = match value {
                    Some(Value::Block(bytes)) if Arc::ptr_eq(bytes, should) => return None,
                    Some(Value::Block(bytes)) => bytes,
                    _ => &[],
                };
                let is = trim_zeros(&is[..is.len().min(visible)]);
                (*is != **should).then_some(Wrong::Block { n, zeros: is.is_empty() })
            })
        })
    }

    fn entries<'n>(
        &self,
        dir: Ino,
        golden: &'n BTreeMap<Name, Golden>,
        at: &mut At<'_, 'n>,
        purpose: &mut Purpose<'_>,
        window: Window,
    ) -> Option<Broken>
    where
        'a: 'n,
    {
        if at.path.len() >= MAX_DEPTH {
            return None;
        }
        let trace = self.crashes.trace();
        let mut extra: Vec<(&Name, CellId)> = Vec::new();
        let mut nth = 0;
        for (name, cell, child) in beside(trace, dir, golden) {
            let Some(child) = child else {
                extra.extend(cell.map(|cell| (name, cell)));
                continue;
            };
            at.path.push(name);
            let found = self.entry(cell, child, nth, at, purpose, window);
            if found.is_some() {
                return found;
            }
            at.path.pop();
            nth += usize::from(child.body.kind() == Kind::Dir);
        }
        if self.extra_allowed {
            return None;
        }
        for (name, cell) in extra {
            for (pin, window) in alternatives(self.crashes, cell, at.pins, window) {
                let Some(Value::Entry(Some(child))) = pin.1.map(|e| &trace.effect(e).value) else { continue };
                // An entry without its inode is nothing, so the inode is asked for too.
                let birth = trace.cell_id(&Cell::Inode(*child));
                let Some(birth) = birth.and_then(|id| Some((id, Some(*trace.versions(id).first()?)))) else {
                    continue;
                };
                at.path.push(name);
                let pushed = push(at.pins, birth);
                let found = self.wrong(Some(pin), Wrong::Extra, at, purpose, window);
                if found.is_some() {
                    return found;
                }
                if pushed {
                    at.pins.pop();
                }
                at.path.pop();
            }
        }
        None
    }

    /// A name that should stand for `child`, which is the `nth` golden directory if it is one.
    fn entry<'n>(
        &self,
        cell: Option<CellId>,
        child: &'n Golden,
        nth: usize,
        at: &mut At<'_, 'n>,
        purpose: &mut Purpose<'_>,
        window: Window,
    ) -> Option<Broken>
    where
        'a: 'n,
    {
        let trace = self.crashes.trace();
        let is_dir = child.body.kind() == Kind::Dir;
        if is_dir {
            // There has to be one for each, also where the name never stands for the golden inode.
            purpose.below(nth);
        }
        let Some(cell) = cell else {
            return self.wrong(None, Wrong::Missing, at, purpose, window);
        };
        // What is pinned of this cell is not changed below, so this may go on while pins are added.
        for (pin, window) in alternatives(self.crashes, cell, at.pins, window) {
            let found = match pin.1.map(|effect| &trace.effect(effect).value) {
                Some(Value::Entry(Some(ino))) => {
                    let pushed = push(at.pins, pin);
                    let found = self.named(*ino, child, is_dir.then_some(nth), at, purpose, window);
                    if pushed {
                        at.pins.pop();
                    }
                    found
                }
                _ => self.wrong(Some(pin), Wrong::Missing, at, purpose, window),
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// An inode that a name of `child` can stand for.
    fn named<'n>(
        &self,
        ino: Ino,
        child: &'n Golden,
        nth: Option<usize>,
        at: &mut At<'_, 'n>,
        purpose: &mut Purpose<'_>,
        window: Window,
    ) -> Option<Broken>
    where
        'a: 'n,
    {
        let Some(nth) = nth else { return self.node(ino, child, at, purpose.again(), window) };
        if ino == child.ino {
            let found = self.node(ino, child, at, purpose.below(nth), window);
            if let Purpose::Note(doubt) = purpose {
                let Doubt { windows, below } = &mut **doubt;
                windows.add_all(&below[nth].windows);
            }
            return found;
        }
        // Another directory at this place: what is known about the golden one says nothing about it.
        if let Purpose::Note(doubt) = purpose {
            let mut other = Doubt::default();
            self.node(ino, child, at, Purpose::Note(&mut other), window);
            doubt.windows.add_all(&other.windows);
            return None;
        }
        self.node(ino, child, at, Purpose::Ask(None), window)
    }

    /// Goes through the versions of a cell that `wrong` objects to.
    fn cell(
        &self,
        cell: &Cell,
        at: &At<'_, '_>,
        purpose: &mut Purpose<'_>,
        window: Window,
        wrong: impl Fn(Option<&Value>) -> Option<Wrong>,
    ) -> Option<Broken> {
        let trace = self.crashes.trace();
        let Some(id) = trace.cell_id(cell) else {
            return wrong(None).and_then(|what| self.wrong(None, what, at, purpose, window));
        };
        alternatives(self.crashes, id, at.pins, window).find_map(|(pin, window)| {
            let what = wrong(pin.1.map(|effect| &trace.effect(effect).value))?;
            self.wrong(Some(pin), what, at, purpose, window)
        })
    }

    /// With this pin too, something is wrong in `window`: asks whether that can be, or notes when.
    fn wrong(
        &self,
        pin: Option<Pin>,
        what: Wrong,
        at: &At<'_, '_>,
        purpose: &mut Purpose<'_>,
        window: Window,
    ) -> Option<Broken> {
        if let Purpose::Note(doubt) = purpose {
            doubt.windows.add(window);
            return None;
        }
        let mut pins = at.pins.clone();
        pins.extend(pin.filter(|pin| !at.pins.contains(pin)));
        let state = self.crashes.find(window, &pins)?;
        let path = at.path.iter().fold(Vec::new(), |path, name| super::golden::join(&path, name));
        Some(Broken { state, pins, difference: Difference { path, what: what.to_string() } })
    }
}

/// Pins a version unless it already is; tells whether there is something to take off again.
fn push(pins: &mut Vec<Pin>, pin: Pin) -> bool {
    let new = !pins.contains(&pin);
    if new {
        pins.push(pin);
    }
    new
}
