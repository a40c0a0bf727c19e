//! What would mend it: the fewest sync calls that, put into a recorded run, make a promise proved.
//!
//! Searched, never guessed: each attempt is a trace with calls put in, judged like any other. Where a call can help is read
//! off the counterexample: it has to cover something that was lost, and to return before what survived was begun, or before
//! the state itself.

use simfs::{Cell, EffectId, Ino, Kind, MarkKind, Model, OpKind, Seq, SyncScope, Trace, Value, View};

use super::history::History;
use super::{Counterexample, Promise, Scenario, crash_counterexample};

/// A repair of more calls than this is a rewrite.
const MOST_CALLS: usize = 4;
/// How many effects may be judged for one repair. A judgement of that many takes a few seconds.
const MOST_EFFECTS: usize = 4_000_000;

/// A sync call to put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// Behind this op of the recorded trace.
    pub(crate) after: Seq,
    /// Before what the tool said there, such as that it is live; else after that, and after a deploy began.
    pub(crate) before_marks: bool,
    pub(crate) scope: SyncScope,
}

/// What came of the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    /// With these calls in it, in their order, the promise is proved for the history up to the end of this deploy.
    Calls { deploy: u32, calls: Vec<Call> },
    /// Sync calls alone do not mend it, or not so few.
    None,
    /// The trace is too large to try.
    NotSearched,
}

/// Looks for the fewest calls that mend the first deploy which breaks a promise.
pub(crate) fn repair(
    trace: &Trace,
    scenario: &Scenario,
    model: &Model,
    promise: Promise,
    found: &Counterexample,
) -> Repair {
    let history = History::new(trace, scenario);
    let mut judged = 0;
    let last = history.deploy_of(found.at).unwrap_or(0);
    // What a deploy has to leave alone is asked from its begin on, so it may be the next one that shows it.
    for deploy in history.deploys.iter().take(last + 2) {
        let part = Part { trace, until: deploy.until, deploy: deploy.number };
        for most in 0..=MOST_CALLS {
            let mut calls = Vec::new();
            match part.mend(scenario, model, promise, most, &mut calls, &mut judged) {
                // This deploy is not the one.
                Some(true) if most == 0 => break,
                Some(true) => {
                    part.shorten(scenario, model, promise, &mut calls);
                    return Repair::Calls { deploy: deploy.number, calls };
                }
                Some(false) if most == MOST_CALLS => return Repair::None,
                Some(false) => {}
                None => return Repair::NotSearched,
            }
        }
    }
    Repair::None
}

/// A trace up to the end of a deploy.
struct Part<'t> {
    trace: &'t Trace,
    until: Seq,
    deploy: u32,
}

impl Part<'_> {
    /// Whether up to so many more calls make the promise proved; they are left in `calls` then. None if that would take
    /// too long to say.
    fn mend(
        &self,
        scenario: &Scenario,
        model: &Model,
        promise: Promise,
        most: usize,
        calls: &mut Vec<Call>,
        judged: &mut usize,
    ) -> Option<bool> {
        let with = self.with(calls);
        *judged += with.effects().len();
        if *judged > MOST_EFFECTS {
            return None;
        }
        let Some(found) = crash_counterexample(&with, scenario, model, promise) else { return Some(true) };
        if most == 0 {
            return Some(false);
        }
        for call in self.helpful(&found, calls) {
            calls.push(call);
            calls.sort_by_key(|call| (call.after, !call.before_marks));
            if self.mend(scenario, model, promise, most - 1, calls, judged)? {
                return Some(true);
            }
            let at = calls.iter().rposition(|other| *other == call);
            calls.remove(at.expect("it was put in"));
        }
        Some(false)
    }

    /// Takes out again what was put in for a counterexample that a later call excludes as well.
    fn shorten(&self, scenario: &Scenario, model: &Model, promise: Promise, calls: &mut Vec<Call>) {
        let mut at = 0;
        while at < calls.len() {
            let call = calls.remove(at);
            if crash_counterexample(&self.with(calls), scenario, model, promise).is_some() {
                calls.insert(at, call);
                at += 1;
            }
        }
    }

    /// Calls that exclude a counterexample: as late as they can be, since later ones cover more, and the narrowest first.
    fn helpful(&self, found: &Counterexample, calls: &[Call]) -> Vec<Call> {
        let op_of = |effect: &u32| self.trace.effect(EffectId(*effect)).seq;
        let Some(lost) = found.lost.iter().min_by_key(|effect| op_of(effect)) else { return Vec::new() };
        // All that was kept has to be there: it is enough to come before one of it.
        let mut later: Vec<Seq> = found.kept.iter().map(op_of).filter(|seq| *seq > op_of(lost)).collect();
        later.sort_unstable();
        let mut places: Vec<(Seq, bool)> =
            later.last().into_iter().chain(later.first()).map(|later| (later - 1, false)).collect();
        places.dedup();
        if places.is_empty() {
            // The counterexample counts the calls that were put in, too.
            let mut at = found.at;
            for (nth, call) in calls.iter().enumerate().rev() {
                at -= u32::from(call.after + (nth as u32) < found.at);
            }
            places.push((at, true));
        }
        let scopes: Vec<SyncScope> =
            self.scope(EffectId(*lost)).into_iter().chain([SyncScope::All]).collect();
        let at = |(after, before_marks)| {
            let call = move |scope| Call { after, before_marks, scope };
            scopes.iter().copied().map(call)
        };
        places.into_iter().flat_map(at).filter(|call| !calls.contains(call)).collect()
    }

    /// The narrowest call that covers an effect.
    fn scope(&self, lost: EffectId) -> Option<SyncScope> {
        let effect = self.trace.effect(lost);
        let view = View::live(self.trace, effect.seq);
        let of = |ino: Ino| match view.birth(ino)?.kind {
            Kind::Dir => Some(SyncScope::Dir(ino)),
            Kind::File => Some(SyncScope::File(ino)),
            _ => None,
        };
        match self.trace.cell(effect.cell) {
            Cell::Entry(dir, _) => Some(SyncScope::Dir(*dir)),
            Cell::Inode(ino) | Cell::Target(ino) => {
                let names = |effect: &&simfs::trace::Effect| effect.value == Value::Entry(Some(*ino));
                let named = self.trace.effects().iter().find(names)?;
                Some(SyncScope::Dir(self.trace.cell(named.cell).ino()))
            }
            Cell::Block(ino, _)
            | Cell::Size(ino)
            | Cell::Mode(ino)
            | Cell::Owner(ino)
            | Cell::Xattr(ino, _) => of(*ino),
        }
    }

    /// The trace with calls put in, each of which returns at once.
    fn with(&self, calls: &[Call]) -> Trace {
        let before = |seq: Seq| calls.iter().filter(|call| call.after < seq).count() as u32;
        let mut with = Trace::new();
        let is_later =
            |mark: &simfs::Mark| matches!(mark.kind, MarkKind::Begin { deploy } if deploy > self.deploy);
        let mut marks = self.trace.marks().iter().filter(|mark| !is_later(mark)).peekable();
        for (seq, op) in (0..=self.until).zip(self.trace.ops()) {
            let effects = op.effects.clone().map(|id| {
                let effect = self.trace.effect(EffectId(id));
                (self.trace.cell(effect.cell).clone(), effect.value.clone())
            });
            match &op.kind {
                OpKind::Initial => effects.for_each(|(cell, value)| with.push_initial(cell, value)),
                OpKind::Sync { scope, returned, ok } => {
                    let returned = (*returned).min(self.until);
                    let returned = returned + before(returned);
                    with.push(OpKind::Sync { scope: *scope, returned, ok: *ok }, effects);
                }
                kind => {
                    with.push(kind.clone(), effects);
                }
            }
            let here = |before_marks| {
                let here = move |call: &&Call| call.after == seq && call.before_marks == before_marks;
                calls.iter().filter(here)
            };
            for call in here(true) {
                with.push_sync(call.scope, true);
            }
            while let Some(mark) = marks.next_if(|mark| mark.after == seq) {
                with.mark(mark.kind.clone());
            }
            for call in here(false) {
                with.push_sync(call.scope, true);
            }
        }
        with
    }
}
