//! The records of a trace file, as both encodings write them. `docs/trace-format.md` says what they mean.
//!
//! Types only. The order of fields and variants is part of the compact encoding: a change of either is a new version of
//! the format.
//!
//! `B` is how a block's content is named: by its number of appearance in the compact encoding, by its SHA-256 in
//! JSON lines.

use serde::{Deserialize, Serialize};
use simfs::trace::{MarkKind, OpKind, SyncScope};
use simfs::{Birth, Cell, Ino, Kind, Value};

use super::text::{Bytes, Mode, Sha, Text};

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Record<B> {
    /// The first record.
    Header { format: u32, tool: String },
    /// A block's content, before its first use; each once.
    Blob { id: B, bytes: Bytes },
    /// A node of a source; sources are counted from 1, the nodes of one are in order of their paths.
    Node { source: u32, path: Text, is: NodeIs<B> },
    /// A history begins. Its ops and marks follow.
    History(HistoryIs),
    /// An op with its effects.
    Op { seq: u32, kind: OpIs, effects: Vec<EffectIs<B>> },
    /// A mark, after the op that comes before it.
    Mark { after: u32, kind: MarkIs },
    /// A history ends.
    End { ops: u32, effects: u32, marks: u32 },
    /// The last record: how many came before it, and the SHA-256 of their bytes.
    Seal { records: u64, sha256: Sha },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum NodeIs<B> {
    Dir { mode: Mode },
    File { mode: Mode, size: u64, blocks: Vec<B> },
    Symlink { target: Text },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryIs {
    pub(super) label: String,
    pub(super) subject: Text,
    pub(super) cut_short: Option<String>,
    pub(super) mount: Vec<Text>,
    pub(super) deploy_path: Vec<Text>,
    /// The source of each deploy, by its number.
    pub(super) sources: Vec<u32>,
    pub(super) shared: SharedIs,
    pub(super) adds: Vec<String>,
    pub(super) mode_mask: Mode,
    pub(super) keep: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum SharedIs {
    None,
    DropDown,
    Exact { paths: Vec<Text> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KindIs {
    File,
    Dir,
    Symlink,
    Fifo,
    Socket,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum OpIs {
    Initial,
    Mkdir { dir: u64, name: Text },
    Create { dir: u64, name: Text },
    Symlink { dir: u64, name: Text },
    Link { ino: u64, dir: u64, name: Text },
    Unlink { dir: u64, name: Text },
    Rmdir { dir: u64, name: Text },
    Rename { from_dir: u64, from: Text, to_dir: u64, to: Text, exchange: bool },
    Write { ino: u64, offset: u64, len: u64 },
    Truncate { ino: u64, size: u64 },
    Fallocate { ino: u64, offset: u64, len: u64 },
    CopyRange { from: u64, to: u64, offset: u64, len: u64 },
    Chmod { ino: u64 },
    Chown { ino: u64 },
    Xattr { ino: u64, name: Text },
    Sync { scope: ScopeIs, returned: u32, ok: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum ScopeIs {
    File { ino: u64 },
    FileData { ino: u64 },
    Dir { ino: u64 },
    All,
}

/// A cell with its new value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum EffectIs<B> {
    Inode { ino: u64, kind: KindIs, mode: Mode, uid: u32, gid: u32 },
    Target { ino: u64, text: Text },
    Entry { dir: u64, name: Text, ino: Option<u64> },
    Block { ino: u64, n: u64, blob: B },
    Size { ino: u64, bytes: u64 },
    Mode { ino: u64, mode: Mode },
    Owner { ino: u64, uid: u32, gid: u32 },
    Xattr { ino: u64, name: Text, value: Option<Bytes> },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum MarkIs {
    Begin { deploy: u32 },
    Ack { deploy: u32 },
    End { deploy: u32, ok: bool, cleanup_pending: bool },
    Blind { what: String },
}

impl<B> Record<B> {
    /// The same with contents named in another way. Fails with the first name that `name` refuses.
    pub(super) fn rename<C, E>(self, name: &mut impl FnMut(B) -> Result<C, E>) -> Result<Record<C>, E> {
        Ok(match self {
            Self::Header { format, tool } => Record::Header { format, tool },
            Self::Blob { id, bytes } => Record::Blob { id: name(id)?, bytes },
            Self::Node { source, path, is } => {
                let is = match is {
                    NodeIs::Dir { mode } => NodeIs::Dir { mode },
                    NodeIs::File { mode, size, blocks } => {
                        let blocks = blocks.into_iter().map(&mut *name).collect::<Result<_, E>>()?;
                        NodeIs::File { mode, size, blocks }
                    }
                    NodeIs::Symlink { target } => NodeIs::Symlink { target },
                };
                Record::Node { source, path, is }
            }
            Self::History(history) => Record::History(history),
            Self::Op { seq, kind, effects } => {
                let effects =
                    effects.into_iter().map(|effect| effect.rename(name)).collect::<Result<_, E>>()?;
                Record::Op { seq, kind, effects }
            }
            Self::Mark { after, kind } => Record::Mark { after, kind },
            Self::End { ops, effects, marks } => Record::End { ops, effects, marks },
            Self::Seal { records, sha256 } => Record::Seal { records, sha256 },
        })
    }
}

impl<B> EffectIs<B> {
    fn rename<C, E>(self, name: &mut impl FnMut(B) -> Result<C, E>) -> Result<EffectIs<C>, E> {
        Ok(match self {
            Self::Inode { ino, kind, mode, uid, gid } => EffectIs::Inode { ino, kind, mode, uid, gid },
            Self::Target { ino, text } => EffectIs::Target { ino, text },
            Self::Entry { dir, name, ino } => EffectIs::Entry { dir, name, ino },
            Self::Block { ino, n, blob } => EffectIs::Block { ino, n, blob: name(blob)? },
            Self::Size { ino, bytes } => EffectIs::Size { ino, bytes },
            Self::Mode { ino, mode } => EffectIs::Mode { ino, mode },
            Self::Owner { ino, uid, gid } => EffectIs::Owner { ino, uid, gid },
            Self::Xattr { ino, name, value } => EffectIs::Xattr { ino, name, value },
        })
    }

    /// What an effect is in a record; `blob` gives the content of a block its name. None if the value is not one of
    /// the cell, which no trace has.
    pub(super) fn of(
        cell: &Cell,
        value: &Value,
        blob: impl FnOnce(&std::sync::Arc<[u8]>) -> B,
    ) -> Option<Self> {
        Some(match (cell, value) {
            (Cell::Inode(ino), Value::Inode(birth)) => Self::Inode {
                ino: ino.0,
                kind: birth.kind.into(),
                mode: Mode(birth.mode),
                uid: birth.uid,
                gid: birth.gid,
            },
            (Cell::Target(ino), Value::Target(text)) => Self::Target { ino: ino.0, text: Text(text.clone()) },
            (Cell::Entry(dir, name), Value::Entry(child)) => {
                Self::Entry { dir: dir.0, name: Text(name.clone()), ino: child.map(|ino| ino.0) }
            }
            (Cell::Block(ino, n), Value::Block(bytes)) => {
                Self::Block { ino: ino.0, n: *n, blob: blob(bytes) }
            }
            (Cell::Size(ino), Value::Size(bytes)) => Self::Size { ino: ino.0, bytes: *bytes },
            (Cell::Mode(ino), Value::Mode(mode)) => Self::Mode { ino: ino.0, mode: Mode(*mode) },
            (Cell::Owner(ino), Value::Owner(uid, gid)) => Self::Owner { ino: ino.0, uid: *uid, gid: *gid },
            (Cell::Xattr(ino, name), Value::Xattr(value)) => Self::Xattr {
                ino: ino.0,
                name: Text(name.clone()),
                value: value.as_ref().map(|value| Bytes(value.clone())),
            },
            _ => return None,
        })
    }

    /// The effect of a record; `blob` finds the content of a block.
    pub(super) fn parts(self, blob: impl FnOnce(B) -> std::sync::Arc<[u8]>) -> (Cell, Value) {
        match self {
            Self::Inode { ino, kind, mode, uid, gid } => {
                let birth = Birth { kind: kind.into(), mode: mode.0, uid, gid };
                (Cell::Inode(Ino(ino)), Value::Inode(birth))
            }
            Self::Target { ino, text } => (Cell::Target(Ino(ino)), Value::Target(text.0)),
            Self::Entry { dir, name, ino } => (Cell::Entry(Ino(dir), name.0), Value::Entry(ino.map(Ino))),
            Self::Block { ino, n, blob: id } => (Cell::Block(Ino(ino), n), Value::Block(blob(id))),
            Self::Size { ino, bytes } => (Cell::Size(Ino(ino)), Value::Size(bytes)),
            Self::Mode { ino, mode } => (Cell::Mode(Ino(ino)), Value::Mode(mode.0)),
            Self::Owner { ino, uid, gid } => (Cell::Owner(Ino(ino)), Value::Owner(uid, gid)),
            Self::Xattr { ino, name, value } => {
                (Cell::Xattr(Ino(ino), name.0), Value::Xattr(value.map(|value| value.0)))
            }
        }
    }
}

impl From<Kind> for KindIs {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::File => Self::File,
            Kind::Dir => Self::Dir,
            Kind::Symlink => Self::Symlink,
            Kind::Fifo => Self::Fifo,
            Kind::Socket => Self::Socket,
        }
    }
}

impl From<KindIs> for Kind {
    fn from(kind: KindIs) -> Self {
        match kind {
            KindIs::File => Self::File,
            KindIs::Dir => Self::Dir,
            KindIs::Symlink => Self::Symlink,
            KindIs::Fifo => Self::Fifo,
            KindIs::Socket => Self::Socket,
        }
    }
}

impl From<SyncScope> for ScopeIs {
    fn from(scope: SyncScope) -> Self {
        match scope {
            SyncScope::File(ino) => Self::File { ino: ino.0 },
            SyncScope::FileData(ino) => Self::FileData { ino: ino.0 },
            SyncScope::Dir(ino) => Self::Dir { ino: ino.0 },
            SyncScope::All => Self::All,
        }
    }
}

impl From<ScopeIs> for SyncScope {
    fn from(scope: ScopeIs) -> Self {
        match scope {
            ScopeIs::File { ino } => Self::File(Ino(ino)),
            ScopeIs::FileData { ino } => Self::FileData(Ino(ino)),
            ScopeIs::Dir { ino } => Self::Dir(Ino(ino)),
            ScopeIs::All => Self::All,
        }
    }
}

impl From<&OpKind> for OpIs {
    fn from(kind: &OpKind) -> Self {
        let text = |name: &simfs::Name| Text(name.clone());
        match kind {
            OpKind::Initial => Self::Initial,
            OpKind::Mkdir { dir, name } => Self::Mkdir { dir: dir.0, name: text(name) },
            OpKind::Create { dir, name } => Self::Create { dir: dir.0, name: text(name) },
            OpKind::Symlink { dir, name } => Self::Symlink { dir: dir.0, name: text(name) },
            OpKind::Link { ino, dir, name } => Self::Link { ino: ino.0, dir: dir.0, name: text(name) },
            OpKind::Unlink { dir, name } => Self::Unlink { dir: dir.0, name: text(name) },
            OpKind::Rmdir { dir, name } => Self::Rmdir { dir: dir.0, name: text(name) },
            OpKind::Rename { from_dir, from, to_dir, to, exchange } => Self::Rename {
                from_dir: from_dir.0,
                from: text(from),
                to_dir: to_dir.0,
                to: text(to),
                exchange: *exchange,
            },
            OpKind::Write { ino, offset, len } => Self::Write { ino: ino.0, offset: *offset, len: *len },
            OpKind::Truncate { ino, size } => Self::Truncate { ino: ino.0, size: *size },
            OpKind::Fallocate { ino, offset, len } => {
                Self::Fallocate { ino: ino.0, offset: *offset, len: *len }
            }
            OpKind::CopyRange { from, to, offset, len } => {
                Self::CopyRange { from: from.0, to: to.0, offset: *offset, len: *len }
            }
            OpKind::Chmod { ino } => Self::Chmod { ino: ino.0 },
            OpKind::Chown { ino } => Self::Chown { ino: ino.0 },
            OpKind::Xattr { ino, name } => Self::Xattr { ino: ino.0, name: text(name) },
            OpKind::Sync { scope, returned, ok } => {
                Self::Sync { scope: (*scope).into(), returned: *returned, ok: *ok }
            }
        }
    }
}

impl From<OpIs> for OpKind {
    fn from(kind: OpIs) -> Self {
        match kind {
            OpIs::Initial => Self::Initial,
            OpIs::Mkdir { dir, name } => Self::Mkdir { dir: Ino(dir), name: name.0 },
            OpIs::Create { dir, name } => Self::Create { dir: Ino(dir), name: name.0 },
            OpIs::Symlink { dir, name } => Self::Symlink { dir: Ino(dir), name: name.0 },
            OpIs::Link { ino, dir, name } => Self::Link { ino: Ino(ino), dir: Ino(dir), name: name.0 },
            OpIs::Unlink { dir, name } => Self::Unlink { dir: Ino(dir), name: name.0 },
            OpIs::Rmdir { dir, name } => Self::Rmdir { dir: Ino(dir), name: name.0 },
            OpIs::Rename { from_dir, from, to_dir, to, exchange } => Self::Rename {
                from_dir: Ino(from_dir),
                from: from.0,
                to_dir: Ino(to_dir),
                to: to.0,
                exchange,
            },
            OpIs::Write { ino, offset, len } => Self::Write { ino: Ino(ino), offset, len },
            OpIs::Truncate { ino, size } => Self::Truncate { ino: Ino(ino), size },
            OpIs::Fallocate { ino, offset, len } => Self::Fallocate { ino: Ino(ino), offset, len },
            OpIs::CopyRange { from, to, offset, len } => {
                Self::CopyRange { from: Ino(from), to: Ino(to), offset, len }
            }
            OpIs::Chmod { ino } => Self::Chmod { ino: Ino(ino) },
            OpIs::Chown { ino } => Self::Chown { ino: Ino(ino) },
            OpIs::Xattr { ino, name } => Self::Xattr { ino: Ino(ino), name: name.0 },
            OpIs::Sync { scope, returned, ok } => Self::Sync { scope: scope.into(), returned, ok },
        }
    }
}

impl From<&MarkKind> for MarkIs {
    fn from(kind: &MarkKind) -> Self {
        match kind {
            MarkKind::Begin { deploy } => Self::Begin { deploy: *deploy },
            MarkKind::Ack { deploy } => Self::Ack { deploy: *deploy },
            MarkKind::End { deploy, ok, cleanup_pending } => {
                Self::End { deploy: *deploy, ok: *ok, cleanup_pending: *cleanup_pending }
            }
            MarkKind::Blind { what } => Self::Blind { what: what.clone() },
        }
    }
}

impl From<MarkIs> for MarkKind {
    fn from(kind: MarkIs) -> Self {
        match kind {
            MarkIs::Begin { deploy } => Self::Begin { deploy },
            MarkIs::Ack { deploy } => Self::Ack { deploy },
            MarkIs::End { deploy, ok, cleanup_pending } => Self::End { deploy, ok, cleanup_pending },
            MarkIs::Blind { what } => Self::Blind { what },
        }
    }
}
