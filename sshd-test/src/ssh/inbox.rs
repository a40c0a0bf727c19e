//! What a client sent on one channel and the program has not read yet.
//!
//! russh grants the window as it receives, and an awaiting handler would freeze every channel of its connection. So a
//! message is put here at once, whatever the program does. Memory stays bounded: what is beyond [`IN_MEMORY`] bytes goes to
//! an unlinked temporary file, and comes back in order.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// Bytes of one channel that are kept in memory.
const IN_MEMORY: usize = 8 << 20;

/// Bytes that are read back from the file at once.
const CHUNK: u64 = 1 << 20;

/// A queue of bytes with one reader.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    memory: VecDeque<Vec<u8>>,
    in_memory: usize,
    /// Follows what is in memory: while it holds something, nothing is added to memory.
    spill: Option<Spill>,
    finished: bool,
    discarding: bool,
}

#[derive(Debug)]
struct Spill {
    file: File,
    read: u64,
    written: u64,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds bytes. Does not wait for the reader.
    pub(super) fn push(&self, data: &[u8]) {
        let mut state = self.lock();
        if state.discarding || state.finished || data.is_empty() {
            return;
        }
        let to_file = state.spill.is_some() || state.in_memory + data.len() > IN_MEMORY;
        // Without a usable temporary file memory has to do; order is kept, since then nothing is in the file.
        if !(to_file && state.push_to_file(data)) {
            state.in_memory += data.len();
            state.memory.push_back(data.to_vec());
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Nothing more will come.
    pub(super) fn finish(&self) {
        self.lock().finished = true;
        self.changed.notify_one();
    }

    /// Forgets what is there and what will come: nobody reads any more.
    pub(super) fn discard(&self) {
        let mut state = self.lock();
        *state = State { discarding: true, finished: true, ..State::default() };
        drop(state);
        self.changed.notify_one();
    }

    /// The next bytes; `None` when nothing more will come.
    pub(super) async fn pop(&self) -> io::Result<Option<Vec<u8>>> {
        loop {
            {
                let mut state = self.lock();
                if let Some(data) = state.take()? {
                    return Ok(Some(data));
                }
                if state.finished {
                    return Ok(None);
                }
            }
            self.changed.notified().await;
        }
    }
}

impl State {
    /// False if it could not be written, with the file as it was.
    fn push_to_file(&mut self, data: &[u8]) -> bool {
        if self.spill.is_none() {
            let Ok(file) = tempfile::tempfile() else {
                return false;
            };
            self.spill = Some(Spill { file, read: 0, written: 0 });
        }
        let Some(spill) = &mut self.spill else {
            return false;
        };
        if spill.file.write_all_at(data, spill.written).is_ok() {
            spill.written += data.len() as u64;
            return true;
        }
        if spill.read == spill.written {
            self.spill = None;
            return false;
        }
        // Out of space with bytes in the file: these must come after them. Bring the file back to memory first.
        while let Ok(Some(chunk)) = self.take_from_file() {
            self.in_memory += chunk.len();
            self.memory.push_back(chunk);
        }
        false
    }

    fn take(&mut self) -> io::Result<Option<Vec<u8>>> {
        if let Some(data) = self.memory.pop_front() {
            self.in_memory -= data.len();
            return Ok(Some(data));
        }
        self.take_from_file()
    }

    fn take_from_file(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(spill) = &mut self.spill else {
            return Ok(None);
        };
        let length = CHUNK.min(spill.written - spill.read);
        let mut data = vec![0; usize::try_from(length).unwrap_or(0)];
        spill.file.read_exact_at(&mut data, spill.read)?;
        spill.read += length;
        if spill.read == spill.written {
            self.spill = None;
        }
        Ok(if data.is_empty() { None } else { Some(data) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than fits into memory, taken while more comes: order and bytes are kept.
    #[tokio::test]
    async fn order_survives_the_file() {
        let inbox = Inbox::default();
        let block = |n: u32| -> Vec<u8> { n.to_le_bytes().repeat(64 << 10) };
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        for n in 0..60 {
            inbox.push(&block(n));
            sent.extend(block(n));
            if n % 3 == 0 {
                received.extend(inbox.pop().await.unwrap().unwrap());
            }
        }
        assert!(inbox.lock().spill.is_some(), "the test must reach the file");
        inbox.finish();
        while let Some(data) = inbox.pop().await.unwrap() {
            received.extend(data);
        }
        assert!(sent == received);
        assert!(inbox.lock().spill.is_none());
    }

    #[tokio::test]
    async fn discarding_forgets_everything() {
        let inbox = Inbox::default();
        inbox.push(b"before");
        inbox.discard();
        inbox.push(b"after");
        assert_eq!(inbox.pop().await.unwrap(), None);
    }
}
