//! How often a deploy waits for the host: counted on the wire, by a relay that lets one side speak at a time.
//!
//! What one side says is passed on when nothing of it is at work any more: all of its threads sleep, none ran since it was
//! last looked at, and no byte is on its way. So each turn ends for want of an answer and for no other reason, however slow
//! or busy the machine is. A round trip is a turn of the client that the host answered.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use crate::sshd::{Host, Running};

/// Long past what a deploy takes on a machine that has much else to do.
const LIMIT: Duration = Duration::from_mins(2);

/// Which threads a process and its descendants have, and how often each was put to sleep; `None` if one is at work.
fn asleep(process: u32) -> Option<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for thread in fs::read_dir(format!("/proc/{process}/task")).ok()? {
        let thread = thread.ok()?.path();
        let status = fs::read_to_string(thread.join("status")).ok()?;
        let lines = |name: &str| -> String { status.lines().filter(|l| l.contains(name)).collect() };
        if !["(sleeping)", "(zombie)"].iter().any(|state| lines("State:").contains(state)) {
            return None;
        }
        all.insert(thread.display().to_string(), lines("ctxt_switches"));
        for child in fs::read_to_string(thread.join("children")).ok()?.split_whitespace() {
            all.extend(asleep(child.parse().ok()?)?);
        }
    }
    Some(all)
}

/// Whether nothing that was sent over this port waits to be read, or to be sent.
fn nothing_under_way(port: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").expect("the machine's connections");
    let port = format!(":{port:04X}");
    table.lines().skip(1).all(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_ours = words[1].ends_with(&port) || words[2].ends_with(&port);
        !is_ours || words[4] == "00000000:00000000"
    })
}

/// One side of the relay.
struct Side {
    stream: TcpStream,
    /// The port that listens, at one end or the other.
    port: u16,
    process: u32,
    ended: bool,
}

impl Side {
    fn new(stream: TcpStream, port: u16, process: u32) -> Self {
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(Duration::from_millis(2))).expect("a socket");
        Self { stream, port, process, ended: false }
    }

    /// What this side says until it waits for the other one.
    fn turn(&mut self, begun: Instant) -> Vec<u8> {
        let (mut said, mut before) = (Vec::new(), None);
        let mut buffer = vec![0; 1 << 16];
        loop {
            assert!(begun.elapsed() < LIMIT, "the deploy does not end");
            match self.stream.read(&mut buffer) {
                Ok(n @ 1..) => {
                    said.extend_from_slice(&buffer[..n]);
                    before = None;
                    continue;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Ok(_) | Err(_) => {
                    self.ended = true;
                    return said;
                }
            }
            let now = asleep(self.process).filter(|_| nothing_under_way(self.port));
            if now.is_some() && now == before {
                return said;
            }
            before = now;
        }
    }
}

/// Deploys through the relay. For each round trip after the login: how many bytes were said, and answered.
fn deploy(host: &Host) -> Vec<(usize, usize)> {
    let config = host.dir.path().join("cutover.toml");
    let known = host.dir.path().join("known_hosts");
    let direct = [&config, &known].map(|file| fs::read_to_string(file).expect("read"));
    let line = direct[0].lines().find_map(|l| l.strip_prefix("port = ")).expect("a port");
    let server: u16 = line.parse().expect("a number");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let relay = listener.local_addr().expect("an address").port();
    let through =
        |text: &str, before: &str| text.replace(&format!("{before}{server}"), &format!("{before}{relay}"));
    fs::write(&config, through(&direct[0], "port = ")).expect("write");
    fs::write(&known, through(&direct[1], "]:")).expect("write");
    let log = host.dir.path().join("sshd.log");
    let logins = || fs::read_to_string(&log).expect("sshd.log").matches("Accepted publickey").count();
    let (begun, logins_before) = (Instant::now(), logins());
    let running = host.start_deploy(&[]);
    let trips = relayed(&listener, server, &running, host, begun, || logins() > logins_before);
    let ran = running.finish();
    for (file, text) in [&config, &known].into_iter().zip(&direct) {
        fs::write(file, text).expect("write");
    }
    ran.live();
    assert!(!ran.stdout.contains("pending"), "{ran:#?}");
    trips
}

fn relayed(
    listener: &TcpListener,
    server: u16,
    running: &Running,
    host: &Host,
    begun: Instant,
    is_logged_in: impl Fn() -> bool,
) -> Vec<(usize, usize)> {
    listener.set_nonblocking(true).expect("a socket");
    let stream = loop {
        assert!(begun.elapsed() < LIMIT, "the client does not connect");
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    stream.set_nonblocking(false).expect("a socket");
    let relay = listener.local_addr().expect("an address").port();
    let mut client = Side::new(stream, relay, running.0.id());
    let sshd = TcpStream::connect(("127.0.0.1", server)).expect("sshd");
    let mut host = Side::new(sshd, server, host.process());
    let mut trips = Vec::new();
    loop {
        let logged_in = is_logged_in();
        let said = client.turn(begun);
        if client.ended || host.stream.write_all(&said).is_err() {
            return trips;
        }
        let answer = host.turn(begun);
        if host.ended || client.stream.write_all(&answer).is_err() {
            return trips;
        }
        // Some words want no answer: that the client is there.
        if logged_in && !said.is_empty() && !answer.is_empty() {
            trips.push((said.len(), answer.len()));
        }
    }
}

/// The channels; their shells and the opening, which goes in the command; copy beside upload, put in and verified; cutover.
const ROUND_TRIPS: usize = 4;

fn assert_few(trips: &[(usize, usize)], what: &str) {
    assert_eq!(trips.len(), ROUND_TRIPS, "{what}: bytes said and answered {trips:?}");
}

#[test]
fn round_trips_do_not_depend_on_the_tree() {
    let Some(host) = Host::start() else { return };
    fs::write(host.source().join("a"), "one").expect("write");
    assert_few(&deploy(&host), "the first, of one file");
    fs::write(host.source().join("a"), "two").expect("write");
    assert_few(&deploy(&host), "of one file that changed");

    // Their paths together are longer than a command can be.
    for n in 0..1300 {
        let dir = host.source().join("a-folder".repeat(11)).join((n % 40).to_string()).join(n.to_string());
        fs::create_dir_all(&dir).expect("mkdir");
    }
    assert_few(&deploy(&host), "of many folders");
    fs::write(host.source().join("a"), "three").expect("write");
    assert_few(&deploy(&host), "of one file beside them");

    // Many files and links, folders in folders, and every kind of change. More than a channel's window would wait for more
    // of it.
    for n in 0..1000 {
        let dir = host.source().join(format!("d{}/e{}", n % 5, n % 20));
        fs::create_dir_all(&dir).expect("mkdir");
        fs::write(dir.join(format!("f{n}")), n.to_string()).expect("write");
    }
    for n in 0..50 {
        symlink("f0", host.source().join(format!("d0/l{n}"))).expect("link");
        let shared = host.path().join("shared").join(if n % 2 == 0 { "" } else { "d1" });
        fs::create_dir_all(shared.join(format!("s{n}"))).expect("mkdir");
    }
    // Releases to prune: sealed, and once live.
    for n in 0..40 {
        let (id, path) = (format!("202001010000{n:02}"), host.path());
        fs::create_dir_all(path.join("releases").join(&id).join("x")).expect("mkdir");
        for seal in [id.clone(), format!("{id}.live")] {
            fs::write(path.join(".cutover/seals").join(seal), "").expect("seal");
        }
    }
    assert_eq!(host.releases().len(), 43);
    assert_few(&deploy(&host), "of many files, links and shared links, with a prune");
    assert_eq!(host.releases().len(), 3);
    let shared = |dir: &str| {
        let names = crate::sshd::names(&host.path().join("current").join(dir));
        names.iter().filter(|name| name.starts_with('s')).count()
    };
    assert_eq!((shared(""), shared("d1")), (25, 25));

    fs::remove_dir_all(host.source().join("d2")).expect("rm");
    for n in 0..1000 {
        let file = host.source().join(format!("d{}/e{}/f{n}", n % 5, n % 20));
        if file.exists() && n % 3 == 0 {
            fs::write(file, "changed").expect("write");
        }
    }
    assert_few(&deploy(&host), "of many changes");
    host.assert_tidy();
}
