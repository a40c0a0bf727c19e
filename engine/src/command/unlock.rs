//! `cutover unlock`: says who holds the lock of a deploy path, frees a stale one, and ends a live run if it is told to.
//!
//! A lock is held by living processes, so on hosts with flock(1) there is nothing stale to free: see `remote/lock.sh`.

use super::{Answer, Say, unless_interrupted};
use crate::config::Target;
use crate::error::{Cause, DeployError, Live};
use crate::manifest::Manifest;
use crate::remote::holder::{UnlockEnd, Unlocked};
use crate::session::Session;

/// After it the lock is free. A run that is alive is left alone, unless `kill` says that its processes are to end.
///
/// # Errors
/// If it is not free.
pub async fn unlock(target: &Target, kill: bool, say: Say<'_>) -> Result<Answer, DeployError> {
    let unlocking = async {
        let mut session = Session::connect(target).await?;
        let unlocked = session.unlock(kill).await?;
        let held = matches!(unlocked.end, UnlockEnd::Held | UnlockEnd::Stays);
        // Where it is free, `current` is made durable before it is told.
        let host = session.open(&Manifest::empty(), held || unlocked.end == UnlockEnd::Free).await?;
        Ok((session, unlocked, host))
    };
    let (session, unlocked, host) = unless_interrupted(unlocking, Live::NotSeen).await?;
    let who = in_words(&unlocked);
    match unlocked.end {
        UnlockEnd::Held | UnlockEnd::Stays => {
            let cause = Cause::Busy { host: session.host().to_owned(), holder: who };
            session.close().await;
            return Err(DeployError::new(cause, Live::of(&host.current)));
        }
        UnlockEnd::Free => say("the lock is free"),
        UnlockEnd::Stale => say(&format!("freed: its run is not alive: {who}")),
        UnlockEnd::Killed => {
            say(&format!("ended, and freed: {who}"));
            say("`cutover recover`, or the next deploy, finishes or undoes what it left");
        }
    }
    session.close().await;
    say(&host.current.line());
    Ok(Answer::Yes)
}

fn in_words(unlocked: &Unlocked) -> String {
    let Some(holder) = &unlocked.holder else { return "it does not say who".to_owned() };
    let more = match (unlocked.end, unlocked.main_alive, unlocked.processes) {
        (UnlockEnd::Held, true, _) => "; it is alive",
        (UnlockEnd::Held, false, 1..) => "; it is dead, but something that it started is still at work",
        (UnlockEnd::Held | UnlockEnd::Stays, false, 0) => {
            "; that run is dead, and what holds the lock was not started by it, or by another user"
        }
        (UnlockEnd::Stays, ..) => "; it could not be ended",
        _ => "",
    };
    format!("{holder}{more}")
}
