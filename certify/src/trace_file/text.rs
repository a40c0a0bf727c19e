//! Bytes inside of records: how JSON shows them, and how the compact encoding keeps them as they are.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Names, paths, link texts: bytes that mostly are text. In JSON every byte but printable ASCII, and `%`, is `%XX`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Text(pub(super) Arc<[u8]>);

/// Content. In JSON base64, with padding.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) Arc<[u8]>);

/// A SHA-256. In JSON 64 hexadecimal digits in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Sha(pub(super) [u8; 32]);

/// Permission bits. In JSON four octal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode(pub(super) u32);

impl Sha {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self(Arc::from(bytes))
    }
}

/// The escaped form of [`Text`].
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'%' => text.push_str("%25"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

fn unescaped(text: &str) -> Result<Vec<u8>, String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.as_bytes().get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let byte = digits.and_then(|_| u8::from_str_radix(part.get(..2)?, 16).ok());
        bytes.push(byte.ok_or("a % is not followed by two hexadecimal digits")?);
        bytes.extend_from_slice(part.as_bytes().get(2..).unwrap_or_default());
    }
    Ok(bytes)
}

impl fmt::Debug for Text {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&escaped(&self.0))
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} bytes", self.0.len())
    }
}

impl fmt::Debug for Sha {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Display for Sha {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// Raw bytes of the compact encoding.
struct Raw;

impl<'de> Visitor<'de> for Raw {
    type Value = Arc<[u8]>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Arc::from(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(A::Error::custom("bytes cannot be a list"))
    }
}

/// A string of JSON, without a copy where it has no escapes.
struct Str<F>(F);

impl<F: FnOnce(&str) -> Result<T, String>, T> Visitor<'_> for Str<F> {
    type Value = T;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.serialize_str(&escaped(&self.0)) } else { to.serialize_bytes(&self.0) }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            return from.deserialize_str(Str(|text: &str| Ok(Self(unescaped(text)?.into()))));
        }
        from.deserialize_bytes(Raw).map(Self)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.serialize_str(&BASE64.encode(&self.0))
        } else {
            to.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let base64 = |text: &str| match BASE64.decode(text.as_bytes()) {
            Ok(bytes) => Ok(Self(bytes.into())),
            Err(error) => Err(format!("not base64: {error}")),
        };
        if from.is_human_readable() {
            return from.deserialize_str(Str(base64));
        }
        from.deserialize_bytes(Raw).map(Self)
    }
}

impl Serialize for Sha {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.serialize_str(&HEXLOWER.encode(&self.0))
        } else {
            to.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Sha {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let not = "not a SHA-256 in lower-case hexadecimal";
        let hex = |text: &str| {
            let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| not)?;
            Ok(Self(bytes.try_into().map_err(|_| not)?))
        };
        if from.is_human_readable() {
            return from.deserialize_str(Str(hex));
        }
        let bytes = from.deserialize_bytes(Raw)?;
        bytes[..].try_into().map(Self).map_err(|_| D::Error::custom("a SHA-256 has 32 bytes"))
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.serialize_str(&format!("{:04o}", self.0))
        } else {
            to.serialize_u32(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let octal = |text: &str| match u32::from_str_radix(text, 8) {
            Ok(mode) if text.len() == 4 => Ok(mode),
            _ => Err(format!("a mode is four octal digits, not {text:?}")),
        };
        let mode = if from.is_human_readable() {
            from.deserialize_str(Str(octal))?
        } else {
            u32::deserialize(from)?
        };
        if mode > 0o7777 {
            return Err(D::Error::custom("a mode has no bits beyond 7777"));
        }
        Ok(Self(mode))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_an_escape_and_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        let text = escaped(&all);
        assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        assert_eq!(unescaped(&text).unwrap(), all);
        assert_eq!(escaped("100% caf\u{e9}\n".as_bytes()), "100%25 caf%C3%A9%0A");
        for bad in ["%", "%4", "a%zz", "%+1", "%\u{e9}1"] {
            assert!(unescaped(bad).is_err(), "{bad}");
        }
        // Others may leave UTF-8 as it is.
        assert_eq!(unescaped("caf\u{e9}").unwrap(), "caf\u{e9}".as_bytes());
    }
}
