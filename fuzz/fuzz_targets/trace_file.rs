//! Trace files: any bytes, and any records with a seal that fits. What is accepted can be judged, shown and converted.
//!
//! The input is a whole file in either encoding, or the records of a compact one before they are compressed; the seal is
//! added here, since no fuzzer finds one.
#![no_main]

use cutover_certify::judge::judge;
use cutover_certify::trace_file::{Encoding, Recorded, TraceFileError, convert, read, seal, tell};
use libfuzzer_sys::fuzz_target;

/// What a small machine has; far more than any input of the fuzzer needs.
const MEMORY_BYTES: u64 = 64 << 20;

/// Larger histories take the judge too long for a fuzzer: it decides over all crash states.
const MAX_EFFECTS: usize = 60;

fuzz_target!(|data: &[u8]| {
    for file in [data, &seal(data)] {
        match read(file, MEMORY_BYTES) {
            Ok(recorded) => accepted(file, &recorded),
            Err(error) => refused(&error),
        }
    }
});

fn refused(error: &TraceFileError) {
    let text = format!("{error} {}", error.hint());
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

fn accepted(file: &[u8], recorded: &Recorded) {
    let (_, lines) = convert(file, Vec::new(), Encoding::Lines, MEMORY_BYTES).expect("it was read before");
    let (_, compact) =
        convert(&lines[..], Vec::new(), Encoding::Compact, MEMORY_BYTES).expect("our own lines are good");
    let (_, again) =
        convert(&compact[..], Vec::new(), Encoding::Lines, MEMORY_BYTES).expect("our own file is good");
    assert_eq!(lines, again, "an encoding loses something");
    let mut shown = Vec::new();
    tell::ops(recorded, None, &(0..=u32::MAX), true, &mut shown).expect("writing to memory");
    tell::stats(recorded, 0, &mut shown).expect("writing to memory");
    tell::tree(recorded, None, None, &mut shown).expect("writing to memory");
    let shown = String::from_utf8(shown).expect("text for people is UTF-8");
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    for history in &recorded.histories {
        if history.trace.effects().len() <= MAX_EFFECTS {
            judge(&history.trace, &history.scenario, &[&simfs::POSIX]);
        }
    }
}
