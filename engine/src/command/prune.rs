//! `cutover prune`: removes old releases.

use std::time::Duration;

use super::{Answer, Say, open};
use crate::config::Target;
use crate::deploy::{carry_out, signals_held};
use crate::error::DeployError;
use crate::plan::{self, Step};

/// Removes all releases but the kept ones: what is live, what was live before it, then the newest sealed ones, `keep`
/// in all.
///
/// # Errors
/// If a release that should go is still there.
pub async fn prune(
    target: &Target,
    keep: usize,
    wait: Duration,
    say: Say<'_>,
) -> Result<Answer, DeployError> {
    let mut opened = open(target, Some(wait), say).await?;
    let course = plan::prune(&opened.host, keep).map_err(|refusal| opened.refused(refusal))?;
    if let Some(course) = course {
        let _ignore = signals_held();
        let live = opened.live.clone();
        let failed =
            carry_out(&mut opened.session, &course, course.steps(), &mut |_| (), live.clone()).await?;
        if let Some(cause) = failed {
            return Err(DeployError::new(cause, live));
        }
        for step in course.steps() {
            if let Step::Sweep(ids) | Step::Prune(ids) = step {
                for id in ids {
                    say(&format!("removed: releases/{id}"));
                }
            }
        }
    } else {
        say("nothing to prune");
    }
    opened.session.close().await;
    say(&opened.host.current.line());
    Ok(Answer::Yes)
}
