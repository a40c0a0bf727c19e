//! Cases at random: the same in every run, unless `CUTOVER_SEED` asks for others. `CUTOVER_CASES` says how many.
//!
//! What fails is told with its seed, shrunk, and as the value to keep below `tests/regressions`. A case that failed once
//! is a file there, and is tried first in every run.

use std::fmt::Debug;
use std::fs;
use std::path::Path;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};
use serde::de::DeserializeOwned;

/// What CI tries.
const CASES: u32 = 64;

/// How many cases are asked for.
pub(crate) fn cases() -> u32 {
    std::env::var("CUTOVER_CASES").map_or(CASES, |n| n.parse().expect("CUTOVER_CASES is a number"))
}

fn seed() -> u64 {
    std::env::var("CUTOVER_SEED").map_or(1, |n| n.parse().expect("CUTOVER_SEED is a number"))
}

/// Tries so many values that `new` makes, half of them on each of two threads: a deploy mostly waits. Panics with the
/// complaint about the smallest that fails, after `shrinks` tries to find a smaller one. `to_json` writes it down.
pub(crate) fn try_some<S: Strategy>(
    new: impl Fn() -> S + Sync,
    shrinks: u32,
    complaint: impl Fn(&S::Value) -> Option<String> + Sync,
    to_json: impl Fn(&S::Value) -> String + Sync,
) where
    S::Value: Debug,
{
    let (cases, seed) = (cases(), seed());
    println!("CUTOVER_SEED={seed} CUTOVER_CASES={cases}");
    let half = |half: u64, cases: u32| {
        let config = Config {
            cases,
            rng_seed: RngSeed::Fixed(seed.wrapping_mul(2).wrapping_add(half)),
            // It is kept as a value by hand, with its story.
            failure_persistence: None,
            max_shrink_iters: shrinks,
            ..Config::default()
        };
        let result = TestRunner::new(config).run(&new(), |value| match complaint(&value) {
            Some(complaint) => Err(TestCaseError::fail(complaint)),
            None => Ok(()),
        });
        match result {
            Ok(()) => {}
            Err(TestError::Fail(complaint, value)) => panic!(
                "CUTOVER_SEED={seed} CUTOVER_CASES={}: {complaint}\nkeep it, with a story, below tests/regressions:\n{}",
                self::cases(),
                to_json(&value)
            ),
            Err(error @ TestError::Abort(_)) => panic!("CUTOVER_SEED={seed}: {error}"),
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| half(1, cases / 2));
        half(0, cases - cases / 2);
        if let Err(panic) = other.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Tries every case that is kept in a folder of `tests/regressions`; `story` is the line that each has.
pub(crate) fn try_kept<T: DeserializeOwned>(
    folder: &str,
    story: impl Fn(&T) -> &str,
    complaint: impl Fn(&T) -> Option<String>,
) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(folder);
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let (text, name) = (fs::read_to_string(&file).unwrap(), file.display());
        let case: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let story = story(&case);
        assert!(!story.contains('\n') && !story.is_empty(), "{name}: one line of story");
        if let Some(complaint) = complaint(&case) {
            panic!("{name}: {story}\n{complaint}");
        }
    }
}
