//! Error numbers by their names, or as numbers where we have no name.

use rustix::io::Errno;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

/// What a disk may answer.
const NAMES: [(&str, Errno); 24] = [
    ("EIO", Errno::IO),
    ("ENOSPC", Errno::NOSPC),
    ("EDQUOT", Errno::DQUOT),
    ("EROFS", Errno::ROFS),
    ("EPERM", Errno::PERM),
    ("EACCES", Errno::ACCESS),
    ("EINTR", Errno::INTR),
    ("EAGAIN", Errno::AGAIN),
    ("ENOMEM", Errno::NOMEM),
    ("EBUSY", Errno::BUSY),
    ("EEXIST", Errno::EXIST),
    ("ENXIO", Errno::NXIO),
    ("ENODEV", Errno::NODEV),
    ("EINVAL", Errno::INVAL),
    ("EMFILE", Errno::MFILE),
    ("ENFILE", Errno::NFILE),
    ("EFBIG", Errno::FBIG),
    ("EMLINK", Errno::MLINK),
    ("ELOOP", Errno::LOOP),
    ("EOPNOTSUPP", Errno::OPNOTSUPP),
    ("ENOTCONN", Errno::NOTCONN),
    ("ETIMEDOUT", Errno::TIMEDOUT),
    ("ESTALE", Errno::STALE),
    ("EUCLEAN", Errno::UCLEAN),
];

/// The last number that the kernel lets through to a program.
const MAX: i32 = 511;

#[derive(Deserialize)]
#[serde(untagged)]
enum Told {
    Name(String),
    Number(i32),
}

pub(super) fn told(errno: Errno) -> String {
    let name = NAMES.iter().find(|(_, known)| *known == errno).map(|(name, _)| *name);
    name.map_or_else(|| format!("errno {}", errno.raw_os_error()), str::to_owned)
}

pub(super) fn check(errno: Errno) -> Result<(), String> {
    match errno {
        Errno::NOSYS => {
            Err("ENOSYS makes the kernel do without such calls for ever; choose another error".to_owned())
        }
        Errno::NOENT => {
            Err("ENOENT is an answer that the kernel remembers, not a failure; choose another error"
                .to_owned())
        }
        errno if !(1..=MAX).contains(&errno.raw_os_error()) => {
            Err(format!("{} is no error number", errno.raw_os_error()))
        }
        _ => Ok(()),
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
pub(super) fn serialize<S: Serializer>(errno: &Errno, to: S) -> Result<S::Ok, S::Error> {
    match NAMES.iter().find(|(_, known)| known == errno) {
        Some((name, _)) => name.serialize(to),
        None => errno.raw_os_error().serialize(to),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Errno, D::Error> {
    match Told::deserialize(from)? {
        Told::Number(number) if (1..=MAX).contains(&number) => Ok(Errno::from_raw_os_error(number)),
        Told::Number(number) => Err(D::Error::custom(format!("{number} is no error number"))),
        Told::Name(name) => {
            let found = NAMES.iter().find(|(known, _)| *known == name).map(|(_, errno)| *errno);
            found.ok_or_else(|| D::Error::custom(format!("unknown error name {name:?}; use its number")))
        }
    }
}
