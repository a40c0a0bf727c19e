//! `cutover releases`: what is on the host, and which of it counts.

use std::collections::BTreeMap;

use super::{Answer, Say, look};
use crate::config::Target;
use crate::error::DeployError;
use crate::history::{Event, Line};
use crate::plan;
use crate::release::ReleaseId;
use crate::remote::observed::Observed;
use crate::text::printable;

/// Prints one line a release, the newest first.
///
/// # Errors
/// If the host cannot be looked at.
pub async fn releases(target: &Target, say: Say<'_>) -> Result<Answer, DeployError> {
    let mut opened = look(target).await?;
    let log = if opened.host.exists { opened.log(LOG_LINES).await? } else { Vec::new() };
    opened.session.close().await;
    let mut made = BTreeMap::new();
    for line in log.into_iter().filter_map(|(_, line)| line) {
        if let (Event::Deploy { .. }, Some(id)) = (&line.record.event, line.record.live.clone()) {
            made.insert(id, line);
        }
    }
    let host = &opened.host;
    let ids = host.releases.keys().chain(&host.unfinished).collect::<std::collections::BTreeSet<_>>();
    for id in ids.into_iter().rev() {
        say(&in_words(host, id, made.get(id)));
    }
    say(&host.current.line());
    Ok(Answer::Yes)
}

/// As far back as is looked for who made a release.
pub(super) const LOG_LINES: usize = 1000;

fn in_words(host: &Observed, id: &ReleaseId, made: Option<&Line>) -> String {
    let role = if plan::live_id(host) == Some(id) {
        "live"
    } else if plan::previous(host).as_ref() == Some(id) {
        "previous"
    } else {
        ""
    };
    let line = format!("{id}  {role:8}  {:10}{}", state(host, id), made.map(story).unwrap_or_default());
    line.trim_end().to_owned()
}

/// Whether it counts, in a word or a few.
pub(super) fn state(host: &Observed, id: &ReleaseId) -> &'static str {
    let (sealed, marked) = (host.seals.contains(id), host.markers.contains(id));
    match (sealed, marked, host.unfinished.contains(id)) {
        (true, true, _) => "complete",
        (true, false, _) if plan::live_id(host) == Some(id) => {
            "sealed, not marked: `cutover recover` finishes it"
        }
        (_, _, true) => "unfinished: the next deploy or `cutover recover` removes it",
        (true, false, false) => "sealed, never live",
        (false, _, false) => "not made by Cutover",
    }
}

/// How it came to be.
pub(super) fn story(line: &Line) -> String {
    let from = match &line.record.event {
        Event::Deploy { base: Some(base) } => format!(", copy of {base}"),
        Event::Deploy { base: None } => ", full upload".to_owned(),
        _ => String::new(),
    };
    format!("  {}{from}, by {}", line.at, printable(&line.by))
}
