//! Operations on attributes: permission bits, owners, times, extended attributes.

use std::sync::Arc;
use std::time::SystemTime;

use smallvec::smallvec;

use super::node::Inode;
use super::{Effects, Errno, Fs, FsResult};
use crate::cell::{Cell, Ino, Name, Value};
use crate::trace::OpKind;

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const GROUP_EXEC: u32 = 0o0010;
const MAX_XATTR_NAME_BYTES: usize = 255;
const MAX_XATTR_BYTES: usize = 65536;
const CAPABILITY: &[u8] = b"security.capability";

/// When `setxattr` may succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrHow {
    /// Always.
    Set,
    /// Only if the attribute is not set (`XATTR_CREATE`).
    Create,
    /// Only if the attribute is set (`XATTR_REPLACE`).
    Replace,
}

impl Inode {
    /// What a write by somebody else than root does to set-id bits (`setattr_should_drop_suidgid` in `fs/attr.c`).
    pub(super) fn drop_set_id(&mut self, ino: Ino, effects: &mut Effects) {
        let mut mode = self.mode & !SET_UID;
        if mode & GROUP_EXEC != 0 {
            mode &= !SET_GID;
        }
        if mode != self.mode && !self.is_dir() {
            self.mode = mode;
            effects.push((Cell::Mode(ino), Value::Mode(mode)));
        }
    }

    /// File capabilities do not outlive a change of content or owner, whoever makes it.
    pub(super) fn drop_capabilities(&mut self, ino: Ino, effects: &mut Effects) {
        if !self.xattrs.is_empty()
            && let Some((name, _)) = self.xattrs.remove_entry(CAPABILITY)
        {
            effects.push((Cell::Xattr(ino, name), Value::Xattr(None)));
        }
    }
}

impl Fs {
    /// Sets the permission bits.
    pub fn chmod(&mut self, ino: Ino, mode: u32) -> FsResult<()> {
        let mode = mode & 0o7777;
        let node = self.node_mut(ino)?;
        node.mode = mode;
        node.touch_changed();
        self.record(OpKind::Chmod { ino }, smallvec![(Cell::Mode(ino), Value::Mode(mode))]);
        Ok(())
    }

    /// Sets owner and group. Of anything but a directory the set-id bits are dropped, as Linux does even for root.
    pub fn chown(&mut self, ino: Ino, uid: Option<u32>, gid: Option<u32>) -> FsResult<()> {
        let node = self.node_mut(ino)?;
        node.uid = uid.unwrap_or(node.uid);
        node.gid = gid.unwrap_or(node.gid);
        node.touch_changed();
        let mut effects: Effects = smallvec![(Cell::Owner(ino), Value::Owner(node.uid, node.gid))];
        node.drop_set_id(ino, &mut effects);
        node.drop_capabilities(ino, &mut effects);
        self.record(OpKind::Chown { ino }, effects);
        Ok(())
    }

    /// Sets access and modification time. Times are served, never recorded.
    pub fn set_times(
        &mut self,
        ino: Ino,
        accessed: Option<SystemTime>,
        modified: Option<SystemTime>,
    ) -> FsResult<()> {
        let node = self.node_mut(ino)?;
        node.times.accessed = accessed.unwrap_or(node.times.accessed);
        node.times.modified = modified.unwrap_or(node.times.modified);
        node.touch_changed();
        Ok(())
    }

    /// Sets an extended attribute.
    pub fn set_xattr(&mut self, ino: Ino, name: &[u8], value: &[u8], how: XattrHow) -> FsResult<()> {
        check_xattr_name(name)?;
        if value.len() > MAX_XATTR_BYTES {
            return Err(Errno::TOOBIG);
        }
        let node = self.node_mut(ino)?;
        let name: Name = match (node.xattrs.get_key_value(name), how) {
            (Some(_), XattrHow::Create) => return Err(Errno::EXIST),
            (None, XattrHow::Replace) => return Err(Errno::NODATA),
            (Some((name, _)), _) => name.clone(),
            (None, _) => Arc::from(name),
        };
        let value: Arc<[u8]> = Arc::from(value);
        node.xattrs.insert(name.clone(), value.clone());
        node.touch_changed();
        self.record(
            OpKind::Xattr { ino, name: name.clone() },
            smallvec![(Cell::Xattr(ino, name), Value::Xattr(Some(value)))],
        );
        Ok(())
    }

    /// Removes an extended attribute; `ENODATA` if it is not set.
    pub fn remove_xattr(&mut self, ino: Ino, name: &[u8]) -> FsResult<()> {
        check_xattr_name(name)?;
        let node = self.node_mut(ino)?;
        let (name, _) = node.xattrs.remove_entry(name).ok_or(Errno::NODATA)?;
        node.touch_changed();
        self.record(
            OpKind::Xattr { ino, name: name.clone() },
            smallvec![(Cell::Xattr(ino, name), Value::Xattr(None))],
        );
        Ok(())
    }

    /// The value of an extended attribute; `ENODATA` if it is not set.
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> FsResult<Arc<[u8]>> {
        check_xattr_name(name)?;
        self.node(ino)?.xattrs.get(name).cloned().ok_or(Errno::NODATA)
    }

    /// The names of all extended attributes, in byte order.
    pub fn xattr_names(&self, ino: Ino) -> FsResult<Vec<Name>> {
        Ok(self.node(ino)?.xattrs.keys().cloned().collect())
    }
}

/// Access control lists and other `system.` attributes are not implemented.
fn check_xattr_name(name: &[u8]) -> FsResult<()> {
    let served: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    if name.len() > MAX_XATTR_NAME_BYTES {
        return Err(Errno::RANGE);
    }
    match served.iter().find_map(|prefix| name.strip_prefix(*prefix)) {
        None => Err(Errno::OPNOTSUPP),
        Some([]) => Err(Errno::INVAL),
        Some(_) => Ok(()),
    }
}
