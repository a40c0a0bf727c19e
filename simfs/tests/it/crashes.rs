//! Cutting the connection: who waits gets an error, nothing is left, and the disk can be mounted again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use simfs::fault::Calls;
use simfs::{Disk, Errno, Fs};

use crate::mounted::on_mount;

#[test]
fn the_state_survives_for_another_mount() {
    on_mount(|rig| {
        for round in 0..20 {
            rig.sh(&format!("echo {round} >> log; mkdir d{round}; echo x > d{round}/f; test $(wc -l < log) = $(({round} + 1))"));
            rig.remount();
        }
        assert_eq!(rig.sh("ls | wc -l").trim(), "21");
        rig.crash();
        assert_eq!(std::fs::read_dir(&rig.at).unwrap().count(), 0, "the mount is gone");
    });
}

#[test]
fn an_operation_that_waits_gets_an_error_and_is_not_applied() {
    on_mount(|rig| {
        rig.sh("echo x > f; mkdir d");
        let before = rig.last();
        // The poll holds the next op up, with the disk locked, until it is let go.
        let (reached, wait) = channel();
        let (let_go, held) = channel::<()>();
        let held = Mutex::new(held);
        let armed = Arc::new(AtomicBool::new(true));
        let once = armed.clone();
        rig.disk.set_poll(Some(Box::new(move || {
            if once.swap(false, Ordering::SeqCst) {
                reached.send(()).unwrap();
                let _ = held.lock().unwrap().recv();
            }
            Vec::new()
        })));
        let waiting = rig.shell("mkdir lost").spawn().unwrap();
        wait.recv().unwrap();
        // In a namespace of its own, which is not that of the mount.
        let mounted = rig.mounted.take().unwrap();
        let crash = std::thread::spawn(move || {
            simfs::fuse::enter_private_namespace().unwrap();
            mounted.crash()
        });
        let started = Instant::now();
        let status = waiting.wait_with_output().unwrap().status;
        assert!(!status.success(), "mkdir must fail");
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "the error came at once, not when the op was let go"
        );
        drop(let_go);
        crash.join().unwrap().unwrap();
        assert_eq!(rig.recorded(before), "");
        rig.remount();
        rig.sh("test ! -e lost; test -d d; mkdir lost");
    });
}

#[test]
fn open_files_and_working_directories_do_not_keep_it_alive() {
    on_mount(|rig| {
        rig.sh("mkdir d; echo x > d/f");
        let file = std::fs::File::options().write(true).open(rig.at.join("d/f")).unwrap();
        let mut inside = rig.shell("cd d; exec 3< f; exec sleep 100").spawn().unwrap();
        let reading = rig.shell("exec tail -f d/f").stdout(std::process::Stdio::null()).spawn();
        std::thread::sleep(Duration::from_millis(100));
        rig.crash();
        let error =
            std::io::Read::read(&mut &file, &mut [0]).map(|_| ()).or_else(|_| file.metadata().map(|_| ()));
        assert!(error.is_err(), "the connection is gone");
        rig.remount();
        rig.sh("test -s d/f");
        inside.kill().unwrap();
        inside.wait().unwrap();
        let mut reading = reading.unwrap();
        reading.kill().unwrap();
        reading.wait().unwrap();
    });
}

#[test]
fn a_busy_mount_is_cut_in_the_middle() {
    on_mount(|rig| {
        for round in 0..10_u64 {
            let mut busy = rig
                .shell(&format!(
                    "mkdir r{round}; cd r{round}; n=0; while :; do n=$((n+1)); echo $n > f$n; done"
                ))
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            while rig.disk.with(|fs| fs.resolve(format!("r{round}/f9"))).is_err() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(3 * round));
            rig.crash();
            busy.kill().unwrap();
            busy.wait().unwrap();
            rig.remount();
        }
        assert_eq!(rig.sh("ls | wc -l").trim(), "10");
    });
}

#[test]
fn a_frozen_disk_answers_nothing() {
    on_mount(|rig| {
        rig.sh("echo x > f");
        let file = std::fs::File::open(rig.at.join("f")).unwrap();
        let before = rig.last();
        rig.disk.freeze();
        assert!(std::fs::create_dir(rig.at.join("d")).is_err());
        assert!(file.sync_all().is_err());
        assert!(
            std::fs::metadata(rig.at.join("g"))
                .is_err_and(|error| error.raw_os_error() == Some(libc::ENOTCONN))
        );
        assert_eq!(rig.disk.sync_all(Calls::SYNC, 0, &|| true), Err(Errno::NOTCONN));
        assert_eq!(rig.recorded(before), "");
        rig.disk.thaw();
        rig.sh("mkdir d");
    });
}

#[test]
fn failing_to_mount_says_why() {
    let disk = simfs::Disk::new(simfs::Fs::new(0, 0, 0o755));
    let error = simfs::fuse::mount_here(&disk, std::path::Path::new("/no/such/directory")).unwrap_err();
    let told = error.to_string();
    assert!(
        told.starts_with("cannot mount on /no/such/directory") || told.starts_with("cannot open /dev/fuse"),
        "{told}"
    );
}

/// The swap that so many deploys do, and the power loss that they do not think of: `current` names the new release, and
/// its file is empty. Found in the trace, then mounted and read through the kernel.
#[test]
fn a_reboot_into_a_chosen_crash_state() {
    on_mount(|rig| {
        rig.sh("mkdir old; echo old > old/page; ln -s old current; sync .");
        rig.disk.sync_all(Calls::SYNCFS, 0, &|| true).unwrap();
        rig.sh("mkdir new; echo new > new/page; ln -s new next; mv -T next current");
        let trace = rig.disk.trace();
        let crashes = simfs::Crashes::new(&trace, &simfs::POSIX);
        let newest = |cell: &simfs::Cell| {
            let id = trace.cell_id(cell).unwrap();
            (id, trace.versions(id).last().copied())
        };
        let name = |name: &str| simfs::Cell::Entry(simfs::ROOT, simfs::Name::from(name.as_bytes()));
        let inode = |path: &str| rig.disk.with(|fs| fs.resolve_link(path).unwrap());
        let (link, page) = (inode("current"), inode("new/page"));
        // The new link with its text, the new directory with its page; of the page nothing but its name.
        let page_name = simfs::Cell::Entry(inode("new"), simfs::Name::from(&b"page"[..]));
        let mut pins = vec![
            newest(&name("current")),
            newest(&simfs::Cell::Target(link)),
            newest(&name("new")),
            newest(&page_name),
        ];
        pins.push((newest(&simfs::Cell::Size(page)).0, None));
        let whole = simfs::Window { lo: 0, hi: trace.last() };
        let state = crashes.find(whole, &pins).expect("nothing was synced");
        let rebooted = Fs::from_cells(simfs::View::crash(&crashes, &state).cells());
        rig.crash();
        rig.disk = Disk::new(rebooted);
        rig.remount();
        assert_eq!(
            rig.sh("readlink current; stat -c %s current/page old/page; cat old/page"),
            "new\n0\n4\nold\n"
        );
        // And with a barrier before the swap there is no such state.
        rig.sh("echo newer > new/page; ln -s new next");
        rig.disk.sync_all(Calls::SYNCFS, 0, &|| true).unwrap();
        rig.sh("mv -T next current");
        let trace = rig.disk.trace();
        let crashes = simfs::Crashes::new(&trace, &simfs::POSIX);
        let after = simfs::Window { lo: trace.last(), hi: trace.last() };
        let size = trace.cell_id(&simfs::Cell::Size(page)).unwrap();
        assert!(crashes.find(after, &[(size, None)]).is_none());
    });
}
