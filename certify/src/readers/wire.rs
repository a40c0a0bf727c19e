//! What a reader and its recorder say to each other: one line of JSON each, over the reader's standard input and
//! output. Bytes of the file system travel as lists of numbers, so that every name does.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{How, view::View};

/// What a reader is to do; the first line that it gets. Every later line only says: go on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) how: How,
    /// The path of `current`.
    pub(super) current: Vec<u8>,
    /// For [`How::Each`]: the paths to look up below `current`.
    pub(super) paths: Vec<Vec<u8>>,
}

/// What a reader says. It waits for a line before it goes on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// Nothing has been looked at yet in this pass.
    Ready,
    /// All that this pass has found.
    Saw(Vec<Sight>),
}

/// A thing that a pass has found.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Sight {
    Release { dir: u64, view: Told },
    Files { view: Told },
    NoRelease { error: String },
}

/// A view; in full only the first time that a reader saw exactly this.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Told {
    /// Tells the views of one reader apart.
    pub(super) number: usize,
    pub(super) new: Option<Vec<(Vec<u8>, super::Seen)>>,
}

impl Told {
    /// A view as it travels.
    pub(super) fn list(view: &View) -> Vec<(Vec<u8>, super::Seen)> {
        view.iter().map(|(path, seen)| (path.clone(), seen.clone())).collect()
    }
}

/// Writes one line.
pub(super) fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Reads one line; none at the end.
pub(super) fn receive<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    if from.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}
