//! Golden trees: what a release was at the instant it went live, with the inodes it was made of.
//!
//! Captured from a live state, never from what a tool says. Compared with crash states cell by cell
//! ([`super::decide`]) and, as a plain tree, by the oracle ([`super::oracle`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use simfs::cell::trim_zeros;
use simfs::{BLOCK_BYTES, Ino, Kind, Name, View};

use crate::tree::{Content, Node, Tree};

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

/// Deeper than any real tree: a capture ends also where directories form a cycle.
const MAX_DEPTH: usize = 512;

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

    /// Every inode of the tree.
    pub(crate) fn inodes(&self, visit: &mut impl FnMut(Ino)) {
        visit(self.ino);
        if let Body::Dir { entries, .. } = &self.body {
            for child in entries.values() {
                child.inodes(visit);
            }
        }
    }

    /// The tree by value.
    pub(crate) fn to_tree(&self) -> Tree {
        let mut tree = Tree::new();
        self.write_into(Vec::new(), &mut tree);
        tree
    }

    fn write_into(&self, path: Vec<u8>, tree: &mut Tree) {
        let node = match &self.body {
            Body::Dir { mode, entries } => {
                for (name, child) in entries {
                    child.write_into(join(&path, name), tree);
                }
                Node::Dir { mode: *mode }
            }
            Body::File { mode, content } => Node::File { mode: *mode, content: content.clone() },
            Body::Symlink { target } => Node::Symlink { target: target.clone() },
            Body::Other { kind, mode } => Node::Other { kind: *kind, mode: *mode },
        };
        tree.insert(path, node);
    }
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
