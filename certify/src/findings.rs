//! What a certification has found, told as text and as JSON.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use cutover_certify::cli::Host;
use cutover_certify::judge::Judgement;
use cutover_certify::report::{self, Outcome, Recordings};
use cutover_certify::tree::show_path;
use serde::Serialize;
use simfs::{ContentBytes, Trace};

use crate::Failure;

/// The verdicts over all histories so far, with what is told beside them.
#[derive(Default)]
pub(crate) struct Findings {
    judgement: Option<Judgement>,
    judging: Duration,
    /// How often the first history was recorded, if it is known.
    pub(crate) recordings: Option<Recordings>,
    /// The user's hosts.
    hosts: Vec<Host>,
    /// The trace file that the user has.
    file: Option<String>,
    content: Vec<Content>,
}

/// The content of one history.
#[derive(Serialize)]
struct Content {
    recorded_bytes: u64,
    stored_bytes: u64,
}

#[derive(Serialize)]
struct Json<'a> {
    version: u32,
    exit_status: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    recordings: Option<Recordings>,
    #[serde(flatten)]
    judgement: &'a Judgement,
    /// One for each history.
    content: &'a [Content],
}

impl Findings {
    /// Nothing yet. `hosts` are the user's, and so is the trace file, if there is one.
    pub(crate) fn new(hosts: &[Host], file: Option<String>) -> Self {
        Self { hosts: hosts.to_vec(), file, ..Self::default() }
    }

    /// Adds what was found about one history. `label` says, if it is not the first, how it differs from that.
    pub(crate) fn add(&mut self, judgement: Judgement, label: &str, judging: Duration, trace: &Trace) {
        let bytes = ContentBytes::of(trace);
        self.content.push(Content { recorded_bytes: bytes.recorded, stored_bytes: bytes.stored });
        self.judging += judging;
        self.judgement = Some(match self.judgement.take() {
            Some(before) => before.and(judgement, label),
            None => judgement,
        });
    }

    /// Tells all of it. `verb` says what was done with the histories before they were judged.
    pub(crate) fn tell(self, verb: &str, took: Duration, json: Option<&Path>) -> Result<Outcome, Failure> {
        let judgement = self.judgement.as_ref().ok_or_else(|| {
            // A file without a history is refused, and so is a command line without a file.
            Failure::new("no history was read", "name a trace file")
        })?;
        let outcome = report::outcome(judgement);
        if let Some(file) = json {
            self.write_json(file, judgement, outcome)?;
        }
        let recordings = self.recordings.map(|recordings| recordings.to_string()).unwrap_or_default();
        let text = format!(
            "{}{recordings}{verb} and judged in {:.1} s, of which {:.1} s for judging.\n{}",
            report::text(judgement, self.file.as_deref()),
            took.as_secs_f64(),
            self.judging.as_secs_f64(),
            report::hosts(judgement, &self.hosts),
        );
        // Nobody may be reading any more; the verdict is the exit status.
        let _ = io::stdout().write_all(text.as_bytes());
        Ok(outcome)
    }

    fn write_json(&self, file: &Path, judgement: &Judgement, outcome: Outcome) -> Result<(), Failure> {
        let json = Json {
            version: 2,
            exit_status: outcome as u8,
            recordings: self.recordings,
            judgement,
            content: &self.content,
        };
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(format!("cannot write {}: {error}", show_path(file)), "check the path after --json")
        };
        let mut text = serde_json::to_vec_pretty(&json).map_err(|error| failed(&error))?;
        text.push(b'\n');
        fs::write(file, text).map_err(|error| failed(&error))
    }
}
