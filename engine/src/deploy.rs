//! One deploy from the scan of the source to the report. Decides nothing but what to do when a step fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::{Target, Unreadable};
use crate::error::{Asked, Cause, DeployError, Live};
use crate::manifest::Manifest;
use crate::plan::{self, Course, Plan, Step, Wish};
use crate::progress::Progress;
use crate::release::ReleaseId;
use crate::remote::observed::Current;
use crate::session::{Failure, Seen, Session};
use crate::source::Source;
use crate::text::printable;

/// How a deploy is to be done.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Print the plan, then carry it out.
    pub verbose: bool,
    /// Where to show what is being done.
    pub progress: Progress,
    /// How long to wait for another run to end.
    pub wait: Duration,
    /// Upload everything, and rely on nothing that is on the host.
    pub full: bool,
}

/// How a deploy ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The new release is live.
    Live {
        /// What could not be cleaned up, if anything, and what `current` points to.
        cleanup: Option<String>,
    },
    /// What is live is equal to the source.
    NothingToDo,
}

/// Deploys to one target; `say` gets the lines for standard output, each at once when it is true.
///
/// # Errors
/// If the new release is not live, with what is live instead.
pub async fn deploy(
    target: &Target,
    options: &Options,
    say: &mut (dyn FnMut(&str) + Send),
) -> Result<Outcome, DeployError> {
    prepare_and_cut_over(target, options, say).await.map_err(|error| error.of(Asked::Deploy))
}

async fn prepare_and_cut_over(
    target: &Target,
    options: &Options,
    say: &mut (dyn FnMut(&str) + Send),
) -> Result<Outcome, DeployError> {
    let Ready { session, plan, live } = prepare(target, options, say).await?;
    options.progress.phase("cutting over");
    let id = plan.release();
    let same = format!("nothing to do: {} is live and equal to the source", id.link_text());
    let (course, steps) = (plan.course(), cutover_steps(&plan));
    let cleanup = switch(target, session, course, steps, id, live, &same, say).await?;
    let nothing = plan.is_nothing_to_do() && cleanup.is_none();
    Ok(if nothing { Outcome::NothingToDo } else { Outcome::Live { cleanup } })
}

/// A release that is verified on the host, and only has to be switched to.
struct Ready {
    session: Session,
    plan: Arc<Plan>,
    live: Live,
}

async fn prepare(
    target: &Target,
    options: &Options,
    say: &mut (dyn FnMut(&str) + Send),
) -> Result<Ready, DeployError> {
    let progress = &options.progress;
    let opening = async {
        let folder = target.source.clone();
        progress.phase("reading the source");
        let scan = tokio::task::spawn_blocking(move || Source::scan(&folder));
        let scan =
            async { scan.await.map_err(|e| Cause::from(std::io::Error::other(e)))?.map_err(Cause::from) };
        // Meanwhile: each takes a while, and neither needs the other.
        progress.phase(&format!("connecting to {}", target.address.host));
        let (source, mut session) = tokio::try_join!(scan, Session::connect(target))?;
        let mut waiting = |who: &str| say(&format!("waiting for another run: {who}"));
        let host = session.open_waiting(source.manifest(), Some(options.wait), &mut waiting).await?;
        Ok::<_, DeployError>((session, host, Arc::new(source)))
    };
    // Nothing of it stays on the host when it stops.
    let (mut session, mut host, source) = tokio::select! {
        opened = opening => opened?,
        () = interrupted() => return Err(Cause::Interrupted.into()),
    };
    let live = Live::of(&host.current);
    let failed = |cause| DeployError::new(cause, live.clone());

    let mut wish = Wish {
        now: ReleaseId::now(),
        used: Vec::new(),
        full: options.full,
        keep: target.keep,
        skip_unreadable: target.unreadable == Unreadable::Skip,
    };
    loop {
        let plan = session.refused(plan::plan(&host, source.manifest(), &wish)).map_err(failed)?;
        if options.verbose {
            plan.to_string().lines().for_each(&mut *say);
        } else {
            plan.warnings().iter().for_each(|warning| say(&format!("warning: {warning}")));
        }
        let plan = Arc::new(plan);
        match place_unless_stopped(&mut session, &plan, &source, progress).await {
            None => return Err(failed(Cause::Interrupted)),
            Some(Ok(())) => return Ok(Ready { session, plan, live }),
            // The base changed under the copy: once more, from what it is now. If it does so again, nothing of it can be
            // relied on and everything is uploaded, but not at the cost of what was written in it at run time.
            Some(Err(Failure::Drifted(_)))
                if plan.base().is_some() && (wish.used.is_empty() || !plan.has_extras()) =>
            {
                session.abandon(plan.release()).await;
                wish.full = !wish.used.is_empty();
                wish.used.push(plan.release().clone());
                host = session.look_again(source.manifest()).await.map_err(failed)?;
            }
            Some(Err(failure)) => {
                // Over a lost connection nothing can be cleaned up; the next deploy sweeps.
                if !plan.is_nothing_to_do() && !matches!(failure, Failure::Lost { .. }) {
                    session.abandon(plan.release()).await;
                }
                return Err(failed(session.cause(failure).await));
            }
        }
    }
}

/// So long a deploy that is interrupted takes away what it has begun. What the host is still copying then, or what is
/// still on its way to it, the next run sweeps.
const FAREWELL: Duration = Duration::from_secs(5);

/// Everything before the cutover's own phase. `None` if a signal stopped it; a second one ends the cleaning up too.
async fn place_unless_stopped(
    session: &mut Session,
    plan: &Arc<Plan>,
    source: &Arc<Source>,
    progress: &Progress,
) -> Option<Result<(), Failure>> {
    let (stop, _) = watch::channel(false);
    let mut signals = signals_held();
    let mut placing = Box::pin(place(session, plan, source, progress, &stop));
    tokio::select! {
        placed = &mut placing => return Some(placed),
        () = caught(&mut signals) => {}
    }
    if !plan.is_nothing_to_do() {
        progress.phase("interrupted: removing what was begun");
    }
    stop.send_replace(true);
    let until = tokio::time::Instant::now() + FAREWELL;
    let ended = tokio::select! {
        ended = tokio::time::timeout_at(until, placing) => ended.ok(),
        () = caught(&mut signals) => None,
    };
    if ended.is_some_and(|ended| !matches!(ended, Err(Failure::Lost { .. }))) && !plan.is_nothing_to_do() {
        tokio::select! {
            _ = tokio::time::timeout_at(until, session.abandon(plan.release())) => {}
            () = caught(&mut signals) => {}
        }
    }
    None
}

async fn place(
    session: &mut Session,
    plan: &Arc<Plan>,
    source: &Arc<Source>,
    progress: &Progress,
    stop: &watch::Sender<bool>,
) -> Result<(), Failure> {
    let steps = plan.steps();
    if plan.is_nothing_to_do() {
        return session.prepare_only(plan, before_cutover(steps)).await;
    }
    progress.upload(plan.base(), plan.upload_files(), plan.changes().upload_bytes(1));
    session.place(plan, before(steps, &Step::Seal), source, progress, stop).await
}

fn before<'a>(steps: &'a [Step], step: &Step) -> &'a [Step] {
    let end = steps.iter().position(|s| s == step).unwrap_or(steps.len());
    steps.get(..end).unwrap_or_default()
}

/// The steps from the seal (or, with nothing to do, from the link) on.
fn cutover_steps(plan: &Plan) -> &[Step] {
    plan.steps().get(before_cutover(plan.steps()).len()..).unwrap_or_default()
}

fn before_cutover(steps: &[Step]) -> &[Step] {
    let first = |s: &Step| matches!(s, Step::Seal | Step::Stay(_) | Step::Link);
    steps.get(..steps.iter().position(first).unwrap_or_default()).unwrap_or_default()
}

/// Carries out the last steps of a course that makes `id` live, or stays with it, and says so: `live: …`, or `same`.
/// A connection that is lost in the middle is settled over another one. What could not be cleaned up comes back.
///
/// # Errors
/// If it is not live, with what is live instead; `live` is what was live before.
#[expect(clippy::too_many_arguments, reason = "the whole of what is decided by then")]
pub(crate) async fn switch(
    target: &Target,
    mut session: Session,
    course: &Course,
    steps: &[Step],
    id: &ReleaseId,
    live: Live,
    same: &str,
    say: &mut (dyn FnMut(&str) + Send),
) -> Result<Option<String>, DeployError> {
    let text = id.link_text();
    let mut report = |word: &str| {
        if word == "live" {
            say(&format!("live: {text}"));
        } else {
            say(same);
        }
    };
    let pending = match carry_out(&mut session, course, steps, &mut report, live).await {
        Err(error) if matches!((error.cause(), error.live()), (Cause::Lost { .. }, Live::Uncertain(_))) => {
            drop(session);
            Some(settle(target, error, id, &mut report).await?)
        }
        known => {
            let pending = known?;
            session.undurable(&text).iter().for_each(|warning| say(warning));
            session.close().await;
            pending.map(|cause| cause.to_string())
        }
    };
    Ok(pending.map(|cause| format!("{cause}; current points to {text}")))
}

/// Carries out the last steps of a course, those with its cutover if it has one; `report` is called the moment the
/// host says that the cutover is durable. What failed after that is no error of the cutover, and comes back.
///
/// # Errors
/// If it did not come that far, with what is live then; `live` is what was live before.
pub(crate) async fn carry_out(
    session: &mut Session,
    course: &Course,
    steps: &[Step],
    report: &mut (dyn FnMut(&str) + Send),
    live: Live,
) -> Result<Option<Cause>, DeployError> {
    let (seen, stopped) = unless_stopped(session, course, steps, report).await;
    if stopped {
        // What was begun goes on on the host, which was told to finish it.
        return match course.release() {
            Some(id) if !seen.reported => {
                let what = "interrupted during the cutover to ".to_owned() + &id.link_text();
                let what = what + "; `cutover recover` or the next deploy settles it";
                Err(DeployError::new(Cause::Interrupted, Live::Uncertain(what)))
            }
            _ => Ok(Some(Cause::Interrupted)),
        };
    }
    let Some(id) = course.release().filter(|_| !seen.reported) else {
        return Ok(match seen.failure {
            None => session.not_removed(),
            Some(failure) => Some(session.cause(failure).await),
        });
    };
    let failure = seen.failure.unwrap_or_else(|| Failure::Failed("not-current".to_owned()));
    let lost = matches!(failure, Failure::Lost { .. });
    let before_rename = !seen.renaming && !lost;
    // Before and after it, `current` points to the same release.
    let stays = steps.iter().any(|s| matches!(s, Step::Stay(_)));
    let old_text = if let Live::Untouched(text) = &live { text.clone() } else { None };
    let live = match (&failure, seen.current) {
        _ if before_rename || (lost && stays) => live,
        (Failure::Lost { .. }, _) => Live::Uncertain(format!(
            "the connection was lost during the cutover to {}; `cutover recover` or the next deploy settles it",
            id.link_text()
        )),
        // The rename itself failed, and the link is what it was.
        (Failure::Failed(code), Some(text)) if code == "rename" && Some(&text) == old_text.as_ref() => live,
        (_, Some(text)) => Live::Uncertain(format!(
            "it points to {} now, but the host could not make that durable; after a power loss it may be another one",
            printable(&text)
        )),
        (_, None) => {
            Live::Uncertain("the host did not say what it points to after the cutover failed".to_owned())
        }
    };
    let cause = session.cause(failure).await;
    Err(DeployError::new(cause, live))
}

/// Carries out the last steps, and listens to signals. Until it is known what is live, the first one waits: that is a
/// matter of moments. A second one, or one after that, ends the waiting, but nothing on the host.
async fn unless_stopped(
    session: &mut Session,
    course: &Course,
    steps: &[Step],
    report: &mut (dyn FnMut(&str) + Send),
) -> (Seen, bool) {
    let switches = steps.contains(&Step::Rename);
    let reported = AtomicBool::new(false);
    let mut tell = |word: &str| {
        reported.store(true, Ordering::Relaxed);
        report(word);
    };
    let mut signals = signals_held();
    let mut signalled = false;
    let mut seen = Seen::default();
    let stopped = {
        let working = session.cut_over(course, steps, &mut tell, &mut seen);
        tokio::pin!(working);
        loop {
            tokio::select! {
                biased;
                () = &mut working => break false,
                () = caught(&mut signals) => {
                    if signalled || !switches || reported.load(Ordering::Relaxed) {
                        break true;
                    }
                    signalled = true;
                }
            }
        }
    };
    (seen, stopped)
}

/// The connection was lost in the middle of a cutover, which the host finishes if it has begun it: connects once more,
/// waits for that run to end, and reports what is so. Why it had to comes back.
///
/// `current` may point to the release because that run renamed it and then failed to make it durable. A sync that failed
/// is not made good by a later one, so the release is reported after a rename of our own.
async fn settle(
    target: &Target,
    error: DeployError,
    id: &ReleaseId,
    report: &mut (dyn FnMut(&str) + Send),
) -> Result<String, DeployError> {
    let looking = async {
        let mut session = Session::connect(target).await.ok()?;
        // With the lock: nothing is changed any more.
        let host = session.open_waiting(&Manifest::empty(), Some(SETTLE), &mut |_| ()).await.ok()?;
        let text = id.link_text();
        let points = matches!(&host.current, Current::Link { text: found, .. } if found == text.as_bytes());
        let is_live = points && plan::live_id(&host) == Some(id);
        if is_live {
            let course = plan::stay_with(&host, id).ok()?;
            let mut seen = Seen::default();
            session.cut_over(&course, course.steps(), &mut |_| (), &mut seen).await;
            seen.reported.then_some(())?;
        }
        session.close().await;
        Some((host.current, is_live))
    };
    let found = tokio::select! {
        found = tokio::time::timeout(SETTLE * 2, looking) => found.ok().flatten(),
        () = interrupted() => None,
    };
    match found {
        None => Err(error),
        Some((_, true)) => {
            report("live");
            Ok(error.to_string())
        }
        Some((current, false)) => Err(error.with_live(Live::of(&current))),
    }
}

/// So long a cutover that goes on without us is waited for.
const SETTLE: Duration = Duration::from_mins(1);

/// Ctrl-C, SIGTERM or SIGHUP.
pub(crate) async fn interrupted() {
    caught(&mut signals_held()).await;
}

async fn caught(signals: &mut [Signal]) {
    std::future::poll_fn(|context| {
        let any = signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
        if any { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// Signals are caught, and so have no effect, while these streams live.
pub(crate) fn signals_held() -> Vec<Signal> {
    [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .into_iter()
        .filter_map(|kind| signal(kind).ok())
        .collect()
}
