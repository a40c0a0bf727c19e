//! Which processes, mounts and listening sockets belong to a program, from the outside.
//!
//! Read from `/proc` alone, as an operator would: nothing that the program says about itself is believed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the kernel gets to end what was killed.
const DYING: Duration = Duration::from_secs(10);

/// The variable that marks a program and all that inherits its environment.
pub(crate) const MARKER: &str = "CUTOVER_TEST_MARKER";

/// A process that is not a zombie.
#[derive(Clone, Debug)]
struct Process {
    parent: u32,
    /// In clock ticks since boot: with its id, a name that is never used again.
    started: u64,
    pid_namespace: Option<PathBuf>,
    marked: bool,
    command: String,
}

/// What a running program had.
#[derive(Debug, Default)]
pub(crate) struct Belongings {
    marker: String,
    /// Id and start of each process.
    processes: BTreeSet<(u32, u64)>,
    /// Process namespaces that are not ours.
    namespaces: BTreeSet<PathBuf>,
    /// Inodes of listening TCP sockets.
    listening: BTreeSet<u64>,
}

impl Belongings {
    /// Nothing yet, of a program that was started with this marker in its environment.
    pub(crate) fn of_marker(marker: &str) -> Self {
        Self { marker: marker.to_owned(), ..Self::default() }
    }

    /// Adds what `program` and everything below it have at this moment.
    pub(crate) fn look(&mut self, program: u32) {
        let all = processes(&self.marker);
        let mut below = BTreeSet::from([program]);
        // Parents may have greater ids than their children, so until nothing is found any more.
        loop {
            let more: Vec<u32> = all
                .iter()
                .filter(|(pid, process)| !below.contains(*pid) && below.contains(&process.parent))
                .map(|(pid, _)| *pid)
                .collect();
            if more.is_empty() {
                break;
            }
            below.extend(more);
        }
        let ours = fs::read_link("/proc/self/ns/pid").ok();
        let listening = listening();
        for pid in below {
            let Some(process) = all.get(&pid) else { continue };
            self.processes.insert((pid, process.started));
            self.namespaces
                .extend(process.pid_namespace.clone().filter(|space| Some(space) != ours.as_ref()));
            self.listening.extend(sockets(pid).intersection(&listening));
        }
    }

    /// How many processes were seen, and whether a listening socket was.
    pub(crate) fn seen(&self) -> (usize, bool) {
        (self.processes.len(), !self.listening.is_empty())
    }

    /// What of it is still there, in words; empty when all is gone.
    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for (pid, process) in processes(&self.marker) {
            let known = self.processes.contains(&(pid, process.started));
            let inside = process.pid_namespace.as_ref().is_some_and(|space| self.namespaces.contains(space));
            if known || inside || process.marked {
                left.push(format!("process {pid}: {}", process.command));
            }
        }
        left.extend(
            self.listening.intersection(&listening()).map(|inode| format!("listening socket {inode}")),
        );
        left
    }

    /// Waits until nothing of it is there, nor any mount that was not there `before`.
    pub(crate) fn assert_gone(&self, before: &BTreeSet<String>, story: &str) {
        let deadline = Instant::now() + DYING;
        loop {
            let mut left = self.left();
            left.extend(mounts().difference(before).map(|mount| format!("mount {mount}")));
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left after {DYING:?}: {left:#?}\n{story}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// All mounts of this process's namespace, one line each.
pub(crate) fn mounts() -> BTreeSet<String> {
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().map(str::to_owned).collect()
}

fn processes(marker: &str) -> BTreeMap<u32, Process> {
    let ids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter_map(|pid| Some((pid, process(pid, marker)?))).collect()
}

/// None if it has ended, or did while it was looked at.
fn process(pid: u32, marker: &str) -> Option<Process> {
    let dir = Path::new("/proc").join(pid.to_string());
    let stat = fs::read(dir.join("stat")).ok()?;
    // The name in brackets may hold anything, brackets too.
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let stat = String::from_utf8_lossy(&stat[after_name..]).into_owned();
    let fields: Vec<&str> = stat.split_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    let mark = format!("{MARKER}={marker}");
    let environ = fs::read(dir.join("environ")).unwrap_or_default();
    let command = fs::read(dir.join("cmdline")).unwrap_or_default();
    Some(Process {
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
        pid_namespace: fs::read_link(dir.join("ns/pid")).ok(),
        marked: environ.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()),
        command: String::from_utf8_lossy(&command).replace('\0', " "),
    })
}

/// The inodes of all listening TCP sockets.
fn listening() -> BTreeSet<u64> {
    const LISTEN: &str = "0A";
    let mut inodes = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields.get(3) == Some(&LISTEN) {
                inodes.extend(fields.get(9).and_then(|inode| inode.parse::<u64>().ok()));
            }
        }
    }
    inodes
}

/// The inodes of all sockets that a process has open.
fn sockets(pid: u32) -> BTreeSet<u64> {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return BTreeSet::new() };
    let links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    links
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect()
}
