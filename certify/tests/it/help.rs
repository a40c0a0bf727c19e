//! What the program says about itself.

use std::process::Command;

fn run(arguments: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_cutover-certify");
    let out = Command::new(program).args(arguments).output().expect("it was built for this test");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("its own words are text");
    assert_eq!(text(&out.stderr), "");
    // clap pads empty lines.
    let lines: String = text(&out.stdout).lines().map(|line| format!("{}\n", line.trim_end())).collect();
    format!("exit code: {}\n----- stdout\n{lines}", out.status.code().expect("no signal"))
}

#[test]
fn help_of_the_program() {
    insta::assert_snapshot!(run(&["--help"]), @r"
    exit code: 0
    ----- stdout
    Runs a deploy tool against an embedded SSH server on a simulated disk, and decides for every instant
    and every possible power loss whether `current` resolves to a complete release.

    Without a command: certifies Cutover itself.

    Exit status: 0 nothing broken or unknown, 1 a promise is broken, 2 could not run, 3 unknown.

    Usage: cutover-certify [OPTIONS]
           cutover-certify <COMMAND>

    Commands:
      run     Certifies any other deploy command
      judge   Judges recorded traces: live and crash states, without FUSE and without the tool; runs are
              not in them
      trace   Shows or converts a recorded trace
      replay  Shows the crashed disk of a counterexample, the same each time
      models  Prints the models of what a power loss may leave: their rules, and where each comes from
      help    Print this message or the help of the given subcommand(s)

    Options:
          --app <DIR>...
              The releases to deploy, oldest first; the last is deployed once more unchanged [default: a
              bundled application]

          --json <FILE>
              Writes all verdicts as JSON

          --model <NAME>
              The model of what a power loss may leave; can be repeated. `cutover-certify models` prints
              them all [default: posix, and what it contains: ext4-ordered, xfs and btrfs]

          --host <HOST=MODEL>
              A host of yours and the model of its file system, as `cutover check` says: what is broken
              there is told at the end. Can be repeated

          --record <FILE>
              Writes what was recorded to a trace file, for `judge` and `trace`

          --timeout <SECONDS>
              Time limit of one deploy, in seconds

              [default: 120]

          --recordings <N>
              Records the history so often, and merges the verdicts; from the second time on some
              programs on the server are slowed down, so that parallel parts of the tool overtake each
              other [default: 3 for Cutover with the bundled application, else 1]

          --shared <PATH>
              A path below shared/ that holds user data before the first deploy and is linked into each
              release; a trailing slash makes it a directory. Can be repeated

          --recoveries <N>
              How many classes of crash states, and as many of states after a killed client, to reboot
              into and run the tool again from; 0 asks nothing about recovery [default: 64 for Cutover
              with the bundled application, else 0]

          --faults <N>
              How many faults (EIO, ENOSPC, kills …) to try, chosen at random, in the middle of the
              second deploy and of the first that removes a release; `all`: EIO and ENOSPC at every
              operation, in minutes; a fault by the name that a counterexample gives it, like 2:17:eio:
              that one alone; 0 asks nothing about failures [default: 96 for Cutover with the bundled
              application, else 0]

          --without <PROGRAM>
              A program that the server does not have, such as flock. Can be repeated

          --seed <N>
              What random choices are made from

              [default: 1]

          --cutover <FILE>
              The `cutover` program [default: beside this program, else on PATH]

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version
    ");
}

#[test]
fn help_of_run() {
    insta::assert_snapshot!(run(&["run", "--help"]), @r#"
    exit code: 0
    ----- stdout
    Certifies any other deploy command

    Usage: cutover-certify run [OPTIONS] --tool <COMMAND>

    Options:
          --tool <COMMAND>     The deploy command, run by `sh -c` once for each release; what to do is
                               in its environment: CERTIFY_HOST, CERTIFY_PORT, CERTIFY_USER,
                               CERTIFY_IDENTITY, CERTIFY_KNOWN_HOSTS, CERTIFY_SSH_CONFIG (`ssh -F
                               "$CERTIFY_SSH_CONFIG" target` just works), CERTIFY_DEPLOY_PATH,
                               CERTIFY_SOURCE (the directory to deploy), CERTIFY_VERSION (1, 2, 3 …) and
                               CERTIFY_ACTION (`deploy`)
          --app <DIR>...       The releases to deploy, oldest first; the last is deployed once more
                               unchanged [default: a bundled application]
          --json <FILE>        Writes all verdicts as JSON
          --model <NAME>       The model of what a power loss may leave; can be repeated.
                               `cutover-certify models` prints them all [default: posix, and what it
                               contains: ext4-ordered, xfs and btrfs]
          --host <HOST=MODEL>  A host of yours and the model of its file system, as `cutover check`
                               says: what is broken there is told at the end. Can be repeated
          --record <FILE>      Writes what was recorded to a trace file, for `judge` and `trace`
          --timeout <SECONDS>  Time limit of one deploy, in seconds [default: 120]
          --recordings <N>     Records the history so often, and merges the verdicts; from the second
                               time on some programs on the server are slowed down, so that parallel
                               parts of the tool overtake each other [default: 3 for Cutover with the
                               bundled application, else 1]
          --shared <PATH>      A path below shared/ that holds user data before the first deploy and is
                               linked into each release; a trailing slash makes it a directory. Can be
                               repeated
          --recoveries <N>     How many classes of crash states, and as many of states after a killed
                               client, to reboot into and run the tool again from; 0 asks nothing about
                               recovery [default: 64 for Cutover with the bundled application, else 0]
          --faults <N>         How many faults (EIO, ENOSPC, kills …) to try, chosen at random, in the
                               middle of the second deploy and of the first that removes a release;
                               `all`: EIO and ENOSPC at every operation, in minutes; a fault by the name
                               that a counterexample gives it, like 2:17:eio: that one alone; 0 asks
                               nothing about failures [default: 96 for Cutover with the bundled
                               application, else 0]
          --without <PROGRAM>  A program that the server does not have, such as flock. Can be repeated
          --seed <N>           What random choices are made from [default: 1]
          --keep <N>           How many releases it keeps
          --drop-down          Links in a release follow Cutover's drop-down rule, for all that is below
                               shared/, instead of being exactly the --shared paths
          --readers            Also reads the releases while they are deployed, as a visitor of a site
                               does, in three processes
          --from-nothing       Also records a history that starts without the deploy path, which the
                               tool then has to make
          --adds <GLOB>        Paths that it adds to a release or changes in it, like REVISION; a glob,
                               can be repeated
          --mode-mask <MASK>   Permission bits that have to be those of the source, in octal [default:
                               7777]
          --ack <PATTERN>      A line of its output that matches this regular expression says: live now.
                               Exit status 0 says it in any case
      -h, --help               Print help
    "#);
}
