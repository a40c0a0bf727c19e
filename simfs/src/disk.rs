//! The shared handle on a simulated disk: one lock, one order of operations.
//!
//! A [`Disk`] is what a mount serves and what a harness watches. It adds to [`Fs`] only what needs a lock: marks
//! are placed before any op that could have followed them, after a power cut nothing is applied any more, and this
//! is the one place where [faults](crate::fault) happen. It never judges, and it knows nothing about FUSE.
//!
//! Invariant: while the lock is held, the trace says what the live state is. The lock is never held while a call
//! waits.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::fault::{About, Armed, BadSchedule, Call, Calls, Decision, Fault, Hit, Schedule};
use crate::fs::{Errno, Fs, FsResult};
use crate::trace::{MarkKind, Seq, SyncScope, Trace};

/// Asked before each mutating op is applied and before each sync is answered: what has happened outside since?
///
/// It runs under the disk's lock, so it must not touch the disk or a mount of it.
pub type Poll = Box<dyn FnMut() -> Vec<MarkKind> + Send>;

/// Told of each fault that happens, before the call that met it goes on or is refused.
///
/// The disk is not locked meanwhile, so it may be looked at and frozen, but the call waits: a hook must not touch a
/// mount of the disk, nor wait for a process that could be using it, nor set another hook.
pub type FaultHook = Box<dyn FnMut(&Hit) + Send>;

/// Says whether who called is still there to be answered; a mount that was cut is not.
pub(crate) type StillThere<'a> = &'a dyn Fn() -> bool;

/// A simulated disk that several threads can share. Clones are handles on the same disk.
#[derive(Clone)]
pub struct Disk {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled when a call that waits has to look again.
    changed: Condvar,
    hook: Mutex<Option<FaultHook>>,
}

struct State {
    fs: Fs,
    poll: Option<Poll>,
    frozen: bool,
    faults: Armed,
    hits: Vec<Hit>,
    /// How often hanging calls were let go.
    releases: u64,
    waiting: usize,
}

impl State {
    fn place_marks(&mut self) {
        if let Some(poll) = &mut self.poll {
            for mark in poll() {
                self.fs.mark(mark);
            }
        }
    }
}

/// How a call got past the faults.
enum Admitted<'a> {
    /// It is to be applied now.
    Go(MutexGuard<'a, State>),
    /// It is refused: an error of the disk, which makes a sync a failed one.
    Failed(MutexGuard<'a, State>, Errno),
    /// Nobody is there to be answered, or nobody answers.
    Gone(Errno),
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

impl Disk {
    /// Shares a file system. Call [`Fs::start_recording`] before or through [`Disk::with`].
    pub fn new(fs: Fs) -> Self {
        let state = State {
            fs,
            poll: None,
            frozen: false,
            faults: Armed::default(),
            hits: Vec::new(),
            releases: 0,
            waiting: 0,
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                changed: Condvar::new(),
                hook: Mutex::default(),
            }),
        }
    }

    /// Direct access for the harness: no poll, no faults, and allowed on a frozen disk.
    ///
    /// While the disk is mounted only reading is allowed: the kernel caches names, attributes and content for as long
    /// as the mount lives, and would not see the change.
    pub fn with<R>(&self, access: impl FnOnce(&mut Fs) -> R) -> R {
        access(&mut self.lock().fs)
    }

    /// Reads for a caller of the simulated disk; fails with `ENOTCONN` once it is frozen, or as a fault says.
    pub fn read<R>(&self, call: &Call<'_>, read: impl FnOnce(&mut Fs) -> FsResult<R>) -> FsResult<R> {
        self.read_for(&|| true, call, read)
    }

    pub(crate) fn read_for<R>(
        &self,
        still_there: StillThere<'_>,
        call: &Call<'_>,
        read: impl FnOnce(&mut Fs) -> FsResult<R>,
    ) -> FsResult<R> {
        match self.admit(call, still_there, false) {
            Admitted::Go(mut state) => read(&mut state.fs),
            Admitted::Failed(_, errno) | Admitted::Gone(errno) => Err(errno),
        }
    }

    /// Applies an op for a caller of the simulated disk: polls, places the marks, meets the faults, then applies.
    /// Fails with `ENOTCONN` once the disk is frozen, or as a fault says; then nothing was applied.
    pub fn apply<R>(&self, call: &Call<'_>, op: impl FnOnce(&mut Fs) -> FsResult<R>) -> FsResult<R> {
        self.apply_for(&|| true, call, op)
    }

    pub(crate) fn apply_for<R>(
        &self,
        still_there: StillThere<'_>,
        call: &Call<'_>,
        op: impl FnOnce(&mut Fs) -> FsResult<R>,
    ) -> FsResult<R> {
        match self.admit(call, still_there, true) {
            Admitted::Go(mut state) => {
                let state = &mut *state;
                let result = op(&mut state.fs);
                if let Err(errno) = &result {
                    state.hits.extend(state.faults.hit_by_quota(call, *errno, &mut state.fs));
                }
                result
            }
            Admitted::Failed(_, errno) | Admitted::Gone(errno) => Err(errno),
        }
    }

    /// Records a sync call that is about to be answered, as failed if a fault makes it fail. Returns its op.
    pub(crate) fn sync(
        &self,
        still_there: StillThere<'_>,
        call: &Call<'_>,
        scope: SyncScope,
    ) -> FsResult<Seq> {
        match self.admit(call, still_there, true) {
            Admitted::Go(mut state) => Ok(state.fs.sync(scope, true)),
            Admitted::Failed(mut state, errno) => {
                state.fs.sync(scope, false);
                Err(errno)
            }
            Admitted::Gone(errno) => Err(errno),
        }
    }

    /// Records a `syncfs` ([`Calls::SYNCFS`]) or `sync` ([`Calls::SYNC`]) that was seen from outside, by this thread
    /// (0: not known), and has to be answered as returned. A caller of sync(2) cannot be told of a failure.
    ///
    /// May wait as long as a fault says, so [`Disk::wake`] has to be called, once the caller is gone, before whoever called
    /// this is joined.
    /// Nothing is recorded, and nobody killed, when the caller is not there any more to be answered.
    ///
    /// # Errors
    /// That of a fault; then a failed sync is recorded. `ENOTCONN` on a frozen disk, or if the caller is gone.
    pub fn sync_all(&self, calls: Calls, caller: u32, still_there: &dyn Fn() -> bool) -> FsResult<Seq> {
        self.sync(still_there, &Call::new(calls, About::Disk, caller), SyncScope::All)
    }

    /// Sets the faults that calls meet from now on, or none. Counting begins anew, hits are forgotten, and calls
    /// that hang go on. What earlier faults did to the disk stays: limits, and a power cut.
    ///
    /// # Errors
    /// A rule that means nothing; then nothing is changed.
    pub fn set_faults(&self, schedule: &Schedule) -> Result<(), BadSchedule> {
        let faults = Armed::new(schedule)?;
        let mut state = self.lock();
        state.faults = faults;
        state.hits.clear();
        state.releases += 1;
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Sets what is told of each fault, or nothing.
    pub fn set_fault_hook(&self, hook: Option<FaultHook>) {
        *self.shared.hook.lock().unwrap_or_else(PoisonError::into_inner) = hook;
    }

    /// Which faults happened since the schedule was set, in order.
    pub fn hits(&self) -> Vec<Hit> {
        self.lock().hits.clone()
    }

    /// Lets the calls go on that wait now, because they hang or are delayed.
    pub fn release(&self) {
        self.lock().releases += 1;
        self.shared.changed.notify_all();
    }

    /// How many calls wait now, because they are delayed or hang.
    pub fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// Sets what is asked before each op, or nothing.
    pub fn set_poll(&self, poll: Option<Poll>) {
        self.lock().poll = poll;
    }

    /// Asks now, and places the marks.
    pub fn poll(&self) {
        self.lock().place_marks();
    }

    /// Places a mark after the last op.
    pub fn mark(&self, kind: MarkKind) {
        self.lock().fs.mark(kind);
    }

    /// A copy of the trace so far.
    pub fn trace(&self) -> Trace {
        self.lock().fs.trace().clone()
    }

    /// The trace so far; recording goes on in a new one whose op 0 is the state as it is now.
    pub fn take_trace(&self) -> Trace {
        self.lock().fs.start_recording()
    }

    /// The power is cut: from here on no op is applied and no read is answered. Calls that wait fail.
    pub fn freeze(&self) {
        self.lock().frozen = true;
        self.shared.changed.notify_all();
    }

    /// Ends a freeze. The live state is that of the moment of the freeze, not a crash state.
    pub fn thaw(&self) {
        self.lock().frozen = false;
    }

    /// Whether the disk is frozen.
    pub fn is_frozen(&self) -> bool {
        self.lock().frozen
    }

    /// Calls that wait look whether their caller is still there; if not, nothing is applied or recorded.
    pub fn wake(&self) {
        // Under the lock, so that nobody is between looking and waiting.
        let _state = self.lock();
        self.shared.changed.notify_all();
    }

    /// Lets a call meet its faults: at the end, the disk is locked and the call is to be applied, or it is refused.
    fn admit(&self, call: &Call<'_>, still_there: StillThere<'_>, marks: bool) -> Admitted<'_> {
        let mut guard = self.lock();
        if guard.frozen {
            return Admitted::Gone(Errno::NOTCONN);
        }
        if marks {
            guard.place_marks();
        }
        // After the poll, so that an op which a poll held up while the mount was cut is not applied.
        if !still_there() {
            return Admitted::Gone(Errno::NOTCONN);
        }
        if guard.faults.is_idle() {
            return Admitted::Go(guard);
        }
        let state = &mut *guard;
        let Decision { steps, refused } = state.faults.decide(call, &mut state.fs);
        if steps.is_empty() {
            return Admitted::Go(guard);
        }
        let mut killed = false;
        for mut hit in steps {
            match hit.fault {
                Fault::Crash => guard.frozen = true,
                Fault::Kill => {
                    killed = true;
                    hit.killed = guard.faults.kill(call.caller);
                }
                _ => {}
            }
            guard.hits.push(hit.clone());
            if hit.fault == Fault::Crash {
                self.shared.changed.notify_all();
            }
            // Before the lock is given away: whoever sees the hit may release it at once.
            let releases = guard.releases;
            drop(guard);
            if let Some(hook) = &mut *self.shared.hook.lock().unwrap_or_else(PoisonError::into_inner) {
                hook(&hit);
            }
            guard = self.wait(&hit.fault, releases, still_there);
            if guard.frozen || !still_there() {
                return Admitted::Gone(Errno::NOTCONN);
            }
        }
        // Something may have happened outside while it waited.
        if marks {
            guard.place_marks();
        }
        match refused {
            None => Admitted::Go(guard),
            Some(errno) if killed => Admitted::Gone(errno),
            Some(errno) => Admitted::Failed(guard, errno),
        }
    }

    /// Waits as the fault says, or until there is nothing to wait for any more, and locks the disk.
    fn wait(&self, fault: &Fault, releases: u64, still_there: StillThere<'_>) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let deadline = match fault {
            Fault::Delay(time) => Instant::now().checked_add(*time),
            Fault::Hang => None,
            _ => return state,
        };
        state.waiting += 1;
        while !state.frozen && still_there() && state.releases == releases {
            let Some(deadline) = deadline else {
                state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            (state, _) =
                self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a harness closure must not take down the mount too.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
