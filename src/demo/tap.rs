//! Sits between the app and the proxy and notes how each connection began: the head of its first request as the app sent
//! it, the head of the answer, and the account of a problem if the answer is one (RFC 9457).
//!
//! What goes through is passed on byte for byte. Must never know what the proxy makes of it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::log::Log;
use super::script::held;

/// A longer head is not worth showing.
const MOST: usize = 8 * 1024;

/// A longer account of a problem is not worth reading.
const MOST_BODY: usize = 1024;

/// The first exchange over a connection.
#[derive(Clone, Debug)]
pub struct Tapped {
    /// The head of the request, with its empty line.
    pub request: String,
    /// The head of the final answer, with its empty line; empty if none came.
    pub answer: String,
    /// The beginning of the body, if the answer is a problem.
    pub problem: String,
}

/// Passes connections on and remembers how they began.
pub struct Tap {
    /// In the order of the answers. Whoever has its answer is in here.
    pub exchanges: Arc<Log<Tapped>>,
}

impl Tap {
    /// Accepts on `listener` and passes on to `to`, on the current runtime, for as long as that lives.
    pub fn start(listener: TcpListener, to: SocketAddr) -> Self {
        let exchanges = Arc::new(Log::new());
        let noted = Arc::clone(&exchanges);
        tokio::spawn(async move {
            while let Ok((app, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                // A connection that breaks is between the app and the proxy.
                tokio::spawn(async move { drop(pass(app, to, &noted).await) });
            }
        });
        Self { exchanges }
    }
}

async fn pass(mut app: TcpStream, to: SocketAddr, noted: &Log<Tapped>) -> std::io::Result<()> {
    let mut proxy = TcpStream::connect(to).await?;
    let ((mut app_reads, mut app_writes), (mut proxy_reads, mut proxy_writes)) = (app.split(), proxy.split());
    let sent = Mutex::new(Vec::new());
    let up = relay(&mut app_reads, &mut proxy_writes, |bytes| {
        let mut sent = held(&sent);
        let room = MOST.saturating_sub(sent.len());
        sent.extend_from_slice(&bytes[..bytes.len().min(room)]);
    });
    let mut answer = Some(Vec::new());
    let down = relay(&mut proxy_reads, &mut app_writes, |bytes| {
        let Some(so_far) = &mut answer else { return };
        so_far.extend_from_slice(bytes);
        let sent = held(&sent);
        if let Some(exchange) = exchange(&sent, so_far, bytes.is_empty()) {
            noted.push(exchange);
            answer = None;
        }
    });
    tokio::try_join!(up, down)?;
    Ok(())
}

/// Passes on until the end, shown every piece before it goes, and an empty one at the end.
async fn relay(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut show: impl FnMut(&[u8]),
) -> std::io::Result<()> {
    let mut piece = vec![0; MOST];
    loop {
        let length = from.read(&mut piece).await?;
        show(&piece[..length]);
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&piece[..length]).await?;
    }
}

/// What can be told of an exchange; `None` while there is more to come.
fn exchange(sent: &[u8], answer: &[u8], over: bool) -> Option<Tapped> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let request = &sent[..head(sent).unwrap_or(sent.len())];
    let mut rest = answer;
    let head = loop {
        let head = match head(rest) {
            Some(end) => end,
            // A connection that was opened for nothing is no exchange.
            None if over && request.is_empty() => return None,
            None if over || rest.len() >= MOST => rest.len(),
            None => return None,
        };
        // `100 Continue` and its like announce the answer.
        if !rest.starts_with(b"HTTP/1.1 1") || head == rest.len() && over {
            break head;
        }
        rest = &rest[head..];
    };
    let (head, body) = rest.split_at(head);
    let whole = if request.starts_with(b"HEAD ") { 0 } else { problem_length(&text(head)) };
    if body.len() < whole && !over {
        return None;
    }
    Some(Tapped { request: text(request), answer: text(head), problem: text(&body[..whole.min(body.len())]) })
}

/// Where the head ends, with its empty line.
fn head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|start| start + 4)
}

/// How much of the body is worth noting.
fn problem_length(head: &str) -> usize {
    let length = header(head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    match header(head, "content-type") {
        Some("application/problem+json") => length.min(MOST_BODY),
        _ => 0,
    }
}

/// The first value of a header in a head.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody";
    const PROBLEM: &str =
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json\r\nContent-Length: 4\r\n\r\n";

    #[test]
    fn the_final_answer_is_what_counts() {
        assert!(exchange(SENT, b"HTTP/1.1 200 OK\r\n", false).is_none());
        assert!(exchange(SENT, b"HTTP/1.1 100 Continue\r\n\r\n", false).is_none());
        let done = exchange(SENT, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx", false).unwrap();
        assert_eq!(done.request, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((done.answer.as_str(), done.problem.as_str()), ("HTTP/1.1 200 OK\r\n\r\n", ""));
    }

    #[test]
    fn a_problem_is_read_to_its_end() {
        assert!(exchange(SENT, PROBLEM.as_bytes(), false).is_none());
        let done = exchange(SENT, format!("{PROBLEM}{{..}}HTTP/1.1").as_bytes(), false).unwrap();
        assert_eq!((done.answer.as_str(), done.problem.as_str()), (PROBLEM, "{..}"));
        // There is no body to wait for.
        assert!(exchange(b"HEAD / HTTP/1.1\r\n\r\n", PROBLEM.as_bytes(), false).is_some());
    }

    #[test]
    fn an_end_is_an_end() {
        assert!(exchange(b"", b"", true).is_none());
        assert_eq!(exchange(SENT, b"", true).unwrap().answer, "");
        assert_eq!(exchange(SENT, b"HTTP/1.1 100 Continue\r\n\r\n", true).unwrap().problem, "");
        assert_eq!(exchange(SENT, PROBLEM.as_bytes(), true).unwrap().answer, PROBLEM);
    }
}
