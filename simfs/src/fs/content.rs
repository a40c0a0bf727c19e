//! The bytes of one file: sparse blocks, shared with the trace and with every equal block of the disk.
//!
//! Invariants: bytes at or beyond `size` are zero; a block's bytes are trimmed; a block that is not in the map reads as
//! zeros and counts as a hole.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Seek;
use crate::cell::BLOCK_BYTES;
use crate::store::BlockStore;

const BLOCK_LEN: usize = BLOCK_BYTES as usize;

/// New versions of blocks, by block number.
pub(super) type Changed = Vec<(u64, Arc<[u8]>)>;

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    size: u64,
    blocks: BTreeMap<u64, Arc<[u8]>>,
}

impl Content {
    /// Content as a crash may leave it: what lies beyond `size` is dropped, as mounting a real disk does.
    pub(super) fn restored(size: u64, blocks: BTreeMap<u64, Arc<[u8]>>, store: &BlockStore) -> Self {
        let longest = blocks.last_key_value().map_or(0, |(n, _)| (n + 1) * BLOCK_BYTES);
        let mut content = Self { size: size.max(longest), blocks };
        content.blocks.retain(|_, bytes| !bytes.is_empty());
        content.truncate(size, store, &mut Changed::new());
        content
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn block_count(&self) -> u64 {
        self.blocks.len() as u64
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = (u64, &Arc<[u8]>)> {
        self.blocks.iter().map(|(n, bytes)| (*n, bytes))
    }

    pub(super) fn has_block(&self, n: u64) -> bool {
        self.blocks.contains_key(&n)
    }

    fn block(&self, n: u64) -> &[u8] {
        self.blocks.get(&n).map_or(&[], |bytes| bytes)
    }

    /// Appends up to `len` bytes from `offset` on to `out`, fewer at the end of the file.
    pub(super) fn read(&self, offset: u64, len: usize, out: &mut Vec<u8>) {
        let end = self.size.min(offset.saturating_add(len as u64));
        let mut at = offset;
        while at < end {
            let start = (at % BLOCK_BYTES) as usize;
            let take = (BLOCK_LEN - start).min((end - at) as usize);
            let block = self.block(at / BLOCK_BYTES);
            let held = &block[start.min(block.len())..(start + take).min(block.len())];
            out.extend_from_slice(held);
            out.resize(out.len() + take - held.len(), 0);
            at += take as u64;
        }
    }

    /// Overwrites from `offset` on and grows the file as needed.
    pub(super) fn write(&mut self, offset: u64, data: &[u8], store: &BlockStore, changed: &mut Changed) {
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let start = (at % BLOCK_BYTES) as usize;
            let (bytes, later) = rest.split_at(rest.len().min(BLOCK_LEN - start));
            self.put(at / BLOCK_BYTES, self.overlaid(at / BLOCK_BYTES, start, bytes, store), changed);
            at += bytes.len() as u64;
            rest = later;
        }
        self.size = self.size.max(at);
    }

    /// Sets the length. A shrink zeroes what is cut off.
    pub(super) fn truncate(&mut self, size: u64, store: &BlockStore, changed: &mut Changed) {
        if size < self.size {
            self.zero(size, self.size, store, changed);
        }
        self.size = size;
    }

    /// Makes the bytes from `from` to `to` zero, and whole blocks in between holes. Never changes the length.
    pub(super) fn zero(&mut self, from: u64, to: u64, store: &BlockStore, changed: &mut Changed) {
        if from >= to {
            return;
        }
        let touched: Vec<u64> =
            self.blocks.range(from / BLOCK_BYTES..=(to - 1) / BLOCK_BYTES).map(|(n, _)| *n).collect();
        for n in touched {
            let first = n * BLOCK_BYTES;
            let start = from.saturating_sub(first) as usize;
            let end = (to - first).min(BLOCK_BYTES) as usize;
            let old = self.block(n);
            if start == 0 && end >= old.len() {
                let held_data = !old.is_empty();
                self.blocks.remove(&n);
                if held_data {
                    changed.push((n, Arc::default()));
                }
            } else if start < old.len() {
                let mut whole = old.to_vec();
                let end = end.min(whole.len());
                whole[start..end].fill(0);
                let new = store.share(&whole);
                if *new != *old {
                    self.put(n, new, changed);
                }
            }
        }
    }

    /// What a copy of `len` bytes from `source` at `from` to `offset` here would put into the blocks here. Where whole
    /// blocks line up they are shared.
    pub(super) fn copied(
        &self,
        source: &Self,
        from: u64,
        offset: u64,
        len: u64,
        store: &BlockStore,
    ) -> Changed {
        let aligned = from % BLOCK_BYTES == offset % BLOCK_BYTES;
        let mut changed = Changed::new();
        let mut bytes = Vec::with_capacity(BLOCK_LEN);
        let mut done = 0;
        while done < len {
            let n = (offset + done) / BLOCK_BYTES;
            let start = (offset + done) % BLOCK_BYTES;
            let take = (BLOCK_BYTES - start).min(len - done);
            let twin = (from + done) / BLOCK_BYTES;
            if aligned && take == BLOCK_BYTES {
                if let Some(block) = source.blocks.get(&twin) {
                    changed.push((n, block.clone()));
                } else if self.has_block(n) {
                    changed.push((n, Arc::default()));
                }
            } else {
                bytes.clear();
                source.read(from + done, take as usize, &mut bytes);
                changed.push((n, self.overlaid(n, start as usize, &bytes, store)));
            }
            done += take;
        }
        changed
    }

    /// Puts blocks made by [`Content::copied`] in place; copied zeros become holes.
    pub(super) fn put_all(&mut self, blocks: &Changed, end: u64) {
        for (n, bytes) in blocks {
            if bytes.is_empty() {
                self.blocks.remove(n);
            } else {
                self.blocks.insert(*n, bytes.clone());
            }
        }
        self.size = self.size.max(end);
    }

    /// `SEEK_DATA`, `SEEK_HOLE`; nothing where `lseek` fails with `ENXIO`.
    pub(super) fn seek(&self, offset: u64, what: Seek) -> Option<u64> {
        if offset >= self.size {
            return None;
        }
        let first = offset / BLOCK_BYTES;
        match what {
            Seek::Data => {
                let (n, _) = self.blocks.range(first..).next()?;
                Some(offset.max(n * BLOCK_BYTES)).filter(|at| *at < self.size)
            }
            Seek::Hole => {
                let mut n = first;
                for (data, _) in self.blocks.range(first..) {
                    if *data != n {
                        break;
                    }
                    n += 1;
                }
                Some(if n == first { offset } else { self.size.min(n * BLOCK_BYTES) })
            }
        }
    }

    fn put(&mut self, n: u64, block: Arc<[u8]>, changed: &mut Changed) {
        self.blocks.insert(n, block.clone());
        changed.push((n, block));
    }

    /// Block `n` with `bytes` put at `start`.
    fn overlaid(&self, n: u64, start: usize, bytes: &[u8], store: &BlockStore) -> Arc<[u8]> {
        let old = self.block(n);
        if start == 0 && bytes.len() >= old.len() {
            return store.share(bytes);
        }
        let mut whole = [0; BLOCK_LEN];
        whole[..old.len()].copy_from_slice(old);
        whole[start..start + bytes.len()].copy_from_slice(bytes);
        store.share(&whole)
    }
}
