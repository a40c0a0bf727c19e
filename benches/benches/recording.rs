//! What recording costs: the same deploys with Cutover, over SSH, to a simulated disk that records and to ext4.
//!
//! The application is the one that `tests/fixtures/webapp.sh` builds: 12,000 files, 155 MB, two versions. A round is one
//! fresh host of each kind, taken in turns: the first version (`first`), then the second over it (`next`). What counts is
//! the ratio of the medians. ext4 lies on an image in memory unless `CUTOVER_BENCH_DIR` says otherwise, so it is as fast as
//! it can be; sync calls reach it.
//!
//! `-- --test` does one round; `-- --rounds N` so many instead of three.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cutover_benches::{Host, real_root, skip};

/// Starts a host with a fresh disk.
type Start = fn() -> io::Result<Host>;

fn main() {
    // Before any thread exists.
    if let Err(error) = sshd_test::enter_user_namespace_if_needed() {
        return skip(&format!("recording: {error}"));
    }
    let arguments: Vec<String> = std::env::args().collect();
    let asked =
        arguments.iter().position(|a| a == "--rounds").and_then(|at| arguments.get(at + 1)?.parse().ok());
    let rounds = if arguments.iter().any(|a| a == "--test") { 1 } else { asked.unwrap_or(3) };
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/webapp");
    let versions = [at.join("v1"), at.join("v2")];
    if !at.join("stamp").is_file() {
        return skip("recording: there is no target/webapp: run tests/fixtures/webapp.sh");
    }
    println!("ext4 lies in {}; seconds, {rounds} rounds", real_root().display());
    let mut times = [[vec![], vec![]], [vec![], vec![]]];
    for round in 1..=rounds {
        let hosts: [(&str, Start); 2] = [("ext4", Host::on_ext4), ("simfs", Host::on_simfs)];
        for ((name, start), times) in hosts.into_iter().zip(&mut times) {
            let host = match start() {
                Ok(host) => host,
                Err(error) => return skip(&format!("recording on {name}: {error}")),
            };
            let took = deploy_both(&host, &versions).unwrap_or_else(|error| panic!("{name}: {error}"));
            println!(
                "round {round}, {name}: first {:.2}, next {:.2}",
                took[0].as_secs_f64(),
                took[1].as_secs_f64()
            );
            for (all, one) in times.iter_mut().zip(took) {
                all.push(one);
            }
        }
    }
    let [ext4, simfs] = &mut times;
    for (what, at) in [("first", 0), ("next", 1)] {
        let (real, simulated) = (median(&mut ext4[at]), median(&mut simfs[at]));
        println!("{what}: ext4 {real:.2}, simfs {simulated:.2}, ratio {:.2}", simulated / real);
    }
}

fn deploy_both(host: &Host, versions: &[PathBuf; 2]) -> io::Result<[Duration; 2]> {
    let took = [host.deploy(&versions[0])?, host.deploy(&versions[1])?];
    // What is fast because nothing was recorded would be worth nothing.
    assert!(host.ops().is_none_or(|ops| ops > 20_000), "too few operations were recorded: {:?}", host.ops());
    Ok(took)
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}
