//! An image that is served by a process of its own.
//!
//! Not by a thread: a thread that is killed while it waits for the loop device would keep this process from ending, and
//! with it the FUSE device open that the answer has to come through: neither would ever end. The server is killed when the
//! thread that started it ends, and that one never waits for the device. Then all that waits gets an error. Both are in
//! the mount namespace of the machine: whoever is the last to leave a namespace unmounts what is mounted there, before his
//! own files are closed, so the server must not be that one.
//!
//! The server's standard input is the FUSE device, its standard output a socket: a request of one byte, then the answer.
//! Both ends are the same program, so the numbers are in the order of this machine.

use std::ffi::{CString, OsStr};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal};

use crate::disk::Failed;
use crate::image::{self, Event, Image, NAME, PAGE_BYTES, Pages};

/// What a process that is to serve is started with, before the size of the image and the process that starts it.
const SERVE: &str = "serve-image";

const START_LOG: u8 = b's';
const POSITION: u8 = b'p';
const TAKE_LOG: u8 = b't';

/// An image that is mounted.
pub(crate) struct Served {
    at: PathBuf,
    root: OwnedFd,
    control: UnixStream,
    server: Child,
}

/// What starts servers. A clone starts them on the same thread.
#[derive(Clone)]
pub(crate) struct Starter(Sender<(Command, Sender<io::Result<Child>>)>);

impl Starter {
    /// A thread for it, in the mount namespace of the calling one, which has to be that of the machine.
    pub(crate) fn new() -> io::Result<Self> {
        let (wishes, wished) = channel::<(Command, Sender<io::Result<Child>>)>();
        thread::Builder::new().name("starter".into()).spawn(move || {
            for (mut command, started) in wished {
                let _ = started.send(command.spawn());
            }
        })?;
        Ok(Self(wishes))
    }

    fn start(&self, command: Command) -> io::Result<Child> {
        let (started, start) = channel();
        let gone = || io::Error::other("the thread that starts servers has ended");
        self.0.send((command, started)).map_err(|_| gone())?;
        start.recv().map_err(|_| gone())?
    }
}

impl Served {
    /// Serves an image of zeros as a file below the directory `at`, in the mount namespace of the calling thread.
    pub(crate) fn new(at: &Path, size_bytes: u64, starter: &Starter) -> io::Result<Self> {
        let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let options = CString::new(format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd()))?;
        mount("image", at, "fuse.image", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?;
        start(at, size_bytes, device, starter).inspect_err(|_| {
            // Nothing serves it: without this the next look at the directory would hang.
            let _ = unmount(at, UnmountFlags::DETACH);
        })
    }

    /// The file.
    pub(crate) fn file(&self) -> PathBuf {
        self.at.join(NAME)
    }

    /// Begins a log and returns the content that it starts from.
    pub(crate) fn start_log(&self) -> Result<Pages, Failed> {
        self.ask(START_LOG, |answer| {
            let mut pages = Pages::new();
            for _ in 0..number(answer)? {
                let (n, mut page) = (number(answer)?, [0; PAGE_BYTES]);
                answer.read_exact(&mut page)?;
                pages.insert(n, Arc::new(page));
            }
            Ok(pages)
        })
    }

    /// How many events are in the log.
    pub(crate) fn position(&self) -> Result<usize, Failed> {
        self.ask(POSITION, |answer| Ok(number(answer)? as usize))
    }

    /// Ends the log.
    pub(crate) fn take_log(&self) -> Result<Vec<Event>, Failed> {
        self.ask(TAKE_LOG, |answer| (0..number(answer)?).map(|_| event(answer)).collect())
    }

    fn ask<T>(
        &self,
        request: u8,
        read: impl FnOnce(&mut BufReader<&UnixStream>) -> io::Result<T>,
    ) -> Result<T, Failed> {
        let mut control = &self.control;
        control
            .write_all(&[request])
            // Nothing but the answer is ever sent, so the buffer holds nothing of the next.
            .and_then(|()| read(&mut BufReader::new(control)))
            .map_err(|error| Failed::new("ask the server of the image", error))
    }
}

fn start(at: &Path, size_bytes: u64, device: OwnedFd, starter: &Starter) -> io::Result<Served> {
    let root = rustix::fs::open(at, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let (control, far_end) = UnixStream::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command
        .args([SERVE, &size_bytes.to_string(), &std::process::id().to_string()])
        .stdin(device)
        .stdout(OwnedFd::from(far_end))
        .stderr(Stdio::inherit());
    let server = starter.start(command)?;
    Ok(Served { at: at.to_path_buf(), root, control, server })
}

impl Drop for Served {
    fn drop(&mut self) {
        let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", self.root.as_raw_fd()));
        // The first says EBUSY as long as anything is open, but it aborts the connection before it says so.
        for flags in [UnmountFlags::FORCE, UnmountFlags::DETACH] {
            let _ = unmount(&by_descriptor, flags);
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Serves, if that is what this process was started for.
pub(crate) fn asked_for() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next().as_deref() != Some(OsStr::new(SERVE)) {
        return None;
    }
    let numbers: Vec<u64> = args.filter_map(|arg| arg.to_str()?.parse().ok()).collect();
    let [size_bytes, parent] = numbers[..] else { return Some(ExitCode::FAILURE) };
    Some(match serve(size_bytes, parent) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the server of an image: {error}");
            ExitCode::FAILURE
        }
    })
}

fn serve(size_bytes: u64, parent: u64) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before.
    let now = rustix::process::getppid().map(Pid::as_raw_nonzero);
    if now.and_then(|pid| u64::try_from(pid.get()).ok()) != Some(parent) {
        return Ok(());
    }
    let device = io::stdin().as_fd().try_clone_to_owned()?;
    let control = UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    let image = Image::new(size_bytes);
    let answering = image.clone();
    thread::Builder::new().name("control".into()).spawn(move || answer(&answering, &control))?;
    image::serve(image, device)
}

/// Answers requests until nobody is there to ask.
fn answer(image: &Image, control: &UnixStream) -> io::Result<()> {
    let mut requests = control;
    let mut request = [0];
    loop {
        requests.read_exact(&mut request)?;
        let mut out = BufWriter::new(control);
        match request[0] {
            START_LOG => {
                let pages = image.start_log();
                out.write_all(&(pages.len() as u64).to_ne_bytes())?;
                for (n, page) in &pages {
                    out.write_all(&n.to_ne_bytes())?;
                    out.write_all(&page[..])?;
                }
            }
            POSITION => out.write_all(&(image.position() as u64).to_ne_bytes())?,
            TAKE_LOG => {
                let log = image.take_log();
                out.write_all(&(log.len() as u64).to_ne_bytes())?;
                for event in &log {
                    write_event(event, &mut out)?;
                }
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        out.flush()?;
    }
}

/// A flush is a write of no bytes, which no device sends.
fn write_event(event: &Event, out: &mut impl Write) -> io::Result<()> {
    let (offset, bytes): (u64, &[u8]) = match event {
        Event::Write { offset, bytes } => (*offset, bytes),
        Event::Flush => (0, &[]),
    };
    out.write_all(&offset.to_ne_bytes())?;
    out.write_all(&(bytes.len() as u64).to_ne_bytes())?;
    out.write_all(bytes)
}

fn event(input: &mut impl Read) -> io::Result<Event> {
    let (offset, len) = (number(input)?, number(input)?);
    if len == 0 {
        return Ok(Event::Flush);
    }
    let mut bytes = vec![0; len as usize];
    input.read_exact(&mut bytes)?;
    Ok(Event::Write { offset, bytes: Arc::from(bytes) })
}

fn number(input: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}
