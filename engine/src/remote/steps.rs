//! Writing the shell that carries out a plan's steps. Pure.
//!
//! The verbs are functions of `lib.sh` and `lock.sh`. A script is sent with its length and ends in [`END`]: a remote
//! shell that did not get all of it runs nothing of it.

use std::collections::BTreeMap;

use crate::history::{Event, Record};
use crate::path::RelPath;
use crate::plan::{Course, Plan, Step};
use crate::release::ReleaseId;
use crate::remote::quote::{calls, word};

/// The verbs.
pub const LIB: &str = include_str!("lib.sh");

/// The lock.
pub const LOCK: &str = include_str!("lock.sh");

/// The questions about a host.
pub const CHECK: &str = include_str!("check.sh");

/// What every script ends in.
pub const END: &[u8] = b"#end";

/// A shell that runs one script after the other. The first one is its argument, as `printf %b` takes it; the others
/// come on its input, each announced by a line with its length. The login shell has to take it as it is: no newline, no
/// backslash and no exclamation mark. `read` takes exactly one line off a pipe, and dd(1) exactly its block; head(1) of
/// busybox would read on.
const SHELL: &str = "exec sh -c 'LC_ALL=C; export LC_ALL; K=; s=$(printf %b \"$1\"); set --; \
    while case $s in *\"#end\") eval \"$s\" ;; \
    *) echo \"a script came incomplete, or dd has no iflag=fullblock\" >&2; exit 1 ;; esac; \
    IFS= read -r n; do s=$(dd bs=\"$n\" count=1 iflag=fullblock 2>/dev/null); done' sh";

/// What is asked of a host that takes input at once: a shell, to which every script comes on its input.
pub fn shell() -> String {
    format!("{SHELL} '#end'")
}

/// The longest command that is sent. Linux takes 128 KiB for one argument (`MAX_ARG_STRLEN`, execve(2)), and OpenSSH
/// 256 KiB for one message.
const COMMAND_BYTES_MAX: usize = 120 << 10;

/// What is asked of a host that takes no input before it was asked for something: that shell with its first script.
/// `None` if that is too long for a command.
///
/// Every login shell takes it as one word: it is in single quotes, and what means something to one of them even there is
/// written as `printf %b` has it, a backslash that a digit follows, which stands for itself in all of them.
pub fn shell_with(script: &[u8]) -> Option<String> {
    use std::fmt::Write as _;
    let mut command = format!("{SHELL} '");
    for byte in script.iter().chain(END) {
        match byte {
            b'\'' | b'\\' | b'!' | ..=0x1f | 0x7f.. => {
                let _ = write!(command, "\\0{byte:03o}");
            }
            _ => command.push(char::from(*byte)),
        }
    }
    command.push('\'');
    (command.len() <= COMMAND_BYTES_MAX).then_some(command)
}

/// A script as it goes to the input of such a shell.
pub fn framed(script: &[u8]) -> Vec<u8> {
    let mut out = format!("{}\n", script.len() + END.len()).into_bytes();
    out.extend_from_slice(script);
    out.extend_from_slice(END);
    out
}

/// What makes one run's names and words unlike any other's.
#[derive(Clone, Debug)]
pub struct Run {
    /// Names the run as a holder of the lock, and frames the first word of the host's. Hexadecimal.
    pub token: String,
    /// Who holds the lock, in words for people; one line.
    pub holder: String,
    /// The deploy path.
    pub path: String,
    /// Whether to go on where nothing can be made durable.
    pub best_effort: bool,
    /// Whether to leave out of a copy what cannot be read.
    pub skip_unreadable: bool,
}

/// The opening: tools, lock (unless only looked at), the host's state.
///
/// `wait_s` is how long to wait for the lock; `None` takes none.
pub fn open(run: &Run, app_dirs: &[&RelPath], wait_s: Option<u64>) -> Vec<u8> {
    let path = quoted(&run.path);
    let durability = if run.best_effort { "best-effort" } else { "require" };
    let unreadable = if run.skip_unreadable { "skip" } else { "refuse" };
    let mut out = format!("T={}\nD={durability}\nU={unreadable}\n{LIB}\n{LOCK}\n", run.token).into_bytes();
    let mut body = Vec::new();
    body.extend_from_slice(format!("say hello\n{}open_tools\n", points(&path)).as_bytes());
    if let Some(wait_s) = wait_s {
        let holder = quoted(&run.holder);
        // Who waits in vain, or is refused, is told what `current` is then.
        body.extend_from_slice(
            format!("trap points EXIT\nopen_path {path}\nopen_lock {holder} {wait_s}\nopen_layout\n")
                .as_bytes(),
        );
    } else {
        body.extend_from_slice(
            format!("if [ ! -d {path} ]; then say absent; say phase 0; exit 0; fi\nL=1\ncd -P -- {path} || die path\nlook_lock\n")
                .as_bytes(),
        );
    }
    look(app_dirs, &mut body);
    out.extend_from_slice(b"{\n");
    out.extend_from_slice(&body);
    out.extend_from_slice(b"say phase 0\n} </dev/null\n");
    out
}

/// The host's state once more, in the shell that has the lock.
pub fn look_again(app_dirs: &[&RelPath]) -> Vec<u8> {
    let mut out = b"(\n".to_vec();
    look(app_dirs, &mut out);
    out.extend_from_slice(b") </dev/null\nsay phase $?\n");
    out
}

fn look(app_dirs: &[&RelPath], out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"look\nbegin shared\nif [ -d shared ]; then items shared || die look; fi\np=shared\n",
    );
    let mut within: BTreeMap<RelPath, Vec<&RelPath>> = BTreeMap::new();
    for dir in app_dirs {
        if let Some(parent) = dir.parent() {
            within.entry(parent).or_default().push(dir);
        }
    }
    look_into(&RelPath::root(), &within, out);
    out.extend_from_slice(b"end\n");
}

/// Each name once: a script with every path of a large application would be too long for a command.
fn look_into(dir: &RelPath, within: &BTreeMap<RelPath, Vec<&RelPath>>, out: &mut Vec<u8>) {
    let dirs = within.get(dir).map(Vec::as_slice).unwrap_or_default();
    let (deeper, leaves): (Vec<&RelPath>, Vec<_>) = dirs.iter().partition(|d| within.contains_key(**d));
    out.extend_from_slice(&calls("folders", leaves.iter().map(|d| d.name()), b""));
    for dir in deeper {
        out.extend_from_slice(&[b"into ", word(dir.name()).as_slice(), b" && {\n"].concat());
        look_into(dir, within, out);
        out.extend_from_slice(b"up; }\n");
    }
}

/// Says what `current` is, before anything else: see [`crate::preflight::current`].
fn points(path: &str) -> String {
    format!(
        "points() {{ (cd -P -- {path} || exit; if [ -L current ]; then begin points; readlink current; end\n\
         if [ -d current ]; then say points somewhere; fi\n\
         elif [ -e current ]; then say points other; else say points nowhere; fi) 2>/dev/null; }}\npoints\n"
    )
}

/// The questions of `cutover check`.
pub fn check(run: &Run) -> Vec<u8> {
    let path = quoted(&run.path);
    let points = points(&path);
    format!("T={}\n{LIB}\n{CHECK}\nsay hello\n{points}(check {path}) </dev/null\nsay phase $?\n", run.token)
        .into_bytes()
}

/// One phase: the calls of these steps, each of which ends the phase if it fails. One that fails before the rename is
/// undone; once it is reported what is live, the rest is done as far as that works, whatever of it fails.
pub fn phase(course: &Course, steps: &[Step], names: &Names) -> Vec<u8> {
    let mut out = recovered(course);
    let part =
        |steps: &[Step], out: &mut Vec<u8>| steps.iter().for_each(|step| call(course, step, names, out));
    // The last phase gives the lock back before it answers: who deploys again at once shall not find it taken.
    let unlock = if steps.iter().any(|s| matches!(s, Step::Mark | Step::Log(_))) { "; release" } else { "" };
    let Some(rename) = steps.iter().position(|s| *s == Step::Rename) else {
        out.extend_from_slice(b"(\n");
        part(steps, &mut out);
        out.extend_from_slice(format!(") </dev/null\ns=$?{unlock}; say phase $s\n").as_bytes());
        return out;
    };
    let (before, rest) = steps.split_at(rename);
    let is_report = |s: &Step| matches!(s, Step::ReportLive | Step::ReportSame);
    let (cutover, after) = rest.split_at(rest.iter().position(is_report).map_or(rest.len(), |at| at + 1));
    // What was begun is finished, even if nobody is there any more to be told.
    out.extend_from_slice(b"(\ntrap '' PIPE\n");
    part(before, &mut out);
    out.extend_from_slice(b") </dev/null\ns=$?\nif [ $s = 0 ]; then (\ntrap '' PIPE\nb=0\n");
    part(cutover, &mut out);
    let is_record_of_removal = |s: &Step| matches!(s, Step::Log(Record { event: Event::Prune { .. }, .. }));
    // Such a record is true only if what it says was done.
    for together in after.chunk_by(|_, next| is_record_of_removal(next)) {
        out.extend_from_slice(b"(\n");
        part(together, &mut out);
        out.extend_from_slice(b") || b=1\n");
    }
    let undo = match course.release() {
        Some(id) if before.contains(&Step::Seal) => format!("x_abandon {id}"),
        _ => format!("rm -f {}", names.link),
    };
    out.extend_from_slice(
        format!("exit $b\n) </dev/null; s=$?; else ({undo}) </dev/null; fi{unlock}; say phase $s\n")
            .as_bytes(),
    );
    out
}

/// `R`: the release that is marked again in this course.
fn recovered(course: &Course) -> Vec<u8> {
    let id = course.steps().iter().find_map(|s| if let Step::Recover(id) = s { Some(id) } else { None });
    format!("R={}\n", id.map(ToString::to_string).unwrap_or_default()).into_bytes()
}

/// Everything from the sweep to the verification: the base is copied while the archive, which follows this script,
/// streams into the staging folder.
pub fn place(plan: &Plan, steps: &[Step], names: &Names) -> Vec<u8> {
    let id = plan.release();
    let is_parallel = |s: &Step| matches!(s, Step::Copy(_) | Step::Upload);
    let start = steps.iter().position(is_parallel).unwrap_or(steps.len());
    let end = steps.iter().rposition(is_parallel).map_or(steps.len(), |at| at + 1);
    let calls =
        |range: &[Step], out: &mut Vec<u8>| range.iter().for_each(|s| call(plan.course(), s, names, out));
    let mut out = recovered(plan.course());
    out.extend_from_slice(b"(\n");
    calls(steps.get(..start).unwrap_or_default(), &mut out);
    out.extend_from_slice(b") </dev/null\ns=$? c=\nif [ $s = 0 ]; then (\n:\n");
    calls(steps.get(start..end).unwrap_or_default(), &mut out);
    out.extend_from_slice(
        format!(") </dev/null & c=$!; fi\nx_upload {id} $s || s=1\n[ -z \"$c\" ] || wait \"$c\" || s=1\nif [ $s = 0 ]; then say copied; (\n:\n")
            .as_bytes(),
    );
    calls(steps.get(end..).unwrap_or_default(), &mut out);
    out.extend_from_slice(b") </dev/null; s=$?; fi\nsay phase $s\n");
    out
}

/// Watches the client on a second channel: after `silence_s` seconds without a word, or when the connection is gone,
/// what is left of this run is ended.
pub fn watch(run: &Run, silence_s: u64) -> Vec<u8> {
    format!("T={}\n{LOCK}\nwatch {} {silence_s}\n", run.token, quoted(&run.path)).into_bytes()
}

/// Frees a stale lock, and with `kill` one whose run is alive.
pub fn unlock(run: &Run, kill: bool) -> Vec<u8> {
    let path = quoted(&run.path);
    let holder = quoted(&run.holder);
    let kill = if kill { "kill" } else { "" };
    format!(
        "T={}\n{LIB}\n{LOCK}\n(\nif [ ! -d {path}/.cutover ]; then say unlock free; exit 0; fi\ncd -P -- {path} || die path\n\
         x_unlock {holder} {kill}\n) </dev/null\nsay phase $?\n",
        run.token
    )
    .into_bytes()
}

/// A word for [`watch`]: the client is there.
pub const BEAT: &[u8] = b"beat\n";
/// A word for [`watch`]: what runs now is to finish, whatever becomes of the client.
pub const LEAVE: &[u8] = b"leave\n";

/// The line before a chunk of the archive.
pub fn chunk_header(block_bytes: usize, blocks: usize) -> Vec<u8> {
    format!("{block_bytes} {blocks}\n").into_bytes()
}
/// The archive was sent whole.
pub const ARCHIVE_END: &[u8] = b"end\n";
/// The archive will not be whole.
pub const ARCHIVE_CUT: &[u8] = b"cut\n";

/// Names and words fixed when the plan is applied.
#[derive(Clone, Debug)]
pub struct Names {
    /// `.cutover/next.<id>.<nonce>`.
    pub link: String,
    /// When, for the audit log: `YYYY-MM-DDTHH:MM:SSZ`.
    pub at: String,
    /// Who, for the audit log; one line.
    pub by: String,
}

fn call(course: &Course, step: &Step, names: &Names, out: &mut Vec<u8>) {
    // Steps that are about a release are in courses that have one.
    let (id, text) = course.release().map(|id| (id.to_string(), id.link_text())).unwrap_or_default();
    let joined = |ids: &[ReleaseId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let barrier = || {
        let step = course.steps().iter().find_map(|s| if let Step::Barrier(p) = s { Some(p) } else { None });
        step.map_or_else(String::new, |p| p.join(" "))
    };
    let line = match step {
        Step::Recover(id) => format!("x_recover {id}"),
        Step::SweepPrivate(names) => {
            let dotted: Vec<Vec<u8>> = names.iter().map(|n| [b"./", n.as_slice()].concat()).collect();
            out.extend_from_slice(&calls("x_sweep_private", dotted.iter().map(Vec::as_slice), b""));
            return;
        }
        Step::Sweep(ids) => format!("x_sweep {}", joined(ids)),
        Step::Intend => format!("x_intend {id}"),
        Step::Copy(base) => format!("x_copy {base} {id}"),
        // The upload goes beside these calls: see `place`. What is compared was compared before there was a course.
        Step::Upload | Step::Check(_) => return,
        Step::Stay(id) => format!("x_stay {id}"),
        Step::Put { all: true } => format!("x_put_all {id}"),
        Step::Put { all: false } => format!("x_put {id}"),
        Step::Verify => format!("x_verify {id}"),
        Step::Seal => format!("x_seal {id}"),
        Step::Link => format!("x_link {text} {}", names.link),
        Step::Barrier(paths) => format!("x_barrier {}", paths.join(" ")),
        Step::Rename => format!("x_rename {}", names.link),
        Step::SyncCurrent => format!("x_sync_current {text} {} {}", names.link, barrier()),
        Step::ReportLive => format!("x_live {text}"),
        Step::ReportSame => format!("x_same {text}"),
        Step::Unstage => format!("x_unstage {id}"),
        Step::Mark => format!("x_mark {id}"),
        Step::Forget(ids) => format!("x_forget {}", joined(ids)),
        Step::Prune(ids) => format!("x_prune {}", joined(ids)),
        Step::Log(record) => {
            format!("x_log {}", quoted(&format!("{record} at={} by {}", names.at, names.by)))
        }
    };
    out.extend_from_slice(line.as_bytes());
    out.push(b'\n');
}

/// Takes a failed run's leavings away, before the cutover only.
pub fn abandon(id: &ReleaseId) -> Vec<u8> {
    format!("(\nx_abandon {id}\n) </dev/null\nsay phase $?\n").into_bytes()
}

fn quoted(text: &str) -> String {
    String::from_utf8_lossy(&word(text.as_bytes())).into_owned()
}
