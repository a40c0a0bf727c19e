//! Logging in with a key: the file that was named, or the agent, then the usual files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{self, PrivateKeyWithHashAlg, load_secret_key};

use super::{Address, Client, ConnectError};

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
    let hash =
        if key.algorithm().is_rsa() { handle.best_supported_rsa_hash().await?.flatten() } else { None };
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    match handle.authenticate_publickey(user, key).await? {
        AuthResult::Success => Ok(Tried::In),
        AuthResult::Failure { .. } => Ok(Tried::Refused),
    }
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
