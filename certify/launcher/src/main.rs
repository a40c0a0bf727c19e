//! `cargo certify`: builds the engine and the certifier from this checkout, then becomes the certifier.
//!
//! A cargo alias builds one package, and the certifier runs the engine as a program: it never depends on it.
//! So the alias runs this launcher, which asks cargo for both. It knows nothing else about either.
//!
//! Invariant: arguments and exit code are the certifier's own. If it could not be started the exit code is 2,
//! which is what the certifier says for "could not run".

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const PACKAGES: [&str; 2] = ["cutover", "cutover-certify"];
const CERTIFIER: &str = "cutover-certify";
const COULD_NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    let Err(Failure { error, hint }) = build().and_then(|certifier| become_certifier(&certifier));
    eprintln!("error: {error}");
    eprintln!("hint: {hint}");
    ExitCode::from(COULD_NOT_RUN)
}

/// Why there is no certifier running.
struct Failure {
    error: String,
    hint: String,
}

/// Never comes back with anything but a failure.
enum Never {}

/// Builds both programs, and says where the certifier is.
///
/// In the dev profile, which is optimised enough in this workspace: recording waits for programs and the kernel,
/// judging takes a fraction of it, and `cargo test` builds the same.
fn build() -> Result<PathBuf, Failure> {
    let (Some(cargo), Some(here)) = (env::var_os("CARGO"), env::var_os("CARGO_MANIFEST_DIR")) else {
        return Err(Failure {
            error: "this program is started by cargo".into(),
            hint: "run `cargo certify` in the checkout".into(),
        });
    };
    let workspace = Path::new(&here).join("../../Cargo.toml");
    let mut command = Command::new(&cargo);
    command.args(["build", "--bins", "--manifest-path"]).arg(&workspace);
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    forget_this_package(&mut command);
    let status = command.status().map_err(|error| Failure {
        error: format!("cannot start {}: {error}", cargo.display()),
        hint: "check that cargo is installed and on PATH".into(),
    })?;
    if !status.success() {
        return Err(Failure {
            error: format!("building {} failed: {status}; nothing was certified", PACKAGES.join(" and ")),
            hint: "the compiler's messages are above; `cargo build` shows them again".into(),
        });
    }
    certifier_path()
}

/// Cargo put both programs beside this one, whatever the target directory and triple.
fn certifier_path() -> Result<PathBuf, Failure> {
    let own = env::current_exe().map_err(|error| Failure {
        error: format!("cannot find this program's own path: {error}"),
        hint: "is /proc mounted?".into(),
    })?;
    let certifier = own.with_file_name(CERTIFIER);
    if certifier.is_file() {
        return Ok(certifier);
    }
    Err(Failure {
        error: format!("the build succeeded, but there is no {}", certifier.display()),
        hint: "run it as `cargo certify`; another profile builds into another directory".into(),
    })
}

/// Replaces this process, so that signals and the exit code need no passing on.
fn become_certifier(certifier: &Path) -> Result<Never, Failure> {
    let mut command = Command::new(certifier);
    command.args(env::args_os().skip(1));
    forget_this_package(&mut command);
    let error = command.exec();
    Err(Failure {
        error: format!("cannot start {}: {error}", certifier.display()),
        hint: "is the target directory on a file system mounted noexec?".into(),
    })
}

/// `cargo run` describes the launcher in the environment; to what it starts, that would be a lie.
fn forget_this_package(command: &mut Command) {
    let about_us = |name: &OsString| {
        let name = name.to_string_lossy();
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    for name in env::vars_os().map(|(name, _)| name).filter(about_us) {
        command.env_remove(name);
    }
}
