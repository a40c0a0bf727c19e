//! [`Manifest`]: what a release consists of, and its byte form, the seal.
//!
//! The seal lies outside the release tree and ends in its own digest, so that one that a power loss tore is told from
//! a whole one. [`parse`] takes bytes from a host and never panics; it is a fuzz target.
//!
//! ```text
//! cutover-manifest 1
//! d 755 1700000000 .
//! f 644 1700000000 12 <sha256> index%20page.html
//! l logs ../../shared/logs
//! sha256 <digest of every byte above>
//! ```
//! What of a file is kept, and what is not:
//! - **Modes**: all twelve bits, exactly the source's, whatever the umask of the login; of the release's root too. setuid
//!   and setgid come along. A folder does not get setgid from the folder that it is made in.
//! - **Times**: of files, whole seconds. A file that is unchanged keeps the time it has on the host, also where the
//!   source's is another one. Directories get the source's when something changes in them.
//! - **Owner**: what is uploaded belongs to the deploy user and group; below a deploy path with setgid to that one's
//!   group. What is copied belongs to the deploy user too, unless that is root, and keeps a group that the user is in.
//! - **Neither** ACLs nor extended attributes, hard links, holes: an upload has none, a copy keeps what `cp -a` keeps.
//!
//! What Cutover makes for itself, the deploy path and `releases/`, `shared/`, `.cutover/` in it, follows the umask.
//!
//! Bytes outside printable ASCII, the space and `%` are written `%XX`.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use sha2::{Digest as _, Sha256};

use crate::path::RelPath;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha(pub [u8; 32]);

impl Sha {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// 64 lower-case hexadecimal digits; anything else is `None`.
    pub fn from_hex(hex: &[u8]) -> Option<Self> {
        if hex.len() != 64 {
            return None;
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(hex.chunks_exact(2)) {
            let digit = |b: u8| match b {
                b'0'..=b'9' => Some(b - b'0'),
                b'a'..=b'f' => Some(b - b'a' + 10),
                _ => None,
            };
            *byte = digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?;
        }
        Some(Self(out))
    }
}

impl fmt::Display for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One thing in a tree. Modes are the low twelve bits; times are whole seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Dir {
        /// Permission bits, with setuid, setgid and sticky.
        mode: u32,
        /// Modification time; kept, never compared (it changes when the application writes beside it).
        mtime: u64,
    },
    /// A regular file.
    File {
        /// Permission bits, with setuid, setgid and sticky.
        mode: u32,
        /// Modification time.
        mtime: u64,
        /// Length in bytes.
        size: u64,
        /// Digest of the content.
        sha: Sha,
    },
    /// A symbolic link, with its text.
    Link {
        /// The link's text, byte for byte.
        target: Vec<u8>,
    },
}

/// A whole tree. Every entry's parent is in it as a directory; the root is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest(BTreeMap<RelPath, Entry>);

/// Why bytes are not a seal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The digest at the end is missing or does not fit: the seal is torn or was edited.
    #[error("its digest is missing or does not fit")]
    Digest,
    /// A first line of another format or version.
    #[error("it is not of a known version")]
    Version,
    /// A line that is not an entry.
    #[error("line {0} is not an entry")]
    Line(usize),
    /// An entry whose parent is missing or is not a directory, or no root.
    #[error("`{0}` is not inside a directory of the manifest")]
    Orphan(RelPath),
}

const HEADER: &str = "cutover-manifest 1";

impl Manifest {
    /// A manifest of these entries.
    ///
    /// # Errors
    /// If the root is missing or an entry's parent is not a directory.
    pub fn new(entries: BTreeMap<RelPath, Entry>) -> Result<Self, ManifestError> {
        for path in entries.keys() {
            let holder = path.parent().unwrap_or_else(RelPath::root);
            if !matches!(entries.get(&holder), Some(Entry::Dir { .. })) {
                return Err(ManifestError::Orphan(path.clone()));
            }
        }
        if entries.is_empty() {
            return Err(ManifestError::Orphan(RelPath::root()));
        }
        Ok(Self(entries))
    }

    /// The tree with nothing in it but its root.
    pub fn empty() -> Self {
        Self(BTreeMap::from([(RelPath::root(), Entry::Dir { mode: 0o755, mtime: 0 })]))
    }

    /// The entries, sorted by path: a directory comes before what is in it.
    pub fn entries(&self) -> &BTreeMap<RelPath, Entry> {
        &self.0
    }

    /// The entry at `path`.
    pub fn get(&self, path: &RelPath) -> Option<&Entry> {
        self.0.get(path)
    }

    /// Whether `path` is a directory here.
    pub fn is_dir(&self, path: &RelPath) -> bool {
        matches!(self.0.get(path), Some(Entry::Dir { .. }))
    }

    /// The sum of all file lengths.
    pub fn bytes(&self) -> u64 {
        self.0
            .values()
            .map(|e| if let Entry::File { size, .. } = e { *size } else { 0 })
            .fold(0, u64::saturating_add)
    }

    /// The seal: the byte form, ending in its own digest.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = format!("{HEADER}\n");
        for (path, entry) in &self.0 {
            let path = if path.is_root() { ".".to_owned() } else { escape(path.as_bytes()) };
            let _ = match entry {
                Entry::Dir { mode, mtime } => writeln!(out, "d {mode:o} {mtime} {path}"),
                Entry::File { mode, mtime, size, sha } => {
                    writeln!(out, "f {mode:o} {mtime} {size} {sha} {path}")
                }
                Entry::Link { target } => writeln!(out, "l {path} {}", escape(target)),
            };
        }
        let digest = Sha::of(out.as_bytes());
        let _ = writeln!(out, "sha256 {digest}");
        out.into_bytes()
    }
}

/// Reads a seal.
///
/// # Errors
/// If the bytes are not exactly what [`Manifest::to_bytes`] writes.
pub fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    // "sha256 " + 64 digits + newline
    let split = bytes.len().checked_sub(72).ok_or(ManifestError::Digest)?;
    let (body, tail) = bytes.split_at(split);
    let told = tail.strip_prefix(b"sha256 ").and_then(|t| t.strip_suffix(b"\n")).and_then(Sha::from_hex);
    if told != Some(Sha::of(body)) {
        return Err(ManifestError::Digest);
    }
    let body = std::str::from_utf8(body).map_err(|_| ManifestError::Version)?;
    let mut lines = body.strip_suffix('\n').ok_or(ManifestError::Version)?.split('\n');
    if lines.next() != Some(HEADER) {
        return Err(ManifestError::Version);
    }
    let mut entries = BTreeMap::new();
    for (n, line) in lines.enumerate() {
        let bad = ManifestError::Line(n + 2);
        let (path, entry) = parse_line(line).ok_or_else(|| bad.clone())?;
        // Strictly ascending: one form for one tree, and no path twice.
        if entries.last_key_value().is_some_and(|(last, _)| *last >= path) {
            return Err(bad);
        }
        entries.insert(path, entry);
    }
    Manifest::new(entries)
}

fn parse_line(line: &str) -> Option<(RelPath, Entry)> {
    let mut words = line.split(' ');
    let kind = words.next()?;
    let parsed = match kind {
        "d" => {
            let (mode, mtime) = (mode(words.next()?)?, number(words.next()?)?);
            (path(words.next()?)?, Entry::Dir { mode, mtime })
        }
        "f" => {
            let (mode, mtime) = (mode(words.next()?)?, number(words.next()?)?);
            let (size, sha) = (number(words.next()?)?, Sha::from_hex(words.next()?.as_bytes())?);
            (path(words.next()?)?, Entry::File { mode, mtime, size, sha })
        }
        "l" => (path(words.next()?)?, Entry::Link { target: target(words.next()?)? }),
        _ => return None,
    };
    words.next().is_none().then_some(parsed)
}

fn path(word: &str) -> Option<RelPath> {
    if word == "." {
        return Some(RelPath::root());
    }
    RelPath::new(unescape(word)?).filter(|p| !p.is_root())
}

fn target(word: &str) -> Option<Vec<u8>> {
    unescape(word).filter(|t| !t.is_empty() && !t.contains(&0))
}

fn mode(word: &str) -> Option<u32> {
    let canonical = !word.starts_with('+') && (word == "0" || !word.starts_with('0'));
    u32::from_str_radix(word, 8).ok().filter(|m| canonical && *m <= 0o7777)
}

fn number(word: &str) -> Option<u64> {
    let canonical = !word.starts_with('+') && (word == "0" || !word.starts_with('0'));
    word.parse().ok().filter(|_| canonical)
}

fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for b in bytes {
        if b.is_ascii_graphic() && *b != b'%' {
            out.push(char::from(*b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}

fn unescape(word: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word.bytes();
    while let Some(b) = rest.next() {
        if b == b'%' {
            let hex = [rest.next()?, rest.next()?];
            let hex = std::str::from_utf8(&hex).ok()?;
            out.push(u8::from_str_radix(hex, 16).ok()?);
        } else {
            out.push(b);
        }
    }
    // Only one spelling is a seal.
    (escape(&out) == word).then_some(out)
}
