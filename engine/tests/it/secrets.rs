//! What is nobody's business: not in a command line, which every user of a machine can read, and not in what is kept.

use std::fs;
use std::path::PathBuf;

use crate::sshd::{Host, chmod};

#[test]
fn no_command_line_and_no_log_holds_what_is_nobodys_business() {
    let tools = tempfile::tempdir().expect("tools");
    let seen = tools.path().join("seen");
    // While the release is copied, every command line of the machine is written down: the client's too.
    let script = format!(
        "#!/bin/sh\nfor p in /proc/[0-9]*/cmdline; do {{ tr '\\0' ' ' <\"$p\"; echo; }} 2>/dev/null; done >>'{}'\n\
         exec /bin/cp \"$@\"\n",
        seen.display()
    );
    fs::write(tools.path().join("cp"), script).expect("shim");
    chmod(&tools.path().join("cp"), 0o755);
    let path = PathBuf::from(format!("{}:/usr/bin:/bin", tools.path().display()));
    let Some(host) = Host::start_with(Some(&path)) else { return };
    fs::write(host.source().join("settings"), "password=of-the-application").expect("write");
    host.deploy(&[]).live();
    fs::write(host.source().join("index"), "two").expect("write");
    let ran = host.deploy(&["--verbose"]);
    ran.live();

    let lines = fs::read_to_string(&seen).expect("the shim ran");
    assert!(lines.contains("cutover"), "the client was seen: {lines}");
    let key = fs::read_to_string(host.dir.path().join("id")).expect("key");
    let key = key.lines().nth(1).expect("the key's first line");
    let holder = fs::read_to_string(host.path().join(".cutover/holder")).expect("holder");
    // Whoever knows a run's token could answer in its host's name.
    let is_token =
        |w: &&str| w.len() == 33 && w.starts_with('c') && w[1..].bytes().all(|b| b.is_ascii_hexdigit());
    let tokens: Vec<&str> = holder.split_whitespace().filter(is_token).collect();
    assert!(!tokens.is_empty(), "the token is known: {holder}");
    let log = fs::read_to_string(host.path().join(".cutover/log")).expect("log");
    let secrets = [vec![key, "of-the-application"], tokens].concat();
    for (what, text) in [
        ("a command line", &lines),
        ("the log on the host", &log),
        ("standard output", &ran.stdout),
        ("standard error", &ran.stderr),
    ] {
        for secret in &secrets {
            assert!(!text.contains(secret), "{what} holds {secret}");
        }
    }
}
