//! From live state to cells and back: the initial disk of a trace, and the reboot into a crash state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use rustc_hash::{FxHashMap, FxHashSet};

use super::content::Content;
use super::node::{Body, Directory, Inode};
use super::{Fs, Limits};
use crate::cell::{BLOCK_BYTES, Birth, Cell, Ino, Kind, Name, ROOT, Value};
use crate::store::BlockStore;
use crate::trace::Trace;

/// Newest versions, sorted by what they belong to.
#[derive(Default)]
struct Parts {
    inodes: BTreeMap<Ino, Birth>,
    values: FxHashMap<Ino, Vec<(Cell, Value)>>,
    /// Entries in order of age, oldest first; `None` where a later version took the place.
    entries: Vec<Option<(Ino, Name, Ino)>>,
}

impl Fs {
    /// Access and modification time of each inode, as they are served. They are no cells, so whoever reboots a disk and
    /// cares for them notes them down, and gives them back with [`Fs::set_times`].
    pub fn times(&self) -> impl Iterator<Item = (Ino, SystemTime, SystemTime)> + '_ {
        self.inodes.iter().map(|(ino, node)| (*ino, node.times.accessed, node.times.modified))
    }

    /// The live state as cells: one version each, in order of inodes, only where it differs from the cell's default.
    pub fn cells(&self) -> Vec<(Cell, Value)> {
        let mut inos: Vec<Ino> = self.inodes.keys().copied().collect();
        inos.sort_unstable();
        let mut cells = Vec::new();
        for ino in inos {
            let Ok(node) = self.node(ino) else { continue };
            cells.push((Cell::Inode(ino), Value::Inode(node.birth)));
            match &node.body {
                Body::File(content) => {
                    cells.extend(
                        content
                            .blocks()
                            .filter(|(_, bytes)| !bytes.is_empty())
                            .map(|(n, bytes)| (Cell::Block(ino, n), Value::Block(bytes.clone()))),
                    );
                    if content.size() > 0 {
                        cells.push((Cell::Size(ino), Value::Size(content.size())));
                    }
                }
                Body::Dir(dir) => cells.extend(
                    dir.entries
                        .iter()
                        .map(|(name, at)| (Cell::Entry(ino, name.clone()), Value::Entry(Some(*at)))),
                ),
                Body::Symlink(target) if !target.is_empty() => {
                    cells.push((Cell::Target(ino), Value::Target(target.clone())));
                }
                Body::Symlink(_) | Body::Special => {}
            }
            if node.mode != node.birth.mode {
                cells.push((Cell::Mode(ino), Value::Mode(node.mode)));
            }
            if (node.uid, node.gid) != (node.birth.uid, node.birth.gid) {
                cells.push((Cell::Owner(ino), Value::Owner(node.uid, node.gid)));
            }
            cells.extend(
                node.xattrs
                    .iter()
                    .map(|(name, value)| (Cell::Xattr(ino, name.clone()), Value::Xattr(Some(value.clone())))),
            );
        }
        cells
    }

    /// A disk in the state that the cells describe, recording, with that state as op 0 of a fresh trace. Inode numbers
    /// stay; new ones are above all.
    ///
    /// Later items are newer: of two versions of one cell the last counts. Whatever a crash can leave is repaired as
    /// mounting or fsck would: entries of inodes that do not exist are absent; what no name reaches is gone; blocks
    /// beyond the length are gone; missing blocks are zeros; links without a target stay, empty. A directory keeps one
    /// name: the newest, unless only an older one is reachable from the root. Times are those of the call.
    pub fn from_cells(cells: impl IntoIterator<Item = (Cell, Value)>) -> Self {
        let mut parts = Parts::gather(cells);
        let last_ino = parts.inodes.last_key_value().map_or(ROOT, |(ino, _)| *ino);
        parts.settle_directories();
        let mut fs = Self {
            inodes: FxHashMap::default(),
            next_ino: last_ino.0 + 1,
            used_blocks: 0,
            used_inodes: 0,
            limits: Limits::default(),
            store: BlockStore::default(),
            names: None,
            trace: Trace::new(),
            recording: false,
        };
        for (ino, birth) in &parts.inodes {
            let node = restored(*birth, parts.values.remove(ino).unwrap_or_default(), &fs.store);
            fs.inodes.insert(*ino, node);
        }
        for (dir, name, ino) in parts.entries.into_iter().flatten() {
            let is_dir = parts.inodes[&ino].kind == Kind::Dir;
            if let Ok(node) = fs.node_mut(dir) {
                node.nlink += u32::from(is_dir);
                if let Ok(dir) = node.dir_mut() {
                    dir.entries.insert(name, ino);
                }
            }
            if let Ok(node) = fs.node_mut(ino) {
                match &mut node.body {
                    Body::Dir(body) => body.parent = dir,
                    _ => node.nlink += 1,
                }
            }
        }
        fs.used_inodes = fs.inodes.len() as u64;
        fs.used_blocks = fs.inodes.values().map(Inode::block_count).sum();
        fs.start_recording();
        fs
    }
}

impl Parts {
    fn gather(cells: impl IntoIterator<Item = (Cell, Value)>) -> Self {
        let mut parts = Self::default();
        let root = Birth { kind: Kind::Dir, mode: 0o755, uid: 0, gid: 0 };
        parts.inodes.insert(ROOT, root);
        let mut latest: FxHashMap<(Ino, Name), usize> = FxHashMap::default();
        for (cell, value) in cells {
            match (cell, value) {
                (Cell::Inode(ROOT), Value::Inode(birth)) => {
                    parts.inodes.insert(ROOT, Birth { kind: Kind::Dir, ..birth });
                }
                (Cell::Inode(ino), Value::Inode(birth)) => {
                    parts.inodes.insert(ino, birth);
                }
                (Cell::Entry(dir, name), Value::Entry(ino)) => {
                    let at = parts.entries.len();
                    if let Some(older) = latest.insert((dir, name.clone()), at) {
                        parts.entries[older] = None;
                    }
                    parts.entries.push(ino.map(|ino| (dir, name, ino)));
                }
                (cell, value) => parts.values.entry(cell.ino()).or_default().push((cell, value)),
            }
        }
        parts
    }

    /// Drops entries until what is left is a tree of directories from the root, and inodes that it does not reach.
    fn settle_directories(&mut self) {
        let inodes = &self.inodes;
        let is_dir = |ino: &Ino| inodes.get(ino).is_some_and(|birth| birth.kind == Kind::Dir);
        for slot in &mut self.entries {
            slot.take_if(|(dir, _, ino)| !is_dir(dir) || !inodes.contains_key(ino) || *ino == ROOT);
        }
        let mut names_of: BTreeMap<Ino, Vec<usize>> = BTreeMap::new();
        let mut children: FxHashMap<Ino, Vec<Ino>> = FxHashMap::default();
        for (at, (dir, _, ino)) in
            self.entries.iter().enumerate().filter_map(|(at, slot)| Some((at, slot.as_ref()?)))
        {
            if is_dir(ino) {
                names_of.entry(*ino).or_default().push(at);
                children.entry(*dir).or_default().push(*ino);
            }
        }
        let parent_at = |at: usize| self.entries[at].as_ref().map(|(dir, _, _)| *dir);
        let mut kept: BTreeMap<Ino, usize> =
            names_of.iter().filter_map(|(ino, names)| Some((*ino, *names.last()?))).collect();
        let mut reached = FxHashSet::from_iter([ROOT]);
        let mut todo = vec![ROOT];
        loop {
            while let Some(dir) = todo.pop() {
                for child in children.get(&dir).into_iter().flatten() {
                    if kept.get(child).and_then(|at| parent_at(*at)) == Some(dir) && reached.insert(*child) {
                        todo.push(*child);
                    }
                }
            }
            // Directories whose newest name is lost, or within themselves, fall back on the newest reachable one.
            let stranded = names_of.iter().filter(|(ino, names)| !reached.contains(*ino) && names.len() > 1);
            let rescue = stranded.filter_map(|(ino, names)| {
                let at = names
                    .iter()
                    .rev()
                    .find(|at| parent_at(**at).is_some_and(|dir| reached.contains(&dir)))?;
                Some((*ino, *at))
            });
            let Some((ino, at)) = rescue.max_by_key(|(_, at)| *at) else { break };
            kept.insert(ino, at);
            reached.insert(ino);
            todo.push(ino);
        }
        let kept: BTreeSet<usize> = kept.into_values().collect();
        for (at, slot) in self.entries.iter_mut().enumerate() {
            slot.take_if(|(dir, _, ino)| !reached.contains(dir) || (is_dir(ino) && !kept.contains(&at)));
        }
        let named: FxHashSet<Ino> = self.entries.iter().flatten().map(|(_, _, ino)| *ino).collect();
        self.inodes.retain(|ino, _| *ino == ROOT || named.contains(ino));
    }
}

/// An inode without names yet (a directory counts its own two).
fn restored(birth: Birth, values: Vec<(Cell, Value)>, store: &BlockStore) -> Inode {
    let mut size = 0;
    let mut blocks = BTreeMap::new();
    let mut target = None;
    let mut node = Inode::new(birth, Body::Special);
    for (cell, value) in values {
        match (cell, value) {
            (Cell::Target(_), Value::Target(text)) => target = Some(text),
            (Cell::Block(_, n), Value::Block(bytes)) if n < super::MAX_FILE_BYTES / BLOCK_BYTES => {
                blocks.insert(n, bytes);
            }
            (Cell::Size(_), Value::Size(bytes)) => size = bytes,
            (Cell::Mode(_), Value::Mode(mode)) => node.mode = mode,
            (Cell::Owner(_), Value::Owner(uid, gid)) => (node.uid, node.gid) = (uid, gid),
            (Cell::Xattr(_, name), Value::Xattr(Some(value))) => {
                node.xattrs.insert(name, value);
            }
            (Cell::Xattr(_, name), Value::Xattr(None)) => {
                node.xattrs.remove(&name);
            }
            _ => {}
        }
    }
    node.body = match birth.kind {
        Kind::File => Body::File(Content::restored(size, blocks, store)),
        Kind::Dir => Body::Dir(Directory::new(ROOT)),
        Kind::Symlink => Body::Symlink(target.unwrap_or_default()),
        Kind::Fifo | Kind::Socket => Body::Special,
    };
    if birth.kind != Kind::Dir {
        node.nlink = 0;
    }
    node
}
