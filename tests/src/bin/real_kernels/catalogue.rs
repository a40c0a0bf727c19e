//! The programs of the litmus tests.
//!
//! Small on purpose: everything that may or may not survive is enumerated, so a program has at most a dozen effects that
//! nothing forces. Blocks are whole, since that is what becomes durable; two programs ask about parts of blocks.
//!
//! ALICE: Pillai et al., All File Systems Are Not Created Equal, OSDI 2014. Ferrite: Bornholt et al., Specifying and
//! Checking File System Crash-Consistency Models, ASPLOS 2016. `generic/N`: the question that this test of xfstests asks.

use crate::program::Op::{
    Append, Chmod, Create, Exchange, Fdatasync, Fsync, Link, Mkdir, Put, Rename, Rewrite, Rmdir, Symlink,
    Syncfs, Truncate, Unlink, Wait, Write,
};
use crate::program::{Op, Program};

const OURS: &str = "our own";

/// Two releases, and `current` on the first.
const TWO_RELEASES: &[Op] =
    &[Mkdir("r1"), Put("r1/f", "a"), Mkdir("r2"), Put("r2/f", "b"), Symlink("r1", "current")];

/// One release, and `current` on it.
const ONE_RELEASE: &[Op] = &[Mkdir("r1"), Put("r1/f", "a"), Mkdir("r2"), Symlink("r1", "current")];

/// All programs, in the order of the table.
pub(crate) const ALL: &[Program] = &[
    Program {
        name: "prefix-append",
        source: "ALICE; Ferrite",
        asks: "is what is found of two appends the beginning of what was written?",
        setup: &[Put("f", "a")],
        ops: &[Append("f", 4096, 'b'), Append("f", 8192, 'c')],
    },
    Program {
        name: "append-in-block",
        source: "ALICE; Ferrite",
        asks: "the same with parts of blocks: are there zeros behind the old end?",
        setup: &[Create("f"), Append("f", 700, 'a')],
        ops: &[Append("f", 700, 'b'), Append("f", 5000, 'c')],
    },
    Program {
        name: "append-fdatasync",
        source: OURS,
        asks: "does fdatasync keep the new length?",
        setup: &[Put("f", "a")],
        ops: &[Append("f", 4096, 'b'), Fdatasync("f"), Append("f", 4096, 'c')],
    },
    Program {
        name: "overwrites-one-file",
        source: "ALICE; Ferrite",
        asks: "do two overwrites reach the disk in their order?",
        setup: &[Put("f", "abc")],
        ops: &[Write("f", 2, "x"), Write("f", 0, "y")],
    },
    Program {
        name: "overwrites-two-files",
        source: "ALICE; Ferrite",
        asks: "does the fsync of the second overwrite keep the first?",
        setup: &[Put("f", "a"), Put("g", "b")],
        ops: &[Write("f", 0, "x"), Write("g", 0, "y"), Fsync("g")],
    },
    Program {
        name: "truncate-rewrite",
        source: "ALICE",
        asks: "what is left of a file that was rewritten in place?",
        setup: &[Put("f", "aa")],
        ops: &[Rewrite("f", "b")],
    },
    Program {
        name: "truncate-rewrite-fsync",
        source: "ALICE",
        asks: "the same, and after an fsync",
        setup: &[Put("f", "aa")],
        ops: &[Rewrite("f", "b"), Fsync("f")],
    },
    Program {
        name: "truncate-fdatasync",
        source: OURS,
        asks: "does fdatasync keep a length that was set, down and up?",
        setup: &[Put("f", "aa"), Put("g", "a")],
        ops: &[Truncate("f", 4096), Fdatasync("f"), Truncate("g", 8192), Fdatasync("g")],
    },
    Program {
        name: "replace-via-rename",
        source: "ALICE; Ferrite",
        asks: "is a replaced file old or new, never empty?",
        setup: &[Put("f", "aa")],
        ops: &[Put("tmp", "bb"), Rename("tmp", "f")],
    },
    Program {
        name: "replace-via-rename-fsync",
        source: "ALICE; Ferrite",
        asks: "the same with an fsync of the file before the rename and of the directory after it",
        setup: &[Put("f", "a")],
        ops: &[Put("tmp", "b"), Fsync("tmp"), Rename("tmp", "f"), Fsync("")],
    },
    Program {
        name: "create-via-rename",
        source: "ALICE; Ferrite",
        asks: "is a file that got its name by a rename whole?",
        setup: &[],
        ops: &[Put("tmp", "ab"), Rename("tmp", "f")],
    },
    Program {
        name: "create-fsync",
        source: "ALICE",
        asks: "does the fsync of a new file keep its name?",
        setup: &[Mkdir("d")],
        ops: &[Put("d/f", "a"), Fsync("d/f")],
    },
    Program {
        name: "two-creations-one-dir",
        source: "ALICE; Ferrite",
        asks: "does the fsync of the second file keep the first?",
        setup: &[Mkdir("d")],
        ops: &[Put("d/a", "a"), Put("d/b", "b"), Fsync("d/b")],
    },
    Program {
        name: "two-creations-fdatasync",
        source: OURS,
        asks: "the same with fdatasync",
        setup: &[Mkdir("d")],
        ops: &[Put("d/a", "a"), Put("d/b", "b"), Fdatasync("d/b")],
    },
    Program {
        name: "create-fsync-new-dir",
        source: OURS,
        asks: "does the fsync of a new directory keep a file that was made before it beside it?",
        setup: &[],
        ops: &[Put("a", "a"), Mkdir("d"), Put("d/b", "b"), Fsync("d")],
    },
    Program {
        name: "two-creations-two-dirs",
        source: "ALICE; Ferrite",
        asks: "the same in two directories",
        setup: &[Mkdir("d"), Mkdir("e")],
        ops: &[Put("d/a", "a"), Put("e/b", "b"), Fsync("e/b")],
    },
    Program {
        name: "mkdir-chain-fsync",
        source: "ALICE",
        asks: "does the fsync of the deepest new file keep the new directories above it?",
        setup: &[],
        ops: &[Mkdir("a"), Mkdir("a/b"), Mkdir("a/b/c"), Put("a/b/c/f", "a"), Fsync("a/b/c/f")],
    },
    Program {
        name: "subdir-fsync-dir",
        source: OURS,
        asks: "does the fsync of a directory keep what is in its new subdirectory?",
        setup: &[Mkdir("d")],
        ops: &[Mkdir("d/s"), Put("d/s/f", "a"), Put("d/s/g", "b"), Fsync("d")],
    },
    Program {
        name: "create-fsync-dir",
        source: "fsync(2)",
        asks: "does the fsync of a directory keep the names of new files, and what of their content?",
        setup: &[Mkdir("d")],
        ops: &[Put("d/f", "a"), Symlink("f", "d/l"), Fsync("d")],
    },
    Program {
        name: "create-fdatasync-dir",
        source: OURS,
        asks: "does fdatasync of a directory keep a new name?",
        setup: &[Mkdir("d"), Create("d/old")],
        ops: &[Create("d/f"), Fdatasync("d"), Create("d/g"), Fdatasync("d")],
    },
    Program {
        name: "unlink-fsync-dir",
        source: OURS,
        asks: "does the fsync of a directory keep a removal?",
        setup: &[Mkdir("d"), Put("d/f", "a"), Put("d/g", "b")],
        ops: &[Unlink("d/f"), Fsync("d"), Unlink("d/g")],
    },
    Program {
        name: "rename-fdatasync-dir",
        source: OURS,
        asks: "does fdatasync of a directory keep a rename in it?",
        setup: &[Put("f", "a"), Put("g", "b")],
        ops: &[Rename("f", "g"), Fdatasync("")],
    },
    Program {
        name: "rename-fsync-file",
        source: "generic/322",
        asks: "a file written and synced, renamed, synced again: is it whole, and under which name?",
        setup: &[],
        ops: &[Put("f", "a"), Fsync("f"), Rename("f", "g"), Wait, Fsync("g")],
    },
    Program {
        name: "rename-fdatasync-file",
        source: OURS,
        asks: "does fdatasync of a file keep the name that it was given last?",
        setup: &[Put("f", "a")],
        ops: &[Rename("f", "g"), Fdatasync("g")],
    },
    Program {
        name: "write-rename-fsync-file",
        source: OURS,
        asks: "the same where the kernel wrote the content back by itself before the rename",
        setup: &[Put("f", "a")],
        ops: &[Write("f", 0, "b"), Wait, Rename("f", "g"), Fsync("g")],
    },
    Program {
        name: "rename-create-old-name",
        source: "generic/342",
        asks: "a file renamed, a new one under its old name synced: are both there?",
        setup: &[Mkdir("d"), Put("d/f", "a")],
        ops: &[Rename("d/f", "d/g"), Put("d/f", "b"), Fsync("d/f")],
    },
    Program {
        name: "move-fsync-old-parent",
        source: "generic/335",
        asks: "a file moved away from a subdirectory, the directory above synced: is the file anywhere?",
        setup: &[Mkdir("a"), Mkdir("a/b"), Mkdir("c"), Put("a/b/f", "a")],
        ops: &[Rename("a/b/f", "c/f"), Create("a/g"), Fsync("a")],
    },
    Program {
        name: "move-dir-create-old-name",
        source: "generic/341",
        asks: "a directory moved, a new one under its old name synced: are the files of the first anywhere?",
        setup: &[Mkdir("a"), Mkdir("a/x"), Mkdir("a/y"), Put("a/x/f", "a")],
        ops: &[Rename("a/x", "a/y/x"), Mkdir("a/x"), Fsync("a/x")],
    },
    Program {
        name: "rename-ancestor-fsync-child",
        source: OURS,
        asks: "does the fsync of a file keep the new name of a directory above it?",
        setup: &[Mkdir("d"), Mkdir("d/e"), Put("d/e/f", "a")],
        ops: &[Rename("d", "n"), Write("n/e/f", 0, "b"), Fsync("n/e/f")],
    },
    Program {
        name: "rename-ancestor-fsync-new-child",
        source: OURS,
        asks: "the same with a new file",
        setup: &[Mkdir("d"), Mkdir("d/e")],
        ops: &[Rename("d", "n"), Put("n/e/f", "b"), Fsync("n/e/f")],
    },
    Program {
        name: "link-fsync",
        source: OURS,
        asks: "does the fsync of a file keep its second name?",
        setup: &[Mkdir("d"), Put("f", "a")],
        ops: &[Link("f", "d/g"), Fsync("f"), Unlink("f"), Fsync("d/g")],
    },
    Program {
        name: "link-new-dir-fsync-parent",
        source: "generic/498",
        asks: "a second name in a new directory, the directory above synced: is it there?",
        setup: &[Mkdir("a"), Put("a/f", "a")],
        ops: &[Mkdir("b"), Mkdir("b/c"), Link("a/f", "b/c/g"), Fsync("b")],
    },
    Program {
        name: "chmod-fdatasync",
        source: OURS,
        asks: "does fdatasync keep permission bits?",
        setup: &[Put("f", "a")],
        ops: &[Chmod("f", 0o600), Fdatasync("f")],
    },
    Program {
        name: "chmod-write-fdatasync",
        source: OURS,
        asks: "and where there was something to write?",
        setup: &[Put("f", "a")],
        ops: &[Chmod("f", 0o600), Write("f", 0, "b"), Fdatasync("f"), Fsync("f")],
    },
    Program {
        name: "chmod-dir-fsync",
        source: OURS,
        asks: "does the fsync of a directory keep its permission bits and those of its children?",
        setup: &[Mkdir("d"), Put("d/f", "a")],
        ops: &[Chmod("d/f", 0o600), Chmod("d", 0o700), Fsync("d")],
    },
    Program {
        name: "syncfs-between",
        source: OURS,
        asks: "is all before a syncfs there, and only that certain?",
        setup: &[Mkdir("d")],
        ops: &[Put("d/a", "a"), Syncfs, Put("d/b", "b"), Rename("d/a", "c")],
    },
    Program {
        name: "exchange",
        source: OURS,
        asks: "are two exchanged files ever both the same one?",
        setup: &[Put("f", "a"), Put("g", "b")],
        ops: &[Exchange("f", "g"), Write("f", 0, "c"), Fsync("f")],
    },
    Program {
        name: "swap-fsync-dir",
        source: OURS,
        asks: "`current` replaced by a rename, its directory synced: does it stand for the new release?",
        setup: TWO_RELEASES,
        ops: &[Symlink("r2", "tmp"), Rename("tmp", "current"), Fsync("")],
    },
    Program {
        name: "swap-nothing-synced",
        source: OURS,
        asks: "a deploy without any sync: what does `current` lead to?",
        setup: ONE_RELEASE,
        ops: &[Put("r2/f", "b"), Symlink("r2", "tmp"), Rename("tmp", "current")],
    },
    Program {
        name: "swap-fsync-written-back",
        source: OURS,
        asks: "a file that the kernel may have written back long before is synced last: does it keep the rename?",
        setup: ONE_RELEASE,
        ops: &[Put("r2/f", "b"), Wait, Symlink("r2", "tmp"), Rename("tmp", "current"), Fsync("r2/f")],
    },
    Program {
        name: "swap-clean-fsync-old",
        source: OURS,
        asks: "`current` replaced, the old release emptied, then only that synced: is the rename kept as well?",
        setup: TWO_RELEASES,
        ops: &[Symlink("r2", "tmp"), Rename("tmp", "current"), Unlink("r1/f"), Fsync("r1")],
    },
    Program {
        name: "swap-clean-early",
        source: OURS,
        asks: "the old release removed before the rename is durable: does `current` lead to nothing?",
        setup: TWO_RELEASES,
        ops: &[Symlink("r2", "tmp"), Rename("tmp", "current"), Unlink("r1/f"), Rmdir("r1")],
    },
    Program {
        name: "deploy-syncfs",
        source: OURS,
        asks: "the protocol that is right: content and link by one syncfs, rename, fsync of its directory, then clean up",
        setup: ONE_RELEASE,
        ops: &[
            Put("r2/f", "b"),
            Symlink("r2", "tmp"),
            Syncfs,
            Rename("tmp", "current"),
            Fsync(""),
            Unlink("r1/f"),
            Rmdir("r1"),
        ],
    },
    Program {
        name: "deploy-fsyncs",
        source: OURS,
        asks: "the same by an fsync of each file and directory",
        setup: ONE_RELEASE,
        ops: &[
            Put("r2/f", "b"),
            Fsync("r2/f"),
            Fsync("r2"),
            Symlink("r2", "tmp"),
            Fsync(""),
            Rename("tmp", "current"),
            Fsync(""),
            Unlink("r1/f"),
        ],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use simfs::crash::Enumeration;

    use super::*;
    use crate::run::on_simulated;

    #[test]
    fn every_program_runs_and_is_small() {
        let names: BTreeSet<_> = ALL.iter().map(|program| program.name).collect();
        assert_eq!(names.len(), ALL.len(), "a name is used twice");
        let one_second = crate::program::Wait { seconds: 1, after_each: true };
        for program in ALL {
            let simulated = on_simulated(program, &program.ops_with(one_second)).unwrap();
            for k in 0..=simulated.trace.last() {
                let free = Enumeration::new(&simulated.trace, &simfs::POSIX, k).free();
                assert!(free <= 12, "{}: {free} free effects after op {k}", program.name);
            }
        }
    }
}
