//! [`DeployError`]: what failed, what state the host is in now, what to do next.

use std::fmt;

use crate::plan::Refusal;
use crate::preflight::Unfit;
use crate::release::ReleaseId;
use crate::remote::observed::{Current, ReportError};
use crate::source::SourceError;
use crate::ssh::{ConnectError, HostKeyError, shell::for_people};
use crate::text::printable;
use crate::upload::PackError;

/// What `current` is now, as far as this run knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Live {
    /// Nothing was changed, and this run never saw `current`.
    NotSeen,
    /// `current` was not touched: its text, or nothing if there is none.
    Untouched(Option<Vec<u8>>),
    /// The text of `current` when it was looked at, without the lock: another run may be switching it.
    Seen(Vec<u8>),
    /// The cutover was begun and its end is not known, or not certain to survive a power loss.
    Uncertain(String),
}

impl Live {
    /// What an observation says.
    pub fn of(current: &Current) -> Self {
        match current {
            Current::Link { text, .. } => Self::Untouched(Some(text.clone())),
            Current::Absent => Self::Untouched(None),
            Current::Other => Self::NotSeen,
        }
    }

    /// What was seen without the lock.
    pub fn seen(current: &Current) -> Self {
        match Self::of(current) {
            Self::Untouched(Some(text)) => Self::Seen(text),
            other => other,
        }
    }
}

impl Live {
    /// The same where nothing was to become live.
    pub fn state(&self) -> String {
        match self {
            Self::NotSeen => "`current` on the host was not touched".to_owned(),
            Self::Untouched(Some(text)) | Self::Seen(text) => {
                format!("current points to {}", printable(text))
            }
            Self::Untouched(None) => "there is no `current` yet".to_owned(),
            Self::Uncertain(_) => self.to_string(),
        }
    }
}

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSeen => f.write_str("not live; `current` on the host was not touched"),
            Self::Untouched(Some(text)) => write!(f, "not live; current still points to {}", printable(text)),
            Self::Untouched(None) => f.write_str("not live; there is no `current` yet"),
            Self::Seen(text) => write!(f, "not live; current points to {}", printable(text)),
            Self::Uncertain(what) => write!(f, "current is unknown: {what}"),
        }
    }
}

/// Why a deploy did not become live.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The directory to deploy.
    #[error("{0}")]
    Source(#[from] SourceError),
    /// The way to the host.
    #[error("{0}")]
    Connect(#[source] Box<ConnectError>),
    /// Another deploy holds the lock.
    #[error("another deploy is running on {host}: {holder}")]
    Busy {
        /// `host:path`.
        host: String,
        /// What it says about itself.
        holder: String,
    },
    /// The host lacks something that deploys need.
    #[error("{host} has no usable `{tool}`")]
    MissingTool {
        /// The host.
        host: String,
        /// The tool.
        tool: String,
    },
    /// The account does not run commands.
    #[error("{host}: this account does not run commands: {why}")]
    NoShell {
        /// `host:path`.
        host: String,
        /// In words.
        why: String,
    },
    /// Releases that were to go are still there in part.
    #[error("{host}: {releases} cannot be removed whole: the user may not remove what is in there")]
    NotRemoved {
        /// `host:path`.
        host: String,
        /// Which, printable.
        releases: String,
    },
    /// Nothing may be begun on the host.
    #[error("{host}: {unfit}{}", said(stderr))]
    Unfit {
        /// `host:path`.
        host: String,
        /// What it cannot do.
        unfit: Unfit,
        /// What the host's tools said, printable.
        stderr: String,
    },
    /// Nothing may be done on a host in this state.
    #[error("{host}: {refusal}")]
    Refused {
        /// `host:path`.
        host: String,
        /// Why.
        refusal: Refusal,
    },
    /// A step failed on the host.
    #[error("{step} failed on {host}{}", said(stderr))]
    Step {
        /// In words.
        step: String,
        /// `host:path`.
        host: String,
        /// What the host's tools said, printable.
        stderr: String,
    },
    /// What is on the host is not what was sent.
    #[error("verification failed on {host}: {paths}")]
    Verification {
        /// `host:path`.
        host: String,
        /// The first paths that differ.
        paths: String,
    },
    /// What the host says is not what our script prints.
    #[error("{host}: {report}")]
    Report {
        /// `host:path`.
        host: String,
        /// Which part.
        report: ReportError,
    },
    /// Packing the upload.
    #[error("{0}")]
    Pack(#[from] PackError),
    /// The connection, or the shell on the host, ended.
    #[error("{host}: {why} (while: {step}){}", said(stderr))]
    Lost {
        /// `host:path`.
        host: String,
        /// In words.
        step: String,
        /// In words.
        why: String,
        /// What the host's tools said, printable.
        stderr: String,
    },
    /// A signal.
    #[error("interrupted")]
    Interrupted,
    /// Something on this machine that is no part of the deploy.
    #[error("{0}")]
    Local(#[from] std::io::Error),
}

impl From<ConnectError> for Cause {
    fn from(error: ConnectError) -> Self {
        Self::Connect(Box::new(error))
    }
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

/// What a failed run was asked for, and so how to ask again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// Something that can be asked again as it was.
    #[default]
    Same,
    /// A deploy.
    Deploy,
    /// A rollback to this release. As it was asked for, it could go one further back now.
    Rollback {
        /// The target's name.
        target: String,
        /// The release.
        id: ReleaseId,
    },
}

impl Asked {
    fn again(&self) -> String {
        match self {
            Self::Same => "run it again".to_owned(),
            Self::Deploy => "run the deploy again: it takes away what this one left".to_owned(),
            Self::Rollback { target, id } => {
                format!("run `cutover rollback {} {id}` again", for_people(&printable(target.as_bytes())))
            }
        }
    }
}

/// A failed deploy, or another failed command.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct DeployError {
    cause: Box<Cause>,
    live: Live,
    asked: Asked,
}

impl From<Cause> for DeployError {
    fn from(cause: Cause) -> Self {
        Self::new(cause, Live::NotSeen)
    }
}

impl DeployError {
    /// An error, and what is live now.
    pub fn new(cause: impl Into<Cause>, live: Live) -> Self {
        Self { cause: Box::new(cause.into()), live, asked: Asked::default() }
    }

    /// The same error, of a run that was asked for this.
    #[must_use]
    pub fn of(self, asked: Asked) -> Self {
        Self { asked, ..self }
    }

    /// The same error, and what is live was found out since.
    #[must_use]
    pub fn with_live(self, live: Live) -> Self {
        Self { live, ..self }
    }

    /// What failed.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// What is live now.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        Some(match &*self.cause {
            Cause::Connect(error) => connect_hint(error),
            Cause::Busy { .. } => "wait for it to end (--wait 10m does, of a command that takes the lock); its lock ends with its last process, and `cutover unlock --kill` ends them".to_owned(),
            Cause::MissingTool { .. } => {
                "install GNU coreutils, findutils and tar, or a full busybox, on the host".to_owned()
            }
            Cause::NoShell { .. } => {
                "a deploy needs a shell: give the account one (chsh), and keep its start-up files \
                (~/.bashrc and the like) from ending or replacing it where there is no terminal"
                    .to_owned()
            }
            Cause::NotRemoved { .. } => {
                "give them to the deploy user on the host (chown -R); the next run removes them".to_owned()
            }
            Cause::Unfit { unfit, .. } => unfit.hint().to_owned(),
            Cause::Refused { refusal: Refusal::CurrentNotLink, .. } => {
                "move it away; `current` has to be free or a symbolic link".to_owned()
            }
            Cause::Refused { refusal: Refusal::Unreadable(_), .. } => {
                "let the deploy user read it, or keep such files in shared/; `unreadable = \"skip\"` in cutover.toml \
                 leaves out what is not the application's"
                    .to_owned()
            }
            Cause::Refused { refusal: Refusal::Room { .. }, .. } => "free room on the host".to_owned(),
            Cause::Refused {
                refusal: Refusal::NoSuchRelease(_) | Refusal::NothingOlder(_) | Refusal::NotComplete { .. },
                ..
            } => "`cutover releases` says what is there, and which of it is complete".to_owned(),
            Cause::Refused { refusal: Refusal::Damaged { .. }, .. } => {
                "deploy that version again, or choose another release; `cutover verify` lists all differences"
                    .to_owned()
            }
            Cause::Refused { refusal: Refusal::NothingLive, .. } => {
                "deploy, or roll back to a complete release, first".to_owned()
            }
            Cause::Refused { refusal: Refusal::NoNewerId(id), .. } => {
                format!("rename what is called {id} in releases/ and in .cutover/ on the host")
            }
            Cause::Refused { refusal: Refusal::Steps(_), .. } => {
                "nothing was done: this is a defect of Cutover; please report it, with what `cutover plan` says"
                    .to_owned()
            }
            Cause::Source(error) | Cause::Pack(PackError::Source(error)) => source_hint(error).to_owned(),
            Cause::Report { .. } => {
                "`cutover check` says what tools the host has; if it finds nothing, run this again".to_owned()
            }
            Cause::Pack(PackError::Sink(_))
            | Cause::Step { .. }
            | Cause::Verification { .. }
            | Cause::Lost { .. }
            | Cause::Interrupted => self.asked.again(),
            // The system's own words are all there is to say.
            Cause::Local(_) => return None,
        })
    }
}

fn source_hint(error: &SourceError) -> &'static str {
    match error {
        SourceError::Read { error, .. } if error.kind() == std::io::ErrorKind::NotFound => {
            "build the application first, or name the folder with `source` in cutover.toml"
        }
        SourceError::Read { .. } => "make it readable, or keep it out of the source",
        SourceError::NotDirectory(_) => {
            "name the folder that holds the application with `source` in cutover.toml"
        }
        SourceError::Special { .. } => "keep it out of the source",
        SourceError::Changed { .. } => "deploy when nothing writes into the source any more",
    }
}

fn connect_hint(error: &ConnectError) -> String {
    match error {
        ConnectError::HostKey(HostKeyError::Unknown { line, file, .. }) => format!(
            "compare the fingerprint with the host's own (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub there); \
             if it is the same: echo {} >> {}",
            for_people(line),
            for_people(&file.to_string_lossy())
        ),
        ConnectError::HostKey(HostKeyError::Changed { .. } | HostKeyError::Revoked { .. }) => {
            "somebody may be listening in; ask the host's operator before anything else".to_owned()
        }
        ConnectError::HostKey(HostKeyError::File { .. }) => {
            "repair the file, or name another with `known_hosts` in cutover.toml".to_owned()
        }
        ConnectError::Auth { hint, .. } => hint.clone(),
        ConnectError::Unreachable { .. } | ConnectError::Broken(_) => {
            "check `host` and `port` in cutover.toml, and that `ssh` reaches it".to_owned()
        }
    }
}

/// A failure's code, as the host's script names it, in words.
pub(crate) fn step_in_words(code: &str) -> String {
    let words = match code {
        "look" => "looking at what is on the host",
        "lock" => "taking the lock",
        "exists" => "making the new release, whose name is taken,",
        "path" => "using the deploy path",
        "sync-current" => "making the directory of `current` durable",
        "recover" | "sweep" => "sweeping what an earlier deploy left",
        "intend" | "sync-intend" => "noting the new release",
        "copy" => "copying the live release",
        "upload" => "unpacking the upload",
        "put-in" | "drifted" => "putting the upload in",
        "seal" => "writing the seal",
        "link" => "making the temporary link",
        "barrier" => "making the release durable",
        "current-other" | "rename" => "the cutover",
        "sync-rename" => "making the cutover durable",
        "not-current" => "the check of `current` after the cutover",
        "mark" => "marking the release as live",
        "forget" => "removing the notes about unfinished releases",
        "gone" => "looking at the release, which is not there any more,",
        "prune" => "removing old releases",
        "log" => "writing the log",
        "unstage" => "removing the staging folder",
        other => return format!("step `{}`", printable(other.as_bytes())),
    };
    words.to_owned()
}
