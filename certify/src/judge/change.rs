//! When a tree first changed: the first live state in which it is not its golden one.
//!
//! No state is compared as a whole. A tree is golden as long as each of its cells has the right value, so for each cell
//! its versions are looked at, from a state in which the tree was golden up to the first wrong one that is known. What
//! that costs is the versions of the tree's own cells, whatever else happens in the trace and however often something is
//! written that was there before. A name that comes to stand for another inode is followed there.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use simfs::cell::trim_zeros;
use simfs::model::NEVER;
use simfs::{BLOCK_BYTES, Cell, CellId, Ino, Seq, Trace, Value};

use super::golden::{Body, Golden, MAX_DEPTH, beside};
use crate::tree::Content;

/// Looks for the first changes of golden trees.
pub(crate) struct Search<'g> {
    trace: &'g Trace,
    /// Names beside the golden ones do not count.
    extra_allowed: bool,
    /// What was found about directories, so that one that goes and comes back is not gone through again.
    known: FxHashMap<(*const Golden, Ino), Known>,
    /// How many versions and missing cells were looked at: the work done.
    looked_at: u64,
}

/// In `from..until`, the first op after which a directory is not the golden one.
#[derive(Clone, Copy)]
struct Known {
    from: Seq,
    until: Seq,
    wrong: Option<Seq>,
}

impl<'g> Search<'g> {
    pub(crate) fn new(trace: &'g Trace, extra_allowed: bool) -> Self {
        Self { trace, extra_allowed, known: FxHashMap::default(), looked_at: 0 }
    }

    /// How much was looked at so far, in versions of cells.
    #[cfg(test)]
    pub(crate) fn looked_at(&self) -> u64 {
        self.looked_at
    }

    /// The first op in `from..` after which the tree at the golden inode is not golden.
    pub(crate) fn first(&mut self, golden: &'g Golden, from: Seq) -> Option<Seq> {
        self.node(golden, golden.ino, 0, from, self.trace.last() + 1)
    }

    fn node(&mut self, golden: &'g Golden, ino: Ino, depth: usize, from: Seq, until: Seq) -> Option<Seq> {
        if from >= until {
            return None;
        }
        let Body::Dir { .. } = golden.body else { return self.look(golden, ino, depth, from, until) };
        let key = (std::ptr::from_ref(golden), ino);
        if let Some(known) = self.known.get(&key).filter(|known| known.from <= from) {
            match known.wrong {
                Some(wrong) if from <= wrong => return Some(wrong).filter(|wrong| *wrong < until),
                None if until <= known.until => return None,
                _ => {}
            }
        }
        let wrong = self.look(golden, ino, depth, from, until);
        self.known.insert(key, Known { from, until, wrong });
        wrong
    }

    fn look(&mut self, golden: &'g Golden, ino: Ino, depth: usize, from: Seq, until: Seq) -> Option<Seq> {
        let birth = self.trace.cell_id(&Cell::Inode(ino));
        let (kind, born_mode) = match self.stretches(birth, from, until).next() {
            Some((.., Some(Value::Inode(birth)))) => (birth.kind, birth.mode),
            _ => return Some(from),
        };
        if kind != golden.body.kind() {
            return Some(from);
        }
        let mut end = until;
        if let Some(should) = golden.body.mode() {
            end = self.cell(&Cell::Mode(ino), from, end, |value| match value {
                Some(Value::Mode(mode)) => *mode == should,
                _ => born_mode == should,
            });
        }
        match &golden.body {
            Body::Dir { .. } if depth >= MAX_DEPTH => {}
            Body::Dir { entries, .. } => {
                for (_, cell, child) in beside(self.trace, ino, entries) {
                    end = match child {
                        Some(child) => self.entry(cell, child, depth, from, end),
                        None if self.extra_allowed => end,
                        None => self.extra(cell, from, end),
                    };
                }
            }
            Body::File { content, .. } => end = self.content(ino, content, from, end),
            Body::Symlink { target } => {
                end = self.cell(&Cell::Target(ino), from, end, |value| match value {
                    Some(Value::Target(text)) => text[..] == target[..],
                    _ => target.is_empty(),
                });
            }
            Body::Other { .. } => {}
        }
        (end < until).then_some(end)
    }

    fn content(&mut self, ino: Ino, content: &Content, from: Seq, mut end: Seq) -> Seq {
        let size = content.size_bytes;
        end = self.cell(&Cell::Size(ino), from, end, |value| match value {
            Some(Value::Size(is)) => *is == size,
            _ => size == 0,
        });
        for (n, should) in (0..).zip(&content.blocks) {
            // Bytes past the end are not content.
            let visible = (size - n * BLOCK_BYTES).min(BLOCK_BYTES) as usize;
            end = self.cell(&Cell::Block(ino, n), from, end, |value| match value {
                Some(Value::Block(is)) => {
                    Arc::ptr_eq(is, should) || *trim_zeros(&is[..is.len().min(visible)]) == **should
                }
                _ => should.is_empty(),
            });
        }
        end
    }

    fn entry(
        &mut self,
        cell: Option<CellId>,
        child: &'g Golden,
        depth: usize,
        from: Seq,
        mut end: Seq,
    ) -> Seq {
        for (start, stop, value) in self.stretches(cell, from, end) {
            self.looked_at += 1;
            let wrong = match value {
                // Further than it stands there: it may come back.
                Some(Value::Entry(Some(ino))) => {
                    self.node(child, *ino, depth + 1, start, end).filter(|wrong| *wrong < stop)
                }
                _ => Some(start),
            };
            if let Some(wrong) = wrong {
                end = end.min(wrong);
                break;
            }
        }
        end
    }

    /// A name that should not be there is wrong as soon as it names something that exists.
    fn extra(&mut self, cell: Option<CellId>, from: Seq, end: Seq) -> Seq {
        for (start, stop, value) in self.stretches(cell, from, end) {
            self.looked_at += 1;
            let Some(Value::Entry(Some(ino))) = value else { continue };
            let birth = self.trace.cell_id(&Cell::Inode(*ino));
            let exists = self.stretches(birth, start, stop).find(|(.., birth)| birth.is_some());
            if let Some((wrong, ..)) = exists {
                return wrong;
            }
        }
        end
    }

    /// The first op in `from..end` after which the cell's value is not right, or `end`.
    fn cell(&mut self, cell: &Cell, from: Seq, end: Seq, right: impl Fn(Option<&Value>) -> bool) -> Seq {
        for (start, _, value) in self.stretches(self.trace.cell_id(cell), from, end) {
            self.looked_at += 1;
            if !right(value) {
                return start;
            }
        }
        end
    }

    /// What a cell's value is in `from..until`: stretches of ops with one value each.
    fn stretches(
        &self,
        cell: Option<CellId>,
        from: Seq,
        until: Seq,
    ) -> impl Iterator<Item = (Seq, Seq, Option<&'g Value>)> + use<'g> {
        let trace = self.trace;
        let versions = cell.map_or(&[][..], |cell| trace.versions(cell));
        let seq = move |at: usize| versions.get(at).map_or(NEVER, |effect| trace.effect(*effect).seq);
        let first = versions.partition_point(|effect| trace.effect(*effect).seq <= from);
        (first..=versions.len())
            .map(move |issued| {
                let before = issued.checked_sub(1);
                let start = before.filter(|_| issued > first).map_or(from, seq);
                (start, seq(issued).min(until), before.map(|at| &trace.effect(versions[at]).value))
            })
            .take_while(move |(start, ..)| *start < until)
            // Of several versions by one op only the last is ever seen.
            .filter(|(start, stop, _)| start < stop)
    }
}
