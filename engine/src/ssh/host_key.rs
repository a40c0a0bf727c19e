//! The host's key against the known_hosts file. Never a prompt, never learned silently.

use std::path::{Path, PathBuf};

use russh::keys::{Algorithm, PublicKey, PublicKeyBase64 as _, known_hosts};

use super::fingerprint;

/// Why a host's key is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// The file cannot be read or parsed.
    #[error("cannot read {}: {why}", file.display())]
    File {
        /// The known_hosts file.
        file: PathBuf,
        /// In words.
        why: String,
    },
    /// There is no key of this host.
    #[error("the host key of {host} is not known: {algorithm} {fingerprint}")]
    Unknown {
        /// As known_hosts names it.
        host: String,
        /// Its type.
        algorithm: String,
        /// `SHA256:…`.
        fingerprint: String,
        /// The line that would make it known.
        line: String,
        /// Where that line belongs.
        file: PathBuf,
    },
    /// There is another key of this host.
    #[error(
        "THE HOST KEY OF {host} HAS CHANGED: it is now {algorithm} {fingerprint}, line {line} of {} says otherwise",
        file.display()
    )]
    Changed {
        /// As known_hosts names it.
        host: String,
        /// Its type.
        algorithm: String,
        /// `SHA256:…`.
        fingerprint: String,
        /// The line with the other key.
        line: usize,
        /// The known_hosts file.
        file: PathBuf,
    },
    /// The key is marked as stolen.
    #[error("the host key of {host} is revoked in {}: {fingerprint}", file.display())]
    Revoked {
        /// As known_hosts names it.
        host: String,
        /// `SHA256:…`.
        fingerprint: String,
        /// The known_hosts file.
        file: PathBuf,
    },
}

/// What the file says about one host.
#[derive(Debug)]
pub(super) struct Known {
    file: PathBuf,
    host: String,
    keys: Vec<(usize, PublicKey)>,
    revoked: Vec<String>,
}

impl Known {
    /// Reads the file. A missing file knows nobody.
    pub(super) fn load(file: &Path, host: &str, port: u16) -> Result<Self, HostKeyError> {
        let fail = |why: String| HostKeyError::File { file: file.to_owned(), why };
        let lower = host.to_ascii_lowercase();
        let text = match std::fs::read(file) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(fail(e.to_string())),
        };
        let keys = known_hosts::known_host_keys_path(&lower, port, file).map_err(|e| fail(e.to_string()))?;
        let revoked = text
            .lines()
            .filter_map(|l| l.trim_start().strip_prefix("@revoked"))
            .filter_map(|l| l.split_whitespace().nth(2).map(str::to_owned))
            .collect();
        let host = if port == 22 { lower } else { format!("[{lower}]:{port}") };
        Ok(Self { file: file.to_owned(), host, keys, revoked })
    }

    /// The key types to ask for: those that are known first, so that a host with several keys shows one of them.
    pub(super) fn preference(&self, default: &[Algorithm]) -> Vec<Algorithm> {
        let same = |a: &Algorithm, b: &Algorithm| match (a, b) {
            (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
            _ => a == b,
        };
        let known = |a: &Algorithm| self.keys.iter().any(|(_, k)| same(&k.algorithm(), a));
        let (first, rest): (Vec<_>, Vec<_>) = default.iter().cloned().partition(known);
        first.into_iter().chain(rest).collect()
    }

    pub(super) fn check(&self, key: &PublicKey) -> Result<(), HostKeyError> {
        let (host, file, fingerprint) = (self.host.clone(), self.file.clone(), fingerprint(key));
        let base64 = key.public_key_base64();
        if self.revoked.contains(&base64) {
            return Err(HostKeyError::Revoked { host, fingerprint, file });
        }
        if self.keys.iter().any(|(_, k)| k.key_data() == key.key_data()) {
            return Ok(());
        }
        let algorithm = key.algorithm().to_string();
        if let Some((line, _)) = self.keys.first() {
            return Err(HostKeyError::Changed { host, algorithm, fingerprint, line: *line, file });
        }
        let line = format!("{host} {algorithm} {base64}");
        Err(HostKeyError::Unknown { host, algorithm, fingerprint, line, file })
    }
}
