//! The invariant of a recording: the newest version of each cell is the live state.

use simfs::{Cell, Fs, Trace, Value};

/// The newest version of each cell, in the order in which they were made.
pub(crate) fn newest(trace: &Trace) -> Vec<(Cell, Value)> {
    trace
        .effects()
        .iter()
        .enumerate()
        .filter(|(at, effect)| trace.versions(effect.cell).last().is_some_and(|id| id.0 as usize == *at))
        .map(|(_, effect)| (trace.cell(effect.cell).clone(), effect.value.clone()))
        .collect()
}

/// Panics unless a disk made from the newest versions is the live one. Inodes that are only held open are no part of
/// either.
pub(crate) fn assert_replay_is_live(fs: &Fs) {
    let live = Fs::from_cells(fs.cells());
    let replayed = Fs::from_cells(newest(fs.trace()));
    assert_same(&described(&replayed), &described(&live));
}

/// What a reader can see of a disk, one line per fact.
pub(crate) fn described(fs: &Fs) -> Vec<String> {
    let current = |(cell, value): (Cell, Value)| match (cell, value) {
        // Mode and owner are compared as they are now: an equal later version is no difference.
        (Cell::Inode(ino), _) => {
            let stat = fs.stat(ino).expect("listed inodes exist");
            let (kind, mode, uid, gid, nlink) = (stat.kind, stat.mode, stat.uid, stat.gid, stat.nlink);
            Some(format!("{ino:?} {kind:?} {mode:o} {uid}:{gid} {nlink} links"))
        }
        (Cell::Mode(_) | Cell::Owner(_), _) => None,
        (cell, value) => Some(format!("{cell:?} = {value:?}")),
    };
    fs.cells().into_iter().filter_map(current).collect()
}

/// Like `assert_eq`, but shows the first difference only.
pub(crate) fn assert_same(left: &[String], right: &[String]) {
    for at in 0..left.len().max(right.len()) {
        assert_eq!(left.get(at), right.get(at), "line {at}");
    }
}
