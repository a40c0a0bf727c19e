//! The one test binary of `cutover`: an index.

mod sshd;
mod tree;

mod config;
mod diff;
mod end_to_end;
mod faults;
mod frames;
mod hosts;
mod leftovers;
mod manifest;
mod plan;
mod quoting;
mod release;
mod shared;
