//! A golden tree spread out over the inodes that stand in its places, kept up to date effect by effect.
//!
//! A *place* is one path of the golden tree. It is held by the inode that a reader finds there, or by none. Whoever
//! owns the places tells them of each effect on an inode that holds one; then only that cell is compared, never the
//! tree. What lies at a place is compared by value, so an equal file under another inode is the same to a reader.
//!
//! Knows nothing of deploys: what may be missing, and when, is not decided here.

use rustc_hash::FxHashMap;
use simfs::cell::trim_zeros;
use simfs::{BLOCK_BYTES, Cell, Ino, Kind, View};

use crate::judge::golden::{Body, Golden, join};
use crate::tree::{Content, Difference, Node, node_difference};

/// Which places each inode holds: whose places, and which of them.
pub(super) type Holders = FxHashMap<Ino, Vec<(usize, usize)>>;

/// One path of the golden tree.
struct Place<'a> {
    golden: &'a Golden,
    name: &'a [u8],
    /// Index of the directory it is in; the root is in itself.
    parent: usize,
    /// Index of the first of its own entries, which follow each other in the order of their names.
    first: usize,
    held: Option<Ino>,
}

/// All places of a golden tree.
pub(super) struct Places<'a> {
    id: usize,
    all: Vec<Place<'a>>,
    /// Places that nothing holds, in directories that something holds.
    missing: usize,
    /// Something was found that is not what the golden tree has there.
    wrong: Option<Difference>,
}

const ROOT: usize = 0;

impl<'a> Places<'a> {
    /// The places of a tree; nothing holds any of them. `id` is what [`Holders`] knows them by.
    pub(super) fn new(id: usize, golden: &'a Golden) -> Self {
        let mut all = vec![Place { golden, name: b"", parent: ROOT, first: 1, held: None }];
        let mut at = 0;
        while at < all.len() {
            all[at].first = all.len();
            if let Body::Dir { entries, .. } = &all[at].golden.body {
                all.extend(entries.iter().map(|(name, golden)| Place {
                    golden,
                    name,
                    parent: at,
                    first: 0,
                    held: None,
                }));
            }
            at += 1;
        }
        Self { id, all, missing: 0, wrong: None }
    }

    /// What was found that differs from the golden tree; it stays even if it is made good again.
    pub(super) fn wrong(&self) -> Option<&Difference> {
        self.wrong.as_ref()
    }

    /// Whether something of the golden tree is not there.
    pub(super) fn is_something_missing(&self) -> bool {
        self.missing > 0 || self.all[ROOT].held.is_none()
    }

    /// The first path that is missing.
    pub(super) fn first_missing(&self) -> Vec<u8> {
        let mut at = ROOT;
        let mut todo: Vec<usize> = Vec::new();
        while self.all[at].held.is_some() {
            todo.extend(self.entries(at).rev());
            match todo.pop() {
                Some(next) => at = next,
                None => return Vec::new(),
            }
        }
        self.path(at)
    }

    /// Says which inode a reader finds as the root of the tree from now on.
    pub(super) fn set_root(&mut self, root: Option<Ino>, view: View<'_>, holders: &mut Holders) {
        if self.all[ROOT].held == root {
            return;
        }
        if self.all[ROOT].held.is_some() {
            self.release(ROOT, holders);
        }
        if let Some(root) = root {
            self.hold(ROOT, root, view, holders);
        }
    }

    /// Takes note of a new version of a cell of the inode that holds a place. `view` is the state after the whole op.
    pub(super) fn effect(&mut self, at: usize, cell: &Cell, view: View<'_>, holders: &mut Holders) {
        // An op before this in the same state may have put another inode there.
        if self.all[at].held != Some(cell.ino()) {
            return;
        }
        match (cell, &self.all[at].golden.body) {
            (Cell::Entry(dir, name), Body::Dir { entries, .. }) => {
                let now = view.entry(*dir, name);
                let Some(nth) = self.nth(at, name) else {
                    if now.is_some() && !entries.contains_key(name) {
                        self.extra(at, name);
                    }
                    return;
                };
                self.set_entry(nth, now, view, holders);
            }
            (Cell::Block(ino, n), Body::File { content, .. }) if !is_same_block(view, *ino, *n, content) => {
                self.compare(at, *ino, view);
            }
            (Cell::Size(ino) | Cell::Mode(ino), _) => self.compare_attributes(at, *ino, view),
            // An inode's existence and a link's text are there before anything names it; owners, attributes and what
            // is written into something that is no file are not compared.
            _ => {}
        }
    }

    fn set_entry(&mut self, at: usize, now: Option<Ino>, view: View<'_>, holders: &mut Holders) {
        let before = self.all[at].held;
        if before == now {
            return;
        }
        match before {
            Some(_) => self.release(at, holders),
            None => self.missing -= 1,
        }
        match now {
            Some(ino) => self.hold(at, ino, view, holders),
            None => self.missing += 1,
        }
    }

    /// Puts an inode into an empty place, and what is below it into the places below.
    fn hold(&mut self, at: usize, ino: Ino, view: View<'_>, holders: &mut Holders) {
        self.all[at].held = Some(ino);
        holders.entry(ino).or_default().push((self.id, at));
        self.compare(at, ino, view);
        let Body::Dir { entries, .. } = &self.all[at].golden.body else { return };
        for below in self.entries(at) {
            let name = simfs::Name::from(self.all[below].name);
            match view.entry(ino, &name) {
                Some(child) => self.hold(below, child, view, holders),
                None => self.missing += 1,
            }
        }
        if let Some((name, _)) = view.entries(ino).find(|(name, _)| !entries.contains_key(*name)) {
            self.extra(at, name);
        }
    }

    /// Empties a place and all below it.
    fn release(&mut self, at: usize, holders: &mut Holders) {
        let Some(ino) = self.all[at].held.take() else { return };
        if let Some(places) = holders.get_mut(&ino) {
            places.retain(|place| *place != (self.id, at));
            if places.is_empty() {
                holders.remove(&ino);
            }
        }
        for below in self.entries(at) {
            match self.all[below].held {
                Some(_) => self.release(below, holders),
                None => self.missing -= 1,
            }
        }
    }

    fn entries(&self, at: usize) -> std::ops::Range<usize> {
        let count = match &self.all[at].golden.body {
            Body::Dir { entries, .. } => entries.len(),
            _ => 0,
        };
        self.all[at].first..self.all[at].first + count
    }

    /// The place of a name in a directory.
    fn nth(&self, at: usize, name: &[u8]) -> Option<usize> {
        let range = self.entries(at);
        let found = self.all[range.clone()].binary_search_by(|place| place.name.cmp(name)).ok()?;
        Some(range.start + found)
    }

    /// Compares an inode with what should be at the place, without what is below.
    fn compare(&mut self, at: usize, ino: Ino, view: View<'_>) {
        if self.wrong.is_some() {
            return;
        }
        let should = alone(self.all[at].golden);
        let what = match node_at(view, ino) {
            Some(is) => node_difference(&is, &should),
            None => Some("is missing".to_owned()),
        };
        self.wrong = what.map(|what| Difference { path: self.path(at), what });
    }

    /// Compares size and mode; only when one differs is the content looked at, for the words.
    fn compare_attributes(&mut self, at: usize, ino: Ino, view: View<'_>) {
        let same = match &self.all[at].golden.body {
            Body::File { mode, content } => {
                view.mode(ino) == *mode && view.size_bytes(ino) == content.size_bytes
            }
            Body::Dir { mode, .. } | Body::Other { mode, .. } => view.mode(ino) == *mode,
            Body::Symlink { .. } => true,
        };
        if !same {
            self.compare(at, ino, view);
        }
    }

    fn extra(&mut self, dir: usize, name: &[u8]) {
        if self.wrong.is_none() {
            let path = join(&self.path(dir), name);
            self.wrong = Some(Difference { path, what: "should not be there".to_owned() });
        }
    }

    fn path(&self, mut at: usize) -> Vec<u8> {
        let mut names = Vec::new();
        while at != ROOT {
            names.push(self.all[at].name);
            at = self.all[at].parent;
        }
        names.reverse();
        names.join(&b'/')
    }
}

/// Whether a block of a file is what the golden content has there. What lies past the golden length is no content:
/// if the file is that long, its length differs.
fn is_same_block(view: View<'_>, ino: Ino, n: u64, content: &Content) -> bool {
    let Some(should) = usize::try_from(n).ok().and_then(|n| content.blocks.get(n)) else { return true };
    let is = view.block(ino, n);
    let end = usize::try_from(content.size_bytes - n * BLOCK_BYTES).unwrap_or(usize::MAX);
    is == &should[..] || trim_zeros(&is[..is.len().min(end)]) == &should[..]
}

/// A node without what is below it.
fn alone(golden: &Golden) -> Node {
    match &golden.body {
        Body::Dir { mode, .. } => Node::Dir { mode: *mode },
        Body::File { mode, content } => Node::File { mode: *mode, content: content.clone() },
        Body::Symlink { target } => Node::Symlink { target: target.clone() },
        Body::Other { kind, mode } => Node::Other { kind: *kind, mode: *mode },
    }
}

/// The node that an inode is in one state, without what is below it.
fn node_at(view: View<'_>, ino: Ino) -> Option<Node> {
    if view.birth(ino)?.kind == Kind::Dir {
        return Some(Node::Dir { mode: view.mode(ino) });
    }
    Golden::capture(view, ino).map(|golden| alone(&golden))
}
