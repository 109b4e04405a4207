//! The API's check of the credential on each request.
//!
//! Must never know what is answered.

use std::sync::Mutex;
use std::time::SystemTime;

use http::{HeaderMap, HeaderName};

use super::script::held;
use super::token::{Verdict, Verifier};
use crate::secret::Fingerprint;

pub(super) struct Gate {
    /// None lets every token in.
    pub verifier: Option<Verifier>,
    pub header: HeaderName,
    /// Empty when the header holds the token alone.
    pub scheme: String,
    /// Tokens that no provider signed and that are good all the same.
    pub accepted: Mutex<Vec<Fingerprint>>,
    pub rejected: Mutex<Vec<Rejection>>,
}

pub(super) struct Rejection {
    pub token: Fingerprint,
    /// None is for ever.
    pub times: Option<u32>,
}

pub(super) struct Judged {
    pub lines: usize,
    pub token: Option<Fingerprint>,
    pub verdict: Verdict,
}

impl Gate {
    pub(super) fn judge(&self, headers: &HeaderMap, now: SystemTime) -> Judged {
        let values = headers.get_all(&self.header);
        let lines = values.iter().count();
        let token = values.iter().next().and_then(|value| self.token(value.to_str().ok()?));
        let fingerprint = token.map(|token| Fingerprint::of(token.as_bytes()));
        let verdict = match (lines, token, fingerprint) {
            (0, ..) => Verdict::Missing,
            (1, Some(token), Some(fingerprint)) => self.verdict(token, fingerprint, now),
            (1, ..) => Verdict::Malformed,
            _ => Verdict::Doubled,
        };
        Judged { lines, token: fingerprint, verdict }
    }

    fn token<'a>(&self, value: &'a str) -> Option<&'a str> {
        if self.scheme.is_empty() {
            return Some(value);
        }
        // Exactly as spelt, for some gateways insist on it; two tokens on a line are none.
        let token = value.strip_prefix(self.scheme.as_str())?.strip_prefix(' ')?;
        (!token.is_empty() && !token.contains([' ', ','])).then_some(token)
    }

    fn verdict(&self, token: &str, fingerprint: Fingerprint, now: SystemTime) -> Verdict {
        let signed = match &self.verifier {
            Some(_) if held(&self.accepted).contains(&fingerprint) => Verdict::Good,
            Some(verifier) => verifier.verify(token, now),
            None => Verdict::Good,
        };
        if signed == Verdict::Good && self.takes_rejection(fingerprint) { Verdict::Rejected } else { signed }
    }

    fn takes_rejection(&self, token: Fingerprint) -> bool {
        let mut rejected = held(&self.rejected);
        let Some(at) = rejected.iter().position(|rejection| rejection.token == token) else { return false };
        if let Some(times) = &mut rejected[at].times {
            *times -= 1;
            if *times == 0 {
                rejected.remove(at);
            }
        }
        true
    }
}
