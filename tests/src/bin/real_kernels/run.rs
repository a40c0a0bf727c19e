//! Executing a program: on a mounted file system with real system calls, and on a simulated disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, Mode, RenameFlags};
use simfs::fs::RenameHow;
use simfs::{BLOCK_BYTES, Caller, Fs, FsResult, Kind as Type, Seq, SyncScope, Trace};

use crate::disk::Failed;
use crate::program::{Op, Program};
use crate::served::Served;

/// How far the image's log was before an operation began and after it had returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Before.
    pub(crate) begin: usize,
    /// After.
    pub(crate) end: usize,
}

/// What is done at one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A change, which is there as soon as it is under way.
    Change,
    /// A sync call: it changes nothing, and counts from its return on.
    Sync,
    /// Nothing, for a while.
    Wait,
}

/// One step, on the simulated disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Doing {
    /// The last op of the trace that it made or came after.
    pub(crate) after: Seq,
    /// What it is.
    pub(crate) what: What,
}

/// Executes the operations below `root`, which is mounted on `image`.
pub(crate) fn on_real(ops: &[Op], wait_s: u64, root: &Path, image: &Served) -> Result<Vec<Step>, Failed> {
    let mut steps = Vec::new();
    for op in ops {
        let begin = image.position()?;
        real(*op, wait_s, root).map_err(|error| Failed::new(format!("{op} on a real file system"), error))?;
        steps.push(Step { begin, end: image.position()? });
    }
    Ok(steps)
}

fn real(op: Op, wait_s: u64, root: &Path) -> io::Result<()> {
    let at = |path: &str| -> PathBuf { if path.is_empty() { root.to_path_buf() } else { root.join(path) } };
    match op {
        Op::Mkdir(path) => rustix::fs::mkdir(at(path), Mode::from_raw_mode(0o755))?,
        Op::Create(path) => drop(new_file(&at(path))?),
        Op::Put(path, letters) => new_file(&at(path))?.write_all(&blocks(letters))?,
        Op::Rewrite(path, letters) => {
            OpenOptions::new().write(true).truncate(true).open(at(path))?.write_all(&blocks(letters))?;
        }
        Op::Write(path, first, letters) => OpenOptions::new()
            .write(true)
            .open(at(path))?
            .write_all_at(&blocks(letters), first * BLOCK_BYTES)?,
        Op::Append(path, bytes, letter) => {
            OpenOptions::new().append(true).open(at(path))?.write_all(&vec![letter as u8; bytes])?;
        }
        Op::Truncate(path, bytes) => OpenOptions::new().write(true).open(at(path))?.set_len(bytes)?,
        Op::Rename(from, to) => std::fs::rename(at(from), at(to))?,
        Op::Exchange(one, other) => {
            rustix::fs::renameat_with(CWD, at(one), CWD, at(other), RenameFlags::EXCHANGE)?;
        }
        Op::Link(path, name) => std::fs::hard_link(at(path), at(name))?,
        Op::Symlink(text, path) => std::os::unix::fs::symlink(text, at(path))?,
        Op::Unlink(path) => std::fs::remove_file(at(path))?,
        Op::Rmdir(path) => std::fs::remove_dir(at(path))?,
        Op::Chmod(path, mode) => std::fs::set_permissions(at(path), PermissionsExt::from_mode(mode))?,
        Op::Fsync(path) => File::open(at(path))?.sync_all()?,
        Op::Fdatasync(path) => File::open(at(path))?.sync_data()?,
        Op::Syncfs => rustix::fs::syncfs(File::open(root)?)?,
        Op::Wait => thread::sleep(Duration::from_secs(wait_s)),
    }
    Ok(())
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)
}

/// The content that these letters stand for.
fn blocks(letters: &str) -> Vec<u8> {
    letters.bytes().flat_map(|letter| std::iter::repeat_n(letter, BLOCK_BYTES as usize)).collect()
}

/// What happened on the simulated disk.
#[derive(Clone)]
pub(crate) struct Simulated {
    /// Its trace. Op 0 is the setup.
    pub(crate) trace: Trace,
    /// What was done, the first step first.
    pub(crate) doings: Vec<Doing>,
}

/// Executes a program on a simulated disk.
pub(crate) fn on_simulated(program: &Program, ops: &[Op]) -> Result<Simulated, Failed> {
    let mut fs = Fs::new(0, 0, 0o755);
    let failed = |op: &Op, error: simfs::Errno| Failed::new(format!("{op} on a simulated disk"), error);
    for op in program.setup {
        simulated(&mut fs, *op).map_err(|error| failed(op, error))?;
    }
    fs.start_recording();
    let mut doings = Vec::new();
    for op in ops {
        simulated(&mut fs, *op).map_err(|error| failed(op, error))?;
        let what = match op {
            Op::Wait => What::Wait,
            Op::Fsync(_) | Op::Fdatasync(_) | Op::Syncfs => What::Sync,
            _ => What::Change,
        };
        doings.push(Doing { after: fs.trace().last(), what });
    }
    Ok(Simulated { trace: fs.trace().clone(), doings })
}

fn simulated(fs: &mut Fs, op: Op) -> FsResult<()> {
    let who = Caller { uid: 0, gid: 0 };
    match op {
        Op::Mkdir(path) => {
            let (dir, name) = fs.split(path)?;
            fs.mkdir(dir, &name, 0o755, who)?;
        }
        Op::Create(path) | Op::Put(path, _) => {
            let (dir, name) = fs.split(path)?;
            let ino = fs.create(dir, &name, 0o644, who)?;
            if let Op::Put(_, letters) = op {
                fs.write(ino, 0, &blocks(letters), false)?;
            }
        }
        Op::Rewrite(path, letters) => {
            let ino = fs.resolve(path)?;
            fs.truncate(ino, 0, false)?;
            fs.write(ino, 0, &blocks(letters), false)?;
        }
        Op::Write(path, first, letters) => {
            let ino = fs.resolve(path)?;
            fs.write(ino, first * BLOCK_BYTES, &blocks(letters), false)?;
        }
        Op::Append(path, bytes, letter) => {
            let ino = fs.resolve(path)?;
            let size = fs.stat(ino)?.size;
            fs.write(ino, size, &vec![letter as u8; bytes], false)?;
        }
        Op::Truncate(path, bytes) => {
            let ino = fs.resolve(path)?;
            fs.truncate(ino, bytes, false)?;
        }
        Op::Rename(from, to) => rename(fs, from, to, RenameHow::Replace)?,
        Op::Exchange(one, other) => rename(fs, one, other, RenameHow::Exchange)?,
        Op::Link(path, name) => {
            let ino = fs.resolve_link(path)?;
            let (dir, name) = fs.split(name)?;
            fs.link(ino, dir, &name)?;
        }
        Op::Symlink(text, path) => {
            let (dir, name) = fs.split(path)?;
            fs.symlink(dir, &name, text.as_bytes(), who)?;
        }
        Op::Unlink(path) => {
            let (dir, name) = fs.split(path)?;
            fs.unlink(dir, &name)?;
        }
        Op::Rmdir(path) => {
            let (dir, name) = fs.split(path)?;
            fs.rmdir(dir, &name)?;
        }
        Op::Chmod(path, mode) => {
            let ino = fs.resolve(path)?;
            fs.chmod(ino, mode)?;
        }
        Op::Fsync(path) | Op::Fdatasync(path) => {
            let ino = fs.resolve(path)?;
            let scope = match (fs.stat(ino)?.kind, op) {
                (Type::Dir, _) => SyncScope::Dir(ino),
                (_, Op::Fdatasync(_)) => SyncScope::FileData(ino),
                _ => SyncScope::File(ino),
            };
            fs.sync(scope, true);
        }
        Op::Syncfs => {
            fs.sync(SyncScope::All, true);
        }
        Op::Wait => {}
    }
    Ok(())
}

fn rename(fs: &mut Fs, from: &str, to: &str, how: RenameHow) -> FsResult<()> {
    let (from_dir, from) = fs.split(from)?;
    let (to_dir, to) = fs.split(to)?;
    fs.rename(from_dir, &from, to_dir, &to, how)
}
