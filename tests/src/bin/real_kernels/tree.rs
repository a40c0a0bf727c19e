//! What a reader finds below the root of a file system, as a plain value, and how it is read from a real one.
//!
//! Names, types, permission bits, lengths, bytes and link texts. Not: times, owners, inode numbers, and which names are
//! the same file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::hash::{Hash, Hasher as _};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustc_hash::FxHasher;

/// Deeper than any program goes: a model may leave a directory inside of itself.
pub(crate) const MAX_DEPTH: usize = 16;

/// One thing in a tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Node {
    /// A directory.
    Dir {
        /// Permission bits.
        mode: u32,
    },
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// Content.
        bytes: Vec<u8>,
    },
    /// A symbolic link.
    Link {
        /// Its text.
        text: Vec<u8>,
    },
    /// Something that cannot be read, or that no program makes. Never allowed.
    Broken {
        /// What the kernel said.
        why: String,
    },
}

/// A tree by path; the root is the empty one. Names are [`shown`].
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tree {
    /// The nodes.
    pub(crate) nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// Reads what is mounted at `root`.
    pub(crate) fn read(root: &Path) -> Self {
        let mut tree = Self::default();
        tree.add(root, String::new(), 0);
        tree
    }

    fn add(&mut self, at: &Path, path: String, depth: usize) {
        let node = match node(at) {
            Ok(node) => node,
            Err(error) => Node::Broken { why: error.to_string() },
        };
        let is_dir = matches!(node, Node::Dir { .. });
        if is_dir && depth > MAX_DEPTH {
            self.nodes.insert(path, Node::Broken { why: "deeper than any program goes".to_owned() });
            return;
        }
        self.nodes.insert(path.clone(), node);
        if !is_dir {
            return;
        }
        let names = fs::read_dir(at)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>());
        match names {
            Ok(names) => {
                for name in names {
                    // mkfs.ext4 makes it.
                    if !(depth == 0 && name == "lost+found") {
                        let below = joined(&path, &shown(name.as_bytes()));
                        self.add(&at.join(name), below, depth + 1);
                    }
                }
            }
            Err(error) => {
                self.nodes.insert(path, Node::Broken { why: format!("readdir: {error}") });
            }
        }
    }

    /// Equal for equal trees.
    pub(crate) fn hash(&self) -> u64 {
        let mut hasher = FxHasher::default();
        Hash::hash(self, &mut hasher);
        hasher.finish()
    }

    /// Equal for trees that differ in nothing but lengths and bytes of files.
    pub(crate) fn shape(&self) -> u64 {
        let mut hasher = FxHasher::default();
        for (path, node) in &self.nodes {
            path.hash(&mut hasher);
            match node {
                Node::File { mode, .. } => (u8::MAX, mode).hash(&mut hasher),
                node => node.hash(&mut hasher),
            }
        }
        hasher.finish()
    }
}

/// A path one deeper.
pub(crate) fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// A name as it stands in a path: another for each name, and nothing in it that a terminal takes for a command.
pub(crate) fn shown(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

fn node(at: &Path) -> io::Result<Node> {
    let found = fs::symlink_metadata(at)?;
    let mode = found.permissions().mode() & 0o7777;
    let kind = found.file_type();
    Ok(if kind.is_dir() {
        Node::Dir { mode }
    } else if kind.is_file() {
        Node::File { mode, bytes: fs::read(at)? }
    } else if kind.is_symlink() {
        let text = fs::read_link(at)?;
        Node::Link { text: text.into_os_string().into_encoded_bytes() }
    } else {
        Node::Broken { why: format!("{kind:?}") }
    })
}

impl fmt::Display for Tree {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, (path, node)) in self.nodes.iter().enumerate() {
            let between = if nth == 0 { "" } else { "; " };
            let path = if path.is_empty() { "/" } else { path };
            write!(out, "{between}{path}")?;
            match node {
                Node::Dir { mode: 0o755 } => out.write_str(" dir")?,
                Node::Dir { mode } => write!(out, " dir {mode:o}")?,
                Node::File { mode, bytes } => {
                    if *mode != 0o644 {
                        write!(out, " {mode:o}")?;
                    }
                    write!(out, " = {}", told(bytes))?;
                }
                Node::Link { text } => write!(out, " -> {:?}", String::from_utf8_lossy(text))?,
                Node::Broken { why } => write!(out, " BROKEN ({why})")?,
            }
        }
        Ok(())
    }
}

/// Bytes as runs of equal ones: `a×4096 0×100`.
fn told(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "empty".to_owned();
    }
    let runs = bytes.chunk_by(|a, b| a == b).map(|run| match run[0] {
        0 => format!("0×{}", run.len()),
        letter => format!("{}×{}", letter.escape_ascii(), run.len()),
    });
    let mut runs: Vec<_> = runs.collect();
    if runs.len() > 20 {
        let more = runs.len() - 20;
        runs.truncate(20);
        runs.push(format!("and {more} more runs"));
    }
    runs.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_told_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::set_permissions(dir.path().join("d"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(dir.path().join("d/f"), b"aaa\0\0").unwrap();
        fs::set_permissions(dir.path().join("d/f"), fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink("d/f", dir.path().join("l")).unwrap();
        let tree = Tree::read(dir.path());
        assert_eq!(tree.to_string(), r#"/ dir; d dir 700; d/f = a×3 0×2; l -> "d/f""#);
        let mut other = tree.clone();
        other.nodes.insert("d/f".to_owned(), Node::File { mode: 0o644, bytes: Vec::new() });
        assert_eq!(tree.shape(), other.shape());
        assert_ne!(tree.hash(), other.hash());
    }
}
