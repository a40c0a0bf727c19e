//! Our engine on an application of the size that people deploy: about 12,000 files and 155 MB that nobody here wrote,
//! in two versions. `tests/fixtures/webapp.sh` builds it.
//!
//! Everything is recorded and judged whole; nothing is sampled. How long it takes is for the benchmarks; how much memory
//! it may take is a limit here.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::room::{Room, checkout, machine_has, program};
use crate::skip;

/// Whatever takes longer than this hangs, on the slowest machine too.
const LIMIT: Duration = Duration::from_mins(20);

/// What the certifier's address space may be, and so more than it can hold in memory.
const MEMORY_KIB: u32 = 4 << 20;

/// The two versions, if they have been built.
fn webapp() -> Option<[PathBuf; 2]> {
    let at = checkout().join("target/webapp");
    if !at.join("stamp").is_file() {
        skip(
            "there is no target/webapp: run tests/fixtures/webapp.sh, which needs npm, pip and their registries",
        );
        return None;
    }
    Some(["v1", "v2"].map(|version| at.join(version)))
}

/// Files, their bytes, and the bytes of all blocks that differ from each other.
#[derive(Default)]
struct Tally {
    files: usize,
    bytes: u64,
    blocks: HashSet<Vec<u8>>,
}

impl Tally {
    fn add(&mut self, dir: &Path) {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                self.add(&entry.path());
            } else if kind.is_file() {
                let bytes = fs::read(entry.path()).unwrap();
                self.files += 1;
                self.bytes += bytes.len() as u64;
                self.blocks.extend(bytes.chunks(4096).map(<[u8]>::to_vec));
            }
        }
    }

    fn distinct_bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.len() as u64).sum()
    }
}

#[test]
fn a_real_application_is_proved_whole_and_its_content_stored_once() {
    if !machine_has(&[]) {
        return;
    }
    let Some([v1, v2]) = webapp() else { return };
    let mut both = Tally::default();
    both.add(&v1);
    let (files, bytes) = (both.files, both.bytes);
    both.add(&v2);
    assert!(files >= 10_000 && bytes >= 140_000_000, "too small: {files} files, {bytes} bytes");

    // Five releases, so that the engine removes some and every promise is put to the test; else two.
    let slow = std::env::var_os("CUTOVER_SLOW_TESTS").is_some();
    let releases = if slow { vec![&v1, &v2, &v1, &v2, &v1] } else { vec![&v1, &v2] };
    let room = Room::new();
    let json = room.path("verdicts.json");
    let mut command = room.command(Path::new("sh"));
    command
        .arg("-c")
        .arg(format!("ulimit -v {MEMORY_KIB} && exec \"$0\" \"$@\""))
        .arg(program("cutover-certify"))
        .args(["--shared", "python/storage/", "--timeout", "600", "--json"])
        .arg(&json)
        .arg("--app")
        .args(&releases);
    let mut child = room.start(&mut command);
    let ran = room.wait(&mut child, LIMIT);
    assert_eq!(ran.code, Some(0), "{}", room.show(&ran));
    assert_eq!(room.left_behind(), Vec::<PathBuf>::new());

    let judgement: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    for row in judgement["rows"].as_array().unwrap() {
        let promise = row["promise"].as_str().unwrap();
        let live = (!row["live"].is_null()).then_some(&row["live"]);
        for verdict in live.into_iter().chain(row["crash"].as_array().unwrap()) {
            let expected = if promise == "retention" && !slow { "not_asked" } else { "proved" };
            assert_eq!(verdict["verdict"], expected, "{promise}: {verdict}");
        }
    }
    let number = |value: &Value| value.as_u64().expect("a number");
    // The last release once more, and two in a history that starts from nothing.
    assert_eq!(number(&judgement["deploys"]), releases.len() as u64 + 3);

    // Names of files and directories alone are more than this.
    assert!(number(&judgement["effects"]) > (releases.len() * files) as u64);
    let [from_deploy_path, from_nothing] = &judgement["content"].as_array().unwrap()[..] else {
        panic!("two histories are recorded: {}", judgement["content"]);
    };
    for (content, releases) in [(from_deploy_path, releases.len() as u64), (from_nothing, 2)] {
        let recorded = number(&content["recorded_bytes"]);
        let stored = number(&content["stored_bytes"]);
        let distinct = both.distinct_bytes();
        assert!(
            recorded >= releases * bytes * 9 / 10,
            "{recorded} bytes cannot be {releases} releases of {bytes}"
        );
        // tar writes what the network brings, up to 10 KiB at a time, so many blocks of a large file have a version that
        // is not full yet. Five releases that share nothing would store five times as much.
        let most = distinct * 3 / 2;
        assert!((distinct * 9 / 10..=most).contains(&stored), "{stored} bytes for {distinct} distinct");
    }
}
