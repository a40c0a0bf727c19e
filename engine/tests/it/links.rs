//! Nothing is written, changed or removed through a symbolic link: not through one that the application, the user or
//! last time's deploy made, not through one that took the place of something else at run time, and not through one that
//! does so while the deploy is running.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::sshd::{Host, chmod, names};
use crate::tree;

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
    fs::write(path, text).expect("write");
}

/// A host with user data and one release, whose `dir` has `x` and `gone` and whose `file` is a file.
fn deployed() -> Option<Host> {
    let host = Host::start()?;
    write(&host.path(), "shared/data/x", "user's");
    write(&host.path(), "shared/data/gone", "user's");
    write(&host.path(), "shared/data/deep/y", "user's");
    write(&host.source(), "dir/x", "app");
    write(&host.source(), "dir/gone", "app");
    write(&host.source(), "dir/deep/y", "app");
    write(&host.source(), "file", "app");
    host.deploy(&[]).live();
    Some(host)
}

/// What the application did at run time: a path of its release is a link into the user's data now.
fn replace_by_link(host: &Host, name: &str, to: &str) {
    let at = host.path().join("current").join(name);
    if at.is_dir() { fs::remove_dir_all(&at) } else { fs::remove_file(&at) }.expect("rm");
    symlink(to, &at).expect("link");
}

/// Deploys; the user's data is what it was, to the second, and the release is the source.
fn deploy_changes_nothing_shared(host: &Host) {
    let shared = host.path().join("shared");
    let before = tree::read(&shared, true);
    host.deploy(&[]).live();
    assert_eq!(tree::read(&shared, true), before);
    let mut release = tree::read(&host.path().join("current/"), false);
    release.retain(|_, what| !what.starts_with("link ../../shared/"));
    assert_eq!(release, tree::read(&host.source(), false));
}

#[test]
fn a_directory_where_a_file_became_a_link() {
    let Some(host) = deployed() else { return };
    replace_by_link(&host, "file", "../../shared/data");
    fs::remove_file(host.source().join("file")).expect("rm");
    // Through the link, tar would write the first two over the user's, and the third beside them.
    for name in ["x", "deep/y", "new"] {
        write(&host.source(), &format!("file/{name}"), "app");
    }
    deploy_changes_nothing_shared(&host);
    host.assert_tidy();
}

#[test]
fn changed_and_removed_files_in_a_directory_that_became_a_link() {
    let Some(host) = deployed() else { return };
    replace_by_link(&host, "dir", "../../shared/data");
    write(&host.source(), "dir/x", "app 2");
    fs::remove_file(host.source().join("dir/gone")).expect("rm");
    fs::remove_dir_all(host.source().join("dir/deep")).expect("rm");
    deploy_changes_nothing_shared(&host);
    host.assert_tidy();
}

#[test]
fn a_mode_that_changes_in_a_directory_that_became_a_link() {
    let Some(host) = deployed() else { return };
    replace_by_link(&host, "dir/deep", "../../../shared/data/deep");
    replace_by_link(&host, "file", "../../shared/data/x");
    chmod(&host.source().join("dir/deep"), 0o700);
    chmod(&host.source().join("file"), 0o600);
    deploy_changes_nothing_shared(&host);
    host.assert_tidy();
}

#[test]
fn a_directory_that_goes_and_became_a_link() {
    let Some(host) = deployed() else { return };
    replace_by_link(&host, "dir", "../../shared/data");
    fs::remove_dir_all(host.source().join("dir")).expect("rm");
    deploy_changes_nothing_shared(&host);
    assert!(fs::symlink_metadata(host.path().join("current/dir")).is_err(), "the link itself is gone");
}

/// As `linked_dirs %w(public public/uploads)` does it elsewhere: the second is below the link that the first one was.
#[test]
fn linked_directories_within_one_another() {
    let Some(host) = deployed() else { return };
    write(&host.path(), "shared/public/uploads/cat", "meow");
    host.deploy(&[]);
    assert!(fs::symlink_metadata(host.path().join("current/public")).expect("it is there").is_symlink());
    write(&host.source(), "public/uploads/new", "app");
    write(&host.source(), "public/style", "app");
    let shared = host.path().join("shared");
    let before = tree::read(&shared, true);
    host.deploy(&[]).live();
    assert_eq!(tree::read(&shared, true), before);
    assert_eq!(names(&host.path().join("current/public/uploads")), ["cat", "new"]);
    // And back: the whole directory of the release goes, in which there are links to the user's data now.
    fs::remove_dir_all(host.source().join("public")).expect("rm");
    host.deploy(&[]).live();
    assert_eq!(tree::read(&shared, true), before);
    assert!(fs::symlink_metadata(host.path().join("current/public")).expect("it is there").is_symlink());
}

#[test]
fn releases_that_are_pruned_or_swept_hold_links_or_are_links() {
    let Some(host) = deployed() else { return };
    let shared = host.path().join("shared");
    let before = tree::read(&shared, true);
    // Folders that are closed are opened for the removal: not those behind a link.
    let oldest = fs::canonicalize(host.path().join("current")).expect("current");
    symlink("../../shared/data", oldest.join("dir/link")).expect("link");
    chmod(&oldest.join("dir/deep"), 0o500);
    // What a run that died has left; somebody has put a link there.
    let dead = "20200101000000";
    write(&host.path(), &format!(".cutover/unfinished/{dead}"), "");
    symlink("../shared/data", host.path().join("releases").join(dead)).expect("link");
    symlink("../../shared/data", host.path().join(".cutover/staging").join(dead)).expect("link");
    for n in 0..4 {
        write(&host.source(), "file", &format!("version {n}"));
        host.deploy(&[]).live();
    }
    assert!(!oldest.exists() && host.releases().len() == 3, "{:?}", host.releases());
    assert_eq!(tree::read(&shared, true), before);
    host.assert_tidy();
}

/// Between the look at the base and the changes in its copy there is time: whoever runs there may use it.
#[test]
fn a_directory_that_becomes_a_link_while_it_is_copied() {
    let tools = tempfile::tempdir().expect("tools");
    let cp = ["/usr/bin/cp", "/bin/cp"].iter().map(Path::new).find(|p| p.exists()).expect("cp");
    let trap = tools.path().join("trap");
    // Runs the trap in what was copied.
    let script = format!(
        "#!/bin/sh\n{} \"$@\" || exit\nfor to do :; done\nif [ -e '{trap}' ] && [ -d \"$to\" ]; then cd -- \"$to\" && . '{trap}'; fi\n",
        cp.display(),
        trap = trap.display(),
    );
    fs::write(tools.path().join("cp"), script).expect("shim");
    chmod(&tools.path().join("cp"), 0o755);
    let path = PathBuf::from(format!("{}:/usr/bin:/bin", tools.path().display()));
    let Some(host) = Host::start_with(Some(&path)) else { return };
    write(&host.path(), "shared/data/x", "user's");
    write(&host.path(), "shared/data/gone", "user's");
    write(&host.path(), "shared/data/sub/x", "user's");
    for name in ["dir/x", "dir/gone", "dir/sub/x", "kept"] {
        write(&host.source(), name, "app");
    }
    host.deploy(&[]).live();
    let traps = [
        // The folder that something is put into and removed from.
        "rm -rf dir && ln -s ../../shared/data dir",
        // The one above it.
        "mv dir old && ln -s ../../shared dir",
        // One whose mode is set.
        "rm -rf dir/sub && ln -s ../../../shared/data/sub dir/sub",
    ];
    for (n, line) in traps.iter().enumerate() {
        fs::write(&trap, format!("{line} && mv '{0}' '{0}.sprung'\n", trap.display())).expect("trap");
        write(&host.source(), "dir/x", &format!("app {n}"));
        write(&host.source(), "dir/sub/x", &format!("app {n}"));
        let gone = host.source().join("dir/gone");
        if gone.exists() { fs::remove_file(&gone) } else { fs::write(&gone, "back") }.expect("change");
        chmod(&host.source().join("dir/sub"), if n % 2 == 0 { 0o700 } else { 0o755 });
        deploy_changes_nothing_shared(&host);
        assert!(!trap.exists(), "{line}: the trap was sprung");
    }
    // The notes of the attempts that were given up go with the next deploy.
    write(&host.source(), "kept", "app, the last");
    host.deploy(&[]).live();
    host.assert_tidy();
}
