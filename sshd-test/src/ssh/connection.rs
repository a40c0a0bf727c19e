//! One connection: who may log in, and what its channels ask for. Every request is answered, and nothing is awaited.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use russh::{
    Channel, ChannelId, ChannelReadHalf, ChannelWriteHalf, Error, Pty, Sig,
    keys::PublicKey,
    server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey},
};
use tokio::sync::{mpsc, watch};

use super::{Hub, USER, exec, inbox::Inbox, sftp};
use crate::Command;

/// More variables than any client sends, and few enough to be no burden.
const MAX_VARIABLES: usize = 64;

/// The handler of one connection. When it is dropped, the connection is gone, and what its channels started is killed.
pub(super) struct Connection {
    hub: Arc<Hub>,
    peer: SocketAddr,
    channels: HashMap<ChannelId, Open>,
    _busy: Arc<()>,
}

/// A session channel.
struct Open {
    inbox: Arc<Inbox>,
    signals: mpsc::UnboundedSender<i32>,
    /// Dropped when the client is gone.
    _alive: watch::Sender<()>,
    /// What a program needs from the channel; taken when one is started.
    waiting: Option<Waiting>,
}

struct Waiting {
    writer: ChannelWriteHalf<Msg>,
    signals: mpsc::UnboundedReceiver<i32>,
    alive: watch::Receiver<()>,
    env: Vec<(String, String)>,
}

/// A channel with a program to be, as its task gets it.
pub(super) struct Work {
    pub(super) hub: Arc<Hub>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) writer: Arc<ChannelWriteHalf<Msg>>,
    pub(super) handle: russh::server::Handle,
    pub(super) signals: mpsc::UnboundedReceiver<i32>,
    /// `changed` fails when the client is gone.
    pub(super) alive: watch::Receiver<()>,
    pub(super) busy: Arc<()>,
}

impl Connection {
    pub(super) fn new(hub: Arc<Hub>, peer: SocketAddr) -> Self {
        let busy = Arc::clone(&hub.busy);
        Self { hub, peer, channels: HashMap::new(), _busy: busy }
    }

    fn authorise(&self, user: &str, key: &PublicKey) -> Auth {
        if user == USER && key.key_data() == self.hub.client.key_data() {
            Auth::Accept
        } else {
            Auth::reject()
        }
    }

    /// Starts something on a channel, at most once, and answers the request.
    fn start(
        &mut self,
        id: ChannelId,
        session: &mut Session,
        start: impl FnOnce(Work, Vec<(String, String)>),
    ) -> Result<(), Error> {
        let open = self.channels.get_mut(&id);
        let Some((inbox, waiting)) =
            open.and_then(|open| Some((Arc::clone(&open.inbox), open.waiting.take()?)))
        else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        let Waiting { writer, signals, alive, mut env } = waiting;
        let (peer, own) = (self.peer, self.hub.address);
        let connection = format!("{} {} {} {}", peer.ip(), peer.port(), own.ip(), own.port());
        env.push(("SSH_CONNECTION".to_owned(), connection));
        let work = Work {
            hub: Arc::clone(&self.hub),
            inbox,
            writer: Arc::new(writer),
            handle: session.handle(),
            signals,
            alive,
            busy: Arc::clone(&self.hub.busy),
        };
        start(work, env);
        Ok(())
    }

    fn start_command(&mut self, id: ChannelId, session: &mut Session, command: Command) -> Result<(), Error> {
        self.start(id, session, move |work, env| {
            let command = env.into_iter().fold(command, |command, (name, value)| command.env(name, value));
            tokio::spawn(exec::run(work, command));
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for open in self.channels.values() {
            open.inbox.finish();
        }
    }
}

impl Handler for Connection {
    type Error = Error;

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Error> {
        Ok(self.authorise(user, offer.public_key))
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Error> {
        Ok(self.authorise(user, key.public_key))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        let id = channel.id();
        // The read half is a bounded queue that the connection would wait for; dropped, it is skipped.
        let (_, writer): (ChannelReadHalf, _) = channel.split();
        let (signals, signals_out) = mpsc::unbounded_channel();
        let (alive, alive_out) = watch::channel(());
        let waiting = Waiting { writer, signals: signals_out, alive: alive_out, env: Vec::new() };
        let open = Open { inbox: Arc::default(), signals, _alive: alive, waiting: Some(waiting) };
        self.channels.insert(id, open);
        reply.accept().await;
        Ok(())
    }

    async fn channel_eof(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Error> {
        if let Some(open) = self.channels.get(&channel) {
            open.inbox.finish();
        }
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), Error> {
        if let Some(open) = self.channels.remove(&channel) {
            open.inbox.finish();
        }
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _session: &mut Session) -> Result<(), Error> {
        if let Some(open) = self.channels.get(&channel) {
            open.inbox.push(data);
        }
        Ok(())
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        let waiting = self.channels.get_mut(&channel).and_then(|open| open.waiting.as_mut());
        let locale = (name == "LANG" || name.starts_with("LC_")) && !name.contains('=');
        match waiting {
            Some(waiting) if locale && !value.contains('\0') && waiting.env.len() < MAX_VARIABLES => {
                waiting.env.push((name.to_owned(), value.to_owned()));
                session.channel_success(channel)
            }
            _ => session.channel_failure(channel),
        }
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        let line = std::os::unix::ffi::OsStringExt::from_vec(data.to_vec());
        let line: std::ffi::OsString = line;
        self.start_command(channel, session, Command::shell(line))
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Error> {
        self.start_command(channel, session, Command::login())
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        if name != "sftp" {
            return session.channel_failure(channel);
        }
        self.start(channel, session, |work, _| {
            tokio::spawn(sftp::run(work));
        })
    }

    /// No terminals: a deploy does not need one, and clients go on without.
    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_failure(channel)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_failure(channel)
    }

    async fn signal(&mut self, channel: ChannelId, signal: Sig, _session: &mut Session) -> Result<(), Error> {
        if let (Some(open), Some(number)) = (self.channels.get(&channel), exec::signal_number(&signal)) {
            let _ = open.signals.send(number);
        }
        Ok(())
    }
}
