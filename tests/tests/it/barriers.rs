//! Each sync call of the engine is taken out of what it did, wherever it makes it, and something has to miss it: a promise
//! over the recorded trace, or the next run after a power loss that could not have left this otherwise.
//!
//! What misses none is listed with the reason. A call that the engine makes at a new place is not known here: then the test
//! fails until it is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Write as _};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cutover_certify::judge::classes::survey_lacking;
use cutover_certify::judge::{Past, Pasts, Scenario, Verdict, judge, op_in_words};
use cutover_certify::record::{Action, Plan, RecordError};
use cutover_certify::rerun::{Fate, Ran, Reruns, Step, WhenHanging};
use cutover_certify::tool::Ended;
use cutover_certify::tree;
use simfs::fault::{Calls, Fault, Schedule, When};
use simfs::{
    BlockStore, CrashState, Crashes, EffectId, Fs, Ino, Kind, MarkKind, Name, OpKind, POSIX, Seq, SyncScope,
    Trace, View,
};

use crate::look::Look;
use crate::random_histories::can_record;
use crate::room::program;

/// The versions that are deployed, in order: the fourth twice, so that there is a deploy with nothing to do.
const VERSIONS: [usize; 7] = [1, 2, 3, 4, 4, 5, 6];

/// Runs that deploy nothing have greater numbers than all that do.
const NOTHING_TO_DEPLOY: u32 = 1000;

fn write_version(dir: &Path, n: usize) {
    fs::create_dir_all(dir.join("lib")).unwrap();
    fs::write(dir.join("index"), format!("version {n}\n")).unwrap();
    fs::write(dir.join("same"), "always the same\n").unwrap();
    fs::write(dir.join("lib/code"), format!("{n}\n").repeat(3000)).unwrap();
}

/// What happens on a host.
struct History {
    name: &'static str,
    from_nothing: bool,
    steps: Vec<Step>,
}

fn command(action: Action, number: u32) -> Step {
    Step { action, ..Step::deploy(NOTHING_TO_DEPLOY + number) }
}

/// A deploy whose processes are all killed while it makes this call, the `nth` of its kind, which then goes on.
fn killed(deploy: u32, calls: Calls, nth: u64, path: &str) -> Step {
    let faults = Schedule::one(When::nth(calls, nth).path(path), Fault::Hang);
    Step { faults, when_hanging: Some(WhenHanging::KillClient), ..Step::deploy(deploy) }
}

/// Histories in which the engine makes each of its sync calls. What was killed has not become durable when the next run
/// begins.
fn histories() -> Vec<History> {
    let plain = |deploys: &[u32]| deploys.iter().map(|n| Step::deploy(*n)).collect::<Vec<_>>();
    let new = |name, before: &[u32], then: Vec<Step>| History {
        name,
        from_nothing: false,
        steps: plain(before).into_iter().chain(then).collect(),
    };
    let in_cutover = || killed(4, Calls::RENAME, 1, "app/current");
    let in_mark = || killed(4, Calls::CREATE, 1, "app/.cutover/seals/*.live");
    let in_prune = || killed(4, Calls::UNLINK, 2, "app/.cutover/seals/*");
    let copying = killed(2, Calls::CREATE, 1, "app/releases/*/lib/code");
    let sealing = killed(2, Calls::RENAME, 1, "app/.cutover/seals/*");
    let removing = killed(4, Calls::UNLINK, 1, "app/releases/*/index");
    let [rollback, prune, recover] =
        [(Action::Rollback, 1), (Action::Prune, 2), (Action::Recover, 3)].map(|(a, n)| command(a, n));
    vec![
        History { name: "from nothing", from_nothing: true, steps: plain(&[1, 2]) },
        new("deploys", &[1, 2, 3, 4, 5], vec![]),
        new("killed while copying", &[1], vec![copying, Step::deploy(3)]),
        new("killed when sealed", &[1], vec![sealing, Step::deploy(3), Step::deploy(4)]),
        new("killed in the cutover", &[1, 2, 3], vec![in_cutover(), Step::deploy(5), Step::deploy(6)]),
        new("killed in the cutover, then on", &[1, 2, 3], vec![in_cutover(), Step::deploy(6)]),
        new("killed while marking", &[1, 2, 3], vec![in_mark(), Step::deploy(6)]),
        new("killed before removing", &[1, 2, 3], vec![in_prune(), Step::deploy(6)]),
        new("killed while removing", &[1, 2, 3], vec![removing, Step::deploy(6)]),
        new("back and on", &[1, 2, 3], vec![rollback.clone(), Step::deploy(4), recover.clone()]),
        new("killed in the cutover, then back", &[1, 2, 3], vec![in_cutover(), rollback, Step::deploy(6)]),
        new("killed in the cutover, then pruned", &[1, 2, 3], vec![in_cutover(), prune]),
        new("killed while marking, then recovered", &[1, 2, 3], vec![in_mark(), recover.clone()]),
        new("killed before removing, then recovered", &[1, 2, 3], vec![in_prune(), recover]),
    ]
}

/// Where the engine makes sync calls, and what of: all calls of one place have one name.
fn places(trace: &Trace, scenario: &Scenario) -> BTreeMap<String, Vec<Seq>> {
    let begins = |seq: Seq| {
        let begin = |kind: &MarkKind| matches!(kind, MarkKind::Begin { .. });
        trace.marks().iter().any(|mark| mark.after + 1 == seq && begin(&mark.kind))
    };
    let what = |seq: Seq| match trace.ops().get(seq as usize)?.kind {
        OpKind::Sync { scope: SyncScope::All, .. } => Some("everything".to_owned()),
        OpKind::Sync { .. } => {
            let words = op_in_words(trace, scenario, seq);
            let (_, path) = words.split_once("/app").expect("the deploy path is `app`");
            Some(format!(".{}", path.trim_end_matches(')')))
        }
        _ => None,
    };
    let mut found: BTreeMap<String, Vec<Seq>> = BTreeMap::new();
    let (mut cut_over, mut pruning) = (false, false);
    let mut seq = 1;
    while seq <= trace.last() {
        if begins(seq) {
            (cut_over, pruning) = (false, false);
        }
        let here: Vec<String> = (seq..seq + 4).map_while(what).collect();
        let here: Vec<&str> = here.iter().map(String::as_str).collect();
        // A run opens the path, sweeps and notes; then come barrier and cutover, then the rest.
        let (verb, len): (&str, Seq) = match (&here[..], cut_over) {
            ([], _) => {
                seq += 1;
                continue;
            }
            (["everything", ..], _) => ("barrier", 1),
            (["./.cutover/probe/file", "./.cutover/probe", ..], false) => ("probe", 2),
            ([".", "./.cutover", "./.cutover/unfinished", "./.cutover/seals"], false) => ("intend", 4),
            ([".", ..], false) => ("open", 1),
            (["./.cutover/seals" | "./releases", ..], false) => ("sweep", 1),
            ([".", ..], true) => ("cutover", 1),
            (["./.cutover/seals", "./.cutover/unfinished", ..], true) => ("mark", 2),
            (["./.cutover/unfinished" | "./releases", ..], true) => ("prune", 1),
            (["./.cutover/seals", ..], true) if pruning => ("prune", 1),
            (["./.cutover/seals", ..], true) => ("forget", 1),
            (["./.cutover/log", ..], true) => ("log", 1),
            (other, _) => panic!("the engine makes a sync call that nobody has described: {other:?}"),
        };
        cut_over |= verb == "barrier";
        pruning |= verb == "prune";
        let calls = seq..seq + len;
        for (call, what) in calls.clone().zip(&here) {
            found.entry(format!("{verb}: {what}")).or_default().push(call);
        }
        // Where one may stand in for another, without both as well.
        if verb == "mark" {
            found.entry("mark: both".to_owned()).or_default().extend(calls.clone());
        }
        if ["intend", "mark", "forget"].contains(&verb) {
            let of_seals = calls.clone().zip(&here).filter(|(_, what)| **what == "./.cutover/seals");
            found
                .entry("intend, mark and forget: ./.cutover/seals".to_owned())
                .or_default()
                .extend(of_seals.map(|(call, _)| call));
        }
        seq = calls.end;
    }
    found
}

/// The most runs that are made to find out who misses a call.
const MOST: usize = 1000;

/// What is wrong before the next run has begun.
const LOG_LACKS: &str = "the log lacks what was in it when a run had ended";

/// How many runs are made before it is looked whether one of them has found something.
const AT_ONCE: usize = 8;

/// Calls that nothing misses, each with the reason.
const NOT_MISSED: [(&str, &str); 9] = [
    (
        "forget: ./.cutover/seals",
        "barrier and `mark` have made all markers durable before; only a recovery where nothing is live has neither",
    ),
    (
        "intend, mark and forget: ./.cutover/seals",
        "what is live counts without; the next barrier comes before the next cutover",
    ),
    ("intend: .", "`open` has synced it, and nothing in it has changed since"),
    ("intend: ./.cutover/seals", "a marker that recovery adds is of what is live, which counts without"),
    ("mark: ./.cutover/seals", "what is live counts without; who switches by hand misses it"),
    (
        "mark: ./.cutover/unfinished",
        "a note that comes back is of a release that counts; it is removed again",
    ),
    ("mark: both", "what is live counts without; who switches by hand misses it"),
    ("probe: ./.cutover/probe", "it tries whether directories can be synced"),
    ("probe: ./.cutover/probe/file", "it tries whether files can be synced"),
];

/// A history as it went.
struct Recorded {
    name: &'static str,
    ran: Ran,
    releases: Releases,
}

/// A digest of each release that went live, by its id.
type Releases = BTreeMap<String, u64>;

impl Look<'_> {
    fn log(&self) -> Vec<u8> {
        let Some(log) = self.find(".cutover/log") else { return Vec::new() };
        let size = self.0.size_bytes(log);
        let blocks = (0..size.div_ceil(simfs::BLOCK_BYTES)).map(|n| self.0.block(log, n));
        let mut bytes = blocks.fold(Vec::new(), |mut bytes: Vec<u8>, block| {
            bytes.extend_from_slice(block);
            bytes.resize(bytes.len().next_multiple_of(simfs::BLOCK_BYTES as usize), 0);
            bytes
        });
        bytes.resize(size as usize, 0);
        bytes
    }

    fn release(&self, id: &str) -> Option<Ino> {
        self.find(&format!("releases/{id}"))
    }

    /// Of all that is in a tree.
    fn digest(&self, ino: Ino) -> u64 {
        let view = self.0;
        let mut digest = DefaultHasher::new();
        let is_dir = view.birth(ino).is_some_and(|birth| birth.kind == Kind::Dir);
        (is_dir, view.mode(ino), view.target(ino), view.size_bytes(ino)).hash(&mut digest);
        let blocks = view.size_bytes(ino).div_ceil(simfs::BLOCK_BYTES);
        (0..blocks).for_each(|n| view.block(ino, n).hash(&mut digest));
        for (name, child) in view.entries(ino) {
            (&name[..], self.digest(child)).hash(&mut digest);
        }
        digest.finish()
    }
}

/// The releases as they went live.
fn releases(trace: &Trace) -> Releases {
    let mut found = Releases::new();
    for (seq, op) in (0..).zip(trace.ops()) {
        if matches!(&op.kind, OpKind::Rename { to, .. } if to[..] == *b"current") {
            let look = Look(View::live(trace, seq));
            let link = look.find("current").map(|link| String::from_utf8_lossy(look.0.target(link)));
            let id = link.and_then(|text| text.strip_prefix("releases/").map(str::to_owned));
            if let Some(release) = id.as_deref().and_then(|id| look.release(id)) {
                found.entry(id.unwrap_or_default()).or_insert_with(|| look.digest(release));
            }
        }
    }
    found
}

/// What the next run has left that no run ever puts in order; nothing if all is well.
fn left(ran: &Ran, releases: &Releases) -> Option<String> {
    let (found, look) = (Look(View::live(&ran.trace, 0)), Look(View::live(&ran.trace, ran.trace.last())));
    let (there, seals) = (look.names("releases"), look.names(".cutover/seals"));
    let is_counted = |id: &str| seals.contains(id) && seals.contains(&format!("{id}.live"));
    let links = look.names(".cutover").into_iter().filter(|name| name.starts_with("next."));
    if links.chain(look.names(".cutover/staging")).chain(look.names(".cutover/unfinished")).next().is_some() {
        return Some("what is unfinished stays".to_owned());
    }
    if there.iter().any(|id| !is_counted(id)) {
        return Some("a release stays that does not count, and that no note tells of".to_owned());
    }
    let is_damaged = |id: &&String| {
        let is = look.release(id);
        is.is_some_and(|is| {
            found.release(id) == Some(is) && releases.get(*id).is_some_and(|was| *was != look.digest(is))
        })
    };
    if there.iter().any(|id| is_damaged(&id)) {
        return Some("a damaged release counts".to_owned());
    }
    let is_of_none = |name: &&String| !there.contains(name.trim_end_matches(".live"));
    seals.iter().find(is_of_none).map(|_| "a seal or a marker of no release stays".to_owned())
}

/// A state to start from: how it looks, and what the tool is told.
struct Job {
    class: String,
    state: CrashState,
    told: u32,
}

struct Try<'a> {
    reruns: &'a Reruns<'a>,
    recorded: &'a Recorded,
    /// What is taken out.
    calls: &'a [Seq],
    /// The history without it.
    without: Ran,
}

impl Try<'_> {
    fn new<'a>(reruns: &'a Reruns<'a>, recorded: &'a Recorded, calls: &'a [Seq]) -> Try<'a> {
        let ran = &recorded.ran;
        let without = Ran {
            trace: ran.trace.clone().without_syncs(calls),
            scenario: ran.scenario.clone(),
            times: ran.times.clone(),
            runs: Vec::new(),
            hits: Vec::new(),
        };
        Try { reruns, recorded, calls, without }
    }

    /// The promises that are proved with the calls, and not without.
    fn missed(&self) -> Vec<&'static str> {
        let proved = |ran: &Ran| -> Vec<&'static str> {
            let judgement = judge(&ran.trace, &ran.scenario, &[&POSIX]);
            let rows = judgement.rows.iter().filter(|row| row.under(POSIX.name) == Some(&Verdict::Proved));
            rows.map(|row| row.promise.name()).collect()
        };
        let without = proved(&self.without);
        proved(&self.recorded.ran).into_iter().filter(|promise| !without.contains(promise)).collect()
    }

    /// One state of each class that is possible only without the calls; if there are none, of each class. Two of three have
    /// lost nothing but what the calls would have forced, as long as there are such.
    fn jobs(&self, seed: u64) -> Vec<Job> {
        let trace = &self.without.trace;
        let crashes = Crashes::new(trace, &POSIX);
        let with = Crashes::new(&self.recorded.ran.trace, &POSIX);
        let pasts = Pasts::new(trace, &self.without.scenario);
        let forced = |effect: EffectId, k: Seq| self.calls.is_empty() || with.forced_at(effect) <= k;
        let found = survey_lacking(&crashes, &self.without.scenario, &pasts, seed, &forced);
        let mut classes: Vec<(String, CrashState)> = found.members.into_iter().collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut classes);
        let lost_no_other = |state: &CrashState| {
            let effects = (0..trace.effects().len() as u32).map(EffectId);
            let mut made = effects.take_while(|effect| trace.effect(*effect).seq <= state.at);
            made.all(|effect| state.contains(&crashes, effect) || forced(effect, state.at))
        };
        let (these, others): (Vec<_>, Vec<_>) =
            classes.into_iter().partition(|(_, state)| lost_no_other(state));
        let (mut these, mut others) = (these.into_iter(), others.into_iter());
        let mixed = std::iter::from_fn(|| {
            let next: Vec<_> = these.by_ref().take(2).chain(others.by_ref().take(1)).collect();
            (!next.is_empty()).then_some(next)
        });
        let job = |(at, (class, state)): (usize, (String, CrashState))| {
            // The same once more, or the next one.
            let deploy = pasts.deploy_at(state.at) + u32::from(at % 4 == 3);
            Job { class, told: deploy.min(VERSIONS.len() as u32), state }
        };
        mixed.flatten().enumerate().map(job).collect()
    }

    /// Boots into a state, deploys, and says what is wrong then.
    fn run(&self, job: &Job) -> Option<String> {
        let trace = &self.without.trace;
        let (disk, past) = self.without.reboot(&job.state);
        let ended = |mark: &&simfs::Mark| matches!(mark.kind, MarkKind::End { ok: true, .. });
        let before = trace.marks().iter().filter(ended).rfind(|mark| mark.after <= job.state.at);
        let lines = before.map(|mark| Look(View::live(trace, mark.after)).log()).unwrap_or_default();
        let ran = self.reruns.run(disk, past, &[Step::deploy(job.told)]).expect("it can be run");
        let found = Look(View::live(&ran.trace, 0));
        // The first line comes with the name of the log, which is not durable with it under `posix`.
        if found.find(".cutover/log").is_some() && !found.log().starts_with(&lines) {
            return Some(LOG_LACKS.to_owned());
        }
        match ran.fate() {
            Fate::Held => left(&ran, &self.recorded.releases),
            Fate::Broken(lines) => Some(lines.join("\n    ")),
            Fate::Unknown(why) => panic!("{why}"),
            Fate::Interrupted => panic!("nobody interrupts it"),
        }
    }
}

/// Something that is wrong, and where it was found.
struct Found {
    wrong: String,
    history: &'static str,
    class: String,
}

impl fmt::Display for Found {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}, in \"{}\", from: {}", self.wrong, self.history, self.class)
    }
}

/// Runs the engine in states of all histories in turn, so many at most, until something is wrong; and how often it ran.
fn search(reruns: &Reruns<'_>, tries: &[Try<'_>], most: usize) -> (usize, Option<Found>) {
    let mut jobs: Vec<Option<VecDeque<Job>>> = tries.iter().map(|_| None).collect();
    let mut tried = 0;
    loop {
        let before = tried;
        for (one, jobs) in tries.iter().zip(&mut jobs) {
            let jobs = jobs.get_or_insert_with(|| one.jobs(1).into());
            let some = AT_ONCE.min(jobs.len()).min(most - tried);
            let some: Vec<Job> = jobs.drain(..some).collect();
            tried += some.len();
            let wrong = reruns.each(&some, |job| Ok(one.run(job))).expect("it can be run");
            if let Some((job, Some(wrong))) = some.into_iter().zip(wrong).find(|(_, wrong)| wrong.is_some()) {
                return (tried, Some(Found { wrong, history: one.recorded.name, class: job.class }));
            }
        }
        if tried == before {
            return (tried, None);
        }
    }
}

/// Calls with what is needed to run the engine; not at all where that cannot be.
fn with_engine(run: impl FnOnce(&Reruns<'_>)) {
    if !can_record() {
        return;
    }
    let dir = tempfile::Builder::new().prefix("cutover-barriers-").tempdir().unwrap();
    let sources: Vec<PathBuf> = VERSIONS.map(|n| dir.path().join(n.to_string())).to_vec();
    (0..VERSIONS.len()).for_each(|at| write_version(&sources[at], VERSIONS[at]));
    let plan = Plan { sources, ..Plan::for_cutover(program("cutover")) };
    let store = BlockStore::default();
    let scenario = Scenario {
        // Set by each run.
        mount: Vec::new(),
        deploy_path: vec![Name::from(&b"app"[..])],
        sources: plan.sources.iter().map(|dir| Arc::new(tree::read_dir(dir, &store).unwrap())).collect(),
        expect: plan.expect.clone(),
        keep: plan.keep,
        past: None,
    };
    run(&Reruns { plan: &plan, scenario: &scenario, interrupted: &|| false, tick: &|| () });
}

impl Recorded {
    fn new(reruns: &Reruns<'_>, history: &History) -> Result<Self, RecordError> {
        let mut disk = Fs::new(0, 0, 0o755);
        if !history.from_nothing {
            disk.mkdir_p("app").expect("an empty disk takes a directory");
        }
        disk.start_recording();
        let ran = reruns.run(disk, Past::default(), &history.steps)?;
        Ok(Self { name: history.name, releases: releases(&ran.trace), ran })
    }
}

#[test]
fn each_sync_call_of_the_engine_is_missed() {
    with_engine(|reruns| {
        let slow = std::env::var("CUTOVER_SLOW_TESTS").as_deref() == Ok("1");
        let shown = who_misses_what(reruns, if slow { 48 } else { 24 });
        insta::assert_snapshot!(shown, @r"
        barrier: everything: a promise over the trace
        cutover: .: a promise over the trace
        forget: ./.cutover/seals: nothing, no state is possible without it: barrier and `mark` have made all markers durable before; only a recovery where nothing is live has neither
        intend, mark and forget: ./.cutover/seals: nothing: what is live counts without; the next barrier comes before the next cutover
        intend: .: nothing, no state is possible without it: `open` has synced it, and nothing in it has changed since
        intend: ./.cutover: the next run
        intend: ./.cutover/seals: nothing: a marker that recovery adds is of what is live, which counts without
        intend: ./.cutover/unfinished: the next run
        log: ./.cutover/log: who reads the log
        mark: ./.cutover/seals: nothing: what is live counts without; who switches by hand misses it
        mark: ./.cutover/unfinished: nothing: a note that comes back is of a release that counts; it is removed again
        mark: both: nothing: what is live counts without; who switches by hand misses it
        open: .: the next run
        probe: ./.cutover/probe: nothing: it tries whether directories can be synced
        probe: ./.cutover/probe/file: nothing: it tries whether files can be synced
        prune: ./.cutover/seals: the next run
        prune: ./.cutover/unfinished: the next run
        prune: ./releases: the next run
        sweep: ./.cutover/seals: the next run
        sweep: ./releases: the next run
        ");
    });
}

/// For each place at which the engine makes sync calls. So many runs at most are made where nothing misses them.
fn who_misses_what(reruns: &Reruns<'_>, most: usize) -> String {
    let histories = histories();
    let recorded = reruns.each(&histories, |history| Recorded::new(reruns, history));
    let recorded = recorded.expect("it can be run");
    let mut all: BTreeMap<String, Vec<(&Recorded, Vec<Seq>)>> = BTreeMap::new();
    for (history, recorded) in histories.iter().zip(&recorded) {
        let ended = |step: &Step| if step.when_hanging.is_some() { Ended::Killed } else { Ended::Exit(0) };
        let expected: Vec<Ended> = history.steps.iter().map(ended).collect();
        let is: Vec<Ended> = recorded.ran.runs.iter().map(|(_, run)| run.ended.clone()).collect();
        assert_eq!(is, expected, "{}", history.name);
        assert_eq!(recorded.ran.fate(), Fate::Held, "{}", history.name);
        for (place, calls) in places(&recorded.ran.trace, &recorded.ran.scenario) {
            all.entry(place).or_default().push((recorded, calls));
        }
    }
    let with_all: Vec<Try<'_>> = recorded.iter().map(|recorded| Try::new(reruns, recorded, &[])).collect();
    let (_, found) = search(reruns, &with_all, most);
    if let Some(found) = found {
        panic!("with all its sync calls: {found}");
    }
    let (mut shown, mut missed, mut of) = (String::new(), 0, 0);
    for (place, here) in &all {
        let is_one_call = !place.contains(" and ") && !place.ends_with("both");
        of += u32::from(is_one_call);
        let tries: Vec<Try<'_>> =
            here.iter().map(|(recorded, calls)| Try::new(reruns, recorded, calls)).collect();
        let promises: BTreeSet<&str> = tries.iter().flat_map(Try::missed).collect();
        if !promises.is_empty() {
            missed += u32::from(is_one_call);
            println!("{place}: {promises:?}");
            let _ = writeln!(shown, "{place}: a promise over the trace");
            continue;
        }
        let reason = NOT_MISSED.iter().find(|(of, _)| of == place).map(|(_, reason)| reason);
        let (tried, found) = search(reruns, &tries, if reason.is_some() { most } else { MOST });
        let told = found.as_ref().map_or_else(|| "nothing".to_owned(), Found::to_string);
        println!("{place}: {tried} runs: {told}");
        let by = match (&found, reason) {
            (Some(found), _) if found.wrong == LOG_LACKS => "who reads the log".to_owned(),
            (Some(_), _) => "the next run".to_owned(),
            (None, None) => format!("nothing, after {tried} runs"),
            (None, Some(reason)) if tried == 0 => {
                format!("nothing, no state is possible without it: {reason}")
            }
            (None, Some(reason)) => format!("nothing: {reason}"),
        };
        missed += u32::from(is_one_call && found.is_some());
        let _ = writeln!(shown, "{place}: {by}");
    }
    // Shown though the test passes.
    let score = format!("mutation score, sync calls of the engine that something misses: {missed} of {of}");
    let _ = writeln!(std::io::stderr(), "{score}");
    shown
}

/// What the engine itself does not miss of `mark`: without its marker, a release that was live, and that somebody switches away
/// from by hand after a power loss, would pass for one whose run died before its cutover.
#[test]
fn a_marker_is_for_who_switches_by_hand() {
    with_engine(|reruns| {
        let steps = [1, 2].map(Step::deploy).to_vec();
        let history = History { name: "deploys", from_nothing: false, steps };
        let recorded = Recorded::new(reruns, &history).expect("it can be run");
        let places = places(&recorded.ran.trace, &recorded.ran.scenario);
        let [older, newer] = [0, 1].map(|nth| recorded.releases.keys().nth(nth).expect("two went live"));
        for (calls, counts) in [
            (&[][..], true),
            (&places["mark: both"], false),
            (&places["mark: ./.cutover/seals"], false),
            (&places["mark: ./.cutover/unfinished"], true),
        ] {
            let one = Try::new(reruns, &recorded, calls);
            // All that was not forced is lost.
            let state = CrashState { at: one.without.trace.last(), ..CrashState::default() };
            let (mut disk, past) = one.without.reboot(&state);
            let top = disk.resolve("app").expect("the deploy path");
            disk.unlink(top, b"current").expect("it was durable");
            disk.symlink_at(format!("releases/{older}"), "app/current").expect("a new name");
            let ran = reruns.run(disk, past, &[Step::deploy(3)]).expect("it can be run");
            assert_eq!(ran.runs[0].1.ended, Ended::Exit(0));
            let look = Look(View::live(&ran.trace, ran.trace.last()));
            let is_marked = look.names(".cutover/seals").contains(&format!("{newer}.live"));
            assert_eq!(look.release(newer).is_some() && is_marked, counts, "{calls:?}");
        }
    });
}
