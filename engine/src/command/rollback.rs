//! `cutover rollback`: back to an earlier release, by the tail of a deploy.

use std::time::Duration;

use super::{Answer, Opened, Say, open};
use crate::config::Target;
use crate::deploy::{self, signals_held};
use crate::drift;
use crate::error::{Asked, DeployError};
use crate::plan::{self, Refusal, Rollback};
use crate::release::ReleaseId;

/// Switches to `wanted`, or to the newest complete release that is older than the live one. It is compared with its
/// seal first, by hashes too if `verify`. Removes nothing.
///
/// # Errors
/// If it is not live, with what is live instead.
pub async fn rollback(
    target: &Target,
    wanted: Option<&ReleaseId>,
    verify: bool,
    wait: Duration,
    say: Say<'_>,
) -> Result<Answer, DeployError> {
    let mut opened = open(target, Some(wait), say).await?;
    let chosen = plan::rollback_target(&opened.host, wanted).map_err(|refusal| opened.refused(refusal))?;
    let (Rollback::To(id) | Rollback::Already(id)) = &chosen;
    let asked = Asked::Rollback { target: target.name.clone(), id: id.clone() };
    let switched = async {
        let course = match &chosen {
            // That it is live is said only when it is durable: the run before may have failed to make it so.
            Rollback::Already(id) => plan::stay_with(&opened.host, id),
            Rollback::To(id) => {
                opened.compare(id, verify).await?;
                plan::rollback(&opened.host, id)
            }
        };
        let course = opened.checked(course)?;
        // From here on a signal waits: it is a matter of moments, and then the outcome is known.
        let _ignore = signals_held();
        let Opened { session, live, .. } = opened;
        let same = format!("nothing to do: releases/{id} is live");
        deploy::switch(target, session, &course, course.steps(), id, live, &same, say).await
    };
    let pending = switched.await.map_err(|error| error.of(asked))?;
    if let Some(pending) = pending {
        say(&format!("live, cleanup pending: {pending}"));
    }
    Ok(Answer::Yes)
}

impl Opened {
    /// Refuses a release that is not what its seal says.
    async fn compare(&mut self, id: &ReleaseId, verify: bool) -> Result<(), DeployError> {
        let (seal, tree) = self.inspect(id).await?;
        let hashes = if verify { Some(self.hashes(id, &drift::to_hash(&seal, &tree)).await?) } else { None };
        let drift = drift::compare(&seal, &tree, hashes.as_ref());
        if drift.is_none() {
            return Ok(());
        }
        Err(self.refused(Refusal::Damaged { id: id.clone(), paths: drift.to_string() }))
    }
}
