//! Which file system a path is on, and whether it is one that a profile speaks about.
//!
//! A *profile* says what a power loss can leave of a file system, given what was synced. A host's file system is mapped
//! to one only if everything that decides it was seen; anything else has none, and then nothing is known of what
//! survives there. Pure, total on any bytes: what a host sends is parsed here.
//!
//! Sources: proc_pid_mountinfo(5); `/proc/fs/ext4/<device>/options`, which lists *all* options in effect. The mount
//! table hides those that a superblock has as its defaults: a file system that tune2fs(8) gave `data=writeback`, or one
//! without a journal, looks there like any other (seen on Linux 6.18).

use std::fmt;

/// A file system as it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `major:minor`.
    pub device: String,
    /// Where it is mounted.
    pub point: Vec<u8>,
    /// Its type, such as `ext4`.
    pub kind: String,
    /// What is mounted, such as `/dev/vda1`.
    pub source: Vec<u8>,
    /// All options that were seen, of the mount and of the file system.
    pub options: Vec<String>,
}

/// The persistence model that a file system is known to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// ext4 with a journal, `data=ordered` and barriers.
    Ext4Ordered,
    /// XFS with barriers.
    Xfs,
    /// btrfs with barriers and copy-on-write data.
    Btrfs,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ext4Ordered => "ext4-ordered",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        })
    }
}

/// Reads a mount table, `/proc/<pid>/mountinfo`. Lines that are not of that form are left out.
pub fn parse(table: &[u8]) -> Vec<Mount> {
    table.split(|b| *b == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /point rw,noatime shared:1 - ext4 /dev/vda1 rw,data=ordered`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|b| *b == b' ');
    let text = |word: Option<&[u8]>| Some(std::str::from_utf8(word?).ok()?.to_owned());
    let (_id, _parent) = (words.next()?, words.next()?);
    let device = text(words.next())?;
    let _root = words.next()?;
    let point = unescape(words.next()?);
    let mut options = split_options(words.next()?);
    // Optional fields, any number of them, up to a single dash.
    words.by_ref().find(|w| *w == b"-")?;
    let kind = text(words.next())?;
    let source = unescape(words.next()?);
    options.extend(split_options(words.next()?));
    let numbers = device.split_once(':')?;
    (numbers.0.parse::<u32>().is_ok() && numbers.1.parse::<u32>().is_ok() && point.starts_with(b"/"))
        .then_some(Mount { device, point, kind, source, options })
}

fn split_options(word: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(word).split(',').filter(|o| !o.is_empty()).map(str::to_owned).collect()
}

/// `\040` is a space: the table escapes blanks, newlines and backslashes in octal.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let octal = |b: &u8| (b'0'..=b'7').contains(b).then(|| u32::from(b - b'0'));
        let escaped = match (first, after) {
            (b'\\', [a, b, c, ..]) => octal(a).zip(octal(b)).zip(octal(c)),
            _ => None,
        };
        if let Some(byte) = escaped.and_then(|((a, b), c)| u8::try_from(a * 64 + b * 8 + c).ok()) {
            out.push(byte);
            rest = after.get(3..).unwrap_or_default();
        } else {
            out.push(*first);
            rest = after;
        }
    }
    out
}

/// The mount that a directory is on. `path` is absolute and without links, `device` is what `stat -c %d` says.
///
/// The device decides. Only where the table does not know it (btrfs has one for each subvolume) does the path.
pub fn find<'a>(table: &'a [Mount], path: &[u8], device: u64) -> Option<&'a Mount> {
    let wanted = device_numbers(device);
    let above = |m: &&Mount| {
        m.point == b"/"
            || path
                .strip_prefix(m.point.as_slice())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    // Of two mounts at one place the later one covers the earlier.
    let deepest = |mounts: &mut dyn Iterator<Item = &'a Mount>| mounts.max_by_key(|m| m.point.len());
    let same_device = |m: &&Mount| m.device == wanted;
    deepest(&mut table.iter().filter(same_device).filter(above))
        .or_else(|| table.iter().rfind(same_device))
        .or_else(|| deepest(&mut table.iter().filter(above)).filter(|m| m.kind == "btrfs"))
}

/// `st_dev` as `major:minor`, as glibc and musl pack it.
fn device_numbers(device: u64) -> String {
    let major = ((device >> 8) & 0xfff) | ((device >> 32) & !0xfff);
    let minor = (device & 0xff) | ((device >> 12) & !0xff);
    format!("{}:{}", major & 0xffff_ffff, minor & 0xffff_ffff)
}

/// The profile of a mount, or why there is none. `in_effect` are the lines of `/proc/fs/ext4/<device>/options`, where
/// they could be read.
///
/// # Errors
/// In words, what keeps the file system from having a profile.
pub fn profile(mount: &Mount, in_effect: Option<&[u8]>) -> Result<Profile, String> {
    let mut options = mount.options.clone();
    let lines = in_effect.map(String::from_utf8_lossy);
    options.extend(lines.iter().flat_map(|l| l.lines()).map(|l| l.trim().to_owned()));
    let first_of = |bad: &[&str]| options.iter().find(|o| bad.contains(&o.as_str())).cloned();
    let none = |why: &str| Err(format!("{}: {why}", mount.kind));
    let barriers =
        first_of(&["nobarrier", "barrier=0"]).map(|o| format!("`{o}`: the disk may reorder what was synced"));
    match mount.kind.as_str() {
        "ext4" => {
            if let Some(why) = barriers {
                return none(&why);
            }
            let other = [
                "data=writeback",
                "data=journal",
                "journal_async_commit",
                "fast_commit",
                "fc_debug_force",
                "norecovery",
                "noload",
            ];
            if let Some(option) = first_of(&other) {
                return none(&format!("`{option}`, only data=ordered is known"));
            }
            match (first_of(&["data=ordered"]), in_effect) {
                (Some(_), _) => Ok(Profile::Ext4Ordered),
                (None, Some(_)) => none("it has no journal"),
                (None, None) => {
                    none("whether it has a journal, and of which kind, cannot be seen (/proc/fs/ext4)")
                }
            }
        }
        "xfs" | "btrfs" => {
            if let Some(why) = barriers {
                return none(&why);
            }
            if let Some(option) = first_of(&["norecovery", "nologreplay", "rescue=all", "nodatacow"]) {
                return none(&format!("`{option}` is not known"));
            }
            Ok(if mount.kind == "xfs" { Profile::Xfs } else { Profile::Btrfs })
        }
        "tmpfs" | "ramfs" | "rootfs" => none("it is memory, and empty after a power loss"),
        "overlay" => none("what it writes goes to another file system, which cannot be seen"),
        "nfs" | "nfs4" | "cifs" | "smb3" | "ceph" | "9p" | "virtiofs" | "glusterfs" => {
            none("what survives is up to its server")
        }
        kind if kind == "fuse" || kind.starts_with("fuse.") || kind == "fuseblk" => {
            none("what survives is up to the program behind it")
        }
        _ => none("it was never modelled"),
    }
}
