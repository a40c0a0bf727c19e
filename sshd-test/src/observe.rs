//! What the caller of this crate is told about the programs in the sandbox.

/// A system call that makes a whole file system durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SyncCall {
    /// sync(2): every file system of the machine, so the disk as well.
    Sync,
    /// syncfs(2) on a file of the disk. On any other file system it is not reported.
    Syncfs,
}

/// Learns what programs in the sandbox do that the disk itself cannot see.
///
/// All methods are called from one supervisor thread and may block shortly. While one blocks, every other sync(2) and
/// syncfs(2) of the sandbox waits too, and so does [`Server::shutdown`](crate::Server::shutdown).
pub trait Observer: Send + Sync {
    /// A program called sync(2), or syncfs(2) on the disk. The kernel does nothing by itself; the call returns to the
    /// program only after this method returns: with success, or with the `errno` in `Err`.
    ///
    /// The data of write(2) calls that returned earlier has reached the disk; stores to shared mappings may not have.
    ///
    /// `thread` is the thread that called, as this process sees it. It waits, and can be killed.
    fn sync(&self, call: SyncCall, thread: u32) -> Result<(), i32>;

    /// Something happened, or may happen from now on, that cannot be observed. Verdicts that rely on having seen every
    /// sync must become `unknown`. `what` is for people.
    fn blind(&self, what: &str);
}
