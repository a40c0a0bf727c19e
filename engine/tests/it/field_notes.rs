//! What other deploy tools get wrong: each defect, and the test that it is not ours.
//!
//! Each was reproduced with the tool, or read in its source.
//!
//! | defect | where it was seen | test |
//! |---|---|---|
//! | a temporary link that a killed run left is followed, and an old release goes live under a new one's name | Capistrano | [`a_stale_temporary_link_is_never_followed`] |
//! | cleanup compares link texts: through an alias of the deploy path the live release is deleted | Capistrano | `end_to_end::a_path_reached_through_an_alias` |
//! | releases are ordered by the times of their directories | Capistrano | [`times_of_directories_say_nothing`] |
//! | `rm -rf` goes through a link: `linked_dirs public public/uploads` | Capistrano | `links::linked_directories_within_one_another` |
//! | a rollback with one release deletes the site | Mina | [`a_rollback_with_one_release_changes_nothing`] |
//! | the failure path removes the live release | Mina | [`failed_deploys_never_cost_a_release`], `faults::a_failed_barrier_is_not_live` |
//! | after enough failed deploys, cleanup deletes the live release | Shipit | [`failed_deploys_never_cost_a_release`] |
//! | `current` is a real directory: removed first, or published with silent success | Ansistrano, Shipit | [`a_directory_at_current_is_refused_and_kept`] |
//! | a cleanup that was not told a release does not protect the live one | Ansible | [`a_live_release_that_is_not_the_newest_stays`] |
//! | exit 0 on a truncated tree | `git archive \| tar` | [`a_truncated_upload_is_no_release`], [`a_connection_that_is_cut_is_no_release`] |
//! | two deploys in one second share a directory | most | [`deploys_in_the_same_second_are_two_releases`] |
//! | a clock that is behind deletes the newest release | most | [`a_clock_that_is_behind`] |
//! | ids are local times: a second machine, or the end of summer time, makes an older one | most | [`time_zones_say_nothing`] |
//! | the lock is free before cleanup is over, and the next deploy runs into it | Deployer | `outcomes::the_lock_is_held_until_the_cleanup_is_over` |
//! | partial releases count for retention, and can be switched to | most | [`partial_releases_do_not_count`], `commands::rollback_refuses_what_does_not_count` |
//! | nothing is ever synced | all | `cutover-certify` proves `durable_ack` |
//! | `mv` without `-T` moves the link into the release | BSD, shells of appliances | [`without_an_atomic_rename_nothing_is_done`] |
//! | `ln -sfn` is no atomic replacement | busybox, BSD | `end_to_end::every_kind_of_change_with_busybox`; `cutover-certify` proves `never_absent` |
//! | test-then-create locks: both starters win | Deployer, Mina | `leftovers::a_race_has_at_most_one_winner_at_a_time` |
//! | a lock that outlives its holder | Kamal | `leftovers::a_client_killed_at_any_time_leaves_a_complete_release` |

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::sshd::{Host, chmod};
use crate::tree;

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
    fs::write(path, text).expect("write");
}

/// What visitors get.
fn index(host: &Host) -> String {
    fs::read_to_string(host.path().join("current/index")).expect("index")
}

/// Deploys this text; it has to go live.
fn deploy(host: &Host, text: &str) -> String {
    write(&host.source(), "index", text);
    let id = host.deploy(&[]).live();
    assert_eq!((index(host).as_str(), host.current()), (text, format!("releases/{id}")));
    id
}

/// A folder with one program that stands before the machine's own of that name, and the path to use it.
pub(crate) fn shim(name: &str, script: &str) -> (tempfile::TempDir, PathBuf) {
    let tools = tempfile::tempdir().expect("tools");
    let real =
        ["/usr/bin", "/bin"].iter().map(|dir| Path::new(dir).join(name)).find(|p| p.exists()).expect("it");
    let script = script
        .replace("REAL", &real.display().to_string())
        .replace("TOOLS", &tools.path().display().to_string());
    fs::write(tools.path().join(name), format!("#!/bin/sh\n{script}\n")).expect("shim");
    chmod(&tools.path().join(name), 0o755);
    let path = PathBuf::from(format!("{}:/usr/bin:/bin", tools.path().display()));
    (tools, path)
}

#[test]
fn a_stale_temporary_link_is_never_followed() {
    let Some(host) = Host::start() else { return };
    let old = deploy(&host, "one");
    // Where Capistrano makes it, where others do, and where we do: all lead to the old release.
    for name in ["releases/current", "current.tmp", "current_tmp", "current.new", ".current.new", "release"] {
        symlink(host.path().join("releases").join(&old), host.path().join(name)).expect("link");
    }
    symlink(format!("releases/{old}"), host.path().join(format!(".cutover/next.{old}.0"))).expect("link");
    let new = deploy(&host, "two");
    assert_ne!(new, old);
    assert_eq!(
        fs::read_to_string(host.path().join("releases").join(&old).join("index")).expect("read"),
        "one"
    );
    assert!(
        !host.path().join("releases").join(&old).join("current").exists(),
        "nothing was put into what a link leads to"
    );
    host.assert_tidy_but(&["current"]);
}

#[test]
fn times_of_directories_say_nothing() {
    let Some(host) = Host::start() else { return };
    let ids: Vec<String> = ["one", "two", "three"].iter().map(|text| deploy(&host, text)).collect();
    // Backwards: the oldest looks newest, the live one oldest.
    for (n, id) in ids.iter().enumerate() {
        let time = SystemTime::now() - Duration::from_hours(24 * n as u64);
        let dir = fs::File::open(host.path().join("releases").join(id)).expect("open");
        dir.set_modified(time).expect("touch");
    }
    let new = deploy(&host, "four");
    assert_eq!(host.releases(), [ids[1].clone(), ids[2].clone(), new.clone()]);
    // And a rollback goes by the same order, and removes nothing.
    for (n, id) in host.releases().iter().enumerate() {
        let time = SystemTime::now() - Duration::from_hours(24 * n as u64);
        fs::File::open(host.path().join("releases").join(id))
            .expect("open")
            .set_modified(time)
            .expect("touch");
    }
    let before = host.releases();
    assert_eq!(host.run("rollback", &[]).live(), ids[2]);
    assert_eq!((index(&host).as_str(), host.releases()), ("three", before));
}

#[test]
fn a_rollback_with_one_release_changes_nothing() {
    let Some(host) = Host::start() else { return };
    let only = deploy(&host, "one");
    // Newer than the live one, and never live: no place to go back to.
    write(&host.path(), "releases/20800101000000/half", "");
    write(&host.path(), "releases/20100101000000/half", "");
    let before = tree::read(&host.path().join("releases"), true);
    let ran = host.run("rollback", &[]);
    assert!(ran.code == Some(1) && ran.stderr.contains("error: "), "{ran:#?}");
    assert_eq!((index(&host).as_str(), host.current()), ("one", format!("releases/{only}")));
    assert_eq!(tree::read(&host.path().join("releases"), true), before);
}

#[test]
fn failed_deploys_never_cost_a_release() {
    let (tools, path) =
        shim("sync", "if [ -e TOOLS/fail ] && [ \"$1\" = -f ]; then exit 1; fi\nexec REAL \"$@\"");
    let Some(host) = Host::start_with(Some(&path)) else { return };
    let ids: Vec<String> = ["one", "two", "three"].iter().map(|text| deploy(&host, text)).collect();
    fs::write(tools.path().join("fail"), "").expect("fail");
    for n in 0..6 {
        write(&host.source(), "index", &format!("failed {n}"));
        let ran = host.deploy(&[]);
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        assert_eq!((index(&host).as_str(), host.releases()), ("three", ids.clone()));
    }
    fs::remove_file(tools.path().join("fail")).expect("rm");
    let new = deploy(&host, "four");
    assert_eq!(host.releases(), [ids[1].clone(), ids[2].clone(), new]);
    host.assert_tidy();
}

#[test]
fn a_directory_at_current_is_refused_and_kept() {
    let Some(host) = Host::start() else { return };
    write(&host.path(), "current/index", "a site that somebody put there by hand");
    write(&host.source(), "index", "ours");
    let before = tree::read(&host.path().join("current"), true);
    let ran = host.deploy(&[]);
    assert!(ran.code == Some(1) && ran.stderr.contains("`current` is not a symbolic link"), "{ran:#?}");
    assert!(!ran.stdout.contains("live"), "{ran:#?}");
    assert_eq!(tree::read(&host.path().join("current"), true), before);
    assert!(host.releases().is_empty());
}

#[test]
fn a_live_release_that_is_not_the_newest_stays() {
    let Some(host) = Host::start() else { return };
    let ids: Vec<String> = ["one", "two", "three"].iter().map(|text| deploy(&host, text)).collect();
    // As after a rollback by hand.
    fs::remove_file(host.path().join("current")).expect("rm");
    symlink(format!("releases/{}", ids[0]), host.path().join("current")).expect("link");
    let new = deploy(&host, "four");
    assert_eq!(host.releases(), [ids[0].clone(), ids[2].clone(), new], "what was live, and the newest");
}

#[test]
fn a_truncated_upload_is_no_release() {
    // What arrives is cut off somewhere, and nobody says so: the host's tar ends with success.
    let script = "case \"$1\" in -x*) [ ! -e TOOLS/cut ] || [ \"$2\" != - ] || { head -c 60000 | REAL \"$@\" 2>/dev/null; cat >/dev/null; exit 0; } ;; esac\nexec REAL \"$@\"";
    let (tools, path) = shim("tar", script);
    let Some(host) = Host::start_with(Some(&path)) else { return };
    for n in 0..51 {
        write(&host.source(), &format!("file{n}"), &"x".repeat(3000));
    }
    let old = deploy(&host, "one");
    fs::write(tools.path().join("cut"), "").expect("cut");
    for n in 0..51 {
        write(&host.source(), &format!("file{n}"), &"y".repeat(3000));
    }
    let ran = host.deploy(&[]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert_eq!(host.current(), format!("releases/{old}"));
    fs::remove_file(tools.path().join("cut")).expect("rm");
    deploy(&host, "two");
    assert_eq!(fs::read_to_string(host.path().join("current/file50")).expect("read"), "y".repeat(3000));
}

#[test]
fn a_connection_that_is_cut_is_no_release() {
    let Some(host) = Host::start() else { return };
    let old = deploy(&host, "one");
    write(&host.source(), "index", "two");
    fs::write(host.source().join("big"), "x".repeat(60_000_000)).expect("write");
    let running = host.start_deploy(&[]);
    // As soon as the upload has begun to arrive.
    let staging = host.path().join(".cutover/staging");
    for _ in 0..500 {
        if crate::sshd::names(&staging).first().is_some_and(|id| staging.join(id).join("tree/big").exists()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    host.cut_connections();
    let ran = running.finish();
    assert!(matches!(ran.code, Some(1 | 3)), "{ran:#?}");
    assert!(ran.stderr.contains("error: ") && !ran.stdout.contains("live:"), "{ran:#?}");
    assert_eq!((index(&host).as_str(), host.current()), ("one", format!("releases/{old}")));
    // The next one gets through, as soon as the last process of the first has noticed.
    for _ in 0..100 {
        let ran = host.deploy(&[]);
        if ran.code == Some(0) {
            assert_eq!(index(&host), "two");
            return host.assert_tidy();
        }
        assert!(ran.stderr.contains("another deploy"), "{ran:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the lock never came free");
}

#[test]
fn deploys_in_the_same_second_are_two_releases() {
    let Some(host) = Host::start() else { return };
    let texts = ["one", "two", "three"];
    let ids: Vec<String> = texts.iter().map(|text| deploy(&host, text)).collect();
    assert!(ids.windows(2).all(|two| two[0] < two[1]), "{ids:?}");
    for (id, text) in ids.iter().zip(texts) {
        let file = host.path().join("releases").join(id).join("index");
        assert_eq!(fs::read_to_string(file).expect("read"), text);
    }
}

#[test]
fn a_clock_that_is_behind() {
    let Some(host) = Host::start() else { return };
    let ids: Vec<String> = ["one", "two", "three"].iter().map(|text| deploy(&host, text)).collect();
    // As if that had been deployed from a machine whose clock is years ahead.
    let ahead = |id: &str| format!("2090{}", &id[4..]);
    for id in &ids {
        for path in
            [format!("releases/{id}"), format!(".cutover/seals/{id}"), format!(".cutover/seals/{id}.live")]
        {
            fs::rename(host.path().join(&path), host.path().join(path.replace(id, &ahead(id)))).expect("mv");
        }
    }
    fs::remove_file(host.path().join("current")).expect("rm");
    symlink(format!("releases/{}", ahead(&ids[2])), host.path().join("current")).expect("link");
    let new = deploy(&host, "four");
    assert!(new > ahead(&ids[2]), "{new}");
    assert_eq!(host.releases(), [ahead(&ids[1]), ahead(&ids[2]), new], "the oldest went, and nothing newer");
}

/// This second, and that many after it, in UTC.
fn utc(format: &str, later_s: u64) -> String {
    let out = std::process::Command::new("date")
        .args(["-u", "-d", &format!("+{later_s} seconds"), format])
        .output()
        .expect("date");
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

#[test]
fn time_zones_say_nothing() {
    let (tools, path) = shim("sync", "printf '%s\\n' \"$TZ\" >TOOLS/zone\nexec REAL \"$@\"");
    // Further words of the server's line are further variables: half a day behind on the host.
    let path = PathBuf::from(format!("{} TZ=Etc/GMT+12", path.display()));
    let Some(mut host) = Host::start_with(Some(&path)) else { return };
    let mut ids = Vec::new();
    for (n, zone) in ["UTC-14", "UTC+12", "CET-1CEST", ":/no/such/zone", ""].iter().enumerate() {
        host.env = vec![("TZ".to_owned(), (*zone).to_owned())];
        let before = [utc("+%Y%m%d%H%M%S", 0), utc("+%FT%TZ", 0)];
        let id = deploy(&host, &n.to_string());
        // No two have the same: one in a second that is taken is the next one.
        let after = [utc("+%Y%m%d%H%M%S", 5), utc("+%FT%TZ", 5)];
        assert!(before[0] <= id && id <= after[0], "{zone}: {id}, not {before:?}");
        let log = fs::read_to_string(host.path().join(".cutover/log")).expect("log");
        let at = log.lines().last().and_then(|line| line.split(" at=").nth(1)).expect("a line");
        assert!(before[1].as_str() <= &at[..20] && &at[..20] <= after[1].as_str(), "{zone}: {at}");
        ids.push(id);
    }
    assert!(ids.is_sorted(), "{ids:?}");
    let zone = fs::read_to_string(tools.path().join("zone")).expect("the host's");
    assert_eq!(zone, "Etc/GMT+12\n");
}

#[test]
fn partial_releases_do_not_count() {
    let Some(host) = Host::start() else { return };
    let ids: Vec<String> = ["one", "two", "three"].iter().map(|text| deploy(&host, text)).collect();
    // Of ours, noted as unfinished; and of others, who knows what they are.
    for n in 0..4 {
        let id = format!("2080010100000{n}");
        write(&host.path(), &format!("releases/{id}/half"), "");
        if n % 2 == 0 {
            write(&host.path(), &format!(".cutover/unfinished/{id}"), "");
        }
    }
    let new = deploy(&host, "four");
    let foreign = ["20800101000001", "20800101000003"].map(str::to_owned);
    assert_eq!(
        host.releases(),
        [vec![ids[1].clone(), ids[2].clone()], foreign.to_vec(), vec![new]].concat(),
        "ours are swept, theirs are left alone, and neither is one of three"
    );
}

#[test]
fn without_an_atomic_rename_nothing_is_done() {
    // One `mv` that does not know -T, and one that takes it for granted and moves into what the link leads to.
    let refuses =
        "case \"$1\" in *T*) echo \"mv: illegal option -- T\" >&2; exit 1 ;; esac\nexec REAL \"$@\"";
    let ignores = "case \"$1\" in *T*) shift; exec REAL -f \"$@\" ;; esac\nexec REAL \"$@\"";
    for script in [refuses, ignores] {
        let (_tools, path) = shim("mv", script);
        let Some(host) = Host::start_with(Some(&path)) else { return };
        write(&host.path(), "releases/v1/index", "somebody's");
        symlink("releases/v1", host.path().join("current")).expect("link");
        write(&host.source(), "index", "ours");
        let ran = host.deploy(&[]);
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        assert!(ran.stderr.contains("cannot be replaced atomically"), "{ran:#?}");
        assert_eq!((host.current().as_str(), index(&host).as_str()), ("releases/v1", "somebody's"));
        assert_eq!(crate::sshd::names(&host.path().join("releases/v1")), ["index"]);
    }
}
