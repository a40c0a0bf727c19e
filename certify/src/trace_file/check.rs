//! Whether what a file says about a disk could have been recorded: what the judge takes for granted.
//!
//! Follows the live state, and knows of it only what is needed for that: which inodes exist, and which names they have.
//! Whether a tool did right is not asked here.

use rustc_hash::{FxHashMap, FxHashSet};
use simfs::{BLOCK_BYTES, Ino, Kind, ROOT};

use super::load::{Budget, Problem};
use super::record::{EffectIs, MarkIs, OpIs, ScopeIs};
use super::text::Text;

/// Longest name of a directory entry or an attribute, longest path in a symlink, as on Linux.
const MAX_NAME_BYTES: usize = 255;
const MAX_TARGET_BYTES: usize = 4095;
const MAX_XATTR_BYTES: usize = 65536;
/// No file is longer, as on Linux.
const MAX_FILE_BYTES: u64 = i64::MAX as u64;
/// Directories within directories; paths that Linux takes reach no deeper.
const MAX_DEPTH: usize = 2048;

/// What an effect costs in memory: itself, its cell, and what the judge knows of both.
const EFFECT_BYTES: u64 = 400;
const OP_BYTES: u64 = 64;
/// What the judge keeps for each block of a file, data or hole, at least as often as the file has names.
const BLOCK_REF_BYTES: u64 = 16;

/// A name that a directory can hold.
pub(super) fn entry_name(name: &[u8]) -> Result<(), Problem> {
    let bad = match name {
        b"" => "a name is empty",
        b"." | b".." => "`.` and `..` are no names of entries",
        _ if name.len() > MAX_NAME_BYTES => "a name is longer than 255 bytes",
        _ if name.contains(&b'/') => "a name contains a slash",
        _ if name.contains(&0) => "a name contains a NUL byte",
        _ => return Ok(()),
    };
    Err(bad.into())
}

/// A text that a symlink can hold.
pub(super) fn target(text: &[u8]) -> Result<(), Problem> {
    if text.len() > MAX_TARGET_BYTES {
        return Err("the text of a symlink is longer than 4095 bytes".into());
    }
    if text.contains(&0) {
        return Err("the text of a symlink contains a NUL byte".into());
    }
    Ok(())
}

/// A content that a block can hold: the normal form has no zeros at the end.
pub(super) fn block(bytes: &[u8]) -> Result<(), Problem> {
    if bytes.len() as u64 > BLOCK_BYTES {
        return Err(format!("a block has {} bytes; none has more than {BLOCK_BYTES}", bytes.len()).into());
    }
    if bytes.last() == Some(&0) {
        return Err("a block ends in a zero; trailing zeros are left out".into());
    }
    Ok(())
}

/// The initial disk only has entries; an op changes two at most, and each once.
fn check_entries(seq: u32, effects: &[EffectIs<u32>]) -> Result<(), Problem> {
    let mut entries = effects.iter().filter_map(|effect| match effect {
        EffectIs::Entry { dir, name, ino } => Some((dir, name, ino)),
        _ => None,
    });
    if seq == 0 {
        let mut seen = FxHashSet::default();
        return match entries.find(|(dir, name, ino)| ino.is_none() || !seen.insert((*dir, *name))) {
            Some(_) => Err("op 0 removes a name, or gives it twice".into()),
            None => Ok(()),
        };
    }
    match (entries.next(), entries.next(), entries.next()) {
        (_, _, Some(_)) => Err("one op changes more than two names".into()),
        (Some((dir, name, _)), Some((dir_2, name_2, _)), _) if (dir, name) == (dir_2, name_2) => {
            Err("one op changes a name twice".into())
        }
        _ => Ok(()),
    }
}

struct Inode {
    kind: Kind,
    /// Names that it has now.
    names: u32,
    /// Where a directory is now.
    parent: Option<u64>,
    /// Directories in it.
    dirs: FxHashSet<u64>,
    /// The longest that it was.
    longest_bytes: u64,
    has_target: bool,
}

/// The live state, as far as it matters.
#[derive(Default)]
pub(super) struct Live {
    inodes: FxHashMap<u64, Inode>,
    entries: FxHashMap<(u64, Text), u64>,
    marks: Marks,
    /// Sync calls that claim to have returned later than they began: op and claim.
    latest_return: Option<(u32, u32)>,
}

impl Live {
    /// Checks an op, and follows it.
    pub(super) fn op(
        &mut self,
        seq: u32,
        kind: &OpIs,
        effects: &[EffectIs<u32>],
        blobs: usize,
        budget: &mut Budget,
    ) -> Result<(), Problem> {
        budget.spend(OP_BYTES + EFFECT_BYTES * effects.len() as u64)?;
        for effect in effects {
            if let EffectIs::Inode { ino, kind, .. } = effect {
                self.birth(seq, *ino, (*kind).into())?;
            }
        }
        if seq == 0 && !self.inodes.get(&ROOT.0).is_some_and(|root| root.kind == Kind::Dir) {
            return Err("op 0 has no root directory (inode 1)".into());
        }
        check_entries(seq, effects)?;
        // Directories that got a name.
        let mut placed = Vec::new();
        for effect in effects {
            self.effect(effect, blobs, budget, &mut placed)?;
        }
        for dir in placed {
            self.is_in_a_tree(dir)?;
        }
        self.kind(seq, kind, effects)
    }

    fn birth(&mut self, seq: u32, ino: u64, kind: Kind) -> Result<(), Problem> {
        if ino == 0 {
            return Err("there is no inode 0".into());
        }
        if Ino(ino) == ROOT && seq != 0 {
            return Err("the root directory is made after op 0".into());
        }
        let inode = Inode {
            kind,
            names: 0,
            parent: None,
            dirs: FxHashSet::default(),
            longest_bytes: 0,
            has_target: false,
        };
        match self.inodes.insert(ino, inode) {
            Some(_) => Err(format!("inode {ino} is made a second time").into()),
            None => Ok(()),
        }
    }

    fn inode(&mut self, ino: u64) -> Result<&mut Inode, Problem> {
        self.inodes.get_mut(&ino).ok_or_else(|| Problem::What(format!("there is no inode {ino}")))
    }

    fn of_kind(&mut self, ino: u64, kind: Kind, what: &str) -> Result<&mut Inode, Problem> {
        let inode = self.inode(ino)?;
        if inode.kind == kind { Ok(inode) } else { Err(format!("inode {ino} is not {what}").into()) }
    }

    fn effect(
        &mut self,
        effect: &EffectIs<u32>,
        blobs: usize,
        budget: &mut Budget,
        placed: &mut Vec<u64>,
    ) -> Result<(), Problem> {
        match effect {
            EffectIs::Inode { .. } => {}
            EffectIs::Target { ino, text } => {
                budget.spend(text.0.len() as u64)?;
                target(&text.0)?;
                let inode = self.of_kind(*ino, Kind::Symlink, "a symlink")?;
                if std::mem::replace(&mut inode.has_target, true) {
                    return Err(format!("symlink {ino} gets a second text").into());
                }
            }
            EffectIs::Entry { dir, name, ino } => {
                budget.spend(2 * name.0.len() as u64)?;
                self.entry(*dir, name, *ino, budget, placed)?;
            }
            EffectIs::Block { ino, n, blob } => {
                self.of_kind(*ino, Kind::File, "a file")?;
                if *n > (MAX_FILE_BYTES - 1) / BLOCK_BYTES {
                    return Err(format!("block {n} is beyond the end of any file").into());
                }
                if *blob as usize >= blobs {
                    return Err(format!("no blob before it has number {blob}").into());
                }
            }
            EffectIs::Size { ino, bytes } => {
                if *bytes > MAX_FILE_BYTES {
                    return Err(format!("no file has {bytes} bytes").into());
                }
                let inode = self.of_kind(*ino, Kind::File, "a file")?;
                let more = bytes.saturating_sub(inode.longest_bytes).div_ceil(BLOCK_BYTES);
                inode.longest_bytes = inode.longest_bytes.max(*bytes);
                budget
                    .spend(more.saturating_mul(BLOCK_REF_BYTES).saturating_mul(inode.names.max(1).into()))?;
            }
            EffectIs::Mode { ino, .. } | EffectIs::Owner { ino, .. } => {
                self.inode(*ino)?;
            }
            EffectIs::Xattr { ino, name, value } => {
                self.inode(*ino)?;
                if name.0.is_empty() || name.0.len() > MAX_NAME_BYTES || name.0.contains(&0) {
                    return Err("the name of an attribute has 1 to 255 bytes, and no NUL byte".into());
                }
                let len = value.as_ref().map_or(0, |value| value.0.len());
                if len > MAX_XATTR_BYTES {
                    return Err(
                        format!("an attribute of {len} bytes; none has more than {MAX_XATTR_BYTES}").into()
                    );
                }
                budget.spend((name.0.len() + len) as u64)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: u64,
        name: &Text,
        child: Option<u64>,
        budget: &mut Budget,
        placed: &mut Vec<u64>,
    ) -> Result<(), Problem> {
        entry_name(&name.0)?;
        self.of_kind(dir, Kind::Dir, "a directory")?;
        let key = (dir, name.clone());
        let before = match child {
            Some(child) => self.entries.insert(key, child),
            None => self.entries.remove(&key),
        };
        if let Some(before) = before {
            let inode = self.inode(before)?;
            inode.names -= 1;
            // A rename gives the new name first: then the name taken away is not the one that counts.
            if inode.kind == Kind::Dir && inode.parent == Some(dir) && inode.names == 0 {
                inode.parent = None;
                self.inode(dir)?.dirs.remove(&before);
            }
        }
        let Some(child) = child else { return Ok(()) };
        if Ino(child) == ROOT {
            return Err("the root directory gets a name".into());
        }
        let inode = self.inode(child)?;
        inode.names += 1;
        budget.spend(inode.longest_bytes.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_REF_BYTES))?;
        if inode.kind == Kind::Dir {
            let before = inode.parent.replace(dir);
            placed.push(child);
            if let Some(before) = before {
                self.inode(before)?.dirs.remove(&child);
            }
            self.inode(dir)?.dirs.insert(child);
        }
        Ok(())
    }

    /// After each op a directory has at most one name, and is not within itself.
    fn is_in_a_tree(&mut self, dir: u64) -> Result<(), Problem> {
        let inode = self.inode(dir)?;
        if inode.names > 1 {
            return Err(format!("directory {dir} has two names").into());
        }
        let mut depth = self.height(dir)?;
        let mut at = dir;
        while let Some(parent) = self.inode(at)?.parent {
            if parent == dir {
                return Err(format!("directory {dir} is within itself").into());
            }
            depth += 1;
            if depth > MAX_DEPTH {
                return Err(format!("more than {MAX_DEPTH} directories are within each other").into());
            }
            at = parent;
        }
        Ok(())
    }

    /// How many directories are below each other in one.
    fn height(&self, dir: u64) -> Result<usize, Problem> {
        let mut height = 0;
        let mut level = vec![dir];
        loop {
            level = level
                .iter()
                .filter_map(|dir| self.inodes.get(dir))
                .flat_map(|dir| &dir.dirs)
                .copied()
                .collect();
            if level.is_empty() {
                return Ok(height);
            }
            height += 1;
            if height > MAX_DEPTH {
                return Err(format!("directory {dir} is within itself, or too deep").into());
            }
        }
    }

    /// What the op is called has to name things that exist.
    fn kind(&mut self, seq: u32, kind: &OpIs, effects: &[EffectIs<u32>]) -> Result<(), Problem> {
        match kind {
            OpIs::Initial => {
                if seq != 0 {
                    return Err("only op 0 is the initial disk".into());
                }
            }
            _ if seq == 0 => return Err("op 0 is not the initial disk".into()),
            OpIs::Mkdir { dir, name }
            | OpIs::Create { dir, name }
            | OpIs::Symlink { dir, name }
            | OpIs::Unlink { dir, name }
            | OpIs::Rmdir { dir, name } => self.names(&[*dir], &[name])?,
            OpIs::Link { ino, dir, name } => self.names(&[*ino, *dir], &[name])?,
            OpIs::Rename { from_dir, from, to_dir, to, .. } => {
                self.names(&[*from_dir, *to_dir], &[from, to])?;
            }
            OpIs::Write { ino, .. }
            | OpIs::Truncate { ino, .. }
            | OpIs::Fallocate { ino, .. }
            | OpIs::Chmod { ino }
            | OpIs::Chown { ino }
            | OpIs::Xattr { ino, .. } => self.names(&[*ino], &[])?,
            OpIs::CopyRange { from, to, .. } => self.names(&[*from, *to], &[])?,
            OpIs::Sync { scope, returned, .. } => {
                match scope {
                    ScopeIs::File { ino } | ScopeIs::FileData { ino } | ScopeIs::Dir { ino } => {
                        self.names(&[*ino], &[])?;
                    }
                    ScopeIs::All => {}
                }
                if !effects.is_empty() {
                    return Err("a sync call has effects".into());
                }
                if *returned < seq {
                    return Err(format!("a sync call returned after op {returned}, before it began").into());
                }
                if self.latest_return.is_none_or(|(_, latest)| *returned > latest) {
                    self.latest_return = Some((seq, *returned));
                }
            }
        }
        Ok(())
    }

    fn names(&mut self, inodes: &[u64], names: &[&Text]) -> Result<(), Problem> {
        for ino in inodes {
            self.inode(*ino)?;
        }
        names.iter().try_for_each(|name| entry_name(&name.0))
    }

    /// Checks a mark of a history in which so many deploys have sources.
    pub(super) fn mark(&mut self, kind: &MarkIs, sources: usize) -> Result<(), Problem> {
        self.marks.mark(kind, sources)
    }

    /// Checks what only the end can tell.
    pub(super) fn end(&self, last: u32) -> Result<(), Problem> {
        match self.latest_return {
            Some((seq, returned)) if returned > last => {
                let what =
                    format!("the sync call of op {seq} returned after op {returned}; the last op is {last}");
                Err(what.into())
            }
            _ => Ok(()),
        }
    }
}

/// Which deploys are running.
#[derive(Default)]
struct Marks {
    newest: u32,
    running: FxHashSet<u32>,
}

impl Marks {
    fn mark(&mut self, kind: &MarkIs, sources: usize) -> Result<(), Problem> {
        match kind {
            MarkIs::Begin { deploy } => {
                if *deploy <= self.newest {
                    return Err(format!("deploy {deploy} begins after deploy {}", self.newest).into());
                }
                if *deploy as usize > sources {
                    return Err(format!("deploy {deploy} has no source").into());
                }
                self.newest = *deploy;
                self.running.insert(*deploy);
                Ok(())
            }
            MarkIs::Ack { deploy } if self.running.contains(deploy) => Ok(()),
            MarkIs::End { deploy, .. } if self.running.remove(deploy) => Ok(()),
            MarkIs::Ack { deploy } | MarkIs::End { deploy, .. } => {
                Err(format!("deploy {deploy} is not running").into())
            }
            MarkIs::Blind { what } => super::load::plain("what was not seen", what),
        }
    }
}
