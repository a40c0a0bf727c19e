//! What a person sees at the end: the verdict table, the counterexamples, one line that sums up.

use std::fmt::{self, Write as _};

use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;

use crate::cli::Host;
use crate::judge::{Judgement, Row, UnderModel, Verdict};
use crate::tree;

/// The exit codes of `cutover-certify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing broken, nothing unknown.
    Holds = 0,
    /// A promise is broken.
    Broken = 1,
    /// Nothing could be judged.
    CouldNotRun = 2,
    /// Something was not observed or was cut off.
    Unknown = 3,
}

/// How often the history was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Recordings {
    /// So often.
    pub recorded: u32,
    /// How many of the traces differ; see [`distinct`](crate::distinct).
    pub distinct_traces: usize,
}

/// A line; nothing where there was one recording.
impl fmt::Display for Recordings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let traces = if self.distinct_traces == 1 { "trace" } else { "traces" };
        match self.recorded {
            0 | 1 => Ok(()),
            n => writeln!(out, "{n} recordings, {} distinct {traces}.", self.distinct_traces),
        }
    }
}

/// The outcome of a judgement. Worst wins: broken before unknown. A run in which nothing at all was put to the test
/// has shown nothing, so it is unknown too.
pub fn outcome(judgement: &Judgement) -> Outcome {
    if judgement.any(|verdict| matches!(verdict, Verdict::Broken(_))) {
        Outcome::Broken
    } else if judgement.any(|verdict| matches!(verdict, Verdict::Unknown { .. }))
        || !judgement.any(|verdict| *verdict == Verdict::Proved)
    {
        Outcome::Unknown
    } else {
        Outcome::Holds
    }
}

/// The table promise × model: live states in one column, crash states under each model in one of its own.
pub fn table(judgement: &Judgement) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    let columns = [&["promise", "live states"], &judgement.models[..], &["runs"]].concat();
    table.set_header(columns);
    for row in &judgement.rows {
        let word = |verdict: Option<&Verdict>| match verdict {
            Some(verdict) => Cell::new(verdict.word()),
            None => Cell::new("–").set_alignment(CellAlignment::Left),
        };
        let crash = judgement.models.iter().map(|model| word(row.under(model)));
        let cells = [Cell::new(row.promise.name()), word(row.live.as_ref())].into_iter().chain(crash);
        table.add_row(cells.chain([word(row.runs.as_ref())]));
    }
    table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The table and all that explains it. `file` is the trace file that the user has, if there is one.
pub fn text(judgement: &Judgement, file: Option<&str>) -> String {
    let file = file.map(|file| format!(" --trace {file}")).unwrap_or_default();
    let mut out = table(judgement);
    for row in &judgement.rows {
        for (states, verdict) in verdicts(row) {
            let name = row.promise.name();
            match verdict {
                Verdict::Broken(found) => {
                    let _ = writeln!(out, "\n{name} is broken ({states}):");
                    for line in &found.lines {
                        let _ = writeln!(out, "  {line}");
                    }
                    if let Some(token) = &found.token {
                        let what = if row.promise.is_about_runs() {
                            "the disk that this began with"
                        } else {
                            "replay it"
                        };
                        let _ = writeln!(out, "  {what}: cutover-certify replay {token}{file}");
                    }
                }
                Verdict::NotAsked { why } => {
                    let _ = writeln!(out, "\n{name} was not asked ({states}): {why}");
                }
                Verdict::Unknown { .. } | Verdict::Proved | Verdict::Held { .. } => {}
            }
        }
    }
    let unknown = judgement.rows.iter().flat_map(Row::verdicts).find_map(|verdict| match verdict {
        Verdict::Unknown { why } => Some(why),
        _ => None,
    });
    if let Some(why) = unknown {
        let _ = writeln!(out, "\nunknown, because {why}");
    }
    let _ = writeln!(
        out,
        "\n{} deploys, {} releases, {} operations, {} effects, {} sync calls.",
        judgement.deploys, judgement.releases, judgement.ops, judgement.effects, judgement.syncs,
    );
    let told = judgement.rows.iter().any(|row| row.told().is_some());
    if let Some(unsynced) = judgement.unsynced.as_ref().filter(|_| told) {
        let _ = writeln!(out, "{unsynced}");
    }
    for tried in &judgement.tried {
        let _ = writeln!(out, "{}: {}.", tried.promise.name(), tried.what);
    }
    if let Some(tally) = judgement.readers.processes {
        let _ = writeln!(
            out,
            "Read meanwhile, by processes: {} times a release by the path that `current` resolved to, {} times one by a \
             directory kept open, {} times each file through `current`, of which {} mixed releases; {} undecided; \
             {} times across a cutover, {} times in a directory that `current` had left.",
            tally.once, tally.held, tally.each, tally.mixed, tally.undecided, tally.across, tally.left,
        );
    }
    if unknown.is_none() {
        let readers = judgement.readers;
        let _ = writeln!(
            out,
            "Decided for readers: {} interleavings of those that resolve `current` once or hold its directory, {} lookups \
             through `current`. Who goes through it for each file may mix releases at {} cutovers.",
            readers.interleavings, readers.lookups, readers.mixes,
        );
        let points = judgement.ops + judgement.histories;
        let (models, s) = match &judgement.models[..] {
            [one] => (one.to_string(), ""),
            several => (several.join(", "), "s"),
        };
        let _ = writeln!(
            out,
            "Decided for what was recorded: every live state, and every crash state of the model{s} {models} at each of \
             {points} crash points."
        );
    }
    out
}

/// A line for each of the user's hosts: what is broken there.
pub fn hosts(judgement: &Judgement, hosts: &[Host]) -> String {
    let mut out = String::new();
    for Host { name, model } in hosts {
        let broken = |row: &&Row| {
            let under = row.under(model.name).into_iter();
            row.live.iter().chain(under).chain(&row.runs).any(|verdict| matches!(verdict, Verdict::Broken(_)))
        };
        let broken: Vec<&str> = judgement.rows.iter().filter(broken).map(|row| row.promise.name()).collect();
        let what = if broken.is_empty() {
            "nothing is broken".to_owned()
        } else {
            format!("broken: {}", broken.join(", "))
        };
        let _ = writeln!(out, "On {} ({}): {what}.", tree::show(name.as_bytes()), model.name);
    }
    out
}

/// What there is to say about a promise, with the states it is about. Where crash states of several models break it, one
/// counterexample is told.
fn verdicts(row: &Row) -> Vec<(String, &Verdict)> {
    let mut all: Vec<(String, &Verdict)> = Vec::new();
    all.extend(row.live.iter().map(|verdict| ("live states".to_owned(), verdict)));
    let broken = |crash: &&UnderModel| matches!(crash.verdict, Verdict::Broken(_));
    let names =
        |those: Vec<&UnderModel>| those.iter().map(|crash| crash.model).collect::<Vec<_>>().join(", ");
    if let Some(told) = row.told() {
        all.push((names(row.crash.iter().filter(broken).collect()), &told.verdict));
    }
    // All models are asked the same, so one that was not stands for all.
    if let Some(other) = row.crash.iter().find(|crash| matches!(crash.verdict, Verdict::NotAsked { .. })) {
        all.push(("crash states".to_owned(), &other.verdict));
    }
    all.extend(row.runs.iter().map(|verdict| ("runs".to_owned(), verdict)));
    all
}
