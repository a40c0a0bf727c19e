//! The commands beside `deploy`, one file each. Each connects, observes, decides with [`crate::plan`] or
//! [`crate::drift`], and says what is so; those that change something then carry a course out.
//!
//! `plan`, `status`, `releases`, `verify` and `log` only look and take no lock. `rollback`, `recover` and `prune` take
//! it, and first make the directory of `current` durable, because they rely on it.
//!
//! The last line of each says what `current` points to; the line `live: …` of a rollback is such a line.

mod log;
mod plan;
mod prune;
mod recover;
mod releases;
mod rollback;
mod status;
mod unlock;
mod verify;

use std::future::Future;
use std::time::Duration;

use crate::config::Target;
use crate::deploy::interrupted;
use crate::drift::Hashes;
use crate::error::{Cause, DeployError, Live};
use crate::history::{self, Line};
use crate::manifest::{self, Manifest};
use crate::path::RelPath;
use crate::plan::{Course, Refusal};
use crate::release::ReleaseId;
use crate::remote::frame::Event;
use crate::remote::inspect;
use crate::remote::listing::{self, Tree};
use crate::remote::observed::{Observed, ReportError};
use crate::session::Session;

pub use log::log;
pub use plan::plan;
pub use prune::prune;
pub use recover::recover;
pub use releases::releases;
pub use rollback::rollback;
pub use status::status;
pub use unlock::unlock;
pub use verify::verify;

/// Gets the lines for standard output, each at once when it is true.
pub type Say<'a> = &'a mut (dyn FnMut(&str) + Send);

/// How a command ended that did what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done; or, of a question, yes.
    Yes,
    /// Of a question, no: nothing to do (`plan`), not equal (`verify`).
    No,
}

/// A connection, and what was seen when it was opened.
struct Opened {
    session: Session,
    host: Observed,
    live: Live,
}

/// Connects and observes, without the lock.
async fn look(target: &Target) -> Result<Opened, DeployError> {
    open(target, None, &mut |_| ()).await
}

/// Connects and observes. `lock` is how long to wait for the lock; with it the directory of `current` is durable.
async fn open(target: &Target, lock: Option<Duration>, say: Say<'_>) -> Result<Opened, DeployError> {
    let opening = async {
        let mut session = Session::connect(target).await?;
        let mut waiting = |who: &str| say(&format!("waiting for another run: {who}"));
        let host = session.open_waiting(&Manifest::empty(), lock, &mut waiting).await?;
        Ok((session, host))
    };
    let (session, host) = unless_interrupted(opening, Live::NotSeen).await?;
    let live = Live::of(&host.current);
    Ok(Opened { session, host, live })
}

/// Does it, or stops at a signal. Only for what leaves nothing behind when it stops.
async fn unless_interrupted<T>(
    work: impl Future<Output = Result<T, DeployError>>,
    live: Live,
) -> Result<T, DeployError> {
    tokio::select! {
        result = work => result,
        () = interrupted() => Err(DeployError::new(Cause::Interrupted, live)),
    }
}

impl Opened {
    /// A refusal, as the error of this run.
    fn refused(&self, refusal: Refusal) -> DeployError {
        DeployError::new(self.session.refusal(refusal), self.live.clone())
    }

    /// A checked course, or the defect of this program that it is not one.
    fn checked(&self, course: Result<Course, crate::plan::StepsError>) -> Result<Course, DeployError> {
        course.map_err(|defect| self.refused(defect.into()))
    }

    /// Sends a script that only looks; the bytes of its sections, in the order of `names`.
    async fn sections<const N: usize>(
        &mut self,
        step: &'static str,
        script: Vec<u8>,
        names: [&str; N],
    ) -> Result<[Vec<u8>; N], DeployError> {
        let live = self.live.clone();
        let session = &mut self.session;
        let looking = async {
            let mut found = [const { Vec::new() }; N];
            let phase = session.phase(step, script, |event| {
                if let Event::Section { name, bytes } = event
                    && let Some(slot) =
                        names.iter().position(|n| **n == name).and_then(|at| found.get_mut(at))
                {
                    *slot = bytes;
                }
            });
            match phase.await {
                Ok(()) => Ok(found),
                Err(failure) => Err(DeployError::new(session.cause(failure).await, live.clone())),
            }
        };
        unless_interrupted(looking, live.clone()).await
    }

    /// A release's seal and what is there.
    async fn inspect(&mut self, id: &ReleaseId) -> Result<(Manifest, Tree), DeployError> {
        let names = ["seal", "tree", "links"];
        let [seal, tree, links] =
            self.sections("looking at the release", inspect::release(id), names).await?;
        let why = if seal.is_empty() { "has no seal" } else { "has a torn seal" };
        let seal =
            manifest::parse(&seal).map_err(|_| self.refused(Refusal::NotComplete { id: id.clone(), why }))?;
        let tree = Tree::parse(&tree, &links).ok_or_else(|| self.not_understood("tree"))?;
        Ok((seal, tree))
    }

    /// The digests of these files of a release.
    async fn hashes(&mut self, id: &ReleaseId, paths: &[&RelPath]) -> Result<Hashes, DeployError> {
        let [hashes] = self.sections("hashing the release", inspect::hashes(id, paths), ["hashes"]).await?;
        let found =
            listing::parse_hashes_there(paths, &hashes).ok_or_else(|| self.not_understood("hashes"))?;
        Ok(paths.iter().map(|path| (*path).clone()).zip(found).collect())
    }

    /// The last lines of the audit log, the oldest first, each as it is and as it is understood.
    async fn log(&mut self, lines: usize) -> Result<Vec<(Vec<u8>, Option<Line>)>, DeployError> {
        let [log] = self.sections("reading the log", inspect::log(lines), ["log"]).await?;
        Ok(history::lines(&log).map(|line| (line.to_vec(), history::parse(line))).collect())
    }

    fn not_understood(&self, section: &str) -> DeployError {
        let cause = self.session.report_error(ReportError::Section(section.to_owned()));
        DeployError::new(cause, self.live.clone())
    }
}
