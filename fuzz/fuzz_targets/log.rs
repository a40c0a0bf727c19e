//! The audit log: any bytes. What is understood is written the same again, and a line that is appended is read back, and
//! is what the next run goes by, whatever was there before, and wherever a power loss tore it.
//!
//! The input is a log; its first bytes also choose the record that is appended.
#![no_main]

use cutover::history::{Event, Record, lines, parse};
use cutover::release::ReleaseId;
use cutover::remote::frame;
use cutover::remote::observed;
use cutover::text::printable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|log: &[u8]| {
    for line in lines(log) {
        if let Some(read) = parse(line) {
            let again = [format!("{} at={} by ", read.record, read.at).as_bytes(), &read.by].concat();
            assert_eq!(again, line, "one record has one line");
        }
    }
    let record = record(&mut log.iter().copied());
    let by = printable(log.get(..40).unwrap_or(log));
    let line = format!("{record} at=2026-11-23T19:00:00Z by {by}");
    let all = appended(log, line.as_bytes());
    assert!(lines(&all).eq(lines(log).chain([line.as_bytes()])), "the others are what they were");
    let read = parse(line.as_bytes()).expect("a line");
    assert_eq!((&read.record, read.by.as_slice()), (&record, by.as_bytes()));
    assert_eq!(next_run(&all), (Some(record.newest.clone()), Some(record.clone())));
    for cut in 0..line.len() {
        let torn = line.get(..cut).unwrap_or_default();
        assert!(
            parse(torn.as_bytes()).is_none_or(|read| read.record == record),
            "{torn:?} is something else"
        );
    }
    // Over one that was torn.
    let torn = [log, b"\n", &line.as_bytes()[..line.len() / 2]].concat();
    assert_eq!(next_run(&appended(&torn, line.as_bytes())).1, Some(record));
});

/// As `x_log` does it.
fn appended(log: &[u8], line: &[u8]) -> Vec<u8> {
    let ends = log.is_empty() || log.ends_with(b"\n");
    [log, if ends { b"" } else { b"\n" }, line, b"\n"].concat()
}

/// The newest id and the last record, as the opening script and what reads its report see them.
fn next_run(log: &[u8]) -> (Option<ReleaseId>, Option<Record>) {
    let last = lines(log).next_back().unwrap_or_default();
    let section = frame::Event::Section { name: "log".to_owned(), bytes: [last, b"\n"].concat() };
    let host = observed::parse(&[section]).expect("a log is never an error");
    (host.last_logged, host.last_record)
}

fn record(bytes: &mut impl Iterator<Item = u8>) -> Record {
    let mut byte = || bytes.next().unwrap_or_default();
    let newest = id(byte());
    let kind = byte();
    let mut ids: Vec<ReleaseId> = (0..kind / 4 % 4).map(|_| id(byte())).collect();
    let event = match kind % 4 {
        0 => Event::Deploy { base: ids.pop() },
        1 => Event::Rollback,
        2 => Event::Recover { swept: ids },
        _ => Event::Prune { removed: ids },
    };
    let mut some = || Some(byte()).filter(|byte| *byte != 0).map(id);
    let (live, was) = (some(), some());
    Record { newest, event, live, was }
}

fn id(byte: u8) -> ReleaseId {
    ReleaseId::parse(format!("20260102030{byte:03}").as_bytes()).expect("14 digits")
}
