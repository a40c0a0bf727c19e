//! What the kernel remembers never lies: all changes go through the mount, so a name that was not there, a link that
//! was read, and a directory that is kept open are seen as they are by whoever looks next.

use std::fs::{self, File};
use std::os::fd::AsFd;

use rustix::fs::{Dir, Mode, OFlags, openat, readlinkat, statat};
use rustix::io::Errno;

use crate::mounted::on_mount;

fn names(dir: impl AsFd) -> Vec<String> {
    let open = openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let names = Dir::new(open).unwrap().map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned());
    let mut names: Vec<String> = names.filter(|name| name != "." && name != "..").collect();
    names.sort();
    names
}

#[test]
fn a_name_that_was_not_there_appears_for_who_had_looked() {
    on_mount(|rig| {
        for (name, make) in [
            ("file", "echo x >\"$1\""),
            ("dir", "mkdir \"$1\""),
            ("link", "ln -s nowhere \"$1\""),
            ("moved", "echo x >\"$1.tmp\"; mv \"$1.tmp\" \"$1\""),
            ("linked", "echo x >\"$1.tmp\"; ln \"$1.tmp\" \"$1\""),
        ] {
            let path = rig.at.join(name);
            for _ in 0..20 {
                // Twice, so that the second answer comes from what the kernel remembers.
                for _ in 0..2 {
                    assert!(fs::symlink_metadata(&path).is_err(), "{name}");
                }
                let script = format!("set -- '{}'; {make}", path.display());
                rig.sh(&script);
                assert!(fs::symlink_metadata(&path).is_ok(), "{name} is there, and is not seen");
                rig.sh(&format!("rm -rf '{}'", path.display()));
            }
        }
    });
}

#[test]
fn a_link_that_is_replaced_is_read_anew() {
    on_mount(|rig| {
        let current = rig.at.join("current");
        rig.sh(&format!("cd '{}' && mkdir 0 1 && ln -s 1 current", rig.at.display()));
        for n in 0..50_u32 {
            let (old, new) = ((n + 1) % 2, n % 2);
            assert_eq!(fs::read_link(&current).unwrap().to_str(), Some(&old.to_string()[..]));
            rig.sh(&format!("cd '{}' && ln -s {new} next && mv -T next current", rig.at.display()));
            assert_eq!(fs::read_link(&current).unwrap().to_str(), Some(&new.to_string()[..]));
            assert_eq!(
                fs::canonicalize(&current).unwrap(),
                fs::canonicalize(rig.at.join(new.to_string())).unwrap()
            );
        }
    });
}

#[test]
fn a_directory_that_is_kept_open_is_seen_as_it_is() {
    on_mount(|rig| {
        let at = rig.at.display().to_string();
        rig.sh(&format!(
            "cd '{at}' && mkdir -p r/1/d && echo one >r/1/a && echo one >r/1/d/b && ln -s x r/1/l"
        ));
        let held = File::open(rig.at.join("r/1")).unwrap();
        assert_eq!(names(&held), ["a", "d", "l"]);
        let look = |name| statat(&held, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).map(|stat| stat.st_size);
        assert_eq!(look("c"), Err(Errno::NOENT));

        rig.sh(&format!("cd '{at}' && echo three >r/1/c && rm r/1/a && ln -sfn y r/1/l"));
        assert_eq!(names(&held), ["c", "d", "l"]);
        assert_eq!((look("a"), look("c")), (Err(Errno::NOENT), Ok(6)));
        assert_eq!(readlinkat(&held, "l", Vec::new()).unwrap().to_bytes(), b"y");

        // Under another name it is the same directory; what has its name now is another one.
        rig.sh(&format!("cd '{at}' && mv r/1 r/old && mkdir r/1 && echo other >r/1/c"));
        assert_eq!((names(&held), look("c")), (vec!["c".to_owned(), "d".to_owned(), "l".to_owned()], Ok(6)));

        rig.sh(&format!("cd '{at}' && rm -r r/old"));
        assert_eq!(names(&held), [""; 0]);
        assert_eq!((look("c"), look("d/b")), (Err(Errno::NOENT), Err(Errno::NOENT)));
    });
}
