//! An embedded SSH and SFTP server for tests: real clients talk to it, and what they start runs in a sandbox.
//!
//! - [`Server`] listens on 127.0.0.1 with keys made for this run and files that make `ssh -F FILE target` work.
//! - [`Sandbox`] is where everything runs that a client starts: the machine is read-only there, except one disk that the
//!   caller provides ([`Disk`]), a fresh home directory and fresh temporary directories. It has its own process, mount, IPC
//!   and host name namespaces, and nothing of it outlives the program that made it, not even after SIGKILL.
//! - [`Observer`] is told of every sync(2) and of every syncfs(2) on the disk, and decides what the caller sees.
//!
//! What it is not: a server to expose to a network, a limit on memory, processor or network use, or a judge of anything.
//! A program in the sandbox reaches the network of the machine, abstract Unix sockets, and Unix sockets in files outside
//! `/run` and `/tmp`. It can read what the caller's user can read outside the home directories.
//!
//! Its `/proc` is read-only too, so user namespaces can be made there, but not mapped (`unshare -r`, bwrap).
//!
//! Linux only, 5.12 or newer; observation needs 5.19, and x86_64 or aarch64. As another user than root, a program calls
//! [`enter_user_namespace_if_needed`] first.

mod error;
mod namespace;
mod observe;
mod options;
mod processor;
mod sandbox;
mod server;
mod ssh;

pub use error::Error;
pub use namespace::enter_user_namespace_if_needed;
pub use observe::{Caller, Observer, SyncCall};
pub use options::{Disk, MountDisk, Options};
pub use sandbox::{Command, Process, Sandbox};
pub use server::Server;
