//! What people read about a broken promise: the sentence, the ops that survived and those that did not.

use crate::room::{Room, machine_has};

/// The report about a script, from the first counterexample on.
fn report(script: &str, options: &[&str]) -> Option<String> {
    if !machine_has(&["ssh", "tar"]) {
        return None;
    }
    let room = Room::new();
    let ran = room.run(room.certify_tool(&format!("sh certify/subjects/{script}")).args(options));
    assert_eq!(ran.code, Some(1), "{}", room.show(&ran));
    let text = room.normal(&ran.stdout);
    let begin = text.find(" is broken").and_then(|at| text[..at].rfind('\n')).expect("a broken promise");
    Some(text[begin + 1..].to_owned())
}

#[test]
fn a_removal_that_overtakes_the_rename() {
    if let Some(report) = report("cleanup-before-durable.sh", &["--keep", "1"]) {
        insta::assert_snapshot!(report, @r"
        current_complete is broken (posix, btrfs):
          power loss after op N (rmdir /srv/app/releases/20240101000001):
          `current` resolves to /srv/app/releases/20240101000001, in which -rf is missing
          survived, though no sync covered it: the removal of /srv/app/releases/20240101000001/-rf, from op N (unlink /srv/app/releases/20240101000001/-rf)
          did not survive, since no sync had covered it: the name /srv/app/current, from op N (rename /srv/app/.current.20240101000002.PID /srv/app/current)
          did not survive, since no sync had covered it: the removal of /srv/app/releases/20240101000001, from op N (rmdir /srv/app/releases/20240101000001)
          allowed by `btrfs`: what else an fsync of a file or directory may log is not modelled: from its begin on, any metadata of before it may survive without the rest, except that an entry brings the inode it names, and the text if that is a symlink
          allowed by `btrfs`: a commit is an atomic cut: metadata (names, existence, attributes, link texts, lengths that shrink) in the order of the ops, each op whole
          how likely: a commit comes every 30 s by default (commit=30): within that a power cut takes all that was not synced
          what would mend it, proved under `posix` up to the end of deploy 2:
            before op N (unlink /srv/app/releases/20240101000001/-rf): `sync /srv/app`
          replay it: cutover-certify replay TOKEN

        durable_ack is broken (posix, btrfs):
          power loss after op N (rmdir /srv/app/releases/20240101000001):
          `current` resolves to /srv/app/releases/20240101000001, in which -rf is missing
          survived, though no sync covered it: the removal of /srv/app/releases/20240101000001/-rf, from op N (unlink /srv/app/releases/20240101000001/-rf)
          did not survive, since no sync had covered it: the name /srv/app/current, from op N (rename /srv/app/.current.20240101000002.PID /srv/app/current)
          did not survive, since no sync had covered it: the removal of /srv/app/releases/20240101000001, from op N (rmdir /srv/app/releases/20240101000001)
          allowed by `btrfs`: what else an fsync of a file or directory may log is not modelled: from its begin on, any metadata of before it may survive without the rest, except that an entry brings the inode it names, and the text if that is a symlink
          allowed by `btrfs`: a commit is an atomic cut: metadata (names, existence, attributes, link texts, lengths that shrink) in the order of the ops, each op whole
          how likely: a commit comes every 30 s by default (commit=30): within that a power cut takes all that was not synced
          what would mend it, proved under `posix` up to the end of deploy 2:
            before op N (unlink /srv/app/releases/20240101000001/-rf): `sync /srv/app`
          replay it: cutover-certify replay TOKEN

        readers_whole is broken (live states):
          a reader opens /srv/app/releases/20240101000001, to which `current` resolves, after op N (sync of the whole disk),
          and reads from that directory after op N (unlink /srv/app/releases/20240101000001/-rf): -rf is missing
          this is no lawful prune of releases/20240101000001: it is promised to stay

        readers_whole was not asked (runs): no readers were started as processes (--readers)

        previous_intact is broken (live states):
          after op N (unlink /srv/app/releases/20240101000001/-rf):
          in releases/20240101000001, which has to stay, -rf is missing

        previous_intact is broken (posix, ext4-ordered, xfs, btrfs):
          power loss after op N (unlink /srv/app/releases/20240101000001/-rf):
          releases/20240101000001, which has to stay, is damaged, in which -rf is missing
          survived, though no sync covered it: the removal of /srv/app/releases/20240101000001/-rf, from op N (unlink /srv/app/releases/20240101000001/-rf)
          no four sync calls or fewer would mend it: the operations themselves have to be others
          replay it: cutover-certify replay TOKEN

        shared_intact was not asked (live states): no shared data was declared

        shared_intact was not asked (crash states): no shared data was declared

        recoverable was not asked (runs): the tool was not run again (--recoveries)

        failed_is_failed was not asked (runs): no faults were tried (--faults)

        6 deploys, 6 releases, N operations, N effects, N sync calls.
        Not durable under `posix` when deploy 2 was reported as live, after op N (fsync /srv/app): the removal of /srv/app/releases/20240101000001/-rf, the removal of /srv/app/releases/20240101000001/.env.example, the removal of /srv/app/releases/20240101000001/CHANGELOG, the removal of /srv/app/releases/20240101000001/LICENSE, and N effects more.
        Decided for readers: N interleavings of those that resolve `current` once or hold its directory, N lookups through `current`. Who goes through it for each file may mix releases at 5 cutovers.
        Decided for what was recorded: every live state, and every crash state of the models posix, ext4-ordered, xfs, btrfs at each of N crash points.
        Recorded and judged in T s, of which T s for judging.
        ");
    }
}

#[test]
fn a_link_whose_text_is_lost() {
    if let Some(report) = report("link-after-barrier.sh", &["--keep", "3"]) {
        insta::assert_snapshot!(report, @r"
        current_complete is broken (posix):
          power loss after op N (rename /srv/app/.current.20240101000002.PID /srv/app/current):
          `current` resolves to nothing
          survived, though no sync covered it: the existence of /srv/app/current, from op N (symlink /srv/app/.current.20240101000002.PID)
          survived, though no sync covered it: the name /srv/app/current, from op N (rename /srv/app/.current.20240101000002.PID /srv/app/current)
          did not survive, since no sync had covered it: the text of the symlink /srv/app/current, from op N (symlink /srv/app/.current.20240101000002.PID)
          allowed by `posix`: nothing is ordered, except that a directory entry that survived brings the inode it names, possibly without its content: an empty file, an empty directory, an empty symlink
          what would mend it, proved under `posix` up to the end of deploy 2:
            before op N (rename /srv/app/.current.20240101000002.PID /srv/app/current): `sync /srv/app`
          replay it: cutover-certify replay TOKEN

        durable_ack is broken (posix):
          power loss after op N (rename /srv/app/.current.20240101000002.PID /srv/app/current):
          `current` resolves to nothing, not to what was acknowledged
          survived, though no sync covered it: the existence of /srv/app/current, from op N (symlink /srv/app/.current.20240101000002.PID)
          survived, though no sync covered it: the name /srv/app/current, from op N (rename /srv/app/.current.20240101000002.PID /srv/app/current)
          did not survive, since no sync had covered it: the text of the symlink /srv/app/current, from op N (symlink /srv/app/.current.20240101000002.PID)
          allowed by `posix`: nothing is ordered, except that a directory entry that survived brings the inode it names, possibly without its content: an empty file, an empty directory, an empty symlink
          what would mend it, proved under `posix` up to the end of deploy 2:
            before op N (rename /srv/app/.current.20240101000002.PID /srv/app/current): `sync /srv/app`
          replay it: cutover-certify replay TOKEN

        readers_whole was not asked (runs): no readers were started as processes (--readers)

        shared_intact was not asked (live states): no shared data was declared

        shared_intact was not asked (crash states): no shared data was declared

        recoverable was not asked (runs): the tool was not run again (--recoveries)

        failed_is_failed was not asked (runs): no faults were tried (--faults)

        6 deploys, 6 releases, N operations, N effects, N sync calls.
        Not durable under `posix` when deploy 4 was reported as live, after op N (rmdir /srv/app/releases/20240101000001): the removal of /srv/app/releases/20240101000001/-rf, the removal of /srv/app/releases/20240101000001/.env.example, the removal of /srv/app/releases/20240101000001/CHANGELOG, the removal of /srv/app/releases/20240101000001/LICENSE, and N effects more.
        Decided for readers: N interleavings of those that resolve `current` once or hold its directory, N lookups through `current`. Who goes through it for each file may mix releases at 5 cutovers.
        Decided for what was recorded: every live state, and every crash state of the models posix, ext4-ordered, xfs, btrfs at each of N crash points.
        Recorded and judged in T s, of which T s for judging.
        ");
    }
}

#[test]
fn an_instant_without_current() {
    if let Some(report) = report("rm-ln.sh", &["--keep", "3"]) {
        insta::assert_snapshot!(report, @r"
        current_complete is broken (live states):
          after op N (unlink /srv/app/current):
          `current` resolves to nothing

        current_complete is broken (posix, ext4-ordered, xfs, btrfs):
          power loss after op N (unlink /srv/app/current):
          `current` resolves to nothing
          survived, though no sync covered it: the removal of /srv/app/current, from op N (unlink /srv/app/current)
          no four sync calls or fewer would mend it: the operations themselves have to be others
          replay it: cutover-certify replay TOKEN

        never_absent is broken (live states):
          after op N (unlink /srv/app/current):
          `current` does not resolve to a directory

        durable_ack is broken (posix, ext4-ordered, xfs, btrfs):
          power loss after op N (unlink /srv/app/current):
          `current` resolves to nothing, not to what was acknowledged
          survived, though no sync covered it: the removal of /srv/app/current, from op N (unlink /srv/app/current)
          no four sync calls or fewer would mend it: the operations themselves have to be others
          replay it: cutover-certify replay TOKEN

        readers_whole is broken (live states):
          a reader that goes through `current` for each file, after op N (unlink /srv/app/current):
          `current` resolves to nothing

        readers_whole was not asked (runs): no readers were started as processes (--readers)

        shared_intact was not asked (live states): no shared data was declared

        shared_intact was not asked (crash states): no shared data was declared

        recoverable was not asked (runs): the tool was not run again (--recoveries)

        failed_is_failed was not asked (runs): no faults were tried (--faults)

        6 deploys, 6 releases, N operations, N effects, N sync calls.
        Not durable under `posix` when deploy 4 was reported as live, after op N (rmdir /srv/app/releases/20240101000001): the removal of /srv/app/releases/20240101000001/-rf, the removal of /srv/app/releases/20240101000001/.env.example, the removal of /srv/app/releases/20240101000001/CHANGELOG, the removal of /srv/app/releases/20240101000001/LICENSE, and N effects more.
        Decided for readers: N interleavings of those that resolve `current` once or hold its directory, N lookups through `current`. Who goes through it for each file may mix releases at 5 cutovers.
        Decided for what was recorded: every live state, and every crash state of the models posix, ext4-ordered, xfs, btrfs at each of N crash points.
        Recorded and judged in T s, of which T s for judging.
        ");
    }
}
