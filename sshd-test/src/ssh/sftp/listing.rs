//! Directory entries as people read them: the long name in the style of `ls -l` that SFTP version 3 carries.

use rustix::fs::{FileType, Stat};

/// `-rw-r--r--    1 0        0             123 2025-01-31 12:00 name`, with the time in UTC.
pub(super) fn long_name(name: &[u8], stat: &Stat) -> Vec<u8> {
    let (kind, mode) = (type_letter(stat.st_mode), permissions(stat.st_mode));
    let Stat { st_nlink: links, st_uid: user, st_gid: group, st_size: size, .. } = *stat;
    let time = time_text(stat.st_mtime);
    let mut line = format!("{kind}{mode} {links:>4} {user:<8} {group:<8} {size:>8} {time} ").into_bytes();
    line.extend(name);
    line
}

fn type_letter(mode: u32) -> char {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => '-',
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
        FileType::Unknown => '?',
    }
}

fn permissions(mode: u32) -> String {
    // For each class: its bits, and the letters of the special bit with and without execute permission.
    let classes = [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')];
    let mut text = String::with_capacity(9);
    for (shift, special, with, without) in classes {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => with,
            (false, true) => without,
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// `YYYY-MM-DD hh:mm`. The date is Howard Hinnant's `civil_from_days`.
fn time_text(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", second / 3_600, second % 3_600 / 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time_text(0), "1970-01-01 00:00");
        assert_eq!(time_text(951_826_500), "2000-02-29 12:15");
        assert_eq!(time_text(4_102_444_799), "2099-12-31 23:59");
        assert_eq!(time_text(-1), "1969-12-31 23:59");
    }

    #[test]
    fn modes() {
        assert_eq!(permissions(0o644), "rw-r--r--");
        assert_eq!(permissions(0o7777), "rwsrwsrwt");
        assert_eq!(permissions(0o7000), "--S--S--T");
    }
}
