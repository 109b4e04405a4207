//! The connection inside a CONNECT that is decrypted: TLS that we speak in the stead of where it was to lead.
//!
//! What comes out is a connection like any that was accepted, which proves what the outer one did and is for one place
//! alone. Must never know what is asked inside.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use rustls::{AlertDescription, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;

use super::door::{self, Door};
use super::stream::Stream;
use super::watched::{Serving, Watched};
use crate::ca::Ca;
use crate::observe::Observer;
use crate::observe::event::Asked;
use crate::observe::reason::Reason;
use crate::rules::{Arrival, Intercepted};

/// An app's connection that HTTP was taken off, with what was read behind its last request.
#[derive(Debug)]
pub struct Bare {
    io: Watched,
    ahead: Bytes,
    /// What comes is no head of a request.
    _serving: Serving,
}

impl Bare {
    pub(super) fn new(io: Watched, ahead: Bytes, serving: Serving) -> Self {
        Self { io, ahead, _serving: serving }
    }

    pub(super) fn stream(&self) -> &Stream {
        self.io.get_ref()
    }

    /// Speaks TLS with the app, which may take `patience` for the handshake. Who does not come that far is counted and
    /// told, as one of this `door`.
    pub(super) async fn decrypt(
        self,
        intercepted: Intercepted,
        arrival: &Arrival,
        ca: &Ca,
        patience: Duration,
        door: &Door,
        observer: &Observer,
    ) -> Option<(Stream, Arrival)> {
        let turned_away = |reason, why| {
            observer.turned_away(reason, &door.quiet, why, || arrival.asked(Asked::default()));
            observer.leave_without(reason, None, || arrival.asked(Asked::default()));
            None
        };
        let Ok(Some(config)) = ca.server(&intercepted.authority().host) else {
            return turned_away(Reason::Internal, "a bug in bearerd: there is no certificate for an intercepted host");
        };
        match tokio::time::timeout(patience, Box::pin(TlsAcceptor::from(config).accept(self))).await {
            Ok(Ok(stream)) => {
                let arrival = Arrival { tls: true, intercepted: Some(intercepted), ..arrival.clone() };
                Some((Stream::Inside(Box::new(stream)), arrival))
            }
            Ok(Err(error)) => {
                let (reason, why) = told(&error);
                turned_away(reason, why)
            }
            Err(_) => turned_away(Reason::AppTls, "the TLS handshake inside a CONNECT did not end in time"),
        }
    }
}

/// What went wrong with a handshake, in words that no peer chose.
fn told(error: &io::Error) -> (Reason, &'static str) {
    let found = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
    match found {
        // There is a certificate for the host of the CONNECT and for nothing else.
        Some(Error::General(_)) => (Reason::AmbiguousHost, "the TLS inside a CONNECT is for another host (SNI)"),
        Some(Error::InvalidMessage(_)) => (Reason::AppTls, "what it sends inside a CONNECT is not TLS"),
        Some(Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired,
        )) => (
            Reason::AppTls,
            "the app does not trust the local authority: let it read `ca.pem`, or `bundle.pem`, in `intercept.ca_dir`",
        ),
        // Many clients hang up without a word when they do not trust a certificate.
        None => (
            Reason::AppTls,
            "its peer left during the TLS handshake inside a CONNECT, mostly because it does not trust the local authority: \
             let it read `ca.pem`, or `bundle.pem`, in `intercept.ca_dir`",
        ),
        Some(_) => (Reason::AppTls, door::why(error)),
    }
}

impl AsyncRead for Bare {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            return Pin::new(&mut this.io).poll_read(context, buffer);
        }
        let some = this.ahead.len().min(buffer.remaining());
        buffer.put_slice(&this.ahead[..some]);
        this.ahead.advance(some);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bare {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(context, bytes)
    }
}
