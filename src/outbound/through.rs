//! The TCP part of a connection: straight to the upstream, or by a tunnel through a forward proxy (RFC 9110, 9.3.6).
//!
//! The proxy learns where the tunnel leads and nothing else. Must never know TLS, nor what goes through.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tower_service::Service;

use super::lookup::Resolver;
use crate::wire::authority::Authority;
use crate::wire::fault::{Fault, ProxyFault};
use crate::wire::gathered::Gathered;
use crate::wire::proxy::ForwardProxy;

/// The head of a proxy's answer. It says one number; what proxies add for people is shorter than this.
const MAX_HEAD: usize = 16 * 1024;

/// What a proxy is asked for.
pub(super) struct ProxyTunnel {
    /// The whole request; there may be a password in it.
    request: Vec<u8>,
}

impl fmt::Debug for ProxyTunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyTunnel")
    }
}

impl ProxyTunnel {
    /// To `to`, whose port is written, with the name and password that the proxy's URL holds (RFC 7617).
    pub(super) fn new(to: &Authority, proxy: &ForwardProxy) -> Self {
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
        if !proxy.0.username().is_empty() || proxy.0.password().is_some() {
            let mut words: Vec<u8> = percent_decode_str(proxy.0.username()).collect();
            words.push(b':');
            words.extend(percent_decode_str(proxy.0.password().unwrap_or_default()));
            request += &format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode(words));
        }
        request += "\r\n";
        Self { request: request.into_bytes() }
    }

    /// Asks for it. Not a byte behind the proxy's answer is read.
    pub(super) async fn open(&self, stream: &mut TcpStream) -> Result<(), Fault> {
        let gone = |_: io::Error| Fault::Proxy(ProxyFault::Away);
        stream.write_all(&self.request).await.map_err(gone)?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut there = [0; 1024];
            let found = stream.peek(&mut there).await.map_err(gone)?;
            if found == 0 {
                return Err(Fault::Proxy(ProxyFault::Away));
            }
            // Where its end may be behind what was read before, that is looked at once more.
            let before = head.len();
            head.extend_from_slice(&there[..found]);
            let from = before.saturating_sub(3);
            if let Some(end) = head[from..].windows(4).position(|window| window == b"\r\n\r\n") {
                head.truncate(from + end + 4);
            }
            if head.len() > MAX_HEAD {
                return Err(Fault::Proxy(ProxyFault::Strange));
            }
            stream.read_exact(&mut there[..head.len() - before]).await.map_err(gone)?;
        }
        match status(&head) {
            Some(200..300) => Ok(()),
            Some(407) => Err(Fault::Proxy(ProxyFault::Unknown)),
            Some(400..500) => Err(Fault::Proxy(ProxyFault::Forbidden)),
            Some(500..600) => Err(Fault::Proxy(ProxyFault::NoWay)),
            Some(_) | None => Err(Fault::Proxy(ProxyFault::Strange)),
        }
    }
}

/// The status of an answer of HTTP/1.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.strip_prefix(b"HTTP/1.")?;
    str::from_utf8(line.get(2..5)?).ok()?.parse().ok()
}

/// Makes TCP connections to one place, through a proxy if there is one.
#[derive(Clone)]
pub(super) struct Tcp {
    pub(super) http: HttpConnector<Resolver>,
    pub(super) tunnel: Option<Arc<ProxyTunnel>>,
}

impl Service<Uri> for Tcp {
    type Response = TokioIo<Gathered<TcpStream>>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.http.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.http.call(uri);
        let Some(tunnel) = self.tunnel.clone() else {
            return Box::pin(async move { Ok(TokioIo::new(Gathered(connecting.await?.into_inner()))) });
        };
        Box::pin(async move {
            let mut stream = match connecting.await {
                Ok(stream) => stream.into_inner(),
                // What is wrong with its address is said as it is; the rest is that nobody is there.
                Err(error) => {
                    let fault = Fault::of(&error);
                    let is_ours = matches!(fault, Fault::Loop | Fault::Prohibited);
                    return Err(if is_ours { fault.into() } else { Fault::Proxy(ProxyFault::Away).into() });
                }
            };
            tunnel.open(&mut stream).await?;
            Ok(TokioIo::new(Gathered(stream)))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;
    use crate::wire::authority::Host;

    #[tokio::test]
    async fn an_answer_may_come_byte_by_byte_and_what_is_behind_it_stays() {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut ours, theirs) = tokio::join!(TcpStream::connect(proxy.local_addr().unwrap()), proxy.accept());
        let (ours, mut theirs) = (ours.as_mut().unwrap(), theirs.unwrap().0);
        theirs.set_nodelay(true).unwrap();
        let to = Authority { host: Host::parse("::1").unwrap(), port: Some(8443) };
        let tunnel = ProxyTunnel::new(&to, &ForwardProxy("http://proxy.example:3128".parse().unwrap()));
        assert_eq!(tunnel.request, b"CONNECT [::1]:8443 HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n");
        let answering = async {
            let (all, last) = (b"HTTP/1.1 200 OK\r\nX: y\r\n\r", b"\nbehind");
            for byte in all {
                theirs.write_all(&[*byte]).await.unwrap();
                // Long enough for the other side to have looked; if it has not, there is more to see at once.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            theirs.write_all(last).await.unwrap();
        };
        let both = async { tokio::join!(tunnel.open(ours), answering) };
        let (opened, ()) = tokio::time::timeout(Duration::from_secs(10), both).await.expect("in time");
        assert_eq!(opened, Ok(()));
        let mut behind = [0; 6];
        ours.read_exact(&mut behind).await.unwrap();
        assert_eq!(&behind, b"behind");
    }
}
