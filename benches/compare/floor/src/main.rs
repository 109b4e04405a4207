//! A byte pump on tokio and rustls: find the end of the head, splice the bearer in, encrypt, write; find out how long the
//! answer is, and hand its bytes back. What another proxy costs above this is what it does with the request, and what its
//! HTTP library costs.
//!
//! It is no proxy to use. It knows no route and checks nothing, takes no chunked body and no second request before the
//! first is answered, has no timeout, and ends the connection at whatever it did not expect.
//!
//! `bench-floor PORT UPSTREAM_PORT NAME CA_FILE TOKEN_FILE`

use std::cell::RefCell;
use std::io::{Error, Result};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Bytes of a head, with the bearer on it, and of the body that comes along with it.
const HEAD: usize = 16 * 1024;
/// What the rest of a body is carried by.
const PIECE: usize = 64 * 1024;

/// What all connections share, in the one thread that there is.
struct Floor {
    /// The whole line, with its end.
    authorization: Vec<u8>,
    upstream: SocketAddr,
    name: ServerName<'static>,
    connector: TlsConnector,
    /// Open connections that nobody uses. The last one in is the first one out.
    idle: RefCell<Vec<TlsStream<TcpStream>>>,
    /// Buffers that nobody uses: a connection has one while it has a request.
    buffers: RefCell<Vec<Vec<u8>>>,
}

impl Floor {
    async fn connection(&self) -> Result<TlsStream<TcpStream>> {
        if let Some(open) = self.idle.borrow_mut().pop() {
            return Ok(open);
        }
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        self.connector.connect(self.name.clone(), stream).await
    }

    async fn serve(&self, mut app: TcpStream) -> Result<()> {
        app.set_nodelay(true)?;
        loop {
            app.readable().await?;
            let mut buffer = self.buffers.borrow_mut().pop().unwrap_or_else(|| vec![0; HEAD]);
            let goes_on = self.exchange(&mut app, &mut buffer).await?;
            self.buffers.borrow_mut().push(buffer);
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// One request and its answer; false if there is none.
    async fn exchange(&self, app: &mut TcpStream, buffer: &mut [u8]) -> Result<bool> {
        let spliced = self.authorization.len();
        // The request begins behind a gap which the line of the bearer fills.
        let (head, end) = head(app, buffer, spliced).await?;
        if end == spliced {
            return Ok(false);
        }
        let length = content_length(&buffer[spliced..head])?;
        let first_line = 1 + memchr::memchr(b'\n', &buffer[spliced..head]).ok_or_else(unexpected)?;
        buffer.copy_within(spliced..spliced + first_line, 0);
        buffer[first_line..first_line + spliced].copy_from_slice(&self.authorization);

        let mut upstream = self.connection().await?;
        upstream.write_all(&buffer[..end]).await?;
        let rest = length.checked_sub(end - head).ok_or_else(unexpected)?;
        carry(app, &mut upstream, rest).await?;
        upstream.flush().await?;

        let (head, end) = head_of_answer(&mut upstream, buffer).await?;
        let length = content_length(&buffer[..head])?;
        app.write_all(&buffer[..end]).await?;
        let rest = length.checked_sub(end - head).ok_or_else(unexpected)?;
        carry(&mut upstream, app, rest).await?;
        self.idle.borrow_mut().push(upstream);
        Ok(true)
    }
}

fn unexpected() -> Error {
    Error::other("not what the floor is for")
}

/// Reads behind `start` until a head is whole: where it ends, and where what was read ends, which is `start` if there is
/// nothing more to come.
async fn head(from: &mut (impl AsyncReadExt + Unpin), buffer: &mut [u8], start: usize) -> Result<(usize, usize)> {
    let mut end = start;
    loop {
        let more = from.read(&mut buffer[end..]).await?;
        if more == 0 {
            return if end == start { Ok((end, end)) } else { Err(unexpected()) };
        }
        // The end may have come in pieces.
        let seen = end.saturating_sub(3).max(start);
        end += more;
        if let Some(found) = memchr::memmem::find(&buffer[seen..end], b"\r\n\r\n") {
            return Ok((seen + found + 4, end));
        }
    }
}

async fn head_of_answer(upstream: &mut TlsStream<TcpStream>, buffer: &mut [u8]) -> Result<(usize, usize)> {
    let (head, end) = head(upstream, buffer, 0).await?;
    if end == 0 { Err(unexpected()) } else { Ok((head, end)) }
}

/// Bytes of the body behind a head: none where it does not say.
fn content_length(head: &[u8]) -> Result<usize> {
    const NAME: &[u8] = b"content-length:";
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', head) {
        let line = &head[start..end];
        if line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
            let value = std::str::from_utf8(&line[NAME.len()..]).map_err(|_| unexpected())?;
            return value.trim().parse().map_err(|_| unexpected());
        }
        start = end + 1;
    }
    Ok(0)
}

/// Hands so many bytes on.
async fn carry(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut rest: usize,
) -> Result<()> {
    if rest == 0 {
        return Ok(());
    }
    let mut buffer = vec![0; PIECE];
    while rest > 0 {
        let most = rest.min(PIECE);
        let piece = from.read(&mut buffer[..most]).await?;
        if piece == 0 {
            return Err(unexpected());
        }
        to.write_all(&buffer[..piece]).await?;
        rest -= piece;
    }
    Ok(())
}

async fn run(arguments: &[String]) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let [port, upstream_port, name, ca_file, token_file] = arguments else {
        return Err("PORT UPSTREAM_PORT NAME CA_FILE TOKEN_FILE".into());
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca_file)?)?;
    let tls = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(roots)
        .with_no_client_auth();
    let token = std::fs::read_to_string(token_file)?;
    let floor = Rc::new(Floor {
        authorization: format!("Authorization: Bearer {token}\r\n").into_bytes(),
        upstream: SocketAddr::from(([127, 0, 0, 1], upstream_port.parse()?)),
        name: ServerName::try_from(name.clone())?,
        connector: TlsConnector::from(Arc::new(tls)),
        idle: RefCell::default(),
        buffers: RefCell::default(),
    });
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port.parse()?))).await?;
    loop {
        let (app, _) = listener.accept().await?;
        let floor = floor.clone();
        tokio::task::spawn_local(async move { floor.serve(app).await });
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, run(&arguments))
}
