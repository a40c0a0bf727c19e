//! The oracle: judges one disk as a plain tree, by dumb comparison.
//!
//! It shares no code with the decision procedure: no pins, no windows, no cells. It sees a disk as paths that lead to
//! nodes, resolves `current` in it by text, and compares maps. Every counterexample is judged again here before
//! it is reported, and in tests every enumerated crash state of small traces is.
//!
//! It never writes out a whole disk: after a power loss a directory can have several names, and then a disk can have
//! exponentially many paths. What is written out is bounded by the tree that it is compared with.

use simfs::{Ino, Kind, Name, ROOT, Seq, View};

use super::golden::{Body, Golden, join};
use super::history::History;
use super::protect::Protected;
use super::{Promise, Scenario};
use crate::tree::{self, Node, Tree};

/// One disk.
pub(crate) struct Disk<'v> {
    view: View<'v>,
}

impl<'v> Disk<'v> {
    pub(crate) fn new(view: View<'v>) -> Self {
        Self { view }
    }

    /// A node alone, without what is below.
    pub(crate) fn node(&self, ino: Ino) -> Option<Node> {
        if self.view.birth(ino)?.kind == Kind::Dir {
            return Some(Node::Dir { mode: self.view.mode(ino) });
        }
        match Golden::capture(self.view, ino)?.body {
            Body::File { mode, content } => Some(Node::File { mode, content }),
            Body::Symlink { target } => Some(Node::Symlink { target }),
            Body::Other { kind, mode } => Some(Node::Other { kind, mode }),
            Body::Dir { .. } => None,
        }
    }

    /// What is at a path on the disk, with no link followed.
    fn at(&self, path: &[Vec<u8>]) -> Option<Ino> {
        path.iter().try_fold(ROOT, |dir, name| self.view.entry(dir, &Name::from(&name[..])))
    }

    /// What is below a directory, as far as it is to be compared with `should`: of a directory that is none there,
    /// only that it is here.
    fn tree_like(&self, root: Ino, should: &Tree) -> Tree {
        let mut tree = Tree::new();
        self.add(root, Vec::new(), &|path| matches!(should.get(path), Some(Node::Dir { .. })), &mut tree);
        tree
    }

    fn add(&self, ino: Ino, path: Vec<u8>, is_opened: &dyn Fn(&[u8]) -> bool, tree: &mut Tree) {
        let Some(node) = self.node(ino) else { return };
        if matches!(node, Node::Dir { .. }) && is_opened(&path) {
            for (name, child) in self.view.entries(ino) {
                self.add(child, join(&path, name), is_opened, tree);
            }
        }
        tree.insert(path, node);
    }

    /// Everything below a path, as far as it has only one name: on a live disk.
    #[cfg(test)]
    pub(crate) fn tree(&self, root: &[u8]) -> Tree {
        let mut tree = Tree::new();
        if let Some(ino) = self.at(&split(root)) {
            self.add(ino, Vec::new(), &|_| true, &mut tree);
        }
        tree
    }

    /// The directory that a path leads to, with its own path on the disk.
    #[cfg(test)]
    pub(crate) fn directory_at(&self, mount: &[Name], path: &[Name]) -> Option<(Ino, Vec<u8>)> {
        let mount = text(mount);
        match self.resolve(&mount, &text(path)) {
            Resolved::Dir(ino, here) => Some((ino, here)),
            _ => None,
        }
    }

    /// Where `current` leads, in words.
    pub(crate) fn current_in_words(&self, scenario: &Scenario) -> String {
        match self.resolve(&text(&scenario.mount), &text(&scenario.current_path())) {
            Resolved::Dir(_, path) => {
                let mount = text(&scenario.mount);
                format!("`current` resolves to /{}", tree::show(&join(&mount, &path)))
            }
            Resolved::Nothing => "`current` resolves to nothing".to_owned(),
            Resolved::Else => "`current` resolves to something that is no directory of the disk".to_owned(),
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
            let Some(inside) = here.strip_prefix(&disk[..]) else { continue };
            match self.at(inside).and_then(|ino| self.node(ino)) {
                None => return Resolved::Nothing,
                Some(Node::Dir { .. }) => {}
                Some(Node::Symlink { target }) if target.is_empty() => return Resolved::Nothing,
                Some(Node::Symlink { target }) => {
                    links += 1;
                    if links > 40 {
                        return Resolved::Else;
                    }
                    here.pop();
                    if target.starts_with(b"/") {
                        here.clear();
                    }
                    todo.extend(split(&target).into_iter().rev());
                }
                Some(_) => return Resolved::Else,
            }
        }
        let Some(inside) = here.strip_prefix(&disk[..]) else { return Resolved::Else };
        match self.at(inside).map(|ino| (ino, self.node(ino))) {
            Some((ino, Some(Node::Dir { .. }))) => Resolved::Dir(ino, inside.join(&b'/')),
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
pub(crate) fn holds(
    promise: Promise,
    disk: &Disk<'_>,
    scenario: &Scenario,
    facts: &Facts,
    duty: &Duty,
) -> bool {
    let is_like = |root: Ino, should: &Tree, extra_allowed: bool| {
        tree::difference(&disk.tree_like(root, should), should, extra_allowed).is_none()
    };
    let current = || disk.resolve(&text(&scenario.mount), &text(&scenario.current_path()));
    let complete_among = |allowed: &[usize]| match current() {
        Resolved::Dir(ino, _) => allowed.iter().any(|release| {
            let known = &facts.releases[*release];
            known.ino == ino && is_like(ino, &known.tree, false)
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
                Resolved::Dir(ino, _) => is_like(ino, &known.tree, false),
                _ => false,
            }
        }),
        Promise::SharedIntact => facts.shared.as_ref().is_none_or(|should| {
            match disk.resolve(&text(&scenario.mount), &text(&scenario.shared_path())) {
                Resolved::Dir(ino, _) => is_like(ino, should, true),
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

#[cfg(test)]
mod tests {
    use simfs::fs::{Caller, Fs, RenameHow};

    use super::*;

    #[test]
    fn directories_with_two_names_each_do_not_double_the_work() {
        let mut fs = Fs::new(0, 0, 0o755);
        fs.start_recording();
        let (who, mut dir) = (Caller { uid: 0, gid: 0 }, ROOT);
        for _ in 0..64 {
            let below = fs.mkdir(dir, b"a", 0o755, who).unwrap();
            fs.rename(dir, b"a", dir, b"b", RenameHow::Replace).unwrap();
            dir = below;
        }
        // Of each rename, only the new name came through.
        let trace = fs.trace();
        let survived: Vec<bool> =
            trace.effects().iter().map(|e| !matches!(e.value, simfs::Value::Entry(None))).collect();
        let disk = Disk::new(View::survivors(trace, &survived));
        let path = |name: &str| vec![Name::from(name.as_bytes()); 64];
        assert_eq!(disk.directory_at(&[], &path("a")).unwrap().0, dir);
        assert_eq!(disk.directory_at(&[], &path("b")).unwrap().0, dir);

        let empty = Tree::from([(Vec::new(), Node::Dir { mode: 0o755 })]);
        let one =
            Tree::from([(Vec::new(), Node::Dir { mode: 0o755 }), (b"a".to_vec(), Node::Dir { mode: 0o755 })]);
        assert_eq!(disk.tree_like(dir, &empty), empty);
        assert_eq!(disk.tree_like(ROOT, &one).len(), 2 + 1 + 2, "what is compared, and the names beside it");
    }
}
