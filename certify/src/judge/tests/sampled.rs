//! Crash states of larger traces, drawn at random: written out and judged by the oracle, they have to agree with what
//! was proved. And where something was found broken they find it too, so they would find a proof that is wrong.

use simfs::crash::Samples;

use super::*;

const FILES: usize = 120;
const DEPLOYS: u32 = 4;
const KEEP: usize = 2;

/// What is wrong with a deploy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    NoBarrier,
    FilesNotSynced,
    NoSyncAfterRename,
    PruneBeforeSync,
}

fn file(version: u32, n: usize) -> String {
    format!("file {n} of version {}\n", if n.is_multiple_of(5) { version } else { 0 })
}

/// Deploys of `FILES` files each, right but for the flaw. Each file is fsynced, or everything at once.
fn history(flaw: Flaw, each: bool) -> Trace {
    let mut fs = Fs::new(0, 0, 0o755);
    fs.mkdir_p("app/shared/uploads").unwrap();
    fs.write_file("app/shared/uploads/u", b"data").unwrap();
    let app = fs.resolve("app").unwrap();
    let releases = fs.mkdir_p("app/r").unwrap();
    fs.start_recording();
    for deploy in 1..=DEPLOYS {
        fs.mark(MarkKind::Begin { deploy });
        let mut dirs = vec![app, releases];
        for n in 0..FILES {
            let path = format!("app/r/{deploy}/d{}/f{n}", n % 7);
            dirs.push(fs.mkdir_p(&path[..path.rfind('/').unwrap()]).unwrap());
            let ino = fs.write_file(&path, file(deploy, n).as_bytes()).unwrap();
            if each && flaw != Flaw::FilesNotSynced && flaw != Flaw::NoBarrier {
                fs.sync(SyncScope::File(ino), true);
            }
        }
        dirs.push(fs.resolve(format!("app/r/{deploy}")).unwrap());
        fs.symlink_at(format!("r/{deploy}"), "app/next").unwrap();
        match flaw {
            Flaw::NoBarrier => {}
            Flaw::FilesNotSynced => sync_dirs(&mut fs, &dirs),
            _ if each => sync_dirs(&mut fs, &dirs),
            _ => {
                fs.sync(SyncScope::All, true);
            }
        }
        fs.rename(app, b"next", app, b"current", RenameHow::Replace).unwrap();
        if flaw == Flaw::PruneBeforeSync {
            prune(&mut fs, deploy, 1);
        }
        if flaw != Flaw::NoSyncAfterRename {
            fs.sync(SyncScope::Dir(app), true);
        }
        fs.mark(MarkKind::Ack { deploy });
        prune(&mut fs, deploy, KEEP as u32);
        fs.mark(MarkKind::End { deploy, ok: true, cleanup_pending: false });
    }
    fs.trace().clone()
}

fn sync_dirs(fs: &mut Fs, dirs: &[Ino]) {
    for dir in dirs {
        fs.sync(SyncScope::Dir(*dir), true);
    }
}

/// Removes the release that came so many deploys before.
fn prune(fs: &mut Fs, deploy: u32, before: u32) {
    let Some(old) = deploy.checked_sub(before).filter(|old| *old > 0) else { return };
    let Ok(root) = fs.resolve(format!("app/r/{old}")) else { return };
    for (path, ino) in fs.walk_tree(root).unwrap().into_iter().rev() {
        let (dir, name) = fs.split(format!("app/r/{old}/{}", String::from_utf8(path).unwrap())).unwrap();
        match fs.stat(ino).unwrap().kind {
            simfs::Kind::Dir => fs.rmdir(dir, &name).unwrap(),
            _ => fs.unlink(dir, &name).unwrap(),
        }
    }
    let (dir, name) = fs.split(format!("app/r/{old}")).unwrap();
    fs.rmdir(dir, &name).unwrap();
}

/// For each of [`CRASH`], whether it held in all crash states that were drawn.
fn drawn(trace: &Trace, scenario: &Scenario, seed: u64, points: u32, states: u32) -> (Holds, u32) {
    let crashes = Crashes::new(trace, &POSIX);
    let history = History::new(trace, scenario);
    let protected = protect::protected(&history, scenario.keep, trace.last());
    let shared = expect::shared_at(trace, 0, scenario);
    let facts = Facts::new(&history, shared.as_ref());
    let mut hold: Holds = [true; CRASH.len()];
    let mut disks = std::collections::BTreeSet::new();
    // Where something can be wrong is around what the deploys do last; elsewhere too, or it would be taken for granted.
    let last = trace.last();
    let evenly = (0..points).map(|n| (u64::from(last) * u64::from(n) / u64::from(points)) as Seq);
    let marks = trace.marks().iter().flat_map(|mark| [mark.after, mark.after + 1, mark.after + 40]);
    for k in evenly.chain(marks).chain([last]).filter(|k| *k <= last) {
        let duty = Duty::at(&history, &protected, k);
        let mut samples = Samples::new(&crashes, k, seed.wrapping_add(u64::from(k)));
        let mut state = simfs::CrashState { at: k, ..Default::default() };
        for _ in 0..states {
            if !disks.insert((k, samples.draw(&mut state))) {
                continue;
            }
            let disk = Disk::new(View::crash(&crashes, &state));
            for (promise, holds) in CRASH.into_iter().zip(&mut hold) {
                *holds &= oracle::holds(promise, &disk, scenario, &facts, &duty);
            }
        }
    }
    (hold, disks.len() as u32)
}

#[test]
fn no_drawn_state_breaks_what_is_proved_and_some_break_what_is_broken() {
    let seed = seed();
    let scenario = scenario(Vec::new(), Some(KEEP));
    let slow = std::env::var_os("CUTOVER_SLOW_TESTS").is_some();
    let (points, states) = if slow { (60, 40) } else { (20, 10) };
    for (flaw, each) in [
        (Flaw::None, false),
        (Flaw::None, true),
        (Flaw::NoBarrier, false),
        (Flaw::FilesNotSynced, true),
        (Flaw::NoSyncAfterRename, false),
        (Flaw::PruneBeforeSync, false),
    ] {
        let trace = history(flaw, each);
        let judgement = judge(&trace, &scenario, &[&POSIX]);
        let (hold, disks) = drawn(&trace, &scenario, seed, points, states);
        println!("seed {seed}, {flaw:?}, fsync of each: {each}: {disks} disks, {hold:?}");
        assert!(disks > 100, "{disks} disks are not many");
        let mut broken = 0;
        for (promise, holds) in CRASH.into_iter().zip(hold) {
            let row = judgement.rows.iter().find(|row| row.promise == promise).unwrap();
            match row.under("posix").unwrap() {
                Verdict::Proved => assert!(holds, "seed {seed}, {flaw:?}: {} was proved", promise.name()),
                Verdict::Broken(_) => broken += 1,
                other => panic!("{flaw:?}: {}: {other:?}", promise.name()),
            }
        }
        let found = hold.iter().filter(|holds| !**holds).count();
        assert_eq!(broken > 0, flaw != Flaw::None, "{flaw:?}: {:?}", judgement.rows);
        assert!(
            found > 0 || broken == 0,
            "seed {seed}, {flaw:?}: {broken} promises are broken, and no drawn state is"
        );
    }
}
