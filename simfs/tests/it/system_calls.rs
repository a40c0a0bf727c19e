//! Single system calls on a mount: what they answer and what they record.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;

use rustix::fs::{CWD, FallocateFlags, RenameFlags, XattrFlags};
use simfs::{Birth, Cell, Errno, Fs, Ino, Kind, Limits, ROOT, Value};

use crate::mounted::{on_mount, on_mount_of};

#[test]
fn truncating_open_is_a_crash_point_of_its_own() {
    on_mount(|rig| {
        std::fs::write(rig.at.join("f"), b"old").unwrap();
        let before = rig.last();
        std::fs::write(rig.at.join("f"), b"new!").unwrap();
        assert_eq!(rig.recorded(before), "truncate 0 +2\nwrite 0 4 +2\n");
        assert_eq!(std::fs::read(rig.at.join("f")).unwrap(), b"new!");
    });
}

#[test]
fn a_removed_file_lives_while_it_is_open() {
    on_mount(|rig| {
        let path = rig.at.join("f");
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.write_all(&[7; 10_000]).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(b"more").unwrap();
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(9_999)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"\x07more");
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        file.set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(rig.disk.with(|fs| fs.usage().used_inodes), 2);
        drop(file);
        // The kernel forgets in its own time, but soon.
        for _ in 0..1000 {
            if rig.disk.with(|fs| fs.usage().used_bytes) == 0 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("the file is still there");
    });
}

#[test]
fn rename_flags() {
    on_mount(|rig| {
        rig.sh("echo a > a; echo b > b; mkdir d; echo f > d/f");
        let rename = |from: &str, to: &str, flags| {
            rustix::fs::renameat_with(CWD, rig.at.join(from), CWD, rig.at.join(to), flags)
        };
        assert_eq!(rename("a", "b", RenameFlags::NOREPLACE), Err(Errno::EXIST));
        rename("a", "d", RenameFlags::EXCHANGE).unwrap();
        assert_eq!(rig.sh("cat d a/f"), "a\nf\n");
        rename("b", "c", RenameFlags::NOREPLACE).unwrap();
        assert_eq!(rename("b", "c", RenameFlags::EXCHANGE), Err(Errno::NOENT));
        assert_eq!(rename("a", "a/x", RenameFlags::empty()), Err(Errno::INVAL));
        assert_eq!(rename("c", "e", RenameFlags::WHITEOUT), Err(Errno::INVAL));
        assert_eq!(rig.sh("ls"), "a\nc\nd\n");
    });
}

#[test]
fn extended_attributes() {
    on_mount(|rig| {
        let path = rig.at.join("f");
        File::create(&path).unwrap();
        let set = |name: &str, value: &[u8], flags| rustix::fs::setxattr(&path, name, value, flags);
        let get = |name: &str| {
            let mut buffer = [0_u8; 64];
            rustix::fs::getxattr(&path, name, &mut buffer).map(|len| buffer[..len].to_vec())
        };
        set("user.a", b"one", XattrFlags::CREATE).unwrap();
        assert_eq!(set("user.a", b"two", XattrFlags::CREATE), Err(Errno::EXIST));
        set("user.a", b"", XattrFlags::REPLACE).unwrap();
        set("user.b\u{e9}", &[0; 60], XattrFlags::empty()).unwrap();
        assert_eq!(get("user.a").unwrap(), b"");
        assert_eq!(get("user.none"), Err(Errno::NODATA));
        assert_eq!(get("system.posix_acl_access"), Err(Errno::OPNOTSUPP));
        // Version 2; owner, a user, group, mask, others: what the kernel itself accepts as a list.
        let user = rustix::process::geteuid().as_raw().cast_signed();
        let entries = [(1, -1), (2, user), (4, -1), (16, -1), (32, -1)].map(|(tag, id): (u16, i32)| {
            [&tag.to_le_bytes()[..], &6_u16.to_le_bytes(), &id.to_le_bytes()].concat()
        });
        let list = [&2_u32.to_le_bytes()[..], &entries.concat()].concat();
        assert_eq!(set("system.posix_acl_access", &list, XattrFlags::empty()), Err(Errno::OPNOTSUPP));
        let mut names = [0_u8; 64];
        let len = rustix::fs::listxattr(&path, &mut names).unwrap();
        assert_eq!(&names[..len], "user.a\0user.b\u{e9}\0".as_bytes());
        rustix::fs::removexattr(&path, "user.a").unwrap();
        assert_eq!(rustix::fs::removexattr(&path, "user.a"), Err(Errno::NODATA));
        rustix::fs::setxattr(&rig.at, "user.root", b"dirs too", XattrFlags::empty()).unwrap();
    });
}

#[test]
fn ranges() {
    on_mount(|rig| {
        let path = rig.at.join("f");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.write_all_at(&vec![1; 5 * 4096], 0).unwrap();
        let before = rig.last();
        let fallocate = |flags, at, len| rustix::fs::fallocate(&file, flags, at, len);
        fallocate(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 4000, 4292).unwrap();
        fallocate(FallocateFlags::empty(), 0, 6 * 4096).unwrap();
        assert_eq!(fallocate(FallocateFlags::COLLAPSE_RANGE, 0, 4096), Err(Errno::OPNOTSUPP));
        assert_eq!(rig.recorded(before), "fallocate 4000 4292 +3\nfallocate 0 24576 +1\n");
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 6 * 4096);
        assert!(
            bytes
                .iter()
                .enumerate()
                .all(|(at, byte)| *byte == u8::from(at < 4000 || (8292..20480).contains(&at)))
        );
        let seek = |from| rustix::fs::seek(&file, from);
        assert_eq!(seek(rustix::fs::SeekFrom::Hole(0)), Ok(4096));
        assert_eq!(seek(rustix::fs::SeekFrom::Data(4096)), Ok(8192));
        assert_eq!(seek(rustix::fs::SeekFrom::Data(20480)), Err(Errno::NXIO));
        let copy = File::create(rig.at.join("copy")).unwrap();
        let before = rig.last();
        let copied = rustix::fs::copy_file_range(&file, Some(&mut 0), &copy, Some(&mut 0), 1 << 20).unwrap();
        assert_eq!((copied, std::fs::read(rig.at.join("copy")).unwrap() == bytes), (6 * 4096, true));
        assert_eq!(rig.recorded(before), "copy 0 24576 +5\n");
    });
}

#[test]
fn large_writes_are_split_by_the_kernel() {
    on_mount(|rig| {
        let before = rig.last();
        rustix::io::write(File::create(rig.at.join("f")).unwrap(), &vec![7; 2 * (1 << 20) + 1]).unwrap();
        assert_eq!(
            rig.recorded(before),
            "create f +2\nwrite 0 1048576 +257\nwrite 1048576 1048576 +257\nwrite 2097152 1 +2\n"
        );
    });
}

#[test]
fn appending_goes_to_the_end() {
    on_mount(|rig| {
        rig.sh("echo one > log; echo two >> log & echo three >> log; wait; test $(wc -c < log) = 14");
        rig.sh("seq 2000 | xargs -P4 -n50 sh -c 'for n; do echo $n >> many; done' sh; seq 2000 > all; sort -n many | cmp - all");
    });
}

#[test]
fn mapped_stores_arrive_as_writes() {
    on_mount(|rig| {
        rig.sh_if(
            "python3",
            "python3 -c '
import mmap
with open(\"f\", \"wb\") as f: f.write(b\"a\" * 10000)
with open(\"f\", \"r+b\") as f:
    m = mmap.mmap(f.fileno(), 0)
    m[5000:5003] = b\"xyz\"
    m.flush()
    m.close()
'
            test \"$(dd if=f bs=1 skip=4999 count=5 2>/dev/null)\" = axyza",
        );
    });
}

#[test]
fn what_is_not_served_is_refused() {
    on_mount(|rig| {
        std::fs::write(rig.at.join("f"), b"x").unwrap();
        let before = rig.last();
        let tmpfile = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::WRONLY;
        let refused = rustix::fs::open(&rig.at, tmpfile, rustix::fs::Mode::from_raw_mode(0o600)).unwrap_err();
        assert_eq!(refused, Errno::OPNOTSUPP);
        let device = rustix::fs::mknodat(
            CWD,
            rig.at.join("null"),
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::from_raw_mode(0o600),
            rustix::fs::makedev(1, 3),
        );
        assert_eq!(device, Err(Errno::PERM));
        let file = File::open(rig.at.join("f")).unwrap();
        assert_eq!(rustix::termios::tcgetattr(&file).unwrap_err(), Errno::NOTTY);
        let long = rig.at.join("x".repeat(256));
        assert_eq!(rustix::fs::stat(&long).unwrap_err(), Errno::NAMETOOLONG);
        assert_eq!(rig.recorded(before), "");
    });
}

#[test]
fn the_kernel_checks_permissions_and_we_drop_set_id_bits() {
    let users = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    if !rustix::process::geteuid().is_root() || !users.contains("4294967295") {
        crate::skip("only root of the whole system can become somebody else");
        return;
    }
    on_mount(|rig| {
        rig.sh("mkdir shared; chown :4242 shared; chmod 2777 shared; echo x > secret; chmod 600 secret");
        rig.sh("echo x > tool; chmod 6777 tool; cp tool cut; chmod 6777 cut");
        let nobody = |script: &str| rig.shell(script).uid(65534).gid(65534).output().unwrap();
        assert!(!nobody("cat secret").status.success());
        assert!(!nobody("touch at-root").status.success());
        assert!(nobody("mkdir shared/d; echo x > shared/f; echo y >> tool; : > cut").status.success());
        assert_eq!(rig.sh("stat -c '%a %u %g' shared/f shared/d"), "644 65534 4242\n2755 65534 4242\n");
        assert_eq!(rig.sh("stat -c %a tool cut"), "777\n777\n");
        rig.sh("chmod 6755 tool; chown 5:6 tool");
        assert_eq!(rig.sh("stat -c '%a %u %g' tool"), "755 5 6\n");
    });
}

#[test]
fn a_full_disk() {
    let mut fs = Fs::new(0, 0, 0o777);
    fs.set_limits(Limits { bytes: 1 << 20, inodes: 4, ..Limits::default() });
    on_mount_of(fs, |rig| {
        let output = rig.try_sh("head -c 2000000 /dev/zero | tr '\\0' x > f");
        assert!(!output.status.success());
        assert_eq!(std::fs::metadata(rig.at.join("f")).unwrap().len(), 1 << 20);
        assert_eq!(rig.sh("stat -f -c %f ."), "0\n");
        rig.sh("mkdir d; ln f g; touch d/e");
        assert!(!rig.try_sh("touch h").status.success());
        rig.sh("rm f g; echo room > h");
    });
}

#[test]
fn a_link_without_text_leads_nowhere() {
    let born = |kind| Value::Inode(Birth { kind, mode: 0o777, uid: 0, gid: 0 });
    let fs = Fs::from_cells([
        (Cell::Inode(Ino(2)), born(Kind::Symlink)),
        (Cell::Entry(ROOT, b"current".as_slice().into()), Value::Entry(Some(Ino(2)))),
    ]);
    on_mount_of(fs, |rig| {
        rig.sh("test -L current; test ! -e current; test ! -e current/current; ln -sfn releases/1 current");
        assert_eq!(rig.sh("readlink current"), "releases/1\n");
    });
}

#[test]
fn times_are_served() {
    on_mount(|rig| {
        rig.sh("echo x > f; touch -d '2001-02-03 04:05:06.123456789 UTC' f; touch -a -d '1969-12-31 23:59:59 UTC' f");
        assert_eq!(
            rig.sh("TZ=UTC stat -c '%x|%y' f"),
            "1969-12-31 23:59:59.000000000 +0000|2001-02-03 04:05:06.123456789 +0000\n"
        );
        rig.sh("cp -a f g; touch ref; echo y >> f; test f -nt ref || test ! f -ot ref; test g -ot ref; mkdir d; touch -d 2001-01-01 d; touch d/x; test d -nt g");
    });
}
