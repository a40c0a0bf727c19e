//! A release as a value: paths and what stands there, made by editing the release before.
//!
//! Edits that cannot be meant (a path that is already there, text that is not found once) panic: they are
//! mistakes in the tables of `releases.rs`, and a unit test builds them all.

use std::collections::BTreeMap;

use super::Content;

/// One entry of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// What it is.
    pub(super) content: Content,
    /// Its modification time, in seconds of Unix time.
    pub(super) mtime_s: i64,
}

/// All entries of a release by path, each directory listed, parents before children.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    nodes: BTreeMap<Vec<u8>, Node>,
    date_s: i64,
}

impl Tree {
    /// All entries, in the order of their paths' bytes: a directory comes before what it holds.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_slice(), node))
    }

    /// What stands at `path`, if anything does.
    #[cfg(test)]
    pub(super) fn get(&self, path: impl AsRef<[u8]>) -> Option<&Content> {
        self.nodes.get(path.as_ref()).map(|node| &node.content)
    }

    /// The same entries; edits from here on carry times of the day that starts at `date_s`.
    pub(super) fn next(mut self, date_s: i64) -> Self {
        self.date_s = date_s;
        self
    }

    /// Adds a file of mode 0644.
    pub(super) fn file(&mut self, path: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) {
        self.file_as(0o644, path, bytes);
    }

    /// Adds a file with that mode.
    pub(super) fn file_as(&mut self, mode: u32, path: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) {
        self.add(path.as_ref(), Content::File { bytes: bytes.as_ref().to_vec(), mode });
    }

    /// Adds a directory. Directories that are missing above any entry come by themselves, with mode 0755.
    pub(super) fn directory(&mut self, mode: u32, path: impl AsRef<[u8]>) {
        self.add(path.as_ref(), Content::Directory { mode });
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) {
        self.add(path.as_ref(), Content::Symlink { target: target.as_ref().to_vec() });
    }

    /// Replaces the one place where `old` stands in a file.
    pub(super) fn edit(&mut self, path: &str, old: &str, new: &str) {
        let text = self.bytes_of(path.as_bytes());
        let mut places = text.windows(old.len()).enumerate().filter(|(_, window)| *window == old.as_bytes());
        let place = places.next().unwrap_or_else(|| panic!("{path}: no {old:?}")).0;
        assert!(places.next().is_none(), "{path}: {old:?} more than once");
        let edited = [&text[..place], new.as_bytes(), &text[place + old.len()..]].concat();
        self.rewrite(path, edited);
    }

    /// Gives a file other bytes; its mode stays.
    pub(super) fn rewrite(&mut self, path: impl AsRef<[u8]>, new: impl AsRef<[u8]>) {
        let mtime_s = self.time_of(path.as_ref());
        let node = self.node_mut(path.as_ref());
        let Content::File { bytes, .. } = &mut node.content else { panic!("not a file: {node:?}") };
        assert_ne!(bytes, new.as_ref(), "the bytes are the same");
        *bytes = new.as_ref().to_vec();
        node.mtime_s = mtime_s;
    }

    /// Changes the mode alone: the modification time stays, as it does on a disk.
    pub(super) fn chmod(&mut self, new: u32, path: &str) {
        match &mut self.node_mut(path.as_bytes()).content {
            Content::File { mode, .. } | Content::Directory { mode } => *mode = new,
            Content::Symlink { .. } => panic!("{path}: a link has no mode"),
        }
    }

    /// Moves an entry with everything below it, times included.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        for (path, node) in self.take(from.as_bytes()) {
            let moved = [to.as_bytes(), &path[from.len()..]].concat();
            self.add_parents(&moved);
            assert!(self.nodes.insert(moved, node).is_none(), "{to}: there is something already");
        }
    }

    /// Removes an entry with everything below it.
    pub(super) fn remove(&mut self, path: impl AsRef<[u8]>) {
        self.take(path.as_ref());
    }

    /// Puts a file back to what it was in an earlier release, time included.
    pub(super) fn revert(&mut self, path: &str, earlier: &Self) {
        let node = earlier.nodes[path.as_bytes()].clone();
        *self.node_mut(path.as_bytes()) = node;
    }

    /// The bytes of a file.
    pub(super) fn bytes_of(&self, path: &[u8]) -> Vec<u8> {
        match &self.nodes[path].content {
            Content::File { bytes, .. } => bytes.clone(),
            other => panic!("not a file: {other:?}"),
        }
    }

    fn add(&mut self, path: &[u8], content: Content) {
        let mtime_s = self.time_of(path);
        self.add_parents(path);
        let old = self.nodes.insert(path.to_vec(), Node { content, mtime_s });
        assert!(old.is_none(), "{}: there is something already", String::from_utf8_lossy(path));
    }

    /// Makes sure that everything above `path` is a directory, and lets the lowest one feel the change.
    fn add_parents(&mut self, path: &[u8]) {
        let Some(end) = path.iter().rposition(|byte| *byte == b'/') else { return };
        let parent = &path[..end];
        if !self.nodes.contains_key(parent) {
            self.add(parent, Content::Directory { mode: 0o755 });
        }
        let mtime_s = self.time_of(parent);
        let node = self.node_mut(parent);
        assert!(matches!(node.content, Content::Directory { .. }), "not a directory: {node:?}");
        node.mtime_s = mtime_s;
    }

    fn take(&mut self, path: &[u8]) -> Vec<(Vec<u8>, Node)> {
        let below = [path, b"/"].concat();
        let taken: Vec<_> = self.nodes.extract_if(.., |at, _| at == path || at.starts_with(&below)).collect();
        assert!(!taken.is_empty(), "{}: not there", String::from_utf8_lossy(path));
        taken
    }

    fn node_mut(&mut self, path: &[u8]) -> &mut Node {
        let name = String::from_utf8_lossy(path);
        self.nodes.get_mut(path).unwrap_or_else(|| panic!("{name}: not there"))
    }

    /// A time in the working day of this release, different from path to path.
    fn time_of(&self, path: &[u8]) -> i64 {
        let spread = path.iter().fold(17_i64, |sum, byte| (sum * 31 + i64::from(*byte)) % 28_800);
        self.date_s + spread
    }
}

/// Bytes that look random and never change: the same `seed` gives the same bytes, on every machine.
pub(super) fn noise(seed: u64, len: usize) -> Vec<u8> {
    // SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
