//! Trace files: recorded histories, with all that a judge needs beside them, kept in a file.
//!
//! The format is documented in `docs/trace-format.md`, completely enough to write another judge. One set of records
//! (`record`) in two encodings that say the same: a compact one (`compact`), and JSON lines (`lines`).
//! - [`Writer`] turns histories into records (`write`), [`read`] records into histories (`load`).
//! - Whatever a file says is checked (`check`, `load`) before a trace is made of it: what the judge takes for
//!   granted of a recorded trace holds of a trace that was read, too.
//! - [`tell`] shows a trace to people.
//!
//! Never judges, and never trusts a byte: a file that is damaged, cut short or made up is refused with a
//! [`TraceFileError`] that says where, and takes no more memory than the reader allows.

mod check;
mod compact;
mod lines;
mod load;
mod record;
pub mod tell;
#[cfg(test)]
mod tests;
mod text;
mod write;

use std::fmt;
use std::io::{self, BufRead};

use simfs::Trace;

use crate::judge::Scenario;

pub use compact::seal;
pub use load::{convert, read};
pub use write::Writer;

/// The version of the format that is written, and the newest that can be read.
pub const FORMAT: u32 = 1;

/// What is needed to read a trace at most, in bytes, where nobody says otherwise: 4 GiB.
pub const DEFAULT_MEMORY_BYTES: u64 = 4 << 30;

/// The two encodings of the same records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Binary and compressed, for keeping.
    Compact,
    /// JSON, one record a line, for other programs.
    Lines,
}

impl fmt::Display for Encoding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Compact => "compact",
            Self::Lines => "JSON lines",
        })
    }
}

/// What is known of a history beside its trace and scenario. For people; the verdicts do not depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// How it differs from the first history of the file; empty for that one.
    pub label: String,
    /// The command that was certified, as it was given.
    pub subject: Vec<u8>,
    /// Why it is shorter than planned, if it is.
    pub cut_short: Option<String>,
}

/// One recorded history.
#[derive(Clone, Debug)]
pub struct History {
    /// What it is.
    pub about: About,
    /// What the judge has to know beside the trace.
    pub scenario: Scenario,
    /// What was recorded.
    pub trace: Trace,
}

/// All that a file holds.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The program that wrote it, with its version.
    pub tool: String,
    /// How the file was encoded.
    pub encoding: Encoding,
    /// The histories of one certification: one table of verdicts speaks about all of them.
    pub histories: Vec<History>,
    /// Different contents of blocks, in all histories and sources.
    pub contents: Contents,
}

/// How much content a file holds, each different block once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Blocks.
    pub blocks: u64,
    /// Their bytes, trailing zeros left out.
    pub bytes: u64,
}

/// Where in a file something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line, counted from 1.
    Line(u64),
    /// A record, counted from 1, and its first byte in the unpacked stream, counted from 0.
    Record {
        /// Which.
        number: u64,
        /// Its first byte.
        at: u64,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(out, "line {line}"),
            Self::Record { number, at } => write!(out, "record {number} (byte {at} of the unpacked stream)"),
        }
    }
}

/// Why a trace file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TraceFileError {
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The first bytes are those of something else.
    #[error("this is not a trace file: it begins with '{begin}'")]
    NotATrace {
        /// Its first bytes, for people.
        begin: String,
    },
    /// It is empty.
    #[error("the file is empty")]
    Empty,
    /// It is of a version that is not known here.
    #[error("this trace file has format version {found}; this program reads version {FORMAT}")]
    Version {
        /// The version it names.
        found: u32,
    },
    /// It ends too early.
    #[error("the file is cut short: it ends at {at}, before its seal")]
    CutShort {
        /// The record that is not whole, or missing.
        at: Place,
    },
    /// Something in it cannot be.
    #[error("{at}: {what}")]
    Damaged {
        /// Where.
        at: Place,
        /// What.
        what: String,
    },
    /// It would take more memory than allowed.
    #[error("{at}: reading on would take more than {limit_bytes} bytes of memory")]
    TooLarge {
        /// Where the limit was reached.
        at: Place,
        /// The limit.
        limit_bytes: u64,
    },
}

impl TraceFileError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Io(_) => "check the path, its permissions and the space there",
            Self::NotATrace { .. } | Self::Empty => {
                "trace files are made by `cutover-certify --record FILE` and `cutover-certify trace export`"
            }
            Self::Version { .. } => {
                "use the version of cutover-certify that wrote it, or its `trace export`; docs/trace-format.md says \
                 what changed"
            }
            Self::CutShort { .. } => "copy it again, or record it again; part of a trace is never judged",
            Self::Damaged { .. } => {
                "copy it again, or record it again; if you made it yourself, docs/trace-format.md has the rules"
            }
            Self::TooLarge { .. } => "if it is a trace of your own, allow more with --memory MIB",
        }
    }
}

/// Which encoding something that can be read is in, by its first byte.
pub(crate) fn detect(from: &mut impl BufRead) -> Result<Encoding, TraceFileError> {
    let begin = loop {
        match from.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    match begin.first() {
        None => Err(TraceFileError::Empty),
        Some(b'{') => Ok(Encoding::Lines),
        Some(b'c') => Ok(Encoding::Compact),
        Some(_) => {
            let begin = crate::tree::show(&begin[..begin.len().min(16)]);
            Err(TraceFileError::NotATrace { begin })
        }
    }
}
