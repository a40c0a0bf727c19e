//! Files of the sandbox, for a server that itself runs outside of it.
//!
//! Every path is resolved by the kernel as if the sandbox's root were the root (openat2 with `RESOLVE_IN_ROOT`): absolute
//! symlinks and `..` stay inside, mounts and read-only flags are the sandbox's. What changes a name goes through a cap-std
//! [`Dir`] of the parent, with the last component only. `/proc` is refused: the server has more rights there than the
//! programs in the sandbox.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use cap_std::fs::{Dir, DirBuilder, DirBuilderExt};
use rustix::{
    fs::{AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, StatxFlags, Timespec, Timestamps, Uid},
    io::Errno,
};

use super::wire::Attributes;
use crate::Sandbox;

/// The files of one sandbox.
#[derive(Debug)]
pub(super) struct Files {
    sandbox: Arc<Sandbox>,
    /// The device number of `/proc`.
    proc: Option<(u32, u32)>,
}

/// What must be true of the last component of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// A symlink there is followed.
    Follow,
    /// A symlink there is meant itself.
    Itself,
}

impl Files {
    pub(super) fn new(sandbox: Arc<Sandbox>) -> Self {
        let mut files = Self { sandbox, proc: None };
        files.proc = files.open(b"/proc", OFlags::PATH, Mode::empty()).ok().and_then(|fd| device(&fd).ok());
        files
    }

    /// A path as a client sends it, relative to the home directory, as an absolute one.
    pub(super) fn absolute(&self, path: &[u8]) -> PathBuf {
        self.sandbox.home().join(OsStr::from_bytes(path))
    }

    /// Opens what a path leads to.
    pub(super) fn open(&self, path: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let path = self.absolute(path);
        // Never wait for the other end of a FIFO, never get a terminal. openat2 wants neither with PATH.
        let opened =
            if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NOCTTY | OFlags::NONBLOCK };
        let flags = flags | opened | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let fd = rustix::fs::openat2(self.sandbox.root(), &path, flags, mode, resolve)?;
        if self.proc.is_some() && device(&fd).ok() == self.proc {
            return Err(Errno::ACCESS.into());
        }
        Ok(fd)
    }

    /// A descriptor that only stands for the file.
    fn locate(&self, path: &[u8], last: Last) -> io::Result<OwnedFd> {
        let flags = if last == Last::Follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
        self.open(path, flags, Mode::empty())
    }

    /// The directory that holds the last component of a path, and that component, which is a plain name.
    fn parent(&self, path: &[u8]) -> io::Result<(Dir, PathBuf)> {
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let path = path.get(..end).unwrap_or_default();
        let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let (parent, name) = path.split_at(start);
        if name.is_empty() || name == b"." || name == b".." {
            return Err(Errno::INVAL.into());
        }
        let parent = self.open(parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        Ok((Dir::from_std_file(File::from(parent)), Path::new(OsStr::from_bytes(name)).to_owned()))
    }

    pub(super) fn attributes(&self, path: &[u8], last: Last) -> io::Result<Attributes> {
        attributes(&File::from(self.locate(path, last)?))
    }

    /// The absolute path without symlinks. The last component need not exist.
    pub(super) fn real_path(&self, path: &[u8]) -> io::Result<PathBuf> {
        match self.locate(path, Last::Follow) {
            Ok(fd) => path_of(&fd),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (parent, name) = self.parent(path)?;
                Ok(path_of(&parent)?.join(name))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn make_dir(&self, path: &[u8], mode: u32) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let mut builder = DirBuilder::new();
        builder.mode(mode);
        parent.create_dir_with(name, &builder)
    }

    pub(super) fn remove_dir(&self, path: &[u8]) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        parent.remove_dir(name)
    }

    pub(super) fn remove_file(&self, path: &[u8]) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        parent.remove_file(name)
    }

    pub(super) fn make_symlink(&self, target: &[u8], path: &[u8]) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        parent.symlink_contents(OsStr::from_bytes(target), name)
    }

    pub(super) fn read_link(&self, path: &[u8]) -> io::Result<PathBuf> {
        let (parent, name) = self.parent(path)?;
        parent.read_link_contents(name)
    }

    pub(super) fn hard_link(&self, from: &[u8], to: &[u8]) -> io::Result<()> {
        let ((from, name), (to, new_name)) = (self.parent(from)?, self.parent(to)?);
        from.hard_link(name, &to, new_name)
    }

    /// rename(2): replaces what has the new name.
    pub(super) fn rename_over(&self, from: &[u8], to: &[u8]) -> io::Result<()> {
        let ((from, name), (to, new_name)) = (self.parent(from)?, self.parent(to)?);
        from.rename(name, &to, new_name)
    }

    /// Rename that fails if the new name exists. As OpenSSH does it, so that a crash shows here what it shows there: link and
    /// unlink for what is not a directory; and where that is not possible, look first, then rename.
    pub(super) fn rename(&self, from: &[u8], to: &[u8]) -> io::Result<()> {
        let ((from_dir, name), (to_dir, new_name)) = (self.parent(from)?, self.parent(to)?);
        if !from_dir.symlink_metadata(&name)?.is_dir() {
            match from_dir.hard_link(&name, &to_dir, &new_name) {
                Ok(()) => return from_dir.remove_file(&name),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
                Err(_) => {}
            }
        }
        match to_dir.symlink_metadata(&new_name) {
            Ok(_) => Err(Errno::EXIST.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => from_dir.rename(name, &to_dir, new_name),
            Err(error) => Err(error),
        }
    }

    /// Changes the attributes of what a path leads to.
    pub(super) fn set_attributes(&self, path: &[u8], attributes: &Attributes) -> io::Result<()> {
        if let Some(size) = attributes.size {
            let file = self.open(path, OFlags::WRONLY, Mode::empty())?;
            rustix::fs::ftruncate(file, size)?;
        }
        let rest = Attributes { size: None, ..*attributes };
        set_attributes(&self.locate(path, Last::Follow)?, &rest)
    }
}

/// Changes the attributes of an open file, which may be open as a path only.
pub(super) fn set_attributes(file: &OwnedFd, attributes: &Attributes) -> io::Result<()> {
    if let Some(size) = attributes.size {
        rustix::fs::ftruncate(file, size)?;
    }
    if let Some(mode) = attributes.mode {
        let mode = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::chmodat(CWD, link_to(file), mode, AtFlags::empty())?;
    }
    if let Some((access, modification)) = attributes.times {
        let seconds = |seconds: u32| Timespec { tv_sec: i64::from(seconds), tv_nsec: 0 };
        let times = Timestamps { last_access: seconds(access), last_modification: seconds(modification) };
        rustix::fs::utimensat(CWD, link_to(file), &times, AtFlags::empty())?;
    }
    if let Some((user, group)) = attributes.owner {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        rustix::fs::chownat(file, "", Some(user), Some(group), AtFlags::EMPTY_PATH)?;
    }
    Ok(())
}

/// The name by which the server itself, and nobody in the sandbox, reaches an open file.
fn link_to(file: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

fn path_of(file: &impl AsRawFd) -> io::Result<PathBuf> {
    fs::read_link(link_to(file))
}

/// Which file system. A FUSE server is not asked.
fn device(file: &impl AsFd) -> io::Result<(u32, u32)> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = rustix::fs::statx(file, "", flags, StatxFlags::empty())?;
    Ok((stat.stx_dev_major, stat.stx_dev_minor))
}

pub(super) fn attributes(file: &File) -> io::Result<Attributes> {
    let stat = file.metadata()?;
    let seconds = |seconds: i64| u32::try_from(seconds).unwrap_or(0);
    Ok(Attributes {
        size: Some(stat.size()),
        owner: Some((stat.uid(), stat.gid())),
        mode: Some(stat.mode()),
        times: Some((seconds(stat.atime()), seconds(stat.mtime()))),
    })
}
