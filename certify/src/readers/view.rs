//! What was read: paths with what stood there, contents as digests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use simfs::BLOCK_BYTES;

use crate::tree::{Content, Node};

/// Path, as bytes, to what was found there. What was not found is not in it.
pub(crate) type View = BTreeMap<Vec<u8>, Seen>;

/// What stood at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Seen {
    /// A directory, with its permission bits.
    Dir { mode: u32 },
    /// A file, with its permission bits, its length, and the digest of its bytes.
    File { mode: u32, size_bytes: u64, sha256: [u8; 32] },
    /// A symbolic link, with its text.
    Symlink { target: Vec<u8> },
    /// A pipe or socket.
    Other,
    /// Something that could not be read, and what the system said.
    Unreadable { error: String },
}

impl Seen {
    /// How this differs from what should be there, for people.
    pub(crate) fn difference(&self, should: &Self) -> String {
        match (self, should) {
            (Self::Dir { mode: is }, Self::Dir { mode: should }) => {
                format!("has mode {is:04o} instead of {should:04o}")
            }
            (
                Self::File { mode: is, size_bytes, sha256 },
                Self::File { mode: should, size_bytes: bytes, sha256: digest },
            ) => {
                if size_bytes != bytes {
                    format!("has {size_bytes} bytes instead of {bytes}")
                } else if sha256 != digest {
                    "has wrong content".to_owned()
                } else {
                    format!("has mode {is:04o} instead of {should:04o}")
                }
            }
            (Self::Symlink { target: is }, Self::Symlink { target: should }) => {
                let (is, should) = (crate::tree::show(is), crate::tree::show(should));
                format!("points to '{is}' instead of '{should}'")
            }
            _ => format!("is {} instead of {}", self.word(), should.word()),
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Dir { .. } => "a directory",
            Self::File { .. } => "a file",
            Self::Symlink { .. } => "a symlink",
            Self::Other => "a special file",
            Self::Unreadable { .. } => "unreadable",
        }
    }
}

/// What a reader of this node should see.
pub(crate) fn seen(node: &Node) -> Seen {
    match node {
        Node::Dir { mode } => Seen::Dir { mode: *mode },
        Node::File { mode, content } => {
            Seen::File { mode: *mode, size_bytes: content.size_bytes, sha256: digest(content) }
        }
        Node::Symlink { target } => Seen::Symlink { target: target.clone() },
        Node::Other { .. } => Seen::Other,
    }
}

fn digest(content: &Content) -> [u8; 32] {
    const ZEROS: [u8; BLOCK_BYTES as usize] = [0; BLOCK_BYTES as usize];
    let mut hash = Sha256::new();
    let mut left = content.size_bytes;
    for block in &content.blocks {
        let len = left.min(BLOCK_BYTES) as usize;
        let bytes = &block[..block.len().min(len)];
        hash.update(bytes);
        hash.update(&ZEROS[..len - bytes.len()]);
        left -= len as u64;
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use simfs::BlockStore;

    #[test]
    fn the_digest_of_blocks_is_that_of_the_bytes() {
        for len in [0_usize, 1, 4095, 4096, 4097, 9000] {
            let bytes: Vec<u8> = (0..len).map(|at| if at % 5 == 0 { 0 } else { at as u8 }).collect();
            let whole: [u8; 32] = Sha256::digest(&bytes).into();
            assert_eq!(digest(&Content::read(&bytes[..], &BlockStore::default()).unwrap()), whole, "{len}");
            let zeros: [u8; 32] = Sha256::digest(vec![0; len]).into();
            assert_eq!(
                digest(&Content::read(&vec![0; len][..], &BlockStore::default()).unwrap()),
                zeros,
                "{len} zeros"
            );
        }
    }

    #[test]
    fn differences_are_told_like_those_on_the_trace() {
        use crate::tree::node_difference;
        let file = |mode, bytes: &[u8]| Node::File {
            mode,
            content: Content::read(bytes, &BlockStore::default()).unwrap(),
        };
        let link = |text: &[u8]| Node::Symlink { target: text.to_vec() };
        let nodes = [
            file(0o644, b"one"),
            file(0o644, b"two"),
            file(0o600, b"one"),
            file(0o644, b""),
            Node::Dir { mode: 0o755 },
            Node::Dir { mode: 0o700 },
            link(b"a"),
            link(b"b\n"),
        ];
        for is in &nodes {
            for should in nodes.iter().filter(|should| *should != is) {
                let told = seen(is).difference(&seen(should));
                assert_eq!(Some(told), node_difference(is, should));
            }
        }
    }
}
