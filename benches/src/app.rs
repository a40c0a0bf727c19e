//! An application to deploy: many small files, a few large ones, as source trees are.

use std::{fs, io, path::Path};

use tempfile::TempDir;

use crate::real_root;

/// Sizes of the files of one folder: with [`App::FOLDERS`] of them about 8 MiB.
const SIZES_BYTES: [usize; 20] = [
    96 << 10,
    16 << 10,
    16 << 10,
    16 << 10,
    1200,
    1200,
    1200,
    1200,
    1200,
    1200,
    1200,
    1200,
    1200,
    1200,
    1200,
    1200,
    1200,
    1200,
    1200,
    1200,
];

/// A tree of 1,000 files in 50 folders, in a directory of its own that goes with the value.
#[derive(Debug)]
pub struct App {
    dir: TempDir,
}

impl App {
    const FOLDERS: usize = 50;

    /// Writes it.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn create() -> io::Result<Self> {
        let dir = TempDir::with_prefix_in("cutover-benches-app-", real_root())?;
        let mut noise = Noise(1);
        for folder in 0..Self::FOLDERS {
            let at = dir.path().join(format!("folder-{folder:02}"));
            fs::create_dir(&at)?;
            for (n, size_bytes) in SIZES_BYTES.into_iter().enumerate() {
                fs::write(at.join(format!("file-{n:02}.bin")), noise.bytes(size_bytes))?;
            }
        }
        Ok(Self { dir })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// How many files it has.
    pub fn files() -> usize {
        Self::FOLDERS * SIZES_BYTES.len()
    }

    /// Bytes of content in all.
    pub fn content_bytes() -> u64 {
        (Self::FOLDERS * SIZES_BYTES.iter().sum::<usize>()) as u64
    }
}

/// Bytes that no compression and no search for zeros makes smaller: xorshift64.
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(count + 8);
        while out.len() < count {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            out.extend_from_slice(&self.0.to_le_bytes());
        }
        out.truncate(count);
        out
    }
}
