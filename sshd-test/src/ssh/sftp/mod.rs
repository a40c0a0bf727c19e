//! The SFTP subsystem, version 3, with the extensions of OpenSSH that deploy tools use.
//!
//! A task cuts what the client sends into packets, a thread of its own does what they ask for, one after the other, and a
//! second task sends the replies: so a client that pipelines is served without pauses, and only that thread ever waits for
//! the disk. Packets that wait for the thread are few; the rest waits in the [inbox](super::inbox::Inbox).

mod files;
mod listing;
mod session;
mod wire;

use std::{io, sync::Arc, thread};

use rustix::{fs::Mode, thread::UnshareFlags};
use tokio::sync::mpsc;

use self::session::Session;
use super::{connection::Work, inbox::Inbox};
use crate::{Sandbox, sandbox::sys};

/// The largest packet in either direction, as in OpenSSH.
const MAX_PACKET: usize = 256 << 10;

/// Packets that wait for the thread, and replies that wait for the client.
const QUEUED: usize = 16;

/// Serves SFTP on a channel, from the request for it to the close of the channel.
pub(super) async fn run(mut work: Work) {
    let (requests, inbox) = mpsc::channel(QUEUED);
    let (outbox, mut replies) = mpsc::channel(QUEUED);
    let started = start_thread(Arc::clone(&work.hub.sandbox), inbox, outbox, Arc::clone(&work.busy));
    let receive = async {
        let well_formed = started.is_ok() && forward(&work.inbox, &requests).await;
        work.inbox.discard();
        // The thread finishes what it has, then the replies end as well.
        drop(requests);
        well_formed
    };
    let send = async {
        while let Some(reply) = replies.recv().await {
            if work.writer.data_bytes(reply).await.is_err() {
                break;
            }
        }
    };
    let well_formed = tokio::select! {
        (well_formed, ()) = async { tokio::join!(receive, send) } => well_formed,
        _ = work.alive.changed() => return,
    };
    let (id, handle) = (work.writer.id(), &work.handle);
    let _ = handle.exit_status_request(id, u32::from(!well_formed)).await;
    let _ = handle.eof(id).await;
    let _ = handle.close(id).await;
}

/// Cuts what the client sends into packets, until it sends no more. False: it sent what cannot be a packet.
async fn forward(inbox: &Inbox, requests: &mpsc::Sender<Vec<u8>>) -> bool {
    let mut packets = Packets::default();
    while let Ok(Some(data)) = inbox.pop().await {
        packets.add(&data);
        while let Some(packet) = packets.next() {
            let Ok(packet) = packet else {
                return false;
            };
            if requests.send(packet).await.is_err() {
                return true;
            }
        }
    }
    true
}

fn start_thread(
    sandbox: Arc<Sandbox>,
    mut requests: mpsc::Receiver<Vec<u8>>,
    replies: mpsc::Sender<Vec<u8>>,
    busy: Arc<()>,
) -> io::Result<()> {
    let work = move || {
        sys::block_signals();
        // A umask of its own: the one of programs in the sandbox.
        if sys::unshare(UnshareFlags::FS).is_ok() {
            rustix::process::umask(Mode::WGRP | Mode::WOTH);
        }
        let mut session = Session::new(sandbox);
        while let Some(packet) = requests.blocking_recv() {
            if replies.blocking_send(session.answer(&packet)).is_err() {
                break;
            }
        }
        drop(session);
        drop(busy);
    };
    thread::Builder::new().name("sshd-test-sftp".to_owned()).spawn(work).map(drop)
}

/// Cuts a stream of bytes into packets.
#[derive(Debug, Default)]
struct Packets {
    buffer: Vec<u8>,
    /// Where the next packet starts.
    start: usize,
}

impl Packets {
    fn add(&mut self, data: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend(data);
    }

    /// The next complete packet, without its length. An error: the length cannot be one.
    fn next(&mut self) -> Option<Result<Vec<u8>, wire::Malformed>> {
        let (head, rest) = self.buffer.get(self.start..)?.split_first_chunk()?;
        let length = u32::from_be_bytes(*head) as usize;
        if length == 0 || length > MAX_PACKET {
            return Some(Err(wire::Malformed));
        }
        let packet = rest.get(..length)?.to_vec();
        self.start += 4 + length;
        Some(Ok(packet))
    }
}
