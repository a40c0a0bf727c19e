//! Faults: what fails on purpose, when, and what came of it.
//!
//! A [`Schedule`] is a plain value: a list of [`Rule`]s, each of which says *when* ([`When`]) and *what*
//! ([`Fault`]). It is set on a disk with [`Disk::set_faults`](crate::Disk::set_faults), and what really happened
//! can be asked for with [`Disk::hits`](crate::Disk::hits): a run without a hit was a run without a fault.
//!
//! | fault | what the program sees | what the trace holds |
//! |---|---|---|
//! | [`Fault::Error`] | the errno, nothing was done | nothing; a sync call: a failed sync |
//! | [`Fault::Quota`] | `ENOSPC` or `EDQUOT`, after a write that was cut short | what fitted |
//! | [`Fault::ReadOnly`] | `EROFS` for changes, opening to write, sync calls | failed syncs |
//! | [`Fault::Delay`] | a call that takes longer, unless it is released | the op, at the end of the wait |
//! | [`Fault::Hang`] | a call that does not return before it is released | the op, once released |
//! | [`Fault::Crash`] | `ENOTCONN`, here and everywhere from now on | nothing from here on |
//! | [`Fault::Kill`] | nothing any more: `SIGKILL` before the call returns | nothing |
//! | [`Fault::Hook`] | what the harness does: kill a client, cut a connection | the op, unless the hook froze the disk |
//!
//! **A failed sync** forces nothing, and what it covered can never be forced by a later one, although a retry
//! returns success ([`model`](crate::model)): the pages are clean, as on Linux. The error is told to the caller of
//! that sync call only; Linux would tell every process that had the file open once. sync(2) returns nothing, so its
//! caller learns nothing.
//!
//! **Where a fault is met.** Calls are counted and refused as they reach the disk, before they are looked at: what
//! the kernel answers by itself, from its caches of names, attributes, links and content, never gets here, and what
//! a path lookup refuses (`ENOENT`, `EEXIST`, `EACCES`) does not either. So faults of reading calls are met on a
//! cold cache, after a mount. `close`, `flush` and locks are not calls of the disk.
//!
//! **While a call waits** ([`Fault::Delay`], [`Fault::Hang`]) nothing else of the same mount is served: there is
//! one order, and it stands still, as a disk whose queue is stuck. A mount that is served by several threads
//! ([`fuse::mount_here_with`](crate::fuse::mount_here_with)) goes on with the calls of others. The disk's lock is not
//! held meanwhile: the harness can look, mark, freeze and release. sync(2) and syncfs(2) arrive from outside of the
//! mount, so they can overtake a call that waits. A process that waits ignores even `SIGKILL` until the call is released, or the disk
//! frozen, or the mount cut.
//!
//! This module only decides; the disk does. It never judges what a program made of it.

mod armed;
mod call;
mod errno;
mod kill;

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fs::{Errno, Limits};
use crate::trace::Seq;

pub(crate) use armed::{Armed, Decision};
pub use call::{About, Call, Calls};

/// Which calls a rule meets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    /// Of one of these kinds.
    pub calls: Calls,
    /// A glob over paths from the disk's root, without a leading slash: `app/current`, `app/releases/*/index.html`,
    /// `**/*.css`; `*` and `?` do not match a slash. Nothing: any path.
    ///
    /// A call that names something (`mkdir`, `unlink`, a lookup) is met by that path; `rename` by the old and by
    /// the new one, `link` by the new one and by any that the file has. A call on something open (`write`, `fsync`)
    /// is met by any path that it has at that moment; `copy_file_range` by those of both files. Links on the way
    /// play no part: paths are those of the entries themselves. `syncfs` and `sync` have no path, so a rule with a
    /// glob never meets them.
    pub path: Option<String>,
    /// Which of these.
    pub at: At,
}

impl When {
    /// Every call of these kinds.
    pub fn every(calls: Calls) -> Self {
        Self { calls, ..Self::default() }
    }

    /// The `n`-th call of these kinds, counted from 1.
    pub fn nth(calls: Calls, n: u64) -> Self {
        Self { calls, at: At::Nth(n), ..Self::default() }
    }

    /// What would become op `seq` of the trace.
    pub fn op(seq: Seq) -> Self {
        Self { at: At::Op(seq), ..Self::default() }
    }

    /// What would become op `seq` of the trace, and every op after it.
    pub fn from_op(seq: Seq) -> Self {
        Self { at: At::FromOp(seq), ..Self::default() }
    }

    /// Only paths that match; see [`When::path`].
    #[must_use]
    pub fn path(self, glob: impl Into<String>) -> Self {
        Self { path: Some(glob.into()), ..self }
    }
}

/// Which of the calls with the right kind and path a rule meets. Calls are counted from the moment at which the
/// schedule is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum At {
    /// Each.
    #[default]
    Every,
    /// The `n`-th, counted from 1, once.
    Nth(u64),
    /// The `n`-th and each later one.
    From(u64),
    /// The one that would become this op of the trace, once: the first that comes while the op before is the last
    /// one. A call that is refused becomes no op, so the next call would become the same one; it is not met again.
    Op(Seq),
    /// The one that would become this op of the trace, and each later one.
    FromOp(Seq),
    /// About one in so many, chosen by the seed: the same of the same sequence of calls.
    Random {
        /// The seed.
        seed: u64,
        /// How many calls go to one that is met; 1 is each.
        one_in: u64,
    },
    /// The first calls of each caller of one half. A caller is a thread; which half it belongs to is chosen by the
    /// seed and by how many callers came before it. Those that cannot be seen are one caller together.
    ///
    /// For making some programs slower than others that run beside them.
    Callers {
        /// The seed.
        seed: u64,
        /// The other half: exactly those whose calls are not met otherwise.
        other_half: bool,
        /// How many calls of each.
        first: u64,
    },
}

/// What happens to a call that a rule meets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// It fails with this error, and nothing is done. A sync call is recorded as a failed sync.
    ///
    /// After `ESTALE` the kernel makes most calls a second time, so that a program sees it only if that fails too.
    /// No schedule may have `ENOSYS`, which the kernel would take for "never ask again", nor `ENOENT`, which it
    /// would remember as a fact.
    Error(#[serde(with = "errno")] Errno),
    /// From here on no more than this fits on the disk, what is there already included. The call that is met is the
    /// first that feels it. A hit is noted for each call that failed because of it.
    Quota(Limits),
    /// From here on nothing can be changed (`EROFS`) and nothing more becomes durable: the file system has met an
    /// error and gone read-only. The call that is met is the first that feels it. A hit is noted for each call that
    /// failed because of it.
    ReadOnly,
    /// It waits so long, or until [`Disk::release`](crate::Disk::release), then it goes on.
    Delay(Duration),
    /// It waits for [`Disk::release`](crate::Disk::release), then it goes on.
    Hang,
    /// The power is cut: it is not applied, and the disk is frozen, as by [`Disk::freeze`](crate::Disk::freeze).
    ///
    /// The kernel goes on to answer from its caches; cut the mount too, soon.
    Crash,
    /// The process that called gets `SIGKILL`, all of its threads; the call is not applied.
    ///
    /// Not ourselves, and no process that cannot be seen from where the disk was mounted: those get `EIO`, and the
    /// hit says that nobody was killed.
    Kill,
    /// Nothing by itself: the harness's hook ([`Disk::set_fault_hook`](crate::Disk::set_fault_hook)) has its turn,
    /// as it has at each fault, and then the call goes on. For what only a harness can do: kill the client, cut its
    /// connection.
    Hook,
}

/// One fault and when it happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// When.
    pub when: When,
    /// What.
    pub fault: Fault,
}

/// The faults of one run: a value that can be kept, printed and run again. The default has none.
///
/// A call that several rules meet suffers them in order, until one refuses it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schedule {
    /// The rules.
    pub rules: Vec<Rule>,
}

impl Schedule {
    /// One fault.
    pub fn one(when: When, fault: Fault) -> Self {
        Self::default().and(when, fault)
    }

    /// One more fault.
    #[must_use]
    pub fn and(mut self, when: When, fault: Fault) -> Self {
        self.rules.push(Rule { when, fault });
        self
    }

    /// One of the faults at one op of the range, both chosen by the seed: the same value for the same arguments.
    /// Without faults or with an empty range nothing happens.
    pub fn seeded(seed: u64, ops: RangeInclusive<Seq>, faults: &[Fault]) -> Self {
        let (lo, hi) = (u64::from(*ops.start()), u64::from(*ops.end()));
        if faults.is_empty() || lo > hi {
            return Self::default();
        }
        let op = lo + mixed(seed, 0) % (hi - lo + 1);
        let fault = &faults[(mixed(seed, 1) % faults.len() as u64) as usize];
        Self::one(When::op(op as Seq), fault.clone())
    }
}

/// A schedule that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {} of the fault schedule: {why}", rule + 1)]
pub struct BadSchedule {
    /// Which rule, counted from 0.
    pub rule: usize,
    why: String,
}

/// A fault that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The rule of the schedule, counted from 0.
    pub rule: usize,
    /// What happened.
    pub fault: Fault,
    /// The op that the call would have become, or became.
    pub op: Seq,
    /// Of which kinds the call was.
    pub calls: Calls,
    /// The paths that it was about, from the disk's root, as [`When::path`] sees them. Empty for `sync` and for
    /// what has lost its last name.
    pub paths: Vec<Vec<u8>>,
    /// The thread that called, as the process that mounted the disk sees it; 0 if it cannot.
    pub caller: u32,
    /// Whether a process was killed.
    pub killed: bool,
}

impl fmt::Display for Hit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            Fault::Kill if self.killed => write!(out, "killed process {}", self.caller)?,
            Fault::Kill => write!(out, "could not kill process {}", self.caller)?,
            fault => write!(out, "{fault}")?,
        }
        let mut names = self.calls.iter_names().map(|(name, _)| name.to_lowercase());
        write!(out, " at op {}: {}", self.op, names.next().unwrap_or_default())?;
        names.try_for_each(|name| write!(out, "+{name}"))?;
        self.paths.iter().try_for_each(|path| write!(out, " {}", show(path)))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(errno) => write!(out, "{}", errno::told(*errno)),
            Self::Quota(limits) => write!(
                out,
                "{} beyond {} bytes or {} inodes",
                errno::told(limits.full.errno()),
                limits.bytes,
                limits.inodes
            ),
            Self::ReadOnly => write!(out, "read-only"),
            Self::Delay(time) => write!(out, "a delay of {time:?}"),
            Self::Hang => write!(out, "a hang"),
            Self::Crash => write!(out, "a power cut"),
            Self::Kill => write!(out, "a kill of the caller"),
            Self::Hook => write!(out, "the harness's hook"),
        }
    }
}

/// A path as text that is safe on a terminal.
fn show(path: &[u8]) -> String {
    if path.is_empty() {
        return "(the root)".to_owned();
    }
    match std::str::from_utf8(path) {
        Ok(text) if !text.chars().any(|c| c.is_control() || !c.is_alphanumeric() && !c.is_ascii()) => {
            text.to_owned()
        }
        _ => path.escape_ascii().to_string(),
    }
}

/// Number `n` of the random sequence of a seed (splitmix64).
fn mixed(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
