//! [`Observed`]: the state of a host, parsed from what the opening script reports.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{self, Record};
use crate::manifest::{self, Manifest};
use crate::path::RelPath;
use crate::release::ReleaseId;
use crate::remote::frame::Event;
use crate::remote::listing::{self, Item, Tree};
use crate::shared::SharedTree;
use crate::text::printable;

/// What `current` is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Current {
    /// Nothing is there.
    #[default]
    Absent,
    /// A symbolic link with this text, and the `device:inode` it leads to, unless it dangles.
    Link {
        /// The link's text.
        text: Vec<u8>,
        /// `device:inode` of what it resolves to.
        identity: Option<String>,
    },
    /// Something else: never replaced.
    Other,
}

impl Current {
    /// The line that ends what a command says.
    pub fn line(&self) -> String {
        match self {
            Self::Link { text, identity: Some(_) } => format!("current: {}", printable(text)),
            Self::Link { text, identity: None } => {
                format!("current: {}, which is not there", printable(text))
            }
            Self::Absent => "current: there is none yet".to_owned(),
            Self::Other => "current: not a symbolic link".to_owned(),
        }
    }
}

/// The sealed release that `current` resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its id.
    pub id: ReleaseId,
    /// Its manifest; `None` if it has no seal, or a torn one.
    pub seal: Option<Manifest>,
    /// What is there now, and what of it the deploy user cannot read.
    pub tree: Tree,
}

/// Room on the disk; absent where the file system does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes the deploy user may still use.
    pub free_bytes: u64,
    /// The size of a block, in bytes: every file takes whole ones.
    pub block_bytes: u64,
    /// Free inodes; `None` where the file system has no fixed number.
    pub free_inodes: Option<u64>,
}

/// A host's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Whether the deploy path exists (it always does, unless only looked at).
    pub exists: bool,
    /// What `current` is.
    pub current: Current,
    /// Directories of `releases/` named like a release, with `device:inode`.
    pub releases: BTreeMap<ReleaseId, String>,
    /// Releases with a seal.
    pub seals: BTreeSet<ReleaseId>,
    /// Releases with a marker.
    pub markers: BTreeSet<ReleaseId>,
    /// Releases of which Cutover noted that they are unfinished.
    pub unfinished: BTreeSet<ReleaseId>,
    /// Names in `.cutover/staging`.
    pub staging: Vec<Vec<u8>>,
    /// Names of temporary links in `.cutover`.
    pub temporary_links: Vec<Vec<u8>>,
    /// The id in the last line of the log.
    pub last_logged: Option<ReleaseId>,
    /// The last line of the log, unless it is torn.
    pub last_record: Option<Record>,
    /// What is under `shared/`, as far as the application's directories reach.
    pub shared: SharedTree,
    /// The release that `current` resolves to, if it is one of ours.
    pub base: Option<Base>,
    /// Whether `sync -f` is there.
    pub has_syncfs: bool,
    /// Whether `releases` and `.cutover` are on the deploy path's own file system.
    pub one_file_system: bool,
    /// Room on the disk.
    pub room: Option<Room>,
}

/// Why a report is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// A section that does not parse.
    #[error("the host's answer about `{0}` is not understood")]
    Section(String),
}

/// Reads the opening script's report.
///
/// # Errors
/// If a section is not what the script writes. Unknown notes are ignored.
pub fn parse(events: &[Event]) -> Result<Observed, ReportError> {
    let mut out = Observed { exists: true, one_file_system: true, ..Observed::default() };
    let (mut base_id, mut seal, mut tree, mut links) = (None, None, None, None);
    let mut unreadable = BTreeSet::new();
    let mut identity = None;
    for event in events {
        match event {
            Event::Note(words) => {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                match words.as_slice() {
                    ["absent"] => out.exists = false,
                    ["current-identity", id] => identity = Some((*id).to_owned()),
                    ["current-other"] => out.current = Current::Other,
                    ["syncfs", yes] => out.has_syncfs = *yes == "yes",
                    ["devices", first, rest @ ..] => out.one_file_system = rest.iter().all(|d| d == first),
                    ["room", numbers @ ..] => out.room = parse_room(numbers),
                    ["base", id] => base_id = ReleaseId::parse(id.as_bytes()),
                    _ => {}
                }
            }
            Event::Section { name, bytes } => {
                let bad = || ReportError::Section(name.clone());
                let below = |dir: &str| listing::parse_items(dir.as_bytes(), bytes).ok_or_else(bad);
                // Of one directory: what comes back here as a name must not lead out of it, nor deeper.
                let items = |dir: &str| {
                    let is_flat = |items: &Vec<Item>| items.iter().all(|item| !item.name.contains(&b'/'));
                    below(dir).and_then(|items| Some(items).filter(is_flat).ok_or_else(bad))
                };
                match name.as_str() {
                    "current" => {
                        let text = bytes.strip_suffix(b"\n").unwrap_or(bytes).to_vec();
                        out.current = Current::Link { text, identity: None };
                    }
                    "releases" => out.releases = releases(&items("releases")?),
                    "seals" => (out.seals, out.markers) = seals(&items(".cutover/seals")?),
                    "unfinished" => {
                        let items = items(".cutover/unfinished")?;
                        out.unfinished = items.iter().filter_map(|i| ReleaseId::parse(&i.name)).collect();
                    }
                    "staging" => out.staging = names(items(".cutover/staging")?, b""),
                    "private" => out.temporary_links = names(items(".cutover")?, b"next."),
                    "log" => {
                        let line = bytes.split(|b| *b == b'\n').rfind(|l| !l.is_empty());
                        out.last_logged = line.and_then(|l| l.get(..14)).and_then(ReleaseId::parse);
                        out.last_record = line.and_then(history::parse).map(|line| line.record);
                    }
                    "shared" => out.shared = shared(below("shared")?).ok_or_else(bad)?,
                    // A torn seal is no seal; that is for the plan, not an error.
                    "seal" => seal = manifest::parse(bytes).ok(),
                    "unreadable" => unreadable = listing::parse_unreadable(bytes).ok_or_else(bad)?,
                    "tree" => tree = Some(bytes.as_slice()),
                    "links" => links = Some(bytes.as_slice()),
                    _ => {}
                }
            }
        }
    }
    if let Current::Link { identity: slot, .. } = &mut out.current {
        *slot = identity;
    }
    if let Some(id) = base_id {
        let tree = Tree::parse(tree.unwrap_or_default(), links.unwrap_or_default())
            .ok_or_else(|| ReportError::Section("tree".to_owned()))?;
        out.base = Some(Base { id, seal, tree: tree.without(unreadable) });
    }
    Ok(out)
}

/// Blocks in all, free blocks, block size, inodes in all, free inodes.
pub(crate) fn parse_room(numbers: &[&str]) -> Option<Room> {
    let numbers: Vec<u64> = numbers.iter().map(|n| n.parse().ok()).collect::<Option<_>>()?;
    match numbers.as_slice() {
        [blocks, free, size, inodes, free_inodes] if *blocks > 0 => Some(Room {
            free_bytes: free.saturating_mul(*size),
            block_bytes: *size,
            free_inodes: (*inodes > 0).then_some(*free_inodes),
        }),
        _ => None,
    }
}

fn releases(items: &[Item]) -> BTreeMap<ReleaseId, String> {
    let dirs = items.iter().filter(|i| i.is_dir);
    dirs.filter_map(|i| Some((ReleaseId::parse(&i.name)?, i.identity.clone()))).collect()
}

fn seals(items: &[Item]) -> (BTreeSet<ReleaseId>, BTreeSet<ReleaseId>) {
    let seals = items.iter().filter_map(|i| ReleaseId::parse(&i.name)).collect();
    let markers = items.iter().filter_map(|i| ReleaseId::parse(i.name.strip_suffix(b".live")?)).collect();
    (seals, markers)
}

fn names(items: Vec<Item>, prefix: &[u8]) -> Vec<Vec<u8>> {
    items.into_iter().map(|i| i.name).filter(|n| n.starts_with(prefix)).collect()
}

fn shared(items: Vec<Item>) -> Option<SharedTree> {
    items.into_iter().map(|i| Some((RelPath::new(i.name)?, i.is_dir))).collect()
}
