//! `cutover check`: whether deploys work on a host, and what is guaranteed there.
//!
//! `remote/check.sh` tries things in a scratch folder and reports; this reads the report, pure, and judges. What was not
//! seen is never taken for granted: a file system without a profile guarantees nothing after a power loss.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::config::{Durability, Target};
use crate::error::{Cause, DeployError, Live};
use crate::preflight;
use crate::remote::frame::Event;
use crate::remote::mounts::{self, Profile};
use crate::remote::observed::{Current, Room, parse_room};
use crate::session::Session;
use crate::text::{human_bytes, printable};

/// Connects to a target's host and finds out.
///
/// # Errors
/// If the host cannot be asked. What it cannot do is in the report.
pub async fn check(target: &Target) -> Result<Report, DeployError> {
    let asking = async {
        let mut session = Session::connect(target).await?;
        let findings = session.check().await?;
        session.close().await;
        Ok::<_, Cause>(findings)
    };
    let findings = asking.await.map_err(|cause| DeployError::new(cause, Live::NotSeen))?;
    let host = format!("{}:{}", target.address.host, target.path);
    Ok(Report { host, findings, durability: target.durability })
}

/// What the login shell prints without being asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Noise {
    /// Nothing.
    #[default]
    Silent,
    /// This, in one line.
    Prints(String),
    /// It could not be asked: the host allows no further channel.
    NotAsked,
}

/// What a host said about itself.
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of its own")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Kernel and its version.
    pub system: String,
    /// Numeric user id and umask.
    pub user: (String, String),
    /// Tools that are missing.
    pub missing: BTreeSet<String>,
    /// Tool → whose it is, such as `GNU coreutils 9.1`.
    pub tools: BTreeMap<String, String>,
    /// Whether the deploy path is there.
    pub exists: bool,
    /// The deploy path, or the nearest folder above it that is there.
    pub place: Vec<u8>,
    /// Its owner, group and mode.
    pub owner: Vec<String>,
    /// What `current` is, if the deploy path can be entered.
    pub current: Option<Current>,
    /// Room on its disk.
    pub room: Option<Room>,
    /// Something that is no directory is in the way.
    pub not_a_directory: bool,
    /// Where the user may not make files.
    pub denied: BTreeSet<String>,
    /// Parts of the layout that lie elsewhere.
    pub apart: BTreeSet<String>,
    /// What it is on, in words, and its profile or why there is none.
    pub file_system: Option<(String, Result<Profile, String>)>,
    /// What was tried, and what it said if it failed.
    pub probes: BTreeMap<String, Result<(), String>>,
    /// Whether flock(1) is there.
    pub has_flock: bool,
    /// The host allows one channel only: nothing there watches that a client is still there.
    pub unwatched: bool,
    /// What the login shell printed without being asked.
    pub noise: Noise,
}

impl Findings {
    /// Reads the report of `check.sh`.
    pub fn of(events: &[Event]) -> Self {
        let mut out = Self { current: preflight::current(events), ..Self::default() };
        let (mut device, mut table, mut ext4) = (None, Vec::new(), None);
        for event in events {
            match event {
                Event::Note(words) => {
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    let text = |word: &str| printable(word.as_bytes());
                    match words.as_slice() {
                        ["system", words @ ..] => out.system = text(&words.join(" ")),
                        ["user", id, umask] => out.user = (text(id), text(umask)),
                        ["missing", tool] => {
                            out.missing.insert(text(tool));
                        }
                        ["exists"] => out.exists = true,
                        ["not-a-directory"] => out.not_a_directory = true,
                        ["denied", place] => {
                            out.denied.insert(text(place));
                        }
                        ["apart", part] => {
                            out.apart.insert(text(part));
                        }
                        ["owner", words @ ..] => out.owner = words.iter().map(|w| text(w)).collect(),
                        ["room", numbers @ ..] => out.room = parse_room(numbers),
                        ["device", number] => device = number.parse().ok(),
                        ["can", probe] => {
                            out.probes.insert(text(probe), Ok(()));
                        }
                        ["flock"] => out.has_flock = true,
                        _ => {}
                    }
                }
                Event::Section { name, bytes } => match name.as_str() {
                    "place" => out.place = bytes.strip_suffix(b"\n").unwrap_or(bytes).to_vec(),
                    "mounts" => table = mounts::parse(bytes),
                    "ext4" => ext4 = Some(bytes.as_slice()),
                    name => {
                        if let Some(tool) = name.strip_prefix("tool-") {
                            out.tools.insert(printable(tool.as_bytes()), flavour(bytes));
                        } else if let Some(probe) = name.strip_prefix("cannot-") {
                            out.probes.insert(printable(probe.as_bytes()), Err(first_line(bytes)));
                        }
                    }
                },
            }
        }
        let mount = device.and_then(|device| mounts::find(&table, &out.place, device));
        out.file_system = mount.map(|mount| {
            let profile = mounts::profile(mount, ext4).map_err(|why| printable(why.as_bytes()));
            (format!("{} on {}", printable(mount.kind.as_bytes()), printable(&mount.point)), profile)
        });
        out
    }

    fn failed(&self, probe: &str) -> Option<&str> {
        match self.probes.get(probe) {
            Some(Err(why)) => Some(why),
            _ => None,
        }
    }

    fn works(&self, probe: &str) -> bool {
        self.probes.get(probe) == Some(&Ok(()))
    }

    /// Why nothing can be made durable there, if so.
    fn undurable(&self) -> Option<String> {
        let failed = ["fsync", "syncfs", "sync"].into_iter().find_map(|p| self.failed(p));
        if let Some(why) = failed {
            return Some(format!("sync(1) fails: {why}"));
        }
        if self.missing.contains("sync") || !self.works("fsync") {
            return Some("there is no usable sync(1)".to_owned());
        }
        (!self.works("syncfs") && !self.works("sync"))
            .then(|| "its sync(1) has no -f, and without it only Linux waits for the disk".to_owned())
    }

    /// Why a barrier can succeed though the disk failed, if it can.
    fn deaf(&self) -> Option<&'static str> {
        if !self.works("syncfs") {
            return self.works("sync").then_some("its sync(1) has no -f");
        }
        let version = self.system.strip_prefix("Linux ")?;
        let mut numbers = version.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
        let version = (numbers.next()?, numbers.next()?);
        (version < (5, 8)).then_some("before Linux 5.8, syncfs(2) does not tell of them")
    }

    /// The profile, or why nothing is guaranteed after a power loss.
    fn profile(&self) -> Result<(&str, Profile), String> {
        if let Some(why) = self.undurable() {
            return Err(why);
        }
        match &self.file_system {
            Some((on, Ok(profile))) => Ok((on, *profile)),
            Some((_, Err(why))) => Err(format!("no profile, {why}")),
            None => Err("no profile, the file system of the deploy path cannot be seen".to_owned()),
        }
    }

    /// Why deploys do not work there; empty if they do.
    pub fn obstacles(&self, durability: Durability) -> Vec<String> {
        let mut out = Vec::new();
        let required: Vec<&str> = self.missing.iter().map(String::as_str).filter(|t| *t != "sync").collect();
        if !required.is_empty() {
            out.push(format!("missing on the host: {}", required.join(", ")));
        }
        if self.not_a_directory {
            out.push("the deploy path, or something above it, is not a directory".to_owned());
        }
        for place in &self.denied {
            out.push(match place.as_str() {
                "path" => format!("the user may not make files in {}", printable(&self.place)),
                inside => format!("the user may not make files in {}/{inside}", printable(&self.place)),
            });
        }
        for part in &self.apart {
            out.push(format!(
                "{part}/ is not in the deploy path itself: it is a link, or on another file system"
            ));
        }
        if self.current == Some(Current::Other) {
            out.push("`current` is not a symbolic link".to_owned());
        }
        if let Some(why) = self.failed("rename") {
            out.push(format!("a link cannot be replaced atomically (mv -T): {why}"));
        }
        // Without a folder to try it in nothing is known of these.
        if out.is_empty() && !self.works("rename") {
            out.push("the host did not try what it was asked to".to_owned());
        }
        if out.is_empty()
            && durability == Durability::Require
            && let Some(why) = self.undurable()
        {
            out.push(format!("nothing can be made durable, and `durability` requires it: {why}"));
        }
        out
    }
}

/// What is found about a host, judged; printable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `host:path`.
    pub host: String,
    /// What the host said.
    pub findings: Findings,
    /// What the configuration asks for.
    pub durability: Durability,
}

/// The answer of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Deploys work, and what is live survives a power loss.
    Guaranteed,
    /// Deploys work; what a power loss leaves is not known.
    Unguaranteed,
    /// Deploys do not work.
    Unfit,
}

impl Report {
    /// The answer.
    pub fn verdict(&self) -> Verdict {
        match (self.findings.obstacles(self.durability).is_empty(), self.findings.profile()) {
            (false, _) => Verdict::Unfit,
            (true, Ok(_)) => Verdict::Guaranteed,
            (true, Err(_)) => Verdict::Unguaranteed,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = &self.findings;
        let obstacles = found.obstacles(self.durability);
        if obstacles.is_empty() {
            writeln!(f, "deploys work on {}", self.host)?;
            writeln!(f, "guaranteed: at every instant readers find one whole release through `current`")?;
            match found.profile() {
                Ok((on, profile)) => writeln!(
                    f,
                    "guaranteed: what was reported as live survives a power loss whole, if the disk keeps what it \
                     says it has written (profile {profile}: {on})"
                )?,
                Err(why) => writeln!(f, "not guaranteed: what a power loss leaves ({why})")?,
            }
            if let Some(why) = found.deaf() {
                writeln!(f, "not guaranteed: that write errors of the disk are noticed ({why})")?;
            }
        } else {
            writeln!(f, "deploys do not work on {}", self.host)?;
            obstacles.iter().try_for_each(|o| writeln!(f, "because: {o}"))?;
        }
        let (id, umask) = &found.user;
        writeln!(f, "host: {}, user id {id}, umask {umask}", found.system)?;
        let mut makers = BTreeMap::<&str, Vec<&str>>::new();
        for (tool, maker) in &found.tools {
            makers.entry(maker).or_default().push(tool);
        }
        let makers: Vec<String> =
            makers.iter().map(|(m, tools)| format!("{m} ({})", tools.join(" "))).collect();
        writeln!(f, "tools: {}", makers.join(", "))?;
        writeln!(f, "lock: {}", if found.has_flock { "flock(1)" } else { "link(2), there is no flock(1)" })?;
        if found.unwatched {
            writeln!(
                f,
                "not watched: the host allows one channel a connection (MaxSessions 1), so a client that vanishes keeps \
                 the lock until the host ends its connection"
            )?;
        }
        if found.works("rename") {
            let copies =
                if found.works("reflink") { "can share blocks (reflink)" } else { "are whole (no reflink)" };
            writeln!(f, "copies: {copies}")?;
        }
        if let Some(room) = found.room {
            let inodes = room.free_inodes.map_or(String::new(), |n| format!(", {n} inodes"));
            writeln!(f, "room: {}{inodes}", human_bytes(room.free_bytes))?;
        }
        if let [user, group, mode] = found.owner.as_slice() {
            let place = printable(&found.place);
            let place = if found.exists { place } else { format!("is to be made in {place}") };
            writeln!(f, "path: {place}, owner {user}:{group}, mode {mode}")?;
        }
        match &found.noise {
            Noise::Silent => writeln!(f, "login shell: silent")?,
            Noise::Prints(noise) => {
                writeln!(f, "login shell: prints without being asked, which does not matter: {noise}")?;
            }
            Noise::NotAsked => writeln!(f, "login shell: not asked, the host allows no further channel")?,
        }
        match &found.current {
            Some(current) => writeln!(f, "{}", current.line()),
            None if found.exists => writeln!(f, "current: not seen"),
            None => writeln!(f, "{}", Current::Absent.line()),
        }
    }
}

/// Whose a tool is, from what it says for `--version`.
fn flavour(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    for line in text.lines() {
        if let Some(at) = line.find("BusyBox v") {
            let word = line.get(at..).unwrap_or_default().split(' ').take(2).collect::<Vec<_>>().join(" ");
            return printable(word.as_bytes());
        }
        for maker in [
            "GNU coreutils",
            "GNU findutils",
            "GNU tar",
            "uutils coreutils",
            "util-linux",
            "bsdtar",
            "toybox",
        ] {
            if line.contains(maker) {
                let version = line.split([' ', ')']).rfind(|w| w.starts_with(|c: char| c.is_ascii_digit()));
                return printable(format!("{maker} {}", version.unwrap_or("of some version")).as_bytes());
            }
        }
    }
    "something else".to_owned()
}

fn first_line(bytes: &[u8]) -> String {
    printable(bytes.split(|b| *b == b'\n').find(|l| !l.is_empty()).unwrap_or(b"it does not say why"))
}
