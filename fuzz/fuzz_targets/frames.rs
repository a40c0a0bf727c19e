//! The framed output of the remote shell: how it arrives in pieces must not matter, and what is framed comes back.
#![no_main]

use cutover::remote::frame::{Event, Frames};
use libfuzzer_sys::fuzz_target;

const TOKEN: &str = "c0ffee";
/// What the host makes of it, as `lib.sh` says it first.
const KEY: &str = "c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ff";

fuzz_target!(|data: &[u8]| {
    // The first two bytes say how the rest is cut.
    let Some(([a, b], output)) = data.split_first_chunk() else { return };
    let whole = events(output, [output.len()]);
    assert_eq!(whole, events(output, [1]), "byte by byte");
    assert_eq!(whole, events(output, [usize::from(*a) + 1, usize::from(*b) + 1]), "in pieces");
    comes_back(output, &whole);
    same_after_noise(output, &whole);
});

/// What a parser makes of this output if it arrives in pieces of these lengths, over and over.
fn events<const N: usize>(mut output: &[u8], lengths: [usize; N]) -> Vec<Event> {
    let mut frames = Frames::new(TOKEN);
    let mut all = Vec::new();
    for length in lengths.into_iter().cycle() {
        if output.is_empty() {
            return all;
        }
        let (piece, rest) = output.split_at(length.clamp(1, output.len()));
        all.extend(frames.feed(piece).expect("far from too much"));
        output = rest;
    }
    all
}

/// The events, framed as the scripts do it, are the same events again.
fn comes_back(output: &[u8], events_seen: &[Event]) {
    // What it frames must not be in there.
    if output.windows(KEY.len()).any(|w| w == KEY.as_bytes()) {
        return;
    }
    // Words that make a key do so only once.
    let mut framed = format!("\n{TOKEN} key {KEY}\n").into_bytes();
    for event in events_seen {
        match event {
            // Words that are not UTF-8 are told with a replacement character, so these come back as that.
            Event::Note(words) => framed.extend(format!("\n{KEY} {}\n", words.join(" ")).into_bytes()),
            Event::Section { name, bytes } => {
                framed.extend(format!("\n{KEY} begin {name}\n").into_bytes());
                framed.extend_from_slice(bytes);
                framed.extend(format!("\n{KEY} end\n").into_bytes());
            }
        }
    }
    let again = events(&framed, [framed.len()]);
    assert_eq!(again, events_seen, "of {:?}", output.escape_ascii().to_string());
}

/// A greeting before the first frame changes nothing.
fn same_after_noise(output: &[u8], whole: &[Event]) {
    let greeted = [b"Welcome!\n\nc0ffe\n", output].concat();
    assert_eq!(events(&greeted, [greeted.len()]), whole);
}
