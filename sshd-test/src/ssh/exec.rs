//! A program behind a channel: its standard descriptors, signals, and end.
//!
//! The channel ends when the program that was started has ended and its output has been sent: exit status, end of file,
//! close. Descendants that keep its output open get [`STRAGGLER`] of silence, then the channel ends without them; OpenSSH
//! waits for them without limit. They live on, as they do there. If the client goes away before that, the process group is
//! killed, where OpenSSH lets it live: a test must not leave anything running by accident.

use std::{io, os::unix::process::ExitStatusExt, process::ExitStatus, sync::Arc, time::Duration};

use russh::{ChannelWriteHalf, Sig, server::Msg};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    sync::watch,
    task::JoinHandle,
};

use super::{connection::Work, inbox::Inbox};
use crate::{Command, Process, sandbox::sys};

/// How long the output may be silent after the program has ended.
const STRAGGLER: Duration = Duration::from_millis(100);

/// Bytes taken from a pipe at once.
const CHUNK: usize = 64 << 10;

/// The status that stands for "the program could not be started"; what shells use.
const NOT_STARTED: u32 = 126;

const STDERR: u32 = 1;

/// The signals that RFC 4254 names, by name and number.
const SIGNALS: [(&str, i32); 13] = [
    ("ABRT", libc::SIGABRT),
    ("ALRM", libc::SIGALRM),
    ("FPE", libc::SIGFPE),
    ("HUP", libc::SIGHUP),
    ("ILL", libc::SIGILL),
    ("INT", libc::SIGINT),
    ("KILL", libc::SIGKILL),
    ("PIPE", libc::SIGPIPE),
    ("QUIT", libc::SIGQUIT),
    ("SEGV", libc::SIGSEGV),
    ("TERM", libc::SIGTERM),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
];

/// The number of a signal that a client names.
pub(super) fn signal_number(signal: &Sig) -> Option<i32> {
    let name = match signal {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => name,
    };
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

fn signal_name(number: i32) -> Sig {
    match SIGNALS.iter().find(|(_, known)| *known == number).map(|(name, _)| *name) {
        Some("ABRT") => Sig::ABRT,
        Some("ALRM") => Sig::ALRM,
        Some("FPE") => Sig::FPE,
        Some("HUP") => Sig::HUP,
        Some("ILL") => Sig::ILL,
        Some("INT") => Sig::INT,
        Some("KILL") => Sig::KILL,
        Some("PIPE") => Sig::PIPE,
        Some("QUIT") => Sig::QUIT,
        Some("SEGV") => Sig::SEGV,
        Some("TERM") => Sig::TERM,
        Some("USR1") => Sig::USR1,
        Some(other) => Sig::Custom(other.to_owned()),
        None => Sig::Custom(format!("SIG{number}@openssh.com")),
    }
}

/// Runs a command on a channel, from its start to the close of the channel.
pub(super) async fn run(mut work: Work, command: Command) {
    let sandbox = Arc::clone(&work.hub.sandbox);
    let spawned = tokio::task::spawn_blocking(move || sandbox.spawn(&command)).await;
    let result = match spawned {
        Ok(Ok(process)) => serve(&mut work, process).await,
        Ok(Err(error)) => Err(error),
        Err(error) => Err(error.into()),
    };
    work.inbox.discard();
    let (id, handle) = (work.writer.id(), &work.handle);
    // A send that fails means that the client is gone; nothing is left to be told then.
    match result {
        Ok(None) => return,
        Ok(Some(status)) => {
            if let Some(signal) = status.signal() {
                let (name, core) = (signal_name(signal), status.core_dumped());
                let _ = handle.exit_signal_request(id, name, core, String::new(), String::new()).await;
            } else {
                let code = status.code().and_then(|code| u32::try_from(code).ok()).unwrap_or(255);
                let _ = handle.exit_status_request(id, code).await;
            }
        }
        Err(error) => {
            let message = format!("sshd-test: the command could not be run: {error}\n");
            let _ = work.writer.extended_data_bytes(STDERR, message.into_bytes()).await;
            let _ = handle.exit_status_request(id, NOT_STARTED).await;
        }
    }
    let _ = handle.eof(id).await;
    let _ = handle.close(id).await;
}

/// Serves a running process until it has ended and its output was sent. `None`: the client went away.
async fn serve(work: &mut Work, mut process: Process) -> io::Result<Option<ExitStatus>> {
    let missing = || io::Error::other("a pipe is missing");
    let stdin = pipe::Sender::from_owned_fd(process.stdin.take().ok_or_else(missing)?)?;
    let stdout = pipe::Receiver::from_owned_fd(process.stdout.take().ok_or_else(missing)?)?;
    let stderr = pipe::Receiver::from_owned_fd(process.stderr.take().ok_or_else(missing)?)?;
    let (ended, has_ended) = watch::channel(false);
    let input = AbortOnDrop(tokio::spawn(feed(Arc::clone(&work.inbox), stdin)));
    let mut output = [(stdout, None), (stderr, Some(STDERR))].map(|(pipe, stream)| {
        let (writer, has_ended) = (Arc::clone(&work.writer), has_ended.clone());
        AbortOnDrop(tokio::spawn(async move { drain(pipe, &writer, stream, has_ended).await }))
    });
    let Some(status) = end_of(work, &mut process).await? else {
        return Ok(None);
    };
    drop(input);
    let _ = ended.send(true);
    for task in &mut output {
        tokio::select! {
            _ = &mut task.0 => {}
            _ = work.alive.changed() => return Ok(None),
        }
    }
    Ok(Some(status))
}

/// Waits for the end of the process and delivers signals meanwhile. `None`: the client went away, and the group was killed.
async fn end_of(work: &mut Work, process: &mut Process) -> io::Result<Option<ExitStatus>> {
    let pidfd = process.pidfd().try_clone_to_owned()?;
    let pidfd = sys::watch_readable(pidfd)?;
    loop {
        tokio::select! {
            ready = pidfd.readable() => {
                let mut ready = ready?;
                if let Some(status) = process.try_wait() {
                    return Ok(Some(status));
                }
                ready.clear_ready();
            }
            Some(signal) = work.signals.recv() => process.signal(signal),
            _ = work.alive.changed() => {
                process.signal(libc::SIGKILL);
                // Until then it is not idle here.
                while process.try_wait().is_none() {
                    pidfd.readable().await?.clear_ready();
                }
                return Ok(None);
            }
        }
    }
}

/// From the client to the program. What the program does not want is thrown away.
async fn feed(inbox: Arc<Inbox>, mut stdin: pipe::Sender) {
    while let Ok(Some(data)) = inbox.pop().await {
        if stdin.write_all(&data).await.is_err() {
            break;
        }
    }
    inbox.discard();
}

/// From the program to the client, no faster than the client takes it. Ends at the end of the file, or with the program if
/// only stragglers hold the pipe.
async fn drain(
    mut pipe: pipe::Receiver,
    writer: &ChannelWriteHalf<Msg>,
    stream: Option<u32>,
    mut ended: watch::Receiver<bool>,
) {
    loop {
        let mut data = Vec::with_capacity(CHUNK);
        let read = if *ended.borrow() {
            tokio::time::timeout(STRAGGLER, pipe.read_buf(&mut data)).await.unwrap_or(Ok(0))
        } else {
            tokio::select! {
                read = pipe.read_buf(&mut data) => read,
                _ = ended.changed() => continue,
            }
        };
        if !matches!(read, Ok(1..)) {
            return;
        }
        let sent = match stream {
            None => writer.data_bytes(data).await,
            Some(stream) => writer.extended_data_bytes(stream, data).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// A task that ends with the one that waits for it.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
