//! Files that the program writes: whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file that takes its place only when it is complete. What is no plain file (a pipe, a device) is written straight.
pub(crate) enum Output {
    /// Beside the file that it will replace.
    Beside { file: BufWriter<NamedTempFile>, path: PathBuf },
    /// Straight.
    Straight(BufWriter<File>),
}

impl Output {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        // Through a link the file is replaced, not the link.
        let path = match fs::canonicalize(path) {
            Ok(real) if !fs::metadata(&real)?.is_file() => {
                return Ok(Self::Straight(BufWriter::new(File::options().write(true).open(real)?)));
            }
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_path_buf(),
            Err(error) => return Err(error),
        };
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        // As any new file: the umask takes away what the user does not want to give.
        let mode = fs::Permissions::from_mode(0o666);
        let file = tempfile::Builder::new().prefix(".cutover-trace-").permissions(mode).tempfile_in(dir);
        // Its errors name the temporary path, which means nothing to anybody.
        let file = file.map_err(|error| io::Error::from(error.kind()))?;
        Ok(Self::Beside { file: BufWriter::with_capacity(1 << 18, file), path })
    }

    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Self::Beside { file, path } => {
                let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.persist(path).map(drop).map_err(|error| error.error)
            }
            Self::Straight(mut file) => file.flush(),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Beside { file, .. } => file.write(bytes),
            Self::Straight(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Beside { file, .. } => file.flush(),
            Self::Straight(file) => file.flush(),
        }
    }
}
