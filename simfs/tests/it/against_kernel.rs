//! Random operations on `Fs` and on a real directory: the same answers, the same tree, and a trace that agrees.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, RenameFlags};
use simfs::fs::{Allocate, RenameHow};
use simfs::{Caller, Errno, Fs, FsResult, Kind};

use crate::replay::assert_replay_is_live;

const PATHS: [&str; 9] = ["a", "b", "c", "a/a", "a/b", "b/a", "b/b", "a/a/a", "b/a/c"];
/// Everything happens in this directory of both, so that a link to `..` leads to the same place.
pub(crate) const TOP: &str = "top";
const TARGETS: [&str; 5] = ["a", "b", "b/a", "../b", "nowhere"];

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Create(usize),
    Mkdir(usize, bool),
    Symlink(usize, usize),
    Link(usize, usize),
    Unlink(usize),
    Rmdir(usize),
    Rename(usize, usize, RenameHow),
    Write(usize, u64, usize, u8),
    Truncate(usize, u64),
    Allocate(usize, Allocate, u64, u64),
    Copy(usize, u64, usize, u64, u64),
    Chmod(usize, u32),
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let path = || 0..PATHS.len();
    let at = || prop_oneof![0..20_000_u64, (0..5_u64).prop_map(|n| n * 4096)];
    let how = prop_oneof![Just(RenameHow::Replace), Just(RenameHow::NoReplace), Just(RenameHow::Exchange)];
    let allocate = prop_oneof![
        Just(Allocate::Grow),
        Just(Allocate::Reserve),
        Just(Allocate::Punch),
        Just(Allocate::Zero),
        Just(Allocate::ZeroKeepSize)
    ];
    let mode = prop_oneof![Just(0o700), Just(0o2770), Just(0o4750), Just(0o1777), Just(0o711)];
    prop_oneof![
        4 => path().prop_map(Step::Create),
        4 => (path(), any::<bool>()).prop_map(|(path, set_gid)| Step::Mkdir(path, set_gid)),
        2 => (path(), 0..TARGETS.len()).prop_map(|(path, target)| Step::Symlink(path, target)),
        2 => (path(), path()).prop_map(|(from, to)| Step::Link(from, to)),
        2 => path().prop_map(Step::Unlink),
        2 => path().prop_map(Step::Rmdir),
        4 => (path(), path(), how).prop_map(|(from, to, how)| Step::Rename(from, to, how)),
        4 => (path(), at(), 0..9_000_usize, 0..3_u8).prop_map(|(path, at, len, byte)| Step::Write(path, at, len, byte)),
        2 => (path(), at()).prop_map(|(path, size)| Step::Truncate(path, size)),
        2 => (path(), allocate, at(), 0..9_000_u64).prop_map(|(path, how, at, len)| Step::Allocate(path, how, at, len)),
        2 => (path(), at(), path(), at(), 0..20_000_u64)
            .prop_map(|(from, from_at, to, at, len)| Step::Copy(from, from_at, to, at, len)),
        1 => (path(), mode).prop_map(|(path, mode)| Step::Chmod(path, mode)),
    ]
}

/// On the real directory. The result is what it answered.
fn real(root: &Path, step: &Step) -> FsResult<u64> {
    let at = |path: &usize| root.join(PATHS[*path]);
    let open = |path: &usize, flags| rustix::fs::open(at(path), flags | OFlags::CLOEXEC, Mode::empty());
    match step {
        Step::Create(path) => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::open(at(path), flags, Mode::from_raw_mode(0o600)).map(|_| 0)
        }
        Step::Mkdir(path, set_gid) => {
            rustix::fs::mkdir(at(path), Mode::from_raw_mode(0o700))?;
            if *set_gid {
                rustix::fs::chmod(at(path), Mode::from_raw_mode(0o2700))?;
            }
            Ok(0)
        }
        Step::Symlink(path, target) => rustix::fs::symlink(TARGETS[*target], at(path)).map(|()| 0),
        Step::Link(from, to) => rustix::fs::linkat(CWD, at(from), CWD, at(to), AtFlags::empty()).map(|()| 0),
        Step::Unlink(path) => rustix::fs::unlink(at(path)).map(|()| 0),
        Step::Rmdir(path) => rustix::fs::rmdir(at(path)).map(|()| 0),
        Step::Rename(from, to, how) => {
            let flags = match how {
                RenameHow::Replace => RenameFlags::empty(),
                RenameHow::NoReplace => RenameFlags::NOREPLACE,
                RenameHow::Exchange => RenameFlags::EXCHANGE,
            };
            rustix::fs::renameat_with(CWD, at(from), CWD, at(to), flags).map(|()| 0)
        }
        Step::Write(path, offset, len, byte) => {
            let file = open(path, OFlags::WRONLY)?;
            rustix::io::pwrite(file, &vec![*byte; *len], *offset).map(|written| written as u64)
        }
        Step::Truncate(path, size) => rustix::fs::ftruncate(open(path, OFlags::WRONLY)?, *size).map(|()| 0),
        Step::Allocate(path, how, offset, len) => {
            let flags = match how {
                Allocate::Grow => FallocateFlags::empty(),
                Allocate::Reserve => FallocateFlags::KEEP_SIZE,
                Allocate::Punch => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                Allocate::Zero => FallocateFlags::ZERO_RANGE,
                Allocate::ZeroKeepSize => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
            };
            rustix::fs::fallocate(open(path, OFlags::WRONLY)?, flags, *offset, *len).map(|()| 0)
        }
        Step::Copy(from, from_at, to, to_at, len) => {
            let source = open(from, OFlags::RDONLY)?;
            let target = open(to, OFlags::WRONLY)?;
            let (mut from_at, mut to_at) = (*from_at, *to_at);
            rustix::fs::copy_file_range(source, Some(&mut from_at), target, Some(&mut to_at), *len as usize)
                .map(|copied| copied as u64)
        }
        Step::Chmod(path, mode) => rustix::fs::chmod(at(path), Mode::from_raw_mode(*mode)).map(|()| 0),
    }
}

/// On the simulated disk.
pub(crate) fn simulated(fs: &mut Fs, who: Caller, step: &Step) -> FsResult<u64> {
    let at = |path: &usize| format!("{TOP}/{}", PATHS[*path]);
    match step {
        Step::Create(path) => {
            let (dir, name) = fs.split(at(path))?;
            fs.create(dir, &name, 0o600, who).map(|_| 0)
        }
        Step::Mkdir(path, set_gid) => {
            let (dir, name) = fs.split(at(path))?;
            let made = fs.mkdir(dir, &name, 0o700, who)?;
            if *set_gid {
                fs.chmod(made, 0o2700)?;
            }
            Ok(0)
        }
        Step::Symlink(path, target) => {
            let (dir, name) = fs.split(at(path))?;
            fs.symlink(dir, &name, TARGETS[*target].as_bytes(), who).map(|_| 0)
        }
        Step::Link(from, to) => {
            let ino = fs.resolve_link(at(from))?;
            let (dir, name) = fs.split(at(to))?;
            fs.link(ino, dir, &name).map(|()| 0)
        }
        Step::Unlink(path) => {
            let (dir, name) = fs.split(at(path))?;
            fs.unlink(dir, &name).map(|()| 0)
        }
        Step::Rmdir(path) => {
            let (dir, name) = fs.split(at(path))?;
            fs.rmdir(dir, &name).map(|()| 0)
        }
        Step::Rename(from, to, how) => {
            let (from_dir, from) = fs.split(at(from))?;
            let (to_dir, to) = fs.split(at(to))?;
            fs.rename(from_dir, &from, to_dir, &to, *how).map(|()| 0)
        }
        Step::Write(path, offset, len, byte) => {
            let ino = fs.resolve(at(path))?;
            fs.write(ino, *offset, &vec![*byte; *len], who.uid != 0).map(|written| written as u64)
        }
        Step::Truncate(path, size) => {
            let ino = fs.resolve(at(path))?;
            fs.truncate(ino, *size, who.uid != 0).map(|()| 0)
        }
        Step::Allocate(path, how, offset, len) => {
            let ino = fs.resolve(at(path))?;
            fs.fallocate(ino, *how, *offset, *len, who).map(|()| 0)
        }
        Step::Copy(from, from_at, to, to_at, len) => {
            let source = fs.resolve(at(from))?;
            // Opening a directory for reading works; copying from it does not.
            let target = fs.resolve(at(to))?;
            if fs.stat(target)?.kind == Kind::Dir {
                return Err(Errno::ISDIR);
            }
            if *len == 0 && fs.stat(source)?.kind == Kind::File {
                return Ok(0);
            }
            fs.copy_range(source, *from_at, target, *to_at, *len, who)
        }
        Step::Chmod(path, mode) => {
            let ino = fs.resolve(at(path))?;
            fs.chmod(ino, *mode).map(|()| 0)
        }
    }
}

/// Whether we may set the set-group-id bit and, as root, keep it over a write. Root of a user namespace may not.
fn keeps_set_id(dir: &Path) -> bool {
    let path = dir.join("probe");
    std::fs::write(&path, b"").unwrap();
    rustix::fs::chmod(&path, Mode::from_raw_mode(0o2770)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::fs::write(&path, b"x").unwrap();
    }
    path.metadata().unwrap().permissions().mode() & 0o2000 != 0
}

fn real_tree(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let full = root.join(&path);
        let meta = full.symlink_metadata().unwrap();
        let (kind, detail) = if meta.is_dir() {
            todo.extend(full.read_dir().unwrap().map(|entry| path.join(entry.unwrap().file_name())));
            (Kind::Dir, String::new())
        } else if meta.is_symlink() {
            (Kind::Symlink, full.read_link().unwrap().as_os_str().as_bytes().escape_ascii().to_string())
        } else {
            (Kind::File, shortened(&std::fs::read(&full).unwrap()))
        };
        if !path.as_os_str().is_empty() {
            let links = if kind == Kind::Dir { 0 } else { meta.nlink() };
            let mode = meta.permissions().mode() & 0o7777;
            found.push(format!(
                "{} {kind:?} {mode:o} {}:{} {links} {detail}",
                path.display(),
                meta.uid(),
                meta.gid()
            ));
        }
    }
    found.sort();
    found
}

fn simulated_tree(fs: &Fs) -> Vec<String> {
    let line = |(path, ino): (Vec<u8>, _)| {
        let stat = fs.stat(ino).unwrap();
        let (links, detail) = match stat.kind {
            Kind::Dir => (0, String::new()),
            Kind::Symlink => (stat.nlink, fs.readlink(ino).unwrap().escape_ascii().to_string()),
            _ => (stat.nlink, shortened(&fs.read_file(ino).unwrap())),
        };
        format!(
            "{} {:?} {:o} {}:{} {links} {detail}",
            path.escape_ascii(),
            stat.kind,
            stat.mode,
            stat.uid,
            stat.gid
        )
    };
    let mut found: Vec<_> = fs.walk_tree(fs.resolve(TOP).unwrap()).unwrap().into_iter().map(line).collect();
    found.sort();
    found
}

/// Content as runs of equal bytes.
fn shortened(bytes: &[u8]) -> String {
    bytes.chunk_by(|a, b| a == b).map(|run| format!("{}x{} ", run[0], run.len())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 5000, ..ProptestConfig::default() })]

    #[test]
    fn the_same_answers_and_the_same_tree(steps in prop::collection::vec(step(), 1..60)) {
        let who = Caller { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() };
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join(TOP);
        std::fs::create_dir(&top).unwrap();
        let mut fs = Fs::new(who.uid, who.gid, 0o700);
        fs.mkdir_p(TOP).unwrap();
        fs.start_recording();
        let keeps_set_id = keeps_set_id(dir.path());
        for step in &steps {
            // Permissions are the kernel's business: it may take the bit away before a file system is asked.
            if !keeps_set_id && matches!(step, Step::Mkdir(_, true) | Step::Chmod(_, 0o2000..)) {
                continue;
            }
            let expected = real(&top, step);
            if expected == Err(Errno::OPNOTSUPP) {
                continue; // The file system under the temporary directory cannot do it.
            }
            let ops = fs.trace().last();
            let answer = simulated(&mut fs, who, step);
            prop_assert_eq!(answer, expected, "{:?}", step);
            if answer.is_err() {
                prop_assert_eq!(fs.trace().last(), ops, "a refusal was recorded");
            }
        }
        prop_assert_eq!(simulated_tree(&fs), real_tree(&top));
        assert_replay_is_live(&fs);
        // A reboot into the newest state changes nothing that can be seen.
        let again = Fs::from_cells(crate::replay::newest(fs.trace()));
        prop_assert_eq!(simulated_tree(&again), simulated_tree(&fs));
        prop_assert_eq!(again.usage().used_inodes, fs.usage().used_inodes);
    }
}
