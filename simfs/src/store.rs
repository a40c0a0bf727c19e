//! Equal content is stored once: five releases that differ in a few files cost little more memory than one.
//!
//! A [`BlockStore`] hands out the one allocation there is for some bytes; live state, trace, and whoever else reads content
//! keep it. It never changes content and decides nothing. What is equal is decided by the bytes: hashes only find
//! candidates.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::{FxBuildHasher, FxHashSet};

use crate::cell::{Value, trim_zeros};
use crate::trace::Trace;

/// Below so many blocks nothing is looked through for what nobody uses any more.
const FEW_BLOCKS: usize = 1024;

/// A store of blocks. Clones are handles on the same store.
///
/// A block that only the store still holds is let go at the latest when the store has grown to twice its size.
#[derive(Clone, Default)]
pub struct BlockStore {
    held: Arc<Mutex<HashSet<Arc<[u8]>, FxBuildHasher>>>,
}

impl BlockStore {
    /// The one allocation for these bytes without their trailing zeros.
    pub fn share(&self, bytes: &[u8]) -> Arc<[u8]> {
        let bytes = trim_zeros(bytes);
        if bytes.is_empty() {
            return Arc::default();
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = held.get(bytes) {
            return block.clone();
        }
        if held.len() == held.capacity() {
            // Nobody can get hold of a block that only the store holds while the lock is ours.
            held.retain(|block| Arc::strong_count(block) > 1);
            // Room for as many again, so that looking through them costs little for each.
            let room = held.len().max(FEW_BLOCKS);
            held.reserve(room);
        }
        let block: Arc<[u8]> = Arc::from(bytes);
        held.insert(block.clone());
        block
    }
}

impl fmt::Debug for BlockStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockStore").finish_non_exhaustive()
    }
}

/// How much file content a trace holds, and what that takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentBytes {
    /// Bytes of all versions of all blocks, each counted for itself, without trailing zeros.
    pub recorded: u64,
    /// Bytes of the allocations that hold them.
    pub stored: u64,
}

impl ContentBytes {
    /// Counts.
    pub fn of(trace: &Trace) -> Self {
        let mut seen = FxHashSet::default();
        let mut bytes = Self::default();
        for effect in trace.effects() {
            if let Value::Block(block) = &effect.value {
                bytes.recorded += block.len() as u64;
                if seen.insert(block.as_ptr()) {
                    bytes.stored += block.len() as u64;
                }
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_are_one_allocation_whatever_their_trailing_zeros() {
        let blocks = BlockStore::default();
        let one = blocks.share(b"abc");
        assert!(Arc::ptr_eq(&one, &blocks.clone().share(b"abc\0\0")));
        assert!(!Arc::ptr_eq(&one, &blocks.share(b"abd")));
        assert_eq!(&*one, b"abc");
        assert!(blocks.share(&[0; 4096]).is_empty());
    }

    #[test]
    fn what_nobody_uses_is_let_go_and_what_is_used_stays() {
        let blocks = BlockStore::default();
        let kept = blocks.share(b"kept");
        let weak = Arc::downgrade(&blocks.share(b"dropped"));
        for n in 0..10 * FEW_BLOCKS {
            drop(blocks.share(&(n as u64 + 1).to_be_bytes()));
        }
        assert_eq!(weak.strong_count(), 0, "a block without users is still held");
        assert!(Arc::ptr_eq(&kept, &blocks.share(b"kept")));
        assert!(blocks.held.lock().unwrap().capacity() <= 8 * FEW_BLOCKS, "the store grows without need");
    }
}
