//! [`Session`]: one command's conversation with a host. Each method is one round trip, whatever the number of files,
//! links or releases.

use std::io::{self, Write};
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::config::Target;
use crate::error::{Cause, step_in_words};
use crate::manifest::{Entry, Manifest};
use crate::path::RelPath;
use crate::plan::{Plan, Refusal, Step};
use crate::release::ReleaseId;
use crate::remote::frame::Event;
use crate::remote::listing::{self, Tree};
use crate::remote::observed::{self, Observed};
use crate::remote::steps::{self, Names, Run};
use crate::source::Source;
use crate::ssh::shell::{Ended, Shell};
use crate::ssh::{self, ConnectError, Connection};
use crate::text::printable;
use crate::upload::{self, PackError};

/// How a phase failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The host's script gave this code.
    Failed(String),
    /// What the host has is not what the manifest says.
    Drifted(String),
    /// The connection or the shell ended.
    Lost { step: &'static str, why: String },
    /// Packing failed on this side.
    Pack(PackError),
}

/// What was seen of the cutover's phase.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The rename was about to be made.
    pub(crate) renaming: bool,
    /// Live (or nothing to do) was reported.
    pub(crate) reported: bool,
    /// What `current` was after a failure.
    pub(crate) current: Option<Vec<u8>>,
    /// How the phase failed, if it did.
    pub(crate) failure: Option<Failure>,
}

/// A connection with the main shell, which holds the lock, and the upload's shell, which waits.
pub(crate) struct Session {
    connection: Connection,
    main: Shell,
    upload: Option<Shell>,
    run: Run,
    host: String,
}

impl Session {
    /// Connects and opens both channels, in one round trip after the login.
    pub(crate) async fn connect(target: &Target) -> Result<Self, Cause> {
        let connection = ssh::connect(&target.address).await?;
        let run = Run { token: random_token()?, holder: holder(), path: target.path.clone() };
        let broken = |e: russh::Error| Cause::from(ConnectError::from(e));
        let (main, upload) =
            tokio::join!(connection.exec(steps::SHELL), connection.exec(steps::SHELL_WITH_DATA));
        let main = Shell::new(main.map_err(broken)?, &run.token);
        let upload = Some(Shell::new(upload.map_err(broken)?, &run.token));
        let host = format!("{}:{}", target.address.host, target.path);
        Ok(Self { connection, main, upload, run, host })
    }

    /// Takes the lock (unless this is only a look) and observes the host.
    pub(crate) async fn open(&mut self, app: &Manifest, look_only: bool) -> Result<Observed, Cause> {
        let dirs: Vec<&RelPath> = app.entries().keys().filter(|p| app.is_dir(p)).collect();
        let script = steps::open(&self.run, &dirs, look_only);
        let mut events = Vec::new();
        let phase = self.phase("opening", script, |e| events.push(e)).await;
        let note = |word: &str| {
            events.iter().find_map(|e| match e {
                Event::Note(words) if words.first().is_some_and(|w| w == "fail") => {
                    (words.get(1).map(String::as_str) == Some(word))
                        .then(|| words.get(2).cloned().unwrap_or_default())
                }
                _ => None,
            })
        };
        if note("busy").is_some() {
            let holder = events.iter().find_map(|e| match e {
                Event::Section { name, bytes } if name == "holder" => Some(describe_holder(bytes)),
                _ => None,
            });
            let holder = holder.unwrap_or_else(|| "it does not say who".to_owned());
            return Err(Cause::Busy { host: self.host.clone(), holder });
        }
        if let Some(tool) = note("missing-tool") {
            return Err(Cause::MissingTool { host: self.host.clone(), tool: printable(tool.as_bytes()) });
        }
        if let Err(failure) = phase {
            return Err(self.cause(failure).await);
        }
        observed::parse(&events).map_err(|report| Cause::Report { host: self.host.clone(), report })
    }

    /// A refusal of the plan, with the host it is about.
    pub(crate) fn refused(&self, plan: Result<Plan, Refusal>) -> Result<Plan, Cause> {
        plan.map_err(|refusal| Cause::Refused { host: self.host.clone(), refusal })
    }

    /// The steps before the cutover of a plan with nothing to do: a round trip only if there are any.
    pub(crate) async fn prepare_only(&mut self, plan: &Plan, steps: &[Step]) -> Result<(), Failure> {
        if steps.is_empty() {
            return Ok(());
        }
        let script = steps::phase(plan, steps, &self.names(plan));
        self.phase("sweeping", script, |_| ()).await
    }

    /// The host sweeps and copies while the upload streams into the staging folder.
    pub(crate) async fn copy_and_upload(
        &mut self,
        plan: &Arc<Plan>,
        steps: &[Step],
        source: &Arc<Source>,
    ) -> Result<(), Failure> {
        let script = steps::phase(plan, steps, &self.names(plan));
        let mut data = if let Some(shell) = self.upload.take() {
            shell
        } else {
            // The second attempt needs a channel of its own.
            let channel = self.connection.exec(steps::SHELL_WITH_DATA).await;
            Shell::new(channel.map_err(|e| lost("the upload", &e))?, &self.run.token)
        };
        let first = steps::upload(&self.run, plan.release());
        let result = {
            let uploading = stream(&mut data, first, Arc::clone(plan), Arc::clone(source));
            let copying = self.phase("the copy", script, |_| ());
            tokio::pin!(uploading, copying);
            tokio::select! {
                copied = &mut copying => match copied {
                    Ok(()) => uploading.await,
                    failed => failed,
                },
                uploaded = &mut uploading => copying.await.and(uploaded),
            }
        };
        if let Err(Failure::Failed(_)) = &result {
            // What tar said went to the other channel.
            let said = data.complaints().await;
            self.main.note_complaint(&said);
        }
        result
    }

    /// Puts the upload in, and compares all of it with the manifest.
    pub(crate) async fn put_and_verify(&mut self, plan: &Plan, steps: &[Step]) -> Result<(), Failure> {
        let script = steps::phase(plan, steps, &self.names(plan));
        let (mut tree, mut links, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
        let phase = self.phase("putting the upload in", script, |event| {
            if let Event::Section { name, bytes } = event {
                match name.as_str() {
                    "tree" => tree = bytes,
                    "links" => links = bytes,
                    "hashes" => hashes = bytes,
                    _ => {}
                }
            }
        });
        match phase.await {
            Err(Failure::Failed(code)) if code == "drifted" => {
                return Err(Failure::Drifted("a folder of the live release is none any more".to_owned()));
            }
            other => other?,
        }
        verify(plan, &tree, &links, &hashes)
    }

    /// From the seal to the log; `report` is called the moment the host says that the cutover is durable.
    pub(crate) async fn cut_over(
        &mut self,
        plan: &Plan,
        steps: &[Step],
        report: &mut (dyn FnMut(&str) + Send),
    ) -> Seen {
        let script = steps::phase(plan, steps, &self.names(plan));
        let mut seen = Seen::default();
        let phase = self.phase("the cutover", script, |event| match event {
            Event::Note(words) => match words.first().map(String::as_str) {
                Some("renaming") => seen.renaming = true,
                Some(word @ ("live" | "same")) => {
                    seen.reported = true;
                    report(word);
                }
                _ => {}
            },
            Event::Section { name, bytes } if name == "current" => {
                seen.current = Some(bytes.strip_suffix(b"\n").unwrap_or(&bytes).to_vec());
            }
            Event::Section { .. } => {}
        });
        seen.failure = phase.await.err();
        seen
    }

    /// Removes a failed run's leavings, as far as that works; the next deploy sweeps the rest.
    pub(crate) async fn abandon(&mut self, id: &ReleaseId) {
        let _ = self.phase("cleaning up", steps::abandon(id), |_| ()).await;
    }

    /// A failure as an error, with what the host's tools said.
    pub(crate) async fn cause(&mut self, failure: Failure) -> Cause {
        let host = self.host.clone();
        match failure {
            Failure::Failed(code) => {
                let stderr = self.main.complaints().await;
                Cause::Step { step: step_in_words(&code), host, stderr }
            }
            Failure::Drifted(paths) => Cause::Verification { host, paths },
            Failure::Lost { step, why } => {
                let stderr = self.main.complaints().await;
                Cause::Lost { host, step: step.to_owned(), why, stderr }
            }
            Failure::Pack(error) => Cause::Pack(error),
        }
    }

    /// Ends the connection, and with it the lock.
    pub(crate) async fn close(self) {
        let _ = self.main.end_input().await;
        self.connection.close().await;
    }

    /// Sends a script and waits for its end.
    pub(crate) async fn phase(
        &mut self,
        step: &'static str,
        script: Vec<u8>,
        mut each: impl FnMut(Event),
    ) -> Result<(), Failure> {
        self.main.send(script).await.map_err(|e| lost(step, &e))?;
        let mut code = None;
        let ended = self.main.finish(|event| {
            if let Event::Note(words) = &event
                && words.first().is_some_and(|w| w == "fail")
            {
                code = words.get(1).cloned();
            }
            each(event);
        });
        match (ended.await, code) {
            (_, Some(code)) => Err(Failure::Failed(code)),
            (Ended::Status(0), None) => Ok(()),
            (Ended::Status(status), None) => Err(Failure::Failed(format!("{step}, status {status}"))),
            (Ended::Lost(why), None) => Err(Failure::Lost { step, why }),
        }
    }

    fn names(&self, plan: &Plan) -> Names {
        let nonce = self.run.token.get(..12).unwrap_or_default();
        let base = plan.base().map_or_else(|| "full".to_owned(), |b| format!("base={b}"));
        Names {
            link: format!(".cutover/next.{}.{nonce}", plan.release()),
            log_line: format!("{} live {base} {}", plan.release(), self.run.holder),
        }
    }
}

fn lost(step: &'static str, error: &russh::Error) -> Failure {
    Failure::Lost { step, why: error.to_string() }
}

/// Sends the archive and waits for the host's tar. A host that ends early ends the sending.
async fn stream(
    shell: &mut Shell,
    first: Vec<u8>,
    plan: Arc<Plan>,
    source: Arc<Source>,
) -> Result<(), Failure> {
    let (sender, mut chunks) = mpsc::channel::<Vec<u8>>(8);
    let packing = tokio::task::spawn_blocking(move || {
        let mut out = Chunks { sender, buffer: Vec::with_capacity(CHUNK_BYTES) };
        upload::pack(&plan, &source, &mut out)
    });
    let input = shell.input();
    let sending = async move {
        input.data_bytes(first).await?;
        while let Some(chunk) = chunks.recv().await {
            input.data_bytes(chunk).await?;
        }
        Ok::<_, russh::Error>(input)
    };
    tokio::pin!(sending);
    let early = {
        let waiting = shell.finish(|_| ());
        tokio::pin!(waiting);
        tokio::select! {
            ended = &mut waiting => Some(ended),
            sent = &mut sending => match sent {
                // The archive was packed whole, or its end never reaches the host, whose tar then fails.
                Ok(input) => match packing.await.map_err(io::Error::other) {
                    Ok(Ok(())) => {
                        input.eof().await.map_err(|e| lost("the upload", &e))?;
                        Some(waiting.await)
                    }
                    Ok(Err(error)) => return Err(Failure::Pack(error)),
                    Err(error) => return Err(Failure::Pack(PackError::Sink(error))),
                },
                Err(error) => return Err(lost("the upload", &error)),
            },
        }
    };
    match early {
        Some(Ended::Status(0)) => Ok(()),
        Some(Ended::Status(status)) => Err(Failure::Failed(format!("the upload, status {status}"))),
        Some(Ended::Lost(why)) => Err(Failure::Lost { step: "the upload", why }),
        None => Err(Failure::Lost { step: "the upload", why: "it did not end".to_owned() }),
    }
}

const CHUNK_BYTES: usize = 256 * 1024;

/// The packing thread's end: fills chunks, waits when the connection is slower.
struct Chunks {
    sender: mpsc::Sender<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES));
        self.sender.blocking_send(chunk).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// Compares what the host has with the manifest: the receiver's hashes decide, not exit codes.
fn verify(plan: &Plan, tree: &[u8], links: &[u8], hashes: &[u8]) -> Result<(), Failure> {
    let changes = plan.changes();
    let drifted = |what: &str| Failure::Drifted(what.to_owned());
    let tree = Tree::parse(tree, links)
        .ok_or_else(|| drifted("the listing of the new release is not understood"))?;
    let mut wrong: Vec<String> = Vec::new();
    for (path, entry) in changes.manifest.entries() {
        if !tree.is(path, entry) {
            wrong.push(path.to_string());
        }
    }
    let hashed = upload::hashed(changes);
    let found = listing::parse_hashes(&hashed, hashes)
        .ok_or_else(|| drifted("the hashes of the uploaded files are incomplete or not understood"))?;
    for (path, found) in hashed.iter().zip(found) {
        if !matches!(changes.manifest.get(path), Some(Entry::File { sha, .. }) if *sha == found) {
            wrong.push(path.to_string());
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let shown: Vec<&str> = wrong.iter().take(5).map(String::as_str).collect();
    Err(Failure::Drifted(format!("{} paths differ: {}", wrong.len(), shown.join(", "))))
}

/// 128 random bits: the kernel's own generator.
fn random_token() -> io::Result<String> {
    use std::fmt::Write as _;
    use std::io::Read as _;
    let mut bytes = [0_u8; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let mut token = "c".to_owned();
    for b in bytes {
        let _ = write!(token, "{b:02x}");
    }
    Ok(token)
}

/// Who deploys, for people; nothing relies on it.
fn holder() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "someone".to_owned());
    let machine = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let machine = if machine.trim().is_empty() { "somewhere" } else { machine.trim() };
    let since = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    printable(format!("{user}@{machine} process {} since {since}", std::process::id()).as_bytes())
}

/// The holder file without its token.
fn describe_holder(bytes: &[u8]) -> String {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let words = line.iter().position(|b| *b == b' ').and_then(|at| line.get(at + 1..));
    words.map_or_else(|| "it does not say who".to_owned(), printable)
}
