//! The oracle: judges one disk, written out as a plain tree, by dumb comparison.
//!
//! It shares no code with the decision procedure: no pins, no windows, no cells. It sees a disk as a map from paths
//! to nodes, resolves `current` in it by text, and compares maps. Every counterexample is judged again here before
//! it is reported, and in tests every enumerated crash state of small traces is.

use std::collections::BTreeMap;

use simfs::{Ino, Kind, Name, ROOT, Seq, View};

use super::golden::{Body, Golden, join};
use super::history::History;
use super::protect::Protected;
use super::{Promise, Scenario};
use crate::tree::{self, Node, Tree};

/// A whole disk by value; directories also say which inode they are, since a release is known by its directory.
pub(crate) struct Disk {
    nodes: BTreeMap<Vec<u8>, (Ino, Node)>,
}

impl Disk {
    /// Writes out a state. A directory that can be reached twice is copied; a cycle ends where it closes.
    pub(crate) fn write_out(view: View<'_>) -> Self {
        let mut disk = Self { nodes: BTreeMap::new() };
        disk.add(view, ROOT, Vec::new(), &mut Vec::new());
        disk
    }

    fn add(&mut self, view: View<'_>, ino: Ino, path: Vec<u8>, above: &mut Vec<Ino>) {
        let Some(birth) = view.birth(ino) else { return };
        // A node alone, without what is below.
        if birth.kind == Kind::Dir {
            let node = Node::Dir { mode: view.mode(ino) };
            if !above.contains(&ino) {
                above.push(ino);
                for (name, child) in view.entries(ino) {
                    self.add(view, child, join(&path, name), above);
                }
                above.pop();
            }
            self.nodes.insert(path, (ino, node));
            return;
        }
        let node = match Golden::capture(view, ino).map(|golden| golden.body) {
            Some(Body::File { mode, content }) => Node::File { mode, content },
            Some(Body::Symlink { target }) => Node::Symlink { target },
            Some(Body::Other { kind, mode }) => Node::Other { kind, mode },
            _ => return,
        };
        self.nodes.insert(path, (ino, node));
    }

    pub(crate) fn tree(&self, root: &[u8]) -> Tree {
        let below = |path: &[u8]| {
            if root.is_empty() {
                return Some(path.to_vec());
            }
            let rest = path.strip_prefix(root)?;
            if rest.is_empty() { Some(Vec::new()) } else { rest.strip_prefix(b"/").map(<[u8]>::to_vec) }
        };
        self.nodes.iter().filter_map(|(path, (_, node))| Some((below(path)?, node.clone()))).collect()
    }

    /// The directory that a path leads to, with its own path on the disk.
    #[cfg(test)]
    pub(crate) fn directory_at(&self, mount: &[Name], path: &[Name]) -> Option<(Ino, Vec<u8>)> {
        match self.resolve(&text(mount), &text(path)) {
            Resolved::Dir(ino, path) => Some((ino, path)),
            _ => None,
        }
    }

    /// Follows a path by text: the directory it ends at, nothing, or something else.
    fn resolve(&self, mount: &[u8], path: &[u8]) -> Resolved {
        let mut todo: Vec<Vec<u8>> = split(path);
        todo.reverse();
        // The path from the machine's root, so that leaving the disk and coming back is plain text.
        let disk = split(mount);
        let mut here: Vec<Vec<u8>> = disk.clone();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                here.pop();
                continue;
            }
            here.push(name);
            let Some(inside) = here.strip_prefix(&disk[..]).map(|names| names.join(&b'/')) else { continue };
            match self.nodes.get(&inside) {
                None => return Resolved::Nothing,
                Some((_, Node::Dir { .. })) => {}
                Some((_, Node::Symlink { target })) if target.is_empty() => return Resolved::Nothing,
                Some((_, Node::Symlink { target })) => {
                    links += 1;
                    if links > 40 {
                        return Resolved::Else;
                    }
                    here.pop();
                    if target.starts_with(b"/") {
                        here.clear();
                    }
                    todo.extend(split(target).into_iter().rev());
                }
                Some(_) => return Resolved::Else,
            }
        }
        let Some(inside) = here.strip_prefix(&disk[..]).map(|names| names.join(&b'/')) else {
            return Resolved::Else;
        };
        match self.nodes.get(&inside) {
            Some((ino, Node::Dir { .. })) => Resolved::Dir(*ino, inside),
            _ => Resolved::Else,
        }
    }
}

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
enum Resolved {
    Dir(Ino, Vec<u8>),
    Nothing,
    Else,
}

fn split(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|b| *b == b'/').filter(|name| !name.is_empty() && *name != b".").map(<[u8]>::to_vec).collect()
}

fn text(names: &[Name]) -> Vec<u8> {
    names.join(&b'/')
}

/// A release as a plain tree.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) ino: Ino,
    pub(crate) path: Vec<u8>,
    pub(crate) tree: Tree,
}

/// What has to hold at one crash point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Duty {
    /// Releases that were permitted at some instant up to now.
    pub(crate) ever: Vec<usize>,
    /// `current` may resolve to nothing.
    pub(crate) nothing_allowed: bool,
    /// For each instant at this crash point that follows an acknowledgement: the releases permitted then.
    pub(crate) now: Vec<Vec<usize>>,
    /// Releases that have to be complete where they were.
    pub(crate) protected: Vec<usize>,
}

/// What the oracle compares with.
pub(crate) struct Facts {
    pub(crate) releases: Vec<Known>,
    pub(crate) shared: Option<Tree>,
}

impl Facts {
    pub(crate) fn new(history: &History, shared: Option<&Golden>) -> Self {
        let known = |release: &super::history::Release| Known {
            ino: release.golden.ino,
            path: text(&release.path),
            tree: release.golden.to_tree(),
        };
        Self { releases: history.releases.iter().map(known).collect(), shared: shared.map(Golden::to_tree) }
    }
}

impl Duty {
    pub(crate) fn at(history: &History, protected: &[Protected], k: Seq) -> Self {
        let here = |window: simfs::Window| window.lo <= k && k <= window.hi;
        let segments = || history.segments.iter().filter(|s| here(s.window) && s.acked);
        Self {
            ever: (0..history.releases.len())
                .filter(|release| history.permitted_from(*release).is_some_and(|from| from <= k))
                .collect(),
            nothing_allowed: history.first_ack().is_none_or(|ack| k < ack),
            now: segments().map(|segment| segment.permitted.clone()).collect(),
            protected: protected.iter().filter(|p| here(p.window)).map(|p| p.release).collect(),
        }
    }
}

/// Whether a promise holds on a crashed disk.
pub(crate) fn holds(promise: Promise, disk: &Disk, scenario: &Scenario, facts: &Facts, duty: &Duty) -> bool {
    let current = || disk.resolve(&text(&scenario.mount), &text(&scenario.current_path()));
    let complete_among = |allowed: &[usize]| match current() {
        Resolved::Dir(ino, path) => allowed.iter().any(|release| {
            let known = &facts.releases[*release];
            known.ino == ino && tree::difference(&disk.tree(&path), &known.tree, false).is_none()
        }),
        _ => false,
    };
    match promise {
        Promise::CurrentComplete => {
            complete_among(&duty.ever) || (duty.nothing_allowed && current() == Resolved::Nothing)
        }
        Promise::DurableAck => duty.now.iter().all(|allowed| complete_among(allowed)),
        Promise::PreviousIntact => duty.protected.iter().all(|release| {
            let known = &facts.releases[*release];
            match disk.resolve(&text(&scenario.mount), &known.path) {
                Resolved::Dir(_, path) => tree::difference(&disk.tree(&path), &known.tree, false).is_none(),
                _ => false,
            }
        }),
        Promise::SharedIntact => facts.shared.as_ref().is_none_or(|should| {
            match disk.resolve(&text(&scenario.mount), &text(&scenario.shared_path())) {
                Resolved::Dir(_, path) => tree::difference(&disk.tree(&path), should, true).is_none(),
                _ => false,
            }
        }),
        Promise::NeverAbsent
        | Promise::ImmutableAfterCutover
        | Promise::ReadersWhole
        | Promise::Retention
        | Promise::Recoverable
        | Promise::FailedIsFailed => true,
    }
}
