//! Ids: 14 digits, strictly newer.

use cutover::release::ReleaseId;

fn id(text: &str) -> ReleaseId {
    ReleaseId::parse(text.as_bytes()).expect("an id")
}

fn after(now: &str, taken: &[&str]) -> Option<String> {
    let taken: Vec<ReleaseId> = taken.iter().map(|t| id(t)).collect();
    ReleaseId::after(&id(now), &taken).map(|i| i.to_string())
}

#[test]
fn strictly_newer() {
    assert_eq!(after("20260101000000", &[]).as_deref(), Some("20260101000000"));
    assert_eq!(after("20260101000000", &["20250101000000"]).as_deref(), Some("20260101000000"));
    assert_eq!(after("20260101000000", &["20260101000000"]).as_deref(), Some("20260101000001"));
    // A clock that went back, and the end of a year.
    assert_eq!(
        after("20260101000000", &["20261231235959", "20200101000000"]).as_deref(),
        Some("20270101000000")
    );
    assert_eq!(after("20260101000000", &["20240228235959"]).as_deref(), Some("20260101000000"));
}

#[test]
fn nothing_is_newer_than_what_is_no_date() {
    assert_eq!(after("20260101000000", &["20261399000000"]), None);
    assert_eq!(after("20260101000000", &["99991231235959"]), None);
}

#[test]
fn fourteen_digits_and_nothing_else() {
    for bad in ["", "2026010100000", "202601010000000", "2026010100000x", "２０２６０１０１００"] {
        assert_eq!(ReleaseId::parse(bad.as_bytes()), None, "{bad}");
    }
    assert_eq!(id("20260101000000").link_text(), "releases/20260101000000");
}
