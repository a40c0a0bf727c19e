//! Who is trusted, who is let in, and what is said when not.

use std::fs;
use std::process::Command;

use crate::sshd::Host;

#[test]
fn an_unknown_host_is_refused() {
    let Some(host) = Host::start() else { return };
    fs::write(host.dir.path().join("known_hosts"), "# nobody\n").expect("known_hosts");
    let ran = host.deploy(&[]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("is not known: ssh-ed25519 SHA256:"), "{ran:#?}");
    assert!(ran.stderr.contains("hint: ") && ran.stderr.contains("known_hosts"), "{ran:#?}");
    assert!(!host.path().exists());
}

#[test]
fn a_changed_key_is_refused_loudly() {
    let Some(host) = Host::start() else { return };
    let known = host.dir.path().join("known_hosts");
    let text = fs::read_to_string(&known).expect("read");
    let name = text.split(' ').next().expect("name");
    let other = fs::read_to_string(host.dir.path().join("id.pub")).expect("read");
    fs::write(&known, format!("{name} {other}")).expect("write");
    let ran = host.deploy(&[]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("HAS CHANGED") && ran.stderr.contains("line 1"), "{ran:#?}");
    assert!(!host.path().exists());
}

#[test]
fn an_encrypted_key_is_named() {
    let Some(host) = Host::start() else { return };
    let key = host.dir.path().join("id");
    let made =
        Command::new("ssh-keygen").args(["-q", "-p", "-N", "secret", "-P", "", "-f"]).arg(&key).status();
    assert!(made.is_ok_and(|s| s.success()));
    let ran = host.deploy(&[]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("is encrypted") && ran.stderr.contains("ssh-add"), "{ran:#?}");
}

#[test]
fn a_key_that_is_not_accepted() {
    let Some(host) = Host::start() else { return };
    fs::write(host.dir.path().join("authorized_keys"), "").expect("write");
    let ran = host.deploy(&[]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("cannot log in as"), "{ran:#?}");
}

#[test]
fn the_agent_is_asked() {
    let Some(mut host) = Host::start() else { return };
    let socket = host.dir.path().join("agent");
    let mut agent = Command::new("ssh-agent")
        .arg("-D")
        .arg("-a")
        .arg(&socket)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("agent");
    for _ in 0..100 {
        if socket.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let added = Command::new("ssh-add")
        .arg("-q")
        .arg(host.dir.path().join("id"))
        .env("SSH_AUTH_SOCK", &socket)
        .status();
    assert!(added.is_ok_and(|s| s.success()));
    let config = host.dir.path().join("cutover.toml");
    let text = fs::read_to_string(&config).expect("read").replace("identity = \"id\"\n", "");
    fs::write(&config, text).expect("write");
    host.env.push(("SSH_AUTH_SOCK".to_owned(), socket.display().to_string()));
    fs::write(host.source().join("a"), "a").expect("write");
    let ran = host.deploy(&[]);
    let _ = agent.kill();
    let _ = agent.wait();
    ran.live();
}

#[test]
fn nobody_answers() {
    let Some(host) = Host::start() else { return };
    let config = host.dir.path().join("cutover.toml");
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("port").port();
    let text: String = fs::read_to_string(&config)
        .expect("read")
        .lines()
        .map(|l| if l.starts_with("port") { format!("port = {port}\n") } else { format!("{l}\n") })
        .collect();
    fs::write(&config, text).expect("write");
    let ran = host.deploy(&[]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("cannot connect to 127.0.0.1"), "{ran:#?}");
}

#[test]
fn a_fifo_in_the_source_is_named() {
    let Some(host) = Host::start() else { return };
    let made = Command::new("mkfifo").arg(host.source().join("pipe")).status();
    assert!(made.is_ok_and(|s| s.success()));
    let ran = host.deploy(&[]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("pipe is a fifo"), "{ran:#?}");
    assert!(!host.path().exists());
}

/// A job without files: key and host key come in the environment.
#[test]
fn keys_from_the_environment() {
    let Some(mut host) = Host::start() else { return };
    fs::write(host.source().join("a"), "a").expect("write");
    let file = |name: &str| fs::read_to_string(host.dir.path().join(name)).expect("read");
    let (secret, pin, other) = (file("id"), file("host_key.pub"), file("id.pub"));
    for name in ["id", "known_hosts"] {
        fs::remove_file(host.dir.path().join(name)).expect("rm");
    }
    let with = |pin: &str, key: &str| {
        vec![("CUTOVER_HOST_KEY".to_owned(), pin.to_owned()), ("CUTOVER_SSH_KEY".to_owned(), key.to_owned())]
    };
    for (pin, key, says) in [
        (other.as_str(), secret.as_str(), "HAS CHANGED"),
        ("nonsense", &secret, "cannot read CUTOVER_HOST_KEY: line 1 is not a public key"),
        (&pin, "a secret that is no key", "what is in CUTOVER_SSH_KEY is not a private key"),
    ] {
        host.env = with(pin, key);
        let ran = host.deploy(&[]);
        assert_eq!(ran.code, Some(1), "{ran:#?}");
        assert!(ran.stderr.contains(says) && !ran.stderr.contains("a secret that"), "{ran:#?}");
        assert!(!host.path().exists());
    }
    host.env = with(&pin, &secret);
    let ran = host.deploy(&[]);
    ran.live();
    let line = secret.lines().nth(2).expect("a key has lines");
    assert!(!ran.stdout.contains(line) && !ran.stderr.contains(line));
}

#[test]
fn a_pattern_in_known_hosts() {
    let Some(host) = Host::start() else { return };
    let known = host.dir.path().join("known_hosts");
    let text = fs::read_to_string(&known).expect("read");
    let key = text.split_once(' ').expect("a line").1;
    fs::write(host.source().join("a"), "a").expect("write");
    fs::write(&known, format!("[127.0.0.*]:* {key}")).expect("write");
    host.deploy(&[]).live();
    fs::write(&known, format!("[127.0.0.*]:*,![127.0.0.1]:* {key}")).expect("write");
    let ran = host.deploy(&[]);
    assert!(ran.code == Some(1) && ran.stderr.contains("is not known"), "{ran:#?}");
}
