//! What killed runs leave behind, and two runs at once.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use crate::sshd::Host;

fn deployed() -> Option<(Host, String)> {
    let host = Host::start()?;
    fs::write(host.source().join("index.html"), "one").expect("write");
    let id = host.deploy(&[]).live();
    Some((host, id))
}

#[test]
fn a_killed_run_is_swept() {
    let Some((host, id)) = deployed() else { return };
    let private = host.path().join(".cutover");
    // Killed before the cutover: a note, half a release, staging, a seal without marker, a temporary link.
    let dead = "20990101000000";
    fs::write(private.join("unfinished").join(dead), "").expect("note");
    fs::create_dir_all(host.path().join("releases").join(dead).join("half")).expect("mkdir");
    fs::create_dir_all(private.join("staging").join(dead).join("tree")).expect("mkdir");
    fs::write(private.join("seals").join(dead), "torn").expect("seal");
    symlink(format!("releases/{dead}"), private.join("next.dead.0")).expect("link");
    fs::write(host.source().join("index.html"), "two").expect("write");
    let new = host.deploy(&[]).live();
    assert!(new.as_str() > dead, "ids are strictly newer than any that was used");
    assert_eq!(host.releases(), [id, new]);
    host.assert_tidy();
}

#[test]
fn nothing_to_do_sweeps_too() {
    let Some((host, id)) = deployed() else { return };
    let dead = "20990101000000";
    fs::write(host.path().join(".cutover/unfinished").join(dead), "").expect("note");
    fs::create_dir_all(host.path().join("releases").join(dead)).expect("mkdir");
    symlink("releases/x", host.path().join(".cutover/next.dead.0")).expect("link");
    let ran = host.deploy(&[]);
    assert!(ran.code == Some(0) && ran.stdout.starts_with("nothing to do: "), "{ran:#?}");
    assert_eq!(host.releases(), [id]);
    host.assert_tidy();
}

#[test]
fn a_run_killed_after_its_cutover_is_completed() {
    let Some((host, id)) = deployed() else { return };
    // As if it had died right after the rename: no marker, still noted as unfinished.
    fs::remove_file(host.path().join(format!(".cutover/seals/{id}.live"))).expect("marker");
    fs::write(host.path().join(".cutover/unfinished").join(&id), "").expect("note");
    fs::write(host.source().join("index.html"), "two").expect("write");
    let new = host.deploy(&[]).live();
    assert_eq!(host.releases(), [id.clone(), new]);
    assert!(host.path().join(format!(".cutover/seals/{id}.live")).exists(), "recovered");
}

#[test]
fn releases_of_other_tools_are_left_alone() {
    let Some(host) = Host::start() else { return };
    for foreign in ["20200101000000", "v1", "20210101000000"] {
        fs::create_dir_all(host.path().join("releases").join(foreign)).expect("mkdir");
    }
    symlink("releases/20200101000000", host.path().join("current")).expect("link");
    for n in 0..5 {
        fs::write(host.source().join("index.html"), n.to_string()).expect("write");
        host.deploy(&[]).live();
    }
    let left = host.releases();
    assert_eq!(left.len(), 6, "{left:?}");
    assert!(left.contains(&"20200101000000".to_owned()) && left.contains(&"v1".to_owned()));
}

#[test]
fn current_that_is_no_link_is_refused() {
    let Some(host) = Host::start() else { return };
    fs::create_dir_all(host.path().join("current")).expect("mkdir");
    let ran = host.deploy(&[]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("`current` is not a symbolic link"), "{ran:#?}");
    assert!(host.releases().is_empty());
}

#[test]
fn a_torn_seal_means_a_full_upload() {
    let Some((host, id)) = deployed() else { return };
    fs::write(host.path().join(".cutover/seals").join(&id), "cutover-manifest 1\nd 755 0 .\n").expect("tear");
    fs::write(host.source().join("index.html"), "two").expect("write");
    let plan = host.run("plan", &[]);
    assert!(plan.stdout.contains("full upload"), "{plan:#?}");
    host.deploy(&[]).live();
    assert_eq!(fs::read_to_string(host.path().join("current/index.html")).expect("read"), "two");
}

#[test]
fn two_at_once() {
    let Some((host, id)) = deployed() else { return };
    // A process that holds the lock as a deploy's shell does.
    let lock = host.path().join(".cutover/lock");
    fs::write(host.path().join(".cutover/holder"), "token somebody@laptop process 7\n").expect("holder");
    let mut holder =
        std::process::Command::new("flock").arg(&lock).args(["sleep", "60"]).spawn().expect("flock");
    std::thread::sleep(Duration::from_millis(300));
    let ran = host.deploy(&[]);
    // flock's child holds it too.
    let _ = std::process::Command::new("pkill").args(["-P", &holder.id().to_string()]).status();
    let _ = holder.kill();
    let _ = holder.wait();
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(
        ran.stderr.contains("another deploy is running") && ran.stderr.contains("somebody@laptop"),
        "{ran:#?}"
    );
    assert_eq!(host.releases(), [id]);
}

#[test]
fn a_race_has_at_most_one_winner_at_a_time() {
    let Some((host, _)) = deployed() else { return };
    fs::write(host.source().join("index.html"), "two").expect("write");
    let running: Vec<_> = (0..4).map(|_| host.start_deploy(&[])).collect();
    let ran: Vec<_> = running.into_iter().map(crate::sshd::Running::finish).collect();
    for one in &ran {
        let busy = one.code == Some(1) && one.stderr.contains("another deploy is running");
        assert!(one.code == Some(0) || busy, "{one:#?}");
    }
    assert!(ran.iter().any(|r| r.code == Some(0)));
    assert_eq!(fs::read_to_string(host.path().join("current/index.html")).expect("read"), "two");
    host.assert_tidy();
}

#[test]
fn a_client_killed_at_any_time_leaves_a_complete_release() {
    let Some((host, _)) = deployed() else { return };
    let write = |n: u64| {
        let text = format!("version {n} {}", "x".repeat(200_000));
        for k in 0..5 {
            fs::write(host.source().join(format!("file{k}")), &text).expect("write");
        }
    };
    write(99);
    host.deploy(&[]).live();
    for n in 0..12_u64 {
        write(n);
        let mut running = host.start_deploy(&[]);
        std::thread::sleep(Duration::from_millis(60 + n * 40));
        let _ = running.0.kill();
        let _ = running.finish();
        // One release: a cutover that the host has begun is finished while this reads.
        let release = fs::canonicalize(host.path().join("current")).expect("a release is always there");
        let read = |k| fs::read_to_string(release.join(format!("file{k}"))).expect("a whole release");
        let texts: Vec<String> = (0..5).map(read).collect();
        assert!(texts[0].starts_with("version "));
        assert!(texts.windows(2).all(|w| w[0] == w[1]), "all or nothing");
    }
    // The lock ends with the last process of the last run.
    for _ in 0..50 {
        let ran = host.deploy(&[]);
        if ran.code == Some(0) {
            host.assert_tidy();
            return;
        }
        assert!(ran.stderr.contains("another deploy"), "{ran:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the lock never came free");
}
