//! [`Source`]: the directory to deploy, scanned into a [`Manifest`].
//!
//! Links are never followed. What cannot be read, is neither file, directory nor link, or changes while it is read,
//! is an error that names it: nothing is deployed by halves.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::manifest::{Entry, Manifest, Sha};
use crate::path::RelPath;
use crate::text::printable;

/// Why a directory cannot be deployed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Something cannot be read.
    #[error("cannot read {}: {error}", show(path))]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The source is not a directory.
    #[error("{} is not a directory", show(.0))]
    NotDirectory(PathBuf),
    /// A fifo, socket or device.
    #[error("{} is a {kind}: only files, directories and symbolic links can be deployed", show(path))]
    Special {
        /// What.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A file changed under the scan or the upload.
    #[error("{} changed while it was read", show(path))]
    Changed {
        /// What.
        path: PathBuf,
    },
}

fn show(path: &Path) -> String {
    printable(path.as_os_str().as_bytes())
}

/// A scanned directory.
#[derive(Debug)]
pub struct Source {
    root: PathBuf,
    manifest: Manifest,
}

impl Source {
    /// Walks `root` and hashes every file.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn scan(root: &Path) -> Result<Self, SourceError> {
        let fail = |path: &Path, error| SourceError::Read { path: path.to_owned(), error };
        let root = fs::canonicalize(root).map_err(|e| fail(root, e))?;
        if !root.is_dir() {
            return Err(SourceError::NotDirectory(root));
        }
        let mut entries = BTreeMap::new();
        for found in walkdir::WalkDir::new(&root).follow_links(false).follow_root_links(false) {
            let found = found.map_err(|e| {
                let path = e.path().unwrap_or(&root).to_owned();
                fail(&path, e.into_io_error().unwrap_or_else(|| io::Error::other("a loop")))
            })?;
            let full = found.path();
            let below = full.strip_prefix(&root).unwrap_or(full);
            let path = RelPath::new(below.as_os_str().as_bytes())
                .ok_or_else(|| fail(full, io::Error::from(io::ErrorKind::InvalidFilename)))?;
            let meta = fs::symlink_metadata(full).map_err(|e| fail(full, e))?;
            entries.insert(path, scan_one(full, &meta)?);
        }
        let manifest = Manifest::new(entries).map_err(|_| SourceError::Changed { path: root.clone() })?;
        Ok(Self { root, manifest })
    }

    /// The tree.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where `path` is here.
    pub fn full_path(&self, path: &RelPath) -> PathBuf {
        self.root.join(std::ffi::OsString::from_vec(path.as_bytes().to_vec()))
    }

    /// Opens a file of the tree, not following a link that took its place.
    pub(crate) fn open(&self, path: &RelPath) -> Result<File, SourceError> {
        open_file(&self.full_path(path))
    }
}

/// Opens without following a link and without waiting for a fifo's other end.
fn open_file(path: &Path) -> Result<File, SourceError> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(|error| SourceError::Read { path: path.to_owned(), error })
}

fn scan_one(path: &Path, meta: &fs::Metadata) -> Result<Entry, SourceError> {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = meta.file_type();
    let mode = meta.mode() & 0o7777;
    let mtime = u64::try_from(meta.mtime()).unwrap_or(0);
    if kind.is_dir() {
        return Ok(Entry::Dir { mode, mtime });
    }
    if kind.is_symlink() {
        let target =
            fs::read_link(path).map_err(|error| SourceError::Read { path: path.to_owned(), error })?;
        return Ok(Entry::Link { target: target.into_os_string().into_vec() });
    }
    if kind.is_file() {
        let (size, sha) = hash_file(path, meta)?;
        return Ok(Entry::File { mode, mtime, size, sha });
    }
    let kind = match () {
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () => "device",
    };
    Err(SourceError::Special { path: path.to_owned(), kind })
}

fn hash_file(path: &Path, before: &fs::Metadata) -> Result<(u64, Sha), SourceError> {
    let fail = |error| SourceError::Read { path: path.to_owned(), error };
    let mut file = open_file(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    let mut size = 0;
    loop {
        let n = file.read(&mut buffer).map_err(fail)?;
        if n == 0 {
            break;
        }
        hash.update(buffer.get(..n).unwrap_or_default());
        size += n as u64;
    }
    let after = file.metadata().map_err(fail)?;
    let same = |m: &fs::Metadata| (m.ino(), m.size(), m.mtime(), m.mtime_nsec());
    if same(before) != same(&after) || size != after.size() {
        return Err(SourceError::Changed { path: path.to_owned() });
    }
    Ok((size, Sha(hash.finalize().into())))
}
