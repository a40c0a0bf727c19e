//! What was noted about a golden tree once, against questions that know nothing of it.

use super::*;
use crate::judge::decide::Comparison;
use crate::judge::golden::Golden;
use simfs::Window;

/// Whether a tree can differ within a window: asked with what was noted, and without.
fn asked(trace: &Trace, golden: &Golden, windows: &[Window], extra_allowed: bool) -> Vec<(bool, bool)> {
    let crashes = Crashes::new(trace, &POSIX);
    let comparison = Comparison { crashes: &crashes, extra_allowed };
    let doubt = comparison.doubt(golden);
    let differs = |doubt, window| comparison.find(golden.ino, golden, doubt, &[], window).is_some();
    windows.iter().map(|window| (differs(Some(&doubt), *window), differs(None, *window))).collect()
}

/// Another directory stands for a name of a durable release for a while, with a wrong file in it. Nothing else is wrong
/// with the release, so only what is noted about the other directory leads there.
#[test]
fn another_directory_at_the_same_name_is_doubted() {
    let mut fs = Fs::new(0, 0, 0o755);
    for (dir, text) in [("release/a/d", "right"), ("aside", "wrong")] {
        fs.mkdir_p(dir).unwrap();
        fs.write_file(format!("{dir}/f"), text.as_bytes()).unwrap();
    }
    fs.start_recording();
    let (parent, root) = (fs.resolve("release/a").unwrap(), simfs::ROOT);
    let gone = fs.rename(parent, b"d", root, b"aside", RenameHow::Exchange);
    gone.unwrap();
    let swapped = fs.trace().last();
    fs.rename(parent, b"d", root, b"aside", RenameHow::Exchange).unwrap();
    let durable = fs.sync(SyncScope::All, true);
    let trace = fs.trace();
    let golden = Golden::capture(View::live(trace, 0), fs.resolve("release").unwrap()).unwrap();
    let at = |k: Seq| Window { lo: k, hi: k };
    let windows = [at(0), at(swapped), at(durable - 1), at(durable)];
    let expected = [(false, false), (true, true), (true, true), (false, false)];
    for extra_allowed in [false, true] {
        assert_eq!(asked(trace, &golden, &windows, extra_allowed), expected);
    }
}

/// Directories that change places, and what is below them that changes on the way.
fn directories() -> impl Strategy<Value = Vec<Step>> {
    let dir = || select(vec!["app/r/1", "app/r/2", "app/r/1/d", "app/r/2/d", "app/tmp"]);
    let file = select(vec!["app/r/1/d/f", "app/r/2/d/f", "app/r/1/f", "app/tmp/f"]);
    let step = prop_oneof![
        3 => (dir(), dir()).prop_map(|(p, q)| Exchange(p, q)),
        1 => (dir(), dir()).prop_map(|(p, q)| Rename(p, q)),
        1 => dir().prop_map(Mkdir),
        2 => (file, content()).prop_map(|(p, c)| Write(p, c)),
        1 => (dir(), any::<bool>()).prop_map(|(p, ok)| Sync(p, ok)),
        1 => Just(SyncAll(true)),
    ];
    let first = ["app/r/1", "app/r/2", "app/r/1/d", "app/r/2/d", "app/tmp"].map(Mkdir);
    let files = ["app/r/1/d/f", "app/r/2/d/f"].map(|path| Write(path, b"one"));
    proptest::collection::vec(step, 0..20)
        .prop_map(move |steps| first.iter().chain(&files).cloned().chain(steps).collect())
}

#[test]
fn what_was_noted_hides_nothing() {
    let seed = seed();
    let counts = Cell::new((0_u64, 0_u64));
    let tried = random(seed, cases() / 10).run(&directories(), |steps| {
        let trace = run(&steps);
        let every: Vec<Window> = (0..=trace.last()).map(|k| Window { lo: k, hi: k }).collect();
        for k in (0..=trace.last()).step_by(3) {
            let golden = Golden::capture(View::live(&trace, k), simfs::ROOT).expect("the root is there");
            for path in ["app/r/1", "app/r/2/d", "app"] {
                let Some(golden) = golden.find(path.as_bytes()) else { continue };
                if !matches!(golden.body, golden::Body::Dir { .. }) {
                    continue;
                }
                for (k, (noted, is)) in asked(&trace, golden, &every, false).into_iter().enumerate() {
                    prop_assert_eq!(noted, is, "{} at {}", path, k);
                    let (differs, equal) = counts.get();
                    counts.set((differs + u64::from(is), equal + u64::from(!is)));
                }
            }
        }
        Ok(())
    });
    if let Err(error) = tried {
        panic!("CUTOVER_SEED={seed}: {error}");
    }
    let (differs, equal) = counts.get();
    println!("seed {seed}: {differs} differ, {equal} do not");
    assert!(cases() < 1_000 || (differs > 1_000 && equal > 1_000));
}
