//! When trees first changed, found cell by cell: against a full comparison after every op, and how much work it is.

use super::*;
use crate::judge::change::Search;
use crate::judge::golden::Golden;
use crate::tree;

/// The first op after `k` at which the tree is another, by looking at all of it after each op.
fn by_looking(trace: &Trace, golden: &Golden, k: Seq, extra_allowed: bool) -> Option<Seq> {
    let should = golden.to_tree();
    (k..=trace.last()).find(|k| {
        let is = Golden::capture(View::live(trace, *k), golden.ino).map(|now| now.to_tree());
        tree::difference(&is.unwrap_or_default(), &should, extra_allowed).is_some()
    })
}

fn directories(golden: &Golden, into: &mut Vec<Ino>) {
    if let golden::Body::Dir { entries, .. } = &golden.body {
        into.push(golden.ino);
        for child in entries.values() {
            directories(child, into);
        }
    }
}

/// Of every directory that exists after every third op.
#[test]
fn the_first_change_is_the_one_that_a_look_at_everything_finds() {
    let seed = seed();
    let more = proptest::collection::vec(any_step(), 0..40);
    let counts = Cell::new((0_u64, 0_u64));
    let tried = random(seed, cases() / 10).run(&(steps(), more), |(mut steps, more)| {
        steps.extend(more);
        let trace = run(&steps);
        for k in (0..=trace.last()).step_by(3) {
            let root = Golden::capture(View::live(&trace, k), simfs::ROOT).expect("the root is there");
            let mut dirs = Vec::new();
            directories(&root, &mut dirs);
            for dir in dirs {
                let golden = Golden::capture(View::live(&trace, k), dir).expect("it is there");
                for extra_allowed in [false, true] {
                    let found = Search::new(&trace, extra_allowed).first(&golden, k);
                    prop_assert_eq!(
                        found,
                        by_looking(&trace, &golden, k, extra_allowed),
                        "{:?} after op {}",
                        dir,
                        k
                    );
                    let (changed, unchanged) = counts.get();
                    let is = u64::from(found.is_some());
                    counts.set((changed + is, unchanged + 1 - is));
                }
            }
        }
        Ok(())
    });
    if let Err(error) = tried {
        panic!("CUTOVER_SEED={seed}: {error}");
    }
    let (changed, unchanged) = counts.get();
    println!("seed {seed}: {changed} trees changed, {unchanged} did not");
    assert!(cases() < 1_000 || (changed > 1_000 && unchanged > 1_000));
}

/// What happens to a directory while it is out of the watched tree, and while it is back in it.
fn swaps() -> impl Strategy<Value = Vec<Step>> {
    let dirs = select(vec![("app/r/1", "app/r/2"), ("app/r/1/d", "app/r/2/d"), ("app/r/1/d", "app/tmp")]);
    let dir = select(vec!["app/r/1", "app/r/2", "app/r/1/d", "app/r/2/d", "app/tmp"]);
    let file = select(vec!["app/r/1/d/f", "app/r/2/d/f", "app/tmp/f", "app/r/1/f", "app/r/2/f"]);
    let step = prop_oneof![
        3 => dirs.prop_map(|(p, q)| Exchange(p, q)),
        3 => (file, select(vec![&b"one"[..], b"two"])).prop_map(|(p, c)| Write(p, c)),
        1 => (dir, select(vec![0o755, 0o700])).prop_map(|(p, m)| Chmod(p, m)),
    ];
    proptest::collection::vec(step, 0..16).prop_map(|steps| {
        let dirs = ["app/r/1", "app/r/2", "app/r/1/d", "app/r/2/d", "app/tmp"].map(Mkdir);
        let files = ["app/r/1/d/f", "app/r/2/d/f", "app/tmp/f", "app/r/1/f", "app/r/2/f"];
        dirs.into_iter().chain(files.map(|path| Write(path, b"one"))).chain(steps).collect()
    })
}

/// What was found about a directory is of use only where it was looked at: it may be swapped out, changed, restored and
/// swapped back.
fn assert_first_change(trace: &Trace, from: impl Iterator<Item = Seq>) -> Result<u64, TestCaseError> {
    let mut changed = 0;
    for k in from {
        let golden = Golden::capture(View::live(trace, k), simfs::ROOT).expect("the root is there");
        let found = golden
            .find(b"app/r")
            .map(|golden| (Search::new(trace, false).first(golden, k), by_looking(trace, golden, k, false)));
        let Some((found, is)) = found else { continue };
        prop_assert_eq!(found, is, "from op {}", k);
        changed += u64::from(found.is_some());
    }
    Ok(changed)
}

#[test]
fn a_directory_that_was_away_is_looked_at_again() {
    let begin = [
        Mkdir("app/r/1"),
        Mkdir("app/r/1/d"),
        Mkdir("app/tmp"),
        Mkdir("app/tmp/d"),
        Write("app/r/1/d/f", b"one"),
        Write("app/tmp/d/f", b"one"),
    ];
    let swap = Exchange("app/r/1", "app/tmp");
    let away = [Write("app/tmp/d/f", b"two"), Write("app/tmp/d/f", b"one")];
    let mode = [Chmod("app/tmp", 0o700), Chmod("app/tmp", 0o755)];
    for (what, middle, after, changes) in [
        ("changed and restored", away.to_vec(), vec![], false),
        ("changed", away[..1].to_vec(), vec![], true),
        ("restored, and changed later", away.to_vec(), vec![Write("app/r/1/d/f", b"two")], true),
        ("its mode restored", mode.to_vec(), vec![], false),
        ("its mode restored, and changed below", [&mode[..], &away[..1]].concat(), vec![], true),
    ] {
        let first = begin.len() as Seq;
        let steps = begin.iter().chain([&swap]).chain(&middle).chain([&swap]).chain(&after);
        let trace = run(&steps.cloned().collect::<Vec<_>>());
        // The files make more than one op each: the state to keep is the last before the first swap.
        let from = (first..=trace.last())
            .find(|k| matches!(trace.ops()[*k as usize + 1].kind, simfs::OpKind::Rename { .. }))
            .expect("they are swapped");
        let found = assert_first_change(&trace, std::iter::once(from)).unwrap();
        assert_eq!(found > 0, changes, "{what}");
    }
}

#[test]
fn directories_that_change_places_are_followed() {
    let seed = seed();
    let changed = Cell::new(0);
    let tried = random(seed, cases() / 2).run(&swaps(), |steps| {
        let trace = run(&steps);
        changed.set(changed.get() + assert_first_change(&trace, 0..=trace.last())?);
        Ok(())
    });
    if let Err(error) = tried {
        panic!("CUTOVER_SEED={seed}: {error}");
    }
    println!("seed {seed}: {} trees changed", changed.get());
    assert!(cases() < 1_000 || changed.get() > 1_000);
}

const FILES: u64 = 200;

/// A release of some files, and a trace that begins with it.
fn release() -> (Fs, Ino) {
    let mut fs = Fs::new(0, 0, 0o755);
    for name in ["a", "b"] {
        fs.mkdir_p(format!("release/{name}")).unwrap();
        for n in 0..FILES / 2 {
            fs.write_file(format!("release/{name}/{n}"), b"content").unwrap();
        }
    }
    fs.start_recording();
    let root = fs.resolve("release").unwrap();
    (fs, root)
}

/// How much of a trace is looked at for the release, which must not have changed.
fn work(fs: &Fs, root: Ino) -> u64 {
    let golden = Golden::capture(View::live(fs.trace(), 0), root).unwrap();
    let mut search = Search::new(fs.trace(), false);
    assert_eq!(search.first(&golden, 0), None);
    search.looked_at()
}

type Act = fn(&mut Fs, u64);

/// What deploys do to a live release that leaves it equal: `ops` times something, each the cost of one cell.
#[test]
fn what_is_equal_is_not_compared_again() {
    let (fs, root) = release();
    let idle = work(&fs, root);
    // An entry, a mode, a length and a block of each file; the directories.
    assert_eq!(idle, FILES * 4 + 2 * 2 + 1);
    let ops = 5_000;
    let acts: [(&str, Act, u64); 5] = [
        (
            "writes of the same bytes",
            |fs, n| assert_eq!(fs.write(resolve(fs, n), 0, b"content", false).unwrap(), 7),
            2,
        ),
        ("chmod to the same mode", |fs, n| fs.chmod(resolve(fs, n), 0o644).unwrap(), 1),
        ("chown", |fs, n| fs.chown(resolve(fs, n), Some(n as u32), None).unwrap(), 0),
        (
            "files beside it",
            |fs, n| {
                fs.write_file(format!("beside-{n}"), b"x").unwrap();
            },
            0,
        ),
        (
            "equal directories in turn",
            |fs, _| {
                let root = fs.resolve("release").unwrap();
                fs.rename(root, b"a", root, b"b", RenameHow::Exchange).unwrap();
            },
            2,
        ),
    ];
    for (what, act, cells) in acts {
        let (mut fs, root) = release();
        for n in 0..ops {
            act(&mut fs, n);
        }
        let extra = work(&fs, root) - idle;
        println!("{ops} {what}: {extra} versions more than {idle}");
        // Once for each version, and once more through each of two directories that change places.
        assert!(extra <= cells * ops + 2 * idle, "{ops} {what}: {extra} versions more than {idle}");
    }
}

fn resolve(fs: &Fs, n: u64) -> Ino {
    fs.resolve(format!("release/a/{}", n % (FILES / 2))).unwrap()
}
