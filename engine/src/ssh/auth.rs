//! Logging in with a key: the one of the environment, or the file that was named, or the agent, then the usual files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{self, PrivateKeyWithHashAlg, load_secret_key};

use super::{Address, Client, ConnectError};

/// A private key, as its file holds it: for jobs that get their secrets in the environment.
const KEY_VARIABLE: &str = "CUTOVER_SSH_KEY";
/// A server ends the connection after six failures by default; the files come after the agent.
const AGENT_KEYS_MAX: usize = 4;

pub(super) async fn log_in(
    handle: &mut Handle<Client>,
    address: &Address,
    host: &str,
) -> Result<(), ConnectError> {
    let fail = |why: String, hint: &str| ConnectError::Auth {
        host: host.to_owned(),
        user: address.user.clone(),
        why,
        hint: hint.to_owned(),
    };
    if let Some(text) = super::from_environment(KEY_VARIABLE) {
        let key = match keys::decode_secret_key(&text, None) {
            Ok(key) if !key.is_encrypted() => key,
            Ok(_) | Err(keys::Error::KeyIsEncrypted) => {
                return Err(fail(
                    format!("the key in {KEY_VARIABLE} is encrypted"),
                    "nobody is asked for a passphrase: give it a key without one, for this job alone",
                ));
            }
            // What it holds is a secret, even if it is no key.
            Err(_) => {
                return Err(fail(
                    format!("what is in {KEY_VARIABLE} is not a private key"),
                    "it holds the whole file, from its BEGIN line to its END line",
                ));
            }
        };
        if with_key(handle, &address.user, key).await? {
            return Ok(());
        }
        return Err(fail(
            format!("the host does not accept the key in {KEY_VARIABLE}"),
            "add its public half to the user's ~/.ssh/authorized_keys on the host",
        ));
    }
    if let Some(file) = &address.identity {
        return match with_file(handle, &address.user, file).await? {
            Tried::In => Ok(()),
            Tried::Refused => Err(fail(
                format!("the host does not accept {}", file.display()),
                "add its public half to the user's ~/.ssh/authorized_keys on the host",
            )),
            Tried::Encrypted => Err(fail(
                format!("{} is encrypted", file.display()),
                "unlock it with `ssh-add` and remove `identity` from cutover.toml, then the agent is asked",
            )),
            Tried::Unreadable(why) => Err(fail(
                format!("cannot read {}: {why}", file.display()),
                "`identity` names a private key file",
            )),
        };
    }
    let mut tried = Vec::new();
    if std::env::var_os("SSH_AUTH_SOCK").is_some_and(|s| !s.is_empty()) {
        match with_agent(handle, &address.user).await {
            Ok(true) => return Ok(()),
            Ok(false) => tried.push("the agent's keys".to_owned()),
            Err(why) => tried.push(format!("the agent ({why})")),
        }
    }
    for file in usual_files() {
        match with_file(handle, &address.user, &file).await? {
            Tried::In => return Ok(()),
            Tried::Refused => tried.push(file.display().to_string()),
            Tried::Encrypted => tried.push(format!("{} (encrypted: use ssh-add)", file.display())),
            Tried::Unreadable(why) => tried.push(format!("{} ({why})", file.display())),
        }
    }
    let why = if tried.is_empty() {
        "there is no key to try".to_owned()
    } else {
        format!("tried {}", tried.join(", "))
    };
    Err(fail(why, "name a key with `identity` in cutover.toml, or add one to the agent with `ssh-add`"))
}

enum Tried {
    In,
    Refused,
    Encrypted,
    Unreadable(String),
}

async fn with_file(handle: &mut Handle<Client>, user: &str, file: &Path) -> Result<Tried, ConnectError> {
    let key = match load_secret_key(file, None) {
        Ok(key) if key.is_encrypted() => return Ok(Tried::Encrypted),
        Ok(key) => key,
        Err(keys::Error::KeyIsEncrypted) => return Ok(Tried::Encrypted),
        Err(e) => return Ok(Tried::Unreadable(e.to_string())),
    };
    Ok(if with_key(handle, user, key).await? { Tried::In } else { Tried::Refused })
}

/// Whether the host lets this key in.
async fn with_key(
    handle: &mut Handle<Client>,
    user: &str,
    key: keys::PrivateKey,
) -> Result<bool, ConnectError> {
    let hash =
        if key.algorithm().is_rsa() { handle.best_supported_rsa_hash().await?.flatten() } else { None };
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    Ok(matches!(handle.authenticate_publickey(user, key).await?, AuthResult::Success))
}

async fn with_agent(handle: &mut Handle<Client>, user: &str) -> Result<bool, String> {
    let mut agent = AgentClient::connect_env().await.map_err(|e| e.to_string())?;
    let identities = agent.request_identities().await.map_err(|e| e.to_string())?;
    for identity in identities.into_iter().take(AGENT_KEYS_MAX) {
        let AgentIdentity::PublicKey { key, .. } = identity else { continue };
        let hash = if key.algorithm().is_rsa() {
            handle.best_supported_rsa_hash().await.map_err(|e| e.to_string())?.flatten()
        } else {
            None
        };
        // A key the agent will not sign with (it is locked, or wants a touch) is not the end.
        if let Ok(AuthResult::Success) = handle.authenticate_publickey_with(user, key, hash, &mut agent).await
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn usual_files() -> Vec<PathBuf> {
    let Some(home) = std::env::home_dir() else { return Vec::new() };
    ["id_ed25519", "id_ecdsa", "id_rsa"]
        .iter()
        .map(|name| home.join(".ssh").join(name))
        .filter(|file| file.is_file())
        .collect()
}
