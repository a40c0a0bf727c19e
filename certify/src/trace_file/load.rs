//! From records to histories: their order, and what each may refer to.

use std::io::{BufRead, Write};
use std::sync::Arc;

use globset::Glob;
use simfs::{BLOCK_BYTES, Name, Trace};

use super::check::{self, Live};
use super::record::{HistoryIs, NodeIs, Record, SharedIs};
use super::text::Text;
use super::write::{Sink, is_plain};
use super::{
    About, Contents, Encoding, FORMAT, History, Place, Recorded, TraceFileError, compact, detect, lines,
};
use crate::judge::{Adds, Expect, Scenario, SharedRule};
use crate::tree::{Content, Node, Tree};

/// What may be declared at most, and how long one of it may be: as much as fits a command line.
const MAX_DECLARED: usize = 4096;
const MAX_PATH_BYTES: usize = 4096;

/// Why a record is refused.
pub(super) enum Problem {
    What(String),
    Version(u32),
    Memory,
}

impl From<String> for Problem {
    fn from(what: String) -> Self {
        Self::What(what)
    }
}

impl From<&str> for Problem {
    fn from(what: &str) -> Self {
        Self::What(what.to_owned())
    }
}

/// Memory that may still be used, in bytes. An estimate from above, of what is read and of what judging it takes.
pub(super) struct Budget {
    left: u64,
}

impl Budget {
    pub(super) fn spend(&mut self, bytes: u64) -> Result<(), Problem> {
        self.left = self.left.checked_sub(bytes).ok_or(Problem::Memory)?;
        Ok(())
    }
}

/// Texts for people must not reach a terminal with anything that it would obey.
pub(super) fn plain(what: &str, text: &str) -> Result<(), Problem> {
    if is_plain(text) { Ok(()) } else { Err(format!("{what} contains control characters").into()) }
}

/// Where records come from.
enum Source<R: BufRead> {
    Compact(compact::Source<R>),
    Lines(lines::Source<R>),
}

impl<R: BufRead> Source<R> {
    fn next(&mut self) -> Result<Option<(Place, Record<u32>)>, TraceFileError> {
        match self {
            Self::Compact(source) => source.next(),
            Self::Lines(source) => source.next(),
        }
    }
}

/// Reads a trace file in either encoding.
///
/// Needs at most about `memory_bytes` of memory, judging included; a file that needs more is refused. Fails also when
/// anything in it could not have been recorded.
pub fn read(from: impl BufRead, memory_bytes: u64) -> Result<Recorded, TraceFileError> {
    pass(from, memory_bytes, |_| Ok(()))
}

/// Reads and checks a trace file as [`read`] does, and writes the same records in an encoding. Says what it read.
pub fn convert<W: Write>(
    from: impl BufRead,
    to: W,
    into: Encoding,
    memory_bytes: u64,
) -> Result<(Recorded, W), TraceFileError> {
    let mut sink = Sink::new(to, into)?;
    let recorded = pass(from, memory_bytes, |record| sink.put(record.clone()))?;
    Ok((recorded, sink.finish()?))
}

fn pass(
    mut from: impl BufRead,
    memory_bytes: u64,
    mut each: impl FnMut(&Record<u32>) -> std::io::Result<()>,
) -> Result<Recorded, TraceFileError> {
    let encoding = detect(&mut from)?;
    let mut source = match encoding {
        Encoding::Compact => Source::Compact(compact::Source::new(from)?),
        Encoding::Lines => Source::Lines(lines::Source::new(from)),
    };
    let mut loader = Loader {
        tool: None,
        blobs: Vec::new(),
        contents: Contents::default(),
        sources: Vec::new(),
        source: Tree::new(),
        open: None,
        done: Vec::new(),
        budget: Budget { left: memory_bytes },
    };
    let refused = |at: Place, problem: Problem| match problem {
        Problem::What(what) => TraceFileError::Damaged { at, what },
        Problem::Version(found) => TraceFileError::Version { found },
        Problem::Memory => TraceFileError::TooLarge { at, limit_bytes: memory_bytes },
    };
    let mut last = Place::Line(1);
    while let Some((at, record)) = source.next()? {
        let checked = loader.check(&record).map_err(|problem| refused(at, problem))?;
        each(&record)?;
        loader.take(record, checked).map_err(|problem| refused(at, problem))?;
        last = at;
    }
    let (tool, histories) = loader.end().map_err(|problem| refused(last, problem))?;
    Ok(Recorded { tool, encoding, histories, contents: loader.contents })
}

/// A history of which more is to come.
struct Open {
    about: About,
    scenario: Scenario,
    trace: Trace,
    live: Live,
    begun: bool,
}

struct Loader {
    tool: Option<String>,
    blobs: Vec<Arc<[u8]>>,
    contents: Contents,
    sources: Vec<Arc<Tree>>,
    /// The source that is being read; empty if none is.
    source: Tree,
    open: Option<Open>,
    done: Vec<History>,
    budget: Budget,
}

/// Proof that a record was looked at before it is taken.
struct Checked(());

impl Loader {
    /// Refuses what cannot follow what came before.
    fn check(&mut self, record: &Record<u32>) -> Result<Checked, Problem> {
        if self.tool.is_none() != matches!(record, Record::Header { .. }) {
            return Err("the first record, and no other, is the header".into());
        }
        match (record, &mut self.open) {
            (Record::Header { format, tool }, _) => {
                if *format != FORMAT {
                    return Err(Problem::Version(*format));
                }
                plain("the tool's name", tool)?;
            }
            (Record::Blob { id, bytes }, _) => {
                if *id as usize != self.blobs.len() {
                    return Err(format!("blob {id} comes as number {}", self.blobs.len()).into());
                }
                self.budget.spend(bytes.0.len() as u64 + 64)?;
                check::block(&bytes.0)?;
            }
            (Record::Node { source, path, is }, None) => self.check_node(*source, path, is)?,
            (Record::History(_), None) => {}
            (Record::Node { .. } | Record::History(_), Some(_)) => {
                return Err("the history before it has no end".into());
            }
            (Record::Op { seq, kind, effects }, Some(open)) => {
                let expected = if open.begun { open.trace.last() + 1 } else { 0 };
                if *seq != expected {
                    return Err(format!("op {seq} comes where op {expected} should").into());
                }
                if u32::try_from(open.trace.effects().len() + effects.len()).is_err() || *seq == u32::MAX - 1
                {
                    return Err("a history with more operations or effects than can be counted".into());
                }
                open.live.op(*seq, kind, effects, self.blobs.len(), &mut self.budget)?;
            }
            (Record::Mark { after, kind }, Some(open)) => {
                if !open.begun || *after != open.trace.last() {
                    return Err(format!("a mark after op {after} is not behind that op").into());
                }
                self.budget.spend(128)?;
                open.live.mark(kind, open.scenario.sources.len())?;
            }
            (Record::End { ops, effects, marks }, Some(open)) => {
                let trace = &open.trace;
                let counted = (trace.ops().len(), trace.effects().len(), trace.marks().len());
                if !open.begun || counted != (*ops as usize, *effects as usize, *marks as usize) {
                    return Err(
                        "the history does not have as many ops, effects or marks as its end says".into()
                    );
                }
                open.live.end(trace.last())?;
            }
            (Record::Op { .. } | Record::Mark { .. } | Record::End { .. }, None) => {
                return Err("there is no history that it belongs to".into());
            }
            (Record::Seal { .. }, _) => return Err("a seal before the end".into()),
        }
        Ok(Checked(()))
    }

    fn take(&mut self, record: Record<u32>, _: Checked) -> Result<(), Problem> {
        match (record, &mut self.open) {
            (Record::Header { tool, .. }, _) => self.tool = Some(tool),
            (Record::Blob { bytes, .. }, _) => {
                self.contents.blocks += 1;
                self.contents.bytes += bytes.0.len() as u64;
                self.blobs.push(bytes.0);
            }
            (Record::Node { source, path, is }, _) => self.take_node(source, &path, is),
            (Record::History(history), _) => {
                self.end_source();
                self.open = Some(self.begin(history)?);
            }
            (Record::Op { seq, kind, effects }, Some(open)) => {
                let blobs = &self.blobs;
                let parts = effects.into_iter().map(|effect| {
                    // `check` has seen that the number is that of a blob.
                    effect.parts(|blob| blobs.get(blob as usize).cloned().unwrap_or_default())
                });
                if seq == 0 {
                    parts.for_each(|(cell, value)| open.trace.push_initial(cell, value));
                    open.begun = true;
                } else {
                    open.trace.push(kind.into(), parts);
                }
            }
            (Record::Mark { kind, .. }, Some(open)) => open.trace.mark(kind.into()),
            (Record::End { .. }, _) => {
                if let Some(Open { about, scenario, trace, .. }) = self.open.take() {
                    self.done.push(History { about, scenario, trace });
                }
            }
            (Record::Seal { .. } | Record::Op { .. } | Record::Mark { .. }, _) => {}
        }
        Ok(())
    }

    fn check_node(&mut self, source: u32, path: &Text, is: &NodeIs<u32>) -> Result<(), Problem> {
        let (path, open) = (&path.0[..], self.sources.len() as u32 + 1);
        let next = open + u32::from(!self.source.is_empty());
        if path.is_empty() {
            if source != next {
                return Err(format!("source {source} begins where source {next} should").into());
            }
            if !matches!(is, NodeIs::Dir { .. }) {
                return Err("a source is not a directory".into());
            }
            return self.budget.spend(256);
        }
        if source != open || self.source.is_empty() {
            return Err(format!("a node of source {source}, which has not begun, or is complete").into());
        }
        if self.source.last_key_value().is_some_and(|(before, _)| &before[..] >= path) {
            return Err("the nodes of a source are not in the order of their paths".into());
        }
        path.split(|byte| *byte == b'/').try_for_each(check::entry_name)?;
        let parent = path.iter().rposition(|byte| *byte == b'/').map_or(&path[..0], |at| &path[..at]);
        if !matches!(self.source.get(parent), Some(Node::Dir { .. })) {
            return Err("a node of a source is in no directory".into());
        }
        let mut cost = 256 + 2 * path.len() as u64;
        match is {
            NodeIs::Dir { .. } => {}
            NodeIs::Symlink { target } => {
                check::target(&target.0)?;
                cost += target.0.len() as u64;
            }
            NodeIs::File { size, blocks, .. } => {
                if size.div_ceil(BLOCK_BYTES) != blocks.len() as u64 {
                    return Err(format!("a file of {size} bytes has {} blocks", blocks.len()).into());
                }
                let found: Option<Vec<_>> = blocks.iter().map(|id| self.blobs.get(*id as usize)).collect();
                let Some(found) = found else {
                    return Err("a file has a content that no blob before it has".into());
                };
                let tail = size % BLOCK_BYTES;
                if tail != 0 && found.last().is_some_and(|last| last.len() as u64 > tail) {
                    return Err("a file has content beyond its size".into());
                }
                cost += 16 * blocks.len() as u64;
            }
        }
        self.budget.spend(cost)
    }

    fn take_node(&mut self, source: u32, path: &Text, is: NodeIs<u32>) {
        if source as usize > self.sources.len() + 1 {
            self.end_source();
        }
        let node = match is {
            NodeIs::Dir { mode } => Node::Dir { mode: mode.0 },
            NodeIs::File { mode, size, blocks } => {
                let blocks = blocks.iter().filter_map(|id| self.blobs.get(*id as usize).cloned()).collect();
                Node::File { mode: mode.0, content: Content { size_bytes: size, blocks } }
            }
            NodeIs::Symlink { target } => Node::Symlink { target: target.0.to_vec() },
        };
        self.source.insert(path.0.to_vec(), node);
    }

    fn end_source(&mut self) {
        if !self.source.is_empty() {
            self.sources.push(Arc::new(std::mem::take(&mut self.source)));
        }
    }

    fn begin(&mut self, history: HistoryIs) -> Result<Open, Problem> {
        plain("the label", &history.label)?;
        history.cut_short.iter().try_for_each(|why| plain("why it was cut short", why))?;
        let path = |what: &str, names: &[Text]| -> Result<Vec<Name>, Problem> {
            if names.iter().map(|name| name.0.len() + 1).sum::<usize>() > MAX_PATH_BYTES {
                return Err(format!("{what} is longer than {MAX_PATH_BYTES} bytes").into());
            }
            names.iter().map(|name| check::entry_name(&name.0).map(|()| name.0.clone())).collect()
        };
        let (mount, deploy_path) = (
            path("where the disk was mounted", &history.mount)?,
            path("the deploy path", &history.deploy_path)?,
        );
        if mount.is_empty() {
            return Err("the disk was mounted nowhere".into());
        }
        let source = |number: &u32| {
            let found = (*number as usize).checked_sub(1).and_then(|at| self.sources.get(at)).cloned();
            found.ok_or_else(|| Problem::What(format!("there is no source {number}")))
        };
        let sources: Vec<Arc<Tree>> = history.sources.iter().map(source).collect::<Result<_, _>>()?;
        self.budget.spend(8 * sources.len() as u64 + 4096)?;
        let shared = match history.shared {
            SharedIs::None => SharedRule::None,
            SharedIs::DropDown => SharedRule::DropDown,
            SharedIs::Exact { paths } => SharedRule::Exact(shared_paths(&paths)?),
        };
        let keep = history.keep.map(|keep| usize::try_from(keep).unwrap_or(usize::MAX));
        if keep == Some(0) {
            return Err("no release is to be kept, which cannot be".into());
        }
        let expect = Expect { shared, adds: adds(&history.adds)?, mode_mask: history.mode_mask.0 };
        Ok(Open {
            about: About {
                label: history.label,
                subject: history.subject.0.to_vec(),
                cut_short: history.cut_short,
            },
            scenario: Scenario { mount, deploy_path, sources, expect, keep, past: None },
            trace: Trace::new(),
            live: Live::default(),
            begun: false,
        })
    }

    fn end(&mut self) -> Result<(String, Vec<History>), Problem> {
        if self.open.is_some() {
            return Err("the history has no end".into());
        }
        if self.done.is_empty() {
            return Err("the file holds no history".into());
        }
        Ok((self.tool.take().unwrap_or_default(), std::mem::take(&mut self.done)))
    }
}

fn shared_paths(paths: &[Text]) -> Result<Vec<Vec<u8>>, Problem> {
    if paths.len() > MAX_DECLARED {
        return Err(format!("more than {MAX_DECLARED} shared paths").into());
    }
    let path = |path: &Text| {
        if path.0.len() > MAX_PATH_BYTES {
            return Err(format!("a shared path is longer than {MAX_PATH_BYTES} bytes").into());
        }
        path.0.split(|byte| *byte == b'/').try_for_each(check::entry_name)?;
        Ok(path.0.to_vec())
    };
    paths.iter().map(path).collect()
}

fn adds(globs: &[String]) -> Result<Adds, Problem> {
    if globs.len() > MAX_DECLARED || globs.iter().any(|glob| glob.len() > MAX_PATH_BYTES) {
        return Err(
            format!("more than {MAX_DECLARED} globs, or one longer than {MAX_PATH_BYTES} bytes").into()
        );
    }
    let failed = |error: globset::Error| {
        Problem::What(format!(
            "what is added to a release: {}",
            crate::tree::show(error.to_string().as_bytes())
        ))
    };
    let globs = globs.iter().map(|glob| Glob::new(glob)).collect::<Result<_, _>>().map_err(failed)?;
    Adds::new(globs).map_err(failed)
}
