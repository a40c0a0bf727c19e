//! A history as a value: user data below `shared/`, and releases one after the other. It is written to disk, deployed
//! by the real engine onto a simulated disk, and judged.
//!
//! As JSON it is short and can be read: a path is text in which every byte but printable ASCII, and `%`, is `%XX`; a
//! content is its length and a number from which its bytes follow.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cutover_certify::app::{Content, SharedEntry};
use cutover_certify::judge::{Judgement, Verdict, judge};
use cutover_certify::record::{Plan, Progress, record};
use cutover_certify::{report, tree};
use serde::{Deserialize, Serialize};

use crate::room::program;

/// A history; see the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct History {
    /// What it is about, in one line.
    pub(crate) story: String,
    /// Whether all files and directories of all releases have the same modification time, as after a checkout or an
    /// unpacking with fixed times: then equal size and time say nothing about equal content.
    pub(crate) same_times: bool,
    /// Whether somebody made the deploy path before; without it there is no user data either.
    pub(crate) deploy_path_exists: bool,
    /// What is below `shared/` before the first deploy.
    pub(crate) shared: Entries,
    /// What is deployed, one after the other.
    pub(crate) releases: Vec<Entries>,
}

/// A tree: what stands at each path. Parents have entries of their own.
pub(crate) type Entries = BTreeMap<Text, Entry>;

/// Bytes as text; the order is that of the bytes, so parents come first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Text(pub(crate) Vec<u8>);

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Entry {
    Dir {
        /// Permission bits in octal.
        mode: Mode,
    },
    File {
        /// Permission bits in octal.
        mode: Mode,
        /// Length.
        bytes: usize,
        /// What they are: 0 for zeros, anything else for noise.
        seed: u8,
    },
    Link {
        /// The link text.
        to: Text,
    },
}

/// Permission bits; in JSON their octal text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Mode(pub(crate) u32);

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        format!("{:04o}", mode.0)
    }
}

impl TryFrom<String> for Mode {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u32::from_str_radix(&text, 8).map(Self)
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        let byte = |byte: &u8| match byte {
            b' '..=b'~' if *byte != b'%' => char::from(*byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        text.0.iter().map(byte).collect()
    }
}

impl TryFrom<String> for Text {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut parts = text.split('%');
        let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
        for part in parts {
            let code = part.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok());
            bytes.push(code.ok_or_else(|| format!("a % without two hexadecimal digits in {text:?}"))?);
            bytes.extend_from_slice(&part.as_bytes()[2..]);
        }
        Ok(Self(bytes))
    }
}

fn content(bytes: usize, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed);
    let next = |_| {
        // Zero stays zero.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(u64::from(seed));
        (state >> 56) as u8
    };
    (0..bytes).map(next).collect()
}

impl History {
    /// Records and judges it: the promises that are broken or unknown, with all that explains them, if there are any.
    pub(crate) fn complaint(&self) -> Option<String> {
        let dir = tempfile::Builder::new().prefix("cutover-history-").tempdir().unwrap();
        let releases = self.releases.iter().enumerate();
        let sources =
            releases.map(|(at, entries)| self.write(&dir.path().join(at.to_string()), entries)).collect();
        let recording = match record(&self.plan(sources), &mut Quiet, &|| false) {
            Ok(recording) => recording,
            Err(error) => return Some(format!("could not record: {error}\n")),
        };
        let judgement = judge(&recording.trace, &recording.scenario, &[&simfs::POSIX]);
        let cut = recording.cut_short.map(|cut| format!("{cut}:\n{}\n", tree::show(&cut.output)));
        let bad = cut.is_some() || !acceptable(&judgement);
        bad.then(|| format!("{}{}", cut.unwrap_or_default(), report::text(&judgement, None)))
    }

    /// As JSON, for `regressions/`.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("keys are text")
    }

    fn plan(&self, sources: Vec<PathBuf>) -> Plan {
        Plan {
            sources,
            deploy_path_exists: self.deploy_path_exists,
            shared: self.shared.iter().map(shared_entry).collect(),
            ..Plan::for_cutover(program("cutover"))
        }
    }

    fn write(&self, root: &Path, entries: &Entries) -> PathBuf {
        fs::create_dir(root).unwrap();
        let at = |path: &Text| root.join(OsStr::from_bytes(&path.0));
        for (path, entry) in entries {
            match entry {
                Entry::Dir { .. } => fs::create_dir(at(path)).unwrap(),
                Entry::File { bytes, seed, .. } => fs::write(at(path), content(*bytes, *seed)).unwrap(),
                Entry::Link { to } => symlink(OsStr::from_bytes(&to.0), at(path)).unwrap(),
            }
        }
        // Backwards: a directory gets its mode and time after everything in it.
        for (path, entry) in entries.iter().rev() {
            if let Entry::Dir { mode } | Entry::File { mode, .. } = entry {
                fs::set_permissions(at(path), Permissions::from_mode(mode.0)).unwrap();
                if self.same_times {
                    let time = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
                    fs::File::open(at(path)).unwrap().set_modified(time).unwrap();
                }
            }
        }
        root.to_path_buf()
    }
}

/// A history that exercises little leaves promises unasked, and that is all right.
fn acceptable(judgement: &Judgement) -> bool {
    !judgement.any(|verdict| matches!(verdict, Verdict::Broken(_) | Verdict::Unknown { .. }))
}

fn shared_entry((path, entry): (&Text, &Entry)) -> SharedEntry {
    let content = match entry {
        Entry::Dir { mode } => Content::Directory { mode: mode.0 },
        Entry::File { mode, bytes, seed } => Content::File { bytes: content(*bytes, *seed), mode: mode.0 },
        Entry::Link { to } => Content::Symlink { target: to.0.clone() },
    };
    SharedEntry { path: path.0.clone(), content }
}

struct Quiet;

impl Progress for Quiet {
    fn begins(&mut self, _: usize, _: usize, _: &Path) {}
    fn ended(&mut self, _: usize, _: u32, _: Duration) {}
}
