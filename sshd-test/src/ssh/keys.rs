//! Keys made for one run, and the files that let an unmodified client use them.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use russh::keys::{
    PrivateKey, PublicKey,
    ssh_key::{LineEnding, private::Ed25519Keypair},
};
use tempfile::TempDir;

/// The server's key, the client's public key, and the directory with the client's files. Dropping it removes the files.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) host: PrivateKey,
    pub(crate) client: PublicKey,
    pub(crate) identity: PathBuf,
    pub(crate) known_hosts: PathBuf,
    pub(crate) ssh_config: PathBuf,
    _directory: TempDir,
}

impl Keys {
    /// Makes the keys, and the files for a server at this address.
    pub(crate) fn create(host: &str, port: u16, user: &str) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("sshd-test-").tempdir()?;
        let (host_key, client_key) = (new_key()?, new_key()?);
        let file = |name: &str| directory.path().join(name);
        let (identity, known_hosts, ssh_config) = (file("identity"), file("known_hosts"), file("ssh_config"));
        write_private(&identity, client_key.to_openssh(LineEnding::LF).map_err(other)?.as_bytes())?;
        let public = host_key.public_key().to_openssh().map_err(other)?;
        write_private(&known_hosts, format!("[{host}]:{port} {public}\n").as_bytes())?;
        let config = ssh_config_text(host, port, user, &identity, &known_hosts);
        write_private(&ssh_config, config.as_bytes())?;
        let client = client_key.public_key().clone();
        Ok(Self { host: host_key, client, identity, known_hosts, ssh_config, _directory: directory })
    }
}

fn new_key() -> io::Result<PrivateKey> {
    let mut seed = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(Ed25519Keypair::from_seed(&seed).into())
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(content)
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

/// Nothing of the user's own configuration, agent or known hosts plays a part. OpenSSH would pick chacha20 by itself, which
/// is slower here than AES-GCM.
fn ssh_config_text(host: &str, port: u16, user: &str, identity: &Path, known_hosts: &Path) -> String {
    let (identity, known_hosts) = (identity.display(), known_hosts.display());
    format!(
        "Host target {host}\n\
         \x20 HostName {host}\n\
         \x20 Port {port}\n\
         \x20 User {user}\n\
         \x20 IdentityFile \"{identity}\"\n\
         \x20 IdentitiesOnly yes\n\
         \x20 IdentityAgent none\n\
         \x20 UserKnownHostsFile \"{known_hosts}\"\n\
         \x20 GlobalKnownHostsFile /dev/null\n\
         \x20 StrictHostKeyChecking yes\n\
         \x20 UpdateHostKeys no\n\
         \x20 PreferredAuthentications publickey\n\
         \x20 BatchMode yes\n\
         \x20 ControlMaster no\n\
         \x20 ControlPath none\n\
         \x20 Ciphers ^aes256-gcm@openssh.com\n"
    )
}
