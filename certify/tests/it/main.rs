//! Integration tests of `cutover-certify` that need no other package. Those that run whole histories, and our engine, are
//! in the package of cross-crate tests.

use std::io::Write as _;

mod faults;
mod help;
mod mutations;
mod replay;
mod traces;

/// Says why a test cannot run here. In CI nothing may be missing, so there it is a failure.
pub(crate) fn skip(why: &str) {
    // Not by a macro: what those print of a test that passes is not shown.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped in CI: {why}");
}
