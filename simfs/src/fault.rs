//! Faults: what fails on purpose, when, and what came of it.
//!
//! A [`Schedule`] is a plain value: a list of [`Rule`]s, each of which says *when* ([`When`]) and *what* ([`Fault`]). It is
//! set on a disk with [`Disk::set_faults`](crate::Disk::set_faults), and what really happened can be asked for with
//! [`Disk::hits`](crate::Disk::hits): a run without a hit was a run without a fault.
//!
//! | fault | what the program sees | what the trace holds |
//! |---|---|---|
//! | [`Fault::Error`] | the errno, nothing was done | nothing; a sync call: a failed sync |
//! | [`Fault::Quota`] | `ENOSPC` or `EDQUOT` for what does not fit, after a write that was cut short where part of it fitted | what fitted |
//! | [`Fault::ReadOnly`] | `EROFS` for everything that changes something, for opening for writing, and for sync calls | nothing; sync calls: failed syncs |
//! | [`Fault::Delay`] | a call that takes longer | the op, at the end of the wait |
//! | [`Fault::Hang`] | a call that does not return until [`Disk::release`](crate::Disk::release) | the op, once it is released |
//! | [`Fault::Crash`] | `ENOTCONN`, here and everywhere from now on | nothing from here on |
//! | [`Fault::Kill`] | nothing any more: `SIGKILL` before the call returns | nothing |
//! | [`Fault::Hook`] | what the harness does: kill a client, cut a connection | the op, unless the hook froze the disk |
//!
//! **A failed sync** forces nothing, and what it covered can never be forced by a later one, although a retry returns success
//! ([`model`](crate::model)): the pages are clean, as on Linux. The error is told to the caller of that sync call only;
//! Linux would tell every process that had the file open once. sync(2) returns nothing, so its caller learns nothing.
//!
//! **Where a fault is met.** Calls are counted and refused as they reach the disk, before they are looked at: what the kernel answers
//! by itself, from its caches of names, attributes, links and content, never gets here, and what a path lookup refuses
//! (`ENOENT`, `EEXIST`, `EACCES`) does not either. So faults of reading calls are met on a cold cache, after a mount.
//! `close`, `flush` and locks are not calls of the disk.
//!
//! **While a call waits** ([`Fault::Delay`], [`Fault::Hang`]) nothing else of the same mount is served: there is one order,
//! and it stands still, as a disk whose queue is stuck. The disk's lock is not held meanwhile: the harness can look, mark,
//! freeze and release. sync(2) and syncfs(2) arrive from outside of the mount, so they can overtake a call that waits.
//! A process that waits ignores even `SIGKILL` until the call is released, or the disk frozen, or the mount cut.
//!
//! The engine below ([`Armed`]) only decides; the disk does. It never judges what a program made of it.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use globset::{Candidate, GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};

use crate::cell::Ino;
use crate::fs::{Errno, Fs, Limits};
use crate::trace::Seq;

bitflags::bitflags! {
    /// A set of kinds of calls.
    ///
    /// One call can be of more than one kind: attributes that are set together are [`Calls::TRUNCATE`], [`Calls::CHOWN`],
    /// [`Calls::CHMOD`] and [`Calls::TIMES`], and a rule meets it if its set holds any of them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub struct Calls: u32 {
        /// A new file, FIFO or socket (`open` with `O_CREAT`, `mknod`).
        const CREATE = 1;
        /// `mkdir`.
        const MKDIR = 1 << 1;
        /// `symlink`.
        const SYMLINK = 1 << 2;
        /// `link`.
        const LINK = 1 << 3;
        /// `unlink`.
        const UNLINK = 1 << 4;
        /// `rmdir`.
        const RMDIR = 1 << 5;
        /// `rename`, `renameat2`.
        const RENAME = 1 << 6;
        /// `write`; the kernel splits one of more than 1 MiB into several.
        const WRITE = 1 << 7;
        /// `truncate`, `ftruncate`, `open` with `O_TRUNC` of a file that exists.
        const TRUNCATE = 1 << 8;
        /// `fallocate`.
        const FALLOCATE = 1 << 9;
        /// `copy_file_range`; reads as well as writes.
        const COPY_RANGE = 1 << 10;
        /// `chmod`.
        const CHMOD = 1 << 11;
        /// `chown`.
        const CHOWN = 1 << 12;
        /// `setxattr`, `removexattr`.
        const SET_XATTR = 1 << 13;
        /// `utimensat`. Changes something, but never becomes an op of the trace.
        const TIMES = 1 << 14;

        /// `fsync` of a file, and what `O_SYNC` does after a write.
        const FSYNC = 1 << 16;
        /// `fdatasync` of a file, and what `O_DSYNC` does after a write.
        const FDATASYNC = 1 << 17;
        /// `fsync` or `fdatasync` of a directory.
        const FSYNC_DIR = 1 << 18;
        /// `syncfs`, as `sync -f` calls it.
        const SYNCFS = 1 << 19;
        /// `sync` of all disks.
        const SYNC = 1 << 20;

        /// A name is looked up. Cached by the kernel.
        const LOOKUP = 1 << 22;
        /// `stat`. Cached by the kernel.
        const GETATTR = 1 << 23;
        /// `readlink`, and following a link. Cached by the kernel.
        const READLINK = 1 << 24;
        /// `open` of a file that exists.
        const OPEN = 1 << 25;
        /// `read`. Cached by the kernel, also what was written before; it reads ahead.
        const READ = 1 << 26;
        /// `opendir`.
        const OPENDIR = 1 << 27;
        /// `readdir`.
        const READDIR = 1 << 28;
        /// `getxattr`, `listxattr`.
        const GET_XATTR = 1 << 29;
        /// `lseek` to data or to a hole.
        const SEEK = 1 << 30;
        /// `statfs`.
        const STATFS = 1 << 31;

        /// All that change something.
        const CHANGES = Self::CREATE.bits() | Self::MKDIR.bits() | Self::SYMLINK.bits() | Self::LINK.bits()
            | Self::UNLINK.bits() | Self::RMDIR.bits() | Self::RENAME.bits() | Self::WRITE.bits()
            | Self::TRUNCATE.bits() | Self::FALLOCATE.bits() | Self::COPY_RANGE.bits() | Self::CHMOD.bits()
            | Self::CHOWN.bits() | Self::SET_XATTR.bits() | Self::TIMES.bits();
        /// All that make something durable.
        const SYNCS = Self::FSYNC.bits() | Self::FDATASYNC.bits() | Self::FSYNC_DIR.bits() | Self::SYNCFS.bits()
            | Self::SYNC.bits();
        /// All that only read.
        const READS = Self::LOOKUP.bits() | Self::GETATTR.bits() | Self::READLINK.bits() | Self::OPEN.bits()
            | Self::READ.bits() | Self::OPENDIR.bits() | Self::READDIR.bits() | Self::GET_XATTR.bits()
            | Self::SEEK.bits() | Self::STATFS.bits();
    }
}

/// What can become an op of the trace: [`Calls::CHANGES`] without [`Calls::TIMES`], and [`Calls::SYNCS`].
impl Default for Calls {
    fn default() -> Self {
        (Self::CHANGES | Self::SYNCS) - Self::TIMES
    }
}

/// Which calls a rule meets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    /// Of one of these kinds.
    pub calls: Calls,
    /// A glob over paths from the disk's root, without a leading slash: `app/current`, `app/releases/*/index.html`,
    /// `**/*.css`; `*` and `?` do not match a slash. Nothing: any path.
    ///
    /// A call that names something (`mkdir`, `unlink`, a lookup) is met by that path; `rename` by the old and by the new one, `link`
    /// by the new one and by any that the file has. A call on something open (`write`, `fsync`) is met by any path that
    /// it has at that moment; `copy_file_range` by those of both files. Links on the way play no part: paths are those of the
    /// entries themselves. `syncfs` and `sync` have no path, so a rule with a glob never meets them.
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

/// Which of the calls with the right kind and path a rule meets. Calls are counted from the moment at which the schedule is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum At {
    /// Each.
    #[default]
    Every,
    /// The `n`-th, counted from 1, once.
    Nth(u64),
    /// The `n`-th and each later one.
    From(u64),
    /// The one that would become this op of the trace, once: the first that comes while the op before is the last one. A call that is refused
    /// becomes no op, so the next call would become the same one; it is not met again.
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
}

/// What happens to a call that a rule meets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// It fails with this error, and nothing is done. A sync call is recorded as a failed sync.
    ///
    /// Not `ENOSYS`, which the kernel would take for "never ask again", and not `ENOENT`, which it would remember as a fact.
    Error(#[serde(with = "errno_by_name")] Errno),
    /// From here on no more than this fits on the disk, what is there already included. The call that is met is the first that
    /// feels it. A hit is noted for each call that failed because of it.
    Quota(Limits),
    /// From here on nothing can be changed (`EROFS`) and nothing more becomes durable: the file system has met an error and
    /// gone read-only. The call that is met is the first that feels it. A hit is noted for each call that failed because of it.
    ReadOnly,
    /// It waits so long, then it goes on.
    Delay(Duration),
    /// It waits for [`Disk::release`](crate::Disk::release), then it goes on.
    Hang,
    /// The power is cut: it is not applied, and the disk is frozen, as by [`Disk::freeze`](crate::Disk::freeze).
    ///
    /// The kernel goes on to answer from its caches; cut the mount too, soon.
    Crash,
    /// The process that called gets `SIGKILL`, all of its threads; the call is not applied.
    ///
    /// Not ourselves, and no process that cannot be seen from where the disk was mounted: those get `EIO`, and the hit says that nobody was killed.
    Kill,
    /// Nothing by itself: the harness's hook ([`Disk::set_fault_hook`](crate::Disk::set_fault_hook)) has its turn, as it
    /// has at each fault, and then the call goes on. For what only a harness can do: kill the client, cut its connection.
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

    /// One of the faults at one op of the range, both chosen by the seed: the same value for the same arguments. Without faults or
    /// with an empty range nothing happens.
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
    /// The paths that it was about, from the disk's root, as [`When::path`] sees them. Empty for `sync` and for what has lost its last name.
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
            Self::Error(errno) => write!(out, "{}", errno_by_name::told(*errno)),
            Self::Quota(limits) => write!(
                out,
                "{} beyond {} bytes or {} inodes",
                errno_by_name::told(limits.full.errno()),
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

/// What a call is about.
#[derive(Clone, Copy, Debug)]
pub enum About<'a> {
    /// The disk as a whole.
    Disk,
    /// An inode, whatever its names.
    Inode(Ino),
    /// A name in a directory.
    Name(Ino, &'a [u8]),
    /// Two names: those of a rename.
    Names([(Ino, &'a [u8]); 2]),
    /// An inode and a new name for it.
    Link(Ino, (Ino, &'a [u8])),
    /// Two inodes: those of a copy.
    Inodes([Ino; 2]),
}

/// A call as it reaches a disk: all that a rule can ask about.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Of which kinds it is.
    pub calls: Calls,
    /// What it is about.
    pub about: About<'a>,
    /// The thread that called, as this process sees it; 0 if it cannot.
    pub caller: u32,
    /// Whether it opens something for writing.
    pub for_writing: bool,
}

impl<'a> Call<'a> {
    /// A call that opens nothing for writing.
    pub fn new(calls: Calls, about: About<'a>, caller: u32) -> Self {
        Self { calls, about, caller, for_writing: false }
    }

    fn paths(&self, fs: &mut Fs) -> Vec<Vec<u8>> {
        let mut paths = Vec::new();
        let mut add_inode = |fs: &mut Fs, ino| paths.extend(fs.paths(ino));
        match self.about {
            About::Disk => {}
            About::Inode(ino) | About::Link(ino, _) => add_inode(fs, ino),
            About::Inodes(inos) => inos.into_iter().for_each(|ino| add_inode(fs, ino)),
            About::Name(..) | About::Names(_) => {}
        }
        let names: &[(Ino, &[u8])] = match &self.about {
            About::Name(dir, name) => &[(*dir, *name)],
            About::Names(names) => names,
            About::Link(_, name) => std::slice::from_ref(name),
            _ => &[],
        };
        for (dir, name) in names {
            for mut path in fs.paths(*dir) {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(name);
                paths.push(path);
            }
        }
        paths
    }
}

/// What the disk has to do with a call, in this order.
pub(crate) struct Decision {
    /// Faults to be told and suffered before the call goes on or is refused.
    pub(crate) steps: Vec<Hit>,
    /// Why it is refused, if it is; a failed sync is one that was refused and nobody was killed.
    pub(crate) refused: Option<Errno>,
}

/// A schedule at work: its rules with what they have counted.
#[derive(Default)]
pub(crate) struct Armed {
    rules: Vec<ArmedRule>,
    read_only: Option<usize>,
    quota: Option<(usize, Limits)>,
}

struct ArmedRule {
    rule: Rule,
    glob: Option<GlobMatcher>,
    met: u64,
    done: bool,
}

impl Armed {
    pub(crate) fn new(schedule: &Schedule) -> Result<Self, BadSchedule> {
        let mut rules = Vec::new();
        for (at, rule) in schedule.rules.iter().enumerate() {
            rules.push(ArmedRule::new(rule).map_err(|why| BadSchedule { rule: at, why })?);
        }
        Ok(Self { rules, ..Self::default() })
    }

    /// Whether nothing can happen to any call.
    pub(crate) fn is_idle(&self) -> bool {
        self.rules.is_empty()
    }

    /// Counts a call, and says what happens to it.
    pub(crate) fn decide(&mut self, call: &Call<'_>, fs: &mut Fs) -> Decision {
        let op = fs.trace().last() + 1;
        let mut paths = None;
        let mut decision = Decision { steps: Vec::new(), refused: None };
        for (at, rule) in self.rules.iter_mut().enumerate() {
            let met = rule.meets(call, op, || paths.get_or_insert_with(|| call.paths(fs)));
            if !met || decision.refused.is_some() {
                continue;
            }
            match &rule.rule.fault {
                Fault::Quota(limits) => {
                    fs.set_limits(*limits);
                    self.quota = Some((at, *limits));
                    continue;
                }
                Fault::ReadOnly => {
                    self.read_only.get_or_insert(at);
                    continue;
                }
                Fault::Error(errno) => decision.refused = Some(*errno),
                Fault::Crash => decision.refused = Some(Errno::NOTCONN),
                Fault::Kill => decision.refused = Some(Errno::IO),
                Fault::Delay(_) | Fault::Hang | Fault::Hook => {}
            }
            let paths = paths.get_or_insert_with(|| call.paths(fs)).clone();
            decision.steps.push(hit(at, &rule.rule.fault, op, call, paths));
        }
        if let (Some(at), None) = (self.read_only, decision.refused)
            && (call.for_writing || call.calls.intersects(Calls::CHANGES | Calls::SYNCS))
        {
            decision.refused = Some(Errno::ROFS);
            let paths = paths.unwrap_or_else(|| call.paths(fs));
            decision.steps.push(hit(at, &Fault::ReadOnly, op, call, paths));
        }
        decision
    }

    /// The hit of a call that a quota made fail.
    pub(crate) fn hit_by_quota(&self, call: &Call<'_>, errno: Errno, fs: &mut Fs) -> Option<Hit> {
        let (at, limits) = self.quota?;
        let by_it = limits.full.errno() == errno && call.calls.intersects(Calls::CHANGES);
        by_it.then(|| hit(at, &Fault::Quota(limits), fs.trace().last() + 1, call, call.paths(fs)))
    }
}

fn hit(rule: usize, fault: &Fault, op: Seq, call: &Call<'_>, paths: Vec<Vec<u8>>) -> Hit {
    Hit { rule, fault: fault.clone(), op, calls: call.calls, paths, caller: call.caller, killed: false }
}

impl ArmedRule {
    fn new(rule: &Rule) -> Result<Self, String> {
        let compile = |glob: &String| GlobBuilder::new(glob).literal_separator(true).build();
        let glob = rule.when.path.as_ref().map(compile).transpose().map_err(|error| error.to_string())?;
        if rule.when.path.as_ref().is_some_and(|path| path.starts_with('/')) {
            return Err("a path starts at the disk's root, without a slash".to_owned());
        }
        if rule.when.calls.is_empty() || !Calls::all().contains(rule.when.calls) {
            return Err("no kind of call can be met".to_owned());
        }
        match rule.when.at {
            At::Nth(0) | At::From(0) => return Err("calls are counted from 1".to_owned()),
            At::Op(0) | At::FromOp(0) => return Err("op 0 is the initial disk; ops count from 1".to_owned()),
            At::Random { one_in: 0, .. } => return Err("one in 0 calls is none; 1 is each".to_owned()),
            _ => {}
        }
        if let Fault::Error(errno) = rule.fault {
            errno_by_name::check(errno)?;
        }
        Ok(Self { rule: rule.clone(), glob: glob.map(|glob| glob.compile_matcher()), met: 0, done: false })
    }

    fn meets<'p>(&mut self, call: &Call<'_>, op: Seq, paths: impl FnOnce() -> &'p mut Vec<Vec<u8>>) -> bool {
        if !self.rule.when.calls.intersects(call.calls) {
            return false;
        }
        if let Some(glob) = &self.glob {
            let matches = |path: &Vec<u8>| {
                use std::os::unix::ffi::OsStrExt as _;
                glob.is_match_candidate(&Candidate::new(std::ffi::OsStr::from_bytes(path)))
            };
            if !paths().iter().any(matches) {
                return false;
            }
        }
        self.met += 1;
        let met = match self.rule.when.at {
            At::Every => true,
            At::Nth(n) => self.met == n,
            At::From(n) => self.met >= n,
            At::Op(n) => op == n && !self.done,
            At::FromOp(n) => op >= n,
            At::Random { seed, one_in } => mixed(seed, self.met).is_multiple_of(one_in),
        };
        self.done |= met;
        met
    }
}

/// Number `n` of the random sequence of a seed (splitmix64).
fn mixed(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Error numbers by their names, or as numbers where we have no name.
mod errno_by_name {
    use rustix::io::Errno;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

    /// What a disk may answer.
    const NAMES: [(&str, Errno); 24] = [
        ("EIO", Errno::IO),
        ("ENOSPC", Errno::NOSPC),
        ("EDQUOT", Errno::DQUOT),
        ("EROFS", Errno::ROFS),
        ("EPERM", Errno::PERM),
        ("EACCES", Errno::ACCESS),
        ("EINTR", Errno::INTR),
        ("EAGAIN", Errno::AGAIN),
        ("ENOMEM", Errno::NOMEM),
        ("EBUSY", Errno::BUSY),
        ("EEXIST", Errno::EXIST),
        ("ENXIO", Errno::NXIO),
        ("ENODEV", Errno::NODEV),
        ("EINVAL", Errno::INVAL),
        ("EMFILE", Errno::MFILE),
        ("ENFILE", Errno::NFILE),
        ("EFBIG", Errno::FBIG),
        ("EMLINK", Errno::MLINK),
        ("ELOOP", Errno::LOOP),
        ("EOPNOTSUPP", Errno::OPNOTSUPP),
        ("ENOTCONN", Errno::NOTCONN),
        ("ETIMEDOUT", Errno::TIMEDOUT),
        ("ESTALE", Errno::STALE),
        ("EUCLEAN", Errno::UCLEAN),
    ];

    /// The last number that the kernel lets through to a program.
    const MAX: i32 = 511;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Told {
        Name(String),
        Number(i32),
    }

    pub(super) fn told(errno: Errno) -> String {
        let name = NAMES.iter().find(|(_, known)| *known == errno).map(|(name, _)| *name);
        name.map_or_else(|| format!("errno {}", errno.raw_os_error()), str::to_owned)
    }

    pub(super) fn check(errno: Errno) -> Result<(), String> {
        match errno {
            Errno::NOSYS => {
                Err("ENOSYS makes the kernel do without such calls for ever; choose another error".to_owned())
            }
            Errno::NOENT => {
                Err("ENOENT is an answer that the kernel remembers, not a failure; choose another error"
                    .to_owned())
            }
            errno if !(1..=MAX).contains(&errno.raw_os_error()) => {
                Err(format!("{} is no error number", errno.raw_os_error()))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn serialize<S: Serializer>(errno: &Errno, to: S) -> Result<S::Ok, S::Error> {
        match NAMES.iter().find(|(_, known)| known == errno) {
            Some((name, _)) => name.serialize(to),
            None => errno.raw_os_error().serialize(to),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Errno, D::Error> {
        match Told::deserialize(from)? {
            Told::Number(number) if (1..=MAX).contains(&number) => Ok(Errno::from_raw_os_error(number)),
            Told::Number(number) => Err(D::Error::custom(format!("{number} is no error number"))),
            Told::Name(name) => {
                let found = NAMES.iter().find(|(known, _)| *known == name).map(|(_, errno)| *errno);
                found.ok_or_else(|| D::Error::custom(format!("unknown error name {name:?}; use its number")))
            }
        }
    }
}
