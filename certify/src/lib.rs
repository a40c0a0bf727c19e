//! Certifies deploy tools: runs them against an embedded SSH server on a simulated disk, and decides for every
//! instant and every possible power loss whether `current` resolves to a complete release.
//!
//! - [`record`] runs the tool ([`tool`]) and yields a trace, several times under [`delays`] if it works in parallel;
//!   [`distinct`] counts how many of these traces differ. [`readers`] read meanwhile, as real processes.
//! - [`judge`] decides every promise over a trace.
//! - [`recover`] runs it again on what a power loss or a kill has left, [`failed`] on a disk that fails; [`rerun`] is how.
//! - [`trace_file`] keeps a recording in a file.
//! - [`report`] tells a person. [`app`] is the bundled application. [`memory`] keeps the program small, so that it forks
//!   cheaply.
//!
//! Never depends on a deploy tool, ours included.

pub mod app;
pub mod cli;
pub mod delays;
pub mod distinct;
pub mod failed;
mod jail;
pub mod judge;
pub mod memory;
pub mod readers;
pub mod record;
pub mod recover;
pub mod replay;
pub mod report;
pub mod rerun;
pub mod tool;
pub mod trace_file;
pub mod tree;
