//! One program on one file system with one wait, from the empty device to the verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::allowed::{Judged, Point, crash_points, judge};
use crate::belief::Belief;
use crate::disk::{Disk, Failed, Room};
use crate::kind::Kind;
use crate::program::{Op, Program, Wait};
use crate::rebuild::{Rebuilder, Recording};
use crate::run::{on_real, on_simulated};
use crate::served::Starter;
use crate::tree::{Node, Tree};
use crate::turns::Turns;

/// What is tried.
#[derive(Clone, Copy)]
pub(crate) struct Trial {
    /// The program.
    pub(crate) program: &'static Program,
    /// The file system.
    pub(crate) kind: Kind,
    /// How long the program waits.
    pub(crate) wait: Wait,
    /// How many distinct images are looked at besides every cut, at most.
    pub(crate) images: usize,
    /// Bytes in one sector of the device.
    pub(crate) sector_bytes: u32,
    /// What chance starts from.
    pub(crate) seed: u64,
}

/// A tree that was seen, or a mount that failed (a tree whose root is broken).
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What was read.
    pub(crate) tree: Tree,
    /// In how many images.
    pub(crate) images: usize,
    /// The first of them, in words.
    pub(crate) first: String,
}

/// A tree that a profile does not allow.
#[derive(Debug)]
pub(crate) struct Outside {
    /// The profile.
    pub(crate) profile: &'static str,
    /// Which outcome.
    pub(crate) outcome: usize,
    /// After which operations: so many of the program's.
    pub(crate) ops_done: usize,
}

/// What one profile says.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The profile.
    pub(crate) profile: &'static str,
    /// The comparison.
    pub(crate) judged: Judged,
}

/// Where the time went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    /// Making images and comparing them with one another.
    pub(crate) choosing: Duration,
    /// Putting images in place.
    pub(crate) loading: Duration,
    /// Mounting: the journal is replayed.
    pub(crate) mounting: Duration,
    /// Reading trees.
    pub(crate) reading: Duration,
    /// Unmounting.
    pub(crate) unmounting: Duration,
    /// Enumerating what is allowed.
    pub(crate) judging: Duration,
}

/// What came of a trial.
pub(crate) struct Result {
    /// What was tried.
    pub(crate) trial: Trial,
    /// Writes and flushes in the log.
    pub(crate) writes: usize,
    /// See there.
    pub(crate) flushes: usize,
    /// Images made.
    pub(crate) made: usize,
    /// Of these, different ones: all were mounted and read.
    pub(crate) distinct: usize,
    /// What was seen.
    pub(crate) outcomes: Vec<Outcome>,
    /// What the profiles say.
    pub(crate) verdicts: Vec<Verdict>,
    /// What they do not allow.
    pub(crate) outside: Vec<Outside>,
    /// Where the time went.
    pub(crate) times: Times,
}

/// Runs a trial on this thread, which must have a mount namespace of its own.
pub(crate) fn run(
    trial: Trial,
    beliefs: &[Belief],
    starter: &Starter,
    turns: &Turns,
) -> std::result::Result<Result, Failed> {
    let Trial { program, kind, wait, images, sector_bytes, seed } = trial;
    let ops = program.ops_with(wait);
    let room = Room::new()?;
    let recording = record(trial, &ops, &room, starter, turns)?;
    let _turn = turns.take();
    let mut disk = Disk::held(kind, sector_bytes, &room)?;

    let mut times = Times::default();
    let begun = Instant::now();
    let mut rng = Rng::with_seed(seed);
    let rebuilder = Rebuilder::new(&recording);
    let chosen = rebuilder.choose(images, &mut rng);
    times.choosing = begun.elapsed();

    let simulated = on_simulated(program, &ops)?;
    let mut known: BTreeMap<Tree, usize> = BTreeMap::new();
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut seen: BTreeMap<Point, BTreeSet<usize>> = BTreeMap::new();
    for image in &chosen.images {
        let begun = Instant::now();
        disk.load(&recording.base, &rebuilder.changed(&image.loss))?;
        let tree = look(&mut disk, &mut times, begun)?;
        let nth = *known.entry(tree.clone()).or_insert(outcomes.len());
        if nth == outcomes.len() {
            outcomes.push(Outcome { tree, images: 0, first: rebuilder.told(&image.loss) });
        }
        outcomes[nth].images += 1;
        for cuts in &image.cuts {
            for point in crash_points(*cuts, &ops, &recording.steps, &simulated.after) {
                seen.entry(point).or_default().insert(nth);
            }
        }
    }

    let begun = Instant::now();
    let trees: Vec<Tree> = outcomes.iter().map(|outcome| outcome.tree.clone()).collect();
    let (mut verdicts, mut outside) = (Vec::new(), Vec::new());
    for belief in beliefs {
        let simulated = belief.about(&simulated);
        let judged = judge(&simulated, belief.model(), &trees, &seen)
            .map_err(|why| Failed::new(format!("enumerate {}", program.name), std::io::Error::other(why)))?;
        for (outcome, point) in &judged.outside {
            // What is under way is not done.
            let done = |after: &u32| *after < point.k || (*after == point.k && !point.under_way);
            let ops_done = simulated.after.partition_point(done);
            outside.push(Outside { profile: belief.name(), outcome: *outcome, ops_done });
        }
        verdicts.push(Verdict { profile: belief.name(), judged });
    }
    times.judging = begun.elapsed();
    Ok(Result {
        trial,
        writes: rebuilder.writes(),
        flushes: rebuilder.flushes(),
        made: chosen.made,
        distinct: chosen.images.len(),
        outcomes,
        verdicts,
        outside,
        times,
    })
}

/// Runs the program on a new file system. Takes a turn for all but the waiting.
fn record(
    trial: Trial,
    ops: &[Op],
    room: &Room,
    starter: &Starter,
    turns: &Turns,
) -> std::result::Result<Recording, Failed> {
    let Trial { program, kind, wait, sector_bytes, .. } = trial;
    let turn = turns.take();
    let mut disk = Disk::logged(kind, sector_bytes, room, starter)?;
    disk.make()?;
    disk.mount().map_err(|error| Failed::new(format!("mount a new {kind}"), error))?;
    let image = disk.image()?;
    // Warm, not mounted again: a kernel that has just read an inode is more careful with it.
    on_real(program.setup, 0, disk.tree(), image)?;
    on_real(&[Op::Syncfs], 0, disk.tree(), image)?;
    let base = Arc::new(image.start_log()?);
    drop(turn);
    let steps = on_real(ops, wait.seconds, disk.tree(), image)?;
    let log = image.take_log()?;
    let _turn = turns.take();
    disk.unmount()?;
    Ok(Recording { base, log, steps, sector_bytes })
}

/// Mounts what is loaded, reads it, and unmounts it.
fn look(disk: &mut Disk, times: &mut Times, begun: Instant) -> std::result::Result<Tree, Failed> {
    let loaded = Instant::now();
    times.loading += loaded - begun;
    if let Err(error) = disk.mount() {
        times.mounting += loaded.elapsed();
        disk.forget()?;
        let why = format!("cannot be mounted: {error}");
        return Ok(Tree { nodes: BTreeMap::from([(String::new(), Node::Broken { why })]) });
    }
    let mounted = Instant::now();
    times.mounting += mounted - loaded;
    let tree = Tree::read(disk.tree());
    let read = Instant::now();
    times.reading += read - mounted;
    disk.unmount()?;
    times.unmounting += read.elapsed();
    Ok(tree)
}
