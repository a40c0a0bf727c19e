//! A sync that fails is never relied on later: what it covered is made anew, or was undone.

use std::fs;

use crate::field_notes::shim;
use crate::sshd::Host;

/// A host on which sync(1) fails when its arguments, joined, are what is in `TOOLS/fail`.
fn host() -> Option<(Host, tempfile::TempDir)> {
    let (tools, path) = shim(
        "sync",
        "if [ \"$*\" = \"$(cat TOOLS/fail)\" ]; then echo 'sync: Input/output error' >&2; exit 1; fi\nexec REAL \"$@\"",
    );
    fs::write(tools.path().join("fail"), "never").expect("write");
    let host = Host::start_with(Some(&path))?;
    Some((host, tools))
}

fn deploy(host: &Host, text: &str) -> String {
    fs::write(host.source().join("index"), text).expect("write");
    host.deploy(&[]).live()
}

fn has(host: &Host, path: &str) -> bool {
    host.path().join(".cutover").join(path).exists()
}

/// The marker was not made durable: a marker that is there all the same would never be synced again.
#[test]
fn a_marker_is_made_again() {
    let Some((host, tools)) = host() else { return };
    fs::write(tools.path().join("fail"), ".cutover/seals .cutover/unfinished").expect("write");
    fs::write(host.source().join("index"), "one").expect("write");
    let ran = host.deploy(&[]);
    let id = ran.live();
    assert!(ran.stdout.contains("live, cleanup pending: marking the release as live failed"), "{ran:#?}");
    assert!(!has(&host, &format!("seals/{id}.live")) && has(&host, &format!("unfinished/{id}")));
    // Everything after it was done.
    assert!(!has(&host, &format!("staging/{id}")) && has(&host, "log"));
    fs::write(tools.path().join("fail"), "never").expect("write");
    let next = deploy(&host, "two");
    assert!(has(&host, &format!("seals/{id}.live")));
    assert_eq!(host.releases(), [id, next]);
    host.assert_tidy();
}

/// The same where a later run marks the release, and its own barrier fails.
#[test]
fn a_marker_that_a_recovery_makes_is_taken_back() {
    let Some((host, tools)) = host() else { return };
    let first = deploy(&host, "one");
    let live = deploy(&host, "two");
    let marker = format!("seals/{live}.live");
    for (command, args, fails) in [
        ("recover", vec![], "-f -- ."),
        ("rollback", vec![first.as_str()], "-f -- ."),
        ("deploy", vec![], "-f -- ."),
        ("deploy", vec!["changed"], ". .cutover .cutover/unfinished .cutover/seals"),
    ] {
        let _ = fs::remove_file(host.path().join(".cutover").join(&marker));
        fs::write(tools.path().join("fail"), fails).expect("write");
        let args = if args == ["changed"] {
            fs::write(host.source().join("index"), "three").expect("write");
            vec![]
        } else {
            args
        };
        let ran = host.run(command, &args);
        assert_eq!(ran.code, Some(1), "{command}: {ran:#?}");
        assert!(!has(&host, &marker), "{command}: {ran:#?}");
        assert_eq!(host.current(), format!("releases/{live}"));
        fs::write(tools.path().join("fail"), "never").expect("write");
        assert_eq!(host.run("recover", &[]).code, Some(0));
        assert!(has(&host, &marker));
    }
}

/// What failed before the cutover is undone under the lock, not after it.
#[test]
fn the_lock_is_held_until_a_failure_is_undone() {
    let (tools, path) = shim(
        "rm",
        "if [ -d TOOLS/at ]; then flock -n TOOLS/at/lock true && echo \"$*\" >>TOOLS/free; fi\nexec REAL \"$@\"",
    );
    fs::write(
        tools.path().join("sync"),
        "#!/bin/sh\ncase $* in '-f -- .') exit 1 ;; esac\nPATH=/usr/bin:/bin exec sync \"$@\"\n",
    )
    .expect("write");
    crate::sshd::chmod(&tools.path().join("sync"), 0o755);
    let Some(host) = Host::start_with(Some(&path)) else { return };
    std::os::unix::fs::symlink(host.path().join(".cutover"), tools.path().join("at")).expect("link");
    fs::write(host.source().join("index"), "one").expect("write");
    let ran = host.deploy(&[]);
    assert!(ran.code == Some(1) && ran.stderr.contains("making the release durable failed"), "{ran:#?}");
    assert!(host.releases().is_empty(), "undone");
    let free = fs::read_to_string(tools.path().join("free")).unwrap_or_default();
    assert_eq!(free, "", "the lock was free while this was removed");
}
