//! [`Session`]: one command's conversation with a host. Each method is one round trip, whatever the number of files,
//! links or releases.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::check::{Findings, Noise};
use crate::config::{Durability, Target, Unreadable};
use crate::error::{Cause, DeployError, Live, step_in_words};
use crate::manifest::{Entry, Manifest};
use crate::path::RelPath;
use crate::plan::{Course, Plan, Refusal, Step};
use crate::preflight;
use crate::progress::Progress;
use crate::release::ReleaseId;
use crate::remote::frame::Event;
use crate::remote::holder::{Holder, Unlocked};
use crate::remote::listing::{self, Tree};
use crate::remote::observed::{self, Observed, ReportError};
use crate::remote::steps::{self, Names, Run};
use crate::source::Source;
use crate::ssh::shell::{Ended, Shell};
use crate::ssh::{self, ConnectError, Connection, no_shell};
use crate::stream::{self, Cut};
use crate::text::printable;
use crate::upload::{self, PackError};

/// By then a shell has said its first word, unless the host is very slow or does not run our script at all. What a
/// script does then may take longer.
const GREETING_TIMEOUT: Duration = Duration::from_secs(8);

/// How a phase failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The host's script gave this code.
    Failed(String),
    /// What the host has is not what the manifest says.
    Drifted(String),
    /// The connection or the shell ended.
    Lost { step: &'static str, why: String },
    /// The account does not run commands.
    NoShell(String),
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

/// A connection with the main shell, which holds the lock, and a second one, which watches that we are alive.
pub(crate) struct Session {
    connection: Connection,
    main: Shell,
    watch: Option<Watch>,
    run: Run,
    host: String,
    /// Who was at it when this session only looked, in words.
    running: Option<String>,
    undurable: Option<String>,
    not_removed: Vec<String>,
}

/// The watching shell; as long as this is there, it hears from us.
struct Watch {
    shell: Shell,
    beats: tokio::task::JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.beats.abort();
    }
}

impl Session {
    /// Connects and opens both channels: one round trip after the login.
    pub(crate) async fn connect(target: &Target) -> Result<Self, Cause> {
        let connection = ssh::connect(&target.address).await?;
        let skip_unreadable = target.unreadable == Unreadable::Skip;
        let best_effort = target.durability == Durability::BestEffort;
        let run = Run {
            token: random_token()?,
            holder: holder(),
            path: target.path.clone(),
            best_effort,
            skip_unreadable,
        };
        let (main, watch) = tokio::join!(connection.channel(), connection.channel());
        let main = Shell::new(main.map_err(|e| Cause::from(ConnectError::from(e)))?, &run.token);
        // A host that allows one channel only deploys without being watched.
        let watch = match watch {
            Ok(channel) => watched(Shell::new(channel, &run.token), &run, target.silence).await,
            Err(_) => None,
        };
        let host = format!("{}:{}", target.address.host, target.path);
        Ok(Self {
            connection,
            main,
            watch,
            run,
            host,
            running: None,
            undurable: None,
            not_removed: Vec::new(),
        })
    }

    /// Takes the lock (unless this is only a look) and observes the host.
    pub(crate) async fn open(&mut self, app: &Manifest, look_only: bool) -> Result<Observed, DeployError> {
        let lock = if look_only { None } else { Some(Duration::ZERO) };
        self.open_waiting(app, lock, &mut |_| ()).await
    }

    /// The same; `lock` is how long to wait for it, and `waiting` is told once for whom.
    pub(crate) async fn open_waiting(
        &mut self,
        app: &Manifest,
        lock: Option<Duration>,
        waiting: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Observed, DeployError> {
        let mut events = Vec::new();
        let observed = self.observe(app, lock, waiting, &mut events).await;
        observed.map_err(|cause| {
            let current = preflight::current(&events);
            DeployError::new(cause, current.as_ref().map_or(Live::NotSeen, Live::seen))
        })
    }

    async fn observe(
        &mut self,
        app: &Manifest,
        lock: Option<Duration>,
        waiting: &mut (dyn FnMut(&str) + Send),
        events: &mut Vec<Event>,
    ) -> Result<Observed, Cause> {
        let dirs: Vec<&RelPath> = app.entries().keys().filter(|p| app.is_dir(p)).collect();
        let script = steps::open(&self.run, &dirs, lock.map(|wait| wait.as_secs()));
        let mut told = false;
        let phase = self
            .first_phase("opening", script, |event| {
                if matches!(&event, Event::Note(words) if words.as_slice() == ["waiting"]) {
                    if !std::mem::replace(&mut told, true) {
                        waiting(&holder_in_words(events));
                    }
                } else {
                    events.push(event);
                }
            })
            .await;
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
            return Err(Cause::Busy { host: self.host.clone(), holder: holder_in_words(events) });
        }
        if let Some(tool) = note("missing-tool") {
            return Err(Cause::MissingTool { host: self.host.clone(), tool: printable(tool.as_bytes()) });
        }
        if let Some(unfit) = preflight::unfit(events) {
            let stderr = self.main.complaints().await;
            return Err(Cause::Unfit { host: self.host.clone(), unfit, stderr });
        }
        if let Err(failure) = phase {
            return Err(self.cause(failure).await);
        }
        let is_locked = |e: &Event| matches!(e, Event::Note(words) if words.as_slice() == ["locked"]);
        self.running = events.iter().any(is_locked).then(|| holder_in_words(events));
        self.undurable = preflight::undurable(events);
        observed::parse(events).map_err(|report| Cause::Report { host: self.host.clone(), report })
    }

    /// Observes the host once more, under the lock that this session has.
    pub(crate) async fn look_again(&mut self, app: &Manifest) -> Result<Observed, Cause> {
        let dirs: Vec<&RelPath> = app.entries().keys().filter(|p| app.is_dir(p)).collect();
        let mut events = Vec::new();
        let script = steps::look_again(&dirs);
        match self.phase("looking again", script, |event| events.push(event)).await {
            Ok(()) => observed::parse(&events).map_err(|report| self.report_error(report)),
            Err(failure) => Err(self.cause(failure).await),
        }
    }

    /// Asks for the lock, and with `kill` ends the run that holds it.
    pub(crate) async fn unlock(&mut self, kill: bool) -> Result<Unlocked, Cause> {
        let script = steps::unlock(&self.run, kill);
        let mut events = Vec::new();
        match self.phase("unlocking", script, |event| events.push(event)).await {
            Ok(()) => Ok(Unlocked::read(&events)),
            Err(failure) => Err(self.cause(failure).await),
        }
    }

    /// The host and the deploy path, for people.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Asks what the host can do. Takes no lock.
    pub(crate) async fn check(&mut self) -> Result<Findings, Cause> {
        let mut events = Vec::new();
        let script = steps::check(&self.run);
        if let Err(failure) = self.first_phase("the check", script, |event| events.push(event)).await {
            return Err(self.cause(failure).await);
        }
        let mut findings = Findings::of(&events);
        findings.unwatched = self.watch.is_none();
        findings.noise = match no_shell::noise(&self.connection).await {
            Ok(noise) => noise.map_or(Noise::Silent, Noise::Prints),
            // `MaxSessions` counts those that are open.
            Err(russh::Error::ChannelOpenFailure(_)) => Noise::NotAsked,
            Err(error) => return Err(ConnectError::from(error).into()),
        };
        Ok(findings)
    }

    /// The first script of a connection: it says a word at once, or the account does not run commands.
    async fn first_phase(
        &mut self,
        step: &'static str,
        script: Vec<u8>,
        mut each: impl FnMut(Event),
    ) -> Result<(), Failure> {
        let lost = |error: &russh::Error| lost(step, error);
        let in_command = self.main.send(&script).await.map_err(|e| lost(&e))?;
        let (ended, heard) = self.greeted(step, &mut each).await;
        if heard || !matches!(ended, Err(Failure::Lost { .. })) {
            return ended;
        }
        match no_shell::why(&self.connection).await {
            Ok(Some(why)) => Err(Failure::NoShell(why)),
            // What is between us and a shell there does not take a command of this length, or of this form.
            Ok(None) if in_command => {
                let channel = self.connection.channel().await.map_err(|e| lost(&e))?;
                self.main = Shell::plain(channel, &self.run.token);
                self.main.send(&script).await.map_err(|e| lost(&e))?;
                self.greeted(step, &mut each).await.0
            }
            Ok(None) | Err(_) => ended,
        }
    }

    /// Waits for the end of the first script, and says whether there was a word of it. While there is none, it is asked
    /// whether the account runs commands at all.
    async fn greeted(
        &mut self,
        step: &'static str,
        each: &mut impl FnMut(Event),
    ) -> (Result<(), Failure>, bool) {
        let heard = AtomicBool::new(false);
        let connection = self.connection.clone();
        let ended = {
            let opening = self.wait(step, |event| {
                heard.store(true, Ordering::Relaxed);
                each(event);
            });
            let silence = async {
                tokio::time::sleep(GREETING_TIMEOUT).await;
                if heard.load(Ordering::Relaxed) {
                    return std::future::pending().await;
                }
                match no_shell::why(&connection).await {
                    // It is only slow.
                    Ok(None) => std::future::pending().await,
                    Ok(Some(why)) => Failure::NoShell(why),
                    Err(_) => Failure::Lost { step, why: "the host does not answer".to_owned() },
                }
            };
            tokio::select! {
                ended = opening => ended,
                failure = silence => Err(failure),
            }
        };
        (ended, heard.into_inner())
    }

    /// What has to be said at the end with `durability = "best-effort"` on a host that cannot sync.
    pub(crate) fn undurable(&self, current: &str) -> Option<String> {
        let why = self.undurable.as_ref()?;
        Some(format!(
            "warning: NOTHING IS GUARANTEED AFTER A POWER LOSS: nothing can be made durable there ({why}); current \
             points to {current}"
        ))
    }

    /// Releases that could not be removed whole: they are swept again by the next run.
    pub(crate) fn not_removed(&self) -> Option<Cause> {
        let releases = self.not_removed.join(", ");
        (!releases.is_empty()).then(|| Cause::NotRemoved { host: self.host.clone(), releases })
    }

    /// A refusal of the plan, with the host it is about.
    pub(crate) fn refused(&self, plan: Result<Plan, Refusal>) -> Result<Plan, Cause> {
        plan.map_err(|refusal| self.refusal(refusal))
    }

    /// Who has the lock, in words, as seen by a session that only looks.
    pub(crate) fn running(&self) -> Option<&str> {
        self.running.as_deref()
    }

    /// A refusal, with the host it is about.
    pub(crate) fn refusal(&self, refusal: Refusal) -> Cause {
        Cause::Refused { host: self.host.clone(), refusal }
    }

    /// An answer that is not understood, with the host it is from.
    pub(crate) fn report_error(&self, report: ReportError) -> Cause {
        Cause::Report { host: self.host.clone(), report }
    }

    /// The steps before the cutover of a plan with nothing to do: a round trip only if there are any.
    pub(crate) async fn prepare_only(&mut self, plan: &Plan, steps: &[Step]) -> Result<(), Failure> {
        if steps.is_empty() {
            return Ok(());
        }
        let script = steps::phase(plan.course(), steps, &self.names(plan.course()));
        self.phase("sweeping", script, |_| ()).await
    }

    /// The host sweeps, copies while the upload streams into the staging folder, puts the upload in, and lists all of
    /// it, which is compared with the manifest. Told to `stop`, it ends as soon as the host has heard of it.
    pub(crate) async fn place(
        &mut self,
        plan: &Arc<Plan>,
        steps: &[Step],
        source: &Arc<Source>,
        progress: &Progress,
        stop: &watch::Sender<bool>,
    ) -> Result<(), Failure> {
        let script = steps::place(plan, steps, &self.names(plan.course()));
        let step = "preparing the release";
        self.main.send(&script).await.map_err(|e| lost(step, &e))?;
        let sending = stream::archive(
            self.main.input(),
            Arc::clone(plan),
            Arc::clone(source),
            stop.subscribe(),
            progress.clone(),
        );
        let (mut tree, mut links, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
        let copied = AtomicBool::new(false);
        let (worked, sent) = {
            let working = self.wait(step, |event| match event {
                Event::Section { name, bytes } => match name.as_str() {
                    "tree" => tree = bytes,
                    "links" => links = bytes,
                    "hashes" => hashes = bytes,
                    _ => {}
                },
                Event::Note(words) if words.first().is_some_and(|w| w == "fail") => {
                    stop.send_replace(true);
                }
                Event::Note(words) if words.as_slice() == ["copied"] => {
                    copied.store(true, Ordering::Relaxed);
                    progress.phase("verifying");
                }
                Event::Note(_) => {}
            });
            tokio::pin!(sending, working);
            // The host's word decides; it has read the archive to its end when it speaks, or there is nobody any more.
            tokio::select! {
                worked = &mut working => (worked, None),
                sent = &mut sending => match sent {
                    Err(Cut::Connection(error)) => return Err(lost(step, &error)),
                    sent => {
                        if let Some(base) = plan.base().filter(|_| !copied.load(Ordering::Relaxed)) {
                            progress.copying(base);
                        }
                        (working.await, Some(sent))
                    }
                },
            }
        };
        match (worked, sent) {
            (Err(Failure::Lost { .. }) | Ok(()), Some(Err(Cut::Pack(error)))) => Err(Failure::Pack(error)),
            (Err(Failure::Failed(code)), Some(Err(Cut::Pack(error)))) if code.starts_with(step) => {
                Err(Failure::Pack(error))
            }
            (Err(Failure::Failed(code)), _) if code == "drifted" => {
                Err(Failure::Drifted("a folder of the live release is none any more".to_owned()))
            }
            (Ok(()), _) => verify(plan, &tree, &links, &hashes),
            (failed, _) => failed,
        }
    }

    /// From the seal to the log; `report` is called the moment the host says that the cutover is durable.
    pub(crate) async fn cut_over(
        &mut self,
        course: &Course,
        steps: &[Step],
        report: &mut (dyn FnMut(&str) + Send),
        seen: &mut Seen,
    ) {
        let script = steps::phase(course, steps, &self.names(course));
        self.leave_alone().await;
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
            Failure::NoShell(why) => Cause::NoShell { host, why },
            Failure::Pack(error) => Cause::Pack(error),
        }
    }

    /// Ends the connection, and with it the lock.
    pub(crate) async fn close(self) {
        self.leave_alone().await;
        let _ = self.main.end_input().await;
        self.connection.close().await;
    }

    /// From here on the host finishes what it does, whatever becomes of this client.
    async fn leave_alone(&self) {
        if let Some(watch) = &self.watch {
            let _ = watch.shell.input().send(steps::LEAVE.to_vec()).await;
        }
    }

    /// Sends a script and waits for its end.
    pub(crate) async fn phase(
        &mut self,
        step: &'static str,
        script: Vec<u8>,
        each: impl FnMut(Event),
    ) -> Result<(), Failure> {
        self.main.send(&script).await.map_err(|e| lost(step, &e))?;
        self.wait(step, each).await
    }

    /// Waits for the end of the script that was sent.
    async fn wait(&mut self, step: &'static str, mut each: impl FnMut(Event)) -> Result<(), Failure> {
        let mut code = None;
        let not_removed = &mut self.not_removed;
        let ended = self.main.finish(|event| {
            if let Event::Note(words) = &event
                && words.first().is_some_and(|w| w == "fail")
            {
                // The first one is what the others come from.
                code = code.take().or_else(|| words.get(1).cloned());
            }
            if let Event::Note(words) = &event
                && let [pending, id] = words.as_slice()
                && pending == "pending"
            {
                not_removed.push(format!("releases/{}", printable(id.as_bytes())));
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

    fn names(&self, course: &Course) -> Names {
        let nonce = self.run.token.get(..12).unwrap_or_default();
        let id = course.release().map_or_else(|| "none".to_owned(), ToString::to_string);
        let at = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        Names { link: format!(".cutover/next.{id}.{nonce}"), at, by: self.run.holder.clone() }
    }
}

fn lost(step: &'static str, error: &russh::Error) -> Failure {
    Failure::Lost { step, why: error.to_string() }
}

/// Starts the watching and the beats.
async fn watched(mut shell: Shell, run: &Run, silence: Duration) -> Option<Watch> {
    shell.send(&steps::watch(run, silence.as_secs())).await.ok()?;
    let input = shell.input();
    let beats = tokio::spawn(async move {
        loop {
            tokio::time::sleep(silence / 6).await;
            if input.send(steps::BEAT.to_vec()).await.is_err() {
                return;
            }
        }
    });
    Some(Watch { shell, beats })
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
    printable(format!("{user}@{machine} process {}", std::process::id()).as_bytes())
}

/// What the host says about who holds the lock.
fn holder_in_words(events: &[Event]) -> String {
    Holder::among(events).map_or_else(|| "it does not say who".to_owned(), |holder| holder.to_string())
}
