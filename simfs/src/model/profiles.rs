//! The models, as data. Each rule names its evidence; where a litmus program is named, it runs on the real file system.

use super::{About, Forces, Growth, Medium, Model, Order, Reach, Rule};

/// POSIX's synchronised I/O. What a failed call covers is the same under every model.
const FSYNC_FILE: Forces = Forces {
    inode: true,
    data: true,
    size: true,
    attributes: true,
    entries: false,
    names: false,
    reach: Reach::Own,
};
const FDATASYNC_FILE: Forces = Forces { attributes: false, ..FSYNC_FILE };
const FSYNC_DIR: Forces = Forces { data: false, size: false, entries: true, ..FSYNC_FILE };

const EXT4_WRITEBACK: &str = "data stays in memory for about 30 s by default (vm.dirty_expire_centisecs), while the names of its files are \
             committed after 5: between the two this is what a power cut leaves, not a rare accident";
const XFS_WRITEBACK: &str = "data stays in memory for about 30 s by default (vm.dirty_expire_centisecs), and the log goes its own way: \
             within about a minute this is what a power cut may well leave";
const BTRFS_WRITEBACK: &str = "a commit comes every 30 s by default and takes only data that was written back already: within about a minute \
             this is what a power cut may well leave";

const SYNCFS: Rule = Rule {
    about: About::Other,
    text: "syncfs and sync make everything before them durable",
    evidence: "syncfs(2), sync(2): Linux waits for completion",
};
const FAILED: Rule = Rule {
    about: About::Other,
    text: "a sync call that failed makes nothing durable, and what it covered under `posix` can never be made durable \
           by a later one: the pages are clean",
    evidence: "Rebello et al., Can Applications Recover from fsync Failures?, USENIX ATC 2020",
};
const NOTHING_ELSE: Rule = Rule {
    about: About::Other,
    text: "close, exit and time make nothing durable",
    evidence: "close(2), NOTES",
};

/// The weakest promise that still lets software be written: POSIX's synchronised I/O, and nothing more.
///
/// Contains every state of [`EXT4_ORDERED`], [`XFS`] and [`BTRFS`], so that what is proved here holds under those.
pub const POSIX: Model = Model {
    name: "posix",
    about: "synchronised I/O as POSIX has it, and nothing more: contains ext4, xfs and btrfs",
    seen_on: None,
    likely: &[],
    medium: Medium::Honest,
    order: Order::Free,
    growth: Growth::Nothing,
    logs: false,
    fsync_file: FSYNC_FILE,
    fdatasync_file: FDATASYNC_FILE,
    fsync_dir: FSYNC_DIR,
    rules: &[
        Rule {
            about: About::Order,
            text: "nothing is ordered, except that a directory entry that survived brings the inode it names, \
                   possibly without its content: an empty file, an empty directory, an empty symlink",
            evidence: "Pillai et al., All File Systems Are Not Created Equal, OSDI 2014, table 1",
        },
        Rule {
            about: About::Other,
            text: "rename: the new name is one effect (it replaces atomically), the removal of the old name another",
            evidence: "POSIX.1-2024 rename(); the same paper, section 3",
        },
        Rule {
            about: About::Other,
            text: "fsync of a file makes its inode, data, size, mode and owner durable; not its name",
            evidence: "POSIX.1-2024 fsync(); fsync(2), NOTES: the directory needs an fsync of its own",
        },
        Rule {
            about: About::Other,
            text: "fdatasync of a file makes its inode, its data and the size needed to read it durable",
            evidence: "POSIX.1-2024 fdatasync(), synchronized I/O data integrity completion",
        },
        Rule {
            about: About::Other,
            text: "fsync of a directory makes its entries durable, the existence of each child they name, the \
                   text of symlinks among them, and its own inode, mode and owner",
            evidence: "fsync(2); a symlink cannot be opened for fsync, so its directory's fsync is the only way",
        },
        SYNCFS,
        FAILED,
        NOTHING_ELSE,
    ],
};

/// ext4 as it is mounted by default.
pub const EXT4_ORDERED: Model = Model {
    name: "ext4-ordered",
    about: "ext4 with data=ordered, a journal and barriers, as it is mounted by default; not fast_commit",
    seen_on: Some("Linux 6.18, 2026-11"),
    likely: &[
        (
            About::Order,
            "metadata is committed every 5 s by default (commit=5), so what a power cut takes are the last seconds",
        ),
        (About::Data, EXT4_WRITEBACK),
        (About::Length, EXT4_WRITEBACK),
    ],
    medium: Medium::Honest,
    order: Order::Chain,
    growth: Growth::Nothing,
    logs: false,
    fsync_file: Forces { reach: Reach::LastChange, ..FSYNC_FILE },
    fdatasync_file: Forces { reach: Reach::Birth, ..FDATASYNC_FILE },
    fsync_dir: Forces { reach: Reach::LastChange, ..FSYNC_DIR },
    rules: &[
        Rule {
            about: About::Order,
            text: "metadata (names, existence, attributes, link texts, lengths that shrink) is one chain in the order of \
                   the ops, each op whole: what survived of one brings all of those before",
            evidence: "fs/jbd2: one running transaction, committed in order; each op is one handle of it",
        },
        Rule {
            about: About::Data,
            text: "file data floats: a write may survive or not at any time, torn, and zeros where a block is new",
            evidence: "delayed allocation, fs/ext4/inode.c; litmus: overwrites in one and in two files",
        },
        Rule {
            about: About::Length,
            text: "a length that grew joins the chain when writeback begins, at any time after the write; it brings its \
                   inode, and what shrank it before, but no data: new blocks and the tail of the block that was the last \
                   may be zeros",
            evidence: "mpage_map_and_submit_extent(): the length is set when the write is submitted, the blocks are \
                       unwritten until it is complete (dioread_nolock), and data=ordered does not wait for those; litmus: \
                       syncfs-between, deploy-syncfs, append-in-block",
        },
        Rule {
            about: About::Other,
            text: "what was written after a truncation does not survive without it",
            evidence: "the blocks are new, and their mapping comes after the truncation in the journal",
        },
        Rule {
            about: About::Other,
            text: "fsync of a file or directory forces its data, and the chain up to its own last change (being given a \
                   name counts as one), nothing later: the kernel may have committed that long before",
            evidence: "ext4_fsync_journal(): i_sync_tid; litmus: fsync of a file that was written back long before",
        },
        Rule {
            about: About::Other,
            text: "fdatasync of a file forces its data, its size and the chain up to the op that made it; a chmod is lost",
            evidence: "ext4_fsync_journal(): i_datasync_tid; litmus: chmod and fdatasync",
        },
        Rule {
            about: About::Other,
            text: "replacing a file by rename starts its writeback and waits for nothing: no rule follows from it",
            evidence: "ext4_rename(): auto_da_alloc, filemap_flush()",
        },
        SYNCFS,
        FAILED,
        NOTHING_ELSE,
    ],
};

/// xfs.
pub const XFS: Model = Model {
    name: "xfs",
    about: "xfs as it is mounted by default",
    likely: &[
        (
            About::Order,
            "the log is written about every 30 s by default (fs.xfs.xfssyncd_centisecs) and when it fills up",
        ),
        (About::Data, XFS_WRITEBACK),
        (About::Length, XFS_WRITEBACK),
    ],
    growth: Growth::AllBlocks,
    rules: &[
        Rule {
            about: About::Order,
            text: "metadata (names, existence, attributes, link texts, lengths that shrink) is one chain in the order of \
                   the ops, each op whole: what survived of one brings all of those before",
            evidence: "fs/xfs/xfs_log_cil.c: checkpoints of the log in order; each op is one transaction or a chain of them",
        },
        Rule {
            about: About::Data,
            text: "file data floats: a write may survive or not at any time, torn",
            evidence: "delayed allocation; litmus: overwrites in one and in two files",
        },
        Rule {
            about: About::Length,
            text: "a length that grew joins the chain after its data is written, at any time after the write; it brings \
                   all blocks that grew, its inode, and what shrank it before",
            evidence: "xfs_end_ioend(): the size is set at the completion of the write; litmus: prefix append",
        },
        Rule {
            about: About::Other,
            text: "what was written after a truncation does not survive without it",
            evidence: "the blocks are new, and their mapping comes after the truncation in the log",
        },
        Rule {
            about: About::Other,
            text: "fsync of a file or directory forces its data, and the chain up to its own last change (being given a \
                   name counts as one), nothing later",
            evidence: "xfs_fsync_flush_log(): up to the last sequence of the log that has the inode",
        },
        Rule {
            about: About::Other,
            text: "fdatasync of a file forces its data, its size and the chain up to the op that made it",
            evidence: "the same; POSIX asks for no more",
        },
        SYNCFS,
        FAILED,
        NOTHING_ELSE,
    ],
    ..EXT4_ORDERED
};

/// btrfs.
pub const BTRFS: Model = Model {
    name: "btrfs",
    about: "btrfs as it is mounted by default, with its log of fsyncs; not flushoncommit, not nodatacow",
    likely: &[
        (
            About::Order,
            "a commit comes every 30 s by default (commit=30): within that a power cut takes all that was not synced",
        ),
        (About::Data, BTRFS_WRITEBACK),
        (About::Length, BTRFS_WRITEBACK),
    ],
    seen_on: Some("Linux 6.18, 2026-11"),
    medium: Medium::Honest,
    order: Order::Chain,
    growth: Growth::AllBlocks,
    logs: true,
    fsync_file: Forces { names: true, ..FSYNC_FILE },
    fdatasync_file: Forces { names: true, ..FDATASYNC_FILE },
    fsync_dir: FSYNC_DIR,
    rules: &[
        Rule {
            about: About::Order,
            text: "a commit is an atomic cut: metadata (names, existence, attributes, link texts, lengths that shrink) in \
                   the order of the ops, each op whole",
            evidence: "fs/btrfs/transaction.c: the superblock is written last",
        },
        Rule {
            about: About::Data,
            text: "file data floats: a block joins the next commit once it is written back, whole, at any time after the \
                   write",
            evidence: "copy on write, btrfs_finish_ordered_io(); litmus: overwrites in one and in two files",
        },
        Rule {
            about: About::Length,
            text: "a length that grew joins likewise; it brings all blocks that grew, its inode, and what shrank it before",
            evidence: "btrfs_inode_safe_disk_i_size_write(); litmus: prefix append",
        },
        Rule {
            about: About::Other,
            text: "what was written after a truncation does not survive without it",
            evidence: "both are in one tree, and the truncation is the earlier change",
        },
        Rule {
            about: About::Other,
            text: "fsync of a file forces its inode, data, size, mode and owner, the names that it has, and that the \
                   directories above exist with the names that they were made with; not the removal of former names; \
                   nothing else",
            evidence: "fs/btrfs/tree-log.c: btrfs_log_inode_parent(), log_all_new_ancestors(); litmus: implied \
                       directory fsync, rename and fsync",
        },
        Rule {
            about: About::Other,
            text: "fsync of a directory forces its entries, the existence of each child they name (files of size 0), the \
                   text of symlinks among them, and its own inode, mode and owner",
            evidence: "the same file: log_directory_changes(), log_new_dir_dentries()",
        },
        Rule {
            about: About::Log,
            text: "what else an fsync of a file or directory may log is not modelled: from its begin on, any metadata of \
                   before it may survive without the rest, except that an entry brings the inode it names, and the \
                   text if that is a symlink",
            evidence: "log replay puts single items back; symlinks are always logged whole. The rule only adds states",
        },
        SYNCFS,
        FAILED,
        NOTHING_ELSE,
    ],
};

/// A disk that says it has written what it has not.
pub const LYING_DISK: Model = Model {
    name: "lying-disk",
    about: "a disk that ignores flushes; opt-in: nothing can be safe on it, but how bad it gets can be seen",
    medium: Medium::Lying,
    rules: &[
        Rule {
            about: About::Other,
            text: "no sync call makes anything durable",
            evidence: "disks with a volatile cache that lies",
        },
        Rule {
            about: About::Order,
            text: "a directory entry that survived brings the inode it names, as under `posix`",
            evidence: "otherwise nothing but an unreadable disk would be left to talk about",
        },
    ],
    ..POSIX
};

/// No power loss at all: a control, never sold as a proof.
pub const PROCESS_KILL: Model = Model {
    name: "process-kill",
    about: "the processes are gone, the machine stays up; a control, not a proof about power losses",
    medium: Medium::Lasting,
    rules: &[Rule {
        about: About::Other,
        text: "every op that was applied survives",
        evidence: "the page cache belongs to the kernel, not to the process",
    }],
    ..POSIX
};

/// All models: `posix`, what it contains, and the two that are asked for by name only.
pub const MODELS: [&Model; 6] = [&POSIX, &EXT4_ORDERED, &XFS, &BTRFS, &LYING_DISK, &PROCESS_KILL];

/// The models of file systems, in the order of the verdict table: `posix`, and those that it contains.
pub const FILE_SYSTEMS: [&Model; 4] = [&POSIX, &EXT4_ORDERED, &XFS, &BTRFS];
