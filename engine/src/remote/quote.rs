//! Quoting for a POSIX shell.

/// `bytes` as one argument in `sh`: as they are if that means nothing else to any shell, and else in single quotes, where
/// nothing means anything; a quote becomes `'\''`.
///
/// Total for every byte but NUL, which no argument can hold.
pub fn word(bytes: &[u8]) -> Vec<u8> {
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"._/-".contains(b);
    if !bytes.is_empty() && bytes.iter().all(is_plain) {
        return bytes.to_vec();
    }
    let mut out = Vec::with_capacity(bytes.len() + 2);
    out.push(b'\'');
    for b in bytes {
        match b {
            b'\'' => out.extend_from_slice(b"'\\''"),
            _ => out.push(*b),
        }
    }
    out.push(b'\'');
    out
}

/// Calls of `command` with every one of `args`, several a call, none longer than a host must accept.
pub fn calls<'a>(command: &str, args: impl IntoIterator<Item = &'a [u8]>, last: &[u8]) -> Vec<u8> {
    const CALL_BYTES: usize = 32 * 1024;
    let (mut out, mut line) = (Vec::new(), Vec::new());
    let flush = |line: &mut Vec<u8>, out: &mut Vec<u8>| {
        if !line.is_empty() {
            out.extend_from_slice(command.as_bytes());
            out.append(line);
            out.extend_from_slice(last);
            out.push(b'\n');
        }
    };
    for arg in args {
        line.push(b' ');
        line.extend_from_slice(&word(arg));
        if line.len() > CALL_BYTES {
            flush(&mut line, &mut out);
        }
    }
    flush(&mut line, &mut out);
    out
}
