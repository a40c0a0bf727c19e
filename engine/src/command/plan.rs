//! `cutover plan`: what a deploy would do now.

use super::{Answer, Say, unless_interrupted};
use crate::config::{Target, Unreadable};
use crate::error::{Cause, DeployError, Live};
use crate::plan::{self, Wish};
use crate::release::ReleaseId;
use crate::session::Session;
use crate::source::Source;

/// Prints the very plan that a deploy would carry out, decided from the host's real state, and changes nothing.
/// [`Answer::No`] if there is nothing to do.
///
/// # Errors
/// If there is no plan.
pub async fn plan(target: &Target, say: Say<'_>) -> Result<Answer, DeployError> {
    let folder = target.source.clone();
    let scanning = async {
        let scan = tokio::task::spawn_blocking(move || Source::scan(&folder));
        let source = scan.await.map_err(|e| Cause::from(std::io::Error::other(e)))?;
        Ok(source.map_err(Cause::from)?)
    };
    let source = unless_interrupted(scanning, Live::NotSeen).await?;
    let looking = async {
        let mut session = Session::connect(target).await?;
        let host = session.open(source.manifest(), true).await?;
        Ok((session, host))
    };
    let (session, host) = unless_interrupted(looking, Live::NotSeen).await?;
    let live = Live::of(&host.current);
    let wish = Wish {
        now: ReleaseId::now(),
        used: Vec::new(),
        full: false,
        keep: target.keep,
        skip_unreadable: target.unreadable == Unreadable::Skip,
    };
    let plan = plan::plan(&host, source.manifest(), &wish);
    let plan = plan.map_err(|refusal| DeployError::new(session.refusal(refusal), live))?;
    let running = session.running().map(str::to_owned);
    session.close().await;
    plan.to_string().lines().for_each(&mut *say);
    if let Some(who) = running {
        say(&format!("note: somebody is at it, so this may be another plan soon: {who}"));
    }
    say(&host.current.line());
    Ok(if plan.is_nothing_to_do() { Answer::No } else { Answer::Yes })
}
