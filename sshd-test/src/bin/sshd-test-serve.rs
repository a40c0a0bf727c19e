//! Serves a directory over SSH and SFTP from the sandbox until its standard input ends: to try the server by hand, and for
//! tests that need the server in a program of its own.
//!
//! Prints the path of a client configuration on the first line, then one line for each sync call that it observes.

use std::{
    io::{self, Read, Write},
    process::ExitCode,
    sync::Arc,
};

use sshd_test::{Caller, Disk, Observer, Options, Server, SyncCall, enter_user_namespace_if_needed};

struct Print;

impl Observer for Print {
    fn sync(&self, call: SyncCall, _: Caller<'_>) -> Result<(), i32> {
        print(&format!("{call:?}"));
        Ok(())
    }

    fn blind(&self, what: &str) {
        print(&format!("blind: {what}"));
    }
}

fn print(line: &str) {
    // Whoever does not read any more does not want to know.
    let _ = writeln!(io::stdout(), "{line}");
}

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!(
            "usage: sshd-test-serve DIRECTORY\nhint: then `ssh -F FILE target`, FILE being the first line of output"
        );
        return ExitCode::from(2);
    };
    let started = enter_user_namespace_if_needed()
        .and_then(|()| Server::start(Options::new(Disk::Dir(directory.into()), Arc::new(Print))));
    match started {
        Ok(server) => {
            print(&server.ssh_config().display().to_string());
            let _ = io::stdin().read_to_end(&mut Vec::new());
            server.shutdown();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
