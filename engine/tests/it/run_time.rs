//! What the application writes into its release while it runs: it comes along, or it is said that it does not.

use std::fs;
use std::path::Path;

use crate::field_notes::shim;
use crate::sshd::Host;
use crate::tree;

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
    fs::write(path, text).expect("write");
}

fn read(host: &Host, name: &str) -> Option<String> {
    fs::read_to_string(host.path().join("current").join(name)).ok()
}

/// A first release.
fn deployed(files: &[&str]) -> Option<Host> {
    let host = Host::start()?;
    fill(&host, files);
    Some(host)
}

fn fill(host: &Host, files: &[&str]) {
    for name in files {
        write(&host.source(), name, "app's\n");
    }
    host.deploy(&[]).live();
}

/// In the live release.
fn at_run_time(host: &Host, files: &[&str]) {
    for name in files {
        write(&host.path().join("current/"), name, "written at run time\n");
    }
}

/// A folder that the application has now, and that was made at run time before, is not replaced by an empty one.
#[test]
fn a_folder_that_becomes_the_applications_keeps_what_is_in_it() {
    let Some(host) = deployed(&["index"]) else { return };
    at_run_time(&host, &["var/data.db", "var/deep/er/log", "var/.gitkeep"]);
    write(&host.source(), "var/.gitkeep", "app's\n");
    write(&host.source(), "var/deep/new", "app's\n");
    let plan = host.run("plan", &[]);
    assert!(plan.stdout.contains("note: 3 written in the base at run time come along"), "{plan:#?}");
    assert!(
        plan.stdout.contains("warning: written at run time, and not in the new release: var/.gitkeep"),
        "{plan:#?}"
    );
    let ran = host.deploy(&[]);
    ran.live();
    assert!(ran.stdout.contains("warning: written at run time, and not in the new release: var/.gitkeep"));
    for name in ["var/data.db", "var/deep/er/log"] {
        assert_eq!(read(&host, name).as_deref(), Some("written at run time\n"), "{name}");
    }
    for name in ["index", "var/.gitkeep", "var/deep/new"] {
        assert_eq!(read(&host, name).as_deref(), Some("app's\n"), "{name}");
    }
    // And the release after it, too.
    write(&host.source(), "index", "third\n");
    host.deploy(&[]).live();
    assert_eq!(read(&host, "var/data.db").as_deref(), Some("written at run time\n"));
    host.assert_tidy();
}

/// A folder that the application does not have any more goes but for what was written in it.
#[test]
fn a_folder_that_the_application_drops_keeps_what_is_in_it() {
    let Some(host) = deployed(&["index", "old/a", "old/b/c", "old/b/d/e", "gone/f"]) else { return };
    at_run_time(&host, &["old/b/cache/page"]);
    for dir in ["old", "gone"] {
        fs::remove_dir_all(host.source().join(dir)).expect("rm");
    }
    let plan = host.run("plan", &[]);
    for line in ["  remove gone (1 B)", "  remove old/a", "  remove old/b/c", "  remove old/b/d"] {
        let line = line.split(" (").next().expect("a part");
        assert!(plan.stdout.contains(line), "{line}: {plan:#?}");
    }
    host.deploy(&[]).live();
    let is: Vec<String> = tree::read(&host.path().join("current/"), false)
        .keys()
        .map(|path| String::from_utf8_lossy(path).into_owned())
        .collect();
    assert_eq!(is, ["", "index", "old", "old/b", "old/b/cache", "old/b/cache/page"]);
    host.assert_tidy();
}

/// Where the new tree has something else, the old release alone keeps it; that is said before and while it is done.
#[test]
fn what_is_replaced_is_said() {
    let Some(host) = deployed(&["index"]) else { return };
    at_run_time(&host, &["storage/upload", "page/cached"]);
    fs::create_dir_all(host.path().join("shared/storage")).expect("mkdir");
    write(&host.source(), "page", "a file now\n");
    let plan = host.run("plan", &[]);
    let warning =
        "warning: written at run time, and not in the new release: page, page/cached, storage and 1 more";
    assert!(plan.stdout.contains(warning), "{plan:#?}");
    assert!(!plan.stdout.contains("come along"), "{plan:#?}");
    let before = fs::canonicalize(host.path().join("current")).expect("live");
    let ran = host.deploy(&[]);
    ran.live();
    assert!(ran.stdout.contains(warning), "{ran:#?}");
    assert_eq!(read(&host, "page").as_deref(), Some("a file now\n"));
    assert!(read(&host, "storage/upload").is_none(), "shared/ is linked there now");
    assert_eq!(fs::read_to_string(before.join("storage/upload")).expect("kept"), "written at run time\n");
    host.assert_tidy();
}

/// A host whose copies go wrong: another file of the application is changed in the live release meanwhile, so often.
fn with_drift(times: u32) -> Option<(Host, tempfile::TempDir)> {
    let (tools, path) = shim(
        "cp",
        "n=$(cat TOOLS/n); case $3 in releases/*)
           if [ \"$n\" -gt 0 ]; then echo $((n - 1)) >TOOLS/n; echo drifted >\"$3/f$n\"; fi ;;
         esac
         exec REAL \"$@\"",
    );
    fs::write(tools.path().join("n"), "0").expect("write");
    let host = Host::start_with(Some(&path))?;
    fill(&host, &["index", "f1", "f2", "f8", "f9"]);
    write(&host.source(), "new", "app's\n");
    fs::write(tools.path().join("n"), times.to_string()).expect("write");
    Some((host, tools))
}

/// The base changes while it is copied: it is looked at once more.
#[test]
fn drift_during_the_copy_costs_nothing_that_was_written() {
    let Some((host, _tools)) = with_drift(1) else { return };
    at_run_time(&host, &["upload.jpg"]);
    host.deploy(&[]).live();
    assert_eq!(read(&host, "upload.jpg").as_deref(), Some("written at run time\n"));
    assert_eq!(read(&host, "f1").as_deref(), Some("app's\n"));
    host.assert_tidy();
}

/// It changes again and again: everything is uploaded, unless that would lose something.
#[test]
fn drift_that_does_not_end() {
    let Some((host, _tools)) = with_drift(9) else { return };
    host.deploy(&[]).live();
    for name in ["index", "f8", "f9", "new"] {
        assert_eq!(read(&host, name).as_deref(), Some("app's\n"), "{name}");
    }
    host.assert_tidy();

    let Some((host, tools)) = with_drift(9) else { return };
    let live = host.current();
    at_run_time(&host, &["upload.jpg"]);
    let ran = host.deploy(&[]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("verification failed on "), "{ran:#?}");
    assert_eq!(host.current(), live);
    fs::write(tools.path().join("n"), "0").expect("write");
    host.deploy(&[]).live();
    assert_eq!(read(&host, "upload.jpg").as_deref(), Some("written at run time\n"));
    host.assert_tidy();
}

/// Files that come and go are no failure of the copy.
#[test]
fn what_vanishes_during_the_copy_is_no_failure() {
    let (_tools, path) = shim(
        "cp",
        "case $3 in releases/*)
           REAL \"$@\"; echo \"cp: cannot stat '$3/cache/s1': No such file or directory\" >&2; exit 1 ;;
         esac
         exec REAL \"$@\"",
    );
    let Some(host) = Host::start_with(Some(&path)) else { return };
    fill(&host, &["index"]);
    write(&host.source(), "index", "two\n");
    host.deploy(&[]).live();
    assert_eq!(read(&host, "index").as_deref(), Some("two\n"));
    host.assert_tidy();
}

/// Anything else that cp(1) says is one.
#[test]
fn what_cannot_be_copied_is_a_failure() {
    let (_tools, path) = shim(
        "cp",
        "case $3 in releases/*)
           REAL \"$@\"; echo \"cp: cannot stat 'x': No such file or directory\" >&2
           echo \"cp: error writing 'y': No space left on device\" >&2; exit 1 ;;
         esac
         exec REAL \"$@\"",
    );
    let Some(host) = Host::start_with(Some(&path)) else { return };
    fill(&host, &["index"]);
    write(&host.source(), "index", "two\n");
    let ran = host.deploy(&[]);
    assert!(ran.code == Some(1) && ran.stderr.contains("copying the live release failed"), "{ran:#?}");
    assert_eq!(read(&host, "index").as_deref(), Some("app's\n"));
}

#[test]
fn without_a_seal_it_is_said() {
    let Some(host) = deployed(&["index"]) else { return };
    let id = host.current().replace("releases/", "");
    fs::write(host.path().join(".cutover/seals").join(&id), "torn").expect("tear");
    write(&host.source(), "index", "two\n");
    let ran = host.deploy(&[]);
    ran.live();
    assert!(ran.stdout.contains(&format!("warning: releases/{id} has no whole seal")), "{ran:#?}");
}

/// A listing that is cut short by the disk would hide what has to be removed.
#[test]
fn a_listing_that_fails_ends_the_deploy() {
    let (tools, path) = shim(
        "find",
        "REAL \"$@\"; s=$?
         if [ -e TOOLS/fail ] && [ \"$*\" != \"${*#. -exec stat}\" ]; then
           echo \"find: './d': Input/output error\" >&2; exit 1
         fi
         exit $s",
    );
    let Some(host) = Host::start_with(Some(&path)) else { return };
    fill(&host, &["index", "d/gone"]);
    let live = host.current();
    fs::remove_file(host.source().join("d/gone")).expect("rm");
    fs::write(tools.path().join("fail"), "").expect("fail");
    let ran = host.deploy(&[]);
    assert!(ran.code == Some(1) && ran.stderr.contains("Input/output error"), "{ran:#?}");
    assert_eq!(host.current(), live);
    fs::remove_file(tools.path().join("fail")).expect("rm");
    host.deploy(&[]).live();
    assert!(read(&host, "d/gone").is_none());
}
