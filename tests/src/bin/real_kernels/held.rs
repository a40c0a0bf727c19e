//! A disk image as a file in memory: what rebuilt images are mounted from.
//!
//! Nothing is logged here, so no process has to answer for each block, which makes a mount several times faster than from
//! a served [image](crate::image). Only what differs between two images is written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::image::{PAGE_BYTES, Pages};

/// Bytes that are compared at once.
const CHUNK_BYTES: usize = 64 * PAGE_BYTES;

/// The file.
pub(crate) struct Held {
    file: File,
    chunk: Vec<u8>,
}

impl Held {
    /// A new file of zeros, which must be on a file system in memory.
    pub(crate) fn new(path: &Path, size_bytes: u64) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        file.set_len(size_bytes)?;
        Ok(Self { file, chunk: vec![0; CHUNK_BYTES] })
    }

    /// Writes what it lacks to be a base and the pages that differ from it, whatever a mount has written into it; tells how many
    /// pages that were. Must not be mounted. `write` gets an offset in bytes and a page.
    pub(crate) fn load(
        &mut self,
        base: &Pages,
        changed: &Pages,
        mut write: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<usize> {
        let mut wanted: Vec<_> =
            base.iter().filter(|(n, _)| !changed.contains_key(n)).chain(changed).collect();
        wanted.sort_unstable_by_key(|(n, _)| **n);
        let mut wanted = wanted.into_iter().peekable();
        let (mut at, mut written) = (0, 0);
        // What is in the file, in order: holes are zeros, and stay so unless something is wanted there.
        while let Some((start, end)) = self.data_from(at)? {
            let mut offset = start - start % PAGE_BYTES as u64;
            while offset < end {
                let take = CHUNK_BYTES.min((end.next_multiple_of(PAGE_BYTES as u64) - offset) as usize);
                self.file.read_exact_at(&mut self.chunk[..take], offset)?;
                for page in self.chunk[..take].chunks(PAGE_BYTES) {
                    let n = offset / PAGE_BYTES as u64;
                    while let Some((missing, bytes)) = wanted.next_if(|(wanted, _)| **wanted < n) {
                        write(missing * PAGE_BYTES as u64, &bytes[..])?;
                        written += 1;
                    }
                    let bytes = wanted
                        .next_if(|(wanted, _)| **wanted == n)
                        .map_or(&[0; PAGE_BYTES], |(_, page)| &**page);
                    if page != bytes {
                        write(offset, bytes)?;
                        written += 1;
                    }
                    offset += PAGE_BYTES as u64;
                }
            }
            at = offset;
        }
        for (n, bytes) in wanted {
            write(n * PAGE_BYTES as u64, &bytes[..])?;
            written += 1;
        }
        Ok(written)
    }

    /// The next range that is not a hole.
    fn data_from(&self, at: u64) -> io::Result<Option<(u64, u64)>> {
        match seek(&self.file, SeekFrom::Data(at)) {
            Ok(start) => Ok(Some((start, seek(&self.file, SeekFrom::Hole(start))?))),
            Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn it_becomes_what_is_wanted_whatever_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let size = 600 * PAGE_BYTES as u64;
        let mut held = Held::new(&dir.path().join("disk"), size).unwrap();
        let mut rng = fastrand::Rng::with_seed(1);
        for round in 0..20 {
            let mut pages = |count: usize| -> Pages {
                (0..count).map(|_| (rng.u64(..600), Arc::new([rng.u8(0..3); PAGE_BYTES]))).collect()
            };
            let (base, changed, scribble) = (pages(300), pages(40), pages(50));
            for (n, page) in &scribble {
                held.file.write_all_at(&page[..], n * PAGE_BYTES as u64).unwrap();
            }
            let file = held.file.try_clone().unwrap();
            let mut load =
                || held.load(&base, &changed, |offset, page| file.write_all_at(page, offset)).unwrap();
            assert!(load() > 0);
            assert_eq!(load(), 0);
            for n in 0..600 {
                let mut found = [9; PAGE_BYTES];
                held.file.read_exact_at(&mut found, n * PAGE_BYTES as u64).unwrap();
                let wanted = changed.get(&n).or_else(|| base.get(&n));
                assert_eq!(
                    found[..],
                    wanted.map_or([0; PAGE_BYTES], |page| **page)[..],
                    "page {n}, round {round}"
                );
            }
        }
    }
}
