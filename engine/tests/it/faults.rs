//! Syncs that fail, and signals.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

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
        let Some(real) = ["/usr/bin/sync", "/bin/sync"].iter().map(Path::new).find(|p| p.exists()) else {
            crate::skip("there is no sync on this machine");
            return None;
        };
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

/// In the middle of the upload: the host's tar stops, and the client waits until it takes more.
#[test]
fn an_interrupt_during_the_upload() {
    let tools = tempfile::tempdir().expect("tools");
    let Some(real) = ["/usr/bin/tar", "/bin/tar"].iter().map(Path::new).find(|p| p.exists()) else {
        return crate::skip("there is no tar on this machine");
    };
    let (stop, there) = (tools.path().join("stop"), tools.path().join("there"));
    let script = format!(
        "#!/bin/sh\ncase $1 in -x*) while [ -e '{}' ]; do : >'{}'; sleep 0.05; done ;; esac\nexec {} \"$@\"\n",
        stop.display(),
        there.display(),
        real.display(),
    );
    fs::write(tools.path().join("tar"), script).expect("shim");
    chmod(&tools.path().join("tar"), 0o755);
    let path = PathBuf::from(format!("{}:/usr/bin:/bin", tools.path().display()));
    let Some(host) = Host::start_with(Some(&path)) else { return };
    fs::write(host.source().join("a"), "one").expect("write");
    host.deploy(&[]).live();
    let before = host.current();
    fs::write(host.source().join("a"), "x".repeat(30_000_000)).expect("write");
    fs::write(&stop, "").expect("stop");
    let running = host.start_deploy(&[]);
    let begun = Instant::now();
    while !there.exists() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the upload does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    let sent = Command::new("kill").args(["-INT", &running.0.id().to_string()]).status();
    assert!(sent.is_ok_and(|s| s.success()));
    let ran = running.finish();
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stdout.is_empty() && ran.stderr.contains("error: interrupted\nhint: "), "{ran:#?}");
    assert!(ran.stderr.contains(&format!("state: not live; current still points to {before}")), "{ran:#?}");
    fs::remove_file(&stop).expect("go");
    host.deploy(&["--wait", "20s"]).live();
    host.assert_tidy();
}
