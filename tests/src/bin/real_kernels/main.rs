//! Holds the persistence profiles against the real ext4, xfs and btrfs of the running kernel.
//!
//! The program of a litmus test, or what a real tool did when it was recorded, runs on a real file system, on a loop device
//! whose every write and flush is logged. From the log come the images that a power loss may leave; each is mounted, which
//! replays the journal, and read. The same runs on a simulated disk, and every tree that was seen must be one that the profile
//! allows. Of deploys it is also looked at whether `current` leads to a complete release, and that is held against what the
//! certifier says of the same trace.
//!
//! - [`program`], [`catalogue`]: litmus tests. [`deploys`]: deploys of real tools. [`subject`]: either.
//! - [`run`], [`recorded`]: running them on both.
//! - [`kind`], [`image`], [`served`], [`held`], [`loop_device`], [`disk`]: the real file system and what it stands on.
//! - [`rebuild`]: from log to images. [`tree`]: what is read from them.
//! - [`belief`]: what should be there. [`allowed`]: by the definition. [`decide`]: without enumerating. [`promised`]: what was
//!   promised about `current`.
//! - [`trial`], [`turns`]: all of it, in several threads. [`report`]: told.
//!
//! Needs root, `/dev/fuse`, `/dev/loop-control` and the `mkfs` programs. Nothing is left behind, also if it is killed:
//! every mount is in a private namespace, and the loop devices detach themselves.

mod allowed;
mod belief;
mod catalogue;
mod decide;
mod deploys;
mod disk;
mod held;
mod image;
mod kind;
mod loop_device;
mod program;
mod promised;
mod rebuild;
mod recorded;
mod report;
mod run;
mod served;
mod subject;
mod tree;
mod trial;
mod turns;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use clap::Parser;

use belief::Belief;
use disk::Failed;
use kind::Kind;
use program::Wait;
use served::Starter;
use subject::Subject;
use trial::Trial;
use turns::Turns;

/// Hold the persistence profiles against real file systems.
#[derive(Parser)]
#[allow(clippy::struct_excessive_bools, reason = "switches of a command line")]
#[command(name = "real-kernels")]
struct Args {
    /// File systems.
    #[arg(long, value_delimiter = ',', default_values_t = [Kind::Ext4, Kind::Xfs, Kind::Btrfs])]
    fs: Vec<Kind>,
    /// Distinct images for each program, file system and wait, at most, besides one for each cut of the log.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    images: u32,
    /// Seconds that a program waits where it says so, else at its end. Deploys wait after each, and once in the middle of each.
    #[arg(long, value_delimiter = ',', default_values_t = [0], value_parser = clap::value_parser!(u64).range(..=86_400))]
    waits: Vec<u64>,
    /// Wait after every operation, not only where the program says so. Leaves the deploys out: they have hundreds.
    #[arg(long)]
    after_each: bool,
    /// Only these programs, or the deploys of these tools.
    #[arg(long = "program", value_name = "NAME", value_delimiter = ',')]
    programs: Vec<String>,
    /// The deploys of this trace file (`cutover-certify run --record FILE`).
    #[arg(long = "trace", value_name = "FILE")]
    traces: Vec<PathBuf>,
    /// What chance starts from: the same images again, as far as the kernel does the same again, and the same places where
    /// deploys wait.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Bytes in one sector of the devices, which a power loss leaves whole: 512 or 4096. [default: 4096 for ext4 and btrfs,
    /// which cannot be mounted any more when their superblock is torn; 512 for xfs]
    #[arg(long, value_parser = sector_bytes)]
    sector_bytes: Option<u32>,
    /// Trials at the same time, each on a loop device of its own. Most of them only wait.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=64))]
    devices: u32,
    /// Threads that work at the same time. Most of the time they wait for threads of the kernel. [default: four for each
    /// processor]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: Option<u32>,
    /// Hold beliefs that say too much against the file systems too: two canaries, which must be refuted, and each profile with
    /// one rule made stronger.
    #[arg(long)]
    refute: bool,
    /// List the programs and end.
    #[arg(long)]
    list: bool,
    /// Report as JSON.
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Write the report as JSON into this file too, whatever is printed.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Report as the table of the documentation.
    #[arg(long)]
    markdown: bool,
}

/// Something was seen that a profile does not allow, or a false belief was not refuted.
const OUTSIDE: u8 = 1;
/// The rig could not do its work.
const CANNOT: u8 = 2;

fn main() -> ExitCode {
    if let Some(served) = served::asked_for() {
        return served;
    }
    let args = Args::parse();
    // What a trace says of permissions is what a tool got, not what it asked for.
    rustix::process::umask(rustix::fs::Mode::empty());
    if args.list {
        print!("{}", report::list(&Subject::all()));
        return ExitCode::SUCCESS;
    }
    let subjects = match chosen(&args) {
        Ok(subjects) => subjects,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(CANNOT);
        }
    };
    let starter = match Starter::new() {
        Ok(starter) => starter,
        Err(error) => {
            eprintln!("error: cannot start a thread: {error}");
            return ExitCode::from(CANNOT);
        }
    };
    let begun = Instant::now();
    let (results, mut failed) = run_all(&args, &subjects, &starter);
    let report = report::Report::new(&results, &args.fs, args.refute, begun.elapsed());
    if let Some(file) = &args.save
        && let Err(error) = std::fs::write(file, report.json().to_string())
    {
        failed.push(format!("cannot write {}: {error}", file.display()));
    }
    if args.json {
        println!("{}", report.json());
    } else if args.markdown {
        print!("{}", report.markdown());
    } else {
        print!("{}", report.text());
    }
    for error in &failed {
        eprintln!("error: {error}");
    }
    if !failed.is_empty() {
        eprintln!(
            "hint: what the report has is complete, but it is not all; root, /dev/fuse, /dev/loop-control and the mkfs programs are needed"
        );
        return ExitCode::from(CANNOT);
    }
    if report.holds() { ExitCode::SUCCESS } else { ExitCode::from(OUTSIDE) }
}

fn sector_bytes(text: &str) -> Result<u32, String> {
    match text {
        "512" => Ok(512),
        "4096" => Ok(4096),
        _ => Err("512 and 4096 are what loop devices and all three file systems take".to_owned()),
    }
}

/// What is asked for: all that there is, if nothing else is. Never nothing: what did not run would hold.
fn chosen(args: &Args) -> Result<Vec<Subject>, String> {
    let mut chosen = named(&args.programs, &args.traces)?;
    if args.after_each {
        chosen.retain(|subject| matches!(subject, Subject::Litmus(_)));
    }
    if chosen.is_empty() {
        return Err("there is nothing to run\nhint: --after-each leaves deploys out".to_owned());
    }
    Ok(chosen)
}

fn named(names: &[String], traces: &[PathBuf]) -> Result<Vec<Subject>, String> {
    let all = Subject::all();
    if names.is_empty() && traces.is_empty() {
        return Ok(all);
    }
    let find = |name: &String| {
        let found = all.iter().find(|subject| subject.name() == name).copied();
        found.ok_or_else(|| format!("there is no program {name:?}\nhint: --list has the names"))
    };
    let mut chosen = names.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    for trace in traces {
        let deploys = deploys::of_file(trace)
            .map_err(|error| format!("{error}\nhint: `cutover-certify run --record FILE` makes one"))?;
        chosen.extend(deploys.into_iter().map(Subject::Deploys));
    }
    Ok(chosen)
}

/// Runs every program on every file system with every wait. The long waits come first.
fn run_all(args: &Args, subjects: &[Subject], starter: &Starter) -> (Vec<trial::Result>, Vec<String>) {
    let mut waits = args.waits.clone();
    waits.sort_unstable_by(|a, b| b.cmp(a));
    waits.dedup();
    let mut trials = VecDeque::new();
    for seconds in waits {
        let wait = Wait { seconds, after_each: args.after_each };
        for subject in subjects {
            for kind in &args.fs {
                let (images, seed) = (args.images as usize, args.seed);
                let sector_bytes = args.sector_bytes.unwrap_or(kind.sector_bytes());
                trials.push_back(Trial { subject: *subject, kind: *kind, wait, images, sector_bytes, seed });
            }
        }
    }
    let all = trials.len();
    let jobs =
        args.jobs.map_or_else(|| 4 * thread::available_parallelism().map_or(1, usize::from), |n| n as usize);
    let (turns, trials) = (Turns::new(jobs), Mutex::new(trials));
    let (results, failed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let next = || trials.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    thread::scope(|scope| {
        for _ in 0..(args.devices as usize).min(all) {
            scope.spawn(|| {
                while let Some(trial) = next() {
                    let named = format!("{} on {}, wait {}", trial.subject.name(), trial.kind, trial.wait);
                    match run_apart(trial, args.refute, starter, &turns) {
                        Ok(result) => {
                            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                            results.push(result);
                            eprintln!("{}/{all} {named}", results.len());
                        }
                        Err(error) => {
                            failed
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push(format!("{named}: {error}"));
                        }
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let place = |trial: &Trial| {
        let nth = subjects.iter().position(|subject| subject.name() == trial.subject.name());
        (nth, trial.kind, trial.wait)
    };
    results.sort_by_key(|result| place(&result.trial));
    (results, failed.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// On a thread of its own, whose mount namespace ends with it.
fn run_apart(trial: Trial, refute: bool, starter: &Starter, turns: &Turns) -> Result<trial::Result, Failed> {
    let run = || {
        simfs::fuse::enter_private_namespace()
            .map_err(|error| Failed::new("leave the mount namespace of the machine", error))?;
        trial::run(trial, &Belief::about(trial.kind, refute), starter, turns)
    };
    thread::scope(|scope| {
        scope
            .spawn(run)
            .join()
            .unwrap_or_else(|_| Err(Failed::new("run the trial", std::io::Error::other("it panicked"))))
    })
}
