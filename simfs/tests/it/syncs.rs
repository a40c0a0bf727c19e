//! Sync calls are recorded with what they cover, at the moment at which they are answered.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Arc, Mutex};

use simfs::fault::{Calls, Fault, Schedule, When};
use simfs::{Errno, MarkKind, ROOT, SyncScope};

use crate::mounted::on_mount;

#[test]
fn each_call_has_its_scope() {
    on_mount(|rig| {
        rig.sh("mkdir d; echo x > d/f");
        let (d, f) = rig.disk.with(|fs| (fs.resolve("d").unwrap(), fs.resolve("d/f").unwrap()));
        let before = rig.last();
        let file = OpenOptions::new().write(true).open(rig.at.join("d/f")).unwrap();
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        File::open(rig.at.join("d")).unwrap().sync_all().unwrap();
        rustix::fs::fdatasync(File::open(&rig.at).unwrap()).unwrap();
        rig.sh("sync d/f; sync -d d/f; sync d");
        let expected = format!(
            "sync File({f:?}) true +0\nsync FileData({f:?}) true +0\nsync Dir({d:?}) true +0\nsync Dir({ROOT:?}) true +0\n\
             sync File({f:?}) true +0\nsync FileData({f:?}) true +0\nsync Dir({d:?}) true +0\n"
        );
        assert_eq!(rig.recorded(before), expected);
        let next = rig.disk.sync_all(Calls::SYNCFS, 0, &|| true).unwrap();
        rig.disk.set_faults(&Schedule::one(When::every(Calls::SYNC), Fault::Error(Errno::IO))).unwrap();
        assert_eq!(rig.disk.sync_all(Calls::SYNC, 0, &|| true), Err(Errno::IO));
        let trace = rig.disk.trace();
        let kind = |seq: u32| trace.ops()[seq as usize].kind.clone();
        assert_eq!(kind(next), simfs::OpKind::Sync { scope: SyncScope::All, returned: next, ok: true });
        assert_eq!(
            kind(next + 1),
            simfs::OpKind::Sync { scope: SyncScope::All, returned: next + 1, ok: false }
        );
    });
}

#[test]
fn synchronous_writes_are_a_write_then_a_sync() {
    on_mount(|rig| {
        for (flag, scope) in [(libc::O_SYNC, "File"), (libc::O_DSYNC, "FileData")] {
            let before = rig.last();
            let path = rig.at.join(scope);
            let mut file =
                OpenOptions::new().create(true).append(true).custom_flags(flag).open(path).unwrap();
            file.write_all(b"one").unwrap();
            file.write_all(b"two").unwrap();
            let ino = rig.disk.with(|fs| fs.resolve(scope).unwrap());
            assert_eq!(
                rig.recorded(before),
                format!(
                    "create {scope} +2\nwrite 0 3 +2\nsync {scope}({ino:?}) true +0\n\
                     write 3 3 +2\nsync {scope}({ino:?}) true +0\n"
                )
            );
        }
    });
}

#[test]
fn closing_and_exiting_record_nothing() {
    on_mount(|rig| {
        rig.sh("echo x > f");
        let before = rig.last();
        rig.sh("exec 3< f; exec 3<&-; cat f > /dev/null; ls -l . > /dev/null; touch -d yesterday f; test -s f; readlink f || true");
        assert_eq!(rig.recorded(before), "");
    });
}

#[test]
fn marks_come_before_the_op_that_could_have_followed_them() {
    on_mount(|rig| {
        let pending = Arc::new(Mutex::new(Vec::new()));
        let source = pending.clone();
        rig.disk.set_poll(Some(Box::new(move || std::mem::take(&mut *source.lock().unwrap()))));
        let say = |mark| pending.lock().unwrap().push(mark);
        let before = rig.last();
        rig.sh("echo x > f");
        say(MarkKind::Ack { deploy: 1 });
        rig.sh("ls > /dev/null; mv f g");
        say(MarkKind::Ack { deploy: 2 });
        rig.sh("sync g");
        say(MarkKind::Ack { deploy: 3 });
        rig.disk.poll();
        let trace = rig.disk.trace();
        assert_eq!(
            rig.recorded(before),
            "create f +2\nwrite 0 2 +2\nrename f g +2\nsync File(Ino(2)) true +0\n"
        );
        let after: Vec<_> = trace.marks().iter().map(|mark| mark.after - before).collect();
        assert_eq!(after, [2, 3, 4]);
    });
}
