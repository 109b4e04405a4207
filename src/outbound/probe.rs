//! The way to a place, one step at a time: for whoever wants to know which of them fails, and why.
//!
//! Each step is the one that a connection of a route takes, by the same guard, the same proxy and the same name. Must
//! never know what is to be made of an outcome.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, header, uri};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::dial::{Destinations, Dialled};
use super::guard::{AddressGuard, Named};
use super::send::MAX_HEAD;
use super::through::ProxyTunnel;
use crate::rules::{RouteId, RouteSettings};
use crate::secret::Secret;
use crate::tls::Protocols;
use crate::wire::authority::{Authority, Host};
use crate::wire::fault::Fault;
use crate::wire::proxy::ForwardProxy;

/// A place, and the way there.
#[derive(Debug)]
pub struct Probe {
    /// What is dialled: the place, or the proxy on the way to it.
    host: Host,
    port: u16,
    tunnel: Option<Arc<ProxyTunnel>>,
    name: ServerName<'static>,
    guard: Arc<AddressGuard>,
}

impl Destinations {
    /// The way that connections of this route take.
    pub fn probe(&self, route: RouteId) -> Option<Probe> {
        let (host, port, name, tunnel) = self.way(route)?;
        Some(Probe { host, port, name, tunnel, guard: Arc::clone(self.guard()) })
    }

    /// Makes one request without a body, as the route makes its own, over a connection of its own: the head of the
    /// answer, and the version of HTTP. The rest of the answer is not waited for.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn ask(
        &self,
        (route, settings): (RouteId, &RouteSettings),
        (method, path): (Method, uri::PathAndQuery),
        token: Option<&Secret<String>>,
    ) -> Result<(Parts, Version), Fault> {
        let mut headers = HeaderMap::from_iter(settings.headers.iter().cloned());
        if let Some(token) = token {
            let text = match settings.inject.scheme.as_str() {
                "" => Secret::new(token.expose().clone()),
                scheme => Secret::new(format!("{scheme} {}", token.expose())),
            };
            let mut value = HeaderValue::from_str(text.expose()).map_err(|_| Fault::Other)?;
            value.set_sensitive(true);
            headers.insert(&settings.inject.header, value);
        }
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        let upstream = &settings.upstream;
        let authority = upstream.authority.to_string();
        // Where nobody can be asked, most speak HTTP/1.1.
        let protocols = match settings.http {
            Protocols::Either if !upstream.https => Protocols::Http1,
            protocols @ (Protocols::Http1 | Protocols::Http2 | Protocols::Either) => protocols,
        };
        let dialer = self.dialer_of(route).ok_or(Fault::Other)?;
        let Dialled { io, http2 } = dialer.dial(protocols).await?;
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = method;
        let response = if http2 {
            let scheme = if upstream.https { "https" } else { "http" };
            let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build();
            *request.uri_mut() = uri.map_err(|_| Fault::Other)?;
            *request.headers_mut() = headers;
            let (mut sender, connection) =
                http2::handshake(TokioExecutor::new(), io).await.map_err(|error| Fault::of(&error))?;
            tokio::spawn(connection);
            sender.send_request(request).await
        } else {
            headers.insert(header::HOST, HeaderValue::from_str(&authority).map_err(|_| Fault::Other)?);
            *request.uri_mut() = Uri::from(path);
            *request.headers_mut() = headers;
            let handshake = http1::Builder::new().max_header_size(MAX_HEAD).handshake(io).await;
            let (mut sender, connection) = handshake.map_err(|error| Fault::of(&error))?;
            tokio::spawn(connection);
            sender.send_request(request).await
        };
        let (head, _) = response.map_err(|error| Fault::of(&error))?.into_parts();
        Ok((head, if http2 { Version::HTTP_2 } else { Version::HTTP_11 }))
    }
}

const USER_AGENT: &str = concat!("bearerd/", env!("CARGO_PKG_VERSION"));

impl Probe {
    /// The way to somewhere that is no route's: nothing guards it. `None` if it cannot be dialled.
    pub fn new(to: &Authority, proxy: Option<&ForwardProxy>) -> Option<Self> {
        let name = match &to.host {
            Host::Ip(address) => ServerName::from(*address),
            Host::Name(name) => ServerName::try_from(name.to_string()).ok()?,
        };
        let (dialled, tunnel) = match proxy {
            None => (to.clone(), None),
            Some(proxy) => (super::dial::by(proxy).ok()?, Some(Arc::new(ProxyTunnel::new(to, proxy)))),
        };
        let port = dialled.port_or(443);
        Some(Self { host: dialled.host, port, tunnel, name, guard: Arc::default() })
    }

    /// What is looked up and dialled.
    pub fn dialled(&self) -> Authority {
        Authority { host: self.host.clone(), port: Some(self.port) }
    }

    /// Whether that is a proxy, which has to be asked for a tunnel.
    pub fn by_proxy(&self) -> bool {
        self.tunnel.is_some()
    }

    /// Whom the certificate has to be for.
    pub fn name(&self) -> &ServerName<'static> {
        &self.name
    }

    /// The addresses, each with what keeps it from being dialled.
    ///
    /// # Errors
    /// The system's.
    pub async fn look_up(&self) -> io::Result<Vec<(SocketAddr, Result<(), Fault>)>> {
        let name = match &self.host {
            Host::Ip(address) => {
                let address = SocketAddr::new(*address, self.port);
                return Ok(vec![(address, self.guard.check(address, true))]);
            }
            Host::Name(name) => name,
        };
        let named = if self.host.is_loopback() { Named::ThisMachine } else { Named::ByUs };
        let found = tokio::net::lookup_host((&**name, self.port)).await?;
        let checked = |address| (address, self.guard.admissible(vec![address], self.port, named).map(drop));
        Ok(found.map(checked).collect())
    }

    /// # Errors
    /// The system's.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Has the proxy make a tunnel, if there is one on the way.
    ///
    /// # Errors
    /// It made none.
    pub async fn pass_proxy(&self, stream: &mut TcpStream) -> Result<(), Fault> {
        match &self.tunnel {
            Some(tunnel) => tunnel.open(stream).await,
            None => Ok(()),
        }
    }

    /// # Errors
    /// Of the system, or of rustls.
    pub async fn shake_hands(&self, stream: TcpStream, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
        TlsConnector::from(Arc::new(config)).connect(self.name.clone(), stream).await
    }
}
