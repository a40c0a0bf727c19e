//! What is found out before a deploy begins: permissions, syncs that fail, files that cannot be read.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use crate::account::{Account, ID, OTHER, WEB_GROUP};
use crate::sshd::{Host, chmod, names};
use crate::tree;

/// A refusal: what, where, what to do; and `releases/` was not touched.
fn refused(host: &Host, words: &str) {
    let before = names(&host.path().join("releases"));
    let ran = host.deploy(&[]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains(words), "{words}: {ran:#?}");
    assert!(ran.stderr.contains("error: 127.0.0.1:/") && ran.stderr.contains("\nhint: "), "{ran:#?}");
    assert_eq!(names(&host.path().join("releases")), before);
    let last = ran.stderr.lines().last().unwrap_or_default();
    match fs::read_link(host.path().join("current")) {
        Ok(text) => assert!(last.ends_with(&format!("points to {}", text.display())), "{ran:#?}"),
        Err(_) => assert!(
            ["there is no `current` yet", "`current` on the host was not touched"]
                .iter()
                .any(|state| last == format!("state: not live; {state}")),
            "{ran:#?}"
        ),
    }
}

fn deployer() -> Option<Host> {
    let host = Account::default().start()?;
    fs::write(host.source().join("index.html"), "one").expect("write");
    Some(host)
}

#[test]
fn permissions() {
    let Some(host) = deployer() else { return };
    let give = |path: &Path, id: u32| chown(path, Some(id), Some(id)).expect("chown");
    let srv = host.dir.path().join("srv");
    give(&srv, 0);
    refused(&host, "may not make files in the folder that is to hold the deploy path");
    assert!(!host.path().exists());
    fs::create_dir(host.path()).expect("mkdir");
    refused(&host, "may not make files in the deploy path");
    give(&host.path(), ID);
    host.deploy(&[]).live();
    fs::write(host.source().join("index.html"), "two").expect("write");
    give(&host.path().join("releases"), 0);
    refused(&host, "may not make files in releases/");
    give(&host.path().join("releases"), ID);
    give(&host.path().join(".cutover"), 0);
    refused(&host, "may not make files in .cutover/");
    give(&host.path().join(".cutover"), ID);
    host.deploy(&[]).live();
}

#[test]
fn a_file_where_the_deploy_path_should_be() {
    let Some(host) = deployer() else { return };
    fs::write(host.path(), "").expect("write");
    refused(&host, "the deploy path is not a directory");
}

#[test]
fn room() {
    for (disk, words) in [
        ((1 << 20, 1000), "not enough room: 3.2 MB needed, "),
        ((1 << 24, 40), "not enough room: 61 inodes needed, "),
    ] {
        let Some(host) = (Account { disk: Some(disk), ..Account::default() }).start() else { return };
        for n in 0..60 {
            fs::write(host.source().join(n.to_string()), "x".repeat(50_000)).expect("write");
        }
        refused(&host, words);
    }
}

/// A host on which sync(1) fails, or is not there at all.
fn without_sync(script: Option<&str>) -> Option<(Host, tempfile::TempDir)> {
    let tools = tempfile::tempdir().expect("tools");
    for dir in ["/usr/bin", "/bin"] {
        for name in names(Path::new(dir)) {
            if name != "sync" {
                let _ = std::os::unix::fs::symlink(Path::new(dir).join(&name), tools.path().join(&name));
            }
        }
    }
    let sync = tools.path().join("sync");
    // The verbs look at the usual places too; a script that fails stands for a host without it.
    fs::write(&sync, script.unwrap_or("#!/bin/sh\necho 'sync: not found' >&2\nexit 127\n")).expect("write");
    chmod(&sync, 0o755);
    let host = Host::start_with(Some(&PathBuf::from(tools.path())))?;
    fs::write(host.source().join("index.html"), "one").expect("write");
    Some((host, tools))
}

#[test]
fn without_a_sync_nothing_is_begun() {
    let Some((host, _tools)) = without_sync(None) else { return };
    refused(&host, "nothing can be made durable there: sync(1) fails: sync: not found");
    assert!(!host.path().join("releases").exists());
}

#[test]
fn best_effort_says_so_loudly() {
    let fails = "#!/bin/sh\ncase $1 in --help) exec /usr/bin/sync --help ;; esac\necho 'sync: Invalid argument' >&2\nexit 1\n";
    let Some((host, _tools)) = without_sync(Some(fails)) else { return };
    host.set("durability = \"best-effort\"");
    for text in ["one", "two"] {
        fs::write(host.source().join("index.html"), text).expect("write");
        let ran = host.deploy(&[]);
        ran.live();
        let last = ran.stdout.lines().last().unwrap_or_default();
        assert!(last.starts_with("warning: NOTHING IS GUARANTEED AFTER A POWER LOSS: "), "{ran:#?}");
        assert!(last.contains("Invalid argument"), "{ran:#?}");
        assert_eq!(fs::read_to_string(host.path().join("current/index.html")).expect("read"), text);
    }
    host.assert_tidy();
}

/// Where a host can sync, best effort is no other deploy: not a word of it, and a failed barrier is not live.
#[test]
fn best_effort_weakens_nothing() {
    let fails_later = "#!/bin/sh\nif [ \"$*\" = '-f -- .' ]; then echo 'sync: Input/output error' >&2; exit 1; fi\nexec /usr/bin/sync \"$@\"\n";
    let Some((host, tools)) = without_sync(Some(fails_later)) else { return };
    host.set("durability = \"best-effort\"");
    let ran = host.deploy(&[]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("making the release durable failed"), "{ran:#?}");
    fs::write(tools.path().join("sync"), "#!/bin/sh\nexec /usr/bin/sync \"$@\"\n").expect("write");
    let ran = host.deploy(&[]);
    ran.live();
    assert!(!ran.stdout.contains("warning"), "{ran:#?}");
}

/// The live release, as a web server left it: files and a folder that the deploy user cannot read.
fn written_by_the_web_server() -> Option<Host> {
    let host = deployer()?;
    fs::write(host.source().join("settings"), "of the application").expect("write");
    fs::create_dir(host.source().join("pages")).expect("mkdir");
    fs::write(host.source().join("pages/a"), "a").expect("write");
    host.deploy(&[]).live();
    let current = host.path().join("current/");
    for (file, mode) in [("cache", 0o600), ("settings", 0o600), ("log", 0o644)] {
        if file != "settings" {
            fs::write(current.join(file), "of the web server").expect("write");
        }
        chmod(&current.join(file), mode);
        chown(current.join(file), Some(OTHER), Some(OTHER)).expect("chown");
    }
    for folder in ["sessions", "pages"] {
        fs::create_dir_all(current.join(folder)).expect("mkdir");
        fs::write(current.join(folder).join("s1"), "secret").expect("write");
        chmod(&current.join(folder), 0o070);
        chown(current.join(folder), Some(OTHER), Some(WEB_GROUP + 5)).expect("chown");
    }
    fs::write(host.source().join("index.html"), "two").expect("write");
    Some(host)
}

#[test]
fn what_cannot_be_read_is_refused() {
    let Some(host) = written_by_the_web_server() else { return };
    refused(&host, "the user cannot read cache, pages, sessions and 1 more");
}

#[test]
fn what_cannot_be_read_is_left_out() {
    let Some(host) = written_by_the_web_server() else { return };
    host.set("unreadable = \"skip\"");
    let ran = host.deploy(&[]);
    ran.live();
    assert!(
        ran.stdout
            .contains("warning: left out of the copy, because the user cannot read it: cache, sessions"),
        "{ran:#?}"
    );
    let current = host.path().join("current/");
    assert_eq!(fs::read_to_string(current.join("settings")).expect("read"), "of the application");
    assert_eq!(fs::read_to_string(current.join("log")).expect("read"), "of the web server");
    assert_eq!(fs::read_to_string(current.join("pages/a")).expect("read"), "a");
    assert_eq!(fs::metadata(current.join("pages")).expect("stat").mode() & 0o7777, 0o755);
    assert!(!current.join("cache").exists() && !current.join("sessions/s1").exists());
    assert_eq!(fs::metadata(current.join("settings")).expect("stat").uid(), ID);
    host.assert_tidy();
}

/// A folder of the web server in an old release cannot be removed: that is a warning, now and the next time.
#[test]
fn what_cannot_be_removed_stops_no_deploy() {
    let Some(host) = deployer() else { return };
    host.deploy(&[]).live();
    let cache = host.path().join("current/").join("cache");
    fs::create_dir(&cache).expect("mkdir");
    fs::write(cache.join("page"), "cached").expect("write");
    chmod(&cache, 0o755);
    chown(&cache, Some(OTHER), Some(OTHER)).expect("chown");
    let mut pending = 0;
    for n in 0..6 {
        fs::write(host.source().join("index.html"), n.to_string()).expect("write");
        let ran = host.deploy(&[]);
        ran.live();
        pending += u32::from(ran.stdout.contains("live, cleanup pending: "));
        assert_eq!(fs::read_to_string(host.path().join("current/index.html")).expect("read"), n.to_string());
    }
    assert!(pending >= 3, "{pending}");
    // What could not be removed is no reason not to write down what was live.
    let log = fs::read_to_string(host.path().join(".cutover/log")).expect("log");
    assert_eq!(log.lines().filter(|line| line.contains(" deploy ")).count(), 7, "{log}");
    let ids = host.releases();
    let status = host.run("status", &[]);
    assert!(status.stdout.contains(&ids[ids.len() - 2]), "{status:#?}");
    let ran = host.run("prune", &["--keep", "2"]);
    assert!(host.releases().ends_with(&ids[ids.len() - 2..]), "what was live before stays: {ran:#?}");
    // It is given to the deploy user: then the next deploy takes it away.
    for release in names(&host.path().join("releases")) {
        let cache = host.path().join("releases").join(release).join("cache");
        if cache.exists() {
            chown(&cache, Some(ID), Some(ID)).expect("chown");
        }
    }
    fs::write(host.source().join("index.html"), "last").expect("write");
    let ran = host.deploy(&[]);
    ran.live();
    assert!(!ran.stdout.contains("pending"), "{ran:#?}");
    assert_eq!(host.releases().len(), 3);
    host.assert_tidy();
}

/// Folders that only root could write in are opened for what changes in them, whether the new version closes them or not.
#[test]
fn folders_that_are_closed_and_opened() {
    let Some(host) = deployer() else { return };
    let source = host.source();
    fs::create_dir_all(source.join("d/deep")).expect("mkdir");
    for name in ["d/a", "d/b", "d/deep/c"] {
        fs::write(source.join(name), "one").expect("write");
    }
    let modes = |mode: u32| ["d/deep", "d", ""].iter().for_each(|dir| chmod(&source.join(dir), mode));
    for (n, mode) in [0o755, 0o555, 0o755, 0o555, 0o500, 0o700].into_iter().enumerate() {
        modes(0o755);
        fs::write(source.join("d/a"), n.to_string()).expect("write");
        fs::write(source.join(format!("d/deep/new-{n}")), "new").expect("write");
        let _ = fs::remove_file(source.join(format!("d/deep/new-{}", n.wrapping_sub(1))));
        modes(mode);
        let ran = host.deploy(&[]);
        ran.live();
        assert_eq!(tree::read(&host.path().join("current/"), false), tree::read(&source, false), "{ran:#?}");
    }
    modes(0o755);
}

/// Modes of files and folders are the source's, whatever the umask; setuid and the like too.
fn modes(account: &Account<'_>, setgid: bool) {
    let Some(host) = account.start() else { return };
    let source = host.source();
    let path = host.path();
    fs::create_dir(&path).expect("mkdir");
    chown(&path, Some(ID), Some(if setgid { WEB_GROUP } else { ID })).expect("chown");
    chmod(&path, if setgid { 0o2775 } else { 0o755 });
    fs::create_dir_all(source.join("public/deep")).expect("mkdir");
    fs::create_dir_all(source.join("closed")).expect("mkdir");
    for (name, mode) in [
        ("private", 0o600),
        ("run", 0o755),
        ("setuid", 0o4755),
        ("setgid", 0o2755),
        ("group", 0o664),
        ("all", 0o666),
        ("read-only", 0o444),
        ("public/deep/a", 0o640),
        ("closed/b", 0o400),
    ] {
        fs::write(source.join(name), name).expect("write");
        chmod(&source.join(name), mode);
    }
    chmod(&source.join("public"), 0o775);
    chmod(&source.join("public/deep"), 0o1777);
    chmod(&source.join("closed"), 0o500);
    chmod(&source, 0o750);
    let ran = host.deploy(&[]);
    assert!(!ran.stdout.contains("pending"), "{ran:#?}");
    let first = ran.live();
    let equal = |times: bool| {
        assert_eq!(tree::read(&path.join("current/"), times), tree::read(&source, times));
    };
    equal(true);
    // What is unchanged keeps its time; what is changed has the source's mode again.
    fs::write(source.join("run"), "changed").expect("write");
    fs::write(source.join("public/deep/new"), "new").expect("write");
    chmod(&source.join("public/deep/new"), 0o2644);
    chmod(&source.join("group"), 0o646);
    let old = path.join("releases").join(&first);
    let mtime = |path: &Path| fs::metadata(path).expect("stat").mtime();
    let ran = host.deploy(&[]);
    ran.live();
    assert!(!ran.stdout.contains("pending"), "{ran:#?}");
    equal(false);
    for name in ["private", "setuid", "setgid", "closed/b"] {
        assert_eq!(mtime(&old.join(name)), mtime(&path.join("current").join(name)), "{name}");
    }
    // Everything belongs to the deploy user; with setgid on the deploy path its group is everything's.
    let group = if setgid { WEB_GROUP } else { ID };
    for name in ["", "run", "public", "public/deep/new", "private", "closed/b"] {
        let meta = fs::metadata(path.join("current/").join(name)).expect("stat");
        assert_eq!((meta.uid(), meta.gid()), (ID, group), "{name}");
    }
    host.assert_tidy();
}

#[test]
fn modes_under_any_umask() {
    for umask in [0o022, 0o002, 0o077] {
        modes(&Account { umask: Some(umask), ..Account::default() }, false);
    }
}

#[test]
fn modes_below_a_setgid_folder() {
    modes(&Account::default(), true);
}

#[test]
fn modes_with_busybox() {
    let tools = tempfile::tempdir().expect("tools");
    chmod(tools.path(), 0o755);
    let Some(path) = crate::sshd::busybox_tools(tools.path()) else { return };
    let config = format!("SetEnv PATH={}", path.display());
    modes(&Account { config: &config, umask: Some(0o077), ..Account::default() }, false);
    modes(&Account { config: &config, ..Account::default() }, true);
}
