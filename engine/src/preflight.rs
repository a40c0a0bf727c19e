//! [`Unfit`]: why nothing may be begun on a host, found out before `releases/` is touched.
//!
//! The opening script tries on a scratch folder in `.cutover` what a deploy stands on: to make files, to replace a link
//! atomically, to make something durable. Room is not here: how much is needed is only known with a plan.

use crate::remote::frame::Event;
use crate::remote::observed::Current;
use crate::text::printable;

/// What a host cannot do, or this user not on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The user may not make files where a deploy has to.
    #[error("the user may not make files in {0}")]
    Denied(Place),
    /// Something that is no directory is where the deploy path should be.
    #[error("the deploy path is not a directory")]
    NotDirectory,
    /// `mv -T` does not replace a link by a link.
    #[error("a link cannot be replaced atomically: `mv -T` does not do it here")]
    NoAtomicRename,
    /// Part of the layout is a link to elsewhere, or another file system.
    #[error("{0}/ is not in the deploy path itself: it is a link, or on another file system")]
    Apart(&'static str),
    /// Nothing can be made durable, and the configuration requires it.
    #[error("nothing can be made durable there: sync(1) fails")]
    NoSync,
}

/// Where a deploy makes files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Place {
    /// The folder that the deploy path has to be made in.
    #[error("the folder that is to hold the deploy path")]
    Above,
    /// The deploy path.
    #[error("the deploy path")]
    Path,
    /// `releases/`.
    #[error("releases/")]
    Releases,
    /// `.cutover/`, or something in it.
    #[error(".cutover/")]
    Private,
}

impl Unfit {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Denied(Place::Above) => {
                "make the deploy path on the host and give it to the deploy user (mkdir, then chown), as root"
            }
            Self::Denied(_) => {
                "give it to the deploy user on the host (chown -R), or deploy as the user it belongs to"
            }
            Self::NotDirectory => "move it away, or name another `path` in cutover.toml",
            Self::NoAtomicRename => {
                "the host needs `mv` of GNU coreutils or of busybox, and a file system with links"
            }
            Self::Apart(_) => {
                "move the whole deploy path to the other place, and let `path` in cutover.toml name it"
            }
            Self::NoSync => {
                "see `cutover check`; `durability = \"best-effort\"` in cutover.toml deploys all the same, and then \
                 nothing is guaranteed after a power loss"
            }
        }
    }
}

/// The refusal in what the opening script reported, if there is one.
pub fn unfit(events: &[Event]) -> Option<Unfit> {
    events.iter().find_map(|event| {
        let Event::Note(words) = event else { return None };
        match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["fail", "denied", place] => Some(Unfit::Denied(match *place {
                "above" => Place::Above,
                "releases" => Place::Releases,
                "private" => Place::Private,
                _ => Place::Path,
            })),
            ["fail", "not-a-directory"] => Some(Unfit::NotDirectory),
            ["fail", "no-atomic-rename"] => Some(Unfit::NoAtomicRename),
            ["fail", "apart", "releases"] => Some(Unfit::Apart("releases")),
            ["fail", "apart", _] => Some(Unfit::Apart(".cutover")),
            ["fail", "no-sync"] => Some(Unfit::NoSync),
            _ => None,
        }
    })
}

/// What a deploy goes on in spite of, with `durability = "best-effort"`: why nothing can be made durable, in words of
/// the host.
pub fn undurable(events: &[Event]) -> Option<String> {
    events.iter().find_map(|event| match event {
        Event::Section { name, bytes } if name == "undurable" => {
            let first = bytes.split(|b| *b == b'\n').find(|l| !l.is_empty()).unwrap_or(b"sync(1) fails");
            Some(printable(first))
        }
        _ => None,
    })
}

/// What `current` was when it was looked at last, by a script that did not come as far as a whole report; `None` if the
/// deploy path cannot be entered.
pub fn current(events: &[Event]) -> Option<Current> {
    let leads =
        |event: &Event| matches!(event, Event::Note(words) if words.as_slice() == ["points", "somewhere"]);
    let dangles = !events.iter().any(leads);
    events.iter().rev().find_map(|event| match event {
        Event::Section { name, bytes } if name == "points" && !bytes.is_empty() => {
            let text = bytes.strip_suffix(b"\n").unwrap_or(bytes).to_vec();
            // Which folder it is is not asked here.
            Some(Current::Link { text, identity: (!dangles).then(String::new) })
        }
        Event::Note(words) => match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["points", "nowhere"] => Some(Current::Absent),
            ["points", "other"] => Some(Current::Other),
            _ => None,
        },
        Event::Section { .. } => None,
    })
}
