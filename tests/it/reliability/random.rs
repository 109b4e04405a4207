//! What may stand in a head, at random.
//!
//! Must never make what no peer may send: these are for proofs about lawful messages.

use fastrand::Rng;

/// A line, its name in some mixture of cases and its value with some space around.
pub(super) fn field(random: &mut Rng, name: &str, value: &[u8]) -> Vec<u8> {
    let name = spelt(random, name);
    [name.as_bytes(), b":", space(random), value, space(random), b"\r\n"].concat()
}

/// A name in some mixture of cases.
pub(super) fn spelt(random: &mut Rng, name: &str) -> String {
    match random.u8(..3) {
        0 => name.to_owned(),
        1 => name.to_ascii_lowercase(),
        _ => {
            name.chars().map(|c| if random.bool() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }).collect()
        }
    }
}

pub(super) fn space(random: &mut Rng) -> &'static [u8] {
    random.choice([&b""[..], b" ", b" ", b"\t", b" \t  "]).unwrap()
}

/// A field name that may be anything (RFC 9110, 5.6.2), and is none that has a meaning.
pub(super) fn word(random: &mut Rng) -> String {
    const CHARACTERS: &[u8] = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let length = random.usize(1..12);
    let word = (0..length).map(|_| char::from(random.choice(CHARACTERS).copied().unwrap()));
    word.chain("-z".chars()).collect()
}

/// A field value that may be anything (RFC 9110, 5.5): what can be seen, and all bytes beyond ASCII.
pub(super) fn text(random: &mut Rng) -> Vec<u8> {
    let length = random.usize(..40);
    let any = |random: &mut Rng| match random.u8(..20) {
        0 => b' ',
        1 => b'\t',
        2..5 => random.u8(0x80..),
        _ => random.u8(0x21..0x7f),
    };
    (0..length).map(|_| any(random)).collect()
}
