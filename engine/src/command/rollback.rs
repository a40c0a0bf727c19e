//! `cutover rollback`: back to an earlier release, by the tail of a deploy.

use super::{Answer, Opened, Say, open};
use crate::config::Target;
use crate::deploy::{carry_out, signals_held};
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
    say: Say<'_>,
) -> Result<Answer, DeployError> {
    let opened = open(target, false).await?;
    let chosen = plan::rollback_target(&opened.host, wanted).map_err(|refusal| opened.refused(refusal))?;
    let id = match chosen {
        Rollback::To(id) => id,
        Rollback::Already(id) => {
            opened.session.close().await;
            say(&format!("nothing to do: releases/{id} is live"));
            return Ok(Answer::Yes);
        }
    };
    let asked = Asked::Rollback { target: target.name.clone(), id: id.clone() };
    switch(opened, id, verify, say).await.map_err(|error| error.of(asked))
}

async fn switch(
    mut opened: Opened,
    id: ReleaseId,
    verify: bool,
    say: Say<'_>,
) -> Result<Answer, DeployError> {
    let (seal, tree) = opened.inspect(&id).await?;
    let hashes = if verify { Some(opened.hashes(&id, &drift::to_hash(&seal, &tree)).await?) } else { None };
    let drift = drift::compare(&seal, &tree, hashes.as_ref());
    if !drift.is_none() {
        return Err(opened.refused(Refusal::Damaged { id, paths: drift.to_string() }));
    }
    let course = opened.checked(plan::rollback(&opened.host, &id))?;
    // From here on a signal waits: it is a matter of moments, and then the outcome is known.
    let _ignore = signals_held();
    let live = opened.live.clone();
    let mut report = |_: &str| say(&format!("live: releases/{id}"));
    let pending = carry_out(&mut opened.session, &course, course.steps(), &mut report, live).await?;
    opened.session.undurable(&id.link_text()).iter().for_each(|warning| say(warning));
    opened.session.close().await;
    if let Some(cause) = pending {
        say(&format!("live, cleanup pending: {cause}; current points to releases/{id}"));
    }
    Ok(Answer::Yes)
}
