//! Taking the remote shell's output apart.
//!
//! Login shells print greetings and tools print what they like. So whatever matters comes framed by a key that is
//! random in every run: `\n<key> word word…\n` is a note, `\n<key> begin <name>\n … \n<key> end\n` a section of
//! arbitrary bytes. Everything else is noise and is dropped.
//!
//! At first the key is the run's token. The host makes another one, which nobody else on it gets to know, and says
//! `\n<token> key <key>\n`; from there on the token is noise.

/// One framed thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Words, printable ASCII by construction of the scripts; not trusted to be.
    Note(Vec<String>),
    /// A named section.
    Section {
        /// Its name.
        name: String,
        /// Its bytes, exactly.
        bytes: Vec<u8>,
    },
}

/// An incremental parser: bytes in, events out.
#[derive(Debug)]
pub struct Frames {
    /// The start of a frame: a newline, the key, a space.
    token: Vec<u8>,
    /// Whether the key is the host's own.
    keyed: bool,
    buffer: Vec<u8>,
    /// Up to here there is no frame.
    scanned: usize,
    section: Option<String>,
    /// Bytes and frames so far, in all.
    taken_bytes: usize,
    count: usize,
    /// The words of a frame did not come to an end.
    endless: bool,
}

/// The host sent more than this in one section, or without any frame: refuse rather than fill the memory. A listing of a
/// million files has a third of it.
pub const SECTION_BYTES_MAX: usize = 256 << 20;
/// The same for everything that a host says in one session, noise included.
pub const SESSION_BYTES_MAX: usize = 1 << 30;
/// And for the number of frames: a session has some dozens.
pub const FRAMES_MAX: usize = 1 << 16;
/// And for the words of one frame.
pub const WORDS_BYTES_MAX: usize = 1 << 16;

impl Frames {
    /// A parser for one run's token.
    pub fn new(token: &str) -> Self {
        Self {
            token: format!("\n{token} ").into_bytes(),
            keyed: false,
            // The first frame may be the first line.
            buffer: b"\n".to_vec(),
            scanned: 0,
            section: None,
            taken_bytes: 0,
            count: 0,
            endless: false,
        }
    }

    /// Takes more bytes; returns the events they complete. `None` if the host answers without end.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<Vec<Event>> {
        self.taken_bytes = self.taken_bytes.saturating_add(bytes.len());
        self.buffer.extend_from_slice(bytes);
        let mut events = Vec::new();
        while self.step(&mut events).is_some() {}
        if self.section.is_none() {
            // Noise before the next frame; keep what may be the start of a token.
            let done = self.scanned.min(self.buffer.len());
            self.buffer.drain(..done);
            self.scanned = 0;
        }
        let ends = !self.endless
            && self.buffer.len() <= SECTION_BYTES_MAX
            && self.taken_bytes <= SESSION_BYTES_MAX
            && self.count <= FRAMES_MAX;
        ends.then_some(events)
    }

    /// Takes one frame line off the buffer, if a whole one is there.
    fn step(&mut self, events: &mut Vec<Event>) -> Option<()> {
        let start = self.find_token()?;
        let after = self.buffer.get(start + self.token.len()..)?;
        let Some(length) = after.iter().position(|b| *b == b'\n') else {
            // It would be searched again with each byte that comes.
            self.endless |= after.len() > WORDS_BYTES_MAX;
            return None;
        };
        let line = String::from_utf8_lossy(after.get(..length)?).into_owned();
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut next_token = None;
        let event = match (self.section.take(), words.as_slice()) {
            (Some(name), [end]) if end == "end" => {
                let bytes = self.buffer.get(1..start).unwrap_or_default().to_vec();
                Some(Event::Section { name, bytes })
            }
            // A frame inside a section: the section was cut short. It is dropped, and so is missed.
            (_, [begin, name]) if begin == "begin" => {
                self.section = Some(name.clone());
                None
            }
            (_, [word, key]) if word == "key" && !self.keyed && is_key(key) => {
                next_token = Some(format!("\n{key} ").into_bytes());
                None
            }
            _ => Some(Event::Note(words)),
        };
        // The newline that ends this line stays: it may be the one that starts the next frame. So a section's bytes
        // come with one newline before them.
        self.buffer.drain(..start + self.token.len() + length);
        self.scanned = 0;
        self.count += 1;
        if let Some(token) = next_token {
            self.token = token;
            self.keyed = true;
        }
        events.extend(event);
        Some(())
    }

    fn find_token(&mut self) -> Option<usize> {
        let mut at = self.scanned;
        loop {
            let rest = self.buffer.get(at..)?;
            match rest.iter().position(|b| *b == b'\n') {
                None => {
                    self.scanned = self.buffer.len();
                    return None;
                }
                Some(n) => {
                    let here = rest.get(n..)?;
                    let shared = here.len().min(self.token.len());
                    if here.get(..shared) == self.token.get(..shared) {
                        self.scanned = at + n;
                        return (shared == self.token.len()).then_some(at + n);
                    }
                    at += n + 1;
                }
            }
        }
    }
}

/// A key as the host makes one: a SHA-256 in hexadecimal.
fn is_key(word: &str) -> bool {
    word.len() == 64 && word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
