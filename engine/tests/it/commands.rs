//! The commands beside `deploy`, against a real OpenSSH server.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::sshd::{Host, Ran, names};
use crate::tree;

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
    fs::write(path, text).expect("write");
}

/// Deploys these versions, one after the other.
fn deployed(versions: &[&str]) -> Option<(Host, Vec<String>)> {
    let host = Host::start()?;
    let mut ids = Vec::new();
    for text in versions {
        write(&host.source(), "index.html", text);
        write(&host.source(), "lib/a", "never changes");
        ids.push(host.deploy(&[]).live());
    }
    Some((host, ids))
}

/// What a run said, with what is new each time replaced by names.
fn told(host: &Host, ids: &[String], ran: &Ran) -> String {
    let mut text = format!("{}{}", ran.stdout, ran.stderr);
    for (n, id) in ids.iter().enumerate() {
        text = text.replace(id.as_str(), &format!("ID{}", n + 1));
    }
    text = text.replace(&host.dir.path().display().to_string(), "DIR");
    text = regular(&text);
    format!("{text}exit {}", ran.code.unwrap_or(-1))
}

/// Times, and who ran this where, replaced.
fn regular(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        while let Some(at) = line.match_indices('Z').map(|(at, _)| at).find(|at| is_time(&line, *at)) {
            line.replace_range(at - 19..=at, "TIME");
        }
        if let Some(at) = line.find("by ").filter(|_| line.contains(" process ")) {
            line.replace_range(at.., "by SOMEONE");
        }
        out.push_str(&line);
        out.push('\n');
    }
    out.replace(&format!("{}@127.0.0.1", crate::sshd::whoami()), "USER@127.0.0.1")
}

fn is_time(line: &str, end: usize) -> bool {
    let Some(text) = end.checked_sub(19).and_then(|start| line.get(start..end)) else { return false };
    text.chars()
        .zip("dddd-dd-ddTdd:dd:dd".chars())
        .all(|(c, form)| if form == 'd' { c.is_ascii_digit() } else { c == form })
}

fn live_text(host: &Host) -> String {
    fs::read_to_string(host.path().join("current/index.html")).expect("read")
}

#[test]
fn rollback_and_the_deploy_after_it() {
    let Some((host, mut ids)) = deployed(&["one", "two", "three"]) else { return };
    // Written at run time, and not only in what was rolled back from.
    write(&host.path(), &format!("releases/{}/cache", ids[1]), "warm");
    let before = host.releases();
    let ran = host.run("rollback", &[]);
    assert_eq!((ran.stdout.as_str(), ran.code), (format!("live: releases/{}\n", ids[1]).as_str(), Some(0)));
    assert_eq!((host.current(), live_text(&host)), (format!("releases/{}", ids[1]), "two".to_owned()));
    assert_eq!(host.releases(), before, "nothing is removed");
    host.assert_tidy();

    // Copied from what is live, which stays; the release before the rollback is the newest, and stays too.
    write(&host.source(), "index.html", "four");
    ids.push(host.deploy(&[]).live());
    assert_eq!(fs::read_to_string(host.path().join("current/cache")).expect("read"), "warm");
    assert_eq!(host.releases(), [ids[1].clone(), ids[2].clone(), ids[3].clone()]);
    assert!(ids[3] > ids[2], "a rollback does not make ids go backwards");
    host.assert_tidy();
    insta::assert_snapshot!(told(&host, &ids, &host.run("log", &[])), @r"
    ID1 deploy live=ID1 was=- base=full at=TIME by SOMEONE
    ID2 deploy live=ID2 was=ID1 base=ID1 at=TIME by SOMEONE
    ID3 deploy live=ID3 was=ID2 base=ID2 at=TIME by SOMEONE
    ID3 rollback live=ID2 was=ID3 at=TIME by SOMEONE
    ID4 deploy live=ID4 was=ID2 base=ID2 at=TIME by SOMEONE
    current: releases/ID4
    exit 0
    ");
    insta::assert_snapshot!(told(&host, &ids, &host.run("releases", &[])), @r"
    ID4  live      complete    TIME, copy of ID2, by SOMEONE
    ID3            complete    TIME, copy of ID2, by SOMEONE
    ID2  previous  complete    TIME, copy of ID1, by SOMEONE
    current: releases/ID4
    exit 0
    ");
    insta::assert_snapshot!(told(&host, &ids, &host.run("status", &[])), @r"
    target    test: USER@127.0.0.1:DIR/srv/my app
    live      ID4, complete
    since     TIME, copy of ID2, by SOMEONE
    previous  ID2, complete
    note      1 path added at run time
    releases  3 complete, 3 in all
    lock      free
    current: releases/ID4
    exit 0
    ");
    insta::assert_snapshot!(told(&host, &ids, &host.run("rollback", &["test", &ids[2]])), @r"
    live: releases/ID3
    exit 0
    ");
    insta::assert_snapshot!(told(&host, &ids, &host.run("rollback", &["test", &ids[2]])), @r"
    nothing to do: releases/ID3 is live
    exit 0
    ");
    insta::assert_snapshot!(told(&host, &ids, &host.run("status", &[])), @r"
    target    test: USER@127.0.0.1:DIR/srv/my app
    live      ID3, complete
    since     TIME, by SOMEONE
    previous  ID4, complete
    releases  3 complete, 3 in all
    lock      free
    current: releases/ID3
    exit 0
    ");
}

#[test]
fn rollback_refuses_what_does_not_count() {
    let Some((host, mut ids)) = deployed(&["one", "two", "three"]) else { return };
    let current = host.current();
    let private = host.path().join(".cutover");
    let bad = |id: &str| host.path().join("releases").join(id);
    fs::create_dir_all(bad("20200101000000")).expect("foreign");
    fs::create_dir_all(bad("20200101000001")).expect("unfinished");
    fs::write(private.join("unfinished/20200101000001"), "").expect("note");
    fs::create_dir_all(bad("20200101000002")).expect("never live");
    fs::write(private.join("seals/20200101000002"), "seal").expect("seal");
    let refused = |id: &str| told(&host, &ids, &host.run("rollback", &[id]));
    insta::assert_snapshot!(refused("20200101000000"), @r"
    error: 127.0.0.1:DIR/srv/my app: release 20200101000000 has no seal: Cutover did not make it, or did not finish it
    hint: `cutover releases` says what is there, and which of it is complete
    state: not live; current still points to releases/ID3
    exit 1
    ");
    insta::assert_snapshot!(refused("20200101000001"), @r"
    error: 127.0.0.1:DIR/srv/my app: release 20200101000001 is unfinished; the next deploy or `cutover recover` removes it
    hint: `cutover releases` says what is there, and which of it is complete
    state: not live; current still points to releases/ID3
    exit 1
    ");
    insta::assert_snapshot!(refused("20200101000002"), @r"
    error: 127.0.0.1:DIR/srv/my app: release 20200101000002 has never been live: its seal has no marker
    hint: `cutover releases` says what is there, and which of it is complete
    state: not live; current still points to releases/ID3
    exit 1
    ");
    insta::assert_snapshot!(refused("20200101000003"), @r"
    error: 127.0.0.1:DIR/srv/my app: there is no release 20200101000003
    hint: `cutover releases` says what is there, and which of it is complete
    state: not live; current still points to releases/ID3
    exit 1
    ");
    // Damaged: a file that is cut off, one that is gone, a link that leads elsewhere.
    fs::write(bad(&ids[1]).join("index.html"), "").expect("cut");
    fs::remove_dir_all(bad(&ids[1]).join("lib")).expect("rm");
    symlink("/etc", bad(&ids[1]).join("lib")).expect("link");
    insta::assert_snapshot!(refused(&ids[1]), @r"
    error: 127.0.0.1:DIR/srv/my app: release ID2 is not what its seal says: index.html (size), lib (type), lib/a (missing)
    hint: deploy that version again, or choose another release; `cutover verify` lists all differences
    state: not live; current still points to releases/ID3
    exit 1
    ");
    // Changed behind size and time: only the hash tells.
    let file = bad(&ids[0]).join("index.html");
    let time = fs::metadata(&file).and_then(|m| m.modified()).expect("time");
    fs::write(&file, "eno").expect("write");
    fs::File::options().write(true).open(&file).and_then(|f| f.set_modified(time)).expect("time");
    insta::assert_snapshot!(told(&host, &ids, &host.run("rollback", &[&ids[0], "--verify"])), @r"
    error: 127.0.0.1:DIR/srv/my app: release ID1 is not what its seal says: index.html (content)
    hint: deploy that version again, or choose another release; `cutover verify` lists all differences
    state: not live; current still points to releases/ID3
    exit 1
    ");
    assert_eq!(host.current(), current);
    ids.truncate(1);
    assert_eq!(host.run("rollback", &[&ids[0]]).live(), ids[0], "the quick check does not see it");
    insta::assert_snapshot!(told(&host, &ids, &host.run("rollback", &[])), @r"
    error: 127.0.0.1:DIR/srv/my app: there is no complete release older than ID1
    hint: `cutover releases` says what is there, and which of it is complete
    state: not live; current still points to releases/ID1
    exit 1
    ");
    insta::assert_snapshot!(told(&host, &ids, &host.run("rollback", &["2020", "test"])), @r"
    error: `test` is not the 14 digits of a release
    exit 2
    ");
    insta::assert_snapshot!(told(&host, &ids, &host.run("rollback", &["2020"])), @r"
    error: DIR/cutover.toml: there is no target `2020`
    hint: it has: test
    exit 2
    ");
}

#[test]
fn rollback_from_a_run_that_died_keeps_what_it_left_live() {
    let Some((host, ids)) = deployed(&["one", "two"]) else { return };
    let private = host.path().join(".cutover");
    fs::remove_file(private.join(format!("seals/{}.live", ids[1]))).expect("marker");
    fs::write(private.join("unfinished").join(&ids[1]), "").expect("note");
    assert_eq!(host.run("rollback", &[]).live(), ids[0]);
    // The next run finds it whole, and does not sweep it.
    assert_eq!(host.run("recover", &[]).code, Some(0));
    assert_eq!(host.releases(), ids);
    host.assert_tidy();
    assert_eq!(host.run("rollback", &[&ids[1]]).live(), ids[1]);
}

#[test]
fn verify_lists_drift() {
    let Some((host, ids)) = deployed(&["one", "two"]) else { return };
    insta::assert_snapshot!(told(&host, &ids, &host.run("verify", &[])), @r"
    equal: releases/ID2 is what its seal says: 4 paths, 16 B
    current: releases/ID2
    exit 0
    ");
    let current = host.path().join("current/");
    write(&current, "cache/page", "added");
    fs::write(current.join("index.html"), "TWO").expect("write");
    let file = fs::File::options().write(true).open(current.join("index.html")).expect("open");
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).expect("time");
    fs::remove_file(current.join("lib/a")).expect("rm");
    insta::assert_snapshot!(told(&host, &ids, &host.run("verify", &["test"])), @r"
    changed  index.html (content)
    missing  lib/a
    note     cache was added at run time
    drifted: 2 of 4 paths of releases/ID2 differ from its seal
    current: releases/ID2
    exit 4
    ");
    insta::assert_snapshot!(told(&host, &ids, &host.run("verify", &[&ids[0]])), @r"
    equal: releases/ID1 is what its seal says: 4 paths, 16 B
    current: releases/ID2
    exit 0
    ");
    insta::assert_snapshot!(told(&host, &ids, &host.run("status", &[])), @r"
    target    test: USER@127.0.0.1:DIR/srv/my app
    live      ID2, complete
    since     TIME, copy of ID1, by SOMEONE
    previous  ID1, complete
    drifted   index.html (time), lib/a (missing)
    note      1 path added at run time
    releases  2 complete, 2 in all
    lock      free
    current: releases/ID2
    exit 0
    ");
}

#[test]
fn recover_finishes_and_undoes() {
    let Some((host, ids)) = deployed(&["one", "two"]) else { return };
    assert_eq!(
        told(&host, &ids, &host.run("recover", &[])),
        "nothing to recover\ncurrent: releases/ID2\nexit 0"
    );
    let private = host.path().join(".cutover");
    let dead = "20990101000000";
    fs::write(private.join("unfinished").join(dead), "").expect("note");
    fs::create_dir_all(host.path().join("releases").join(dead).join("half")).expect("mkdir");
    fs::create_dir_all(private.join("staging").join(dead).join("tree")).expect("mkdir");
    fs::write(private.join("seals").join(dead), "torn").expect("seal");
    symlink(format!("releases/{dead}"), private.join("next.dead.0")).expect("link");
    fs::remove_file(private.join(format!("seals/{}.live", ids[1]))).expect("marker");
    fs::write(private.join("unfinished").join(&ids[1]), "").expect("note");
    insta::assert_snapshot!(told(&host, &ids, &host.run("status", &[])), @r"
    target    test: USER@127.0.0.1:DIR/srv/my app
    live      ID2, sealed, not marked: `cutover recover` finishes it
    since     TIME, copy of ID1, by SOMEONE
    previous  ID1, complete
    releases  2 complete, 3 in all
    left      ID2 is live and not marked: its run died after its cutover
    left      in .cutover: staging/20990101000000 next.dead.0
    left      unfinished: 20990101000000
    lock      free
    current: releases/ID2
    exit 0
    ");
    insta::assert_snapshot!(told(&host, &ids, &host.run("releases", &[])), @r"
    20990101000000            unfinished: the next deploy or `cutover recover` removes it
    ID2  live      sealed, not marked: `cutover recover` finishes it  TIME, copy of ID1, by SOMEONE
    ID1  previous  complete    TIME, full upload, by SOMEONE
    current: releases/ID2
    exit 0
    ");
    insta::assert_snapshot!(told(&host, &ids, &host.run("recover", &[])), @r"
    finished: releases/ID2 was live already, and is marked now
    removed: .cutover/staging/20990101000000
    removed: .cutover/next.dead.0
    undone: releases/20990101000000 was unfinished, removed
    current: releases/ID2
    exit 0
    ");
    host.assert_tidy();
    assert_eq!(host.releases(), ids);
    assert!(private.join(format!("seals/{}.live", ids[1])).exists(), "marked");
    insta::assert_snapshot!(told(&host, &ids, &host.run("log", &["--lines", "2"])), @r"
    ID2 deploy live=ID2 was=ID1 base=ID1 at=TIME by SOMEONE
    20990101000000 recover live=ID2 was=ID1 removed=20990101000000 at=TIME by SOMEONE
    current: releases/ID2
    exit 0
    ");
    assert_eq!(
        told(&host, &ids, &host.run("recover", &[])),
        "nothing to recover\ncurrent: releases/ID2\nexit 0"
    );
}

#[test]
fn prune_keeps_what_is_live_and_what_was() {
    let Some((host, ids)) = deployed(&["one", "two", "three"]) else { return };
    fs::create_dir_all(host.path().join("releases/20200101000000")).expect("foreign");
    insta::assert_snapshot!(told(&host, &ids, &host.run("prune", &[])), @r"
    nothing to prune
    current: releases/ID3
    exit 0
    ");
    insta::assert_snapshot!(told(&host, &ids, &host.run("prune", &["--keep", "1"])), @r"
    error: invalid value '1' for '--keep <N>': less than 2: what is live and what was live before always stay

    For more information, try '--help'.
    exit 2
    ");
    // From three to two, from two to one: two is the release before, though three is newer.
    assert_eq!(host.run("rollback", &[]).live(), ids[1]);
    assert_eq!(host.run("rollback", &[]).live(), ids[0]);
    insta::assert_snapshot!(told(&host, &ids, &host.run("prune", &["--keep", "2"])), @r"
    removed: releases/ID3
    current: releases/ID1
    exit 0
    ");
    assert_eq!(host.releases(), ["20200101000000", &ids[0], &ids[1]]);
    insta::assert_snapshot!(told(&host, &ids, &host.run("log", &["-n", "1"])), @r"
    ID3 prune live=ID1 was=ID2 removed=ID3 at=TIME by SOMEONE
    current: releases/ID1
    exit 0
    ");
    let seals = names(&host.path().join(".cutover/seals"));
    assert!(!seals.iter().any(|s| s.starts_with(&ids[2])), "{seals:?}");
    // The pruned id is not given again.
    write(&host.source(), "index.html", "four");
    assert!(host.deploy(&[]).live() > ids[2]);
}

#[test]
fn how_many_remain_is_configured() {
    let Some(host) = Host::start() else { return };
    let config = host.dir.path().join("cutover.toml");
    let text = fs::read_to_string(&config).expect("read");
    fs::write(&config, format!("{text}keep = 2\n")).expect("write");
    let mut ids = Vec::new();
    for text in ["one", "two", "three"] {
        write(&host.source(), "index.html", text);
        ids.push(host.deploy(&[]).live());
    }
    assert_eq!(host.releases(), ids[1..]);
    fs::write(&config, format!("{text}keep = 1\n")).expect("write");
    insta::assert_snapshot!(told(&host, &ids, &host.run("prune", &[])), @r"
    error: DIR/cutover.toml:10: target `test`: `keep` is less than 2: what is live and what was live before always stay
    exit 2
    ");
}

#[test]
fn a_host_without_anything() {
    let Some(host) = Host::start() else { return };
    for command in ["status", "releases", "log"] {
        let ran = host.run(command, &[]);
        assert!(ran.code == Some(0) && ran.stdout.ends_with("current: there is none yet\n"), "{ran:#?}");
        assert!(!host.path().exists(), "{command} changes nothing");
    }
    insta::assert_snapshot!(told(&host, &[], &host.run("verify", &[])), @r"
    error: 127.0.0.1:DIR/srv/my app: `current` does not lead to a sealed release
    hint: deploy, or roll back to a complete release, first
    state: there is no `current` yet
    exit 1
    ");
    insta::assert_snapshot!(told(&host, &[], &host.run("rollback", &[])), @r"
    error: 127.0.0.1:DIR/srv/my app: `current` does not lead to a release, so none is older; name the one to switch to
    hint: `cutover releases` says what is there, and which of it is complete
    state: not live; there is no `current` yet
    exit 1
    ");
    insta::assert_snapshot!(told(&host, &[], &host.run("prune", &[])), @r"
    error: 127.0.0.1:DIR/srv/my app: `current` does not lead to a sealed release
    hint: deploy, or roll back to a complete release, first
    state: there is no `current` yet
    exit 1
    ");
    insta::assert_snapshot!(told(&host, &[], &host.run("recover", &[])), @r"
    nothing to recover
    current: there is none yet
    exit 0
    ");
}

#[test]
fn a_plan_says_what_changes() {
    let Some((host, mut ids)) = deployed(&["one", "two", "three"]) else { return };
    let ran = host.run("plan", &[]);
    assert_eq!(ran.code, Some(4), "{ran:#?}");
    write(&host.source(), "index.html", "four, longer");
    write(&host.source(), "new/deep/b", "b");
    write(&host.source(), "new/c", "cc");
    write(&host.source(), "alone", "x");
    fs::remove_dir_all(host.source().join("lib")).expect("rm");
    write(&host.path(), "shared/uploads/cat", "meow");
    write(&host.path(), "shared/alone", "hidden");
    let before = tree::read(&host.path(), true);
    let ran = host.run("plan", &[]);
    assert_eq!(tree::read(&host.path(), true), before, "nothing was changed");
    let new = ran.stdout.split(' ').nth(1).expect("the new id").to_owned();
    ids.push(new);
    insta::assert_snapshot!(told(&host, &ids, &ran), @r"
    release ID4 from a copy of ID3
    upload 4 of 4 files, 16 B
      add    alone (1 B)
      change index.html (12 B)
      add    new (2 files, 3 B)
      remove lib (13 B)
      link   uploads -> ../../shared/uploads
      warning: shared/alone is hidden by the application's own alone
      prune  releases/ID1
    steps
      note the release as unfinished (durable)
      copy ID3
      upload into staging
      put the upload into the copy
      verify
      seal
      temporary link
      barrier: sync -f .
      rename onto current
      sync the directory of current
      report live
      mark as live (durable)
      log
      remove staging
      prune: ID1
    current: releases/ID3
    exit 0
    ");
}

#[test]
fn help_of_each() {
    let help = |command: &str| {
        let ran =
            std::process::Command::new(env!("CARGO_BIN_EXE_cutover")).args([command, "--help"]).output();
        let text = String::from_utf8(ran.expect("cutover").stdout).expect("text");
        // What is the same everywhere.
        let same = [
            "      --config <FILE>\n          The configuration\n          \n          [default: cutover.toml]\n\n",
            "  -h, --help\n          Print help (see a summary with '-h')\n",
            "  [TARGET]\n          The target in cutover.toml; needed if there are several\n\n",
        ];
        same.iter().fold(text, |text, part| text.replace(part, ""))
    };
    insta::assert_snapshot!(help("plan"), @r"
    Print what a deploy would do, from the host's real state, and change nothing

    Exit codes: 0 there is something to do; 4 nothing to do, the source is live; 1 there is no plan; 2
    wrong usage or configuration.

    Usage: cutover plan [OPTIONS] [TARGET]

    Arguments:
    Options:
    ");
    insta::assert_snapshot!(help("status"), @r"
    Say what is live, since when and by whom, and what lies around; changes nothing

    Exit codes: 0 said; 1 the host cannot be looked at; 2 wrong usage or configuration.

    Usage: cutover status [OPTIONS] [TARGET]

    Arguments:
    Options:
    ");
    insta::assert_snapshot!(help("releases"), @r"
    List the releases on the host, the newest first, and which of them count; changes nothing

    Exit codes: 0 listed; 1 the host cannot be looked at; 2 wrong usage or configuration.

    Usage: cutover releases [OPTIONS] [TARGET]

    Arguments:
    Options:
    ");
    insta::assert_snapshot!(help("rollback"), @r"
    Switch back, atomically, to an earlier release

    To RELEASE, or to the newest complete one that is older than the live one. It is compared with its
    seal first: type, size, mode, time and link text of everything in it. Nothing is removed.

    Exit codes: 0 live; 1 not live, `current` untouched; 2 wrong usage or configuration; 3 not certain
    what is live.

    Usage: cutover rollback [OPTIONS] [TARGET] [RELEASE]

    Arguments:
      [RELEASE]
              The release's 14 digits; without TARGET too

    Options:
          --verify
              Compare the content of every file too, by its hash

          --wait <DURATION>
              Wait for another run to end, so long at most: `90s`, `10m`, `1h30m`
    ");
    insta::assert_snapshot!(help("verify"), @r"
    Compare a release on the host with its seal, by the hashes of its files; changes nothing

    RELEASE, or what is live. What was added at run time is noted, and no difference.

    Exit codes: 0 equal; 4 it drifted; 1 it cannot be compared; 2 wrong usage or configuration.

    Usage: cutover verify [OPTIONS] [TARGET] [RELEASE]

    Arguments:
      [RELEASE]
              The release's 14 digits; without TARGET too

    Options:
    ");
    insta::assert_snapshot!(help("recover"), @r"
    Finish or undo what a run that died has left, and say which; a deploy does the same by itself

    Exit codes: 0 recovered, or nothing to recover; 1 not all of it; 2 wrong usage or configuration; 3
    not certain what is live.

    Usage: cutover recover [OPTIONS] [TARGET]

    Arguments:
    Options:
          --wait <DURATION>
              Wait for another run to end, so long at most: `90s`, `10m`, `1h30m`
    ");
    insta::assert_snapshot!(help("prune"), @r"
    Remove old releases

    Kept are: what `current` resolves to; what it resolved to just before that, by the log; then the
    newest complete releases, by id; as many in all as `keep` says. Releases that Cutover did not make
    are never removed.

    Exit codes: 0 removed, or none to remove; 1 not all of them; 2 wrong usage or configuration; 3 not
    certain what is live.

    Usage: cutover prune [OPTIONS] [TARGET]

    Arguments:
    Options:
          --keep <N>
              How many releases remain; as in cutover.toml, and there 3, if not given. At least 2

          --wait <DURATION>
              Wait for another run to end, so long at most: `90s`, `10m`, `1h30m`
    ");
    insta::assert_snapshot!(help("unlock"), @r"
    Say who holds the lock of the deploy path, and free it if its run is not alive any more

    The lock ends with the last process of its run, so it is seldom stale. A run that is alive is left
    alone.

    Exit codes: 0 it is free; 1 it is held; 2 wrong usage or configuration.

    Usage: cutover unlock [OPTIONS] [TARGET]

    Arguments:
    Options:
          --kill
              End the processes of the run that holds it
    ");
    insta::assert_snapshot!(help("log"), @r"
    Print the audit log that is kept on the host: who made what live, and instead of what

    Exit codes: 0 printed; 1 the host cannot be looked at; 2 wrong usage or configuration.

    Usage: cutover log [OPTIONS] [TARGET]

    Arguments:
    Options:
      -n, --lines <N>
              How many lines, the newest last
              
              [default: 100]
    ");
}

#[test]
fn status_and_plan_say_who_is_at_it() {
    let Some((host, ids)) = deployed(&["one"]) else { return };
    let holder = host.path().join(".cutover/holder");
    // As the shell of a run that is alive: descriptor 7 is its holder file.
    fs::write(&holder, "c0ffee boot 1 1 1700000000 somebody@laptop\x1b[31m process 7\n").expect("holder");
    let mut sleeping = std::process::Command::new("sh")
        .args(["-c", "exec 7<\"$1\"; echo; read -r _", "sh"])
        .arg(&holder)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("sh");
    let mut ready = [0];
    std::io::Read::read_exact(&mut sleeping.stdout.take().expect("its output"), &mut ready).expect("ready");
    let (status, plan) = (host.run("status", &[]), host.run("plan", &[]));
    drop(sleeping.stdin.take());
    let _ = sleeping.wait();
    for ran in [&status, &plan] {
        assert!(ran.stdout.contains("somebody@laptop\\u{1b}[31m process 7"), "{ran:#?}");
    }
    assert_eq!((status.code, plan.code), (Some(0), Some(4)));
    assert!(status.stdout.ends_with(&format!("\ncurrent: releases/{}\n", ids[0])), "{status:#?}");
    assert!(host.run("status", &[]).stdout.contains("\nlock      free\n"));
}

#[test]
fn progress_is_on_standard_error_alone() {
    let Some((host, ids)) = deployed(&["one"]) else { return };
    write(&host.source(), "index.html", "two");
    let ran = host.deploy(&[]);
    let all = [ids.as_slice(), &[ran.live()]].concat();
    assert_eq!(ran.stdout, format!("live: releases/{}\n", all[1]));
    insta::assert_snapshot!(told(&host, &all, &ran), @r"
    live: releases/ID2
    reading the source
    connecting to 127.0.0.1
    copying ID1, uploading 1 file, 3 B
    verifying
    cutting over
    exit 0
    ");
}

#[test]
fn a_full_upload_relies_on_nothing() {
    let Some((host, mut ids)) = deployed(&["one"]) else { return };
    ids.push(host.deploy(&["--full"]).live());
    assert_ne!(ids[0], ids[1], "a release of its own, though nothing changed");
    insta::assert_snapshot!(told(&host, &ids, &host.run("log", &["-n", "1"])), @r"
    ID2 deploy live=ID2 was=ID1 base=full at=TIME by SOMEONE
    current: releases/ID2
    exit 0
    ");
    host.assert_tidy();
}

/// The host copies for longer than the upload takes.
#[test]
fn progress_of_a_slow_copy() {
    let tools = tempfile::tempdir().expect("tools");
    fs::write(tools.path().join("cp"), "#!/bin/sh\nsleep 2\nexec /bin/cp \"$@\"\n").expect("shim");
    crate::sshd::chmod(&tools.path().join("cp"), 0o755);
    let path = std::path::PathBuf::from(format!("{}:/usr/bin:/bin", tools.path().display()));
    let Some(host) = Host::start_with(Some(&path)) else { return };
    write(&host.source(), "a", "one");
    let first = host.deploy(&[]).live();
    write(&host.source(), "a", "two");
    let Some(text) = on_a_terminal(&host) else { return };
    let at = |words: &str| text.rfind(words).unwrap_or_else(|| panic!("{words}: {text:?}"));
    assert!(at("uploading") < at(&format!("copying {first}")), "{text:?}");
    assert!(at(&format!("copying {first}")) < at("cutting over"), "{text:?}");
    let verifying = text.find("verifying").unwrap_or(text.len());
    assert!(at(&format!("copying {first}")) < verifying, "{text:?}");
}

/// What a deploy shows on a terminal, if there is a script(1) to make one.
fn on_a_terminal(host: &Host) -> Option<String> {
    let command = format!(
        "'{}' deploy --config '{}/cutover.toml'",
        env!("CARGO_BIN_EXE_cutover"),
        host.dir.path().display()
    );
    let ran = std::process::Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(std::process::Stdio::null())
        .output();
    let Ok(ran) = ran else {
        crate::skip("there is no script(1) to make a terminal");
        return None;
    };
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert_eq!(ran.status.code(), Some(0), "{text}");
    Some(text)
}

#[test]
fn progress_on_a_terminal() {
    let Some((host, _)) = deployed(&["one"]) else { return };
    write(&host.source(), "big", &"x".repeat(60_000_000));
    let Some(text) = on_a_terminal(&host) else { return };
    assert!(text.contains("connecting to 127.0.0.1"), "{text}");
    assert!(
        text.contains("/60.00 MB, ") && text.contains(" MB/s, ") && text.contains(" of 1 file"),
        "{text:?}"
    );
    // The bar is off the screen when the line is printed, and at the end.
    let (_, after) = text.rsplit_once(&format!("\u{1b}[2Klive: {}\r\n", host.current())).expect("the line");
    assert!(after.is_empty() || after.ends_with("\r\u{1b}[2K"), "{text:?}");
}

/// A host whose `sync` fails with these arguments while `fail` is there; two releases, and a third version to deploy.
fn failing_sync(args: &str) -> Option<(Host, Vec<String>, tempfile::TempDir)> {
    let tools = tempfile::tempdir().expect("tools");
    let script = format!(
        "#!/bin/sh\nif [ -e '{0}/fail' ] && [ \"$*\" = '{args}' ]; then echo 'sync: Input/output error' >&2; exit 1; fi\n\
         exec /bin/sync \"$@\"\n",
        tools.path().display()
    );
    fs::write(tools.path().join("sync"), script).expect("shim");
    crate::sshd::chmod(&tools.path().join("sync"), 0o755);
    let path = std::path::PathBuf::from(format!("{}:/usr/bin:/bin", tools.path().display()));
    let host = Host::start_with(Some(&path))?;
    let mut ids = Vec::new();
    for text in ["one", "two", "three"] {
        write(&host.source(), "index.html", text);
        ids.push(host.deploy(&[]).live());
    }
    write(&host.source(), "index.html", "four");
    fs::write(tools.path().join("fail"), "").expect("fail");
    Some((host, ids, tools))
}

/// What to do next depends on what was asked for: after a failed rollback nobody wants to deploy.
#[test]
fn hints_of_each() {
    let Some((host, ids, tools)) = failing_sync("-f -- .") else { return };
    let failed = |command: &str, args: &[&str]| {
        let ran = host.run(command, args);
        // Not the phases of a deploy, which are no part of this.
        let stderr = ran.stderr.lines().skip_while(|l| !l.starts_with("error:"));
        let stderr = stderr.map(|l| format!("{l}\n")).collect();
        told(&host, &ids, &Ran { stderr, ..ran })
    };
    insta::assert_snapshot!(failed("deploy", &[]), @r"
    error: making the release durable failed on 127.0.0.1:DIR/srv/my app: sync: Input/output error
    hint: run the deploy again: it takes away what this one left
    state: not live; current still points to releases/ID3
    exit 1
    ");
    insta::assert_snapshot!(failed("rollback", &[]), @r"
    error: making the release durable failed on 127.0.0.1:DIR/srv/my app: sync: Input/output error
    hint: run `cutover rollback test ID2` again
    state: not live; current still points to releases/ID3
    exit 1
    ");
    insta::assert_snapshot!(failed("prune", &["--keep", "2"]), @r"
    error: making the release durable failed on 127.0.0.1:DIR/srv/my app: sync: Input/output error
    hint: run it again
    state: current points to releases/ID3
    exit 1
    ");
    fs::write(host.path().join(".cutover/unfinished/20200101000000"), "").expect("note");
    insta::assert_snapshot!(failed("recover", &[]), @r"
    error: making the release durable failed on 127.0.0.1:DIR/srv/my app: sync: Input/output error
    hint: run it again
    state: current points to releases/ID3
    exit 1
    ");
    fs::remove_file(tools.path().join("fail")).expect("rm");
    assert_eq!(host.run("recover", &[]).code, Some(0));
    // What only looks.
    fs::write(tools.path().join("find"), "#!/bin/sh\nexit 1\n").expect("shim");
    crate::sshd::chmod(&tools.path().join("find"), 0o755);
    insta::assert_snapshot!(failed("status", &[]), @r"
    error: looking at what is on the host failed on 127.0.0.1:DIR/srv/my app
    hint: run it again
    state: current points to releases/ID3
    exit 1
    ");
    for command in ["releases", "plan", "verify", "log"] {
        assert_eq!(failed(command, &[]), failed("status", &[]), "{command}");
    }
    let source = host.source();
    fs::remove_dir_all(&source).expect("rm");
    insta::assert_snapshot!(failed("deploy", &[]), @r"
    error: cannot read DIR/source: No such file or directory (os error 2)
    hint: build the application first, or name the folder with `source` in cutover.toml
    state: not live; `current` on the host was not touched
    exit 1
    ");
    insta::assert_snapshot!(failed("plan", &[]), @r"
    error: cannot read DIR/source: No such file or directory (os error 2)
    hint: build the application first, or name the folder with `source` in cutover.toml
    state: `current` on the host was not touched
    exit 1
    ");
}

#[test]
fn no_id_is_newer_than_a_name_that_is_no_date() {
    let Some((host, ids)) = deployed(&["one"]) else { return };
    fs::create_dir(host.path().join("releases/99999999999999")).expect("mkdir");
    write(&host.source(), "index.html", "two");
    let ran = host.run("plan", &[]);
    insta::assert_snapshot!(told(&host, &ids, &ran), @r"
    error: 127.0.0.1:DIR/srv/my app: release 99999999999999 is not a date, no id can be newer
    hint: rename what is called 99999999999999 in releases/ and in .cutover/ on the host
    state: current points to releases/ID1
    exit 1
    ");
}
