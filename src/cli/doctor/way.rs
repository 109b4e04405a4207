//! The way to a provider or an upstream: its name, TCP, the proxy in between, TLS.
//!
//! Must never know what is asked at the end of it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::Round;
use super::certificate::{Life, by, day, life};
use super::report::{Blame, Report, begin, shown, spell};
use crate::outbound::Probe;
use crate::tls::{Noted, TlsSettings, certificate, noting};
use crate::wire::authority::{Authority, Host};
use crate::wire::fault::{Fault, ProxyFault, TlsFault};

/// A resolver asks each of its name servers twice for five seconds; more than two that are away are rare.
const LOOKUP: Duration = Duration::from_secs(20);

/// For one address: a lost SYN and its second repetition (1 s + 2 s), as for the token client.
const CONNECT: Duration = Duration::from_secs(5);

/// A handshake is two round trips, and the proxy's answer as long as it takes it to connect.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a server that asked for a certificate may take to say that it wants one. By TLS 1.3 it says so after the
/// handshake has ended on our side.
const SECOND_THOUGHTS: Duration = Duration::from_secs(2);

/// Addresses of one name that are dialled. Those of a large service are dozens, and behave alike.
const MOST_ADDRESSES: usize = 8;

/// Names of a certificate that are shown.
const MOST_NAMES: usize = 6;

/// Where to go.
pub(super) struct Place<'a> {
    /// `token main` or `route api`.
    pub(super) whose: String,
    pub(super) to: Authority,
    pub(super) https: bool,
    pub(super) tls: &'a TlsSettings,
    pub(super) probe: Probe,
}

impl Place<'_> {
    fn is_of_a_token(&self) -> bool {
        self.whose.starts_with("token ")
    }
}

/// Ways that were gone, so that routes to one upstream are told about it once.
#[derive(Debug, Default)]
pub(super) struct Ways(HashMap<Key, Result<(), Blame>>);

/// What makes a way another one: what is dialled, where it leads, whose certificate that is, and how it is looked at.
type Key = (Authority, Authority, String, bool, TlsSettings);

/// Goes there, telling each step; and the first that failed.
pub(super) async fn go(round: &mut Round<'_>, place: &Place<'_>) -> Result<(), Blame> {
    let Place { to, https, tls, probe, .. } = place;
    let key = (probe.dialled(), to.clone(), probe.name().to_str().into_owned(), *https, (*tls).clone());
    if let Some(outcome) = round.ways.0.get(&key) {
        return outcome.clone();
    }
    let outcome = walk(round, place).await;
    round.ways.0.insert(key, outcome.clone());
    outcome
}

async fn walk(round: &mut Round<'_>, place: &Place<'_>) -> Result<(), Blame> {
    let Place { whose, to, https, probe, .. } = place;
    let dialled = probe.dialled();
    let there = format!("{whose}, {to}");
    let mut rest = vec!["tcp"];
    if probe.by_proxy() {
        rest.push("proxy");
    }
    if *https {
        rest.push("tls");
    }
    let skip = |report: &mut Report, from: usize, blame: Blame| {
        for check in rest.iter().skip(from) {
            report.skip(check, there.as_str(), &blame);
        }
        Err(blame)
    };
    let addresses = match look_up(round, whose, &dialled, probe).await {
        Ok(addresses) => addresses,
        Err(blame) => return skip(round.report, 0, blame),
    };
    let (address, mut stream) = match connect(round, whose, &dialled, probe, addresses).await {
        Ok(connected) => connected,
        Err(blame) => return skip(round.report, 1, blame),
    };
    if probe.by_proxy() {
        let begun = begin("proxy", there.as_str());
        let passing = tokio::time::timeout(round.limit(HANDSHAKE), probe.pass_proxy(&mut stream));
        match passing.await.unwrap_or(Err(Fault::Timeout)) {
            Ok(()) => round.report.ok(begun, format!("{dialled} makes a tunnel there")),
            Err(fault) => {
                let blame = round.report.fail(begun, fault.to_string(), proxy_cure(fault));
                return skip(round.report, 2, blame);
            }
        }
    }
    if *https {
        return shake_hands(round, place, &there, address, stream).await;
    }
    Ok(())
}

async fn look_up(
    round: &mut Round<'_>,
    whose: &str,
    dialled: &Authority,
    probe: &Probe,
) -> Result<Vec<SocketAddr>, Blame> {
    let proxy = if probe.by_proxy() { "the proxy " } else { "" };
    let begun = begin("dns", format!("{whose}, {proxy}{}", dialled.host));
    let looking = tokio::time::timeout(round.limit(LOOKUP), probe.look_up()).await;
    let found = match looking {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            let (what, cure) = no_address(&error);
            return Err(round.report.fail(begun, what, cure));
        }
        Err(_) => {
            let what = format!("no name server answered within {}", spell(LOOKUP));
            return Err(round.report.fail(begun, what, SILENT));
        }
    };
    let may: Vec<SocketAddr> =
        found.iter().filter(|(_, verdict)| verdict.is_ok()).map(|(address, _)| *address).collect();
    let list = |addresses: &mut dyn Iterator<Item = IpAddr>| {
        addresses.map(|address| address.to_string()).collect::<Vec<_>>().join(", ")
    };
    let refused = found.iter().find_map(|(address, verdict)| Some((address, verdict.err()?)));
    match (may.is_empty(), refused) {
        (true, Some((_, fault))) => {
            let all = list(&mut found.iter().map(|(address, _)| address.ip()));
            let cure = if fault == Fault::Loop {
                "a request there would come back for ever: name the API in `upstream`, or another port in `listen`"
            } else {
                "no API is there; if it is, write the address itself into the route's `connect_to`, and see who answers \
                 for the name"
            };
            Err(round.report.fail(begun, format!("{all}: not dialled, because {}", why_not(fault)), cure))
        }
        (true, None) => Err(round.report.fail(begun, "the name has no address", UNKNOWN)),
        (false, refused) => {
            let mut what = match &dialled.host {
                Host::Ip(_) => "an address, nothing to look up".to_owned(),
                Host::Name(_) => list(&mut may.iter().map(SocketAddr::ip)),
            };
            if let Some((address, fault)) = refused {
                what += &format!("; {} is not dialled, because {}", address.ip(), why_not(fault));
            }
            round.report.ok(begun, what);
            Ok(may)
        }
    }
}

fn why_not(fault: Fault) -> &'static str {
    if fault == Fault::Loop {
        "one of bearerd's own listeners is there"
    } else {
        "it is link-local, a cloud's metadata or otherwise no upstream's"
    }
}

const UNKNOWN: &str = "is it spelt right? `getent hosts NAME` asks the same way; a name inside a company or a cluster is \
                       known only to their own name servers (/etc/resolv.conf)";

const SILENT: &str = "name servers stand in /etc/resolv.conf: can this machine reach them on port 53? In Kubernetes a \
                      NetworkPolicy has to let DNS out";

/// What the system says, and what to do.
fn no_address(error: &io::Error) -> (&'static str, &'static str) {
    // EAI_AGAIN has no kind of its own.
    match error.to_string().contains("emporary") {
        true => ("no name server could tell the address", SILENT),
        false => ("the name has no address", UNKNOWN),
    }
}

async fn connect(
    round: &mut Round<'_>,
    whose: &str,
    dialled: &Authority,
    probe: &Probe,
    addresses: Vec<SocketAddr>,
) -> Result<(SocketAddr, TcpStream), Blame> {
    let begun = begin("tcp", format!("{whose}, {dialled}"));
    let (mut connected, mut failed) = (None, Vec::new());
    let left_out = addresses.len().saturating_sub(MOST_ADDRESSES);
    for address in addresses.into_iter().take(MOST_ADDRESSES) {
        let connecting = tokio::time::timeout(round.limit(CONNECT), probe.connect(address)).await;
        match connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => connected = connected.or(Some((address, stream))),
            Err(error) => failed.push((address, error)),
        }
    }
    let told = failed.iter().map(|(address, error)| format!("{}: {}", address.ip(), why_no_connection(error)));
    let told = told.collect::<Vec<_>>().join("; ");
    let Some((address, stream)) = connected else {
        let cure = failed.first().map_or("", |(_, error)| connection_cure(error, probe.by_proxy()));
        return Err(round.report.fail(begun, told, cure));
    };
    if failed.is_empty() {
        let rest = if left_out > 0 { format!("; {left_out} more were not tried") } else { String::new() };
        round.report.ok(begun, format!("{address} takes connections{rest}"));
    } else {
        let cure = "requests get through, but some wait for the address that does not answer: have it taken out of DNS, \
                    or name the one that answers in the route's `connect_to`";
        round.report.warn(begun, format!("{address} takes connections, and {told}"), cure);
    }
    Ok((address, stream))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what has no cure of its own has no arm of its own")]
fn why_no_connection(error: &io::Error) -> String {
    use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
    match error.kind() {
        ConnectionRefused => "the connection is refused".to_owned(),
        TimedOut => format!("no answer within {}", spell(CONNECT)),
        HostUnreachable | NetworkUnreachable | AddrNotAvailable => "the network has no way there".to_owned(),
        kind => kind.to_string(),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what has no cure of its own has no arm of its own")]
fn connection_cure(error: &io::Error, by_proxy: bool) -> &'static str {
    use io::ErrorKind::{ConnectionRefused, TimedOut};
    match error.kind() {
        _ if by_proxy => "is the `proxy` of this token or route right, host and port, and does it run?",
        ConnectionRefused => {
            "nobody listens on that port: is the port right, and does the service run? Some firewalls answer so, too"
        }
        TimedOut => {
            "a firewall that drops what it does not know answers like this: have the way opened, or name the corporate \
             proxy in `proxy` if there is one"
        }
        _ => "is the network up (`ip route get ADDRESS`)? Name the corporate proxy in `proxy` if there is one",
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what has no cure of its own has no arm of its own")]
fn proxy_cure(fault: Fault) -> &'static str {
    match fault {
        Fault::Proxy(ProxyFault::Unknown) => "write name and password into `proxy`: `http://NAME:PASSWORD@HOST:PORT`",
        Fault::Proxy(ProxyFault::Forbidden) => "have whoever runs the proxy allow CONNECT to this host and port",
        Fault::Proxy(ProxyFault::NoWay) => "the proxy looks the name up and connects itself: ask whoever runs it",
        _ => "`proxy` has to name an HTTP proxy that takes CONNECT, with its port",
    }
}

async fn shake_hands(
    round: &mut Round<'_>,
    place: &Place<'_>,
    there: &str,
    address: SocketAddr,
    stream: TcpStream,
) -> Result<(), Blame> {
    let begun = begin("tls", there);
    let (config, noted) = match noting(place.tls) {
        Ok(made) => made,
        Err(error) => return Err(round.report.fail(begun, error.to_string(), "correct the file")),
    };
    let shaking = tokio::time::timeout(round.limit(HANDSHAKE), place.probe.shake_hands(stream, config)).await;
    let mut stream = match shaking.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => stream,
        Err(error) => {
            // Who showed a certificate speaks TLS.
            let (what, cure) = if noted.chain().is_empty() && speaks_plain_http(round, place, address).await {
                let cure = "write the port that speaks TLS, often 443 or 8443. `http://` is for loopback; elsewhere it \
                            sends what is secret in clear";
                ("this port speaks plain HTTP, and no TLS".to_owned(), cure.to_owned())
            } else {
                why_no_tls(Fault::of(&error), &noted, place)
            };
            return Err(round.report.fail(begun, what, cure));
        }
    };
    let leaf = noted.chain().first();
    let version = match stream.get_ref().1.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS 1.3",
    };
    if noted.asked_for_certificate() && place.tls.identity.is_none() && is_turned_away(&mut stream).await {
        let what = "it wants a client certificate, and ends the connection without one";
        return Err(round.report.fail(begun, what, client_certificate(place)));
    }
    let asked = noted.asked_for_certificate() && place.tls.identity.is_none();
    let issuer = leaf.map_or_else(String::new, by);
    match leaf.map(life) {
        Some(Life::Short(until, left)) => {
            let what = format!("{version}; its certificate, by {issuer}, ends in {} ({})", spell(left), day(until));
            round.report.warn(begun, what, "whoever runs the server has to renew it before that");
        }
        // What has ended or not begun was not believed.
        Some(Life::Good(until)) if asked => {
            let what = format!("{version}; by {issuer}, until {}; it asks for a client certificate", day(until));
            round.report.warn(begun, what, client_certificate(place));
        }
        Some(Life::Good(until)) => {
            let shown = if place.tls.identity.is_some() && noted.asked_for_certificate() { "; takes ours" } else { "" };
            round.report.ok(begun, format!("{version}; by {issuer}, until {}{shown}", day(until)));
        }
        Some(Life::Over(_) | Life::Early(_) | Life::Unknown) | None => {
            round.report.ok(begun, format!("{version}; by {issuer}"));
        }
    }
    Ok(())
}

/// Whether the server ends the connection once it knows that no certificate comes.
async fn is_turned_away(stream: &mut TlsStream<TcpStream>) -> bool {
    let mut byte = [0];
    let reading = tokio::time::timeout(SECOND_THOUGHTS, stream.read(&mut byte));
    // One that waits for a request takes us as we are.
    matches!(reading.await, Ok(Err(_) | Ok(0)))
}

fn client_certificate(place: &Place<'_>) -> String {
    let proof = match place.is_of_a_token() {
        true => "; where the certificate is what proves the client, use `auth: tls_client_auth`",
        false => "",
    };
    format!("name it in `tls: {{cert_file: …, key_file: …}}` of {}{proof}", place.whose)
}

/// What is wrong with TLS there, and what to do.
#[expect(clippy::wildcard_enum_match_arm, reason = "what has no cure of its own has no arm of its own")]
fn why_no_tls(fault: Fault, noted: &Noted, place: &Place<'_>) -> (String, String) {
    let whose = &place.whose;
    let leaf = noted.chain().first();
    match fault {
        Fault::Tls(TlsFault::UnknownIssuer) => {
            // The last of the chain is the nearest to the root that is missing.
            let issuer = noted.chain().last().map_or_else(|| "somebody unknown".to_owned(), by);
            let alone = if noted.chain().len() == 1 {
                ". The server sent its own certificate alone: if the authority is a public one, the intermediate one is \
                 missing there"
            } else {
                ""
            };
            let whole = place.tls.ca_file.as_ref().map_or_else(String::new, |file| {
                format!(". `{}` (`tls.ca_file`) replaces the system's authorities", file.display())
            });
            (
                format!("its certificate is signed by {issuer}, which nobody here trusts"),
                format!(
                    "if that is your company's own authority, or its proxy that looks into TLS, name its certificate in \
                     `tls.extra_ca_file` of {whose}{whole}{alone}"
                ),
            )
        }
        Fault::Tls(TlsFault::WrongName) => (
            format!(
                "its certificate is for {}, and not for {}",
                leaf.map_or_else(|| "nobody".to_owned(), names),
                place.tls.server_name.as_ref().unwrap_or(place.probe.name()).to_str()
            ),
            format!(
                "write the host that the certificate is for; if this is the right server under another name, say that \
                 name in `tls.server_name` of {whose}"
            ),
        ),
        Fault::Tls(TlsFault::Expired) => {
            let since = match leaf.map(life) {
                Some(Life::Over(until)) => format!("has expired on {}", day(until)),
                _ => "has expired, or one that it is signed by".to_owned(),
            };
            (
                format!("its certificate {since}"),
                "whoever runs the server has to renew it; is this machine's clock right (`date -u`)?".to_owned(),
            )
        }
        Fault::Tls(TlsFault::NotYetValid) => {
            let from = match leaf.map(life) {
                Some(Life::Early(from)) => format!("holds from {} on", day(from)),
                _ => "is not valid yet".to_owned(),
            };
            (
                format!("its certificate {from}"),
                "this machine's clock is most likely behind (`date -u`): set it, and keep it right with NTP".to_owned(),
            )
        }
        Fault::Tls(TlsFault::Alert) if noted.asked_for_certificate() => {
            let what = match place.tls.identity {
                Some(_) => "it does not take our client certificate",
                None => "it wants a client certificate",
            };
            (what.to_owned(), client_certificate(place))
        }
        Fault::Tls(TlsFault::BadCertificate) => (
            "its certificate is not acceptable: of version 1 or without its name among the alternative ones, say"
                .to_owned(),
            "whoever runs the server has to make another; `openssl s_client -connect HOST:PORT -showcerts` shows it"
                .to_owned(),
        ),
        Fault::Timeout => (
            format!("the handshake did not end within {}", spell(HANDSHAKE)),
            "something in between takes connections and does not pass them on: ask whoever runs firewall or load balancer"
                .to_owned(),
        ),
        Fault::Reset => (
            "the connection broke during the handshake".to_owned(),
            "is the port one for TLS? A firewall or a proxy that does not like the name ends connections so, too"
                .to_owned(),
        ),
        fault => (fault.to_string(), "`openssl s_client -connect HOST:PORT` shows what it speaks".to_owned()),
    }
}

fn names(certificate: &CertificateDer<'_>) -> String {
    let names = certificate::names(certificate);
    if names.is_empty() {
        return "no DNS name".to_owned();
    }
    let more = if names.len() > MOST_NAMES { ", …" } else { "" };
    let shown: Vec<String> = names.iter().take(MOST_NAMES).map(|name| shown(name)).collect();
    format!("{}{more}", shown.join(", "))
}

/// Whether there is an answer to a request in clear. Nothing of ours is in it.
async fn speaks_plain_http(round: &Round<'_>, place: &Place<'_>, address: SocketAddr) -> bool {
    let asking = async {
        let mut stream = place.probe.connect(address).await.ok()?;
        place.probe.pass_proxy(&mut stream).await.ok()?;
        let request = format!("HEAD / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", place.to);
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut start = [0; 7];
        stream.read_exact(&mut start).await.ok()?;
        Some(&start == b"HTTP/1.")
    };
    tokio::time::timeout(round.limit(CONNECT), asking).await.ok().flatten().unwrap_or(false)
}
