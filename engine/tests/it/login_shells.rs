//! Deploys as a normal user, whatever the login shell and the server: the one command that is asked of them has to work in
//! all, and what a start-up file prints must not matter.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::account::{Account, program};
use crate::sshd::Host;
use crate::tree;

/// A full upload, then a copy with a change.
fn two_deploys(host: &Host) {
    fs::write(host.source().join("index.html"), "one").expect("write");
    fs::create_dir_all(host.source().join("lib")).expect("mkdir");
    fs::write(host.source().join("lib/quote's $HOME"), "a").expect("write");
    let first = host.deploy(&[]).live();
    fs::write(host.source().join("index.html"), "two").expect("write");
    let second = host.deploy(&[]).live();
    assert_eq!(host.releases(), [first, second]);
    assert_eq!(tree::read(&host.path().join("current/"), false), tree::read(&host.source(), false));
    host.assert_tidy();
}

fn with_shell(shell: Option<PathBuf>) {
    let Some(shell) = shell else { return };
    let Some(host) = (Account { shell: Some(shell), ..Account::default() }).start() else { return };
    two_deploys(&host);
}

#[test]
fn bash() {
    with_shell(program("bash"));
}

#[test]
fn dash() {
    with_shell(program("dash"));
}

#[test]
fn zsh() {
    with_shell(program("zsh"));
}

#[test]
fn fish() {
    with_shell(program("fish"));
}

#[test]
fn tcsh() {
    with_shell(program("tcsh"));
}

#[test]
fn busybox_ash() {
    let Some(busybox) = program("busybox") else { return };
    let dir = tempfile::tempdir().expect("tempdir");
    crate::sshd::chmod(dir.path(), 0o755);
    symlink(busybox, dir.path().join("ash")).expect("link");
    with_shell(Some(dir.path().join("ash")));
}

#[test]
fn dropbear() {
    let Some(host) = (Account { dropbear: true, ..Account::default() }).start() else { return };
    two_deploys(&host);
}

/// bash reads `.bashrc` for a command over SSH too.
#[test]
fn a_noisy_bashrc() {
    let noise = "echo 'Welcome!'; printf 'c0ffee begin tree\\n\\033[31mred\\n'; echo 'to the error stream' >&2\n\
                 alias mv='mv -i' cp='cp -i' rm='rm -i'; export CDPATH=/ POSIXLY_CORRECT=1 LC_ALL=en_US.UTF-8\n";
    let home = [(".bashrc", noise)];
    let Some(shell) = program("bash") else { return };
    let Some(host) = (Account { shell: Some(shell), home: &home, ..Account::default() }).start() else {
        return;
    };
    two_deploys(&host);
}

/// What stands between sshd and the shell may have limits of its own; then the scripts come on the input.
#[test]
fn a_gate_that_takes_no_long_command() {
    let gate = "case ${#SSH_ORIGINAL_COMMAND} in ?|??|???) exec sh -c \"$SSH_ORIGINAL_COMMAND\" ;; esac\n\
                echo 'command too long' >&2; exit 1\n";
    let home = [("gate", gate)];
    let config = "ForceCommand . \"$HOME/gate\"";
    let Some(host) = (Account { home: &home, config, ..Account::default() }).start() else { return };
    two_deploys(&host);
}

/// What a deploy to this account says: it must be a refusal that gives the reason, soon, and nothing is made on the host.
fn refused(account: &Account<'_>, reasons: &[&str]) {
    let Some(host) = account.start() else { return };
    fs::write(host.source().join("a"), "a").expect("write");
    let begin = std::time::Instant::now();
    let ran = host.deploy(&[]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    for reason in reasons {
        assert!(ran.stderr.contains(reason), "{reason}: {ran:#?}");
    }
    assert!(ran.stderr.contains("\nhint: "), "{ran:#?}");
    assert!(!host.path().exists());
    // No timeout was waited for.
    assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
}

#[test]
fn a_bashrc_that_exits() {
    let home = [(".bashrc", "echo 'maintenance, come back later'; exit 7\n")];
    let Some(shell) = program("bash") else { return };
    let account = Account { shell: Some(shell), home: &home, ..Account::default() };
    refused(&account, &["does not run commands", "status 7", "maintenance, come back later"]);
}

#[test]
fn a_bashrc_that_becomes_another_shell() {
    let (Some(shell), Some(_)) = (program("bash"), program("fish")) else { return };
    let home = [(".bashrc", "exec fish\n")];
    let account = Account { shell: Some(shell), home: &home, ..Account::default() };
    refused(&account, &["does not run commands"]);
}

#[test]
fn sftp_only() {
    let account = Account { config: "ForceCommand internal-sftp", ..Account::default() };
    refused(&account, &["does not run commands", "sftp connections only"]);
}

/// One that does not say so: it is known by its answer.
#[test]
fn sftp_only_by_a_program() {
    let server = Path::new("/usr/lib/openssh/sftp-server");
    let server = if server.exists() { Some(server.to_owned()) } else { program("sftp-server") };
    let Some(server) = server else { return };
    let config = format!("ForceCommand {}", server.display());
    let account = Account { config: &config, ..Account::default() };
    refused(&account, &["does not run commands", "only transfers files (SFTP)"]);
}

#[test]
fn nologin() {
    let account = Account { shell: Some(Path::new("/usr/sbin/nologin").to_owned()), ..Account::default() };
    refused(&account, &["does not run commands", "This account is currently not available"]);
}

#[test]
fn a_shell_that_is_false() {
    let Some(shell) = program("false") else { return };
    refused(&Account { shell: Some(shell), ..Account::default() }, &["does not run commands", "status 1"]);
}

#[test]
fn git_shell() {
    let shell = Path::new("/usr/lib/git-core/git-shell");
    let shell = if shell.exists() { Some(shell.to_owned()) } else { program("git-shell") };
    let Some(shell) = shell else { return };
    let account = Account { shell: Some(shell), ..Account::default() };
    refused(&account, &["does not run commands", "status 128"]);
}
