//! [`Progress`]: what a deploy is doing, for people who watch it. All of it on standard error: a bar on a terminal, a
//! line a phase elsewhere. Standard output has the documented lines and nothing else. Decides nothing.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::release::ReleaseId;
use crate::text::human_bytes;

/// Shows nothing, unless told otherwise. Clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Progress(Shown);

#[derive(Clone, Debug, Default)]
enum Shown {
    #[default]
    Nothing,
    Lines,
    Bar {
        bar: ProgressBar,
        /// Files on their way, and how many it will be.
        files: Arc<(AtomicUsize, AtomicUsize)>,
    },
}

const WAITING: &str = "{spinner} {msg} {elapsed}";
/// Fits into 80 columns.
const UPLOADING: &str =
    "{spinner} {msg} [{bar:16}] {decimal_bytes}/{decimal_total_bytes}, {decimal_bytes_per_sec}, {prefix}";

impl Progress {
    /// On standard error.
    pub fn on_stderr() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(Shown::Lines);
        }
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(Shown::Bar { bar, files: Arc::default() })
    }

    /// What is done from now on; `words` are printable.
    pub fn phase(&self, words: &str) {
        self.show(WAITING, words, words);
    }

    /// From now on so many files with so many bytes are uploaded; `base` is copied meanwhile.
    pub fn upload(&self, base: Option<&ReleaseId>, files: usize, bytes: u64) {
        if let Shown::Bar { bar, files: count } = &self.0 {
            count.0.store(0, Ordering::Relaxed);
            count.1.store(files, Ordering::Relaxed);
            bar.set_length(bytes);
            bar.set_position(0);
            bar.reset_eta();
            bar.set_prefix(format!("0 of {}", counted(files)));
        }
        let copying = base.map_or_else(String::new, |base| format!("copying {base}, "));
        self.show(
            UPLOADING,
            "uploading",
            &format!("{copying}uploading {}, {}", counted(files), human_bytes(bytes)),
        );
    }

    /// Everything is sent, and the base is still being copied. The line of the upload says so already.
    pub fn copying(&self, base: &ReleaseId) {
        if let Shown::Bar { .. } = &self.0 {
            self.phase(&format!("copying {base}"));
        }
    }

    /// So many more bytes of files are on their way.
    pub fn bytes(&self, count: usize) {
        if let Shown::Bar { bar, .. } = &self.0 {
            bar.inc(count as u64);
        }
    }

    /// One more file is on its way whole.
    pub fn file(&self) {
        if let Shown::Bar { bar, files } = &self.0 {
            let (done, all) = (files.0.fetch_add(1, Ordering::Relaxed) + 1, files.1.load(Ordering::Relaxed));
            bar.set_prefix(format!("{done} of {}", counted(all)));
        }
    }

    /// Does something, such as printing a line, while the bar is off the screen.
    pub fn beside<T>(&self, act: impl FnOnce() -> T) -> T {
        match &self.0 {
            Shown::Bar { bar, .. } => bar.suspend(act),
            _ => act(),
        }
    }

    /// Takes the bar off the screen.
    pub fn end(&self) {
        if let Shown::Bar { bar, .. } = &self.0 {
            bar.finish_and_clear();
        }
    }

    fn show(&self, template: &str, words: &str, line: &str) {
        match &self.0 {
            Shown::Nothing => {}
            Shown::Lines => {
                // Nobody has to read it.
                let _ = writeln!(std::io::stderr(), "{line}");
            }
            Shown::Bar { bar, .. } => {
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style);
                }
                bar.set_message(words.to_owned());
            }
        }
    }
}

fn counted(files: usize) -> String {
    if files == 1 { "1 file".to_owned() } else { format!("{files} files") }
}
