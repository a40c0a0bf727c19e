//! The FUSE server: each kernel request becomes one call of the disk and one reply.
//!
//! The kernel checks permissions (`default_permissions`), resolves paths, keeps locks, and caches. Deliberately not here:
//!
//! - `flush`, `access`, `bmap`, `poll`, tmpfile, `statx`: answered `ENOSYS`, after which the kernel does without. A close
//!   means nothing to a disk.
//! - locks: not announced, so the kernel keeps them itself, which is enough for one mount.
//! - `ioctl`: `ENOTTY`. Access control lists: `EOPNOTSUPP`.
//! - `O_SYNC`, `O_DSYNC`: the kernel sends an fsync after the write, so that both are recorded where they happen.
//! - one write(2) of more than 1 MiB: the kernel splits it, and each part is an op (and a crash point) of its own.
//! - the writeback cache: with it, writes would arrive sorted, merged and late.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::convert;
use super::listing::Listings;
use crate::cell::{BLOCK_BYTES, Ino, Kind};
use crate::disk::Disk;
use crate::fault::{About, Call, Calls};
use crate::fs::{Caller, Errno, Fs, FsResult, RenameHow, Seek, Stat, XattrHow};
use crate::trace::SyncScope;

/// The kernel is the only writer, so what it knows stays true.
const TTL: Duration = Duration::from_hours(24);

/// How long the kernel may keep attributes. It does not notice that a write took the set-id bits away
/// (`FUSE_HANDLE_KILLPRIV_V2` leaves that to us), so where there are any it has to ask.
fn attr_ttl(stat: &Stat) -> Duration {
    let set_id = stat.mode & (libc::S_ISUID | libc::S_ISGID) != 0;
    if set_id && stat.kind == Kind::File { Duration::ZERO } else { TTL }
}

/// Inode numbers are never reused, so one generation is enough.
const GENERATION: Generation = Generation(0);

/// The kernel's own limit for one request.
const MAX_WRITE_BYTES: u32 = 1 << 20;

/// Page cache content stays valid between opens, for the same reason as [`TTL`].
const OPEN_FLAGS: FopenFlags = FopenFlags::FOPEN_KEEP_CACHE;

pub(super) struct Server {
    disk: Disk,
    live: Arc<AtomicBool>,
    listings: Listings,
    /// Reused for each read.
    scratch: Mutex<Vec<u8>>,
}

impl Server {
    pub(super) fn new(disk: Disk, live: Arc<AtomicBool>) -> Self {
        Self { disk, live, listings: Listings::default(), scratch: Mutex::default() }
    }

    fn read_disk<R>(&self, call: &Call<'_>, read: impl FnOnce(&mut Fs) -> FsResult<R>) -> FsResult<R> {
        self.disk.read_for(&|| self.is_live(), call, read)
    }

    fn change_disk<R>(&self, call: &Call<'_>, op: impl FnOnce(&mut Fs) -> FsResult<R>) -> FsResult<R> {
        self.disk.apply_for(&|| self.is_live(), call, op)
    }

    fn is_live(&self) -> bool {
        self.live.load(Ordering::SeqCst)
    }

    /// Makes something and answers with it, which the kernel then remembers.
    fn make(&self, reply: ReplyEntry, call: &Call<'_>, make: impl FnOnce(&mut Fs) -> FsResult<Ino>) {
        match self.change_disk(call, |fs| make(fs).and_then(|ino| remembered(fs, ino))) {
            Ok(stat) => reply.entry_with_ttls(&attr_ttl(&stat), &TTL, &convert::attr(&stat), GENERATION),
            Err(error) => reply.error(convert::errno(error)),
        }
    }

    fn change(&self, reply: ReplyEmpty, call: &Call<'_>, op: impl FnOnce(&mut Fs) -> FsResult<()>) {
        answer(reply, self.change_disk(call, op));
    }

    fn sync(&self, reply: ReplyEmpty, call: &Call<'_>, scope: SyncScope) {
        answer(reply, self.disk.sync(&|| self.is_live(), call, scope).map(drop));
    }
}

fn answer(reply: ReplyEmpty, result: FsResult<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(convert::errno(error)),
    }
}

fn on_inode<'a>(req: &Request, calls: Calls, ino: INodeNo) -> Call<'a> {
    Call::new(calls, About::Inode(convert::ino(ino)), req.pid())
}

fn on_name<'a>(req: &Request, calls: Calls, dir: INodeNo, name: &'a OsStr) -> Call<'a> {
    Call::new(calls, About::Name(convert::ino(dir), name.as_bytes()), req.pid())
}

fn caller(req: &Request) -> Caller {
    Caller { uid: req.uid(), gid: req.gid() }
}

/// Whoever is not root loses set-id bits by writing. The kernel says so in a write, but for truncation, fallocate and
/// copies the flag does not reach us; the user id is the next best thing to asking for `CAP_FSETID` (root of a user namespace lacks it, and
/// keeps the bits here).
fn drops_privileges(req: &Request) -> bool {
    req.uid() != 0
}

fn remembered(fs: &mut Fs, ino: Ino) -> FsResult<Stat> {
    fs.remember(ino)?;
    fs.stat(ino)
}

impl Filesystem for Server {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // What an older kernel does not know is left out; nothing here depends on it for correctness.
        for flag in [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            // Spares a getxattr("security.capability") before each write.
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        ] {
            let _ = config.add_capabilities(flag);
        }
        config.set_max_write(MAX_WRITE_BYTES).map(drop).map_err(|_| io::Error::other("max_write refused"))
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.read_disk(&on_name(req, Calls::LOOKUP, parent, name), |fs| {
            let ino = fs.lookup(convert::ino(parent), name.as_bytes())?;
            remembered(fs, ino)
        });
        match found {
            Ok(stat) => reply.entry_with_ttls(&attr_ttl(&stat), &TTL, &convert::attr(&stat), GENERATION),
            // The kernel remembers that there is nothing until it makes something.
            Err(Errno::NOENT) => reply.entry(&TTL, &convert::nothing(), GENERATION),
            Err(error) => reply.error(convert::errno(error)),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.disk.with(|fs| fs.forget(convert::ino(ino), nlookup));
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.read_disk(&on_inode(req, Calls::GETATTR, ino), |fs| fs.stat(convert::ino(ino))) {
            Ok(stat) => reply.attr(&attr_ttl(&stat), &convert::attr(&stat)),
            Err(error) => reply.error(convert::errno(error)),
        }
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let parts = [
            (size.is_some(), Calls::TRUNCATE),
            (uid.is_some() || gid.is_some(), Calls::CHOWN),
            (mode.is_some(), Calls::CHMOD),
            (atime.is_some() || mtime.is_some(), Calls::TIMES),
        ];
        let calls = parts.into_iter().filter(|(set, _)| *set).map(|(_, calls)| calls).collect();
        let call = on_inode(req, calls, ino);
        let ino = convert::ino(ino);
        let set = |fs: &mut Fs| {
            if let Some(size) = size {
                fs.truncate(ino, size, drops_privileges(req))?;
            }
            if uid.is_some() || gid.is_some() {
                fs.chown(ino, uid, gid)?;
            }
            if let Some(mode) = mode {
                fs.chmod(ino, mode)?;
            }
            if atime.is_some() || mtime.is_some() {
                fs.set_times(ino, atime.map(convert::time), mtime.map(convert::time))?;
            }
            fs.stat(ino)
        };
        match self.change_disk(&call, set) {
            Ok(stat) => reply.attr(&attr_ttl(&stat), &convert::attr(&stat)),
            Err(error) => reply.error(convert::errno(error)),
        }
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        match self.read_disk(&on_inode(req, Calls::READLINK, ino), |fs| fs.readlink(convert::ino(ino))) {
            // A link whose text a crash has lost. An empty answer would make the kernel take it for its directory.
            Ok(target) if target.is_empty() => reply.error(convert::errno(Errno::NOENT)),
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(convert::errno(error)),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        self.make(reply, &on_name(req, Calls::CREATE, parent, name), |fs| {
            let kind = convert::kind_of_mode(mode).ok_or(Errno::PERM)?;
            fs.mknod(convert::ino(parent), name.as_bytes(), kind, mode, caller(req))
        });
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        self.make(reply, &on_name(req, Calls::MKDIR, parent, name), |fs| {
            fs.mkdir(convert::ino(parent), name.as_bytes(), mode, caller(req))
        });
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.change(reply, &on_name(req, Calls::UNLINK, parent, name), |fs| {
            fs.unlink(convert::ino(parent), name.as_bytes())
        });
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.change(reply, &on_name(req, Calls::RMDIR, parent, name), |fs| {
            fs.rmdir(convert::ino(parent), name.as_bytes())
        });
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let target = target.as_os_str().as_bytes();
        self.make(reply, &on_name(req, Calls::SYMLINK, parent, name), |fs| {
            fs.symlink(convert::ino(parent), name.as_bytes(), target, caller(req))
        });
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let how = if flags.is_empty() {
            RenameHow::Replace
        } else if flags == RenameFlags::RENAME_NOREPLACE {
            RenameHow::NoReplace
        } else if flags == RenameFlags::RENAME_EXCHANGE {
            RenameHow::Exchange
        } else {
            return reply.error(convert::errno(Errno::INVAL));
        };
        let (from_dir, from) = (convert::ino(parent), name.as_bytes());
        let (to_dir, to) = (convert::ino(newparent), newname.as_bytes());
        let about = About::Names([(from_dir, from), (to_dir, to)]);
        let call = Call::new(Calls::RENAME, about, req.pid());
        self.change(reply, &call, |fs| fs.rename(from_dir, from, to_dir, to, how));
    }

    fn link(&self, req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let (ino, dir, name) = (convert::ino(ino), convert::ino(newparent), newname.as_bytes());
        let call = Call::new(Calls::LINK, About::Link(ino, (dir, name)), req.pid());
        self.make(reply, &call, |fs| fs.link(ino, dir, name).map(|()| ino));
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let for_writing = flags.acc_mode() != OpenAccMode::O_RDONLY;
        let call = Call { for_writing, ..on_inode(req, Calls::OPEN, ino) };
        match self.read_disk(&call, |fs| fs.open(convert::ino(ino))) {
            Ok(()) => reply.opened(FileHandle(0), OPEN_FLAGS),
            Err(error) => reply.error(convert::errno(error)),
        }
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let call = on_name(req, Calls::CREATE, parent, name);
        let (parent, name) = (convert::ino(parent), name.as_bytes());
        let made = self.change_disk(&call, |fs| {
            let ino = match fs.create(parent, name, mode, caller(req)) {
                // Asked only where the kernel knows that there is nothing; a plain O_CREAT opens what is there.
                Err(Errno::EXIST) if flags & libc::O_EXCL == 0 => fs.lookup(parent, name)?,
                made => made?,
            };
            fs.open(ino)?;
            remembered(fs, ino)
        });
        match made {
            Ok(stat) => {
                reply.created(&attr_ttl(&stat), &convert::attr(&stat), GENERATION, FileHandle(0), OPEN_FLAGS);
            }
            Err(error) => reply.error(convert::errno(error)),
        }
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut bytes = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.clear();
        match self.read_disk(&on_inode(req, Calls::READ, ino), |fs| {
            fs.read(convert::ino(ino), offset, size as usize, &mut bytes)
        }) {
            Ok(()) => reply.data(&bytes),
            Err(error) => reply.error(convert::errno(error)),
        }
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let drops = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        match self.change_disk(&on_inode(req, Calls::WRITE, ino), |fs| {
            fs.write(convert::ino(ino), offset, data, drops)
        }) {
            Ok(written) => reply.written(written as u32),
            Err(error) => reply.error(convert::errno(error)),
        }
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.disk.with(|fs| fs.close(convert::ino(ino)));
        reply.ok();
    }

    fn fsync(&self, req: &Request, ino: INodeNo, _fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let of = convert::ino(ino);
        let (calls, scope) = if datasync {
            (Calls::FDATASYNC, SyncScope::FileData(of))
        } else {
            (Calls::FSYNC, SyncScope::File(of))
        };
        self.sync(reply, &on_inode(req, calls, ino), scope);
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.read_disk(&on_inode(req, Calls::OPENDIR, ino), |fs| fs.open(convert::ino(ino))) {
            Ok(()) => reply.opened(FileHandle(self.listings.open()), FopenFlags::empty()),
            Err(error) => reply.error(convert::errno(error)),
        }
    }

    fn readdir(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.read_disk(&on_inode(req, Calls::READDIR, ino), |fs| {
            self.listings.read(fs, convert::ino(ino), fh.0, offset, |next, entry| {
                !reply.add(
                    INodeNo(entry.ino.0),
                    next,
                    convert::file_type(entry.kind),
                    OsStr::from_bytes(&entry.name),
                )
            })
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(convert::errno(error)),
        }
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let dir = convert::ino(ino);
        let listed = self.read_disk(&on_inode(req, Calls::READDIR, INodeNo(dir.0)), |fs| {
            let mut told = Vec::new();
            self.listings.read(fs, dir, fh.0, offset, |next, entry| {
                let own = entry.name.as_ref() == b"." || entry.name.as_ref() == b"..";
                let now = if own { Ok(entry.ino) } else { fs.lookup(dir, &entry.name) };
                // A name that is gone since the snapshot is left out: the kernel would believe that it exists.
                let Ok(stat) = now.and_then(|ino| fs.stat(ino)) else { return true };
                let name = OsStr::from_bytes(&entry.name);
                let full = reply.add(
                    INodeNo(stat.ino.0),
                    next,
                    name,
                    &attr_ttl(&stat),
                    &convert::attr(&stat),
                    GENERATION,
                );
                if !full && !own {
                    told.push(stat.ino);
                }
                !full
            })?;
            told.into_iter().try_for_each(|ino| fs.remember(ino))
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(convert::errno(error)),
        }
    }

    fn releasedir(&self, _req: &Request, ino: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.listings.close(fh.0);
        self.disk.with(|fs| fs.close(convert::ino(ino)));
        reply.ok();
    }

    fn fsyncdir(&self, req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let scope = SyncScope::Dir(convert::ino(ino));
        self.sync(reply, &on_inode(req, Calls::FSYNC_DIR, ino), scope);
    }

    fn statfs(&self, req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        match self.read_disk(&Call::new(Calls::STATFS, About::Disk, req.pid()), |fs| Ok(fs.usage())) {
            Ok(usage) => {
                let blocks = usage.limits.bytes / BLOCK_BYTES;
                let free = usage.limits.bytes.saturating_sub(usage.used_bytes) / BLOCK_BYTES;
                let free_inodes = usage.limits.inodes.saturating_sub(usage.used_inodes);
                let block = BLOCK_BYTES as u32;
                reply.statfs(blocks, free, free, usage.limits.inodes, free_inodes, block, 255, block);
            }
            Err(error) => reply.error(convert::errno(error)),
        }
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let how = match flags {
            0 => XattrHow::Set,
            libc::XATTR_CREATE => XattrHow::Create,
            libc::XATTR_REPLACE => XattrHow::Replace,
            _ => return reply.error(fuser::Errno::EINVAL),
        };
        self.change(reply, &on_inode(req, Calls::SET_XATTR, ino), |fs| {
            fs.set_xattr(convert::ino(ino), name.as_bytes(), value, how)
        });
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        match self.read_disk(&on_inode(req, Calls::GET_XATTR, ino), |fs| {
            fs.xattr(convert::ino(ino), name.as_bytes())
        }) {
            Ok(value) => answer_sized(reply, &value, size),
            Err(error) => reply.error(convert::errno(error)),
        }
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        match self.read_disk(&on_inode(req, Calls::GET_XATTR, ino), |fs| fs.xattr_names(convert::ino(ino))) {
            Ok(names) => {
                let list: Vec<u8> = names.iter().flat_map(|name| name.iter().copied().chain([0])).collect();
                answer_sized(reply, &list, size);
            }
            Err(error) => reply.error(convert::errno(error)),
        }
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.change(reply, &on_inode(req, Calls::SET_XATTR, ino), |fs| {
            fs.remove_xattr(convert::ino(ino), name.as_bytes())
        });
    }

    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(fuser::Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let Some(how) = convert::allocate(mode) else {
            return reply.error(fuser::Errno::EOPNOTSUPP);
        };
        self.change(reply, &on_inode(req, Calls::FALLOCATE, ino), |fs| {
            fs.fallocate(convert::ino(ino), how, offset, length, caller(req))
        });
    }

    fn lseek(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let what = match whence {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return reply.error(fuser::Errno::EINVAL),
        };
        let found = self.read_disk(&on_inode(req, Calls::SEEK, ino), |fs| {
            let offset = u64::try_from(offset).map_err(|_| Errno::NXIO)?;
            fs.seek(convert::ino(ino), offset, what)
        });
        match found {
            Ok(at) => reply.offset(at.cast_signed()),
            Err(error) => reply.error(convert::errno(error)),
        }
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        _fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let about = About::Inodes([convert::ino(ino_in), convert::ino(ino_out)]);
        let call = Call::new(Calls::COPY_RANGE, about, req.pid());
        let copied = self.change_disk(&call, |fs| {
            fs.copy_range(
                convert::ino(ino_in),
                offset_in,
                convert::ino(ino_out),
                offset_out,
                len,
                caller(req),
            )
        });
        match copied {
            Ok(len) => reply.written(len as u32),
            Err(error) => reply.error(convert::errno(error)),
        }
    }
}

/// Extended attributes are asked for twice: for the length with size 0, then for the bytes.
fn answer_sized(reply: ReplyXattr, bytes: &[u8], size: u32) {
    if size == 0 {
        reply.size(bytes.len() as u32);
    } else if bytes.len() > size as usize {
        reply.error(fuser::Errno::ERANGE);
    } else {
        reply.data(bytes);
    }
}
