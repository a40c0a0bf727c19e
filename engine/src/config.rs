//! `cutover.toml`: a versioned schema, checked whole before anything connects.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::plan::{KEEP, KEEP_MIN};
use crate::ssh::Address;

/// The only version there is.
const VERSION: i64 = 1;
/// Six beats of the client: an hour's suspend is found out, a moment without network is not.
const SILENCE: Duration = Duration::from_mins(3);
const TOP_KEYS: &[&str] = &["version", "defaults", "targets"];
const TARGET_KEYS: &[&str] = &[
    "host",
    "port",
    "user",
    "path",
    "source",
    "identity",
    "known_hosts",
    "keep",
    "durability",
    "unreadable",
];

/// Where a release goes, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name in the file.
    pub name: String,
    /// How to reach the host.
    pub address: Address,
    /// The deploy path on the host: absolute, without `.` and `..`.
    pub path: String,
    /// The directory to deploy.
    pub source: PathBuf,
    /// How many releases remain after a deploy.
    pub keep: usize,
    /// After so long without a word from this client the host ends its run and gives the lock back. No key sets it.
    pub silence: Duration,
    /// What to do where nothing can be made durable.
    pub durability: Durability,
    /// What to do about files of the live release that the deploy user cannot read.
    pub unreadable: Unreadable,
}

/// The key `durability`: what to do on a host where nothing can be made durable, because sync(1) is missing or fails.
///
/// It is about the host, found out before a deploy begins. Where a host can sync, both are the same: a barrier that
/// fails in the middle of a deploy ends it as not live, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Refuse, before `releases/` is touched. The default.
    #[default]
    Require,
    /// Deploy all the same, without a durable moment, and say at the end that nothing is guaranteed after a power loss.
    BestEffort,
}

/// The key `unreadable`: what to do about files of the live release that the deploy user cannot read, such as a cache
/// that a web server wrote there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unreadable {
    /// Refuse, naming them. The default: a copy without them is not the live release.
    #[default]
    Refuse,
    /// Leave those out that no manifest lists, and say so; upload again those that are the application's.
    Skip,
}

/// What is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {what}", file.display(), line.map_or(String::new(), |l| format!(":{l}")))]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, where one is to blame.
    pub line: Option<usize>,
    /// In words.
    pub what: String,
    /// What to do.
    pub hint: Option<String>,
}

#[derive(Deserialize)]
struct RawTarget {
    host: String,
    #[serde(default = "ssh_port")]
    port: u16,
    user: String,
    path: String,
    source: String,
    identity: Option<String>,
    known_hosts: Option<String>,
    #[serde(default)]
    durability: Durability,
    #[serde(default)]
    unreadable: Unreadable,
    keep: Option<usize>,
}

fn ssh_port() -> u16 {
    22
}

/// Reads the target called `name`, or the only one.
///
/// # Errors
/// If the file cannot be read, is not of this schema, or the choice is not clear.
pub fn load(file: &Path, name: Option<&str>) -> Result<Target, ConfigError> {
    let text = std::fs::read_to_string(file).map_err(|e| ConfigError {
        file: file.to_owned(),
        line: None,
        what: format!("cannot be read: {e}"),
        hint: Some("name the configuration with --config, or run this where cutover.toml is".to_owned()),
    })?;
    parse(&text, file, name)
}

/// Reads the target called `name`, or the only one, from the file's text.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, file: &Path, name: Option<&str>) -> Result<Target, ConfigError> {
    let at = Blame { file, text };
    let table = DeTable::parse(text).map_err(|e| at.toml(&e))?;
    let top = table.get_ref();
    at.known_keys(top, TOP_KEYS, "")?;
    match find(top, "version").map(Spanned::get_ref) {
        Some(DeValue::Integer(v)) if v.as_str() == VERSION.to_string() => {}
        Some(_) => {
            let span = find(top, "version").map(Spanned::span);
            return Err(at.fail(span, "`version` is not 1, the only one known here", None));
        }
        None => return Err(at.fail(None, "`version` is missing", Some("start the file with `version = 1`"))),
    }
    let defaults = match find(top, "defaults").map(|d| (d.span(), d.get_ref())) {
        None => None,
        Some((_, DeValue::Table(defaults))) => {
            at.known_keys(defaults, TARGET_KEYS, "`defaults`")?;
            Some(defaults)
        }
        Some((span, _)) => {
            return Err(at.fail(
                Some(span),
                "`defaults` is not a table",
                Some("it looks like: [defaults] user = \"…\""),
            ));
        }
    };
    let targets = match find(top, "targets") {
        Some(value) => match value.get_ref() {
            DeValue::Table(targets) if !targets.is_empty() => targets,
            _ => {
                return Err(at.fail(
                    Some(value.span()),
                    "`targets` is not a table of targets",
                    Some(EXAMPLE),
                ));
            }
        },
        None => return Err(at.fail(None, "there is no target", Some(EXAMPLE))),
    };
    // Every target is checked, not only the one that is asked for.
    let mut all = Vec::new();
    for (key, value) in targets {
        let key_name = key.get_ref().to_string();
        let DeValue::Table(entries) = value.get_ref() else {
            return Err(at.fail(
                Some(key.span()),
                &format!("target `{key_name}` is not a table"),
                Some(EXAMPLE),
            ));
        };
        at.known_keys(entries, TARGET_KEYS, &format!("target `{key_name}`"))?;
        let mut entries = entries.clone();
        for (key, value) in defaults.into_iter().flatten() {
            // What a target says itself stands.
            entries.entry(key.clone()).or_insert_with(|| value.clone());
        }
        let inherited = Spanned::new(value.span(), DeValue::Table(entries.clone()));
        let raw = RawTarget::deserialize(toml::de::ValueDeserializer::from(inherited)).map_err(|e| {
            let mut error = at.toml(&e);
            error.line = error.line.or_else(|| Some(at.line(key.span().start)));
            error.what = format!("target `{}`: {}", crate::text::printable(key_name.as_bytes()), error.what);
            error
        })?;
        all.push(at.target(&key_name, raw, &entries)?);
    }
    let names: Vec<String> = all.iter().map(|t| t.name.clone()).collect();
    match name {
        Some(wanted) => all.into_iter().find(|t| t.name == wanted).ok_or_else(|| {
            let hint = suggest(wanted, names.iter().map(String::as_str))
                .map_or_else(|| format!("it has: {}", names.join(", ")), |n| format!("did you mean `{n}`?"));
            at.fail(None, &format!("there is no target `{wanted}`"), Some(&hint))
        }),
        None if all.len() == 1 => all.pop().ok_or_else(|| at.fail(None, "there is no target", Some(EXAMPLE))),
        None => {
            let hint = format!("name one of: {}", names.join(", "));
            Err(at.fail(None, "there are several targets", Some(&hint)))
        }
    }
}

const EXAMPLE: &str = "a target looks like: [targets.production] host = \"…\" user = \"…\" path = \"/srv/app\" source = \"dist\"";

fn find<'a, 'i>(table: &'a DeTable<'i>, key: &str) -> Option<&'a Spanned<DeValue<'i>>> {
    table.iter().find(|(k, _)| k.get_ref() == key).map(|(_, v)| v)
}

/// The nearest of `known`, if any is near.
fn suggest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|k| (strsim::jaro_winkler(word, k), k))
        .filter(|(score, _)| *score > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

/// Makes errors that point into the file.
struct Blame<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Blame<'_> {
    fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|b| *b == b'\n').count()
    }

    fn fail(&self, span: Option<std::ops::Range<usize>>, what: &str, hint: Option<&str>) -> ConfigError {
        // Names of targets and what the parser quotes may hold anything.
        let plain = |text: &str| crate::text::printable(text.replace('\n', " ").trim_end().as_bytes());
        ConfigError {
            file: self.file.to_owned(),
            line: span.map(|s| self.line(s.start)),
            what: plain(what),
            hint: hint.map(plain),
        }
    }

    fn toml(&self, error: &toml::de::Error) -> ConfigError {
        self.fail(error.span(), error.message(), None)
    }

    fn known_keys(&self, table: &DeTable<'_>, known: &[&str], place: &str) -> Result<(), ConfigError> {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let mut what = format!("unknown key `{}`", crate::text::printable(name.as_bytes()));
            if !place.is_empty() {
                let _ = write!(what, " in {place}");
            }
            let hint = match suggest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", known.join(", ")),
            };
            return Err(self.fail(Some(key.span()), &what, Some(&hint)));
        }
        Ok(())
    }

    fn target(&self, name: &str, raw: RawTarget, entries: &DeTable<'_>) -> Result<Target, ConfigError> {
        let fail = |key: &str, what: &str| {
            let span = find(entries, key).map(Spanned::span);
            self.fail(span, &format!("target `{name}`: `{key}` {what}"), None)
        };
        let plain = |s: &str| {
            !s.is_empty() && !s.starts_with('-') && !s.chars().any(|c| c.is_control() || c.is_whitespace())
        };
        let host_chars = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        if !plain(&raw.host) || !raw.host.chars().all(host_chars) {
            return Err(fail("host", "is not a host name or an IP address"));
        }
        if !plain(&raw.user) || raw.user.contains('@') {
            return Err(fail("user", "is not a user name"));
        }
        if raw.port == 0 {
            return Err(fail("port", "is not a port"));
        }
        let path = deploy_path(&raw.path).map_err(|what| fail("path", what))?;
        if raw.source.is_empty() {
            return Err(fail("source", "is empty"));
        }
        let keep = raw.keep.unwrap_or(KEEP);
        if keep < KEEP_MIN {
            return Err(fail("keep", "is less than 2: what is live and what was live before always stay"));
        }
        let folder = self.file.parent().unwrap_or(Path::new(""));
        let local = |text: &str| local_path(folder, text);
        let known_hosts = raw.known_hosts.unwrap_or_else(|| "~/.ssh/known_hosts".to_owned());
        Ok(Target {
            name: name.to_owned(),
            silence: SILENCE,
            address: Address {
                host: raw.host,
                port: raw.port,
                user: raw.user,
                identity: raw.identity.as_deref().map(local),
                known_hosts: local(&known_hosts),
            },
            path,
            source: folder.join(&raw.source),
            durability: raw.durability,
            unreadable: raw.unreadable,
            keep,
        })
    }
}

/// The deploy path in its one spelling.
fn deploy_path(text: &str) -> Result<String, &'static str> {
    if !text.starts_with('/') {
        return Err("is not absolute");
    }
    if text.chars().any(char::is_control) {
        return Err("has control characters");
    }
    let parts: Vec<&str> = text.split('/').filter(|p| !p.is_empty()).collect();
    if parts.iter().any(|p| matches!(*p, "." | "..")) {
        return Err("has `.` or `..` in it");
    }
    if parts.is_empty() {
        return Err("is the root of the file system");
    }
    Ok(format!("/{}", parts.join("/")))
}

/// `~/x` in the home directory, anything else relative to the configuration's folder.
fn local_path(folder: &Path, text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => folder.join(text),
    }
}
