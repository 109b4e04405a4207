//! Secrets, private keys, and the fingerprints that a key is found by.
//!
//! A complaint never repeats any of them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::problem::Complaint;
use crate::token::source::key::{self, Alg};

pub fn secret(text: &str) -> Result<(), Complaint> {
    if text.is_empty() {
        return Err(Complaint::new("the secret is empty"));
    }
    if text.chars().any(char::is_control) {
        let complaint = Complaint::new("the secret has a line break or another control character in it");
        return Err(complaint.hint("it must hold the secret alone, on one line"));
    }
    Ok(())
}

/// What it can sign with.
pub fn private_key(text: &str) -> Result<Vec<Alg>, Complaint> {
    key::check(text).map_err(|error| {
        let complaint = Complaint::new(format!("not a key that can sign: {error}"));
        match text.trim_start() {
            key if key.contains("ENCRYPTED") => {
                complaint.hint("it is encrypted; `openssl pkey -in KEY -out KEY.plain` takes the passphrase off")
            }
            key if key.contains("OPENSSH") => complaint.hint("`ssh-keygen -p -m PKCS8 -f KEY` writes it as PKCS#8"),
            key if key.contains("\"private_key\"") => {
                complaint.hint("it is a service account's JSON; `jq -r .private_key KEY.json` prints the key in it")
            }
            key if key.contains("CERTIFICATE-----") => complaint.hint("it is a certificate; the key is another file"),
            key if key.contains("PUBLIC KEY") => complaint.hint("it is the public half; the provider gets that one"),
            _ => complaint.hint("`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes one"),
        }
    })
}

pub fn x5t(text: &str) -> Result<(), Complaint> {
    thumbprint(text, 20, "SHA-1")
}

pub fn x5t_s256(text: &str) -> Result<(), Complaint> {
    thumbprint(text, 32, "SHA-256")
}

fn thumbprint(text: &str, bytes: usize, digest: &str) -> Result<(), Complaint> {
    if URL_SAFE_NO_PAD.decode(text).is_ok_and(|decoded| decoded.len() == bytes) {
        return Ok(());
    }
    let complaint = Complaint::new(format!("not the {digest} of a certificate in base64url"));
    let option = digest.to_ascii_lowercase().replace('-', "");
    Err(complaint.hint(format!(
        "`openssl x509 -in CERT -outform DER | openssl dgst -{option} -binary | basenc --base64url | tr -d =` prints it; \
         the hexadecimal thumbprint of a console is the same in other letters"
    )))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thumbprint_is_of_its_length() {
        assert!(super::x5t("AAAAAAAAAAAAAAAAAAAAAAAAAAA").is_ok());
        assert!(super::x5t_s256("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").is_ok());
        for text in ["", "AAAA", "0123456789abcdef0123456789abcdef01234567", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="] {
            assert!(super::x5t(text).is_err() && super::x5t_s256(text).is_err(), "{text}");
        }
    }
}
