//! The decision procedure: is there a crash state in which a tree differs from what it should be?
//!
//! Comparing a tree is a conjunction: it fails as soon as one cell is wrong. So each cell of the golden tree is
//! asked *alone*, together with the pins of its own path: one question to [`Crashes::find`] for each version that
//! differs, never a product over cells. Knows cells and trees, nothing about deploys.

use std::collections::BTreeMap;

use simfs::cell::trim_zeros;
use simfs::{BLOCK_BYTES, Cell, CrashState, Crashes, Ino, Kind, Name, Pin, Value, Window};

use super::golden::{Body, Golden};
use super::walk::alternatives;
use crate::tree::Difference;

/// A crash state that shows a difference, and the pins that make it.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) state: CrashState,
    pub(crate) pins: Vec<Pin>,
    pub(crate) difference: Difference,
}

/// Compares trees over all crash states of a window.
pub(crate) struct Comparison<'a> {
    pub(crate) crashes: &'a Crashes<'a>,
    /// Names beside the golden ones do not count.
    pub(crate) extra_allowed: bool,
}

/// Where a comparison is.
struct At<'p> {
    path: &'p mut Vec<Name>,
    pins: &'p mut Vec<Pin>,
}

impl Comparison<'_> {
    /// A crash state within `window` in which all `pins` hold and the tree at `ino` is not `golden`.
    pub(crate) fn find(&self, ino: Ino, golden: &Golden, pins: &[Pin], window: Window) -> Option<Broken> {
        let (mut path, mut pins) = (Vec::new(), pins.to_vec());
        self.node(ino, golden, &mut At { path: &mut path, pins: &mut pins }, window)
    }

    fn node(&self, ino: Ino, golden: &Golden, at: &mut At<'_>, window: Window) -> Option<Broken> {
        let kind = match self.birth(ino, at, window) {
            Ok(kind) => kind,
            Err(broken) => return Some(broken),
        };
        let (kind, pin, window) = kind?;
        let pushed = push(at.pins, pin);
        let found = self.value(ino, kind, golden, at, window);
        if pushed {
            at.pins.pop();
        }
        found
    }

    /// The type of an inode that exists, or a state in which it does not exist.
    #[allow(clippy::type_complexity, reason = "private, and each part is named where it is used")]
    fn birth(&self, ino: Ino, at: &At<'_>, window: Window) -> Result<Option<(Kind, Pin, Window)>, Broken> {
        let crashes = self.crashes;
        let Some(cell) = crashes.trace().cell_id(&Cell::Inode(ino)) else {
            return self.ask(None, "is missing", at, window).map_or(Ok(None), Err);
        };
        let mut exists = None;
        for (pin, window) in alternatives(crashes, cell, at.pins, window) {
            match pin.1.map(|effect| &crashes.trace().effect(effect).value) {
                Some(Value::Inode(birth)) => exists = Some((birth.kind, pin, window)),
                _ => {
                    if let Some(broken) = self.ask(Some(pin), "is missing", at, window) {
                        return Err(broken);
                    }
                }
            }
        }
        Ok(exists)
    }

    fn value(
        &self,
        ino: Ino,
        kind: Kind,
        golden: &Golden,
        at: &mut At<'_>,
        window: Window,
    ) -> Option<Broken> {
        match (&golden.body, kind) {
            (Body::Dir { mode, entries }, Kind::Dir) => {
                self.mode(ino, *mode, at, window).or_else(|| self.entries(ino, entries, at, window))
            }
            (Body::File { mode, content }, Kind::File) => {
                let size = content.size_bytes;
                self.mode(ino, *mode, at, window)
                    .or_else(|| {
                        self.cell(&Cell::Size(ino), at, window, |value| match value {
                            Some(Value::Size(is)) if *is == size => None,
                            None if size == 0 => None,
                            Some(Value::Size(is)) => Some(format!("has {is} bytes instead of {size}")),
                            _ => Some(format!("is empty instead of {size} bytes")),
                        })
                    })
                    .or_else(|| self.blocks(ino, size, &content.blocks, at, window))
            }
            (Body::Symlink { target }, Kind::Symlink) => {
                self.cell(&Cell::Target(ino), at, window, |value| match value {
                    Some(Value::Target(text)) if text[..] == target[..] => None,
                    Some(_) => Some("points elsewhere".to_owned()),
                    None => Some("is an empty symlink".to_owned()),
                })
            }
            (Body::Other { kind: should, mode }, kind) if *should == kind => {
                self.mode(ino, *mode, at, window)
            }
            _ => self.ask(None, "is of another type", at, window),
        }
    }

    fn mode(&self, ino: Ino, should: u32, at: &At<'_>, window: Window) -> Option<Broken> {
        let birth = match self.crashes.trace().cell_id(&Cell::Inode(ino)) {
            Some(cell) => self.crashes.trace().versions(cell).first().copied(),
            None => None,
        };
        let born = match birth.map(|effect| &self.crashes.trace().effect(effect).value) {
            Some(Value::Inode(birth)) => birth.mode,
            _ => 0,
        };
        self.cell(&Cell::Mode(ino), at, window, |value| {
            let is = if let Some(Value::Mode(mode)) = value { *mode } else { born };
            (is != should).then(|| format!("has mode {is:04o} instead of {should:04o}"))
        })
    }

    fn blocks(
        &self,
        ino: Ino,
        size: u64,
        golden: &[std::sync::Arc<[u8]>],
        at: &At<'_>,
        window: Window,
    ) -> Option<Broken> {
        golden.iter().enumerate().find_map(|(n, should)| {
            let n = n as u64;
            // Bytes past the end are not content.
            let visible = (size - n * BLOCK_BYTES).min(BLOCK_BYTES) as usize;
            self.cell(&Cell::Block(ino, n), at, window, |value| {
                let is: &[u8] = if let Some(Value::Block(bytes)) = value { bytes } else { &[] };
                let is = trim_zeros(&is[..is.len().min(visible)]);
                (*is != **should).then(|| {
                    let how = if is.is_empty() { "zeros" } else { "other bytes" };
                    format!("has {how} instead of its content at byte {}", n * BLOCK_BYTES)
                })
            })
        })
    }

    fn entries(
        &self,
        dir: Ino,
        golden: &BTreeMap<Name, Golden>,
        at: &mut At<'_>,
        window: Window,
    ) -> Option<Broken> {
        let trace = self.crashes.trace();
        for (name, child) in golden {
            at.path.push(name.clone());
            let found = self.entry(dir, name, child, at, window);
            if found.is_some() {
                return found;
            }
            at.path.pop();
        }
        if self.extra_allowed {
            return None;
        }
        for (name, cell) in trace.names(dir).filter(|(name, _)| !golden.contains_key(*name)) {
            for (pin, window) in alternatives(self.crashes, cell, at.pins, window) {
                let Some(Value::Entry(Some(child))) = pin.1.map(|e| &trace.effect(e).value) else { continue };
                // An entry without its inode is nothing, so the inode is asked for too.
                let birth = trace.cell_id(&Cell::Inode(*child));
                let Some(birth) = birth.and_then(|id| Some((id, Some(*trace.versions(id).first()?)))) else {
                    continue;
                };
                at.path.push(name.clone());
                let pushed = push(at.pins, birth);
                let found = self.ask(Some(pin), "should not be there", at, window);
                if found.is_some() {
                    return found;
                }
                if pushed {
                    at.pins.pop();
                }
                at.path.pop();
            }
        }
        None
    }

    fn entry(
        &self,
        dir: Ino,
        name: &Name,
        child: &Golden,
        at: &mut At<'_>,
        window: Window,
    ) -> Option<Broken> {
        let trace = self.crashes.trace();
        let Some(cell) = trace.cell_id(&Cell::Entry(dir, name.clone())) else {
            return self.ask(None, "is missing", at, window);
        };
        let ways: Vec<(Pin, Window)> = alternatives(self.crashes, cell, at.pins, window).collect();
        ways.into_iter().find_map(|(pin, window)| match pin.1.map(|effect| &trace.effect(effect).value) {
            Some(Value::Entry(Some(ino))) => {
                let pushed = push(at.pins, pin);
                let found = self.node(*ino, child, at, window);
                if pushed {
                    at.pins.pop();
                }
                found
            }
            _ => self.ask(Some(pin), "is missing", at, window),
        })
    }

    /// Asks for each version of a cell that `wrong` objects to.
    fn cell(
        &self,
        cell: &Cell,
        at: &At<'_>,
        window: Window,
        wrong: impl Fn(Option<&Value>) -> Option<String>,
    ) -> Option<Broken> {
        let trace = self.crashes.trace();
        let Some(id) = trace.cell_id(cell) else {
            return wrong(None).and_then(|what| self.ask(None, &what, at, window));
        };
        alternatives(self.crashes, id, at.pins, window).find_map(|(pin, window)| {
            let what = wrong(pin.1.map(|effect| &trace.effect(effect).value))?;
            self.ask(Some(pin), &what, at, window)
        })
    }

    fn ask(&self, pin: Option<Pin>, what: &str, at: &At<'_>, window: Window) -> Option<Broken> {
        let mut pins = at.pins.clone();
        pins.extend(pin.filter(|pin| !at.pins.contains(pin)));
        let state = self.crashes.find(window, &pins)?;
        let path = at.path.iter().fold(Vec::new(), |path, name| super::golden::join(&path, name));
        Some(Broken { state, pins, difference: Difference { path, what: what.to_owned() } })
    }
}

/// Pins a version unless it already is; tells whether there is something to take off again.
fn push(pins: &mut Vec<Pin>, pin: Pin) -> bool {
    let new = !pins.contains(&pin);
    if new {
        pins.push(pin);
    }
    new
}
