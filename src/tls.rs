//! One crypto provider, one way to trust, one way to make a client configuration.
//!
//! Must never know who dials whom.

use std::path::PathBuf;

use rustls::pki_types::ServerName;

/// A `tls` block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsSettings {
    /// Replaces the system's roots.
    pub ca_file: Option<PathBuf>,
    /// Adds to the roots.
    pub extra_ca_file: Option<PathBuf>,
    /// The client's certificate chain and its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the peer's certificate must carry and that is sent as SNI, if not the dialled one.
    pub server_name: Option<ServerName<'static>>,
}
