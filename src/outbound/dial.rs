//! Makes connections to upstreams: name, TCP, TLS.
//!
//! Where a connection leads is fixed by the configuration; nothing of a request comes in here. A name may still lead
//! anywhere, so each address is looked at before it is dialled.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tower_service::Service as _;

use super::guard::{AddressGuard, Named};
use super::lookup::{Lookups, Resolver};
use super::patient::Patient;
use super::through::{ProxyTunnel, Tcp};
use super::tunnel::TunnelLookups;
use crate::rules::{Route, RouteId, RouteSettings};
use crate::tls::{ClientConfigs, Contents, H2, Protocols, TlsError, TlsSettings};
use crate::wire::authority::{Authority, Host};
use crate::wire::fault::Fault;
use crate::wire::gathered::Gathered;
use crate::wire::proxy::ForwardProxy;

/// A connection to an upstream.
pub(super) type Io = Patient<MaybeHttpsStream<TokioIo<Gathered<TcpStream>>>>;

/// Where each route leads: checked once, when the route is made.
#[derive(Debug, Default)]
pub struct Destinations {
    routes: HashMap<RouteId, Arc<Destination>>,
    guard: Arc<AddressGuard>,
    /// Of names for tunnels, which are none of the routes'.
    pub(super) tunnel_lookups: TunnelLookups,
}

#[derive(Debug)]
struct Destination {
    /// What is dialled.
    uri: Uri,
    host: Host,
    port: u16,
    https: bool,
    /// Whom the peer must prove to be.
    name: ServerName<'static>,
    tls: Offers,
    /// What its TLS files held.
    contents: Contents,
    /// The way there, if it is not straight: `uri`, `host` and `port` are the proxy's then.
    tunnel: Option<Arc<ProxyTunnel>>,
    timeout: Duration,
    /// Shared by the workers.
    lookups: Arc<Lookups>,
}

/// TLS by what is offered over it.
#[derive(Clone, Debug)]
struct Offers {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    either: Arc<ClientConfig>,
}

impl Offers {
    fn new(tls: &TlsSettings, configs: &ClientConfigs) -> Result<Self, TlsError> {
        let of = |protocols| configs.get(tls, Some(protocols));
        Ok(Self { http1: of(Protocols::Http1)?, http2: of(Protocols::Http2)?, either: of(Protocols::Either)? })
    }

    fn of(&self, protocols: Protocols) -> Arc<ClientConfig> {
        Arc::clone(match protocols {
            Protocols::Http1 => &self.http1,
            Protocols::Http2 => &self.http2,
            Protocols::Either => &self.either,
        })
    }
}

/// Why a route leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the host `{0}` cannot stand in a certificate")]
    Name(Host),
    #[error("the proxy is none that can be dialled")]
    Proxy,
    #[error("`{0}` cannot be dialled")]
    Address(Authority),
}

/// Where a proxy is: always with its port, which `http://` leaves out where it is 80.
pub(super) fn by(proxy: &ForwardProxy) -> Result<Authority, DestinationError> {
    let host = proxy.0.host_str().and_then(|host| Host::parse(host).ok()).ok_or(DestinationError::Proxy)?;
    Ok(Authority { host, port: Some(proxy.0.port_or_known_default().unwrap_or(80)) })
}

impl Destinations {
    /// None yet, under the guard and the limits of others that they are to take the place of.
    pub fn after(earlier: &Self) -> Self {
        let (guard, tunnel_lookups) = (Arc::clone(&earlier.guard), earlier.tunnel_lookups.clone());
        Self { routes: HashMap::new(), guard, tunnel_lookups }
    }

    /// Adds a route's.
    ///
    /// # Errors
    /// A TLS file is not what it should be, or the host is no name for TLS.
    pub fn add(&mut self, id: RouteId, route: &RouteSettings, configs: &ClientConfigs) -> Result<(), DestinationError> {
        self.routes.insert(id, Arc::new(Destination::new(route, configs)?));
        Ok(())
    }

    /// Takes a route's over, with what is being looked up for it, if its TLS files hold what they did.
    pub fn keep(&mut self, route: &Route, earlier: &Self, configs: &ClientConfigs) -> bool {
        let kept = earlier.routes.get(&route.id);
        let kept = kept.filter(|kept| kept.contents == configs.contents(route.settings.tls.files()));
        self.routes.extend(kept.map(|kept| (route.id, Arc::clone(kept))));
        kept.is_some()
    }

    /// Whether there is one for this route.
    pub(super) fn lead(&self, route: RouteId) -> bool {
        self.routes.contains_key(&route)
    }

    /// From now on no connection leads where `guard` says that none may.
    pub fn guarded_by(mut self, guard: AddressGuard) -> Self {
        self.guard = Arc::new(guard);
        self
    }

    pub(super) fn guard(&self) -> &Arc<AddressGuard> {
        &self.guard
    }

    /// `None` if the route is not one of those that were added.
    pub(super) fn dialer(&self, route: &Route) -> Option<Dialer> {
        self.dialer_of(route.id)
    }

    /// The same by the route's id.
    pub(super) fn dialer_of(&self, route: RouteId) -> Option<Dialer> {
        Some(self.routes.get(&route)?.dialer(&self.guard))
    }

    /// What is dialled for a route, whom the peer must prove to be, and the proxy on the way.
    pub(super) fn way(&self, route: RouteId) -> Option<(Host, u16, ServerName<'static>, Option<Arc<ProxyTunnel>>)> {
        let route = self.routes.get(&route)?;
        Some((route.host.clone(), route.port, route.name.clone(), route.tunnel.clone()))
    }
}

impl Destination {
    fn new(route: &RouteSettings, configs: &ClientConfigs) -> Result<Self, DestinationError> {
        let contents = configs.contents(route.tls.files());
        let upstream = &route.upstream;
        let authority = route
            .connect_to
            .clone()
            .unwrap_or_else(|| Authority { host: upstream.authority.host.clone(), port: Some(upstream.port()) });
        let to = Authority { port: Some(authority.port_or(upstream.port())), host: authority.host };
        let (authority, tunnel) = match &route.proxy {
            None => (to, None),
            Some(proxy) => (by(proxy)?, Some(Arc::new(ProxyTunnel::new(&to, proxy)))),
        };
        let (host, port) = (authority.host.clone(), authority.port_or(upstream.port()));
        let scheme = if upstream.https { "https" } else { "http" };
        let uri = Uri::builder().scheme(scheme).authority(authority.to_string()).path_and_query("/").build();
        let name = match (&route.tls.server_name, &upstream.authority.host) {
            (Some(name), _) => name.clone(),
            (None, Host::Ip(address)) => ServerName::from(*address),
            (None, host @ Host::Name(name)) => {
                ServerName::try_from(name.to_string()).map_err(|_| DestinationError::Name(host.clone()))?
            }
        };
        Ok(Self {
            host,
            port,
            uri: uri.map_err(|_| DestinationError::Address(authority))?,
            https: upstream.https,
            name,
            tls: Offers::new(&route.tls, configs)?,
            contents,
            tunnel,
            timeout: route.timeouts.connect,
            lookups: Arc::default(),
        })
    }

    fn dialer(&self, guard: &Arc<AddressGuard>) -> Dialer {
        let resolver = Resolver {
            lookups: Arc::clone(&self.lookups),
            guard: Arc::clone(guard),
            port: self.port,
            named: if self.host.is_loopback() { Named::ThisMachine } else { Named::ByUs },
        };
        let http = connector(resolver, self.timeout);
        Dialer {
            tcp: Tcp { http, tunnel: self.tunnel.clone() },
            tls: self.tls.clone(),
            https: self.https,
            name: Arc::new(FixedServerNameResolver::new(self.name.clone())),
            uri: self.uri.clone(),
            timeout: self.timeout,
            // Only names are looked up, and that is where all others are checked.
            literal: match self.host {
                Host::Ip(address) => guard.check((address, self.port).into(), true),
                Host::Name(_) => Ok(()),
            },
        }
    }
}

/// Makes TCP connections, for each within `timeout`.
pub(super) fn connector(resolver: Resolver, timeout: Duration) -> HttpConnector<Resolver> {
    let mut http = HttpConnector::new_with_resolver(resolver);
    http.enforce_http(false);
    // A proxy's writes are whole messages already; waiting to merge them only delays.
    http.set_nodelay(true);
    // Tells of a peer that went away without a word while it owes an answer; idle connections are closed long
    // before. It is all that ends a stream of events that nobody sends any more: two minutes, where a system's own
    // numbers would make it twelve.
    http.set_keepalive(Some(Duration::from_secs(60)));
    http.set_keepalive_interval(Some(Duration::from_secs(15)));
    http.set_keepalive_retries(Some(4));
    // It divides this among the name's addresses, so that one that is dead leaves time for the next.
    http.set_connect_timeout(Some(timeout));
    http
}

/// Makes one route's connections.
pub(super) struct Dialer {
    tcp: Tcp,
    tls: Offers,
    https: bool,
    name: Arc<FixedServerNameResolver>,
    uri: Uri,
    timeout: Duration,
    /// What is to be said of an address that is dialled as it is written.
    literal: Result<(), Fault>,
}

/// A connection, and what is to be spoken over it.
pub(super) struct Dialled {
    pub(super) io: Io,
    pub(super) http2: bool,
}

impl Dialer {
    /// Looks the name up, connects and shakes hands, all within `timeouts.connect`. Where there is no TLS nothing is
    /// agreed upon: there [`Protocols::Http2`] is prior knowledge (RFC 9113, 3.3), and [`Protocols::Either`] HTTP/1.1.
    ///
    /// # Errors
    /// [`Fault::Version`] if the server agrees to none of them; else what went wrong on the way.
    pub(super) async fn dial(&self, protocols: Protocols) -> Result<Dialled, Fault> {
        self.literal?;
        let tls = self.tls.of(protocols);
        let name = Arc::clone(&self.name);
        let dialling = HttpsConnector::new(self.tcp.clone(), tls, self.https, name).call(self.uri.clone());
        let io = match tokio::time::timeout(self.timeout, dialling).await {
            Ok(Ok(io)) => io,
            Ok(Err(error)) => return Err(Fault::of(&*error)),
            Err(_) => return Err(Fault::Timeout),
        };
        let http2 = match &io {
            MaybeHttpsStream::Http(_) => protocols == Protocols::Http2,
            MaybeHttpsStream::Https(tls) => tls.inner().get_ref().1.alpn_protocol() == Some(H2),
        };
        if protocols == Protocols::Http2 && !http2 {
            return Err(Fault::Version);
        }
        Ok(Dialled { io: Patient::new(io), http2 })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn an_address_that_is_dead_leaves_time_for_the_next() {
        let live = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = live.local_addr().unwrap().port();
        // On one machine only a listener whose queue is full keeps a connection waiting.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 2], port).into()).unwrap();
        let _dead = socket.listen(1).unwrap();
        let mut queued = Vec::new();
        for _ in 0..8 {
            let connecting = TcpStream::connect(("127.0.0.2", port));
            queued.push(tokio::time::timeout(Duration::from_millis(50), connecting).await);
        }
        assert!(queued.iter().any(Result::is_err), "the queue is full");
        let destination = Destination {
            uri: format!("http://api.example:{port}/").parse().unwrap(),
            host: Host::parse("api.example").unwrap(),
            port,
            https: false,
            name: ServerName::try_from("api.example").unwrap(),
            tls: Offers::new(&TlsSettings::default(), &ClientConfigs::default()).unwrap(),
            contents: Contents::default(),
            tunnel: None,
            timeout: Duration::from_secs(2),
            lookups: Arc::new(Lookups::by(|_| Ok(vec![([127, 0, 0, 2], 0).into(), ([127, 0, 0, 1], 0).into()]))),
        };
        assert!(destination.dialer(&Arc::default()).dial(Protocols::Http1).await.is_ok());
    }
}
