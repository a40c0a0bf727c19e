//! Golden trees: what a release was at the instant it went live, with the inodes it was made of.
//!
//! Captured from a live state, never from what a tool says. Compared with crash states cell by cell
//! ([`super::decide`]) and, as a plain tree, by the oracle ([`super::oracle`]).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use simfs::cell::trim_zeros;
use simfs::{BLOCK_BYTES, CellId, Ino, Kind, Name, Trace, View};

use crate::tree::{Content, Node, Tree, node_difference};

/// One node of a golden tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Golden {
    /// The inode it was.
    pub(crate) ino: Ino,
    /// Its value.
    pub(crate) body: Body,
}

/// The value of a golden node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Dir { mode: u32, entries: BTreeMap<Name, Golden> },
    File { mode: u32, content: Content },
    Symlink { target: Vec<u8> },
    Other { kind: Kind, mode: u32 },
}

/// Directories within each other that are captured and compared. Nothing is said about what lies deeper, neither that it
/// is equal nor that it should not be there: whoever judges a tree that [`Golden::is_cut_off`] has to call it unknown.
pub(crate) const MAX_DEPTH: usize = 512;

/// Whether a path from the root of a golden tree leads deeper than is captured.
pub(crate) fn is_too_deep(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').count() > MAX_DEPTH
}

impl Golden {
    /// The tree below an inode in one state. A name that has no inode in this state is not there.
    pub(crate) fn capture(view: View<'_>, ino: Ino) -> Option<Self> {
        Self::capture_below(view, ino, 0)
    }

    fn capture_below(view: View<'_>, ino: Ino, depth: usize) -> Option<Self> {
        let birth = view.birth(ino)?;
        let mode = view.mode(ino);
        let body = match birth.kind {
            Kind::Dir => {
                let mut entries = BTreeMap::new();
                if depth < MAX_DEPTH {
                    for (name, child) in view.entries(ino) {
                        if let Some(golden) = Self::capture_below(view, child, depth + 1) {
                            entries.insert(name.clone(), golden);
                        }
                    }
                }
                Body::Dir { mode, entries }
            }
            Kind::File => Body::File { mode, content: content_of(view, ino) },
            Kind::Symlink => Body::Symlink { target: view.target(ino).to_vec() },
            kind => Body::Other { kind, mode },
        };
        Some(Self { ino, body })
    }

    /// The node at a path below this one.
    pub(crate) fn find(&self, path: &[u8]) -> Option<&Self> {
        let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        names.into_iter().try_fold(self, |at, name| match &at.body {
            Body::Dir { entries, .. } => entries.get(name),
            _ => None,
        })
    }

    /// How many nodes the tree has, this one included.
    pub(crate) fn count(&self) -> usize {
        match &self.body {
            Body::Dir { entries, .. } => 1 + entries.values().map(Self::count).sum::<usize>(),
            _ => 1,
        }
    }

    /// Whether there may be more below than was captured.
    pub(crate) fn is_cut_off(&self) -> bool {
        fn reaches(golden: &Golden, left: usize) -> bool {
            match &golden.body {
                Body::Dir { .. } if left == 0 => true,
                Body::Dir { entries, .. } => entries.values().any(|child| reaches(child, left - 1)),
                _ => false,
            }
        }
        reaches(self, MAX_DEPTH)
    }

    /// The tree by value.
    pub(crate) fn to_tree(&self) -> Tree {
        let mut tree = Tree::new();
        self.write_into(Vec::new(), &mut tree);
        tree
    }

    fn write_into(&self, path: Vec<u8>, tree: &mut Tree) {
        if let Body::Dir { entries, .. } = &self.body {
            for (name, child) in entries {
                child.write_into(join(&path, name), tree);
            }
        }
        tree.insert(path, self.body.alone(0o7777));
    }
}

impl Body {
    /// Its type.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Dir { .. } => Kind::Dir,
            Self::File { .. } => Kind::File,
            Self::Symlink { .. } => Kind::Symlink,
            Self::Other { kind, .. } => *kind,
        }
    }

    /// Its permission bits; a symlink's are never compared.
    pub(crate) fn mode(&self) -> Option<u32> {
        match self {
            Self::Dir { mode, .. } | Self::File { mode, .. } | Self::Other { mode, .. } => Some(*mode),
            Self::Symlink { .. } => None,
        }
    }

    /// The node without what is below, and of its permission bits those of the mask.
    fn alone(&self, mask: u32) -> Node {
        match self {
            Self::Dir { mode, .. } => Node::Dir { mode: mode & mask },
            Self::File { mode, content } => Node::File { mode: mode & mask, content: content.clone() },
            Self::Symlink { target } => Node::Symlink { target: target.clone() },
            Self::Other { kind, mode } => Node::Other { kind: *kind, mode: *mode },
        }
    }

    /// How the node, without what is below, differs from one of a plain tree. Of the permission bits of directories
    /// and files those of the mask are compared.
    pub(crate) fn difference(&self, should: &Node, mask: u32) -> Option<String> {
        let same = match (self, should) {
            (Self::Dir { mode: is, .. }, Node::Dir { mode }) => is & mask == mode & mask,
            (Self::File { mode: is, content: bytes }, Node::File { mode, content }) => {
                is & mask == mode & mask && bytes == content
            }
            (Self::Symlink { target: is }, Node::Symlink { target }) => is == target,
            _ => false,
        };
        if same {
            return None;
        }
        let should = match should {
            Node::Dir { mode } => Node::Dir { mode: mode & mask },
            Node::File { mode, content } => Node::File { mode: mode & mask, content: content.clone() },
            other => other.clone(),
        };
        node_difference(&self.alone(mask), &should)
    }
}

/// The names of a golden directory and those that the directory `dir` ever held, in byte order: each with its cell, if
/// it was ever there, and with its golden node, if it should be.
pub(crate) fn beside<'a>(
    trace: &'a Trace,
    dir: Ino,
    golden: &'a BTreeMap<Name, Golden>,
) -> impl Iterator<Item = (&'a Name, Option<CellId>, Option<&'a Golden>)> {
    let mut held = trace.names(dir).peekable();
    let mut should = golden.iter().peekable();
    std::iter::from_fn(move || {
        let order = match (held.peek(), should.peek()) {
            // A golden tree has its names from the trace. Then they need not be read.
            (Some((is, _)), Some((name, _))) if Arc::ptr_eq(is, name) => Ordering::Equal,
            (Some((is, _)), Some((name, _))) => is.cmp(name),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        let held = held.next_if(|_| order.is_le());
        let should = should.next_if(|_| order.is_ge());
        let name = held.map(|(name, _)| name).or(should.map(|(name, _)| name))?;
        Some((name, held.map(|(_, cell)| cell), should.map(|(_, node)| node)))
    })
}

/// A path with one more name.
pub(crate) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

/// A file's content up to its length.
fn content_of(view: View<'_>, ino: Ino) -> Content {
    let size_bytes = view.size_bytes(ino);
    let count = size_bytes.div_ceil(BLOCK_BYTES);
    let empty: Arc<[u8]> = Arc::from([]);
    let mut blocks: Vec<Arc<[u8]>> =
        (0..count).map(|n| view.shared_block(ino, n).unwrap_or_else(|| empty.clone())).collect();
    // Bytes past the end are not content (a shorter length may have survived without the cut block).
    let tail = (size_bytes % BLOCK_BYTES) as usize;
    if let Some(last) = blocks.last_mut()
        && tail != 0
        && last.len() > tail
    {
        *last = trim_zeros(&last[..tail]).into();
    }
    Content { size_bytes, blocks }
}
