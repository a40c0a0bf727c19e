//! One SFTP session: its open handles, and what each request does. Requests are done one after the other, in order, by a
//! thread that may wait for the disk.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::FileExt},
    },
    sync::Arc,
    vec,
};

use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
};

use super::{
    MAX_PACKET,
    files::{self, Files, Last},
    listing::long_name,
    wire::{Attributes, Fields, Malformed, Packet, kind, status},
};
use crate::Sandbox;

/// More than clients use, and few enough for the limit of descriptors of the whole program.
const MAX_HANDLES: usize = 256;

/// The largest piece that is read or written at once; leaves room for the fields around it.
const MAX_DATA: u32 = MAX_PACKET as u32 - 1024;

/// Entries in one reply to READDIR.
const BATCH: usize = 128;

/// The extensions that are announced: each by its name and version.
const EXTENSIONS: [&[u8]; 4] =
    [b"posix-rename@openssh.com", b"hardlink@openssh.com", b"fsync@openssh.com", b"limits@openssh.com"];

/// The state of one session.
#[derive(Debug)]
pub(super) struct Session {
    files: Files,
    handles: BTreeMap<u32, Handle>,
}

#[derive(Debug)]
enum Handle {
    File(File),
    Directory { fd: OwnedFd, names: vec::IntoIter<Vec<u8>> },
}

/// Why a request failed.
#[derive(Debug)]
enum Failure {
    Io(io::Error),
    Status(u32, &'static str),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Self {
        Self::Status(status::BAD_MESSAGE, "malformed request")
    }
}

impl Failure {
    /// The status, as OpenSSH's server translates errors.
    fn reply(&self, id: u32) -> Packet {
        match self {
            Self::Status(code, message) => Packet::status(id, *code, message),
            Self::Io(error) => {
                let code = match error.raw_os_error() {
                    Some(libc::ENOENT | libc::ENOTDIR | libc::EBADF | libc::ELOOP) => status::NO_SUCH_FILE,
                    Some(libc::EPERM | libc::EACCES) => status::PERMISSION_DENIED,
                    Some(libc::ENAMETOOLONG | libc::EINVAL) => status::BAD_MESSAGE,
                    Some(libc::ENOSYS) => status::OP_UNSUPPORTED,
                    _ => status::FAILURE,
                };
                Packet::status(id, code, &error.to_string())
            }
        }
    }
}

impl Session {
    pub(super) fn new(sandbox: Arc<Sandbox>) -> Self {
        Self { files: Files::new(sandbox), handles: BTreeMap::new() }
    }

    /// Does what a packet (without its length) asks for, and returns the reply as it is sent.
    pub(super) fn answer(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut fields = Fields(packet);
        let (Ok(kind), Ok(id)) = (fields.u8(), fields.u32()) else {
            return Packet::status(0, status::BAD_MESSAGE, "malformed request").finish();
        };
        // What stands at the place of the id is the client's version; every one understands 3.
        if kind == kind::INIT {
            let version = Packet::new(kind::VERSION).u32(3);
            return EXTENSIONS.iter().fold(version, |packet, name| packet.bytes(name).bytes(b"1")).finish();
        }
        self.request(kind, id, &mut fields).unwrap_or_else(|failure| failure.reply(id)).finish()
    }

    fn request(&mut self, kind: u8, id: u32, fields: &mut Fields<'_>) -> Result<Packet, Failure> {
        match kind {
            kind::OPEN => return self.open(id, fields.bytes()?, fields.u32()?, fields.attributes()?),
            kind::OPENDIR => return self.open_dir(id, fields.bytes()?),
            kind::READ => return self.read(id, fields.bytes()?, fields.u64()?, fields.u32()?),
            kind::READDIR => return self.read_dir(id, fields.bytes()?),
            kind::STAT => {
                let attributes = self.files.attributes(fields.bytes()?, Last::Follow)?;
                return Ok(Packet::reply(kind::ATTRS, id).attributes(&attributes));
            }
            kind::LSTAT => {
                let attributes = self.files.attributes(fields.bytes()?, Last::Itself)?;
                return Ok(Packet::reply(kind::ATTRS, id).attributes(&attributes));
            }
            kind::FSTAT => {
                let attributes = match self.handle(fields.bytes()?)? {
                    Handle::File(file) => files::attributes(file)?,
                    Handle::Directory { fd, .. } => files::attributes(&File::from(fd.try_clone()?))?,
                };
                return Ok(Packet::reply(kind::ATTRS, id).attributes(&attributes));
            }
            kind::REALPATH => {
                let path = self.files.real_path(fields.bytes()?)?;
                return Ok(one_name(id, path.as_os_str().as_bytes()));
            }
            kind::READLINK => {
                let target = self.files.read_link(fields.bytes()?)?;
                return Ok(one_name(id, target.as_os_str().as_bytes()));
            }
            kind::CLOSE => {
                let key = key(fields.bytes()?)?;
                self.handles.remove(&key).ok_or(Errno::BADF)?;
            }
            kind::WRITE => {
                let (handle, offset) = (fields.bytes()?, fields.u64()?);
                let data = fields.bytes()?;
                self.file(handle)?.write_all_at(data, offset)?;
            }
            kind::SETSTAT => self.files.set_attributes(fields.bytes()?, &fields.attributes()?)?,
            kind::FSETSTAT => {
                let handle = fields.bytes()?;
                let attributes = fields.attributes()?;
                let fd = match self.handle(handle)? {
                    Handle::File(file) => file.try_clone()?.into(),
                    Handle::Directory { fd, .. } => fd.try_clone()?,
                };
                files::set_attributes(&fd, &attributes)?;
            }
            kind::REMOVE => self.files.remove_file(fields.bytes()?)?,
            kind::RMDIR => self.files.remove_dir(fields.bytes()?)?,
            kind::MKDIR => {
                let path = fields.bytes()?;
                let mode = fields.attributes()?.mode.unwrap_or(0o777);
                self.files.make_dir(path, mode & 0o7777)?;
            }
            kind::RENAME => self.files.rename(fields.bytes()?, fields.bytes()?)?,
            // The draft has the link first; OpenSSH sends the target first, and every client follows OpenSSH.
            kind::SYMLINK => self.files.make_symlink(fields.bytes()?, fields.bytes()?)?,
            kind::EXTENDED => return self.extended(id, fields),
            _ => return Err(Failure::Status(status::OP_UNSUPPORTED, "unknown request")),
        }
        Ok(Packet::status(id, status::OK, "Success"))
    }

    fn extended(&mut self, id: u32, fields: &mut Fields<'_>) -> Result<Packet, Failure> {
        match fields.bytes()? {
            b"posix-rename@openssh.com" => self.files.rename_over(fields.bytes()?, fields.bytes()?)?,
            b"hardlink@openssh.com" => self.files.hard_link(fields.bytes()?, fields.bytes()?)?,
            b"fsync@openssh.com" => match self.handle(fields.bytes()?)? {
                Handle::File(file) => file.sync_all()?,
                Handle::Directory { fd, .. } => rustix::fs::fsync(fd)?,
            },
            b"limits@openssh.com" => {
                let packet = Packet::reply(kind::EXTENDED_REPLY, id).u64(MAX_PACKET as u64);
                let data = u64::from(MAX_DATA);
                return Ok(packet.u64(data).u64(data).u64(MAX_HANDLES as u64));
            }
            _ => return Err(Failure::Status(status::OP_UNSUPPORTED, "unknown extension")),
        }
        Ok(Packet::status(id, status::OK, "Success"))
    }

    fn open(&mut self, id: u32, path: &[u8], wanted: u32, attributes: Attributes) -> Result<Packet, Failure> {
        const READ: u32 = 1;
        const WRITE: u32 = 2;
        let access = match (wanted & READ != 0, wanted & WRITE != 0) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            _ => OFlags::RDONLY,
        };
        let more = [(4, OFlags::APPEND), (8, OFlags::CREATE), (16, OFlags::TRUNC), (32, OFlags::EXCL)];
        let flags =
            more.iter().filter(|(bit, _)| wanted & bit != 0).fold(access, |flags, (_, flag)| flags | *flag);
        // openat2 wants no mode where nothing is created.
        let creates = flags.contains(OFlags::CREATE);
        let mode = if creates { attributes.mode.unwrap_or(0o666) & 0o7777 } else { 0 };
        let fd = self.files.open(path, flags, Mode::from_raw_mode(mode))?;
        self.insert(id, Handle::File(File::from(fd)))
    }

    /// Takes all names at once, so that entries that are removed meanwhile cannot make others disappear.
    fn open_dir(&mut self, id: u32, path: &[u8]) -> Result<Packet, Failure> {
        let fd = self.files.open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&fd)? {
            names.push(entry?.file_name().to_bytes().to_vec());
        }
        self.insert(id, Handle::Directory { fd, names: names.into_iter() })
    }

    fn insert(&mut self, id: u32, handle: Handle) -> Result<Packet, Failure> {
        if self.handles.len() >= MAX_HANDLES {
            return Err(Errno::MFILE.into());
        }
        let free = (0..=u32::MAX).find(|key| !self.handles.contains_key(key)).ok_or(Errno::MFILE)?;
        self.handles.insert(free, handle);
        Ok(Packet::reply(kind::HANDLE, id).bytes(&free.to_be_bytes()))
    }

    fn handle(&mut self, handle: &[u8]) -> Result<&mut Handle, Failure> {
        self.handles.get_mut(&key(handle)?).ok_or(Errno::BADF.into())
    }

    fn file(&mut self, handle: &[u8]) -> Result<&mut File, Failure> {
        match self.handle(handle)? {
            Handle::File(file) => Ok(file),
            Handle::Directory { .. } => Err(Errno::ISDIR.into()),
        }
    }

    fn read(&mut self, id: u32, handle: &[u8], offset: u64, length: u32) -> Result<Packet, Failure> {
        let file = self.file(handle)?;
        let mut data = vec![0; length.min(MAX_DATA) as usize];
        let mut filled = 0;
        while let Some(rest) = data.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        match data.get(..filled) {
            Some(read) if !read.is_empty() => Ok(Packet::reply(kind::DATA, id).bytes(read)),
            _ => Err(Failure::Status(status::EOF, "End of file")),
        }
    }

    fn read_dir(&mut self, id: u32, handle: &[u8]) -> Result<Packet, Failure> {
        let Handle::Directory { fd, names } = self.handle(handle)? else {
            return Err(Errno::NOTDIR.into());
        };
        let mut entries = Vec::new();
        while entries.len() < BATCH {
            let Some(name) = names.next() else {
                break;
            };
            match rustix::fs::statat(&*fd, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => entries.push((name, stat)),
                // Removed meanwhile.
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if entries.is_empty() {
            return Err(Failure::Status(status::EOF, "End of file"));
        }
        let packet = Packet::reply(kind::NAME, id).u32(entries.len() as u32);
        Ok(entries.iter().fold(packet, |packet, (name, stat)| {
            let seconds = |seconds: i64| u32::try_from(seconds).unwrap_or(0);
            let attributes = Attributes {
                size: Some(stat.st_size.cast_unsigned()),
                owner: Some((stat.st_uid, stat.st_gid)),
                mode: Some(stat.st_mode),
                times: Some((seconds(stat.st_atime), seconds(stat.st_mtime))),
            };
            packet.bytes(name).bytes(&long_name(name, stat)).attributes(&attributes)
        }))
    }
}

fn key(handle: &[u8]) -> Result<u32, Failure> {
    let bytes = handle.try_into().map_err(|_| Errno::BADF)?;
    Ok(u32::from_be_bytes(bytes))
}

fn one_name(id: u32, name: &[u8]) -> Packet {
    Packet::reply(kind::NAME, id).u32(1).bytes(name).bytes(name).attributes(&Attributes::default())
}
