//! SFTP spoken by hand: what no client sends, and names that are not text.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use crate::support::{Fixture, PATIENCE};

const OK: u32 = 0;
const NO_SUCH_FILE: u32 = 2;
const PERMISSION_DENIED: u32 = 3;
const BAD_MESSAGE: u32 = 5;
const UNSUPPORTED: u32 = 8;

/// The bytes of an SFTP session, over `ssh -s`.
struct Raw {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
    next_id: u32,
}

/// A reply: its type, and what follows the id.
struct Reply(u8, Vec<u8>);

impl Reply {
    fn u32(&self) -> u32 {
        u32::from_be_bytes(self.1[..4].try_into().unwrap())
    }

    /// The code of a STATUS.
    fn status(&self) -> u32 {
        assert_eq!(self.0, 101, "not a status: {:?}", self.1);
        self.u32()
    }

    /// The handle of a HANDLE, as the field of a request.
    fn handle(&self) -> Vec<u8> {
        assert_eq!(self.0, 102, "not a handle: {:?}", self.1);
        self.1.clone()
    }
}

fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

impl Raw {
    fn start(fixture: &Fixture) -> Self {
        let mut client = fixture.client("ssh");
        client
            .args(["-s", "target", "sftp"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = client.spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, to, from, next_id: 7 }
    }

    fn packet(&mut self, body: &[u8]) {
        self.to.write_all(&string(body)).unwrap();
    }

    /// The next packet of the server: its type and the rest.
    fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut length = [0; 4];
        self.from.read_exact(&mut length).unwrap();
        let mut packet = vec![0; u32::from_be_bytes(length) as usize];
        self.from.read_exact(&mut packet).unwrap();
        (packet[0], packet[1..].to_vec())
    }

    /// A request with these fields, and its reply.
    fn ask(&mut self, kind: u8, fields: &[&[u8]]) -> Reply {
        self.next_id += 1;
        let id = self.next_id.to_be_bytes();
        self.packet(&[&[kind], id.as_slice(), &fields.concat()].concat());
        let (kind, rest) = self.receive();
        assert_eq!(rest[..4], id, "the reply answers this request");
        Reply(kind, rest[4..].to_vec())
    }

    fn init(&mut self) -> Vec<u8> {
        self.packet(&[1, 0, 0, 0, 3]);
        let (kind, rest) = self.receive();
        assert_eq!((kind, &rest[..4]), (2, [0, 0, 0, 3].as_slice()));
        rest[4..].to_vec()
    }

    fn open(&mut self, path: &[u8], flags: u32) -> Reply {
        self.ask(3, &[&string(path), &flags.to_be_bytes(), &0_u32.to_be_bytes()])
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const NO_ATTRIBUTES: &[u8] = &[0; 4];
const CREATE_AND_WRITE: u32 = 2 | 8;

#[test]
fn fsync_is_announced_and_real_errors_are_returned() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let mut raw = Raw::start(&fixture);
    let extensions = String::from_utf8(raw.init()).unwrap();
    for name in
        ["posix-rename@openssh.com", "hardlink@openssh.com", "fsync@openssh.com", "limits@openssh.com"]
    {
        assert!(extensions.contains(name), "{extensions}");
    }
    let path = format!("{}/file", fixture.srv());
    let handle = raw.open(path.as_bytes(), CREATE_AND_WRITE).handle();
    let fsync = string("fsync@openssh.com");
    assert_eq!(raw.ask(200, &[&fsync, &handle]).status(), OK);
    assert_eq!(
        raw.ask(200, &[&fsync, &string([9, 9, 9, 9])]).status(),
        NO_SUCH_FILE,
        "EBADF, as OpenSSH says it"
    );
    assert_eq!(raw.ask(4, &[&handle]).status(), OK);
    assert_eq!(raw.ask(4, &[&handle]).status(), NO_SUCH_FILE, "closed twice");
    assert_eq!(raw.ask(200, &[&string("statvfs@openssh.com"), &string("/")]).status(), UNSUPPORTED);
}

#[test]
fn requests_that_make_no_sense_are_answered_as_such() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let mut raw = Raw::start(&fixture);
    raw.init();
    for kind in [3_u8, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 200] {
        assert_eq!(raw.ask(kind, &[]).status(), BAD_MESSAGE, "type {kind} without fields");
        assert_eq!(raw.ask(kind, &[&[0xff; 4]]).status(), BAD_MESSAGE, "type {kind} with a string of 4 GiB");
    }
    assert_eq!(raw.ask(99, &[]).status(), UNSUPPORTED);
    assert_eq!(raw.ask(4, &[&string("no handle of ours")]).status(), NO_SUCH_FILE);
    let nul = raw.ask(14, &[&string(b"/srv/a\0b"), NO_ATTRIBUTES]).status();
    assert_eq!(nul, BAD_MESSAGE, "a name with a zero byte");
    for path in ["", "/", "..", ".", "/srv/..", "///"] {
        assert_ne!(raw.ask(13, &[&string(path)]).status(), OK, "remove {path:?}");
        assert_ne!(raw.ask(15, &[&string(path)]).status(), OK, "rmdir {path:?}");
    }
    // Reading and writing past every end.
    let path = format!("{}/file", fixture.srv());
    let handle = raw.open(path.as_bytes(), 1 | CREATE_AND_WRITE).handle();
    let far = u64::MAX.to_be_bytes();
    assert_ne!(raw.ask(5, &[&handle, &far, &u32::MAX.to_be_bytes()]).0, 103);
    assert_ne!(raw.ask(6, &[&handle, &far, &string("x")]).status(), OK);
    assert_eq!(raw.ask(17, &[&string(&path)]).0, 105, "the session still works");
}

/// A length that cannot be one ends the session, not the server.
#[test]
fn a_packet_of_nonsense_length_ends_the_session() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    for length in [0_u32, (256 << 10) + 1, u32::MAX] {
        let mut raw = Raw::start(&fixture);
        raw.init();
        raw.to.write_all(&length.to_be_bytes()).unwrap();
        let mut rest = Vec::new();
        raw.from.read_to_end(&mut rest).unwrap();
        assert_eq!((rest.len(), raw.child.wait().unwrap().code()), (0, Some(1)), "{length}");
    }
    assert!(fixture.server.wait_idle(PATIENCE));
}

/// Names are bytes, there and back.
#[test]
fn names_that_are_not_text_arrive_as_they_are() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let name = b"latin1-\xe9\xff";
    let path = [fixture.srv().as_bytes(), b"/", name].concat();
    let mut raw = Raw::start(&fixture);
    raw.init();
    let handle = raw.open(&path, CREATE_AND_WRITE).handle();
    assert_eq!(raw.ask(6, &[&handle, &[0; 8], &string("content")]).status(), OK);
    assert_eq!(fs::read(fixture.on_disk(std::ffi::OsStr::from_bytes(name))).unwrap(), b"content");
    let directory = raw.ask(11, &[&string(fixture.srv())]).handle();
    let listing = raw.ask(12, &[&directory]);
    assert_eq!(listing.0, 104);
    assert!(listing.1.windows(name.len()).any(|window| window == name));
    let link = [path.as_slice(), b"-link"].concat();
    // The target first, as OpenSSH sends them.
    assert_eq!(raw.ask(20, &[&string(name), &string(&link)]).status(), OK);
    let target = raw.ask(19, &[&string(&link)]);
    assert_eq!(target.1[4..][..4 + name.len()], string(name));
}

/// What the programs in the sandbox cannot read, because they lack the rights, is closed to the server's own rights too.
#[test]
fn the_process_files_are_closed() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let mut raw = Raw::start(&fixture);
    raw.init();
    for path in
        ["/proc/1/environ", "/proc/1/mem", "/proc/kcore", "/proc/self/status", "/proc/1/root/etc/shadow"]
    {
        let status = raw.open(path.as_bytes(), 1).status();
        assert!([PERMISSION_DENIED, NO_SUCH_FILE, 4].contains(&status), "{path}: {status}");
    }
    assert_eq!(raw.ask(11, &[&string("/proc")]).status(), PERMISSION_DENIED);
}

#[test]
fn attributes_are_set_through_links_but_not_outside() {
    let Some(fixture) = Fixture::new(&["ssh"]) else { return };
    let (file, link) = (fixture.on_disk("file"), fixture.on_disk("link"));
    fs::write(&file, "0123456789").unwrap();
    // Absolute, and right only inside.
    std::os::unix::fs::symlink(format!("{}/file", fixture.srv()), &link).unwrap();
    let mut raw = Raw::start(&fixture);
    raw.init();
    let path = string(format!("{}/link", fixture.srv()));
    let all = [1 | 2 | 4 | 8_u32, 0, 4, 1000, 1001, 0o600, 1_000_000_000, 1_100_000_000]
        .map(u32::to_be_bytes)
        .concat();
    assert_eq!(raw.ask(9, &[&path, &all]).status(), OK);
    let stat = file.metadata().unwrap();
    let seen = (stat.size(), stat.uid(), stat.gid(), stat.mode() & 0o7777, stat.atime(), stat.mtime());
    assert_eq!(seen, (4, 1000, 1001, 0o600, 1_000_000_000, 1_100_000_000));
    let mode = [4_u32, 0o777].map(u32::to_be_bytes).concat();
    assert_ne!(raw.ask(9, &[&string("/etc/passwd"), &mode]).status(), OK);
    assert_eq!(fs::metadata("/etc/passwd").unwrap().mode() & 0o002, 0);
}
