//! Deploys of real tools, from the traces that were recorded of them (`tests/traces`).

use std::fmt::Display;
use std::fs::File;
use std::io::BufReader;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::OnceLock;

use cutover_certify::judge::{self, Promise, Scenario, Verdict, op_in_words};
use cutover_certify::trace_file::{self, DEFAULT_MEMORY_BYTES, History};
use simfs::{Model, Seq, Trace};

use crate::tree::shown;

/// Several deploys of one tool, one after the other.
#[derive(Debug)]
pub(crate) struct Deploys {
    /// Name on the command line and in the table.
    pub(crate) name: &'static str,
    /// The command that deployed.
    pub(crate) tool: String,
    /// What was recorded.
    pub(crate) trace: Trace,
    /// What the certifier has to know beside it.
    pub(crate) scenario: Scenario,
}

/// The traces, and which history of each.
macro_rules! traces {
    ($($name:literal: $file:literal, $nth:literal;)*) => {
        &[$(($name, include_bytes!(concat!("../../../traces/", $file, ".cutover-trace")), $nth)),*]
    };
}

/// Ours, other tools that are right, and canaries.
const TRACES: &[(&str, &[u8], usize)] = traces! {
    "engine": "engine", 0;
    "engine-from-nothing": "engine", 1;
    "correct": "correct", 0;
    "correct-from-nothing": "correct", 1;
    "correct-copy-fsync": "correct-copy-fsync", 0;
    "correct-fdatasync": "correct-fdatasync", 0;
    "rsync": "rsync", 0;
    "never-syncs": "never-syncs", 0;
    "no-barrier-before": "no-barrier-before", 0;
    "no-barrier-after": "no-barrier-after", 0;
    "barrier-after-cutover": "barrier-after-cutover", 0;
    "directories-first": "directories-first", 0;
    "fsync-status": "fsync-status", 0;
    "fdatasync-status": "fdatasync-status", 0;
    "fsync-files-only": "fsync-files-only", 0;
    "fsync-not-releases": "fsync-not-releases", 0;
    "fdatasync-modes": "fdatasync-modes", 0;
    "link-after-barrier": "link-after-barrier", 0;
    "cleanup-before-durable": "cleanup-before-durable", 0;
    "ln-sfn": "ln-sfn", 0;
    "rm-ln": "rm-ln", 0;
    "keeps-two": "keeps-two", 0;
    "seed-shared": "seed-shared", 0;
    "upload-into-live": "upload-into-live", 0;
};

/// All of them.
pub(crate) fn all() -> &'static [Deploys] {
    static ALL: OnceLock<Vec<Deploys>> = OnceLock::new();
    ALL.get_or_init(|| {
        TRACES
            .iter()
            .map(|(name, file, nth)| {
                let histories =
                    trace_file::read(*file, DEFAULT_MEMORY_BYTES).map(|recorded| recorded.histories);
                let histories = histories.unwrap_or_else(|error| panic!("the trace of {name}: {error}"));
                let history = histories.into_iter().nth(*nth);
                Deploys::new(
                    name,
                    history.unwrap_or_else(|| panic!("the trace of {name} has no history {nth}")),
                )
            })
            .collect()
    })
}

/// The histories of a trace file, by the file's name.
pub(crate) fn of_file(path: &Path) -> Result<Vec<&'static Deploys>, String> {
    let cannot = |error: &dyn Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| cannot(&error))?;
    let recorded =
        trace_file::read(BufReader::new(file), DEFAULT_MEMORY_BYTES).map_err(|error| cannot(&error))?;
    let stem = path.file_stem().map(|stem| shown(stem.as_bytes())).unwrap_or_default();
    let name = |nth| if nth == 1 { stem.clone() } else { format!("{stem}-{nth}") };
    // They live as long as the program.
    let leaked =
        |(nth, history)| -> &'static Deploys { Box::leak(Box::new(Deploys::new(name(nth).leak(), history))) };
    Ok((1..).zip(recorded.histories).map(leaked).collect())
}

impl Deploys {
    fn new(name: &'static str, history: History) -> Self {
        let History { about, scenario, trace } = history;
        let tool = String::from_utf8_lossy(&about.subject).split_whitespace().collect::<Vec<_>>().join(" ");
        Self { name, tool, trace, scenario }
    }

    /// An op in words.
    pub(crate) fn told(&self, op: Seq) -> String {
        op_in_words(&self.trace, &self.scenario, op)
    }

    /// Which of these the certifier takes for proved over all crash states of a model.
    pub(crate) fn proved(&self, model: &Model, promises: [Promise; 2]) -> [bool; 2] {
        let judgement = judge::judge(&self.trace, &self.scenario, &[model]);
        promises.map(|promise| {
            let row = judgement.rows.iter().find(|row| row.promise == promise);
            row.and_then(|row| row.under(model.name)).is_some_and(|verdict| *verdict == Verdict::Proved)
        })
    }
}
