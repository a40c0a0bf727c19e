//! What is held against reality: the profiles, and beliefs that say too much.
//!
//! Those are there to be refuted. Two are canaries: a rig that cannot refute them would not notice a wrong profile either.
//! The others are the profile of a file system with one rule made stronger ([`simfs::model::mutations`]): what is not refuted
//! may be something that the profile could say and does not.

use std::sync::OnceLock;

use simfs::model::{Forces, mutations};
use simfs::{Model, OpKind, POSIX, SyncScope};

use crate::allowed::trace_with;
use crate::kind::Kind;
use crate::run::Simulated;

/// The profile of a file system.
pub(crate) fn profile(kind: Kind) -> &'static Model {
    match kind {
        Kind::Ext4 => &simfs::model::EXT4_ORDERED,
        Kind::Xfs => &simfs::model::XFS,
        Kind::Btrfs => &simfs::model::BTRFS,
    }
}

/// A belief with a rule too many.
#[derive(Debug)]
pub(crate) struct TooStrong {
    /// In words.
    pub(crate) name: String,
    /// Whether a rig that does not refute it is broken.
    pub(crate) canary: bool,
    model: Model,
    /// It is about the program in which each sync call is a `syncfs`.
    sync_is_syncfs: bool,
}

/// All that are held against a file system.
pub(crate) fn too_strong(kind: Kind) -> &'static [TooStrong] {
    static ALL: [OnceLock<Vec<TooStrong>>; 3] = [const { OnceLock::new() }; 3];
    ALL[kind as usize].get_or_init(|| {
        let modes = Forces { attributes: true, ..POSIX.fdatasync_file };
        let canary = |name: &str, model, sync_is_syncfs| TooStrong {
            name: format!("false:{name}"),
            canary: true,
            model,
            sync_is_syncfs,
        };
        let canaries = [
            canary("fdatasync-keeps-modes", Model { fdatasync_file: modes, ..POSIX }, false),
            canary("fsync-keeps-everything", POSIX, true),
        ];
        let profile = profile(kind);
        let stronger = mutations(profile).into_iter().filter(|mutation| !mutation.weaker);
        let stronger = stronger.map(|mutation| TooStrong {
            name: format!("{}, but {}", profile.name, mutation.what),
            canary: false,
            model: mutation.model,
            sync_is_syncfs: false,
        });
        canaries.into_iter().chain(stronger).collect()
    })
}

/// A statement about what a power loss may leave.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Belief {
    /// A persistence model.
    Profile(&'static Model),
    /// One that says too much.
    TooStrong(&'static TooStrong),
}

impl Belief {
    /// All that is held against a file system; `refute`: what says too much as well.
    pub(crate) fn about(kind: Kind, refute: bool) -> Vec<Self> {
        let profiles = [Self::Profile(&POSIX), Self::Profile(profile(kind))];
        let too_strong = too_strong(kind).iter().filter(|_| refute).map(Self::TooStrong);
        profiles.into_iter().chain(too_strong).collect()
    }

    /// Its model.
    pub(crate) fn model(self) -> &'static Model {
        match self {
            Self::Profile(model) => model,
            Self::TooStrong(belief) => &belief.model,
        }
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Profile(model) => model.name,
            Self::TooStrong(belief) => &belief.name,
        }
    }

    /// Whether it is a profile.
    pub(crate) fn is_profile(self) -> bool {
        matches!(self, Self::Profile(_))
    }

    /// The program as the belief has it.
    pub(crate) fn program(self, simulated: &Simulated) -> Simulated {
        let trace = match self {
            Self::TooStrong(TooStrong { sync_is_syncfs: true, .. }) => {
                trace_with(&simulated.trace, |_, kind| match kind {
                    OpKind::Sync { returned, ok, .. } => OpKind::Sync { scope: SyncScope::All, returned, ok },
                    kind => kind,
                })
            }
            _ => simulated.trace.clone(),
        };
        Simulated { trace, doings: simulated.doings.clone() }
    }
}
