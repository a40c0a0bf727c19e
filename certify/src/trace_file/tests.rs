//! What is written comes back, in both encodings; what could not have been recorded is refused, whatever bytes it is.

use std::fmt::Write as _;
use std::sync::Arc;

use globset::Glob;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use simfs::fs::{Allocate, Caller, Fs, FsResult, RenameHow, XattrHow};
use simfs::{BlockStore, Ino, Kind, MarkKind, OpKind, SyncScope, Trace};

use super::*;
use crate::judge::{Adds, Expect, SharedRule, judge};
use crate::tree::{Content, Node, Tree};

const WHO: Caller = Caller { uid: 0, gid: 0 };
const MEMORY_BYTES: u64 = 64 << 20;

fn names(path: &str) -> Vec<simfs::Name> {
    path.split('/').map(|name| simfs::Name::from(name.as_bytes())).collect()
}

fn source(text: &[u8]) -> Arc<Tree> {
    let file = |bytes: &[u8]| Node::File {
        mode: 0o644,
        content: Content::read(bytes, &BlockStore::default()).unwrap(),
    };
    let nodes = [
        (&b""[..], Node::Dir { mode: 0o755 }),
        (b"a", Node::Dir { mode: 0o2755 }),
        (b"a/caf\xe9 100%\n", file(text)),
        (b"a/long", file(&[[7; 5000], [0; 5000]].concat())),
        (b"link", Node::Symlink { target: b"a/\xff".to_vec() }),
    ];
    Arc::new(nodes.into_iter().map(|(path, node)| (path.to_vec(), node)).collect())
}

fn scenario() -> Scenario {
    let (one, two) = (source(b"one"), source(b"two"));
    let globs = vec![Glob::new("REVISION*").unwrap(), Glob::new("{a,b}/**").unwrap()];
    Scenario {
        mount: names("srv/disk"),
        deploy_path: names("app"),
        sources: vec![one, two.clone(), two],
        expect: Expect {
            shared: SharedRule::Exact(vec![b"storage/\xfe".to_vec(), b".env".to_vec()]),
            adds: Adds::new(globs).unwrap(),
            mode_mask: 0o755,
        },
        keep: Some(3),
        past: None,
    }
}

/// One op of each kind, effects on each kind of cell, syncs of each scope, a late return and all marks.
fn everything() -> Trace {
    let mut fs = Fs::new(0, 0, 0o755);
    fs.mkdir_p("app/shared").unwrap();
    fs.write_file("app/shared/data", &[1; 9000]).unwrap();
    fs.start_recording();
    fs.mark(MarkKind::Begin { deploy: 1 });
    let app = fs.resolve("app").unwrap();
    let dir = fs.mkdir(app, b"r", 0o755, WHO).unwrap();
    let file = fs.create(dir, b"caf\xe9 %\n", 0o644, WHO).unwrap();
    fs.write(file, 4000, &[9; 300], false).unwrap();
    fs.truncate(file, 100, false).unwrap();
    fs.fallocate(file, Allocate::Zero, 0, 5000, WHO).unwrap();
    let copy = fs.create(dir, b"copy", 0o4755, WHO).unwrap();
    let data = fs.resolve("app/shared/data").unwrap();
    fs.copy_range(data, 0, copy, 0, 9000, WHO).unwrap();
    fs.symlink_at("r/caf\u{e9}", "app/current").unwrap();
    fs.link(file, app, b"other").unwrap();
    fs.set_xattr(file, b"user.x", b"\0\xff", XattrHow::Set).unwrap();
    fs.remove_xattr(file, b"user.x").unwrap();
    fs.chmod(dir, 0o700).unwrap();
    fs.chown(file, Some(7), Some(8)).unwrap();
    let gone = fs.mkdir(app, b"gone", 0o755, WHO).unwrap();
    fs.rename(app, b"gone", dir, b"moved", RenameHow::Replace).unwrap();
    fs.rename(dir, b"moved", app, b"shared", RenameHow::Exchange).unwrap();
    fs.rename(app, b"shared", app, b"moved", RenameHow::NoReplace).unwrap();
    fs.rmdir(app, b"moved").unwrap();
    fs.unlink(app, b"other").unwrap();
    fs.sync(SyncScope::File(file), true);
    fs.sync(SyncScope::FileData(file), false);
    fs.sync(SyncScope::Dir(gone), true);
    fs.sync(SyncScope::All, true);
    fs.mark(MarkKind::Ack { deploy: 1 });
    fs.mark(MarkKind::End { deploy: 1, ok: true, cleanup_pending: true });
    fs.mark(MarkKind::Blind { what: "a back\\slash".to_owned() });
    let mut trace = fs.trace().clone();
    // A sync that another op overtook.
    let seq = trace.last() + 1;
    trace.push(OpKind::Sync { scope: SyncScope::All, returned: seq + 1, ok: true }, []);
    let birth = simfs::Birth { kind: Kind::Fifo, mode: 0o600, uid: 1, gid: 2 };
    let (ino, name) = (Ino(1000), simfs::Name::from(&b"fifo"[..]));
    let effects = [
        (simfs::Cell::Inode(ino), simfs::Value::Inode(birth)),
        (simfs::Cell::Entry(app, name.clone()), simfs::Value::Entry(Some(ino))),
    ];
    trace.push(OpKind::Create { dir: app, name }, effects);
    trace.mark(MarkKind::Begin { deploy: 3 });
    trace
}

fn about(label: &str) -> About {
    let subject = b"sh deploy.sh\n\xff".to_vec();
    About { label: label.to_owned(), subject, cut_short: Some("deploy 3 failed".to_owned()) }
}

fn written(traces: &[(&Scenario, &Trace)], encoding: Encoding) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), encoding).unwrap();
    for (at, (scenario, trace)) in traces.iter().enumerate() {
        writer.history(&about(["", "another:"][at]), scenario, trace).unwrap();
    }
    writer.finish().unwrap()
}

/// All that a trace says, as text.
fn said(trace: &Trace) -> Vec<String> {
    let ops = trace.ops().iter().map(|op| format!("{op:?}"));
    let effects = trace.effects().iter();
    let effects =
        effects.map(|effect| format!("{} {:?} {:?}", effect.seq, trace.cell(effect.cell), effect.value));
    let marks = trace.marks().iter().map(|mark| format!("{mark:?}"));
    ops.chain(effects).chain(marks).collect()
}

fn assert_comes_back(scenario: &Scenario, trace: &Trace) {
    let verdicts = |trace: &Trace, scenario: &Scenario| {
        serde_json::to_string(&judge(trace, scenario, &[&simfs::POSIX])).unwrap()
    };
    let mut files = Vec::new();
    for encoding in [Encoding::Compact, Encoding::Lines] {
        let file = written(&[(scenario, trace), (scenario, trace)], encoding);
        let recorded = read(&file[..], MEMORY_BYTES).unwrap();
        assert_eq!((recorded.encoding, recorded.histories.len()), (encoding, 2));
        for (history, label) in recorded.histories.iter().zip(["", "another:"]) {
            assert_eq!(history.about, about(label));
            assert_eq!(said(&history.trace), said(trace));
            assert_eq!(format!("{:?}", history.scenario), format!("{scenario:?}"));
            assert_eq!(verdicts(&history.trace, &history.scenario), verdicts(trace, scenario));
        }
        files.push(file);
    }
    for (file, other, encoding) in
        [(&files[0], &files[1], Encoding::Lines), (&files[1], &files[0], Encoding::Compact)]
    {
        let (_, converted) = convert(&file[..], Vec::new(), encoding, MEMORY_BYTES).unwrap();
        assert!(converted == *other, "converting to {encoding} is not writing it");
    }
}

#[test]
fn every_kind_of_record_comes_back() {
    assert_comes_back(&scenario(), &everything());
    let mut bare = scenario();
    bare.expect = Expect { shared: SharedRule::None, adds: Adds::none(), mode_mask: 0o7777 };
    bare.keep = None;
    assert_comes_back(&bare, &everything());
    bare.expect.shared = SharedRule::DropDown;
    assert_comes_back(&bare, &everything());
}

/// Random operations; what the disk refuses does not happen.
fn random(steps: &[(u8, u8, u8)]) -> Trace {
    const PATHS: [&str; 8] =
        ["app", "app/current", "app/r", "app/r/1", "app/r/2", "app/r/1/f", "app/r/2/f", "app/shared"];
    let mut fs = Fs::new(0, 0, 0o755);
    fs.mkdir_p("app/r").unwrap();
    fs.start_recording();
    let mut deploy = 0;
    for (what, one, two) in steps {
        let (one, two) = (PATHS[usize::from(*one) % 8], PATHS[usize::from(*two) % 8]);
        let mut step = || -> FsResult<()> {
            let ((dir, name), (to_dir, to)) = (fs.split(one)?, fs.split(two)?);
            match what % 14 {
                0 | 1 => fs.mkdir(dir, &name, 0o755, WHO).map(drop),
                2 => fs.create(dir, &name, 0o644, WHO).map(drop),
                3 => fs.resolve(one).and_then(|ino| fs.write(ino, 10, two.as_bytes(), false)).map(drop),
                4 => fs.symlink_at("r/1", one).map(drop),
                5 => fs.resolve_link(one).and_then(|ino| fs.link(ino, to_dir, &to)),
                6 => fs.unlink(dir, &name).or_else(|_| fs.rmdir(dir, &name)),
                7 | 8 => fs.rename(dir, &name, to_dir, &to, RenameHow::Replace),
                9 => fs.rename(dir, &name, to_dir, &to, RenameHow::Exchange),
                10 => fs.resolve_link(one).and_then(|ino| fs.truncate(ino, 5000, false)),
                11 => {
                    let ino = fs.resolve_link(one)?;
                    fs.sync(SyncScope::Dir(ino), two.len() % 5 > 0);
                    Ok(())
                }
                12 => {
                    fs.sync(SyncScope::All, true);
                    Ok(())
                }
                _ if deploy < 3 => {
                    deploy += 1;
                    fs.mark(MarkKind::Begin { deploy });
                    fs.mark(MarkKind::Ack { deploy });
                    Ok(())
                }
                _ => Ok(()),
            }
        };
        let _ = step();
    }
    fs.trace().clone()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_disk_records_comes_back(steps in prop::collection::vec(any::<(u8, u8, u8)>(), 0..24)) {
        assert_comes_back(&scenario(), &random(&steps));
    }

    #[test]
    fn any_records_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes[..], MEMORY_BYTES);
        let _ = read(&seal(&bytes)[..], MEMORY_BYTES);
        bytes.insert(0, b'{');
        let _ = read(&bytes[..], MEMORY_BYTES);
    }
}

/// The records of a compact file, in their frames, without the seal.
fn frames(file: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let packed = &file[b"cutover-trace 1\n".len()..];
    std::io::Read::read_to_end(&mut flate2::bufread::ZlibDecoder::new(packed), &mut all).unwrap();
    let (mut rest, mut end) = (&all[..], 0);
    while let Some((len, after)) = rest.split_first_chunk() {
        end = all.len() - rest.len();
        rest = &after[u32::from_le_bytes(*len) as usize..];
    }
    all.truncate(end);
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Somebody who can make a seal can make any trace; what is accepted of that can be judged and shown.
    #[test]
    fn records_that_somebody_changed_are_refused_or_judged(
        steps in prop::collection::vec(any::<(u8, u8, u8)>(), 4..24),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut changed = frames(&written(&[(&scenario(), &random(&steps))], Encoding::Compact));
        for (at, byte) in changes {
            // Small numbers most of the time: those are inodes and ops that exist.
            let byte = if byte < 128 { byte % 8 } else { byte };
            let at = at.index(changed.len());
            changed[at] = byte;
        }
        let file = seal(&changed);
        if let Ok(recorded) = read(&file[..], MEMORY_BYTES) {
            let mut shown = Vec::new();
            tell::ops(&recorded, None, &(0..=u32::MAX), true, &mut shown).unwrap();
            tell::stats(&recorded, 0, &mut shown).unwrap();
            tell::tree(&recorded, None, None, &mut shown).unwrap();
            prop_assert!(!String::from_utf8(shown).unwrap().chars().any(|c| c.is_control() && c != '\n'));
            for history in &recorded.histories {
                judge(&history.trace, &history.scenario, &[&simfs::POSIX]);
            }
        }
    }
}

#[test]
fn no_part_of_a_file_is_a_file() {
    for encoding in [Encoding::Compact, Encoding::Lines] {
        let file = written(&[(&scenario(), &everything())], encoding);
        for len in 0..file.len() {
            let Err(error) = read(&file[..len], MEMORY_BYTES) else {
                // Only the last line feed is missing, and nothing with it.
                assert_eq!((encoding, len), (Encoding::Lines, file.len() - 1));
                continue;
            };
            let short = matches!(error, TraceFileError::CutShort { .. });
            let begun = len > b"cutover-trace 1\n".len();
            assert!(short || !begun, "the first {len} bytes: {error}");
        }
        let more = [&file[..], b"\n"].concat();
        assert!(matches!(read(&more[..], MEMORY_BYTES), Err(TraceFileError::Damaged { .. })));
    }
}

#[test]
fn no_bit_can_change_what_is_read() {
    for encoding in [Encoding::Compact, Encoding::Lines] {
        let mut file = written(&[(&scenario(), &random(&[(0, 4, 0), (2, 6, 0), (11, 2, 1)]))], encoding);
        let good = read(&file[..], MEMORY_BYTES).unwrap();
        for at in 0..file.len() {
            let bit = at % 8;
            file[at] ^= 1 << bit;
            match read(&file[..], MEMORY_BYTES) {
                Err(_) => {}
                // Some bits of a compressed stream mean nothing: then it unpacks to the same.
                Ok(same) => {
                    assert_eq!(encoding, Encoding::Compact, "bit {bit} of byte {at} changed");
                    assert_eq!(said(&same.histories[0].trace), said(&good.histories[0].trace));
                }
            }
            file[at] ^= 1 << bit;
        }
    }
}

/// JSON lines with a seal that fits.
fn sealed(lines: &[String]) -> Vec<u8> {
    let mut file: Vec<u8> = lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
    let sha256 = data_encoding::HEXLOWER.encode(&Sha256::digest(&file));
    let seal = format!("{{\"seal\":{{\"records\":{},\"sha256\":\"{sha256}\"}}}}\n", lines.len());
    file.extend(seal.into_bytes());
    file
}

/// The lines of a small good file, without its seal.
fn good() -> Vec<String> {
    let mut fs = Fs::new(0, 0, 0o755);
    fs.start_recording();
    fs.mark(MarkKind::Begin { deploy: 1 });
    let dir = fs.mkdir(simfs::ROOT, b"d", 0o755, WHO).unwrap();
    let file = fs.create(dir, b"f", 0o644, WHO).unwrap();
    fs.write(file, 0, b"two", false).unwrap();
    fs.symlink_at("d", "l").unwrap();
    fs.mkdir(dir, b"e", 0o755, WHO).unwrap();
    fs.sync(SyncScope::All, true);
    fs.mark(MarkKind::Ack { deploy: 1 });
    let file = written(&[(&scenario(), fs.trace())], Encoding::Lines);
    let mut lines: Vec<String> = String::from_utf8(file).unwrap().lines().map(str::to_owned).collect();
    lines.pop();
    lines
}

#[test]
fn what_could_not_have_been_recorded_is_refused() {
    let good = good();
    assert!(read(&sealed(&good)[..], MEMORY_BYTES).is_ok());
    let entry = |dir: u64, name: &str, ino: &str| {
        format!(r#"{{"entry":{{"dir":{dir},"name":"{name}","ino":{ino}}}}}"#)
    };
    // The first place of one text becomes another.
    let cases: &[(&str, String)] = &[
        (r#""format":1"#, r#""format":2"#.into()),
        (r#""header""#, r#""history""#.into()),
        (r#""tool":"cut"#, r#""tool":"\u001bcut"#.into()),
        (r#""path":"a/long""#, r#""path":"../x""#.into()),
        (r#""path":"a/long""#, r#""path":"a/x%00""#.into()),
        (r#""path":"a/long""#, r#""path":"A""#.into()),
        (r#""path":"a/long""#, r#""path":"b/c""#.into()),
        (r#""path":"a/long""#, r#""path":"a/%4""#.into()),
        (r#""source":1,"path":"a""#, r#""source":2,"path":"a""#.into()),
        (r#""size":10000"#, r#""size":100000"#.into()),
        (r#""size":10000"#, r#""size":18446744073709551615"#.into()),
        (r#""size":3"#, r#""size":2"#.into()),
        (r#""mode":"2755""#, r#""mode":"12755""#.into()),
        (r#""bytes":"b25l""#, r#""bytes":"b25""#.into()),
        (r#""bytes":"b25l""#, r#""bytes":"b25m""#.into()),
        (r#""mount":["srv","disk"]"#, r#""mount":[]"#.into()),
        (r#""mount":["srv","disk"]"#, r#""mount":["srv/disk"]"#.into()),
        (r#""sources":[1,2,2]"#, r#""sources":[1,3]"#.into()),
        (r#""sources":[1,2,2]"#, r#""sources":[]"#.into()),
        (r#""adds":["REVISION*""#, r#""adds":["[a""#.into()),
        (r#""keep":3"#, r#""keep":0"#.into()),
        (r#""keep":3"#, r#""keep":-1"#.into()),
        (r#""keep":3"#, r#""kept":3"#.into()),
        (r#""label":"""#, r#""label":"\u001b[2J""#.into()),
        (r#""kind":"initial""#, r#""kind":{"chmod":{"ino":1}}"#.into()),
        (r#""seq":2"#, r#""seq":3"#.into()),
        (r#""inode":{"ino":1,"kind":"dir""#, r#""inode":{"ino":9,"kind":"dir""#.into()),
        (r#""inode":{"ino":1,"kind":"dir""#, r#""inode":{"ino":1,"kind":"file""#.into()),
        (r#""inode":{"ino":2"#, r#""inode":{"ino":0"#.into()),
        (r#""inode":{"ino":2"#, r#""inode":{"ino":1"#.into()),
        (r#""mkdir":{"dir":1,"#, r#""mkdir":{"dir":7,"#.into()),
        (&entry(1, "d", "2"), entry(1, "d", "77")),
        (&entry(1, "d", "2"), entry(1, "d", "1")),
        (&entry(1, "d", "2"), entry(2, "d", "2")),
        (&entry(1, "d", "2"), entry(1, "a/b", "2")),
        (&entry(1, "d", "2"), entry(1, "..", "2")),
        (&entry(1, "d", "2"), entry(1, "%00", "2")),
        (&entry(1, "d", "2"), entry(1, &"x".repeat(256), "2")),
        (&entry(1, "d", "2"), [entry(1, "d", "2"), entry(1, "c", "2")].join(",")),
        (&entry(1, "d", "2"), [entry(1, "d", "null"), entry(1, "d", "2")].join(",")),
        (&entry(2, "e", "5"), [entry(2, "e", "5"), entry(5, "d", "2")].join(",")),
        (&entry(2, "f", "3"), entry(3, "f", "3")),
        (r#""target":{"ino":4,"text":"d"}"#, r#""target":{"ino":3,"text":"d"}"#.into()),
        (r#""target":{"ino":4,"text":"d"}"#, r#""target":{"ino":4,"text":"%00"}"#.into()),
        (
            r#""target":{"ino":4,"text":"d"}"#,
            r#""target":{"ino":4,"text":"d"}},{"target":{"ino":4,"text":"e"}"#.into(),
        ),
        (r#""block":{"ino":3,"n":0"#, r#""block":{"ino":2,"n":0"#.into()),
        (r#""block":{"ino":3,"n":0"#, r#""block":{"ino":3,"n":4503599627370496"#.into()),
        (r#""block":{"ino":3,"n":0"#, r#""block":{"ino":3,"n":-1"#.into()),
        (r#""size":{"ino":3,"bytes":3}"#, r#""size":{"ino":3,"bytes":9223372036854775808}"#.into()),
        (r#""size":{"ino":3,"bytes":3}"#, r#""size":{"ino":3,"bytes":4611686018427387904}"#.into()),
        (r#""size":{"ino":3,"bytes":3}"#, r#""mode":{"ino":3,"mode":"3"}"#.into()),
        (r#""size":{"ino":3,"bytes":3}"#, r#""xattr":{"ino":3,"name":"","value":null}"#.into()),
        (r#""size":{"ino":3,"bytes":3}"#, r#""colour":{"ino":3}"#.into()),
        (r#""returned":6"#, r#""returned":5"#.into()),
        (r#""returned":6"#, r#""returned":7"#.into()),
        (r#""scope":"all""#, r#""scope":{"file":{"ino":99}}"#.into()),
        (r#"{"after":0,"#, r#"{"after":1,"#.into()),
        (r#"{"begin":{"deploy":1}}"#, r#"{"begin":{"deploy":4}}"#.into()),
        (r#"{"begin":{"deploy":1}}"#, r#"{"begin":{"deploy":0}}"#.into()),
        (r#"{"begin":{"deploy":1}}"#, r#"{"blind":{"what":"\u001b"}}"#.into()),
        (r#"{"begin":{"deploy":1}}"#, r#"{"blind":{"what":"fine"}}"#.into()),
        (r#""end":{"ops":7"#, r#""end":{"ops":8"#.into()),
    ];
    let mut shown = String::new();
    for (from, to) in cases {
        let at = good
            .iter()
            .position(|line| line.contains(from))
            .unwrap_or_else(|| panic!("no {from} in {good:#?}"));
        let mut lines = good.clone();
        lines[at] = lines[at].replacen(from, to, 1);
        let error = match read(&sealed(&lines)[..], MEMORY_BYTES) {
            Err(error) => error.to_string(),
            Ok(_) => "ACCEPTED".to_owned(),
        };
        let to = if to.len() > 99 { &to[..99] } else { to };
        let _ = writeln!(shown, "{to}\n  {error}");
    }
    insta::assert_snapshot!(shown, @r#"
    "format":2
      this trace file has format version 2; this program reads version 1
    "history"
      line 1: not a record: unknown field `format`, expected one of `label`, `subject`, `cut_short`, `mount`, `deploy_path`, `sources`, `shared`, `adds`, `mode_mask`, `keep`, at byte 20
    "tool":"\u001bcut
      line 1: the tool's name contains control characters
    "path":"../x"
      line 9: the nodes of a source are not in the order of their paths
    "path":"a/x%00"
      line 9: a name contains a NUL byte
    "path":"A"
      line 9: the nodes of a source are not in the order of their paths
    "path":"b/c"
      line 9: a node of a source is in no directory
    "path":"a/%4"
      line 9: not a record: a % is not followed by two hexadecimal digits, at byte 33
    "source":2,"path":"a"
      line 3: a node of source 2, which has not begun, or is complete
    "size":100000
      line 9: a file of 100000 bytes has 3 blocks
    "size":18446744073709551615
      line 9: a file of 18446744073709551615 bytes has 3 blocks
    "size":2
      line 5: a file has content beyond its size
    "mode":"12755"
      line 3: not a record: a mode is four octal digits, not "12755", at byte 58
    "bytes":"b25"
      line 4: not a record: not base64: invalid length at 0, at byte 94
    "bytes":"b25m"
      line 4: the content does not have the SHA-256 that it is named by
    "mount":[]
      line 17: the disk was mounted nowhere
    "mount":["srv/disk"]
      line 17: a name contains a slash
    "sources":[1,3]
      line 17: there is no source 3
    "sources":[]
      line 19: deploy 1 has no source
    "adds":["[a"
      line 17: what is added to a release: error parsing glob '[a': unclosed character class; missing ']'
    "keep":0
      line 17: no release is to be kept, which cannot be
    "keep":-1
      line 17: not a record: invalid value: integer `-1`, expected u64, at byte 259
    "kept":3
      line 17: not a record: unknown field `kept`, expected one of `label`, `subject`, `cut_short`, `mount`, `deploy_path`, `sources`, `shared`, `adds`, `mode_mask`, `keep`, at byte 256
    "label":"\u001b[2J"
      line 17: the label contains control characters
    "kind":{"chmod":{"ino":1}}
      line 18: op 0 is not the initial disk
    "seq":3
      line 21: op 3 comes where op 2 should
    "inode":{"ino":9,"kind":"dir"
      line 18: op 0 has no root directory (inode 1)
    "inode":{"ino":1,"kind":"file"
      line 18: op 0 has no root directory (inode 1)
    "inode":{"ino":0
      line 20: there is no inode 0
    "inode":{"ino":1
      line 20: the root directory is made after op 0
    "mkdir":{"dir":7,
      line 20: there is no inode 7
    {"entry":{"dir":1,"name":"d","ino":77}}
      line 20: there is no inode 77
    {"entry":{"dir":1,"name":"d","ino":1}}
      line 20: the root directory gets a name
    {"entry":{"dir":2,"name":"d","ino":2}}
      line 20: directory 2 is within itself, or too deep
    {"entry":{"dir":1,"name":"a/b","ino":2}}
      line 20: a name contains a slash
    {"entry":{"dir":1,"name":"..","ino":2}}
      line 20: `.` and `..` are no names of entries
    {"entry":{"dir":1,"name":"%00","ino":2}}
      line 20: a name contains a NUL byte
    {"entry":{"dir":1,"name":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
      line 20: a name is longer than 255 bytes
    {"entry":{"dir":1,"name":"d","ino":2}},{"entry":{"dir":1,"name":"c","ino":2}}
      line 20: directory 2 has two names
    {"entry":{"dir":1,"name":"d","ino":null}},{"entry":{"dir":1,"name":"d","ino":2}}
      line 20: one op changes a name twice
    {"entry":{"dir":2,"name":"e","ino":5}},{"entry":{"dir":5,"name":"d","ino":2}}
      line 24: directory 5 is within itself, or too deep
    {"entry":{"dir":3,"name":"f","ino":3}}
      line 21: inode 3 is not a directory
    "target":{"ino":3,"text":"d"}
      line 23: inode 3 is not a symlink
    "target":{"ino":4,"text":"%00"}
      line 23: the text of a symlink contains a NUL byte
    "target":{"ino":4,"text":"d"}},{"target":{"ino":4,"text":"e"}
      line 23: symlink 4 gets a second text
    "block":{"ino":2,"n":0
      line 22: inode 2 is not a file
    "block":{"ino":3,"n":4503599627370496
      line 22: block 4503599627370496 is beyond the end of any file
    "block":{"ino":3,"n":-1
      line 22: not a record: invalid value: integer `-1`, expected u64, at byte 96
    "size":{"ino":3,"bytes":9223372036854775808}
      line 22: no file has 9223372036854775808 bytes
    "size":{"ino":3,"bytes":4611686018427387904}
      line 22: reading on would take more than 67108864 bytes of memory
    "mode":{"ino":3,"mode":"3"}
      line 22: not a record: a mode is four octal digits, not "3", at byte 199
    "xattr":{"ino":3,"name":"","value":null}
      line 22: the name of an attribute has 1 to 255 bytes, and no NUL byte
    "colour":{"ino":3}
      line 22: not a record: unknown variant `colour`, expected one of `inode`, `target`, `entry`, `block`, `size`, `mode`, `owner`, `xattr`, at byte 181
    "returned":5
      line 25: a sync call returned after op 5, before it began
    "returned":7
      line 27: the sync call of op 6 returned after op 7; the last op is 6
    "scope":{"file":{"ino":99}}
      line 25: there is no inode 99
    {"after":1,
      line 19: a mark after op 1 is not behind that op
    {"begin":{"deploy":4}}
      line 19: deploy 4 has no source
    {"begin":{"deploy":0}}
      line 19: deploy 0 begins after deploy 0
    {"blind":{"what":"\u001b"}}
      line 19: what was not seen contains control characters
    {"blind":{"what":"fine"}}
      line 26: deploy 1 is not running
    "end":{"ops":8
      line 27: the history does not have as many ops, effects or marks as its end says
    "#);
}

#[test]
fn records_have_an_order() {
    let good = good();
    let place = |what: &str| good.iter().position(|line| line.starts_with(&format!("{{\"{what}"))).unwrap();
    let mut shown = String::new();
    let mut refused = |what: &str, lines: &[String]| {
        let error = read(&sealed(lines)[..], MEMORY_BYTES).expect_err(what);
        let _ = writeln!(shown, "{what}: {error}");
    };
    refused("nothing", &[]);
    refused("only a header", &good[..1]);
    refused("no header", &good[1..]);
    refused("no end", &good[..good.len() - 1]);
    refused("no history", &[&good[..place("history")], &good[place("end")..]].concat());
    refused("an op after the end", &[&good[..], &good[place("op")..=place("op")]].concat());
    refused("a history in a history", &[&good[..good.len() - 1], &good[place("history")..]].concat());
    refused("a node in a history", &[&good[..good.len() - 1], &good[1..2]].concat());
    refused("a mark before the first op", &[&good[..=place("history")], &good[place("mark")..]].concat());
    refused("a second header", &[&good[..1], &good[..]].concat());
    refused("a content twice", &[&good[..=place("blob")], &good[place("blob")..]].concat());
    refused("a content too late", &[&good[..place("blob")], &good[place("blob") + 1..]].concat());
    insta::assert_snapshot!(shown, @"
    nothing: line 1: the file holds no history
    only a header: line 1: the file holds no history
    no header: line 1: the first record, and no other, is the header
    no end: line 26: the history has no end
    no history: line 17: there is no history that it belongs to
    an op after the end: line 28: there is no history that it belongs to
    a history in a history: line 27: the history before it has no end
    a node in a history: line 27: the history before it has no end
    a mark before the first op: line 18: a mark after op 0 is not behind that op
    a second header: line 2: the first record, and no other, is the header
    a content twice: line 5: the same content was there before
    a content too late: line 4: no blob before it has the content 7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed
    ");
}

#[test]
fn lengths_that_are_nonsense_cost_nothing() {
    let refused = |frames: &[u8]| read(&seal(frames)[..], MEMORY_BYTES).expect_err("nonsense").to_string();
    let mut shown = String::new();
    let header = [&[24, 0, 0, 0, 0, 1, 21][..], b"cutover-certify 0.1.0", &[]].concat();
    assert_eq!(header.len(), 4 + 24, "a header as it is written");
    for frames in [
        vec![255, 255, 255, 255],
        vec![255, 255, 255, 0],
        [&header[..], &[5, 0, 0, 0]].concat(),
        // A tool whose name has 2^32 - 1 bytes.
        vec![8, 0, 0, 0, 0, 1, 255, 255, 255, 255, 15, b'x'],
        // An op with 2^28 effects.
        [&header[..], &[9, 0, 0, 0, 4, 0, 0, 255, 255, 255, 127, 0, 0]].concat(),
        // More in its frame than a record.
        [&[25, 0, 0, 0], &header[4..], &[0]].concat(),
        // No such record.
        vec![1, 0, 0, 0, 99],
    ] {
        let _ = writeln!(shown, "{}", refused(&frames));
    }
    insta::assert_snapshot!(shown, @"
    record 1 (byte 0 of the unpacked stream): a record of 4294967295 bytes; none has more than 16777216
    the file is cut short: it ends at record 1 (byte 0 of the unpacked stream), before its seal
    record 2 (byte 28 of the unpacked stream): not a record: Serde Deserialization Error
    record 1 (byte 0 of the unpacked stream): not a record: Hit the end of buffer, expected more data
    record 2 (byte 28 of the unpacked stream): not a record: Hit the end of buffer, expected more data
    record 1 (byte 0 of the unpacked stream): 1 bytes after the record
    record 1 (byte 0 of the unpacked stream): not a record: Serde Deserialization Error
    ");
}

/// A small file that unpacks to a large one is refused when it reaches the limit, not when memory is gone.
#[test]
fn memory_is_bounded_by_the_reader() {
    let mut fs = Fs::new(0, 0, 0o755);
    fs.start_recording();
    let file = fs.create(simfs::ROOT, b"f", 0o644, WHO).unwrap();
    for _ in 0..20_000 {
        fs.chmod(file, 0o644).unwrap();
    }
    let packed = written(&[(&scenario(), fs.trace())], Encoding::Compact);
    assert!(packed.len() < 100_000, "{} bytes", packed.len());
    assert!(read(&packed[..], MEMORY_BYTES).is_ok());
    let error = read(&packed[..], 1 << 20).expect_err("20,000 effects need more than 1 MiB");
    assert!(matches!(error, TraceFileError::TooLarge { limit_bytes: 1_048_576, .. }), "{error}");
    assert_eq!(error.hint(), "if it is a trace of your own, allow more with --memory MIB");
}

#[test]
fn other_files_are_no_traces() {
    let mut shown = String::new();
    for file in [
        &b""[..],
        b"\x7fELF\x02\x01",
        b"#!/bin/sh\n",
        b"cutover\n",
        b"cutover-trace one\n",
        b"cutover-trace 2\n",
        b"cutover-trace 1\n",
        b"cutover-trace 1\nnot compressed at all",
        b"{}\n",
        b"{\"a\":\x1b\n",
        b"{\"header\":{\"format\":7,\"future\":true}}\n",
        b"{\"header\":{\"format\":1,\"tool\":\"x\",\"more\":1}}\n",
    ] {
        let error = read(file, MEMORY_BYTES).expect_err("no trace");
        let _ = writeln!(shown, "{:?}: {error}", String::from_utf8_lossy(file));
    }
    insta::assert_snapshot!(shown, @r##"
    "": the file is empty
    "\u{7f}ELF\u{2}\u{1}": this is not a trace file: it begins with '\u{7f}ELF\u{2}\u{1}'
    "#!/bin/sh\n": this is not a trace file: it begins with '#!/bin/sh\n'
    "cutover\n": this is not a trace file: it begins with 'cutover\n'
    "cutover-trace one\n": this is not a trace file: it begins with 'cutover-trace on'
    "cutover-trace 2\n": this trace file has format version 2; this program reads version 1
    "cutover-trace 1\n": the file is cut short: it ends at record 1 (byte 0 of the unpacked stream), before its seal
    "cutover-trace 1\nnot compressed at all": record 1 (byte 0 of the unpacked stream): the compressed stream is damaged
    "{}\n": line 1: not a record: expected value, at byte 2
    "{\"a\":\u{1b}\n": line 1: not a record: unknown variant `a`, expected one of `header`, `blob`, `node`, `history`, `op`, `mark`, `end`, `seal`, at byte 4
    "{\"header\":{\"format\":7,\"future\":true}}\n": this trace file has format version 7; this program reads version 1
    "{\"header\":{\"format\":1,\"tool\":\"x\",\"more\":1}}\n": line 1: not a record: unknown field `more`, expected `format` or `tool`, at byte 39
    "##);
}

#[test]
fn paths_are_those_of_the_instant() {
    let mut fs = Fs::new(0, 0, 0o755);
    fs.start_recording();
    let dir = fs.mkdir(simfs::ROOT, b"a", 0o755, WHO).unwrap();
    let file = fs.create(dir, b"\x1bf", 0o644, WHO).unwrap();
    fs.open(file).unwrap();
    fs.link(file, simfs::ROOT, b"g").unwrap();
    fs.rename(simfs::ROOT, b"a", simfs::ROOT, b"b", RenameHow::Replace).unwrap();
    fs.write(file, 0, b"x", false).unwrap();
    fs.unlink(simfs::ROOT, b"g").unwrap();
    fs.write(file, 1, b"y", false).unwrap();
    fs.unlink(dir, b"\x1bf").unwrap();
    fs.chmod(file, 0o600).unwrap();
    let recorded = read(&written(&[(&scenario(), fs.trace())], Encoding::Compact)[..], MEMORY_BYTES).unwrap();
    let mut shown = Vec::new();
    tell::ops(&recorded, None, &(2..=9), false, &mut shown).unwrap();
    insta::assert_snapshot!(String::from_utf8(shown).unwrap(), @r"
    2  create /srv/disk/a/\u{1b}f
    3  link /srv/disk/a/\u{1b}f /srv/disk/g
    4  rename /srv/disk/a /srv/disk/b
    5  write 1 bytes at 0 of /srv/disk/g
    6  unlink /srv/disk/g
    7  write 1 bytes at 1 of /srv/disk/b/\u{1b}f
    8  unlink /srv/disk/b/\u{1b}f
    9  chmod /srv/disk/b/\u{1b}f
    ");
}
