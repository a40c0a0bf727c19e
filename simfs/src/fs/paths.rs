//! Operations by path, for harnesses and tests that have no mount. Each is made of the operations by inode, and records
//! what they record. Paths are resolved from the root of the disk: `/` is that root, not the root of the host.

use std::collections::VecDeque;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::node::Body;
use super::{Caller, Errno, Fs, FsResult};
use crate::cell::{Ino, Kind, ROOT};

/// As many links as Linux follows in one path.
const MAX_LINKS: usize = 40;

impl Fs {
    /// The inode of a path. Follows symbolic links, the last component's too.
    pub fn resolve(&self, path: impl AsRef<Path>) -> FsResult<Ino> {
        self.walk(path.as_ref(), true)
    }

    /// The inode of a path. Does not follow a symbolic link that is the last component.
    pub fn resolve_link(&self, path: impl AsRef<Path>) -> FsResult<Ino> {
        self.walk(path.as_ref(), false)
    }

    fn walk(&self, path: &Path, follow_last: bool) -> FsResult<Ino> {
        let mut rest: VecDeque<Vec<u8>> = components(path.as_os_str().as_bytes()).collect();
        let mut at = ROOT;
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            let next = match name.as_slice() {
                b"." => self.node(at)?.dir().map(|_| at)?,
                b".." => self.parent(at)?,
                name => self.lookup(at, name)?,
            };
            match &self.node(next)?.body {
                Body::Symlink(target) if follow_last || !rest.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP);
                    }
                    if target.is_empty() {
                        return Err(Errno::NOENT);
                    }
                    if target.first() == Some(&b'/') {
                        at = ROOT;
                    }
                    for name in components(target).collect::<Vec<_>>().into_iter().rev() {
                        rest.push_front(name);
                    }
                }
                _ => at = next,
            }
        }
        Ok(at)
    }

    /// Makes a directory and what is missing above it (mode 0755). Returns the directory.
    pub fn mkdir_p(&mut self, path: impl AsRef<Path>) -> FsResult<Ino> {
        let who = self.owner();
        let mut at = ROOT;
        let mut walked = Vec::new();
        for name in components(path.as_ref().as_os_str().as_bytes()) {
            walked.push(b'/');
            walked.extend_from_slice(&name);
            at = match self.resolve(Path::new(std::ffi::OsStr::from_bytes(&walked))) {
                Ok(ino) => ino,
                Err(Errno::NOENT) => self.mkdir(at, &name, 0o755, who)?,
                Err(error) => return Err(error),
            };
        }
        self.node(at)?.dir().map(|_| at)
    }

    /// Creates a file (mode 0644), or replaces the content of one. Returns its inode. The directory must exist.
    pub fn write_file(&mut self, path: impl AsRef<Path>, bytes: &[u8]) -> FsResult<Ino> {
        let ino = match self.resolve(path.as_ref()) {
            Ok(ino) => {
                self.truncate(ino, 0, false)?;
                ino
            }
            Err(Errno::NOENT) => {
                let (dir, name) = self.split(path.as_ref())?;
                self.create(dir, &name, 0o644, self.owner())?
            }
            Err(error) => return Err(error),
        };
        let written = self.write(ino, 0, bytes, false)?;
        if written == bytes.len() { Ok(ino) } else { Err(Errno::NOSPC) }
    }

    /// Makes a symbolic link. Its directory must exist.
    pub fn symlink_at(&mut self, target: impl AsRef<Path>, path: impl AsRef<Path>) -> FsResult<Ino> {
        let (dir, name) = self.split(path.as_ref())?;
        self.symlink(dir, &name, target.as_ref().as_os_str().as_bytes(), self.owner())
    }

    /// The directory and the last component of a path, which need not exist.
    pub fn split(&self, path: impl AsRef<Path>) -> FsResult<(Ino, Vec<u8>)> {
        let mut names: Vec<_> = components(path.as_ref().as_os_str().as_bytes()).collect();
        let name = names.pop().ok_or(Errno::INVAL)?;
        let dir = self.resolve(Path::new(std::ffi::OsStr::from_bytes(&names.join(&b'/'))))?;
        self.node(dir)?.dir()?;
        Ok((dir, name))
    }

    /// All paths below a directory in byte order of their components, directories before what is in them.
    pub fn walk_tree(&self, dir: Ino) -> FsResult<Vec<(Vec<u8>, Ino)>> {
        let mut found = Vec::new();
        let mut todo = vec![(Vec::new(), dir)];
        while let Some((path, ino)) = todo.pop() {
            if self.stat(ino)?.kind == Kind::Dir {
                for entry in self.read_dir(ino)?.into_iter().rev() {
                    let mut below = path.clone();
                    if !below.is_empty() {
                        below.push(b'/');
                    }
                    below.extend_from_slice(&entry.name);
                    todo.push((below, entry.ino));
                }
            }
            if !path.is_empty() {
                found.push((path, ino));
            }
        }
        Ok(found)
    }

    /// Who the operations of this file act for: the owner of the root directory.
    pub fn owner(&self) -> Caller {
        self.node(ROOT).map_or(Caller { uid: 0, gid: 0 }, |root| Caller { uid: root.uid, gid: root.gid })
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec)
}
