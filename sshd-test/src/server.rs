//! A running server: its sandbox, its keys, and the thread that serves its connections.

use std::{
    fmt, io,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{runtime, sync::watch};

use crate::{
    Error, Options, Sandbox,
    processor::OneProcessor,
    ssh::{self, Hub, USER, keys::Keys},
};

/// How long work behind connections gets to end at shutdown, after everything it waits for is gone.
const ENDING: Duration = Duration::from_secs(5);

/// An SSH and SFTP server on 127.0.0.1 that runs what clients ask for in a [`Sandbox`].
///
/// Dropping it ends every connection and kills everything that was started.
pub struct Server {
    hub: Arc<Hub>,
    keys: Keys,
    running: Option<(watch::Sender<bool>, JoinHandle<()>)>,
}

impl Server {
    /// Builds the sandbox, makes keys, and listens on a free port. It works by itself then, on threads of its own; it may be
    /// used from inside or outside of an async runtime.
    pub fn start(options: Options) -> Result<Self, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::Listen)?;
        listener.set_nonblocking(true).map_err(Error::Listen)?;
        let address = listener.local_addr().map_err(Error::Listen)?;
        let keys = Keys::create(Self::HOST, address.port(), USER).map_err(Error::Keys)?;
        let _here = options.one_processor.then(OneProcessor::enter).flatten();
        let sandbox = Arc::new(Sandbox::start(options)?);
        let client = keys.client.clone();
        let hub = Arc::new(Hub { sandbox, client, address, busy: Arc::new(()), sockets: Mutex::default() });
        let running = run(listener, &keys, &hub).map_err(Error::Listen)?;
        Ok(Self { hub, keys, running: Some(running) })
    }

    const HOST: &'static str = "127.0.0.1";

    /// Where it listens: `127.0.0.1`.
    pub fn host(&self) -> &'static str {
        Self::HOST
    }

    /// Its TCP port.
    pub fn port(&self) -> u16 {
        self.hub.address.port()
    }

    /// The one user that may log in: `root`, which is what programs in the sandbox run as.
    pub fn user(&self) -> &str {
        USER
    }

    /// The private key file of the one client that may log in.
    pub fn identity(&self) -> &Path {
        &self.keys.identity
    }

    /// A known_hosts file with the server's key.
    pub fn known_hosts(&self) -> &Path {
        &self.keys.known_hosts
    }

    /// A client configuration in OpenSSH's format: `ssh -F FILE target` just works.
    pub fn ssh_config(&self) -> &Path {
        &self.keys.ssh_config
    }

    /// Where everything runs.
    pub fn sandbox(&self) -> &Sandbox {
        &self.hub.sandbox
    }

    /// Waits until no connection is open and no process is left in the sandbox besides its init. False: it took longer.
    pub fn wait_idle(&self, timeout: Duration) -> bool {
        self.wait_idle_but_for(0, timeout)
    }

    /// The same, but so many processes may be left: those that cannot die yet, since a call to the disk holds them.
    pub fn wait_idle_but_for(&self, processes: usize, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let few = |left: usize| left <= processes;
            if self.hub.is_idle() && self.hub.sandbox.processes().is_ok_and(few) {
                return true;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Cuts every connection that is open now, as a network that fails: below SSH, without a goodbye. The client
    /// sees its connection closed, and what it started here is killed, as after any client that is gone. New
    /// connections are accepted. Returns how many were cut.
    pub fn cut_connections(&self) -> usize {
        self.hub.cut_connections()
    }

    /// Ends every connection, kills everything in the sandbox and joins all threads. Dropping does the same.
    pub fn shutdown(self) {
        drop(self);
    }
}

/// Starts the thread with the runtime that serves connections.
fn run(
    listener: TcpListener,
    keys: &Keys,
    hub: &Arc<Hub>,
) -> io::Result<(watch::Sender<bool>, JoinHandle<()>)> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("sshd-test")
        .enable_all()
        .build()?;
    let config = Arc::new(ssh::config(keys));
    let hub = Arc::clone(hub);
    let (stop, stopped) = watch::channel(false);
    let serve = move || {
        runtime.block_on(async {
            if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                ssh::serve(listener, config, hub, stopped).await;
            }
        });
        // Ends every connection and every task; what still waits for the disk ends with the sandbox.
        runtime.shutdown_timeout(ENDING);
    };
    let thread = thread::Builder::new().name("sshd-test".to_owned()).spawn(serve)?;
    Ok((stop, thread))
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some((stop, thread)) = self.running.take() else {
            return;
        };
        let _ = stop.send(true);
        // First the sandbox: whatever waits for a process or for the disk waits no longer then.
        self.hub.sandbox.close();
        let _ = thread.join();
        let deadline = Instant::now() + ENDING;
        while !self.hub.is_idle() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.hub.address)
            .field("sandbox", &self.hub.sandbox)
            .finish_non_exhaustive()
    }
}
