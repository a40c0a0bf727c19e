//! `cutover.toml`: any text. What is accepted can be used as it is, and what is refused is told in plain lines.
#![no_main]

use std::path::Path;

use cutover::config::parse;
use cutover::ssh::shell::for_people;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for name in [None, Some("production")] {
        match parse(text, Path::new("dir/cutover.toml"), name) {
            Ok(target) => {
                let path = &target.path;
                assert!(path.starts_with('/') && path.len() > 1 && !path.ends_with('/'), "{path:?}");
                assert!(path.split('/').skip(1).all(|name| !matches!(name, "" | "." | "..")), "{path:?}");
                let address = &target.address;
                for word in [path, &address.host, &address.user] {
                    assert!(!word.is_empty() && !word.chars().any(char::is_control), "{word:?}");
                    assert!(!word.starts_with('-'), "{word:?} looks like an option");
                }
                assert!(address.port != 0);
                // Said to people, it is one word of a shell.
                assert!(!for_people(path).contains('\n'));
            }
            Err(error) => {
                let said = format!("{error} {}", error.hint.clone().unwrap_or_default());
                assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{said:?}");
                assert!(error.line.is_none_or(|line| line <= 1 + text.lines().count()), "{said:?}");
            }
        }
    }
});
