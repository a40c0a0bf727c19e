//! What came of the trials, as text, as JSON, and as the table of the documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::belief::Belief;
use crate::kind::Kind;
use crate::program::Program;
use crate::tree::{Node, Tree};
use crate::trial::{Result, Times};

/// All results of one run.
pub(crate) struct Report<'r> {
    results: &'r [Result],
    kinds: BTreeSet<Kind>,
    refute: bool,
    elapsed: Duration,
}

/// The programs with what they ask.
pub(crate) fn list(programs: &[Program]) -> String {
    let mut out = String::new();
    for program in programs {
        let _ = writeln!(
            out,
            "{}  [{}]\n    {}\n    {}",
            program.name,
            program.source,
            program.asks,
            program.told()
        );
    }
    out
}

impl<'r> Report<'r> {
    /// Of these results.
    pub(crate) fn new(results: &'r [Result], kinds: &[Kind], refute: bool, elapsed: Duration) -> Self {
        Self { results, kinds: kinds.iter().copied().collect(), refute, elapsed }
    }

    fn is_false(profile: &str) -> bool {
        Belief::FALSE.iter().any(|belief| belief.name() == profile)
    }

    /// Which false beliefs were refuted, and on which file systems.
    fn refuted(&self) -> BTreeMap<&'static str, BTreeSet<Kind>> {
        let mut refuted: BTreeMap<_, BTreeSet<Kind>> = BTreeMap::new();
        if self.refute {
            for belief in Belief::FALSE {
                refuted.entry(belief.name()).or_default();
            }
        }
        for result in self.results {
            for outside in result.outside.iter().filter(|outside| Self::is_false(outside.profile)) {
                refuted.entry(outside.profile).or_default().insert(result.trial.kind);
            }
        }
        refuted
    }

    /// Whether nothing was outside of a profile, and every false belief was refuted.
    pub(crate) fn holds(&self) -> bool {
        let inside = self
            .results
            .iter()
            .all(|result| result.outside.iter().all(|outside| Self::is_false(outside.profile)));
        inside && self.refuted().values().all(|kinds| !kinds.is_empty())
    }

    fn sums(&self, kind: Kind) -> (usize, usize, Times) {
        let (mut made, mut distinct, mut times) = (0, 0, Times::default());
        for result in self.results.iter().filter(|result| result.trial.kind == kind) {
            made += result.made;
            distinct += result.distinct;
            times.choosing += result.times.choosing;
            times.loading += result.times.loading;
            times.mounting += result.times.mounting;
            times.reading += result.times.reading;
            times.unmounting += result.times.unmounting;
            times.judging += result.times.judging;
        }
        (made, distinct, times)
    }

    /// For people at a terminal.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        for result in self.results {
            let trial = &result.trial;
            let _ = write!(
                out,
                "{} {}, wait {}: {} images ({} made; {} writes, {} flushes), {} outcomes",
                trial.kind,
                trial.program.name,
                trial.wait,
                result.distinct,
                result.made,
                result.writes,
                result.flushes,
                result.outcomes.len()
            );
            for verdict in result.verdicts.iter().filter(|verdict| !Self::is_false(verdict.profile)) {
                let judged = &verdict.judged;
                let _ = write!(
                    out,
                    "; {}: {} of {} seen",
                    verdict.profile,
                    judged.witnessed.len(),
                    judged.allowed
                );
                if !judged.partial.is_empty() {
                    let _ = write!(out, " and {} partial", judged.partial.len());
                }
            }
            out.push('\n');
            for outcome in &result.outcomes {
                let _ = writeln!(out, "    {:6} {}", outcome.images, outcome.tree);
            }
        }
        out.push_str(&self.sums_told(""));
        out.push_str(&self.outside_told("OUTSIDE ", ""));
        out.push_str(&self.refuted_told(""));
        out
    }

    fn refuted_told(&self, bullet: &str) -> String {
        let mut out = String::new();
        for (belief, kinds) in self.refuted() {
            let kinds: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
            let told = if kinds.is_empty() {
                "NOT REFUTED".to_owned()
            } else {
                format!("refuted on {}", kinds.join(", "))
            };
            let _ = writeln!(out, "{bullet}{belief}: {told}");
        }
        out
    }

    fn sums_told(&self, bullet: &str) -> String {
        let mut out = String::new();
        for kind in &self.kinds {
            let (made, distinct, times) = self.sums(*kind);
            let each = |time: Duration| time.as_secs_f64() * 1000.0 / count(distinct.max(1));
            let look = times.loading + times.mounting + times.reading + times.unmounting;
            let _ = writeln!(
                out,
                "{bullet}{kind}: {distinct} distinct images of {made} made, {:.0} a second on each thread that worked (one image: load {:.2}, \
                 mount {:.2}, read {:.2}, unmount {:.2} ms; besides, choose {:.2} and judge {:.2} ms)",
                count(distinct) / look.as_secs_f64().max(1e-9),
                each(times.loading),
                each(times.mounting),
                each(times.reading),
                each(times.unmounting),
                each(times.choosing),
                each(times.judging),
            );
        }
        out
    }

    /// Each tree once for each profile that does not allow it.
    fn outside_told(&self, before: &str, indent: &str) -> String {
        let mut out = String::new();
        for result in self.results {
            let mut told = BTreeSet::new();
            for outside in result.outside.iter().filter(|outside| !Self::is_false(outside.profile)) {
                if !told.insert((outside.profile, outside.outcome)) {
                    continue;
                }
                let (trial, outcome) = (&result.trial, &result.outcomes[outside.outcome]);
                let ops = trial.program.ops_with(trial.wait);
                let (done, rest) = ops.split_at(outside.ops_done.min(ops.len()));
                let names = |ops: &[crate::program::Op]| {
                    ops.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
                };
                let _ = writeln!(
                    out,
                    "{before}{} on {}, {}, wait {}\n{indent}  done: {}\n{indent}  not yet: {}\n{indent}  found: {}\n{indent}  in {} images, first {}",
                    outside.profile,
                    trial.kind,
                    trial.program.name,
                    trial.wait,
                    names(done),
                    names(rest),
                    outcome.tree,
                    outcome.images,
                    outcome.first,
                );
            }
        }
        out
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let results: Vec<_> = self
            .results
            .iter()
            .map(|result| {
                let trial = &result.trial;
                let verdicts: Vec<_> = result
                    .verdicts
                    .iter()
                    .map(|verdict| {
                        let outside =
                            result.outside.iter().filter(|outside| outside.profile == verdict.profile);
                        json!({
                            "profile": verdict.profile,
                            "allowed": verdict.judged.allowed,
                            "witnessed": verdict.judged.witnessed.len(),
                            "partial": verdict.judged.partial.len(),
                            "outside": outside
                                .map(|outside| json!({
                                    "outcome": outside.outcome,
                                    "ops_done": outside.ops_done,
                                }))
                                .collect::<Vec<_>>(),
                        })
                    })
                    .collect();
                let outcomes: Vec<_> = result
                    .outcomes
                    .iter()
                    .map(|outcome| {
                        json!({
                            "tree": outcome.tree.to_string(),
                            "images": outcome.images,
                            "first": outcome.first,
                        })
                    })
                    .collect();
                json!({
                    "program": trial.program.name,
                    "fs": trial.kind.name(),
                    "wait_s": trial.wait.seconds,
                    "wait_after_each": trial.wait.after_each,
                    "seed": trial.seed,
                    "writes": result.writes,
                    "flushes": result.flushes,
                    "images_made": result.made,
                    "images_distinct": result.distinct,
                    "outcomes": outcomes,
                    "profiles": verdicts,
                })
            })
            .collect();
        let refuted: BTreeMap<_, Vec<_>> = self
            .refuted()
            .into_iter()
            .map(|(belief, kinds)| (belief, kinds.into_iter().map(Kind::name).collect()))
            .collect();
        json!({ "kernel": kernel(), "results": results, "refuted": refuted, "holds": self.holds() })
    }

    /// For the documentation.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        let date = jiff::Timestamp::now().strftime("%Y-%m-%d");
        let _ = writeln!(out, "{}, {date}, {:.0} s.\n", kernel(), self.elapsed.as_secs_f64());
        for kind in &self.kinds {
            let (before, after) = kind.mkfs_args();
            let mkfs = [&[kind.mkfs()], before, &["DEVICE"], after].concat().join(" ");
            let sectors: BTreeSet<u32> = self
                .results
                .iter()
                .filter(|result| result.trial.kind == *kind)
                .map(|result| result.trial.sector_bytes)
                .collect();
            let sectors = sectors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let _ = writeln!(out, "- {kind}: `{mkfs}`, mounted without options, sectors of {sectors} bytes");
        }
        out.push('\n');
        out.push_str(&self.sums_told("- "));
        out.push_str(&self.refuted_told("- "));
        let mut waits: Vec<_> = self.results.iter().map(|result| result.trial.wait).collect();
        waits.sort_unstable();
        waits.dedup();
        let waits: Vec<_> = waits.iter().map(ToString::to_string).collect();
        let _ = write!(
            out,
            "\nFor each program and file system: different images; different outcomes seen after waits of {} (in brackets: of \
             them, those that are allowed because a file was still being written); then, for each profile, how many \
             outcomes it allows, how many of these were seen, and how many were seen that it does not allow.\n\n\
             | program | fs | images | seen | allowed, seen of these, outside |\n|---|---|---|---|---|\n",
            waits.join(", "),
        );
        // They are in the order of the catalogue, then of file systems, then of waits.
        for of_one in self.results.chunk_by(|a, b| place(a) == place(b)) {
            out.push_str(&row(of_one));
        }
        let unmountable: usize = self
            .results
            .iter()
            .flat_map(|result| &result.outcomes)
            .filter(|outcome| matches!(outcome.tree.nodes.get(""), Some(Node::Broken { .. })))
            .map(|outcome| outcome.images)
            .sum();
        let _ = writeln!(out, "\nImages that could not be mounted: {unmountable}.");
        let outside = self.outside_told("- ", "");
        if outside.is_empty() {
            out.push_str("\nNothing was outside of a profile.\n");
        } else {
            let _ = write!(out, "\nOutside of a profile:\n\n```text\n{outside}```\n");
        }
        out
    }
}

/// What has a row of its own in the table.
fn place(result: &Result) -> (&'static str, Kind) {
    (result.trial.program.name, result.trial.kind)
}

/// What a profile says about one program on one file system, all waits.
struct Said<'r> {
    profile: &'static str,
    allowed: usize,
    witnessed: BTreeSet<&'r Tree>,
    outside: BTreeSet<&'r Tree>,
}

/// One program on one file system, all waits.
fn row(results: &[Result]) -> String {
    let mut profiles: BTreeMap<usize, Said<'_>> = BTreeMap::new();
    let mut seen = Vec::new();
    for result in results {
        let tree = |nth: &usize| &result.outcomes[*nth].tree;
        for (nth, verdict) in result.verdicts.iter().enumerate() {
            if Report::is_false(verdict.profile) {
                continue;
            }
            let said = profiles.entry(nth).or_insert_with(|| Said {
                profile: verdict.profile,
                allowed: 0,
                witnessed: BTreeSet::new(),
                outside: BTreeSet::new(),
            });
            // Another wait may have cuts at more crash points.
            said.allowed = said.allowed.max(verdict.judged.allowed);
            said.witnessed.extend(verdict.judged.witnessed.iter().map(tree));
            said.outside.extend(verdict.judged.outside.iter().map(|(nth, _)| tree(nth)));
        }
        let partial = result.verdicts.first().map_or(0, |verdict| verdict.judged.partial.len());
        let partial = if partial == 0 { String::new() } else { format!(" ({partial})") };
        seen.push(format!("{}{partial}", result.outcomes.len()));
    }
    let profiles: Vec<_> = profiles
        .values()
        .map(|Said { profile, allowed, witnessed, outside }| {
            let outside = if outside.is_empty() { "0".to_owned() } else { format!("**{}**", outside.len()) };
            let share = 100.0 * count(witnessed.len()) / count((*allowed).max(1));
            format!("{profile}: {allowed}, {} ({share:.0} %), {outside}", witnessed.len())
        })
        .collect();
    let images: usize = results.iter().map(|result| result.distinct).sum();
    let Some((name, kind)) = results.first().map(place) else { return String::new() };
    format!("| {name} | {kind} | {images} | {} | {} |\n", seen.join(", "), profiles.join("; "))
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {}", release.trim())
}
