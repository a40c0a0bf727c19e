//! What real readers found, judged with the goldens of the trace.
//!
//! The rules are those of the decision, with what is known of a pass: its first and its last instant, and the inode of the
//! directory it read. Where these leave room, the reader is believed, so nothing is called broken that was not:
//! something may be missing if a lawful prune of the release began before the pass ended, even if the name was looked
//! up earlier; and what was found through `current` may be of any release that was live during the pass.

use std::cell::OnceCell;

use serde::Serialize;
use simfs::{Ino, Seq};

use super::Decided;
use crate::judge::history::{Current, History};
use crate::judge::words::Words;
use crate::judge::{Counterexample, Verdict};
use crate::readers::{Found, How, Pass, Passes, Seen, View, seen};
use crate::tree::show;

/// An op is in the trace before the program that called it has its answer, and only then do names change for other
/// programs. So a reader may be behind the trace, by as many ops as programs wait for at once; never by more than
/// this.
const BEHIND: Seq = 16;

/// Of more than one pass in so many nothing is known: then nothing is said to have held.
const UNDECIDED_ONE_IN: u32 = 10;

/// What readers as processes found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Whole releases read by those that resolved `current` once.
    pub once: u32,
    /// Whole releases read by those that hold directories open.
    pub held: u32,
    /// Passes over the files of the application, through `current` for each.
    pub each: u32,
    /// How many of the last kind got files of more than one release.
    pub mixed: u32,
    /// Passes during which `current` was switched from one release to another.
    pub across: u32,
    /// How often those that hold directories open read one that `current` had been switched away from.
    pub left: u32,
    /// Passes that could not be judged.
    pub undecided: u32,
}

impl Tally {
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            once: self.once + other.once,
            held: self.held + other.held,
            each: self.each + other.each,
            mixed: self.mixed + other.mixed,
            across: self.across + other.across,
            left: self.left + other.left,
            undecided: self.undecided + other.undecided,
        }
    }
}

/// What there is to say about one pass.
#[derive(Debug)]
enum Opinion {
    Whole {
        mixed: bool,
    },
    /// Nothing was live yet.
    Early,
    Undecided(String),
    /// It cannot be what the trace says: one of the two did not see all.
    Unlike(String),
    Broken(String),
}

struct Judge<'a> {
    history: &'a History,
    decided: &'a Decided,
    paths: &'a [Vec<u8>],
    /// Each release as a reader should see it; worked out when it is needed.
    views: Vec<OnceCell<View>>,
}

/// The verdict about all passes of a recording.
pub(super) fn judge(
    passes: &Passes,
    history: &History,
    decided: &Decided,
    words: &Words<'_>,
) -> (Verdict, Tally) {
    let views = history.releases.iter().map(|_| OnceCell::new()).collect();
    let judge = Judge { history, decided, paths: &passes.paths, views };
    let mut tally = Tally::default();
    let mut broken: Option<(Seq, Vec<String>)> = None;
    let (mut undecided, mut unlike): (Option<String>, Option<String>) = (None, None);
    for pass in &passes.all {
        match judge.pass(pass) {
            Opinion::Whole { mixed } => {
                let count = match pass.how {
                    How::Once => &mut tally.once,
                    How::Held => &mut tally.held,
                    How::Each => &mut tally.each,
                };
                *count += 1;
                tally.mixed += u32::from(mixed);
                tally.across += u32::from(judge.is_across_a_cutover(pass));
                tally.left += u32::from(pass.how == How::Held && judge.was_left(pass));
            }
            Opinion::Early => {}
            Opinion::Undecided(why) => {
                tally.undecided += 1;
                undecided.get_or_insert(why);
            }
            Opinion::Unlike(why) => {
                tally.undecided += 1;
                unlike.get_or_insert(why);
            }
            Opinion::Broken(what) => {
                if broken.as_ref().is_none_or(|(before, _)| *before > pass.end) {
                    broken = Some((pass.end, told(pass, &what, words)));
                }
            }
        }
    }
    let held = tally.once + tally.held + tally.each;
    let all = held + tally.undecided;
    let verdict = if let Some((at, lines)) = broken {
        Verdict::Broken(Counterexample::at(at, lines))
    } else if let Some(lost) = &passes.lost {
        Verdict::Unknown { why: format!("a reader was lost: {lost}") }
    } else if let Some(why) = unlike {
        Verdict::Unknown { why }
    } else if let Some(why) = undecided.filter(|_| tally.undecided * UNDECIDED_ONE_IN > all) {
        let undecided = tally.undecided;
        let why = format!("{undecided} of {all} passes of readers could not be judged, the first: {why}");
        Verdict::Unknown { why }
    } else if held > 0 {
        Verdict::Held { held, of: held }
    } else {
        Verdict::NotAsked { why: "no reader found a release".to_owned() }
    };
    (verdict, tally)
}

fn told(pass: &Pass, what: &str, words: &Words<'_>) -> Vec<String> {
    let who = match pass.how {
        How::Once => "that resolved `current` once",
        How::Held => "that held a directory open",
        How::Each => "that went through `current` for each file",
    };
    let (begin, end) = (words.op(pass.begin), words.op(pass.end));
    vec![format!("a reader {who} found, after {begin} and not later than {end}:"), what.to_owned()]
}

impl Judge<'_> {
    fn pass(&self, pass: &Pass) -> Opinion {
        match &pass.found {
            Found::Release { dir, view } => self.release(pass, *dir, view),
            Found::Files(view) => self.files(pass, view),
            Found::NoRelease(error) => {
                if self.is_early(pass) {
                    Opinion::Early
                } else if self.live(pass).any(|release| self.is_pruned(release, pass)) {
                    Opinion::Undecided(format!("a release was removed while it was resolved: {error}"))
                } else {
                    Opinion::Broken(format!("`current` could not be resolved: {error}"))
                }
            }
        }
    }

    fn release(&self, pass: &Pass, dir: Ino, view: &View) -> Opinion {
        let Some(release) = self.history.releases.iter().position(|known| known.golden.ino == dir) else {
            let why = "a reader was led to a directory that `current` never resolved to in the trace";
            return Opinion::Unlike(why.to_owned());
        };
        if let Some(undecided) = unreadable(view) {
            return undecided;
        }
        let known = &self.history.releases[release];
        let broken = |path: &[u8], what: &str| {
            let path = if path.is_empty() { "the directory itself".to_owned() } else { show(path) };
            Opinion::Broken(format!("in {}, {path} {what}", known.name()))
        };
        if let Some(wrong) = &known.wrong {
            return broken(&wrong.path, &wrong.what);
        }
        let should = self.view(release);
        for (path, should) in should {
            match view.get(path) {
                None if self.is_pruned(release, pass) => {}
                None => return broken(path, "is missing"),
                Some(is) if is == should => {}
                Some(is) => return broken(path, &is.difference(should)),
            }
        }
        match view.keys().find(|path| !should.contains_key(*path)) {
            Some(extra) => broken(extra, "should not be there"),
            None => Opinion::Whole { mixed: false },
        }
    }

    fn files(&self, pass: &Pass, view: &View) -> Opinion {
        if let Some(undecided) = unreadable(view) {
            return undecided;
        }
        if view.is_empty() && self.is_early(pass) {
            return Opinion::Early;
        }
        let live: Vec<usize> =
            self.live(pass).filter(|release| self.history.releases[*release].wrong.is_none()).collect();
        let is_of = |release: usize, path: &Vec<u8>| self.view(release).get(path) == view.get(path);
        let gone = self.is_early(pass) || live.iter().any(|release| self.is_pruned(*release, pass));
        let excused = |path: &Vec<u8>| gone && !view.contains_key(path);
        let wrong = self
            .paths
            .iter()
            .find(|path| !excused(path) && !live.iter().any(|release| is_of(*release, path)));
        if let Some(path) = wrong {
            let what = if view.contains_key(path) { "is not what" } else { "is missing, unlike" };
            return Opinion::Broken(format!("`current/{}` {what} any release has that was live", show(path)));
        }
        let one = |release: &usize| self.paths.iter().all(|path| excused(path) || is_of(*release, path));
        Opinion::Whole { mixed: !live.iter().any(one) }
    }

    /// The releases that a reader may have found through `current` during a pass.
    fn live(&self, pass: &Pass) -> impl Iterator<Item = usize> {
        let from = pass.begin.saturating_sub(BEHIND);
        let current = &self.history.current;
        let during = move |at: usize| {
            current[at].0 <= pass.end && current.get(at + 1).is_none_or(|(next, _)| *next > from)
        };
        current.iter().enumerate().filter_map(move |(at, (_, to))| match to {
            Current::Release(release) if during(at) => Some(*release),
            _ => None,
        })
    }

    /// `current` was switched between the first and the last instant of a pass.
    fn is_across_a_cutover(&self, pass: &Pass) -> bool {
        let during = |at: Seq| pass.begin < at && at <= pass.end;
        self.history.cutovers.iter().any(|cutover| cutover.from.is_some() && during(cutover.at))
    }

    /// When the pass began, `current` had been switched away from the release that it read.
    fn was_left(&self, pass: &Pass) -> bool {
        let Found::Release { dir, .. } = pass.found else { return false };
        let read = |release: usize| self.history.releases[release].golden.ino == dir;
        let before = self.history.cutovers.iter().take_while(|cutover| cutover.at <= pass.begin);
        before.last().is_some_and(|last| !read(last.to))
            && self
                .history
                .cutovers
                .iter()
                .any(|cutover| cutover.at <= pass.begin && cutover.from.is_some_and(read))
    }

    /// Nothing had been acknowledged when the pass began, so nothing is what is permitted.
    fn is_early(&self, pass: &Pass) -> bool {
        self.history.first_ack().is_none_or(|ack| pass.begin.saturating_sub(BEHIND) <= ack)
    }

    fn is_pruned(&self, release: usize, pass: &Pass) -> bool {
        self.decided.prunes[release].is_some_and(|begun| begun <= pass.end)
    }

    fn view(&self, release: usize) -> &View {
        self.views[release].get_or_init(|| {
            let tree = self.history.releases[release].golden.to_tree();
            tree.iter().map(|(path, node)| (path.clone(), seen(node))).collect()
        })
    }
}

fn unreadable(view: &View) -> Option<Opinion> {
    view.iter().find_map(|(path, seen)| match seen {
        Seen::Unreadable { error } => Some(Opinion::Undecided(format!("{}: {error}", show(path)))),
        _ => None,
    })
}
