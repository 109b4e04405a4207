//! An app that speaks in bytes: what a test says is what is sent, and what it reads is what came.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::PATIENCE;

/// One connection.
pub(crate) struct App<S = TcpStream> {
    stream: S,
    /// The Host that it sends where a test gives none.
    host: String,
    /// What came and was not read yet.
    pending: Vec<u8>,
}

/// An answer whose end was known: by its length, by its chunks, or by the end of the connection.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case, in order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The body came to the end that its framing promised.
    pub(crate) complete: bool,
}

impl App {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).await.unwrap())
    }

    /// By a connection that is there.
    pub(crate) fn of(stream: TcpStream) -> Self {
        // A head and a body that are sent one after the other do not wait for an acknowledgement in between.
        stream.set_nodelay(true).unwrap();
        let address = stream.peer_addr().unwrap();
        Self::over(stream, &address)
    }
}

impl App<UnixStream> {
    pub(crate) async fn connect_to(path: &Path) -> Self {
        Self::over(UnixStream::connect(path).await.unwrap(), &"localhost")
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> App<S> {
    /// Speaks over what is connected already.
    pub(crate) fn over(stream: S, host: &impl ToString) -> Self {
        Self { stream, host: host.to_string(), pending: Vec::new() }
    }

    /// Sends bytes as they are; a connection that is closed already is no error here.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Sends a head (`\n` stands for `\r\n`; Host and the empty line are put in) and reads the answer.
    pub(crate) async fn ask(&mut self, head: &str) -> Answer {
        self.send(self.head(head)).await;
        self.answer().await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1")).await
    }

    /// The bytes that [`Self::ask`] sends.
    pub(crate) fn head(&self, head: &str) -> String {
        let host = if head.to_ascii_lowercase().contains("\nhost:") {
            String::new()
        } else {
            format!("\nHost: {}", self.host)
        };
        format!("{head}{host}\n\n").replace('\n', "\r\n")
    }

    /// The next answer, whatever its framing; a `HEAD`'s is read with [`Self::answer_to_head`].
    pub(crate) async fn answer(&mut self) -> Answer {
        self.read_answer(true).await
    }

    pub(crate) async fn answer_to_head(&mut self) -> Answer {
        self.read_answer(false).await
    }

    async fn read_answer(&mut self, with_body: bool) -> Answer {
        tokio::time::timeout(PATIENCE, self.parse(with_body)).await.expect("an answer in time")
    }

    async fn parse(&mut self, with_body: bool) -> Answer {
        let head = loop {
            if let Some(end) = find(&self.pending, b"\r\n\r\n") {
                let head: Vec<u8> = self.pending.drain(..end + 4).collect();
                let head = String::from_utf8(head).unwrap();
                // 100 Continue is not the answer.
                if head.starts_with("HTTP/1.1 100") {
                    continue;
                }
                break head;
            }
            assert!(
                self.more().await,
                "the connection ended before an answer: {:?}",
                String::from_utf8_lossy(&self.pending)
            );
        };
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new(), complete: true };
        if !with_body || status == 204 || status == 304 || status == 101 {
            return answer;
        }
        match (answer.header("content-length"), answer.header("transfer-encoding")) {
            (Some(length), None) => {
                let length: usize = length.parse().unwrap();
                while self.pending.len() < length && self.more().await {}
                answer.complete = self.pending.len() >= length;
                answer.body = self.pending.drain(..length.min(self.pending.len())).collect();
            }
            (None, Some(_)) => answer.complete = self.chunks(&mut answer.body).await,
            (None, None) => {
                while self.more().await {}
                answer.body = std::mem::take(&mut self.pending);
            }
            (Some(_), Some(_)) => panic!("an answer framed twice: {head}"),
        }
        answer
    }

    /// Whether the last chunk came.
    async fn chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let Some(end) = find(&self.pending, b"\r\n") else {
                if self.more().await { continue } else { return false }
            };
            let size = std::str::from_utf8(&self.pending[..end]).unwrap();
            let size = usize::from_str_radix(size.split(';').next().unwrap().trim(), 16).unwrap();
            while self.pending.len() < end + 2 + size + 2 {
                if !self.more().await {
                    return false;
                }
            }
            body.extend(self.pending.drain(..end + 2 + size + 2).skip(end + 2).take(size));
            if size == 0 {
                return true;
            }
        }
    }

    /// Reads something; `false` at the end of the connection, however it ended.
    async fn more(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.pending).await, Ok(read) if read > 0)
    }

    /// Whether the proxy closes the connection without sending anything more.
    pub(crate) async fn is_closed(&mut self) -> bool {
        assert!(self.pending.is_empty(), "unread: {:?}", String::from_utf8_lossy(&self.pending));
        tokio::time::timeout(PATIENCE, self.more()).await.is_ok_and(|more| !more)
    }

    /// All that comes until the proxy ends the connection.
    pub(crate) async fn hears_until_end(&mut self) -> Vec<u8> {
        let ended = tokio::time::timeout(PATIENCE, async { while self.more().await {} }).await;
        assert!(ended.is_ok(), "open still, after {:?}", String::from_utf8_lossy(&self.pending));
        std::mem::take(&mut self.pending)
    }

    /// Takes the connection as it is.
    pub(crate) fn into_stream(self) -> S {
        self.stream
    }
}

impl Answer {
    /// The only value of a header; more than one is a failure of the test.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(one, _)| one == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert!(values.next().is_none(), "{name} stands twice in {:?}", self.headers);
        value
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// The word for why bearerd answered by itself, after checking that the answer says so in every way.
    pub(crate) fn reason(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert!(self.header("proxy-status").is_some_and(|value| value.starts_with("bearerd; error=")), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        for member in ["type", "title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member} of {problem}");
        }
        problem["reason"].as_str().expect("a reason").to_owned()
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
