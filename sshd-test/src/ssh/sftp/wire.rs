//! The bytes of SFTP version 3: reading requests and writing replies.
//!
//! Names are bytes here, as they are in a file system. (The codec of the russh-sftp crate replaces what is not UTF-8 in the
//! names that it reads, so that the file meant is never the file touched.) Source: draft-ietf-secsh-filexfer-02, and OpenSSH's
//! PROTOCOL for the extensions.

/// A request that ends too early, or that says nonsense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Types of packets.
pub(super) mod kind {
    pub(in super::super) const INIT: u8 = 1;
    pub(in super::super) const VERSION: u8 = 2;
    pub(in super::super) const OPEN: u8 = 3;
    pub(in super::super) const CLOSE: u8 = 4;
    pub(in super::super) const READ: u8 = 5;
    pub(in super::super) const WRITE: u8 = 6;
    pub(in super::super) const LSTAT: u8 = 7;
    pub(in super::super) const FSTAT: u8 = 8;
    pub(in super::super) const SETSTAT: u8 = 9;
    pub(in super::super) const FSETSTAT: u8 = 10;
    pub(in super::super) const OPENDIR: u8 = 11;
    pub(in super::super) const READDIR: u8 = 12;
    pub(in super::super) const REMOVE: u8 = 13;
    pub(in super::super) const MKDIR: u8 = 14;
    pub(in super::super) const RMDIR: u8 = 15;
    pub(in super::super) const REALPATH: u8 = 16;
    pub(in super::super) const STAT: u8 = 17;
    pub(in super::super) const RENAME: u8 = 18;
    pub(in super::super) const READLINK: u8 = 19;
    pub(in super::super) const SYMLINK: u8 = 20;
    pub(in super::super) const STATUS: u8 = 101;
    pub(in super::super) const HANDLE: u8 = 102;
    pub(in super::super) const DATA: u8 = 103;
    pub(in super::super) const NAME: u8 = 104;
    pub(in super::super) const ATTRS: u8 = 105;
    pub(in super::super) const EXTENDED: u8 = 200;
    pub(in super::super) const EXTENDED_REPLY: u8 = 201;
}

/// Codes of a STATUS reply.
pub(super) mod status {
    pub(in super::super) const OK: u32 = 0;
    pub(in super::super) const EOF: u32 = 1;
    pub(in super::super) const NO_SUCH_FILE: u32 = 2;
    pub(in super::super) const PERMISSION_DENIED: u32 = 3;
    pub(in super::super) const FAILURE: u32 = 4;
    pub(in super::super) const BAD_MESSAGE: u32 = 5;
    pub(in super::super) const OP_UNSUPPORTED: u32 = 8;
}

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const PERMISSIONS: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

/// Attributes of a file; what is `None` was not sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    /// User and group.
    pub(super) owner: Option<(u32, u32)>,
    /// As in `st_mode`.
    pub(super) mode: Option<u32>,
    /// Access and modification, seconds since 1970.
    pub(super) times: Option<(u32, u32)>,
}

/// Reads the fields of a request.
#[derive(Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_be_bytes)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn attributes(&mut self) -> Result<Attributes, Malformed> {
        let flags = self.u32()?;
        let has = |flag| flags & flag != 0;
        let size = if has(SIZE) { Some(self.u64()?) } else { None };
        let owner = if has(OWNER) { Some((self.u32()?, self.u32()?)) } else { None };
        let mode = if has(PERMISSIONS) { Some(self.u32()?) } else { None };
        let times = if has(TIMES) { Some((self.u32()?, self.u32()?)) } else { None };
        if has(EXTENDED) {
            for _ in 0..self.u32()? {
                self.bytes()?;
                self.bytes()?;
            }
        }
        Ok(Attributes { size, owner, mode, times })
    }
}

/// Writes one packet, length first.
#[derive(Debug)]
pub(super) struct Packet(Vec<u8>);

impl Packet {
    pub(super) fn new(kind: u8) -> Self {
        Self(vec![0, 0, 0, 0, kind])
    }

    /// A reply to the request with this number.
    pub(super) fn reply(kind: u8, id: u32) -> Self {
        Self::new(kind).u32(id)
    }

    pub(super) fn status(id: u32, code: u32, message: &str) -> Self {
        Self::reply(kind::STATUS, id).u32(code).bytes(message.as_bytes()).bytes(b"en")
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// A string; what is longer than its length field can say does not occur in a packet that fits.
    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        let mut packet = self.u32(bytes.len() as u32);
        packet.0.extend(bytes);
        packet
    }

    pub(super) fn attributes(self, attributes: &Attributes) -> Self {
        let Attributes { size, owner, mode, times } = *attributes;
        let flag = |present, flag| if present { flag } else { 0 };
        let mut packet = self.u32(
            flag(size.is_some(), SIZE)
                | flag(owner.is_some(), OWNER)
                | flag(mode.is_some(), PERMISSIONS)
                | flag(times.is_some(), TIMES),
        );
        if let Some(size) = size {
            packet = packet.u64(size);
        }
        if let Some((user, group)) = owner {
            packet = packet.u32(user).u32(group);
        }
        if let Some(mode) = mode {
            packet = packet.u32(mode);
        }
        if let Some((access, modification)) = times {
            packet = packet.u32(access).u32(modification);
        }
        packet
    }

    /// The packet as it is sent.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let length = (self.0.len() - 4) as u32;
        if let Some(head) = self.0.first_chunk_mut() {
            *head = length.to_be_bytes();
        }
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_survive_the_wire() {
        let all = Attributes {
            size: Some(1 << 40),
            owner: Some((1, 2)),
            mode: Some(0o10_0644),
            times: Some((3, 4)),
        };
        for attributes in [all, Attributes::default(), Attributes { size: None, times: None, ..all }] {
            let packet = Packet::new(0).attributes(&attributes).finish();
            assert_eq!(Fields(&packet[5..]).attributes(), Ok(attributes));
        }
    }

    #[test]
    fn short_requests_are_malformed() {
        assert_eq!(Fields(&[0, 0, 0]).u32(), Err(Malformed));
        assert_eq!(Fields(&[0, 0, 0, 9, 1, 2]).bytes(), Err(Malformed));
        assert_eq!(Fields(&[0xff; 4]).bytes(), Err(Malformed));
        assert_eq!(Fields(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).attributes(), Err(Malformed));
    }
}
