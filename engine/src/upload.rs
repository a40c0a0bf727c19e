//! [`pack`]: what is uploaded, as one tar stream.
//!
//! `tree/…` is put into the release; `meta/…` tells the host's verbs how: lists of names separated by NUL, shell with
//! every name quoted, the seal. All names travel as bytes inside the archive, never in a command line.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use crate::diff::Changes;
use crate::manifest::{Entry, Sha};
use crate::path::RelPath;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::remote::quote::calls;
use crate::source::{Source, SourceError};

/// What can go wrong while packing.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The other end: the connection, or the host's tar.
    #[error("the upload was cut off")]
    Sink(#[source] io::Error),
}

/// Writes everything the host needs for `plan`. Files are streamed and hashed once more on the way.
///
/// # Errors
/// If a file of the source is not what was scanned, or the stream cannot be written.
pub fn pack(plan: &Plan, source: &Source, out: &mut dyn Write, progress: &Progress) -> Result<(), PackError> {
    let changes = plan.changes();
    let mut tar = Writer { out };
    for (name, bytes) in meta(changes)? {
        tar.file(format!("meta/{name}").as_bytes(), 0o600, 0, &bytes).map_err(PackError::Sink)?;
    }
    // A folder to work in, even if nothing goes in whole.
    tar.entry(b"tree", EntryType::Directory, 0o700, 0, 0, b"").map_err(PackError::Sink)?;
    let mut folders: std::collections::BTreeSet<RelPath> = [RelPath::root()].into();
    for path in &changes.upload {
        // The folders of the way, so that no tar has to guess them.
        for dir in path.ancestors() {
            if folders.insert(dir.clone()) && !changes.upload.contains(&dir) {
                tar.entry(&in_tree(&dir), EntryType::Directory, 0o700, 0, 0, b"").map_err(PackError::Sink)?;
            }
        }
        let name = in_tree(path);
        match changes.manifest.get(path) {
            Some(Entry::Dir { mode, mtime }) => {
                folders.insert(path.clone());
                // Open for the owner until everything is in it; `dirs.tar` sets the mode at the end.
                tar.entry(&name, EntryType::Directory, mode | 0o700, *mtime, 0, b"")
                    .map_err(PackError::Sink)?;
            }
            Some(Entry::Link { target }) => {
                tar.entry(&name, EntryType::Symlink, 0o777, 0, 0, target).map_err(PackError::Sink)?;
            }
            Some(Entry::File { mode, mtime, size, sha }) => {
                tar.entry(&name, EntryType::Regular, *mode, *mtime, *size, b"").map_err(PackError::Sink)?;
                stream(source, path, *size, *sha, &mut tar, progress)?;
                progress.file();
            }
            None => {}
        }
    }
    tar.finish().map_err(PackError::Sink)
}

fn in_tree(path: &RelPath) -> Vec<u8> {
    if path.is_root() { b"tree".to_vec() } else { [b"tree/", path.as_bytes()].concat() }
}

/// Copies one file into the archive: exactly as many bytes as announced, with the digest that was scanned.
fn stream(
    source: &Source,
    path: &RelPath,
    size: u64,
    sha: Sha,
    tar: &mut Writer<'_>,
    progress: &Progress,
) -> Result<(), PackError> {
    let changed = || SourceError::Changed { path: source.full_path(path) };
    let unreadable = |error| SourceError::Read { path: source.full_path(path), error };
    let mut file = source.open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut left = size;
    while left > 0 {
        let n = file.read(&mut buffer).map_err(unreadable)?;
        let bytes = buffer.get(..n).unwrap_or_default();
        if n == 0 || n as u64 > left {
            return Err(changed().into());
        }
        hash.update(bytes);
        tar.out.write_all(bytes).map_err(PackError::Sink)?;
        progress.bytes(n);
        left -= n as u64;
    }
    let more = file.read(&mut buffer).map_err(unreadable)?;
    if more > 0 || Sha(hash.finalize().into()) != sha {
        return Err(changed().into());
    }
    tar.pad(size).map_err(PackError::Sink)
}

/// Directories with their final mode and time, the deepest first: a folder that is closed last stays open till then.
fn dirs_tar(changes: &Changes) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut tar = Writer { out: &mut bytes };
    for path in changes.dirs.iter().rev() {
        if let Some(Entry::Dir { mode, mtime }) = changes.manifest.get(path) {
            tar.entry(&path.dotted(), EntryType::Directory, *mode, *mtime, 0, b"")?;
        }
    }
    tar.finish()?;
    Ok(bytes)
}

fn meta(changes: &Changes) -> Result<Vec<(&'static str, Vec<u8>)>, PackError> {
    let listed = |paths: &mut dyn Iterator<Item = &RelPath>| {
        let mut out = Vec::new();
        for path in paths {
            out.extend_from_slice(&path.dotted());
            out.push(0);
        }
        out
    };
    // What is replaced is removed first: then a rename cannot land inside a directory that was not expected.
    let remove = listed(&mut changes.remove.iter().chain(&changes.put).filter(|p| !p.is_root()));
    let hash = listed(&mut hashed(changes).into_iter());
    let dirs = dirs_tar(changes).map_err(PackError::Sink)?;
    Ok(vec![
        ("seal", changes.manifest.to_bytes()),
        ("guard.sh", guard_script(changes)),
        ("move.sh", move_script(changes)),
        ("modes.sh", modes_script(changes)),
        ("remove", remove),
        ("hash", hash),
        ("dirs.tar", dirs),
    ])
}

/// The uploaded files in the order the host hashes them.
pub fn hashed(changes: &Changes) -> Vec<&RelPath> {
    let is_file = |p: &&RelPath| matches!(changes.manifest.get(p), Some(Entry::File { .. }));
    changes.upload.iter().filter(is_file).collect()
}

fn guard_script(changes: &Changes) -> Vec<u8> {
    let dotted: Vec<Vec<u8>> = changes.guards.iter().map(RelPath::dotted).collect();
    let mut out = calls("guard", dotted.iter().map(Vec::as_slice), b"");
    // These are opened for the change; `dirs.tar` gives all of them their mode.
    let closed: Vec<Vec<u8>> = changes.closed.iter().map(RelPath::dotted).collect();
    out.extend_from_slice(&calls("opendirs", closed.iter().map(Vec::as_slice), b""));
    out
}

/// Modes that a tar which is not GNU's does not set for a normal user: of directories, which are there before the
/// archive's entry is read, and of files with setuid or setgid, which writing takes away. Directories come the deepest
/// first: one that is closed last stays open till then.
fn modes_script(changes: &Changes) -> Vec<u8> {
    let files = changes.upload.iter().filter_map(|path| match changes.manifest.get(path) {
        Some(Entry::File { mode, .. }) if mode & 0o7000 != 0 => Some((*mode, path.dotted())),
        _ => None,
    });
    let dirs = changes.dirs.iter().rev().filter_map(|path| match changes.manifest.get(path) {
        Some(Entry::Dir { mode, .. }) => Some((*mode, path.dotted())),
        _ => None,
    });
    let all: Vec<(u32, Vec<u8>)> = files.chain(dirs).collect();
    let mut out = Vec::new();
    for same in all.chunk_by(|a, b| a.0 == b.0) {
        let mode = same.first().map_or(0, |(mode, _)| *mode);
        let paths = same.iter().map(|(_, path)| path.as_slice());
        out.extend_from_slice(&calls(&format!("chmod {mode:o} --"), paths, b" || exit 1"));
    }
    out
}

/// One `mv` for all that goes into one folder; `$n` is the release.
fn move_script(changes: &Changes) -> Vec<u8> {
    let mut by_folder = std::collections::BTreeMap::<RelPath, Vec<Vec<u8>>>::new();
    for path in &changes.put {
        if let Some(folder) = path.parent() {
            by_folder.entry(folder).or_default().push(path.dotted());
        }
    }
    let mut out = Vec::new();
    for (folder, paths) in &by_folder {
        let mut last = b" \"$n\"/".to_vec();
        last.extend_from_slice(&crate::remote::quote::word(&folder.dotted()));
        last.extend_from_slice(b"/ || exit 1");
        out.extend_from_slice(&calls("mv -f --", paths.iter().map(Vec::as_slice), &last));
    }
    out
}

/// Writes ustar with GNU long names, byte for byte: the library's own path functions tidy names and link texts up.
struct Writer<'a> {
    out: &'a mut dyn Write,
}

impl Writer<'_> {
    fn entry(
        &mut self,
        name: &[u8],
        kind: EntryType,
        mode: u32,
        mtime: u64,
        size: u64,
        link: &[u8],
    ) -> io::Result<()> {
        if name.len() > 100 {
            self.long(b'L', name)?;
        }
        if link.len() > 100 {
            self.long(b'K', link)?;
        }
        self.header(name, kind, mode, mtime, size, link)
    }

    /// GNU's long name (`L`) or long link text (`K`), ahead of the entry it is for.
    fn long(&mut self, kind: u8, text: &[u8]) -> io::Result<()> {
        let size = text.len() as u64 + 1;
        self.header(b"././@LongLink", EntryType::new(kind), 0o644, 0, size, b"")?;
        self.out.write_all(text)?;
        self.out.write_all(&[0])?;
        self.pad(size)
    }

    fn header(
        &mut self,
        name: &[u8],
        kind: EntryType,
        mode: u32,
        mtime: u64,
        size: u64,
        link: &[u8],
    ) -> io::Result<()> {
        let mut header = Header::new_gnu();
        let old = header.as_old_mut();
        old.name.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
        old.linkname.iter_mut().zip(link).for_each(|(to, from)| *to = *from);
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(mtime);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    fn file(&mut self, name: &[u8], mode: u32, mtime: u64, bytes: &[u8]) -> io::Result<()> {
        let size = bytes.len() as u64;
        self.entry(name, EntryType::Regular, mode, mtime, size, b"")?;
        self.out.write_all(bytes)?;
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = usize::try_from(size % 512).unwrap_or(0);
        self.out.write_all([0; 512].get(..(512 - over) % 512).unwrap_or_default())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.write_all(&[0; 1024])?;
        self.out.flush()
    }
}
