//! The reader itself: a process that looks at the disk as any program does, and tells what it saw.
//!
//! It decides nothing and writes nothing. It goes on only when it is told to, and ends with its standard input.

use std::io::{self, BufRead, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::How;
use super::view::{Seen, View};
use super::wire::{Job, Said, Sight, Told, receive, send};

/// Reads as it is told on standard input, until that ends.
pub fn run() -> io::Result<()> {
    // Readers must not take the machine from the tool that they watch.
    let _ = rustix::process::nice(19);
    work(&mut io::stdin().lock(), &mut io::stdout().lock())
}

fn work(from: &mut impl BufRead, to: &mut impl Write) -> io::Result<()> {
    let Some(job) = receive::<Job>(from)? else { return Ok(()) };
    let mut reader =
        Reader { current: path(job.current), job: job.paths, known: Vec::new(), held: Vec::new() };
    loop {
        send(to, &Said::Ready)?;
        if receive::<()>(from)?.is_none() {
            return Ok(());
        }
        let saw = match job.how {
            How::Once => vec![reader.once()],
            How::Held => reader.held(),
            How::Each => vec![reader.each()],
        };
        send(to, &Said::Saw(saw))?;
        if receive::<()>(from)?.is_none() {
            return Ok(());
        }
    }
}

fn path(bytes: Vec<u8>) -> PathBuf {
    std::ffi::OsString::from_vec(bytes).into()
}

struct Reader {
    current: PathBuf,
    job: Vec<Vec<u8>>,
    /// Every view that was told, by its number.
    known: Vec<View>,
    /// Directories that are kept open, and the inodes they are.
    held: Vec<(u64, OwnedFd)>,
}

/// A directory as a place to start from; asks for nothing else of it.
const DIR: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Reader {
    fn once(&mut self) -> Sight {
        let resolved = std::fs::canonicalize(&self.current).and_then(|path| {
            let dir = openat(CWD, &path, DIR, Mode::empty())?;
            Ok((path, fstat(&dir)?.st_ino))
        });
        match resolved {
            Ok((path, dir)) => {
                let view = whole(CWD, path.as_os_str().as_bytes());
                Sight::Release { dir, view: self.told(view) }
            }
            Err(error) => Sight::NoRelease { error: error.to_string() },
        }
    }

    fn held(&mut self) -> Vec<Sight> {
        let opened = openat(CWD, &self.current, DIR, Mode::empty())
            .and_then(|dir| fstat(&dir).map(|stat| (stat.st_ino, dir)));
        let mut sights = Vec::new();
        match opened {
            Ok((ino, _)) if self.held.iter().any(|(held, _)| *held == ino) => {}
            Ok(new) => self.held.push(new),
            Err(error) => sights.push(Sight::NoRelease { error: error.to_string() }),
        }
        for (dir, fd) in std::mem::take(&mut self.held) {
            let view = whole(fd.as_fd(), b"");
            // Nothing but the directory itself is left: there is nothing to hold on to any more.
            if view.len() > 1 {
                self.held.push((dir, fd));
            }
            sights.push(Sight::Release { dir, view: self.told(view) });
        }
        sights
    }

    fn each(&mut self) -> Sight {
        let mut view = View::new();
        for path in &self.job {
            // As the kernel looks up `current/FILE`: the link once, and from its directory the rest.
            let found = openat(CWD, &self.current, DIR, Mode::empty());
            let seen = match found {
                Ok(dir) => look(dir, path).map(|(seen, _)| seen),
                Err(error) if is_gone(error) => None,
                Err(error) => Some(Seen::Unreadable { error: error.to_string() }),
            };
            if let Some(seen) = seen {
                view.insert(path.clone(), seen);
            }
        }
        Sight::Files { view: self.told(view) }
    }

    fn told(&mut self, view: View) -> Told {
        if let Some(number) = self.known.iter().position(|known| *known == view) {
            return Told { number, new: None };
        }
        let new = Some(Told::list(&view));
        self.known.push(view);
        Told { number: self.known.len() - 1, new }
    }
}

/// Reads everything below a directory, each file by its whole path from there.
fn whole(from: impl AsFd, root: &[u8]) -> View {
    let mut view = View::new();
    let mut todo = vec![Vec::new()];
    while let Some(path) = todo.pop() {
        let whole = match (root, &path[..]) {
            (b"", b"") => b".".to_vec(),
            (root, b"") => root.to_vec(),
            (root, path) => join(root, path),
        };
        let Some((mut seen, dir)) = look(&from, &whole) else { continue };
        if let Some(dir) = dir {
            match names(&dir) {
                Ok(names) => todo.extend(names.iter().map(|name| join(&path, name))),
                Err(error) if is_gone(error) => {}
                Err(error) => seen = Seen::Unreadable { error: error.to_string() },
            }
        }
        view.insert(path, seen);
    }
    view
}

/// A path with one more part.
fn join(path: &[u8], more: &[u8]) -> Vec<u8> {
    if path.is_empty() { more.to_vec() } else { [path, b"/", more].concat() }
}

/// One lookup: what stands at a path, and the directory, if it is one. None: nothing stands there. What a symlink on
/// the way leads to is not part of a release, so it is nothing too.
fn look(from: impl AsFd, path: &[u8]) -> Option<(Seen, Option<OwnedFd>)> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match openat2(from, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        Ok(fd) => fd,
        Err(error) if is_gone(error) || error == Errno::LOOP => return None,
        Err(error) => return Some((Seen::Unreadable { error: error.to_string() }, None)),
    };
    // From here on it is the same inode, whatever happens to the path.
    match node(&fd) {
        Ok(seen @ Seen::Dir { .. }) => Some((seen, Some(fd))),
        Ok(seen) => Some((seen, None)),
        Err(error) => Some((Seen::Unreadable { error: error.to_string() }, None)),
    }
}

fn node(fd: &OwnedFd) -> io::Result<Seen> {
    let stat = fstat(fd)?;
    let mode = stat.st_mode & 0o7777;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Seen::Dir { mode },
        FileType::Symlink => Seen::Symlink { target: readlinkat(fd, "", Vec::new())?.into_bytes() },
        FileType::RegularFile => {
            let mut file = std::fs::File::open(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
            let (mut hash, mut size_bytes) = (Sha256::new(), 0);
            let mut buffer = vec![0; 256 << 10];
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    len => {
                        hash.update(&buffer[..len]);
                        size_bytes += len as u64;
                    }
                }
            }
            Seen::File { mode, size_bytes, sha256: hash.finalize().into() }
        }
        _ => Seen::Other,
    })
}

fn names(dir: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let open = openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(open)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Nothing is there, or no longer.
fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::STALE)
}
