//! `cutover log`: the audit log that is kept on the host.

use super::{Answer, Say, look};
use crate::config::Target;
use crate::error::DeployError;
use crate::text::printable;

/// Prints the last `lines` lines of the log as they are, the newest last.
///
/// # Errors
/// If it cannot be read.
pub async fn log(target: &Target, lines: usize, say: Say<'_>) -> Result<Answer, DeployError> {
    let mut opened = look(target).await?;
    if opened.host.exists {
        for (line, _) in opened.log(lines).await? {
            say(&printable(&line));
        }
    }
    opened.session.close().await;
    say(&opened.host.current.line());
    Ok(Answer::Yes)
}
