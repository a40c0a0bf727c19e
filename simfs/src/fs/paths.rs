//! Operations by path, for harnesses and tests that have no mount. Each is made of the operations by inode, and
//! records what they record. Paths are resolved from the root of the disk: `/` is that root, not the root of the
//! host.

use std::collections::VecDeque;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::node::Body;
use super::{Caller, Errno, Fs, FsResult};
use crate::cell::{Ino, Kind, Name, ROOT};

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
        if written == bytes.len() { Ok(ino) } else { Err(self.limits.full.errno()) }
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

    /// The paths of an inode from the root of the disk, without a leading slash, one for each name, in byte
    /// order: the root has the empty one, what lost its last name has none.
    ///
    /// The first call looks through all directories; what it learnt is kept up to date from then on.
    pub fn paths(&mut self, ino: Ino) -> Vec<Vec<u8>> {
        if ino == ROOT {
            return vec![Vec::new()];
        }
        let index = match self.names.take() {
            Some(index) => index,
            None => self.index_names(),
        };
        let path = |(dir, name): &(Ino, Name)| index.path_of(*dir, name);
        let mut paths: Vec<_> = index.of(ino).iter().filter_map(path).collect();
        paths.sort_unstable();
        self.names = Some(index);
        paths
    }

    fn index_names(&self) -> NameIndex {
        let mut index = NameIndex::default();
        for (dir, node) in &self.inodes {
            if let Body::Dir(body) = &node.body {
                body.entries.iter().for_each(|(name, ino)| index.add(*ino, *dir, name.clone()));
            }
        }
        index
    }

    /// Who the operations of this file act for: the owner of the root directory.
    pub fn owner(&self) -> Caller {
        self.node(ROOT).map_or(Caller { uid: 0, gid: 0 }, |root| Caller { uid: root.uid, gid: root.gid })
    }
}

/// The names of each inode; a directory has one.
#[derive(Clone, Debug, Default)]
pub(super) struct NameIndex {
    names: FxHashMap<Ino, SmallVec<[(Ino, Name); 1]>>,
}

impl NameIndex {
    fn of(&self, ino: Ino) -> &[(Ino, Name)] {
        self.names.get(&ino).map_or(&[], |names| names)
    }

    /// Nothing: the directory itself is not reachable any more.
    fn path_of(&self, dir: Ino, name: &Name) -> Option<Vec<u8>> {
        let mut names: Vec<&[u8]> = vec![name];
        let mut at = dir;
        while at != ROOT {
            let (dir, name) = self.of(at).first()?;
            names.push(name);
            at = *dir;
        }
        names.reverse();
        Some(names.join(&b'/'))
    }

    pub(super) fn add(&mut self, ino: Ino, dir: Ino, name: Name) {
        self.names.entry(ino).or_default().push((dir, name));
    }

    pub(super) fn remove(&mut self, ino: Ino, dir: Ino, name: &Name) {
        if let Some(names) = self.names.get_mut(&ino) {
            names.retain(|known| (known.0, &known.1) != (dir, name));
            if names.is_empty() {
                self.names.remove(&ino);
            }
        }
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec)
}
