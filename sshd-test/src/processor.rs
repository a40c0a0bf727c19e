//! One processor for everything that a thread starts while it is confined to it.
//!
//! Threads and processes inherit the processors of whoever starts them; so it is enough to confine the thread that
//! starts the server, and to let it go afterwards. Sources: sched_setaffinity(2).

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// The calling thread on one processor; dropping it gives the thread back the processors that it had.
pub(crate) struct OneProcessor {
    before: CpuSet,
}

impl OneProcessor {
    /// Confines the calling thread to the processor on which it happens to run, so that several servers of one machine
    /// do not meet on the same. None where the kernel refuses: it is about speed only.
    pub(crate) fn enter() -> Option<Self> {
        let before = sched_getaffinity(None).ok()?;
        let mut one = CpuSet::new();
        one.set(sched_getcpu());
        sched_setaffinity(None, &one).ok()?;
        Some(Self { before })
    }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        let _ = sched_setaffinity(None, &self.before);
    }
}
