//! Recorded deploys for the judge, made without a mount: a right deploy, several times, to a simulated disk.
//!
//! What a real recording has and this has not: ops of a lock, a staging folder and a log, and writes in several parts.

use std::sync::Arc;

use cutover_certify::{
    judge::{Adds, Expect, Scenario, SharedRule},
    tree::{Content, Node, Tree},
};
use simfs::{Errno, Fs, FsResult, Ino, Kind, MarkKind, Name, SyncScope, Trace, fs::RenameHow};

/// How many releases are deployed, one after the other.
const DEPLOYS: u32 = 4;
/// How many of them remain: the last deploy removes the first release.
const KEEP: usize = 3;
/// Inode, name, length and one block of a file for each release, and the removal of its name from one of them.
const EFFECTS_A_FILE: usize = 4 * DEPLOYS as usize + 1;
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
    /// Four deploys of an application that is as large as it takes for about this many effects in all.
    ///
    /// # Panics
    /// If the simulated disk refuses what every disk allows.
    pub fn record(effects: usize, barrier: Barrier) -> Self {
        let files = (effects / EFFECTS_A_FILE).max(1);
        let mut fs = Fs::new(0, 0, 0o755);
        let sources = (1..=DEPLOYS).map(|deploy| Arc::new(source(files, deploy))).collect::<Vec<_>>();
        record(&mut fs, &sources, barrier).expect("an empty disk takes a few releases");
        let scenario = Scenario {
            mount: vec![Name::from(&b"srv"[..])],
            deploy_path: vec![Name::from(&b"app"[..])],
            sources,
            expect: Expect { shared: SharedRule::DropDown, adds: Adds::none(), mode_mask: 0o7777 },
            keep: Some(KEEP),
            past: None,
        };
        Self { trace: fs.start_recording(), scenario }
    }
}

/// The application at one version: every hundredth file is another in each.
fn source(files: usize, version: u32) -> Tree {
    let mut tree: Tree = [(Vec::new(), Node::Dir { mode: 0o755 })].into();
    for n in 0..files {
        let folder = format!("folder-{:04}", n / FOLDER_FILES).into_bytes();
        let path = [&folder[..], format!("/file-{n:06}").as_bytes()].concat();
        tree.insert(folder, Node::Dir { mode: 0o755 });
        let version = if n % 100 == 0 { version } else { 0 };
        let bytes = format!("file {n} of version {version}\n").repeat(8);
        let block = Arc::from(bytes.as_bytes());
        let content = Content { size_bytes: bytes.len() as u64, blocks: vec![block] };
        tree.insert(path, Node::File { mode: 0o644, content });
    }
    tree
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
        if let Some(old) = deploy.checked_sub(KEEP as u32).filter(|old| *old > 0) {
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
