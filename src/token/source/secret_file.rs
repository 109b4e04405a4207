//! Reads a secret from a file. A trailing newline is an editor's and not part of it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::secret::Secret;

/// Why a secret file holds no secret. The message names the file and never its content.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("{}: {}", path.display(), error.kind())]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("{}: the file is empty", .0.display())]
    Empty(PathBuf),
    #[error("{}: the file is longer than {MAX} bytes", .0.display())]
    TooLong(PathBuf),
    #[error("{}: the file is not UTF-8 text", .0.display())]
    NotText(PathBuf),
}

/// The longest secret that makes sense: a JWT of a workload identity is some 2 KiB.
const MAX: usize = 64 * 1024;

/// # Errors
/// The file cannot be read, is empty, longer than 64 KiB, or not UTF-8.
pub fn read(path: &Path) -> Result<Secret<String>, SecretError> {
    let unreadable = |error| SecretError::Unreadable { path: path.to_owned(), error };
    // Room for the longest, at once: a buffer that grows leaves copies of a secret behind in freed memory.
    let mut content = Zeroizing::new(Vec::with_capacity(MAX + 1));
    File::open(path).map_err(unreadable)?.take(MAX as u64 + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() > MAX {
        return Err(SecretError::TooLong(path.to_owned()));
    }
    let text = std::str::from_utf8(&content).map_err(|_| SecretError::NotText(path.to_owned()))?;
    let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() {
        return Err(SecretError::Empty(path.to_owned()));
    }
    Ok(Secret::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_of(content: &[u8]) -> Result<String, String> {
        let path = std::env::temp_dir().join(format!("bearerd-secret-{}-{}", std::process::id(), fastrand::u64(..)));
        std::fs::write(&path, content).unwrap();
        let secret = read(&path);
        std::fs::remove_file(&path).unwrap();
        secret.map(|secret| secret.expose().clone()).map_err(|error| error.to_string())
    }

    #[test]
    fn one_trailing_newline_is_not_part_of_it() {
        for (content, secret) in [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a ")] {
            assert_eq!(read_of(content.as_bytes()).unwrap(), secret, "{content:?}");
        }
    }

    #[test]
    fn what_is_no_secret_is_named() {
        for (content, problem) in
            [(&b""[..], "empty"), (b"\n", "empty"), (b"\xff\xfe", "not UTF-8"), (&[b'a'; MAX + 1], "longer")]
        {
            let error = read_of(content).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        assert_eq!(read(Path::new("/nowhere/secret")).unwrap_err().to_string(), "/nowhere/secret: entity not found");
    }
}
