//! Mutation score: each rule of a model weakened, and each sync call of a tool that is right taken out, has to cost a proof
//! over the recorded traces. What costs none is listed, with the reason.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::Path;

use cutover_certify::judge::{Judgement, Verdict, judge};
use cutover_certify::trace_file::{self, DEFAULT_MEMORY_BYTES, History};
use simfs::model::mutations;
use simfs::{FILE_SYSTEMS, Model, OpKind, POSIX};

/// Those in which something is proved that rests on more than a syncfs.
const TRACES: [&str; 15] = [
    "correct",
    "correct-copy-fsync",
    "correct-fdatasync",
    "engine",
    "rsync",
    "link-after-barrier",
    "ln-sfn",
    "cleanup-before-durable",
    "fdatasync-modes",
    "fdatasync-status",
    "fsync-files-only",
    "fsync-not-releases",
    "fsync-status",
    "barrier-after-cutover",
    "directories-first",
];

fn histories(name: &str) -> Vec<History> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/traces/{name}.cutover-trace"));
    let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    trace_file::read(BufReader::new(file), DEFAULT_MEMORY_BYTES).unwrap().histories
}

/// Though the test passes.
fn show(score: &str) {
    let _ = writeln!(std::io::stderr(), "{score}");
}

/// The promises that are proved over crash states of a model.
fn proved(judgement: &Judgement, model: &Model) -> Vec<&'static str> {
    let proved = judgement.rows.iter().filter(|row| row.under(model.name) == Some(&Verdict::Proved));
    proved.map(|row| row.promise.name()).collect()
}

/// What is listed can be missed by no script at all, as long as no sync call fails:
/// - *existence of the inode*: without a name it cannot be seen, and what makes the name durable makes it exist too: the
///   fsync of the name's directory, or the chain. Under btrfs a file's own sync call may, and there it is missed.
/// - *ext4 and xfs, modes, owners and entries*: the chain up to the last change of a file or directory has them.
///
/// Those two are held by a test of simfs, `rules_that_follow_from_others`, which finds just these.
/// - *the blocks of a length that grew*: a proof needs the length itself to be durable, and what makes it so takes the blocks
///   along. Without the rule there are more states, all of files that are not whole either way:
///   `no_file_is_whole_because_its_length_brings_its_blocks`.
#[test]
fn a_weaker_model_loses_a_proof() {
    let traces: Vec<(&str, History)> =
        TRACES.iter().flat_map(|name| histories(name).into_iter().map(|history| (*name, history))).collect();
    let mut shown = String::new();
    for model in FILE_SYSTEMS {
        let mut all = 0;
        let mut lost_none = Vec::new();
        for mutation in mutations(model).into_iter().filter(|mutation| mutation.weaker) {
            all += 1;
            let loses = traces.iter().any(|(_, history)| {
                let judged = |model: &Model| {
                    let judgement = judge(&history.trace, &history.scenario, &[model]);
                    proved(&judgement, model)
                };
                judged(&mutation.model).len() < judged(model).len()
            });
            if !loses {
                lost_none.push(mutation.what);
            }
        }
        let _ = writeln!(shown, "{}: {} of {all}", model.name, all - lost_none.len());
        for what in lost_none {
            let _ = writeln!(shown, "  no proof rests on it: {what}");
        }
    }
    show(&format!("mutation score, weaker models that lose a proof:\n{shown}"));
    insta::assert_snapshot!(shown, @r"
    posix: 7 of 10
      no proof rests on it: fsync of a file does not force the existence of the inode
      no proof rests on it: fdatasync of a file does not force the existence of the inode
      no proof rests on it: fsync of a directory does not force the existence of the inode
    ext4-ordered: 11 of 17
      no proof rests on it: fsync of a file does not force the existence of the inode
      no proof rests on it: fsync of a file does not force its mode and owner
      no proof rests on it: fdatasync of a file does not force the existence of the inode
      no proof rests on it: fsync of a directory does not force the existence of the inode
      no proof rests on it: fsync of a directory does not force its mode and owner
      no proof rests on it: fsync of a directory does not force its entries
    xfs: 11 of 18
      no proof rests on it: fsync of a file does not force the existence of the inode
      no proof rests on it: fsync of a file does not force its mode and owner
      no proof rests on it: fdatasync of a file does not force the existence of the inode
      no proof rests on it: fsync of a directory does not force the existence of the inode
      no proof rests on it: fsync of a directory does not force its mode and owner
      no proof rests on it: fsync of a directory does not force its entries
      no proof rests on it: a length that grew does not bring its blocks
    btrfs: 12 of 14
      no proof rests on it: fsync of a directory does not force the existence of the inode
      no proof rests on it: a length that grew does not bring its blocks
    ");
}

/// What no promise over a recorded trace rests on keeps the engine's own records (`.cutover`), and what it may find when it
/// starts: on those rests what a run after a power loss does, which a trace cannot say. For the engine it is asked by running
/// it: `each_sync_call_of_the_engine_is_missed` in the tests of all programs together.
#[test]
fn a_barrier_less_breaks_a_promise() {
    let mut shown = String::new();
    for name in ["correct", "rsync", "engine"] {
        // By what the call covers: how many of them break something when they are gone, of how many.
        let mut score: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for history in histories(name) {
            let before = judge(&history.trace, &history.scenario, &[&POSIX]);
            for (seq, op) in history.trace.ops().iter().enumerate() {
                let OpKind::Sync { ok: true, .. } = op.kind else { continue };
                let cut = history.trace.clone().without_syncs(&[seq as u32]);
                let after = judge(&cut, &history.scenario, &[&POSIX]);
                let words =
                    cutover_certify::judge::op_in_words(&history.trace, &history.scenario, seq as u32);
                let what = words.split_once('(').unwrap().1.trim_end_matches(')').to_owned();
                let (caught, of) = score.entry(what).or_default();
                *of += 1;
                *caught += u32::from(proved(&after, &POSIX).len() < proved(&before, &POSIX).len());
            }
        }
        let _ = writeln!(shown, "{name}");
        for (what, (caught, of)) in score {
            let _ = writeln!(shown, "  {what}: {caught} of {of}");
        }
    }
    show(&format!("mutation score, sync calls whose lack breaks a promise:\n{shown}"));
    insta::assert_snapshot!(shown, @r"
    correct
      fsync /srv/app: 7 of 7
      sync of the whole disk: 7 of 7
    rsync
      fsync /srv/app: 5 of 5
      sync of the whole disk: 5 of 5
    engine
      fsync /srv/app: 6 of 20
      fsync /srv/app/.cutover: 0 of 6
      fsync /srv/app/.cutover/log: 0 of 6
      fsync /srv/app/.cutover/probe: 0 of 7
      fsync /srv/app/.cutover/probe/file: 0 of 7
      fsync /srv/app/.cutover/seals: 0 of 14
      fsync /srv/app/.cutover/unfinished: 0 of 14
      fsync /srv/app/releases: 0 of 1
      sync of the whole disk: 7 of 7
    ");
}
