//! Talking to the shell on a channel: scripts in, framed events out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelWriteHalf};
use tokio::sync::mpsc;

use crate::remote::frame::{Event, Frames};
use crate::remote::{quote, steps};
use crate::text::printable;

/// For longer than this nothing is silent that goes on: no word from the host, and nothing that it took of an upload.
pub const PHASE_TIMEOUT: Duration = Duration::from_hours(1);

/// What the host said on its error stream is kept this far, for people.
const STDERR_BYTES: usize = 4096;

/// A shell on a channel of its own. A task drains the channel all the time.
pub struct Shell {
    writer: Arc<ChannelWriteHalf<Msg>>,
    events: mpsc::UnboundedReceiver<Said>,
    stderr: Vec<u8>,
    sent_bytes: Arc<AtomicU64>,
    /// Whether nothing was started yet.
    is_new: bool,
    /// Whether the first script may come in the command.
    in_command: bool,
}

/// What the draining task passes on.
enum Said {
    Event(Event),
    Stderr(Vec<u8>),
    Refused,
    TooMuch,
}

/// How a phase ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The host finished it with this status.
    Status(u32),
    /// The shell ended without finishing it: the connection or the host's shell is gone.
    Lost(String),
}

impl Shell {
    /// Takes over a channel. The shell is started with the first script that is sent.
    pub fn new(channel: Channel<Msg>, token: &str) -> Self {
        let (mut reader, writer) = channel.split();
        let (sender, events) = mpsc::unbounded_channel();
        let mut frames = Frames::new(token);
        tokio::spawn(async move {
            while let Some(message) = reader.wait().await {
                let said = match message {
                    ChannelMsg::Data { data } => match frames.feed(&data) {
                        Some(events) => events.into_iter().map(Said::Event).collect(),
                        None => vec![Said::TooMuch],
                    },
                    ChannelMsg::ExtendedData { data, .. } => vec![Said::Stderr(data.to_vec())],
                    ChannelMsg::Failure => vec![Said::Refused],
                    _ => vec![],
                };
                let mut ends = false;
                for one in said {
                    ends |= matches!(one, Said::TooMuch);
                    ends |= sender.send(one).is_err();
                }
                if ends {
                    break;
                }
            }
        });
        let writer = Arc::new(writer);
        let sent_bytes = Arc::default();
        Self { writer, events, stderr: Vec::new(), sent_bytes, is_new: true, in_command: true }
    }

    /// The same, but the first script never comes in the command, whatever the host takes.
    pub fn plain(channel: Channel<Msg>, token: &str) -> Self {
        Self { in_command: false, ..Self::new(channel, token) }
    }

    /// The input, to send on while the output is waited for.
    pub(crate) fn input(&self) -> Input {
        Input { writer: Arc::clone(&self.writer), sent_bytes: Arc::clone(&self.sent_bytes) }
    }

    /// Sends a script to be run; says whether it went in the command that starts the shell.
    ///
    /// Some servers (OpenSSH's) take no input before something was started. Waiting until they do would be a round trip. From
    /// those that take it at once it goes there: they may not take a long command (dropbear: 9000 bytes).
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn send(&mut self, script: &[u8]) -> Result<bool, russh::Error> {
        // The answer to the request comes with the channel's other messages; waiting for it would be a round trip, too.
        if std::mem::take(&mut self.is_new) {
            let takes_input = self.writer.writable_packet_size().await > 0;
            let with_it = steps::shell_with(script).filter(|_| self.in_command && !takes_input);
            if let Some(command) = with_it {
                self.writer.exec(true, command).await?;
                return Ok(true);
            }
            self.writer.exec(true, steps::shell()).await?;
        }
        self.input().send(steps::framed(script)).await?;
        Ok(false)
    }

    /// Ends the shell's input.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn end_input(&self) -> Result<(), russh::Error> {
        self.writer.eof().await
    }

    /// Waits for the end of the phase that was sent; every event goes to `each` at once.
    pub async fn finish(&mut self, mut each: impl FnMut(Event)) -> Ended {
        let mut sent_bytes = self.sent_bytes.load(Ordering::Relaxed);
        loop {
            let Ok(said) = tokio::time::timeout(PHASE_TIMEOUT, self.events.recv()).await else {
                let so_far = self.sent_bytes.load(Ordering::Relaxed);
                if so_far == sent_bytes {
                    return Ended::Lost("the host was silent for an hour".to_owned());
                }
                sent_bytes = so_far;
                continue;
            };
            match said {
                None => return Ended::Lost("the connection or the remote shell ended".to_owned()),
                Some(Said::Refused) => return Ended::Lost("the host does not start a shell".to_owned()),
                Some(Said::TooMuch) => return Ended::Lost("the host answers without end".to_owned()),
                Some(Said::Stderr(bytes)) => {
                    self.stderr.extend_from_slice(&bytes);
                    let over = self.stderr.len().saturating_sub(STDERR_BYTES);
                    self.stderr.drain(..over);
                }
                Some(Said::Event(Event::Note(words))) => match words.as_slice() {
                    [phase, status] if phase == "phase" => {
                        return Ended::Status(status.parse().unwrap_or(u32::MAX));
                    }
                    _ => each(Event::Note(words)),
                },
                Some(Said::Event(event)) => each(event),
            }
        }
    }

    /// The end of what the host said on its error stream, in one printable line; what is on its way is waited for
    /// shortly.
    pub async fn complaints(&mut self) -> String {
        while let Ok(Some(said)) = tokio::time::timeout(Duration::from_millis(200), self.events.recv()).await
        {
            if let Said::Stderr(bytes) = said {
                self.stderr.extend_from_slice(&bytes);
            }
        }
        let over = self.stderr.len().saturating_sub(STDERR_BYTES);
        let tail = self.stderr.get(over..).unwrap_or_default();
        let lines: Vec<String> =
            tail.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(printable).collect();
        let last = lines.len().saturating_sub(3);
        lines.get(last..).unwrap_or_default().join("; ")
    }
}

/// The sending side of a shell's channel.
#[derive(Clone)]
pub(crate) struct Input {
    writer: Arc<ChannelWriteHalf<Msg>>,
    sent_bytes: Arc<AtomicU64>,
}

impl Input {
    /// Sends bytes as they are; waits while the host does not take them.
    pub(crate) async fn send(&self, bytes: Vec<u8>) -> Result<(), russh::Error> {
        let length = bytes.len() as u64;
        self.writer.data_bytes(bytes).await?;
        self.sent_bytes.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }
}

/// A word for a hint: quoted when it has to be.
pub fn for_people(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    String::from_utf8_lossy(&quote::word(word.as_bytes())).into_owned()
}
