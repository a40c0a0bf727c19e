//! What a release should hold: the source, the shared links, and what the subject declared that it adds.
//!
//! The judge's own naive reading of the rules. It never asks a tool, and never looks at what a tool says about itself.

use std::borrow::Cow;
use std::collections::BTreeSet;

use globset::{Glob, GlobSet};
use simfs::{Name, Seq, Trace, View};

use super::golden::{Body, Golden, is_too_deep, join};
use super::walk::{End, names, walk_live};
use super::{Scenario, SharedRule};
use crate::tree::{Difference, Node, Tree};

/// Declarations about what a subject's releases look like, beyond the source.
#[derive(Clone, Debug)]
pub struct Expect {
    /// How `shared/` appears in a release.
    pub shared: SharedRule,
    /// Paths that the tool adds, changes or leaves out on its own account.
    pub adds: Adds,
    /// The permission bits that are compared with the source's.
    pub mode_mask: u32,
}

/// Globs, which can say what they are.
#[derive(Clone, Debug, Default)]
pub struct Adds {
    globs: Vec<Glob>,
    set: GlobSet,
}

impl Adds {
    /// No path.
    pub fn none() -> Self {
        Self::default()
    }

    /// Each path that one of the globs matches. Fails when they are too large together.
    pub fn new(globs: Vec<Glob>) -> Result<Self, globset::Error> {
        let set = GlobSet::new(&globs)?;
        Ok(Self { globs, set })
    }

    /// Whether a path of a release is one of them.
    pub fn is_match(&self, path: &[u8]) -> bool {
        !self.set.is_empty() && self.set.is_match(&*String::from_utf8_lossy(path))
    }

    /// The globs, as they were written.
    pub fn globs(&self) -> impl Iterator<Item = &str> {
        self.globs.iter().map(Glob::glob)
    }
}

/// A release as it should be.
pub(crate) struct Expected<'a> {
    /// The source without what shared links replace.
    tree: Cow<'a, Tree>,
    /// Where a link into `shared/` should be, at the same path.
    links: Vec<Vec<u8>>,
}

impl<'a> Expected<'a> {
    /// What a deploy of `source` should put live. `shared` gives the names in the directory that a path below
    /// `shared/` leads to when the deploy begins, and nothing where it leads to no directory.
    pub(crate) fn new(
        source: &'a Tree,
        rule: &SharedRule,
        shared: &dyn Fn(&[u8]) -> Option<Vec<Name>>,
    ) -> Self {
        let mut expected = Self { tree: Cow::Borrowed(source), links: Vec::new() };
        match rule {
            SharedRule::None => {}
            SharedRule::DropDown => expected.drop_down(b"", source, shared),
            SharedRule::Exact(paths) => {
                for path in paths {
                    expected.replace_by_link(path);
                }
            }
        }
        expected
    }

    /// For each name in a shared directory: not in the application, link it; a directory on both sides, look into it;
    /// anything else in the application wins. A link to a directory is looked into like a directory: what lies there is
    /// the user's data. It ends because the application's tree does.
    fn drop_down(&mut self, dir: &[u8], source: &Tree, shared: &dyn Fn(&[u8]) -> Option<Vec<Name>>) {
        for name in shared(dir).unwrap_or_default() {
            let path = join(dir, &name);
            match source.get(&path) {
                None => self.links.push(path),
                Some(Node::Dir { .. }) => self.drop_down(&path, source, shared),
                Some(_) => {}
            }
        }
    }

    fn replace_by_link(&mut self, path: &[u8]) {
        let below = join(path, b"");
        let tree = self.tree.to_mut();
        tree.retain(|p, _| p != path && !p.starts_with(&below));
        for (at, byte) in path.iter().enumerate() {
            if *byte == b'/' {
                tree.entry(path[..at].to_vec()).or_insert(Node::Dir { mode: 0o755 });
            }
        }
        self.links.push(path.to_vec());
    }
}

/// The first way in which a release that went live at op `k` is not what its deploy should have put there.
pub(crate) fn complaint(
    trace: &Trace,
    k: Seq,
    scenario: &Scenario,
    golden: &Golden,
    release: &[Name],
    expected: &Expected<'_>,
) -> Option<Difference> {
    let expect = &scenario.expect;
    let added = |path: &[u8]| expect.adds.is_match(path);
    let mut found = 0;
    for (path, should) in expected.tree.iter() {
        let node = golden.find(path);
        found += usize::from(node.is_some());
        // The release directory itself is made by the tool, with a mode of its own.
        if path.is_empty() || added(path) || is_too_deep(path) {
            continue;
        }
        let what = match node {
            None => Some("is missing".to_owned()),
            Some(node) => node.body.difference(should, expect.mode_mask),
        };
        if let Some(what) = what {
            return Some(Difference { path: path.clone(), what });
        }
    }
    if let Some(wrong) = link_complaint(trace, k, scenario, golden, release, expected) {
        return Some(wrong);
    }
    let links: BTreeSet<&[u8]> = expected.links.iter().map(|path| &path[..]).collect();
    found += links
        .iter()
        .filter(|path| golden.find(path).is_some() && !expected.tree.contains_key(**path))
        .count();
    if found == golden.count() {
        // All that is there should be.
        return None;
    }
    let is = golden.to_tree();
    let extra = is
        .keys()
        .find(|path| !expected.tree.contains_key(*path) && !links.contains(&path[..]) && !added(path))?;
    Some(Difference { path: extra.clone(), what: "should not be there".to_owned() })
}

/// The first shared link of a release that does not lead at op `k` to the same path below `shared/`.
pub(crate) fn link_complaint(
    trace: &Trace,
    k: Seq,
    scenario: &Scenario,
    golden: &Golden,
    release: &[Name],
    expected: &Expected<'_>,
) -> Option<Difference> {
    let expect = &scenario.expect;
    let added = |path: &[u8]| expect.adds.is_match(path);
    let wrong = expected.links.iter().find(|path| {
        !leads_to_shared(trace, k, scenario, golden, release, path) && !added(path) && !is_too_deep(path)
    })?;
    let what = "is not a link to the same path below shared/".to_owned();
    Some(Difference { path: wrong.clone(), what })
}

fn leads_to_shared(
    trace: &Trace,
    k: Seq,
    scenario: &Scenario,
    golden: &Golden,
    release: &[Name],
    path: &[u8],
) -> bool {
    let Some(Body::Symlink { target }) = golden.find(path).map(|node| &node.body) else { return false };
    let shared: Vec<Name> = scenario.shared_path().into_iter().chain(names(path)).collect();
    let link: Vec<Name> = release.iter().cloned().chain(names(path)).collect();
    let lexical = if target.starts_with(b"/") {
        names(target).strip_prefix(&scenario.mount[..]).map(normal)
    } else {
        let dir = link[..link.len().saturating_sub(1)].to_vec();
        Some(normal(&dir.into_iter().chain(names(target)).collect::<Vec<_>>()))
    };
    if lexical.as_ref() == Some(&shared) {
        return true;
    }
    let ends = |path: &[Name]| match walk_live(trace, k, &scenario.mount, path).0 {
        End::Dir { ino, .. } | End::File { ino } => Some(ino),
        _ => None,
    };
    ends(&link).is_some() && ends(&link) == ends(&shared)
}

/// A path with its `..` taken out, as text.
fn normal(path: &[Name]) -> Vec<Name> {
    let mut out: Vec<Name> = Vec::new();
    for name in path {
        if &name[..] == b".." {
            out.pop();
        } else {
            out.push(name.clone());
        }
    }
    out
}

/// The tree below `shared/` in a live state, if there is one.
pub(crate) fn shared_at(trace: &Trace, k: Seq, scenario: &Scenario) -> Option<Golden> {
    match walk_live(trace, k, &scenario.mount, &scenario.shared_path()).0 {
        End::Dir { ino, .. } => Golden::capture(View::live(trace, k), ino),
        _ => None,
    }
}

/// The names in the directory that a path below `shared/` leads to in a live state. A link that leaves the disk leads
/// to nothing that could be seen.
pub(crate) fn shared_names(trace: &Trace, k: Seq, scenario: &Scenario, path: &[u8]) -> Option<Vec<Name>> {
    let path: Vec<Name> = scenario.shared_path().into_iter().chain(names(path)).collect();
    match walk_live(trace, k, &scenario.mount, &path).0 {
        End::Dir { ino, .. } => {
            Some(View::live(trace, k).entries(ino).map(|(name, _)| name.clone()).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[(&str, char)]) -> Tree {
        let node = |kind| match kind {
            'd' => Node::Dir { mode: 0o755 },
            'l' => Node::Symlink { target: b"x".to_vec() },
            _ => Node::File { mode: 0o644, content: crate::tree::Content::default() },
        };
        let root = (Vec::new(), Node::Dir { mode: 0o755 });
        let below = paths.iter().map(|(path, kind)| (path.as_bytes().to_vec(), node(*kind)));
        std::iter::once(root).chain(below).collect()
    }

    fn links(source: &[(&str, char)], shared: &[(&str, char)], rule: &SharedRule) -> Vec<String> {
        let shared = tree(shared);
        let names = |dir: &[u8]| match shared.get(dir) {
            Some(Node::Dir { .. }) => {
                let below = |path: &Vec<u8>| {
                    let name = path.rsplit(|b| *b == b'/').next().filter(|name| !name.is_empty())?;
                    (join(dir, name) == *path).then(|| Name::from(name))
                };
                Some(shared.keys().filter_map(below).collect())
            }
            _ => None,
        };
        let source = tree(source);
        let expected = Expected::new(&source, rule, &names);
        expected.links.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    }

    #[test]
    fn drop_down_links_the_topmost_path_that_the_application_does_not_have() {
        let shared = [("a", 'd'), ("a/b", 'd'), ("a/b/c", 'f'), ("a/d", 'f'), ("ab", 'f')];
        let rule = SharedRule::DropDown;
        assert_eq!(links(&[], &shared, &rule), ["a", "ab"]);
        assert_eq!(links(&[("a", 'd')], &shared, &rule), ["a/b", "a/d", "ab"]);
        assert_eq!(links(&[("a", 'd'), ("a/b", 'd')], &shared, &rule), ["a/b/c", "a/d", "ab"]);
        assert_eq!(links(&[("a", 'f'), ("ab", 'f')], &shared, &rule), [""; 0]);
        assert_eq!(links(&[("a", 'l'), ("ab", 'd')], &shared, &rule), [""; 0]);
    }

    #[test]
    fn exact_links_replace_what_the_application_has() {
        let source = [("a", 'd'), ("a/x", 'f'), ("ax", 'f')];
        let rule = SharedRule::Exact(vec![b"a".to_vec(), b"log/today".to_vec()]);
        let source = tree(&source);
        let expected = Expected::new(&source, &rule, &|_| None);
        let left: Vec<_> = expected.tree.keys().map(|p| String::from_utf8_lossy(p).into_owned()).collect();
        assert_eq!(left, ["", "ax", "log"]);
        assert_eq!(expected.links, [b"a".to_vec(), b"log/today".to_vec()]);
    }
}
