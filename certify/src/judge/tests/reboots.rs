//! Histories that begin where another one was cut off: what the past promised is kept or broken there, and what the
//! power loss itself has broken is nobody's fault any more.

use super::*;
use crate::judge::classes::{survey, survey_lacking};
use crate::tree;

/// The verdicts that are broken, of a history that goes on at op `k` of another, with what `extra` says survived.
fn broken_after(
    first: &Trace,
    k: Seq,
    extra: Vec<EffectId>,
    then: &[Step],
    keep: Option<usize>,
) -> Vec<Promise> {
    broken_in(&scenario(Vec::new(), keep), first, k, extra, then)
}

fn broken_in(
    scenario: &Scenario,
    first: &Trace,
    k: Seq,
    extra: Vec<EffectId>,
    then: &[Step],
) -> Vec<Promise> {
    let crashes = Crashes::new(first, &POSIX);
    let state = simfs::CrashState { at: k, chain: 0, extra };
    let mut fs = Fs::from_cells(View::crash(&crashes, &state).cells());
    let (mut deploy, mut running) = (0, false);
    for step in then {
        let _ = apply(&mut fs, step, &mut deploy, &mut running);
    }
    let past = Some(Arc::new(Pasts::new(first, scenario).at(k)));
    let judgement = judge(fs.trace(), &Scenario { past, ..scenario.clone() }, &[&POSIX]);
    let broken = |row: &&Row| row.verdicts().any(|verdict| matches!(verdict, Verdict::Broken(_)));
    judgement.rows.iter().filter(broken).map(|row| row.promise).collect()
}

/// The live state after an op, as a crash state.
fn all_alive(trace: &Trace, k: Seq) -> Vec<EffectId> {
    let crashes = Crashes::new(trace, &POSIX);
    let free = |id: &EffectId| trace.effect(*id).seq <= k && crashes.forced_at(*id) > k;
    (0..trace.effects().len() as u32).map(EffectId).filter(free).collect()
}

fn both() -> Trace {
    run(&right(0).into_iter().chain(right(1)).collect::<Vec<_>>())
}

/// Release 1 has one file, and nothing is linked.
fn with_source() -> Scenario {
    let content = tree::Content { size_bytes: 3, blocks: vec![Arc::from(&b"one"[..])] };
    let source: Tree = [
        (Vec::new(), tree::Node::Dir { mode: 0o755 }),
        (b"f".to_vec(), tree::Node::File { mode: 0o644, content }),
    ]
    .into();
    let mut scenario = scenario(vec![Arc::new(source)], None);
    scenario.expect.shared = SharedRule::None;
    scenario
}

/// The last op that some step of the first kind made.
fn op_of(trace: &Trace, test: impl Fn(&simfs::OpKind) -> bool) -> Seq {
    trace.ops().iter().rposition(|op| test(&op.kind)).expect("there is such an op") as Seq
}

#[test]
fn what_was_complete_has_to_stay_so() {
    let first = run(&right(0));
    let end = first.last();
    let go_on = |steps: &[Step]| broken_after(&first, end, Vec::new(), steps, None);
    assert_eq!(go_on(&[Begin, Ack, End(true)]), []);
    assert_eq!(go_on(&[Begin, Write("app/r/1/f", b"two")])[0], Promise::CurrentComplete);
    assert!(go_on(&[Begin, Remove("app/current")]).contains(&Promise::NeverAbsent));
    assert!(go_on(&[Begin, Remove("app/current")]).contains(&Promise::DurableAck));
    assert!(go_on(&[Begin, Write("app/shared/u", b"two")]).contains(&Promise::SharedIntact));
}

#[test]
fn the_release_before_is_known_from_before() {
    let first = both();
    let end = first.last();
    let removed = [Begin, Remove("app/r/1/f"), Remove("app/r/1")];
    assert_eq!(
        broken_after(&first, end, Vec::new(), &removed, Some(2)),
        [Promise::ImmutableAfterCutover, Promise::PreviousIntact,]
    );
    assert_eq!(broken_after(&first, end, Vec::new(), &removed, Some(1)), []);
}

#[test]
fn what_the_power_loss_tore_is_no_fault_but_has_to_be_repaired() {
    // Release 2 goes live without a barrier, and of its file only the name survives.
    let mut steps: Vec<Step> = right(0);
    steps.extend(right(1).into_iter().filter(|step| !matches!(step, SyncAll(_))));
    let first = run(&steps);
    let k = op_of(&first, |kind| matches!(kind, simfs::OpKind::Rename { .. }));
    let mut torn = all_alive(&first, k);
    torn.retain(|effect| {
        !matches!(first.cell(first.effect(*effect).cell), simfs::Cell::Block(..) | simfs::Cell::Size(_))
    });
    let scenario = with_source();
    let go_on = |steps: &[Step]| broken_in(&scenario, &first, k, torn.clone(), steps);
    // The second run is told release 1: that is not there.
    assert_eq!(go_on(&[Begin]), []);
    assert_eq!(go_on(&[Begin, Ack, End(true)]), [Promise::CurrentComplete]);
    let anew = [
        Begin,
        Mkdir("app/r/3"),
        Write("app/r/3/f", b"one"),
        Symlink("r/3", "app/tmp"),
        SyncAll(true),
        Rename("app/tmp", "app/current"),
        Sync("app", true),
        Ack,
        End(true),
    ];
    assert_eq!(go_on(&anew), []);
    let without_barrier: Vec<Step> = anew.into_iter().filter(|step| !matches!(step, SyncAll(_))).collect();
    assert_eq!(go_on(&without_barrier), [Promise::CurrentComplete, Promise::DurableAck]);
}

#[test]
fn a_cutover_that_was_lost_counts_for_nothing() {
    let first = both();
    // The rename to release 2, before it is durable: release 1 is live after the power loss.
    let k = op_of(&first, |kind| matches!(kind, simfs::OpKind::Rename { .. }));
    let again = [Begin, Remove("app/r/2/f"), Remove("app/r/2"), Ack, End(true)];
    assert_eq!(broken_after(&first, k, Vec::new(), &again, Some(2)), []);
    let lost = [Begin, Remove("app/r/1/f"), Ack, End(true)];
    assert!(broken_after(&first, k, Vec::new(), &lost, Some(2)).contains(&Promise::CurrentComplete));
}

#[test]
fn classes_of_a_small_deploy() {
    let first = run(&right(0));
    let scenario = scenario(Vec::new(), None);
    let (crashes, pasts) = (Crashes::new(&first, &POSIX), Pasts::new(&first, &scenario));
    let found = survey(&crashes, &scenario, &pasts, crashes.trace().last(), usize::MAX, 1);
    let words = |classes: &crate::judge::classes::Classes| {
        classes.members.keys().map(|class| format!("{class}\n")).collect::<String>()
    };
    insta::assert_snapshot!(words(&found.killed), @r"
    current leads to app/r/#; current there; r there; r/# there; shared there
    current leads to nothing; r empty; shared there
    current leads to nothing; r there; r/# empty; shared there
    current leads to nothing; r there; r/# there; shared there
    current leads to nothing; r there; r/# there; shared there; tmp there
    ");
    // The release before its barrier, the link before its barrier, and the rename before its sync.
    for condition in ["r/# absent", "r/# empty", "r/# damaged", "tmp empty", "current absent"] {
        assert!(words(&found.lost).contains(condition), "{condition}:\n{}", words(&found.lost));
    }
    let same = survey(&crashes, &scenario, &pasts, crashes.trace().last(), usize::MAX, 1);
    assert_eq!((words(&same.lost), &same.lost.members), (words(&found.lost), &found.lost.members));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Every state that a survey chooses is one that the definition allows.
    #[test]
    fn surveyed_states_are_crash_states(steps in steps(), seed in 0_u64..8) {
        let trace = run(&steps);
        prop_assume!(free_effects(&trace, &POSIX) <= MAX_FREE);
        let scenario = scenario(Vec::new(), None);
        let (crashes, pasts) = (Crashes::new(&trace, &POSIX), Pasts::new(&trace, &scenario));
        let found = survey(&crashes, &scenario, &pasts, crashes.trace().last(), usize::MAX, seed);
        let to_lack = |effect: EffectId, _| effect.0.is_multiple_of(3);
        let lacking = survey_lacking(&crashes, &scenario, &pasts, seed, &to_lack);
        for state in lacking.members.values() {
            let may_lack = (0..trace.effects().len() as u32).map(EffectId).filter(|effect| to_lack(*effect, 0));
            let mut made = may_lack.filter(|effect| trace.effect(*effect).seq <= state.at);
            prop_assert!(made.any(|effect| !state.contains(&crashes, effect)), "{:?}", state);
        }
        let all = [&found.lost, &found.killed, &lacking];
        for state in all.into_iter().flat_map(|classes| classes.members.values()) {
            let survived: Vec<bool> = (0..trace.effects().len() as u32)
                .map(|id| state.contains(&crashes, EffectId(id)))
                .collect();
            let mut allowed = false;
            crash::enumerate(&trace, &POSIX, state.at, |one| allowed |= *one == survived[..]);
            prop_assert!(allowed, "{state:?}");
        }
    }

    /// Whatever happened before and happens then: the judge never contradicts its oracle, or it would panic.
    #[test]
    fn the_judge_and_its_oracle_agree_after_reboots(before in steps(), at in any::<prop::sample::Index>(), then in steps()) {
        let first = run(&before);
        let k = at.index(first.last() as usize + 1) as Seq;
        let alive = all_alive(&first, k);
        broken_after(&first, k, alive.clone(), &then, Some(2));
        broken_after(&first, k, Vec::new(), &then, None);
    }
}
