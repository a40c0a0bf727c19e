//! A disk image in memory, and the FUSE file system whose one file it is, so that a loop device can stand on it.
//!
//! Every write and every flush that arrives while a log is kept is in it, in the order of arrival. One thread serves:
//! that order is the order in which the image changes, and a flush is in the log behind every write that was answered
//! before it was asked for. Nothing of the image is cached by the kernel (`FOPEN_DIRECT_IO`).
//!
//! The image is a disk with a volatile write cache, without forced unit access and without discard: the loop driver
//! announces a cache (it can be flushed) but no FUA, so the block layer sends a FUA write as a write and a flush.
//! Discards and zeroing are refused, so that zeroes arrive as writes.
//!
//! Source: `drivers/block/loop.c`, `block/blk-flush.c` of Linux 6.18.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    Config, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    Session, SessionACL, WriteFlags,
};
/// Bytes in one page of an image, the unit in which copies share memory.
pub(crate) const PAGE_BYTES: usize = 4096;

/// One page.
pub(crate) type Page = Arc<[u8; PAGE_BYTES]>;

/// The pages of an image that are not all zeros, by number. Cloning copies no bytes.
pub(crate) type Pages = BTreeMap<u64, Page>;

/// What arrived from the device.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Bytes were written.
    Write {
        /// First byte.
        offset: u64,
        /// What was written.
        bytes: Arc<[u8]>,
    },
    /// The cache was flushed: all that was written before is durable.
    Flush,
}

#[derive(Default)]
struct State {
    pages: Pages,
    log: Option<Vec<Event>>,
}

/// A handle on an image. Clones are handles on the same one.
#[derive(Clone)]
pub(crate) struct Image {
    state: Arc<Mutex<State>>,
    size_bytes: u64,
}

impl Image {
    /// An image of zeros.
    pub(crate) fn new(size_bytes: u64) -> Self {
        Self { state: Arc::default(), size_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a log and returns the content that it starts from.
    pub(crate) fn start_log(&self) -> Pages {
        let mut state = self.lock();
        state.pages.retain(|_, page| page.iter().any(|byte| *byte != 0));
        state.log = Some(Vec::new());
        state.pages.clone()
    }

    /// How many events are in the log.
    pub(crate) fn position(&self) -> usize {
        self.lock().log.as_ref().map_or(0, Vec::len)
    }

    /// Ends the log.
    pub(crate) fn take_log(&self) -> Vec<Event> {
        self.lock().log.take().unwrap_or_default()
    }

    fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let end = self.size_bytes.min(offset.saturating_add(len as u64));
        let state = self.lock();
        let mut bytes = vec![0; end.saturating_sub(offset) as usize];
        for_each_page(offset, bytes.len(), |n, in_page, in_bytes| {
            if let Some(page) = state.pages.get(&n) {
                bytes[in_bytes].copy_from_slice(&page[in_page]);
            }
        });
        bytes
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), fuser::Errno> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.size_bytes) {
            return Err(fuser::Errno::ENOSPC);
        }
        let mut state = self.lock();
        if let Some(log) = &mut state.log {
            log.push(Event::Write { offset, bytes: Arc::from(bytes) });
        }
        put(&Pages::new(), &mut state.pages, offset, bytes);
        Ok(())
    }

    fn flush(&self) {
        if let Some(log) = &mut self.lock().log {
            log.push(Event::Flush);
        }
    }
}

/// Writes into the pages that differ from a base.
pub(crate) fn put(base: &Pages, changed: &mut Pages, offset: u64, bytes: &[u8]) {
    for_each_page(offset, bytes.len(), |n, in_page, in_bytes| {
        let page = changed
            .entry(n)
            .or_insert_with(|| base.get(&n).cloned().unwrap_or_else(|| Arc::new([0; PAGE_BYTES])));
        Arc::make_mut(page)[in_page].copy_from_slice(&bytes[in_bytes]);
    });
}

/// Cuts a range of the image into pages: number of the page, range in it, range in the bytes.
fn for_each_page(
    offset: u64,
    len: usize,
    mut each: impl FnMut(u64, std::ops::Range<usize>, std::ops::Range<usize>),
) {
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        let start = (at % PAGE_BYTES as u64) as usize;
        let take = (PAGE_BYTES - start).min(len - done);
        each(at / PAGE_BYTES as u64, start..start + take, done..done + take);
        done += take;
    }
}

/// Serves an image through the FUSE device until it is unmounted.
pub(crate) fn serve(image: Image, device: OwnedFd) -> io::Result<()> {
    let ended = Session::from_fd(Server { image }, device, SessionACL::Owner, Config::default())?.run();
    // So it ends, now and then, when it is unmounted.
    ended.or_else(|error| match error.kind() {
        io::ErrorKind::ConnectionAborted => Ok(()),
        _ => Err(error),
    })
}

struct Server {
    image: Image,
}

/// The name of the file.
pub(crate) const NAME: &str = "disk";

const ROOT: INodeNo = INodeNo(1);
const FILE: INodeNo = INodeNo(2);
/// Nothing but the content ever changes.
const TTL: Duration = Duration::from_hours(24);

impl Server {
    fn attr(&self, ino: INodeNo) -> FileAttr {
        let is_file = ino == FILE;
        FileAttr {
            ino,
            size: if is_file { self.image.size_bytes } else { 0 },
            blocks: 0,
            atime: SystemTime::UNIX_EPOCH,
            mtime: SystemTime::UNIX_EPOCH,
            ctime: SystemTime::UNIX_EPOCH,
            crtime: SystemTime::UNIX_EPOCH,
            kind: if is_file { FileType::RegularFile } else { FileType::Directory },
            perm: if is_file { 0o600 } else { 0o700 },
            nlink: if is_file { 1 } else { 2 },
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: PAGE_BYTES as u32,
            flags: 0,
        }
    }
}

impl Filesystem for Server {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let _ = config.set_max_background(64);
        config.set_max_write(1 << 20).map(drop).map_err(|_| io::Error::other("max_write refused"))
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == ROOT && name == NAME {
            reply.entry(&TTL, &self.attr(FILE), Generation(0));
        } else {
            reply.error(fuser::Errno::ENOENT);
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attr(ino));
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        reply.data(&self.image.read(offset, size as usize));
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.image.write(offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.image.flush();
        reply.ok();
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        // close(2) of the file, which says nothing about durability.
        reply.error(fuser::Errno::ENOSYS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_base_stays() {
        let image = Image::new(1 << 20);
        image.write(4090, b"0123456789").unwrap();
        let base = image.start_log();
        image.write(4095, b"xy").unwrap();
        image.flush();
        assert_eq!(image.read(4090, 10), b"01234xy789");
        assert_eq!(base.len(), 2);
        assert_eq!(base[&0][4090..], *b"012345");
        assert!(image.write((1 << 20) - 1, b"xy").is_err(), "there is an end");
        assert!(matches!(&image.take_log()[..], [Event::Write { offset: 4095, .. }, Event::Flush]));
        assert_eq!(image.position(), 0);
    }
}
