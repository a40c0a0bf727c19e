//! Why a host does not do what it is asked: who holds the lock, what it cannot do, an account without a shell.
//!
//! Any bytes are told in one plain line, nothing is free that was not said to be, and what our own script writes about a
//! holder is read back.
#![no_main]

use cutover::preflight::{undurable, unfit};
use cutover::remote::frame::{Event, Frames};
use cutover::remote::holder::{Holder, UnlockEnd, Unlocked};
use cutover::ssh::no_shell::{Answer, WORD, reason, unasked};
use cutover::text::printable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The first eight bytes are the host's time, or what the account's shell came to.
    let Some((first, said)) = data.split_first_chunk() else { return };
    let now = i64::from_le_bytes(*first);
    for now in [None, Some(now)] {
        let holder = Holder::parse(said, now);
        assert_eq!(holder.is_none(), said.is_empty() || said[0] == b'\n', "only an empty file says nothing");
        holder.iter().for_each(|holder| plain(holder, now));
    }
    written(now, said);
    let events = Frames::new("c0ffee").feed(said).expect("far from too much");
    unlocked(&events);
    unfits(&events);
    account(*first, said);
});

fn plain(holder: &Holder, now: Option<i64>) {
    assert_one_line(&holder.to_string());
    assert!(!holder.token.contains(' '));
    assert!(holder.age.is_none_or(|age| now.is_some() && !age.is_negative()), "{holder:?}");
}

/// A line as `write_holder` of `lock.sh` writes it; who it is was made printable before.
fn written(now: i64, who: &[u8]) {
    // As far as there is a calendar.
    let since_s = now % 100_000_000_000;
    let who = printable(who);
    let line = format!("c0ffee 6f1b2a34-boot 4711 987654 {since_s} {who}\n");
    let holder = Holder::parse(line.as_bytes(), since_s.checked_add(60)).expect("it is one");
    assert_eq!((holder.token.as_str(), holder.who.as_str()), ("c0ffee", who.as_str()));
    assert_eq!(holder.since.map(|since| since.as_second()), Some(since_s));
    assert_eq!(holder.age.map(|age| age.as_secs()), Some(60));
}

fn unlocked(events: &[Event]) {
    let unlocked = Unlocked::read(events);
    assert_eq!(unlocked.holder, Holder::among(events));
    unlocked.holder.iter().for_each(|holder| assert_one_line(&holder.to_string()));
    let notes = || {
        events.iter().filter_map(|event| match event {
            Event::Note(words) => Some(words.iter().map(String::as_str).filter(|word| !word.is_empty())),
            Event::Section { .. } => None,
        })
    };
    let said = |first: &str| notes().any(|mut words| words.next() == Some(first));
    assert!(unlocked.end == UnlockEnd::Stays || said("unlock"), "free, and nobody said so");
    assert!(!unlocked.main_alive || said("main"));
    assert!(unlocked.processes == 0 || said("family"));
}

fn unfits(events: &[Event]) {
    if let Some(unfit) = unfit(events) {
        assert_one_line(&format!("{unfit} {}", unfit.hint()));
        let failed = |event: &Event| matches!(event, Event::Note(words) if words[0] == "fail");
        assert!(events.iter().any(failed));
    }
    let section = |event: &Event| matches!(event, Event::Section { name, .. } if name == "undurable");
    let why = undurable(events);
    assert_eq!(why.is_some(), events.iter().any(section));
    why.iter().for_each(|why| assert_one_line(why));
}

/// `first` says how it ended, and how much of what was said is its output.
fn account(first: [u8; 8], said: &[u8]) {
    let [flags, status, at, ..] = first;
    let (out, errors) = said.split_at(said.len().min(at.into()));
    let mut answer = Answer {
        out: out.to_vec(),
        errors: errors.to_vec(),
        status: (flags & 1 != 0).then_some(status.into()),
        refused: flags & 2 != 0,
        hangs: flags & 4 != 0,
    };
    reason(&answer).iter().chain(&unasked(&answer)).for_each(|text| assert_one_line(text));
    // Whatever is around the word, it was printed, so something runs commands.
    answer.out.extend_from_slice(WORD.as_bytes());
    answer.out.extend_from_slice(errors);
    assert_eq!(reason(&answer), None);
}

fn assert_one_line(text: &str) {
    assert!(!text.is_empty() && printable(text.as_bytes()) == text, "{text:?}");
}
