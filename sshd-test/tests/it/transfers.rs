//! sftp, scp and rsync, unmodified.

use std::{
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::Path,
    process::Command,
};

use crate::support::{Fixture, noise, run};

/// A small application: directories, a mode, a symlink, an empty file, a larger one.
fn application(at: &Path) {
    fs::create_dir_all(at.join("lib/deep")).unwrap();
    fs::write(at.join("main"), "#!/bin/sh\necho hi\n").unwrap();
    fs::set_permissions(at.join("main"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(at.join("lib/empty"), "").unwrap();
    fs::write(at.join("lib/deep/large"), noise(3_000_000)).unwrap();
    fs::write(at.join("lib/sp ace ü"), "name").unwrap();
    symlink("lib/deep", at.join("link")).unwrap();
}

/// A tree as text: path, type and mode, link text, length and content sum of each entry.
fn picture(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let stat = path.symlink_metadata().unwrap();
            let content = if stat.is_dir() {
                pending.push(path.clone());
                String::new()
            } else if stat.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else {
                let bytes = fs::read(&path).unwrap();
                let sum =
                    bytes.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
                format!("{} {sum}", bytes.len())
            };
            let mode = if stat.is_symlink() { 0 } else { stat.mode() };
            lines.push(format!("{} {mode:o} {content}", path.strip_prefix(root).unwrap().display()));
        }
    }
    lines.sort();
    lines
}

#[test]
fn sftp_batch_of_all_operations() {
    let Some(fixture) = Fixture::new(&["sftp"]) else { return };
    let (srv, local) = (fixture.srv(), fixture.scratch.path().join("local"));
    fs::write(&local, noise(2_500_000)).unwrap();
    fs::set_permissions(&local, fs::Permissions::from_mode(0o640)).unwrap();
    let back = fixture.scratch.path().join("back");
    let (local, back) = (local.display(), back.display());
    let batch = format!(
        "mkdir {srv}/d\ncd {srv}/d\npwd\nput -p {local} a\nchmod 600 a\nln -s a sym\nln a hard\nrename a b\n\
         put -f {local} fsynced\nls -la\nget {srv}/d/b {back}\nrm sym\nmkdir sub\nrmdir sub\ndf {srv}\n"
    );
    let output = fixture.sftp(&batch.replace("df {srv}\n", ""));
    assert!(!output.status.success(), "df is not supported, and says so: {output:?}");
    let output =
        fixture.sftp(&format!("rm {srv}/d/*\nrmdir {srv}/d\n{}", batch.replace(&format!("df {srv}\n"), "")));
    assert!(output.status.success(), "{output:?}");
    let listing = String::from_utf8(output.stdout).unwrap();
    assert!(listing.contains(&format!("Remote working directory: {srv}/d")), "{listing}");
    assert!(listing.contains("lrwxrwxrwx"), "{listing}");
    let (b, hard) = (fixture.on_disk("d/b"), fixture.on_disk("d/hard"));
    assert_eq!(b.metadata().unwrap().ino(), hard.metadata().unwrap().ino());
    assert_eq!(b.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(fs::read(&b).unwrap() == noise(2_500_000));
    assert!(fs::read(fixture.scratch.path().join("back")).unwrap() == noise(2_500_000));
    assert!(
        !fixture.on_disk("d/a").exists()
            && !fixture.on_disk("d/sym").exists()
            && !fixture.on_disk("d/sub").exists()
    );
}

/// `rename` replaces (posix-rename), `rename -l` speaks the plain request, which must not.
#[test]
fn both_renames_of_sftp() {
    let Some(fixture) = Fixture::new(&["sftp"]) else { return };
    let srv = fixture.srv();
    let write = |name: &str| fs::write(fixture.on_disk(name), name).unwrap();
    write("one");
    write("two");
    let refused = fixture.sftp(&format!("rename -l {srv}/one {srv}/two\n"));
    assert!(!refused.status.success());
    assert_eq!(fs::read(fixture.on_disk("two")).unwrap(), b"two");
    let plain =
        fixture.sftp(&format!("rename -l {srv}/one {srv}/three\nmkdir {srv}/d\nrename -l {srv}/d {srv}/e\n"));
    assert!(plain.status.success(), "{plain:?}");
    assert!(fixture.on_disk("e").is_dir());
    let replaced = fixture.sftp(&format!("rename {srv}/three {srv}/two\n"));
    assert!(replaced.status.success(), "{replaced:?}");
    assert_eq!(fs::read(fixture.on_disk("two")).unwrap(), b"one");
}

#[test]
fn sftp_puts_a_tree() {
    let Some(fixture) = Fixture::new(&["sftp"]) else { return };
    let app = fixture.scratch.path().join("app");
    application(&app);
    // OpenSSH's recursive put follows no symlinks: it leaves them out.
    fs::remove_file(app.join("link")).unwrap();
    let output =
        fixture.sftp(&format!("mkdir {0}/app\nput -rp {1}/. {0}/app\n", fixture.srv(), app.display()));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(picture(&fixture.on_disk("app")), picture(&app));
}

#[test]
fn scp_in_both_modes_and_both_directions() {
    let Some(fixture) = Fixture::new(&["scp"]) else { return };
    let app = fixture.scratch.path().join("app");
    application(&app);
    fs::remove_file(app.join("link")).unwrap();
    for (number, mode) in ["-s", "-O"].into_iter().enumerate() {
        let there = format!("target:{}/app{number}", fixture.srv());
        let up = run(fixture.client("scp").args([mode, "-rp"]).arg(&app).arg(&there));
        assert!(up.status.success(), "{mode}: {up:?}");
        assert_eq!(picture(&fixture.on_disk(format!("app{number}"))), picture(&app), "{mode}");
        let back = fixture.scratch.path().join(format!("back{number}"));
        let down = run(fixture.client("scp").args([mode, "-rp"]).arg(&there).arg(&back));
        assert!(down.status.success(), "{mode}: {down:?}");
        assert_eq!(picture(&back), picture(&app), "{mode}");
    }
}

#[test]
fn rsync_first_and_update() {
    let Some(fixture) = Fixture::new(&["rsync", "ssh"]) else { return };
    let app = fixture.scratch.path().join("app");
    application(&app);
    let shell = format!("ssh -F {}", fixture.server.ssh_config().display());
    let sync = || {
        let mut command = Command::new("rsync");
        command.args(["-a", "--delete", "-e", &shell]).arg(format!("{}/", app.display()));
        let output = run(command.arg(format!("target:{}/app/", fixture.srv())));
        assert!(output.status.success(), "{output:?}");
        assert_eq!(picture(&fixture.on_disk("app")), picture(&app));
    };
    sync();
    fs::write(app.join("main"), "changed\n").unwrap();
    fs::remove_file(app.join("lib/empty")).unwrap();
    fs::write(app.join("lib/new"), noise(100_000)).unwrap();
    sync();
}

/// Neither `..` nor symlinks lead out of the sandbox, and what they reach there is read-only.
#[test]
fn sftp_does_not_leave_the_sandbox() {
    let Some(fixture) = Fixture::new(&["sftp"]) else { return };
    let (srv, scratch) = (fixture.srv(), fixture.scratch.path().display());
    let (canary, local) = (fixture.scratch.path().join("canary"), fixture.scratch.path().join("local"));
    fs::write(&canary, "alive").unwrap();
    fs::write(&local, "attack").unwrap();
    symlink("/etc", fixture.on_disk("etc")).unwrap();
    symlink(fixture.scratch.path(), fixture.on_disk("out")).unwrap();
    symlink("../../../../../../../../etc", fixture.on_disk("up")).unwrap();
    let local = local.display();
    let hostname = fs::read("/etc/hostname").unwrap_or_default();
    for attempt in [
        format!("put {local} {srv}/etc/sshd-test-attack"),
        format!("put {local} {srv}/up/sshd-test-attack"),
        format!("put {local} {srv}/etc/hostname"),
        format!("put {local} /etc/sshd-test-attack"),
        format!("put {local} {srv}/../../../../../etc/sshd-test-attack"),
        format!("put {local} {srv}/out/canary"),
        format!("put {local} {scratch}/canary"),
        format!("get {scratch}/canary {scratch}/stolen"),
        format!("rm {srv}/out/canary"),
        format!("rename {srv}/etc/hostname {srv}/taken"),
        format!("ln {srv}/etc/hostname {srv}/linked"),
        format!("chmod 777 {srv}/etc/hostname"),
        "get /proc/1/environ /dev/null".to_owned(),
        "get /proc/self/environ /dev/null".to_owned(),
        "get /proc/1/root/etc/hostname /dev/null".to_owned(),
        format!("put {local} /proc/sysrq-trigger"),
        format!("put {local} /dev/new"),
    ] {
        let output = fixture.sftp(&format!("{attempt}\n"));
        assert!(!output.status.success(), "{attempt}: {output:?}");
    }
    assert_eq!(fs::read(&canary).unwrap(), b"alive");
    assert_eq!(fs::read("/etc/hostname").unwrap_or_default(), hostname);
    assert!(!Path::new("/etc/sshd-test-attack").exists() && !fixture.scratch.path().join("stolen").exists());
    // Inside, the same links do lead somewhere.
    let read = fixture.sftp(&format!("ls {srv}/etc/passwd\nls {srv}/up/passwd\n"));
    assert!(read.status.success(), "{read:?}");
}

/// Names are bytes: what is not UTF-8 arrives as it is.
#[test]
fn names_that_are_not_text() {
    let Some(fixture) = Fixture::new(&["scp"]) else { return };
    let name = std::ffi::OsStr::from_bytes(b"latin1-\xe9\xff");
    let local = fixture.scratch.path().join("dir");
    fs::create_dir(&local).unwrap();
    fs::write(local.join(name), "bytes").unwrap();
    let output = run(fixture
        .client("scp")
        .args(["-s", "-r"])
        .arg(&local)
        .arg(format!("target:{}/dir", fixture.srv())));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read(fixture.on_disk("dir").join(name)).unwrap(), b"bytes");
}
