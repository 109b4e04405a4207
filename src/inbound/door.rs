//! What all connections of one listener have in common: TLS, whom it lets in, and what it proves of them.
//!
//! Must never know what a caller may do, and tells nothing that a peer said.

use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustix::io::Errno;
use rustls::{AlertDescription, CertificateError, Error, ServerConnection};
use tokio_rustls::TlsAcceptor;
use webpki::EndEntityCert;

use super::settings::{ListenAddress, ListenSettings};
use super::stream::{Socket, Stream};
use super::unix;
use crate::files::Files;
use crate::life::contained;
use crate::observe::event::{Asked, Event};
use crate::observe::reason::Reason;
use crate::observe::{Observer, Quiet};
use crate::rules::Arrival;
use crate::tls::{Protocols, ServerIdentity, ServerTls, TlsError, server_config};

/// One listener, as those who come by it see it.
#[derive(Debug)]
pub struct Door {
    pub name: Arc<str>,
    /// What is left unsaid of the connections that are turned away here.
    pub quiet: Arc<Quiet>,
    listener: usize,
    must_be_named: bool,
    /// It is a unix socket of which nobody said that others may use it.
    is_private: bool,
    tls: Option<Certificates>,
    open: AtomicUsize,
}

/// A connection that came by a door, counted while this lives.
#[derive(Debug)]
pub(super) struct Visit(Arc<Door>);

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A listener's certificate and authorities, as they were when their files last made sense.
#[derive(Debug)]
struct Certificates {
    settings: ServerTls,
    protocols: Protocols,
    current: ArcSwap<ServerIdentity>,
}

/// Why a connection is not let in.
#[derive(Debug, PartialEq, Eq)]
struct Closed(Reason, &'static str);

impl Door {
    /// `listener` is its place in the configuration; `protocols` are what is offered by ALPN.
    ///
    /// # Errors
    /// A TLS file cannot be read or is not what it should be.
    pub fn new(settings: &ListenSettings, listener: usize, protocols: Protocols) -> Result<Self, TlsError> {
        Ok(Self {
            name: Arc::clone(&settings.name),
            quiet: Arc::default(),
            listener,
            must_be_named: settings.must_be_named(),
            is_private: matches!(&settings.addresses, ListenAddress::Unix(socket) if socket.is_private()),
            tls: settings.tls.as_ref().map(|tls| Certificates::new(tls, protocols)).transpose()?,
            open: AtomicUsize::new(0),
        })
    }

    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// One more connection that came by it.
    pub(super) fn visit(self: &Arc<Self>) -> Visit {
        self.open.fetch_add(1, Ordering::Relaxed);
        Visit(Arc::clone(self))
    }

    /// How many there are now.
    pub fn open_connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// When its certificate, or one that it is shown with, ends.
    pub fn certificate_expiry(&self) -> Option<SystemTime> {
        self.tls.as_ref()?.current.load().not_after
    }

    /// Lets a connection in, TLS handshake included, which may take `patience`. Who is not let in is counted and told,
    /// and gets the end of the connection.
    pub async fn open(&self, socket: Socket, patience: Duration, observer: &Observer) -> Option<(Stream, Arrival)> {
        let asked = self.asked(&socket);
        match self.try_open(socket, patience, &asked).await {
            Ok(opened) => Some(opened),
            Err(Closed(reason, why)) => {
                observer.leave_without(reason, None, || asked.clone());
                observer.turned_away(reason, &self.quiet, why, || asked);
                None
            }
        }
    }

    /// A connection was not accepted, and this is why: nothing that a peer said.
    pub fn not_accepted(&self, error: &io::Error, observer: &Observer) {
        let short = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
        let cure = match error.raw_os_error().is_some_and(|error| short.contains(&error)) {
            true => "; raise the limit (`ulimit -n`, `LimitNOFILE=`), or lower `limits.connections`",
            false => "",
        };
        observer.not_accepted(&self.name, &self.quiet, &format!("{error}{cure}"));
    }

    /// What a line about a connection tells of it.
    pub(super) fn asked(&self, socket: &Socket) -> Asked {
        let (uid, peer) = match socket {
            Socket::Tcp(stream) => (None, stream.peer_addr().ok()),
            Socket::Unix(stream) => (unix::peer(stream).ok(), None),
        };
        Asked { uid, peer, listener: Some(Arc::clone(&self.name)), ..Asked::default() }
    }

    async fn try_open(&self, socket: Socket, patience: Duration, asked: &Asked) -> Result<(Stream, Arrival), Closed> {
        let uid = asked.uid;
        if matches!(socket, Socket::Unix(_)) && uid.is_none() {
            return Err(Closed(Reason::CallerUnknown, "the system does not say whose it is"));
        }
        if self.is_private && !uid.is_some_and(unix::is_ours) {
            return Err(Closed(
                Reason::CallerUnknown,
                "it is another user's; `mode`, `group` and `owner` can let it in",
            ));
        }
        socket.without_delay();
        let arrival = Arrival {
            listener: self.listener,
            door: Arc::clone(&self.name),
            peer: asked.peer,
            must_be_named: self.must_be_named,
            uid,
            ..Arrival::default()
        };
        let Some(certificates) = &self.tls else { return Ok((Stream::Plain(socket), arrival)) };
        // Boxed, so that plain connections do not carry its size.
        let handshake = Box::pin(TlsAcceptor::from(Arc::clone(&certificates.current.load().config)).accept(socket));
        match tokio::time::timeout(patience, handshake).await {
            Ok(Ok(stream)) => {
                let names = names(stream.get_ref().1);
                Ok((Stream::Tls(Box::new(stream)), Arrival { tls: true, names, ..arrival }))
            }
            Ok(Err(error)) => Err(Closed(Reason::AppTls, why(&error))),
            Err(_) => Err(Closed(Reason::AppTls, "the TLS handshake did not end in time")),
        }
    }

    /// Watches the TLS files and takes what they hold, for new connections; `None` where there are none. Whatever
    /// cannot be used is told and changes nothing.
    pub fn renewal(
        self: &Arc<Self>,
        files: &Files,
        observer: &Observer,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let mut changed = files.watch(self.tls.as_ref()?.files());
        let (door, observer) = (Arc::clone(self), observer.clone());
        Some(async move {
            let renew = async |tell| {
                if contained(pin!(async { door.renew(&observer, tell) })).await.is_none() {
                    observer.tell(&Event::TaskPanicked { task: "the renewal of a listener's certificate" });
                }
            };
            // What changed between the first look and the watch is not news to anybody else.
            renew(false).await;
            while changed.changed().await.is_ok() {
                renew(true).await;
            }
        })
    }

    fn renew(&self, observer: &Observer, tell: bool) {
        let Some(certificates) = &self.tls else { return };
        match server_config(&certificates.settings, certificates.protocols) {
            Ok(identity) => {
                certificates.current.store(Arc::new(identity));
                if tell {
                    observer.tell(&Event::CertificateRenewed { listener: &self.name });
                }
            }
            Err(error) => {
                observer.tell(&Event::CertificateUnusable { listener: &self.name, why: &error.to_string() });
            }
        }
    }
}

impl Certificates {
    fn new(settings: &ServerTls, protocols: Protocols) -> Result<Self, TlsError> {
        let current = ArcSwap::from_pointee(server_config(settings, protocols)?);
        Ok(Self { settings: settings.clone(), protocols, current })
    }

    fn files(&self) -> Vec<PathBuf> {
        let ServerTls { certificate, key, client_ca } = &self.settings;
        [certificate, key].into_iter().chain(client_ca).cloned().collect()
    }
}

/// The subject alternative names of the client certificate, which the handshake has verified.
fn names(connection: &ServerConnection) -> Vec<Box<str>> {
    let Some(certificate) = connection.peer_certificates().and_then(|chain| chain.first()) else { return Vec::new() };
    // It was parsed once already, by the same parser.
    let Ok(certificate) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    let hosts = certificate.valid_dns_names().map(|name| name.to_ascii_lowercase().into());
    // What has no scheme is no URI, and is not to be taken for a DNS name.
    hosts.chain(certificate.valid_uri_names().filter(|name| name.contains(':')).map(Into::into)).collect()
}

/// What went wrong with a handshake, in words that no peer chose.
pub(super) fn why(error: &io::Error) -> &'static str {
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<Error>()) else {
        return "its peer left during the TLS handshake";
    };
    #[expect(clippy::wildcard_enum_match_arm, reason = "of open enums")]
    match error {
        Error::NoCertificatesPresented => "it shows no client certificate, and `client_ca_file` asks for one",
        // The second is an authority of the same name with another key.
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its client certificate is of no authority in `client_ca_file`"
        }
        Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => "its client certificate has expired, or is not valid yet",
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => "its client certificate is not for clients (extended key usage)",
        Error::InvalidCertificate(_) => "its client certificate is not valid, or not of X.509 version 3",
        Error::InvalidMessage(_) => "what it sends is not TLS",
        Error::PeerIncompatible(_) => "it has no TLS version or cipher that this listener has",
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired,
        ) => "its peer does not trust the certificate of this listener",
        Error::AlertReceived(_) => "its peer gave the TLS handshake up",
        _ => "the TLS handshake failed",
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::net::{TcpListener, TcpStream, UnixStream};

    use super::*;
    use crate::observe::log::{Format, Level, Log, LogSettings};
    use crate::tls::crypto;

    fn observer() -> Observer {
        Observer::new(Log::to(LogSettings { level: Level::Error, format: Format::Pretty }, |_| {}))
    }

    fn settings(addresses: ListenAddress, tls: Option<ServerTls>) -> ListenSettings {
        ListenSettings { name: "x".into(), addresses, allow_remote: false, tls }
    }

    /// A certificate for these names, and its key, PEM.
    fn identity(ca: &CertifiedIssuer<'_, KeyPair>, names: Vec<SanType>) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        (params.signed_by(&key, ca).unwrap().pem(), key.serialize_pem())
    }

    #[tokio::test]
    async fn the_names_of_a_verified_certificate_reach_the_rules() {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let text = |text: &str| text.to_owned().try_into().unwrap();
        let server = identity(&ca, vec![SanType::DnsName(text("localhost"))]);
        let client = identity(
            &ca,
            vec![
                SanType::DnsName(text("Edge.Corp")),
                SanType::URI(text("spiffe://corp/ns/Billing")),
                SanType::DnsName(text("batch.corp")),
                SanType::Rfc822Name(text("somebody@edge.corp")),
                SanType::IpAddress([192, 0, 2, 1].into()),
            ],
        );
        let folder = std::env::temp_dir().join(format!("bearerd-door-{}-{}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir(&folder).unwrap();
        let file = |name: &str, content: &str| {
            std::fs::write(folder.join(name), content).unwrap();
            folder.join(name)
        };
        let tls = ServerTls {
            certificate: file("cert.pem", &server.0),
            key: file("key.pem", &server.1),
            client_ca: Some(file("ca.pem", &ca.pem())),
        };
        let door = Door::new(&settings(ListenAddress::Localhost(0), Some(tls)), 7, Protocols::Either).unwrap();
        std::fs::remove_dir_all(folder).unwrap();

        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(client.0.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(client.1.as_bytes()).unwrap();
        let config = ClientConfig::builder_with_provider(crypto()).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let asked = Asked::default();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let (_client, opened) = tokio::join!(
            connector.connect(ServerName::try_from("localhost").unwrap(), stream),
            door.try_open(Socket::Tcp(accepted), Duration::from_secs(20), &asked),
        );
        let (_, arrival) = opened.unwrap();
        let names: Vec<&str> = arrival.names.iter().map(|name| &**name).collect();
        assert_eq!(names, ["edge.corp", "batch.corp", "spiffe://corp/ns/Billing"]);
        assert_eq!((arrival.tls, arrival.listener, arrival.uid, arrival.is_unix()), (true, 7, None, false));
    }

    #[tokio::test]
    async fn a_unix_peer_has_a_uid() {
        let socket =
            |mode| ListenAddress::Unix(super::super::UnixSocket { path: "/x".into(), mode, owner: None, group: None });
        for mode in [0o600, 0o666] {
            let door = Door::new(&settings(socket(mode), None), 0, Protocols::Either).unwrap();
            let (_app, accepted) = UnixStream::pair().unwrap();
            let (_, arrival) = door.open(Socket::Unix(accepted), Duration::ZERO, &observer()).await.unwrap();
            assert_eq!(arrival.uid, Some(rustix::process::geteuid().as_raw()));
            assert!(arrival.is_unix() && !arrival.tls && arrival.names.is_empty());
        }
    }

    #[tokio::test]
    async fn who_has_neither_certificate_nor_uid_must_have_a_name_where_others_may_come() {
        let tcp = async || {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            drop(stream);
            Socket::Tcp(listener.accept().await.unwrap().0)
        };
        for allow_remote in [false, true] {
            let settings = ListenSettings { allow_remote, ..settings(ListenAddress::Localhost(0), None) };
            let door = Door::new(&settings, 0, Protocols::Either).unwrap();
            let (_, arrival) = door.open(tcp().await, Duration::ZERO, &observer()).await.unwrap();
            assert_eq!(arrival.must_be_named, allow_remote);
        }
    }
}
