//! Whole deploys against a real OpenSSH server, with the machine's tools and with busybox.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use crate::sshd::{Host, Ran, busybox_tools, chmod};
use crate::tree;

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
    fs::write(path, text).expect("write");
}

/// What is live is the source, and nothing else.
fn assert_equal(host: &Host) {
    // Times of unchanged files survive from the base, so they may differ from the source's.
    assert_eq!(tree::read(&host.path().join("current/"), false), tree::read(&host.source(), false));
}

/// Every kind of change at once, twice. `host` may use any tools.
fn story(host: &Host) {
    let source = host.source();
    write(&source, "index.html", "one");
    write(&source, "lib/a.txt", "a");
    write(&source, "lib/deep/er/b.txt", "b");
    write(&source, "was-file", "f");
    write(&source, "was-dir/x/y", "y");
    symlink("lib/a.txt", source.join("was-link")).expect("link");
    symlink("lib", source.join("dir-link")).expect("link");
    fs::create_dir(source.join("empty")).expect("mkdir");
    write(&source, "gone/with/it", "z");
    chmod(&source.join("lib/a.txt"), 0o640);
    chmod(&source.join("empty"), 0o2775);
    chmod(&source.join("lib/deep"), 0o555);
    let first = host.deploy(&[]).live();
    assert_eq!(host.current(), format!("releases/{first}"));
    assert_equal(host);
    assert_eq!(
        tree::read(&host.path().join("current/"), true),
        tree::read(&source, true),
        "a full upload keeps times"
    );
    host.assert_tidy();

    write(&source, "index.html", "two");
    fs::remove_dir_all(source.join("gone")).expect("rm");
    chmod(&source.join("lib/deep"), 0o755);
    fs::remove_file(source.join("lib/deep/er/b.txt")).expect("rm");
    write(&source, "lib/deep/er/c.txt", "c");
    chmod(&source.join("lib/deep/er"), 0o555);
    // file → directory → link → file
    fs::remove_file(source.join("was-file")).expect("rm");
    write(&source, "was-file/now/dir", "d");
    fs::remove_dir_all(source.join("was-dir")).expect("rm");
    symlink("lib/a.txt", source.join("was-dir")).expect("link");
    fs::remove_file(source.join("was-link")).expect("rm");
    write(&source, "was-link", "file");
    // The link led to `lib`: it must be replaced, not followed.
    fs::remove_file(source.join("dir-link")).expect("rm");
    write(&source, "dir-link/a.txt", "not lib's");
    chmod(&source.join("empty"), 0o700);
    let unchanged = fs::metadata(host.path().join("current/lib/a.txt")).expect("stat").mtime();
    let second = host.deploy(&[]).live();
    assert!(second > first);
    assert_equal(host);
    assert_eq!(fs::metadata(host.path().join("current/lib/a.txt")).expect("stat").mtime(), unchanged);
    let old = host.path().join("releases").join(&first);
    assert_eq!(fs::read_to_string(old.join("lib/a.txt")).expect("read"), "a", "the base is as it was");
    assert_eq!(fs::read_to_string(old.join("lib/deep/er/b.txt")).expect("read"), "b");
    host.assert_tidy();

    let again = host.deploy(&[]);
    assert_eq!(again.code, Some(0), "{again:#?}");
    assert_eq!(again.stdout, format!("nothing to do: releases/{second} is live and equal to the source\n"));
    assert_eq!(host.releases(), [first, second]);
    host.assert_tidy();
}

#[test]
fn every_kind_of_change() {
    let Some(host) = Host::start() else { return };
    story(&host);
}

#[test]
fn every_kind_of_change_with_busybox() {
    let tools = tempfile::tempdir().expect("tools");
    let Some(path) = busybox_tools(tools.path()) else { return };
    let Some(host) = Host::start_with(Some(&path)) else { return };
    story(&host);
}

/// Names that break what quotes badly, splits at lines, or takes a name for an option.
fn nasty(host: &Host) {
    let long = "n".repeat(200);
    let names: Vec<Vec<u8>> = vec![
        b"new\nline".to_vec(),
        b"quote's \"and\" `tick` $HOME $(id)".to_vec(),
        b"-rf".to_vec(),
        b"--help".to_vec(),
        b"not utf8 \xff\xfe\x81\x88".to_vec(),
        " space  two ".as_bytes().to_vec(),
        "emoji 🦀 é".as_bytes().to_vec(),
        b"back\\slash\\n".to_vec(),
        b"carriage\rreturn".to_vec(),
        b"tab\tand\x01\x1b[31mcolour\x7f".to_vec(),
        b"*?[a]{b,c}~!#&;|<>".to_vec(),
        b"%41%".to_vec(),
        long.as_bytes().to_vec(),
    ];
    let fill = |text: &str| {
        for name in &names {
            let name = OsStr::from_bytes(name);
            fs::write(host.source().join(name), text).expect("write");
            let dir = host.source().join("d").join(name);
            fs::create_dir_all(dir.join(name)).expect("mkdir");
            fs::write(dir.join(name).join(name), text).expect("write");
            let link = dir.join("link");
            let _ = fs::remove_file(&link);
            symlink(Path::new(&long).join(&long).join(name).join(text), link).expect("link");
        }
    };
    fill("one");
    host.deploy(&[]).live();
    assert_equal(host);
    fill("two, longer");
    host.deploy(&[]).live();
    assert_equal(host);
    // All of them go.
    fs::remove_dir_all(host.source().join("d")).expect("rm");
    for name in &names {
        fs::remove_file(host.source().join(OsStr::from_bytes(name))).expect("rm");
    }
    fs::write(host.source().join("last"), "x").expect("write");
    host.deploy(&[]).live();
    assert_equal(host);
    host.assert_tidy();
}

#[test]
fn nasty_names() {
    let Some(host) = Host::start() else { return };
    nasty(&host);
}

#[test]
fn nasty_names_with_busybox() {
    let tools = tempfile::tempdir().expect("tools");
    let Some(path) = busybox_tools(tools.path()) else { return };
    let Some(host) = Host::start_with(Some(&path)) else { return };
    nasty(&host);
}

#[test]
fn shared_is_linked_and_never_written_through() {
    let Some(host) = Host::start() else { return };
    write(&host.source(), "index.html", "one");
    write(&host.source(), "public/app.css", "css");
    let shared = host.path().join("shared");
    write(&shared, "uploads/cat.png", "meow");
    write(&shared, "public/media/dog.png", "woof");
    write(&shared, ".env", "SECRET=1");
    host.deploy(&[]).live();
    let current = host.path().join("current/");
    assert_eq!(fs::read_link(current.join("uploads")).expect("link"), Path::new("../../shared/uploads"));
    assert_eq!(
        fs::read_link(current.join("public/media")).expect("link"),
        Path::new("../../../shared/public/media")
    );
    assert_eq!(fs::read_to_string(current.join(".env")).expect("read"), "SECRET=1");
    assert_eq!(fs::read_to_string(current.join("public/media/dog.png")).expect("read"), "woof");
    let before = tree::read(&shared, true);

    // What was linked is now the application's own, and the reverse.
    write(&host.source(), ".env", "SECRET=app");
    write(&host.source(), "uploads/cat.png", "of the application");
    write(&host.source(), "public/media/dog.png", "of the application");
    host.deploy(&[]).live();
    assert_eq!(fs::read_to_string(current.join(".env")).expect("read"), "SECRET=app");
    assert_eq!(fs::read_to_string(current.join("uploads/cat.png")).expect("read"), "of the application");
    assert_eq!(tree::read(&shared, true), before);

    fs::remove_dir_all(host.source().join("uploads")).expect("rm");
    fs::remove_dir_all(host.source().join("public")).expect("rm");
    fs::remove_file(host.source().join(".env")).expect("rm");
    host.deploy(&[]).live();
    assert_eq!(fs::read_link(current.join("public")).expect("link"), Path::new("../../shared/public"));
    assert_eq!(fs::read_to_string(current.join("uploads/cat.png")).expect("read"), "meow");
    assert_eq!(tree::read(&shared, true), before);
}

#[test]
fn three_releases_remain() {
    let Some(host) = Host::start() else { return };
    let mut ids = Vec::new();
    for n in 0..5 {
        write(&host.source(), "index.html", &format!("version {n}"));
        ids.push(host.deploy(&[]).live());
        let kept = ids.get(ids.len().saturating_sub(3)..).expect("ids");
        assert_eq!(host.releases(), kept);
        host.assert_tidy();
    }
}

#[test]
fn a_path_reached_through_an_alias() {
    let Some(host) = Host::start() else { return };
    fs::create_dir_all(host.dir.path().join("srv")).expect("mkdir");
    let alias = host.dir.path().join("alias");
    symlink(host.path(), &alias).expect("alias");
    fs::create_dir_all(host.path()).expect("mkdir");
    host.configure(&alias);
    for n in 0..3 {
        write(&host.source(), "index.html", &format!("version {n}"));
        host.deploy(&[]).live();
    }
    // The text of `current` is another one now, and it leads to the oldest release: that one must stay.
    let oldest = host.releases().first().expect("three").clone();
    let link = host.path().join("current");
    fs::remove_file(&link).expect("rm");
    symlink(alias.join("releases").join(&oldest), &link).expect("link");
    write(&host.source(), "index.html", "version 3");
    let new = host.deploy(&[]).live();
    let left = host.releases();
    assert!(left.contains(&oldest) && left.contains(&new) && left.len() == 3, "{left:?}");
}

#[test]
fn a_drifted_file_is_uploaded_again() {
    let Some(host) = Host::start() else { return };
    write(&host.source(), "a", "right");
    write(&host.source(), "b", "right too");
    write(&host.source(), "dir/c", "c");
    host.deploy(&[]).live();
    let current = host.path().join("current/");
    fs::write(current.join("a"), "edited on the host").expect("write");
    fs::remove_file(current.join("b")).expect("rm");
    // A folder became a link out of the release.
    let outside = host.dir.path().join("outside");
    fs::rename(current.join("dir"), &outside).expect("mv");
    symlink(&outside, current.join("dir")).expect("link");
    let plan = host.run("plan", &[]);
    assert!(plan.stdout.contains("drifted"), "{plan:#?}");
    host.deploy(&[]).live();
    assert_equal(&host);
    assert_eq!(fs::read_to_string(outside.join("c")).expect("read"), "c", "nothing went through the link");
}

#[test]
fn files_written_at_run_time_come_along() {
    let Some(host) = Host::start() else { return };
    write(&host.source(), "index.html", "one");
    host.deploy(&[]).live();
    write(&host.path(), "current/cache/page", "cached");
    write(&host.source(), "index.html", "two");
    host.deploy(&[]).live();
    assert_eq!(fs::read_to_string(host.path().join("current/cache/page")).expect("read"), "cached");
}

#[test]
fn an_empty_source_and_one_of_links_only() {
    let Some(host) = Host::start() else { return };
    host.deploy(&[]).live();
    assert_equal(&host);
    symlink("nowhere", host.source().join("dangling")).expect("link");
    host.deploy(&[]).live();
    assert_equal(&host);
}

#[test]
fn a_plan_changes_nothing() {
    let Some(host) = Host::start() else { return };
    write(&host.source(), "index.html", "one");
    let Ran { code, stdout, .. } = host.run("plan", &[]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("full upload"), "{stdout}");
    assert!(stdout.ends_with("\ncurrent: there is none yet\n"), "{stdout}");
    assert!(!host.path().exists());
}

#[test]
fn a_large_file_is_streamed() {
    let Some(host) = Host::start() else { return };
    let big: Vec<u8> = (0..40_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(host.source().join("big"), &big).expect("write");
    for n in 0..300 {
        write(&host.source(), &format!("many/{n}"), &n.to_string());
    }
    host.deploy(&[]).live();
    assert!(fs::read(host.path().join("current/big")).expect("read") == big);
}
