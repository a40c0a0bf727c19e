//! Syncs that fail, and signals.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sshd::{Host, chmod};

/// A host whose `sync` writes down its arguments and fails where it is told to.
struct Faulty {
    host: Host,
    tools: tempfile::TempDir,
}

impl Faulty {
    /// One good deploy is done.
    fn start() -> Option<Self> {
        let tools = tempfile::tempdir().expect("tools");
        let real = ["/usr/bin/sync", "/bin/sync"].iter().map(Path::new).find(|p| p.exists())?;
        let (log, fail) = (tools.path().join("log"), tools.path().join("fail"));
        let script = format!(
            "#!/bin/sh\nprintf '%s\\n' \"$*\" >>'{log}'\nn=$(grep -cxF -e \"$*\" '{log}')\n\
             if grep -qxF -e \"$n $*\" '{fail}' 2>/dev/null; then echo 'sync: Input/output error' >&2; exit 1; fi\nexec {real} \"$@\"\n",
            log = log.display(),
            fail = fail.display(),
            real = real.display(),
        );
        fs::write(tools.path().join("sync"), script).expect("shim");
        chmod(&tools.path().join("sync"), 0o755);
        let path = PathBuf::from(format!("{}:/usr/bin:/bin", tools.path().display()));
        let host = Host::start_with(Some(&path))?;
        fs::write(host.source().join("a"), "one").expect("write");
        host.deploy(&[]).live();
        fs::remove_file(&log).expect("it was used");
        fs::write(host.source().join("a"), "two").expect("write");
        Some(Self { host, tools })
    }

    /// `n` and arguments: the n-th such call fails.
    fn fail(&self, calls: &[&str]) {
        let _ = fs::remove_file(self.tools.path().join("log"));
        fs::write(self.tools.path().join("fail"), calls.join("\n")).expect("fail");
    }
}

#[test]
fn a_failed_barrier_is_not_live() {
    let Some(faulty) = Faulty::start() else { return };
    let (before, releases) = (faulty.host.current(), faulty.host.releases());
    faulty.fail(&["1 -f -- ."]);
    let ran = faulty.host.deploy(&[]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("error: making the release durable failed"), "{ran:#?}");
    assert!(ran.stderr.contains("Input/output error"), "{ran:#?}");
    assert!(ran.stderr.contains(&format!("state: not live; current still points to {before}")), "{ran:#?}");
    assert_eq!((faulty.host.current(), faulty.host.releases()), (before, releases));
    faulty.fail(&[]);
    faulty.host.deploy(&[]).live();
    faulty.host.assert_tidy();
}

#[test]
fn a_failed_sync_after_the_rename_is_a_fresh_rename() {
    let Some(faulty) = Faulty::start() else { return };
    // The first one is the opening's.
    faulty.fail(&["2 ."]);
    let id = faulty.host.deploy(&[]).live();
    assert_eq!(faulty.host.current(), format!("releases/{id}"));
    let log = fs::read_to_string(faulty.tools.path().join("log")).expect("log");
    assert_eq!(
        log.lines().filter(|l| *l == "-f -- .").count(),
        2,
        "the fresh link has a barrier of its own: {log}"
    );
    faulty.host.assert_tidy();
}

#[test]
fn a_cutover_that_cannot_be_made_durable_is_not_reported() {
    let Some(faulty) = Faulty::start() else { return };
    faulty.fail(&["2 .", "3 .", "4 ."]);
    let ran = faulty.host.deploy(&[]);
    assert_eq!(ran.code, Some(3), "{ran:#?}");
    assert!(ran.stdout.is_empty() && ran.stderr.contains("state: current is unknown"), "{ran:#?}");
    // The next one settles it, with a rename of its own.
    faulty.fail(&[]);
    let ran = faulty.host.deploy(&[]);
    assert!(ran.stdout.starts_with("nothing to do: "), "{ran:#?}");
    let log = fs::read_to_string(faulty.tools.path().join("log")).expect("log");
    assert!(log.contains("-f -- .\n.\n"), "barrier, then the directory: {log}");
}

#[test]
fn trouble_after_the_cutover_is_a_warning() {
    let Some(faulty) = Faulty::start() else { return };
    faulty.fail(&["1 .cutover/seals .cutover/unfinished"]);
    let ran = faulty.host.deploy(&[]);
    ran.live();
    assert!(ran.stdout.contains("\nlive, cleanup pending: marking the release as live failed"), "{ran:#?}");
    faulty.fail(&[]);
    fs::write(faulty.host.source().join("a"), "three").expect("write");
    faulty.host.deploy(&[]).live();
}

#[test]
fn an_interrupt_before_the_cutover() {
    let Some(host) = Host::start() else { return };
    fs::write(host.source().join("a"), "x".repeat(30_000_000)).expect("write");
    let running = host.start_deploy(&[]);
    std::thread::sleep(std::time::Duration::from_millis(250));
    let _ = Command::new("kill").args(["-INT", &running.0.id().to_string()]).status();
    let ran = running.finish();
    // A fast machine may be done by then; anything else is the named outcome.
    assert!(
        ran.code == Some(0) || (ran.code == Some(1) && ran.stderr.contains("error: interrupted\nhint: ")),
        "{ran:#?}"
    );
}
