//! Progress: a bar on a terminal, plain lines elsewhere. All of it on standard error.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::time::Duration;

use cutover_certify::record::{CutShort, Progress};
use cutover_certify::tree::{show, show_path};
use indicatif::{ProgressBar, ProgressStyle};

/// See the [module](self).
pub(crate) struct Console {
    pub(crate) bar: ProgressBar,
    terminal: bool,
}

impl Console {
    pub(crate) fn new(deploys: usize) -> Self {
        let terminal = io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(deploys as u64) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} [{bar:24}] {pos}/{len} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, terminal }
    }

    /// Runs whose number is not known before.
    pub(crate) fn runs(&self, what: &'static str) {
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}: {pos} {elapsed}") {
            self.bar.set_style(style);
        }
        self.bar.set_message(what);
        if !self.terminal {
            eprintln!("{what}");
        }
    }

    pub(crate) fn line(&self, text: &str) {
        if self.terminal { self.bar.println(text) } else { eprintln!("{text}") }
    }

    pub(crate) fn tool_output(&self, cut: &CutShort) {
        let lines: Vec<&[u8]> = cut.output.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return self.line(&format!("{cut}; it printed nothing"));
        }
        self.line(&format!("{cut}; the end of its output:"));
        for line in &lines[lines.len().saturating_sub(20)..] {
            self.line(&format!("  | {}", show(line)));
        }
    }
}

impl Progress for Console {
    fn begins(&mut self, deploy: usize, of: usize, source: &Path) {
        self.bar.set_message(format!("deploy {deploy} of {of}: {}", show_path(source)));
    }

    fn ended(&mut self, deploy: usize, ops: u32, took: Duration) {
        self.bar.inc(1);
        self.line(&format!("deploy {deploy}: {ops} operations on the disk, {:.2} s", took.as_secs_f64()));
    }
}
