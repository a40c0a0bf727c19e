//! A host that lies: whatever it sends, the client ends, says so in plain text, and does nothing to its own machine.
//!
//! The server here is either a real shell whose output is changed on its way, or one that answers each script with frames
//! of its own making. The client runs in a directory that is compared before and after, with a `PATH` on which every
//! program leaves a trace.

use std::collections::HashMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::{LineEnding, PrivateKey};
use russh::server::{
    self, Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelWriteHalf};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::sshd::{Ran, chmod};
use crate::tree;

/// In what a host says, this stands for the token of the run.
const TOKEN: &[u8] = b"TOKEN";

/// A client that is still there after this hangs.
const LIMIT: Duration = Duration::from_mins(1);

/// A host that says nothing for so long ends the conversation: waiting for it is not what is tested.
const SILENCE: Duration = Duration::from_millis(1500);

/// The most memory of the client, whatever it is sent: a section has a limit, and is copied once.
const MEMORY_KB: u64 = 900_000;

/// What is done to the output of the real shell, at so many bytes from its beginning.
#[derive(Clone, Debug)]
enum Change {
    Flip(u64, u8),
    Insert(u64, Vec<u8>),
    Drop(u64, u64),
    End(u64),
    /// From there on only this, again and again.
    Endless(u64, Vec<u8>),
}

/// What a made-up answer consists of.
#[derive(Clone, Debug)]
enum Part {
    Out(Vec<u8>),
    Err(Vec<u8>),
}

/// A way to lie.
#[derive(Clone, Debug)]
enum Lie {
    Changed(Vec<Change>),
    Answers(Vec<Vec<Part>>),
}

/// The server, and the client's directory.
struct Hostile {
    dir: tempfile::TempDir,
    server: tokio::runtime::Runtime,
}

impl Hostile {
    fn start(lie: Lie) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let client = dir.path().join("client");
        for name in ["source/lib", "traps", "home"] {
            fs::create_dir_all(client.join(name)).expect("mkdir");
        }
        fs::write(client.join("source/index"), "index").expect("write");
        fs::write(client.join("source/lib/code"), "code".repeat(500)).expect("write");
        symlink("index", client.join("source/link")).expect("link");
        // Whatever the client starts leaves a file.
        for name in ["sh", "ssh", "tar", "rm", "cp", "bash", "cat", "true", "xdg-open", "ssh-askpass", "git"]
        {
            let trap = client.join("traps").join(name);
            fs::write(&trap, format!("#!/bin/sh\n: >'{}'\n", client.join(format!("ran-{name}")).display()))
                .expect("trap");
            chmod(&trap, 0o755);
        }
        let (host_key, client_key) = (key(1), key(2));
        let identity = client.join("id");
        fs::write(&identity, client_key.to_openssh(LineEnding::LF).expect("a key").as_bytes()).expect("id");
        chmod(&identity, 0o600);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let public = host_key.public_key().to_openssh().expect("a key");
        fs::write(client.join("known_hosts"), format!("[127.0.0.1]:{port} {public}\n")).expect("known_hosts");
        let srv = dir.path().join("srv");
        let config = format!(
            "version = 1\n[targets.test]\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"somebody\"\npath = \"{}\"\nsource = \"source\"\n\
             identity = \"id\"\nknown_hosts = \"known_hosts\"\n",
            srv.display()
        );
        fs::write(client.join("cutover.toml"), config).expect("cutover.toml");
        let server = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("runtime");
        let config = Arc::new(server::Config {
            keys: vec![host_key],
            auth_rejection_time_initial: Some(Duration::ZERO),
            nodelay: true,
            ..server::Config::default()
        });
        listener.set_nonblocking(true).expect("nonblocking");
        server.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("listener");
            while let Ok((socket, _)) = listener.accept().await {
                let handler = Liar { lie: lie.clone(), channels: HashMap::new() };
                if let Ok(session) = server::run_stream(config.clone(), socket, handler).await {
                    let _ = session.await;
                }
            }
        });
        Self { dir, server }
    }

    /// Runs the client once; afterwards its machine has to be what it was.
    fn run(self, args: &[&str]) -> Ran {
        self.run_with(args, || ())
    }

    /// The same, and does something before all of it goes.
    fn run_with(self, args: &[&str], and_then: impl FnOnce()) -> Ran {
        let client = self.dir.path().join("client");
        let before = tree::read(&client, true);
        let mut child = Command::new(env!("CARGO_BIN_EXE_cutover"))
            .args(args)
            .current_dir(&client)
            .env_clear()
            .env("PATH", client.join("traps"))
            .env("HOME", client.join("home"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cutover");
        let deadline = Instant::now() + LIMIT;
        let mut peak_kb = 0;
        while child.try_wait().expect("wait").is_none() {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let peak = status
                .lines()
                .find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
            peak_kb = peak_kb.max(peak.unwrap_or(0));
            if Instant::now() > deadline {
                let _ = child.kill();
                panic!("the client does not end: {:#?}", child.wait_with_output());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let out = child.wait_with_output().expect("its end");
        self.server.shutdown_background();
        for text in [&out.stdout, &out.stderr] {
            assert_clean(text);
        }
        let ran = Ran {
            code: out.status.code(),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        };
        assert!(matches!(ran.code, Some(0..=4)), "no panic, no signal: {ran:#?}");
        assert!(!ran.stderr.contains("panicked"), "{ran:#?}");
        assert!(peak_kb < MEMORY_KB, "{peak_kb} kB: {ran:#?}");
        assert_eq!(tree::read(&client, true), before, "the client's own machine: {ran:#?}");
        and_then();
        ran
    }
}

/// Text that cannot steer a terminal, or look like another text.
pub(crate) fn assert_clean(bytes: &[u8]) {
    let text =
        std::str::from_utf8(bytes).unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(bytes)));
    let steers = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    assert!(!text.chars().any(steers), "{text:?}");
}

fn key(seed: u8) -> PrivateKey {
    Ed25519Keypair::from_seed(&[seed; 32]).into()
}

/// One connection. Everybody may log in.
struct Liar {
    lie: Lie,
    channels: HashMap<ChannelId, Open>,
}

struct Open {
    input: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Option<(ChannelWriteHalf<Msg>, mpsc::UnboundedReceiver<Vec<u8>>)>,
}

impl Handler for Liar {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, _: &str, _: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let id = channel.id();
        let (_, writer) = channel.split();
        let (input, inbox) = mpsc::unbounded_channel();
        self.channels.insert(id, Open { input, waiting: Some((writer, inbox)) });
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some((writer, inbox)) = self.channels.get_mut(&id).and_then(|open| open.waiting.take()) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        let (lie, command, handle) = (self.lie.clone(), command.to_vec(), session.handle());
        tokio::spawn(async move {
            match lie {
                Lie::Changed(changes) => changed(&command, changes, inbox, &writer).await,
                Lie::Answers(answers) => answer(answers, inbox, &writer).await,
            }
            let _ = handle.eof(id).await;
            let _ = handle.close(id).await;
        });
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Session) -> Result<(), Self::Error> {
        if let Some(open) = self.channels.get(&id) {
            let _ = open.input.send(data.to_vec());
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.channels.remove(&id);
        Ok(())
    }
}

fn is_hex(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
}

/// What frames the host's words: the key that its shell made, or the run's token, `c` and 32 hexadecimal digits.
fn token(said: &[u8]) -> Option<&[u8]> {
    const KEY: &[u8] = b" key ";
    let key = said.windows(KEY.len() + 64).find(|w| w.starts_with(KEY) && is_hex(&w[KEY.len()..]));
    key.map(|w| &w[KEY.len()..]).or_else(|| said.windows(33).find(|w| w[0] == b'c' && is_hex(&w[1..])))
}

fn with_token(bytes: &[u8], said: &[u8]) -> Vec<u8> {
    let token = token(said).unwrap_or(b"unknown");
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(TOKEN.len()).position(|w| w == TOKEN) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(token);
        rest = &rest[at + TOKEN.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// A real shell, on a real directory, whose output is changed.
async fn changed(
    command: &[u8],
    changes: Vec<Change>,
    mut inbox: mpsc::UnboundedReceiver<Vec<u8>>,
    writer: &ChannelWriteHalf<Msg>,
) {
    let mut shell = tokio::process::Command::new("sh");
    shell.arg("-c").arg(String::from_utf8_lossy(command).into_owned());
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let Ok(mut child) = shell.spawn() else { return };
    let (mut stdin, Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else { return };
    let (mut said, mut at, mut dropped) = (Vec::new(), 0_u64, 0_u64);
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = tokio::select! {
            input = inbox.recv(), if stdin.is_some() => {
                match input {
                    Some(input) => {
                        said.extend_from_slice(&input);
                        if let Some(stdin) = &mut stdin {
                            let _ = stdin.write_all(&input).await;
                        }
                    }
                    None => stdin = None,
                }
                continue;
            }
            read = stdout.read(&mut buffer) => read.unwrap_or(0),
            () = tokio::time::sleep(SILENCE) => 0,
        };
        if read == 0 {
            return;
        }
        said.extend_from_slice(&buffer[..read]);
        let mut out = Vec::new();
        for byte in &buffer[..read] {
            let mut byte = *byte;
            for change in &changes {
                match change {
                    Change::Flip(here, bits) if *here == at => byte ^= bits,
                    Change::Insert(here, bytes) if *here == at => out.extend(with_token(bytes, &said)),
                    Change::Drop(here, len) if *here == at => dropped = *len,
                    Change::End(here) if *here == at => {
                        let _ = writer.data_bytes(out).await;
                        return;
                    }
                    Change::Endless(here, bytes) if *here == at => {
                        let _ = writer.data_bytes(out).await;
                        let more = with_token(bytes, &said).repeat((32 << 10) / bytes.len().max(1) + 1);
                        while writer.data_bytes(more.clone()).await.is_ok() {}
                        return;
                    }
                    _ => {}
                }
            }
            at += 1;
            if dropped > 0 { dropped -= 1 } else { out.push(byte) }
        }
        if writer.data_bytes(out).await.is_err() {
            return;
        }
    }
}

/// Answers each script, as soon as nothing more of it comes.
async fn answer(
    answers: Vec<Vec<Part>>,
    mut inbox: mpsc::UnboundedReceiver<Vec<u8>>,
    writer: &ChannelWriteHalf<Msg>,
) {
    let mut said = Vec::new();
    for parts in answers {
        let Ok(Some(input)) = tokio::time::timeout(SILENCE, inbox.recv()).await else { return };
        said.extend_from_slice(&input);
        while let Ok(Some(input)) = tokio::time::timeout(Duration::from_millis(15), inbox.recv()).await {
            said.extend_from_slice(&input);
        }
        for part in parts {
            let sent = match part {
                Part::Out(bytes) => writer.data_bytes(with_token(&bytes, &said)).await,
                Part::Err(bytes) => writer.extended_data_bytes(1, with_token(&bytes, &said)).await,
            };
            if sent.is_err() {
                return;
            }
        }
    }
}

/// What steers terminals, names that lead elsewhere, words of our own protocol.
const NASTY: [&[u8]; 34] = [
    b"\x1b]0;pwned\x07\x1b[31m\x1b[2J",
    b"\x9b31m\xc2\x9b31m\r",
    "\u{202e}\u{200b}\u{feff}txt.exe".as_bytes(),
    b"\xff\xfe\x00",
    b"\nTOKEN key 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n",
    b"\nTOKEN fail busy\n",
    b"\nTOKEN fail missing-tool \x1b[31mtool\x07\n",
    b"\nTOKEN fail \x1b]0;pwned\x07\n",
    b"\nTOKEN begin holder\nx \x1b[31mme\x07\n\nTOKEN end\n",
    b"\nTOKEN begin current\n\x1b[31m../../../../etc\n\nTOKEN end\n",
    b"\nTOKEN begin log\n20260101000000 \x1b[31m\n\nTOKEN end\n",
    b"\nTOKEN begin shared\n//41ed 1:2 shared/./\x1b[31mx\n//41ed 1:2 shared/./../../x\n\nTOKEN end\n",
    b"\nTOKEN begin releases\n//41ed 1:2 releases/./20260101000000\n\nTOKEN end\n",
    b"\nTOKEN begin tree\n//41ed 0 0 .\n//81a4 1 1 ./../../../x\n\nTOKEN end\n",
    b"\nTOKEN begin tree\n//41ed 4096 1 .\n//81a4 1 1 ./\x1b[31mx\n\nTOKEN end\n",
    b"\nTOKEN begin hashes\n\x1b[31m\n\nTOKEN end\n",
    b"\nTOKEN base 20260101000000\n",
    b"\nTOKEN room 1 1 1 1 1\n",
    b"\nTOKEN live\n",
    b"\nTOKEN renaming\n",
    b"\nTOKEN phase 0\n",
    b"\nTOKEN phase 99999999999999999999\n",
    b"\nTOKEN begin seal\ncutover-manifest 1\nd 755 1 .\nf 644 1 1 00 ../../x\n\nTOKEN end\n",
    b"\nTOKEN unlock free\n",
    b"\nTOKEN unlock stale\n",
    b"\nTOKEN unlock killed\n",
    b"\nTOKEN unlock held\n",
    b"\nTOKEN unlock \x1b[31mstays\n\nTOKEN main \x1b[31m\n\nTOKEN family 1 \x9b31m -1\n",
    b"\nTOKEN pending 20260101000000\n",
    b"\nTOKEN pending ../../\x1b[31mx\n",
    b"\nTOKEN begin unreadable\n//./\x1b[31mx\n//./../../x\n\nTOKEN end\n",
    b"\nTOKEN begin undurable\n\x1b]0;pwned\x07\n\nTOKEN end\n",
    b"\nTOKEN begin tool-\x1b[31mcp\nBusyBox v\x1b[31m1 \x07\n\nTOKEN end\n",
    b"\nTOKEN device 2049\n\nTOKEN begin place\n/\x1b[31m\n\nTOKEN end\n\nTOKEN begin mounts\n\
      1 1 8:1 / /\\033[31m rw - ext4\x1b[31m /dev/\x07 rw,data=\x1b[31m\n\nTOKEN end\n\
      \nTOKEN begin ext4\nnobarrier\x1b[31m\n\nTOKEN end\n",
];

fn nasty() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => prop::sample::select(&NASTY[..]).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let at = || 0..5000_u64;
    prop_oneof![
        3 => (at(), 1..=255_u8).prop_map(|(at, bits)| Change::Flip(at, bits)),
        4 => (at(), nasty()).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (at(), 1..300_u64).prop_map(|(at, len)| Change::Drop(at, len)),
        1 => at().prop_map(Change::End),
    ]
}

fn answers() -> impl Strategy<Value = Vec<Vec<Part>>> {
    let names = [
        "current",
        "holder",
        "releases",
        "seals",
        "unfinished",
        "staging",
        "private",
        "log",
        "shared",
        "seal",
        "tree",
        "links",
        "hashes",
        "unreadable",
        "undurable",
        "mounts",
        "ext4",
        "place",
        "tool-cp",
        "tool-\x1b[31m",
        "cannot-syncfs",
    ];
    let section = (prop::sample::select(names.to_vec()), nasty()).prop_map(|(name, bytes)| {
        Part::Out([format!("\nTOKEN begin {name}\n").as_bytes(), &bytes, b"\nTOKEN end\n"].concat())
    });
    let part = prop_oneof![3 => section, 2 => nasty().prop_map(Part::Out), 1 => nasty().prop_map(Part::Err)];
    let answer = prop::collection::vec(part, 0..8).prop_map(|mut parts| {
        parts.push(Part::Out(b"\nTOKEN phase 0\n".to_vec()));
        parts
    });
    prop::collection::vec(answer, 1..6)
}

/// Each may meet such a host; the first ones say most.
const COMMANDS: [&[&str]; 14] = [
    &["deploy"],
    &["deploy", "--verbose"],
    &["plan"],
    &["status"],
    &["releases"],
    &["rollback"],
    &["rollback", "20260101000000", "--verify"],
    &["verify"],
    &["recover"],
    &["prune"],
    &["log"],
    &["check"],
    &["unlock"],
    &["unlock", "--kill"],
];

fn each<T: std::fmt::Debug>(what: impl Strategy<Value = T>, lie: impl Fn(T) -> Lie) {
    // There are releases already, so that there is something to lie about.
    let honest = Hostile::start(Lie::Changed(Vec::new()));
    let srv = tempfile::tempdir().expect("a temporary folder");
    let first = honest.dir.path().join("srv");
    let kept = srv.path().join("srv");
    let ran = honest.run_with(&["deploy"], || copy(&first, &kept));
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let config = ProptestConfig {
        cases: 56,
        max_shrink_iters: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let all = (what, prop::sample::select(&COMMANDS[..]), any::<bool>());
    let result = TestRunner::new(config).run(&all, |(what, args, new)| {
        let host = Hostile::start(lie(what));
        if !new {
            copy(&kept, &host.dir.path().join("srv"));
        }
        host.run(args);
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.is_ok_and(|s| s.success()), "cp");
}

#[test]
fn changed_answers() {
    each(prop::collection::vec(change(), 1..5), Lie::Changed);
}

#[test]
fn made_up_answers() {
    each(answers(), Lie::Answers);
}

/// Without this, the two above could find nothing because nothing ever comes so far.
#[test]
fn an_honest_host_is_deployed_to() {
    let ran = Hostile::start(Lie::Changed(Vec::new())).run(&["deploy"]);
    assert!(ran.code == Some(0) && ran.stdout.contains("live: releases/"), "{ran:#?}");
}

#[test]
fn answers_without_end() {
    let endless: [&[u8]; 5] =
        [b"noise \x1b[31m\n", b"\nTOKEN word\n", b"\nTOKEN begin x\n\nTOKEN end\n", b"x", b"\nTOKEN "];
    for bytes in endless {
        // Some way into the answer to the first script.
        let ran = Hostile::start(Lie::Changed(vec![Change::Endless(300, bytes.to_vec())])).run(&["deploy"]);
        assert!(ran.code == Some(1) && ran.stderr.contains("answers without end"), "{bytes:?}: {ran:#?}");
    }
}

#[test]
fn a_server_that_is_none() {
    for greeting in [
        &b"SSH-2.0-\x1b[31mpwned\x07\r\n"[..],
        b"\x1b]0;pwned\x07\x1b[31m\r\n",
        b"HTTP/1.1 400 \xff\xfe\r\n\r\n",
    ] {
        let host = Hostile::start(Lie::Answers(Vec::new()));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let config = host.dir.path().join("client/cutover.toml");
        let text = fs::read_to_string(&config).expect("read");
        let lines = text
            .lines()
            .map(|l| if l.starts_with("port") { format!("port = {port}\n") } else { format!("{l}\n") });
        fs::write(&config, lines.collect::<String>()).expect("write");
        let serving = std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            if let Ok((mut socket, _)) = listener.accept() {
                let _ = socket.write_all(greeting);
                let _ = socket.set_read_timeout(Some(Duration::from_millis(500)));
                let _ = socket.read(&mut [0; 1000]);
            }
        });
        let ran = host.run(&["deploy"]);
        let _ = serving.join();
        assert!(ran.code == Some(1) && ran.stderr.contains("cannot connect to"), "{ran:#?}");
    }
}
