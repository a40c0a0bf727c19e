//! What is held against reality: the profiles, and beliefs that are false.
//!
//! The false ones are there to be refuted. A rig that cannot refute them would not notice a wrong profile either.

use simfs::model::Forces;
use simfs::{Model, OpKind, POSIX, SyncScope};

use crate::allowed::trace_with;
use crate::kind::Kind;
use crate::run::Simulated;

/// The profile of a file system.
pub(crate) fn profile(kind: Kind) -> Option<&'static Model> {
    Model::named(match kind {
        Kind::Ext4 => "ext4-ordered",
        Kind::Xfs => "xfs",
        Kind::Btrfs => "btrfs",
    })
}

/// `posix`, but `fdatasync` keeps permission bits too.
static MODES: Model = Model {
    name: "false:fdatasync-keeps-modes",
    fdatasync_file: Forces { attributes: true, ..POSIX.fdatasync_file },
    ..POSIX
};

/// `posix`, but a sync of one thing syncs everything.
static EVERYTHING: Model = Model { name: "false:fsync-keeps-everything", ..POSIX };

/// A statement about what a power loss may leave.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Belief {
    /// A persistence model.
    Model(&'static Model),
    /// [`POSIX`] about a program in which each sync call is a `syncfs`.
    SyncIsSyncfs,
}

impl Belief {
    /// All that is false.
    pub(crate) const FALSE: [Self; 2] = [Self::Model(&MODES), Self::SyncIsSyncfs];

    /// Its model.
    pub(crate) fn model(self) -> &'static Model {
        match self {
            Self::Model(model) => model,
            Self::SyncIsSyncfs => &EVERYTHING,
        }
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        self.model().name
    }

    /// The program as the belief has it.
    pub(crate) fn about(self, simulated: &Simulated) -> Simulated {
        let trace = match self {
            Self::Model(_) => simulated.trace.clone(),
            Self::SyncIsSyncfs => trace_with(&simulated.trace, |_, kind| match kind {
                OpKind::Sync { returned, ok, .. } => OpKind::Sync { scope: SyncScope::All, returned, ok },
                kind => kind,
            }),
        };
        Simulated { trace, after: simulated.after.clone() }
    }
}
