//! Open directories: what `readdir` goes through.
//!
//! A listing is a snapshot, taken when it is read from the start, so that a program that removes what it lists (`rm -rf`)
//! misses nothing. Offsets are positions in the snapshot.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;

use crate::cell::{Ino, Kind};
use crate::fs::{DirEntry, Fs, FsResult};

/// Snapshots by handle.
#[derive(Debug, Default)]
pub(super) struct Listings {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    last: u64,
    by_handle: FxHashMap<u64, Vec<DirEntry>>,
}

impl Listings {
    pub(super) fn open(&self) -> u64 {
        let mut open = self.lock();
        open.last += 1;
        let handle = open.last;
        open.by_handle.insert(handle, Vec::new());
        handle
    }

    pub(super) fn close(&self, handle: u64) {
        self.lock().by_handle.remove(&handle);
    }

    /// Calls `each` with the entries from `offset` on and the offset after each, until it returns false.
    ///
    /// A directory read from its start (also after `rewinddir`) is listed anew.
    pub(super) fn read(
        &self,
        fs: &Fs,
        dir: Ino,
        handle: u64,
        offset: u64,
        mut each: impl FnMut(u64, &DirEntry) -> bool,
    ) -> FsResult<()> {
        let mut open = self.lock();
        let entries = open.by_handle.entry(handle).or_default();
        if offset == 0 {
            *entries = list(fs, dir)?;
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(entries.len());
        for (at, entry) in entries.iter().enumerate().skip(start) {
            if !each(at as u64 + 1, entry) {
                break;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn list(fs: &Fs, dir: Ino) -> FsResult<Vec<DirEntry>> {
    let mut entries = vec![
        DirEntry { name: b".".as_slice().into(), ino: dir, kind: Kind::Dir },
        DirEntry { name: b"..".as_slice().into(), ino: fs.parent(dir)?, kind: Kind::Dir },
    ];
    entries.extend(fs.read_dir(dir)?);
    Ok(entries)
}
