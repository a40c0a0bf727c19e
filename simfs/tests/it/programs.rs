//! Real programs on a mount do what they do on any file system.

use crate::mounted::{Rig, listing, make_awkward_tree, on_mount};
use crate::replay::assert_same;

/// `copy` makes `made` in the mount from the awkward tree in `$REAL/tree`.
fn assert_copies(copy: &'static str, made: &'static str) {
    on_mount(move |rig| {
        let tree = rig.real.join("tree");
        make_awkward_tree(&tree);
        rig.sh(copy);
        assert_equal_trees(rig, "tree", made);
        // The same from a cold cache.
        rig.remount();
        assert_equal_trees(rig, "tree", made);
    });
}

fn assert_equal_trees(rig: &Rig, real: &str, made: &str) {
    rig.sh(&format!("diff -r --no-dereference \"$REAL/{real}\" {made}"));
    assert_same(&listing(&rig.at.join(made)), &listing(&rig.real.join(real)));
}

#[test]
fn cp_archive() {
    assert_copies("cp -a \"$REAL/tree\" copy", "copy");
}

#[test]
fn cp_archive_without_copy_file_range() {
    assert_copies("cp -a --reflink=never --sparse=never \"$REAL/tree\" copy", "copy");
}

#[test]
fn cp_within_the_mount() {
    assert_copies("cp -a \"$REAL/tree\" one; cp -a one two; cp -a two copy; rm -rf one two", "copy");
}

#[test]
fn tar_both_ways() {
    assert_copies(
        "mkdir in copy; tar -C \"$REAL/tree\" --format=posix -cf - . | tar -C in -xpf -; tar -C in --format=posix -cf archive.tar .; \
         tar -C copy -xpf archive.tar; touch -r \"$REAL/tree\" copy",
        "copy",
    );
}

#[test]
fn rsync_archive() {
    on_mount(|rig| {
        make_awkward_tree(&rig.real.join("tree"));
        if rig.sh_if("rsync", "rsync -aHX \"$REAL/tree/\" copy; rsync -aHX --delete copy/ again").is_none() {
            return;
        }
        rig.sh("diff -r --no-dereference \"$REAL/tree\" copy");
        // Builds of rsync differ in whether they set the times of links and directories, on any file system.
        let timeless = |path| {
            let lines = listing(path).into_iter();
            lines
                .map(|line| if line.contains("|f|") { line } else { without_time(&line) })
                .collect::<Vec<_>>()
        };
        assert_same(&timeless(&rig.at.join("again")), &timeless(&rig.real.join("tree")));
        assert_eq!(rig.sh("rsync -aHXniO --checksum -J \"$REAL/tree/\" again"), "", "nothing is left to do");
    });
}

fn without_time(line: &str) -> String {
    line.split('|').enumerate().filter(|(at, _)| *at != 5).map(|(_, field)| format!("{field}|")).collect()
}

#[test]
fn cp_with_hard_links_shares_inodes() {
    on_mount(|rig| {
        make_awkward_tree(&rig.real.join("tree"));
        rig.sh("cp -a \"$REAL/tree\" one; cp -al one two; diff -r --no-dereference one two");
        assert_eq!(rig.sh("stat -c %h one/large two/large one/plain"), "2\n2\n4\n");
        rig.sh("test one/large -ef two/large; rm -rf one");
        assert_eq!(rig.sh("stat -c %h two/large two/plain"), "1\n2\n");
        rig.sh("cmp \"$REAL/tree/large\" two/large");
    });
}

#[test]
fn mv_and_ln_switch_a_link() {
    on_mount(|rig| {
        rig.sh("mkdir -p releases/1 releases/2; ln -s releases/1 current");
        let before = rig.last();
        rig.sh("ln -s releases/2 current.tmp; mv -T current.tmp current");
        assert_eq!(rig.recorded(before), "symlink current.tmp +3\nrename current.tmp current +2\n");
        assert_eq!(rig.sh("readlink current"), "releases/2\n");
        rig.sh("ln -sfn releases/1 current; test current/. -ef releases/1/.");
    });
}

#[test]
fn removing_a_large_directory_misses_nothing() {
    on_mount(|rig| {
        rig.sh("mkdir -p big/sub; cd big; seq 5000 | xargs touch; cd sub; seq 3000 | xargs -I{} echo {} | xargs mkdir");
        assert_eq!(rig.sh("find big | wc -l").trim(), "8002");
        rig.sh("rm -rf big");
        assert_eq!(rig.sh("ls -A"), "");
        rig.crash();
        assert_eq!(rig.disk.with(|fs| fs.usage().used_inodes), 1);
    });
}

#[test]
fn git_works() {
    on_mount(|rig| {
        make_awkward_tree(&rig.real.join("tree"));
        rig.sh_if(
            "git",
            "export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
             mkdir work; cp -a \"$REAL/tree/.\" work; chmod 600 work/empty; cd work
             git init -q .; git add -A; git commit -qm one
             echo more >> plain; git commit -qam two; test -z \"$(git status --porcelain)\"
             git gc -q; git fsck --strict
             cd ..; git clone -q work clone; git -C clone fsck; test \"$(git -C clone rev-list --count HEAD)\" = 2
             git clone -q --bare work bare.git; git -C work push -q ../bare.git HEAD:refs/heads/other
             diff -r --no-dereference -x .git -x 'empty dir' work clone",
        );
    });
}

#[test]
fn archives_of_the_mount_are_archives_of_the_tree() {
    on_mount(|rig| {
        make_awkward_tree(&rig.real.join("tree"));
        rig.sh("cp -a \"$REAL/tree\" copy; mkdir \"$REAL/back\"; tar --format=posix -cf - -C copy . | tar -xpf - -C \"$REAL/back\"");
        rig.sh("touch -r copy \"$REAL/back\"; diff -r --no-dereference \"$REAL/tree\" \"$REAL/back\"");
        assert_same(&listing(&rig.real.join("back")), &listing(&rig.real.join("tree")));
    });
}

#[test]
fn find_and_df_and_locks() {
    on_mount(|rig| {
        rig.sh("mkdir -p a/b; echo x > a/b/f; ln a/b/f g; mkfifo p; ln -s g s");
        assert_eq!(rig.sh("find . -mindepth 1 | sort"), "./a\n./a/b\n./a/b/f\n./g\n./p\n./s\n");
        assert_eq!(rig.sh("find . -samefile g | sort"), "./a/b/f\n./g\n");
        assert_eq!(rig.sh("find . -type p -o -type l -o -newer g -type f"), "./p\n./s\n");
        assert_eq!(
            rig.sh("stat -f -c '%S %b %f' ."),
            format!("4096 {} {}\n", (64_u64 << 30) / 4096, (64_u64 << 30) / 4096 - 1)
        );
        rig.sh("df . > /dev/null; sh -c 'echo y > p' & test \"$(cat p)\" = y; wait");
        rig.sh_if("flock", "flock -n g -c 'if flock -n g true; then exit 1; fi'");
    });
}
