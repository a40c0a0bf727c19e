//! [`Plan`]: what a deploy will do, decided by a pure function from the host's state and the source.
//!
//! Invariant, checked by the only constructor: between the last write and a [`Step::Rename`] there is a
//! [`Step::Barrier`], the tree was verified, and nothing is called live before [`Step::SyncCurrent`]. A plan with a
//! cutover that no barrier covers cannot be built.

use std::collections::BTreeSet;
use std::fmt;

use crate::diff::{self, Changes};
use crate::manifest::{Entry, Manifest};
use crate::path::RelPath;
use crate::release::ReleaseId;
use crate::remote::observed::{Current, Observed};
use crate::shared::{self, SharedLinks};
use crate::text::{human_bytes, printable};

/// How many releases remain.
pub const KEEP: usize = 3;

/// One verb on the host. What is durable after each is said in `remote/lib.sh`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Add the marker of the release `current` resolves to: an earlier run died before it could.
    Recover(ReleaseId),
    /// Remove leftovers in `.cutover`: staging folders and temporary links, by name.
    SweepPrivate(Vec<Vec<u8>>),
    /// Remove unfinished releases of earlier runs.
    Sweep(Vec<ReleaseId>),
    /// Note, durably, that the release is unfinished.
    Intend,
    /// Copy the base.
    Copy(ReleaseId),
    /// Stream what is new into the staging folder (beside [`Step::Copy`], never into its tree).
    Upload,
    /// Put the upload into the copy, or make it the release if there is no base.
    Put {
        /// Whether there is no base.
        all: bool,
    },
    /// Compare the release with the manifest: hashes of what was uploaded, type, size, mode and time of everything.
    Verify,
    /// Put the manifest beside the releases.
    Seal,
    /// Make the temporary link.
    Link,
    /// Make everything so far durable: `sync -f` of these paths, or plain `sync` where that is missing.
    Barrier(Vec<&'static str>),
    /// Rename the temporary link onto `current`.
    Rename,
    /// Make the directory of `current` durable.
    SyncCurrent,
    /// Report that the new release is live.
    ReportLive,
    /// Report that the release that was live already is equal to the source.
    ReportSame,
    /// Remove the staging folder.
    Unstage,
    /// Create the marker, durably.
    Mark,
    /// Remove old releases.
    Prune(Vec<ReleaseId>),
    /// Append to the audit log.
    Log,
}

impl Step {
    fn writes(&self) -> bool {
        matches!(
            self,
            Self::Recover(_)
                | Self::SweepPrivate(_)
                | Self::Sweep(_)
                | Self::Intend
                | Self::Copy(_)
                | Self::Upload
                | Self::Put { .. }
                | Self::Seal
                | Self::Link
        )
    }
}

/// Why steps are not a plan: a defect of this program, never of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepsError {
    /// The rename is not right after a barrier that covers every write before it.
    #[error("a cutover that no barrier covers")]
    Uncovered,
    /// The tree is changed after it was verified, or never verified.
    #[error("a cutover to a tree that was not verified")]
    Unverified,
    /// Something is reported, marked or pruned before the cutover is durable.
    #[error("a report or a removal before the cutover is durable")]
    Early,
}

/// Why there is no plan for a host in this state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `current` is a file or a directory.
    #[error("`current` is not a symbolic link")]
    CurrentNotLink,
    /// The disk is too full.
    #[error("not enough room: {need} needed, {free} free")]
    Room {
        /// What the deploy needs.
        need: String,
        /// What there is.
        free: String,
    },
    /// No id is newer than the newest release.
    #[error("release {0} is not a date, no id can be newer")]
    NoNewerId(ReleaseId),
    /// A defect of this program.
    #[error(transparent)]
    Steps(#[from] StepsError),
}

/// What a deploy will do. Printable; applied as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    release: ReleaseId,
    base: Option<ReleaseId>,
    changes: Changes,
    shared: SharedLinks,
    extras: usize,
    steps: Vec<Step>,
}

/// What a plan is made from, beside the host's state and the source.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The id of this second.
    pub now: ReleaseId,
    /// Ids this run has used already.
    pub used: Vec<ReleaseId>,
    /// Whether to upload everything, because the base turned out to differ from its seal while it was copied.
    pub full: bool,
}

impl Plan {
    /// The release this plan makes live (or finds live already).
    pub fn release(&self) -> &ReleaseId {
        &self.release
    }

    /// The release that is copied.
    pub fn base(&self) -> Option<&ReleaseId> {
        self.base.as_ref()
    }

    /// The new tree, and how it is made.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// The verbs in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether the source is live already.
    pub fn is_nothing_to_do(&self) -> bool {
        self.steps.contains(&Step::ReportSame)
    }
}

/// Checks the order that keeps every promise.
///
/// # Errors
/// The first rule that the steps break.
pub fn check(steps: &[Step]) -> Result<(), StepsError> {
    let (mut covered, mut verified, mut renamed, mut durable) = (false, true, false, false);
    for step in steps {
        match step {
            Step::Barrier(_) => covered = true,
            Step::Verify => verified = true,
            Step::Copy(_) | Step::Upload | Step::Put { .. } => verified = false,
            Step::Rename if !covered => return Err(StepsError::Uncovered),
            Step::Rename if !verified => return Err(StepsError::Unverified),
            Step::Rename => (renamed, durable) = (true, false),
            Step::SyncCurrent => durable = renamed,
            Step::ReportLive | Step::ReportSame | Step::Mark | Step::Prune(_) | Step::Unstage | Step::Log
                if !durable =>
            {
                return Err(StepsError::Early);
            }
            _ => {}
        }
        if step.writes() {
            covered = false;
        }
    }
    Ok(())
}

/// Decides what to do. `source` is the application's own tree.
///
/// # Errors
/// If nothing may be done on a host in this state.
pub fn plan(host: &Observed, source: &Manifest, wish: &Wish) -> Result<Plan, Refusal> {
    if host.current == Current::Other {
        return Err(Refusal::CurrentNotLink);
    }
    let shared = shared::links(source, &host.shared);
    let wanted = with_links(source, &shared);
    let sealed_base = host.base.as_ref().and_then(|b| Some((b, b.seal.as_ref()?)));
    let against = sealed_base
        .filter(|_| !wish.full)
        .and_then(|(base, seal)| Some((base, diff::against(&wanted, seal, &base.tree)?)));
    let complete = complete_releases(host);
    let barrier = barrier(host);

    let mut steps = Vec::new();
    if let Some((base, _)) = sealed_base
        && !host.markers.contains(&base.id)
    {
        steps.push(Step::Recover(base.id.clone()));
    }
    let private: Vec<Vec<u8>> = leftovers(host);
    if !private.is_empty() {
        steps.push(Step::SweepPrivate(private));
    }
    // Sealed and marked is complete, note or no note: the note is older than a power loss.
    let is_done =
        |id: &ReleaseId| complete.contains(id) || (host.seals.contains(id) && host.markers.contains(id));
    let swept: Vec<ReleaseId> =
        host.unfinished.iter().filter(|id| !is_done(id) && !is_live(host, id)).cloned().collect();
    if !swept.is_empty() {
        steps.push(Step::Sweep(swept));
    }

    let extras =
        against.as_ref().map_or(0, |(b, _)| b.seal.as_ref().map_or(0, |seal| b.tree.beside(seal).count()));
    let (release, base, changes) = match against {
        Some((base, changes)) if changes.is_empty() => {
            // The run before may have died, or failed to make its rename durable: a fresh rename is, for certain.
            steps.extend([Step::Link, Step::Barrier(barrier), Step::Rename, Step::SyncCurrent]);
            steps.extend([Step::ReportSame, Step::Mark]);
            let prune = prunable(host, &complete, &base.id);
            steps.extend((!prune.is_empty()).then_some(Step::Prune(prune)));
            (base.id.clone(), Some(base.id.clone()), changes)
        }
        other => {
            let id = new_id(host, wish)?;
            let (base, changes) = match other {
                Some((base, changes)) => (Some(base.id.clone()), changes),
                None => (None, diff::full(wanted)),
            };
            check_room(host, &changes, base.is_some())?;
            steps.push(Step::Intend);
            steps.extend(base.clone().map(Step::Copy));
            steps.extend([Step::Upload, Step::Put { all: base.is_none() }, Step::Verify, Step::Seal]);
            steps.extend([Step::Link, Step::Barrier(barrier), Step::Rename, Step::SyncCurrent]);
            steps.extend([Step::ReportLive, Step::Unstage, Step::Mark]);
            let prune = prunable(host, &complete, &id);
            steps.extend((!prune.is_empty()).then_some(Step::Prune(prune)));
            steps.push(Step::Log);
            (id, base, changes)
        }
    };
    check(&steps)?;
    Ok(Plan { release, base, changes, shared, extras, steps })
}

/// The application's tree and the links into `shared/`.
fn with_links(source: &Manifest, shared: &SharedLinks) -> Manifest {
    let links = shared.links.iter().map(|(p, t)| (p.clone(), Entry::Link { target: t.clone() }));
    let all = source.entries().iter().map(|(p, e)| (p.clone(), e.clone())).chain(links).collect();
    // Links hang in directories of the application, by the rule: this cannot fail.
    Manifest::new(all).unwrap_or_else(|_| source.clone())
}

fn live_identity(host: &Observed) -> Option<&String> {
    if let Current::Link { identity, .. } = &host.current { identity.as_ref() } else { None }
}

/// Whether `current` resolves to a release: by device and inode, and by what the host calls the base. A host that
/// contradicts itself must not lose what is live.
fn is_live(host: &Observed, id: &ReleaseId) -> bool {
    let live = live_identity(host);
    (live.is_some() && host.releases.get(id) == live) || host.base.as_ref().is_some_and(|base| base.id == *id)
}

/// Releases that count: ours, sealed and marked, or sealed and live.
fn complete_releases(host: &Observed) -> BTreeSet<ReleaseId> {
    let live = host.base.as_ref().filter(|b| b.seal.is_some()).map(|b| &b.id);
    let counts =
        |id: &&ReleaseId| host.seals.contains(*id) && (host.markers.contains(*id) || Some(*id) == live);
    host.releases.keys().filter(counts).cloned().collect()
}

/// What goes: all but the new one, the live one and the newest, [`KEEP`] in all. Compared by device and inode.
fn prunable(host: &Observed, complete: &BTreeSet<ReleaseId>, new: &ReleaseId) -> Vec<ReleaseId> {
    let others = || complete.iter().rev().filter(|id| *id != new);
    let kept_live = others().filter(|id| is_live(host, id)).count();
    let more = KEEP.saturating_sub(1 + kept_live);
    others().filter(|id| !is_live(host, id)).skip(more).cloned().collect()
}

fn leftovers(host: &Observed) -> Vec<Vec<u8>> {
    let staging = host.staging.iter().map(|n| [b"staging/", n.as_slice()].concat());
    staging.chain(host.temporary_links.iter().cloned()).collect()
}

fn barrier(host: &Observed) -> Vec<&'static str> {
    match (host.has_syncfs, host.one_file_system) {
        (false, _) => vec![],
        (true, true) => vec!["."],
        (true, false) => vec![".", "releases", ".cutover"],
    }
}

fn new_id(host: &Observed, wish: &Wish) -> Result<ReleaseId, Refusal> {
    let staged: Vec<ReleaseId> = host.staging.iter().filter_map(|n| ReleaseId::parse(n)).collect();
    let taken = || {
        host.releases
            .keys()
            .chain(&host.seals)
            .chain(&host.markers)
            .chain(&host.unfinished)
            .chain(&host.last_logged)
            .chain(&staged)
            .chain(&wish.used)
    };
    ReleaseId::after(&wish.now, taken())
        .ok_or_else(|| Refusal::NoNewerId(taken().max().cloned().unwrap_or_else(|| wish.now.clone())))
}

/// Both the copy and the upload are on the disk at one moment.
fn check_room(host: &Observed, changes: &Changes, copies: bool) -> Result<(), Refusal> {
    let Some(room) = host.room else { return Ok(()) };
    let copied = host.base.as_ref().and_then(|b| b.seal.as_ref()).filter(|_| copies);
    let need = changes.upload_bytes().saturating_add(copied.map_or(0, Manifest::bytes));
    if need > room.free_bytes {
        return Err(Refusal::Room { need: human_bytes(need), free: human_bytes(room.free_bytes) });
    }
    let need = changes.upload.len() + copied.map_or(0, |m| m.entries().len());
    match room.free_inodes {
        Some(free) if need as u64 > free => {
            Err(Refusal::Room { need: format!("{need} inodes"), free: free.to_string() })
        }
        _ => Ok(()),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |p: &BTreeSet<RelPath>| {
            p.iter().filter(|p| matches!(self.changes.manifest.get(p), Some(Entry::File { .. }))).count()
        };
        let total = self.changes.manifest.entries().keys().cloned().collect();
        match (&self.base, self.is_nothing_to_do()) {
            (_, true) => writeln!(f, "nothing to do: releases/{} is equal to the source", self.release)?,
            (Some(base), _) => writeln!(f, "release {} from a copy of {base}", self.release)?,
            (None, _) => writeln!(f, "release {} from a full upload", self.release)?,
        }
        writeln!(
            f,
            "upload {} of {} files, {}",
            count(&self.changes.upload),
            count(&total),
            human_bytes(self.changes.upload_bytes())
        )?;
        let is_link = |p: &RelPath| self.shared.links.contains_key(p);
        if self.base.is_some() {
            for path in self.changes.put.iter().filter(|p| !is_link(p)) {
                let why = if self.changes.drifted.contains(path) { " (drifted on the host)" } else { "" };
                writeln!(f, "  put    {path}{why}")?;
            }
        }
        self.changes.remove.iter().try_for_each(|p| writeln!(f, "  remove {p}"))?;
        for (path, text) in &self.shared.links {
            writeln!(f, "  link   {path} -> {}", printable(text))?;
        }
        for path in &self.shared.hidden {
            writeln!(f, "  warning: shared/{path} is hidden by the application's own {path}")?;
        }
        for path in &self.shared.dropped_into {
            writeln!(
                f,
                "  warning: files newly written in {path}/ stay in the release, not in shared/{path}/"
            )?;
        }
        if self.extras > 0 && !self.is_nothing_to_do() {
            writeln!(f, "  note: {} written in the base at run time come along", self.extras)?;
        }
        writeln!(f, "steps")?;
        self.steps.iter().try_for_each(|s| writeln!(f, "  {s}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = |ids: &[ReleaseId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        match self {
            Self::Recover(id) => write!(f, "recover: mark {id}, which is live"),
            Self::SweepPrivate(names) => {
                let names: Vec<String> = names.iter().map(|n| printable(n)).collect();
                write!(f, "sweep .cutover: {}", names.join(" "))
            }
            Self::Sweep(s) => write!(f, "sweep unfinished: {}", ids(s)),
            Self::Intend => f.write_str("note the release as unfinished (durable)"),
            Self::Copy(id) => write!(f, "copy {id}"),
            Self::Upload => f.write_str("upload into staging"),
            Self::Put { all: true } => f.write_str("make the upload the release"),
            Self::Put { all: false } => f.write_str("put the upload into the copy"),
            Self::Verify => f.write_str("verify"),
            Self::Seal => f.write_str("seal"),
            Self::Link => f.write_str("temporary link"),
            Self::Barrier(paths) if paths.is_empty() => f.write_str("barrier: sync"),
            Self::Barrier(paths) => write!(f, "barrier: sync -f {}", paths.join(" ")),
            Self::Rename => f.write_str("rename onto current"),
            Self::SyncCurrent => f.write_str("sync the directory of current"),
            Self::ReportLive => f.write_str("report live"),
            Self::ReportSame => f.write_str("report nothing to do"),
            Self::Unstage => f.write_str("remove staging"),
            Self::Mark => f.write_str("mark as live (durable)"),
            Self::Prune(p) => write!(f, "prune: {}", ids(p)),
            Self::Log => f.write_str("log"),
        }
    }
}
