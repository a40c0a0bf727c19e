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
    let keys = tools.path().join("keys");
    let noting = format!("#!/bin/sh\n/usr/bin/sha256sum \"$@\" | tee -a '{}'\n", keys.display());
    for (name, script) in [("cp", script), ("sha256sum", noting)] {
        fs::write(tools.path().join(name), script).expect("shim");
        chmod(&tools.path().join(name), 0o755);
    }
    let path = PathBuf::from(format!("{}:/usr/bin:/bin", tools.path().display()));
    let Some(host) = Host::start_with(Some(&path)) else { return };
    fs::write(host.source().join("settings"), "password=of-the-application").expect("write");
    host.deploy(&[]).live();
    fs::write(host.source().join("index"), "two").expect("write");
    let ran = host.deploy(&["--verbose"]);
    ran.live();

    let lines = fs::read_to_string(&seen).expect("the shim ran");
    assert!(lines.contains("cutover"), "the client was seen: {lines}");
    assert!(lines.contains("x_rename"), "the host's shell was seen: {lines}");
    let key = fs::read_to_string(host.dir.path().join("id")).expect("key");
    let key = key.lines().nth(1).expect("the key's first line");
    // Whoever knows the key that frames what the host says could answer in its name: each deploy begins with one.
    let frames = fs::read_to_string(&keys).expect("the shim ran");
    let frames: Vec<&str> =
        frames.lines().filter(|l| l.ends_with(" -")).filter_map(|l| l.split(' ').next()).collect();
    assert_eq!(frames.len(), 2, "one for each deploy: {frames:?}");
    let log = fs::read_to_string(host.path().join(".cutover/log")).expect("log");
    let secrets = [vec![key, "of-the-application"], frames].concat();
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
