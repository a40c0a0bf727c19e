//! Real clients against the server, and attempts to break out of its sandbox.
//!
//! - [`support`]: a server with a directory as its disk, an observer that remembers, clients as child processes
//! - [`confinement`]: what a program in the sandbox cannot do
//! - [`commands`]: commands over SSH: streams, status, signals, authentication
//! - [`channels`]: several sessions on one connection, and clients that do not read
//! - [`transfers`]: sftp, scp and rsync
//! - [`protocol`]: SFTP spoken by hand: what no client sends, and names that are not text
//! - [`syncs`]: what the observer is told
//! - [`lifetime`]: what ends when, and that nothing is left
//!
//! Tests need root and the usual programs; without, they say `skipped: why` and pass.

use std::io::Write as _;

mod channels;
mod commands;
mod confinement;
mod lifetime;
mod protocol;
mod support;
mod syncs;
mod transfers;

/// Says why a test cannot run here. In CI nothing may be missing, so there it is a failure.
pub(crate) fn skip(why: &str) {
    // Not by a macro: what those print of a test that passes is not shown.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped in CI: {why}");
}
