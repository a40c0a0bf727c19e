//! Writing the shell that carries out a plan's steps. Pure.
//!
//! The verbs are functions of `lib.sh`; a phase is one group of calls, parsed by the remote shell as a whole before
//! anything in it runs, so that a connection cut in the middle of it runs nothing.

use crate::path::RelPath;
use crate::plan::{Plan, Step};
use crate::release::ReleaseId;
use crate::remote::quote::{calls, word};

/// The verbs.
pub const LIB: &str = include_str!("lib.sh");

/// What is asked of the host for the channel that everything is said on.
pub const SHELL: &str = "exec sh";

/// The same for the channel that files stream through: one line is the script, the rest is data. `read` takes exactly
/// one line off a pipe, whatever the shell.
pub const SHELL_WITH_DATA: &str = "exec sh -c 'IFS= read -r s && eval \"$s\"'";

/// What makes one run's names and words unlike any other's.
#[derive(Clone, Debug)]
pub struct Run {
    /// Frames output, and fences the upload to the run that holds the lock. Hexadecimal.
    pub token: String,
    /// Who holds the lock, in words for people; one line.
    pub holder: String,
    /// The deploy path.
    pub path: String,
}

/// The opening: tools, lock (unless only looked at), the host's state.
pub fn open(run: &Run, app_dirs: &[&RelPath], look_only: bool) -> Vec<u8> {
    let path = quoted(&run.path);
    let mut out = format!("T={}\n{LIB}\n", run.token).into_bytes();
    let mut body = Vec::new();
    body.extend_from_slice(b"open_tools\n");
    if look_only {
        body.extend_from_slice(
            format!(
                "if [ ! -d {path} ]; then say absent; say phase 0; exit 0; fi\ncd -P -- {path} || die path\n"
            )
            .as_bytes(),
        );
    } else {
        let holder = quoted(&format!("{} {}", run.token, run.holder));
        body.extend_from_slice(format!("open_path {path}\nopen_lock {holder}\nopen_layout\n").as_bytes());
    }
    body.extend_from_slice(b"look\nbegin shared\nif [ -d shared ]; then items shared || die look; fi\n");
    let dirs = app_dirs.iter().filter(|d| !d.is_root()).map(|d| d.as_bytes());
    body.extend_from_slice(&calls("look_shared", dirs, b""));
    body.extend_from_slice(b"end\nsay phase 0\n");
    out.extend_from_slice(b"{\n");
    out.extend_from_slice(&body);
    out.extend_from_slice(b"} </dev/null\n");
    out
}

/// One phase: the calls of these steps, each of which ends the phase if it fails.
pub fn phase(plan: &Plan, steps: &[Step], names: &Names) -> Vec<u8> {
    let mut out = b"(\n".to_vec();
    for step in steps {
        call(plan, step, names, &mut out);
    }
    // The last phase gives the lock back before it answers: who deploys again at once shall not find it taken.
    let unlock = if steps.contains(&Step::Mark) { "; exec 9>&-" } else { "" };
    out.extend_from_slice(format!(") </dev/null\ns=$?{unlock}; say phase $s\n").as_bytes());
    out
}

/// Names and words fixed when the plan is applied.
#[derive(Clone, Debug)]
pub struct Names {
    /// `.cutover/next.<id>.<nonce>`.
    pub link: String,
    /// The line for the audit log.
    pub log_line: String,
}

fn call(plan: &Plan, step: &Step, names: &Names, out: &mut Vec<u8>) {
    let id = plan.release();
    let text = id.link_text();
    let joined = |ids: &[ReleaseId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let barrier = || {
        let step = plan.steps().iter().find_map(|s| if let Step::Barrier(p) = s { Some(p) } else { None });
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
        Step::Intend => {
            let recovered =
                plan.steps().iter().find_map(|s| if let Step::Recover(id) = s { Some(id) } else { None });
            format!("x_intend {id} {}", recovered.map_or_else(|| "''".to_owned(), ToString::to_string))
        }
        Step::Copy(base) => format!("x_copy {base} {id}"),
        // On the other channel.
        Step::Upload => return,
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
        Step::Prune(ids) => format!("x_prune {}", joined(ids)),
        Step::Log => format!("x_log {}", quoted(&names.log_line)),
    };
    out.extend_from_slice(line.as_bytes());
    out.push(b'\n');
}

/// Takes a failed run's leavings away, before the cutover only.
pub fn abandon(id: &ReleaseId) -> Vec<u8> {
    format!("(\nx_abandon {id}\n) </dev/null\nsay phase $?\n").into_bytes()
}

/// The one line that starts the upload: fenced by the lock and the token, into the staging folder of `id`.
pub fn upload(run: &Run, id: &ReleaseId) -> Vec<u8> {
    let token = &run.token;
    let line = format!(
        "LC_ALL=C; export LC_ALL; unset TAR_OPTIONS CDPATH; PATH=$PATH:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin; export PATH; \
         take() {{ k=1; until flock -n 8; do [ $k -lt 20 ] || return 1; k=$((k + 1)); sleep 1; done; }}; \
         cd -P -- {} && exec 8>>.cutover/lock.upload && take && read -r t r <.cutover/holder && [ \"$t\" = {token} ] && \
         mkdir .cutover/staging/{id} && tar -xpof - -C .cutover/staging/{id}; printf '\\n%s phase %s\\n' {token} $?\n",
        quoted(&run.path)
    );
    line.into_bytes()
}

fn quoted(text: &str) -> String {
    String::from_utf8_lossy(&word(text.as_bytes())).into_owned()
}
