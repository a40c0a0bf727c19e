//! The production procedure against the enumerator: random small traces, every crash state of each written out and
//! judged by the oracle, with what is permitted when, and what has to stay, worked out here once more, naively.
//!
//! `CUTOVER_CASES` sets how many traces are tried, `CUTOVER_SEED` which.

mod doubts;
mod live;
mod sampled;

use rustc_hash::FxHashMap;
use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use simfs::fs::{Caller, Fs, RenameHow};
use simfs::{
    CellId, Crashes, EffectId, Ino, MODELS, MarkKind, Model, OpKind, POSIX, Seq, SyncScope, Trace, View,
    crash,
};

use super::oracle::{self, Disk, Duty, Facts, Known};
use super::walk::{End, names, walk_live};
use super::*;

mod passes;
mod readers;

const WHO: Caller = Caller { uid: 0, gid: 0 };

/// One thing that happens, on paths of a small pool so that names are reused and everything collides.
#[derive(Clone, Debug)]
enum Step {
    Mkdir(&'static str),
    Write(&'static str, &'static [u8]),
    Truncate(&'static str, u64),
    Symlink(&'static str, &'static str),
    Link(&'static str, &'static str),
    Remove(&'static str),
    Rename(&'static str, &'static str),
    Exchange(&'static str, &'static str),
    Chmod(&'static str, u32),
    Sync(&'static str, bool),
    Datasync(&'static str, bool),
    SyncAll(bool),
    /// The last sync call so far returned only after so many more ops, as one of another process does.
    Lasts(u32),
    Begin,
    Ack,
    End(bool),
    /// Well, but the cleanup is reported as pending.
    EndPending,
}
use Step::*;

mod reboots;

fn path() -> impl Strategy<Value = &'static str> {
    select(vec![
        "app/current",
        "app/tmp",
        "app/r",
        "app/r/1",
        "app/r/2",
        "app/r/1/f",
        "app/r/2/f",
        "app/r/1/d",
        "app/r/2/d",
        "app/r/2/d/f",
        "app/shared/u",
        "app",
        "app/shared",
    ])
}

fn target() -> impl Strategy<Value = &'static str> {
    select(vec!["r/1", "r/2", "/disk/app/r/1", "../app/r/2", "r/2/../1", "current", "tmp", "/elsewhere"])
}

fn content() -> impl Strategy<Value = &'static [u8]> {
    select(vec![&b"one"[..], b"two", b"", b"one"])
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        path().prop_map(Mkdir),
        (path(), content()).prop_map(|(p, c)| Write(p, c)),
        (path(), 0_u64..4).prop_map(|(p, n)| Truncate(p, n)),
        (target(), path()).prop_map(|(t, p)| Symlink(t, p)),
        (path(), path()).prop_map(|(p, q)| Link(p, q)),
        path().prop_map(Remove),
        (path(), path()).prop_map(|(p, q)| Rename(p, q)),
        (path(), path()).prop_map(|(p, q)| Exchange(p, q)),
        (path(), select(vec![0o755, 0o700])).prop_map(|(p, m)| Chmod(p, m)),
        (path(), any::<bool>()).prop_map(|(p, ok)| Sync(p, ok)),
        path().prop_map(|p| Datasync(p, true)),
        any::<bool>().prop_map(SyncAll),
        Just(Begin),
        Just(Ack),
        any::<bool>().prop_map(End),
    ]
}

/// Or what matters only to what a power loss leaves.
fn any_step_or_sync() -> impl Strategy<Value = Step> {
    prop_oneof![
        14 => any_step(),
        // Where there is something to lose.
        2 => (select(vec!["app/r/1/f", "app/r/2/f"]), any::<bool>()).prop_map(|(p, ok)| Datasync(p, ok)),
        1 => (1_u32..8).prop_map(Lasts),
    ]
}

/// A deploy of release `n` that does everything right.
fn right(n: usize) -> Vec<Step> {
    let (release, file) = [("app/r/1", "app/r/1/f"), ("app/r/2", "app/r/2/f")][n];
    let (link, text) = [("r/1", &b"one"[..]), ("r/2", b"two")][n];
    vec![
        Begin,
        Mkdir(release),
        Write(file, text),
        Symlink(link, "app/tmp"),
        SyncAll(true),
        Rename("app/tmp", "app/current"),
        Sync("app", true),
        Ack,
        End(true),
    ]
}

/// Two deploys with steps left out, repeated and put in at random. In some a sync call is another process's: it begins some
/// steps too early, and what else happens until it returns is none of its business.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let all: Vec<Step> = right(0).into_iter().chain(right(1)).collect();
    let edit = prop_oneof![Just(None), any_step_or_sync().prop_map(Some)];
    let edits = proptest::collection::vec((0_usize..18, edit), 0..7);
    let syncs: Vec<usize> = (0..all.len()).filter(|at| matches!(all[*at], SyncAll(_) | Sync(..))).collect();
    let early = proptest::option::weighted(0.4, (select(syncs), 0_usize..4, 1_u32..8));
    (edits, any::<bool>(), early).prop_map(move |(edits, cleanup, early)| {
        let mut steps = all.clone();
        if cleanup {
            steps.splice(17..17, [Remove("app/r/1/f"), Remove("app/r/1")]);
        }
        if let Some((at, earlier, lasts)) = early {
            let sync = steps.remove(at);
            steps.splice(at - earlier..at - earlier, [sync, Lasts(lasts)]);
        }
        for (at, edit) in edits {
            let at = at.min(steps.len() - 1);
            match edit {
                None => drop(steps.remove(at)),
                Some(step) => steps.insert(at, step),
            }
        }
        steps
    })
}

fn run(steps: &[Step]) -> Trace {
    let mut fs = Fs::new(0, 0, 0o755);
    fs.mkdir_p("app/shared").unwrap();
    fs.mkdir_p("app/r").unwrap();
    fs.write_file("app/shared/u", b"data").unwrap();
    fs.start_recording();
    let (mut deploy, mut running) = (0, false);
    let mut returned: FxHashMap<Seq, Seq> = FxHashMap::default();
    for step in steps {
        if let Lasts(ops) = step {
            let last = fs.trace().ops().iter().rposition(|op| history::is_sync(&op.kind));
            returned.extend(last.map(|began| (began as Seq, began as Seq + ops)));
        }
        // A step that the disk refuses did not happen.
        let _ = apply(&mut fs, step, &mut deploy, &mut running);
    }
    with_returns(fs.trace(), &returned)
}

/// The same trace, in which some sync calls returned at a later op.
fn with_returns(trace: &Trace, later: &FxHashMap<Seq, Seq>) -> Trace {
    let mut same = Trace::new();
    let mut marks = trace.marks().iter().peekable();
    for (seq, op) in (0..).zip(trace.ops()) {
        let effects = &trace.effects()[op.effects.start as usize..op.effects.end as usize];
        let effects = effects.iter().map(|e| (trace.cell(e.cell).clone(), e.value.clone()));
        match op.kind {
            OpKind::Initial => effects.for_each(|(cell, value)| same.push_initial(cell, value)),
            OpKind::Sync { scope, returned, ok } => {
                let returned = later.get(&seq).map_or(returned, |at| *at.min(&trace.last()));
                same.push(OpKind::Sync { scope, returned, ok }, []);
            }
            ref kind => drop(same.push(kind.clone(), effects)),
        }
        while let Some(mark) = marks.next_if(|mark| mark.after == seq) {
            same.mark(mark.kind.clone());
        }
    }
    same
}

fn apply(fs: &mut Fs, step: &Step, deploy: &mut u32, running: &mut bool) -> Result<(), simfs::fs::Errno> {
    match step {
        Mkdir(p) => fs.split(p).and_then(|(dir, name)| fs.mkdir(dir, &name, 0o755, WHO)).map(drop),
        Write(p, content) => {
            let (dir, name) = fs.split(p)?;
            let ino = fs.lookup(dir, &name).or_else(|_| fs.create(dir, &name, 0o644, WHO))?;
            fs.write(ino, 0, content, false).map(drop)
        }
        Truncate(p, size) => fs.resolve_link(p).and_then(|ino| fs.truncate(ino, *size, false)),
        Symlink(target, p) => fs.symlink_at(target, p).map(drop),
        Link(p, q) => {
            let (ino, (dir, name)) = (fs.resolve_link(p)?, fs.split(q)?);
            fs.link(ino, dir, &name)
        }
        Remove(p) => {
            let (dir, name) = fs.split(p)?;
            fs.unlink(dir, &name).or_else(|_| fs.rmdir(dir, &name))
        }
        Rename(p, q) | Exchange(p, q) => {
            let ((from_dir, from), (to_dir, to)) = (fs.split(p)?, fs.split(q)?);
            let how = if matches!(step, Exchange(..)) { RenameHow::Exchange } else { RenameHow::Replace };
            fs.rename(from_dir, &from, to_dir, &to, how)
        }
        Chmod(p, mode) => fs.resolve_link(p).and_then(|ino| fs.chmod(ino, *mode)),
        Sync(p, ok) => {
            let ino = fs.resolve_link(p)?;
            match fs.stat(ino)?.kind {
                simfs::Kind::Dir => fs.sync(SyncScope::Dir(ino), *ok),
                _ => fs.sync(SyncScope::File(ino), *ok),
            };
            Ok(())
        }
        Datasync(p, ok) => {
            let ino = fs.resolve_link(p)?;
            fs.sync(SyncScope::FileData(ino), *ok);
            Ok(())
        }
        SyncAll(ok) => {
            fs.sync(SyncScope::All, *ok);
            Ok(())
        }
        Begin if !*running => {
            (*deploy, *running) = (*deploy + 1, true);
            fs.mark(MarkKind::Begin { deploy: *deploy });
            Ok(())
        }
        Ack if *running => {
            fs.mark(MarkKind::Ack { deploy: *deploy });
            Ok(())
        }
        End(_) | EndPending if *running => {
            *running = false;
            let cleanup_pending = matches!(step, EndPending);
            let ok = cleanup_pending || matches!(step, End(true));
            fs.mark(MarkKind::End { deploy: *deploy, ok, cleanup_pending });
            Ok(())
        }
        Begin | Ack | End(_) | EndPending | Lasts(_) => Ok(()),
    }
}

fn scenario(sources: Vec<Arc<Tree>>, keep: Option<usize>) -> Scenario {
    Scenario {
        mount: names(b"/disk"),
        deploy_path: names(b"app"),
        sources,
        expect: Expect { shared: SharedRule::DropDown, adds: Adds::none(), mode_mask: 0o7777 },
        keep,
        past: None,
    }
}

/// What the definitions of the promises say about a trace, worked out the long way.
struct Naive {
    releases: Vec<Known>,
    /// For each op, what `current` resolves to.
    current: Vec<Option<usize>>,
    /// For each op, the permitted sets at its instants, and whether something was acknowledged by then.
    permitted: Vec<Vec<(Vec<usize>, bool)>>,
    /// For each op, the releases that have to be complete where they were, beside what is live.
    protected: Vec<Vec<usize>>,
}

impl Naive {
    fn new(trace: &Trace, scenario: &Scenario) -> Self {
        let mut releases: Vec<Known> = Vec::new();
        let mut current = Vec::new();
        for k in 0..=trace.last() {
            let disk = Disk::new(View::live(trace, k));
            let now = disk.current(scenario).map(|(ino, path)| {
                releases.iter().position(|known| known.ino == ino).unwrap_or_else(|| {
                    let tree = disk.tree(&path);
                    releases.push(Known { ino, path, tree });
                    releases.len() - 1
                })
            });
            current.push(now);
        }
        let mut naive = Self { releases, current, permitted: Vec::new(), protected: Vec::new() };
        let mut set: Vec<usize> = naive.current[0].into_iter().collect();
        let mut acked = false;
        for k in 0..=trace.last() {
            let mut instants = vec![(set.clone(), acked)];
            for (at, mark) in trace.marks().iter().enumerate().filter(|(_, mark)| mark.after == k) {
                match mark.kind {
                    MarkKind::Begin { .. } => {
                        let next =
                            trace.marks()[at + 1..].iter().find(|m| matches!(m.kind, MarkKind::Begin { .. }));
                        let until = next.map_or(trace.last(), |next| next.after);
                        for to in naive.switches(k + 1, until) {
                            if !set.contains(&to) {
                                set.push(to);
                            }
                        }
                    }
                    MarkKind::Ack { .. } => {
                        if let Some(now) = naive.current[k as usize] {
                            set = vec![now];
                        }
                        acked = true;
                    }
                    _ => {}
                }
                instants.push((set.clone(), acked));
            }
            naive.permitted.push(instants);
        }
        let stays = |k, release: &usize| {
            naive.was_reported(trace, k, *release)
                && (naive.is_being_replaced(trace, k, *release) || naive.is_kept(scenario.keep, k, *release))
        };
        let all = |k| (0..naive.releases.len()).filter(|release| stays(k, release)).collect();
        naive.protected = (0..=trace.last()).map(all).collect();
        naive
    }

    /// By op `k` somebody had said that this release is live, and was right.
    fn was_reported(&self, trace: &Trace, k: Seq, release: usize) -> bool {
        let says = |mark: &&simfs::Mark| mark.after <= k && matches!(mark.kind, MarkKind::Ack { .. });
        trace.marks().iter().filter(says).any(|mark| self.current[mark.after as usize] == Some(release))
    }

    /// The deploy that is running at op `k` switches, sooner or later, from this release to another.
    fn is_being_replaced(&self, trace: &Trace, k: Seq, release: usize) -> bool {
        let mut live = None;
        for (at, now) in self.current.iter().enumerate() {
            let Some(now) = *now else { continue };
            let before = live.replace(now);
            if before != Some(release) || now == release {
                continue;
            }
            let begins = |mark: &&simfs::Mark| matches!(mark.kind, MarkKind::Begin { .. });
            let mut begun = trace.marks().iter().filter(begins);
            let Some(begin) = begun.rfind(|begin| (begin.after as usize) < at) else { continue };
            let MarkKind::Begin { deploy } = begin.kind else { continue };
            let ends = |mark: &&simfs::Mark| matches!(mark.kind, MarkKind::End { deploy: ended, .. } if ended == deploy);
            let end = trace.marks().iter().find(ends).map_or(trace.last(), |end| end.after);
            if begin.after <= k && k <= end {
                return true;
            }
        }
        false
    }

    /// At op `k`, retention promises this release: it is among the newest both by when each was live last and by when
    /// each was made, of which what is live and what was live before it are the first two.
    fn is_kept(&self, keep: Option<usize>, k: Seq, release: usize) -> bool {
        let upto = &self.current[..=k as usize];
        let live_last = |release: usize| upto.iter().rposition(|now| *now == Some(release));
        let mut by_use: Vec<usize> = (0..self.releases.len()).filter(|r| live_last(*r).is_some()).collect();
        by_use.sort_by_key(|release| std::cmp::Reverse(live_last(*release)));
        let mut by_age = by_use.clone();
        by_age[by_use.len().min(2)..].sort_by_key(|release| std::cmp::Reverse(*release));
        let among = |order: &[usize]| order.iter().take(keep.unwrap_or(0)).any(|kept| *kept == release);
        by_use.first() != Some(&release) && among(&by_use) && among(&by_age)
    }

    /// The releases that the switches within a range of ops went to, without those that were there before and left again.
    fn switches(&self, from: Seq, to: Seq) -> Vec<usize> {
        let mut live = None;
        let mut found = Vec::new();
        for (k, now) in self.current.iter().enumerate() {
            if let Some(now) = now {
                if live != Some(*now) && k > 0 && (from..=to).contains(&(k as Seq)) {
                    found.push(*now);
                }
                live = Some(*now);
            }
        }
        let last = found.last().copied();
        let new = |to: &usize| self.current.iter().position(|now| *now == Some(*to)) >= Some(from as usize);
        found.retain(|to| Some(*to) == last || new(to));
        found
    }

    fn duty(&self, k: Seq) -> Duty {
        let upto = &self.permitted[..=k as usize];
        let mut ever: Vec<usize> = upto.iter().flatten().flat_map(|(set, _)| set.clone()).collect();
        ever.sort_unstable();
        ever.dedup();
        let here = &self.permitted[k as usize];
        Duty {
            ever,
            nothing_allowed: here.iter().all(|(_, acked)| !acked),
            now: here.iter().filter(|(_, acked)| *acked).map(|(set, _)| set.clone()).collect(),
            protected: self.protected[k as usize].clone(),
        }
    }
}

const CRASH: [Promise; 4] =
    [Promise::CurrentComplete, Promise::DurableAck, Promise::PreviousIntact, Promise::SharedIntact];

/// More would take too long to enumerate at every crash point.
const MAX_FREE: usize = 11;

fn free_effects(trace: &Trace, model: &Model) -> usize {
    let crashes = Crashes::new(trace, model);
    (0..=trace.last())
        .map(|k| {
            (0..trace.effects().len() as u32)
                .filter(|e| trace.effects()[*e as usize].seq <= k && crashes.forced_at(EffectId(*e)) > k)
                .count()
        })
        .max()
        .unwrap_or(0)
}

/// What the oracle says about each of [`CRASH`].
type Holds = [bool; CRASH.len()];

/// Judges each crash state of a trace by the oracle: the same disk under the same duty once.
struct Witness<'a> {
    trace: &'a Trace,
    scenario: &'a Scenario,
    facts: &'a Facts,
    /// For each disk, as the newest version of each cell, what holds under which duty.
    judged: FxHashMap<Vec<Option<EffectId>>, Vec<(usize, Holds)>>,
    states: u64,
    disks: u64,
}

impl Witness<'_> {
    fn holds(&mut self, survived: &[bool], duties: &[Duty], duty: usize) -> Holds {
        self.states += 1;
        let view = View::survivors(self.trace, survived);
        let disk = (0..self.trace.cell_count() as u32).map(|cell| view.newest(CellId(cell))).collect();
        let judged = self.judged.entry(disk).or_default();
        if let Some((_, holds)) = judged.iter().find(|(under, _)| *under == duty) {
            return *holds;
        }
        self.disks += 1;
        let disk = Disk::new(view);
        let holds = CRASH.map(|p| oracle::holds(p, &disk, self.scenario, self.facts, &duties[duty]));
        judged.push((duty, holds));
        holds
    }
}

/// How much was compared.
#[derive(Clone, Copy, Debug, Default)]
struct Compared {
    traces: u64,
    states: u64,
    disks: u64,
    broken: u64,
    /// Traces in which `posix` breaks what another model does not.
    differ: u64,
    /// Traces with a sync call during which something else happened.
    overlapping: u64,
    /// Traces with a call of fdatasync that failed.
    failed_datasync: u64,
    /// Traces in which something had to stay that was not live.
    protecting: u64,
}

fn check(steps: &[Step], keep: Option<usize>) -> Result<Option<Compared>, TestCaseError> {
    let trace = run(steps);
    if free_effects(&trace, &POSIX) > MAX_FREE {
        return Ok(None);
    }
    let bare = scenario(Vec::new(), keep);
    let naive = Naive::new(&trace, &bare);
    // Without sources nothing is compared with them: what went live is right by itself here.
    let history = History::new(&trace, &bare);
    prop_assert_eq!(history.releases.len(), naive.releases.len());
    // What a model shares it shares with the one before: each comes first, and they come in both orders.
    let mut models = MODELS;
    models.rotate_left(trace.effects().len() % MODELS.len());
    if trace.last() % 2 == 1 {
        models.reverse();
    }
    let judgement = judge(&trace, &bare, &models);

    let shared = expect::shared_at(&trace, 0, &bare);
    let facts =
        Facts { releases: naive.releases.clone(), shared: shared.as_ref().map(golden::Golden::to_tree) };
    let mut witness = Witness {
        trace: &trace,
        scenario: &bare,
        facts: &facts,
        judged: FxHashMap::default(),
        states: 0,
        disks: 0,
    };
    let mut duties: Vec<Duty> = Vec::new();
    // For each model whether each promise held. One with more states than can be counted is left out.
    let mut hold: Vec<(&Model, Holds)> =
        MODELS.into_iter().map(|model| (model, [true; CRASH.len()])).collect();
    hold.retain(|(model, _)| free_effects(&trace, model) <= MAX_FREE);
    for k in 0..=trace.last() {
        let duty = naive.duty(k);
        let known = duties.iter().position(|known| *known == duty);
        let duty = known.unwrap_or(duties.len());
        if known.is_none() {
            duties.push(naive.duty(k));
        }
        for (model, hold) in &mut hold {
            crash::enumerate(&trace, model, k, |survived| {
                let now = witness.holds(survived, &duties, duty);
                hold.iter_mut().zip(now).for_each(|(all, now)| *all &= now);
            });
        }
        // Live states are those in which everything survived.
        let disk = Disk::new(View::live(&trace, k));
        let live_ok = oracle::holds(Promise::CurrentComplete, &disk, &bare, &facts, &duties[duty]);
        let row = judgement.rows.iter().find(|row| row.promise == Promise::CurrentComplete).unwrap();
        if !live_ok {
            prop_assert!(
                matches!(row.live, Some(Verdict::Broken(_))),
                "live op {} is not complete: {:?}",
                k,
                row
            );
        }
    }
    let (mut broken, mut differ) = (0, 0);
    let each =
        hold.iter().flat_map(|(model, hold)| CRASH.into_iter().zip(hold).map(move |one| (*model, one)));
    for (model, (promise, holds)) in each {
        let row = judgement.rows.iter().find(|row| row.promise == promise).unwrap();
        let under = |model: &Model| row.under(model.name).unwrap();
        differ |= u64::from(
            matches!(under(&POSIX), Verdict::Broken(_)) && !matches!(under(model), Verdict::Broken(_)),
        );
        match under(model) {
            Verdict::Broken(found) => {
                broken |= u64::from(model.name == POSIX.name);
                prop_assert!(
                    !*holds,
                    "{} under {}: no such crash state: {found:?}",
                    promise.name(),
                    model.name
                );
                let crashes = Crashes::new(&trace, model);
                let state = found.state();
                let table: Vec<bool> = (0..trace.effects().len() as u32)
                    .map(|e| state.contains(&crashes, EffectId(e)))
                    .collect();
                let mut is_one = false;
                crash::enumerate(&trace, model, found.at, |survived| is_one |= survived == table);
                prop_assert!(is_one, "not a crash state of {}: {found:?}", model.name);
            }
            _ => prop_assert!(*holds, "{} was missed under {}", promise.name(), model.name),
        }
    }
    let any = |test: &dyn Fn(Seq, &OpKind) -> bool| {
        u64::from((0..).zip(trace.ops()).any(|(seq, op)| test(seq, &op.kind)))
    };
    Ok(Some(Compared {
        traces: 1,
        states: witness.states,
        disks: witness.disks,
        broken,
        differ,
        overlapping: any(&|seq, op| matches!(op, OpKind::Sync { returned, .. } if *returned > seq)),
        failed_datasync: any(&|_, op| {
            matches!(op, OpKind::Sync { scope: SyncScope::FileData(_), ok: false, .. })
        }),
        protecting: u64::from(naive.protected.iter().any(|protected| !protected.is_empty())),
    }))
}

/// How many random traces are tried: what CI does takes some seconds more than anyone wants to wait after each change.
fn cases() -> u32 {
    let number = |n: String| n.parse().expect("CUTOVER_CASES is a number");
    let slow = std::env::var_os("CUTOVER_SLOW_TESTS").is_some();
    std::env::var("CUTOVER_CASES").map_or(if slow { 10_000 } else { 1_000 }, number)
}

/// Where the random traces begin: the same in every run unless another is asked for.
fn seed() -> u64 {
    std::env::var("CUTOVER_SEED").map_or(3, |n| n.parse().expect("CUTOVER_SEED is a number"))
}

/// A source of random values that is the same for the same seed.
fn random(seed: u64, cases: u32) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases,
        max_shrink_iters: 4000,
        max_global_rejects: u32::MAX,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Tries random traces, half of them on each of two threads.
#[test]
fn procedure_and_enumerator_agree() {
    let (cases, seed) = (cases(), seed());
    let some = |seed: u64, cases: u32| {
        let compared = Cell::new(Compared::default());
        let strategy = (steps(), select(vec![None, Some(1), Some(2)]));
        let tried = random(seed, cases).run(&strategy, |(steps, keep)| {
            let Some(one) = check(&steps, keep)? else {
                return Err(TestCaseError::reject("too many states"));
            };
            let all = compared.get();
            compared.set(Compared {
                traces: all.traces + one.traces,
                states: all.states + one.states,
                disks: all.disks + one.disks,
                broken: all.broken + one.broken,
                differ: all.differ + one.differ,
                overlapping: all.overlapping + one.overlapping,
                failed_datasync: all.failed_datasync + one.failed_datasync,
                protecting: all.protecting + one.protecting,
            });
            Ok(())
        });
        if let Err(error) = tried {
            panic!("CUTOVER_SEED={seed}: {error}");
        }
        compared.get()
    };
    let halves = std::thread::scope(|scope| {
        let other = scope.spawn(|| some(seed + 1, cases / 2));
        [some(seed, cases - cases / 2), other.join().unwrap_or_else(|panic| resume_unwind(panic))]
    });
    println!("seeds {seed} and {}: {halves:?}", seed + 1);
    let sum = |of: fn(&Compared) -> u64| halves.iter().map(of).sum::<u64>();
    let (traces, broken) = (sum(|half| half.traces), sum(|half| half.broken));
    assert!(traces >= u64::from(cases), "{traces} traces were compared");
    // Both answers come up often, or the comparison would not say much.
    assert!(
        cases < 100 || (broken * 10 > traces && broken * 10 < traces * 9),
        "{broken} of {traces} are broken"
    );
    // And what the procedure could be wrong about is there.
    for (what, times) in [
        ("models that differ", sum(|half| half.differ)),
        ("overlapping sync calls", sum(|half| half.overlapping)),
        ("failed fdatasync", sum(|half| half.failed_datasync)),
        ("protected releases", sum(|half| half.protecting)),
    ] {
        assert!(cases < 1000 || times * 50 > traces, "{what} in {times} of {traces}");
    }
}

#[test]
fn the_right_deploy_is_proved_and_each_missing_barrier_is_found() {
    let right: Vec<Step> = right(0).into_iter().chain(right(1)).collect();
    let words = |steps: &[Step]| {
        let judgement = judge(&run(steps), &scenario(Vec::new(), None), &[&POSIX]);
        let row = |row: &Row| row.under("posix").map(|verdict| (row.promise, verdict.word()));
        judgement.rows.iter().filter_map(row).collect::<Vec<_>>()
    };
    assert!(words(&right).iter().all(|(_, word)| *word == "proved"), "{:?}", words(&right));
    for (at, step) in right.iter().enumerate() {
        if matches!(step, SyncAll(_) | Sync(..)) {
            let without: Vec<Step> = [&right[..at], &right[at + 1..]].concat();
            let words = words(&without);
            assert!(
                words.contains(&(Promise::DurableAck, "BROKEN".to_owned())),
                "without step {at}: {words:?}"
            );
        }
    }
}

/// What was not observed can be anything, so it takes every proof away; what is broken stays broken.
#[test]
fn blindness_makes_proofs_unknown() {
    let right: Vec<Step> = right(0).into_iter().chain(right(1)).collect();
    let judged = |steps: &[Step]| {
        let mut trace = run(steps);
        trace.mark(MarkKind::Blind { what: "a test said so".to_owned() });
        judge(&trace, &scenario(Vec::new(), None), &[&POSIX])
    };
    let whole = judged(&right);
    assert!(!whole.any(|verdict| *verdict == Verdict::Proved));
    assert!(whole.any(|verdict| *verdict == Verdict::Unknown { why: "a test said so".to_owned() }));
    let without: Vec<Step> = right.iter().filter(|step| !matches!(step, SyncAll(_))).cloned().collect();
    assert!(judged(&without).any(|verdict| matches!(verdict, Verdict::Broken(_))));
}

/// Of two histories of one tool, further runs of both count, and what is worse in one of them is the verdict.
#[test]
fn further_runs_of_two_histories_are_one_verdict() {
    let held = |n| Verdict::Held { held: n, of: n };
    let not_asked = || Verdict::NotAsked { why: "nobody asked".to_owned() };
    let unknown = |why: &str| Verdict::Unknown { why: why.to_owned() };
    let broken = |lines: &[&str]| {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        Verdict::Broken(Counterexample::at(1, lines))
    };
    let trace = run(&right(0));
    let of_history = |verdict: &Verdict, what: &str| {
        let mut judgement = judge(&trace, &scenario(Vec::new(), None), &[&POSIX]);
        let promise = Promise::Recoverable;
        let tried = Tried { promise, what: what.to_owned(), runs: 1, seed: 1 };
        judgement.add_runs(promise, verdict.clone(), vec![tried]);
        judgement
    };
    let labelled = [unknown("other: gone"), broken(&["other:", "wrong"])];
    let [unknown, broken] = [unknown("gone"), broken(&["wrong"])];
    for (first, other, both) in [
        (held(2), held(3), held(5)),
        (held(2), not_asked(), held(2)),
        (not_asked(), held(3), held(3)),
        (not_asked(), not_asked(), not_asked()),
        (held(2), unknown.clone(), labelled[0].clone()),
        (unknown.clone(), held(3), unknown.clone()),
        (held(2), broken.clone(), labelled[1].clone()),
        (broken.clone(), held(3), broken.clone()),
        (unknown.clone(), broken.clone(), labelled[1].clone()),
        (broken.clone(), unknown.clone(), broken.clone()),
    ] {
        let judgement = of_history(&first, "some runs").and(of_history(&other, "others"), "other:");
        let row = judgement.rows.iter().find(|row| row.promise == Promise::Recoverable).unwrap();
        assert_eq!(row.runs, Some(both), "{first:?} and {other:?}");
        let told: Vec<&str> = judgement.tried.iter().map(|tried| &*tried.what).collect();
        assert_eq!(told, ["some runs", "other: others"]);
    }
}

/// The promises with a verdict that is this word.
fn with_word(judgement: &Judgement, word: &str) -> Vec<Promise> {
    let has = |row: &&Row| row.verdicts().any(|verdict| verdict.word() == word);
    judgement.rows.iter().filter(has).map(|row| row.promise).collect()
}

/// A deploy that fails its check after the cutover switches back, and reports nothing as live: what it had brought was
/// permitted while it ran, what was acknowledged before it still is.
#[test]
fn a_deploy_may_switch_back() {
    let barrier = SyncAll(true);
    let switch = |link| [Symlink(link, "app/tmp"), Rename("app/tmp", "app/current"), Sync("app", true)];
    let bring = [Begin, Mkdir("app/r/2"), Write("app/r/2/f", b"two"), barrier];
    let [link, rename, sync] = switch("r/2");
    let cutover = [link, SyncAll(true), rename, sync];
    let [link, rename, sync] = switch("r/1");
    let back = [link, SyncAll(true), rename, sync, End(false)];
    let judged = |steps: &[&[Step]]| {
        let steps: Vec<Step> = right(0).into_iter().chain(steps.concat()).collect();
        judge(&run(&steps), &scenario(Vec::new(), None), &[&POSIX])
    };
    let good = judged(&[&bring, &cutover, &back]);
    assert_eq!(with_word(&good, "BROKEN"), [], "{:?}", good.rows);
    assert!(with_word(&good, "proved").contains(&Promise::CurrentComplete));
    // What it switched to has to be whole all the same.
    let torn = judged(&[&bring[..3], &cutover[..1], &cutover[2..], &back]);
    assert_eq!(with_word(&torn, "BROKEN"), [Promise::CurrentComplete, Promise::DurableAck]);
}

/// A removal that could not be finished, and was reported as pending or ended in a failure, is finished by the next deploy
/// that succeeds. Whoever reports nothing has to be through with it.
#[test]
fn a_removal_that_is_pending_is_finished_by_a_later_deploy() {
    let third = [
        Begin,
        Mkdir("app/r/3"),
        Write("app/r/3/f", b"three"),
        Symlink("r/3", "app/tmp"),
        SyncAll(true),
        Rename("app/tmp", "app/current"),
        Sync("app", true),
        Ack,
        Remove("app/r/1/f"),
    ];
    let (rest, nothing) = (Remove("app/r/1"), [Begin, Ack, End(true)]);
    let broken = |ends: Step, then: &[Step]| {
        let steps = right(0).into_iter().chain(right(1)).chain(third.clone()).chain([ends]);
        let steps: Vec<Step> = steps.chain(then.iter().cloned()).collect();
        let judgement = judge(&run(&steps), &scenario(Vec::new(), Some(2)), &[&POSIX]);
        // Readers that hold the directory ask the same.
        let broken = with_word(&judgement, "BROKEN");
        assert_eq!(
            broken.contains(&Promise::ReadersWhole),
            broken.contains(&Promise::ImmutableAfterCutover),
            "{broken:?}"
        );
        broken.contains(&Promise::ImmutableAfterCutover)
    };
    let finished = [Begin, rest, Ack, End(true)];
    // Nobody came who could have finished it.
    assert!(!broken(EndPending, &[]) && !broken(End(false), &[]) && broken(End(true), &[]));
    for (ends, pending) in [(EndPending, true), (End(false), true), (End(true), false)] {
        assert_eq!(broken(ends.clone(), &finished), !pending, "{ends:?}, finished");
        assert!(broken(ends.clone(), &nothing), "{ends:?}, not finished by the next");
        let late = [&[Begin, Ack, EndPending], &finished[..]].concat();
        assert_eq!(broken(ends.clone(), &late), !pending, "{ends:?}, pending once more");
        let late = [&nothing[..], &finished[..]].concat();
        assert!(broken(ends.clone(), &late), "{ends:?}, finished too late");
    }
}

/// Of a deploy that removes a release, all that follows the cutover belongs to it, and what it removes before.
#[test]
fn the_part_of_a_deploy_that_removes_a_release_begins_at_its_cutover_or_earlier() {
    let [begin, mkdir, write, link, sync, rename, durable, ack, end] = right(1).try_into().unwrap();
    let ready = [begin, mkdir, write, link, sync];
    let (switch, told) = ([rename, durable], [ack, end]);
    let remove = [Remove("app/r/1/f"), Remove("app/r/1")];
    let part = |parts: &[&[Step]]| {
        let steps: Vec<Step> = right(0).into_iter().chain(parts.concat()).collect();
        first_to_remove(&run(&steps), &scenario(Vec::new(), None))
    };
    let first = run(&right(0)).last();
    let ops = run(&right(0).into_iter().chain(ready.clone()).collect::<Vec<_>>()).last();
    let removal = |from, after_cutover| Some(Removal { deploy: 2, from, after_cutover });
    // The rename is the next op; the one after it is the first of the part.
    assert_eq!(part(&[&ready, &switch, &remove, &told]), removal(ops + 2, true));
    assert_eq!(part(&[&ready, &switch, &told[..1], &remove, &told[1..]]), removal(ops + 2, true));
    assert_eq!(part(&[&ready, &switch[..1], &remove, &switch[1..], &told]), removal(ops + 2, true));
    assert_eq!(part(&[&ready, &remove, &switch, &told]), removal(ops + 1, false));
    assert_eq!(part(&[&ready, &remove[..1], &switch, &remove[1..], &told]), removal(ops + 1, false));
    assert_eq!(part(&[&ready[..1], &remove, &ready[1..], &switch, &told]), removal(first + 1, false));
    assert_eq!(part(&[&ready, &switch, &remove[..1], &told]), None);
}

/// A deploy that reports twice has promised what it reported last, too.
#[test]
fn each_report_of_a_deploy_counts() {
    let second = right(1).into_iter().flat_map(|step| match step {
        End(ok) => vec![Remove("app/r/1/f"), End(ok)],
        step => vec![step],
    });
    let twice = right(0).into_iter().flat_map(|step| match step {
        Begin => vec![Begin, Ack],
        step => vec![step],
    });
    let steps: Vec<Step> = twice.chain(second).collect();
    let judgement = judge(&run(&steps), &scenario(Vec::new(), None), &[&POSIX]);
    let broken = with_word(&judgement, "BROKEN");
    // The first report was wrong; the release that the second one was about may not be touched.
    assert!(broken.contains(&Promise::CurrentComplete), "{broken:?}");
    assert!(broken.contains(&Promise::PreviousIntact), "{broken:?}");
}

/// A release is compared when it goes live; where its links lead is asked once more when it is reported.
#[test]
fn a_link_that_no_longer_leads_to_shared_data_makes_the_report_wrong() {
    let content = crate::tree::Content { size_bytes: 3, blocks: vec![Arc::from(&b"one"[..])] };
    let source: Tree = [
        (Vec::new(), crate::tree::Node::Dir { mode: 0o755 }),
        (b"f".to_vec(), crate::tree::Node::File { mode: 0o644, content }),
    ]
    .into();
    let scenario = scenario(vec![Arc::new(source)], None);
    let before = [Symlink("../../hop/u", "app/r/1/u"), Symlink("shared", "app/hop")];
    let turned = [Remove("app/hop"), Symlink("r", "app/hop"), SyncAll(true)];
    let [begin, mkdir, write, link, sync, rename, durable, ack, end] = right(0).try_into().unwrap();
    let ready = [&[begin, mkdir, write][..], &before, &[link, sync, rename, durable]].concat();
    for (between, broken) in [(&[][..], false), (&turned, true)] {
        let steps = [&ready, between, &[ack.clone(), end.clone()]].concat();
        let judgement = judge(&run(&steps), &scenario, &[&POSIX]);
        let row = &judgement.rows[0];
        assert_eq!(
            (row.promise, row.live.as_ref().unwrap().word() == "BROKEN"),
            (Promise::CurrentComplete, broken)
        );
    }
}

/// A tree that is deeper than is compared is neither proved nor called broken for what lies below.
#[test]
fn what_lies_too_deep_is_unknown() {
    for (depth, changed) in [(golden::MAX_DEPTH - 1, false), (golden::MAX_DEPTH + 90, false), (600, true)] {
        let mut fs = Fs::new(0, 0, 0o755);
        let app = fs.mkdir_p("app").unwrap();
        fs.start_recording();
        let mut source = Tree::from([(Vec::new(), crate::tree::Node::Dir { mode: 0o755 })]);
        for at in 1..=depth {
            source.insert(["d"].repeat(at).join("/").into_bytes(), crate::tree::Node::Dir { mode: 0o755 });
        }
        let bottom = ["d"].repeat(depth).join("/");
        let content = crate::tree::Content { size_bytes: 3, blocks: vec![Arc::from(&b"one"[..])] };
        source.insert(format!("{bottom}/f").into_bytes(), crate::tree::Node::File { mode: 0o644, content });
        for deploy in 1..=2 {
            fs.mark(MarkKind::Begin { deploy });
            fs.mkdir_p(format!("app/r/{deploy}/{bottom}")).unwrap();
            fs.write_file(format!("app/r/{deploy}/{bottom}/f"), b"one").unwrap();
            fs.symlink_at(format!("r/{deploy}"), "app/next").unwrap();
            fs.sync(SyncScope::All, true);
            fs.rename(app, b"next", app, b"current", RenameHow::Replace).unwrap();
            fs.sync(SyncScope::Dir(app), true);
            fs.mark(MarkKind::Ack { deploy });
            if changed {
                fs.write_file(format!("app/r/{deploy}/{bottom}/extra"), b"x").unwrap();
            }
            fs.mark(MarkKind::End { deploy, ok: true, cleanup_pending: false });
        }
        let source = Arc::new(source);
        let judgement = judge(fs.trace(), &scenario(vec![source.clone(), source], None), &[&POSIX]);
        assert_eq!(with_word(&judgement, "BROKEN"), [], "{depth}: {:?}", judgement.rows);
        let deep = depth > golden::MAX_DEPTH;
        assert_eq!(with_word(&judgement, "proved").is_empty(), deep, "{depth}: {:?}", judgement.rows);
        assert_eq!(with_word(&judgement, "unknown").is_empty(), !deep, "{depth}: {:?}", judgement.rows);
    }
}

/// A deploy that is cut off before anything went live has shown nothing.
#[test]
fn a_trace_without_acknowledgement_proves_nothing() {
    let steps = [Begin, Mkdir("app/r/1"), End(false)];
    let judgement = judge(&run(&steps), &scenario(Vec::new(), Some(1)), &[&POSIX]);
    let words: Vec<_> = judgement.rows.iter().flat_map(Row::verdicts).map(Verdict::word).collect();
    assert!(words.iter().all(|word| word != "BROKEN"), "{words:?}");
    // Shared data was there, and nothing touched it.
    assert_eq!(words.iter().filter(|word| **word == "proved").count(), 2, "{words:?}");
}

#[test]
fn walks_follow_links_as_the_kernel_does() {
    let mut fs = Fs::new(0, 0, 0o755);
    fs.mkdir_p("app/r/1").unwrap();
    for (name, target) in [
        ("relative", "r/1"),
        ("absolute", "/disk/app/r/1"),
        ("out-and-in", "../../disk/./app//r/1/"),
        ("chain", "relative"),
        ("loop", "loop"),
        ("outside", "/etc"),
        ("dangling", "r/2"),
        ("dots", "r/1/../../r/1"),
    ] {
        fs.symlink_at(target, format!("app/{name}")).unwrap();
    }
    fs.write_file("app/file", b"x").unwrap();
    fs.start_recording();
    let trace = fs.trace().clone();
    let at = fs.resolve("app/r/1").unwrap();
    let end = |path: &str| walk_live(&trace, 0, &names(b"/disk"), &names(path.as_bytes())).0;
    let dir = |end: End| match end {
        End::Dir { ino, path } => (ino, path) == (at, names(b"app/r/1")),
        _ => false,
    };
    for name in ["relative", "absolute", "out-and-in", "chain", "dots"] {
        assert!(dir(end(&format!("app/{name}"))), "{name}: {:?}", end(&format!("app/{name}")));
    }
    assert_eq!(end("app/dangling"), End::Nothing);
    assert_eq!(end("app/nothing/at/all"), End::Nothing);
    assert!(matches!(end("app/loop"), End::Elsewhere(_)));
    assert!(matches!(end("app/outside"), End::Elsewhere(_)));
    assert!(matches!(end("app/file"), End::File { .. }));
    assert!(matches!(end("app/file/below"), End::Elsewhere(_)));
}

impl Disk<'_> {
    fn current(&self, scenario: &Scenario) -> Option<(Ino, Vec<u8>)> {
        self.directory_at(&scenario.mount, &scenario.current_path())
    }
}
