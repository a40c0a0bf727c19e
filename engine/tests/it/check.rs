//! `cutover check`: what it finds on real hosts, and how what it finds is judged.

use std::fs;
use std::os::unix::fs::chown;

use cutover::check::{Findings, Report, Verdict};
use cutover::config::Durability;
use cutover::remote::frame::Frames;

use crate::account::{Account, program};
use crate::sshd::{Host, Ran, busybox_tools, chmod, names};
use crate::tree;

/// A host's answer, as `check.sh` frames it: lines, and sections as `name: text`.
fn judge(lines: &[&str], durability: Durability) -> String {
    let mut bytes = Vec::new();
    for line in lines {
        match line.split_once(": ") {
            Some((name, text)) => {
                bytes.extend_from_slice(format!("\nc0ffee begin {name}\n{text}\n\nc0ffee end\n").as_bytes());
            }
            None => bytes.extend_from_slice(format!("\nc0ffee {line}\n").as_bytes()),
        }
    }
    let events = Frames::new("c0ffee").feed(&bytes).expect("not too much");
    let report = Report { host: "web1:/srv/app".to_owned(), findings: Findings::of(&events), durability };
    let code = match report.verdict() {
        Verdict::Guaranteed => 0,
        Verdict::Unguaranteed => 4,
        Verdict::Unfit => 1,
    };
    format!("{report}exit code {code}\n")
}

const GOOD: &[&str] = &[
    "system Linux 6.18.2",
    "user 1000 0022",
    "tool-cp: cp (GNU coreutils) 9.1",
    "tool-mv: mv (GNU coreutils) 9.1",
    "tool-find: find (GNU findutils) 4.9.0",
    "tool-tar: tar (GNU tar) 1.34",
    "exists",
    "place: /srv/app",
    "owner app web 2775",
    "room 1000000 500000 4096 65536 60000",
    "device 2049",
    "mounts: 27 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
    "ext4: rw\nbarrier\ndata=ordered",
    "can rename",
    "can fsync",
    "can syncfs",
    "cannot-reflink: cp: failed to clone",
    "flock",
    "points: releases/20250101000000",
    "points somewhere",
];

fn with(from: &str, to: &[&str], durability: Durability) -> String {
    let lines: Vec<&str> =
        GOOD.iter().flat_map(|l| if l.starts_with(from) { to.to_vec() } else { vec![*l] }).collect();
    judge(&lines, durability)
}

#[test]
fn judgements() {
    insta::assert_snapshot!(judge(GOOD, Durability::Require), @r"
    deploys work on web1:/srv/app
    guaranteed: at every instant readers find one whole release through `current`
    guaranteed: what was reported as live survives a power loss whole, if the disk keeps what it says it has written (profile ext4-ordered: ext4 on /)
    host: Linux 6.18.2, user id 1000, umask 0022
    tools: GNU coreutils 9.1 (cp mv), GNU findutils 4.9.0 (find), GNU tar 1.34 (tar)
    lock: flock(1)
    copies: are whole (no reflink)
    room: 2.0 GB, 60000 inodes
    path: /srv/app, owner app:web, mode 2775
    login shell: silent
    current: releases/20250101000000
    exit code 0
    ");
    let dangling = with("points somewhere", &[], Durability::Require);
    assert!(dangling.contains("\ncurrent: releases/20250101000000, which is not there\n"), "{dangling}");
    let first = |text: String| {
        text.lines()
            .filter(|l| !l.starts_with("host:"))
            .take_while(|l| !l.starts_with("tools"))
            .map(|l| format!("{l}\n"))
            .collect::<String>()
            + text.lines().last().unwrap_or_default()
            + "\n\n"
    };
    let all: String = [
        with("ext4", &["ext4: rw\nbarrier"], Durability::Require),
        with("mounts", &[], Durability::Require),
        with("can syncfs", &["can sync"], Durability::Require),
        with("can syncfs", &[], Durability::Require),
        with(
            "can fsync",
            &["cannot-fsync: sync: error syncing 'file': Invalid argument"],
            Durability::Require,
        ),
        with(
            "can fsync",
            &["cannot-fsync: sync: error syncing 'file': Invalid argument"],
            Durability::BestEffort,
        ),
        with("can rename", &["cannot-rename: mv: unrecognized option: T"], Durability::Require),
        with("can rename", &[], Durability::Require),
        with(
            "exists",
            &["exists", "missing sha256sum", "missing dd", "denied releases"],
            Durability::Require,
        ),
        with("exists", &["denied path"], Durability::Require),
        with("place", &["not-a-directory"], Durability::Require),
        with("points", &["points other"], Durability::Require),
        judge(&[], Durability::Require),
    ]
    .map(first)
    .concat();
    insta::assert_snapshot!(all, @r"
    deploys work on web1:/srv/app
    guaranteed: at every instant readers find one whole release through `current`
    not guaranteed: what a power loss leaves (no profile, ext4: it has no journal)
    exit code 4

    deploys work on web1:/srv/app
    guaranteed: at every instant readers find one whole release through `current`
    not guaranteed: what a power loss leaves (no profile, the file system of the deploy path cannot be seen)
    exit code 4

    deploys work on web1:/srv/app
    guaranteed: at every instant readers find one whole release through `current`
    guaranteed: what was reported as live survives a power loss whole, if the disk keeps what it says it has written (profile ext4-ordered: ext4 on /)
    not guaranteed: that write errors of the disk are noticed (its sync(1) has no -f)
    exit code 0

    deploys do not work on web1:/srv/app
    because: nothing can be made durable, and `durability` requires it: its sync(1) has no -f, and without it only Linux waits for the disk
    exit code 1

    deploys do not work on web1:/srv/app
    because: nothing can be made durable, and `durability` requires it: sync(1) fails: sync: error syncing 'file': Invalid argument
    exit code 1

    deploys work on web1:/srv/app
    guaranteed: at every instant readers find one whole release through `current`
    not guaranteed: what a power loss leaves (sync(1) fails: sync: error syncing 'file': Invalid argument)
    exit code 4

    deploys do not work on web1:/srv/app
    because: a link cannot be replaced atomically (mv -T): mv: unrecognized option: T
    exit code 1

    deploys do not work on web1:/srv/app
    because: the host did not try what it was asked to
    exit code 1

    deploys do not work on web1:/srv/app
    because: missing on the host: dd, sha256sum
    because: the user may not make files in /srv/app/releases
    exit code 1

    deploys do not work on web1:/srv/app
    because: the user may not make files in /srv/app
    exit code 1

    deploys do not work on web1:/srv/app
    because: the deploy path, or something above it, is not a directory
    exit code 1

    deploys do not work on web1:/srv/app
    because: `current` is not a symbolic link
    exit code 1

    deploys do not work on web1:/srv/app
    because: the host did not try what it was asked to
    exit code 1
    ");
}

/// Nothing is taken for granted of a host that says something else, or nothing.
#[test]
fn a_host_that_says_odd_things() {
    for lines in [
        &["place: \u{1b}[31m/x", "can rename", "can fsync", "can syncfs", "device 7", "owner \u{1b}[2J x y"]
            [..],
        &["mounts: x"],
        &["device -1"],
    ] {
        let text = judge(lines, Durability::Require);
        assert!(!text.replace('\n', "").chars().any(char::is_control), "{text:?}");
        assert!(!text.ends_with("exit code 0\n"), "{text}");
    }
}

/// The answer is `1`, or one of those that depend on what the machine's temporary folder is on.
fn works(ran: &Ran) {
    assert!(matches!(ran.code, Some(0 | 4)), "{ran:#?}");
    assert!(ran.stdout.starts_with("deploys work on 127.0.0.1:"), "{ran:#?}");
    assert_eq!(
        ran.code == Some(0),
        !ran.stdout.contains("not guaranteed: what a power loss leaves"),
        "{ran:#?}"
    );
    assert_eq!(
        ran.code == Some(0),
        ran.stdout.contains("guaranteed: what was reported as live survives"),
        "{ran:#?}"
    );
    assert!(ran.stderr.is_empty(), "{ran:#?}");
}

#[test]
fn a_check_leaves_nothing_behind() {
    let Some(host) = Host::start() else { return };
    let before = names(host.dir.path());
    let ran = host.run("check", &[]);
    works(&ran);
    assert!(ran.stdout.contains("path: is to be made in "), "{ran:#?}");
    assert!(ran.stdout.ends_with("\ncurrent: there is none yet\n"), "{ran:#?}");
    assert_eq!(names(host.dir.path()), before);
    fs::write(host.source().join("a"), "a").expect("write");
    host.deploy(&[]).live();
    let before = tree::read(&host.path(), true);
    let ran = host.run("check", &[]);
    works(&ran);
    assert!(ran.stdout.contains("GNU tar "), "{ran:#?}");
    assert!(ran.stdout.ends_with(&format!("\ncurrent: {}\n", host.current())), "{ran:#?}");
    // Even the deploy path's own time is only what making and removing one folder changes.
    let after = tree::read(&host.path(), true);
    assert_eq!(before.iter().skip(1).collect::<Vec<_>>(), after.iter().skip(1).collect::<Vec<_>>());
}

#[test]
fn a_check_with_busybox() {
    let tools = tempfile::tempdir().expect("tools");
    let Some(path) = busybox_tools(tools.path()) else { return };
    let Some(host) = Host::start_with(Some(&path)) else { return };
    let ran = host.run("check", &[]);
    works(&ran);
    assert!(ran.stdout.contains("BusyBox v"), "{ran:#?}");
}

#[test]
fn memory_guarantees_nothing() {
    let Some(host) = Host::start() else { return };
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else {
        crate::skip("there is no /dev/shm");
        return;
    };
    host.configure(&memory.path().join("app"));
    let ran = host.run("check", &[]);
    assert_eq!(ran.code, Some(4), "{ran:#?}");
    assert!(ran.stdout.contains("not guaranteed: what a power loss leaves (no profile, tmpfs: "), "{ran:#?}");
    assert!(names(memory.path()).is_empty());
}

#[test]
fn a_check_as_a_normal_user() {
    let home = [(".bashrc", "echo 'Welcome, deployer'\n")];
    let Some(shell) = program("bash") else { return };
    let account = Account { shell: Some(shell), home: &home, umask: Some(0o027), ..Account::default() };
    let Some(host) = account.start() else { return };
    let ran = host.run("check", &[]);
    works(&ran);
    assert!(ran.stdout.contains("umask 0027") && ran.stdout.contains("Welcome, deployer"), "{ran:#?}");
    chown(host.dir.path().join("srv"), Some(0), Some(0)).expect("chown");
    let ran = host.run("check", &[]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(
        ran.stdout.starts_with("deploys do not work on ") && ran.stdout.contains("may not make files in"),
        "{ran:#?}"
    );
}

#[test]
fn a_check_of_an_account_without_shell() {
    let Some(shell) = program("false") else { return };
    let Some(host) = (Account { shell: Some(shell), ..Account::default() }).start() else { return };
    let ran = host.run("check", &[]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("does not run commands"), "{ran:#?}");
    chmod(host.dir.path(), 0o700);
}

/// A host that allows one channel only: deploys work, and the check says what is missing.
#[test]
fn one_channel_only() {
    let Some(host) = (Account { config: "MaxSessions 1", ..Account::default() }).start() else { return };
    fs::write(host.source().join("a"), "a").expect("write");
    let id = host.deploy(&[]).live();
    let ran = host.run("check", &[]);
    works(&ran);
    assert!(ran.stdout.contains("\nnot watched: the host allows one channel a connection"), "{ran:#?}");
    assert!(ran.stdout.contains("\nlogin shell: not asked"), "{ran:#?}");
    assert!(ran.stdout.ends_with(&format!("\ncurrent: releases/{id}\n")), "{ran:#?}");
}
