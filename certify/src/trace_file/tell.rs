//! Recorded traces, for people: op by op, in numbers, and as the tree that was there at an instant.
//!
//! Reads and prints. Nothing that a file says reaches the terminal raw.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::RangeInclusive;

use rustc_hash::FxHashSet;
use simfs::{
    Cell, Crashes, EffectId, Ino, Kind, Mark, MarkKind, OpKind, ROOT, SyncScope, Trace, Value, View,
};

use super::text::Sha;
use super::{History, Recorded};
use crate::judge::words::Words;
use crate::tree::show;

/// The heading of one history of a file, if the file has several.
fn heading(recorded: &Recorded, at: usize) -> Option<String> {
    let label = &recorded.histories[at].about.label;
    let separator = if label.is_empty() { "" } else { ": " };
    let label = label.trim_end_matches(':');
    (recorded.histories.len() > 1).then(|| format!("history {}{separator}{label}", at + 1))
}

/// Prints a heading where it is needed, and one history after the other.
fn each(
    recorded: &Recorded,
    only: Option<usize>,
    out: &mut dyn Write,
    mut print: impl FnMut(&History, &mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    for (at, history) in recorded.histories.iter().enumerate() {
        if only.is_some_and(|only| only != at + 1) {
            continue;
        }
        if let Some(heading) = heading(recorded, at) {
            writeln!(out, "{heading}")?;
        }
        print(history, out)?;
    }
    Ok(())
}

/// Prints the ops in `range`, one line each, with the marks between them; paths are those of the instant. `only` is the
/// number of a history, counted from 1.
pub fn ops(
    recorded: &Recorded,
    only: Option<usize>,
    range: &RangeInclusive<u32>,
    effects: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    each(recorded, only, out, |history, out| {
        let trace = &history.trace;
        let mut words = Words::at_start(trace, &history.scenario);
        let mut marks = trace.marks().iter().peekable();
        for (seq, op) in (0_u32..).zip(trace.ops()) {
            let shown = range.contains(&seq);
            if shown {
                let returned = match op.kind {
                    OpKind::Sync { returned, .. } if returned > seq => format!(", until op {returned}"),
                    _ => String::new(),
                };
                writeln!(out, "{seq:6}  {}{returned}", words.what(seq))?;
            }
            words.follow(seq);
            if shown && effects {
                for id in op.effects.clone().map(EffectId) {
                    writeln!(out, "          {}{}", words.cell(id), value(trace, id))?;
                }
            }
            while let Some(mark) = marks.next_if(|mark| mark.after <= seq) {
                if shown {
                    writeln!(out, "        -- {}", said(mark))?;
                }
            }
        }
        Ok(())
    })
}

/// What a mark says.
fn said(mark: &Mark) -> String {
    match &mark.kind {
        MarkKind::Begin { deploy } => format!("deploy {deploy} begins"),
        MarkKind::Ack { deploy } => format!("deploy {deploy} is reported as live"),
        MarkKind::End { deploy, ok, cleanup_pending } => {
            let how = if *ok { "well" } else { "with a failure" };
            let pending = if *cleanup_pending { ", cleanup pending" } else { "" };
            format!("deploy {deploy} ends {how}{pending}")
        }
        MarkKind::Blind { what } => format!("not observed: {what}"),
    }
}

/// The value of an effect, where the words for its cell leave it open.
fn value(trace: &Trace, id: EffectId) -> String {
    match &trace.effect(id).value {
        Value::Inode(birth) => format!(": a {}, mode {:04o}", kind_word(birth.kind), birth.mode),
        Value::Target(text) => format!(": '{}'", show(text)),
        Value::Entry(Some(ino)) => format!(": inode {}", ino.0),
        Value::Entry(None) => String::new(),
        Value::Block(bytes) => format!(": {} bytes and zeros", bytes.len()),
        Value::Size(bytes) => format!(": {bytes} bytes"),
        Value::Mode(mode) => format!(": {mode:04o}"),
        Value::Owner(uid, gid) => format!(": {uid}:{gid}"),
        Value::Xattr(Some(bytes)) => format!(": {} bytes", bytes.len()),
        Value::Xattr(None) => ": not set".to_owned(),
    }
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Dir => "dir",
        Kind::Symlink => "symlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
    }
}

/// Prints what a file holds, in numbers. `file_bytes` is its length.
pub fn stats(recorded: &Recorded, file_bytes: u64, out: &mut dyn Write) -> io::Result<()> {
    let line = |out: &mut dyn Write, name: &str, value: String| writeln!(out, "{name:<22}{value}");
    line(
        out,
        "file",
        format!("{file_bytes} bytes, {}, format version {}", recorded.encoding, super::FORMAT),
    )?;
    line(out, "written by", show(recorded.tool.as_bytes()))?;
    let contents = recorded.contents;
    line(out, "distinct contents", format!("{} blocks, {} bytes", contents.blocks, contents.bytes))?;
    each(recorded, None, out, |history, out| {
        let (trace, about) = (&history.trace, &history.about);
        line(out, "subject", show(&about.subject))?;
        if let Some(why) = &about.cut_short {
            line(out, "cut short", why.clone())?;
        }
        for text in deploys(trace) {
            line(out, "deploy", text)?;
        }
        let effects = trace.effects().iter().map(|effect| cell_word(trace.cell(effect.cell)));
        line(out, "operations", counted(trace.ops()[1..].iter().map(|op| op_word(&op.kind))))?;
        line(out, "effects", counted(effects))?;
        let syncs = trace.ops().iter().filter_map(|op| sync_word(&op.kind));
        line(out, "sync calls", counted(syncs))?;
        let written: u64 = trace.ops().iter().map(|op| written_bytes(&op.kind)).sum();
        line(out, "bytes written", written.to_string())?;
        let mut seen = FxHashSet::default();
        let blocks = trace.effects().iter().filter_map(|effect| match &effect.value {
            Value::Block(bytes) => Some(bytes.clone()),
            _ => None,
        });
        let distinct: usize =
            blocks.filter(|bytes| seen.insert(bytes.clone())).map(|bytes| bytes.len()).sum();
        line(out, "contents on the disk", format!("{} blocks, {distinct} bytes", seen.len()))
    })
}

/// A line for each deploy: where it begins and ends, and what a power loss could take when it is reported as live.
fn deploys(trace: &Trace) -> Vec<String> {
    let crashes = Crashes::new(trace, &simfs::POSIX);
    let mut lines: BTreeMap<u32, String> = BTreeMap::new();
    for mark in trace.marks() {
        let after = mark.after;
        let (deploy, what) = match &mark.kind {
            MarkKind::Begin { deploy } => (*deploy, format!("{deploy}: begins after op {after}")),
            MarkKind::Ack { deploy } => {
                let ids = (0..trace.effects().len() as u32).map(EffectId);
                let issued = ids.take_while(|id| trace.effect(*id).seq <= after);
                let open = issued.filter(|id| crashes.forced_at(*id) > after).count();
                let what = format!(", live after op {after} with {open} effects not yet durable under posix");
                (*deploy, what)
            }
            MarkKind::End { deploy, ok, .. } => {
                (*deploy, format!(", {} after op {after}", if *ok { "done" } else { "failed" }))
            }
            MarkKind::Blind { .. } => continue,
        };
        lines.entry(deploy).or_default().push_str(&what);
    }
    lines.into_values().collect()
}

/// How many, and of which kind, the most first.
fn counted(words: impl Iterator<Item = &'static str>) -> String {
    let mut by_word: BTreeMap<&str, usize> = BTreeMap::new();
    for word in words {
        *by_word.entry(word).or_default() += 1;
    }
    let all: usize = by_word.values().sum();
    let mut words: Vec<(&str, usize)> = by_word.into_iter().collect();
    words.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let words: Vec<String> = words.into_iter().map(|(word, count)| format!("{count} {word}")).collect();
    if words.is_empty() { all.to_string() } else { format!("{all}: {}", words.join(", ")) }
}

fn op_word(kind: &OpKind) -> &'static str {
    match kind {
        OpKind::Initial => "initial",
        OpKind::Mkdir { .. } => "mkdir",
        OpKind::Create { .. } => "create",
        OpKind::Symlink { .. } => "symlink",
        OpKind::Link { .. } => "link",
        OpKind::Unlink { .. } => "unlink",
        OpKind::Rmdir { .. } => "rmdir",
        OpKind::Rename { .. } => "rename",
        OpKind::Write { .. } => "write",
        OpKind::Truncate { .. } => "truncate",
        OpKind::Fallocate { .. } => "fallocate",
        OpKind::CopyRange { .. } => "copy_range",
        OpKind::Chmod { .. } => "chmod",
        OpKind::Chown { .. } => "chown",
        OpKind::Xattr { .. } => "xattr",
        OpKind::Sync { .. } => "sync",
    }
}

fn sync_word(kind: &OpKind) -> Option<&'static str> {
    let OpKind::Sync { scope, ok, .. } = kind else { return None };
    Some(match (scope, ok) {
        (SyncScope::File(_), true) => "of a file",
        (SyncScope::FileData(_), true) => "of a file's data",
        (SyncScope::Dir(_), true) => "of a directory",
        (SyncScope::All, true) => "of the whole disk",
        (_, false) => "failed",
    })
}

fn cell_word(cell: &Cell) -> &'static str {
    match cell {
        Cell::Inode(_) => "inode",
        Cell::Target(_) => "target",
        Cell::Entry(..) => "entry",
        Cell::Block(..) => "block",
        Cell::Size(_) => "size",
        Cell::Mode(_) => "mode",
        Cell::Owner(_) => "owner",
        Cell::Xattr(..) => "xattr",
    }
}

fn written_bytes(kind: &OpKind) -> u64 {
    match kind {
        OpKind::Write { len, .. } | OpKind::CopyRange { len, .. } => *len,
        _ => 0,
    }
}

/// Prints the tree that was on the disk after op `at`, or after the last: type, mode, length, SHA-256 or link text, and
/// path from the root of the disk, escaped as in JSON lines; one line each, in the order of the paths.
pub fn tree(
    recorded: &Recorded,
    only: Option<usize>,
    at: Option<u32>,
    out: &mut dyn Write,
) -> io::Result<()> {
    each(recorded, only, out, |history, out| {
        let at = at.unwrap_or(history.trace.last()).min(history.trace.last());
        let mut lines = Vec::new();
        nodes(View::live(&history.trace, at), &mut lines);
        lines.sort();
        for (path, line) in lines {
            writeln!(out, "{line} {:?}", super::text::Text::from(&path[..]))?;
        }
        Ok(())
    })
}

fn nodes(view: View<'_>, lines: &mut Vec<(Vec<u8>, String)>) {
    let mut todo: Vec<(Vec<u8>, Ino)> = vec![(b"/".to_vec(), ROOT)];
    while let Some((path, ino)) = todo.pop() {
        let Some(birth) = view.birth(ino) else { continue };
        let mode = view.mode(ino);
        let line = match birth.kind {
            Kind::Dir => {
                for (name, child) in view.entries(ino) {
                    let slash = if path.ends_with(b"/") { &b""[..] } else { b"/" };
                    todo.push(([&path[..], slash, name].concat(), child));
                }
                format!("dir {mode:04o} - -")
            }
            Kind::File => {
                let size = view.size_bytes(ino);
                format!("file {mode:04o} {size} {}", digest(view, ino, size))
            }
            Kind::Symlink => format!("symlink - - {:?}", super::text::Text::from(view.target(ino))),
            other => format!("{} {mode:04o} - -", kind_word(other)),
        };
        lines.push((path, line));
    }
}

/// The SHA-256 of a file's bytes, holes as zeros.
fn digest(view: View<'_>, ino: Ino, size: u64) -> Sha {
    use sha2::Digest as _;
    let mut digest = sha2::Sha256::new();
    let zeros = [0; simfs::BLOCK_BYTES as usize];
    for n in 0..size.div_ceil(simfs::BLOCK_BYTES) {
        let visible = (size - n * simfs::BLOCK_BYTES).min(simfs::BLOCK_BYTES) as usize;
        let block = view.block(ino, n);
        let block = &block[..block.len().min(visible)];
        digest.update(block);
        digest.update(&zeros[..visible - block.len()]);
    }
    Sha(digest.finalize().into())
}
