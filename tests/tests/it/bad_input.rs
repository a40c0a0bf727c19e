//! Directories, tools and machines that cannot be used: what is said, and the exit code. Never a hang.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use insta::assert_snapshot;
use regex::Regex;

use crate::room::{Room, checkout, machine_has, program};
use crate::skip;

/// A deploy that is good, to be followed by something bad.
const GOOD: &str = "sh certify/subjects/correct.sh";

/// The certifier with a tool and two small releases.
fn certify(room: &Room, tool: &str) -> Command {
    let mut command = room.certify_tool(tool);
    command.arg("--app").arg(room.app("1")).arg(room.app("2"));
    command
}

/// Runs it; whatever happened, nothing may be left behind.
fn show(room: &Room, command: &mut Command) -> String {
    let ran = room.run(command);
    let shown = room.show(&ran);
    assert_eq!(room.left_behind(), Vec::<PathBuf>::new(), "{shown}");
    shown
}

fn shown_tool(tool: &str, options: &[&str]) -> Option<String> {
    machine_has(&["ssh", "tar"]).then(|| {
        let room = Room::new();
        show(&room, certify(&room, tool).args(options))
    })
}

#[test]
fn an_application_that_is_not_there() {
    let room = Room::new();
    let mut command = room.certify_tool("true");
    let shown = show(&room, command.arg("--app").arg(room.app("1")).arg(room.path("none")));
    assert_snapshot!(shown, @r"
    exit code: 2
    ----- stderr
    error: cannot read [ROOM]/none: No such file or directory (os error 2)
    hint: check the paths after --app
    ");
}

#[test]
fn an_application_that_is_a_file() {
    let room = Room::new();
    let mut command = room.certify_tool("true");
    let shown = show(&room, command.arg("--app").arg(room.app("1").join("index.html")));
    assert_snapshot!(shown, @r"
    exit code: 2
    ----- stderr
    error: cannot read [ROOM]/app-1/index.html: not a directory
    hint: name the directory that holds the release
    ");
}

#[test]
fn a_pipe_in_the_application() {
    let room = Room::new();
    let app = room.app("1");
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, app.join("pipe\u{1b}[2J"), fifo, 0o644.into(), 0).unwrap();
    let mut command = room.certify_tool("true");
    let shown = show(&room, command.arg("--app").arg(app));
    assert_snapshot!(shown, @r"
    exit code: 2
    ----- stderr
    error: [ROOM]/app-1/pipe\u{1b}[2J is a named pipe: a release holds files, directories and symlinks only
    hint: make it readable, or leave it out of the directory
    ");
}

#[test]
fn an_application_that_changes_while_it_is_deployed() {
    let tool = format!("{GOOD} && echo more >> \"$CERTIFY_SOURCE/index.html\"");
    if let Some(shown) = shown_tool(&tool, &[]) {
        assert_snapshot!(shown, @r"
        exit code: 2
        ----- stderr
        deploy 1: N operations on the disk, T s
        error: [ROOM]/app-1 changed while it was being deployed: index.html has 14 bytes instead of 9
        hint: nothing may write to a directory while it is being deployed; run it again
        ");
    }
}

#[test]
fn a_tool_that_hangs() {
    if let Some(shown) = shown_tool("echo begins; sleep 1000", &["--timeout", "1"]) {
        assert_snapshot!(shown, @r"
        exit code: 2
        ----- stderr
        deploy 1: N operations on the disk, T s
        deploy 1 did not end within the time limit; the end of its output:
          | begins
        error: deploy 1 did not end within the time limit, and no deploy before it was reported as live: there is nothing to judge
        hint: the tool's own output is above; its task is in the environment, see `cutover-certify run --help`
        ");
    }
}

#[test]
fn a_tool_that_fails_at_once() {
    if let Some(shown) = shown_tool("echo 'no such server' >&2; exit 3", &[]) {
        assert_snapshot!(shown, @r"
        exit code: 2
        ----- stderr
        deploy 1: N operations on the disk, T s
        deploy 1 failed with exit status 3; the end of its output:
          | no such server
        error: deploy 1 failed with exit status 3, and no deploy before it was reported as live: there is nothing to judge
        hint: the tool's own output is above; its task is in the environment, see `cutover-certify run --help`
        ");
    }
}

#[test]
fn a_tool_that_fails_later() {
    let tool = format!("[ \"$CERTIFY_VERSION\" = 1 ] || exit 1; {GOOD}");
    if let Some(shown) = shown_tool(&tool, &[]) {
        assert_snapshot!(shown, @r"
        exit code: 3
        ----- stdout
        ───
         promise                   live states   posix       ext4-ordered   xfs         btrfs       runs
        ═══
         current_complete          unknown       unknown     unknown        unknown     unknown     –
        ───
         never_absent              unknown       –           –              –           –           –
        ───
         durable_ack               –             unknown     unknown        unknown     unknown     –
        ───
         immutable_after_cutover   unknown       –           –              –           –           –
        ───
         readers_whole             unknown       –           –              –           –           not asked
        ───
         previous_intact           not asked     not asked   not asked      not asked   not asked   –
        ───
         shared_intact             not asked     not asked   not asked      not asked   not asked   –
        ───
         retention                 not asked     –           –              –           –           –
        ───
         recoverable               –             –           –              –           –           not asked
        ───
         failed_is_failed          –             –           –              –           –           not asked
        ───

        readers_whole was not asked (runs): no readers were started as processes (--readers)

        previous_intact was not asked (live states): no release replaced another

        previous_intact was not asked (crash states): no release replaced another

        shared_intact was not asked (live states): no shared data was declared

        shared_intact was not asked (crash states): no shared data was declared

        retention was not asked (live states): no number of releases was declared (--keep)

        recoverable was not asked (runs): the tool was not run again (--recoveries)

        failed_is_failed was not asked (runs): no faults were tried (--faults)

        unknown, because deploy 2 failed with exit status 1

        2 deploys, 1 releases, N operations, N effects, N sync calls.
        Recorded and judged in T s, of which T s for judging.
        ----- stderr
        deploy 1: N operations on the disk, T s
        deploy 2: N operations on the disk, T s
        deploy 2 failed with exit status 1; it printed nothing
        ");
    }
}

#[test]
fn a_tool_that_does_nothing_and_says_it_did() {
    if let Some(shown) = shown_tool("true", &[]) {
        assert_snapshot!(shown, @r"
        exit code: 1
        ----- stdout
        ───
         promise                   live states   posix       ext4-ordered   xfs         btrfs       runs
        ═══
         current_complete          BROKEN        BROKEN      BROKEN         BROKEN      BROKEN      –
        ───
         never_absent              not asked     –           –              –           –           –
        ───
         durable_ack               –             BROKEN      BROKEN         BROKEN      BROKEN      –
        ───
         immutable_after_cutover   not asked     –           –              –           –           –
        ───
         readers_whole             BROKEN        –           –              –           –           not asked
        ───
         previous_intact           not asked     not asked   not asked      not asked   not asked   –
        ───
         shared_intact             not asked     not asked   not asked      not asked   not asked   –
        ───
         retention                 not asked     –           –              –           –           –
        ───
         recoverable               –             –           –              –           –           not asked
        ───
         failed_is_failed          –             –           –              –           –           not asked
        ───

        current_complete is broken (live states):
          after op N (the disk as it was found):
          `current` resolves to nothing

        current_complete is broken (posix, ext4-ordered, xfs, btrfs):
          power loss after op N (the disk as it was found):
          `current` resolves to nothing
          no four sync calls or fewer would mend it: the operations themselves have to be others
          replay it: cutover-certify replay TOKEN

        never_absent was not asked (live states): `current` never appeared

        durable_ack is broken (posix, ext4-ordered, xfs, btrfs):
          power loss after op N (the disk as it was found):
          `current` resolves to nothing, not to what was acknowledged
          no four sync calls or fewer would mend it: the operations themselves have to be others
          replay it: cutover-certify replay TOKEN

        immutable_after_cutover was not asked (live states): `current` never appeared

        readers_whole is broken (live states):
          a reader that goes through `current` for each file, after op N (the disk as it was found):
          `current` resolves to nothing

        readers_whole was not asked (runs): no readers were started as processes (--readers)

        previous_intact was not asked (live states): no release replaced another

        previous_intact was not asked (crash states): no release replaced another

        shared_intact was not asked (live states): no shared data was declared

        shared_intact was not asked (crash states): no shared data was declared

        retention was not asked (live states): no number of releases was declared (--keep)

        recoverable was not asked (runs): the tool was not run again (--recoveries)

        failed_is_failed was not asked (runs): no faults were tried (--faults)

        3 deploys, 0 releases, N operations, N effects, N sync calls.
        Decided for readers: N interleavings of those that resolve `current` once or hold its directory, N lookups through `current`. Who goes through it for each file may mix releases at 0 cutovers.
        Decided for what was recorded: every live state, and every crash state of the models posix, ext4-ordered, xfs, btrfs at each of N crash points.
        Recorded and judged in T s, of which T s for judging.
        ----- stderr
        deploy 1: N operations on the disk, T s
        deploy 2: N operations on the disk, T s
        deploy 3: N operations on the disk, T s
        ");
    }
}

#[test]
fn a_tool_that_is_not_there() {
    if let Some(shown) = shown_tool("/nonexistent/deploy --now", &[]) {
        // Each shell has words of its own for it.
        let words = Regex::new("sh: .*/nonexistent/deploy: .*").unwrap();
        let shown = words.replace(&shown, "sh: [not found]");
        assert_snapshot!(shown, @r"
        exit code: 2
        ----- stderr
        deploy 1: N operations on the disk, T s
        deploy 1 failed with exit status 127; the end of its output:
          | sh: [not found]
        error: deploy 1 failed with exit status 127, and no deploy before it was reported as live: there is nothing to judge
        hint: the tool's own output is above; its task is in the environment, see `cutover-certify run --help`
        ");
    }
}

#[test]
fn a_tool_that_prints_what_terminals_obey() {
    let tool = r"printf 'title \033]0;pwned\007 clear \033[2J\rover\b\377 turned \342\200\256 end\n'; exit 1";
    if !machine_has(&["ssh"]) {
        return;
    }
    let room = Room::new();
    let ran = room.run(&mut certify(&room, tool));
    let raw = ran.stderr.iter().find(|byte| (**byte < b' ' && **byte != b'\n') || **byte == 0x7f);
    assert_eq!(raw, None, "{}", room.show(&ran));
    assert_snapshot!(room.show(&ran), @r"
    exit code: 2
    ----- stderr
    deploy 1: N operations on the disk, T s
    deploy 1 failed with exit status 1; the end of its output:
      | title \x1b]0;pwned\x07 clear \x1b[2J\rover\x08\xff turned \xe2\x80\xae end
    error: deploy 1 failed with exit status 1, and no deploy before it was reported as live: there is nothing to judge
    hint: the tool's own output is above; its task is in the environment, see `cutover-certify run --help`
    ");
}

#[test]
fn verdicts_that_cannot_be_written() {
    if let Some(shown) = shown_tool(GOOD, &["--json", "/nonexistent/verdicts.json"]) {
        assert_snapshot!(shown, @r"
        exit code: 2
        ----- stderr
        deploy 1: N operations on the disk, T s
        deploy 2: N operations on the disk, T s
        deploy 3: N operations on the disk, T s
        error: cannot write /nonexistent/verdicts.json: No such file or directory (os error 2)
        hint: check the path after --json
        ");
    }
}

#[test]
fn an_engine_that_is_not_there() {
    let room = Room::new();
    let mut command = room.certify();
    let mut shown = show(&room, command.args(["--cutover", "/nonexistent/cutover"]));
    // A copy with nothing beside it.
    let alone = room.path("cutover-certify");
    fs::copy(program("cutover-certify"), &alone).unwrap();
    shown += &show(&room, room.command(&alone).env("PATH", "/nonexistent"));
    assert_snapshot!(shown, @r"
    exit code: 2
    ----- stderr
    error: cannot find /nonexistent/cutover: No such file or directory (os error 2)
    hint: check the path after --cutover
    exit code: 2
    ----- stderr
    error: the program `cutover` is neither beside this one nor on PATH
    hint: `cargo certify` builds both; or name it with --cutover FILE; or certify another tool with `run --tool`
    ");
}

#[test]
fn option_values_that_make_no_sense() {
    let run = ["run", "--tool", "true"];
    let cases: [(&[&str], &[&str]); 14] = [
        (&[], &["--timeout", "0"]),
        (&[], &["--timeout", "1h"]),
        (&[], &["--shared", "../etc"]),
        (&[], &["--app"]),
        (&[], &["--keep", "3"]),
        (&[], &["--ap", "x"]),
        (&[], &["certify"]),
        (&["run"], &[]),
        (&run, &["--keep", "0"]),
        (&run, &["--mode-mask", "0999"]),
        (&run, &["--ack", "("]),
        (&run, &["--adds", "[a"]),
        (&run, &["--shared", "/"]),
        (&["--timeout", "9"], &run),
    ];
    let mut shown = String::new();
    for (before, after) in cases {
        let room = Room::new();
        let ran = room.run(room.certify().args(before).args(after));
        assert!(ran.stdout.is_empty());
        let _ = writeln!(shown, "$ cutover-certify {} -> {:?}", [before, after].concat().join(" "), ran.code);
        let stderr = room.normal(&ran.stderr);
        for line in
            stderr.lines().filter(|line| !line.is_empty() && !line.starts_with("For more information"))
        {
            let _ = writeln!(shown, "{line}");
        }
    }
    assert_snapshot!(shown, @r"
    $ cutover-certify --timeout 0 -> Some(2)
    error: invalid value '0' for '--timeout <SECONDS>': has to be a whole number of seconds, from 1 to 86400
    $ cutover-certify --timeout 1h -> Some(2)
    error: invalid value '1h' for '--timeout <SECONDS>': has to be a whole number of seconds, from 1 to 86400
    $ cutover-certify --shared ../etc -> Some(2)
    error: invalid value '../etc' for '--shared <PATH>': must not contain `.`, `..` or empty names
    $ cutover-certify --app -> Some(2)
    error: a value is required for '--app <DIR>...' but none was supplied
    $ cutover-certify --keep 3 -> Some(2)
    error: unexpected argument '--keep' found
    Usage: cutover-certify [OPTIONS]
           cutover-certify <COMMAND>
    $ cutover-certify --ap x -> Some(2)
    error: unexpected argument '--ap' found
      tip: a similar argument exists: '--app'
    Usage: cutover-certify --app <DIR>...
    $ cutover-certify certify -> Some(2)
    error: unrecognized subcommand 'certify'
    Usage: cutover-certify [OPTIONS]
           cutover-certify <COMMAND>
    $ cutover-certify run -> Some(2)
    error: the following required arguments were not provided:
      --tool <COMMAND>
    Usage: cutover-certify run --tool <COMMAND>
    $ cutover-certify run --tool true --keep 0 -> Some(2)
    error: invalid value '0' for '--keep <N>': 0 is not in 1..=4294967295
    $ cutover-certify run --tool true --mode-mask 0999 -> Some(2)
    error: invalid value '0999' for '--mode-mask <MASK>': has to be octal permission bits, from 0 to 7777
    $ cutover-certify run --tool true --ack ( -> Some(2)
    error: invalid value '(' for '--ack <PATTERN>': regex parse error:
        (
        ^
    error: unclosed group
    $ cutover-certify run --tool true --adds [a -> Some(2)
    error: invalid value '[a' for '--adds <GLOB>': error parsing glob '[a': unclosed character class; missing ']'
    $ cutover-certify run --tool true --shared / -> Some(2)
    error: invalid value '/' for '--shared <PATH>': has to be a path below shared/, like `storage/uploads/` or `.env`
    $ cutover-certify --timeout 9 run --tool true -> Some(2)
    error: the subcommand 'run' cannot be used with '--timeout <SECONDS>'
    Usage: cutover-certify [OPTIONS]
           cutover-certify <COMMAND>
    ");
}

/// Whether mounts can be hidden and users changed here.
fn can_disguise() -> bool {
    if !rustix::process::geteuid().is_root() {
        skip("needs root: it hides a device and becomes another user");
        return false;
    }
    machine_has(&["ssh", "unshare", "mount", "mknod", "setpriv"])
}

/// Runs the certifier in a mount namespace of its own, after `prepare`, a shell line; `$1` is an empty directory.
fn disguised(room: &Room, prepare: &str, arguments: &[&str]) -> Command {
    let mut command = room.command(Path::new("unshare"));
    fs::create_dir(room.path("empty")).unwrap();
    command.args(["--mount", "sh", "-c", &format!("set -e; {prepare}"), "sh"]).arg(room.path("empty"));
    command.args(arguments);
    command
}

#[test]
fn a_machine_without_fuse() {
    if !can_disguise() {
        return;
    }
    let room = Room::new();
    // Everything in /dev but that.
    let prepare = "for name in null zero full random urandom tty; do \
                   touch \"$1/$name\"; mount --bind \"/dev/$name\" \"$1/$name\"; done; \
                   mount --rbind \"$1\" /dev; shift; exec \"$@\"";
    let certifier = program("cutover-certify");
    let app = room.app("1");
    let arguments = [certifier.to_str().unwrap(), "run", "--tool", "true", "--app", app.to_str().unwrap()];
    let shown = show(&room, &mut disguised(&room, prepare, &arguments));
    assert_snapshot!(shown, @r"
    exit code: 2
    ----- stderr
    error: the embedded SSH server did not start: cannot mount the disk at /srv: cannot open /dev/fuse (is the fuse module loaded, and are you allowed?): No such file or directory (os error 2)
    hint: it needs FUSE: `modprobe fuse`; in a container pass the device /dev/fuse; else run it as root
    ");
}

/// The certifier run by `nobody`, who sees a `/dev/fuse` of this mode. Everything it needs is in the room, which
/// others may enter: the checkout may well be a place that `nobody` cannot reach.
fn by_nobody(room: &Room, fuse_mode: &str, arguments: &[&str]) -> Command {
    let certifier = room.path("cutover-certify");
    fs::copy(program("cutover-certify"), &certifier).unwrap();
    for (path, mode) in [(room.path(""), 0o755), (room.tmp(), 0o777), (room.home(), 0o777)] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let prepare = format!(
        "mount -t tmpfs -o mode=755 dev \"$1\"; mknod \"$1/fuse\" c 10 229; chmod {fuse_mode} \"$1/fuse\"; \
         mount --bind \"$1/fuse\" /dev/fuse; shift; \
         exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --no-new-privs \"$@\""
    );
    let mut command = disguised(room, &prepare, &[&[certifier.to_str().unwrap()], arguments].concat());
    command.current_dir(room.path(""));
    command
}

#[test]
fn a_file_that_cannot_be_read() {
    if !can_disguise() {
        return;
    }
    let room = Room::new();
    let app = room.app("1");
    fs::set_permissions(app.join("always.txt"), Permissions::from_mode(0o000)).unwrap();
    let arguments = ["run", "--tool", "true", "--app", app.to_str().unwrap()];
    let shown = show(&room, &mut by_nobody(&room, "0666", &arguments));
    assert_snapshot!(shown, @r"
    exit code: 2
    ----- stderr
    error: cannot read [ROOM]/app-1/always.txt: Permission denied (os error 13)
    hint: make it readable, or leave it out of the directory
    ");
}

#[test]
fn a_user_who_may_not_use_fuse() {
    if !can_disguise() {
        return;
    }
    let room = Room::new();
    let app = room.app("1");
    let arguments = ["run", "--tool", "true", "--app", app.to_str().unwrap()];
    let shown = show(&room, &mut by_nobody(&room, "0600", &arguments));
    assert_snapshot!(shown, @r"
    exit code: 2
    ----- stderr
    error: the embedded SSH server did not start: cannot mount the disk at /srv: cannot open /dev/fuse (is the fuse module loaded, and are you allowed?): Permission denied (os error 13)
    hint: it needs FUSE: `modprobe fuse`; in a container pass the device /dev/fuse; else run it as root
    ");
}

#[test]
fn a_user_without_privileges_can_certify() {
    if !can_disguise() {
        return;
    }
    let room = Room::new();
    let (one, two) = (room.app("1"), room.app("2"));
    for script in ["correct.sh", "steps.sh"] {
        fs::copy(checkout().join("certify/subjects").join(script), room.path(script)).unwrap();
    }
    let tool = format!("sh {}", room.path("correct.sh").display());
    let arguments = ["run", "--tool", &tool, "--app", one.to_str().unwrap(), two.to_str().unwrap()];
    let ran = room.run(&mut by_nobody(&room, "0666", &arguments));
    assert_eq!(ran.code, Some(0), "{}", room.show(&ran));
}
