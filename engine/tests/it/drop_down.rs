//! The drop-down rule on a real host, case by case: what two deploys make of an application and of user data.
//!
//! Each case says what a release has to look like, the user data behind its links included, and what the plan warns of.
//! Whatever a case is about, the harness looks that user data was neither changed nor touched, that each link leads to
//! its own path below `shared/`, and that the release before is as it was.
//!
//! In these tables `a/` is a directory, `a = text` a file, `a -> text` a link, and `- a` takes something away.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::sshd::Host;
use crate::tree;

/// What changes before a deploy, and what that deploy makes of it.
struct Deploy<'a> {
    app: &'a [&'a str],
    shared: &'a [&'a str],
    /// All of the release, sorted.
    release: &'a [&'a str],
    /// What the plan warns of, in its order.
    warnings: &'a [&'a str],
}

/// A path out of a table, where `\n` and `\xff` are what they are elsewhere.
fn path(root: &Path, name: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = name;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        let (byte, len) = if rest.starts_with("\\n") {
            (b'\n', 2)
        } else {
            (u8::from_str_radix(&rest[2..4], 16).expect("\\xNN"), 4)
        };
        bytes.push(byte);
        rest = &rest[len..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    root.join(OsString::from_vec(bytes))
}

fn plant(root: &Path, entries: &[&str]) {
    for entry in entries {
        if let Some(name) = entry.strip_prefix("- ") {
            let gone = path(root, name);
            let removed = match fs::symlink_metadata(&gone) {
                Ok(meta) if meta.is_dir() => fs::remove_dir_all(&gone),
                _ => fs::remove_file(&gone),
            };
            removed.unwrap_or_else(|e| panic!("{name}: {e}"));
            continue;
        }
        let name = entry.split(" -> ").next().and_then(|e| e.split(" = ").next()).expect("a name");
        let at = path(root, name.trim_end_matches('/'));
        fs::create_dir_all(at.parent().expect("parent")).expect("mkdir");
        if let Some((_, to)) = entry.split_once(" -> ") {
            symlink(to, &at).expect("symlink");
        } else if let Some((_, text)) = entry.split_once(" = ") {
            fs::write(&at, text).expect("write");
        } else {
            fs::create_dir(&at).expect("mkdir");
        }
    }
}

/// Bytes as the tables write them.
fn show(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\n', "\\n"));
        text.extend(chunk.invalid().iter().map(|b| format!("\\x{b:02x}")));
    }
    text
}

/// A tree as the tables write it, sorted by path. Links are not followed.
fn look(root: &Path) -> Vec<String> {
    let words = tree::read(root, false);
    let named = words.iter().filter(|(name, _)| !name.is_empty()).map(|(name, what)| {
        let at = root.join(OsStr::from_bytes(name));
        match what.split(' ').next() {
            Some("link") => {
                format!(
                    "{} -> {}",
                    show(name),
                    show(fs::read_link(at).expect("readlink").as_os_str().as_bytes())
                )
            }
            Some("dir") => format!("{}/", show(name)),
            _ => format!("{} = {}", show(name), show(&fs::read(at).expect("read"))),
        }
    });
    named.collect()
}

/// Every link to `shared/` leads to the same path there.
fn assert_links_lead_to_shared(host: &Host, release: &Path) {
    for name in tree::read(release, false).keys() {
        let link = release.join(OsStr::from_bytes(name));
        let up = "../".repeat(name.split(|b| *b == b'/').count() + 1);
        let Ok(to) = fs::read_link(&link) else { continue };
        if !to.as_os_str().as_bytes().starts_with(format!("{up}shared/").as_bytes()) {
            continue;
        }
        let meant = fs::canonicalize(host.path().join("shared").join(OsStr::from_bytes(name)));
        match (fs::canonicalize(&link), meant) {
            (found, Ok(meant)) => assert_eq!(found.expect("it leads somewhere"), meant),
            (found, Err(_)) => assert!(found.is_err(), "the user's own link dangles, but {found:?}"),
        }
    }
}

fn deploy(host: &Host, case: &Deploy<'_>, name: &str) -> PathBuf {
    plant(&host.source(), case.app);
    let shared = host.path().join("shared");
    fs::create_dir_all(&shared).expect("mkdir");
    plant(&shared, case.shared);
    let data = tree::read(&shared, true);
    let before = fs::canonicalize(host.path().join("current")).ok().map(|at| (tree::read(&at, true), at));
    let ran = host.deploy(&["--verbose"]);
    assert_eq!(ran.code, Some(0), "{name}: {ran:#?}");
    let release = fs::canonicalize(host.path().join("current")).expect("current");
    assert_eq!(look(&release), case.release, "{name}: the release");
    let warnings: Vec<&str> =
        ran.stdout.lines().filter_map(|l| l.trim_start().strip_prefix("warning: ")).collect();
    assert_eq!(warnings, case.warnings, "{name}: {}", ran.stdout);
    assert_eq!(tree::read(&shared, true), data, "{name}: user data is not touched");
    assert_links_lead_to_shared(host, &release);
    if let Some((was, at)) = before {
        assert_eq!(tree::read(&at, true), was, "{name}: the release before is as it was");
    }
    host.assert_tidy();
    release
}

/// Deploys once, then again after the changes of `then`.
fn two(first: &Deploy<'_>, then: &Deploy<'_>) {
    let Some(host) = Host::start() else { return };
    deploy(&host, first, "first");
    deploy(&host, then, "then");
}

#[test]
fn nothing_shared_and_then_something() {
    two(
        &Deploy { app: &["index = 1"], shared: &[], release: &["index = 1"], warnings: &[] },
        &Deploy {
            app: &[],
            shared: &["log = user's"],
            release: &["index = 1", "log -> ../../shared/log"],
            warnings: &[],
        },
    );
}

#[test]
fn what_the_application_does_not_have_is_linked() {
    let links = &["index = 1", "log -> ../../shared/log", "uploads -> ../../shared/uploads"];
    two(
        &Deploy {
            app: &["index = 1"],
            shared: &["log = user's", "uploads/cat/whiskers = meow"],
            release: links,
            warnings: &[],
        },
        // What is written there at run time is below the link, and none of the deploy's business.
        &Deploy {
            app: &["index = 2"],
            shared: &["uploads/dog = woof"],
            release: &["index = 2", links[1], links[2]],
            warnings: &[],
        },
    );
}

#[test]
fn a_directory_on_both_sides_is_descended() {
    let warning = &["files newly written in public/ stay in the release, not in shared/public/"];
    two(
        &Deploy {
            app: &["public/style = css"],
            shared: &["public/media/cat = meow"],
            release: &["public/", "public/media -> ../../../shared/public/media", "public/style = css"],
            warnings: warning,
        },
        &Deploy {
            app: &["public/style = css 2"],
            shared: &["public/robots = user's"],
            release: &[
                "public/",
                "public/media -> ../../../shared/public/media",
                "public/robots -> ../../../shared/public/robots",
                "public/style = css 2",
            ],
            warnings: warning,
        },
    );
}

#[test]
fn three_levels_down() {
    let warnings = &[
        "files newly written in a/ stay in the release, not in shared/a/",
        "files newly written in a/b/ stay in the release, not in shared/a/b/",
    ];
    two(
        &Deploy {
            app: &["a/b/c = app"],
            shared: &["a/b/d/e = user's", "a/x = user's"],
            release: &[
                "a/",
                "a/b/",
                "a/b/c = app",
                "a/b/d -> ../../../../shared/a/b/d",
                "a/x -> ../../../shared/a/x",
            ],
            warnings,
        },
        // One level more, and one level less.
        &Deploy {
            app: &["- a/b", "a/x/y = app"],
            shared: &["- a/x", "a/x/z = user's"],
            release: &[
                "a/",
                "a/b -> ../../../shared/a/b",
                "a/x/",
                "a/x/y = app",
                "a/x/z -> ../../../../shared/a/x/z",
            ],
            warnings: &[warnings[0], "files newly written in a/x/ stay in the release, not in shared/a/x/"],
        },
    );
}

#[test]
fn a_file_of_the_application_wins() {
    two(
        &Deploy {
            app: &["config = app", "dir/of = app"],
            shared: &["config = user's", "dir/of = user's"],
            release: &["config = app", "dir/", "dir/of = app"],
            warnings: &[
                "shared/config is hidden by the application's own config",
                "shared/dir/of is hidden by the application's own dir/of",
                "files newly written in dir/ stay in the release, not in shared/dir/",
            ],
        },
        &Deploy {
            app: &["config = app 2", "- dir"],
            shared: &[],
            release: &["config = app 2", "dir -> ../../shared/dir"],
            warnings: &["shared/config is hidden by the application's own config"],
        },
    );
}

#[test]
fn a_file_of_the_application_wins_over_a_shared_directory() {
    let warnings = &["shared/data is hidden by the application's own data"];
    two(
        &Deploy { app: &["data = app"], shared: &["data/x = user's"], release: &["data = app"], warnings },
        &Deploy { app: &["data = app 2"], shared: &[], release: &["data = app 2"], warnings },
    );
}

#[test]
fn a_directory_of_the_application_wins_over_a_shared_file() {
    let warnings = &["shared/data is hidden by the application's own data"];
    two(
        &Deploy {
            app: &["data/x = app"],
            shared: &["data = user's"],
            release: &["data/", "data/x = app"],
            warnings,
        },
        &Deploy {
            app: &["data/y = app"],
            shared: &[],
            release: &["data/", "data/x = app", "data/y = app"],
            warnings,
        },
    );
}

#[test]
fn linked_last_time_and_now_a_file_of_the_application() {
    two(
        &Deploy {
            app: &["index = 1"],
            shared: &[".env = user's", "uploads/x = user's"],
            release: &[".env -> ../../shared/.env", "index = 1", "uploads -> ../../shared/uploads"],
            warnings: &[],
        },
        // tar(1) would write through both links.
        &Deploy {
            app: &[".env = app", "uploads = app"],
            shared: &[],
            release: &[".env = app", "index = 1", "uploads = app"],
            warnings: &[
                "shared/.env is hidden by the application's own .env",
                "shared/uploads is hidden by the application's own uploads",
            ],
        },
    );
}

#[test]
fn linked_last_time_and_now_a_directory_of_the_application() {
    two(
        &Deploy {
            app: &["index = 1"],
            shared: &["uploads/cat = user's", "uploads/deep/er = user's"],
            release: &["index = 1", "uploads -> ../../shared/uploads"],
            warnings: &[],
        },
        // `cat` would be overwritten, and `new` appear among the user's data.
        &Deploy {
            app: &["uploads/cat = app", "uploads/deep/new = app"],
            shared: &[],
            release: &[
                "index = 1",
                "uploads/",
                "uploads/cat = app",
                "uploads/deep/",
                "uploads/deep/er -> ../../../../shared/uploads/deep/er",
                "uploads/deep/new = app",
            ],
            warnings: &[
                "shared/uploads/cat is hidden by the application's own uploads/cat",
                "files newly written in uploads/ stay in the release, not in shared/uploads/",
                "files newly written in uploads/deep/ stay in the release, not in shared/uploads/deep/",
            ],
        },
    );
}

#[test]
fn the_applications_own_last_time_and_linked_now() {
    two(
        &Deploy {
            app: &["index = 1", "file = app", "dir/x = app"],
            shared: &[],
            release: &["dir/", "dir/x = app", "file = app", "index = 1"],
            warnings: &[],
        },
        &Deploy {
            app: &["- file", "- dir"],
            shared: &["file = user's", "dir/y = user's"],
            release: &["dir -> ../../shared/dir", "file -> ../../shared/file", "index = 1"],
            warnings: &[],
        },
    );
}

#[test]
fn a_shared_entry_that_vanished() {
    two(
        &Deploy {
            app: &["public/x = app"],
            shared: &["log = user's", "dir/", "public/media/"],
            release: &[
                "dir -> ../../shared/dir",
                "log -> ../../shared/log",
                "public/",
                "public/media -> ../../../shared/public/media",
                "public/x = app",
            ],
            warnings: &["files newly written in public/ stay in the release, not in shared/public/"],
        },
        // No link that leads nowhere stays.
        &Deploy {
            app: &[],
            shared: &["- log", "- dir", "- public"],
            release: &["public/", "public/x = app"],
            warnings: &[],
        },
    );
}

#[test]
fn a_path_of_the_application_that_is_a_link_is_never_followed() {
    let hidden = [
        "shared/dangling is hidden by the application's own dangling",
        "shared/out is hidden by the application's own out",
        "shared/to-dir is hidden by the application's own to-dir",
        "shared/to-file is hidden by the application's own to-file",
    ];
    let release = [
        "dangling -> nowhere",
        "dir/",
        "dir/x = app",
        "file = app",
        "out -> /etc",
        "to-dir -> dir",
        "to-file -> file",
    ];
    two(
        &Deploy {
            app: &[
                "dir/x = app",
                "file = app",
                "to-dir -> dir",
                "to-file -> file",
                "dangling -> nowhere",
                "out -> /etc",
            ],
            shared: &["to-dir/x = user's", "to-file = user's", "dangling/x = user's", "out/passwd = user's"],
            release: &release,
            warnings: &hidden,
        },
        // Without the link there is nothing in the way any more.
        &Deploy {
            app: &["- to-dir", "- out"],
            shared: &[],
            release: &[
                release[0],
                release[1],
                release[2],
                release[3],
                "out -> ../../shared/out",
                "to-dir -> ../../shared/to-dir",
                release[6],
            ],
            warnings: &[hidden[0], hidden[3]],
        },
    );
}

#[test]
fn a_shared_link_gives_way_to_a_link_of_the_application() {
    two(
        &Deploy {
            app: &["index = 1"],
            shared: &["cache/x = user's"],
            release: &["cache -> ../../shared/cache", "index = 1"],
            warnings: &[],
        },
        // The same text, but the application's: nothing changes on the disk, and it is not descended.
        &Deploy {
            app: &["cache -> ../../shared/cache", "index2 = 2"],
            shared: &[],
            release: &["cache -> ../../shared/cache", "index = 1", "index2 = 2"],
            warnings: &["shared/cache is hidden by the application's own cache"],
        },
    );
}

#[test]
fn empty_directories_on_either_side() {
    two(
        &Deploy {
            app: &["app-empty/", "both/", "filled/"],
            shared: &["shared-empty/", "both/", "filled/x = user's"],
            release: &[
                "app-empty/",
                "both/",
                "filled/",
                "filled/x -> ../../../shared/filled/x",
                "shared-empty -> ../../shared/shared-empty",
            ],
            warnings: &[
                "files newly written in both/ stay in the release, not in shared/both/",
                "files newly written in filled/ stay in the release, not in shared/filled/",
            ],
        },
        &Deploy {
            app: &["- both", "shared-empty/"],
            shared: &["app-empty/"],
            release: &[
                "app-empty/",
                "both -> ../../shared/both",
                "filled/",
                "filled/x -> ../../../shared/filled/x",
                "shared-empty/",
            ],
            warnings: &[
                "files newly written in app-empty/ stay in the release, not in shared/app-empty/",
                "files newly written in filled/ stay in the release, not in shared/filled/",
                "files newly written in shared-empty/ stay in the release, not in shared/shared-empty/",
            ],
        },
    );
}

#[test]
fn a_shared_entry_that_is_itself_a_link() {
    two(
        &Deploy {
            app: &["index = 1"],
            shared: &["real/x = user's", "to-dir -> real", "to-file -> real/x", "dangling -> nowhere"],
            release: &[
                "dangling -> ../../shared/dangling",
                "index = 1",
                "real -> ../../shared/real",
                "to-dir -> ../../shared/to-dir",
                "to-file -> ../../shared/to-file",
            ],
            warnings: &[],
        },
        // A link to a directory is looked into like a directory: what lies there is the user's data.
        &Deploy {
            app: &["to-dir/y = app", "to-file/y = app", "dangling/y = app"],
            shared: &[],
            release: &[
                "dangling/",
                "dangling/y = app",
                "index = 1",
                "real -> ../../shared/real",
                "to-dir/",
                "to-dir/x -> ../../../shared/to-dir/x",
                "to-dir/y = app",
                "to-file/",
                "to-file/y = app",
            ],
            warnings: &[
                "shared/dangling is hidden by the application's own dangling",
                "shared/to-file is hidden by the application's own to-file",
                "files newly written in to-dir/ stay in the release, not in shared/to-dir/",
            ],
        },
    );
}

#[test]
fn shared_that_lies_on_another_disk() {
    let Some(host) = Host::start() else { return };
    let elsewhere = host.dir.path().join("elsewhere");
    fs::create_dir_all(&elsewhere).expect("mkdir");
    fs::create_dir_all(host.path()).expect("mkdir");
    symlink(&elsewhere, host.path().join("shared")).expect("link");
    plant(&elsewhere, &["public/media/cat = meow", "log = user's"]);
    let links = &[
        "log -> ../../shared/log",
        "public/",
        "public/media -> ../../../shared/public/media",
        "public/x = 1",
    ];
    let data = tree::read(&elsewhere, true);
    let warnings = &["files newly written in public/ stay in the release, not in shared/public/"];
    deploy(&host, &Deploy { app: &["public/x = 1"], shared: &[], release: links, warnings }, "first");
    let release = &[links[0], links[1], links[2], "public/x = 2"];
    deploy(&host, &Deploy { app: &["public/x = 2"], shared: &[], release, warnings }, "then");
    assert_eq!(tree::read(&elsewhere, true), data);
}

#[test]
fn dotfiles() {
    two(
        &Deploy {
            app: &[".well-known/app = app", "index = 1"],
            shared: &[
                ".env = user's",
                ".cache/x = user's",
                ".well-known/acme/token = user's",
                "...= = user's",
            ],
            release: &[
                "...= -> ../../shared/...=",
                ".cache -> ../../shared/.cache",
                ".env -> ../../shared/.env",
                ".well-known/",
                ".well-known/acme -> ../../../shared/.well-known/acme",
                ".well-known/app = app",
                "index = 1",
            ],
            warnings: &[
                "files newly written in .well-known/ stay in the release, not in shared/.well-known/",
            ],
        },
        &Deploy {
            app: &["- .well-known"],
            shared: &["- ...="],
            release: &[
                ".cache -> ../../shared/.cache",
                ".env -> ../../shared/.env",
                ".well-known -> ../../shared/.well-known",
                "index = 1",
            ],
            warnings: &[],
        },
    );
}

#[test]
fn names_with_anything_in_them() {
    two(
        &Deploy {
            app: &[" $(id)'/app = app", "-rf/app = app", "caf\\xe9/app = app", "new\\nline/app = app"],
            shared: &[
                " $(id)'/ $(id)' = user's",
                "-rf/-rf = user's",
                "caf\\xe9/caf\\xe9 = user's",
                "new\\nline/new\\nline = user's",
            ],
            release: &[
                " $(id)'/",
                " $(id)'/ $(id)' -> ../../../shared/ $(id)'/ $(id)'",
                " $(id)'/app = app",
                "-rf/",
                "-rf/-rf -> ../../../shared/-rf/-rf",
                "-rf/app = app",
                "caf\\xe9/",
                "caf\\xe9/app = app",
                "caf\\xe9/caf\\xe9 -> ../../../shared/caf\\xe9/caf\\xe9",
                "new\\nline/",
                "new\\nline/app = app",
                "new\\nline/new\\nline -> ../../../shared/new\\nline/new\\nline",
            ],
            warnings: &[
                "files newly written in  $(id)'/ stay in the release, not in shared/ $(id)'/",
                "files newly written in -rf/ stay in the release, not in shared/-rf/",
                "files newly written in caf\\xe9/ stay in the release, not in shared/caf\\xe9/",
                "files newly written in new\\nline/ stay in the release, not in shared/new\\nline/",
            ],
        },
        &Deploy {
            app: &["-  $(id)'", "- -rf", "- caf\\xe9", "- new\\nline"],
            shared: &[],
            release: &[
                " $(id)' -> ../../shared/ $(id)'",
                "-rf -> ../../shared/-rf",
                "caf\\xe9 -> ../../shared/caf\\xe9",
                "new\\nline -> ../../shared/new\\nline",
            ],
            warnings: &[],
        },
    );
}

#[test]
fn a_name_that_is_the_start_of_another() {
    let warnings = &["files newly written in ab/ stay in the release, not in shared/ab/"];
    two(
        &Deploy {
            app: &["ab/x = app"],
            shared: &["a/x = user's", "ab/y = user's", "abc/x = user's"],
            release: &[
                "a -> ../../shared/a",
                "ab/",
                "ab/x = app",
                "ab/y -> ../../../shared/ab/y",
                "abc -> ../../shared/abc",
            ],
            warnings,
        },
        &Deploy {
            app: &["ab-c/z = app"],
            shared: &["- a"],
            release: &[
                "ab/",
                "ab-c/",
                "ab-c/z = app",
                "ab/x = app",
                "ab/y -> ../../../shared/ab/y",
                "abc -> ../../shared/abc",
            ],
            warnings,
        },
    );
}

#[test]
fn what_is_written_beside_a_link_comes_along() {
    let warnings = &["files newly written in public/ stay in the release, not in shared/public/"];
    let Some(host) = Host::start() else { return };
    let links = ["public/", "public/media -> ../../../shared/public/media"];
    let first = Deploy {
        app: &["public/x = 1"],
        shared: &["public/media/cat = meow"],
        release: &[links[0], links[1], "public/x = 1"],
        warnings,
    };
    let release = deploy(&host, &first, "first");
    // As the warning says.
    fs::write(release.join("public/upload"), "of the application at run time").expect("write");
    let then = Deploy {
        app: &["public/x = 2"],
        shared: &[],
        release: &[links[0], links[1], "public/upload = of the application at run time", "public/x = 2"],
        warnings,
    };
    deploy(&host, &then, "then");
}
