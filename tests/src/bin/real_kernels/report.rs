//! What came of the trials, as text, as JSON, and as the tables of the documentation.

mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::belief;
use crate::deploys::Deploys;
use crate::kind::Kind;
use crate::program::Program;
use crate::subject::Subject;
use crate::tree::Node;
use crate::trial::{Result, Times};

/// All results of one run.
pub(crate) struct Report<'r> {
    results: &'r [Result],
    kinds: BTreeSet<Kind>,
    refute: bool,
    elapsed: Duration,
}

/// What came of a belief that says too much.
#[derive(Default)]
struct Refuted {
    canary: bool,
    on: BTreeSet<Kind>,
}

/// The programs with what they ask, and the deploys with what deployed.
pub(crate) fn list(subjects: &[Subject]) -> String {
    let mut out = String::new();
    for subject in subjects {
        let _ = match subject {
            Subject::Litmus(program) => {
                let Program { name, source, asks, .. } = program;
                writeln!(out, "{name}  [{source}]\n    {asks}\n    {}", program.told())
            }
            Subject::Deploys(Deploys { name, tool, trace, .. }) => {
                writeln!(out, "{name}  [{} operations of]\n    {tool}", trace.last())
            }
        };
    }
    out
}

impl<'r> Report<'r> {
    /// Of these results.
    pub(crate) fn new(results: &'r [Result], kinds: &[Kind], refute: bool, elapsed: Duration) -> Self {
        Self { results, kinds: kinds.iter().copied().collect(), refute, elapsed }
    }

    /// Which beliefs that say too much were refuted, and on which file systems.
    fn refuted(&self) -> BTreeMap<&'static str, Refuted> {
        let mut all: BTreeMap<_, Refuted> = BTreeMap::new();
        for kind in self.kinds.iter().filter(|_| self.refute) {
            for belief in belief::too_strong(*kind) {
                all.entry(&*belief.name).or_default().canary = belief.canary;
            }
        }
        for result in self.results {
            for outside in &result.outside {
                if let Some(refuted) = all.get_mut(outside.belief.name()) {
                    refuted.on.insert(result.trial.kind);
                }
            }
        }
        all
    }

    /// Whether nothing was outside of a profile, nothing that is certified was seen broken, and every canary was refuted.
    pub(crate) fn holds(&self) -> bool {
        let inside = |result: &Result| result.outside.iter().all(|outside| !outside.belief.is_profile());
        let kept =
            |result: &Result| result.promises.iter().all(|promise| !promise.proved || promise.images == 0);
        self.results.iter().all(|result| inside(result) && kept(result))
            && self.refuted().values().all(|refuted| !refuted.canary || !refuted.on.is_empty())
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
                trial.subject.name(),
                trial.wait,
                result.distinct,
                result.made,
                result.writes,
                result.flushes,
                result.outcomes.len()
            );
            for verdict in result.of_profiles() {
                let (name, judged) = (verdict.belief.name(), &verdict.judged);
                let _ = match (judged.allowed, judged.chain) {
                    (Some(allowed), _) => {
                        write!(out, "; {name}: {} of {allowed} seen", judged.witnessed.len())
                    }
                    (None, Some((allowed, seen))) => {
                        write!(out, "; {name}: {seen} of {allowed} states of metadata seen")
                    }
                    (None, None) => write!(out, "; {name}"),
                };
                if !judged.partial.is_empty() {
                    let _ = write!(out, " and {} partial", judged.partial.len());
                }
            }
            for promise in &result.promises {
                let certified = if promise.proved { "proved" } else { "not proved" };
                let _ = write!(out, "; {} is {certified}, broken in {} images", promise.name, promise.images);
            }
            out.push('\n');
            if let Subject::Litmus(_) = trial.subject {
                for outcome in &result.outcomes {
                    let _ = writeln!(out, "    {:6} {}", outcome.images, outcome.tree);
                }
            }
        }
        out.push_str(&self.sums_told(""));
        out.push_str(&self.outside_told("OUTSIDE "));
        out.push_str(&self.uncertified_told("CERTIFIED AND BROKEN "));
        out.push_str(&self.misread_told("READ DIFFERENTLY AGAIN "));
        out.push_str(&self.refuted_told(""));
        out
    }

    fn refuted_told(&self, bullet: &str) -> String {
        let mut out = String::new();
        let all = self.refuted();
        for (belief, refuted) in &all {
            let on: Vec<_> = refuted.on.iter().map(|kind| kind.name()).collect();
            let told = match (on.is_empty(), refuted.canary) {
                (true, true) => "NOT REFUTED".to_owned(),
                (true, false) => "not refuted".to_owned(),
                (false, _) => format!("refuted on {}", on.join(", ")),
            };
            let _ = writeln!(out, "{bullet}{belief}: {told}");
        }
        let stronger = || all.values().filter(|refuted| !refuted.canary);
        if stronger().next().is_some() {
            let caught = stronger().filter(|refuted| !refuted.on.is_empty()).count();
            let _ = writeln!(
                out,
                "{bullet}mutation score, stronger profiles that are refuted: {caught} of {}",
                stronger().count()
            );
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
    fn outside_told(&self, before: &str) -> String {
        let mut out = String::new();
        for result in self.results {
            let mut told = BTreeSet::new();
            for outside in result.outside.iter().filter(|outside| outside.belief.is_profile()) {
                if !told.insert((outside.belief.name(), outside.outcome)) {
                    continue;
                }
                let (trial, outcome) = (&result.trial, &result.outcomes[outside.outcome]);
                let [done, rest] = trial.subject.told(trial.wait, outside.done, &result.simulated);
                let _ = writeln!(
                    out,
                    "{before}{} on {}, {}, wait {}\n  done: {done}\n  not yet: {rest}\n  found: {}\n  {}",
                    outside.belief.name(),
                    trial.kind,
                    trial.subject.name(),
                    trial.wait,
                    outcome.tree,
                    outside.image,
                );
            }
        }
        out
    }

    /// What the certifier takes for proved, and was seen broken.
    fn uncertified_told(&self, before: &str) -> String {
        let mut out = String::new();
        for result in self.results {
            for promise in result.promises.iter().filter(|promise| promise.proved) {
                let Some((first, image)) = &promise.first else { continue };
                let trial = &result.trial;
                let _ = writeln!(
                    out,
                    "{before}{} of {} on {}, wait {}\n  found: {}\n  in {} images, first {image}",
                    promise.name,
                    trial.subject.name(),
                    trial.kind,
                    trial.wait,
                    result.outcomes[*first].tree,
                    promise.images,
                );
            }
        }
        out
    }

    /// What says something of the rig.
    fn misread_told(&self, before: &str) -> String {
        let mut out = String::new();
        for result in self.results {
            let trial = &result.trial;
            for told in &result.misread {
                let _ = writeln!(
                    out,
                    "{before}{} on {}, wait {}: {told}",
                    trial.subject.name(),
                    trial.kind,
                    trial.wait
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
                        let name = verdict.belief.name();
                        let outside = result.outside.iter().filter(|outside| outside.belief.name() == name);
                        let (chain, chain_seen) = verdict.judged.chain.unzip();
                        json!({
                            "profile": name,
                            "is_profile": verdict.belief.is_profile(),
                            "allowed": verdict.judged.allowed,
                            "allowed_metadata": chain,
                            "witnessed_metadata": chain_seen,
                            "witnessed": verdict.judged.witnessed.len(),
                            "partial": verdict.judged.partial.len(),
                            "outside": outside
                                .map(|outside| json!({
                                    "outcome": outside.outcome,
                                    "steps_done": outside.done,
                                    "image": outside.image,
                                }))
                                .collect::<Vec<_>>(),
                        })
                    })
                    .collect();
                // Those of deploys are long, and thousands.
                let is_litmus = matches!(trial.subject, Subject::Litmus(_));
                let outcomes: Vec<_> = result
                    .outcomes
                    .iter()
                    .map(|outcome| {
                        json!({
                            "tree": is_litmus.then(|| outcome.tree.to_string()),
                            "images": outcome.images,
                        })
                    })
                    .collect();
                let promises: Vec<_> = result
                    .promises
                    .iter()
                    .map(|promise| {
                        json!({ "promise": promise.name, "proved": promise.proved, "images_broken": promise.images })
                    })
                    .collect();
                json!({
                    "program": trial.subject.name(),
                    "is_deploy": !is_litmus,
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
                    "promises": promises,
                    "misread": result.misread,
                })
            })
            .collect();
        let refuted: BTreeMap<_, _> = self
            .refuted()
            .into_iter()
            .map(|(belief, refuted)| {
                let on: Vec<_> = refuted.on.into_iter().map(Kind::name).collect();
                (belief, json!({ "canary": refuted.canary, "on": on }))
            })
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
        let waits = waits.join(", ");
        // They are in the order of the catalogue, then of file systems, then of waits.
        let rows = |of_litmus: bool, row: fn(&[Result]) -> String| -> String {
            let of_one = self.results.chunk_by(|a, b| place(a) == place(b));
            of_one.filter(|of_one| of_one[0].is_litmus() == of_litmus).map(row).collect()
        };
        let litmus = rows(true, tables::litmus);
        if !litmus.is_empty() {
            let _ = write!(out, "\n{}{litmus}", tables::litmus_head(&waits));
        }
        let deploys = rows(false, tables::deploys);
        if !deploys.is_empty() {
            let _ = write!(out, "\n{}{deploys}", tables::deploys_head(&waits));
        }
        let unmountable: usize = self
            .results
            .iter()
            .flat_map(|result| &result.outcomes)
            .filter(|outcome| matches!(outcome.tree.nodes.get(""), Some(Node::Broken { .. })))
            .map(|outcome| outcome.images)
            .sum();
        let _ = writeln!(out, "\nImages that could not be mounted: {unmountable}.");
        let misread = self.misread_told("- ");
        if !misread.is_empty() {
            let _ = write!(
                out,
                "\nImages that were read differently when they were read again:\n\n```text\n{misread}```\n"
            );
        }
        let outside = self.outside_told("- ") + &self.uncertified_told("- certified and broken: ");
        if outside.is_empty() {
            out.push_str("\nNothing was outside of a profile, and nothing broken that is certified.\n");
        } else {
            let _ =
                write!(out, "\nOutside of a profile, or certified and broken:\n\n```text\n{outside}```\n");
        }
        out
    }
}

/// What has a row of its own in the table.
fn place(result: &Result) -> (&'static str, Kind) {
    (result.trial.subject.name(), result.trial.kind)
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {}", release.trim())
}
