//! `cutover recover`: finishes or undoes what runs that died have left, and says which. A deploy does the same.

use std::time::Duration;

use super::{Answer, Say, open};
use crate::config::Target;
use crate::deploy::{carry_out, signals_held};
use crate::error::DeployError;
use crate::plan::{self, Step};
use crate::text::printable;

/// After it: what is live is marked, and durable for certain; no unfinished release, upload or temporary link is left.
///
/// # Errors
/// If something is still left.
pub async fn recover(target: &Target, wait: Duration, say: Say<'_>) -> Result<Answer, DeployError> {
    let mut opened = open(target, Some(wait), say).await?;
    let course = plan::recover(&opened.host).map_err(|refusal| opened.refused(refusal))?;
    let mut found = false;
    if let Some(course) = course {
        let _ignore = signals_held();
        let live = opened.live.clone();
        let failed =
            carry_out(&mut opened.session, &course, course.steps(), &mut |_| (), live.clone()).await?;
        if let Some(cause) = failed {
            return Err(DeployError::new(cause, live));
        }
        for line in in_words(course.steps()) {
            found = true;
            say(&line);
        }
    }
    if !found {
        say("nothing to recover");
    }
    opened.session.close().await;
    say(&opened.host.current.line());
    Ok(Answer::Yes)
}

/// What these steps have finished or undone.
fn in_words(steps: &[Step]) -> Vec<String> {
    let mut lines = Vec::new();
    let marked = |id| steps.contains(&Step::Recover(id));
    for step in steps {
        match step {
            Step::Recover(id) => {
                lines.push(format!("finished: releases/{id} was live already, and is marked now"));
            }
            Step::Sweep(ids) => {
                lines.extend(ids.iter().map(|id| format!("undone: releases/{id} was unfinished, removed")));
            }
            Step::SweepPrivate(names) => {
                lines.extend(names.iter().map(|name| format!("removed: .cutover/{}", printable(name))));
            }
            Step::Forget(ids) => {
                let others = ids.iter().filter(|id| !marked((*id).clone()));
                lines.extend(others.map(|id| format!("finished: releases/{id} is whole")));
            }
            _ => {}
        }
    }
    lines
}
