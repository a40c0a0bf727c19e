//! Our own engine, certified as a user would do it.

use crate::room::{Room, machine_has};

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
     readers_whole             proved        –
    ────────────────────────────────────────────────
     previous_intact           proved        proved
    ────────────────────────────────────────────────
     shared_intact             proved        proved
    ────────────────────────────────────────────────
     retention                 proved        –
    ────────────────────────────────────────────────

    8 deploys, 7 releases, N operations, N effects, N sync calls.
    Decided for readers: N interleavings of those that resolve `current` once or hold its directory, N lookups through `current`. Who goes through it for each file may mix releases at 5 cutovers.
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
