//! The everyday deploy: 10,000 files, of which 1 % have changed, to OpenSSH's own server on a real directory.
//!
//! Beside it, in turns, what people do by hand and what is as safe: `cp -a` of the live release, `rsync -a --delete` over it,
//! link, `sync -f`, `mv -T`, `sync -f`, and the removal of the fourth release, over an ssh connection that is open already.
//! It checks nothing and takes no lock. Measured is the time until the new release is live, durably, and the time until
//! all is done. What counts is the ratio of the medians; the goal is 0.8.
//!
//! At the end one more deploy tells where its time goes: what is done here, and how long which program ran on the host.
//!
//! `-- --test` does one small round; `-- --rounds N` so many instead of seven. `CUTOVER_BENCH_DIR` chooses the disk.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io, io::Read as _};

use cutover::config;
use cutover::deploy::{Options, Outcome, deploy};
use cutover::source::Source;
use cutover_benches::{OpenSsh, skip};

/// Files of one folder.
const FOLDER_FILES: usize = 100;
/// One in so many changes.
const CHANGED_ONE_IN: usize = 100;
/// How many releases remain.
const KEEP: usize = 3;

/// What runs on the host during a deploy.
const PROGRAMS: [&str; 16] = [
    "cp",
    "mv",
    "ln",
    "rm",
    "mkdir",
    "stat",
    "find",
    "xargs",
    "tar",
    "sha256sum",
    "sync",
    "readlink",
    "chmod",
    "cat",
    "tail",
    "head",
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let test = arguments.iter().any(|a| a == "--test");
    let asked =
        arguments.iter().position(|a| a == "--rounds").and_then(|at| arguments.get(at + 1)?.parse().ok());
    let (files, rounds) = if test { (500, 1) } else { (10_000, asked.unwrap_or(7)) };
    for program in ["ssh", "rsync", "ssh-keygen"] {
        if let Err(error) = Command::new(program).arg("-V").output() {
            return skip(&format!("incremental needs {program}: {error}"));
        }
    }
    let mut server = match OpenSsh::start(None) {
        Ok(server) => server,
        Err(error) => return skip(&format!("incremental: {error}")),
    };
    server.open_master().expect("ssh gets in");
    compare(&server, files, rounds).expect("both deploy");
    profile(files).expect("a deploy with shims");
}

fn compare(server: &OpenSsh, files: usize, rounds: usize) -> io::Result<()> {
    let source = server.path("source");
    write_source(&source, files)?;
    let (ours, theirs) = (server.path("ours"), server.path("theirs"));
    let config = server.configure(&source, &ours)?;
    let mut by_hand = ByHand::new(server, &source, &theirs);
    println!("{files} files, 1 in {CHANGED_ONE_IN} changed, on {}; load {}", source.display(), load());
    // The first deploys, and those until there is something to prune.
    for round in 0..KEEP {
        change(&source, files, round)?;
        cutover(&config)?;
        by_hand.deploy()?;
    }
    let (mut us, mut them) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        change(&source, files, KEEP + round)?;
        // In turns, so that neither always finds the caches that the other left.
        if round % 2 == 0 {
            us.push(cutover(&config)?);
            them.push(by_hand.deploy()?);
        } else {
            them.push(by_hand.deploy()?);
            us.push(cutover(&config)?);
        }
        println!("round {}: cutover {}, cp + rsync {}", round + 1, us[round], them[round]);
    }
    assert_same(&source, &ours.join("current"))?;
    assert_same(&source, &theirs.join("current"))?;
    for (what, time) in [("live", (|took| took.live) as fn(&Took) -> Duration), ("done", |took| took.done)] {
        let (us, them) = (median(&us, time), median(&them, time));
        println!("{what}, medians: cutover {us:.2} s, cp + rsync {them:.2} s, ratio {:.2}", us / them);
    }
    println!("load {}", load());
    Ok(())
}

/// How long a deploy took.
#[derive(Clone, Copy)]
struct Took {
    live: Duration,
    done: Duration,
}

impl std::fmt::Display for Took {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "live after {:.2} s, done after {:.2} s", self.live.as_secs_f64(), self.done.as_secs_f64())
    }
}

/// What a deploy consists of.
fn profile(files: usize) -> io::Result<()> {
    let shims = tempfile::tempdir()?;
    let path = OpenSsh::shims(shims.path(), &PROGRAMS)?;
    let server = OpenSsh::start(Some(&path))?;
    let source = server.path("source");
    write_source(&source, files)?;
    let config = server.configure(&source, &server.path("app"))?;
    for round in 0..KEEP {
        change(&source, files, round)?;
        cutover(&config)?;
    }
    change(&source, files, KEEP)?;
    let log = shims.path().join("profile");
    fs::remove_file(&log)?;
    let began = Instant::now();
    Source::scan(&source).map_err(io::Error::other)?;
    let scan = began.elapsed();
    let began_ns = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_err(io::Error::other)?
        .as_nanos();
    let took = cutover(&config)?;
    println!(
        "one deploy with a shim before each program of the host, which costs some ms a call: {took}; of which"
    );
    println!("  {:>6.0} ms  reading and hashing the source here", scan.as_secs_f64() * 1e3);
    // Calls of one program in a row are one line.
    let mut lines: Vec<(&str, u32, u128, u128)> = Vec::new();
    let log = fs::read_to_string(&log)?;
    for line in log.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, began, ended] = words.as_slice() else { continue };
        let ns = |text: &str| text.parse::<u128>().unwrap_or(0);
        let (began, ran) = (ns(began).saturating_sub(began_ns), ns(ended).saturating_sub(ns(began)));
        match lines.last_mut() {
            Some((last, calls, _, all)) if last == name => (*calls, *all) = (*calls + 1, *all + ran),
            _ => lines.push((name, 1, began, ran)),
        }
    }
    for (name, calls, began, ran) in lines.into_iter().filter(|(.., ran)| *ran >= 10_000_000) {
        println!("  {:>6} ms  {name}, {calls} calls, from {} ms on", ran / 1_000_000, began / 1_000_000);
    }
    Ok(())
}

/// About 4 KiB each; the same in every run.
fn write_source(source: &Path, files: usize) -> io::Result<()> {
    for n in 0..files {
        let file = file(source, n);
        if n % FOLDER_FILES == 0 {
            fs::create_dir_all(file.parent().unwrap_or(source))?;
        }
        fs::write(file, format!("file {n} ").repeat(100 + n % 700))?;
    }
    Ok(())
}

fn file(source: &Path, n: usize) -> PathBuf {
    source.join(format!("folder-{:03}/file-{n:05}", n / FOLDER_FILES))
}

fn change(source: &Path, files: usize, round: usize) -> io::Result<()> {
    for n in (0..files).skip(round % CHANGED_ONE_IN).step_by(CHANGED_ONE_IN) {
        fs::write(file(source, n), format!("changed in round {round} ").repeat(200))?;
    }
    Ok(())
}

fn cutover(config: &Path) -> io::Result<Took> {
    let target = config::load(config, None).map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let began = Instant::now();
    let mut live = None;
    let mut say = |line: &str| {
        if line.starts_with("live: ") {
            live = Some(began.elapsed());
        }
    };
    let outcome = runtime.block_on(deploy(&target, &Options::default(), &mut say));
    let done = began.elapsed();
    match outcome {
        Ok(Outcome::Live { cleanup: None }) => Ok(Took { live: live.unwrap_or(done), done }),
        Ok(other) => Err(io::Error::other(format!("the deploy ended with {other:?}"))),
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}

/// The same result with ssh, cp and rsync.
struct ByHand<'a> {
    server: &'a OpenSsh,
    source: &'a Path,
    path: &'a Path,
    releases: usize,
}

impl<'a> ByHand<'a> {
    fn new(server: &'a OpenSsh, source: &'a Path, path: &'a Path) -> Self {
        Self { server, source, path, releases: 0 }
    }

    fn deploy(&mut self) -> io::Result<Took> {
        self.releases += 1;
        let (new, path) = (self.releases, self.path.display());
        let began = Instant::now();
        self.ssh(&format!(
            "mkdir -p {path}/releases && cd {path} && if [ -e current ]; then cp -a current/. releases/{new}; fi"
        ))?;
        let mut rsync = Command::new("rsync");
        rsync.args(["-a", "--delete", "-e"]).arg(self.server.ssh().join(" "));
        rsync.arg(format!("{}/", self.source.display())).arg(format!("bench:{path}/releases/{new}/"));
        run(&mut rsync)?;
        let old = new.saturating_sub(KEEP);
        let live = self.ssh(&format!(
            "cd {path} && ln -s releases/{new} next && sync -f . && mv -T next current && sync -f . && echo live && \
             rm -rf releases/{old}"
        ))?;
        let done = began.elapsed();
        Ok(Took { live: live.map_or(done, |at| at.duration_since(began)), done })
    }

    /// Runs a script on the host, and says when it said something, if it did.
    fn ssh(&self, script: &str) -> io::Result<Option<Instant>> {
        let mut words = self.server.ssh().into_iter();
        let mut ssh = Command::new(words.next().unwrap_or_default());
        ssh.args(words).args(["bench", script]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = ssh.spawn()?;
        let mut said = [0];
        let said = child.stdout.take().is_some_and(|mut out| out.read(&mut said).is_ok_and(|n| n > 0));
        let said = said.then(Instant::now);
        let status = child.wait()?;
        if status.success() { Ok(said) } else { Err(io::Error::other(format!("{script}: {status}"))) }
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let out = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{command:?}: {}: {said}", out.status)))
    }
}

/// A benchmark of something that fails quietly is fast.
fn assert_same(source: &Path, release: &Path) -> io::Result<()> {
    let mut diff = Command::new("diff");
    run(diff.arg("-r").arg(source).arg(format!("{}/", release.display())))
}

fn median(all: &[Took], time: fn(&Took) -> Duration) -> f64 {
    let mut times: Vec<Duration> = all.iter().map(time).collect();
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

/// How busy the machine is, for whoever reads the figures.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
