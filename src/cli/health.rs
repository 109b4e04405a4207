//! `bearerd health`: asks the running instance, as the exec probe of an image that has no shell.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::ArgMatches;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Builder;
use tokio_rustls::TlsConnector;

use super::{Failed, load_with, print};
use crate::config::files::Seen;
use crate::config::{DEFAULT_FILE, Disk, Files, Plan};
use crate::inbound::{ListenAddress, ListenSettings};
use crate::tls;

/// A kubelet's probe has a second by default; whoever waits longer learns no more.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer names every token that is waited for.
pub(super) const MOST: usize = 64 * 1024;

/// What a page that lives says at `/livez`.
pub(super) const ALIVE: &str = "ok\n";

/// What is read where nobody says anything: the pages are at their default address then, or where a flag puts them.
const STAND_IN: &[u8] = b"{tokens: {default: {token_url: 'https://localhost', client_id: away, client_secret: away}},
    routes: [{name: default, upstream: 'https://localhost'}]}";

/// The configuration's own file, and stand-ins for all that it names: a secret that is away while it is being replaced
/// is no reason to have a healthy instance killed.
struct OnlyTheConfiguration {
    /// A flag or a variable says which file it is.
    named: bool,
    /// There was no file, and none was asked for.
    guessed: Cell<bool>,
}

impl Files for OnlyTheConfiguration {
    fn read(&self, path: &Path, limit: usize, regular: bool) -> io::Result<Seen> {
        Disk.read(path, limit, regular).or_else(|error| match regular {
            true => Ok(Seen { bytes: b"away".to_vec(), world_readable: false }),
            false if !self.named && path == Path::new(DEFAULT_FILE) && error.kind() == io::ErrorKind::NotFound => {
                self.guessed.set(true);
                Ok(Seen { bytes: STAND_IN.to_vec(), world_readable: false })
            }
            false => Err(error),
        })
    }

    fn is_real(&self) -> bool {
        false
    }

    fn folder(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }
}

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failed> {
    let variable = std::env::var_os("BEARERD_CONFIG").is_some_and(|file| !file.is_empty());
    let named = variable || matches.get_one::<String>("config").is_some();
    let files = OnlyTheConfiguration { named, guessed: Cell::new(false) };
    let Plan { admin, health, .. } = load_with(matches, &files)?.plan;
    let listener = whom_to_ask(admin, health)?;
    let at = &listener.addresses;
    let path = if matches.get_flag("ready") { "/readyz" } else { "/livez" };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async { tokio::time::timeout(TIMEOUT, ask(&listener, path, MOST)).await });
    match answer {
        Ok(Ok((true, text))) => print(&text),
        Ok(Ok((false, text))) => Err(Failed::Because(text.trim_end().replace('\n', ", "))),
        Ok(Err(error)) => Err(Failed::Because(format!(
            "no instance answers at `{at}`: {error:#}\n  hint: {}",
            match files.guessed.get() {
                _ if is_denied(&error) =>
                    "the socket is not for this user: ask as the one that runs it or as root, or give it a `group`",
                true =>
                    "is `bearerd run` up? There is no configuration that tells where; name its file with `--config`",
                false => "is `bearerd run` up, with this same configuration?",
            },
        ))),
        Err(_) => Err(Failed::Because(format!("the instance at `{at}` did not answer within {TIMEOUT:?}"))),
    }
}

fn is_denied(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// The admin listener, unless it wants to know who asks: a probe has no certificate and no password.
pub(super) fn whom_to_ask(
    admin: Option<ListenSettings>,
    health: Option<ListenSettings>,
) -> Result<ListenSettings, Failed> {
    let wants_to_know = |admin: &ListenSettings| admin.asks_for_certificate() || admin.must_be_named();
    match (admin, health) {
        (Some(admin), None) if wants_to_know(&admin) => Err(Failed::Because(
            "`admin` asks for a certificate or a name, which a probe does not have\n  hint: switch `health` on, as in \
             `health: localhost:4282`, and it is asked instead"
                .to_owned(),
        )),
        (Some(admin), Some(health)) => Ok(if wants_to_know(&admin) { health } else { admin }),
        (Some(only), None) | (None, Some(only)) => Ok(only),
        (None, None) => {
            Err(Failed::Because("neither `admin` nor `health` is on, so there is nobody to ask".to_owned()))
        }
    }
}

/// Whether the answer is 200, and its text, of which more than `most` bytes are an error.
pub(super) async fn ask(listener: &ListenSettings, path: &str, most: usize) -> anyhow::Result<(bool, String)> {
    let has_tls = listener.tls.is_some();
    match &listener.addresses {
        ListenAddress::Unix(socket) => over(UnixStream::connect(&socket.path).await?, has_tls, path, most).await,
        ListenAddress::Localhost(port) => {
            let both: [SocketAddr; 2] = [(Ipv4Addr::LOCALHOST, *port).into(), (Ipv6Addr::LOCALHOST, *port).into()];
            over(TcpStream::connect(&both[..]).await?, has_tls, path, most).await
        }
        ListenAddress::At(address) => over(TcpStream::connect(dialled(*address)).await?, has_tls, path, most).await,
    }
}

async fn over(stream: impl Io, has_tls: bool, path: &str, most: usize) -> anyhow::Result<(bool, String)> {
    if !has_tls {
        return get(stream, path, most).await;
    }
    let config = ClientConfig::builder_with_provider(tls::crypto())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Whoever))
        .with_no_client_auth();
    let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
    get(TlsConnector::from(Arc::new(config)).connect(name, stream).await?, path, most).await
}

async fn get(stream: impl Io, path: &str, most: usize) -> anyhow::Result<(bool, String)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path).header(header::HOST, "localhost").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let fine = response.status().is_success();
    let body = Limited::new(response.into_body(), most).collect().await.map_err(anyhow::Error::from_boxed)?;
    Ok((fine, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}

/// Where to reach what listens there: an unspecified address by loopback.
fn dialled(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    (ip, address.port()).into()
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// Takes any certificate of the instance, as over plain TCP it takes any instance: nothing is sent that is worth
/// knowing, and the answer is one word. What the files hold says nothing of what is served while they are being
/// replaced, and least of all when they were replaced wrongly: then the instance serves with the old ones, and is as
/// healthy as before.
#[derive(Debug)]
struct Whoever;

impl ServerCertVerifier for Whoever {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &tls::crypto().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &tls::crypto().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::crypto().signature_verification_algorithms.supported_schemes()
    }
}
