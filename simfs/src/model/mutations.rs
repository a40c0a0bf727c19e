//! Models with one rule changed: what a test of the models has to notice.
//!
//! A *weaker* one says less than the file system keeps: a proof that rests on the rule has to fail. A *stronger* one says
//! more: some state of the file system has to contradict it, or, for `posix`, of a model that it contains.

use super::{Forces, Growth, Model, Order, Reach};

/// A model with one rule changed.
#[derive(Clone, Debug)]
pub struct Mutation {
    /// What is different, in words.
    pub what: String,
    /// It forces or orders less; else more.
    pub weaker: bool,
    /// The changed model. Its rules in words are those of the original.
    pub model: Model,
}

/// A part of what a call forces.
type Part = (&'static str, fn(&mut Forces) -> &mut bool);

const INODE: Part = ("the existence of the inode", |forces| &mut forces.inode);
const DATA: Part = ("its data", |forces| &mut forces.data);
const SIZE: Part = ("its length", |forces| &mut forces.size);
const ATTRIBUTES: Part = ("its mode and owner", |forces| &mut forces.attributes);
const NAMES: Part = ("its names", |forces| &mut forces.names);
const ENTRIES: Part = ("its entries", |forces| &mut forces.entries);

/// A sync call: its name, what it forces, and the parts of that which it could have or lack.
type CallOf = (&'static str, fn(&mut Model) -> &mut Forces, &'static [Part]);

const CALLS: [CallOf; 3] = [
    ("fsync of a file", |model| &mut model.fsync_file, &[INODE, DATA, SIZE, ATTRIBUTES, NAMES]),
    ("fdatasync of a file", |model| &mut model.fdatasync_file, &[INODE, DATA, SIZE, ATTRIBUTES, NAMES]),
    ("fsync of a directory", |model| &mut model.fsync_dir, &[INODE, ATTRIBUTES, ENTRIES]),
];

/// All models that differ from one in one rule.
pub fn mutations(of: &Model) -> Vec<Mutation> {
    let mut all = Vec::new();
    let mut add = |what: String, weaker: bool, change: &dyn Fn(&mut Model)| {
        let mut model = *of;
        change(&mut model);
        all.push(Mutation { what, weaker, model });
    };
    let chained = of.order == Order::Chain;
    for (call, forces, parts) in CALLS {
        let mut reaches = *of;
        let reaches = forces(&mut reaches).reach;
        for (part, flag) in parts {
            // Being given a name is a change: with the chain up to the last one a call has forced them already.
            if *part == NAMES.0 && chained && reaches == Reach::LastChange {
                continue;
            }
            let mut has = *of;
            let has = *flag(forces(&mut has));
            let verb = if has { "does not force" } else { "forces" };
            add(format!("{call} {verb} {part}"), has, &|model| *flag(forces(model)) = !has);
        }
        for (reach, words) in [
            (Reach::Own, "no part of the chain"),
            (Reach::Birth, "the chain up to the op that made it"),
            (Reach::LastChange, "the chain up to its last change"),
        ] {
            if chained && reach != reaches {
                let weaker = (reach as u8) < reaches as u8;
                add(format!("{call} forces {words}"), weaker, &|model| forces(model).reach = reach);
            }
        }
    }
    if chained {
        add("metadata has no order".to_owned(), true, &|model| model.order = Order::Free);
        let (growth, words, weaker) = match of.growth {
            Growth::Nothing => (Growth::AllBlocks, "brings its blocks", false),
            Growth::AllBlocks => (Growth::Nothing, "does not bring its blocks", true),
        };
        add(format!("a length that grew {words}"), weaker, &|model| model.growth = growth);
        let (words, weaker) = if of.logs {
            ("no sync call logs anything on its own", false)
        } else {
            ("a sync call may log what came before on its own", true)
        };
        add(words.to_owned(), weaker, &|model| model.logs = !of.logs);
    } else {
        add("metadata is one chain".to_owned(), false, &|model| model.order = Order::Chain);
    }
    all
}
