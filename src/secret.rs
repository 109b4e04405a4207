//! Values that must never be seen: client secrets and access tokens.
//!
//! `Secret<T>` cannot be printed or cloned into places that nobody counts, takes as long to compare whatever is in it, and
//! its bytes are wiped when the last owner lets go. `Fingerprint` is what logs and pages show instead. This file must know nothing
//! else: not what a secret is for, nor where it came from.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use zeroize::{Zeroize, Zeroizing};

/// A value that cannot print and is wiped on drop.
///
/// There is no `Display`, no `Serialize` and no `Clone`; `Debug` says only that something is there.
pub struct Secret<T: Zeroize>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value itself. Every call is a place to review: what it yields must end in a header, a form or a digest.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl Secret<String> {
    /// A short name for this secret; see [`Fingerprint`].
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.expose().as_bytes())
    }
}

/// So that a setting that holds one can be compared with what it was.
impl PartialEq for Secret<String> {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.expose().as_bytes(), other.expose().as_bytes()).is_ok()
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The first 32 bits of a secret's SHA-256, as eight hexadecimal digits.
///
/// Enough to tell two tokens apart in a log, useless for anything else: a token carries at least 128 bits of entropy,
/// and 32 bits of its digest bring nobody nearer to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 4]);

impl Fingerprint {
    pub fn of(bytes: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, bytes);
        let mut first = [0; 4];
        first.copy_from_slice(&digest.as_ref()[..4]);
        Self(first)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_cannot_print() {
        let secret = Secret::new(String::from("canary"));
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "[secret] Some([secret])");
    }

    #[test]
    fn a_fingerprint_is_stable_and_short() {
        let secret = Secret::new(String::from("abc"));
        assert_eq!(secret.fingerprint().to_string(), "ba7816bf", "the first bytes of SHA-256(\"abc\"), FIPS 180-2 B.1");
    }
}
