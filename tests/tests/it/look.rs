//! A look at a deploy path on a simulated disk, without running anything.

use std::collections::BTreeSet;

use simfs::{Ino, Name, ROOT, View};

/// The deploy path, `app`, at some instant.
pub(crate) struct Look<'t>(pub(crate) View<'t>);

impl Look<'_> {
    pub(crate) fn find(&self, path: &str) -> Option<Ino> {
        let names = ["app"].into_iter().chain(path.split('/'));
        names.into_iter().try_fold(ROOT, |dir, name| self.0.entry(dir, &Name::from(name.as_bytes())))
    }

    /// The names in a directory, sorted; none if it is not there.
    pub(crate) fn names(&self, path: &str) -> BTreeSet<String> {
        let names = self.find(path).into_iter().flat_map(|dir| self.0.entries(dir));
        names.map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect()
    }
}
