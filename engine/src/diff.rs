//! [`Changes`]: from the base as it was observed to the new tree.
//!
//! Only the topmost path of a change is named: a new directory is moved into place whole, a removed one is removed
//! whole. So the parent of every named path is a directory in the copy that stays one, and it is enough to check those
//! parents on the host for nothing ever to be done through a link.
//!
//! What no manifest lists was written at run time, and comes along: a directory that holds such files is neither replaced
//! by an equal one nor removed with what else is in it. It goes only where the new tree has something else in its place.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::{Entry, Manifest};
use crate::path::RelPath;
use crate::remote::listing::Tree;

/// What has to be done to a copy of the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The new tree; unchanged files have the base's modification time.
    pub manifest: Manifest,
    /// Topmost paths to put in: new, or different from the base.
    pub put: BTreeSet<RelPath>,
    /// Everything that is uploaded: `put` and what is below its directories.
    pub upload: BTreeSet<RelPath>,
    /// Topmost paths of the base that the new tree does not have.
    pub remove: BTreeSet<RelPath>,
    /// Directories whose mode and time are set at the end: new ones, and those something changes in.
    pub dirs: BTreeSet<RelPath>,
    /// Directories of the copy that must be real directories before anything is done in them.
    pub guards: BTreeSet<RelPath>,
    /// Directories of the copy that something is done in and that are closed even for their owner.
    pub closed: BTreeSet<RelPath>,
    /// Paths of the base that are not what its seal says, and are in the new tree.
    pub drifted: BTreeSet<RelPath>,
    /// What was written in the base at run time and does not come along: the new tree has something else there.
    pub lost: BTreeSet<RelPath>,
}

impl Changes {
    /// Whether the base is already the new tree.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.remove.is_empty() && self.dirs.is_empty()
    }

    /// Bytes of file content to upload, where each file takes whole blocks of so many bytes.
    pub fn upload_bytes(&self, block_bytes: u64) -> u64 {
        let block = block_bytes.max(1);
        self.upload
            .iter()
            .filter_map(|p| self.manifest.get(p))
            .map(|e| if let Entry::File { size, .. } = e { *size } else { 0 })
            .fold(0, |sum, size| sum.saturating_add(size.div_ceil(block).saturating_mul(block)))
    }
}

/// The whole tree is uploaded; there is no base.
pub fn full(new: Manifest) -> Changes {
    let is_dir = |p: &&RelPath| new.is_dir(p);
    Changes {
        put: BTreeSet::from([RelPath::root()]),
        upload: new.entries().keys().cloned().collect(),
        remove: BTreeSet::new(),
        dirs: new.entries().keys().filter(is_dir).cloned().collect(),
        guards: BTreeSet::new(),
        closed: BTreeSet::new(),
        drifted: BTreeSet::new(),
        lost: BTreeSet::new(),
        manifest: new,
    }
}

/// What turns a copy of the base into `new`. `None` if the base's root is no directory.
pub fn against(new: &Manifest, seal: &Manifest, seen: &Tree) -> Option<Changes> {
    let as_sealed = |p: &RelPath| seal.get(p).filter(|e| seen.is(p, e));
    if !seen.is_dir(&RelPath::root()) {
        return None;
    }

    let mut entries = BTreeMap::new();
    let (mut put, mut upload, mut dirs) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (path, entry) in new.entries() {
        let inside_put = path.parent().is_some_and(|p| upload.contains(&p));
        if inside_put {
            upload.insert(path.clone());
            if let Entry::Dir { .. } = entry {
                dirs.insert(path.clone());
            }
            entries.insert(path.clone(), entry.clone());
            continue;
        }
        let kept = match entry {
            Entry::Dir { mode, .. } if seen.is_dir(path) => {
                if !as_sealed(path).is_some_and(|e| matches!(e, Entry::Dir { mode: m, .. } if m == mode)) {
                    dirs.insert(path.clone());
                }
                Some(entry.clone())
            }
            Entry::Dir { .. } => None,
            _ => as_sealed(path).filter(|old| same_content(entry, old)).cloned(),
        };
        if kept.is_none() {
            put.insert(path.clone());
            upload.insert(path.clone());
            if let Entry::Dir { .. } = entry {
                dirs.insert(path.clone());
            }
        }
        entries.insert(path.clone(), kept.unwrap_or_else(|| entry.clone()));
    }

    let extras = || seen.beside(seal);
    let holders: BTreeSet<RelPath> =
        extras().filter(|p| new.get(p).is_none()).flat_map(RelPath::ancestors).collect();
    // Directories of the copy that are still there in the end: their own parents come before them.
    let mut stay: BTreeSet<RelPath> =
        new.entries().keys().filter(|p| new.is_dir(p) && !upload.contains(*p)).cloned().collect();
    let mut remove = BTreeSet::new();
    // Whether it was seen or not: to remove what is not there does no harm.
    for path in seal.entries().keys().filter(|p| new.get(p).is_none()) {
        if !path.parent().is_some_and(|d| stay.contains(&d)) {
            continue;
        }
        if holders.contains(path) && seen.is_dir(path) {
            stay.insert(path.clone());
        } else {
            remove.insert(path.clone());
        }
    }
    let replaced = |p: &&RelPath| put.contains(*p) || p.ancestors().iter().any(|at| put.contains(at));
    let lost = extras().filter(replaced).cloned().collect();
    let mut guards = BTreeSet::new();
    for path in put.iter().chain(&remove) {
        dirs.extend(path.parent().filter(|d| new.is_dir(d)));
        guards.extend(path.ancestors());
    }
    for dir in dirs.iter().filter(|d| stay.contains(*d)) {
        guards.extend(dir.ancestors());
        guards.insert(dir.clone());
    }
    let closed = guards.iter().filter(|d| seen.is_closed(d)).cloned().collect();
    let drifted = seal
        .entries()
        .iter()
        .filter(|(p, e)| new.get(p).is_some() && !seen.is(p, e))
        .map(|(p, _)| p.clone())
        .collect();
    // The times of directories nothing changes in survive with the copy; the seal says so.
    for (path, entry) in &mut entries {
        if let (Entry::Dir { mtime, .. }, Some(Entry::Dir { mtime: old, .. })) = (&mut *entry, seal.get(path))
            && !dirs.contains(path)
        {
            *mtime = *old;
        }
    }
    let manifest = Manifest::new(entries).ok()?;
    Some(Changes { manifest, put, upload, remove, dirs, guards, closed, drifted, lost })
}

/// The same but for the time, which survives from the base.
fn same_content(new: &Entry, old: &Entry) -> bool {
    match (new, old) {
        (Entry::File { mode, size, sha, .. }, Entry::File { mode: m, size: s, sha: h, .. }) => {
            mode == m && size == s && sha == h
        }
        (Entry::Link { target }, Entry::Link { target: t }) => target == t,
        _ => false,
    }
}
