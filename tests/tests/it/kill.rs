//! What is left of a certifier that ended before its time: nothing that runs, is mounted or listens; and when it was
//! asked to stop, no file either.
//!
//! Moments are random, from a seed that is printed: `CUTOVER_SEED=N` repeats them, as far as the machine does.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};

use crate::processes::{Belongings, MARKER, mounts};
use crate::room::{LIMIT, Room, machine_has};

/// xorshift64*: good enough for moments.
struct Random(u64);

impl Random {
    fn new(what: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed =
            std::env::var("CUTOVER_SEED").map_or(now, |seed| seed.parse().expect("CUTOVER_SEED is a number"));
        println!("{what}: CUTOVER_SEED={seed}");
        Self(seed | 1)
    }

    /// From 0 to `limit`.
    fn duration(&mut self, limit: Duration) -> Duration {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let part = (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as u32;
        limit.mul_f64(f64::from(part) / f64::from(1_u32 << 24))
    }
}

/// Ten times for each subject, so twenty in all; more often where slow tests run.
fn times() -> u32 {
    if std::env::var_os("CUTOVER_SLOW_TESTS").is_some() { 40 } else { 10 }
}

/// Few further runs: what matters is that there are some to be killed in.
fn engine(room: &Room) -> Command {
    let mut command = room.certify();
    command.args(["--recordings", "2", "--recoveries", "4", "--faults", "8"]);
    command
}

/// A script with a place of its own for temporary files: those that it leaves when it is killed are not the certifier's.
fn script(room: &Room) -> Command {
    let own = room.path("script");
    std::fs::create_dir(&own).unwrap();
    let mut command =
        room.certify_tool(&format!("TMPDIR='{}' sh certify/subjects/correct.sh", own.display()));
    command.args(["--keep", "3", "--readers"]);
    command
}

/// Kills it at moments that are spread over its run time: one in each part, somewhere in it.
fn nothing_outlives_sigkill(name: &str, subject: fn(&Room) -> Command) {
    if !machine_has(&["ssh", "tar"]) {
        return;
    }
    let mut random = Random::new(name);
    let room = Room::new();
    let started = Instant::now();
    let ran = room.run(&mut subject(&room));
    assert_eq!(ran.code, Some(0), "{}", room.show(&ran));
    let part = started.elapsed() / times();
    let mut most = (0, false);
    for at in 0..times() {
        let room = Room::new();
        let before = mounts();
        let marker = format!("{name}-{}-{at}", std::process::id());
        let mut child = room.start(subject(&room).env(MARKER, &marker));
        let delay = part * at + random.duration(part);
        std::thread::sleep(delay);
        let mut belongings = Belongings::of_marker(&marker);
        belongings.look(child.id());
        child.kill().unwrap();
        let status = child.wait().unwrap();
        let (processes, listens) = belongings.seen();
        most = (most.0.max(processes), most.1 | listens);
        let seen = format!("{name}, {at}: {status} after {delay:?}, when it had {processes} processes");
        println!("{seen}");
        belongings.assert_gone(&before, &seen);
    }
    // Without this the test could look at the wrong things and see them all gone.
    assert!(most.0 > 3 && most.1, "no moment had a server with processes: {most:?}");
}

#[test]
fn nothing_outlives_sigkill_while_our_engine_deploys() {
    nothing_outlives_sigkill("engine", engine);
}

#[test]
fn nothing_outlives_sigkill_while_a_script_deploys() {
    nothing_outlives_sigkill("script", script);
}

/// Asks it to stop once `deploys` have ended, after a random while.
fn stops_and_cleans_up(signal: Signal, deploys: usize, random: &mut Random) {
    let room = Room::new();
    let before = mounts();
    let marker = format!("stop-{}-{deploys}", std::process::id());
    let mut child = room.start(script(&room).env(MARKER, &marker));
    let deadline = Instant::now() + LIMIT;
    let enough = |stderr: &[u8]| stderr.split(|byte| *byte == b'\n').count() > deploys;
    while !enough(&room.stderr()) || room.left_behind().is_empty() {
        let ended: Option<ExitStatus> = child.try_wait().unwrap();
        assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}: it did not come that far");
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(random.duration(Duration::from_millis(150)));
    let mut belongings = Belongings::of_marker(&marker);
    belongings.look(child.id());
    kill_process(Pid::from_child(&child), signal).unwrap();
    let asked = Instant::now();
    let ran = room.wait(&mut child, LIMIT);
    let story = format!("{signal:?} after {deploys} deploys: {}", room.show(&ran));
    assert_eq!(ran.code, Some(2), "{story}");
    assert!(asked.elapsed() < Duration::from_secs(20), "it took {:?} to stop; {story}", asked.elapsed());
    let text = String::from_utf8_lossy(&ran.stderr);
    assert!(text.contains("error: interrupted\n"), "{story}");
    belongings.assert_gone(&before, &story);
    let files: BTreeSet<PathBuf> = room.left_behind().into_iter().collect();
    assert!(files.is_empty(), "left behind: {files:?}; {story}");
}

#[test]
fn asked_to_stop_it_leaves_nothing_at_all() {
    if !machine_has(&["ssh", "tar"]) {
        return;
    }
    let mut random = Random::new("stop");
    for (signal, deploys) in [(Signal::INT, 0), (Signal::INT, 1), (Signal::TERM, 2), (Signal::HUP, 3)] {
        stops_and_cleans_up(signal, deploys, &mut random);
    }
}
