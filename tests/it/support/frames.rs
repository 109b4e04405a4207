//! HTTP/2 written by hand (RFC 9113, 4.1): whatever frames a test wants to send, and what comes back.
//!
//! Header blocks are HPACK literals that are never indexed (RFC 7541, 6.2.3), so that every byte of them is the test's.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::PATIENCE;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of a RST_STREAM or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block of these fields.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0x10);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541, 5.1).
pub(crate) fn length(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
        return;
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// The fields of a request to localhost, and more.
pub(crate) fn fields<'a>(method: &'a str, path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let pseudo = [(":method", method), (":scheme", "http"), (":authority", "localhost"), (":path", path)];
    pseudo.iter().chain(more).copied().collect()
}

/// A whole `GET`.
pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields("GET", path, &[])))
}

/// The first frame and its length, if all of it is there.
fn parsed(bytes: &[u8]) -> Option<(Frame, usize)> {
    let ([a, b, c, kind, flags, stream @ ..], rest) = bytes.split_first_chunk::<9>()?;
    let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
    let payload = rest.get(..length)?.to_vec();
    let frame = Frame { kind: *kind, flags: *flags, stream: u32::from_be_bytes(*stream), payload };
    Some((frame, 9 + length))
}

/// Reads to the end, which a reset is as well.
async fn hear(reader: &mut (impl AsyncRead + Unpin), heard: &mut Vec<u8>) {
    while matches!(reader.read_buf(heard).await, Ok(1..)) {}
}

/// One connection, whose frames are the test's.
pub(crate) struct Frames {
    stream: TcpStream,
    pending: Vec<u8>,
    /// Says that it is there when it is asked, which it is by [`Self::next`].
    pub(crate) answers_pings: bool,
}

impl Frames {
    /// Says the preface and settings of nothing.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::with(address, &[]).await
    }

    /// The same, with these settings (RFC 9113, 6.5.1).
    pub(crate) async fn with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut frames = Self { stream, pending: Vec::new(), answers_pings: true };
        let settings = settings
            .iter()
            .flat_map(|(name, value)| name.to_be_bytes().into_iter().chain(value.to_be_bytes()).collect::<Vec<_>>());
        frames.send(PREFACE).await;
        frames.send(frame(SETTINGS, 0, 0, &settings.collect::<Vec<_>>())).await;
        frames
    }

    /// Whether it was taken; a connection that is closed already is no error here.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Sends what `next` gives until the connection ends, and meanwhile reads what comes, or nothing. All that came.
    pub(crate) async fn flood(self, reads: bool, mut next: impl FnMut() -> Vec<u8>) -> Vec<Frame> {
        let Self { stream, pending, .. } = self;
        let (mut reader, mut writer) = stream.into_split();
        let mut heard = pending;
        let flooding = async {
            while writer.write_all(&next()).await.is_ok() {}
            writer
        };
        let both = async {
            if reads {
                let hearing = hear(&mut reader, &mut heard);
                let (writer, ()) = tokio::join!(flooding, hearing);
                drop(writer);
            } else {
                let writer = flooding.await;
                hear(&mut reader, &mut heard).await;
                drop(writer);
            }
        };
        tokio::time::timeout(PATIENCE, both).await.expect("the connection ends");
        let (mut all, mut at) = (Vec::new(), 0);
        while let Some((frame, length)) = parsed(&heard[at..]) {
            at += length;
            all.push(frame);
        }
        all
    }

    /// The next frame; `None` at the end of the connection, however it ended.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("a frame in time")
    }

    async fn read(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, length)) = parsed(&self.pending) {
                self.pending.drain(..length);
                if self.answers_pings && frame.kind == PING && frame.flags & ACK == 0 {
                    self.send(self::frame(PING, ACK, 0, &frame.payload)).await;
                }
                return Some(frame);
            }
            if !matches!(self.stream.read_buf(&mut self.pending).await, Ok(1..)) {
                return None;
            }
        }
    }

    /// The next frame of such a kind; what comes before it is dropped.
    pub(crate) async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        while let Some(frame) = self.next().await {
            if frame.kind == kind {
                return Some(frame);
            }
        }
        None
    }

    /// All frames until the connection ends.
    pub(crate) async fn until_end(&mut self) -> Vec<Frame> {
        let mut all = Vec::new();
        while let Some(frame) = self.next().await {
            all.push(frame);
        }
        all
    }

    /// Whether all that was sent so far has been dealt with and the connection goes on.
    pub(crate) async fn lives(&mut self) -> bool {
        self.send(frame(PING, 0, 0, b"a canary")).await;
        while let Some(frame) = self.next().await {
            if frame.kind == PING && frame.flags == ACK && frame.payload == b"a canary" {
                return true;
            }
        }
        false
    }
}
