//! The lock of a deploy path, by the shells that run it on hosts, with and without flock(1).

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use cutover::remote::frame::{Event, Frames};
use cutover::remote::holder::{Holder, UnlockEnd, Unlocked};
use cutover::remote::steps::{self, LOCK, Run};

const SHELLS: &[&[&str]] = &[&["dash"], &["bash", "--posix"], &["busybox", "ash"]];

/// What a host without flock(1) answers.
const NO_FLOCK: &str = "flock() { return 127; }\n";

fn shells() -> impl Iterator<Item = (&'static [&'static str], &'static str)> {
    let there = |shell: &&&'static [&'static str]| {
        let (program, args) = shell.split_first().expect("a program");
        let ran = Command::new(program).args(args).args(["-c", "exit 7"]).status();
        let there = ran.is_ok_and(|s| s.code() == Some(7));
        if !there {
            crate::skip(&format!("there is no {} on this machine", shell.join(" ")));
        }
        there
    };
    let found: Vec<_> = SHELLS.iter().filter(there).collect();
    found.into_iter().flat_map(|shell| [(*shell, ""), (*shell, NO_FLOCK)])
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join(".cutover")).expect("mkdir");
    dir
}

/// Runs a script in `dir` with the lock's functions; what it prints.
fn sh(shell: &[&str], dir: &Path, flock: &str, script: &str) -> String {
    let (program, args) = shell.split_first().expect("a program");
    let text = format!("say() {{ echo \"$*\"; }}\nT=cfe\n{LOCK}\n{flock}\nexec 8>>.cutover/lock\n{script}");
    fs::write(dir.join("script"), text).expect("write");
    let out = Command::new(program).args(args).arg("script").current_dir(dir).output().expect("a shell");
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(stderr.is_empty(), "{shell:?} {flock}: {stderr}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A process that is alive until the value is dropped.
struct Alive(Child);

impl Drop for Alive {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("boot id").trim().to_owned()
}

/// When a process started, by its own reading of proc(5).
fn start_of(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let after = stat.rsplit_once(") ").expect("a name").1;
    after.split(' ').nth(19).expect("22 fields").to_owned()
}

#[test]
fn what_is_stale_and_what_is_not() {
    let child = Alive(Command::new("sleep").arg("100").spawn().expect("sleep"));
    let (pid, start, boot) = (child.0.id(), start_of(child.0.id()), boot());
    let other_boot = "00000000-0000-4000-8000-000000000000";
    let cases = [
        (format!("cabc {boot} {pid} {start} 1700000000 somebody\n"), "busy"),
        // After a reboot another process may have the number.
        (format!("cabc {other_boot} {pid} {start} 1700000000 somebody\n"), "ours"),
        // So may one of the same boot.
        (format!("cabc {boot} {pid} {start}1 1700000000 somebody\n"), "ours"),
        (format!("cabc {boot} 4194999 {start} 1700000000 somebody\n"), "ours"),
        (String::new(), "ours"),
        ("\0\0\0\0\0\0\0\0".to_owned(), "ours"),
        ("nonsense\n".to_owned(), "ours"),
        (format!("cabc {boot} -1 {start} 1700000000 somebody\n"), "ours"),
        (format!("../../x {boot} 4194999 {start} 1700000000 a token that is none\n"), "ours"),
        // A power loss left a part of it: not a whole line.
        (format!("cabc {boot} {pid}"), "ours"),
    ];
    for (shell, _) in shells().filter(|(_, flock)| !flock.is_empty()) {
        for (text, expected) in &cases {
            let dir = folder();
            fs::write(dir.path().join(".cutover/lock.held"), text).expect("write");
            let said = sh(
                shell,
                dir.path(),
                NO_FLOCK,
                "take me; case $? in 0) echo ours ;; 1) echo busy ;; *) echo error ;; esac",
            );
            assert_eq!(said.trim(), *expected, "{shell:?}: {text:?}");
        }
        // With flock(1) it is looked at all the same: the run that holds it found none.
        let (alive, dead) = (cases.first().expect("busy"), cases.get(1).expect("ours"));
        for (text, expected) in [alive, dead] {
            let dir = folder();
            fs::write(dir.path().join(".cutover/lock.held"), text).expect("write");
            let said = sh(shell, dir.path(), "", "take me && echo ours || echo busy");
            assert_eq!(said.trim(), *expected, "{shell:?}: {text:?}");
        }
    }
}

/// Power losses while a stale lock was being replaced: the right to do so is torn as well, and the right to that one.
#[test]
fn torn_rights_to_a_torn_lock_are_replaced() {
    for (shell, _) in shells().filter(|(_, flock)| !flock.is_empty()) {
        for torn in 1..=4 {
            let dir = folder();
            let rights = ["lock.held", "stale.torn", "stale.torn.torn", "stale.torn.torn.torn"];
            for name in rights.iter().take(torn) {
                fs::write(dir.path().join(".cutover").join(name), "").expect("write");
            }
            let said = sh(shell, dir.path(), NO_FLOCK, "take me && echo ours; echo .cutover/stale.*");
            assert_eq!(said, "ours\n.cutover/stale.*\n", "{shell:?}: {torn} torn");
        }
    }
}

#[test]
fn what_a_dead_run_left_running_holds_it() {
    for (shell, flock) in shells() {
        let dir = folder();
        let script = "take me || exit; sleep 100 >/dev/null 2>&1 & echo $!; kill -9 $$";
        let child = sh(shell, dir.path(), flock, script).trim().to_owned();
        let again = "take me && echo ours || echo busy";
        assert_eq!(sh(shell, dir.path(), flock, again).trim(), "busy", "{shell:?} {flock}");
        let killed = Command::new("kill").arg(&child).status();
        assert!(killed.is_ok_and(|s| s.success()), "{child}");
        let start = Instant::now();
        while sh(shell, dir.path(), flock, again).trim() != "ours" {
            assert!(start.elapsed() < Duration::from_secs(20), "{shell:?} {flock}");
        }
    }
}

/// Starters that try all the time and are killed at any point: never two inside, and it always comes free.
#[test]
fn one_at_a_time_whatever_is_killed() {
    const STARTERS: usize = 6;
    const KILLS: usize = 60;
    let seed = std::env::var("CUTOVER_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |n| u64::from(n.subsec_nanos()))
    });
    println!("CUTOVER_SEED={seed}");
    let mut state = seed | 1;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap_or(0) % below
    };
    for (shell, flock) in shells() {
        let dir = folder();
        // Inside, each looks for others who are inside and alive.
        let script = format!(
            "say() {{ :; }}\n{LOCK}\n{flock}\nT=$1\nexec 8>>.cutover/lock\nwhile :; do\n\
             until take me; do [ $? = 1 ] || {{ echo \"$T: no lock\" >>wrong; exit; }}; done\n\
             for f in in.*; do [ -e \"$f\" ] || continue\n\
             if [ -n \"$(started \"${{f#in.}}\")\" ]; then echo \"$T: $f too\" >>wrong; else rm -f \"$f\"; fi; done\n\
             : >in.$$; echo >>won; rm -f in.$$\nrelease\ndone\n"
        );
        fs::write(dir.path().join("script"), script).expect("write");
        let (program, args) = shell.split_first().expect("a program");
        let mut count = 0;
        let mut start = || {
            count += 1;
            let log = fs::File::options().create(true).append(true).open(dir.path().join("stderr"));
            let child = Command::new(program)
                .args(args)
                .args(["script", &format!("c{count}")])
                .current_dir(dir.path())
                .stderr(log.expect("log"))
                .spawn();
            Alive(child.expect("a shell"))
        };
        let mut running: Vec<Alive> = (0..STARTERS).map(|_| start()).collect();
        for _ in 0..KILLS {
            std::thread::sleep(Duration::from_millis(random(30) as u64));
            drop(running.swap_remove(random(STARTERS)));
            running.push(start());
        }
        // Nobody is killed any more: somebody gets it.
        let won = || fs::read(dir.path().join("won")).unwrap_or_default().len();
        let (before, begun) = (won(), Instant::now());
        while won() < before + 2 {
            assert!(begun.elapsed() < Duration::from_secs(30), "{shell:?} {flock}: stuck after {before}");
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(running);
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
        assert_eq!((read("wrong"), read("stderr")), (String::new(), String::new()), "{shell:?} {flock}");
    }
}

/// A host's shell as the program starts it, and what it says.
struct Shell {
    child: Alive,
    input: Option<ChildStdin>,
    frames: Frames,
    output: std::sync::mpsc::Receiver<Vec<u8>>,
}

impl Shell {
    fn start(shell: &[&str]) -> Self {
        Self::start_as(shell, "cfe")
    }

    fn start_as(shell: &[&str], token: &str) -> Self {
        // What `exec sh -c …` is to the login shell, with this one as `sh`.
        let asked = steps::shell();
        let words = asked.strip_prefix("exec sh ").expect("it starts so");
        let command = format!("exec {} {words}", shell.join(" "));
        let mut child = Command::new("sh")
            .args(["-c", &command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        let mut out = child.stdout.take().expect("piped");
        let (sender, output) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while let Ok(n @ 1..) = out.read(&mut buffer) {
                let _ = sender.send(buffer.get(..n).unwrap_or_default().to_vec());
            }
        });
        let input = child.stdin.take();
        Self { child: Alive(child), input, frames: Frames::new(token), output }
    }

    fn send(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("open");
        input.write_all(bytes).and_then(|()| input.flush()).expect("it reads");
    }

    /// Events up to the end of the phase.
    fn phase(&mut self, script: &[u8]) -> Vec<Event> {
        self.send(&steps::framed(script));
        let mut all = Vec::new();
        loop {
            let bytes = self.output.recv_timeout(Duration::from_secs(30)).expect("an answer");
            all.extend(self.frames.feed(&bytes).expect("not too much"));
            if all
                .iter()
                .any(|e| matches!(e, Event::Note(words) if words.first().is_some_and(|w| w == "phase")))
            {
                return all;
            }
        }
    }

    fn ended_within(&mut self, limit: Duration) -> bool {
        let start = Instant::now();
        while start.elapsed() < limit {
            if self.child.0.try_wait().expect("wait").is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

fn run_in(dir: &Path, token: &str) -> Run {
    let path = dir.to_str().expect("plain").to_owned();
    let holder = "somebody@laptop process 7".to_owned();
    Run { token: token.to_owned(), holder, path, best_effort: false, skip_unreadable: false }
}

/// A main shell that has the lock and whose run also has a process going.
fn main_shell(shell: &[&str], dir: &Path) -> Shell {
    let mut main = Shell::start(shell);
    let events = main.phase(&steps::open(&run_in(dir, "cfe"), &[], Some(0)));
    assert!(events.contains(&Event::Note(vec!["phase".into(), "0".into()])), "{events:?}");
    main.phase(b"sleep 100 </dev/null >/dev/null & echo $! >sleeper; say phase 0\n");
    main
}

fn sleeper_is_alive(dir: &Path) -> bool {
    let pid = fs::read_to_string(dir.join("sleeper")).expect("sleeper");
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, after)| !after.starts_with('Z'))
}

fn end_sleeper(dir: &Path) {
    let pid = fs::read_to_string(dir.join("sleeper")).expect("sleeper");
    let _ = Command::new("kill").arg(pid.trim()).stderr(Stdio::null()).status();
}

/// A connection that is half open, or a client that stands still: both are silence to the host.
#[test]
fn silence_ends_a_run() {
    for (shell, _) in shells().filter(|(_, flock)| flock.is_empty()) {
        let dir = folder();
        let mut main = main_shell(shell, dir.path());
        let mut watch = Shell::start(shell);
        watch.send(&steps::framed(&steps::watch(&run_in(dir.path(), "cfe"), 4)));
        // Words keep it.
        for _ in 0..8 {
            std::thread::sleep(Duration::from_millis(700));
            watch.send(steps::BEAT);
            assert!(!main.ended_within(Duration::ZERO), "{shell:?}");
        }
        assert!(main.ended_within(Duration::from_secs(20)), "{shell:?}");
        assert!(!sleeper_is_alive(dir.path()), "{shell:?}");
    }
}

#[test]
fn a_connection_that_ends_takes_its_run_along_unless_it_may_finish() {
    for (shell, _) in shells().filter(|(_, flock)| flock.is_empty()) {
        for leave in [false, true] {
            let dir = folder();
            let mut main = main_shell(shell, dir.path());
            let mut watch = Shell::start(shell);
            watch.send(&steps::framed(&steps::watch(&run_in(dir.path(), "cfe"), 60)));
            if leave {
                watch.send(steps::LEAVE);
            }
            drop((watch.input.take(), main.input.take()));
            assert!(
                main.ended_within(Duration::from_secs(10)) && watch.ended_within(Duration::from_secs(10))
            );
            assert_eq!(sleeper_is_alive(dir.path()), leave, "{shell:?}");
            end_sleeper(dir.path());
        }
    }
}

/// The watcher of a run that is over does nothing to the next one.
#[test]
fn a_watcher_ends_no_other_run() {
    let dir = folder();
    let Some((shell, _)) = shells().next() else { return };
    let mut main = main_shell(shell, dir.path());
    let mut watch = Shell::start(shell);
    watch.send(&steps::framed(&steps::watch(&run_in(dir.path(), "cother"), 60)));
    drop(watch.input.take());
    assert!(watch.ended_within(Duration::from_secs(10)));
    assert!(!main.ended_within(Duration::from_millis(300)) && sleeper_is_alive(dir.path()));
    end_sleeper(dir.path());
}

#[test]
fn unlocking() {
    for (shell, _) in shells().filter(|(_, flock)| flock.is_empty()) {
        let dir = folder();
        let unlock = |kill| {
            let mut other = Shell::start_as(shell, "cother");
            let mut run = run_in(dir.path(), "cother");
            run.holder = "the one who unlocks".to_owned();
            Unlocked::read(&other.phase(&steps::unlock(&run, kill)))
        };
        assert_eq!(unlock(false).end, UnlockEnd::Free);
        let mut main = main_shell(shell, dir.path());
        let held = unlock(false);
        assert_eq!((held.end, held.main_alive, held.processes), (UnlockEnd::Held, true, 2), "{held:?}");
        let holder = held.holder.expect("a holder");
        assert_eq!(holder.who, "somebody@laptop process 7");
        assert!(holder.age.is_some_and(|age| age.as_secs() < 60), "{holder:?}");
        assert!(sleeper_is_alive(dir.path()), "left alone");
        assert_eq!(unlock(true).end, UnlockEnd::Killed);
        assert!(main.ended_within(Duration::from_secs(5)) && !sleeper_is_alive(dir.path()));
        assert_eq!(unlock(true).end, UnlockEnd::Free);
        // A host without flock(1), before it was started again.
        fs::write(dir.path().join(".cutover/lock.held"), "cabc other-boot 1 1 1700000000 somebody\n")
            .expect("write");
        let stale = unlock(false);
        assert_eq!(stale.end, UnlockEnd::Stale);
        assert_eq!(stale.holder.expect("a holder").who, "somebody");
    }
}

/// However much of a script arrives, it runs whole or not at all.
#[test]
fn a_script_that_is_cut_runs_nothing() {
    for (shell, _) in shells().filter(|(_, flock)| flock.is_empty()) {
        let dir = folder();
        let file = dir.path().join("ran");
        let script = format!("f='{}'\n: >\"$f\"\n(\n: >\"$f\"\n)\n", file.display());
        let framed = steps::framed(script.as_bytes());
        for length in 0..framed.len() {
            let mut host = Shell::start(shell);
            host.send(framed.get(..length).expect("a part"));
            drop(host.input.take());
            assert!(host.ended_within(Duration::from_secs(10)));
            assert!(!file.exists(), "{shell:?}: {length} of {}", framed.len());
        }
        let mut host = Shell::start(shell);
        host.send(&framed);
        drop(host.input.take());
        assert!(host.ended_within(Duration::from_secs(10)) && file.exists());
    }
}

#[test]
fn a_holder_is_told_in_words() {
    let say = |text: &str, now| Holder::parse(text.as_bytes(), now).map(|h| h.to_string());
    let line = "c0123456789abcdef boot-id 77 12345 1700000000 me@laptop process 7\n";
    insta::assert_snapshot!(say(line, Some(1_700_000_700)).expect("one"), @"me@laptop process 7, since 2023-11-14 22:13:20 UTC (11 min), token c0123456");
    // The host's clock went back.
    insta::assert_snapshot!(say(line, Some(1)).expect("one"), @"me@laptop process 7, since 2023-11-14 22:13:20 UTC, token c0123456");
    insta::assert_snapshot!(say("c01 of another version\n", None).expect("one"), @"of another version, token c01");
    insta::assert_snapshot!(say("c01 b 1 2 99999999999999999 \u{1b}[31mred\n", Some(5)).expect("one"), @r"\u{1b}[31mred, token c01");
    assert_eq!(say("", None), None);
    assert_eq!(say("\n", None), None);
}
