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
    use std::sync::Arc;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Empty};
    use hyper::client::conn::{http1, http2};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use rustls::pki_types::{ServerName, UnixTime};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::sync::Notify;

    use super::*;

    fn wrong_name() -> CertificateError {
        CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("api.example").unwrap(),
            presented: vec!["canary".into()],
        }
    }

    fn ask() -> Request<Empty<Bytes>> {
        Request::new(Empty::new())
    }

    /// What comes of a request by HTTP/1 that is answered so.
    async fn http1(answer: &[u8]) -> hyper::Result<Response<Incoming>> {
        let (near, mut far) = duplex(1024);
        let (mut sender, connection) = http1::handshake(TokioIo::new(near)).await.unwrap();
        tokio::spawn(connection);
        let answered = async {
            assert!(far.read(&mut [0; 1024]).await.unwrap() > 0);
            far.write_all(answer).await.unwrap();
            drop(far);
        };
        tokio::join!(sender.send_request(ask()), answered).0
    }

    /// How a body ends by HTTP/2 if its stream is reset so once some of it is there, or ends properly then.
    async fn http2(reset: Option<h2::Reason>) -> (Incoming, Option<hyper::Error>) {
        let (near, far) = duplex(64 * 1024);
        let read = Arc::new(Notify::new());
        let was_read = Arc::clone(&read);
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(far).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            tokio::spawn(async move {
                let mut sent = respond.send_response(Response::new(()), false).unwrap();
                sent.send_data("some".into(), false).unwrap();
                was_read.notified().await;
                match reset {
                    Some(reason) => sent.send_reset(reason),
                    None => sent.send_data("more".into(), true).unwrap(),
                }
            });
            while connection.accept().await.is_some() {}
        });
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
        tokio::spawn(connection);
        let mut body = sender.send_request(ask()).await.unwrap().into_body();
        assert!(body.frame().await.unwrap().is_ok());
        read.notify_one();
        end(body).await
    }

    async fn end(mut body: Incoming) -> (Incoming, Option<hyper::Error>) {
        loop {
            match body.frame().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return (body, Some(error)),
                None => return (body, None),
            }
        }
    }

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
        for reason in [h2::Reason::REFUSED_STREAM, h2::Reason::HTTP_1_1_REQUIRED] {
            let ours = io::Error::other(h2::Error::from(reason));
            assert_eq!(Fault::of(&ours), Fault::Reset, "nobody said so");
        }
    }

    #[test]
    fn what_the_system_says_is_told_by_what_to_do_about_it() {
        use io::ErrorKind as K;
        for (kinds, fault) in [
            (&[K::ConnectionRefused, K::HostUnreachable, K::NetworkUnreachable][..], Fault::Refused),
            (
                &[K::ConnectionReset, K::ConnectionAborted, K::BrokenPipe, K::UnexpectedEof, K::NotConnected],
                Fault::Reset,
            ),
            (&[K::TimedOut], Fault::Timeout),
            (&[K::PermissionDenied], Fault::Other),
        ] {
            for kind in kinds {
                assert_eq!(Fault::of(&io::Error::from(*kind)), fault, "{kind}");
            }
        }
    }

    #[test]
    fn what_tls_finds_wrong_is_told_by_what_to_do_about_it() {
        use CertificateError as C;
        let time = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
        for (error, fault) in [
            (C::UnknownIssuer.into(), TlsFault::UnknownIssuer),
            (C::NotValidForName.into(), TlsFault::WrongName),
            (wrong_name().into(), TlsFault::WrongName),
            (C::Expired.into(), TlsFault::Expired),
            (C::ExpiredContext { time, not_after: time }.into(), TlsFault::Expired),
            (C::NotValidYet.into(), TlsFault::NotYetValid),
            (C::NotValidYetContext { time, not_before: time }.into(), TlsFault::NotYetValid),
            (C::BadEncoding.into(), TlsFault::BadCertificate),
            (rustls::Error::AlertReceived(AlertDescription::HandshakeFailure), TlsFault::Alert),
            (InvalidMessage::InvalidContentType.into(), TlsFault::NotTls),
            (InvalidMessage::InvalidEmptyPayload.into(), TlsFault::Other),
        ] {
            assert_eq!(Fault::of(&error), Fault::Tls(fault), "{error:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told_from_none() {
        for (answer, fault) in [
            (&b"SSH-2.0-OpenSSH_9.9\r\n\r\n"[..], Fault::Protocol),
            (b"", Fault::Reset),
            (b"HTTP/1.1 200 OK\r\n", Fault::Reset),
        ] {
            let error = http1(answer).await.unwrap_err();
            assert_eq!(Fault::of(&error), fault, "{}: {error:?}", answer.escape_ascii());
        }
        // A connection that went before it took the request, and before it was asked whether it would.
        let (near, _far) = duplex(1024);
        let (mut sender, connection) = http1::handshake(TokioIo::new(near)).await.unwrap();
        let asked = sender.send_request(ask());
        drop(connection);
        let canceled = asked.await.unwrap_err();
        assert!(canceled.is_canceled(), "{canceled:?}");
        assert_eq!(Fault::of(&canceled), Fault::Reset);
        let closed = sender.ready().await.unwrap_err();
        assert!(closed.is_closed(), "{closed:?}");
        assert_eq!(Fault::of(&closed), Fault::Reset);
    }

    #[tokio::test]
    async fn a_stream_of_http_2_ends_for_what_its_code_says() {
        use h2::Reason as R;
        for (reason, fault, code) in [
            (R::REFUSED_STREAM, Fault::Busy, Some(R::REFUSED_STREAM)),
            (R::ENHANCE_YOUR_CALM, Fault::Busy, Some(R::ENHANCE_YOUR_CALM)),
            (R::HTTP_1_1_REQUIRED, Fault::Version, Some(R::HTTP_1_1_REQUIRED)),
            (R::INTERNAL_ERROR, Fault::Reset, Some(R::INTERNAL_ERROR)),
        ] {
            let (_, error) = http2(Some(reason)).await;
            let error = error.unwrap();
            assert_eq!((Fault::of(&error), reset_code(&error)), (fault, code), "{error:?}");
        }
        // What ends the connection, and with it every stream, is no reset of one.
        let gone = h2::Error::from(R::ENHANCE_YOUR_CALM);
        assert_eq!(reset_code(&gone), None);
        assert_eq!(reset_code(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
    }

    #[tokio::test]
    async fn what_is_no_http_2_is_found_out_here() {
        let (near, mut far) = duplex(64 * 1024);
        let shaken = http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), TokioIo::new(near)).await;
        let (_sender, connection) = shaken.unwrap();
        // SETTINGS of a stream (RFC 9113, 6.5).
        far.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 1]).await.unwrap();
        let error = connection.await.unwrap_err();
        assert_eq!((Fault::of(&error), reset_code(&error)), (Fault::Protocol, None), "{error:?}");
    }

    #[tokio::test]
    async fn an_end_by_no_error_is_none_where_more_was_to_come() {
        let (cut, error) = http2(Some(h2::Reason::NO_ERROR)).await;
        assert!(error.is_none() && is_cut(&cut, Version::HTTP_2), "{error:?}");
        let (whole, error) = http2(None).await;
        assert!(error.is_none() && !is_cut(&whole, Version::HTTP_2), "{error:?}");
        // Chunks have a last one.
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nall\r\n0\r\n\r\n";
        let (whole, error) = end(http1(chunked).await.unwrap().into_body()).await;
        assert!(error.is_none() && !is_cut(&whole, Version::HTTP_11), "{error:?}");
    }

    #[test]
    fn nothing_of_a_peer_is_told_and_what_can_be_done_is() {
        let fault = Fault::of(&io::Error::other(rustls::Error::from(wrong_name())));
        assert!(!fault.to_string().contains("canary"), "{fault}");
        for (fault, cure) in [
            (fault, "`tls.server_name`"),
            (Fault::Tls(TlsFault::UnknownIssuer), "`tls.ca_file`"),
            (Fault::Tls(TlsFault::NotTls), "`http://`"),
            (Fault::Prohibited, "`connect_to`"),
            (Fault::Proxy(ProxyFault::Unknown), "`http://NAME:PASSWORD@HOST:PORT`"),
            (Fault::Busy, "`limits.in_flight`"),
            (Fault::Overloaded, "`ulimit -n`"),
            (Fault::Version, "`http`"),
        ] {
            assert!(fault.to_string().contains(cure), "{fault}");
        }
    }
}
