//! Records a history: an embedded server, a simulated disk, and the tool run once for each release.
//!
//! Knows how to run things; decides nothing. What comes out is a trace and what the judge has to know beside it.

use std::cell::RefCell;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use regex::bytes::Regex;
use rustc_hash::FxHashMap;
use simfs::fault::{Calls, Fault, Schedule, When};
use simfs::{BlockStore, Disk, Fs, Ino, MarkKind, Name, Seq, Trace};
use sshd_test::{Caller, Observer, Options, Server, SyncCall};

use crate::app::{self, SharedEntry};
use crate::delays::{self, Delays};
use crate::judge::{Adds, Expect, Scenario, SharedRule};
use crate::readers::{Passes, crew::Crew};
use crate::tool::{self, Ended, Order, Reports};
use crate::tree::{self, Tree, TreeError};

/// Where the application is deployed to, below the root of the disk.
pub const DEPLOY_DIR: &str = "app";

/// How long processes that a run left on the server may go on before the next one starts.
pub(crate) const SETTLE: Duration = Duration::from_secs(10);

/// How long a cutover waits for readers to be in the middle of something.
const GATHERING: Duration = Duration::from_secs(2);

/// How long readers get, after each deploy, to read once more.
const LAST_PASS: Duration = Duration::from_mins(1);

/// What is certified.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A shell command, started anew for each deploy with its task in the environment.
    Tool {
        /// As given to `sh -c`.
        command: String,
    },
    /// Cutover: its binary.
    Cutover {
        /// The binary.
        binary: PathBuf,
    },
}

/// What a run of the tool is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// To put a version live.
    #[default]
    Deploy,
    /// To switch back to an earlier release.
    Rollback,
    /// To put in order what was left by a run that died.
    Recover,
    /// To remove old releases.
    Prune,
}

impl Action {
    /// Its name: of Cutover's command, and in `CERTIFY_ACTION`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::Recover => "recover",
            Self::Prune => "prune",
        }
    }

    /// Whether a run that ends well says with it what is live.
    pub fn acknowledges(self) -> bool {
        matches!(self, Self::Deploy | Self::Rollback)
    }
}

/// A history to record.
pub struct Plan {
    /// What is certified.
    pub subject: Subject,
    /// The directories to deploy, in order.
    pub sources: Vec<PathBuf>,
    /// Whether the deploy path exists before the first deploy. If not, [`Plan::shared`] is empty.
    pub deploy_path_exists: bool,
    /// What is below `shared/` before the first deploy.
    pub shared: Vec<SharedEntry>,
    /// What releases look like.
    pub expect: Expect,
    /// How many releases are to be kept.
    pub keep: Option<usize>,
    /// What the tool says about itself.
    pub reports: Reports,
    /// The time limit of one deploy.
    pub limit: Duration,
    /// Whether processes read the releases meanwhile. They are this program itself: only for one whose `main` calls
    /// [`readers::run`](crate::readers::run) when its only argument is [`readers::VERB`](crate::readers::VERB).
    pub readers: bool,
    /// What slows some of its programs down.
    pub delays: Option<Delays>,
    /// Programs that the host does not have.
    pub without: Vec<String>,
}

impl Plan {
    /// What is known of Cutover before it runs: its documented output, its rules, and that it keeps three releases.
    /// Nothing is to be deployed yet.
    #[allow(clippy::missing_panics_doc, reason = "the patterns are literals")]
    pub fn for_cutover(binary: PathBuf) -> Self {
        let pattern = |text| Some(Regex::new(text).expect("a literal pattern"));
        Self {
            subject: Subject::Cutover { binary },
            sources: Vec::new(),
            deploy_path_exists: true,
            shared: Vec::new(),
            expect: Expect { shared: SharedRule::DropDown, adds: Adds::none(), mode_mask: 0o7777 },
            keep: Some(3),
            reports: Reports {
                acknowledges: true,
                ack: pattern("^(live|nothing to do): "),
                cleanup_pending: pattern("^live, cleanup pending: "),
            },
            limit: Duration::from_mins(2),
            readers: false,
            delays: None,
            without: Vec::new(),
        }
    }
}

impl Plan {
    /// What a run with this number deploys; one that deploys nothing is given the last source, which it has no use for.
    pub(crate) fn source(&self, deploy: u32) -> &Path {
        let numbered = (deploy as usize).checked_sub(1).and_then(|at| self.sources.get(at));
        numbered.or(self.sources.last()).expect("a plan has a source")
    }
}

/// What was recorded.
pub struct Recording {
    /// The trace.
    pub trace: Trace,
    /// What the judge has to know beside it.
    pub scenario: Scenario,
    /// The times of files, for a reboot.
    pub times: Times,
    /// Why the history is shorter than planned, if it is.
    pub cut_short: Option<CutShort>,
    /// What readers found, if there were any.
    pub passes: Option<Passes>,
}

/// Access and modification time of each inode.
type TimesOf = FxHashMap<Ino, (SystemTime, SystemTime)>;

/// The times of files at some ops of a trace. They are no part of it, but tools compare them, and a reboot keeps them.
#[derive(Clone, Debug, Default)]
pub struct Times {
    noted: Vec<(Seq, TimesOf)>,
}

impl Times {
    /// Notes them down as they are now.
    pub(crate) fn note(&mut self, disk: &Disk) {
        self.noted.push(disk.with(|fs| {
            let times = fs.times().map(|(ino, accessed, modified)| (ino, (accessed, modified)));
            (fs.trace().last(), times.collect())
        }));
    }

    /// Gives a disk, rebooted at op `k`, the times that were noted last before it. What was made since has those that
    /// were noted next.
    pub(crate) fn give(&self, disk: &mut Fs, k: Seq) {
        let upto = self.noted.partition_point(|(at, _)| *at <= k);
        let (before, after) = self.noted.split_at(upto);
        let inodes: Vec<Ino> = disk.times().map(|(ino, ..)| ino).collect();
        for ino in inodes {
            let noted = before.iter().rev().chain(after).find_map(|(_, times)| times.get(&ino));
            if let Some((accessed, modified)) = noted {
                disk.set_times(ino, Some(*accessed), Some(*modified)).expect("the inode is there");
            }
        }
    }
}

/// A run of the tool that ended the history.
#[derive(Clone, Debug)]
pub struct CutShort {
    /// Which deploy, counted from 1.
    pub deploy: usize,
    /// How it ended.
    pub ended: Ended,
    /// The end of its output.
    pub output: Vec<u8>,
}

impl std::fmt::Display for CutShort {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.ended {
            Ended::Exit(status) => write!(out, "deploy {} failed with exit status {status}", self.deploy),
            Ended::TimedOut => write!(out, "deploy {} did not end within the time limit", self.deploy),
            Ended::Interrupted => write!(out, "deploy {} was interrupted", self.deploy),
            Ended::Killed => write!(out, "deploy {} was killed", self.deploy),
        }
    }
}

/// Why nothing could be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A source cannot be deployed.
    #[error(transparent)]
    Source(#[from] TreeError),
    /// A source is not what it was when the recording began.
    #[error("{} changed while it was being deployed: {difference}", tree::show_path(dir))]
    SourceChanged {
        /// Which directory.
        dir: PathBuf,
        /// How.
        difference: tree::Difference,
    },
    /// The embedded server did not start.
    #[error("the embedded SSH server did not start")]
    Server(#[source] sshd_test::Error),
    /// Readers could not be started.
    #[error("cannot start the processes that read meanwhile: {0}")]
    Readers(io::Error),
    /// The tool could not be started.
    #[error("cannot start the tool: {0}")]
    Start(io::Error),
    /// A temporary directory could not be written.
    #[error("cannot prepare the run: {0}")]
    Prepare(io::Error),
    /// A fault schedule means nothing.
    #[error(transparent)]
    Faults(#[from] simfs::fault::BadSchedule),
}

/// What is told while recording.
pub trait Progress {
    /// A deploy begins.
    fn begins(&mut self, deploy: usize, of: usize, source: &Path);
    /// A deploy ended, after so many ops on the disk.
    fn ended(&mut self, deploy: usize, ops: u32, took: Duration);
}

/// Records a history. Ends early, with what was recorded so far, when a deploy fails or `interrupted` says so.
pub fn record(
    plan: &Plan,
    progress: &mut dyn Progress,
    interrupted: &dyn Fn() -> bool,
) -> Result<Recording, RecordError> {
    // What is deployed was read before: the disk holds it by the same blocks.
    let store = BlockStore::default();
    let mut sources: Vec<Arc<Tree>> = Vec::new();
    for (at, dir) in plan.sources.iter().enumerate() {
        let same = plan.sources[..at].iter().position(|before| before == dir);
        sources.push(match same {
            Some(before) => sources[before].clone(),
            None => Arc::new(tree::read_dir(dir, &store)?),
        });
    }
    let work = work_dir()?;
    let disk = Disk::new(initial_disk(plan, store.clone()));
    let threads = if plan.delays.is_some() { delays::THREADS } else { NonZeroUsize::MIN };
    let server = start_server(&disk, threads, &plan.without)?;
    let mount = server.mount_at().to_path_buf();
    let deploy_path = mount.join(DEPLOY_DIR);

    let mut times = Times::default();
    times.note(&disk);
    let crew = if plan.readers {
        let paths: std::collections::BTreeSet<&Vec<u8>> =
            sources.iter().flat_map(|tree| tree.keys()).filter(|path| !path.is_empty()).collect();
        let paths: Vec<Vec<u8>> = paths.into_iter().cloned().collect();
        let current = deploy_path.join("current");
        Some(Crew::start(server.sandbox(), &disk, &current, &paths).map_err(RecordError::Readers)?)
    } else {
        None
    };
    let mut late = None;

    let mut cut_short = None;
    let of = plan.sources.len();
    for (at, dir) in plan.sources.iter().enumerate() {
        let deploy = at + 1;
        progress.begins(deploy, of, dir);
        let (before, started) = (last_op(&disk), Instant::now());
        let task = Task {
            server: &server,
            deploy_path: &deploy_path,
            source: dir,
            deploy,
            action: Action::Deploy,
            work: work.path(),
        };
        let command = task.command(&plan.subject).map_err(RecordError::Prepare)?;
        let schedule = match (plan.delays, &crew) {
            (Some(delays), _) => delays.of_deploy(deploy),
            (None, Some(_)) => cutovers_wait(),
            (None, None) => Schedule::default(),
        };
        set_delays(&disk, &schedule);
        let gathering = RefCell::new(None);
        let orders = || {
            if interrupted() {
                return Order::Interrupt;
            }
            // Calls that are only delayed go on by themselves.
            if let (None, Some(crew)) = (plan.delays, &crew) {
                gather(crew, &disk, &mut gathering.borrow_mut());
            }
            Order::GoOn
        };
        let run = tool::run(command, &disk, deploy as u32, &plan.reports, plan.limit, &orders);
        if plan.delays.is_none() {
            // Nothing may wait for us any more, however this ended.
            set_delays(&disk, &Schedule::default());
            disk.release();
        }
        let run = run.map_err(RecordError::Start)?;
        let settled = server.wait_idle(SETTLE);
        set_delays(&disk, &Schedule::default());
        if !settled {
            let what =
                format!("what deploy {deploy} started on the server was still running 10 s after its end");
            disk.mark(MarkKind::Blind { what });
        }
        times.note(&disk);
        if let Some(crew) = &crew
            && !crew.one_more_pass(LAST_PASS, interrupted)
        {
            late = Some(format!("it did not read a release within {} s", LAST_PASS.as_secs()));
        }
        progress.ended(deploy, last_op(&disk) - before, started.elapsed());
        let now = tree::read_dir(dir, &store)?;
        if let Some(difference) = tree::difference(&now, &sources[at], false) {
            return Err(RecordError::SourceChanged { dir: dir.clone(), difference });
        }
        if run.ended != Ended::Exit(0) || !settled {
            cut_short = (run.ended != Ended::Exit(0)).then_some(CutShort {
                deploy,
                ended: run.ended,
                output: run.output,
            });
            break;
        }
    }
    if let Some(cut) = &cut_short {
        // What came after would have been judged too, so nothing may be called proved.
        disk.mark(MarkKind::Blind { what: cut.to_string() });
    }
    let passes = crew.map(|crew| {
        let passes = crew.end();
        Passes { lost: passes.lost.clone().or(late), ..passes }
    });
    server.shutdown();
    let scenario = Scenario {
        mount: names_of(&mount),
        deploy_path: vec![Name::from(DEPLOY_DIR.as_bytes())],
        sources,
        expect: plan.expect.clone(),
        keep: plan.keep,
        past: None,
    };
    Ok(Recording { trace: disk.take_trace(), scenario, times, cut_short, passes })
}

/// What changes `current` waits until it is let go: readers are to be in the middle of something then, and that must not be
/// luck.
fn cutovers_wait() -> Schedule {
    let calls = Calls::RENAME | Calls::UNLINK | Calls::SYMLINK;
    Schedule::one(When::every(calls).path(format!("{DEPLOY_DIR}/current")), Fault::Hang)
}

/// Lets a cutover that waits go on when all readers are in the middle of a pass. `since` is when it was first seen, and what
/// was asked of the readers.
fn gather(crew: &Crew, disk: &Disk, since: &mut Option<(Instant, Vec<u64>)>) {
    if disk.waiting() == 0 {
        *since = None;
        return;
    }
    let (began, wanted) = since.get_or_insert_with(|| (Instant::now(), crew.hurry()));
    if crew.are_looking(wanted) || began.elapsed() >= GATHERING {
        disk.release();
        *since = None;
    }
}

/// A temporary directory for what a run needs, and for what it leaves when it is killed.
pub(crate) fn work_dir() -> Result<tempfile::TempDir, RecordError> {
    tempfile::Builder::new().prefix("cutover-certify-").tempdir().map_err(RecordError::Prepare)
}

fn set_delays(disk: &Disk, schedule: &Schedule) {
    disk.set_faults(schedule).expect("delays, or none, are a good schedule");
}

fn last_op(disk: &Disk) -> u32 {
    disk.with(|fs| fs.trace().last())
}

pub(crate) fn names_of(path: &Path) -> Vec<Name> {
    use std::os::unix::ffi::OsStrExt;
    path.iter().skip(1).map(|name| Name::from(name.as_bytes())).collect()
}

/// The deploy path, if it is to exist, and the user's data below `shared/`; all of it is durable.
fn initial_disk(plan: &Plan, store: BlockStore) -> Fs {
    let mut fs = Fs::new(0, 0, 0o755);
    fs.set_store(store);
    let fill = |fs: &mut Fs| -> simfs::FsResult<()> {
        if plan.deploy_path_exists {
            fs.mkdir_p(DEPLOY_DIR)?;
        }
        for entry in &plan.shared {
            write_shared(fs, entry)?;
        }
        Ok(())
    };
    fill(&mut fs).expect("an empty disk takes a few files");
    fs.start_recording();
    fs
}

fn write_shared(fs: &mut Fs, entry: &SharedEntry) -> simfs::FsResult<()> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let path = Path::new(DEPLOY_DIR).join("shared").join(OsStr::from_bytes(&entry.path));
    if let Some(parent) = path.parent() {
        fs.mkdir_p(parent)?;
    }
    match &entry.content {
        app::Content::File { bytes, mode } => {
            let ino = fs.write_file(&path, bytes)?;
            fs.chmod(ino, *mode)
        }
        app::Content::Directory { mode } => {
            let ino = fs.mkdir_p(&path)?;
            fs.chmod(ino, *mode)
        }
        app::Content::Symlink { target } => fs.symlink_at(OsStr::from_bytes(target), &path).map(drop),
    }
}

/// Tells the disk of syncs that it cannot see by itself, and the callers of the faults that they met.
pub struct SyncsToDisk(pub Disk);

impl Observer for SyncsToDisk {
    fn sync(&self, call: SyncCall, caller: Caller<'_>) -> Result<(), i32> {
        let calls = match call {
            SyncCall::Sync => Calls::SYNC,
            SyncCall::Syncfs => Calls::SYNCFS,
        };
        match self.0.sync_all(calls, caller.thread, &|| caller.still_waits()) {
            // sync(2) has no way to say that it failed.
            Err(errno) if call == SyncCall::Syncfs => Err(errno.raw_os_error()),
            _ => Ok(()),
        }
    }

    fn ending(&self) {
        // Their callers are dead by now. To let them go would apply what nobody waits for.
        self.0.wake();
    }

    fn blind(&self, what: &str) {
        self.0.mark(MarkKind::Blind { what: what.to_owned() });
    }
}

/// A server, and the mount of the simulated disk that it serves.
pub(crate) struct Served {
    server: Server,
    mounted: Arc<Mutex<Option<simfs::fuse::Mounted>>>,
    mount_at: PathBuf,
}

impl std::ops::Deref for Served {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Served {
    pub(crate) fn mount_at(&self) -> &Path {
        &self.mount_at
    }

    /// Ends the server first: its processes have to be gone before the disk is.
    pub(crate) fn shutdown(self) {
        self.server.shutdown();
        drop(self.mounted);
    }
}

pub(crate) fn start_server(
    disk: &Disk,
    threads: NonZeroUsize,
    without: &[String],
) -> Result<Served, RecordError> {
    let mounted = Arc::new(Mutex::new(None));
    let (slot, served) = (mounted.clone(), disk.clone());
    let mount = sshd_test::Disk::Mount(Box::new(move |at: &Path| {
        let mount = simfs::fuse::mount_here_with(&served, at, threads)?;
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(mount);
        Ok(())
    }));
    let mut options = Options::new(mount, Arc::new(SyncsToDisk(disk.clone())));
    // Where several threads serve, the parts of a tool are to run side by side; else one processor is faster.
    options.one_processor = threads == NonZeroUsize::MIN;
    options.without = without.to_vec();
    let mount_at = options.mount_at.clone();
    let server = Server::start(options).map_err(RecordError::Server)?;
    Ok(Served { server, mounted, mount_at })
}

/// What one run of the tool is to do.
pub(crate) struct Task<'a> {
    pub(crate) server: &'a Server,
    pub(crate) deploy_path: &'a Path,
    pub(crate) source: &'a Path,
    pub(crate) deploy: usize,
    pub(crate) action: Action,
    pub(crate) work: &'a Path,
}

impl Task<'_> {
    pub(crate) fn command(&self, subject: &Subject) -> io::Result<Command> {
        let mut command = match subject {
            Subject::Tool { command } => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(command);
                shell
            }
            Subject::Cutover { binary } => {
                let config = self.work.join("cutover.toml");
                std::fs::write(&config, self.cutover_toml()?)?;
                let mut cutover = Command::new(binary);
                cutover.arg(self.action.name()).arg("--config").arg(config);
                cutover
            }
        };
        // What a run leaves in its temporary directory when it is killed goes with ours.
        let tmp = self.work.join("tmp");
        std::fs::create_dir_all(&tmp)?;
        command
            .env("TMPDIR", tmp)
            .env("CERTIFY_HOST", self.server.host())
            .env("CERTIFY_PORT", self.server.port().to_string())
            .env("CERTIFY_USER", self.server.user())
            .env("CERTIFY_IDENTITY", self.server.identity())
            .env("CERTIFY_KNOWN_HOSTS", self.server.known_hosts())
            .env("CERTIFY_SSH_CONFIG", self.server.ssh_config())
            .env("CERTIFY_DEPLOY_PATH", self.deploy_path)
            .env("CERTIFY_SOURCE", self.source)
            .env("CERTIFY_VERSION", self.deploy.to_string())
            .env("CERTIFY_ACTION", self.action.name());
        Ok(command)
    }

    /// A configuration as a user would write it.
    fn cutover_toml(&self) -> io::Result<String> {
        let text = |path: &Path| -> io::Result<String> {
            let path = path.to_str().ok_or_else(|| {
                let what =
                    format!("{} is not UTF-8, so it cannot be written into cutover.toml", path.display());
                io::Error::new(io::ErrorKind::InvalidInput, what)
            })?;
            // JSON strings are TOML basic strings.
            Ok(serde_json::to_string(path)?)
        };
        Ok(format!(
            "version = 1\n\n[targets.certify]\nhost = {:?}\nport = {}\nuser = {:?}\npath = {}\nsource = {}\n\
             identity = {}\nknown_hosts = {}\n",
            self.server.host(),
            self.server.port(),
            self.server.user(),
            text(self.deploy_path)?,
            text(self.source)?,
            text(self.server.identity())?,
            text(self.server.known_hosts())?,
        ))
    }
}
