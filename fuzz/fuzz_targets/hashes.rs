//! What `sha256sum` says about files whose names are known: GNU and busybox print odd names differently.
//!
//! The input is lines of paths, an empty line, and what the host said about them.
#![no_main]

use cutover::manifest::Sha;
use cutover::path::RelPath;
use cutover::remote::listing::parse_hashes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let end = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
    let (names, said) = data.split_at(end);
    // NUL stands for a newline inside of a name.
    let names = names
        .split(|byte| *byte == b'\n')
        .map(|name| name.iter().map(|byte| if *byte == 0 { b'\n' } else { *byte }).collect::<Vec<u8>>());
    let paths: Vec<RelPath> = names.filter_map(RelPath::new).collect();
    let paths: Vec<&RelPath> = paths.iter().collect();
    let said = said.get(2..).unwrap_or_default();
    if let Some(hashes) = parse_hashes(&paths, said) {
        assert_eq!(hashes.len(), paths.len());
        // Cut short or with something behind it, it is not an answer about all of them.
        assert!(said.is_empty() || parse_hashes(&paths, &said[..said.len() - 1]).is_none());
        assert_eq!(parse_hashes(&paths, &[said, b"\n"].concat()), None);
    }
    let hashes: Vec<Sha> = paths.iter().map(|path| Sha::of(path.as_bytes())).collect();
    for line in [gnu, busybox] {
        let said: Vec<u8> = paths.iter().zip(&hashes).flat_map(|(path, sha)| line(path, *sha)).collect();
        assert_eq!(parse_hashes(&paths, &said).as_ref(), Some(&hashes));
    }
});

fn gnu(path: &RelPath, sha: Sha) -> Vec<u8> {
    let name = path.dotted();
    if !name.iter().any(|byte| b"\\\n\r".contains(byte)) {
        return busybox(path, sha);
    }
    let escaped = name.iter().flat_map(|byte| match byte {
        b'\\' => b"\\\\".to_vec(),
        b'\n' => b"\\n".to_vec(),
        b'\r' => b"\\r".to_vec(),
        other => vec![*other],
    });
    [b"\\", sha.to_string().as_bytes(), b"  "].concat().into_iter().chain(escaped).chain([b'\n']).collect()
}

fn busybox(path: &RelPath, sha: Sha) -> Vec<u8> {
    [sha.to_string().as_bytes(), b"  ", &path.dotted(), b"\n"].concat()
}
