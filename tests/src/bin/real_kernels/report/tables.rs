//! The tables of the documentation: a row for each program, or tool, on each file system, with all waits.

use std::collections::BTreeSet;

use super::count;
use crate::tree::Tree;
use crate::trial::Result;

/// What is above the rows of [`litmus`].
pub(super) fn litmus_head(waits: &str) -> String {
    format!(
        "For each program and file system: different images; different outcomes seen after waits of {waits} (in brackets: of \
         them, those that are allowed because a file was still being written); then, for each profile, how many \
         outcomes it allows, how many of these were seen, and how many were seen that it does not allow.\n\n\
         | program | fs | images | seen | allowed, seen of these, outside |\n|---|---|---|---|---|\n"
    )
}

/// What a profile says about one program on one file system.
struct Said<'r> {
    profile: &'static str,
    allowed: usize,
    witnessed: BTreeSet<&'r Tree>,
    outside: BTreeSet<&'r Tree>,
}

/// One program on one file system.
pub(super) fn litmus(results: &[Result]) -> String {
    let mut profiles: Vec<Said<'_>> = Vec::new();
    let mut seen = Vec::new();
    for result in results {
        let tree = |nth: &usize| &result.outcomes[*nth].tree;
        for (nth, verdict) in result.of_profiles().enumerate() {
            if nth == profiles.len() {
                let (witnessed, outside) = (BTreeSet::new(), BTreeSet::new());
                profiles.push(Said { profile: verdict.belief.name(), allowed: 0, witnessed, outside });
            }
            let said = &mut profiles[nth];
            // Another wait may have cuts at more crash points.
            said.allowed = said.allowed.max(verdict.judged.allowed.unwrap_or(0));
            said.witnessed.extend(verdict.judged.witnessed.iter().map(tree));
            said.outside.extend(verdict.judged.outside.iter().map(|(nth, _)| tree(nth)));
        }
        seen.push(format!("{}{}", result.outcomes.len(), partial(result)));
    }
    let profiles: Vec<_> = profiles
        .iter()
        .map(|Said { profile, allowed, witnessed, outside }| {
            let share = 100.0 * count(witnessed.len()) / count((*allowed).max(1));
            format!("{profile}: {allowed}, {} ({share:.0} %), {}", witnessed.len(), bad(outside.len()))
        })
        .collect();
    let Some((name, kind, images)) = begin(results) else { return String::new() };
    format!("| {name} | {kind} | {images} | {} | {} |\n", seen.join(", "), profiles.join("; "))
}

/// What is above the rows of [`deploys`].
pub(super) fn deploys_head(waits: &str) -> String {
    format!(
        "For the deploys of each tool on each file system, with waits of {waits} after each deploy: different images; different \
         outcomes seen (in brackets: of them, those that are allowed because a file was still being written), and how many of \
         them `posix` or the profile do not allow; how many states of metadata the profile allows where it has them in one \
         chain, and how many of them were seen; and, for each promise, what the certifier says of it under the profile, and \
         in how many images it was broken.\n\n\
         | tool | fs | images | seen | outside | metadata allowed, seen | current_complete | durable_ack |\n\
         |---|---|---|---|---|---|---|---|\n"
    )
}

/// One tool on one file system.
pub(super) fn deploys(results: &[Result]) -> String {
    let Some((name, kind, images)) = begin(results) else { return String::new() };
    let each = |told: &dyn Fn(&Result) -> String| results.iter().map(told).collect::<Vec<_>>().join(", ");
    let seen = each(&|result| format!("{}{}", result.outcomes.len(), partial(result)));
    let outside: usize =
        results.iter().flat_map(Result::of_profiles).map(|verdict| verdict.judged.outside.len()).sum();
    let chain = |result: &Result| result.of_profiles().filter_map(|verdict| verdict.judged.chain).next_back();
    let chain = results.iter().filter_map(chain).max_by_key(|(_, seen)| *seen).map_or_else(
        || "not one chain".to_owned(),
        |(allowed, seen)| format!("{allowed}, {seen} ({:.0} %)", 100.0 * count(seen) / count(allowed.max(1))),
    );
    let promise = |nth: usize| {
        let proved = results.iter().all(|result| result.promises[nth].proved);
        let broken = each(&|result| {
            let images = result.promises[nth].images;
            if proved { bad(images) } else { images.to_string() }
        });
        format!("{}; {broken}", if proved { "proved" } else { "broken" })
    };
    format!(
        "| {name} | {kind} | {images} | {seen} | {} | {chain} | {} | {} |\n",
        bad(outside),
        promise(0),
        promise(1)
    )
}

fn begin(results: &[Result]) -> Option<(&'static str, &'static str, usize)> {
    let trial = results.first()?.trial;
    let images = results.iter().map(|result| result.distinct).sum();
    Some((trial.subject.name(), trial.kind.name(), images))
}

fn partial(result: &Result) -> String {
    match result.of_profiles().next().map_or(0, |verdict| verdict.judged.partial.len()) {
        0 => String::new(),
        partial => format!(" ({partial})"),
    }
}

/// A number that should be 0.
fn bad(n: usize) -> String {
    if n == 0 { "0".to_owned() } else { format!("**{n}**") }
}
