//! What the benchmarks work on: an application on disk, places to put it, and recorded deploys for the judge.
//!
//! Nothing here measures. All of it is the same in every run: no clock, no random numbers.

mod app;
mod history;
mod host;
mod openssh;
mod place;

use std::{
    env,
    path::{Path, PathBuf},
};

pub use app::App;
pub use history::{Barrier, History};
pub use host::Host;
pub use openssh::OpenSsh;
pub use place::Place;

/// Where real directories are made: `CUTOVER_BENCH_DIR`, or `/dev/shm`, or where temporary files go.
///
/// Memory by default: the simulated disk is in memory too, and what a real disk costs is another question, with an answer
/// that differs from minute to minute.
pub fn real_root() -> PathBuf {
    let memory = || Path::new("/dev/shm").is_dir().then(|| PathBuf::from("/dev/shm"));
    env::var_os("CUTOVER_BENCH_DIR").map(PathBuf::from).or_else(memory).unwrap_or_else(env::temp_dir)
}

/// Says why something cannot be measured here. In CI nothing may be missing, so there it is a failure.
///
/// # Panics
/// With `CI=true` in the environment.
pub fn skip(why: &str) {
    println!("skipped: {why}");
    assert!(env::var("CI").as_deref() != Ok("true"), "skipped in CI: {why}");
}
