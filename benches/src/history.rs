//! Recorded deploys for the judge, made without a mount: a right deploy, as often as wanted, to a simulated disk.
//!
//! What a real recording has and this has not: ops of a lock, a staging folder and a log, and writes in several parts.

use std::sync::Arc;

use cutover_certify::{
    judge::{Adds, Expect, Scenario, SharedRule},
    tree::{Content, Node, Tree},
};
use simfs::{Errno, Fs, FsResult, Ino, Kind, MarkKind, Name, SyncScope, Trace, fs::RenameHow};

/// How many releases remain: from the fourth deploy on, each removes one.
const KEEP: u32 = 3;
/// Files of one folder.
const FOLDER_FILES: usize = 40;

/// How a release is made durable before the cutover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// One syncfs for everything.
    Syncfs,
    /// An fsync for each file and each folder.
    FsyncEach,
}

/// A trace, and what the judge has to know beside it.
#[derive(Debug)]
pub struct History {
    /// The trace.
    pub trace: Trace,
    /// The rest.
    pub scenario: Scenario,
}

impl History {
    /// Deploys of an application of so many files, one after the other.
    ///
    /// # Panics
    /// If the simulated disk refuses what every disk allows.
    pub fn record(files: usize, deploys: u32, barrier: Barrier) -> Self {
        let mut fs = Fs::new(0, 0, 0o755);
        let first = source(files, 0);
        let sources = (1..=deploys).map(|deploy| Arc::new(changed(&first, deploy))).collect::<Vec<_>>();
        record(&mut fs, &sources, barrier).expect("an empty disk takes a few releases");
        let scenario = Scenario {
            mount: vec![Name::from(&b"srv"[..])],
            deploy_path: vec![Name::from(&b"app"[..])],
            sources,
            expect: Expect { shared: SharedRule::DropDown, adds: Adds::none(), mode_mask: 0o7777 },
            keep: Some(KEEP as usize),
            past: None,
        };
        Self { trace: fs.start_recording(), scenario }
    }

    /// How many files make about so many effects in so many deploys: inode, name, length and one block of a file for each
    /// release, and the removal of its name from those that do not remain.
    pub fn files_for(effects: usize, deploys: u32) -> usize {
        let a_file = 4 * deploys + deploys.saturating_sub(KEEP);
        (effects / a_file as usize).max(1)
    }
}

/// The application.
fn source(files: usize, version: u32) -> Tree {
    let mut tree: Tree = [(Vec::new(), Node::Dir { mode: 0o755 })].into();
    for n in 0..files {
        let folder = format!("folder-{:04}", n / FOLDER_FILES).into_bytes();
        let path = [&folder[..], format!("/file-{n:06}").as_bytes()].concat();
        tree.insert(folder, Node::Dir { mode: 0o755 });
        tree.insert(path, file(n, version));
    }
    tree
}

/// The application at another version: every hundredth file is another.
fn changed(first: &Tree, version: u32) -> Tree {
    let mut tree = first.clone();
    let files = tree.values_mut().filter(|node| matches!(node, Node::File { .. }));
    for (n, node) in files.enumerate().step_by(100) {
        *node = file(n, version);
    }
    tree
}

fn file(n: usize, version: u32) -> Node {
    let bytes = format!("file {n} of version {version}\n").repeat(8);
    let block = Arc::from(bytes.as_bytes());
    let content = Content { size_bytes: bytes.len() as u64, blocks: vec![block] };
    Node::File { mode: 0o644, content }
}

fn record(fs: &mut Fs, sources: &[Arc<Tree>], barrier: Barrier) -> FsResult<()> {
    fs.mkdir_p("app/shared")?;
    fs.mkdir_p("app/releases")?;
    fs.write_file("app/shared/log", b"what the application wrote at run time\n")?;
    fs.start_recording();
    for (deploy, source) in (1..).zip(sources) {
        fs.mark(MarkKind::Begin { deploy });
        let release = format!("app/releases/{deploy:014}");
        write_release(fs, &release, source)?;
        fs.symlink_at("../../shared/log", format!("{release}/log"))?;
        fs.symlink_at(format!("releases/{deploy:014}"), "app/next")?;
        make_durable(fs, &release, barrier)?;
        let app = fs.resolve("app")?;
        fs.rename(app, b"next", app, b"current", RenameHow::Replace)?;
        fs.sync(SyncScope::Dir(app), true);
        fs.mark(MarkKind::Ack { deploy });
        if let Some(old) = deploy.checked_sub(KEEP).filter(|old| *old > 0) {
            remove_tree(fs, &format!("app/releases/{old:014}"))?;
        }
        fs.mark(MarkKind::End { deploy, ok: true, cleanup_pending: false });
    }
    Ok(())
}

fn write_release(fs: &mut Fs, release: &str, source: &Tree) -> FsResult<()> {
    for (path, node) in source {
        let path = format!("{release}/{}", String::from_utf8_lossy(path));
        match node {
            Node::Dir { .. } => drop(fs.mkdir_p(path)?),
            Node::File { content, .. } => drop(fs.write_file(path, &content.to_bytes())?),
            Node::Symlink { .. } | Node::Other { .. } => return Err(Errno::INVAL),
        }
    }
    Ok(())
}

fn make_durable(fs: &mut Fs, release: &str, barrier: Barrier) -> FsResult<()> {
    if barrier == Barrier::Syncfs {
        fs.sync(SyncScope::All, true);
        return Ok(());
    }
    let root = fs.resolve(release)?;
    let below = fs.walk_tree(root)?.into_iter().map(|(_, ino)| ino);
    let above = [root, fs.resolve("app/releases")?, fs.resolve("app")?];
    for ino in below.chain(above).collect::<Vec<Ino>>() {
        match fs.stat(ino)?.kind {
            Kind::Dir => drop(fs.sync(SyncScope::Dir(ino), true)),
            Kind::File => drop(fs.sync(SyncScope::File(ino), true)),
            // A link cannot be opened: the fsync of its folder is for it too.
            _ => {}
        }
    }
    Ok(())
}

fn remove_tree(fs: &mut Fs, dir: &str) -> FsResult<()> {
    let root = fs.resolve(dir)?;
    for (path, ino) in fs.walk_tree(root)?.into_iter().rev() {
        let (parent, name) = fs.split(format!("{dir}/{}", String::from_utf8_lossy(&path)))?;
        if fs.stat(ino)?.kind == Kind::Dir {
            fs.rmdir(parent, &name)?;
        } else {
            fs.unlink(parent, &name)?;
        }
    }
    let (parent, name) = fs.split(dir)?;
    fs.rmdir(parent, &name)
}
