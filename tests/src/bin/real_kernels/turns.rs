//! How many threads work at the same time. Those that only wait for time to pass do not count.

use std::sync::{Condvar, Mutex, PoisonError};

/// A number of turns to take.
pub(crate) struct Turns {
    free: Mutex<usize>,
    returned: Condvar,
}

/// A turn. Dropping it gives it back.
pub(crate) struct Turn<'t>(&'t Turns);

impl Turns {
    /// So many.
    pub(crate) fn new(count: usize) -> Self {
        Self { free: Mutex::new(count), returned: Condvar::new() }
    }

    /// Waits for one.
    pub(crate) fn take(&self) -> Turn<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free =
            self.returned.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.returned.notify_one();
    }
}
