//! A simulated file system: every operation recorded, every power loss conceivable.
//!
//! - [`cell`], [`trace`]: what can be durable, and what was done, in order. [`store`]: equal content stored once.
//! - [`mod@fs`]: the live state, whose operations make the trace. [`disk`]: the same, shared. [`fuse`]: the same, mounted.
//! - [`fault`]: what fails on purpose, and when.
//! - [`model`]: persistence models as data. [`crash`]: crash states and the question "can these cells have these
//!   versions?". [`view`]: the disk in any live or crash state.
//!
//! This crate serves and records. It never judges: it knows nothing about deploys, releases or promises.

pub mod cell;
pub mod crash;
pub mod disk;
pub mod fault;
pub mod fs;
pub mod fuse;
pub mod model;
pub mod store;
pub mod trace;
pub mod view;

pub use cell::{BLOCK_BYTES, Birth, Cell, Ino, Kind, Name, ROOT, Value};
pub use crash::{CrashState, Crashes, Pin, Window};
pub use disk::Disk;
pub use fs::{Caller, Errno, Fs, FsResult, Full, Limits};
pub use model::{FILE_SYSTEMS, MODELS, Model, POSIX, SyncIndex};
pub use store::{BlockStore, ContentBytes};
pub use trace::{CellId, EffectId, Mark, MarkKind, Op, OpKind, Seq, SyncScope, Trace};
pub use view::View;
