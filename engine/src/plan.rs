//! [`Plan`]: what a deploy will do, decided by a pure function from the host's state and the source.
//!
//! Invariant, checked by the only constructor: between the last write and a [`Step::Rename`] there is a
//! [`Step::Barrier`], the tree was verified, and nothing is called live before [`Step::SyncCurrent`]. A plan with a
//! cutover that no barrier covers cannot be built. The same holds for every other [`Course`]: rollback, recover, prune.

mod leftovers;
mod retention;
mod switch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::diff::{self, Changes};
use crate::history::{Event, Record};
use crate::manifest::{Entry, Manifest};
use crate::path::RelPath;
use crate::release::ReleaseId;
use crate::remote::observed::{Current, Observed};
use crate::shared::{self, SharedLinks};
use crate::text::{human_bytes, printable};

pub use leftovers::leftovers;
pub use retention::{complete_releases, live_id, previous};
pub use switch::{Rollback, prune, recover, rollback, rollback_target, stay_with};

/// How many releases remain, unless something else is asked for.
pub const KEEP: usize = 3;
/// The fewest that can be asked for: what is live, and what was live before it.
pub const KEEP_MIN: usize = 2;

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
    /// This release is equal to its seal: type, size, mode and time of everything in it, and hashes where asked for.
    /// Compared when the plan was made, under the lock.
    Check(ReleaseId),
    /// `current` resolves to this release, and will after the next rename: nothing is switched, only made durable.
    Stay(ReleaseId),
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
    /// Remove the notes of releases that are whole, and durably marked.
    Forget(Vec<ReleaseId>),
    /// Remove old releases.
    Prune(Vec<ReleaseId>),
    /// Append to the audit log.
    Log(Record),
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

    /// Whether it is about the course's own release.
    fn needs_release(&self) -> bool {
        !matches!(
            self,
            Self::Recover(_)
                | Self::SweepPrivate(_)
                | Self::Sweep(_)
                | Self::Barrier(_)
                | Self::Forget(_)
                | Self::Prune(_)
                | Self::Log(_)
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
    /// A step about the course's release, and the course has none.
    #[error("a step without a release")]
    Nameless,
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
    /// The copy would be a broken one.
    #[error("the user cannot read {}", first_few(.0))]
    Unreadable(Vec<RelPath>),
    /// No id is newer than the newest release.
    #[error("release {0} is not a date, no id can be newer")]
    NoNewerId(ReleaseId),
    /// There is no such release.
    #[error("there is no release {0}")]
    NoSuchRelease(ReleaseId),
    /// A rollback, and nothing it could go to.
    #[error("{0}")]
    NothingOlder(String),
    /// A release that does not count.
    #[error("release {id} {why}")]
    NotComplete {
        /// Which.
        id: ReleaseId,
        /// What is missing.
        why: &'static str,
    },
    /// A release that is not what its seal says.
    #[error("release {id} is not what its seal says: {paths}")]
    Damaged {
        /// Which.
        id: ReleaseId,
        /// The first paths that differ.
        paths: String,
    },
    /// No release of ours is live, and so none is old, or could be compared.
    #[error("`current` does not lead to a sealed release")]
    NothingLive,
    /// A defect of this program.
    #[error(transparent)]
    Steps(#[from] StepsError),
}

/// Steps in an order that was checked, and the release they make live (or find live).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    release: Option<ReleaseId>,
    steps: Vec<Step>,
}

impl Course {
    /// The only way to one.
    ///
    /// # Errors
    /// The first rule that the steps break.
    pub fn new(release: Option<ReleaseId>, steps: Vec<Step>) -> Result<Self, StepsError> {
        check(&steps)?;
        if release.is_none() && steps.iter().any(Step::needs_release) {
            return Err(StepsError::Nameless);
        }
        Ok(Self { release, steps })
    }

    /// What it makes live, or finds live; `None` if it leaves `current` alone.
    pub fn release(&self) -> Option<&ReleaseId> {
        self.release.as_ref()
    }

    /// The verbs in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

/// What a deploy will do. Printable; applied as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    release: ReleaseId,
    base: Option<ReleaseId>,
    changes: Changes,
    shared: SharedLinks,
    left_out: Vec<RelPath>,
    unsealed: Option<ReleaseId>,
    lost: Vec<RelPath>,
    extras: usize,
    replaced: BTreeSet<RelPath>,
    removed: BTreeMap<RelPath, Weight>,
    course: Course,
}

/// How much is at a path and below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weight {
    files: usize,
    bytes: u64,
}

/// What a plan is made from, beside the host's state and the source.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The id of this second.
    pub now: ReleaseId,
    /// Ids this run has used already.
    pub used: Vec<ReleaseId>,
    /// Whether to upload everything: it was asked for, or the base turned out to differ from its seal while it was copied.
    pub full: bool,
    /// How many releases remain: at least what is live and what was live before it.
    pub keep: usize,
    /// Whether what the deploy user cannot read is left out of the copy.
    pub skip_unreadable: bool,
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

    /// Whether anything comes along that was written in the base at run time.
    pub fn has_extras(&self) -> bool {
        self.extras > 0
    }

    /// What of the live release will not be in the new one though nobody took it out of the source; a line each.
    pub fn warnings(&self) -> Vec<String> {
        let mut out = Vec::new();
        if !self.left_out.is_empty() {
            let paths = first_few(&self.left_out);
            out.push(format!("left out of the copy, because the user cannot read it: {paths}"));
        }
        if !self.lost.is_empty() {
            let paths = first_few(&self.lost);
            out.push(format!("written at run time, and not in the new release: {paths}"));
        }
        if let Some(id) = &self.unsealed {
            out.push(format!(
                "releases/{id} has no whole seal, so it is not copied; nothing written in it at run time comes along"
            ));
        }
        out
    }

    /// The verbs in order.
    pub fn steps(&self) -> &[Step] {
        self.course.steps()
    }

    /// The verbs, and what they are about.
    pub fn course(&self) -> &Course {
        &self.course
    }

    /// How many files are uploaded.
    pub fn upload_files(&self) -> usize {
        self.files(&self.changes.upload)
    }

    fn files(&self, paths: &BTreeSet<RelPath>) -> usize {
        let is_file = |p: &&RelPath| matches!(self.changes.manifest.get(p), Some(Entry::File { .. }));
        paths.iter().filter(is_file).count()
    }

    /// Whether the source is live already.
    pub fn is_nothing_to_do(&self) -> bool {
        self.steps().contains(&Step::ReportSame)
    }
}

/// Checks the order that keeps every promise.
///
/// # Errors
/// The first rule that the steps break.
pub fn check(steps: &[Step]) -> Result<(), StepsError> {
    let (mut covered, mut verified, mut renamed, mut durable) = (false, false, false, false);
    for step in steps {
        match step {
            Step::Barrier(_) => covered = true,
            Step::Verify | Step::Check(_) | Step::Stay(_) => verified = true,
            Step::Copy(_) | Step::Upload | Step::Put { .. } => verified = false,
            Step::Rename if !covered => return Err(StepsError::Uncovered),
            Step::Rename if !verified => return Err(StepsError::Unverified),
            Step::Rename => (renamed, durable) = (true, false),
            Step::SyncCurrent => durable = renamed,
            Step::ReportLive
            | Step::ReportSame
            | Step::Mark
            | Step::Prune(_)
            | Step::Unstage
            | Step::Log(Record { event: Event::Deploy { .. } | Event::Rollback, .. })
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
    let barrier = barrier(host);
    let mut left_out = Vec::new();
    if let Some((base, changes)) = against.as_ref().filter(|(_, changes)| !changes.is_empty()) {
        let unreadable = base.tree.unreadable();
        if !wish.skip_unreadable && !unreadable.is_empty() {
            return Err(Refusal::Unreadable(unreadable.iter().cloned().collect()));
        }
        left_out.extend(unreadable.iter().filter(|p| changes.manifest.get(p).is_none()).cloned());
    }

    let (mut steps, forgotten) = leftovers(host);

    let (mut replaced, mut removed) = (BTreeSet::new(), BTreeMap::new());
    let (mut extras, mut lost) = (0, Vec::new());
    if let Some((base, seal)) = sealed_base {
        let written = base.tree.beside(seal).filter(|p| !left_out.contains(p));
        if let Some((_, changes)) = &against {
            replaced = changes.put.iter().filter(|p| base.tree.contains(p)).cloned().collect();
            removed = changes.remove.iter().map(|p| (p.clone(), Weight::of(seal, p))).collect();
            let stays = |p: &&RelPath| wanted.get(p).is_none() && !changes.lost.contains(*p);
            extras = written.filter(stays).count();
            lost.extend(changes.lost.iter().cloned());
        } else {
            lost.extend(written.cloned());
        }
    }
    let unsealed = host.base.as_ref().filter(|base| base.seal.is_none()).map(|base| base.id.clone());
    let (release, base, changes) = match against {
        Some((base, changes)) if changes.is_empty() => {
            steps.extend(stay(&base.id, barrier));
            steps.extend((!forgotten.is_empty()).then_some(Step::Forget(forgotten)));
            let prune = retention::prunable(host, wish.keep, &base.id, previous(host).as_ref());
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
            steps.extend([Step::ReportLive, Step::Mark]);
            steps.extend((!forgotten.is_empty()).then_some(Step::Forget(forgotten)));
            let was = live_id(host).cloned();
            let prune = retention::prunable(host, wish.keep, &id, was.as_ref());
            let event = Event::Deploy { base: base.clone() };
            // Before anything is removed: what was live before this is known from here.
            steps.push(Step::Log(Record { newest: id.clone(), event, live: Some(id.clone()), was }));
            steps.push(Step::Unstage);
            steps.extend((!prune.is_empty()).then_some(Step::Prune(prune)));
            (id, base, changes)
        }
    };
    let course = Course::new(Some(release.clone()), steps)?;
    Ok(Plan { release, base, changes, shared, left_out, unsealed, lost, extras, replaced, removed, course })
}

/// `current` is renamed onto itself. The run before may have died, or failed to make its rename durable: a fresh
/// rename is, for certain.
fn stay(id: &ReleaseId, barrier: Vec<&'static str>) -> [Step; 7] {
    [
        Step::Stay(id.clone()),
        Step::Link,
        Step::Barrier(barrier),
        Step::Rename,
        Step::SyncCurrent,
        Step::ReportSame,
        Step::Mark,
    ]
}

impl Weight {
    /// What `manifest` has at `path` and below.
    fn of(manifest: &Manifest, path: &RelPath) -> Self {
        // A path sorts before what is below it, with others between them that only begin alike.
        let alike =
            manifest.entries().range(path..).take_while(|(p, _)| p.as_bytes().starts_with(path.as_bytes()));
        let below = |p: &RelPath| {
            path.is_root() || matches!(p.as_bytes().get(path.as_bytes().len()), None | Some(b'/'))
        };
        alike.filter(|(p, _)| below(p)).fold(Self::default(), |sum, (_, entry)| match entry {
            Entry::File { size, .. } => Self { files: sum.files + 1, bytes: sum.bytes.saturating_add(*size) },
            _ => sum,
        })
    }
}

/// The application's tree and the links into `shared/`.
fn with_links(source: &Manifest, shared: &SharedLinks) -> Manifest {
    let links = shared.links.iter().map(|(p, t)| (p.clone(), Entry::Link { target: t.clone() }));
    let all = source.entries().iter().map(|(p, e)| (p.clone(), e.clone())).chain(links).collect();
    // Links hang in directories of the application, by the rule: this cannot fail.
    Manifest::new(all).unwrap_or_else(|_| source.clone())
}

/// Paths for people: three of them, and how many there are.
fn first_few(paths: &[RelPath]) -> String {
    let shown: Vec<String> = paths.iter().take(3).map(ToString::to_string).collect();
    let more = paths.len().saturating_sub(shown.len());
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

fn barrier(host: &Observed) -> Vec<&'static str> {
    match (host.has_syncfs, host.one_file_system) {
        (false, _) => vec![],
        (true, true) => vec!["."],
        (true, false) => vec![".", "releases", ".cutover"],
    }
}

/// Every id that was ever given on the host, as far as it knows.
fn taken(host: &Observed) -> impl Iterator<Item = ReleaseId> {
    let staged = host.staging.iter().filter_map(|n| ReleaseId::parse(n));
    let known = host.releases.keys().chain(&host.seals).chain(&host.markers).chain(&host.unfinished);
    known.chain(&host.last_logged).cloned().chain(staged)
}

fn new_id(host: &Observed, wish: &Wish) -> Result<ReleaseId, Refusal> {
    let taken: Vec<ReleaseId> = taken(host).chain(wish.used.iter().cloned()).collect();
    ReleaseId::after(&wish.now, &taken)
        .ok_or_else(|| Refusal::NoNewerId(taken.iter().max().unwrap_or(&wish.now).clone()))
}

/// Both the copy and the upload are on the disk at one moment, and each file takes whole blocks.
fn check_room(host: &Observed, changes: &Changes, copies: bool) -> Result<(), Refusal> {
    let Some(room) = host.room else { return Ok(()) };
    let base = host.base.as_ref().filter(|_| copies);
    let (copied, inodes) = base.map_or((0, 0), |base| base.tree.weight(room.block_bytes));
    let need = changes.upload_bytes(room.block_bytes).saturating_add(copied);
    if need > room.free_bytes {
        return Err(Refusal::Room { need: human_bytes(need), free: human_bytes(room.free_bytes) });
    }
    let need = inodes.saturating_add(changes.upload.len() as u64);
    match room.free_inodes {
        Some(free) if need > free => {
            Err(Refusal::Room { need: format!("{need} inodes"), free: free.to_string() })
        }
        _ => Ok(()),
    }
}

impl Plan {
    /// What is uploaded for `path`: a file's length, or how many files a new directory holds.
    fn weight(&self, path: &RelPath) -> String {
        let weight = Weight::of(&self.changes.manifest, path);
        if weight.files == 0 { String::new() } else { format!(" ({weight})") }
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = if self.files == 1 { String::new() } else { format!("{} files, ", self.files) };
        write!(f, "{files}{}", human_bytes(self.bytes))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.changes.manifest.entries().keys().cloned().collect();
        match (&self.base, self.is_nothing_to_do()) {
            (_, true) => writeln!(f, "nothing to do: releases/{} is equal to the source", self.release)?,
            (Some(base), _) => writeln!(f, "release {} from a copy of {base}", self.release)?,
            (None, _) => writeln!(f, "release {} from a full upload", self.release)?,
        }
        let upload = self.upload_files();
        writeln!(
            f,
            "upload {upload} of {} files, {}",
            self.files(&total),
            human_bytes(self.changes.upload_bytes(1))
        )?;
        let is_link = |p: &RelPath| self.shared.links.contains_key(p);
        if self.base.is_some() {
            for path in self.changes.put.iter().filter(|p| !is_link(p)) {
                let word = if self.replaced.contains(path) { "change" } else { "add   " };
                let why = if self.changes.drifted.contains(path) { " (drifted on the host)" } else { "" };
                writeln!(f, "  {word} {path}{}{why}", self.weight(path))?;
            }
        }
        for (path, weight) in &self.removed {
            writeln!(
                f,
                "  remove {path}{}",
                if weight.files == 0 { String::new() } else { format!(" ({weight})") }
            )?;
        }
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
        for step in self.steps() {
            if let Step::Prune(ids) = step {
                ids.iter().try_for_each(|id| writeln!(f, "  prune  releases/{id}"))?;
            }
        }
        self.warnings().iter().try_for_each(|warning| writeln!(f, "  warning: {warning}"))?;
        writeln!(f, "steps")?;
        self.steps().iter().try_for_each(|s| writeln!(f, "  {s}"))
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
            Self::Check(id) => write!(f, "compare {id} with its seal"),
            Self::Stay(id) => write!(f, "stay with {id}, which is live"),
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
            Self::Forget(s) => write!(f, "remove the notes about {}, which are whole", ids(s)),
            Self::Prune(p) => write!(f, "prune: {}", ids(p)),
            Self::Log(_) => f.write_str("log"),
        }
    }
}
