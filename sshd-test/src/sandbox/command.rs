//! What is run in a sandbox, and what it finds there.

use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{self, Stdio},
};

use super::sys;

pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command to run in a [`Sandbox`](crate::Sandbox): a shell line, or a program with arguments.
#[derive(Debug, Clone)]
pub struct Command {
    kind: Kind,
    env: Vec<(OsString, OsString)>,
}

#[derive(Debug, Clone)]
enum Kind {
    Line(OsString),
    Login,
    Argv(Vec<OsString>),
}

impl Command {
    /// `SHELL -c LINE`.
    pub fn shell(line: impl Into<OsString>) -> Self {
        Self { kind: Kind::Line(line.into()), env: Vec::new() }
    }

    /// The login shell itself, which reads commands from its standard input.
    pub fn login() -> Self {
        Self { kind: Kind::Login, env: Vec::new() }
    }

    /// A program of the machine with its arguments, the program first.
    pub fn new<S: Into<OsString>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self { kind: Kind::Argv(argv.into_iter().map(Into::into).collect()), env: Vec::new() }
    }

    /// Adds to its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The command as it is started, with the login shell, the home directory and further variables of the sandbox.
    pub(super) fn prepare(
        &self,
        shell: &Path,
        home: &Path,
        env: &[(String, String)],
    ) -> io::Result<process::Command> {
        let mut prepared = match &self.kind {
            Kind::Line(line) => {
                let mut prepared = process::Command::new(shell);
                prepared.arg("-c").arg(line);
                prepared
            }
            Kind::Login => {
                let mut name = OsString::from("-");
                name.push(shell.file_name().unwrap_or_default());
                let mut prepared = process::Command::new(shell);
                prepared.arg0(name);
                prepared
            }
            Kind::Argv(argv) => {
                let mut prepared = process::Command::new(argv.first().ok_or(io::ErrorKind::InvalidInput)?);
                prepared.args(argv.iter().skip(1));
                prepared
            }
        };
        let defaults = [
            ("PATH", PATH.as_ref()),
            ("HOME", home.as_os_str()),
            ("USER", "root".as_ref()),
            ("LOGNAME", "root".as_ref()),
            ("SHELL", shell.as_os_str()),
        ];
        prepared
            .env_clear()
            .envs(defaults)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        sys::confine(&mut prepared);
        Ok(prepared)
    }
}
