//! Delays that let a tool's parallel parts overtake each other in other ways than by themselves.
//!
//! The first recording of a history is left alone. From the second on, one half of the programs that change something on
//! the disk is slow, and the next time the other half: whatever two of them run beside each other, one is the slower in one
//! recording and the faster in another, unless both are in the same half, which each deploy draws anew. A tool that does
//! one thing after the other is only slower.
//!
//! Decides nothing about what a tool does with it. All is chosen by the seed and the number of the recording, so a run can
//! be repeated; which program comes first is up to the machine.

use std::num::NonZeroUsize;
use std::time::Duration;

use simfs::fault::{At, Calls, Fault, Schedule, When};

/// How many calls can wait while others are served.
pub(crate) const THREADS: NonZeroUsize = NonZeroUsize::new(32).expect("not zero");

/// How much longer each change of a slow program takes. A program of a hundred changes is then slower by more than
/// it takes to open a connection and replace a link.
const SLOW: Duration = Duration::from_millis(3);

/// After so many changes a slow program is slow enough.
const SLOW_CALLS: u64 = 100;

/// How much longer one change in [`SHORT_ONE_IN`] takes, of any program.
const SHORT: Duration = Duration::from_micros(500);
const SHORT_ONE_IN: u64 = 8;

/// The delays of one recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delays {
    seed: u64,
    other_half: bool,
}

impl Delays {
    /// Those of recording `number` of a history, counted from 1; none of the first. The first pair is drawn by `seed`, each
    /// further one by the next.
    pub fn of_recording(number: u32, seed: u64) -> Option<Self> {
        let delayed = u64::from(number.checked_sub(2)?);
        Some(Self { seed: seed.wrapping_add(delayed / 2), other_half: delayed % 2 == 1 })
    }

    /// As faults of the disk during one deploy, counted from 1.
    pub(crate) fn of_deploy(self, deploy: usize) -> Schedule {
        // No bit of a large seed gets lost.
        let seed = self.seed.rotate_left(32) ^ deploy as u64;
        let halves = At::Callers { seed, other_half: self.other_half, first: SLOW_CALLS };
        let random =
            At::Random { seed: seed.rotate_left(1) ^ u64::from(self.other_half), one_in: SHORT_ONE_IN };
        Schedule::default()
            .and(When { at: halves, ..When::every(Calls::default()) }, Fault::Delay(SLOW))
            .and(When { at: random, ..When::every(Calls::default()) }, Fault::Delay(SHORT))
    }
}

impl std::fmt::Display for Delays {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let half = if self.other_half { "the other half" } else { "one half" };
        write!(out, "with {half} of the programs delayed, by seed {}", self.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_recording_is_left_alone_and_the_others_come_in_pairs() {
        let told: Vec<String> = (0..6)
            .map(|n| {
                Delays::of_recording(n, 1).map_or_else(|| "none".to_owned(), |delays| delays.to_string())
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r"
        none
        none
        with one half of the programs delayed, by seed 1
        with the other half of the programs delayed, by seed 1
        with one half of the programs delayed, by seed 2
        with the other half of the programs delayed, by seed 2
        ");
    }

    #[test]
    fn another_seed_draws_other_delays() {
        let seeds = [0, 1, 2, 3, 1 << 31, 1 << 32, (1 << 32) + 1, 1 << 63, u64::MAX];
        let mut all = Vec::new();
        for seed in seeds {
            for number in [2, 3] {
                for deploy in [1, 2] {
                    let delays = Delays::of_recording(number, seed).unwrap();
                    all.push(format!("{:?}", delays.of_deploy(deploy)));
                }
            }
        }
        let drawn = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), drawn);
        assert_eq!(Delays::of_recording(4, 7), Delays::of_recording(2, 8));
        assert!(Delays::of_recording(1, 7).is_none());
    }

    /// What was recorded without a seed can be recorded again by the versions that come.
    #[test]
    fn the_usual_seed_draws_what_it_always_did() {
        let drawn = Delays::of_recording(5, 1).unwrap().of_deploy(3);
        let seed = 2 << 32 | 3;
        let halves = At::Callers { seed, other_half: true, first: SLOW_CALLS };
        let random = At::Random { seed: seed << 1 | 1, one_in: SHORT_ONE_IN };
        let every = |at| When { at, ..When::every(Calls::default()) };
        let same = Schedule::default()
            .and(every(halves), Fault::Delay(SLOW))
            .and(every(random), Fault::Delay(SHORT));
        assert_eq!(format!("{drawn:?}"), format!("{same:?}"));
    }
}
