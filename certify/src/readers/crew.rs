//! The readers of a recording: starts them, paces them, notes when they looked, and ends them.
//!
//! They run where programs on the server run, on the same view of the machine and through the same mount, but in
//! process namespaces of their own: the tool under test does not see them, and the server counts as idle without
//! them. Each is jailed: none outlives this program.
//!
//! It judges nothing.

use std::io::{self, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use simfs::{Disk, Ino};
use sshd_test::Sandbox;

use super::wire::{Job, Said, Sight, Told, receive, send};
use super::{Found, How, Pass, Passes, View};
use crate::jail::jail;

/// The argument that makes this program a reader.
pub const VERB: &str = "reader";

/// A reader rests this many times as long as its last pass took, so that all of them together leave the tool most
/// of the machine and of the disk's one server.
const REST: u32 = 4;
/// And at least this long.
const SHORTEST_REST: Duration = Duration::from_millis(5);

/// How long a reader gets to end its pass before it is killed.
const ENDING: Duration = Duration::from_secs(5);

/// All readers of one recording.
pub(crate) struct Crew {
    readers: Vec<Reader>,
    paths: Vec<Vec<u8>>,
}

struct Reader {
    child: Child,
    pace: Arc<Pace>,
    /// Returns what the reader found, and why it ended if nobody wanted it to.
    thread: Option<JoinHandle<(Vec<Pass>, Option<String>)>>,
}

/// Says when the next pass begins.
#[derive(Default)]
struct Pace {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Passes that have begun, those of which the first instant is noted, and those that have ended.
    begun: u64,
    looking: u64,
    ended: u64,
    /// Up to this one passes begin at once.
    wanted: u64,
    stop: bool,
    gone: bool,
}

impl Pace {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Rests before the next pass. False: there is to be none.
    fn rest(&self, until: Instant) -> bool {
        let mut state = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if state.stop {
                return false;
            }
            if left.is_zero() || state.begun < state.wanted {
                state.begun += 1;
                return true;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Crew {
    /// Starts one reader of each kind. `current` is the path of the link as programs on the server see it; `paths` are
    /// what is looked up below it.
    ///
    /// The program of this process has to be one that reads when its only argument is [`VERB`].
    pub(crate) fn start(
        sandbox: &Sandbox,
        disk: &Disk,
        current: &Path,
        paths: &[Vec<u8>],
    ) -> io::Result<Self> {
        let mut crew = Self { readers: Vec::new(), paths: paths.to_vec() };
        for how in How::ALL {
            // On the thread that owns the mounts: it lives as long as the sandbox, and so does a jailed child of it.
            let mut child = sandbox.in_namespace(|_| {
                // By this name the program is found even if its own path is hidden there.
                let mut command = Command::new("/proc/self/exe");
                command.arg(VERB).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
                jail(&mut command).spawn()
            })?;
            let pipes = child.stdin.take().zip(child.stdout.take());
            let pace = Arc::new(Pace::default());
            crew.readers.push(Reader { child, pace: pace.clone(), thread: None });
            let (to, from) = pipes.ok_or_else(|| io::Error::other("a reader has no pipes"))?;
            let paths = if how == How::Each { paths.to_vec() } else { Vec::new() };
            let job = Job { how, current: current.as_os_str().as_bytes().to_vec(), paths };
            let mut line = Line { disk: disk.clone(), pace, to, from: BufReader::new(from) };
            let listen = move || {
                let mut passes = Vec::new();
                let ended = line.listen(&job, &mut passes);
                line.pace.change(|state| state.gone = true);
                (passes, ended.err().map(|error| error.to_string()))
            };
            let thread = thread::Builder::new().name("reader".to_owned()).spawn(listen)?;
            if let Some(reader) = crew.readers.last_mut() {
                reader.thread = Some(thread);
            }
        }
        Ok(crew)
    }

    /// Waits until each reader has made a pass that began after this was called. False: it took longer, or
    /// `interrupted` said so.
    pub(crate) fn one_more_pass(&self, timeout: Duration, interrupted: &dyn Fn() -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        let wanted: Vec<u64> = self.readers.iter().map(|reader| reader.pace.lock().begun + 1).collect();
        for (reader, wanted) in self.readers.iter().zip(&wanted) {
            reader.pace.change(|state| state.wanted = *wanted);
        }
        self.readers.iter().zip(wanted).all(|(reader, wanted)| {
            let mut state = reader.pace.lock();
            while state.ended < wanted && !state.gone {
                if Instant::now() >= deadline || interrupted() {
                    return false;
                }
                let look = Duration::from_millis(50);
                state =
                    reader.pace.changed.wait_timeout(state, look).unwrap_or_else(PoisonError::into_inner).0;
            }
            true
        })
    }

    /// Lets each reader that rests begin its next pass. For [`Crew::are_looking`].
    pub(crate) fn hurry(&self) -> Vec<u64> {
        let hurry = |reader: &Reader| {
            let mut wanted = 0;
            reader.pace.change(|state| {
                wanted = if state.begun > state.ended { state.begun } else { state.begun + 1 };
                state.wanted = state.wanted.max(wanted);
            });
            wanted
        };
        self.readers.iter().map(hurry).collect()
    }

    /// Whether each reader is in the pass, or beyond it, that [`Crew::hurry`] has told.
    pub(crate) fn are_looking(&self, wanted: &[u64]) -> bool {
        self.readers.iter().zip(wanted).all(|(reader, wanted)| {
            let state = reader.pace.lock();
            state.looking >= *wanted || state.gone
        })
    }

    /// Ends all readers and tells what they found.
    pub(crate) fn end(mut self) -> Passes {
        self.close()
    }

    fn close(&mut self) -> Passes {
        let mut passes = Passes { paths: std::mem::take(&mut self.paths), ..Passes::default() };
        for reader in &self.readers {
            reader.pace.change(|state| state.stop = true);
        }
        let deadline = Instant::now() + ENDING;
        for mut reader in self.readers.drain(..) {
            while reader.thread.as_ref().is_some_and(|thread| !thread.is_finished())
                && Instant::now() < deadline
            {
                thread::sleep(Duration::from_millis(1));
            }
            // It has ended by itself, or hangs.
            let _ = reader.child.kill();
            let _ = reader.child.wait();
            let Some(thread) = reader.thread else { continue };
            // Its pipe ends with it, and so does the thread; unless it waits for a disk that does not answer.
            let deadline = Instant::now() + ENDING;
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            let lost = if thread.is_finished() {
                let panic = |_| (Vec::new(), Some("the thread that listened to it panicked".to_owned()));
                let (all, lost) = thread.join().unwrap_or_else(panic);
                passes.all.extend(all);
                lost
            } else {
                Some("it hung".to_owned())
            };
            passes.lost = passes.lost.or(lost);
        }
        passes
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.close();
    }
}

/// The line to one reader.
struct Line {
    disk: Disk,
    pace: Arc<Pace>,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Line {
    /// Lets the reader make one pass after the other, until there is to be none.
    fn listen(&mut self, job: &Job, passes: &mut Vec<Pass>) -> io::Result<()> {
        let mut views: Vec<Arc<View>> = Vec::new();
        let mut next = Instant::now();
        send(&mut self.to, job)?;
        loop {
            let Some(Said::Ready) = receive(&mut self.from)? else { return Err(odd()) };
            if !self.pace.rest(next) {
                return Ok(());
            }
            let (begin, started) = (self.last_op(), Instant::now());
            self.pace.change(|state| state.looking = state.begun);
            send(&mut self.to, &())?;
            let Some(Said::Saw(sights)) = receive(&mut self.from)? else { return Err(odd()) };
            let end = self.last_op();
            for sight in sights {
                let found = found(sight, &mut views)?;
                passes.push(Pass { how: job.how, begin, end, found });
            }
            next = Instant::now() + (started.elapsed() * REST).max(SHORTEST_REST);
            self.pace.change(|state| state.ended = state.begun);
            send(&mut self.to, &())?;
        }
    }

    fn last_op(&self) -> simfs::Seq {
        self.disk.with(|fs| fs.trace().last())
    }
}

fn found(sight: Sight, views: &mut Vec<Arc<View>>) -> io::Result<Found> {
    let mut view = |told: Told| {
        if let Some(new) = told.new {
            views.push(Arc::new(new.into_iter().collect()));
        }
        views.get(told.number).cloned().ok_or_else(odd)
    };
    Ok(match sight {
        Sight::Release { dir, view: told } => Found::Release { dir: Ino(dir), view: view(told)? },
        Sight::Files { view: told } => Found::Files(view(told)?),
        Sight::NoRelease { error } => Found::NoRelease(error),
    })
}

fn odd() -> io::Error {
    io::Error::other("it ended, or said what no reader says")
}
