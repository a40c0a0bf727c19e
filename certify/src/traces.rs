//! The commands that write and read trace files: `--record`, `judge` and `trace`.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, IsTerminal as _, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cutover_certify::cli::{Convert, Judge, Reading, Replay, TraceVerb};
use cutover_certify::judge::{Judgement, Verdict, explain, judge as judge_trace};
use cutover_certify::record::{Recording, Subject};
use cutover_certify::replay::{self, Token};
use cutover_certify::report::Outcome;
use cutover_certify::trace_file::{
    self, About, Encoding, History, Recorded, TraceFileError, Writer, convert, tell,
};
use cutover_certify::tree::{Tree, show_path};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use simfs::{Model, Trace};

use crate::Failure;
use crate::findings::Findings;
use crate::output::Output;

/// Keeps what is recorded in a trace file, if one was asked for.
pub(crate) struct Keeper<'a> {
    kept: Option<(&'a Path, Writer<Output>)>,
    subject: Vec<u8>,
}

impl<'a> Keeper<'a> {
    pub(crate) fn new(path: Option<&'a Path>, subject: &Subject) -> Result<Self, Failure> {
        let writer = |path| Output::create(path).and_then(|output| Writer::new(output, Encoding::Compact));
        let kept = match path {
            Some(path) => Some((path, writer(path).map_err(|error| cannot_write(path, &error))?)),
            None => None,
        };
        let subject = match subject {
            Subject::Tool { command } => command.clone().into_bytes(),
            Subject::Cutover { .. } => b"cutover".to_vec(),
        };
        Ok(Self { kept, subject })
    }

    /// Adds a history; `label` says how it differs from the first.
    pub(crate) fn keep(&mut self, label: &str, recording: &Recording) -> Result<(), Failure> {
        let Some((path, writer)) = &mut self.kept else { return Ok(()) };
        let about = About {
            label: label.to_owned(),
            subject: self.subject.clone(),
            cut_short: recording.cut_short.as_ref().map(ToString::to_string),
        };
        let written = writer.history(&about, &recording.scenario, &recording.trace);
        written.map_err(|error| cannot_write(path, &error))
    }

    pub(crate) fn finish(self) -> Result<(), Failure> {
        let Some((path, writer)) = self.kept else { return Ok(()) };
        writer.finish().and_then(Output::finish).map_err(|error| cannot_write(path, &error))
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        format!("cannot write {}: {error}", show_path(path)),
        "check the path, its permissions and the space there",
    )
}

fn cannot_read(path: &Path, error: &TraceFileError) -> Failure {
    Failure::new(format!("cannot read {}: {error}", show_path(path)), error.hint())
}

fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    let file = File::open(path).and_then(|file| {
        if file.metadata()?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        Ok(file)
    });
    let file = file.map_err(|error| cannot_read(path, &error.into()))?;
    Ok(BufReader::with_capacity(1 << 18, file))
}

fn read(path: &Path, reading: &Reading) -> Result<Recorded, Failure> {
    trace_file::read(open(path)?, reading.memory_bytes()).map_err(|error| cannot_read(path, &error))
}

/// Paths of a trace can be deeper than a stack usually is.
const STACK_BYTES: usize = 512 << 20;

/// Why a trace file says nothing about runs, whatever came of them.
const NO_RUNS: &str =
    "a trace file holds recorded operations, not runs: ask the report of the run that made it";

/// `cutover-certify judge`.
pub(crate) fn judge(options: &Judge) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let models = options.power.models();
    // Of several, the one that a counterexample is from is named there.
    let file = match &options.traces[..] {
        [one] => show_path(one),
        _ => "FILE".to_owned(),
    };
    let mut findings = Findings::new(options.power.hosts(), Some(file));
    for path in &options.traces {
        let recorded = read(path, &options.reading)?;
        for history in recorded.histories {
            let mut what = history.about.label.clone();
            if options.traces.len() > 1 {
                what = format!("{}:{}{what}", show_path(path), if what.is_empty() { "" } else { " " });
            }
            let (judgement, took, trace) = judge_history(history, models.clone())?;
            findings.add(judgement, &what, took, &trace);
        }
    }
    findings.tell("Read", started.elapsed(), options.json.as_deref())
}

fn judge_history(
    history: History,
    models: Vec<&'static Model>,
) -> Result<(Judgement, Duration, Trace), Failure> {
    let judged = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        let started = Instant::now();
        let mut judgement = judge_trace(&history.trace, &history.scenario, &models);
        explain(&mut judgement, &history.trace, &history.scenario);
        for runs in judgement.rows.iter_mut().filter_map(|row| row.runs.as_mut()) {
            *runs = Verdict::NotAsked { why: NO_RUNS.to_owned() };
        }
        (judgement, started.elapsed(), history.trace)
    });
    let failed = |error| Failure::new(format!("cannot start a thread: {error}"), "check the system's limits");
    match judged.map_err(failed)?.join() {
        Ok(judged) => Ok(judged),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// How many traces with a counterexample are kept for `replay`, the newest.
const KEPT_FOR_REPLAY: usize = 16;

/// Where they are kept: the user's directory for state that is no configuration and no cache.
fn replays() -> Option<PathBuf> {
    let named = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let state = named.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("cutover-certify"))
}

/// Keeps a history that has a counterexample with a token, for the user alone: it holds the content of what was deployed.
pub(crate) fn keep_for_replay(recording: &Recording, subject: &Subject, token: &str) -> Result<(), Failure> {
    let Some((dir, token)) = replays().zip(Token::parse(token).ok()) else { return Ok(()) };
    let path = dir.join(format!("{}.cutover-trace", token.trace_name()));
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
    made.map_err(|error| cannot_write(&dir, &error))?;
    let mut keeper = Keeper::new(Some(&path), subject)?;
    keeper.keep("", recording)?;
    keeper.finish()?;
    let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
    let age = |entry: &fs::DirEntry| entry.metadata().and_then(|meta| meta.modified()).ok();
    let is_trace = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|end| end == "cutover-trace");
    let mut kept: Vec<fs::DirEntry> = entries.filter(is_trace).collect();
    kept.sort_by_key(|entry| std::cmp::Reverse(age(entry)));
    for old in kept.into_iter().skip(KEPT_FOR_REPLAY) {
        // The next run tries it again.
        let _ = fs::remove_file(old.path());
    }
    Ok(())
}

/// `cutover-certify replay`.
pub(crate) fn replay(options: &Replay) -> Result<Outcome, Failure> {
    let hint = "copy all of it from the report: what stands there after `cutover-certify replay`";
    let token = Token::parse(&options.token).map_err(|why| Failure::new(why, hint))?;
    let kept = || replays().map(|dir| dir.join(format!("{}.cutover-trace", token.trace_name())));
    let path = options.trace.clone().or_else(kept).ok_or_else(|| {
        Failure::new(
            "neither XDG_STATE_HOME nor HOME says where traces are kept",
            "name the trace file with --trace",
        )
    })?;
    if options.trace.is_none() && !path.exists() {
        return Err(Failure::new(
            format!("the trace of this token is not kept any more: there is no {}", show_path(&path)),
            "name the trace file with --trace, if you have it; `--record FILE` keeps one",
        ));
    }
    let recorded = read(&path, &options.reading)?;
    let history = recorded.histories.into_iter().find(|history| token.is_of(&history.trace));
    let history = history.ok_or_else(|| {
        Failure::new(
            format!("the token is of another trace than {}", show_path(&path)),
            "name the file that it was found in",
        )
    })?;
    let disk =
        token.disk(&history.trace).map_err(|why| Failure::new(why, "there is no shorter way to show it"))?;
    let story = token.story(&history.trace, &history.scenario);
    if let Some(to) = &options.export {
        replay::export(&disk, to).map_err(|error| {
            let error = format!("cannot write the disk to {}: {error}", show_path(to));
            Failure::new(error, "name a directory that does not exist yet, or is empty")
        })?;
        return print(|out| writeln!(out, "{story}written to {}", show_path(to)));
    }
    if let Some(at) = &options.mount {
        return mount(&disk, at, &story);
    }
    print(|out| {
        out.write_all(story.as_bytes())?;
        disk.iter().try_for_each(|(path, node)| writeln!(out, "{}", replay::line(path, node)))
    })
}

fn mount(disk: &Tree, at: &Path, story: &str) -> Result<Outcome, Failure> {
    let hint =
        "it needs root and /dev/fuse, and a directory that exists; without, --export DIR writes the disk out";
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("cannot mount the disk on {}: {error}", show_path(at)), hint)
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, stop.clone()).map_err(|error| failed(&error))?;
    }
    let fs = replay::to_fs(disk).map_err(|error| failed(&format!("{error:?}")))?;
    let mounted = simfs::fuse::mount_here(&simfs::Disk::new(fs), at).map_err(|error| failed(&error))?;
    print(|out| writeln!(out, "{story}mounted on {}; Ctrl-C takes it away", show_path(at)))?;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(50));
    }
    mounted.crash().map_err(|error| failed(&error))?;
    Ok(Outcome::Holds)
}

/// `cutover-certify trace`.
pub(crate) fn trace(verb: &TraceVerb) -> Result<Outcome, Failure> {
    match verb {
        TraceVerb::Show(show) => {
            let recorded = read(&show.trace, &show.reading)?;
            only(&recorded, show.history)?;
            let range = show.from..=show.to.unwrap_or(u32::MAX);
            print(|out| tell::ops(&recorded, show.history, &range, show.effects, out))
        }
        TraceVerb::Stats(stats) => {
            let recorded = read(&stats.trace, &stats.reading)?;
            let file_bytes = std::fs::metadata(&stats.trace).map_or(0, |meta| meta.len());
            print(|out| tell::stats(&recorded, file_bytes, out))
        }
        TraceVerb::Tree(tree) => {
            let recorded = read(&tree.trace, &tree.reading)?;
            only(&recorded, tree.history)?;
            print(|out| tell::tree(&recorded, tree.history, tree.at, out))
        }
        TraceVerb::Export(options) => write(options, Encoding::Lines),
        TraceVerb::Import(options) => write(options, Encoding::Compact),
    }
}

fn only(recorded: &Recorded, history: Option<usize>) -> Result<(), Failure> {
    let there = recorded.histories.len();
    match history {
        Some(number) if !(1..=there).contains(&number) => {
            Err(Failure::new(format!("there is no history {number}"), format!("the file holds {there}")))
        }
        _ => Ok(()),
    }
}

/// Prints to standard output. That nobody reads on is no failure.
fn print(what: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<Outcome, Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    match what(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to standard output: {error}"), "is there space?"))
        }
        _ => Ok(Outcome::Holds),
    }
}

fn write(options: &Convert, encoding: Encoding) -> Result<Outcome, Failure> {
    let from = open(&options.trace)?;
    let memory_bytes = options.reading.memory_bytes();
    let Some(path) = &options.output else {
        if encoding == Encoding::Compact && io::stdout().is_terminal() {
            return Err(Failure::new(
                "the compact encoding is not for terminals",
                "name a file with --output",
            ));
        }
        let out = BufWriter::new(io::stdout().lock());
        let written = convert(from, out, encoding, memory_bytes).and_then(|(_, mut out)| Ok(out.flush()?));
        return match written {
            // Nobody reads on.
            Err(TraceFileError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Outcome::Holds),
            Err(error) => Err(cannot_read(&options.trace, &error)),
            Ok(()) => Ok(Outcome::Holds),
        };
    };
    let output = Output::create(path).map_err(|error| cannot_write(path, &error))?;
    let (_, output) = convert(from, output, encoding, memory_bytes).map_err(|error| match error {
        TraceFileError::Io(error) => cannot_write(path, &error),
        error => cannot_read(&options.trace, &error),
    })?;
    output.finish().map_err(|error| cannot_write(path, &error))?;
    Ok(Outcome::Holds)
}
