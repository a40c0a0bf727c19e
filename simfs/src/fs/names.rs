//! Operations on names: create, link, remove, rename.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::smallvec;

use super::content::Content;
use super::node::{Body, Directory, Inode};
use super::{Caller, Effects, Errno, Fs, FsResult};
use crate::cell::{Birth, Cell, Ino, Kind, Name, ROOT, Value};
use crate::trace::OpKind;

const MAX_NAME_BYTES: usize = 255;
const MAX_TARGET_BYTES: usize = 4095;
const SET_GID: u32 = 0o2000;

/// What `renameat2` does when the new name exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameHow {
    /// Replaces it (plain `rename`).
    Replace,
    /// Fails with `EEXIST` (`RENAME_NOREPLACE`).
    NoReplace,
    /// Swaps both names, which must exist (`RENAME_EXCHANGE`).
    Exchange,
}

impl Fs {
    /// What a name in a directory stands for. `.` and `..` are no names; see [`Fs::parent`].
    pub fn lookup(&self, dir: Ino, name: &[u8]) -> FsResult<Ino> {
        let dir = self.node(dir)?.dir()?;
        if name.len() > MAX_NAME_BYTES {
            return Err(Errno::NAMETOOLONG);
        }
        dir.entries.get(name).copied().ok_or(Errno::NOENT)
    }

    /// What `..` of a directory stands for; of the root the root.
    pub fn parent(&self, dir: Ino) -> FsResult<Ino> {
        Ok(self.node(dir)?.dir()?.parent)
    }

    /// Creates an empty regular file.
    pub fn create(&mut self, dir: Ino, name: &[u8], mode: u32, who: Caller) -> FsResult<Ino> {
        self.make(dir, name, Kind::File, mode, who, Body::File(Content::default()))
    }

    /// Creates a FIFO or socket; a regular file is created as by [`Fs::create`], anything else is refused (`EPERM`).
    pub fn mknod(&mut self, dir: Ino, name: &[u8], kind: Kind, mode: u32, who: Caller) -> FsResult<Ino> {
        match kind {
            Kind::File => self.create(dir, name, mode, who),
            Kind::Fifo | Kind::Socket => self.make(dir, name, kind, mode, who, Body::Special),
            Kind::Dir | Kind::Symlink => Err(Errno::PERM),
        }
    }

    /// Creates a directory.
    pub fn mkdir(&mut self, dir: Ino, name: &[u8], mode: u32, who: Caller) -> FsResult<Ino> {
        self.make(dir, name, Kind::Dir, mode, who, Body::Dir(Directory::new(dir)))
    }

    /// Creates a symbolic link with the given text.
    pub fn symlink(&mut self, dir: Ino, name: &[u8], target: &[u8], who: Caller) -> FsResult<Ino> {
        if target.is_empty() {
            return Err(Errno::NOENT);
        }
        if target.len() > MAX_TARGET_BYTES {
            return Err(Errno::NAMETOOLONG);
        }
        self.make(dir, name, Kind::Symlink, 0o777, who, Body::Symlink(Arc::from(target)))
    }

    /// Gives a file another name.
    pub fn link(&mut self, ino: Ino, dir: Ino, name: &[u8]) -> FsResult<()> {
        self.check_free(dir, name)?;
        let node = self.node_mut(ino)?;
        if node.is_dir() {
            return Err(Errno::PERM);
        }
        if node.nlink == 0 {
            return Err(Errno::NOENT);
        }
        node.nlink += 1;
        node.touch_changed();
        let name: Name = Arc::from(name);
        self.put_entry(dir, name.clone(), ino)?;
        let effect = (Cell::Entry(dir, name.clone()), Value::Entry(Some(ino)));
        self.record(OpKind::Link { ino, dir, name }, smallvec![effect]);
        Ok(())
    }

    /// Removes a name of anything but a directory.
    pub fn unlink(&mut self, dir: Ino, name: &[u8]) -> FsResult<()> {
        let ino = self.lookup(dir, name)?;
        if self.node(ino)?.is_dir() {
            return Err(Errno::ISDIR);
        }
        let name = self.take_entry(dir, name)?;
        self.lose_name(ino)?;
        let effect = (Cell::Entry(dir, name.clone()), Value::Entry(None));
        self.record(OpKind::Unlink { dir, name }, smallvec![effect]);
        Ok(())
    }

    /// Removes an empty directory.
    pub fn rmdir(&mut self, dir: Ino, name: &[u8]) -> FsResult<()> {
        let ino = self.lookup(dir, name)?;
        if !self.node(ino)?.dir()?.entries.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        let name = self.take_entry(dir, name)?;
        self.node_mut(dir)?.nlink -= 1;
        self.lose_name(ino)?;
        let effect = (Cell::Entry(dir, name.clone()), Value::Entry(None));
        self.record(OpKind::Rmdir { dir, name }, smallvec![effect]);
        Ok(())
    }

    /// Renames. The checks and their order are those of `do_renameat2` and `vfs_rename`. Effects: the new name first,
    /// then the old one.
    pub fn rename(
        &mut self,
        from_dir: Ino,
        from: &[u8],
        to_dir: Ino,
        to: &[u8],
        how: RenameHow,
    ) -> FsResult<()> {
        let source = self.lookup(from_dir, from)?;
        check_name(to)?;
        let target_dir = self.node(to_dir)?;
        let target = target_dir.dir()?.entries.get(to).copied();
        if target_dir.nlink == 0 {
            return Err(Errno::NOENT);
        }
        match (how, target) {
            (RenameHow::NoReplace, Some(_)) => return Err(Errno::EXIST),
            (RenameHow::Exchange, None) => return Err(Errno::NOENT),
            _ => {}
        }
        let source_is_dir = self.node(source)?.is_dir();
        if source_is_dir && self.is_within(to_dir, source) {
            return Err(Errno::INVAL);
        }
        let target_is_dir = target.map(|ino| Ok(self.node(ino)?.is_dir())).transpose()?;
        if target_is_dir == Some(true) && target.is_some_and(|ino| self.is_within(from_dir, ino)) {
            return Err(if how == RenameHow::Exchange { Errno::INVAL } else { Errno::NOTEMPTY });
        }
        if target == Some(source) {
            return Ok(());
        }
        match target {
            Some(target) if how == RenameHow::Exchange => {
                self.exchange((from_dir, from), (to_dir, to), source, target)
            }
            _ => {
                self.check_replaceable(source_is_dir, target)?;
                self.replace((from_dir, from), (to_dir, to), source, target)
            }
        }
    }

    fn check_replaceable(&self, source_is_dir: bool, target: Option<Ino>) -> FsResult<()> {
        let Some(target) = target else { return Ok(()) };
        match (source_is_dir, self.node(target)?.dir()) {
            (true, Err(_)) => Err(Errno::NOTDIR),
            (false, Ok(_)) => Err(Errno::ISDIR),
            (true, Ok(dir)) if !dir.entries.is_empty() => Err(Errno::NOTEMPTY),
            _ => Ok(()),
        }
    }

    fn replace(
        &mut self,
        (from_dir, from): (Ino, &[u8]),
        (to_dir, to): (Ino, &[u8]),
        source: Ino,
        target: Option<Ino>,
    ) -> FsResult<()> {
        let from = self.take_entry(from_dir, from)?;
        let to = if let Some(target) = target {
            let to = self.take_entry(to_dir, to)?;
            if self.node(target)?.is_dir() {
                self.node_mut(to_dir)?.nlink -= 1;
            }
            self.lose_name(target)?;
            to
        } else {
            Arc::from(to)
        };
        self.put_entry(to_dir, to.clone(), source)?;
        self.moved(source, from_dir, to_dir)?;
        let effects: Effects = smallvec![
            (Cell::Entry(to_dir, to.clone()), Value::Entry(Some(source))),
            (Cell::Entry(from_dir, from.clone()), Value::Entry(None)),
        ];
        self.record(OpKind::Rename { from_dir, from, to_dir, to, exchange: false }, effects);
        Ok(())
    }

    fn exchange(
        &mut self,
        (from_dir, from): (Ino, &[u8]),
        (to_dir, to): (Ino, &[u8]),
        source: Ino,
        target: Ino,
    ) -> FsResult<()> {
        let from = self.take_entry(from_dir, from)?;
        let to = self.take_entry(to_dir, to)?;
        self.put_entry(to_dir, to.clone(), source)?;
        self.put_entry(from_dir, from.clone(), target)?;
        self.moved(source, from_dir, to_dir)?;
        self.moved(target, to_dir, from_dir)?;
        let effects: Effects = smallvec![
            (Cell::Entry(to_dir, to.clone()), Value::Entry(Some(source))),
            (Cell::Entry(from_dir, from.clone()), Value::Entry(Some(target))),
        ];
        self.record(OpKind::Rename { from_dir, from, to_dir, to, exchange: true }, effects);
        Ok(())
    }

    fn make(
        &mut self,
        dir: Ino,
        name: &[u8],
        kind: Kind,
        mode: u32,
        who: Caller,
        body: Body,
    ) -> FsResult<Ino> {
        self.check_free(dir, name)?;
        if self.used_inodes >= self.limits.inodes {
            return Err(self.limits.full.errno());
        }
        let parent = self.node(dir)?;
        // A directory with the set-group-id bit hands its group down, and the bit to its subdirectories
        // (`inode_init_owner` in `fs/inode.c`).
        let inherits = parent.mode & SET_GID != 0;
        let gid = if inherits { parent.gid } else { who.gid };
        let inherited_mode = if inherits && kind == Kind::Dir { SET_GID } else { 0 };
        let birth = Birth { kind, mode: (mode & 0o7777) | inherited_mode, uid: who.uid, gid };
        let ino = Ino(self.next_ino);
        self.next_ino += 1;
        let name: Name = Arc::from(name);
        let mut effects: Effects = smallvec![(Cell::Inode(ino), Value::Inode(birth))];
        if let Body::Symlink(target) = &body {
            effects.push((Cell::Target(ino), Value::Target(target.clone())));
        }
        effects.push((Cell::Entry(dir, name.clone()), Value::Entry(Some(ino))));
        self.inodes.insert(ino, Inode::new(birth, body));
        self.used_inodes += 1;
        self.put_entry(dir, name.clone(), ino)?;
        if kind == Kind::Dir {
            self.node_mut(dir)?.nlink += 1;
        }
        self.record(
            match kind {
                Kind::Dir => OpKind::Mkdir { dir, name },
                Kind::Symlink => OpKind::Symlink { dir, name },
                Kind::File | Kind::Fifo | Kind::Socket => OpKind::Create { dir, name },
            },
            effects,
        );
        Ok(ino)
    }

    /// A name can be made here: the directory still exists and does not hold the name.
    fn check_free(&self, dir: Ino, name: &[u8]) -> FsResult<()> {
        check_name(name)?;
        let node = self.node(dir)?;
        if node.dir()?.entries.contains_key(name) {
            return Err(Errno::EXIST);
        }
        if node.nlink == 0 { Err(Errno::NOENT) } else { Ok(()) }
    }

    fn entries_mut(&mut self, dir: Ino) -> FsResult<&mut BTreeMap<Name, Ino>> {
        let node = self.node_mut(dir)?;
        node.touch_modified();
        Ok(&mut node.dir_mut()?.entries)
    }

    fn put_entry(&mut self, dir: Ino, name: Name, ino: Ino) -> FsResult<()> {
        self.entries_mut(dir)?.insert(name.clone(), ino);
        if let Some(names) = &mut self.names {
            names.add(ino, dir, name);
        }
        Ok(())
    }

    fn take_entry(&mut self, dir: Ino, name: &[u8]) -> FsResult<Name> {
        let (name, ino) = self.entries_mut(dir)?.remove_entry(name).ok_or(Errno::NOENT)?;
        if let Some(names) = &mut self.names {
            names.remove(ino, dir, &name);
        }
        Ok(name)
    }

    /// One name fewer; a directory has only one.
    fn lose_name(&mut self, ino: Ino) -> FsResult<()> {
        let node = self.node_mut(ino)?;
        node.nlink = if node.is_dir() { 0 } else { node.nlink - 1 };
        node.touch_changed();
        self.settle(ino);
        Ok(())
    }

    /// Follows a rename of `ino` up in `..` and the link counts.
    fn moved(&mut self, ino: Ino, from_dir: Ino, to_dir: Ino) -> FsResult<()> {
        let node = self.node_mut(ino)?;
        node.touch_changed();
        if node.is_dir() && from_dir != to_dir {
            node.dir_mut()?.parent = to_dir;
            self.node_mut(from_dir)?.nlink -= 1;
            self.node_mut(to_dir)?.nlink += 1;
        }
        Ok(())
    }

    /// Whether `dir` is `ancestor` or lies below it.
    fn is_within(&self, dir: Ino, ancestor: Ino) -> bool {
        let mut at = dir;
        loop {
            if at == ancestor {
                return true;
            }
            match self.parent(at) {
                Ok(parent) if at != ROOT => at = parent,
                _ => return false,
            }
        }
    }
}

/// A single component that the kernel could hand to a file system; it resolves `.` and `..` itself.
fn check_name(name: &[u8]) -> FsResult<()> {
    if name.is_empty() {
        return Err(Errno::NOENT);
    }
    if name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
        return Err(Errno::INVAL);
    }
    if name.len() > MAX_NAME_BYTES { Err(Errno::NAMETOOLONG) } else { Ok(()) }
}
