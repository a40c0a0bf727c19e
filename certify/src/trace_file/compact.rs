//! The compact encoding: a line that names the version, then a zlib stream of records.
//!
//! In the stream each record is its length as four bytes, least significant first, and that many bytes of postcard.

use std::io::{self, BufRead, BufReader, Read, Write};

use flate2::Compression;
use flate2::bufread::ZlibDecoder;
use flate2::write::ZlibEncoder;
use sha2::{Digest as _, Sha256};

use super::record::Record;
use super::text::Sha;
use super::{FORMAT, Place, TraceFileError};

/// What a file begins with; the version and a line feed follow.
const MAGIC: &str = "cutover-trace ";

/// No record is longer, so that a length that is nonsense costs nothing.
const MAX_RECORD_BYTES: u32 = 16 << 20;

/// Writes records.
pub(super) struct Sink<W: Write> {
    to: ZlibEncoder<W>,
    frame: Vec<u8>,
    records: u64,
    digest: Sha256,
}

impl<W: Write> Sink<W> {
    pub(super) fn new(mut to: W) -> io::Result<Self> {
        writeln!(to, "{MAGIC}{FORMAT}")?;
        // A trace is mostly content that was seen before or does not compress: more effort costs time, not bytes.
        let to = ZlibEncoder::new(to, Compression::new(3));
        Ok(Self { to, frame: Vec::new(), records: 0, digest: Sha256::new() })
    }

    pub(super) fn put(&mut self, record: &Record<u32>) -> io::Result<()> {
        self.frame(record)?;
        self.records += 1;
        self.digest.update(&self.frame);
        self.to.write_all(&self.frame)
    }

    fn frame(&mut self, record: &Record<u32>) -> io::Result<()> {
        self.frame.clear();
        self.frame.extend([0; 4]);
        self.frame =
            postcard::to_extend(record, std::mem::take(&mut self.frame)).map_err(io::Error::other)?;
        let len = u32::try_from(self.frame.len() - 4).ok().filter(|len| *len <= MAX_RECORD_BYTES);
        let len =
            len.ok_or_else(|| io::Error::other("one operation has too many effects for a trace file"))?;
        self.frame[..4].copy_from_slice(&len.to_le_bytes());
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        let sha256 = Sha(self.digest.clone().finalize().into());
        let seal = Record::Seal { records: self.records, sha256 };
        self.frame(&seal)?;
        self.to.write_all(&self.frame)?;
        self.to.finish()
    }
}

/// A file around records that are already in their frames, with a seal that fits. For fuzzers, which find no digest.
///
/// # Panics
/// Never: nothing fails that writes to memory.
pub fn seal(frames: &[u8]) -> Vec<u8> {
    let mut sink = Sink::new(Vec::new()).expect("writing to memory");
    let mut rest = frames;
    while let Some((len, after)) = rest.split_first_chunk() {
        let len = u32::from_le_bytes(*len) as usize;
        rest = after.get(len..).unwrap_or_default();
        sink.records += 1;
    }
    sink.digest.update(frames);
    sink.to.write_all(frames).expect("writing to memory");
    sink.finish().expect("writing to memory")
}

/// Reads records.
pub(super) struct Source<R: BufRead> {
    from: BufReader<ZlibDecoder<R>>,
    frame: Vec<u8>,
    number: u64,
    at: u64,
    digest: Sha256,
}

impl<R: BufRead> Source<R> {
    pub(super) fn new(mut from: R) -> Result<Self, TraceFileError> {
        let mut line = Vec::new();
        from.by_ref().take(MAGIC.len() as u64 + 11).read_until(b'\n', &mut line)?;
        let version = std::str::from_utf8(&line)
            .ok()
            .and_then(|line| line.strip_prefix(MAGIC)?.strip_suffix('\n')?.parse::<u32>().ok());
        match version {
            Some(FORMAT) => {}
            Some(found) => return Err(TraceFileError::Version { found }),
            None => {
                let begin = crate::tree::show(&line[..line.len().min(16)]);
                return Err(TraceFileError::NotATrace { begin });
            }
        }
        let from = BufReader::with_capacity(128 << 10, ZlibDecoder::new(from));
        Ok(Self { from, frame: Vec::new(), number: 0, at: 0, digest: Sha256::new() })
    }

    fn place(&self) -> Place {
        Place::Record { number: self.number, at: self.at }
    }

    fn damaged(&self, what: impl Into<String>) -> TraceFileError {
        TraceFileError::Damaged { at: self.place(), what: what.into() }
    }

    /// Appends to the frame; tells whether all of it was there.
    fn fill(&mut self, len: u32) -> Result<bool, TraceFileError> {
        match self.from.by_ref().take(u64::from(len)).read_to_end(&mut self.frame) {
            Ok(read) => Ok(read as u64 == u64::from(len)),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: io::Error) -> TraceFileError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => TraceFileError::CutShort { at: self.place() },
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                self.damaged("the compressed stream is damaged")
            }
            _ => TraceFileError::Io(error),
        }
    }

    /// The next record, or none after a seal that fits.
    pub(super) fn next(&mut self) -> Result<Option<(Place, Record<u32>)>, TraceFileError> {
        self.at += self.frame.len() as u64;
        self.number += 1;
        self.frame.clear();
        let place = self.place();
        let short = TraceFileError::CutShort { at: place };
        if !self.fill(4)? {
            return Err(short);
        }
        let len = self.frame.first_chunk().map_or(0, |len| u32::from_le_bytes(*len));
        if len > MAX_RECORD_BYTES {
            return Err(
                self.damaged(format!("a record of {len} bytes; none has more than {MAX_RECORD_BYTES}"))
            );
        }
        if !self.fill(len)? {
            return Err(short);
        }
        let record: Record<u32> = match postcard::take_from_bytes(&self.frame[4..]) {
            Ok((record, [])) => record,
            Ok((_, rest)) => return Err(self.damaged(format!("{} bytes after the record", rest.len()))),
            Err(error) => return Err(self.damaged(format!("not a record: {error}"))),
        };
        let Record::Seal { records, sha256 } = record else {
            self.digest.update(&self.frame);
            return Ok(Some((place, record)));
        };
        let digest = Sha(std::mem::take(&mut self.digest).finalize().into());
        if records != self.number - 1 || sha256 != digest {
            return Err(self.damaged("the seal does not fit what comes before it"));
        }
        self.end()?;
        Ok(None)
    }

    /// Nothing may follow the seal, neither in the stream nor after it.
    fn end(&mut self) -> Result<(), TraceFileError> {
        let more = match self.from.fill_buf() {
            Ok(more) => !more.is_empty(),
            Err(error) => return Err(self.failed(error)),
        };
        if more || !self.from.get_mut().get_mut().fill_buf()?.is_empty() {
            return Err(self.damaged("there is more after the seal"));
        }
        Ok(())
    }
}
