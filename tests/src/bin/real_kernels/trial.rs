//! One program on one file system with one wait, from the empty device to the verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cutover_certify::judge;
use fastrand::Rng;

use crate::allowed::{self, Judged, Point, Seen, crash_points};
use crate::belief::{self, Belief};
use crate::disk::{Disk, Failed, Room};
use crate::kind::Kind;
use crate::program::Wait;
use crate::promised::{PROMISES, Promised};
use crate::rebuild::{Rebuilder, Rebuilt, Recording};
use crate::run::{Doing, Simulated};
use crate::served::Starter;
use crate::subject::{Subject, at_the_end};
use crate::tree::{Node, Tree};
use crate::turns::Turns;

/// What is tried.
#[derive(Clone, Copy)]
pub(crate) struct Trial {
    /// What runs.
    pub(crate) subject: Subject,
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
}

/// A tree that a belief does not allow.
#[derive(Debug)]
pub(crate) struct Outside {
    /// The profile, or what says too much.
    pub(crate) belief: Belief,
    /// Which outcome.
    pub(crate) outcome: usize,
    /// After how many steps.
    pub(crate) done: usize,
    /// The first image with it there, in words.
    pub(crate) image: String,
}

/// What one belief says.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// Which.
    pub(crate) belief: Belief,
    /// The comparison.
    pub(crate) judged: Judged,
}

/// What was promised about `current`, in the images of a trial of deploys.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    /// Its name.
    pub(crate) name: &'static str,
    /// Whether the certifier takes it for proved under the file system's profile.
    pub(crate) proved: bool,
    /// In how many images it is broken.
    pub(crate) images: usize,
    /// The first of them: which outcome, and the image in words.
    pub(crate) first: Option<(usize, String)>,
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
    /// What is said about it.
    pub(crate) verdicts: Vec<Verdict>,
    /// What that does not allow.
    pub(crate) outside: Vec<Outside>,
    /// What was promised, of deploys.
    pub(crate) promises: Vec<Promise>,
    /// Images that were read differently when they were looked at again, in words.
    pub(crate) misread: Vec<String>,
    /// What was done.
    pub(crate) simulated: Simulated,
    /// Where the time went.
    pub(crate) times: Times,
}

impl Result {
    /// What the profiles say: `posix`, and that of the file system.
    pub(crate) fn of_profiles(&self) -> impl DoubleEndedIterator<Item = &Verdict> {
        self.verdicts.iter().filter(|verdict| verdict.belief.is_profile())
    }

    /// Whether it is of a litmus test.
    pub(crate) fn is_litmus(&self) -> bool {
        matches!(self.trial.subject, Subject::Litmus(_))
    }
}

/// Runs a trial on this thread, which must have a mount namespace of its own.
pub(crate) fn run(
    trial: Trial,
    beliefs: &[Belief],
    starter: &Starter,
    turns: &Turns,
) -> std::result::Result<Result, Failed> {
    let Trial { subject, kind, wait, images, sector_bytes, seed } = trial;
    let simulated = subject.on_simulated(wait, seed)?;
    let room = Room::new()?;
    let recording = record(trial, &simulated, &room, starter, turns)?;
    let _turn = turns.take();
    let mut disk = Disk::held(kind, sector_bytes, &room)?;

    let mut times = Times::default();
    let begun = Instant::now();
    let mut rng = Rng::with_seed(seed);
    let rebuilder = Rebuilder::new(&recording);
    let chosen = rebuilder.choose(images, &mut rng);
    times.choosing = begun.elapsed();

    let points = |image: &Rebuilt| -> BTreeSet<Point> {
        let cuts = image.cuts.iter();
        cuts.flat_map(|cuts| crash_points(*cuts, &simulated.doings, &recording.steps)).collect()
    };
    let mut readings = Readings { points: chosen.images.iter().map(points).collect(), ..Readings::default() };
    let mut read = |image: &Rebuilt, times: &mut Times| {
        let begun = Instant::now();
        disk.load(&recording.base, &rebuilder.changed(&image.loss))?;
        look(&mut disk, times, begun)
    };
    for image in &chosen.images {
        let tree = read(image, &mut times)?;
        let outcome = readings.outcome(tree);
        readings.outcomes.push(outcome);
    }
    let judge = |belief: &Belief, readings: &Readings| {
        let small = matches!(subject, Subject::Litmus(_)) && belief.is_profile();
        allowed::judge(&belief.program(&simulated), belief.model(), &readings.trees, &readings.seen(), small)
            .map_err(|why| Failed::new(format!("judge {}", subject.name()), std::io::Error::other(why)))
    };
    // An image is a value, so it always reads the same: what is not allowed is read again before it is believed. What was
    // read differently then says something of the rig, not of the file system.
    let (mut misread, mut certain) = (Vec::new(), BTreeSet::new());
    for belief in beliefs.iter().filter(|belief| belief.is_profile()) {
        loop {
            let doubtful: Vec<usize> = judge(belief, &readings)?
                .outside
                .iter()
                .flat_map(|(outcome, point)| readings.images(*outcome, *point))
                .filter(|image| !certain.contains(image))
                .collect();
            if doubtful.is_empty() {
                break;
            }
            for image in doubtful.into_iter().filter(|image| certain.insert(*image)) {
                let tree = read(&chosen.images[image], &mut times)?;
                let (first, again) = (readings.outcomes[image], readings.outcome(tree));
                if first != again {
                    let told = rebuilder.told(&chosen.images[image].loss);
                    let [first_tree, again_tree] = [first, again].map(|outcome| &readings.trees[outcome]);
                    misread.push(format!("{told}: first {first_tree}; then {again_tree}"));
                    readings.outcomes[image] = again;
                }
            }
        }
    }

    let begun = Instant::now();
    let promises = promises(subject, kind, &readings, |image| rebuilder.told(&chosen.images[image].loss));
    let (mut verdicts, mut outside) = (Vec::new(), Vec::new());
    for belief in beliefs {
        let judged = judge(belief, &readings)?;
        for (outcome, point) in &judged.outside {
            // What is under way is not done.
            let is_done =
                |doing: &Doing| doing.after < point.k || (doing.after == point.k && !point.under_way);
            let done = simulated.doings.partition_point(is_done);
            let image = readings.images(*outcome, *point).next().map(|image| &chosen.images[image].loss);
            let image = image.map(|loss| rebuilder.told(loss)).unwrap_or_default();
            outside.push(Outside { belief: *belief, outcome: *outcome, done, image });
        }
        verdicts.push(Verdict { belief: *belief, judged });
    }
    times.judging = begun.elapsed();
    let images = |outcome| readings.outcomes.iter().filter(|read| **read == outcome).count();
    let outcomes = (0..).zip(readings.trees.iter().cloned());
    Ok(Result {
        trial,
        writes: rebuilder.writes(),
        flushes: rebuilder.flushes(),
        made: chosen.made,
        distinct: chosen.images.len(),
        outcomes: outcomes.map(|(nth, tree)| Outcome { tree, images: images(nth) }).collect(),
        verdicts,
        outside,
        promises,
        misread,
        simulated: simulated.clone(),
        times,
    })
}

/// What was read of the images.
#[derive(Default)]
struct Readings {
    /// When the power may have gone for each image.
    points: Vec<BTreeSet<Point>>,
    /// What each was read as: one of the trees.
    outcomes: Vec<usize>,
    trees: Vec<Tree>,
    known: BTreeMap<Tree, usize>,
}

impl Readings {
    fn outcome(&mut self, tree: Tree) -> usize {
        let next = self.trees.len();
        let nth = *self.known.entry(tree.clone()).or_insert(next);
        if nth == next {
            self.trees.push(tree);
        }
        nth
    }

    /// The trees by crash point.
    fn seen(&self) -> Seen {
        let mut seen = Seen::new();
        for (outcome, points) in self.outcomes.iter().zip(&self.points) {
            for point in points {
                seen.entry(*point).or_default().insert(*outcome);
            }
        }
        seen
    }

    /// The images with this tree there.
    fn images(&self, outcome: usize, point: Point) -> impl Iterator<Item = usize> {
        let images = self.outcomes.iter().zip(&self.points).enumerate();
        images
            .filter(move |(_, (read, points))| **read == outcome && points.contains(&point))
            .map(|(nth, _)| nth)
    }
}

/// What was promised, and in which images it is broken: a power loss leaves each at any of its points.
fn promises(
    subject: Subject,
    kind: Kind,
    readings: &Readings,
    told: impl Fn(usize) -> String,
) -> Vec<Promise> {
    let Subject::Deploys(deploys) = subject else { return Vec::new() };
    let promised = Promised::new(deploys);
    let broken: Vec<Vec<[bool; 2]>> = readings
        .outcomes
        .iter()
        .zip(&readings.points)
        .map(|(outcome, points)| {
            points.iter().map(|point| promised.broken(&readings.trees[*outcome], *point)).collect()
        })
        .collect();
    let proved = deploys.proved(belief::profile(kind), PROMISES);
    let promise = |(nth, (promise, proved)): (usize, (judge::Promise, bool))| {
        let mut images =
            (0..broken.len()).filter(|image| broken[*image].iter().any(|broken| broken[nth])).peekable();
        let first = images.peek().map(|image| (readings.outcomes[*image], told(*image)));
        Promise { name: promise.name(), proved, first, images: images.count() }
    };
    PROMISES.into_iter().zip(proved).enumerate().map(promise).collect()
}

/// Runs it on a new file system. Takes a turn for all but the waiting.
fn record(
    trial: Trial,
    simulated: &Simulated,
    room: &Room,
    starter: &Starter,
    turns: &Turns,
) -> std::result::Result<Recording, Failed> {
    let Trial { subject, kind, wait, sector_bytes, .. } = trial;
    let turn = turns.take();
    let mut disk = Disk::logged(kind, sector_bytes, room, starter)?;
    disk.make()?;
    disk.mount().map_err(|error| Failed::new(format!("mount a new {kind}"), error))?;
    let image = disk.image()?;
    // Warm, not mounted again: a kernel that has just read an inode is more careful with it.
    subject.set_up(disk.tree(), image)?;
    let base = Arc::new(image.start_log()?);
    drop(turn);
    let steps = subject.on_real(wait, &simulated.doings, disk.tree(), image)?;
    let log = image.take_log()?;
    let _turn = turns.take();
    let (there, expected) = (Tree::read(disk.tree()), at_the_end(simulated));
    if there != expected {
        let why = format!("expected {expected}; found {there}");
        return Err(Failed::new("find what the simulated disk has", std::io::Error::other(why)));
    }
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
