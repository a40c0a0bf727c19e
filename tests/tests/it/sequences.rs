//! One host through anything: deploys, rollbacks, prunes and recoveries in any order, each left alone, killed, cut off, or
//! followed by a power loss; and it goes on from what that has left.
//!
//! After each step every promise holds, in every state that a reader could have seen and that a power loss under `posix`
//! could have left; and whatever happened before, a deploy that is left alone succeeds, without a manual step.
//! [`crate::chance`] says which sequences are tried.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cutover_certify::judge::{Past, Scenario};
use cutover_certify::record::{Action, Plan};
use cutover_certify::rerun::{Fate, Ran, Reruns, Step, WhenHanging};
use cutover_certify::tool::Ended;
use cutover_certify::tree;
use proptest::collection::vec;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use simfs::crash::Samples;
use simfs::fault::{Calls, Fault, Schedule, When};
use simfs::{BlockStore, Crashes, Fs, MarkKind, Name, POSIX, Trace, View};

use crate::chance;
use crate::look::Look;
use crate::random_histories::can_record;
use crate::room::program;

/// How many versions of the application there are.
const VERSIONS: usize = 4;

/// More changes than any run makes here: a disturbance later than its end never comes.
const MOST_CHANGES: u64 = 170;

/// Runs that deploy nothing have greater numbers than all that do.
const NOTHING_TO_DEPLOY: u32 = 1000;

/// What the user does.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Command {
    Deploy(usize),
    Rollback,
    Prune,
    Recover,
}

/// What happens meanwhile.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Meanwhile {
    Nothing,
    /// While so many changes of the disk have been made, and the next one hangs.
    Kill(u64),
    Cut(u64),
    /// At one of so many parts of the run, with survivors by a seed.
    PowerLoss {
        thousandth: u32,
        seed: u64,
    },
}

type Sequence = Vec<(Command, Meanwhile)>;

fn sequence() -> impl Strategy<Value = Sequence> {
    let command = prop_oneof![
        6 => (0..VERSIONS).prop_map(Command::Deploy),
        4 => Just(Command::Rollback),
        1 => Just(Command::Prune),
        1 => Just(Command::Recover),
    ];
    let meanwhile = prop_oneof![
        4 => Just(Meanwhile::Nothing),
        2 => (1..MOST_CHANGES).prop_map(Meanwhile::Kill),
        2 => (1..MOST_CHANGES).prop_map(Meanwhile::Cut),
        3 => (0..=1000_u32, any::<u64>())
            .prop_map(|(thousandth, seed)| Meanwhile::PowerLoss { thousandth, seed }),
    ];
    // Mostly there are releases to go back to.
    let plain = (0..VERSIONS).prop_map(|version| (Command::Deploy(version), Meanwhile::Nothing));
    (vec(plain, 0..4), vec((command, meanwhile), 3..8)).prop_map(|(first, then)| [first, then].concat())
}

/// The application: each version differs from each other in content, type and place, and collides with user data.
fn write_versions(root: &Path) -> Vec<PathBuf> {
    let version = |n: usize| {
        let dir = root.join(format!("v{n}"));
        let write = |name: &str, text: String| {
            let at = dir.join(name);
            fs::create_dir_all(at.parent().expect("parent")).unwrap();
            fs::write(at, text).unwrap();
        };
        write("index", format!("version {n}\n"));
        write("same", "always the same\n".to_owned());
        write("lib/code", format!("{n}\n").repeat(3000));
        write(&format!("lib/only-{n}"), "here\n".to_owned());
        match n % 4 {
            // Beside user data, below it, in place of it, and none of these.
            0 => write("public/style", "css\n".to_owned()),
            1 => write("public/media/cat", "app's\n".to_owned()),
            2 => write("public", "a file\n".to_owned()),
            _ => symlink("lib", dir.join("public")).unwrap(),
        }
        if n.is_multiple_of(2) {
            symlink("index", dir.join("odd")).unwrap();
        } else {
            write("odd/even", "dir\n".to_owned());
        }
        dir
    };
    (0..VERSIONS).map(version).collect()
}

/// The disk before everything: a deploy path with user data.
fn first_disk() -> Fs {
    let mut disk = Fs::new(0, 0, 0o755);
    let fill = |disk: &mut Fs| -> simfs::FsResult<()> {
        disk.mkdir_p("app/shared/public/media")?;
        disk.write_file("app/shared/public/media/cat", b"meow\n")?;
        disk.write_file("app/shared/log", b"what the application wrote at run time\n").map(drop)
    };
    fill(&mut disk).expect("an empty disk takes a few files");
    disk.start_recording();
    disk
}

/// What was tried, over all sequences.
#[derive(Debug, Default)]
struct Tally {
    runs: AtomicU32,
    disturbed: AtomicU32,
    power_losses: AtomicU32,
    rollbacks: AtomicU32,
}

/// Goes through a sequence; what is wrong, if anything is.
fn complaint(sequence: &Sequence, tally: &Tally) -> Option<String> {
    let dir = tempfile::Builder::new().prefix("cutover-sequence-").tempdir().unwrap();
    let versions = write_versions(dir.path());
    // In the end there always is a deploy that nothing disturbs.
    let mut steps = sequence.clone();
    steps.push((Command::Deploy(0), Meanwhile::Nothing));
    let deployed = |(command, _): &(Command, Meanwhile)| match command {
        Command::Deploy(version) => Some(*version),
        _ => None,
    };
    let sources: Vec<usize> = steps.iter().filter_map(deployed).collect();
    let plan = Plan {
        sources: sources.iter().map(|version| versions[*version].clone()).collect(),
        ..Plan::for_cutover(program("cutover"))
    };
    let store = BlockStore::default();
    let trees: Vec<_> =
        versions.iter().map(|dir| Arc::new(tree::read_dir(dir, &store).expect("just written"))).collect();
    let scenario = Scenario {
        // Set by each run.
        mount: Vec::new(),
        deploy_path: vec![Name::from(&b"app"[..])],
        sources: sources.iter().map(|version| trees[*version].clone()).collect(),
        expect: plan.expect.clone(),
        keep: plan.keep,
        past: None,
    };
    let reruns = Reruns { plan: &plan, scenario: &scenario, interrupted: &|| false, tick: &|| () };
    let (mut disk, mut past) = (first_disk(), Past::default());
    let (mut deploys, mut at) = (0, 0);
    // From one power loss to the next.
    while at < steps.len() {
        let lost = steps[at..].iter().position(|(_, m)| matches!(m, Meanwhile::PowerLoss { .. }));
        let until = lost.map_or(steps.len(), |more| at + more + 1);
        let runs: Vec<Step> = (at..until).map(|step| run(&steps[step], step, &mut deploys)).collect();
        let story = |what: &str| Some(format!("steps {at} to {}: {what}", until - 1));
        let ran = match reruns.run(disk, past, &runs) {
            Ok(ran) => ran,
            Err(error) => return story(&format!("could not be run: {error}")),
        };
        if let Some(what) = wrong_end(&ran, &steps[at..until], tally) {
            return story(&what);
        }
        match ran.promises(&[], "whatever they ended with") {
            Fate::Held => {}
            Fate::Broken(lines) => return story(&lines.join("\n")),
            Fate::Unknown(why) => return story(&why),
            Fate::Interrupted => return story("interrupted"),
        }
        let Some((_, Meanwhile::PowerLoss { thousandth, seed })) = steps[..until].last() else { break };
        tally.power_losses.fetch_add(1, Ordering::Relaxed);
        let begin = ran.trace.marks().iter().rev().find_map(|mark| match mark.kind {
            MarkKind::Begin { .. } => Some(mark.after),
            _ => None,
        });
        let begin = begin.unwrap_or(0);
        let lost_at = begin + (ran.trace.last() - begin) * thousandth / 1000;
        let crashes = Crashes::new(&ran.trace, &POSIX);
        let state = Samples::new(&crashes, lost_at, *seed).next_state();
        (disk, past) = ran.reboot(&state);
        at = until;
    }
    None
}

fn run((command, meanwhile): &(Command, Meanwhile), at: usize, deploys: &mut u32) -> Step {
    let action = match command {
        Command::Deploy(_) => Action::Deploy,
        Command::Rollback => Action::Rollback,
        Command::Prune => Action::Prune,
        Command::Recover => Action::Recover,
    };
    let number = if action == Action::Deploy {
        *deploys += 1;
        *deploys
    } else {
        NOTHING_TO_DEPLOY + at as u32
    };
    let hang = |nth| Schedule::one(When::nth(Calls::default(), nth), Fault::Hang);
    let (faults, when_hanging) = match meanwhile {
        Meanwhile::Kill(nth) => (hang(*nth), Some(WhenHanging::KillClient)),
        Meanwhile::Cut(nth) => (hang(*nth), Some(WhenHanging::CutConnections)),
        Meanwhile::Nothing | Meanwhile::PowerLoss { .. } => (Schedule::default(), None),
    };
    Step { action, faults, when_hanging, ..Step::deploy(number) }
}

/// A run that nothing disturbed and that did not end as it has to.
fn wrong_end(ran: &Ran, steps: &[(Command, Meanwhile)], tally: &Tally) -> Option<String> {
    if ran.runs.len() != steps.len() {
        return Some(format!("only {} of {} runs were made", ran.runs.len(), steps.len()));
    }
    for ((number, run), (command, meanwhile)) in ran.runs.iter().zip(steps) {
        tally.runs.fetch_add(1, Ordering::Relaxed);
        let (before, after) = around(&ran.trace, *number);
        let (was, is) = (before.current(), after.current());
        let disturbed = match meanwhile {
            Meanwhile::Kill(_) => run.ended == Ended::Killed,
            // A client that was cut off may have been through before it noticed.
            Meanwhile::Cut(_) => true,
            Meanwhile::Nothing | Meanwhile::PowerLoss { .. } => false,
        };
        if disturbed {
            tally.disturbed.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let well = run.ended == Ended::Exit(0);
        let what = match command {
            Command::Rollback => {
                tally.rollbacks.fetch_add(u32::from(well), Ordering::Relaxed);
                match (before.earlier(), well) {
                    (Some(to), true) if is.as_ref() != Some(&to) => {
                        format!("it should have switched to {to}")
                    }
                    (Some(_), true) | (None, false) if well || was == is => continue,
                    (Some(to), _) => format!("it could have switched to {to}"),
                    (None, true) => "there was nothing to switch to".to_owned(),
                    (None, false) => "it failed, and yet switched".to_owned(),
                }
            }
            // Where nothing is live there is nothing to measure others by.
            Command::Prune if !well && was.is_none() && is.is_none() => continue,
            _ if !well => "it failed, and nothing had disturbed it".to_owned(),
            Command::Deploy(_) if !after.left_over().is_empty() => {
                format!("it left behind {:?}", after.left_over())
            }
            Command::Prune
                if after.names("releases").iter().filter(|id| after.is_complete(id)).count() > 3 =>
            {
                "it left more than three complete releases".to_owned()
            }
            Command::Prune | Command::Recover if was.is_some() && was != is => "it switched".to_owned(),
            _ => continue,
        };
        let said = tree::show(&run.output);
        return Some(format!(
            "{command:?}, {:?}: {what}; from {was:?} to {is:?}; it said: {said}",
            run.ended
        ));
    }
    None
}

/// The disk before a run of that number and after it.
fn around(trace: &Trace, number: u32) -> (Look<'_>, Look<'_>) {
    let find = |wanted: &dyn Fn(&MarkKind) -> bool| {
        let mark = trace.marks().iter().find(|mark| wanted(&mark.kind)).expect("each run begins and ends");
        Look(View::live(trace, mark.after))
    };
    let begin = find(&|kind| matches!(kind, MarkKind::Begin { deploy } if *deploy == number));
    let end = find(&|kind| matches!(kind, MarkKind::End { deploy, .. } if *deploy == number));
    (begin, end)
}

impl Look<'_> {
    /// The id of the release that `current` names.
    fn current(&self) -> Option<String> {
        let text = String::from_utf8_lossy(self.0.target(self.find("current")?)).into_owned();
        Some(text.strip_prefix("releases/").unwrap_or(&text).to_owned())
    }

    /// The newest complete release that is older than the live one.
    fn earlier(&self) -> Option<String> {
        let live = self.current()?;
        self.names("releases").into_iter().rfind(|id| *id < live && self.is_complete(id))
    }

    /// Whether a release is sealed and was live.
    fn is_complete(&self, id: &str) -> bool {
        let seals = self.names(".cutover/seals");
        seals.contains(id) && seals.contains(&format!("{id}.live"))
    }

    /// What only a run that is under way may have there. A note about a release that is complete says nothing.
    fn left_over(&self) -> Vec<String> {
        let links = self.names(".cutover").into_iter().filter(|name| name.starts_with("next."));
        let notes = self.names(".cutover/unfinished").into_iter().filter(|id| !self.is_complete(id));
        links.chain(self.names(".cutover/staging")).chain(notes).collect()
    }
}

/// As a value below `tests/regressions`.
#[derive(Debug, Deserialize, Serialize)]
struct Kept {
    /// One line.
    story: String,
    steps: Sequence,
}

impl Kept {
    fn to_json(steps: &Sequence) -> String {
        let kept = Self { story: "found at random".to_owned(), steps: steps.clone() };
        serde_json::to_string_pretty(&kept).expect("plain values")
    }
}

#[test]
fn whatever_happens_promises_hold_and_the_next_deploy_succeeds() {
    if !can_record() {
        return;
    }
    let tally = Tally::default();
    chance::try_some(sequence, 40, |sequence| complaint(sequence, &tally), Kept::to_json);
    println!("{tally:?}");
    // Sequences in which nothing happens would hold every promise.
    let many = |count: &AtomicU32| count.load(Ordering::Relaxed) >= chance::cases() / 4;
    assert!(many(&tally.disturbed) && many(&tally.power_losses) && many(&tally.rollbacks), "{tally:?}");
}

#[test]
fn what_failed_once_stays_fixed() {
    if can_record() {
        let complaint = |kept: &Kept| complaint(&kept.steps, &Tally::default());
        chance::try_kept("sequences", |kept: &Kept| &kept.story, complaint);
    }
}
