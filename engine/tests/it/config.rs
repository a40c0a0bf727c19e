//! `cutover.toml` and the command line, as users see them when they err.

use std::path::Path;
use std::process::Command;

use cutover::config::{Durability, Unreadable, parse};

const GOOD: &str = "version = 1\n[targets.production]\nhost = \"example.com\"\nuser = \"app\"\npath = \"/srv/app/\"\nsource = \"dist\"\n";

fn error(text: &str, name: Option<&str>) -> String {
    match parse(text, Path::new("dir/cutover.toml"), name) {
        Ok(target) => format!("{target:#?}"),
        Err(e) => e.hint.as_ref().map_or_else(|| e.to_string(), |h| format!("{e}\nhint: {h}")),
    }
}

#[test]
fn defaults() {
    let target = parse(GOOD, Path::new("dir/cutover.toml"), None).expect("good");
    assert_eq!(
        (target.name.as_str(), target.address.port, target.path.as_str()),
        ("production", 22, "/srv/app")
    );
    assert_eq!(target.source, Path::new("dir/dist"));
    assert!(target.address.known_hosts.ends_with(".ssh/known_hosts"));
}

#[test]
fn errors() {
    let with = |line: &str| error(&format!("{GOOD}{line}\n"), None);
    let swap = |from: &str, to: &str| error(&GOOD.replace(from, to), None);
    let second =
        format!("{GOOD}[targets.staging]\nhost = \"b\"\nuser = \"app\"\npath = \"/srv\"\nsource = \"x\"\n");
    let all = [
        with("hosts = \"b\""),
        with("colour = 5"),
        with("known_host = \"x\""),
        with("port = \"22\""),
        with("port = 0"),
        with("port = 70000"),
        swap("version = 1", "version = 2"),
        swap("version = 1\n", ""),
        swap("version = 1", "version = 1\ntarget = 3"),
        swap("user = \"app\"\n", ""),
        swap("\"app\"", "\"a b\""),
        swap("example.com", "-oProxyCommand=x"),
        swap("/srv/app/", "srv/app"),
        swap("/srv/app/", "/srv/../app"),
        swap("/srv/app/", "/"),
        swap("/srv/app/", "/srv\\nx"),
        swap("[targets.production]", "[targets.production"),
        error("version = 1\n", None),
        error(&second, None),
        error(&second, Some("stagin")),
    ]
    .join("\n\n");
    insta::assert_snapshot!(all, @r#"
    dir/cutover.toml:7: unknown key `hosts` in target `production`
    hint: did you mean `host`?

    dir/cutover.toml:7: unknown key `colour` in target `production`
    hint: known here: host, port, user, path, source, identity, known_hosts, keep, durability, unreadable

    dir/cutover.toml:7: unknown key `known_host` in target `production`
    hint: did you mean `known_hosts`?

    dir/cutover.toml:7: target `production`: invalid type: string "22", expected u16

    dir/cutover.toml:7: target `production`: `port` is not a port

    dir/cutover.toml:7: target `production`: invalid value: integer `70000`, expected u16

    dir/cutover.toml:1: `version` is not 1, the only one known here

    dir/cutover.toml: `version` is missing
    hint: start the file with `version = 1`

    dir/cutover.toml:2: unknown key `target`
    hint: did you mean `targets`?

    dir/cutover.toml:2: target `production`: missing field `user`

    dir/cutover.toml:4: target `production`: `user` is not a user name

    dir/cutover.toml:3: target `production`: `host` is not a host name or an IP address

    dir/cutover.toml:5: target `production`: `path` is not absolute

    dir/cutover.toml:5: target `production`: `path` has `.` or `..` in it

    dir/cutover.toml:5: target `production`: `path` is the root of the file system

    dir/cutover.toml:5: target `production`: `path` has control characters

    dir/cutover.toml:2: unclosed table, expected `]`

    dir/cutover.toml: there is no target
    hint: a target looks like: [targets.production] host = "…" user = "…" path = "/srv/app" source = "dist"

    dir/cutover.toml: there are several targets
    hint: name one of: production, staging

    dir/cutover.toml: there is no target `stagin`
    hint: did you mean `staging`?
    "#);
}

#[test]
fn targets_inherit() {
    let text = "version = 1\n[defaults]\nuser = \"app\"\npath = \"/srv/app\"\nsource = \"dist\"\nport = 2222\n\
                durability = \"best-effort\"\nunreadable = \"skip\"\n\
                [targets.one]\nhost = \"a\"\n[targets.two]\nhost = \"b\"\nport = 22\ndurability = \"require\"\n";
    let target = |name: &str| parse(text, Path::new("cutover.toml"), Some(name)).expect("good");
    let (one, two) = (target("one"), target("two"));
    assert_eq!((one.address.host.as_str(), one.address.port), ("a", 2222));
    assert_eq!((two.address.host.as_str(), two.address.port), ("b", 22));
    assert_eq!((one.durability, one.unreadable), (Durability::BestEffort, Unreadable::Skip));
    assert_eq!((two.durability, two.unreadable), (Durability::Require, Unreadable::Skip));
    assert_eq!(one.path, two.path);
    let plain = parse(GOOD, Path::new("cutover.toml"), None).expect("good");
    assert_eq!((plain.durability, plain.unreadable), (Durability::Require, Unreadable::Refuse));

    let swap = |from: &str, to: &str| error(&text.replacen(from, to, 1), Some("one"));
    let all = [
        swap("best-effort", "best"),
        swap("[defaults]\nuser", "[defaults]\nusr"),
        error(&GOOD.replacen('\n', "\ndefaults = 1\n", 1), None),
        swap("\"/srv/app\"", "\"srv\""),
    ];
    insta::assert_snapshot!(all.join("\n\n"), @r#"
    dir/cutover.toml:7: target `one`: unknown variant `best`, expected `require` or `best-effort`

    dir/cutover.toml:3: unknown key `usr` in `defaults`
    hint: did you mean `user`?

    dir/cutover.toml:2: `defaults` is not a table
    hint: it looks like: [defaults] user = "…"

    dir/cutover.toml:4: target `one`: `path` is not absolute
    "#);
}

#[test]
fn help() {
    let run = |args: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_cutover"))
            .args(args)
            .env("COLUMNS", "100")
            .output()
            .expect("run");
        format!(
            "{}{}exit: {:?}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr),
            out.status.code()
        )
    };
    insta::assert_snapshot!(run(&["--help"]), @r"
    Zero-downtime deploys over plain SSH

    Usage: cutover <COMMAND>

    Commands:
      check     Find out whether deploys work on a host, and what is guaranteed there
      plan      Print what a deploy would do, from the host's real state, and change nothing
      deploy    Deploy a directory: prepare a release beside the live one, then switch to it atomically
      status    Say what is live, since when and by whom, and what lies around; changes nothing
      releases  List the releases on the host, the newest first, and which of them count; changes
                nothing
      rollback  Switch back, atomically, to an earlier release
      verify    Compare a release on the host with its seal, by the hashes of its files; changes nothing
      recover   Finish or undo what a run that died has left, and say which; a deploy does the same by
                itself
      prune     Remove old releases
      unlock    Say who holds the lock of the deploy path, and free it if its run is not alive any more
      log       Print the audit log that is kept on the host: who made what live, and instead of what
      help      Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help
      -V, --version  Print version
    exit: Some(0)
    ");
    insta::assert_snapshot!(run(&["deploy", "--help"]), @r"
    Deploy a directory: prepare a release beside the live one, then switch to it atomically

    Exit codes: 0 live, or nothing to do; 1 not live, `current` untouched; 2 wrong usage or
    configuration; 3 not certain what is live.

    Usage: cutover deploy [OPTIONS] [TARGET]

    Arguments:
      [TARGET]
              The target in cutover.toml; needed if there are several

    Options:
          --config <FILE>
              The configuration
              
              [default: cutover.toml]

      -v, --verbose
              Print the plan before it is carried out

          --full
              Upload everything again, and copy nothing that is on the host

          --wait <DURATION>
              Wait for another run to end, so long at most: `90s`, `10m`, `1h30m`

      -h, --help
              Print help (see a summary with '-h')
    exit: Some(0)
    ");
    insta::assert_snapshot!(run(&["check", "--help"]), @r"
    Find out whether deploys work on a host, and what is guaranteed there

    Connects and tries what a deploy stands on, in one temporary directory that it removes: in the
    deploy path, or in the nearest folder above it that exists. Nothing else is changed, and no lock is
    taken.

    Exit codes: 0 deploys work, and what is live survives a power loss; 4 deploys work, but nothing is
    guaranteed after a power loss; 1 deploys do not work; 2 wrong usage or configuration.

    Usage: cutover check [OPTIONS] [TARGET]

    Arguments:
      [TARGET]
              The target in cutover.toml; needed if there are several

    Options:
          --config <FILE>
              The configuration
              
              [default: cutover.toml]

      -h, --help
              Print help (see a summary with '-h')
    exit: Some(0)
    ");
    insta::assert_snapshot!(run(&["deploy", "--keep", "3"]), @r"
    error: unexpected argument '--keep' found

      tip: to pass '--keep' as a value, use '-- --keep'

    Usage: cutover deploy [OPTIONS] [TARGET]

    For more information, try '--help'.
    exit: Some(2)
    ");
    insta::assert_snapshot!(run(&["deploy", "--config", "/nowhere/cutover.toml"]), @r"
    error: /nowhere/cutover.toml: cannot be read: No such file or directory (os error 2)
    hint: name the configuration with --config, or run this where cutover.toml is
    exit: Some(2)
    ");
}

/// What a file says may be quoted, and never as it stands: names may hold anything.
#[test]
fn names_that_steer_a_terminal() {
    let target =
        "[targets.\"a\\u001b[31m\\u202e\"]\nhost = \"b\"\nuser = \"app\"\npath = \"/srv\"\nsource = \"x\"\n";
    let texts = [
        format!("version = 1\n{target}hots = 1\n"),
        format!("version = 1\n{target}\"\\u001b]0;x\\u0007\" = 1\n"),
        format!("version = 1\n{target}port = \"\\u001b[31m\"\n"),
        format!("version = 1\n{target}durability = \"\\u001b[31m\"\n"),
        format!("version = 1\n{target}{}", target.replace('a', "b")),
        format!("version = 1\n{}", target.replace("\"b\"", "\"\\u001b[31m\"")),
        "version = 1\ntargets = \"\u{9b}31m\"\n".to_owned(),
        "version = \"\\u001b[31m\"\n".to_owned(),
        "version = 1\n\"\u{9b}31m\n".to_owned(),
    ];
    for text in texts {
        for name in [None, Some("\u{1b}[31mb")] {
            match parse(&text, Path::new("cutover.toml"), name) {
                Ok(target) => panic!("{text:?} is accepted: {target:?}"),
                Err(error) => {
                    let said = format!("{error}\nhint: {}", error.hint.clone().unwrap_or_default());
                    crate::hostile::assert_clean(said.as_bytes());
                }
            }
        }
    }
}
