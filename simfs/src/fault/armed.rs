//! A schedule at work: which rules a call meets, and what comes of it. Decides only; the disk does.

use globset::{Candidate, GlobBuilder, GlobMatcher};
use rustc_hash::FxHashMap;

use super::kill::Killer;
use super::{At, BadSchedule, Call, Calls, Fault, Hit, Rule, Schedule, errno, mixed};
use crate::fs::{Errno, Fs, Limits};
use crate::trace::Seq;

/// What the disk has to do with a call, in this order.
pub(crate) struct Decision {
    /// Faults to be told and suffered before the call goes on or is refused.
    pub(crate) steps: Vec<Hit>,
    /// Why it is refused, if it is; a failed sync is one that was refused and nobody was killed.
    pub(crate) refused: Option<Errno>,
}

/// A schedule at work: its rules with what they have counted.
#[derive(Default)]
pub(crate) struct Armed {
    rules: Vec<ArmedRule>,
    read_only: Option<usize>,
    quota: Option<(usize, Limits)>,
    killer: Option<Killer>,
}

struct ArmedRule {
    rule: Rule,
    glob: Option<GlobMatcher>,
    met: u64,
    done: bool,
    /// For [`At::Callers`]: which caller it was, counted from 0, and how many of its calls there were.
    callers: FxHashMap<u32, (u64, u64)>,
}

impl Armed {
    pub(crate) fn new(schedule: &Schedule) -> Result<Self, BadSchedule> {
        let mut rules = Vec::new();
        for (at, rule) in schedule.rules.iter().enumerate() {
            rules.push(ArmedRule::new(rule).map_err(|why| BadSchedule { rule: at, why })?);
        }
        let kills = schedule.rules.iter().position(|rule| rule.fault == Fault::Kill);
        let killer = if kills.is_some() { Killer::new() } else { None };
        if let (Some(rule), None) = (kills, &killer) {
            let why = "nobody can be killed without a /proc of this process".to_owned();
            return Err(BadSchedule { rule, why });
        }
        Ok(Self { rules, killer, ..Self::default() })
    }

    /// Kills who called; false if it could not, or is ourselves.
    pub(crate) fn kill(&self, caller: u32) -> bool {
        self.killer.as_ref().is_some_and(|killer| killer.kill(caller))
    }

    /// Whether nothing can happen to any call.
    pub(crate) fn is_idle(&self) -> bool {
        self.rules.is_empty()
    }

    /// Counts a call, and says what happens to it.
    pub(crate) fn decide(&mut self, call: &Call<'_>, fs: &mut Fs) -> Decision {
        let op = fs.trace().last() + 1;
        let mut paths = None;
        let mut decision = Decision { steps: Vec::new(), refused: None };
        for (at, rule) in self.rules.iter_mut().enumerate() {
            let met = rule.meets(call, op, || paths.get_or_insert_with(|| call.paths(fs)));
            if !met || decision.refused.is_some() {
                continue;
            }
            match &rule.rule.fault {
                Fault::Quota(limits) => {
                    fs.set_limits(*limits);
                    self.quota = Some((at, *limits));
                    continue;
                }
                Fault::ReadOnly => {
                    self.read_only.get_or_insert(at);
                    continue;
                }
                Fault::Error(errno) => decision.refused = Some(*errno),
                Fault::Crash => decision.refused = Some(Errno::NOTCONN),
                Fault::Kill => decision.refused = Some(Errno::IO),
                Fault::Delay(_) | Fault::Hang | Fault::Hook => {}
            }
            let paths = paths.get_or_insert_with(|| call.paths(fs)).clone();
            decision.steps.push(hit(at, &rule.rule.fault, op, call, paths));
        }
        if let (Some(at), None) = (self.read_only, decision.refused)
            && (call.for_writing || call.calls.intersects(Calls::CHANGES | Calls::SYNCS))
        {
            decision.refused = Some(Errno::ROFS);
            let paths = paths.unwrap_or_else(|| call.paths(fs));
            decision.steps.push(hit(at, &Fault::ReadOnly, op, call, paths));
        }
        decision
    }

    /// The hit of a call that a quota made fail.
    pub(crate) fn hit_by_quota(&self, call: &Call<'_>, errno: Errno, fs: &mut Fs) -> Option<Hit> {
        let (at, limits) = self.quota?;
        let by_it = limits.full.errno() == errno && call.calls.intersects(Calls::CHANGES);
        by_it.then(|| hit(at, &Fault::Quota(limits), fs.trace().last() + 1, call, call.paths(fs)))
    }
}

fn hit(rule: usize, fault: &Fault, op: Seq, call: &Call<'_>, paths: Vec<Vec<u8>>) -> Hit {
    Hit { rule, fault: fault.clone(), op, calls: call.calls, paths, caller: call.caller, killed: false }
}

impl ArmedRule {
    fn new(rule: &Rule) -> Result<Self, String> {
        let compile = |glob: &String| GlobBuilder::new(glob).literal_separator(true).build();
        let glob = rule.when.path.as_ref().map(compile).transpose().map_err(|error| error.to_string())?;
        if rule.when.path.as_ref().is_some_and(|path| path.starts_with('/')) {
            return Err("a path starts at the disk's root, without a slash".to_owned());
        }
        if rule.when.calls.is_empty() || !Calls::all().contains(rule.when.calls) {
            return Err("no kind of call can be met".to_owned());
        }
        match rule.when.at {
            At::Nth(0) | At::From(0) => return Err("calls are counted from 1".to_owned()),
            At::Op(0) | At::FromOp(0) => return Err("op 0 is the initial disk; ops count from 1".to_owned()),
            At::Random { one_in: 0, .. } => return Err("one in 0 calls is none; 1 is each".to_owned()),
            At::Callers { first: 0, .. } => return Err("the first 0 calls are none".to_owned()),
            _ => {}
        }
        if let Fault::Error(errno) = rule.fault {
            errno::check(errno)?;
        }
        let (glob, callers) = (glob.map(|glob| glob.compile_matcher()), FxHashMap::default());
        Ok(Self { rule: rule.clone(), glob, met: 0, done: false, callers })
    }

    fn meets<'p>(&mut self, call: &Call<'_>, op: Seq, paths: impl FnOnce() -> &'p mut Vec<Vec<u8>>) -> bool {
        if !self.rule.when.calls.intersects(call.calls) {
            return false;
        }
        if let Some(glob) = &self.glob {
            let matches = |path: &Vec<u8>| {
                use std::os::unix::ffi::OsStrExt as _;
                glob.is_match_candidate(&Candidate::new(std::ffi::OsStr::from_bytes(path)))
            };
            if !paths().iter().any(matches) {
                return false;
            }
        }
        self.met += 1;
        let met = match self.rule.when.at {
            At::Every => true,
            At::Nth(n) => self.met == n,
            At::From(n) => self.met >= n,
            At::Op(n) => op == n && !self.done,
            At::FromOp(n) => op >= n,
            At::Random { seed, one_in } => mixed(seed, self.met).is_multiple_of(one_in),
            At::Callers { seed, other_half, first } => {
                let next = self.callers.len() as u64;
                let (number, calls) = self.callers.entry(call.caller).or_insert((next, 0));
                *calls += 1;
                *calls <= first && (mixed(seed, *number) % 2 == 1) == other_half
            }
        };
        self.done |= met;
        met
    }
}

#[cfg(test)]
mod tests {
    use super::super::{About, When};
    use super::*;

    /// Which calls are met, of callers that come one after the other, each with so many calls.
    fn met(at: At, callers: u32, calls: u32) -> Vec<bool> {
        let schedule = Schedule::one(When { at, ..When::every(Calls::SYNC) }, Fault::Hook);
        let mut armed = Armed::new(&schedule).expect("a good schedule");
        let mut fs = Fs::new(0, 0, 0o755);
        let mut decide =
            |caller| !armed.decide(&Call::new(Calls::SYNC, About::Disk, caller), &mut fs).steps.is_empty();
        (0..callers).flat_map(|caller| std::iter::repeat_n(caller, calls as usize)).map(&mut decide).collect()
    }

    #[test]
    fn each_caller_is_in_one_half_and_only_its_first_calls_are_met() {
        for seed in 0..20 {
            let half = |other_half, first| At::Callers { seed, other_half, first };
            let (one, other) = (met(half(false, 9), 64, 3), met(half(true, 9), 64, 3));
            assert!(one.iter().zip(&other).all(|(one, other)| one != other), "seed {seed}");
            assert!(one.chunks(3).all(|calls| calls[0] == calls[1] && calls[0] == calls[2]), "seed {seed}");
            let callers = one.iter().filter(|met| **met).count() / 3;
            assert!((16..=48).contains(&callers), "seed {seed}: {callers} of 64");
            let first = met(half(false, 2), 64, 3);
            let expected: Vec<bool> = one.chunks(3).flat_map(|calls| [calls[0], calls[0], false]).collect();
            assert_eq!(first, expected, "seed {seed}");
        }
        let none = Schedule::one(
            When { at: At::Callers { seed: 1, other_half: false, first: 0 }, ..When::default() },
            Fault::Hook,
        );
        assert!(Armed::new(&none).is_err());
    }
}
