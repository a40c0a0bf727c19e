//! What the caller of this crate is told about the programs in the sandbox.

use std::fmt;

/// A system call that makes a whole file system durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SyncCall {
    /// sync(2): every file system of the machine, so the disk as well.
    Sync,
    /// syncfs(2) on a file of the disk. On any other file system it is not reported.
    Syncfs,
}

/// Who called, and waits for the answer.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// The thread, as this process sees it: it can be killed.
    pub thread: u32,
    pub(crate) still_waits: &'a dyn Fn() -> bool,
}

impl Caller<'_> {
    /// False: it was killed meanwhile, so nobody will learn the answer.
    pub fn still_waits(&self) -> bool {
        (self.still_waits)()
    }
}

impl fmt::Debug for Caller<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Caller").field("thread", &self.thread).finish_non_exhaustive()
    }
}

/// Learns what programs in the sandbox do that the disk itself cannot see.
///
/// [`Observer::sync`] and [`Observer::blind`] are called from one supervisor thread and may block shortly. While one blocks, every other sync(2) and
/// syncfs(2) of the sandbox waits too, and so does [`Server::shutdown`](crate::Server::shutdown), after
/// [`Observer::ending`].
pub trait Observer: Send + Sync {
    /// A program called sync(2), or syncfs(2) on the disk. The kernel does nothing by itself; the call returns to the
    /// program only after this method returns: with success, or with the `errno` in `Err`.
    ///
    /// The data of write(2) calls that returned earlier has reached the disk; stores to shared mappings may not have.
    fn sync(&self, call: SyncCall, caller: Caller<'_>) -> Result<(), i32>;

    /// The sandbox is being closed and every program in it is dead: a call of [`Observer::sync`] that still waits for
    /// something has to return. Called from the thread that closes it.
    fn ending(&self) {}

    /// Something happened, or may happen from now on, that cannot be observed. Verdicts that rely on having seen every
    /// sync must become `unknown`. `what` is for people.
    fn blind(&self, what: &str);
}
