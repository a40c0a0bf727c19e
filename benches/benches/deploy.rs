//! How fast deploys are on the embedded server. How fast they are judged: `judge.rs`.
//!
//! `upload-and-copy`: an application is tarred over one `ssh` into a new directory and copied to a second. Bytes are
//! those written, both times. `floor` does the same without SSH on a real directory, so what counts is the ratio of
//! the others to it. Real directories are in memory unless `CUTOVER_BENCH_DIR` says otherwise.
//!
//! On few cores the wake-ups between client, server and disk cost more than the work: `taskset -c 0` in front of the
//! command gives steadier ratios.

use std::{
    io,
    process::Command,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput};
use cutover_benches::{App, Place, real_root, skip};

fn main() {
    // Before any thread exists.
    let namespace = sshd_test::enter_user_namespace_if_needed();
    let mut criterion = Criterion::default().configure_from_args();
    upload_and_copy(&mut criterion, namespace.map_err(io::Error::other));
    criterion.final_summary();
}

fn upload_and_copy(criterion: &mut Criterion, may_mount: io::Result<()>) {
    for program in ["ssh", "tar"] {
        if let Err(error) = Command::new(program).arg("--help").output() {
            return skip(&format!("upload-and-copy needs {program}: {error}"));
        }
    }
    println!("real directories are made in {}", real_root().display());
    let app = App::create().expect("the directory for real directories is writable");
    let mut group = criterion.benchmark_group("upload-and-copy");
    group.throughput(Throughput::Bytes(2 * App::content_bytes()));
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(10));
    let mut measure = |name: &str, place: io::Result<Place>| {
        let mut place = match place {
            Ok(place) => place,
            Err(error) => return skip(&format!("upload-and-copy/{name}: {error}")),
        };
        check(&mut place, &app).unwrap_or_else(|error| panic!("{name}: {error}"));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|runs| {
                (0..runs)
                    .map(|_| run(&mut place, &app).unwrap_or_else(|error| panic!("{name}: {error}")))
                    .sum()
            });
        });
    };
    measure("floor: real directory without ssh", Place::here());
    if let Err(error) = may_mount {
        return skip(&format!("upload-and-copy over ssh: {error}"));
    }
    measure("sshd-test on a real directory", Place::ssh_to_real_directory());
    measure("sshd-test on simfs", Place::ssh_to_simfs());
}

/// One run, timed; what it left is removed outside of that time.
fn run(place: &mut Place, app: &App) -> io::Result<Duration> {
    let started = Instant::now();
    let deployed = place.upload_and_copy(app)?;
    let took = started.elapsed();
    place.remove(&deployed)?;
    Ok(took)
}

/// The work is what it is said to be: a benchmark of something that fails quietly is fast.
fn check(place: &mut Place, app: &App) -> io::Result<()> {
    let deployed = place.upload_and_copy(app)?;
    assert_eq!(place.count(&deployed)?, (2 * App::files(), 2 * App::content_bytes()));
    place.remove(&deployed)
}
