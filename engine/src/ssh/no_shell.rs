//! Why an account that can log in does not run our script: asked only after it did not.
//!
//! Accounts may be limited to file transfer or to git, have a login shell that only says no, or a start-up file that
//! ends or replaces the shell even where there is no terminal.
//!
//! Public for its fuzz target only.

use std::time::Duration;

use russh::ChannelMsg;

use super::Connection;
use crate::text::printable;

/// Far more than a shell takes to start and say one word.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// After this long the input ends.
const INPUT_OPEN: Duration = Duration::from_secs(1);
/// What an account says that has no shell fits into this many times over.
const SAID_BYTES_MAX: usize = 64 * 1024;
/// Printed by any shell that runs what it is told.
pub const WORD: &str = "cutover-runs-commands";
/// The first packet of SFTP: length, SSH_FXP_INIT, version 3. To a shell that runs `echo` it is input nobody reads.
const SFTP_INIT: &[u8] = &[0, 0, 0, 5, 1, 0, 0, 0, 3];
/// The type of the answer to it, at the fifth byte.
const SFTP_VERSION: u8 = 2;

/// What came back for one command, as bytes that the login shell may have added to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Standard output.
    pub out: Vec<u8>,
    /// The error stream.
    pub errors: Vec<u8>,
    /// The exit status, if it ended with one.
    pub status: Option<u32>,
    /// Whether the host refused to start anything.
    pub refused: bool,
    /// Whether it neither ended nor said enough in time.
    pub hangs: bool,
}

/// Starts `command` with `input` and waits for its end, not for long.
pub(crate) async fn ask(
    connection: &Connection,
    command: &str,
    input: &[u8],
) -> Result<Answer, russh::Error> {
    let mut channel = connection.channel().await?;
    channel.exec(true, command).await?;
    // A host that has closed the channel by now has answered all the same.
    if !input.is_empty() {
        let _ = channel.data_bytes(input.to_vec()).await;
    }
    let mut answer = Answer::default();
    let mut patience = std::pin::pin!(tokio::time::sleep(INPUT_OPEN));
    let mut open = true;
    let listening = async {
        loop {
            // An SFTP server that sees the end of its input ends without an answer; a shell that reads it waits for it.
            let message = tokio::select! {
                message = channel.wait() => message,
                () = &mut patience, if open => {
                    open = false;
                    let _ = channel.eof().await;
                    continue;
                }
            };
            let Some(message) = message else { break };
            match message {
                ChannelMsg::Data { data } => answer.out.extend_from_slice(&data),
                ChannelMsg::ExtendedData { data, .. } => answer.errors.extend_from_slice(&data),
                ChannelMsg::ExitStatus { exit_status } => answer.status = Some(exit_status),
                ChannelMsg::Failure => answer.refused = true,
                _ => {}
            }
            if answer.out.len().max(answer.errors.len()) > SAID_BYTES_MAX {
                break;
            }
        }
    };
    answer.hangs = tokio::time::timeout(ANSWER_TIMEOUT, listening).await.is_err();
    Ok(answer)
}

/// Why the account does not run commands, in words; `None` if it does.
pub(crate) async fn why(connection: &Connection) -> Result<Option<String>, russh::Error> {
    Ok(reason(&ask(connection, &format!("echo {WORD}"), SFTP_INIT).await?))
}

/// What the account's shell prints without being asked, in one line.
pub(crate) async fn noise(connection: &Connection) -> Result<Option<String>, russh::Error> {
    Ok(unasked(&ask(connection, &format!("echo {WORD}"), b"").await?))
}

/// The same from what came back.
pub fn unasked(answer: &Answer) -> Option<String> {
    let lines = answer.out.split(|b| *b == b'\n').chain(answer.errors.split(|b| *b == b'\n'));
    let said: Vec<String> = lines
        .map(<[u8]>::trim_ascii)
        .filter(|l| !l.is_empty() && *l != WORD.as_bytes())
        .take(3)
        .map(printable)
        .collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// Why the account does not run commands, from what came back.
pub fn reason(answer: &Answer) -> Option<String> {
    let has_word = answer.out.windows(WORD.len()).any(|w| w == WORD.as_bytes());
    if has_word {
        return None;
    }
    if answer.out.get(4) == Some(&SFTP_VERSION) && answer.out.starts_with(&[0, 0]) {
        return Some("it only transfers files (SFTP)".to_owned());
    }
    let how = match (answer.refused, answer.hangs, answer.status) {
        (true, ..) => "the host does not start a shell for it".to_owned(),
        (_, true, _) => "its shell neither runs what it is told nor ends".to_owned(),
        (.., Some(status)) => format!("its shell ends with status {status}"),
        (.., None) => "its shell ends".to_owned(),
    };
    let lines = answer.errors.split(|b| *b == b'\n').chain(answer.out.split(|b| *b == b'\n'));
    let said: Vec<String> =
        lines.filter(|l| !l.trim_ascii().is_empty()).take(3).map(|l| printable(l.trim_ascii())).collect();
    Some(if said.is_empty() { how } else { format!("{how} and says: {}", said.join("; ")) })
}
