//! Programs of litmus tests as values: a few operations, after which, or in the middle of which, the power goes.

use std::fmt;

/// One operation. Paths are relative to the root of the file system; the root itself is the empty path. Content is told by
/// one letter for each block of 4096 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// `mkdir`, mode 0755.
    Mkdir(&'static str),
    /// Create an empty file, mode 0644.
    Create(&'static str),
    /// Create a file and write these blocks into it, through one descriptor.
    Put(&'static str, &'static str),
    /// Open with `O_TRUNC` and write these blocks, through one descriptor.
    Rewrite(&'static str, &'static str),
    /// Overwrite from this block on.
    Write(&'static str, u64, &'static str),
    /// Append so many bytes of this letter.
    Append(&'static str, usize, char),
    /// `truncate` to so many bytes.
    Truncate(&'static str, u64),
    /// `rename`.
    Rename(&'static str, &'static str),
    /// `renameat2` with `RENAME_EXCHANGE`.
    Exchange(&'static str, &'static str),
    /// `link`: of this file, under that name.
    Link(&'static str, &'static str),
    /// `symlink`: this text, under that name.
    Symlink(&'static str, &'static str),
    /// `unlink`.
    Unlink(&'static str),
    /// `rmdir`.
    Rmdir(&'static str),
    /// `chmod`.
    Chmod(&'static str, u32),
    /// `fsync` of a file or directory.
    Fsync(&'static str),
    /// `fdatasync` of a file or directory.
    Fdatasync(&'static str),
    /// `syncfs`.
    Syncfs,
    /// Nothing happens for as long as the trial says.
    Wait,
}

impl fmt::Display for Op {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |path: &'static str| if path.is_empty() { "/" } else { path };
        match *self {
            Self::Mkdir(path) => write!(out, "mkdir {path}"),
            Self::Create(path) => write!(out, "create {path}"),
            Self::Put(path, blocks) => write!(out, "create {path} = {blocks}"),
            Self::Rewrite(path, blocks) => write!(out, "open(O_TRUNC) {path} = {blocks}"),
            Self::Write(path, at, blocks) => write!(out, "write {path}[{at}] = {blocks}"),
            Self::Append(path, bytes, letter) => write!(out, "append {bytes} × {letter} to {path}"),
            Self::Truncate(path, bytes) => write!(out, "truncate {path} to {bytes}"),
            Self::Rename(from, to) => write!(out, "rename {from} {to}"),
            Self::Exchange(one, other) => write!(out, "exchange {one} {other}"),
            Self::Link(path, name) => write!(out, "link {path} {name}"),
            Self::Symlink(text, path) => write!(out, "symlink {text} {path}"),
            Self::Unlink(path) => write!(out, "unlink {path}"),
            Self::Rmdir(path) => write!(out, "rmdir {path}"),
            Self::Chmod(path, mode) => write!(out, "chmod {mode:o} {}", shown(path)),
            Self::Fsync(path) => write!(out, "fsync {}", shown(path)),
            Self::Fdatasync(path) => write!(out, "fdatasync {}", shown(path)),
            Self::Syncfs => out.write_str("syncfs"),
            Self::Wait => out.write_str("wait"),
        }
    }
}

/// How long a program waits, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wait {
    /// Seconds.
    pub(crate) seconds: u64,
    /// After every operation, not only where the program says so.
    pub(crate) after_each: bool,
}

impl fmt::Display for Wait {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} s{}", self.seconds, if self.after_each { " after each" } else { "" })
    }
}

/// The program of a litmus test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    /// Name on the command line and in the table.
    pub(crate) name: &'static str,
    /// Where it is from, in words.
    pub(crate) source: &'static str,
    /// What it asks.
    pub(crate) asks: &'static str,
    /// What is there, and synced, before it begins.
    pub(crate) setup: &'static [Op],
    /// What it does. Without a [`Op::Wait`], the wait is at its end.
    pub(crate) ops: &'static [Op],
}

impl Program {
    /// What is done with waits of so many seconds.
    pub(crate) fn ops_with(&self, wait: Wait) -> Vec<Op> {
        let without = self.ops.iter().copied().filter(|op| *op != Op::Wait);
        if wait.seconds == 0 {
            without.collect()
        } else if wait.after_each {
            without.flat_map(|op| [op, Op::Wait]).collect()
        } else {
            let at_end = (!self.ops.contains(&Op::Wait)).then_some(Op::Wait);
            self.ops.iter().copied().chain(at_end).collect()
        }
    }

    /// Its operations in one line.
    pub(crate) fn told(&self) -> String {
        self.ops.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}
