//! Messages read in bytes, cheaply enough for a million of them, and an API that is made of them.
//!
//! Must never be kinder than a strict peer: a head that is not what it should be ends the test.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::support::PATIENCE;

/// One end of a connection, and what came over it and was not taken yet.
pub(super) struct Wire {
    link: Link,
    unread: BytesMut,
}

enum Link {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A message's first line and fields, as they came.
pub(super) struct Head(Bytes);

/// What stands behind a head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) data: Vec<u8>,
    /// The fields behind the last chunk, line by line.
    pub(super) trailers: Vec<Bytes>,
    /// A chunk said more than its size.
    pub(super) has_extensions: bool,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        // A head and a body that are sent one after the other do not wait for an acknowledgement in between.
        stream.set_nodelay(true).unwrap();
        Self { link: Link::Plain(stream), unread: BytesMut::with_capacity(16 * 1024) }
    }

    /// The server's end, after the handshake.
    ///
    /// # Errors
    /// It came to none.
    pub(super) async fn shake_hands(self, config: Arc<ServerConfig>) -> io::Result<Self> {
        let Link::Plain(stream) = self.link else { panic!("once") };
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        Ok(Self { link: Link::Tls(Box::new(stream.into())), ..self })
    }

    /// The client's, where the server is called localhost.
    ///
    /// # Errors
    /// The same.
    pub(super) async fn shake_hands_with(self, config: Arc<ClientConfig>) -> io::Result<Self> {
        let Link::Plain(stream) = self.link else { panic!("once") };
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Ok(Self { link: Link::Tls(Box::new(stream.into())), ..self })
    }

    /// What is below TLS.
    pub(super) fn tcp(&self) -> &TcpStream {
        match &self.link {
            Link::Plain(stream) => stream,
            Link::Tls(stream) => stream.get_ref().0,
        }
    }

    /// What is below, where nothing was read yet.
    pub(super) fn into_tcp(self) -> TcpStream {
        assert!(self.unread.is_empty());
        match self.link {
            Link::Plain(stream) => stream,
            Link::Tls(_) => panic!("TLS is above it"),
        }
    }

    /// Ends our side by FIN, with a close_notify before it if there is TLS; `rudely`, without one.
    pub(super) async fn finish(&mut self, rudely: bool) {
        // Whoever left first needs no end.
        let _ = match &mut self.link {
            Link::Plain(stream) => stream.shutdown().await,
            Link::Tls(stream) if rudely => stream.get_mut().0.shutdown().await,
            Link::Tls(stream) => stream.shutdown().await,
        };
    }

    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.unwrap())
    }

    /// # Errors
    /// The peer is gone.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.link {
            Link::Plain(stream) => stream.write_all(bytes).await,
            Link::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// The next message's head, or the error or end that came instead.
    pub(super) async fn head(&mut self) -> io::Result<Option<Head>> {
        let mut looked_at = 0;
        loop {
            let from = usize::saturating_sub(looked_at, 3);
            if let Some(end) = self.unread[from..].windows(4).position(|window| window == b"\r\n\r\n") {
                return Ok(Some(Head(self.unread.split_to(from + end + 4).freeze())));
            }
            looked_at = self.unread.len();
            if !self.more().await? {
                return if self.unread.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// What stands behind it: as long as it says, or in chunks, or nothing.
    pub(super) async fn body(&mut self, head: &Head) -> io::Result<Body> {
        let mut body = Body { data: Vec::new(), trailers: Vec::new(), has_extensions: false };
        if head.only(b"transfer-encoding").is_some() {
            assert_eq!(head.only(b"content-length"), None, "{head:?}");
            loop {
                let line = self.line().await?;
                let size = line.split(|byte| *byte == b';').next().unwrap();
                body.has_extensions |= size.len() < line.len();
                let size = usize::from_str_radix(str::from_utf8(size).unwrap(), 16).unwrap();
                if size == 0 {
                    break;
                }
                body.data.extend_from_slice(&self.exactly(size).await?);
                assert_eq!(self.line().await?, "", "{head:?}");
            }
            loop {
                let line = self.line().await?;
                if line.is_empty() {
                    break;
                }
                body.trailers.push(line);
            }
        } else if let Some(length) = head.only(b"content-length") {
            let length = str::from_utf8(length).unwrap().parse().unwrap();
            body.data = self.exactly(length).await?.to_vec();
        }
        Ok(body)
    }

    /// All that comes until the peer ends its side.
    pub(super) async fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.more().await? {}
        Ok(self.unread.split().to_vec())
    }

    /// The next line, without its end.
    pub(super) async fn line(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|window| window == b"\r\n") {
                let line = self.unread.split_to(end).freeze();
                self.unread.advance(2);
                return Ok(line);
            }
            if !self.more().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The next so many bytes.
    pub(super) async fn exactly(&mut self, length: usize) -> io::Result<Bytes> {
        while self.unread.len() < length {
            if !self.more().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.unread.split_to(length).freeze())
    }

    /// All that comes until the peer ends, in whatever way.
    pub(super) async fn leftovers(&mut self) -> Vec<u8> {
        let reading = async { while self.more().await.unwrap_or(false) {} };
        tokio::time::timeout(PATIENCE, reading).await.expect("the connection ends");
        self.unread.split().to_vec()
    }

    /// Reads something; `false` at the end.
    async fn more(&mut self) -> io::Result<bool> {
        let read = match &mut self.link {
            Link::Plain(stream) => stream.read_buf(&mut self.unread).await?,
            Link::Tls(stream) => stream.read_buf(&mut self.unread).await?,
        };
        Ok(read > 0)
    }
}

impl Head {
    pub(super) fn first_line(&self) -> &[u8] {
        self.lines().next().unwrap()
    }

    /// Of a request, the word after the method.
    pub(super) fn target(&self) -> &str {
        let mut words = self.first_line().split(|byte| *byte == b' ');
        str::from_utf8(words.nth(1).unwrap()).unwrap()
    }

    /// Of an answer.
    pub(super) fn status(&self) -> u16 {
        self.target().parse().unwrap()
    }

    /// Names as they were spelt, values without the space around.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines().skip(1).map(parts)
    }

    /// A field's value, which may not stand twice.
    pub(super) fn only(&self, name: &[u8]) -> Option<&[u8]> {
        let mut values = self.fields().filter(|(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let value = values.next();
        assert!(values.next().is_none(), "twice in {self:?}");
        value
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.0[..self.0.len() - 4].split(|byte| *byte == b'\n');
        lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// A field's name as it was spelt, and its value without the space around.
pub(super) fn parts(line: &[u8]) -> (&[u8], &[u8]) {
    let colon = line.iter().position(|byte| *byte == b':');
    let colon = colon.unwrap_or_else(|| panic!("no field: {}", line.escape_ascii()));
    (&line[..colon], line[colon + 1..].trim_ascii())
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.escape_ascii().to_string())
    }
}

/// Listens on a port of 127.0.0.1. A thousand requests that wait for a token have hundreds of connections made at once, and
/// one that finds no place among the 128 that std asks for tries again after a second.
pub(super) fn listen() -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    socket.listen(1024).unwrap()
}

/// An API on plain TCP that does `serve` with every connection. Dropped, it is gone with all of them.
pub(super) struct Api {
    pub(super) address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Api {
    pub(super) async fn start<F>(serve: impl Fn(Wire) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::on(listen(), serve)
    }

    /// The same on a listener of the test's own.
    pub(super) fn on<F>(listener: TcpListener, serve: impl Fn(Wire) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => connections.spawn(serve(Wire::new(accepted.unwrap().0))),
                    Some(ended) = connections.join_next() => {
                        told(ended);
                        continue;
                    }
                };
            }
        });
        Self { address, serving }
    }

    /// Never comes back, and panics when a connection does: that is how an API says what is wrong.
    pub(super) async fn lives<T>(&mut self) -> T {
        told((&mut self.serving).await);
        panic!("it serves for as long as the test lasts");
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        // One that found something wrong was gone for the rest of the test, and may not go unnoticed.
        assert!(!self.serving.is_finished() || std::thread::panicking(), "a connection of the API panicked");
        self.serving.abort();
    }
}

/// What a task came to; its panic goes on here, without being told twice.
pub(super) fn told<T>(ended: Result<T, JoinError>) -> T {
    ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
