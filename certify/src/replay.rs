//! Replaying a crash state: a token that names one, and the disk as it was left.
//!
//! A token holds the state itself, not how it was found, so the disk is the same each time. It names its trace by a part of
//! a digest of all that the trace says, and is refused for any other. The state breaks a promise itself, or it is what a
//! further run of the tool began with that broke one.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use data_encoding::BASE32_NOPAD;
use sha2::{Digest as _, Sha256};
use simfs::model::Medium;
use simfs::{CrashState, Crashes, EffectId, Fs, Ino, Kind, MODELS, Model, ROOT, Trace, Value, View};

use crate::judge::{self, Scenario};
use crate::tree::{Node, Tree, show};

/// The version of tokens.
const VERSION: u8 = 1;
/// Beside the number of the model: a further run began with the disk.
const BEGAN_A_RUN: u8 = 0x80;
/// The most effects that a token can name; a disk on which more survived unforced has none.
const MOST_EFFECTS: u32 = 1 << 24;
/// A token is copied by hand; a longer one is not told.
const MOST_CHARS: usize = 2000;
/// How much of the digest of a trace a token holds. Tokens are not secrets, and nobody has many traces.
const DIGEST_BYTES: usize = 5;
/// After a power loss a directory can have several names, and a disk more paths than can be written out.
const MOST_PATHS: usize = 1 << 20;

/// What stands for a symlink without text, which a power loss can leave and no program can make.
const EMPTY_LINK: &[u8] = b"(a symlink whose text is empty)\n";

/// A crash state of a trace under a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    trace: [u8; DIGEST_BYTES],
    /// Its model.
    pub model: &'static Model,
    /// The state.
    pub state: CrashState,
    /// It is no counterexample itself: a further run of the tool began with this disk.
    pub began_a_run: bool,
}

/// What tells one trace from another.
fn digest(trace: &Trace) -> [u8; DIGEST_BYTES] {
    let mut digest = Sha256::new();
    for op in trace.ops() {
        digest.update(format!("{:?}", op.kind));
        for effect in op.effects.clone().map(|id| trace.effect(EffectId(id))) {
            digest.update(format!("{:?}", trace.cell(effect.cell)));
            match &effect.value {
                Value::Block(bytes) => digest.update(bytes),
                value => digest.update(format!("{value:?}")),
            }
        }
    }
    let mut part = [0; DIGEST_BYTES];
    part.copy_from_slice(&digest.finalize()[..DIGEST_BYTES]);
    part
}

/// Two bytes more, so that a token that was copied wrongly is not taken for another.
fn check(bytes: &[u8]) -> [u8; 2] {
    let digest = Sha256::digest(bytes);
    [digest[0], digest[1]]
}

fn push(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Effects that follow one another, from each first to each last.
fn runs(effects: &[EffectId]) -> impl Iterator<Item = RangeInclusive<u32>> + '_ {
    effects.chunk_by(|one, next| one.0.checked_add(1) == Some(next.0)).filter_map(|run| match run {
        [only] => Some(only.0..=only.0),
        [first, .., last] => Some(first.0..=last.0),
        [] => None,
    })
}

fn take(bytes: &mut &[u8]) -> Option<u32> {
    let mut number = 0_u32;
    for shift in (0..).step_by(7).take(5) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

impl Token {
    /// Names a crash state of a trace.
    pub fn new(trace: &Trace, model: &'static Model, state: CrashState) -> Self {
        Self { trace: digest(trace), model, state, began_a_run: false }
    }

    /// Names the crash state that a further run of the tool began with.
    pub fn of_run(trace: &Trace, model: &'static Model, state: CrashState) -> Self {
        Self { began_a_run: true, ..Self::new(trace, model, state) }
    }

    /// As text, if that is short enough to be told: where a power loss came in the middle of much, what survived may be any
    /// part of it.
    pub fn told(&self) -> Option<String> {
        // Each run of effects takes two bytes or more, and five make eight characters.
        let runs = runs(&self.state.extra).count();
        let may_be = self.state.extra.len() <= MOST_EFFECTS as usize && runs <= MOST_CHARS;
        may_be.then(|| self.to_string()).filter(|text| text.len() <= MOST_CHARS)
    }

    /// Reads a token.
    ///
    /// # Errors
    /// In words, why it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "this is no token of a counterexample, or not all of it".to_owned();
        let bytes = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).map_err(|_| wrong())?;
        let (bytes, sum) = bytes.split_last_chunk::<2>().ok_or_else(wrong)?;
        if *sum != check(bytes) {
            return Err(wrong());
        }
        let (&[version, model], rest) = bytes.split_first_chunk::<2>().ok_or_else(wrong)?;
        if version != VERSION {
            return Err(format!("this token has version {version}; this program reads version {VERSION}"));
        }
        let began_a_run = model & BEGAN_A_RUN != 0;
        let model = *MODELS.get(usize::from(model & !BEGAN_A_RUN)).ok_or_else(wrong)?;
        let (trace, mut rest) = rest.split_first_chunk::<DIGEST_BYTES>().ok_or_else(wrong)?;
        let (at, chain) = take(&mut rest).zip(take(&mut rest)).ok_or_else(wrong)?;
        let (mut extra, mut last) = (Vec::new(), 0_u32);
        while !rest.is_empty() {
            last = take(&mut rest).and_then(|more| last.checked_add(more)).ok_or_else(wrong)?;
            let more = if began_a_run { take(&mut rest).ok_or_else(wrong)? } else { 0 };
            if more >= MOST_EFFECTS - (extra.len() as u32).min(MOST_EFFECTS) {
                return Err(wrong());
            }
            let first = last;
            last = last.checked_add(more).ok_or_else(wrong)?;
            extra.extend((first..=last).map(EffectId));
        }
        Ok(Self { trace: *trace, model, state: CrashState { at, chain, extra }, began_a_run })
    }

    /// Whether it is of this trace.
    pub fn is_of(&self, trace: &Trace) -> bool {
        let known = |effect: &EffectId| (effect.0 as usize) < trace.effects().len();
        self.state.at <= trace.last() && self.state.extra.iter().all(known) && self.trace == digest(trace)
    }

    /// The part of it that names the trace.
    pub fn trace_name(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.trace)
    }

    /// What it is, for people: two lines, and one more if a run began with it.
    pub fn story(&self, trace: &Trace, scenario: &Scenario) -> String {
        let crashes = Crashes::new(trace, self.model);
        let current = judge::current_in_words(View::crash(&crashes, &self.state), scenario);
        let op = judge::op_in_words(trace, scenario, self.state.at);
        let what = match self.model.medium {
            Medium::Lasting => format!("after {op}, with nothing lost"),
            Medium::Honest | Medium::Lying => format!("power loss after {op}, under `{}`", self.model.name),
        };
        let run = if self.began_a_run {
            "this is the disk that the further run of the tool began with\n"
        } else {
            ""
        };
        format!("{what}\n{run}{current}\n")
    }

    /// The disk as it was left. A directory that has several names is there under each.
    ///
    /// # Errors
    /// In words, if that is too much to write out.
    pub fn disk(&self, trace: &Trace) -> Result<Tree, String> {
        let crashes = Crashes::new(trace, self.model);
        let view = View::crash(&crashes, &self.state);
        let mut tree = Tree::new();
        // Each with the directories above, so that one which is below itself ends there.
        let mut todo: Vec<(Vec<u8>, Ino, Vec<Ino>)> = vec![(Vec::new(), ROOT, Vec::new())];
        while let Some((path, ino, above)) = todo.pop() {
            let Some(node) = judge::node(view, ino) else { continue };
            if matches!(node, Node::Dir { .. }) && !above.contains(&ino) {
                let below: Vec<Ino> = above.iter().copied().chain([ino]).collect();
                for (name, child) in view.entries(ino) {
                    let path = if path.is_empty() { name.to_vec() } else { [&path[..], b"/", name].concat() };
                    todo.push((path, child, below.clone()));
                }
            }
            tree.insert(path, node);
            if tree.len() > MOST_PATHS {
                return Err(format!("the crashed disk has more than {MOST_PATHS} paths"));
            }
        }
        Ok(tree)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = MODELS.iter().position(|model| model.name == self.model.name).unwrap_or(0);
        let began_a_run = if self.began_a_run { BEGAN_A_RUN } else { 0 };
        let mut bytes = vec![VERSION, model as u8 | began_a_run];
        bytes.extend(self.trace);
        push(&mut bytes, self.state.at);
        push(&mut bytes, self.state.chain);
        let mut last = 0;
        if self.began_a_run {
            // What survived there was drawn, not reduced: much of it stands side by side.
            for run in runs(&self.state.extra) {
                push(&mut bytes, run.start() - last);
                push(&mut bytes, run.end() - run.start());
                last = *run.end();
            }
        } else {
            for effect in &self.state.extra {
                push(&mut bytes, effect.0 - last);
                last = effect.0;
            }
        }
        let sum = check(&bytes);
        bytes.extend(sum);
        out.write_str(&BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }
}

/// A node of a disk in one line: type, mode, length or link text, path.
pub fn line(path: &[u8], node: &Node) -> String {
    let path = format!("/{}", show(path));
    match node {
        Node::Dir { mode } => format!("dir     {mode:04o} {:>10} {path}", "-"),
        Node::File { mode, content } => format!("file    {mode:04o} {:>10} {path}", content.size_bytes),
        Node::Symlink { target } => format!("symlink ---- {:>10} {path} -> {}", target.len(), show(target)),
        Node::Other { mode, .. } => format!("other   {mode:04o} {:>10} {path}", "-"),
    }
}

/// Writes a disk to a directory that does not exist yet or is empty. Owners and set-id bits are not kept, nor sockets.
///
/// # Errors
/// The directory holds something, or cannot be written to.
pub fn export(tree: &Tree, to: &Path) -> io::Result<()> {
    match fs::read_dir(to).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is not empty")),
        Ok(false) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o700).create(to)?;
        }
        Err(error) => return Err(error),
    }
    let mut modes = Vec::new();
    // Directories come before what is in them.
    for (path, node) in tree {
        let at = to.join(std::ffi::OsStr::from_bytes(path));
        match node {
            Node::Dir { mode } => {
                if !path.is_empty() {
                    DirBuilder::new().mode(0o700).create(&at)?;
                }
                modes.push((at, *mode));
            }
            Node::File { mode, content } => {
                let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&at)?;
                write_content(&mut file, content)?;
                file.set_permissions(Permissions::from_mode(mode & 0o777))?;
            }
            Node::Symlink { target } if target.is_empty() => File::create_new(&at)?.write_all(EMPTY_LINK)?,
            Node::Symlink { target } => symlink(std::ffi::OsStr::from_bytes(target), &at)?,
            Node::Other { kind: Kind::Fifo, mode } => {
                let mode = rustix::fs::Mode::from_raw_mode(mode & 0o777);
                rustix::fs::mknodat(rustix::fs::CWD, &at, rustix::fs::FileType::Fifo, mode, 0)?;
            }
            Node::Other { .. } => {}
        }
    }
    for (at, mode) in modes.into_iter().rev() {
        fs::set_permissions(at, Permissions::from_mode(mode & 0o777))?;
    }
    Ok(())
}

fn write_content(file: &mut File, content: &crate::tree::Content) -> io::Result<()> {
    for block in &content.blocks {
        file.write_all(block)?;
        file.write_all(&[0; simfs::BLOCK_BYTES as usize][block.len()..])?;
    }
    file.set_len(content.size_bytes)
}

/// The same disk, to be mounted.
///
/// # Errors
/// The disk cannot hold it.
pub fn to_fs(tree: &Tree) -> Result<Fs, simfs::Errno> {
    let who = rustix::process::getuid().as_raw();
    let mut fs = Fs::new(who, rustix::process::getgid().as_raw(), 0o755);
    let owner = fs.owner();
    for (path, node) in tree {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        let (dir, name) = if path.as_os_str().is_empty() { (ROOT, Vec::new()) } else { fs.split(path)? };
        match node {
            Node::Dir { mode } if name.is_empty() => fs.chmod(ROOT, *mode)?,
            Node::Dir { mode } => drop(fs.mkdir(dir, &name, *mode, owner)?),
            Node::File { mode, content } => {
                let ino = fs.create(dir, &name, *mode, owner)?;
                for (n, block) in (0..).zip(&content.blocks) {
                    fs.write(ino, n * simfs::BLOCK_BYTES, block, false)?;
                }
                fs.truncate(ino, content.size_bytes, false)?;
            }
            Node::Symlink { target } if target.is_empty() => {
                let ino = fs.create(dir, &name, 0o644, owner)?;
                fs.write(ino, 0, EMPTY_LINK, false)?;
            }
            Node::Symlink { target } => drop(fs.symlink(dir, &name, target, owner)?),
            Node::Other { kind, mode } => drop(fs.mknod(dir, &name, *kind, *mode, owner)?),
        }
    }
    Ok(fs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use simfs::{POSIX, SyncScope};

    #[test]
    fn a_token_names_one_state_of_one_trace() {
        let mut fs = Fs::new(0, 0, 0o755);
        fs.start_recording();
        fs.write_file("f", b"x").unwrap();
        fs.sync(SyncScope::All, true);
        fs.write_file("g", &[7; 10_000]).unwrap();
        let trace = fs.trace();
        let all: Vec<EffectId> = (0..trace.effects().len() as u32).map(EffectId).collect();
        for model in MODELS {
            for extra in [vec![], vec![EffectId(3)], all.clone(), vec![EffectId(200), EffectId(70_000)]] {
                let state = CrashState { at: trace.last(), chain: 2, extra };
                let run = Token::of_run(trace, model, state.clone());
                assert_eq!(Token::parse(&run.to_string()), Ok(run.clone()));
                let token = Token::new(trace, model, state);
                assert_ne!(token, run);
                let text = token.to_string();
                assert_eq!(Token::parse(&text), Ok(token.clone()), "{text}");
                assert_eq!(token.is_of(trace), token.state.extra.iter().all(|e| e.0 < all.len() as u32));
                for at in 0..text.len() {
                    assert!(Token::parse(&text[..at]).is_err(), "{text} cut at {at}");
                    let mut other = text.clone().into_bytes();
                    other[at] = if other[at] == b'a' { b'b' } else { b'a' };
                    assert_ne!(Token::parse(std::str::from_utf8(&other).unwrap()), Ok(token.clone()));
                }
            }
        }
        let token = Token::new(trace, &POSIX, CrashState::default());
        fs.write_file("h", b"y").unwrap();
        assert!(!token.is_of(fs.trace()));
    }

    /// A short text may stand for very many effects; one that nobody made must not fill the memory.
    #[test]
    fn a_token_of_much_is_short_and_of_too_much_is_none() {
        let mut fs = Fs::new(0, 0, 0o755);
        fs.start_recording();
        let token = |extra| Token::of_run(fs.trace(), &POSIX, CrashState { at: 0, chain: 0, extra });
        let all = token((0..MOST_EFFECTS).map(EffectId).collect());
        let text = all.told().unwrap();
        assert!(text.len() < 40, "{text}");
        assert_eq!(Token::parse(&text), Ok(all));
        let more = token((0..=MOST_EFFECTS).map(EffectId).collect());
        assert_eq!(more.told(), None);
        assert!(Token::parse(&more.to_string()).is_err());
        // Every other one of some, and of many.
        let some = token((0..300).map(|n| EffectId(2 * n)).collect());
        assert_eq!(Token::parse(&some.told().unwrap()), Ok(some));
        assert_eq!(token((0..3000).map(|n| EffectId(2 * n)).collect()).told(), None);
    }

    #[test]
    fn a_directory_below_itself_is_written_out_once() {
        let mut fs = Fs::new(0, 0, 0o755);
        fs.mkdir_p("a/b").unwrap();
        fs.start_recording();
        let (root, b) = (ROOT, fs.resolve("a/b").unwrap());
        let a = fs.resolve("a").unwrap();
        // b is moved out of a, and a into b: of both only the new names survive.
        fs.rename(a, b"b", root, b"b", simfs::fs::RenameHow::Replace).unwrap();
        fs.rename(root, b"a", b, b"a", simfs::fs::RenameHow::Replace).unwrap();
        let trace = fs.trace();
        let made = |e: &EffectId| {
            trace.effect(*e).seq > 0 && matches!(trace.effect(*e).value, Value::Entry(Some(_)))
        };
        let extra = (0..trace.effects().len() as u32).map(EffectId).filter(made).collect();
        let token = Token::new(trace, &POSIX, CrashState { at: trace.last(), chain: 0, extra });
        let disk = token.disk(trace).unwrap();
        let paths: Vec<String> = disk.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
        assert_eq!(paths, ["", "a", "a/b", "a/b/a", "b", "b/a", "b/a/b"]);
    }
}
