//! Operations on the bytes of a file.

use std::sync::Arc;

use smallvec::SmallVec;

use super::content::{Changed, Content};
use super::{Caller, Effects, Errno, Fs, FsResult};
use crate::cell::{BLOCK_BYTES, Cell, Ino, Value};
use crate::store::BlockStore;
use crate::trace::OpKind;

/// No file grows beyond this many bytes (`EFBIG`), as on Linux.
pub const MAX_FILE_BYTES: u64 = i64::MAX as u64;

/// One `copy_file_range` copies no more than this many bytes; the caller asks again, as after any short copy.
const MAX_COPY_BYTES: u64 = 1 << 30;

/// What `fallocate` is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// Make sure that the range exists; the file grows to hold it.
    Grow,
    /// Reserve space only (`KEEP_SIZE`): nothing that a reader or a crash could show.
    Reserve,
    /// Make the range a hole; the length stays (`PUNCH_HOLE`).
    Punch,
    /// Make the range zero and grow the file to hold it (`ZERO_RANGE`).
    Zero,
    /// Make the range zero; the length stays (`ZERO_RANGE` with `KEEP_SIZE`).
    ZeroKeepSize,
}

/// What `lseek` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// `SEEK_DATA`
    Data,
    /// `SEEK_HOLE`
    Hole,
}

impl Fs {
    /// Appends up to `len` bytes of a file from `offset` on to `out`; fewer at its end.
    pub fn read(&self, ino: Ino, offset: u64, len: usize, out: &mut Vec<u8>) -> FsResult<()> {
        self.node(ino)?.content()?.read(offset, len, out);
        Ok(())
    }

    /// Writes and returns how many bytes fitted; the error of [`Limits::full`](super::Limits::full) if none did.
    ///
    /// `drop_privileges` takes the set-id bits away, as a write by anybody but root does; file capabilities always go.
    pub fn write(&mut self, ino: Ino, offset: u64, data: &[u8], drop_privileges: bool) -> FsResult<usize> {
        let content = self.node(ino)?.content()?;
        let end =
            offset.checked_add(data.len() as u64).filter(|end| *end <= MAX_FILE_BYTES).ok_or(Errno::FBIG)?;
        if data.is_empty() {
            return Ok(0);
        }
        let mut free = self.free_blocks();
        let mut fits = data.len();
        for n in offset / BLOCK_BYTES..=(end - 1) / BLOCK_BYTES {
            if content.has_block(n) {
                continue;
            }
            if free == 0 {
                fits = (n * BLOCK_BYTES).saturating_sub(offset) as usize;
                break;
            }
            free -= 1;
        }
        if fits == 0 {
            return Err(self.limits.full.errno());
        }
        let data = &data[..fits];
        let changed = self.change(ino, |content, store, changed| {
            content.write(offset, data, store, changed);
        })?;
        let kind = OpKind::Write { ino, offset, len: fits as u64 };
        self.record_content(ino, kind, changed, drop_privileges)?;
        Ok(fits)
    }

    /// Sets a file's length. `drop_privileges` as for [`Fs::write`].
    pub fn truncate(&mut self, ino: Ino, size: u64, drop_privileges: bool) -> FsResult<()> {
        self.node(ino)?.content()?;
        if size > MAX_FILE_BYTES {
            return Err(Errno::FBIG);
        }
        let changed = self.change(ino, |content, store, changed| content.truncate(size, store, changed))?;
        self.record_content(ino, OpKind::Truncate { ino, size }, changed, drop_privileges)
    }

    /// Reserves, punches or zeroes a range. Reserved space is not counted as used.
    pub fn fallocate(&mut self, ino: Ino, how: Allocate, offset: u64, len: u64, who: Caller) -> FsResult<()> {
        let content = self.node(ino)?.content()?;
        if len == 0 {
            return Err(Errno::INVAL);
        }
        let end = offset.checked_add(len).filter(|end| *end <= MAX_FILE_BYTES).ok_or(Errno::FBIG)?;
        if matches!(how, Allocate::Grow | Allocate::Reserve) {
            let (first, last) = (offset / BLOCK_BYTES, (end - 1) / BLOCK_BYTES);
            let held = content.blocks().filter(|(n, _)| (first..=last).contains(n)).count() as u64;
            if last - first + 1 - held > self.free_blocks() {
                return Err(self.limits.full.errno());
            }
        }
        let changed = self.change(ino, |content, store, changed| {
            let size = content.size();
            if matches!(how, Allocate::Punch | Allocate::Zero | Allocate::ZeroKeepSize) {
                content.zero(offset, end, store, changed);
            }
            if matches!(how, Allocate::Grow | Allocate::Zero) && end > size {
                content.truncate(end, store, changed);
            }
        })?;
        self.record_content(ino, OpKind::Fallocate { ino, offset, len }, changed, who.uid != 0)
    }

    /// Copies bytes between files, or within one where the ranges do not overlap. Returns how many: none at the end of
    /// `from`, else at least one.
    pub fn copy_range(
        &mut self,
        from: Ino,
        from_offset: u64,
        to: Ino,
        offset: u64,
        len: u64,
        who: Caller,
    ) -> FsResult<u64> {
        let source = self.node(from)?.content()?;
        let target = self.node(to)?.content()?;
        let len = len.min(MAX_COPY_BYTES).min(source.size().saturating_sub(from_offset));
        let end = offset.checked_add(len).filter(|end| *end <= MAX_FILE_BYTES).ok_or(Errno::FBIG)?;
        if from == to && from_offset < end && offset < from_offset + len {
            return Err(Errno::INVAL);
        }
        if len == 0 {
            return Ok(0);
        }
        let blocks = target.copied(source, from_offset, offset, len, &self.store);
        let new =
            blocks.iter().filter(|(n, bytes)| !bytes.is_empty() && !target.has_block(*n)).count() as u64;
        if new > self.free_blocks() {
            return Err(self.limits.full.errno());
        }
        let changed = self.change(to, |content, _, changed| {
            content.put_all(&blocks, end);
            *changed = blocks;
        })?;
        self.record_content(to, OpKind::CopyRange { from, to, offset, len }, changed, who.uid != 0)?;
        Ok(len)
    }

    /// Finds the next data or hole at or after `offset`; `ENXIO` if there is none.
    pub fn seek(&self, ino: Ino, offset: u64, what: Seek) -> FsResult<u64> {
        self.node(ino)?.content()?.seek(offset, what).ok_or(Errno::NXIO)
    }

    fn free_blocks(&self) -> u64 {
        (self.limits.bytes / BLOCK_BYTES).saturating_sub(self.used_blocks)
    }

    /// Changes content and keeps the block count. Returns the new versions of blocks, and of the length if it changed.
    fn change(
        &mut self,
        ino: Ino,
        change: impl FnOnce(&mut Content, &BlockStore, &mut Changed),
    ) -> FsResult<(Changed, Option<u64>)> {
        let node = self.inodes.get_mut(&ino).ok_or(Errno::NOENT)?;
        let counted = node.counted;
        let content = node.content_mut()?;
        let (blocks_before, size_before) = (content.block_count(), content.size());
        let mut changed = Changed::new();
        change(content, &self.store, &mut changed);
        let (blocks, size) = (content.block_count(), content.size());
        if counted {
            self.used_blocks = self.used_blocks + blocks - blocks_before;
        }
        Ok((changed, (size != size_before).then_some(size)))
    }

    fn record_content(
        &mut self,
        ino: Ino,
        kind: OpKind,
        (blocks, size): (Changed, Option<u64>),
        drop_privileges: bool,
    ) -> FsResult<()> {
        let mut effects: Effects = SmallVec::with_capacity(blocks.len() + 1);
        effects.extend(blocks.into_iter().map(|(n, bytes)| (Cell::Block(ino, n), Value::Block(bytes))));
        effects.extend(size.map(|size| (Cell::Size(ino), Value::Size(size))));
        let node = self.node_mut(ino)?;
        node.touch_modified();
        if drop_privileges {
            node.drop_set_id(ino, &mut effects);
        }
        node.drop_capabilities(ino, &mut effects);
        if !effects.is_empty() {
            self.record(kind, effects);
        }
        Ok(())
    }

    /// All bytes of a file.
    pub fn read_file(&self, ino: Ino) -> FsResult<Vec<u8>> {
        let size = self.node(ino)?.content()?.size();
        let mut bytes = Vec::new();
        self.read(ino, 0, usize::try_from(size).map_err(|_| Errno::FBIG)?, &mut bytes)?;
        Ok(bytes)
    }

    /// The blocks of a file that hold data, in order. A crash may have left some that are all zeros out.
    pub fn blocks(&self, ino: Ino) -> FsResult<impl Iterator<Item = (u64, &Arc<[u8]>)>> {
        Ok(self.node(ino)?.content()?.blocks())
    }
}
