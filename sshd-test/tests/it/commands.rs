//! Commands over SSH: streams, status, signals, authentication.

use std::{io::Write, os::unix::fs::PermissionsExt, process::Stdio, sync::Arc, time::Duration};

use sshd_test::{Disk, Options, Server};

use crate::support::{Fixture, Recorder, noise, run, wait};

#[test]
fn five_mebibytes_go_through_cat() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let data = noise(5 << 20);
    let mut client = fixture.client("ssh");
    let mut child = client
        .args(["target", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = data.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    let output = wait(child);
    writer.join().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    assert!(output.stdout == data, "{} bytes came back", output.stdout.len());
}

#[test]
fn stderr_is_separate_and_the_status_arrives() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let output = fixture.ssh("echo out; echo err >&2; exit 7");
    assert_eq!(output.stdout, b"out\n");
    assert_eq!(output.stderr, b"err\n");
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn a_program_that_is_not_there() {
    let Some(fixture) = Fixture::with(&["ssh"], |options| {
        options.without = ["flock", "no-such-program-anywhere"].map(str::to_owned).into();
    }) else {
        return;
    };
    // Wherever it is; 126 and 127 are what a shell says of what it cannot run.
    let tried = fixture.ssh_ok("for p in flock /usr/bin/flock; do $p -n 9 9</ 2>/dev/null; echo $?; done");
    assert!(tried.lines().all(|status| status == "126" || status == "127"), "{tried}");
    assert_eq!(fixture.ssh_ok("command -v flock; echo other programs work | cat"), "other programs work\n");
}

#[test]
fn a_program_that_cannot_be_hidden() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/bin/sh", dir.path().join("flock")).unwrap();
    for (name, why) in [("flock", "other programs may be too"), ("../sh", "not the name of a program")] {
        let mut options = Options::new(Disk::Dir(dir.path().to_owned()), Arc::new(Recorder::default()));
        options.env.push(("PATH".to_owned(), dir.path().display().to_string()));
        options.without.push(name.to_owned());
        let refused = Server::start(options).map(drop).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn a_signal_that_kills_is_reported() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    for signal in ["TERM", "KILL", "HUP", "USR2", "XCPU"] {
        let output = fixture.ssh(&format!("kill -{signal} $$; echo survived"));
        // OpenSSH's client ends with 255 for any signal.
        assert_eq!((output.status.code(), output.stdout.len()), (Some(255), 0), "{signal}: {output:?}");
    }
    let masks = fixture.ssh_ok("grep -E '^Sig(Blk|Ign)' /proc/self/status");
    for line in masks.lines() {
        // The two signals that libc keeps for itself are as the machine has them.
        let mask = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        assert_eq!(mask & !(3 << 31), 0, "a program starts with default signals: {masks}");
    }
}

#[test]
fn a_command_that_reads_nothing_ends_while_much_is_sent() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let file = fixture.scratch.path().join("much");
    std::fs::write(&file, noise(32 << 20)).unwrap();
    let mut client = fixture.client("ssh");
    client.args(["target", "exec true"]).stdin(std::fs::File::open(file).unwrap());
    let output = run(&mut client);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_login_shell_reads_commands() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let mut client = fixture.client("ssh");
    let mut child = client
        .args(["-T", "target"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"echo \"$0 $HOME\"; pwd; exit 3\n").unwrap();
    let output = wait(child);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "-sh /root\n/root\n");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_terminal_is_refused_clearly() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let output = run(fixture.client("ssh").args(["-tt", "target", "echo ran"]));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("PTY allocation request failed"), "{output:?}");
}

#[test]
fn the_environment_is_clean_and_locales_pass() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let mut client = fixture.client("ssh");
    client.env("LC_TIME", "xx_YY").env("SECRET", "leak").args([
        "-o",
        "SendEnv LC_TIME SECRET",
        "target",
        "env",
    ]);
    let output = run(&mut client);
    let env = String::from_utf8(output.stdout).unwrap();
    assert!(env.contains("LC_TIME=xx_YY"), "{env}");
    assert!(!env.contains("SECRET") && !env.contains("CARGO"), "{env}");
    for name in [
        "PATH=/usr/local/sbin:",
        "HOME=/root",
        "USER=root",
        "LOGNAME=root",
        "SHELL=/bin/sh",
        "SSH_CONNECTION=127.0.0.1 ",
    ] {
        assert!(env.contains(name), "{name} is missing: {env}");
    }
}

/// OpenSSH would wait for `sleep`; here the channel ends soon after the command.
#[test]
fn a_background_process_that_keeps_the_pipe_does_not_hold_the_channel() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let start = std::time::Instant::now();
    let output = fixture.ssh("sleep 60 & echo started");
    assert_eq!(output.stdout, b"started\n");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!(fixture.server.sandbox().processes().unwrap(), 1, "the background process lives on");
}

/// Output that is still on its way when the command ends arrives completely, however slow the client reads.
#[test]
fn no_output_is_lost_at_the_end() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let mut client = fixture.client("ssh");
    client.args(["target", "head -c 8000000 /dev/zero; echo end >&2"]);
    let mut child = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let mut all = Vec::new();
    std::io::Read::read_to_end(&mut stdout, &mut all).unwrap();
    let output = wait(child);
    assert!(output.status.success());
    assert_eq!((all.len(), output.stderr.as_slice()), (8_000_000, b"end\n".as_slice()));
}

#[test]
fn another_key_and_another_user_are_refused() {
    let Some(fixture) = Fixture::new(&["ssh", "ssh-keygen"]) else { return };
    let key = fixture.scratch.path().join("key");
    let made =
        run(std::process::Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
    assert!(made.status.success(), "{made:?}");
    let config = std::fs::read_to_string(fixture.server.ssh_config()).unwrap();
    let own = fixture.server.identity().display().to_string();
    let attempts =
        [config.replace(&own, &key.display().to_string()), config.replace("User root", "User admin")];
    for (number, attempt) in attempts.into_iter().enumerate() {
        assert_ne!(attempt, config);
        let file = fixture.scratch.path().join(format!("config{number}"));
        std::fs::write(&file, attempt).unwrap();
        let output = run(std::process::Command::new("ssh")
            .arg("-F")
            .arg(file)
            .args(["target", "echo in"])
            .stdin(Stdio::null()));
        assert_eq!(output.status.code(), Some(255));
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(message.contains("Permission denied"), "{message}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn the_files_of_the_client_are_private() {
    let Some(fixture) = Fixture::new(&[]) else { return };
    for file in [fixture.server.identity(), fixture.server.known_hosts(), fixture.server.ssh_config()] {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600, "{}", file.display());
    }
    let directory = fixture.server.identity().parent().unwrap().to_owned();
    drop(fixture);
    assert!(!directory.exists(), "the files go with the server");
}

#[test]
fn one_processor_is_for_what_the_server_starts_and_for_nothing_else() {
    let allowed = |status: &str| {
        let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list:")).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    let own = || allowed(&std::fs::read_to_string("/proc/thread-self/status").unwrap());
    let before = own();
    let Some(confined) = Fixture::with(&["ssh"], |options| options.one_processor = true) else { return };
    let there = allowed(&confined.ssh_ok("cat /proc/self/status"));
    assert!(there.parse::<u32>().is_ok(), "not one processor: {there}");
    assert_eq!(own(), before, "the thread that started the server is confined too");
    let Some(free) = Fixture::new(&["ssh"]) else { return };
    assert_eq!(allowed(&free.ssh_ok("cat /proc/self/status")), before);
}
