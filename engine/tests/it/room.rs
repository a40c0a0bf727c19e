//! A disk that is full, or not one disk: what can still be done, and what is refused.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use crate::account::Account;
use crate::sshd::Host;

/// A host with a small disk and three releases.
fn small_disk(bytes: u32) -> Option<Host> {
    let host = Account { disk: Some((bytes, 1000)), ..Account::default() }.start()?;
    for text in ["one", "two", "three"] {
        fs::write(host.source().join("index"), text).expect("write");
        host.deploy(&[]).live();
    }
    Some(host)
}

/// Fills the disk with what the application writes at run time.
fn fill(host: &Host) {
    let file = host.inside(&host.path()).join("current/upload");
    let chunk = vec![b'x'; 4096];
    let mut file = fs::File::create(file).expect("create");
    while std::io::Write::write_all(&mut file, &chunk).is_ok() {}
}

/// What frees room, or brings the site back, works on a disk without a free block.
#[test]
fn on_a_full_disk_everything_but_a_deploy_works() {
    let Some(host) = small_disk(1 << 20) else { return };
    let current = || fs::read_link(host.inside(&host.path()).join("current")).expect("current");
    fill(&host);
    let ran = host.deploy(&[]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    fs::write(host.source().join("index"), "four").expect("write");
    let ran = host.deploy(&[]);
    assert!(ran.code == Some(1) && ran.stderr.contains("not enough room"), "{ran:#?}");
    for command in ["recover", "unlock", "status", "releases", "verify"] {
        let ran = host.run(command, &[]);
        // The upload is a difference to nobody, and a log that cannot be written is said.
        assert_eq!(ran.code, Some(0), "{command}: {ran:#?}");
    }
    let before = current();
    let ran = host.run("rollback", &[]);
    ran.live();
    assert_ne!(current(), before);
    let ran = host.run("prune", &["--keep", "2"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    // The release with the upload is the one before: it stays. Taking the upload away frees the disk.
    fs::remove_file(host.inside(&host.path()).join(before).join("upload")).expect("rm");
    host.deploy(&[]).live();
}

/// What is written at run time is copied, too.
#[test]
fn room_for_what_was_written_at_run_time() {
    let Some(host) = small_disk(1 << 20) else { return };
    let file = host.inside(&host.path()).join("current/cache");
    fs::write(file, vec![b'x'; 600 << 10]).expect("write");
    fs::write(host.source().join("index"), "four").expect("write");
    let ran = host.deploy(&[]);
    assert!(ran.code == Some(1) && ran.stderr.contains("not enough room: "), "{ran:#?}");
}

fn deployed() -> Option<Host> {
    let host = Host::start()?;
    fs::write(host.source().join("index"), "one").expect("write");
    host.deploy(&[]).live();
    fs::write(host.source().join("index"), "two").expect("write");
    Some(host)
}

/// Moves a part of the layout elsewhere, with a link to it.
fn move_away(host: &Host, part: &str, to: &Path) {
    let from = host.path().join(part);
    let moved = std::process::Command::new("mv").arg(&from).arg(to).status();
    assert!(moved.is_ok_and(|status| status.success()), "mv");
    symlink(to.join(part), from).expect("link");
}

fn refused(host: &Host, words: &str) {
    let before = fs::read_link(host.path().join("current")).expect("current");
    let ran = host.deploy(&[]);
    assert!(ran.code == Some(1) && ran.stderr.contains(words), "{ran:#?}");
    assert_eq!(fs::read_link(host.path().join("current")).expect("current"), before);
    let ran = host.run("check", &[]);
    assert!(ran.code == Some(1) && ran.stdout.contains(words), "{ran:#?}");
}

/// A temporary link on another file system is not renamed onto `current`: mv(1) removes `current` and makes it anew.
#[test]
fn a_temporary_link_on_another_disk_is_refused() {
    let Some(host) = deployed() else { return };
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else {
        crate::skip("there is no /dev/shm");
        return;
    };
    let device = |path: &Path| fs::metadata(path).expect("stat").dev();
    if device(other.path()) == device(&host.path()) {
        crate::skip("/dev/shm is not another file system");
        return;
    }
    move_away(&host, ".cutover", other.path());
    refused(&host, ".cutover/ is not in the deploy path itself");
}

/// Links in a release lead to `../../shared`: from elsewhere they lead nowhere.
#[test]
fn releases_that_lie_elsewhere_are_refused() {
    let Some(host) = deployed() else { return };
    let other = tempfile::tempdir().expect("a folder");
    move_away(&host, "releases", other.path());
    refused(&host, "releases/ is not in the deploy path itself");
}
