//! Why a connection could not be made or did not last, in our own words.
//!
//! Errors of libraries carry a peer's bytes (the names in a certificate, for one). What is told is chosen here from a
//! closed list, so nothing of theirs reaches a log or a response.

use std::error::Error;
use std::fmt;
use std::io;

use http::Version;
use http_body::Body as _;
use hyper::body::Incoming;
use rustix::io::Errno;
use rustls::{AlertDescription, CertificateError, InvalidMessage};

/// What went wrong between us and a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The name has no address, or could not be looked up.
    Dns,
    /// Nobody listens, or no way leads there.
    Refused,
    /// The connection broke.
    Reset,
    Tls(TlsFault),
    /// Its name leads to addresses alone that no upstream has: link-local, a cloud's metadata.
    Prohibited,
    /// It is one of our own listeners.
    Loop,
    /// It takes no more requests for now.
    Busy,
    /// The forward proxy on the way to it made no tunnel.
    Proxy(ProxyFault),
    /// There is no descriptor for another connection, or no thread to look its name up.
    Overloaded,
    /// The peer does not speak HTTP as it should.
    Protocol,
    /// It speaks none of the versions of HTTP that were offered.
    Version,
    Timeout,
    Other,
}

impl Error for Fault {}

/// Why a forward proxy made no tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyFault {
    /// Nobody is there, or it ended the connection.
    Away,
    /// It wants to know who asks (407).
    Unknown,
    /// It does not do what it is asked for (4xx).
    Forbidden,
    /// It does not get there (5xx).
    NoWay,
    /// Its answer is not one to CONNECT.
    Strange,
}

/// What TLS found wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    UnknownIssuer,
    WrongName,
    Expired,
    NotYetValid,
    BadCertificate,
    Alert,
    /// What answers does not speak TLS.
    NotTls,
    Other,
}

impl Fault {
    /// Looks through an error and its causes.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let mut found = Self::Other;
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(fault) = error.downcast_ref::<Self>() {
                return *fault;
            }
            if let Some(error) = error.downcast_ref::<rustls::Error>() {
                if *error == rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) {
                    return Self::Version;
                }
                return Self::Tls(TlsFault::of(error));
            }
            if let Some(io) = error.downcast_ref::<io::Error>() {
                // Why a name was not found is all one, whatever the system calls it.
                found = Self::of_io(io).filter(|_| found != Self::Dns).unwrap_or(found);
                // `io::Error::source` skips the error it wraps.
                next = io.get_ref().map(|inner| inner as &(dyn Error + 'static));
                continue;
            }
            if let Some(error) = error.downcast_ref::<h2::Error>() {
                return Self::of_h2(error);
            }
            if let Some(error) = error.downcast_ref::<hyper::Error>() {
                if error.is_parse() {
                    found = Self::Protocol;
                } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
                    found = Self::Reset;
                } else if error.is_timeout() {
                    found = Self::Timeout;
                }
            } else if error.to_string() == "dns error" {
                // hyper-util's connector, which reqwest uses, has no other mark for it.
                found = Self::Dns;
            }
            next = error.source();
        }
        found
    }

    /// What ends a stream, or all of them (RFC 9113, 7).
    fn of_h2(error: &h2::Error) -> Self {
        match error.reason() {
            // Both say that there is too much to do, and an app that is told so waits.
            Some(h2::Reason::REFUSED_STREAM | h2::Reason::ENHANCE_YOUR_CALM) if error.is_remote() => Self::Busy,
            Some(h2::Reason::HTTP_1_1_REQUIRED) if error.is_remote() => Self::Version,
            // We found it out by ourselves.
            Some(_) if error.is_library() => Self::Protocol,
            _ => error.get_io().and_then(Self::of_io).unwrap_or(Self::Reset),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest says nothing about a connection")]
    fn of_io(error: &io::Error) -> Option<Self> {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable,
            NotConnected, TimedOut, UnexpectedEof,
        };
        let short = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
        match error.kind() {
            _ if error.raw_os_error().is_some_and(|error| short.contains(&error)) => Some(Self::Overloaded),
            ConnectionRefused | HostUnreachable | NetworkUnreachable => Some(Self::Refused),
            ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof | NotConnected => Some(Self::Reset),
            TimedOut => Some(Self::Timeout),
            _ => None,
        }
    }
}

impl TlsFault {
    #[expect(clippy::wildcard_enum_match_arm, reason = "what has no cure of its own has no word of its own")]
    fn of(error: &rustls::Error) -> Self {
        use CertificateError as C;
        match error {
            rustls::Error::InvalidCertificate(certificate) => match certificate {
                // A bad signature is that of another authority under a trusted one's name: a private one made anew.
                C::UnknownIssuer | C::BadSignature => Self::UnknownIssuer,
                C::NotValidForName | C::NotValidForNameContext { .. } => Self::WrongName,
                C::Expired | C::ExpiredContext { .. } => Self::Expired,
                C::NotValidYet | C::NotValidYetContext { .. } => Self::NotYetValid,
                _ => Self::BadCertificate,
            },
            rustls::Error::AlertReceived(_) => Self::Alert,
            // The first byte of an answer says what it is, and `H` of `HTTP` is no record of TLS (RFC 8446, 5.1).
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "its name has no address",
            Self::Prohibited => {
                "its name leads to a link-local or metadata address; if that is right, name the address in `connect_to`"
            }
            Self::Loop => "it is one of bearerd's own listeners",
            Self::Proxy(ProxyFault::Away) => "the proxy on the way to it (the route's `proxy`) cannot be reached",
            Self::Proxy(ProxyFault::Unknown) => {
                "the proxy on the way to it wants a name and a password (407): write them into the route's `proxy`, \
                 `http://NAME:PASSWORD@HOST:PORT`"
            }
            Self::Proxy(ProxyFault::Forbidden) => {
                "the proxy on the way to it refuses to go there (4xx); whoever runs the proxy can allow it"
            }
            Self::Proxy(ProxyFault::NoWay) => "the proxy on the way to it does not get there (5xx)",
            Self::Proxy(ProxyFault::Strange) => "what the route's `proxy` names does not answer as a proxy",
            Self::Busy => "it takes no more requests for now; if it goes on, ask for less in `limits.in_flight`",
            Self::Overloaded => {
                "no descriptor is left for another connection, or no thread to look its name up; raise the limits \
                 (`ulimit -n`, `LimitNOFILE=`; `ulimit -u`, `TasksMax=`, `pids.max`)"
            }
            Self::Refused => "the connection was refused, or the network has no way there",
            Self::Reset => "the connection broke",
            Self::Tls(TlsFault::UnknownIssuer) => {
                "its certificate is not signed by a trusted authority; if it is a private one, set `tls.ca_file`"
            }
            Self::Tls(TlsFault::WrongName) => {
                "its certificate is for another name; if that is right, set `tls.server_name`"
            }
            Self::Tls(TlsFault::Expired) => "its certificate has expired (or this machine's clock is ahead)",
            Self::Tls(TlsFault::NotYetValid) => "its certificate is not valid yet (or this machine's clock is behind)",
            Self::Tls(TlsFault::BadCertificate) => "its certificate is not acceptable",
            Self::Tls(TlsFault::Alert) => "it ended the TLS handshake; it may want a client certificate",
            Self::Tls(TlsFault::NotTls) => "it does not speak TLS on this port; compare the port, or write `http://`",
            Self::Tls(TlsFault::Other) => "the TLS handshake failed; does it speak TLS 1.2 or 1.3?",
            Self::Version => {
                "it speaks another version of HTTP than the route asks for; leave `http` out to take what it offers"
            }
            Self::Protocol => "it does not answer with proper HTTP",
            Self::Timeout => "it took too long",
            Self::Other => "it failed",
        })
    }
}

/// With which code the peer reset a stream of HTTP/2, if it did. NO_ERROR is none that a broken message can be told by.
pub fn reset_code(error: &(dyn Error + 'static)) -> Option<h2::Reason> {
    let error = of_http2(error)?;
    error.reason().filter(|code| error.is_reset() && *code != h2::Reason::NO_ERROR)
}

/// What HTTP/2 says of an error: itself, or the first of its causes that is h2's.
pub fn of_http2<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a h2::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        next = error.source();
    }
    None
}

/// Whether a body that has come to an end was cut there. A peer may reset a stream with NO_ERROR, and to hyper that is an
/// end like any other.
pub fn is_cut(body: &Incoming, version: Version) -> bool {
    version == Version::HTTP_2 && !body.is_end_stream()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_found_however_deep() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let nested = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls));
        assert_eq!(Fault::of(&nested), Fault::Tls(TlsFault::UnknownIssuer));
        let namesake = rustls::Error::InvalidCertificate(CertificateError::BadSignature);
        assert_eq!(Fault::of(&io::Error::other(namesake)), Fault::Tls(TlsFault::UnknownIssuer));
        let refused = io::Error::other(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert_eq!(Fault::of(&refused), Fault::Refused);
        assert_eq!(Fault::of(&io::Error::other("canary")), Fault::Other);
        assert_eq!(Fault::of(&io::Error::from(Errno::MFILE)), Fault::Overloaded);
        assert_eq!(Fault::of(&io::Error::other("dns error")), Fault::Dns);
        assert_eq!(Fault::of(&io::Error::other(Fault::Prohibited)), Fault::Prohibited);
        let alert = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
        assert_eq!(Fault::of(&io::Error::other(alert)), Fault::Version);
        let ours = h2::Error::from(h2::Reason::REFUSED_STREAM);
        assert_eq!(Fault::of(&io::Error::other(ours)), Fault::Reset, "nobody said so");
    }

    #[test]
    fn nothing_of_a_peer_is_told() {
        let names = CertificateError::NotValidForNameContext {
            expected: rustls::pki_types::ServerName::try_from("api.example").unwrap(),
            presented: vec!["canary".into()],
        };
        let fault = Fault::of(&io::Error::other(rustls::Error::InvalidCertificate(names)));
        assert!(!fault.to_string().contains("canary"), "{fault}");
    }
}
