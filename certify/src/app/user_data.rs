//! What guests and operators have put below `shared/` before the first deploy: no deploy may change it.
//!
//! Each entry at which the drop-down rule decides is here for one of its cases: see `app.rs`.

use super::Content;
use super::tree::noise;

/// One entry below `shared/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedEntry {
    /// Path below `shared/`, without a leading slash; any bytes but NUL.
    pub path: Vec<u8>,
    /// What stands there.
    pub content: Content,
}

/// The user data, each directory listed, parents before children.
pub fn shared_data() -> Vec<SharedEntry> {
    vec![
        // The application has nothing here until release 4: linked whole, then dropped into.
        directory(0o755, ".well-known"),
        file(0o644, ".well-known/security.txt", "Contact: mailto:harbour@example.org\n"),
        directory(0o755, ".well-known/acme-challenge"),
        file(0o644, ".well-known/acme-challenge/qL7_x-2", "qL7_x-2.c1Vd0"),
        // Always a directory in the application: its entries are linked one by one, a link like any other.
        directory(0o755, "config"),
        link("config/active.env", "local.env"),
        file(0o600, "config/local.env", "DB_PASSWORD='correct horse'\nDB_NAME=lanternfish\n"),
        // Awkward at the very place where a link must be made.
        directory(0o755, "guests' \"best\" photos"),
        file(0o644, "guests' \"best\" photos/1931 Perch.jpg", photo(7, 3_000)),
        directory(0o755, "public"),
        file(0o644, b"public/caf\xe9 menu\n(old).txt", "Tea, and tea.\n"),
        directory(0o755, "public/downloads"),
        file(0o644, "public/downloads/brochure.pdf", [b"%PDF-1.4\n".to_vec(), noise(8, 5_000)].concat()),
        file(0o644, "public/maintenance.html", "<p>Back at high water. (The operator's own page.)</p>\n"),
        file(0o644, "public/notice", "The slip is slippery.\n"),
        file(0o644, "public/robots.txt", "User-agent: *\nDisallow: /\n"),
        // The application comes into this directory in release 2 and leaves it in release 5.
        directory(0o755, "storage"),
        directory(0o755, "storage/logs"),
        link("storage/logs/latest.log", "production.log"),
        file(0o640, "storage/logs/production.log", log()),
        file(0o444, "storage/logs/production.log.1", ""),
        directory(0o755, "storage/queue"),
        directory(0o755, "storage/uploads"),
        directory(0o755, "storage/uploads/2024"),
        file(0o644, b"storage/uploads/2024/caf\xe9.jpg", photo(3, 4_096)),
        file(0o644, "storage/uploads/2024/photo.jpg", photo(1, 70_000)),
        file(0o644, "storage/uploads/2024/summer party (1).jpg", photo(2, 9_001)),
        directory(0o2750, "storage/uploads/incoming"),
        file(0o600, "storage/uploads/incoming/it's \"raw\".tiff", noise(4, 12_345)),
        // Empty: nothing to link once the application has a directory of that name.
        directory(0o755, "tmp"),
    ]
}

fn file(mode: u32, path: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) -> SharedEntry {
    let content = Content::File { bytes: bytes.as_ref().to_vec(), mode };
    SharedEntry { path: path.as_ref().to_vec(), content }
}

fn directory(mode: u32, path: &str) -> SharedEntry {
    SharedEntry { path: path.into(), content: Content::Directory { mode } }
}

fn link(path: &str, target: &str) -> SharedEntry {
    SharedEntry { path: path.into(), content: Content::Symlink { target: target.into() } }
}

/// Begins and ends like a JPEG; in between, nobody looks.
fn photo(seed: u64, len: usize) -> Vec<u8> {
    let head = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00";
    let tail = b"\xff\xd9";
    [&head[..], &noise(seed, len - head.len() - tail.len()), tail].concat()
}

fn log() -> Vec<u8> {
    b"2024-03-04T08:15:00Z GET /boats 200\n".repeat(400)
}
