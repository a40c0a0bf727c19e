//! Faults of the simulated disk as programs in the sandbox meet them: also those of sync(2) and syncfs(2), which the disk
//! cannot see, and kills across process namespaces.

use std::path::Path;
use std::process::Output;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cutover_certify::record::SyncsToDisk;
use simfs::fault::{Calls, Fault, Schedule, When};
use simfs::fuse::{Mounted, mount_here};
use simfs::{Disk, Errno, Fs, OpKind};
use sshd_test::{Command, Options, Sandbox};

const PATIENCE: Duration = Duration::from_secs(30);

/// A sandbox on a simulated disk.
struct Rig {
    disk: Disk,
    sandbox: Arc<Sandbox>,
    mounted: Arc<Mutex<Option<Mounted>>>,
}

impl Rig {
    /// Nothing: skipped, and said why.
    fn new() -> Option<Self> {
        let mut fs = Fs::new(0, 0, 0o755);
        fs.start_recording();
        let disk = Disk::new(fs);
        let mounted = Arc::new(Mutex::new(None));
        let (slot, served) = (mounted.clone(), disk.clone());
        let mount = sshd_test::Disk::Mount(Box::new(move |at: &Path| {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(mount_here(&served, at)?);
            Ok(())
        }));
        match Sandbox::start(Options::new(mount, Arc::new(SyncsToDisk(disk.clone())))) {
            Ok(sandbox) => Some(Self { disk, sandbox: Arc::new(sandbox), mounted }),
            Err(why) => {
                crate::skip(&why.to_string());
                None
            }
        }
    }

    fn set(&self, when: When, fault: Fault) {
        self.disk.set_faults(&Schedule::one(when, fault)).expect("a good schedule");
    }

    /// Runs a shell line on the disk.
    fn run(&self, line: &str) -> Output {
        let output = self.start(line).recv_timeout(PATIENCE);
        output.unwrap_or_else(|_| panic!("it hangs: {line}"))
    }

    fn start(&self, line: &str) -> Receiver<Output> {
        let (ended, output) = channel();
        let line = format!("cd {} && {line}", self.sandbox.mount_at().display());
        let sandbox = self.sandbox.clone();
        std::thread::spawn(move || ended.send(sandbox.run(&line).expect("sh starts")));
        output
    }

    /// Standard output of a line, and the outcomes of the sync calls that were recorded meanwhile.
    fn syncs_of(&self, line: &str) -> (String, Vec<bool>) {
        let before = self.disk.trace().last() as usize;
        let output = self.run(line);
        let trace = self.disk.trace();
        let outcome = |op: &simfs::Op| match op.kind {
            OpKind::Sync { ok, .. } => Some(ok),
            _ => None,
        };
        let outcomes = trace.ops()[before + 1..].iter().filter_map(outcome).collect();
        (String::from_utf8_lossy(&output.stdout).into_owned(), outcomes)
    }

    fn until_one_waits(&self) {
        let started = Instant::now();
        while self.disk.waiting() == 0 {
            assert!(started.elapsed() < PATIENCE, "nothing waits");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_failed_syncfs_is_told_and_a_failed_sync_is_not() {
    let Some(rig) = Rig::new() else { return };
    rig.set(When::nth(Calls::SYNCFS, 1), Fault::Error(Errno::IO));
    let (told, outcomes) = rig.syncs_of("touch f; sync -f f 2>&1; echo $?; sync -f f; echo $?");
    assert!(told.contains("Input/output error\n1\n0\n"), "{told}");
    assert_eq!(outcomes, [false, true]);
    rig.set(When::nth(Calls::SYNC, 1), Fault::Error(Errno::IO));
    assert_eq!(rig.syncs_of("sync && sync && echo fine"), ("fine\n".into(), vec![false, true]));
    assert_eq!(rig.disk.hits().len(), 1);
}

/// Their numbers in the sandbox are not those that we know them by.
#[test]
fn programs_in_the_sandbox_are_killed() {
    let Some(rig) = Rig::new() else { return };
    rig.set(When::nth(Calls::MKDIR, 2), Fault::Kill);
    let output = rig.run("mkdir a; mkdir b; echo $?; mkdir c; ls");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "137\na\nc\n", "{output:?}");
    assert!(rig.disk.hits()[0].killed, "{}", rig.disk.hits()[0]);
    for (calls, line) in [(Calls::SYNCFS, "sync -f .; echo $?"), (Calls::SYNC, "sync; echo $?")] {
        rig.set(When::nth(calls, 1), Fault::Kill);
        assert_eq!(rig.syncs_of(line), ("137\n".into(), vec![]));
    }
}

#[test]
fn after_a_power_cut_no_sync_succeeds() {
    let Some(rig) = Rig::new() else { return };
    rig.set(When::nth(Calls::SYNCFS, 1), Fault::Crash);
    let (told, outcomes) = rig.syncs_of("sync -f . 2>&1; echo $?; sync -f . 2>&1; echo $?");
    assert_eq!(told.matches("not connected").count(), 2, "{told}");
    assert_eq!((told.matches("\n1\n").count(), outcomes), (2, vec![]), "{told}");
}

/// Neither a file operation nor a sync call that hangs keeps the sandbox from ending.
#[test]
fn what_hangs_does_not_hold_up_the_end() {
    for (calls, line) in [(Calls::MKDIR, "mkdir a"), (Calls::SYNCFS, "sync -f ."), (Calls::SYNC, "sync")] {
        let Some(rig) = Rig::new() else { return };
        rig.set(When::every(calls), Fault::Hang);
        let before = rig.disk.trace().last();
        let line = format!("cd {} && {line}", rig.sandbox.mount_at().display());
        let waiting = rig.sandbox.spawn(&Command::shell(&line)).expect("sh starts");
        rig.until_one_waits();
        let Rig { disk, sandbox, mounted } = rig;
        let (ended, end) = channel();
        std::thread::spawn(move || {
            drop((sandbox, mounted, waiting));
            ended.send(()).expect("somebody waits");
        });
        end.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{line} holds the end up"));
        assert_eq!(disk.waiting(), 0);
        assert_eq!(disk.trace().last(), before, "{line}: nobody was there to be answered");
    }
}
