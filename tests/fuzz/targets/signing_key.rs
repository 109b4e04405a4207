//! A file with a private key, PEM or JWK → what it can sign with. An error says nothing of it.

#![no_main]

use bearerd::token::source::key::check;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match check(text) {
        // A private key never passes for a shared secret (RFC 8725, 2.1).
        Ok(algs) => assert!(!algs.is_empty() && !algs.iter().any(|alg| alg.is_hmac())),
        Err(error) => bearerd_fuzz::assert_tellable(&format!("{error} {error:?}"), 200),
    }
});
