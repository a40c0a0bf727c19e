//! [`Holder`]: who holds the lock of a deploy path, as its file on the host says. Never trusted to be clean.

use jiff::{SignedDuration, Timestamp};

use crate::remote::frame::Event;
use crate::text::printable;

/// Who holds the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The run's token; printable.
    pub token: String,
    /// Who it is, in words for people; printable, one line.
    pub who: String,
    /// Since when, by the host's clock.
    pub since: Option<Timestamp>,
    /// For how long, by the host's clock.
    pub age: Option<SignedDuration>,
}

impl Holder {
    /// What a script reported: a section `holder`, then a note `now`.
    pub fn among(events: &[Event]) -> Option<Self> {
        let now = events.iter().rev().find_map(|e| match e {
            Event::Note(words) => match words.as_slice() {
                [word, now] if word == "now" => now.parse().ok(),
                _ => None,
            },
            Event::Section { .. } => None,
        });
        events.iter().rev().find_map(|e| match e {
            Event::Section { name, bytes } if name == "holder" => Self::parse(bytes, now),
            _ => None,
        })
    }

    /// Reads a holder file: token, boot, process, its start, seconds since 1970, words. `now` is the host's time.
    ///
    /// `None` if the file is empty. A file in another form still says something.
    pub fn parse(bytes: &[u8], now: Option<i64>) -> Option<Self> {
        let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
        let words: Vec<&[u8]> = line.splitn(6, |b| *b == b' ').collect();
        let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<i64>().ok();
        if let [token, _boot, process, _start, since, who] = words.as_slice()
            && number(process).is_some()
            && let Some(seconds) = number(since)
        {
            let since = Timestamp::from_second(seconds).ok();
            let age = now.and_then(|now| now.checked_sub(seconds)).filter(|s| *s >= 0);
            return Some(Self {
                token: printable(token),
                who: printable(who),
                since,
                age: age.map(SignedDuration::from_secs),
            });
        }
        let (token, who) = match line.iter().position(|b| *b == b' ') {
            Some(at) => line.split_at(at),
            None => (line, &b""[..]),
        };
        let who = printable(who.trim_ascii());
        (!line.is_empty()).then(|| Self { token: printable(token), who, since: None, age: None })
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.who.is_empty() { "it does not say who" } else { &self.who })?;
        if let Some(since) = self.since {
            write!(f, ", since {}", since.strftime("%Y-%m-%d %H:%M:%S UTC"))?;
        }
        if let Some(age) = self.age {
            write!(f, " ({})", age_in_words(age.as_secs()))?;
        }
        let short: String = self.token.chars().take(8).collect();
        write!(f, ", token {short}")
    }
}

/// What became of a lock that was to be freed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlocked {
    /// How it ended.
    pub end: UnlockEnd,
    /// Whose it was, or is.
    pub holder: Option<Holder>,
    /// Whether the process that took it is alive.
    pub main_alive: bool,
    /// How many processes of that run were seen, itself included.
    pub processes: usize,
}

/// How unlocking ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnlockEnd {
    /// Nobody held it.
    Free,
    /// A run that is not alive had left it; it is free now.
    Stale,
    /// A run that is alive holds it.
    Held,
    /// Its run was ended; it is free now.
    Killed,
    /// Its run could not be ended: other user's processes, or none that Cutover started.
    Stays,
}

impl Unlocked {
    /// Reads what the script reported.
    pub fn read(events: &[Event]) -> Self {
        let mut out =
            Self { end: UnlockEnd::Stays, holder: Holder::among(events), main_alive: false, processes: 0 };
        for event in events {
            let Event::Note(words) = event else { continue };
            let words: Vec<&str> = words.iter().map(String::as_str).filter(|w| !w.is_empty()).collect();
            match words.as_slice() {
                ["unlock", "free"] => out.end = UnlockEnd::Free,
                ["unlock", "stale"] => out.end = UnlockEnd::Stale,
                ["unlock", "held"] => out.end = UnlockEnd::Held,
                ["unlock", "killed"] => out.end = UnlockEnd::Killed,
                ["main", _] => out.main_alive = true,
                ["family", pids @ ..] => out.processes = pids.len(),
                _ => {}
            }
        }
        out
    }
}

fn age_in_words(seconds: i64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
