//! A thread that lives as long as a sandbox and runs what it is sent.

use std::{
    io,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use super::sys;
use crate::Error;

pub(super) type Job = Box<dyn FnOnce() + Send>;

/// A thread that runs what it is sent, until the sender is dropped.
pub(super) struct Worker {
    pub(super) jobs: mpsc::Sender<Job>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts the thread; it runs `prepare` first.
    pub(super) fn start<T: Send + 'static>(
        name: &str,
        prepare: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<(Self, T), Error> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (ready, prepared) = mpsc::channel();
        let run = move || {
            sys::block_signals();
            let result = prepare();
            let failed = result.is_err();
            let _ = ready.send(result);
            if !failed {
                for job in inbox {
                    job();
                }
            }
        };
        let failed = |source| Error::Sandbox {
            step: format!("thread {name}"),
            hint: "check the limit of threads",
            source,
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run).map_err(failed)?;
        match prepared.recv() {
            Ok(result) => Ok((Self { jobs, thread }, result?)),
            Err(_) => Err(failed(io::Error::other("it panicked"))),
        }
    }

    /// Runs a closure on the thread and waits for its result.
    pub(super) fn call<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (send, receive) = mpsc::channel();
        let job = Box::new(move || {
            let _ = send.send(f());
        });
        self.jobs.send(job).map_err(|_| gone())?;
        receive.recv().map_err(|_| gone())?
    }

    pub(super) fn join(self) {
        drop(self.jobs);
        let _ = self.thread.join();
    }
}

/// What calls on a sandbox that was shut down return.
pub(super) fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the sandbox has been shut down")
}
