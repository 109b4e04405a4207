//! A length, then what passes on a WebSocket → where its messages end: the same places, however it is cut.

#![no_main]

use bearerd::wire::frames::Messages;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let whole = passed(bytes, bytes.len().max(1));
    for size in [1, usize::from(*size).max(1)] {
        assert_eq!(passed(bytes, size), whole, "in pieces of {size}");
    }
    let mut all = Messages::default();
    all.pass_all(bytes);
    assert_eq!((all.is_between(), all.have_closed()), (whole.1, whole.2));
    assert!(!(all.is_between() && all.have_closed()));
});

/// The ends of messages, and the state at the end.
fn passed(bytes: &[u8], size: usize) -> (Vec<usize>, bool, bool) {
    let (mut messages, mut ends, mut at) = (Messages::default(), Vec::new(), 0);
    for piece in bytes.chunks(size) {
        let mut rest = piece;
        while !rest.is_empty() {
            let some = messages.pass(rest);
            assert!((1..=rest.len()).contains(&some), "{some} of {}", rest.len());
            assert!(some == rest.len() || messages.is_between());
            rest = &rest[some..];
            at += some;
            if messages.is_between() {
                ends.push(at);
            }
        }
    }
    (ends, messages.is_between(), messages.have_closed())
}
