//! All integration tests of `simfs`, one binary.
//!
//! - [`operations`]: single operations of `Fs`, their effects and their refusals.
//! - [`restoring`]: reboots into states that only a crash can leave.
//! - [`sharing`]: equal content is stored once.
//! - [`against_kernel`]: random operations on `Fs` and on a real directory agree, and the trace agrees with the result.
//! - [`schedules`]: fault schedules as values, and which calls their rules meet.
//! - [`mounted`]: the rig: a disk mounted in a private namespace. The modules below use it.
//! - [`caches`]: what the kernel remembers of a mount is what is there.
//! - [`system_calls`], [`programs`], [`syncs`], [`crashes`]: what a mount answers, records and survives. [`faults`]: each
//!   fault as a real program meets it.

use std::io::Write as _;

mod against_kernel;
mod caches;
mod crashes;
mod faults;
mod mounted;
mod operations;
mod programs;
mod replay;
mod restoring;
mod schedules;
mod sharing;
mod syncs;
mod system_calls;

/// Says why a test cannot run here. In CI nothing may be missing, so there it is a failure.
pub(crate) fn skip(why: &str) {
    // Not by a macro: what those print of a test that passes is not shown.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped in CI: {why}");
}
