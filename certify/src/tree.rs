//! A plain directory tree by value: what a release is compared with when nothing clever is wanted.
//!
//! No inodes, no versions, no times, no owners. Paths are bytes relative to the tree's root, `/` between names, the
//! root itself is the empty path.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use simfs::{BLOCK_BYTES, BlockStore, Kind};

/// A tree: path → node.
pub type Tree = BTreeMap<Vec<u8>, Node>;

/// One node of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Directory with its permission bits.
    Dir {
        /// Permission bits.
        mode: u32,
    },
    /// Regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// Content.
        content: Content,
    },
    /// Symbolic link with its text.
    Symlink {
        /// Link text.
        target: Vec<u8>,
    },
    /// FIFO or socket.
    Other {
        /// Which.
        kind: Kind,
        /// Permission bits.
        mode: u32,
    },
}

/// A file's bytes, in blocks that are shared with the simulated disk where they come from there.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Content {
    /// Length in bytes.
    pub size_bytes: u64,
    /// Blocks of [`BLOCK_BYTES`], trailing zeros of each cut off; one for each block that the length reaches into.
    pub blocks: Vec<Arc<[u8]>>,
}

impl Content {
    /// The content of a reader, to its end, in blocks from `store`.
    pub fn read(mut from: impl Read, store: &BlockStore) -> io::Result<Self> {
        let mut content = Self::default();
        let mut block = Vec::with_capacity(BLOCK_BYTES as usize);
        loop {
            block.clear();
            let read = from.by_ref().take(BLOCK_BYTES).read_to_end(&mut block)? as u64;
            content.size_bytes += read;
            if read > 0 {
                content.blocks.push(store.share(&block));
            }
            if read < BLOCK_BYTES {
                return Ok(content);
            }
        }
    }

    /// The bytes, written out.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (n, block) in self.blocks.iter().enumerate() {
            bytes.resize(n * BLOCK_BYTES as usize, 0);
            bytes.extend_from_slice(block);
        }
        bytes.resize(self.size_bytes as usize, 0);
        bytes
    }
}

/// Why a directory cannot be taken as a release.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Reading failed.
    #[error("cannot read {}: {error}", show_path(path))]
    Read {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A socket, pipe or device.
    #[error("{} is a {kind}: a release holds files, directories and symlinks only", show_path(path))]
    Special {
        /// Which.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
}

/// Reads a directory of this machine as a tree, its content in blocks from `store`. Symlinks are not followed.
pub fn read_dir(root: &Path, store: &BlockStore) -> Result<Tree, TreeError> {
    let mut tree = Tree::new();
    for entry in walkdir::WalkDir::new(root).follow_links(false).sort_by_file_name() {
        let entry = entry.map_err(|error| TreeError::Read {
            path: error.path().unwrap_or(root).to_path_buf(),
            error: error.into_io_error().unwrap_or_else(|| io::Error::other("a loop of directories")),
        })?;
        // A root that is itself a symlink is the directory it points to; nothing below is followed.
        let node = if entry.depth() == 0 {
            read_node(entry.path(), &fs::metadata(root), store)?
        } else {
            read_node(entry.path(), &fs::symlink_metadata(entry.path()), store)?
        };
        let path = entry.path().strip_prefix(root).unwrap_or(Path::new(""));
        tree.insert(path.as_os_str().as_bytes().to_vec(), node);
    }
    match tree.get(&b""[..]) {
        Some(Node::Dir { .. }) => Ok(tree),
        _ => Err(TreeError::Read {
            path: root.to_path_buf(),
            error: io::Error::from(io::ErrorKind::NotADirectory),
        }),
    }
}

fn read_node(path: &Path, meta: &io::Result<fs::Metadata>, store: &BlockStore) -> Result<Node, TreeError> {
    let failed = |error| TreeError::Read { path: path.to_path_buf(), error };
    let meta = meta.as_ref().map_err(|error| failed(io::Error::new(error.kind(), error.to_string())))?;
    let mode = meta.mode() & 0o7777;
    let kind = meta.file_type();
    if kind.is_dir() {
        Ok(Node::Dir { mode })
    } else if kind.is_symlink() {
        let target = fs::read_link(path).map_err(failed)?;
        Ok(Node::Symlink { target: target.as_os_str().as_bytes().to_vec() })
    } else if kind.is_file() {
        let content = fs::File::open(path).and_then(|file| Content::read(file, store)).map_err(failed)?;
        Ok(Node::File { mode, content })
    } else {
        let kind = if kind.is_fifo() {
            "named pipe"
        } else if kind.is_socket() {
            "socket"
        } else {
            "device"
        };
        Err(TreeError::Special { path: path.to_path_buf(), kind })
    }
}

/// What is wrong with a tree compared with the one it should be: the first difference in path order.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// Path below the release.
    #[serde(serialize_with = "as_text")]
    pub path: Vec<u8>,
    /// What is wrong, for people.
    pub what: String,
}

fn as_text<S: serde::Serializer>(path: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&show(path))
}

impl std::fmt::Display for Difference {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = if self.path.is_empty() { "the directory itself".to_owned() } else { show(&self.path) };
        write!(out, "{path} {}", self.what)
    }
}

/// Bytes as text that is safe on a terminal: printable ASCII as it is, all else escaped.
pub fn show(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.chars().flat_map(escape).collect(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

/// A path of this machine, as text that is safe on a terminal.
pub fn show_path(path: &Path) -> String {
    show(path.as_os_str().as_bytes())
}

fn escape(c: char) -> Vec<char> {
    // Control and format characters could move the cursor or reorder the line.
    let hidden = c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    if hidden || c == '\\' { c.escape_default().collect() } else { vec![c] }
}

/// Compares two nodes; `None` when they are equal.
pub fn node_difference(is: &Node, should: &Node) -> Option<String> {
    if is == should {
        return None;
    }
    Some(match (is, should) {
        (Node::File { mode: a, content: x }, Node::File { mode: b, content: y }) => {
            if x.size_bytes != y.size_bytes {
                format!("has {} bytes instead of {}", x.size_bytes, y.size_bytes)
            } else if x != y {
                "has wrong content".to_owned()
            } else {
                format!("has mode {a:04o} instead of {b:04o}")
            }
        }
        (Node::Dir { mode: a }, Node::Dir { mode: b })
        | (Node::Other { mode: a, .. }, Node::Other { mode: b, .. }) => {
            format!("has mode {a:04o} instead of {b:04o}")
        }
        (Node::Symlink { target: a }, Node::Symlink { target: b }) => {
            format!("points to '{}' instead of '{}'", show(a), show(b))
        }
        _ => format!("is {} instead of {}", kind_word(is), kind_word(should)),
    })
}

fn kind_word(node: &Node) -> &'static str {
    match node {
        Node::Dir { .. } => "a directory",
        Node::File { .. } => "a file",
        Node::Symlink { .. } => "a symlink",
        Node::Other { .. } => "a special file",
    }
}

/// The first difference between a tree and the one it should be. With `extra_allowed`, names that it has beside
/// those it should have do not count.
pub fn difference(is: &Tree, should: &Tree, extra_allowed: bool) -> Option<Difference> {
    for (path, node) in should {
        let what = match is.get(path) {
            None => Some("is missing".to_owned()),
            Some(found) => node_difference(found, node),
        };
        if let Some(what) = what {
            return Some(Difference { path: path.clone(), what });
        }
    }
    let extra = is.keys().find(|path| !should.contains_key(*path))?;
    (!extra_allowed).then(|| Difference { path: extra.clone(), what: "should not be there".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_cut_into_blocks_and_comes_back() {
        for len in [0_usize, 1, 4095, 4096, 4097, 8192, 10_000] {
            let bytes: Vec<u8> = (0..len).map(|i| if i % 3 == 0 { 0 } else { i as u8 }).collect();
            let content = Content::read(&bytes[..], &BlockStore::default()).unwrap();
            assert_eq!(content.blocks.len() as u64, (len as u64).div_ceil(BLOCK_BYTES));
            assert_eq!(content.to_bytes(), bytes);
        }
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(show(b"a\x1b[2J\nb"), "a\\u{1b}[2J\\nb");
        assert_eq!(show(b"caf\xe9"), "caf\\xe9");
        assert_eq!(show("é\u{202e}".as_bytes()), "é\\u{202e}");
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let file = |mode, bytes: &[u8]| Node::File {
            mode,
            content: Content::read(bytes, &BlockStore::default()).unwrap(),
        };
        let should: Tree =
            [(b"".to_vec(), Node::Dir { mode: 0o755 }), (b"a".to_vec(), file(0o644, b"x"))].into();
        let with = |node: Option<Node>| {
            let mut tree = should.clone();
            match node {
                Some(node) => tree.insert(b"a".to_vec(), node),
                None => tree.remove(&b"a"[..]),
            };
            difference(&tree, &should, false).map(|d| d.to_string())
        };
        assert_eq!(with(Some(file(0o644, b"x"))), None);
        assert_eq!(with(None).unwrap(), "a is missing");
        assert_eq!(with(Some(file(0o644, b""))).unwrap(), "a has 0 bytes instead of 1");
        assert_eq!(with(Some(file(0o644, b"y"))).unwrap(), "a has wrong content");
        assert_eq!(with(Some(file(0o600, b"x"))).unwrap(), "a has mode 0600 instead of 0644");
        assert_eq!(with(Some(Node::Dir { mode: 0o644 })).unwrap(), "a is a directory instead of a file");
        let mut extra = should.clone();
        extra.insert(b"b".to_vec(), Node::Symlink { target: vec![] });
        assert_eq!(difference(&extra, &should, false).unwrap().to_string(), "b should not be there");
        assert_eq!(difference(&extra, &should, true), None);
    }
}
