//! [`Drift`]: how a release on the host differs from its seal. Pure.

use std::collections::BTreeMap;
use std::fmt;

use crate::manifest::{Entry, Manifest, Sha};
use crate::path::RelPath;
use crate::remote::listing::Tree;

/// What differs. What was added at run time is no fault: it is the application's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Paths of the seal that are not what it says, and in what way, in one word.
    pub differs: BTreeMap<RelPath, &'static str>,
    /// The topmost paths that the seal does not have.
    pub added: Vec<RelPath>,
}

/// Digests of a release's files as the host told them; `None` where it could not read one.
pub type Hashes = BTreeMap<RelPath, Option<Sha>>;

/// The files of the seal that are there as files: those whose content can be asked for.
pub fn to_hash<'a>(seal: &'a Manifest, tree: &Tree) -> Vec<&'a RelPath> {
    let is_there = |path: &RelPath, entry: &Entry| {
        matches!(entry, Entry::File { .. })
            && !matches!(tree.difference(path, entry), Some("missing" | "type"))
    };
    seal.entries().iter().filter(|(path, entry)| is_there(path, entry)).map(|(path, _)| path).collect()
}

/// Compares: by type, size, mode, time and link text, and by content if there are digests. With these the time is of
/// no matter.
pub fn compare(seal: &Manifest, tree: &Tree, hashes: Option<&Hashes>) -> Drift {
    let mut drift = Drift::default();
    for (path, entry) in seal.entries() {
        let content = || match (entry, hashes.map(|h| h.get(path))) {
            (Entry::File { sha, .. }, Some(Some(Some(found)))) if sha != found => Some("content"),
            (Entry::File { .. }, Some(Some(None))) => Some("unreadable"),
            _ => None,
        };
        let difference = match tree.difference(path, entry) {
            Some("time") if hashes.is_some() => content(),
            None => content(),
            other => other,
        };
        if let Some(word) = difference {
            drift.differs.insert(path.clone(), word);
        }
    }
    for path in tree.beside(seal) {
        if path.parent().is_none_or(|parent| seal.get(&parent).is_some()) {
            drift.added.push(path.clone());
        }
    }
    drift
}

impl Drift {
    /// Whether the release is what its seal says.
    pub fn is_none(&self) -> bool {
        self.differs.is_empty()
    }
}

/// The first differences, in one line.
impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> =
            self.differs.iter().take(5).map(|(path, word)| format!("{path} ({word})")).collect();
        let more = self.differs.len().saturating_sub(shown.len());
        f.write_str(&shown.join(", "))?;
        if more > 0 { write!(f, " and {more} more") } else { Ok(()) }
    }
}
