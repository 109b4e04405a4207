//! Both ends in HTTP/1.1, in bytes.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Desk;
use super::exchange::{Exchange, Fields, Framing};
use super::sight::{self, Body, Message};
use crate::reliability::wire::{self, Head, Wire, parts};
use crate::support::PATIENCE;

/// An app that keeps its connection for as long as it may.
pub(super) struct App {
    address: SocketAddr,
    connection: Option<Wire>,
}

impl App {
    pub(super) fn of(address: SocketAddr) -> Self {
        Self { address, connection: None }
    }

    /// The answer, and the statuses of those before it.
    pub(super) async fn ask(&mut self, exchange: &Exchange, absolute: bool) -> (Vec<u16>, Message) {
        let asking = self.asked(exchange, absolute);
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("no answer to {exchange}"))
    }

    async fn asked(&mut self, exchange: &Exchange, absolute: bool) -> (Vec<u16>, Message) {
        let mut wire = match self.connection.take() {
            Some(wire) => wire,
            None => Wire::connect(self.address).await,
        };
        let request = &exchange.request;
        let target =
            if absolute { format!("http://{}{}", exchange.authority, request.target) } else { request.target.clone() };
        let host = if absolute { exchange.authority.clone() } else { self.address.to_string() };
        let start = format!("{} {target} HTTP/1.1\r\nHost: {host}", request.method);
        // An API that closes its connection said so before.
        wire.send(&bytes(&start, &request.fields, &request.framing, &request.body, &request.trailers)).await.unwrap();
        let mut interim = Vec::new();
        let head = loop {
            let head = wire.head().await.unwrap().unwrap_or_else(|| panic!("no answer to {exchange}"));
            if !(100..200).contains(&head.status()) {
                break head;
            }
            interim.push(head.status());
        };
        let has_none = request.method == "HEAD" || matches!(head.status(), 204 | 304);
        let is_framed = head.only(b"content-length").is_some() || head.only(b"transfer-encoding").is_some();
        let mut answer = message(&head, true);
        let mut stays = !answer.all("connection").any(|value| value.eq_ignore_ascii_case("close"));
        if !has_none && !is_framed {
            answer.body = Body(wire.rest().await.unwrap());
            answer.ends_with_connection = true;
            stays = false;
        } else if !has_none {
            let body = wire.body(&head).await.unwrap_or_else(|error| panic!("{error} in the answer to {exchange}"));
            answer.take(body);
        }
        stays &= answer.version == "1.1";
        self.connection = stays.then_some(wire);
        (interim, answer)
    }
}

/// The API's side of a connection: notes what comes and says what the desk says.
pub(super) async fn serve(mut wire: Wire, desk: Arc<Desk>) {
    while let Ok(Some(head)) = wire.head().await {
        let mut seen = message(&head, false);
        if head.only(b"expect").is_some() && wire.send(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
            return;
        }
        let Ok(body) = wire.body(&head).await else { return };
        seen.take(body);
        desk.seen.lock().unwrap().push(seen);
        let exchange = desk.next.lock().unwrap().clone().unwrap();
        let answer = &exchange.answer;
        let mut sent: Vec<u8> = Vec::new();
        for status in &answer.interim {
            sent.extend(format!("HTTP/1.1 {status} Interim\r\nLink: </style.css>; rel=preload\r\n\r\n").bytes());
        }
        let version = if answer.is_old { "1.0" } else { "1.1" };
        let mut start = format!("HTTP/{version} {} {}", answer.status, answer.phrase);
        if answer.closes() && !answer.is_old {
            start.push_str("\r\nConnection: close");
        }
        let mut framed = bytes(&start, &answer.fields, &answer.framing, &answer.body, &answer.trailers);
        if exchange.request.method == "HEAD" {
            // Its head says what that of a GET would say, and nothing stands behind it.
            let end = framed.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
            framed.truncate(end + 4);
        }
        sent.extend(framed);
        if wire.send(&sent).await.is_err() {
            return;
        }
        if answer.closes() {
            wire.finish(false).await;
            return;
        }
    }
}

fn message(head: &Head, is_answer: bool) -> Message {
    let line = str::from_utf8(head.first_line()).unwrap();
    let (version, start) = if is_answer {
        line.split_once(' ').unwrap()
    } else {
        let (start, version) = line.rsplit_once(' ').unwrap();
        (version, start)
    };
    Message {
        version: version.strip_prefix("HTTP/").unwrap().to_owned(),
        start: start.to_owned(),
        fields: head.fields().map(field).collect(),
        ..Message::default()
    }
}

fn field((name, value): (&[u8], &[u8])) -> (String, String) {
    (String::from_utf8(name.to_owned()).unwrap(), value.escape_ascii().to_string())
}

impl Message {
    fn take(&mut self, body: wire::Body) {
        self.trailers = body.trailers.iter().map(|line| field(parts(line))).collect::<sight::Fields>();
        (self.body, self.has_extensions) = (Body(body.data), body.has_extensions);
    }
}

/// A whole message.
fn bytes(start: &str, fields: &Fields, framing: &Framing, body: &[u8], trailers: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = format!("{start}\r\n").into_bytes();
    let line = |(name, value): &(String, Vec<u8>)| [name.as_bytes(), b": ", value, b"\r\n"].concat();
    bytes.extend(fields.iter().flat_map(line));
    match framing {
        Framing::None => {}
        Framing::Length => bytes.extend(format!("Content-Length: {}\r\n", body.len()).bytes()),
        Framing::Chunks { .. } => bytes.extend(b"Transfer-Encoding: chunked\r\n"),
    }
    bytes.extend(b"\r\n");
    match framing {
        Framing::None | Framing::Length => bytes.extend(body),
        Framing::Chunks { sizes, extension } => {
            let mut rest = body;
            for size in sizes {
                let (piece, after) = rest.split_at(*size);
                rest = after;
                bytes.extend(format!("{size:x}{extension}\r\n").bytes());
                bytes.extend([piece, b"\r\n"].concat());
            }
            assert!(rest.is_empty());
            bytes.extend(b"0\r\n");
            bytes.extend(trailers.iter().flat_map(line));
            bytes.extend(b"\r\n");
        }
    }
    bytes
}
