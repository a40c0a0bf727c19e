//! What programs in the sandbox see of the file systems: the machine read-only, the disk, and fresh places for everything
//! that is private or that programs expect to write.
//!
//! Order matters: the disk and the device nodes are cloned before the places they come from are hidden, and everything is
//! made read-only before the fresh places are mounted over it. Source: mount_setattr(2), open_tree(2), mount_namespaces(7).

use std::{
    ffi::{CStr, CString},
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt,
            fs::{PermissionsExt, symlink},
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxAttributes, StatxFlags},
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
        move_mount, open_tree, unmount,
    },
    thread::UnshareFlags,
};

use super::sys;
use crate::{Disk, Error, MountDisk};

/// The device nodes that programs need, and that cannot harm the machine.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const OLD_KERNEL: &str = "this needs Linux 5.12 or newer, and the right to mount: run as root, or call \
                          `enter_user_namespace_if_needed` first";

/// Where the parts of the view are.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) mount_at: PathBuf,
    /// The home directory of the sandbox: fresh, and at the place of the machine's own for uid 0.
    pub(super) home: PathBuf,
    /// Further directories that are hidden behind empty ones, because people keep secrets there.
    hidden: Vec<PathBuf>,
}

impl Layout {
    /// Checks where the disk goes, and finds what to hide. Reads only.
    pub(super) fn new(mount_at: &Path) -> Result<Self, Error> {
        let refuse = |why: &str| Error::MountPoint { path: mount_at.to_owned(), why: why.to_owned() };
        let real = fs::canonicalize(mount_at).map_err(|error| refuse(&error.to_string()))?;
        if real != mount_at {
            return Err(refuse("it is not absolute, or a part of it is a symlink"));
        }
        if !real.is_dir() {
            return Err(refuse("it is not a directory"));
        }
        let home = home_of_root();
        let homes = [Some("/home".into()), std::env::var_os("HOME").map(PathBuf::from)];
        let hidden: Vec<PathBuf> = homes
            .into_iter()
            .flatten()
            .filter_map(|path| fs::canonicalize(path).ok())
            .filter(|path| path.is_dir() && path.parent().is_some() && !home.starts_with(path))
            .collect();
        let layout = Self { mount_at: real, home, hidden };
        let taken = layout.fresh().into_iter().map(|(path, _)| path);
        let system = ["/dev", "/proc", "/sys"].map(PathBuf::from);
        for path in taken.chain(system) {
            if layout.mount_at.starts_with(&path) {
                return Err(refuse(&format!("{} is hidden in the sandbox", path.display())));
            }
            if path.starts_with(&layout.mount_at) {
                return Err(refuse(&format!("it would hide {}", path.display())));
            }
        }
        Ok(layout)
    }

    /// The directories that get an empty file system, with its mode. Places that this machine lacks are left out.
    fn fresh(&self) -> Vec<(PathBuf, u32)> {
        let mut fresh: Vec<(PathBuf, u32)> = self.hidden.iter().map(|path| (path.clone(), 0o755)).collect();
        let home = [(self.home.as_path(), 0o700)];
        let writable = [("/tmp", 0o1777), ("/var/tmp", 0o1777), ("/run", 0o755), ("/var/run", 0o755)];
        let writable = writable.map(|(path, mode)| (Path::new(path), mode));
        // The home directory last: it may be one of the others.
        for (path, mode) in writable.into_iter().chain(home) {
            // Often a symlink to one of the others; then that one counts.
            if let Ok(real) = fs::canonicalize(path)
                && real.is_dir()
                && !fresh.iter().any(|(other, _)| *other == real)
            {
                fresh.push((real, mode));
            }
        }
        // Outer ones first, so that no mount hides another.
        fresh.sort();
        fresh.dedup_by(|inner, outer| inner.0.starts_with(&outer.0));
        fresh
    }
}

/// The home directory of uid 0, from the machine's own list; `/tmp` if it has none that can be mounted over.
fn home_of_root() -> PathBuf {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&"0"))
        .and_then(|fields| fs::canonicalize(fields.get(5)?).ok())
        .filter(|home| home.is_dir() && home.parent().is_some())
        .unwrap_or_else(|| "/tmp".into())
}

/// Where the programs with these names are, in the directories of `path`. Reads only.
pub(super) fn programs(path: &str, names: &[String]) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for name in names {
        let refuse = |why: String| Error::Program { name: name.clone(), why };
        if name.is_empty() || name.contains('/') {
            return Err(refuse("it is not the name of a program".to_owned()));
        }
        for dir in path.split(':').filter(|dir| !dir.is_empty()) {
            let Ok(real) = fs::canonicalize(Path::new(dir).join(name)) else { continue };
            if real.file_name().is_none_or(|file| file != name.as_str()) {
                return Err(refuse(format!(
                    "{dir}/{name} is {}, and other programs may be too",
                    real.display()
                )));
            }
            found.push(real);
        }
    }
    // /bin and /usr/bin are often the same.
    found.sort();
    found.dedup();
    Ok(found)
}

/// Moves the calling thread into new namespaces, and builds the view there. `/proc` is left to the init process.
pub(super) fn build(layout: &Layout, disk: Disk, without: &[PathBuf]) -> Result<(), Error> {
    let flags = UnshareFlags::FS | UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    step("new namespaces", sys::unshare(flags))?;
    // A working directory below a place that gets hidden would still lead there.
    step("chdir /", rustix::process::chdir("/").map_err(Into::into))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    step("private mounts", mount_change("/", private).map_err(Into::into))?;

    let devices = step("device nodes", clone_devices())?;
    let resolver = resolver_in_run();
    let disk = take_disk(layout, disk)?;
    let everything = sys::mount_setattr(c"/", true, sys::RDONLY | sys::NODEV, 0);
    step("read-only machine", everything)?;
    for program in without {
        // Cloned again for each: a mount is in one place.
        let hide = clone_mount(Path::new("/dev/null")).and_then(|nothing| attach(&nothing, program));
        step(&format!("hiding {}", program.display()), hide)?;
    }
    step("disk", attach(&disk, &layout.mount_at))?;
    harden_disk(&layout.mount_at);
    for (path, mode) in layout.fresh() {
        step(&format!("empty {}", path.display()), mount_empty(&path, mode))?;
    }
    step("/dev", build_dev(devices))?;
    step("/run", build_run(resolver))
}

fn step<T>(step: &str, result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|source| Error::Sandbox { step: step.to_owned(), hint: OLD_KERNEL, source })
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn clone_mount(path: &Path) -> io::Result<OwnedFd> {
    Ok(open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?)
}

fn attach(mount: &OwnedFd, at: &Path) -> io::Result<()> {
    Ok(move_mount(mount, c"", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

fn clone_devices() -> io::Result<Vec<(&'static str, OwnedFd)>> {
    let present = DEVICES.into_iter().filter(|name| Path::new("/dev").join(name).exists());
    present.map(|name| Ok((name, clone_mount(&Path::new("/dev").join(name))?))).collect()
}

/// The disk as a mount that is nowhere yet. It must not be in place while everything becomes read-only: a file that is open
/// for writing on it, as its server's own may be, would be in the way.
fn take_disk(layout: &Layout, disk: Disk) -> Result<OwnedFd, Error> {
    let at = &layout.mount_at;
    let taken = match disk {
        Disk::Dir(path) => clone_mount(&path),
        Disk::Mount(mount) => take_mounted(at, mount),
    };
    taken.map_err(|source| Error::Disk { path: at.clone(), source })
}

fn take_mounted(at: &Path, mount: MountDisk) -> io::Result<OwnedFd> {
    let before = mount_id(at)?;
    mount(at)?;
    if mount_id(at)? == before {
        return Err(io::Error::other("the closure returned without mounting anything there"));
    }
    let taken = clone_mount(at)?;
    unmount(at, UnmountFlags::DETACH)?;
    Ok(taken)
}

fn mount_id(path: &Path) -> io::Result<u64> {
    Ok(rustix::fs::statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::MNT_ID)?.stx_mnt_id)
}

fn mount_empty(path: &Path, mode: u32) -> io::Result<()> {
    let mode = CString::new(format!("mode={mode:o}"))?;
    mount_tmpfs(path, &mode)
}

fn mount_tmpfs(path: &Path, options: &CStr) -> io::Result<()> {
    Ok(mount("tmpfs", path, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, options)?)
}

/// A `/dev` that is read-only and has the harmless nodes only.
fn build_dev(devices: Vec<(&str, OwnedFd)>) -> io::Result<()> {
    let dev = Path::new("/dev");
    mount_empty(dev, 0o755)?;
    for (name, mount) in devices {
        let node = dev.join(name);
        // Not opened for that: another thread that forks meanwhile would keep it open for writing, and `/dev` busy.
        rustix::fs::mknodat(CWD, &node, FileType::RegularFile, Mode::RUSR, 0)?;
        attach(&mount, &node)?;
        // Read-only: its owner and mode are the machine's. What is written to it still arrives.
        sys::mount_setattr(&c_path(&node)?, false, sys::RDONLY | sys::NOSUID | sys::NOEXEC, 0)?;
    }
    for (name, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        symlink(format!("/proc/self/fd{target}"), dev.join(name))?;
    }
    fs::create_dir(dev.join("shm"))?;
    mount_empty(&dev.join("shm"), 0o1777)?;
    // Programs that make terminals find their own; without it they say so themselves.
    fs::create_dir(dev.join("pts"))?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    if mount("devpts", "/dev/pts", "devpts", flags, c"newinstance,ptmxmode=0666,mode=620").is_ok() {
        symlink("pts/ptmx", dev.join("ptmx"))?;
    }
    sys::mount_setattr(c"/dev", false, sys::RDONLY, 0)
}

/// The name servers of the machine, if the file that names them is one that gets hidden.
fn resolver_in_run() -> Option<(PathBuf, Vec<u8>)> {
    let real = fs::canonicalize("/etc/resolv.conf").ok()?;
    let run = fs::canonicalize("/run").ok()?;
    if real.starts_with(run) { Some((real.clone(), fs::read(real).ok()?)) } else { None }
}

fn build_run(resolver: Option<(PathBuf, Vec<u8>)>) -> io::Result<()> {
    if Path::new("/run").is_dir() {
        fs::create_dir("/run/lock")?;
        fs::set_permissions("/run/lock", fs::Permissions::from_mode(0o1777))?;
    }
    if let Some((path, content)) = resolver {
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/run")))?;
        fs::write(path, content)?;
    }
    Ok(())
}

/// A descriptor of the root directory, which stands for the whole view wherever it is used.
pub(super) fn open_root() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/", flags, Mode::empty())?)
}

/// The device number of the disk; `None` while nothing is mounted at its place. Sends nothing to a FUSE server.
pub(super) fn disk_device(mount_at: &Path) -> Option<(u32, u32)> {
    let stat = rustix::fs::statx(CWD, mount_at, AtFlags::STATX_DONT_SYNC, StatxFlags::empty()).ok()?;
    let mounted = stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    mounted.then_some((stat.stx_dev_major, stat.stx_dev_minor))
}

/// No device nodes on the disk either.
pub(super) fn harden_disk(mount_at: &Path) {
    if disk_device(mount_at).is_some()
        && let Ok(path) = c_path(mount_at)
    {
        let _ = sys::mount_setattr(&path, false, sys::NODEV, 0);
    }
}

/// Takes the disk away; with `abort`, calls that wait for its server fail first, or nothing that waits could be killed.
pub(super) fn remove_disk(mount_at: &Path, abort: bool) {
    if disk_device(mount_at).is_none() {
        return;
    }
    if abort {
        // Says EBUSY, and aborts all the same.
        let _ = unmount(mount_at, UnmountFlags::FORCE);
    }
    let _ = unmount(mount_at, UnmountFlags::DETACH);
}
