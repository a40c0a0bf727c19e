//! [`archive`]: sends what is uploaded as chunks on the channel that the scripts go over.
//!
//! A chunk is sent whole or not at all, and the archive always ends in a word: then the host knows where the next
//! script begins, whatever became of the upload.

use std::io::{self, Write};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::plan::Plan;
use crate::progress::Progress;
use crate::remote::steps;
use crate::source::Source;
use crate::ssh::shell::Input;
use crate::upload::{self, PackError};

/// The host reads block by block, so that its tar(1) has something to do while a chunk is on its way.
const BLOCK_BYTES: usize = 64 * 1024;
/// One process on the host for each chunk; so small that a slow line sends one within a minute or so.
const CHUNK_BYTES: usize = 16 * BLOCK_BYTES;

/// Why the archive was not sent whole.
#[derive(Debug)]
pub(crate) enum Cut {
    /// The host failed, which it says itself.
    Stopped,
    /// The connection is gone.
    Connection(russh::Error),
    /// Packing failed.
    Pack(PackError),
}

/// Packs and sends; ends soon after `stop` says that there is no use.
pub(crate) async fn archive(
    input: Input,
    plan: Arc<Plan>,
    source: Arc<Source>,
    mut stop: watch::Receiver<bool>,
    progress: Progress,
) -> Result<(), Cut> {
    let (sender, mut chunks) = mpsc::channel::<Vec<u8>>(2);
    let packing = tokio::task::spawn_blocking(move || {
        let mut out = Chunks { sender, buffer: Vec::with_capacity(CHUNK_BYTES) };
        upload::pack(&plan, &source, &mut out, &progress)
    });
    let whole = loop {
        tokio::select! {
            biased;
            () = async { drop(stop.wait_for(|stopped| *stopped).await) } => break Err(Cut::Stopped),
            chunk = chunks.recv() => match chunk {
                Some(chunk) => send_chunk(&input, &chunk).await.map_err(Cut::Connection)?,
                None => break Ok(()),
            },
        }
    };
    // The packing thread ends now, if it has not.
    drop(chunks);
    let whole = match whole {
        Ok(()) => {
            packing.await.map_err(|e| PackError::Sink(io::Error::other(e))).flatten().map_err(Cut::Pack)
        }
        stopped => stopped,
    };
    let word = if whole.is_ok() { steps::ARCHIVE_END } else { steps::ARCHIVE_CUT };
    input.send(word.to_vec()).await.map_err(Cut::Connection)?;
    whole
}

/// Whole blocks, then what is left.
async fn send_chunk(input: &Input, chunk: &[u8]) -> Result<(), russh::Error> {
    let (blocks, rest) = chunk.split_at(chunk.len() - chunk.len() % BLOCK_BYTES);
    for (bytes, size) in [(blocks, BLOCK_BYTES), (rest, rest.len())] {
        if !bytes.is_empty() {
            let mut out = steps::chunk_header(size, bytes.len() / size);
            out.extend_from_slice(bytes);
            input.send(out).await?;
        }
    }
    Ok(())
}

/// The packing thread's end: fills chunks, waits when the connection is slower.
struct Chunks {
    sender: mpsc::Sender<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK_BYTES - self.buffer.len();
        let bytes = bytes.get(..room).unwrap_or(bytes);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() == CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES));
        self.sender.blocking_send(chunk).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}
