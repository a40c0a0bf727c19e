//! Readers as real processes: what visitors of a site do while it is deployed to, through the kernel.
//!
//! Three processes of this program run on the mount of the simulated disk while a history is recorded (`crew`), each
//! in its own way ([`How`]), over and over. After each deploy each of them reads once more. What they found ([`Pass`])
//! is judged afterwards, by `judge::readers`, with the goldens that the trace gives and the same rules as on the trace.
//!
//! The trace decides every interleaving; these are the ones that happened. They show that the decision is about
//! what real programs see: through the kernel's caches, with names that are looked up again and directories that
//! are kept open. They never write, and a read is no op, so they leave no trace of their own.

pub(crate) mod crew;
mod process;
mod view;
mod wire;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use simfs::{Ino, Seq};

pub use crew::VERB;
pub use process::run;
pub(crate) use view::{Seen, View, seen};

/// How a reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// Resolves `current` once and reads the whole release by the path it got.
    Once,
    /// Opens the directory that `current` resolves to, keeps it open, and reads everything in each of those that it
    /// holds, until nothing is left there.
    Held,
    /// Goes through `current` for each of a list of files.
    Each,
}

impl How {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Once, Self::Held, Self::Each];
}

/// What a reader found in one go, and when.
///
/// The instants are those of the trace, and they are bounds: the reader waited for each of them to be noted.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Which reader.
    pub(crate) how: How,
    /// The last op before the reader looked at `current`.
    pub(crate) begin: Seq,
    /// The last op before the reader told what it had found.
    pub(crate) end: Seq,
    /// What it found.
    pub(crate) found: Found,
}

/// What a pass found.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// A directory, and all that is in it.
    Release { dir: Ino, view: Arc<View> },
    /// The files of the list.
    Files(Arc<View>),
    /// `current` could not be resolved or opened.
    NoRelease(String),
}

/// What all readers of a recording found.
#[derive(Clone, Debug, Default)]
pub struct Passes {
    /// In no particular order.
    pub(crate) all: Vec<Pass>,
    /// What those that go through `current` looked up.
    pub(crate) paths: Vec<Vec<u8>>,
    /// Why something is missing, if it is.
    pub(crate) lost: Option<String>,
}
