//! [`RelPath`]: a path inside a release, as bytes.
//!
//! Invariant: components separated by single `/`, none empty, `.` or `..`, no NUL. The release itself is the empty
//! path. So a `RelPath` can never lead out of the tree it is joined to (links are the caller's concern).

use std::fmt;

use crate::text::printable;

/// A path inside a release: arbitrary bytes, never absolute, never with `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RelPath(Vec<u8>);

impl RelPath {
    /// The root of the tree.
    pub fn root() -> Self {
        Self(Vec::new())
    }

    /// `bytes` as a path; `None` if a component is empty, `.` or `..`, or a NUL is in it.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Option<Self> {
        let bytes = bytes.into();
        let good = |c: &[u8]| !c.is_empty() && c != b"." && c != b".." && !c.contains(&0);
        (bytes.is_empty() || bytes.split(|b| *b == b'/').all(good)).then_some(Self(bytes))
    }

    /// A path as `find .` prints it: `.` or `./a/b`.
    pub fn from_find(bytes: &[u8]) -> Option<Self> {
        match bytes {
            b"." => Some(Self::root()),
            _ => bytes.strip_prefix(b"./").filter(|b| !b.is_empty()).and_then(Self::new),
        }
    }

    /// This path with one more component; `None` if `name` is not one component.
    pub fn join(&self, name: &[u8]) -> Option<Self> {
        if name.is_empty() || name.contains(&b'/') {
            return None;
        }
        let mut bytes = self.0.clone();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Self::new(bytes)
    }

    /// The directory that holds this path; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        self.0.get(..end).map(|b| Self(b.to_vec()))
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|b| *b == b'/').next().unwrap_or_default()
    }

    /// Every directory above this path, the root first, itself not included.
    pub fn ancestors(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut at = self.parent();
        while let Some(p) = at {
            at = p.parent();
            all.push(p);
        }
        all.reverse();
        all
    }

    /// How many components this path has.
    pub fn depth(&self) -> usize {
        if self.is_root() { 0 } else { self.0.split(|b| *b == b'/').count() }
    }

    /// Whether this is the root of the tree.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// `./a/b`, or `.`: never starts with a dash, so that no tool takes it for an option.
    pub fn dotted(&self) -> Vec<u8> {
        if self.is_root() {
            return b".".to_vec();
        }
        let mut out = b"./".to_vec();
        out.extend_from_slice(&self.0);
        out
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_root() { "." } else { "" })?;
        f.write_str(&printable(&self.0))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}
