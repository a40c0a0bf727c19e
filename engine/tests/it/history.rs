//! The lines of the audit log: what is written is read back, and nothing else.

use cutover::history::{Event, Record, parse};
use cutover::release::ReleaseId;
use proptest::prelude::*;

fn id() -> impl Strategy<Value = ReleaseId> {
    "[0-9]{14}".prop_map(|digits| ReleaseId::parse(digits.as_bytes()).expect("14 digits"))
}

fn event() -> impl Strategy<Value = Event> {
    let ids = || proptest::collection::vec(id(), 0..4);
    prop_oneof![
        proptest::option::of(id()).prop_map(|base| Event::Deploy { base }),
        Just(Event::Rollback),
        ids().prop_map(|swept| Event::Recover { swept }),
        ids().prop_map(|removed| Event::Prune { removed }),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    let ids = (id(), event(), proptest::option::of(id()), proptest::option::of(id()));
    ids.prop_map(|(newest, event, live, was)| Record { newest, event, live, was })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(record in record(), by in "[^\n]{0,40}") {
        let line = format!("{record} at=2026-11-23T19:00:00Z by {by}");
        let read = parse(line.as_bytes()).expect("a line");
        prop_assert_eq!(&read.record, &record);
        prop_assert_eq!(read.at, "2026-11-23T19:00:00Z");
        prop_assert_eq!(read.by, by.as_bytes());
        prop_assert!(line.starts_with(&record.newest.to_string()));
    }

    /// Torn at any byte before the words about who it was: no line.
    #[test]
    fn a_torn_line_is_none(record in record(), cut in 0.0..1.0_f64) {
        let line = format!("{record} at=2026-11-23T19:00:00Z by ");
        #[allow(clippy::cast_precision_loss, clippy::cast_sign_loss)]
        let cut = (line.len() as f64 * cut) as usize;
        prop_assert_eq!(parse(&line.as_bytes()[..cut]), None);
    }

    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }
}

/// Lines of earlier versions and of other programs say nothing.
#[test]
fn other_lines_are_none() {
    for line in [
        "20261123190012 live base=20261122080000 ann@laptop",
        "20261123190012 deploy live=20261123190012 was=- at=T by x",
        "20261123190012 rollback live=1 was=- at=T by x",
        "20261123190012 rollback live=- was=- more=1 at=T by x",
        "20261123190012 prune live=- was=- removed= at=T by x",
        "20261123190012 prune live=- was=- removed=1 more=2 at=T by x",
        "20261123190012 sold live=- was=- at=T by x",
    ] {
        assert_eq!(parse(line.as_bytes()), None, "{line}");
    }
}
