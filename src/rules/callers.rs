//! Who sent a request, as far as that can be proved: by the kernel, by a certificate, or by a password.
//!
//! A port on localhost has no idea who calls; a unix socket knows the uid, TLS the certificate, and a client that can do
//! neither has a password. Must never know what a caller may do: that is the routes' business.

use std::sync::Arc;

use http::HeaderMap;

use crate::wire::form::Form;

/// How a request came in, and what its connection proves of who sent it.
#[derive(Clone, Debug, Default)]
pub struct Arrival {
    /// The place of its listener in the configuration.
    pub listener: usize,
    /// The app spoke TLS to us.
    pub tls: bool,
    /// Other machines reach the listener and it asks for no certificate: whoever has no name is refused.
    pub must_be_named: bool,
    /// The user at the other end of a unix socket.
    pub uid: Option<u32>,
    /// The subject alternative names of the client certificate that was verified: DNS names in lower case, and URIs.
    pub names: Vec<Box<str>>,
}

/// The named clients of the configuration.
#[derive(Debug, Default)]
pub struct Clients {}

impl Clients {
    /// The name of whoever sent a request that arrived so, if it is one of ours.
    pub fn name(&self, _arrival: &Arrival, _headers: &HeaderMap, _form: &Form) -> Option<Arc<str>> {
        None
    }
}
