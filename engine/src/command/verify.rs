//! `cutover verify`: compares a release on the host with its seal, by hashes.

use super::{Answer, Say, look};
use crate::config::Target;
use crate::drift;
use crate::error::DeployError;
use crate::plan::{self, Refusal};
use crate::release::ReleaseId;
use crate::text::human_bytes;

/// Lists what differs in `wanted`, or in the live release. [`Answer::No`] if anything does.
///
/// # Errors
/// If there is nothing to compare, or with nothing.
pub async fn verify(
    target: &Target,
    wanted: Option<&ReleaseId>,
    say: Say<'_>,
) -> Result<Answer, DeployError> {
    let mut opened = look(target).await?;
    let id = match wanted.or_else(|| plan::live_id(&opened.host)) {
        Some(id) if opened.host.releases.contains_key(id) => id.clone(),
        Some(id) => return Err(opened.refused(Refusal::NoSuchRelease(id.clone()))),
        None => return Err(opened.refused(Refusal::NothingLive)),
    };
    let (seal, tree) = opened.inspect(&id).await?;
    let hashes = opened.hashes(&id, &drift::to_hash(&seal, &tree)).await?;
    let drift = drift::compare(&seal, &tree, Some(&hashes));
    opened.session.close().await;
    for (path, word) in &drift.differs {
        if *word == "missing" {
            say(&format!("missing  {path}"));
        } else {
            say(&format!("changed  {path} ({word})"));
        }
    }
    for path in &drift.added {
        say(&format!("note     {path} was added at run time"));
    }
    let paths = seal.entries().len();
    if drift.is_none() {
        say(&format!(
            "equal: releases/{id} is what its seal says: {paths} paths, {}",
            human_bytes(seal.bytes())
        ));
    } else {
        say(&format!(
            "drifted: {} of {paths} paths of releases/{id} differ from its seal",
            drift.differs.len()
        ));
    }
    say(&opened.host.current.line());
    Ok(if drift.is_none() { Answer::Yes } else { Answer::No })
}
