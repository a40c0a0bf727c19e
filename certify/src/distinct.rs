//! How many of several recordings of one history are really different.
//!
//! **Two traces are the same** if they have the same ops and marks in the same order: of each op its kind, what it was done to, and
//! the new value of each cell. Compared by what it is, not by what it happens to be called in one run:
//!
//! - an inode is known by when it first appears in its trace, not by its number;
//! - a name, a link text, a block, a size, an offset that does not occur in all of the recordings (a process id in a
//!   temporary name, a random suffix, the time in a release id) is known by when it first appears, too.
//!
//! So a tool that does one thing after the other has one trace, although it calls its temporary files otherwise each
//! time, and a tool that works in parallel has as many as were seen. Two parallel parts that do the very same with names
//! that are new each time cannot be told apart.
//!
//! Knows nothing of deploys, and judges nothing: each recording is judged by itself, whether it is distinct or not.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;

use simfs::trace::{OpKind, SyncScope};
use simfs::{Cell, Ino, MarkKind, Trace, Value};

/// What a trace consists of, small enough to be kept beside others.
#[derive(Clone, Debug)]
pub struct Outline(Vec<Token>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Token {
    /// The same in every run that does the same.
    Fixed(u64),
    /// A name or a value, by its hash.
    Value(u64),
    Inode(Ino),
}

impl Outline {
    /// That of a trace.
    pub fn new(trace: &Trace) -> Self {
        let mut outline = Self(Vec::new());
        let mut marks = trace.marks().iter().peekable();
        for (seq, op) in trace.ops().iter().enumerate() {
            outline.op(&op.kind);
            for effect in op.effects.clone() {
                let effect = &trace.effects()[effect as usize];
                outline.cell(trace.cell(effect.cell));
                outline.value(&effect.value);
            }
            while let Some(mark) = marks.next_if(|mark| mark.after as usize == seq) {
                outline.mark(&mark.kind);
            }
        }
        outline
    }

    fn fixed(&mut self, what: impl Hash) {
        self.0.push(Token::Fixed(hash(what)));
    }

    fn varies(&mut self, what: impl Hash) {
        self.0.push(Token::Value(hash(what)));
    }

    fn inode(&mut self, ino: Ino) {
        self.0.push(Token::Inode(ino));
    }

    fn op(&mut self, kind: &OpKind) {
        self.fixed(discriminant(kind));
        // What else an op says is in its effects, but for a sync, which has none.
        if let OpKind::Sync { scope, returned: _, ok } = kind {
            self.fixed((discriminant(scope), ok));
            match scope {
                SyncScope::File(ino) | SyncScope::FileData(ino) | SyncScope::Dir(ino) => self.inode(*ino),
                SyncScope::All => {}
            }
        }
    }

    fn cell(&mut self, cell: &Cell) {
        self.fixed(discriminant(cell));
        self.inode(cell.ino());
        match cell {
            Cell::Entry(_, name) | Cell::Xattr(_, name) => self.varies(name),
            Cell::Block(_, number) => self.varies(number),
            Cell::Inode(_) | Cell::Target(_) | Cell::Size(_) | Cell::Mode(_) | Cell::Owner(_) => {}
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Inode(birth) => self.fixed(birth),
            Value::Target(bytes) | Value::Block(bytes) => self.varies(bytes),
            Value::Entry(Some(ino)) => self.inode(*ino),
            Value::Entry(None) => self.fixed("nothing"),
            Value::Size(bytes) => self.varies(bytes),
            Value::Mode(mode) => self.fixed(mode),
            Value::Owner(uid, gid) => self.fixed((uid, gid)),
            Value::Xattr(bytes) => self.varies(bytes),
        }
    }

    fn mark(&mut self, kind: &MarkKind) {
        self.fixed(discriminant(kind));
        match kind {
            MarkKind::Begin { deploy } | MarkKind::Ack { deploy } => self.fixed(deploy),
            MarkKind::End { deploy, ok, cleanup_pending } => self.fixed((deploy, ok, cleanup_pending)),
            MarkKind::Blind { what } => self.fixed(what),
        }
    }
}

fn hash(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// How many of these are distinct; see the [module](self).
pub fn distinct(outlines: &[Outline]) -> usize {
    let values = |outline: &Outline| -> HashSet<u64> {
        outline
            .0
            .iter()
            .filter_map(|token| if let Token::Value(value) = token { Some(*value) } else { None })
            .collect()
    };
    let everywhere = outlines.iter().map(values).reduce(|all, next| &all & &next).unwrap_or_default();
    let normal = |outline: &Outline| -> Vec<(u8, u64)> {
        let mut first_seen: HashMap<Token, u64> = HashMap::new();
        let mut tokens = Vec::with_capacity(outline.0.len());
        for token in &outline.0 {
            tokens.push(match token {
                Token::Fixed(what) => (0, *what),
                Token::Value(value) if everywhere.contains(value) => (1, *value),
                Token::Value(_) | Token::Inode(_) => {
                    let next = first_seen.len() as u64;
                    (2, *first_seen.entry(*token).or_insert(next))
                }
            });
        }
        tokens
    };
    outlines.iter().map(|outline| hash(normal(outline))).collect::<HashSet<u64>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use simfs::Fs;

    /// The trace of a run that makes these files, in this order, and then waits for the disk.
    fn outline(files: &[(&str, &str)]) -> Outline {
        let mut fs = Fs::new(0, 0, 0o755);
        fs.start_recording();
        fs.mark(MarkKind::Begin { deploy: 1 });
        for (path, text) in files {
            fs.write_file(path, text.as_bytes()).unwrap();
        }
        fs.sync(SyncScope::All, true);
        Outline::new(&fs.start_recording())
    }

    #[test]
    fn what_runs_in_another_order_is_distinct() {
        let [ab, ba] = [[("a", "1"), ("b", "2")], [("b", "2"), ("a", "1")]].map(|files| outline(&files));
        assert_eq!(distinct(&[]), 0);
        assert_eq!(distinct(std::slice::from_ref(&ab)), 1);
        assert_eq!(distinct(&[ab.clone(), ab.clone()]), 1);
        assert_eq!(distinct(&[ab.clone(), ba.clone()]), 2);
        // Content that not all have could be a time or a process id: it makes no difference by itself.
        assert_eq!(distinct(&[ab, ba, outline(&[("a", "1"), ("b", "3")])]), 2);
    }

    #[test]
    fn what_only_has_another_name_each_time_is_not() {
        let one = outline(&[("a", "1"), ("tmp.17", "pid 17")]);
        let two = outline(&[("a", "1"), ("tmp.2345", "pid 2345")]);
        assert_eq!(distinct(&[one.clone(), two.clone()]), 1);
        // The same name twice is not two names.
        let other = outline(&[("tmp.9", "1"), ("tmp.9", "pid 9")]);
        assert_eq!(distinct(&[one, two, other]), 2);
    }

    #[test]
    fn syncs_and_marks_count() {
        let made = |marks: &[MarkKind], scope| {
            let mut fs = Fs::new(0, 0, 0o755);
            fs.start_recording();
            fs.write_file("a", b"1").unwrap();
            for mark in marks {
                fs.mark(mark.clone());
            }
            fs.sync(scope, true);
            Outline::new(&fs.start_recording())
        };
        let ack = [MarkKind::Ack { deploy: 1 }];
        let all = [
            made(&[], SyncScope::All),
            made(&ack, SyncScope::All),
            made(&[], SyncScope::Dir(simfs::ROOT)),
            made(&[], SyncScope::All),
        ];
        assert_eq!(distinct(&all), 3);
    }
}
