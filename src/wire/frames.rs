//! Where the messages of a WebSocket end (RFC 6455, 5.2), told from the heads of its frames as they pass: what may be said
//! in between, and only there.
//!
//! Must never know what a message says: a payload is counted, and neither read nor unmasked.

use bytes::Bytes;

const FINAL: u8 = 0x80;
const OPCODE: u8 = 0x0F;
const CONTINUATION: u8 = 0;
const CLOSE: u8 = 8;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7F;

/// The longest head of a frame: two bytes, a length of eight and a mask of four.
const LONGEST: usize = 14;

/// RFC 6455, 7.4.1: 1001, "going away", such as a server that goes down.
const GOING_AWAY: [u8; 2] = 1001_u16.to_be_bytes();

/// One direction of a WebSocket.
#[derive(Debug, Default)]
pub struct Messages {
    head: [u8; LONGEST],
    /// How much of the head is there.
    come: usize,
    /// Bytes of the payload that are still to come.
    left: u64,
    /// A message has begun, and further frames of it are to come.
    fragmented: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// A Close frame passed: nothing that follows means anything (RFC 6455, 5.5.1).
    Closed,
    /// These are no frames, so no place is between two of them.
    Lost,
}

impl Messages {
    /// Takes note of what passes, up to the end of a message or to the last of it; yields how much that was.
    pub fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() && self.state == State::Open {
            if self.left > 0 {
                let some = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                self.left -= some as u64;
                rest = &rest[some..];
            } else {
                self.head[self.come] = rest[0];
                self.come += 1;
                rest = &rest[1..];
                self.measure();
            }
            if self.come == self.length() && self.left == 0 {
                self.end();
                if self.is_between() {
                    return bytes.len() - rest.len();
                }
            }
        }
        bytes.len()
    }

    /// Takes note of all of it.
    pub fn pass_all(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = &bytes[self.pass(bytes)..];
        }
    }

    /// Whether something may be said here: a message has ended, or none has begun.
    pub fn is_between(&self) -> bool {
        self.state == State::Open && self.come == 0 && !self.fragmented
    }

    /// Whether the side that these come from has said its last.
    pub fn have_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// How long the head is, by as much of it as is there.
    fn length(&self) -> usize {
        let [_, second, ..] = self.head;
        if self.come < 2 {
            return 2;
        }
        let extended = match second & LENGTH {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + extended + if second & MASKED == 0 { 0 } else { 4 }
    }

    /// Reads the length of the payload once the head is whole.
    fn measure(&mut self) {
        if self.come < 2 || self.come < self.length() {
            return;
        }
        let [first, second, a, b, rest @ ..] = &self.head;
        self.left = match second & LENGTH {
            126 => u64::from(u16::from_be_bytes([*a, *b])),
            127 => u64::from_be_bytes([*a, *b, rest[0], rest[1], rest[2], rest[3], rest[4], rest[5]]),
            short => u64::from(short),
        };
        let (is_final, is_control) = (first & FINAL != 0, first & OPCODE >= CLOSE);
        // RFC 6455, 5.4 and 5.5: what no endpoint sends, whatever extensions there are. A length beyond 63 bits (5.2) needs
        // no look: as a payload it never ends, so no place is between there either.
        let is_none = match is_control {
            true => !is_final || self.left > 125,
            false => (first & OPCODE == CONTINUATION) != self.fragmented,
        };
        if is_none {
            self.state = State::Lost;
        }
    }

    /// A frame has ended.
    fn end(&mut self) {
        let first = self.head[0];
        self.come = 0;
        if self.state == State::Open && first & OPCODE < CLOSE {
            self.fragmented = first & FINAL == 0;
        } else if self.state == State::Open && first & OPCODE == CLOSE {
            self.state = State::Closed;
        }
    }
}

/// A Close frame for a client.
pub fn close_for_client() -> Bytes {
    Bytes::from([&[FINAL | CLOSE, 2], &GOING_AWAY[..]].concat())
}

/// A Close frame for a server, which must be masked (RFC 6455, 5.3). Nothing in it was chosen by anybody, so its key need
/// not be one that nobody could guess.
pub fn close_for_server() -> Bytes {
    let key = fastrand::u32(..).to_be_bytes();
    let masked = [GOING_AWAY[0] ^ key[0], GOING_AWAY[1] ^ key[1]];
    Bytes::from([&[FINAL | CLOSE, MASKED | 2], &key[..], &masked].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with a payload of so many bytes.
    fn frame(first: u8, masked: bool, length: usize) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut frame = vec![first];
        match length {
            0..=125 => frame.push(mask | u8::try_from(length).unwrap()),
            126..=0xFFFF => {
                frame.push(mask | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            frame.extend([0xFF; 4]);
        }
        // What would be the head of a Close frame if it were one.
        frame.extend([0x88, 0].iter().cycle().take(length));
        frame
    }

    /// All places of these bytes that are between messages, when they come in pieces of so many.
    fn places(bytes: &[u8], piece: usize) -> (Vec<usize>, bool) {
        let (mut messages, mut places, mut at) = (Messages::default(), Vec::new(), 0);
        for piece in bytes.chunks(piece) {
            let mut rest = piece;
            while !rest.is_empty() {
                let passed = messages.pass(rest);
                at += passed;
                rest = &rest[passed..];
                if messages.is_between() {
                    places.push(at);
                }
            }
        }
        (places, messages.have_closed())
    }

    #[test]
    fn messages_end_where_their_last_frame_does_however_they_come() {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for masked in [false, true] {
            for length in [0, 1, 125, 126, 0xFFFF, 0x1_0000] {
                bytes.extend(frame(0x82, masked, length));
                ends.push(bytes.len());
            }
            // Text in three frames, compressed, with a ping in the middle of it that ends no message.
            for first in [0x41, 0x00, 0x89, 0x80] {
                bytes.extend(frame(first, masked, 7));
            }
            ends.push(bytes.len());
            for length in [0, 125] {
                bytes.extend(frame(0x8A, masked, length));
                ends.push(bytes.len());
            }
        }
        for piece in [1, 2, 3, 13, 4096, bytes.len()] {
            assert_eq!(places(&bytes, piece), (ends.clone(), false), "{piece}");
        }
    }

    #[test]
    fn what_passes_at_once_is_noted_like_what_passes_in_pieces() {
        let (ping, first, last) = (frame(0x89, false, 3), frame(0x01, true, 300), frame(0x80, true, 7));
        for (bytes, is_between, have_closed) in [
            (vec![], true, false),
            (ping.clone(), true, false),
            (first.clone(), false, false),
            ([&ping[..], &first, &ping].concat(), false, false),
            ([&ping[..], &first, &last].concat(), true, false),
            ([&first[..], &last, &ping[..4]].concat(), false, false),
            ([&ping[..], &frame(0x88, false, 2)].concat(), false, true),
        ] {
            let mut messages = Messages::default();
            messages.pass_all(&bytes);
            assert_eq!((messages.is_between(), messages.have_closed()), (is_between, have_closed), "{bytes:02x?}");
        }
    }

    #[test]
    fn nothing_is_said_behind_a_close_frame() {
        for close in [frame(0x88, false, 0), frame(0x88, true, 2), close_for_client().into(), close_for_server().into()]
        {
            let first = frame(0x81, true, 3);
            let bytes = [&first[..], &close, &first].concat();
            for piece in [1, bytes.len()] {
                assert_eq!(places(&bytes, piece), (vec![first.len()], true), "{piece}");
            }
        }
        // One that is not whole has not been said.
        assert_eq!(places(&frame(0x88, true, 20)[..25], 25), (vec![], false));
    }

    #[test]
    fn what_is_no_frame_has_no_place_between() {
        let huge = [&[0x82, 127][..], &[0xFF; 8]].concat();
        let mut ping = frame(0x09, false, 1);
        for bytes in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            huge,
            frame(0x89, false, 126),
            std::mem::take(&mut ping),
            frame(0x80, false, 1),
            [frame(0x01, false, 1), frame(0x01, false, 1)].concat(),
        ] {
            let more = [&bytes[..], &frame(0x81, false, 0).repeat(20)].concat();
            assert_eq!(places(&more, 3), (vec![], false), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_server_is_told_with_a_mask_and_a_client_without() {
        assert_eq!(*close_for_client(), [0x88, 2, 0x03, 0xE9]);
        // Whatever the key is.
        for _ in 0..100 {
            let [first, second, a, b, _, _, x, y] = <[u8; 8]>::try_from(&*close_for_server()).unwrap();
            assert_eq!((first, second, x ^ a, y ^ b), (0x88, 0x82, 0x03, 0xE9));
        }
    }
}
