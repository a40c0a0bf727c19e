//! What is told beside a verdict: what would mend the tool, what was not durable when it said so, and how to replay it.
//!
//! Asked for once a history, for people. It decides nothing.

use simfs::{Crashes, EffectId, MarkKind, Model, POSIX, Seq, Trace};

use super::repair::{Repair, repair};
use super::words::Words;
use super::{Judgement, Scenario, UnderModel, Verdict};
use crate::replay::Token;

/// Adds to the counterexample that is told of each broken promise what would mend it (under `posix`, if that was asked and
/// is broken, since it contains the others) and a token to replay it; and to the judgement what was not durable when a deploy
/// was reported as live.
pub fn explain(judgement: &mut Judgement, trace: &Trace, scenario: &Scenario) {
    let words = Words::new(trace, scenario);
    judgement.unsynced = not_durable_when_reported(trace, &words);
    for row in &mut judgement.rows {
        let Some(told) = row.told().map(|told| told.model) else { continue };
        let weakest = match row.under(POSIX.name) {
            Some(Verdict::Broken(_)) => POSIX.name,
            _ => told,
        };
        let (Some(model), Some(Verdict::Broken(found))) = (Model::named(weakest), row.under(weakest)) else {
            continue;
        };
        let mut lines = Vec::new();
        match repair(trace, scenario, model, row.promise, found) {
            Repair::Calls { deploy, calls } => {
                let of =
                    format!("what would mend it, proved under `{weakest}` up to the end of deploy {deploy}:");
                lines.push(of);
                lines.extend(calls.iter().map(|call| format!("  {}", words.call(call, scenario))));
            }
            Repair::None => lines.push(
                "no four sync calls or fewer would mend it: the operations themselves have to be others"
                    .to_owned(),
            ),
            Repair::NotSearched => {
                lines.push("what would mend it was not searched for: the trace is too large".to_owned());
            }
        }
        if let Some(UnderModel { verdict: Verdict::Broken(found), .. }) =
            row.crash.iter_mut().find(|crash| crash.model == told)
            && let Some(model) = Model::named(told)
        {
            let token = Token::new(trace, model, found.state()).to_string();
            found.token = Some(token);
            found.lines.extend(lines);
        }
    }
}

/// When a deploy was reported as live, what was not durable then under `posix`: a cheap hint, a line for the first of them.
fn not_durable_when_reported(trace: &Trace, words: &Words<'_>) -> Option<String> {
    const NAMED: usize = 4;
    let crashes = Crashes::new(trace, &POSIX);
    let mut acks = trace.marks().iter().filter_map(|mark| match mark.kind {
        MarkKind::Ack { deploy } => Some((deploy, mark.after)),
        _ => None,
    });
    let open = |at: Seq| {
        let issued = trace.effects().partition_point(|effect| effect.seq <= at) as u32;
        let open: Vec<EffectId> =
            (0..issued).map(EffectId).filter(|id| crashes.forced_at(*id) > at).collect();
        open
    };
    let (deploy, at, open) = acks.find_map(|(deploy, at)| {
        let open = open(at);
        (!open.is_empty()).then_some((deploy, at, open))
    })?;
    let named: Vec<String> = open.iter().take(NAMED).map(|id| words.cell(*id)).collect();
    let more = match open.len().saturating_sub(NAMED) {
        0 => String::new(),
        1 => ", and one effect more".to_owned(),
        more => format!(", and {more} effects more"),
    };
    Some(format!(
        "Not durable under `posix` when deploy {deploy} was reported as live, after {}: {}{more}.",
        words.op(at),
        named.join(", ")
    ))
}
