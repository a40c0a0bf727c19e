//! Each fault as a real program meets it, and what the trace holds afterwards.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rustix::fs::XattrFlags;
use simfs::fault::{At, Calls, Fault, Schedule, When};
use simfs::{Errno, Full, Limits};

use crate::mounted::{Rig, on_mount};

const PATIENCE: Duration = Duration::from_secs(30);

fn set(rig: &Rig, when: When, fault: Fault) {
    rig.disk.set_faults(&Schedule::one(when, fault)).expect("a good schedule");
}

/// Runs a script that must fail, and returns what it says.
fn fails(rig: &Rig, script: &str) -> String {
    let Output { status, stderr, .. } = rig.try_sh(script);
    let told = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!status.success(), "{script} succeeded, and said: {told}");
    told
}

fn hits(rig: &Rig) -> Vec<String> {
    rig.disk.hits().iter().map(ToString::to_string).collect()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// For every kind of call that changes something: a program that makes it, and the errors that it tells.
#[test]
fn every_changing_call_fails_with_exactly_the_error() {
    on_mount(|rig| {
        let errors = [
            (Errno::IO, "Input/output error"),
            (Errno::NOSPC, "No space left on device"),
            (Errno::DQUOT, "Disk quota exceeded"),
            (Errno::ROFS, "Read-only file system"),
            (Errno::STALE, "Stale file handle"),
        ];
        let programs = [
            (Calls::CREATE, "touch new"),
            (Calls::CREATE, "mkfifo new"),
            (Calls::MKDIR, "mkdir new"),
            (Calls::SYMLINK, "ln -s f new"),
            (Calls::LINK, "ln f new"),
            (Calls::UNLINK, "rm f"),
            (Calls::RMDIR, "rmdir d"),
            (Calls::RENAME, "mv -T link g"),
            (Calls::WRITE, "exec echo more >> f"),
            (Calls::WRITE, "dd if=/dev/zero of=f conv=notrunc bs=4096 count=1 status=none"),
            (Calls::TRUNCATE, "truncate -s 1 f"),
            (Calls::FALLOCATE, "fallocate -l 9000 f"),
            (Calls::CHMOD, "chmod 600 f"),
            (Calls::CHOWN, "chown $(id -u):$(id -g) f"),
            (Calls::TIMES, "touch -d yesterday f"),
        ];
        rig.sh("echo text > f; mkdir d; ln -s f link; ln -s d g");
        let (before, listed) = (rig.last(), rig.sh("ls -lR --time-style=full-iso"));
        for (errno, text) in errors {
            set(rig, When::every(Calls::SET_XATTR), Fault::Error(errno));
            let link = rig.at.join("link");
            assert_eq!(rustix::fs::setxattr(&link, "user.a", b"b", XattrFlags::empty()), Err(errno));
            assert_eq!(rustix::fs::removexattr(&link, "user.a"), Err(errno));
            // After ESTALE the kernel looks everything up again and tries once more.
            assert_eq!(rig.disk.hits().len(), if errno == Errno::STALE { 4 } else { 2 });
            for (calls, program) in programs {
                set(rig, When::every(calls), Fault::Error(errno));
                let told = fails(rig, program);
                assert!(told.contains(text), "{program}: {text} was expected, and it said: {told}");
                assert!(!rig.disk.hits().is_empty(), "{program}");
                assert!(rig.disk.hits().iter().all(|hit| hit.calls.intersects(calls)));
            }
        }
        rig.disk.set_faults(&Schedule::default()).unwrap();
        assert_eq!(rig.recorded(before), "", "nothing was applied");
        assert_eq!(rig.sh("ls -lR --time-style=full-iso"), listed);
    });
}

/// The same for what only reads, on a cold cache: of a disk that has just been mounted.
#[test]
fn every_reading_call_fails_with_exactly_the_error() {
    on_mount(|rig| {
        rig.sh("mkdir d; head -c 100000 /dev/zero | tr '\\0' x > d/f; ln -s f d/link; sync .");
        let programs = [
            (Calls::LOOKUP, "stat $DISK/d"),
            (Calls::GETATTR, "stat $DISK"),
            (Calls::READLINK, "readlink -v $DISK/d/link"),
            (Calls::READLINK, "cat $DISK/d/link"),
            (Calls::OPEN, "cat $DISK/d/f"),
            (Calls::READ, "cat $DISK/d/f"),
            (Calls::OPENDIR, "ls $DISK/d"),
            (Calls::READDIR, "ls $DISK/d"),
            (Calls::STATFS, "stat -f $DISK"),
        ];
        for (calls, program) in programs {
            rig.remount();
            set(rig, When::every(calls), Fault::Error(Errno::IO));
            // From outside: a shell would look at its working directory first.
            let run = || rig.shell(program).env("DISK", &rig.at).current_dir(&rig.real).output().unwrap();
            let Output { status, stderr, .. } = run();
            let told = String::from_utf8_lossy(&stderr);
            assert!(!status.success() && told.contains("Input/output error"), "{calls:?}: {program}: {told}");
            assert!(rig.disk.hits().iter().all(|hit| hit.calls == calls), "{:?}", hits(rig));
            rig.disk.set_faults(&Schedule::default()).unwrap();
            assert!(run().status.success(), "{program}");
        }
        set(rig, When::every(Calls::GET_XATTR), Fault::Error(Errno::IO));
        let file = rig.at.join("d/f");
        assert_eq!(rustix::fs::getxattr(&file, "user.a", &mut [0; 8]), Err(Errno::IO));
        assert_eq!(rustix::fs::listxattr(&file, &mut [0_u8; 8]), Err(Errno::IO));
        set(rig, When::every(Calls::SEEK), Fault::Error(Errno::IO));
        let opened = std::fs::File::open(&file).unwrap();
        assert_eq!(rustix::fs::seek(&opened, rustix::fs::SeekFrom::Hole(0)), Err(Errno::IO));
        // What the kernel has in its cache is none of the disk's business.
        rig.disk.set_faults(&Schedule::default()).unwrap();
        rig.sh("cat d/f");
        set(rig, When::every(Calls::READ), Fault::Error(Errno::IO));
        rig.sh("cat d/f");
        assert_eq!(hits(rig), [""; 0]);
    });
}

/// Copying within the mount asks the disk to do it.
#[test]
fn a_copy_fails_by_the_path_of_either_file() {
    on_mount(|rig| {
        rig.sh("head -c 20000 /dev/zero | tr '\\0' x > from");
        let before = rig.last();
        for path in ["from", "to"] {
            set(rig, When::every(Calls::COPY_RANGE).path(path), Fault::Error(Errno::IO));
            let told = fails(rig, "cp from to");
            assert!(told.contains("Input/output error"), "{told}");
            assert_eq!(hits(rig), [format!("EIO at op {}: copy_range from to", rig.last() + 1)]);
            rig.sh("rm to");
        }
        assert_eq!(rig.recorded(before), "create to +2\nunlink to +1\n".repeat(2));
    });
}

/// A failed fsync is told once; the retry succeeds, and what was covered is lost all the same.
#[test]
fn a_failed_sync_leaves_the_pages_clean() {
    on_mount(|rig| {
        for (calls, program) in [
            (Calls::FSYNC, "sync f"),
            (Calls::FDATASYNC, "sync -d f"),
            (Calls::FSYNC, "dd if=/dev/null of=f conv=notrunc,fsync status=none"),
            (Calls::FSYNC_DIR, "sync ."),
        ] {
            rig.sh("rm -f f; echo text > f");
            let before = rig.last();
            set(rig, When::nth(calls, 1), Fault::Error(Errno::IO));
            let told = fails(rig, program);
            assert!(told.contains("Input/output error"), "{program}: {told}");
            rig.sh(program);
            let recorded = rig.recorded(before);
            let outcomes: Vec<&str> = recorded.lines().filter_map(|line| line.split(' ').nth(2)).collect();
            assert_eq!(outcomes, ["false", "true"], "{program}");
            assert_eq!(hits(rig).len(), 1);

            let trace = rig.disk.trace();
            let crashes = simfs::Crashes::new(&trace, &simfs::POSIX);
            let end = simfs::Window { lo: trace.last(), hi: trace.last() };
            let f = rig.disk.with(|fs| fs.resolve("f").unwrap());
            let cell = match calls {
                Calls::FSYNC_DIR => simfs::Cell::Entry(simfs::ROOT, simfs::Name::from(&b"f"[..])),
                _ => simfs::Cell::Size(f),
            };
            let id = trace.cell_id(&cell).unwrap();
            let older = trace.versions(id).iter().rev().nth(1).copied();
            assert!(
                crashes.find(end, &[(id, older)]).is_some(),
                "{program}: a retry has forced what was lost"
            );
            // New content can be made durable.
            rig.sh(&format!("rm f; echo text > f; {program}"));
            let trace = rig.disk.trace();
            let crashes = simfs::Crashes::new(&trace, &simfs::POSIX);
            let end = simfs::Window { lo: trace.last(), hi: trace.last() };
            let f = rig.disk.with(|fs| fs.resolve("f").unwrap());
            let cell = if let simfs::Cell::Entry(..) = cell { cell } else { simfs::Cell::Size(f) };
            let id = trace.cell_id(&cell).unwrap();
            let older = trace.versions(id).iter().rev().nth(1).copied();
            assert!(crashes.find(end, &[(id, older)]).is_none(), "{program} forces nothing");
        }
    });
}

#[test]
fn a_write_through_o_sync_fails_where_its_sync_does() {
    on_mount(|rig| {
        let before = rig.last();
        set(rig, When::every(Calls::FSYNC), Fault::Error(Errno::IO));
        let told = fails(rig, "dd if=/dev/zero of=f bs=10 count=1 oflag=sync status=none");
        assert!(told.contains("Input/output error"), "{told}");
        assert_eq!(rig.recorded(before), "create f +2\nwrite 0 10 +2\nsync File(Ino(2)) false +0\n");
    });
}

#[test]
fn read_only_refuses_all_that_changes_and_nothing_that_reads() {
    on_mount(|rig| {
        rig.sh("echo text > f; mkdir d; ln -s f link");
        let before = rig.last();
        set(rig, When::nth(Calls::MKDIR, 2), Fault::ReadOnly);
        rig.sh("mkdir one; touch two");
        let script = rig.last();
        for program in [
            "mkdir three",
            "touch two",
            "touch new",
            "exec 3>> f",
            "exec 3<> f",
            "rm f",
            "rmdir d",
            "mv f g",
            "ln f g",
            "ln -s f g",
            "chmod 600 f",
            "truncate -s 0 f",
            "exec dd if=/dev/zero of=f count=1 status=none",
            "sync d",
        ] {
            let told = fails(rig, program);
            assert!(told.contains("Read-only file system"), "{program}: {told}");
        }
        assert_eq!(rig.disk.sync_all(Calls::SYNCFS, 0, &|| true), Err(Errno::ROFS));
        assert_eq!(rig.sh("cat link; ls -A"), "text\nd\nf\nlink\none\ntwo\n");
        let last = rig.recorded(script);
        let syncs: Vec<&str> = last.lines().collect();
        assert!(syncs.len() == 2 && syncs.iter().all(|line| line.contains("false")), "{last}");
        assert_eq!(rig.recorded(before), format!("mkdir one +2\ncreate two +2\n{last}"));
        assert!(hits(rig)[0].starts_with("read-only at op "), "{:?}", hits(rig));
    });
}

#[test]
fn one_call_fails_once_and_is_told() {
    on_mount(|rig| {
        rig.sh("mkdir a; echo x > a/f");
        let next = rig.last() + 1;
        set(rig, When::nth(Calls::CREATE, 2), Fault::Error(Errno::NOSPC));
        rig.sh("touch a/one");
        assert!(fails(rig, "touch a/two").contains("No space left on device"));
        rig.sh("touch a/two");
        assert_eq!(hits(rig), [format!("ENOSPC at op {}: create a/two", next + 1)]);
    });
}

#[test]
fn an_op_is_chosen_by_its_number() {
    on_mount(|rig| {
        rig.sh("mkdir a");
        let next = rig.last() + 1;
        set(rig, When::op(next + 2), Fault::Error(Errno::IO));
        let told = fails(rig, "mkdir a/1; echo x > a/2; mkdir a/3");
        assert!(told.contains("echo: I/O error") || told.contains("Input/output error"), "{told}");
        // The number stays, but it is not met again.
        rig.sh("mkdir a/3");
        assert_eq!(hits(rig), [format!("EIO at op {}: write a/2", next + 2)]);
        set(rig, When::from_op(rig.last() + 2), Fault::Error(Errno::IO));
        rig.sh("mkdir a/4");
        for _ in 0..3 {
            assert!(fails(rig, "mkdir a/5").contains("Input/output error"));
        }
        assert_eq!(rig.disk.hits().len(), 3);
    });
}

#[test]
fn paths_are_those_of_the_moment() {
    on_mount(|rig| {
        rig.sh("mkdir -p a/b; echo x > a/b/f; ln a/b/f other");
        let io = || Fault::Error(Errno::IO);
        set(rig, When::every(Calls::WRITE).path("other"), io());
        assert!(
            fails(rig, "exec dd if=/dev/zero of=a/b/f bs=1 count=1 status=none").contains("Input/output")
        );
        rig.sh("rm other; echo y > a/b/f");
        set(rig, When::default().path("moved/*/f"), io());
        rig.sh("echo z > a/b/f; mv a moved");
        assert!(fails(rig, "truncate -s 0 moved/b/f").contains("Input/output"));
        assert_eq!(hits(rig), [format!("EIO at op {}: truncate moved/b/f", rig.last() + 1)]);
        // Both names of a rename.
        for glob in ["here", "**/there"] {
            set(rig, When::every(Calls::RENAME).path(glob), io());
            assert!(fails(rig, "touch here; mv here moved/there").contains("Input/output"));
        }
        set(rig, When::every(Calls::RENAME).path("*/here"), io());
        rig.sh("mv here moved/there");
        assert_eq!(hits(rig), [""; 0]);
    });
}

#[test]
fn a_quota_cuts_a_write_short_and_refuses_the_next() {
    on_mount(|rig| {
        for (full, text, name) in [
            (Full::Disk, "No space left on device", "ENOSPC"),
            (Full::Quota, "Disk quota exceeded", "EDQUOT"),
        ] {
            let limits = Limits { bytes: 3 * 4096, inodes: 100, full };
            set(rig, When::default(), Fault::Quota(limits));
            let told = fails(rig, "dd if=/dev/zero bs=100K count=1 2>&1 | tr '\\0' x > f");
            assert!(told.contains(text), "{told}");
            assert_eq!(rig.sh("stat -c %s f").trim(), (3 * 4096).to_string());
            let hit = hits(rig);
            assert!(hit.len() == 1 && hit[0].starts_with(&format!("{name} beyond 12288 bytes")), "{hit:?}");
            rig.sh("rm f");
            let limits = Limits { bytes: 1 << 20, inodes: 2, full };
            set(rig, When::default(), Fault::Quota(limits));
            rig.sh("touch one");
            assert!(fails(rig, "mkdir two").contains(text));
            rig.sh("rm one");
        }
    });
}

#[test]
fn a_power_cut_is_not_applied_and_ends_everything() {
    on_mount(|rig| {
        rig.sh("mkdir a");
        let before = rig.last();
        set(rig, When::nth(Calls::MKDIR, 2), Fault::Crash);
        let told = fails(rig, "mkdir a/1; mkdir a/2");
        assert!(told.contains("not connected"), "{told}");
        assert!(rig.disk.is_frozen());
        assert!(fails(rig, "touch later").contains("not connected"));
        assert_eq!(rig.recorded(before), "mkdir 1 +2\n");
        assert_eq!(hits(rig), [format!("a power cut at op {}: mkdir a/2", before + 2)]);
        rig.crash();
        rig.disk.thaw();
        rig.remount();
        assert_eq!(rig.sh("ls -A a"), "1\n");
    });
}

#[test]
fn a_kill_hits_the_process_that_calls_and_nobody_else() {
    on_mount(|rig| {
        let before = rig.last();
        set(rig, When::nth(Calls::MKDIR, 2), Fault::Kill);
        let output = rig.try_sh("mkdir 1; status=0; mkdir 2 || status=$?; echo $status; mkdir 3");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "137\n", "{output:?}");
        assert_eq!(rig.recorded(before), "mkdir 1 +2\nmkdir 3 +2\n");
        set(rig, When::nth(Calls::MKDIR, 1), Fault::Kill);
        assert_eq!(rig.try_sh("exec mkdir 4").status.signal(), Some(9));
        assert!(hits(rig)[0].starts_with("killed process "), "{:?}", hits(rig));
        // We live on.
        set(rig, When::nth(Calls::MKDIR, 1), Fault::Kill);
        let error = std::fs::create_dir(rig.at.join("5")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        assert!(!rig.disk.hits()[0].killed);
    });
}

#[test]
fn a_call_hangs_until_it_is_released() {
    on_mount(|rig| {
        let before = rig.last();
        set(rig, When::nth(Calls::MKDIR, 1), Fault::Hang);
        let waiting = rig.shell("mkdir slow").spawn().unwrap();
        until("it hangs", || rig.disk.waiting() == 1);
        // The disk can be looked at and marked meanwhile.
        assert_eq!(rig.recorded(before), "");
        rig.disk.poll();
        rig.disk.release();
        assert!(waiting.wait_with_output().unwrap().status.success());
        assert_eq!(rig.recorded(before), "mkdir slow +2\n");
        assert_eq!(rig.disk.waiting(), 0);
    });
}

#[test]
fn with_several_threads_a_call_that_waits_holds_up_its_own_caller_alone() {
    on_mount(|rig| {
        rig.sh("mkdir d");
        rig.remount_with(4);
        let before = rig.last();
        set(rig, When::every(Calls::CREATE).path("d/slow"), Fault::Hang);
        let waiting = rig.shell("echo 1 > d/slow").spawn().unwrap();
        until("it hangs", || rig.disk.waiting() == 1);
        // In another directory: the kernel itself keeps the one that it waits for locked.
        rig.sh("mkdir e; echo 2 > e/fast; mv e/fast e/done");
        assert_eq!(rig.disk.waiting(), 1);
        let fast = rig.recorded(before);
        assert!(fast.contains("done") && !fast.contains("slow"), "{fast}");
        rig.disk.release();
        assert!(waiting.wait_with_output().unwrap().status.success());
        assert!(rig.recorded(before).contains("slow"));
        assert_eq!(rig.sh("cat d/slow e/done"), "1\n2\n");
    });
}

#[test]
fn cutting_the_mount_or_the_power_ends_a_hang() {
    on_mount(|rig| {
        let before = rig.last();
        set(rig, When { calls: Calls::MKDIR, at: At::Every, path: None }, Fault::Hang);
        let waiting = rig.shell("mkdir slow").stderr(std::process::Stdio::null()).spawn().unwrap();
        until("it hangs", || rig.disk.waiting() == 1);
        rig.crash();
        assert!(!waiting.wait_with_output().unwrap().status.success());
        rig.remount();
        let waiting = rig.shell("mkdir slow").stderr(std::process::Stdio::null()).spawn().unwrap();
        until("it hangs", || rig.disk.waiting() == 1);
        rig.disk.freeze();
        assert!(!waiting.wait_with_output().unwrap().status.success());
        assert_eq!(rig.recorded(before), "");
    });
}

#[test]
fn a_delayed_call_takes_its_time_and_is_applied() {
    on_mount(|rig| {
        let before = rig.last();
        let time = Duration::from_millis(300);
        set(rig, When::nth(Calls::MKDIR, 1), Fault::Delay(time));
        let started = Instant::now();
        let mut waiting = rig.shell("mkdir slow").spawn().unwrap();
        until("it waits", || rig.disk.waiting() == 1);
        // The disk is not locked, and what comes from outside of the mount can overtake.
        rig.disk.sync_all(Calls::SYNC, 0, &|| true).unwrap();
        assert!(waiting.wait().unwrap().success());
        assert!(started.elapsed() >= time);
        assert_eq!(rig.recorded(before), "sync All true +0\nmkdir slow +2\n");
        // A power cut does not wait for it.
        set(rig, When::every(Calls::MKDIR), Fault::Delay(Duration::from_hours(1)));
        let waiting = rig.shell("mkdir slower").stderr(std::process::Stdio::null()).spawn().unwrap();
        until("it waits", || rig.disk.waiting() == 1);
        rig.disk.freeze();
        assert!(!waiting.wait_with_output().unwrap().status.success());
    });
}

/// A sync call from outside of the mount hangs, fails and is killed as any other.
#[test]
fn sync_calls_from_outside_meet_their_faults() {
    on_mount(|rig| {
        let before = rig.last();
        set(rig, When::nth(Calls::SYNCFS, 1), Fault::Hang);
        let disk = rig.disk.clone();
        let waiting = std::thread::spawn(move || disk.sync_all(Calls::SYNCFS, 0, &|| true));
        until("it hangs", || rig.disk.waiting() == 1);
        rig.sh("mkdir meanwhile");
        rig.disk.release();
        assert_eq!(waiting.join().unwrap(), Ok(before + 2));
        let mut victim = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        set(rig, When::every(Calls::SYNC), Fault::Kill);
        assert_eq!(rig.disk.sync_all(Calls::SYNC, victim.id(), &|| true), Err(Errno::IO));
        assert_eq!(victim.wait().unwrap().signal(), Some(9));
        // Whoever is gone when the wait is over was not answered.
        set(rig, When::nth(Calls::SYNCFS, 1), Fault::Hang);
        let (disk, gone) = (rig.disk.clone(), Arc::new(AtomicBool::new(false)));
        let is_gone = gone.clone();
        let waiting =
            std::thread::spawn(move || disk.sync_all(Calls::SYNCFS, 0, &|| !is_gone.load(Ordering::SeqCst)));
        until("it hangs", || rig.disk.waiting() == 1);
        gone.store(true, Ordering::SeqCst);
        rig.disk.release();
        assert_eq!(waiting.join().unwrap(), Err(Errno::NOTCONN));
        // Who was killed did not fail.
        assert_eq!(rig.recorded(before), "mkdir meanwhile +2\nsync All true +0\n");
    });
}

/// The hook is told of each fault in its place, and may look at the disk and freeze it.
#[test]
fn the_hook_is_told_before_the_call_goes_on() {
    on_mount(|rig| {
        let before = rig.last();
        let (tell, told) = channel();
        let disk = rig.disk.clone();
        rig.disk.set_fault_hook(Some(Box::new(move |hit| {
            tell.send((hit.to_string(), disk.trace().last())).unwrap();
            if hit.rule == 2 {
                disk.freeze();
            }
        })));
        let schedule = Schedule::one(When::nth(Calls::MKDIR, 1), Fault::Hook)
            .and(When::nth(Calls::MKDIR, 2), Fault::Error(Errno::IO))
            .and(When::nth(Calls::MKDIR, 3), Fault::Hook);
        rig.disk.set_faults(&schedule).unwrap();
        rig.sh("mkdir a");
        assert!(fails(rig, "mkdir b").contains("Input/output error"));
        assert!(fails(rig, "mkdir c").contains("not connected"));
        let op = before + 1;
        let expected = [
            (format!("the harness's hook at op {op}: mkdir a"), before),
            (format!("EIO at op {}: mkdir b", op + 1), op),
            (format!("the harness's hook at op {}: mkdir c", op + 1), op),
        ];
        assert_eq!(told.try_iter().collect::<Vec<_>>(), expected);
        assert_eq!(rig.recorded(before), "mkdir a +2\n");
        rig.disk.set_fault_hook(None);
    });
}

/// Not only the main thread's number finds the process, and threads of ours are left alone.
#[test]
fn a_kill_reaches_a_process_with_threads() {
    on_mount(|rig| {
        let script = "import os, threading, time
threading.Thread(target=lambda: os.mkdir('a')).start()
time.sleep(1000)";
        std::fs::write(rig.real.join("threads.py"), script).unwrap();
        set(rig, When::nth(Calls::MKDIR, 1), Fault::Kill);
        if rig.sh_if("python3", "true").is_none() {
            return;
        }
        assert_eq!(rig.try_sh("exec python3 \"$REAL/threads.py\"").status.signal(), Some(9));
        assert!(rig.disk.hits()[0].killed);
        set(rig, When::nth(Calls::MKDIR, 1), Fault::Kill);
        let at = rig.at.join("b");
        let made = std::thread::spawn(move || std::fs::create_dir(at)).join().unwrap();
        assert_eq!(made.unwrap_err().raw_os_error(), Some(libc::EIO));
        assert!(!rig.disk.hits()[0].killed);
    });
}
