//! What is said to a host and what it answers: shell on the way out, framed bytes on the way back.
//!
//! Pure: nothing here does I/O. [`steps`] writes shell, [`frame`] takes its output apart, [`listing`] and [`observed`]
//! give it meaning, and never panic on what a host sends.
//!
//! Layout of `<path>/.cutover/` on the host:
//!
//! | entry | is |
//! |---|---|
//! | `lock` | flock(2) file, held by the remote shell and inherited by what it starts |
//! | `holder` | who holds the lock, or held it last: token, boot, process and its start, time, words for people |
//! | `lock.held` | the lock where there is no flock(1): the same, made by link(2) |
//! | `lock.<token>`, `stale.<token>` | a holder file on its way; the right to replace a stale `lock.held` |
//! | `seals/<id>` | the manifest of a release, ending in its own digest |
//! | `seals/<id>.live` | marker: this release has been live, durably; a seal counts only with it |
//! | `unfinished/<id>` | intent, durable before `releases/<id>` is made or loses its marker: *only* what has one is ever swept, so releases that other tools made are left alone |
//! | `staging/<id>` | what is uploaded, before it is put in |
//! | `next.<id>.<nonce>` | a temporary link, to be renamed onto `current` |
//! | `log` | one line a change of what is live, a recovery or a removal, appended (see [`crate::history`]) |

pub mod frame;
pub mod holder;
pub mod inspect;
pub mod listing;
pub mod mounts;
pub mod observed;
pub mod quote;
pub mod steps;
