//! What a person sees at the end: the verdict table, the counterexamples, one line that sums up.

use std::fmt::{self, Write as _};

use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;

use crate::judge::{Judgement, Row, Verdict};

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

/// The table promise × model: live states in one column, crash states under the model in another.
pub fn table(judgement: &Judgement) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["promise", "live states", judgement.model, "runs"]);
    for row in &judgement.rows {
        let word = |verdict: &Option<Verdict>| match verdict {
            Some(verdict) => Cell::new(verdict.word()),
            None => Cell::new("–").set_alignment(CellAlignment::Left),
        };
        table.add_row([Cell::new(row.promise.name()), word(&row.live), word(&row.crash), word(&row.runs)]);
    }
    table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The table and all that explains it.
pub fn text(judgement: &Judgement) -> String {
    let mut out = table(judgement);
    for row in &judgement.rows {
        for (model, verdict) in verdicts(row, judgement.model) {
            let name = row.promise.name();
            match verdict {
                Verdict::Broken(found) => {
                    let _ = writeln!(out, "\n{name} is broken ({model}):");
                    for line in &found.lines {
                        let _ = writeln!(out, "  {line}");
                    }
                }
                Verdict::NotAsked { why } => {
                    let _ = writeln!(out, "\n{name} was not asked ({model}): {why}");
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
        let (model, points) = (judgement.model, judgement.ops + judgement.histories);
        let _ = writeln!(
            out,
            "Decided for what was recorded: every live state, and every crash state of the model `{model}` at each of \
             {points} crash points."
        );
    }
    out
}

fn verdicts<'a>(row: &'a Row, model: &'a str) -> impl Iterator<Item = (&'a str, &'a Verdict)> {
    let live = row.live.iter().map(|verdict| ("live states", verdict));
    let crash = row.crash.iter().map(move |verdict| (model, verdict));
    live.chain(crash).chain(row.runs.iter().map(|verdict| ("runs", verdict)))
}
