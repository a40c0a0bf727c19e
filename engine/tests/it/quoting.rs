//! Quoted words through real shells: whatever goes in comes out.

use std::io::Write as _;
use std::process::{Command, Stdio};

use cutover::remote::quote::{calls, word};
use cutover::remote::steps;
use proptest::prelude::*;

/// Runs a script from standard input, as it is done on a host.
fn run(shell: &[&str], script: &[u8]) -> Option<Vec<u8>> {
    let (program, args) = shell.split_first()?;
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(script).ok()?;
    Some(child.wait_with_output().ok()?.stdout)
}

const SHELLS: &[&[&str]] = &[&["sh"], &["dash"], &["bash", "--posix"], &["busybox", "ash"]];

fn shells() -> impl Iterator<Item = &'static [&'static str]> {
    SHELLS.iter().copied().filter(|s| {
        let there = run(s, b"echo yes").as_deref() == Some(b"yes\n");
        if !there {
            crate::skip(&format!("there is no {} on this machine", s.join(" ")));
        }
        there
    })
}

/// The script that prints its words, each ended by NUL.
fn script(words: &[Vec<u8>]) -> Vec<u8> {
    let mut script = b"p() { printf '%s\\000' \"$@\"; }\n".to_vec();
    script.extend_from_slice(&calls("p", words.iter().map(Vec::as_slice), b""));
    script
}

fn expected(words: &[Vec<u8>]) -> Vec<u8> {
    words.iter().flat_map(|w| w.iter().copied().chain([0])).collect()
}

#[test]
fn every_byte_alone_and_together() {
    let mut words: Vec<Vec<u8>> = (1..=255).map(|b| vec![b]).collect();
    words.push((1..=255).collect());
    words.push(b"'".repeat(3));
    words.push(Vec::new());
    for shell in shells() {
        assert_eq!(run(shell, &script(&words)), Some(expected(&words)), "{shell:?}");
    }
}

#[test]
fn a_word_is_one_word() {
    assert_eq!(word(b"a'b"), b"'a'\\''b'");
    assert_eq!(word(b""), b"''");
    assert_eq!(word(b"releases/20260101-000000_a.b"), b"releases/20260101-000000_a.b");
    assert_eq!(word(b"~"), b"'~'");
}

/// A login shell takes a script that comes in the command, whatever is in it.
#[test]
fn a_script_in_a_command() {
    let mut words: Vec<Vec<u8>> = (1..=255).map(|b| vec![b]).collect();
    words.push((1..=255).collect());
    words.extend(
        [&b"'!\\'"[..], b"\\0047", b"%s%%b", b"$(exit 3)`exit 4`", b"\n\n", b"!!"].map(<[u8]>::to_vec),
    );
    // As long as a command gets.
    words.extend((0..4000).map(|n| format!("word-{n}").into_bytes()));
    let command = steps::shell_with(&script(&words)).expect("it fits");
    let logins: [&[&str]; 7] =
        [&["sh"], &["dash"], &["bash"], &["zsh"], &["fish"], &["tcsh"], &["busybox", "ash"]];
    for shell in logins {
        let (program, args) = shell.split_first().expect("a program");
        // Whoever runs this has start-up files of their own.
        let home = tempfile::tempdir().expect("tempdir");
        let asked = Command::new(program)
            .args(args)
            .args(["-c", &command])
            .env("HOME", home.path())
            .stdin(Stdio::null())
            .output();
        match asked {
            Ok(out) => {
                let said = String::from_utf8_lossy(&out.stderr).into_owned();
                assert!(out.stdout == expected(&words), "{shell:?} says {said}");
            }
            Err(error) => crate::skip(&format!("{}: {error}", shell.join(" "))),
        }
    }
}

#[test]
fn a_script_that_is_too_long_for_a_command() {
    assert_eq!(steps::shell_with(&vec![b' '; 120 << 10]), None);
}

#[test]
fn many_words_are_several_calls() {
    let words: Vec<Vec<u8>> = (0..5000).map(|n| format!("word {n}").into_bytes()).collect();
    let script = script(&words);
    assert!(script.split(|b| *b == b'\n').count() > 3);
    for shell in shells() {
        assert_eq!(run(shell, &script), Some(expected(&words)), "{shell:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn arbitrary_bytes(words in prop::collection::vec(prop::collection::vec(1_u8..=255, 0..60), 1..40)) {
        for shell in shells() {
            prop_assert_eq!(run(shell, &script(&words)), Some(expected(&words)), "{:?}", shell);
        }
    }
}
