//! The real file systems: how each is made and mounted, and which profile speaks for it.

use std::fmt;

/// A real file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub(crate) enum Kind {
    /// ext4 with its default mount options: `data=ordered`, barriers, delayed allocation.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
}

/// Bytes of every device. XFS refuses to be made on less than 300 MB; the others use a part.
pub(crate) const DEVICE_BYTES: u64 = 320 << 20;

impl Kind {
    /// Name, as for mount(2).
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The sector that a power loss has to leave whole: ext4 and btrfs cannot be mounted any more when their superblock,
    /// which has a checksum, is torn; that of xfs is one sector long.
    pub(crate) fn sector_bytes(self) -> u32 {
        match self {
            Self::Ext4 | Self::Btrfs => 4096,
            Self::Xfs => 512,
        }
    }

    /// The program that makes it.
    pub(crate) fn mkfs(self) -> &'static str {
        match self {
            Self::Ext4 => "mkfs.ext4",
            Self::Xfs => "mkfs.xfs",
            Self::Btrfs => "mkfs.btrfs",
        }
    }

    /// What comes before and after the device on the command line of [`Kind::mkfs`]. Nothing but the size and what keeps
    /// the kernel from initialising in the background is changed.
    pub(crate) fn mkfs_args(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Ext4 => (
                &["-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"],
                &["64M"],
            ),
            Self::Xfs => (&["-q", "-f", "-K"], &[]),
            Self::Btrfs => (&["-q", "-f", "-K", "-b", "128M"], &[]),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}
