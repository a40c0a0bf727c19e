//! A real file system on a loop device on an image in memory.
//!
//! To be made on a thread of its own in a private mount namespace ([`simfs::fuse::enter_private_namespace`]): then all of
//! it is gone with the process, even if it is killed. Mounting replays the journal and so changes the image; whoever
//! looks at an image loads it first.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::held::Held;
use crate::image::Pages;
use crate::kind::{DEVICE_BYTES, Kind};
use crate::loop_device::LoopDevice;
use crate::served::{Served, Starter};

/// A step of the rig that failed, which says nothing about a file system.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub(crate) struct Failed {
    what: String,
    source: io::Error,
}

impl Failed {
    /// What was tried, and why it failed.
    pub(crate) fn new(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { what: what.into(), source: source.into() }
    }
}

/// How long a mount may be busy after it was read.
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// A place for images and mounts that this thread alone sees.
pub(crate) struct Room {
    at: PathBuf,
}

impl Room {
    /// A file system in memory over the folder for temporary files: what is made in it needs no cleaning up.
    pub(crate) fn new() -> Result<Self, Failed> {
        let at = std::env::temp_dir();
        mount("room", &at, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)
            .map_err(|error| Failed::new(format!("mount a tmpfs on {}", at.display()), error))?;
        Ok(Self { at })
    }

    fn dir(&self, name: &str) -> Result<PathBuf, Failed> {
        let dir = self.at.join(name);
        std::fs::create_dir(&dir).map_err(|error| Failed::new("make a directory in memory", error))?;
        Ok(dir)
    }
}

/// What the loop device stands on.
enum Backing {
    /// An image whose writes are logged.
    Logged(Served),
    /// A file.
    Held(Held),
}

/// A device, with a place to mount it.
pub(crate) struct Disk {
    kind: Kind,
    tree: PathBuf,
    mounted: bool,
    /// Before what it stands on: it is detached while the server can still answer.
    device: LoopDevice,
    backing: Backing,
}

impl Disk {
    /// A device of zeros on an image that can keep a log.
    pub(crate) fn logged(
        kind: Kind,
        sector_bytes: u32,
        room: &Room,
        starter: &Starter,
    ) -> Result<Self, Failed> {
        let (at, tree) = (room.dir("image")?, room.dir("recorded")?);
        let served =
            Served::new(&at, DEVICE_BYTES, starter).map_err(|error| Failed::new("serve an image", error))?;
        let device = attach(&served.file(), sector_bytes)?;
        Ok(Self { kind, tree, mounted: false, device, backing: Backing::Logged(served) })
    }

    /// A device of zeros on a file, to look at images.
    pub(crate) fn held(kind: Kind, sector_bytes: u32, room: &Room) -> Result<Self, Failed> {
        let tree = room.dir("rebuilt")?;
        let file = room.at.join("held");
        let held =
            Held::new(&file, DEVICE_BYTES).map_err(|error| Failed::new("make a file in memory", error))?;
        let device = attach(&file, sector_bytes)?;
        Ok(Self { kind, tree, mounted: false, device, backing: Backing::Held(held) })
    }

    /// The image, if it is one that can keep a log.
    pub(crate) fn image(&self) -> Result<&Served, Failed> {
        match &self.backing {
            Backing::Logged(served) => Ok(served),
            Backing::Held(_) => Err(Failed::new("keep a log", io::Error::other("a file keeps none"))),
        }
    }

    /// Where it is mounted.
    pub(crate) fn tree(&self) -> &Path {
        &self.tree
    }

    /// Makes the file system.
    pub(crate) fn make(&mut self) -> Result<(), Failed> {
        let (before, after) = self.kind.mkfs_args();
        let hold = self.device.hold().map_err(|error| Failed::new("hold the device", error))?;
        let path = std::env::var("PATH").unwrap_or_default();
        let made = Command::new(self.kind.mkfs())
            .args(before)
            .arg(self.device.path())
            .args(after)
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            // It outlives this process if that is killed, and must not find another file behind the device's name then.
            .stdin(hold)
            .output()
            .map_err(|error| Failed::new(self.kind.mkfs(), error))?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).trim().to_owned();
            return Err(Failed::new(self.kind.mkfs(), io::Error::other(said)));
        }
        self.device.forget_content().map_err(|error| Failed::new("flush the device", error))
    }

    /// Puts an image in place of what is there. Must not be mounted, nor one that keeps a log.
    pub(crate) fn load(&mut self, base: &Pages, changed: &Pages) -> Result<(), Failed> {
        let Backing::Held(held) = &mut self.backing else {
            return Err(Failed::new("put an image in place", io::Error::other("it keeps a log")));
        };
        let device = &self.device;
        let put = |held: &mut Held| held.load(base, changed, |offset, page| device.write(offset, page));
        // Through the device: what is written past it, to the file, need not be what a mount finds, since what is cached of the
        // device (ext4 reads its journal by that) cannot be dropped for certain.
        let mut put_and_look = || -> io::Result<usize> {
            put(held)?;
            device.sync()?;
            put(held)
        };
        match put_and_look() {
            Ok(0) => Ok(()),
            Ok(pages) => {
                let why = io::Error::other(format!("{pages} pages are not what was written"));
                Err(Failed::new("put an image in place", why))
            }
            Err(error) => Err(Failed::new("put an image in place", error)),
        }
    }

    /// Mounts it, which replays the journal.
    pub(crate) fn mount(&mut self) -> io::Result<()> {
        // The defaults of the kernel.
        mount(self.device.path(), &self.tree, self.kind.name(), MountFlags::empty(), None)?;
        self.mounted = true;
        Ok(())
    }

    /// Unmounts it.
    pub(crate) fn unmount(&mut self) -> Result<(), Failed> {
        let deadline = Instant::now() + BUSY_WAIT;
        // Between fork and exec a child of another thread holds what this thread had open.
        while let Err(error) = unmount(&self.tree, UnmountFlags::empty()) {
            if error != rustix::io::Errno::BUSY || Instant::now() > deadline {
                return Err(Failed::new("unmount", error));
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.mounted = false;
        self.forget()
    }

    /// Makes btrfs forget the device: else it takes another image of the same file system for a stale copy.
    pub(crate) fn forget(&self) -> Result<(), Failed> {
        if self.kind != Kind::Btrfs {
            return Ok(());
        }
        self.device.forget_btrfs().map_err(|error| Failed::new("make btrfs forget the device", error))
    }
}

fn attach(file: &Path, sector_bytes: u32) -> Result<LoopDevice, Failed> {
    LoopDevice::attach(file, sector_bytes).map_err(|error| Failed::new("attach a loop device", error))
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = unmount(&self.tree, UnmountFlags::DETACH);
        }
    }
}
