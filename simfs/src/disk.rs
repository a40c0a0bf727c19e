//! The shared handle on a simulated disk: one lock, one order of operations.
//!
//! A [`Disk`] is what a mount serves and what a harness watches. It adds to [`Fs`] only what needs a lock: marks are
//! placed before any op that could have followed them, and after a power cut nothing is applied any more. It never
//! judges, and it knows nothing about FUSE.
//!
//! Invariant: while the lock is held, the trace says what the live state is.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fs::{Errno, Fs, FsResult};
use crate::trace::{MarkKind, Seq, SyncScope, Trace};

/// Asked before each mutating op is applied and before each sync is answered: what has happened outside since?
///
/// It runs under the disk's lock, so it must not touch the disk or a mount of it.
pub type Poll = Box<dyn FnMut() -> Vec<MarkKind> + Send>;

/// A simulated disk that several threads can share. Clones are handles on the same disk.
#[derive(Clone)]
pub struct Disk {
    state: Arc<Mutex<State>>,
}

struct State {
    fs: Fs,
    poll: Option<Poll>,
    frozen: bool,
}

impl State {
    fn place_marks(&mut self) {
        if let Some(poll) = &mut self.poll {
            for mark in poll() {
                self.fs.mark(mark);
            }
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

impl Disk {
    /// Shares a file system. Call [`Fs::start_recording`] before or through [`Disk::with`].
    pub fn new(fs: Fs) -> Self {
        Self { state: Arc::new(Mutex::new(State { fs, poll: None, frozen: false })) }
    }

    /// Direct access for the harness: no poll, and allowed on a frozen disk.
    ///
    /// While the disk is mounted only reading is allowed: the kernel caches names, attributes and content for as long
    /// as the mount lives, and would not see the change.
    pub fn with<R>(&self, access: impl FnOnce(&mut Fs) -> R) -> R {
        access(&mut self.lock().fs)
    }

    /// Reads for a caller of the simulated disk; fails with `ENOTCONN` once it is frozen.
    pub fn read<R>(&self, read: impl FnOnce(&mut Fs) -> FsResult<R>) -> FsResult<R> {
        let mut state = self.lock();
        if state.frozen { Err(Errno::NOTCONN) } else { read(&mut state.fs) }
    }

    /// Applies an op for a caller of the simulated disk: polls, places the marks, then applies. Fails with `ENOTCONN`
    /// once the disk is frozen.
    pub fn apply<R>(&self, op: impl FnOnce(&mut Fs) -> FsResult<R>) -> FsResult<R> {
        let mut state = self.lock();
        if state.frozen {
            return Err(Errno::NOTCONN);
        }
        state.place_marks();
        op(&mut state.fs)
    }

    /// Sets what is asked before each op, or nothing.
    pub fn set_poll(&self, poll: Option<Poll>) {
        self.lock().poll = poll;
    }

    /// Asks now, and places the marks.
    pub fn poll(&self) {
        self.lock().place_marks();
    }

    /// Places a mark after the last op.
    pub fn mark(&self, kind: MarkKind) {
        self.lock().fs.mark(kind);
    }

    /// Records a `sync` or `syncfs` that was seen from outside and is about to be answered with success or failure.
    /// Polls first. On a frozen disk nothing is recorded; the call has to be answered with an error.
    pub fn sync_all(&self, ok: bool) -> Seq {
        let mut state = self.lock();
        if state.frozen {
            return state.fs.trace().last();
        }
        state.place_marks();
        state.fs.sync(SyncScope::All, ok)
    }

    /// A copy of the trace so far.
    pub fn trace(&self) -> Trace {
        self.lock().fs.trace().clone()
    }

    /// The trace so far; recording goes on in a new one whose op 0 is the state as it is now.
    pub fn take_trace(&self) -> Trace {
        self.lock().fs.start_recording()
    }

    /// The power is cut: from here on no op is applied and no read is answered.
    pub fn freeze(&self) {
        self.lock().frozen = true;
    }

    /// Ends a freeze. The live state is that of the moment of the freeze, not a crash state.
    pub fn thaw(&self) {
        self.lock().frozen = false;
    }

    /// Whether the disk is frozen.
    pub fn is_frozen(&self) -> bool {
        self.lock().frozen
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a harness closure must not take down the mount too.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
