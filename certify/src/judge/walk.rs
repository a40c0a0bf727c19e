//! Where a path leads, in one live state or in all crash states at once.
//!
//! The walk follows symlinks as the kernel does: relative, absolute, through `..`, at most 40 of them, leaving the
//! disk and coming back. In a live state each cell has one value and there is one outcome. Over crash states each
//! cell on the way may have any of its versions: every outcome comes with the pins that lead to it. It never looks
//! at anything but the path's own cells.

use std::collections::HashSet;

use simfs::{Cell, CellId, Crashes, Ino, Kind, Name, Pin, ROOT, Seq, Trace, Value, View, Window};

/// The most symlinks that a walk follows, as in Linux (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// Where a walk ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// At a directory of the disk, reached physically by these names from the root.
    Dir { ino: Ino, path: Vec<Name> },
    /// Some name on the way does not exist.
    Nothing,
    /// At something of the disk that is not a directory.
    File { ino: Ino },
    /// Nowhere that a release could be.
    Elsewhere(&'static str),
}

/// One way a walk can go: its end, and what must be so for it.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) end: End,
    pub(crate) pins: Vec<Pin>,
    pub(crate) window: Window,
}

/// The states a walk goes through.
#[derive(Clone, Copy)]
pub(crate) enum States<'a> {
    Live(View<'a>),
    Crash(&'a Crashes<'a>, Window),
}

/// Where the walk is.
#[derive(Clone)]
enum Place {
    /// In a directory of the disk: names and inodes from below the root down.
    Inside(Vec<(Name, Ino)>),
    /// Above the disk: an absolute path of the machine, without symlinks.
    Outside(Vec<Name>),
}

/// Walks paths on a disk that is mounted at `mount`, an absolute path as names.
pub(crate) struct Walker<'a> {
    trace: &'a Trace,
    states: States<'a>,
    mount: &'a [Name],
    outcomes: Vec<Outcome>,
    /// Cells that were looked at: while none of them changes, neither does the outcome.
    looked_at: HashSet<Cell>,
}

/// Walks from the root of the disk.
pub(crate) fn walk<'a>(states: States<'a>, mount: &'a [Name], path: &[Name]) -> Vec<Outcome> {
    let mut walker = Walker::new(states, mount);
    walker.run(path);
    walker.outcomes
}

/// Walks in one live state; also tells which cells decided.
pub(crate) fn walk_live(trace: &Trace, k: Seq, mount: &[Name], path: &[Name]) -> (End, HashSet<Cell>) {
    let mut walker = Walker::new(States::Live(View::live(trace, k)), mount);
    walker.run(path);
    let end = walker.outcomes.pop().map_or(End::Nothing, |outcome| outcome.end);
    (end, walker.looked_at)
}

/// The first op after `k` that gives one of these cells a new version.
pub(crate) fn next_change(trace: &Trace, cells: &HashSet<Cell>, k: Seq) -> Option<Seq> {
    let next = |cell: &Cell| {
        let versions = trace.versions(trace.cell_id(cell)?);
        let later = versions.partition_point(|effect| trace.effect(*effect).seq <= k);
        versions.get(later).map(|effect| trace.effect(*effect).seq)
    };
    cells.iter().filter_map(next).min()
}

/// A path's names, in order; empty names and `.` mean nothing.
pub(crate) fn names(path: &[u8]) -> Vec<Name> {
    path.split(|b| *b == b'/').filter(|name| !name.is_empty() && *name != b".").map(Name::from).collect()
}

impl<'a> Walker<'a> {
    fn new(states: States<'a>, mount: &'a [Name]) -> Self {
        let trace = match states {
            States::Live(view) => view.trace(),
            States::Crash(crashes, _) => crashes.trace(),
        };
        Self { trace, states, mount, outcomes: Vec::new(), looked_at: HashSet::new() }
    }

    fn run(&mut self, path: &[Name]) {
        let window = match self.states {
            States::Live(_) => Window { lo: 0, hi: self.trace.last() },
            States::Crash(_, window) => window,
        };
        let todo = path.iter().rev().cloned().collect();
        self.step(Place::Inside(Vec::new()), todo, 0, &[], window);
    }

    fn end(&mut self, end: End, pins: &[Pin], window: Window) {
        self.outcomes.push(Outcome { end, pins: pins.to_vec(), window });
    }

    /// Takes the next name off `todo`, whose last element is the next.
    fn step(&mut self, mut place: Place, mut todo: Vec<Name>, links: u32, pins: &[Pin], window: Window) {
        loop {
            let Some(name) = todo.pop() else {
                let end = match place {
                    Place::Outside(_) => End::Elsewhere("a place outside of the disk"),
                    Place::Inside(path) => {
                        let ino = path.last().map_or(ROOT, |(_, ino)| *ino);
                        End::Dir { ino, path: path.into_iter().map(|(name, _)| name).collect() }
                    }
                };
                return self.end(end, pins, window);
            };
            match (&mut place, &name[..]) {
                (Place::Inside(path), b"..") => {
                    if path.pop().is_none() {
                        place = Place::Outside(self.mount[..self.mount.len().saturating_sub(1)].to_vec());
                    }
                }
                (Place::Outside(path), b"..") => {
                    path.pop();
                }
                (Place::Outside(path), _) => {
                    path.push(name);
                    if path[..] == *self.mount {
                        place = Place::Inside(Vec::new());
                    }
                }
                (Place::Inside(path), _) => {
                    let path = path.clone();
                    return self.enter(&path, &name, &todo, links, pins, window);
                }
            }
        }
    }

    fn enter(
        &mut self,
        path: &[(Name, Ino)],
        name: &Name,
        todo: &[Name],
        links: u32,
        pins: &[Pin],
        window: Window,
    ) {
        let dir = path.last().map_or(ROOT, |(_, ino)| *ino);
        for (value, pins, window) in self.values(&Cell::Entry(dir, name.clone()), pins, window) {
            let Some(&Value::Entry(Some(child))) = value else {
                self.end(End::Nothing, &pins, window);
                continue;
            };
            for (birth, pins, window) in self.values(&Cell::Inode(child), &pins, window) {
                let Some(Value::Inode(birth)) = birth else {
                    self.end(End::Nothing, &pins, window);
                    continue;
                };
                match birth.kind {
                    Kind::Dir => {
                        let mut path = path.to_vec();
                        path.push((name.clone(), child));
                        self.step(Place::Inside(path), todo.to_vec(), links, &pins, window);
                    }
                    Kind::Symlink if links == MAX_LINKS => {
                        self.end(End::Elsewhere("a loop of symlinks"), &pins, window);
                    }
                    Kind::Symlink => {
                        for (target, pins, window) in self.values(&Cell::Target(child), &pins, window) {
                            let text: &[u8] = match target {
                                Some(Value::Target(text)) => text,
                                _ => b"",
                            };
                            if text.is_empty() {
                                self.end(End::Nothing, &pins, window);
                                continue;
                            }
                            let mut todo = todo.to_vec();
                            todo.extend(names(text).into_iter().rev());
                            let place = if text.starts_with(b"/") {
                                Place::Outside(Vec::new())
                            } else {
                                Place::Inside(path.to_vec())
                            };
                            self.step(place, todo, links + 1, &pins, window);
                        }
                    }
                    _ if todo.is_empty() => self.end(End::File { ino: child }, &pins, window),
                    _ => self.end(End::Elsewhere("something below a file"), &pins, window),
                }
            }
        }
    }

    /// The values that a cell can have here, each with what must be so for it.
    fn values(
        &mut self,
        cell: &Cell,
        pins: &[Pin],
        window: Window,
    ) -> Vec<(Option<&'a Value>, Vec<Pin>, Window)> {
        let id = self.trace.cell_id(cell);
        match self.states {
            States::Live(view) => {
                self.looked_at.insert(cell.clone());
                let newest = id.and_then(|id| view.newest(id));
                vec![(newest.map(|e| &self.trace.effect(e).value), pins.to_vec(), window)]
            }
            States::Crash(crashes, _) => {
                let Some(id) = id else { return vec![(None, pins.to_vec(), window)] };
                alternatives(crashes, id, pins, window)
                    .map(|(pin, window)| {
                        let mut pins = pins.to_vec();
                        if !pins.contains(&pin) {
                            pins.push(pin);
                        }
                        (pin.1.map(|e| &self.trace.effect(e).value), pins, window)
                    })
                    .collect()
            }
        }
    }
}

/// The versions that a cell can have at some crash point of the window, its initial value included. A cell that is
/// already pinned has only that one.
pub(crate) fn alternatives<'a>(
    crashes: &'a Crashes<'a>,
    cell: CellId,
    pins: &[Pin],
    window: Window,
) -> impl Iterator<Item = (Pin, Window)> + use<'a> {
    let pinned = pins.iter().find(|pin| pin.0 == cell).copied();
    let versions = crashes.trace().versions(cell);
    std::iter::once(None)
        .chain(versions.iter().copied().map(Some))
        .map(move |version| (cell, version))
        .filter(move |pin| pinned.is_none_or(|pinned| pinned == *pin))
        .map(move |pin| (pin, window.and(crashes.window(pin))))
        .filter(|(_, window)| !window.is_empty())
}
