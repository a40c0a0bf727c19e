//! How the judge does at size: time and memory by the number of effects, and crash states a second.
//!
//! - `size`: all promises under `posix`, from 1,000 to 1,000,000 effects, over three kinds of history: few releases of
//!   more and more files, the same with an fsync for each file, and more and more releases of the same few files. A
//!   table, and a plot (`target/tmp/judge.svg`) beside a line that is linear.
//! - `files`: 100,000 files, four releases of them, and what that takes.
//! - `states`: on a deploy of 200 files, crash states counted one by one and drawn at random, beside writing each to a
//!   directory (in memory) and running `diff -r`.
//!
//! Each size is judged in a process of its own, so that its peak memory is its own. Times are of the processor, so that
//! what else the machine does counts little. Words after the command choose among the three; `-- --test` does a little
//! of each.

#![allow(clippy::cast_precision_loss, reason = "counts far below 2^52, for people")]

use std::collections::HashSet;
use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use cutover_benches::{Barrier, History, real_root, skip};
use cutover_certify::judge::{Verdict, judge};
use cutover_certify::tree::{Node, Tree};
use plotters::prelude::*;
use rustc_hash::FxBuildHasher;
use simfs::crash::{Enumeration, Samples};
use simfs::{CrashState, Crashes, FILE_SYSTEMS, Ino, Kind, Model, OpKind, POSIX, ROOT, View};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A kind of history that grows.
#[derive(Clone, Copy)]
struct Series {
    name: &'static str,
    barrier: Barrier,
    /// Files of each release, if it is their number that stays.
    files: Option<usize>,
}

const SERIES: [Series; 3] = [
    Series { name: "4 releases, syncfs", barrier: Barrier::Syncfs, files: None },
    Series { name: "4 releases, fsync each", barrier: Barrier::FsyncEach, files: None },
    Series { name: "50 files, more releases", barrier: Barrier::Syncfs, files: Some(50) },
];

/// What a process found out about one history.
#[derive(Clone, Copy, Default)]
struct Judged {
    files: usize,
    releases: usize,
    effects: usize,
    cpu_s: f64,
    peak_mib: f64,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [child, files, deploys, barrier, models] = &args[..]
        && child == "--judge-one"
    {
        let barrier = if barrier == "each" { Barrier::FsyncEach } else { Barrier::Syncfs };
        let models = if models == "all" { &FILE_SYSTEMS[..] } else { &FILE_SYSTEMS[..1] };
        return judge_one(files.parse()?, deploys.parse()?, barrier, models);
    }
    let quick = args.iter().any(|arg| arg == "--test");
    let words: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |what: &str| words.is_empty() || words.iter().any(|word| what.contains(word.as_str()));
    let load = fs::read_to_string("/proc/loadavg")?;
    println!("load of the machine before: {}", load.split(' ').next().unwrap_or_default());
    if wanted("size") {
        size(if quick {
            &[1_000, 10_000]
        } else {
            &[1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000]
        })?;
    }
    if wanted("files") {
        let files = if quick { 1_000 } else { 100_000 };
        let each = [Barrier::Syncfs, Barrier::FsyncEach].into_iter();
        for (barrier, models) in each.flat_map(|barrier| [(barrier, "posix"), (barrier, "all")]) {
            let judged = in_a_process(files, 4, barrier, models)?;
            println!(
                "{files} files, 4 releases, {}, under {}: {} effects judged in {:.2} s, peak memory of the process {:.0} MiB",
                if barrier == Barrier::Syncfs { "syncfs" } else { "fsync each" },
                if models == "all" { "posix, ext4-ordered, xfs and btrfs" } else { models },
                judged.effects,
                judged.cpu_s,
                judged.peak_mib
            );
        }
    }
    if wanted("states") {
        states(if quick { 20_000 } else { 1_000_000 }, if quick { 2 } else { 40 })?;
    }
    Ok(())
}

/// Seconds that this thread has had of a processor.
fn cpu_s() -> Result<f64> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat")?;
    let ns: f64 = stat.split(' ').next().unwrap_or_default().parse()?;
    Ok(ns / 1e9)
}

/// The work of a child: records, judges several times, and says what the best took, and the most memory that was used.
fn judge_one(files: usize, deploys: u32, barrier: Barrier, models: &[&Model]) -> Result<()> {
    let history = History::record(files, deploys, barrier);
    let mut best_s = f64::MAX;
    // The system counts in ticks of some milliseconds, so that a round has to be many of them.
    let effects = history.trace.effects().len();
    let (rounds, times) = (if effects > 100_000 { 3 } else { 5 }, (100_000 / effects).max(1));
    for _ in 0..rounds {
        let before = cpu_s()?;
        for _ in 0..times {
            let judgement = black_box(judge(&history.trace, &history.scenario, models));
            // What is broken is found early: only a proof goes through everything.
            // (Further runs of the tool are not the judge's to decide.)
            let mut verdicts = judgement.rows.iter().flat_map(|row| {
                let crash = row.crash.iter().map(|crash| &crash.verdict);
                row.live.iter().chain(crash)
            });
            assert!(verdicts.all(|verdict| *verdict == Verdict::Proved), "{:#?}", judgement.rows);
        }
        best_s = best_s.min((cpu_s()? - before) / times as f64);
    }
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let peak_kib: f64 = peak.trim().trim_end_matches(" kB").parse()?;
    println!("{} {best_s} {}", history.trace.effects().len(), peak_kib / 1024.0);
    Ok(())
}

fn in_a_process(files: usize, deploys: u32, barrier: Barrier, models: &str) -> Result<Judged> {
    let barrier = if barrier == Barrier::FsyncEach { "each" } else { "all" };
    let out = Command::new(std::env::current_exe()?)
        .args(["--judge-one", &files.to_string(), &deploys.to_string(), barrier, models])
        .output()?;
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned().into());
    }
    let text = String::from_utf8(out.stdout)?;
    let [effects, cpu_s, peak_mib] = text.split_whitespace().collect::<Vec<_>>()[..] else {
        return Err(format!("the child said {text:?}").into());
    };
    Ok(Judged {
        files,
        releases: deploys as usize,
        effects: effects.parse()?,
        cpu_s: cpu_s.parse()?,
        peak_mib: peak_mib.parse()?,
    })
}

fn size(sizes: &[usize]) -> Result<()> {
    let mut all: Vec<(Series, Vec<Judged>)> = Vec::new();
    for series in SERIES {
        println!(
            "\n{:<26}{:>9}{:>9}{:>10}{:>11}{:>11}{:>9}",
            series.name, "files", "releases", "effects", "ms", "ns/effect", "MiB"
        );
        let mut points = Vec::new();
        for size in sizes {
            let deploys = series.files.map_or(4, |files| (size / (5 * files)).max(4) as u32);
            let files = series.files.unwrap_or_else(|| History::files_for(*size, deploys));
            let judged = in_a_process(files, deploys, series.barrier, "posix")?;
            println!(
                "{:<26}{:>9}{:>9}{:>10}{:>11.2}{:>11.0}{:>9.0}",
                "",
                judged.files,
                judged.releases,
                judged.effects,
                judged.cpu_s * 1e3,
                judged.cpu_s * 1e9 / judged.effects as f64,
                judged.peak_mib
            );
            points.push(judged);
        }
        all.push((series, points));
    }
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("judge.svg");
    plot(&to, &all)?;
    println!("\nplot: {}\n", to.display());
    Ok(())
}

/// Seconds over effects, both logarithmic: what is linear is parallel to the grey line.
fn plot(to: &Path, all: &[(Series, Vec<Judged>)]) -> Result<()> {
    let points = || all.iter().flat_map(|(_, points)| points);
    let least = points().map(|point| point.cpu_s).fold(f64::MAX, f64::min);
    let most = points().map(|point| point.cpu_s).fold(0.0, f64::max);
    let (fewest, largest) = points().fold((f64::MAX, 0.0_f64), |(fewest, largest), point| {
        (fewest.min(point.effects as f64), largest.max(point.effects as f64))
    });
    let area = SVGBackend::new(to, (800, 500)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(20)
        .caption("All promises under posix, processor time", ("sans-serif", 18))
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(
            (fewest * 0.8..largest * 1.3).log_scale(),
            (least * 0.5..most * 2.0).log_scale(),
        )?;
    chart.configure_mesh().x_desc("effects").y_desc("seconds").draw()?;
    let first = all.first().and_then(|(_, points)| points.first()).ok_or("nothing was measured")?;
    let linear = [fewest, largest].map(|effects| (effects, first.cpu_s * effects / first.effects as f64));
    chart
        .draw_series(LineSeries::new(linear, BLACK.mix(0.3)))?
        .label("linear")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], BLACK.mix(0.3)));
    for (nth, (series, points)) in all.iter().enumerate() {
        let colour = Palette99::pick(nth).to_rgba();
        let line = points.iter().map(|point| (point.effects as f64, point.cpu_s));
        chart
            .draw_series(LineSeries::new(line, colour.stroke_width(2)).point_size(3))?
            .label(series.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}

/// How many files the deploy has of which states are gone through.
const FILES: usize = 200;

fn states(count: u32, written_out: u32) -> Result<()> {
    let history = History::record(FILES, 1, Barrier::Syncfs);
    let trace = &history.trace;
    let source = history.scenario.sources.first().ok_or("one deploy has one source")?;
    // The last crash point before the barrier: everything is free.
    let sync =
        trace.ops().iter().position(|op| matches!(op.kind, OpKind::Sync { .. })).ok_or("no barrier")?;
    let k = sync as u32 - 1;
    let crashes = Crashes::new(trace, &POSIX);

    let mut enumeration = Enumeration::new(trace, &POSIX, k);
    println!(
        "crash states of one deploy of {FILES} files before its barrier: {} free effects",
        enumeration.free()
    );
    let before = cpu_s()?;
    let (mut counted, many) = (0, 100 * count);
    while counted < many && black_box(enumeration.next_state()).is_some() {
        counted += 1;
    }
    let enumerated = f64::from(counted) / (cpu_s()? - before);

    let mut samples = Samples::new(&crashes, k, 1);
    let mut state = CrashState { at: k, ..CrashState::default() };
    let mut distinct = HashSet::with_capacity_and_hasher(count as usize, FxBuildHasher);
    let before = cpu_s()?;
    for _ in 0..count {
        distinct.insert(samples.draw(black_box(&mut state)));
    }
    let sampled = distinct.len() as f64 / (cpu_s()? - before);

    let mut samples = Samples::new(&crashes, k, 2);
    let (mut compared, mut whole) = (distinct.clone(), 0);
    compared.clear();
    let before = cpu_s()?;
    for _ in 0..count / 10 {
        if compared.insert(samples.draw(&mut state)) {
            whole += u32::from(is_whole(View::crash(&crashes, &state), source));
        }
    }
    let judged = compared.len() as f64 / (cpu_s()? - before);
    println!(
        "  counted:                            {enumerated:>12.0} states a second, each another by construction"
    );
    println!(
        "  drawn at random:                    {sampled:>12.0} disks a second ({} of {count} were new)",
        distinct.len()
    );
    println!(
        "  drawn and compared where they are:  {judged:>12.0} disks a second ({whole} of {} had the whole release)",
        compared.len()
    );
    match write_out(&crashes, k, source, written_out) {
        Ok(by_diff) => {
            println!("  written out, and `diff -r`:         {by_diff:>12.0} states a second");
            println!(
                "  a written-out state costs {:.0} counted, {:.0} drawn, {:.0} compared ones",
                enumerated / by_diff,
                sampled / by_diff,
                judged / by_diff
            );
        }
        Err(error) => skip(&format!("written-out states: {error}")),
    }
    Ok(())
}

/// The release directory of the only deploy, in a state.
fn release(view: View<'_>) -> Option<Ino> {
    let below = |dir, name: &[u8]| view.entry(dir, &name.into());
    let releases = below(below(ROOT, b"app")?, b"releases")?;
    view.entries(releases).next().map(|(_, ino)| ino)
}

/// Whether everything that was to be deployed is there, as it should be.
fn is_whole(view: View<'_>, source: &Tree) -> bool {
    let Some(root) = release(view) else { return false };
    source.iter().all(|(path, node)| {
        let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        let ino = names.into_iter().try_fold(root, |dir, name| view.entry(dir, &name.into()));
        let Some(ino) = ino else { return false };
        match node {
            Node::File { content, .. } => {
                view.size_bytes(ino) == content.size_bytes
                    && (0..).zip(&content.blocks).all(|(n, block)| view.block(ino, n) == &**block)
            }
            _ => view.birth(ino).is_some(),
        }
    })
}

/// States a second if each is written to a directory and compared by `diff -r`; in all the time that it takes, since
/// most of it is spent in another program and in the kernel.
fn write_out(crashes: &Crashes<'_>, k: u32, source: &Tree, count: u32) -> Result<f64> {
    let dir = tempfile::Builder::new().prefix("cutover-benches-states-").tempdir_in(real_root())?;
    let (should, is) = (dir.path().join("should"), dir.path().join("is"));
    for (path, node) in source {
        let to = should.join(std::str::from_utf8(path)?);
        match node {
            Node::File { content, .. } => fs::write(to, content.to_bytes())?,
            _ => fs::create_dir_all(to)?,
        }
    }
    let mut samples = Samples::new(crashes, k, 3);
    let started = Instant::now();
    for _ in 0..count {
        let state = samples.next_state();
        let view = View::crash(crashes, &state);
        fs::create_dir(&is)?;
        if let Some(root) = release(view) {
            write_dir(view, root, &is)?;
        }
        let diff =
            Command::new("diff").args(["-r", "--no-dereference", "-q"]).arg(&should).arg(&is).output()?;
        if diff.status.code().is_none_or(|code| code > 1) {
            return Err(String::from_utf8_lossy(&diff.stderr).into_owned().into());
        }
        fs::remove_dir_all(&is)?;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

fn write_dir(view: View<'_>, dir: Ino, to: &Path) -> Result<()> {
    for (name, ino) in view.entries(dir) {
        let to = to.join(std::str::from_utf8(name)?);
        match view.birth(ino).map(|birth| birth.kind) {
            Some(Kind::Dir) => {
                fs::create_dir(&to)?;
                write_dir(view, ino, &to)?;
            }
            Some(Kind::Symlink) if !view.target(ino).is_empty() => {
                symlink(std::str::from_utf8(view.target(ino))?, &to)?;
            }
            _ => {
                let size = view.size_bytes(ino) as usize;
                let mut bytes = view.block(ino, 0).to_vec();
                bytes.resize(size, 0);
                fs::write(&to, bytes)?;
            }
        }
    }
    Ok(())
}
