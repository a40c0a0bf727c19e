//! One SSH connection to a host: its key checked, the user authenticated, a shell to talk to.
//!
//! Every wait has an end: connecting and authenticating have deadlines, a silent connection is found by keepalives,
//! and a step of the host has a limit of its own. Every channel is drained as it comes, because one that nobody reads
//! would stop the whole connection.

mod auth;
mod host_key;
#[doc(hidden)]
pub mod no_shell;
pub mod shell;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::{HashAlg, PublicKeyOrCertificate};
use russh::{Preferred, cipher, client};

pub use host_key::HostKeyError;

/// How long connecting, and then authenticating, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const AUTH_TIMEOUT: Duration = Duration::from_mins(1);
/// A connection on which nothing arrives is asked this often, and given up after three questions.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Where to connect, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The user on the host.
    pub user: String,
    /// A private key file; without one the agent and the usual files are tried.
    pub identity: Option<PathBuf>,
    /// The file of known host keys.
    pub known_hosts: PathBuf,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host cannot be reached, or does not speak SSH.
    #[error("cannot connect to {host}: {why}")]
    Unreachable {
        /// `host:port`.
        host: String,
        /// In words.
        why: String,
    },
    /// Its key is not trusted.
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    /// The user was not let in, or there was no key to try.
    #[error("cannot log in as {user}@{host}: {why}")]
    Auth {
        /// `host:port`.
        host: String,
        /// The user.
        user: String,
        /// In words.
        why: String,
        /// What to do.
        hint: String,
    },
    /// Something inside the SSH connection.
    #[error("the connection broke: {0}")]
    Broken(#[source] Box<russh::Error>),
}

impl From<russh::Error> for ConnectError {
    fn from(error: russh::Error) -> Self {
        Self::Broken(Box::new(error))
    }
}

/// An authenticated connection.
#[derive(Clone)]
pub struct Connection {
    handle: Arc<client::Handle<Client>>,
}

/// Connects, checks the host's key and logs in.
///
/// # Errors
/// See [`ConnectError`]; nothing was done on the host.
pub async fn connect(address: &Address) -> Result<Connection, ConnectError> {
    let host = format!("{}:{}", address.host, address.port);
    let unreachable = |why: String| ConnectError::Unreachable { host: host.clone(), why };
    let known = host_key::Known::load(&address.known_hosts, &address.host, address.port)?;
    let config = Arc::new(config(&known));
    let client = Client { known };
    let target = (address.host.clone(), address.port);
    let connecting = client::connect(config, target, client);
    let mut handle = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Err(_) => return Err(unreachable(format!("no answer within {} seconds", CONNECT_TIMEOUT.as_secs()))),
        Ok(Err(ConnectError::Broken(e))) => return Err(unreachable(e.to_string())),
        Ok(other) => other?,
    };
    let logging_in = auth::log_in(&mut handle, address, &host);
    match tokio::time::timeout(AUTH_TIMEOUT, logging_in).await {
        Err(_) => Err(unreachable(format!("no login within {} seconds", AUTH_TIMEOUT.as_secs()))),
        Ok(result) => result.map(|()| Connection { handle: Arc::new(handle) }),
    }
}

fn config(known: &host_key::Known) -> client::Config {
    let default = Preferred::DEFAULT;
    let mut ciphers = vec![cipher::AES_256_GCM];
    ciphers.extend(default.cipher.iter().filter(|c| **c != cipher::AES_256_GCM).copied());
    client::Config {
        nodelay: true,
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: 3,
        preferred: Preferred {
            cipher: Cow::Owned(ciphers),
            key: Cow::Owned(known.preference(&default.key)),
            ..default
        },
        ..client::Config::default()
    }
}

/// The callbacks of a connection: the host key's check is the only one that matters.
pub(crate) struct Client {
    known: host_key::Known,
}

impl client::Handler for Client {
    type Error = ConnectError;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, ConnectError> {
        match offered {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                self.known.check(key).map(|()| true).map_err(Into::into)
            }
            // Not offered by our preference; refused if a server sends one all the same.
            PublicKeyOrCertificate::Certificate(_) => Ok(false),
        }
    }
}

impl Connection {
    /// Opens a channel on which something can be started.
    ///
    /// # Errors
    /// If the host does not open it.
    pub(crate) async fn channel(&self) -> Result<russh::Channel<client::Msg>, russh::Error> {
        self.handle.channel_open_session().await
    }

    /// Says goodbye, not for long.
    pub async fn close(self) {
        let bye = self.handle.disconnect(russh::Disconnect::ByApplication, "", "");
        let _ = tokio::time::timeout(Duration::from_secs(2), bye).await;
    }
}

/// What an environment variable holds, if it holds anything.
fn from_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.trim().is_empty())
}

/// The fingerprint as OpenSSH prints it.
fn fingerprint(key: &russh::keys::PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}
