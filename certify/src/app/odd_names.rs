//! Names that are legal on a disk and break scripts: quoting, splitting, globbing, option parsing, encoding.

/// Every odd name, as one file each below `names/`.
pub(super) fn all() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = NAMES.iter().map(|name| name.to_vec()).collect();
    names.push(long());
    names
}

/// 200 bytes: legal everywhere, but too long for a temporary name that appends much to it.
pub(super) fn long() -> Vec<u8> {
    let mut name = b"long-".repeat(39);
    name.extend_from_slice(b"l.txt");
    name
}

const NAMES: &[&[u8]] = &[
    b"with space.txt",
    b" leading and trailing ",
    b"it's.txt",
    b"say \"ahoy\".txt",
    b"new\nline.txt",
    b"tab\there.txt",
    b"back\\slash.txt",
    b"$(touch pwned)",
    b"`touch pwned`",
    b"$HOME",
    b"*",
    b"?",
    b"[a-z]",
    b"{a,b}",
    b"a;b&c|d>e",
    b"~",
    b"#comment",
    b"!",
    b"...",
    b"-rf",
    b"--help",
    b"%2e%2e%2f.txt",
    // Latin-1: not UTF-8.
    b"caf\xe9",
    // The same word in two normal forms, which are two names.
    b"caf\xc3\xa9",
    b"cafe\xcc\x81",
    "日本語.txt".as_bytes(),
    "⛵.txt".as_bytes(),
];
