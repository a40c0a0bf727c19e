//! One fault in one deploy, by a name of its own: a counterexample tells it, and `--faults` takes it, so that a run that
//! failed can be made again alone.
//!
//! `2:17:eio` is the deploy, the operation of it and what fails there. `new:` stands before it for the history that starts
//! without the deploy path, `:next` behind it where the next version is deployed afterwards, undisturbed.

use std::fmt;

use simfs::fault::{Calls, Fault, Schedule, When};
use simfs::{Errno, Seq};

use crate::rerun::{Step, WhenHanging};

/// One fault in one deploy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct One {
    pub(crate) from_nothing: bool,
    pub(crate) deploy: u32,
    /// Its op, counted from the beginning of its deploy; of [`What::EioReading`] the how many-th call that reads.
    pub(crate) at: Seq,
    pub(crate) what: What,
    pub(crate) followed: bool,
}

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Eio,
    Enospc,
    /// From there on.
    EioFrom,
    EnospcFrom,
    /// The disk is read-only from there on.
    ReadOnly,
    /// The process that asked is killed.
    Kill,
    KillClient,
    CutConnections,
    EioReading,
}

const NAMES: [(What, &str); 9] = [
    (What::Eio, "eio"),
    (What::Enospc, "enospc"),
    (What::EioFrom, "eio-from"),
    (What::EnospcFrom, "enospc-from"),
    (What::ReadOnly, "read-only"),
    (What::Kill, "kill"),
    (What::KillClient, "kill-client"),
    (What::CutConnections, "cut"),
    (What::EioReading, "eio-reading"),
];

impl One {
    /// The one of this name.
    pub(crate) fn named(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("new:");
        let (from_nothing, rest) = (rest.is_some(), rest.unwrap_or(text));
        let before = rest.strip_suffix(":next");
        let (followed, rest) = (before.is_some(), before.unwrap_or(rest));
        let mut parts = rest.split(':');
        let (deploy, at) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let name = parts.next().filter(|_| parts.next().is_none())?;
        let (what, _) = NAMES.into_iter().find(|(_, known)| *known == name)?;
        (at > 0).then_some(Self { from_nothing, deploy, at, what, followed })
    }

    /// The deploy with it.
    pub(crate) fn step(self) -> Step {
        let (here, on) = (When::op(self.at), When::from_op(self.at));
        let reads = Calls::OPEN | Calls::READ | Calls::OPENDIR | Calls::READDIR;
        let (when, fault) = match self.what {
            What::Eio => (here, Fault::Error(Errno::IO)),
            What::Enospc => (here, Fault::Error(Errno::NOSPC)),
            What::EioFrom => (on, Fault::Error(Errno::IO)),
            What::EnospcFrom => (on, Fault::Error(Errno::NOSPC)),
            What::ReadOnly => (here, Fault::ReadOnly),
            What::Kill => (here, Fault::Kill),
            What::KillClient | What::CutConnections => (here, Fault::Hang),
            What::EioReading => (When::nth(reads, u64::from(self.at)), Fault::Error(Errno::IO)),
        };
        let when_hanging = match self.what {
            What::KillClient => Some(WhenHanging::KillClient),
            What::CutConnections => Some(WhenHanging::CutConnections),
            _ => None,
        };
        Step { faults: Schedule::one(when, fault), when_hanging, ..Step::deploy(self.deploy) }
    }
}

impl fmt::Display for One {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name) = NAMES.into_iter().find(|(what, _)| *what == self.what).expect("each has a name");
        let before = if self.from_nothing { "new:" } else { "" };
        let behind = if self.followed { ":next" } else { "" };
        write!(out, "{before}{}:{}:{name}{behind}", self.deploy, self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_by_its_name_and_fails_in_a_way_of_its_own() {
        let mut steps: Vec<String> = Vec::new();
        for (what, _) in NAMES {
            for (from_nothing, followed) in [(false, false), (true, false), (false, true), (true, true)] {
                let one = One { from_nothing, deploy: 4, at: 17, what, followed };
                assert_eq!(One::named(&one.to_string()), Some(one), "{one}");
            }
            let one = One { from_nothing: false, deploy: 4, at: 17, what, followed: false };
            steps.push(format!("{:?}", one.step()));
        }
        steps.sort_unstable();
        steps.dedup();
        assert_eq!(steps.len(), NAMES.len());
        let one = One { from_nothing: true, deploy: 1, at: 9, what: What::CutConnections, followed: true };
        assert_eq!(one.to_string(), "new:1:9:cut:next");
    }

    #[test]
    fn what_is_no_name_names_nothing() {
        for text in [
            "",
            ":",
            "2:17",
            "2:17:",
            "2:0:eio",
            "2:17:eio:",
            "2:17:eio:eio",
            "17:eio",
            "old:2:17:eio",
            "2:-1:eio",
            "2:17:EIO",
        ] {
            assert_eq!(One::named(text), None, "{text}");
        }
    }
}
