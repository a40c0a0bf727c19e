//! [`ReleaseId`]: 14 digits `YYYYMMDDHHMMSS`, UTC.

use std::fmt;

use jiff::civil::DateTime;
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};

/// The name of a release. Ordered by age, because the digits are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReleaseId(String);

impl ReleaseId {
    /// `name` as an id: exactly 14 ASCII digits.
    pub fn parse(name: &[u8]) -> Option<Self> {
        if name.len() != 14 || !name.iter().all(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(name).ok().map(|s| Self(s.to_owned()))
    }

    /// The id of this second.
    pub fn now() -> Self {
        Self::at(TimeZone::UTC.to_datetime(Timestamp::now()))
    }

    fn at(time: DateTime) -> Self {
        Self(time.strftime("%Y%m%d%H%M%S").to_string())
    }

    /// The first id that is not before `now` and strictly newer than every one of `taken`.
    ///
    /// `None` if the newest taken one is no date or the last second of the calendar: there is nothing after it.
    pub fn after<'a>(now: &Self, taken: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        match taken.into_iter().max() {
            Some(newest) if newest >= now => {
                let time = DateTime::strptime("%Y%m%d%H%M%S", &newest.0).ok()?;
                let next = Self::at(time.checked_add(1.second()).ok()?);
                (next > *newest && next.0.len() == 14).then_some(next)
            }
            _ => Some(now.clone()),
        }
    }

    /// The text of the link `current`: exactly `releases/<id>`.
    pub fn link_text(&self) -> String {
        format!("releases/{}", self.0)
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
