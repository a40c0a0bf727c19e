//! What a real tool did, from a trace that was recorded of it, done again on a mounted file system: the same operations in
//! the same order, with real system calls.
//!
//! What is not in a trace is lost: which calls went through one descriptor (here: those on one file that follow each other),
//! and what ran at the same time.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use rustc_hash::FxHashMap;
use rustix::fs::{AtFlags, CWD, Gid, Mode, RenameFlags, Uid, chownat, mkdir, renameat_with};
use simfs::{
    BLOCK_BYTES, Birth, Cell, EffectId, Ino, Kind as Type, MarkKind, Name, OpKind, ROOT, Seq, SyncScope,
    Trace, Value, View,
};

use crate::disk::Failed;
use crate::run::{Doing, Step, What};
use crate::served::Served;

/// Makes the disk as the trace found it.
pub(crate) fn set_up(trace: &Trace, root: &Path) -> Result<(), Failed> {
    let failed = |error| Failed::new("make the disk as it was found", error);
    let mut made = FxHashMap::default();
    fill(&View::live(trace, 0), ROOT, root, &mut made).map_err(failed)
}

fn fill(view: &View<'_>, dir: Ino, at: &Path, made: &mut FxHashMap<Ino, PathBuf>) -> io::Result<()> {
    let permit = |at: &Path, ino| fs::set_permissions(at, PermissionsExt::from_mode(view.mode(ino)));
    for (name, ino) in view.entries(dir) {
        let at = at.join(os(name));
        if let Some(first) = made.get(&ino) {
            fs::hard_link(first, &at)?;
            continue;
        }
        made.insert(ino, at.clone());
        match view.birth(ino).map(|birth| birth.kind) {
            Some(Type::Dir) => {
                fs::create_dir(&at)?;
                fill(view, ino, &at, made)?;
            }
            Some(Type::File) => {
                let (file, size) = (File::create_new(&at)?, view.size_bytes(ino));
                file.set_len(size)?;
                for n in 0..size.div_ceil(BLOCK_BYTES) {
                    file.write_all_at(view.block(ino, n), n * BLOCK_BYTES)?;
                }
            }
            Some(Type::Symlink) => {
                symlink(os(view.target(ino)), &at)?;
                continue;
            }
            kind => return Err(cannot(&format!("make a {kind:?}"))),
        }
        permit(&at, ino)?;
    }
    permit(at, dir)
}

/// What is done: each operation of the trace, and, if there are waits, one after each deploy and one at some place in the
/// middle of each, another for each seed.
pub(crate) fn doings(trace: &Trace, waits: bool, seed: u64) -> Vec<Doing> {
    let mut rng = Rng::with_seed(seed);
    let (mut waits_after, mut begun) = (BTreeSet::new(), 0);
    for mark in trace.marks().iter().filter(|_| waits) {
        match mark.kind {
            MarkKind::Begin { .. } => begun = mark.after,
            MarkKind::End { .. } => {
                waits_after.insert(mark.after);
                waits_after.insert(rng.u32(begun..=mark.after));
            }
            _ => {}
        }
    }
    let mut doings = Vec::new();
    for (after, op) in (0..).zip(trace.ops()) {
        if after > 0 {
            let what = if matches!(op.kind, OpKind::Sync { .. }) { What::Sync } else { What::Change };
            doings.push(Doing { after, what });
        }
        if waits_after.contains(&after) {
            doings.push(Doing { after, what: What::Wait });
        }
    }
    doings
}

/// Does it below `root`, which is mounted on `image`.
pub(crate) fn on_real(
    trace: &Trace,
    doings: &[Doing],
    wait_s: u64,
    root: &Path,
    image: &Served,
) -> Result<Vec<Step>, Failed> {
    let mut replay = Replay {
        trace,
        root,
        entries: FxHashMap::default(),
        names: FxHashMap::default(),
        blocks: FxHashMap::default(),
        open: None,
    };
    replay.apply(0);
    let mut steps = Vec::new();
    for doing in doings {
        let begin = image.position()?;
        if doing.what == What::Wait {
            replay.open = None;
            thread::sleep(Duration::from_secs(wait_s));
        } else {
            replay.real(doing.after).map_err(|error| {
                let kind = &trace.ops()[doing.after as usize].kind;
                Failed::new(format!("op {} ({kind:?}) on a real file system", doing.after), error)
            })?;
        }
        steps.push(Step { begin, end: image.position()? });
    }
    Ok(steps)
}

/// How far it is.
struct Replay<'t> {
    trace: &'t Trace,
    root: &'t Path,
    entries: FxHashMap<(Ino, Name), Ino>,
    /// Where an inode is named.
    names: FxHashMap<Ino, BTreeSet<(Ino, Name)>>,
    blocks: FxHashMap<(Ino, u64), &'t [u8]>,
    /// The file that the last operation was on.
    open: Option<(Ino, File)>,
}

impl<'t> Replay<'t> {
    /// Notes the effects of an op.
    fn apply(&mut self, seq: Seq) {
        for effect in self.effects(seq) {
            let effect = self.trace.effect(effect);
            match (self.trace.cell(effect.cell), &effect.value) {
                (Cell::Entry(dir, name), Value::Entry(child)) => {
                    let key = (*dir, name.clone());
                    let before = match child {
                        Some(child) => self.entries.insert(key.clone(), *child),
                        None => self.entries.remove(&key),
                    };
                    if let Some(names) = before.and_then(|before| self.names.get_mut(&before)) {
                        names.remove(&key);
                    }
                    if let Some(child) = child {
                        self.names.entry(*child).or_default().insert(key);
                    }
                }
                (Cell::Block(ino, n), Value::Block(bytes)) => {
                    self.blocks.insert((*ino, *n), bytes);
                }
                _ => {}
            }
        }
    }

    fn effects(&self, seq: Seq) -> impl Iterator<Item = EffectId> + use<> {
        self.trace.ops()[seq as usize].effects.clone().map(EffectId)
    }

    /// What the op set this kind of cell to.
    fn value<T>(&self, seq: Seq, pick: impl Fn(&'t Value) -> Option<T>) -> io::Result<T> {
        let found = self.effects(seq).find_map(|effect| pick(&self.trace.effect(effect).value));
        found.ok_or_else(|| cannot("do what has no effect"))
    }

    fn path(&self, ino: Ino) -> io::Result<PathBuf> {
        if ino == ROOT {
            return Ok(self.root.to_path_buf());
        }
        let name = self.names.get(&ino).and_then(BTreeSet::first);
        let (dir, name) = name.ok_or_else(|| cannot("reach a file that has no name"))?;
        Ok(self.path(*dir)?.join(os(name)))
    }

    fn below(&self, dir: Ino, name: &Name) -> io::Result<PathBuf> {
        Ok(self.path(dir)?.join(os(name)))
    }

    fn file(&mut self, ino: Ino) -> io::Result<&File> {
        let file = match self.open.take() {
            Some((open, file)) if open == ino => file,
            _ => OpenOptions::new().read(true).write(true).open(self.path(ino)?)?,
        };
        Ok(&self.open.insert((ino, file)).1)
    }

    fn real(&mut self, seq: Seq) -> io::Result<()> {
        let trace = self.trace;
        match &trace.ops()[seq as usize].kind {
            OpKind::Initial => {}
            OpKind::Write { ino, offset, len } => {
                self.apply(seq);
                let bytes = self.bytes(*ino, *offset, *len);
                return self.file(*ino)?.write_all_at(&bytes, *offset);
            }
            OpKind::Truncate { ino, size } => self.file(*ino)?.set_len(*size)?,
            OpKind::CopyRange { from, to, offset, len } => {
                let from = File::open(self.path(*from)?)?;
                let (mut read, mut written) = (*offset, *offset);
                while written < offset + len {
                    let left = (offset + len - written) as usize;
                    let to = self.file(*to)?;
                    let copied =
                        rustix::fs::copy_file_range(&from, Some(&mut read), to, Some(&mut written), left)?;
                    if copied == 0 {
                        return Err(cannot("copy what is not there"));
                    }
                }
            }
            OpKind::Sync { scope, ok: true, .. } => match scope {
                SyncScope::File(ino) => self.file(*ino)?.sync_all()?,
                SyncScope::FileData(ino) => self.file(*ino)?.sync_data()?,
                SyncScope::Dir(ino) => {
                    self.open = None;
                    File::open(self.path(*ino)?)?.sync_all()?;
                }
                SyncScope::All => {
                    self.open = None;
                    rustix::fs::syncfs(File::open(self.root)?)?;
                }
            },
            OpKind::Create { dir, name } => {
                let birth = self.value(seq, birth)?;
                let (ino, at) = (self.value(seq, entry)?, self.below(*dir, name)?);
                if birth.kind != Type::File {
                    return Err(cannot(&format!("make a {:?}", birth.kind)));
                }
                let mut how = OpenOptions::new();
                let file = how.read(true).write(true).create_new(true).mode(birth.mode).open(at)?;
                self.open = Some((ino, file));
            }
            kind => {
                self.open = None;
                self.names_and_attributes(seq, kind)?;
            }
        }
        self.apply(seq);
        Ok(())
    }

    fn names_and_attributes(&self, seq: Seq, kind: &OpKind) -> io::Result<()> {
        match kind {
            OpKind::Mkdir { dir, name } => {
                mkdir(self.below(*dir, name)?, Mode::from_raw_mode(self.value(seq, birth)?.mode))?;
            }
            OpKind::Symlink { dir, name } => {
                let text = |value: &'t Value| match value {
                    Value::Target(text) => Some(text),
                    _ => None,
                };
                symlink(os(self.value(seq, text)?), self.below(*dir, name)?)?;
            }
            OpKind::Link { ino, dir, name } => fs::hard_link(self.path(*ino)?, self.below(*dir, name)?)?,
            OpKind::Unlink { dir, name } => fs::remove_file(self.below(*dir, name)?)?,
            OpKind::Rmdir { dir, name } => fs::remove_dir(self.below(*dir, name)?)?,
            OpKind::Rename { from_dir, from, to_dir, to, exchange } => {
                let how = if *exchange { RenameFlags::EXCHANGE } else { RenameFlags::empty() };
                renameat_with(CWD, self.below(*from_dir, from)?, CWD, self.below(*to_dir, to)?, how)?;
            }
            OpKind::Chmod { ino } => {
                let mode = |value: &Value| match value {
                    Value::Mode(mode) => Some(*mode),
                    _ => None,
                };
                let mode = self.value(seq, mode)?;
                fs::set_permissions(self.path(*ino)?, PermissionsExt::from_mode(mode))?;
            }
            OpKind::Chown { ino } => {
                let owner = |value: &Value| match value {
                    Value::Owner(uid, gid) => Some((Uid::from_raw(*uid), Gid::from_raw(*gid))),
                    _ => None,
                };
                let (uid, gid) = self.value(seq, owner)?;
                chownat(CWD, self.path(*ino)?, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            OpKind::Sync { .. } => return Err(cannot("repeat a sync call that failed")),
            kind => return Err(cannot(&format!("repeat a {kind:?}"))),
        }
        Ok(())
    }

    /// What a file holds there now.
    fn bytes(&self, ino: Ino, offset: u64, len: u64) -> Vec<u8> {
        let byte = |at: u64| {
            let block = self.blocks.get(&(ino, at / BLOCK_BYTES)).copied().unwrap_or_default();
            block.get((at % BLOCK_BYTES) as usize).copied().unwrap_or(0)
        };
        (offset..offset + len).map(byte).collect()
    }
}

fn birth(value: &Value) -> Option<Birth> {
    match value {
        Value::Inode(birth) => Some(*birth),
        _ => None,
    }
}

fn entry(value: &Value) -> Option<Ino> {
    match value {
        Value::Entry(ino) => *ino,
        _ => None,
    }
}

fn os(bytes: &[u8]) -> &std::ffi::OsStr {
    std::ffi::OsStr::from_bytes(bytes)
}

fn cannot(what: &str) -> io::Error {
    io::Error::other(format!("the rig cannot {what}"))
}
