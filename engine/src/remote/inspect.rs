//! Writing the shell that only looks: a release with its seal, its hashes, the log. Pure.

use crate::path::RelPath;
use crate::release::ReleaseId;
use crate::remote::quote::calls;

const INSPECT: &str = include_str!("inspect.sh");

/// The seal of a release (section `seal`) and what is there (`tree` and `links`).
pub fn release(id: &ReleaseId) -> Vec<u8> {
    phase(format!("inspect_release {id}\n").as_bytes())
}

/// What `sha256sum` says about these files of a release, in this order (section `hashes`).
pub fn hashes(id: &ReleaseId, paths: &[&RelPath]) -> Vec<u8> {
    let dotted: Vec<Vec<u8>> = paths.iter().map(|p| p.dotted()).collect();
    let mut body = format!("cd 'releases/{id}' || die gone\nbegin hashes\n").into_bytes();
    body.extend_from_slice(&calls("hash_files", dotted.iter().map(Vec::as_slice), b""));
    body.extend_from_slice(b"end\n");
    phase(&body)
}

/// The last lines of the audit log (section `log`).
pub fn log(lines: usize) -> Vec<u8> {
    phase(format!("inspect_log {lines}\n").as_bytes())
}

/// One phase: parsed whole before anything in it runs.
fn phase(body: &[u8]) -> Vec<u8> {
    let mut out = INSPECT.as_bytes().to_vec();
    out.extend_from_slice(b"(\n");
    out.extend_from_slice(body);
    out.extend_from_slice(b") </dev/null\nsay phase $?\n");
    out
}
