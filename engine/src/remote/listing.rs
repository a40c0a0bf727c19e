//! Parsing of what `find … -exec stat -c '//…'` and `tar` say about a tree.
//!
//! A record starts with `//`, which cannot occur inside a path that `find` prints, so names may hold newlines and
//! anything else. Pure, total; fuzz targets.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use crate::manifest::{Entry, Sha};
use crate::path::RelPath;

/// One thing as `stat` saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `st_mode`, type and permissions.
    pub raw_mode: u32,
    /// Length in bytes.
    pub size: u64,
    /// Modification time, whole seconds; may be before the epoch.
    pub mtime: i64,
}

const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// A tree on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    seen: BTreeMap<RelPath, Seen>,
    links: BTreeMap<RelPath, Vec<u8>>,
    unreadable: BTreeSet<RelPath>,
}

impl Tree {
    /// From the output of the `tree` and `links` sections; `None` if it is not that.
    pub fn parse(tree: &[u8], links: &[u8]) -> Option<Self> {
        Some(Self { seen: parse_tree(tree)?, links: parse_links(links)?, ..Self::default() })
    }

    /// A tree out of its parts, for tests and simulations.
    pub fn from_parts(seen: BTreeMap<RelPath, Seen>, links: BTreeMap<RelPath, Vec<u8>>) -> Self {
        Self { seen, links, ..Self::default() }
    }

    /// The same, of which these cannot be read.
    #[must_use]
    pub fn without(self, unreadable: BTreeSet<RelPath>) -> Self {
        Self { unreadable, ..self }
    }

    /// Files that the deploy user cannot read, and directories that the user cannot look into.
    pub fn unreadable(&self) -> &BTreeSet<RelPath> {
        &self.unreadable
    }

    /// Whether anything is at `path`.
    pub fn contains(&self, path: &RelPath) -> bool {
        self.seen.contains_key(path)
    }

    /// Whether a directory (not a link to one) is at `path`.
    pub fn is_dir(&self, path: &RelPath) -> bool {
        self.seen.get(path).is_some_and(|s| s.raw_mode & S_IFMT == S_IFDIR)
    }

    /// Whether a directory is at `path` in which its owner may not do everything.
    pub fn is_closed(&self, path: &RelPath) -> bool {
        self.is_dir(path) && self.seen.get(path).is_some_and(|s| s.raw_mode & 0o700 != 0o700)
    }

    /// How much room a copy takes, where each file takes whole blocks of this size: bytes, and how many inodes.
    pub fn weight(&self, block_bytes: u64) -> (u64, u64) {
        let block = block_bytes.max(1);
        let bytes = self
            .seen
            .values()
            .filter(|s| s.raw_mode & S_IFMT != S_IFLNK)
            .fold(0_u64, |sum, seen| sum.saturating_add(seen.size.div_ceil(block).saturating_mul(block)));
        (bytes, self.seen.len() as u64)
    }

    /// The paths that `known` does not have.
    pub fn beside<'a>(&'a self, known: &'a crate::manifest::Manifest) -> impl Iterator<Item = &'a RelPath> {
        self.seen.keys().filter(|p| known.get(p).is_none())
    }

    /// Whether what is at `path` can be read and has `entry`'s type, size, mode, time and link text (content is not
    /// looked at).
    pub fn is(&self, path: &RelPath, entry: &Entry) -> bool {
        self.difference(path, entry).is_none()
    }

    /// In what way what is at `path` is not `entry`, in one word; the content is not looked at.
    pub fn difference(&self, path: &RelPath, entry: &Entry) -> Option<&'static str> {
        let Some(seen) = self.seen.get(path) else { return Some("missing") };
        if self.unreadable.contains(path) {
            return Some("readable");
        }
        let (kind, bits) = (seen.raw_mode & S_IFMT, seen.raw_mode & 0o7777);
        let wrong = |is: bool, word| (!is).then_some(word);
        match entry {
            Entry::Dir { mode, .. } => wrong(kind == S_IFDIR, "type").or(wrong(bits == *mode, "mode")),
            Entry::File { mode, mtime, size, .. } => wrong(kind == S_IFREG, "type")
                .or(wrong(seen.size == *size, "size"))
                .or(wrong(bits == *mode, "mode"))
                .or(wrong(u64::try_from(seen.mtime) == Ok(*mtime), "time")),
            Entry::Link { target } => {
                wrong(kind == S_IFLNK, "type").or(wrong(self.links.get(path) == Some(target), "link text"))
            }
        }
    }
}

/// Splits records that each start with `//` and end in a newline.
fn records(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut out = Vec::new();
    let Some(mut rest) = bytes.strip_prefix(b"//") else {
        return bytes.is_empty().then_some(out);
    };
    while let Some(at) = rest.windows(3).position(|w| w == b"\n//") {
        out.push(rest.get(..at)?);
        rest = rest.get(at + 3..)?;
    }
    out.push(rest.strip_suffix(b"\n")?);
    Some(out)
}

/// The next word and what follows its space.
fn word(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let at = bytes.iter().position(|b| *b == b' ')?;
    Some((std::str::from_utf8(bytes.get(..at)?).ok()?, bytes.get(at + 1..)?))
}

/// `//<raw mode, hex> <size> <mtime> <path>` records, as `find .` prints paths.
pub fn parse_tree(bytes: &[u8]) -> Option<BTreeMap<RelPath, Seen>> {
    records(bytes)?
        .into_iter()
        .map(|record| {
            let (mode, rest) = word(record)?;
            let (size, rest) = word(rest)?;
            let (mtime, path) = word(rest)?;
            let seen = Seen {
                raw_mode: u32::from_str_radix(mode, 16).ok()?,
                size: size.parse().ok()?,
                mtime: mtime.parse().ok()?,
            };
            Some((RelPath::from_find(path)?, seen))
        })
        .collect()
}

/// The symbolic links of the tar archives (one or several, one after the other) that `tar -cf -` wrote.
pub fn parse_links(bytes: &[u8]) -> Option<BTreeMap<RelPath, Vec<u8>>> {
    let mut out = BTreeMap::new();
    if bytes.is_empty() {
        return Some(out);
    }
    let mut archive = tar::Archive::new(bytes.take(u64::MAX));
    archive.set_ignore_zeros(true);
    for entry in archive.entries().ok()? {
        let entry = entry.ok()?;
        if entry.header().entry_type() != tar::EntryType::Symlink {
            continue;
        }
        let path = RelPath::from_find(&entry.path_bytes())?;
        out.insert(path, entry.link_name_bytes()?.into_owned());
    }
    Some(out)
}

/// `//<path>` records, as `find .` prints paths.
pub fn parse_unreadable(bytes: &[u8]) -> Option<BTreeSet<RelPath>> {
    records(bytes)?.into_iter().map(RelPath::from_find).collect()
}

/// One entry of a flat directory listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name, or for several directories in one listing the path from where `find` was told to start.
    pub name: Vec<u8>,
    /// Whether it is a directory; a link to one is not.
    pub is_dir: bool,
    /// Whether it is a symbolic link.
    pub is_link: bool,
    /// `device:inode`.
    pub identity: String,
}

/// `//<raw mode, hex> <device:inode> <dir>/./<name>` records; the `/.` is taken out, and `dir` off the front.
pub fn parse_items(dir: &[u8], bytes: &[u8]) -> Option<Vec<Item>> {
    records(bytes)?
        .into_iter()
        .map(|record| {
            let (mode, rest) = word(record)?;
            let (identity, path) = word(rest)?;
            let kind = u32::from_str_radix(mode, 16).ok()? & S_IFMT;
            let at = path.windows(3).rposition(|w| w == b"/./")?;
            let mut name = path.get(..at)?.to_vec();
            name.push(b'/');
            let last = path.get(at + 3..)?;
            // What comes back here goes into scripts again, so it has to be one name.
            if matches!(last, b"" | b"." | b"..") || last.iter().any(|b| matches!(b, b'/' | 0)) {
                return None;
            }
            name.extend_from_slice(last);
            let name = name.strip_prefix(dir)?.strip_prefix(b"/")?.to_vec();
            Some(Item {
                name,
                is_dir: kind == S_IFDIR,
                is_link: kind == S_IFLNK,
                identity: identity.to_owned(),
            })
        })
        .collect()
}

/// What `sha256sum` printed for exactly these paths in this order; `None` if it is not that.
///
/// GNU escapes names with a backslash, newline or carriage return and marks the line with a leading backslash; busybox does not. The names are known, so both forms are matched, never parsed.
pub fn parse_hashes(paths: &[&RelPath], bytes: &[u8]) -> Option<Vec<Sha>> {
    let mut rest = bytes;
    let mut out = Vec::with_capacity(paths.len());
    for path in paths {
        let (sha, after) = parse_hash(path, rest)?;
        out.push(sha);
        rest = after;
    }
    rest.is_empty().then_some(out)
}

/// The digest in the line about `path` that `bytes` begin with, and what follows the line.
fn parse_hash<'a>(path: &RelPath, bytes: &'a [u8]) -> Option<(Sha, &'a [u8])> {
    let (escaped, line) = match bytes.strip_prefix(b"\\") {
        Some(line) => (true, line),
        None => (false, bytes),
    };
    let sha = Sha::from_hex(line.get(..64)?)?;
    let line = line.get(64..)?;
    let line = line.strip_prefix(b"  ").or_else(|| line.strip_prefix(b" *"))?;
    let mut name = path.dotted();
    if escaped {
        name = gnu_escape(&name);
    }
    Some((sha, line.strip_prefix(name.as_slice())?.strip_prefix(b"\n")?))
}

/// The same for files of which some may be missing or unreadable: those have no digest. `None` if it is not that.
pub fn parse_hashes_there(paths: &[&RelPath], bytes: &[u8]) -> Option<Vec<Option<Sha>>> {
    let mut rest = bytes;
    let mut out = Vec::with_capacity(paths.len());
    for path in paths {
        let found = parse_hash(path, rest);
        out.push(found.map(|(sha, _)| sha));
        rest = found.map_or(rest, |(_, rest)| rest);
    }
    rest.is_empty().then_some(out)
}

fn gnu_escape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for b in name {
        match b {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            _ => out.push(*b),
        }
    }
    out
}
