//! A host's answer to `cutover check`, with its mount table: any bytes are judged, and no claim is made out of nothing.
#![no_main]

use cutover::check::{Findings, Report, Verdict};
use cutover::config::Durability;
use cutover::remote::frame::Frames;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let events = Frames::new("c0ffee").feed(data).expect("far from too much");
    let findings = Findings::of(&events);
    let seen = findings.file_system.is_some();
    for durability in [Durability::Require, Durability::BestEffort] {
        let report = Report { host: "host:/srv/app".to_owned(), findings: findings.clone(), durability };
        assert!(report.verdict() != Verdict::Guaranteed || seen);
        assert!(report.to_string().lines().all(|line| !line.chars().any(char::is_control)));
    }
});
