//! The host's key against the known_hosts file, or against the one that the environment pins. Never a prompt, never
//! learned silently.

use std::path::{Path, PathBuf};

use russh::keys::{Algorithm, PublicKey, PublicKeyBase64 as _, known_hosts, parse_public_key_base64};

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

/// The host's public key: for jobs that have no known_hosts file.
const PIN_VARIABLE: &str = "CUTOVER_HOST_KEY";

/// A host as known_hosts names it.
fn name(host: &str, port: u16) -> String {
    if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") }
}

/// Keys of lines that name the host by a pattern, `*.example.com,!old.example.com`; sshd(8) has the format. Lines with a
/// marker (`@…`) are not keys of a host, and a line whose key is not understood knows nobody.
fn by_pattern(text: &str, host: &str) -> Vec<(usize, PublicKey)> {
    let lines = text.lines().enumerate().filter(|(_, l)| !l.starts_with(['#', '@', '|']));
    lines
        .filter_map(|(n, line)| {
            let mut words = line.split_whitespace();
            let patterns: Vec<&str> = words.next()?.split(',').collect();
            let key = words.nth(1)?;
            let excluded = patterns.iter().filter_map(|p| p.strip_prefix('!'));
            let matches = patterns
                .iter()
                .filter(|p| p.contains(['*', '?']))
                .any(|p| fits(p.as_bytes(), host.as_bytes()))
                && !excluded.into_iter().any(|p| fits(p.as_bytes(), host.as_bytes()));
            matches.then(|| parse_public_key_base64(key).ok()).flatten().map(|key| (n + 1, key))
        })
        .collect()
}

/// Whether `text` fits a pattern of `*` (any bytes) and `?` (one). Linear in their product at worst.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    // Where the last `*` stands, and what of the text it has taken so far.
    let (mut p, mut t, mut star) = (0, 0, None::<(usize, usize)>);
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b'?') => (p, t) = (p + 1, t + 1),
            Some(wanted) if wanted.eq_ignore_ascii_case(byte) => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, taken)) => {
                    (p, t) = (at + 1, taken + 1);
                    star = Some((at, taken + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|b| *b == b'*'))
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
        if let Some(text) = super::from_environment(PIN_VARIABLE) {
            return Self::pinned(&text, host, port);
        }
        let fail = |why: String| HostKeyError::File { file: file.to_owned(), why };
        let lower = host.to_ascii_lowercase();
        let text = match std::fs::read(file) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(fail(e.to_string())),
        };
        let mut keys =
            known_hosts::known_host_keys_path(&lower, port, file).map_err(|e| fail(e.to_string()))?;
        keys.extend(by_pattern(&text, &name(&lower, port)));
        let revoked = text
            .lines()
            .filter_map(|l| l.trim_start().strip_prefix("@revoked"))
            .filter_map(|l| l.split_whitespace().nth(2).map(str::to_owned))
            .collect();
        Ok(Self { file: file.to_owned(), host: name(&lower, port), keys, revoked })
    }

    /// Keys given as `<type> <base64>`, one a line; the file is not asked.
    fn pinned(text: &str, host: &str, port: u16) -> Result<Self, HostKeyError> {
        let file = PathBuf::from(PIN_VARIABLE);
        let mut keys = Vec::new();
        for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let key = line.split_whitespace().nth(1).and_then(|word| parse_public_key_base64(word).ok());
            let key = key.ok_or_else(|| HostKeyError::File {
                file: file.clone(),
                why: format!("line {} is not a public key, `<type> <base64>`", n + 1),
            })?;
            keys.push((n + 1, key));
        }
        Ok(Self { file, host: name(&host.to_ascii_lowercase(), port), keys, revoked: Vec::new() })
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

#[cfg(test)]
mod tests {
    use super::{by_pattern, fits};

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJIG3FVKgUN8Kd6gYKSX+rVQnZzdvFAcHGj5SvDl0E3i";

    #[test]
    fn patterns() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "a"),
            ("a*c", "abbc"),
            ("a*b*c", "abxbxc"),
            ("?.example.com", "a.example.com"),
            ("[*.example.com]:22??", "[web.example.com]:2222"),
            ("*.Example.com", "x.example.COM"),
            ("**a", "ba"),
        ] {
            assert!(fits(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "a"), ("?", ""), ("a*c", "abcd"), ("*.example.com", "example.com"), ("a?", "a")]
        {
            assert!(!fits(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn lines() {
        let file = format!(
            "# *.example.com {KEY}\n*.example.com,!old.example.com {KEY}\n@revoked *.example.com {KEY}\n\
             *.example.com ssh-ed25519 nonsense\nweb.example.com {KEY}\n192.0.2.?\t{KEY}\n"
        );
        let found =
            |host: &str| by_pattern(&file, host).into_iter().map(|(line, _)| line).collect::<Vec<_>>();
        assert_eq!(found("web.example.com"), [2]);
        assert_eq!(found("old.example.com"), [0_usize; 0]);
        assert_eq!(found("192.0.2.7"), [6]);
        assert_eq!(found("example.com"), [0_usize; 0]);
    }
}
