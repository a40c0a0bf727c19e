//! [`Record`]: one line of the audit log that is kept on the host.
//!
//! ```text
//! 20261123190012 deploy live=20261123190012 was=20261122080000 base=20261122080000 at=2026-11-23T19:00:13Z by ann@laptop …
//! 20261123190012 rollback live=20261122080000 was=20261123190012 at=2026-11-23T19:10:00Z by bob@laptop …
//! ```
//! A line starts with the newest id that was ever given on this host, whatever it is about: a rollback does not make
//! the next id go backwards. It says what is live after it, and what was live before that; so the last line is enough
//! to know what "the release before" is. Lines are appended after the fact: a run that died at its cutover has none.
//!
//! Pure; nothing here trusts what is read back.

use std::fmt;

use crate::release::ReleaseId;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new release went live.
    Deploy {
        /// What it was copied from; `None` for a full upload.
        base: Option<ReleaseId>,
    },
    /// An earlier release went live again.
    Rollback,
    /// What a run that died had left was finished or undone.
    Recover {
        /// The unfinished releases that were removed.
        swept: Vec<ReleaseId>,
    },
    /// Old releases were removed by hand.
    Prune {
        /// These.
        removed: Vec<ReleaseId>,
    },
}

impl Event {
    /// Its word in the log.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Deploy { .. } => "deploy",
            Self::Rollback => "rollback",
            Self::Recover { .. } => "recover",
            Self::Prune { .. } => "prune",
        }
    }
}

/// One line, but for when and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The newest id that was ever given on the host.
    pub newest: ReleaseId,
    /// What was done.
    pub event: Event,
    /// What is live after it.
    pub live: Option<ReleaseId>,
    /// What was live before that.
    pub was: Option<ReleaseId>,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_dash =
            |id: &Option<ReleaseId>| id.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        let (live, was) = (or_dash(&self.live), or_dash(&self.was));
        write!(f, "{} {} live={live} was={was}", self.newest, self.event.word())?;
        match &self.event {
            Event::Deploy { base: None } => f.write_str(" base=full"),
            Event::Deploy { base: Some(base) } => write!(f, " base={base}"),
            Event::Rollback => Ok(()),
            Event::Recover { swept: ids } | Event::Prune { removed: ids } if ids.is_empty() => Ok(()),
            Event::Recover { swept: ids } | Event::Prune { removed: ids } => {
                write!(f, " removed={}", ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// A line as it is read back: [`Record`], when, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it says.
    pub record: Record,
    /// When, by the clock of whoever did it: `YYYY-MM-DDTHH:MM:SSZ`.
    pub at: String,
    /// Who, in their own words; not printable by itself.
    pub by: Vec<u8>,
}

/// Reads one line; `None` if it is torn, or not of this form.
pub fn parse(line: &[u8]) -> Option<Line> {
    let at = line.windows(4).position(|w| w == b" by ")?;
    let (words, by) = (line.get(..at)?, line.get(at + 4..)?.to_vec());
    let mut words = std::str::from_utf8(words).ok()?.split(' ');
    let id = |text: &str| ReleaseId::parse(text.as_bytes());
    let id_or_dash = |text: &str| if text == "-" { Some(None) } else { id(text).map(Some) };
    let newest = id(words.next()?)?;
    let event = words.next()?;
    let live = id_or_dash(words.next()?.strip_prefix("live=")?)?;
    let was = id_or_dash(words.next()?.strip_prefix("was=")?)?;
    let (last, at) = match (words.next()?, words.next()) {
        (at, None) => (None, at),
        (last, Some(at)) => (Some(last), at),
    };
    let at = at.strip_prefix("at=").filter(|at| at.bytes().all(|b| b.is_ascii_graphic()))?.to_owned();
    let removed = || match last {
        None => Some(Vec::new()),
        Some(word) => word.strip_prefix("removed=")?.split(',').map(id).collect(),
    };
    let event = match event {
        "deploy" => match last?.strip_prefix("base=")? {
            "full" => Event::Deploy { base: None },
            base => Event::Deploy { base: Some(id(base)?) },
        },
        "rollback" if last.is_none() => Event::Rollback,
        "recover" => Event::Recover { swept: removed()? },
        "prune" => Event::Prune { removed: removed()? },
        _ => return None,
    };
    words.next().is_none().then_some(Line { record: Record { newest, event, live, was }, at, by })
}

/// The whole lines of a log, or of its end.
pub fn lines(bytes: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty())
}
