//! Every way a deploy can end, at chosen points: signals on both sides, killed clients, lost and dead connections, two at
//! once. A `sync` that stops where it is told to makes the points exact.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::sshd::{Host, Ran, Running, chmod};

/// The arguments of `sync` at these points of a deploy.
const INTEND: &str = ". .cutover .cutover/unfinished .cutover/seals";
const BARRIER: &str = "-f -- .";
const MARK: &str = ".cutover/seals .cutover/unfinished";
/// Before old releases are removed, and after it.
const PRUNE: &str = ".cutover/unfinished";
const PRUNED: &str = "releases";

/// A host with one release, whose `sync` stops at a point until it may go on.
struct Stops {
    host: Host,
    tools: tempfile::TempDir,
    first: String,
}

impl Stops {
    fn start() -> Option<Self> {
        Self::start_with(false)
    }

    fn start_with(no_flock: bool) -> Option<Self> {
        let tools = tempfile::tempdir().expect("tools");
        let Some(real) = ["/usr/bin/sync", "/bin/sync"].iter().map(Path::new).find(|p| p.exists()) else {
            crate::skip("there is no sync on this machine");
            return None;
        };
        let at = |name: &str| tools.path().join(name).display().to_string();
        let script = format!(
            "#!/bin/sh\nprintf '%s\\n' \"$*\" >>'{log}'\nif [ -e '{stop}' ] && [ \"$*\" = \"$(cat '{stop}')\" ]; then : >'{there}'\n\
             while [ -e '{stop}' ]; do sleep 0.05; done; fi\nexec {real} \"$@\"\n",
            log = at("log"),
            stop = at("stop"),
            there = at("there"),
            real = real.display(),
        );
        fs::write(tools.path().join("sync"), script).expect("shim");
        chmod(&tools.path().join("sync"), 0o755);
        if no_flock {
            // As a shell answers for a command that is not there.
            fs::write(tools.path().join("flock"), "#!/bin/sh\nexit 127\n").expect("shim");
            chmod(&tools.path().join("flock"), 0o755);
        }
        let path = PathBuf::from(format!("{}:/usr/bin:/bin", tools.path().display()));
        let host = Host::start_with(Some(&path))?;
        fs::write(host.source().join("a"), "one").expect("write");
        let first = format!("releases/{}", host.deploy(&[]).live());
        fs::write(host.source().join("a"), "two").expect("write");
        Some(Self { host, tools, first })
    }

    /// Starts a deploy and waits until it is at the point.
    fn deploy_up_to(&self, point: &str) -> Running {
        self.up_to(point, "deploy", &[])
    }

    /// The same with any command.
    fn up_to(&self, point: &str, command: &str, args: &[&str]) -> Running {
        for old in ["there", "log"] {
            let _ = fs::remove_file(self.tools.path().join(old));
        }
        fs::write(self.tools.path().join("stop"), point).expect("write");
        let running = self.host.start_command(command, args);
        self.wait_there();
        running
    }

    /// What was synced since the last command was started.
    fn synced(&self) -> String {
        fs::read_to_string(self.tools.path().join("log")).expect("log")
    }

    /// Three releases, the newest live.
    fn deploy_two_more(&self) -> Vec<String> {
        for text in ["two", "three"] {
            fs::write(self.host.source().join("a"), text).expect("write");
            self.host.deploy(&[]).live();
        }
        self.host.releases()
    }

    fn wait_there(&self) {
        wait_until("the point", || self.tools.path().join("there").exists());
    }

    fn go(&self) {
        fs::remove_file(self.tools.path().join("stop")).expect("it was stopped");
    }

    /// Whatever happened: the next deploy gets through at once, and nothing is left.
    fn assert_next(&self, text: &str) {
        fs::write(self.host.source().join("a"), text).expect("write");
        let ran = self.host.deploy(&["--wait", "20s"]);
        ran.live();
        assert_eq!(fs::read_to_string(self.host.path().join("current/a")).expect("read"), text);
        self.host.assert_tidy();
        assert!(!self.host.path().join(".cutover/lock.held").exists());
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(name: &str, pid: &str) {
    let sent = Command::new("kill").args([name, pid]).status();
    assert!(sent.is_ok_and(|s| s.success()), "{name} {pid}");
}

/// The last line that was printed says what `current` points to.
fn last_line(ran: &Ran) -> &str {
    let said = if ran.code == Some(0) { &ran.stdout } else { &ran.stderr };
    said.lines().last().unwrap_or_default()
}

#[test]
fn a_signal_before_the_cutover() {
    let Some(stops) = Stops::start() else { return };
    for name in ["-INT", "-TERM", "-HUP"] {
        let running = stops.deploy_up_to(INTEND);
        signal(name, &running.0.id().to_string());
        let ran = running.finish();
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        assert!(ran.stderr.contains("\nerror: interrupted\nhint: "), "{ran:#?}");
        assert_eq!(last_line(&ran), format!("state: not live; current still points to {}", stops.first));
        // What still hangs on the host is ended: nobody has to wait for it.
        let start = Instant::now();
        wait_until("the lock", || stops.host.run("unlock", &[]).code == Some(0));
        assert!(start.elapsed() < Duration::from_secs(15));
        stops.go();
    }
    stops.assert_next("three");
}

/// The host is stuck, so nothing can be removed: a first signal waits for it, not for long, and a second one does not.
#[test]
fn a_second_signal_before_the_cutover_ends_at_once() {
    let Some(stops) = Stops::start() else { return };
    let mut running = stops.deploy_up_to(INTEND);
    signal("-INT", &running.0.id().to_string());
    std::thread::sleep(Duration::from_millis(500));
    assert!(running.0.try_wait().expect("wait").is_none(), "it removes what it has begun");
    let start = Instant::now();
    signal("-INT", &running.0.id().to_string());
    let ran = running.finish();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert_eq!(last_line(&ran), format!("state: not live; current still points to {}", stops.first));
    stops.go();
    stops.assert_next("three");
}

#[test]
fn a_signal_in_the_cutover_waits_until_it_is_known_what_is_live() {
    let Some(stops) = Stops::start() else { return };
    for (n, name) in ["-INT", "-TERM", "-HUP"].iter().enumerate() {
        fs::write(stops.host.source().join("a"), format!("version {n}")).expect("write");
        let mut running = stops.deploy_up_to(BARRIER);
        signal(name, &running.0.id().to_string());
        std::thread::sleep(Duration::from_millis(300));
        assert!(running.0.try_wait().expect("wait").is_none(), "it waits");
        stops.go();
        let id = running.finish().live();
        assert_eq!(stops.host.current(), format!("releases/{id}"));
    }
    stops.assert_next("last");
}

#[test]
fn a_second_signal_in_the_cutover_ends_the_client_only() {
    let Some(stops) = Stops::start() else { return };
    let running = stops.deploy_up_to(BARRIER);
    for _ in 0..2 {
        signal("-INT", &running.0.id().to_string());
        std::thread::sleep(Duration::from_millis(200));
    }
    let ran = running.finish();
    assert_eq!(ran.code, Some(3), "{ran:#?}");
    assert!(
        last_line(&ran).starts_with("state: current is unknown: interrupted during the cutover"),
        "{ran:#?}"
    );
    assert_eq!(stops.host.current(), stops.first);
    stops.go();
    wait_until("the cutover", || stops.host.current() != stops.first);
    stops.assert_next("three");
}

#[test]
fn a_signal_after_the_cutover() {
    let Some(stops) = Stops::start() else { return };
    for (n, name) in ["-INT", "-TERM", "-HUP"].iter().enumerate() {
        fs::write(stops.host.source().join("a"), format!("version {n}")).expect("write");
        let running = stops.deploy_up_to(MARK);
        signal(name, &running.0.id().to_string());
        let ran = running.finish();
        let id = ran.live();
        assert!(last_line(&ran).starts_with("live, cleanup pending: interrupted"), "{ran:#?}");
        assert!(last_line(&ran).ends_with(&id), "{ran:#?}");
        assert_eq!(stops.host.current(), format!("releases/{id}"));
        stops.go();
        // The host finishes what it has begun.
        wait_until("the log", || {
            let log = fs::read_to_string(stops.host.path().join(".cutover/log")).unwrap_or_default();
            log.contains(&id)
        });
    }
    stops.assert_next("last");
}

#[test]
fn a_killed_client_at_each_point() {
    for no_flock in [false, true] {
        let Some(stops) = Stops::start_with(no_flock) else { return };
        for (n, point) in [INTEND, BARRIER, MARK].iter().enumerate() {
            fs::write(stops.host.source().join("a"), format!("killed {n}")).expect("write");
            let before = stops.host.current();
            let mut running = stops.deploy_up_to(point);
            running.0.kill().expect("kill");
            let _ = running.finish();
            if *point == INTEND {
                wait_until("the lock", || stops.host.run("unlock", &[]).code == Some(0));
                assert_eq!(stops.host.current(), before);
                stops.go();
            } else {
                // A cutover that was begun is finished.
                stops.go();
                wait_until("the cutover", || stops.host.current() != before);
            }
            stops.assert_next(&format!("after {n}"));
        }
    }
}

/// Who comes then would find releases that are going.
#[test]
fn the_lock_is_held_until_the_cleanup_is_over() {
    for no_flock in [false, true] {
        let Some(stops) = Stops::start_with(no_flock) else { return };
        for n in 0..2 {
            fs::write(stops.host.source().join("a"), format!("more {n}")).expect("write");
            stops.host.deploy(&[]).live();
        }
        for point in [PRUNE, PRUNED] {
            fs::write(stops.host.source().join("a"), format!("newest {point}")).expect("write");
            let running = stops.deploy_up_to(point);
            let busy = stops.host.deploy(&[]);
            assert!(busy.code == Some(1) && busy.stderr.contains("another deploy is running"), "{busy:#?}");
            let held = stops.host.run("unlock", &[]);
            assert!(held.code == Some(1) && held.stderr.contains("; it is alive"), "{held:#?}");
            stops.go();
            let id = running.finish().live();
            assert_eq!(stops.host.current(), format!("releases/{id}"));
            assert_eq!(stops.host.releases().len(), 3);
            // And not longer.
            let free = stops.host.run("unlock", &[]);
            assert!(free.code == Some(0) && free.stdout.starts_with("the lock is free\n"), "{free:#?}");
        }
        stops.assert_next("last");
    }
}

/// The process that has the lock, by its file.
fn main_process(host: &Host) -> String {
    let held = host.path().join(".cutover/lock.held");
    let file = if held.exists() { held } else { host.path().join(".cutover/holder") };
    let text = fs::read_to_string(file).expect("holder");
    text.split(' ').nth(2).expect("a process").to_owned()
}

#[test]
fn a_signal_on_the_host() {
    let Some(stops) = Stops::start() else { return };
    let mut live = stops.first.clone();
    for (n, name) in ["-TERM", "-HUP", "-INT", "-KILL"].iter().enumerate() {
        for point in [INTEND, BARRIER] {
            fs::write(stops.host.source().join("a"), format!("{n} {point}")).expect("write");
            let running = stops.deploy_up_to(point);
            let main = main_process(&stops.host);
            signal(name, &main);
            std::thread::sleep(Duration::from_millis(200));
            stops.go();
            let ran = running.finish();
            match ran.code {
                // A shell may sit SIGINT out while it waits for a command.
                Some(0) => live = format!("releases/{}", ran.live()),
                Some(1) => {
                    let state = format!("state: not live; current still points to {live}");
                    assert_eq!(last_line(&ran), state, "{name} {point}: {ran:#?}");
                }
                _ => panic!("{name} {point}: {ran:#?}"),
            }
            assert_eq!(stops.host.current(), live);
        }
    }
    stops.assert_next("last");
}

#[test]
fn two_at_once_from_two_machines() {
    for no_flock in [false, true] {
        let Some(stops) = Stops::start_with(no_flock) else { return };
        let first = stops.deploy_up_to(BARRIER);
        let busy = stops.host.deploy(&[]);
        assert_eq!(busy.code, Some(1), "{busy:#?}");
        let who = format!("process {}, since ", first.0.id());
        assert!(busy.stderr.contains("another deploy is running") && busy.stderr.contains(&who), "{busy:#?}");
        assert!(busy.stderr.contains(" s), token c"), "{busy:#?}");
        let points = format!("current points to {}", stops.first);
        assert_eq!(last_line(&busy), format!("state: not live; {points}"), "{busy:#?}");
        for command in ["rollback", "recover", "prune"] {
            let busy = stops.host.run(command, &[]);
            assert_eq!(busy.code, Some(1), "{busy:#?}");
            assert!(busy.stderr.contains("\nhint: wait for it to end (--wait 10m"), "{busy:#?}");
            assert!(last_line(&busy).ends_with(&points), "{busy:#?}");
        }
        let held = stops.host.run("unlock", &[]);
        assert_eq!(held.code, Some(1), "{held:#?}");
        assert!(held.stderr.contains(&who) && held.stderr.contains("; it is alive"), "{held:#?}");
        assert_eq!(last_line(&held), format!("state: current points to {}", stops.first), "{held:#?}");
        let waiting = stops.host.start_deploy(&["--wait", "1m"]);
        std::thread::sleep(Duration::from_secs(4));
        stops.go();
        let one = first.finish().live();
        let other = waiting.finish();
        assert!(other.stdout.starts_with("waiting for another run: "), "{other:#?}");
        assert!(other.stdout.contains(&format!("nothing to do: releases/{one}")), "{other:#?}");
        stops.assert_next("three");
    }
}

#[test]
fn who_changes_something_may_wait() {
    let Some(stops) = Stops::start() else { return };
    stops.deploy_two_more();
    for (n, command) in ["rollback", "recover", "prune"].iter().enumerate() {
        fs::write(stops.host.source().join("a"), format!("version {n}")).expect("write");
        let deploying = stops.deploy_up_to(BARRIER);
        let mut waiting = stops.host.start_command(command, &["--wait", "1m"]);
        let mut out = BufReader::new(waiting.0.stdout.take().expect("its output"));
        let mut said = String::new();
        out.read_line(&mut said).expect("a line");
        assert!(said.starts_with("waiting for another run: "), "{command}: {said}");
        stops.go();
        let id = deploying.finish().live();
        out.read_to_string(&mut said).expect("the rest");
        assert_eq!(waiting.finish().code, Some(0), "{command}: {said}");
        assert_eq!(stops.host.current() == format!("releases/{id}"), *command != "rollback", "{said}");
    }
    stops.assert_next("last");
}

#[test]
fn a_live_run_is_ended_only_if_asked() {
    for no_flock in [false, true] {
        let Some(stops) = Stops::start_with(no_flock) else { return };
        let running = stops.deploy_up_to(INTEND);
        let ended = stops.host.run("unlock", &["--kill"]);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        assert!(ended.stdout.starts_with("ended, and freed: "), "{ended:#?}");
        assert_eq!(last_line(&ended), format!("current: {}", stops.first), "{ended:#?}");
        let ran = running.finish();
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        assert_eq!(last_line(&ran), format!("state: not live; current still points to {}", stops.first));
        stops.go();
        let free = stops.host.run("unlock", &[]);
        assert!(free.code == Some(0) && free.stdout.starts_with("the lock is free\n"), "{free:#?}");
        stops.assert_next("three");
    }
}

/// Passes connections on, until it is told to end them, or to swallow everything without a word.
struct Proxy {
    port: u16,
    dead: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn before(host: &Host) -> Self {
        let config = host.dir.path().join("cutover.toml");
        let text = fs::read_to_string(&config).expect("config");
        let line = text.lines().find(|l| l.starts_with("port = ")).expect("a port");
        let server: u16 = line.trim_start_matches("port = ").parse().expect("a number");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        fs::write(&config, text.replace(line, &format!("port = {port}"))).expect("config");
        let known = host.dir.path().join("known_hosts");
        let keys = fs::read_to_string(&known).expect("known_hosts");
        fs::write(&known, keys.replace(&server.to_string(), &port.to_string())).expect("known_hosts");
        let proxy = Self { port, dead: Arc::default(), open: Arc::default() };
        let (dead, open) = (Arc::clone(&proxy.dead), Arc::clone(&proxy.open));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if dead.load(Ordering::Relaxed) {
                    return;
                }
                let server = TcpStream::connect(("127.0.0.1", server)).expect("the server");
                for (mut from, mut to) in [
                    (client.try_clone().expect("clone"), server.try_clone().expect("clone")),
                    (server.try_clone().expect("clone"), client.try_clone().expect("clone")),
                ] {
                    let dead = Arc::clone(&dead);
                    std::thread::spawn(move || {
                        let mut buffer = vec![0; 65536];
                        while let Ok(n @ 1..) = from.read(&mut buffer) {
                            if dead.load(Ordering::Relaxed) {
                                continue;
                            }
                            if to.write_all(buffer.get(..n).unwrap_or_default()).is_err() {
                                break;
                            }
                        }
                        if !dead.load(Ordering::Relaxed) {
                            let _ = to.shutdown(Shutdown::Both);
                        }
                    });
                }
                open.lock().expect("no panic").extend([client, server]);
            }
        });
        proxy
    }

    /// The network fails, and both sides get to know.
    fn cut(&self) {
        for stream in self.open.lock().expect("no panic").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.dead.store(true, Ordering::Relaxed);
        self.cut();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

#[test]
fn a_connection_that_is_lost_in_the_cutover_is_settled_over_another() {
    let Some(stops) = Stops::start() else { return };
    let proxy = Proxy::before(&stops.host);
    let running = stops.deploy_up_to(BARRIER);
    proxy.cut();
    std::thread::sleep(Duration::from_millis(500));
    stops.go();
    let ran = running.finish();
    let id = ran.live();
    assert_eq!(stops.host.current(), format!("releases/{id}"));
    assert!(
        last_line(&ran).starts_with("live, cleanup pending: ") && last_line(&ran).ends_with(&id),
        "{ran:#?}"
    );
    // Before the cutover there is nothing to settle: it is undone.
    fs::write(stops.host.source().join("a"), "never live").expect("write");
    let running = stops.deploy_up_to(INTEND);
    proxy.cut();
    let lost = running.finish();
    assert_eq!(lost.code, Some(1), "{lost:#?}");
    assert_eq!(
        last_line(&lost),
        format!("state: not live; current still points to releases/{id}"),
        "{lost:#?}"
    );
    wait_until("the lock", || stops.host.run("unlock", &[]).code == Some(0));
    stops.go();
    stops.assert_next("three");
}

#[test]
fn a_rollback_is_settled_too() {
    let Some(stops) = Stops::start() else { return };
    let ids = stops.deploy_two_more();
    let proxy = Proxy::before(&stops.host);
    let running = stops.up_to(BARRIER, "rollback", &[]);
    proxy.cut();
    std::thread::sleep(Duration::from_millis(500));
    stops.go();
    let ran = running.finish();
    assert_eq!(ran.live(), ids[1]);
    assert!(
        last_line(&ran).starts_with("live, cleanup pending: ") && last_line(&ran).ends_with(&ids[1]),
        "{ran:#?}"
    );
    assert_eq!(stops.host.current(), format!("releases/{}", ids[1]));
    // The first run's sync of its rename may have failed, for all we know: what is reported is a rename of our own.
    assert_eq!(stops.synced().matches("-f -- .\n.\n").count(), 2, "{}", stops.synced());
    stops.host.assert_tidy();
}

/// The run before may have failed to make its rename durable, and a sync that failed is not made good by a later one.
#[test]
fn a_rollback_to_what_is_live_is_a_rename() {
    let Some(stops) = Stops::start() else { return };
    let before = fs::symlink_metadata(stops.host.path().join("current")).expect("current");
    fs::remove_file(stops.tools.path().join("log")).expect("log");
    let id = stops.first.trim_start_matches("releases/");
    let ran = stops.host.run("rollback", &[id]);
    assert_eq!(ran.stdout, format!("nothing to do: releases/{id} is live\n"), "{ran:#?}");
    assert!(stops.synced().contains("-f -- .\n.\n"), "barrier, then the directory: {}", stops.synced());
    let after = fs::symlink_metadata(stops.host.path().join("current")).expect("current");
    assert_ne!(before.ino(), after.ino(), "a fresh link");
    stops.host.assert_tidy();
}

/// Ctrl-C, SIGTERM and SIGHUP of the other commands: before what is durable they wait, after it they end.
#[test]
fn signals_of_the_other_commands() {
    let Some(stops) = Stops::start() else { return };
    let ids = stops.deploy_two_more();
    let ended = |point: &str, command: &str, args: &[&str]| {
        let mut running = stops.up_to(point, command, args);
        signal("-INT", &running.0.id().to_string());
        if point == BARRIER {
            std::thread::sleep(Duration::from_millis(300));
            assert!(running.0.try_wait().expect("wait").is_none(), "{command} waits");
            stops.go();
            return running.finish();
        }
        let ran = running.finish();
        stops.go();
        wait_until("the lock", || stops.host.run("unlock", &[]).code == Some(0));
        ran
    };
    let ran = ended(BARRIER, "rollback", &[]);
    assert_eq!(ran.live(), ids[1]);
    let ran = ended(MARK, "rollback", &[&ids[2]]);
    assert_eq!(ran.live(), ids[2]);
    let pending = format!("live, cleanup pending: interrupted; current points to releases/{}", ids[2]);
    assert_eq!(last_line(&ran), pending);

    let unfinished = || {
        let note = stops.host.path().join(".cutover/unfinished/20200101000000");
        fs::write(note, "").expect("note");
    };
    let interrupted = |ran: &Ran| {
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        assert!(ran.stderr.starts_with("error: interrupted\nhint: run it again\n"), "{ran:#?}");
        assert_eq!(last_line(ran), format!("state: current points to releases/{}", ids[2]));
    };
    unfinished();
    let ran = ended(BARRIER, "recover", &[]);
    assert!(ran.code == Some(0) && ran.stdout.starts_with("undone: releases/20200101000000"), "{ran:#?}");
    unfinished();
    interrupted(&ended(MARK, "recover", &[]));
    // The host had been told to finish it.
    assert!(stops.host.run("recover", &[]).stdout.starts_with("nothing to recover\n"));

    interrupted(&ended(MARK, "prune", &["--keep", "2"]));
    assert_eq!(stops.host.releases(), ids[1..]);
    fs::write(stops.host.source().join("a"), "four").expect("write");
    let four = stops.host.deploy(&[]).live();
    let ran = ended(BARRIER, "prune", &["--keep", "2"]);
    assert_eq!(
        (ran.code, last_line(&ran)),
        (Some(0), format!("current: releases/{four}").as_str()),
        "{ran:#?}"
    );
    stops.assert_next("last");
}

/// What a deploy has begun is taken away again, if the host answers.
#[test]
fn a_signal_in_the_upload() {
    let Some(host) = Host::start() else { return };
    fs::write(host.source().join("a"), "one").expect("write");
    let first = host.deploy(&[]).live();
    fs::write(host.source().join("b"), "x".repeat(300_000_000)).expect("write");
    let running = host.start_deploy(&[]);
    let staging = host.path().join(".cutover/staging");
    wait_until("the upload", || {
        crate::sshd::names(&staging).first().is_some_and(|id| staging.join(id).join("tree/b").exists())
    });
    signal("-INT", &running.0.id().to_string());
    let ran = running.finish();
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("\nerror: interrupted\nhint: run the deploy again"), "{ran:#?}");
    assert_eq!(last_line(&ran), format!("state: not live; current still points to releases/{first}"));
    assert_eq!(host.releases(), [first]);
    assert!(crate::sshd::names(&staging).is_empty());
    fs::remove_file(host.source().join("b")).expect("rm");
    assert_eq!(host.run("recover", &["--wait", "20s"]).code, Some(0));
    host.assert_tidy();
}

/// Nothing arrives any more, and neither side gets to know: the host finds out by itself.
#[test]
fn a_dead_connection_gives_the_lock_back() {
    let Some(stops) = Stops::start() else { return };
    let config = stops.host.dir.path().join("cutover.toml");
    let (direct, keys) = (
        fs::read_to_string(&config).expect("config"),
        fs::read_to_string(stops.host.dir.path().join("known_hosts")).expect("known_hosts"),
    );
    let proxy = Proxy::before(&stops.host);
    let mut target = cutover::config::load(&config, None).expect("config");
    target.silence = Duration::from_secs(3);
    let known = stops.host.dir.path().join("known_hosts");
    let both = fs::read_to_string(&known).expect("known_hosts") + &keys;
    fs::write(&known, both).expect("known_hosts");
    fs::write(&config, direct).expect("config");

    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    fs::write(stops.tools.path().join("stop"), INTEND).expect("write");
    let _ = fs::remove_file(stops.tools.path().join("there"));
    let deploy = runtime.spawn(async move {
        let options = cutover::deploy::Options::default();
        cutover::deploy::deploy(&target, &options, &mut |_| ()).await.is_ok()
    });
    stops.wait_there();
    // Its words keep it, however long that takes.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(stops.host.run("unlock", &[]).code, Some(1));
    proxy.dead.store(true, Ordering::Relaxed);
    wait_until("the lock", || stops.host.run("unlock", &[]).code == Some(0));
    assert!(!deploy.is_finished(), "the client has not noticed anything");
    deploy.abort();
    runtime.shutdown_background();
    stops.go();
    assert_eq!(stops.host.current(), stops.first);
    stops.assert_next("three");
}
