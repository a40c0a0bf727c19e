//! `cutover status`: what is live, and what lies around.

use super::releases::{LOG_LINES, state, story};
use super::{Answer, Say, look};
use crate::config::Target;
use crate::drift;
use crate::error::DeployError;
use crate::history::Event;
use crate::plan::{self, Step};
use crate::text::printable;

/// Prints what is live since when and by whom, whether it drifted by a quick look, and what runs that died have left.
///
/// # Errors
/// If the host cannot be looked at.
pub async fn status(target: &Target, say: Say<'_>) -> Result<Answer, DeployError> {
    let mut opened = look(target).await?;
    let log = if opened.host.exists { opened.log(LOG_LINES).await? } else { Vec::new() };
    let host = &opened.host;
    let address = &target.address;
    let name = printable(target.name.as_bytes());
    say(&format!("target    {name}: {}@{}:{}", address.user, address.host, target.path));
    if let Some(base) = &host.base {
        say(&format!("live      {}, {}", base.id, state(host, &base.id)));
        let switches = log.iter().rev().filter_map(|(_, line)| line.as_ref());
        let mut switches =
            switches.filter(|l| matches!(l.record.event, Event::Deploy { .. } | Event::Rollback));
        if let Some(line) = switches.next().filter(|l| l.record.live.as_ref() == Some(&base.id)) {
            let how = if line.record.event == Event::Rollback { ", rolled back" } else { "" };
            say(&format!("since     {}{how}", story(line).trim()));
        }
        if let Some(id) = plan::previous(host) {
            say(&format!("previous  {id}, {}", state(host, &id)));
        }
        if let Some(seal) = &base.seal {
            let drift = drift::compare(seal, &base.tree, None);
            if !drift.is_none() {
                say(&format!("drifted   {drift}"));
            }
            match drift.added.len() {
                0 => {}
                1 => say("note      1 path added at run time"),
                more => say(&format!("note      {more} paths added at run time")),
            }
        }
    }
    let complete = plan::complete_releases(host);
    say(&format!("releases  {} complete, {} in all", complete.len(), host.releases.len()));
    let (left, _) = plan::leftovers(host);
    for step in &left {
        if let Some(line) = leftover(step) {
            say(&line);
        }
    }
    say(&format!("lock      {}", opened.session.running().unwrap_or("free")));
    say(&host.current.line());
    opened.session.close().await;
    Ok(Answer::Yes)
}

/// What the next deploy will finish or undo.
fn leftover(step: &Step) -> Option<String> {
    match step {
        Step::Recover(id) => {
            Some(format!("left      {id} is live and not marked: its run died after its cutover"))
        }
        Step::Sweep(ids) => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            Some(format!("left      unfinished: {}", ids.join(" ")))
        }
        Step::SweepPrivate(names) => {
            let names: Vec<String> = names.iter().map(|n| printable(n)).collect();
            Some(format!("left      in .cutover: {}", names.join(" ")))
        }
        _ => None,
    }
}
