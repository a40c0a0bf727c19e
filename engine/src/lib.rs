//! Zero-downtime deploys over plain SSH.
//!
//! A deploy is decided, then done: [`remote::observed`] parses what the host says about itself, [`plan`] is a pure
//! function from that and the source's [`manifest`] to a printable [`plan::Plan`], and [`deploy`] carries the plan
//! out without deciding anything.
//!
//! Invariants, as absences:
//! - `plan`, `shared`, `manifest`, `diff` and everything that parses the host's output never do I/O.
//! - Nothing is reported as live before the rename of `current` is durable.
//! - Nothing is written, changed or removed through a symbolic link, and nothing under `shared/` is ever removed.
//! - Cutover removes only what it made itself (see [`remote`] on the folder `unfinished`).

pub mod check;
pub mod cli;
pub mod command;
pub mod config;
pub mod deploy;
pub mod diff;
pub mod drift;
pub mod error;
pub mod history;
pub mod manifest;
pub mod path;
pub mod plan;
pub mod preflight;
pub mod progress;
pub mod release;
pub mod remote;
mod session;
pub mod shared;
pub mod source;
pub mod ssh;
mod stream;
pub mod text;
pub mod upload;
