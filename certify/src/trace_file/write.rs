//! From histories to records. Each content is written once, before its first use.

use std::io::{self, Write};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use simfs::{Name, Trace};

use super::record::{EffectIs, HistoryIs, NodeIs, Record, SharedIs};
use super::text::{Bytes, Mode, Text};
use super::{About, Encoding, FORMAT, compact, lines};
use crate::judge::{Scenario, SharedRule};
use crate::tree::{Node, Tree};

/// Where records go.
pub(super) enum Sink<W: Write> {
    Compact(compact::Sink<W>),
    Lines(lines::Sink<W>),
}

impl<W: Write> Sink<W> {
    pub(super) fn new(to: W, encoding: Encoding) -> io::Result<Self> {
        Ok(match encoding {
            Encoding::Compact => Self::Compact(compact::Sink::new(to)?),
            Encoding::Lines => Self::Lines(lines::Sink::new(to)),
        })
    }

    pub(super) fn put(&mut self, record: Record<u32>) -> io::Result<()> {
        match self {
            Self::Compact(sink) => sink.put(&record),
            Self::Lines(sink) => sink.put(record),
        }
    }

    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::Compact(sink) => sink.finish(),
            Self::Lines(sink) => sink.finish(),
        }
    }
}

/// Writes a trace file, one history after the other. Without [`Writer::finish`] it has no seal, and is none.
pub struct Writer<W: Write> {
    sink: Sink<W>,
    /// The number of each content that was written.
    blobs: FxHashMap<Arc<[u8]>, u32>,
    /// The sources that were written; the number of one is its place, counted from 1.
    sources: Vec<Arc<Tree>>,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    pub fn new(to: W, encoding: Encoding) -> io::Result<Self> {
        let mut sink = Sink::new(to, encoding)?;
        let tool = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned();
        sink.put(Record::Header { format: FORMAT, tool })?;
        Ok(Self { sink, blobs: FxHashMap::default(), sources: Vec::new() })
    }

    /// Adds a history.
    pub fn history(&mut self, about: &About, scenario: &Scenario, trace: &Trace) -> io::Result<()> {
        let sources = scenario.sources.iter().map(|source| self.source(source)).collect::<io::Result<_>>()?;
        let texts = |names: &[Name]| names.iter().map(|name| Text(name.clone())).collect();
        self.sink.put(Record::History(HistoryIs {
            label: plain(&about.label),
            subject: Text::from(&about.subject[..]),
            cut_short: about.cut_short.as_deref().map(plain),
            mount: texts(&scenario.mount),
            deploy_path: texts(&scenario.deploy_path),
            sources,
            shared: match &scenario.expect.shared {
                SharedRule::None => SharedIs::None,
                SharedRule::DropDown => SharedIs::DropDown,
                SharedRule::Exact(paths) => {
                    SharedIs::Exact { paths: paths.iter().map(|path| Text::from(&path[..])).collect() }
                }
            },
            adds: scenario.expect.adds.globs().map(str::to_owned).collect(),
            mode_mask: Mode(scenario.expect.mode_mask),
            keep: scenario.keep.map(|keep| keep as u64),
        }))?;
        self.ops(trace)
    }

    fn ops(&mut self, trace: &Trace) -> io::Result<()> {
        let mut marks = trace.marks().iter().peekable();
        for (seq, op) in trace.ops().iter().enumerate() {
            let seq = seq as u32;
            let mut effects = Vec::with_capacity(op.effects.len());
            for id in op.effects.clone() {
                let effect = &trace.effects()[id as usize];
                if let simfs::Value::Block(bytes) = &effect.value {
                    self.blob(bytes)?;
                }
                let blob = |bytes: &Arc<[u8]>| self.blobs[bytes];
                effects.extend(EffectIs::of(trace.cell(effect.cell), &effect.value, blob));
            }
            self.sink.put(Record::Op { seq, kind: (&op.kind).into(), effects })?;
            while let Some(mark) = marks.next_if(|mark| mark.after <= seq) {
                let kind = match &mark.kind {
                    simfs::MarkKind::Blind { what } => super::record::MarkIs::Blind { what: plain(what) },
                    other => other.into(),
                };
                self.sink.put(Record::Mark { after: mark.after, kind })?;
            }
        }
        self.sink.put(Record::End {
            ops: trace.ops().len() as u32,
            effects: trace.effects().len() as u32,
            marks: trace.marks().len() as u32,
        })
    }

    /// Writes a content unless it was; returns its number.
    fn blob(&mut self, bytes: &Arc<[u8]>) -> io::Result<u32> {
        if let Some(id) = self.blobs.get(bytes) {
            return Ok(*id);
        }
        let id = self.blobs.len() as u32;
        self.sink.put(Record::Blob { id, bytes: Bytes(bytes.clone()) })?;
        self.blobs.insert(bytes.clone(), id);
        Ok(id)
    }

    /// Writes a source unless it was; returns its number.
    fn source(&mut self, tree: &Arc<Tree>) -> io::Result<u32> {
        let known = self.sources.iter().position(|known| Arc::ptr_eq(known, tree) || known == tree);
        if let Some(at) = known {
            return Ok(at as u32 + 1);
        }
        self.sources.push(tree.clone());
        let number = self.sources.len() as u32;
        for (path, node) in &**tree {
            let is = match node {
                Node::Dir { mode } => NodeIs::Dir { mode: Mode(*mode) },
                Node::File { mode, content } => {
                    let blocks =
                        content.blocks.iter().map(|block| self.blob(block)).collect::<io::Result<_>>()?;
                    NodeIs::File { mode: Mode(*mode), size: content.size_bytes, blocks }
                }
                Node::Symlink { target } => NodeIs::Symlink { target: Text::from(&target[..]) },
                Node::Other { .. } => {
                    let what = format!("{}: a source holds no special files", crate::tree::show(path));
                    return Err(io::Error::other(what));
                }
            };
            self.sink.put(Record::Node { source: number, path: Text::from(&path[..]), is })?;
        }
        Ok(number)
    }

    /// Seals the file. What is written to is given back; it may still have to be flushed.
    pub fn finish(self) -> io::Result<W> {
        self.sink.finish()
    }
}

/// Texts for people hold nothing that a terminal would obey.
fn plain(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { crate::tree::show(text.as_bytes()) }
}

/// Whether a text holds nothing that a terminal would obey.
pub(super) fn is_plain(text: &str) -> bool {
    let text = text.replace('\\', "");
    crate::tree::show(text.as_bytes()) == text
}
