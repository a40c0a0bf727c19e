//! The SSH side: connections, channels, and what runs behind them.
//!
//! One rule everywhere: the task of a connection never waits for a program or for the disk. It puts what it receives into an
//! [inbox](inbox::Inbox) and goes on; each channel has tasks of its own.

mod connection;
mod exec;
mod inbox;
pub(crate) mod keys;
mod sftp;

use std::{
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use russh::{keys::PublicKey, server};
use tokio::{net::TcpListener, sync::watch};

use self::{connection::Connection, keys::Keys};
use crate::Sandbox;

/// The one user that may log in, and what programs in the sandbox run as.
pub(crate) const USER: &str = "root";

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) client: PublicKey,
    pub(crate) address: SocketAddr,
    /// Held by every connection and by everything that works for one: alone, the server is idle.
    pub(crate) busy: Arc<()>,
    /// Each connection's socket, for as long as it is open.
    pub(crate) sockets: Mutex<Vec<Weak<TcpStream>>>,
}

impl Hub {
    /// Closes every connection below SSH: no goodbye, and the client's next read or write fails. Returns how many there were.
    pub(crate) fn cut_connections(&self) -> usize {
        let sockets = std::mem::take(&mut *self.sockets.lock().unwrap_or_else(PoisonError::into_inner));
        let open = sockets.iter().filter_map(Weak::upgrade);
        open.filter(|socket| socket.shutdown(Shutdown::Both).is_ok()).count()
    }

    /// Another handle on a connection's socket, kept while the result lives.
    fn remember(&self, socket: &tokio::net::TcpStream) -> std::io::Result<Arc<TcpStream>> {
        let socket = Arc::new(TcpStream::from(socket.as_fd().try_clone_to_owned()?));
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.retain(|socket| socket.strong_count() > 0);
        sockets.push(Arc::downgrade(&socket));
        Ok(socket)
    }

    /// True while no connection is open and nothing works for one that was.
    pub(crate) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.busy) == 1
    }
}

/// The settings of every connection.
pub(crate) fn config(keys: &Keys) -> server::Config {
    server::Config {
        keys: vec![keys.host.clone()],
        methods: [russh::MethodKind::PublicKey].as_slice().into(),
        // OpenSSH asks with "none" first, and would wait for the answer.
        auth_rejection_time_initial: Some(Duration::ZERO),
        auth_rejection_time: Duration::from_millis(100),
        inactivity_timeout: None,
        nodelay: true,
        ..server::Config::default()
    }
}

/// Accepts connections until `stop` changes.
pub(crate) async fn serve(
    listener: TcpListener,
    config: Arc<server::Config>,
    hub: Arc<Hub>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            _ = stop.changed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                let _ = socket.set_nodelay(true);
                // Out of descriptors: the client is told by the connection's end.
                let Ok(remembered) = hub.remember(&socket) else { continue };
                let connection = Connection::new(Arc::clone(&hub), peer);
                let config = Arc::clone(&config);
                tokio::spawn(async move {
                    // What a client does wrong ends its connection, and is its own business.
                    if let Ok(session) = server::run_stream(config, socket, connection).await {
                        let _ = session.await;
                    }
                    drop(remembered);
                });
            }
            // Out of descriptors, most likely: give others the time to end.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
