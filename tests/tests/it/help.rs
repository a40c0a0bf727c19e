//! What the certifier says about itself, and about our own engine.

use crate::room::{Room, machine_has};

#[test]
fn help_of_the_program() {
    let room = Room::new();
    let ran = room.run(room.certify().arg("--help"));
    insta::assert_snapshot!(room.show(&ran), @r"
    exit code: 0
    ----- stdout
    Runs a deploy tool against an embedded SSH server on a simulated disk, and decides for every instant
    and every possible power loss whether `current` resolves to a complete release.

    Without a command: certifies Cutover itself.

    Exit status: 0 nothing broken or unknown, 1 a promise is broken, 2 could not run, 3 unknown.

    Usage: cutover-certify [OPTIONS]
           cutover-certify <COMMAND>

    Commands:
      run   Certifies any other deploy command
      help  Print this message or the help of the given subcommand(s)

    Options:
          --app <DIR>...
              The releases to deploy, oldest first; the last is deployed once more unchanged [default: a
              bundled application]

          --json <FILE>
              Writes all verdicts as JSON

          --timeout <SECONDS>
              Time limit of one deploy, in seconds

              [default: 120]

          --shared <PATH>
              A path below shared/ that holds user data before the first deploy and is linked into each
              release; a trailing slash makes it a directory. Can be repeated

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
    let room = Room::new();
    let ran = room.run(room.certify().args(["run", "--help"]));
    insta::assert_snapshot!(room.show(&ran), @r#"
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
          --timeout <SECONDS>  Time limit of one deploy, in seconds [default: 120]
          --shared <PATH>      A path below shared/ that holds user data before the first deploy and is
                               linked into each release; a trailing slash makes it a directory. Can be
                               repeated
          --keep <N>           How many releases it keeps
          --drop-down          Links in a release follow Cutover's drop-down rule, for all that is below
                               shared/, instead of being exactly the --shared paths
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

#[test]
fn our_engine_keeps_its_promises() {
    if !machine_has(&[]) {
        return;
    }
    let room = Room::new();
    let ran = room.run(&mut room.certify());
    insta::assert_snapshot!(room.show(&ran), @r"
    exit code: 0
    ----- stdout
    ────────────────────────────────────────────────
     promise                   live states   posix
    ════════════════════════════════════════════════
     current_complete          proved        proved
    ────────────────────────────────────────────────
     never_absent              proved        –
    ────────────────────────────────────────────────
     durable_ack               –             proved
    ────────────────────────────────────────────────
     immutable_after_cutover   proved        –
    ────────────────────────────────────────────────
     previous_intact           proved        proved
    ────────────────────────────────────────────────
     shared_intact             proved        proved
    ────────────────────────────────────────────────
     retention                 proved        –
    ────────────────────────────────────────────────

    8 deploys, 7 releases, N operations, N effects, N sync calls.
    Decided for what was recorded: every live state, and every crash state of the model `posix` at each of N crash points.
    Recorded and judged in T s, of which T s for judging.
    ----- stderr
    deploy 1: N operations on the disk, T s
    deploy 2: N operations on the disk, T s
    deploy 3: N operations on the disk, T s
    deploy 4: N operations on the disk, T s
    deploy 5: N operations on the disk, T s
    deploy 6: N operations on the disk, T s
    once more, starting without the deploy path
    deploy 1: N operations on the disk, T s
    deploy 2: N operations on the disk, T s
    ");
    assert_eq!(room.left_behind(), Vec::<std::path::PathBuf>::new());
}
