//! The encoding for other programs: JSON lines, one record a line, contents named by their SHA-256.

use std::io::{self, BufRead, Read as _, Write};

use rustc_hash::FxHashMap;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::record::Record;
use super::text::Sha;
use super::{FORMAT, Place, TraceFileError};

/// No line is longer: a file without line feeds is not taken into memory whole.
const MAX_LINE_BYTES: u64 = 256 << 20;

/// Writes records.
pub(super) struct Sink<W: Write> {
    to: W,
    /// The SHA-256 of each blob so far, by its number.
    names: Vec<Sha>,
    records: u64,
    digest: Sha256,
}

impl<W: Write> Sink<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, names: Vec::new(), records: 0, digest: Sha256::new() }
    }

    pub(super) fn put(&mut self, record: Record<u32>) -> io::Result<()> {
        if let Record::Blob { bytes, .. } = &record {
            self.names.push(Sha::of(&bytes.0));
        }
        let names = &self.names;
        let record = record.rename(&mut |id| {
            names
                .get(id as usize)
                .copied()
                .ok_or_else(|| io::Error::other("a content that was never written"))
        })?;
        let line = line(&record)?;
        self.records += 1;
        self.digest.update(&line);
        self.to.write_all(&line)
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        let sha256 = Sha(self.digest.finalize().into());
        self.to.write_all(&line(&Record::Seal { records: self.records, sha256 })?)?;
        Ok(self.to)
    }
}

fn line(record: &Record<Sha>) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    Ok(line)
}

/// Reads records.
pub(super) struct Source<R: BufRead> {
    from: R,
    line: Vec<u8>,
    number: u64,
    /// The number of each blob so far.
    ids: FxHashMap<Sha, u32>,
    digest: Sha256,
}

/// As much of a header as every version has.
#[derive(Deserialize)]
struct AnyHeader {
    header: AnyFormat,
}

#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

impl<R: BufRead> Source<R> {
    pub(super) fn new(from: R) -> Self {
        let (line, ids) = (Vec::new(), FxHashMap::default());
        Self { from, line, number: 0, ids, digest: Sha256::new() }
    }

    fn place(&self) -> Place {
        Place::Line(self.number)
    }

    fn damaged(&self, what: impl Into<String>) -> TraceFileError {
        TraceFileError::Damaged { at: self.place(), what: what.into() }
    }

    /// The next record, or none after a seal that fits.
    pub(super) fn next(&mut self) -> Result<Option<(Place, Record<u32>)>, TraceFileError> {
        self.number += 1;
        self.line.clear();
        self.from.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut self.line)?;
        if self.line.len() as u64 == MAX_LINE_BYTES {
            return Err(self.damaged(format!("a line of {MAX_LINE_BYTES} bytes or more")));
        }
        let short = TraceFileError::CutShort { at: self.place() };
        if self.line.is_empty() {
            return Err(short);
        }
        if self.number == 1
            && let Ok(any) = serde_json::from_slice::<AnyHeader>(&self.line)
            && any.header.format != FORMAT
        {
            return Err(TraceFileError::Version { found: any.header.format });
        }
        let record: Record<Sha> = match serde_json::from_slice(&self.line) {
            Ok(record) => record,
            // Half of a line at the end of the file.
            Err(error) if error.is_eof() && self.line.last() != Some(&b'\n') => return Err(short),
            Err(error) => return Err(self.damaged(format!("not a record: {}", plain(&error)))),
        };
        if let Record::Seal { records, sha256 } = record {
            let digest = Sha(std::mem::take(&mut self.digest).finalize().into());
            if records != self.number - 1 || sha256 != digest {
                return Err(self.damaged("the seal does not fit what comes before it"));
            }
            if !self.from.fill_buf()?.is_empty() {
                return Err(self.damaged("there is more after the seal"));
            }
            return Ok(None);
        }
        self.digest.update(&self.line);
        if let Record::Blob { id, bytes } = &record {
            if Sha::of(&bytes.0) != *id {
                return Err(self.damaged("the content does not have the SHA-256 that it is named by"));
            }
            let number = self.ids.len() as u32;
            if self.ids.insert(*id, number).is_some() {
                return Err(self.damaged("the same content was there before"));
            }
        }
        let ids = &self.ids;
        let number = |id| ids.get(&id).copied().ok_or(id);
        match record.rename(&mut { number }) {
            Ok(record) => Ok(Some((self.place(), record))),
            Err(id) => Err(self.damaged(format!("no blob before it has the content {id}"))),
        }
    }
}

/// What a JSON error says, safe on a terminal, with the place in the line.
fn plain(error: &serde_json::Error) -> String {
    let text = crate::tree::show(error.to_string().as_bytes());
    // Every line is a document of its own: that it is "line 1" says nothing.
    text.replace(" at line 1 column ", ", at byte ")
}
