//! The seal: any bytes, bytes with a digest that fits, and damage to a good one.
//!
//! The input is the seal without its last line, or all of it; the digest is added here, since no fuzzer finds one.
#![no_main]

use cutover::manifest::{Manifest, ManifestError, Sha, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(manifest) = parse(data) {
        assert_eq!(manifest.to_bytes(), data, "one tree has one seal");
        damage(data);
    }
    let sealed = [data, format!("sha256 {}\n", Sha::of(data)).as_bytes()].concat();
    match parse(&sealed) {
        Ok(manifest) => {
            assert_eq!(manifest.to_bytes(), sealed, "one tree has one seal");
            assert_eq!(parse(&manifest.to_bytes()).as_ref(), Ok(&manifest));
            assert_eq!(Manifest::new(manifest.entries().clone()).as_ref(), Ok(&manifest));
            damage(&sealed);
        }
        Err(error) => assert_ne!(error, ManifestError::Digest, "this digest fits"),
    }
});

/// A seal with a bit changed, with its end missing, or with something after it is refused, wherever that is.
fn damage(seal: &[u8]) {
    let places = Sha::of(seal).0;
    for pair in places.chunks_exact(2) {
        let at = usize::from(pair[0]) << 8 | usize::from(pair[1]);
        let at = at % seal.len();
        let mut changed = seal.to_vec();
        changed[at] ^= 1 << (pair[0] % 8);
        assert_eq!(parse(&changed), Err(ManifestError::Digest), "a bit of byte {at} changed");
        assert_eq!(parse(&seal[..at]), Err(ManifestError::Digest), "only {at} bytes are there");
    }
    assert_eq!(parse(&[seal, b"\n"].concat()), Err(ManifestError::Digest));
}
