//! How a token is asked for. One file for each way a client proves who it is; `endpoint` puts a request together.
//!
//! Must never know when to ask: that is the machine's.

pub mod assertion;
mod basic;
mod client;
pub mod discovery;
mod endpoint;
mod exec;
mod form;
pub mod key;
mod secret_file;
mod secrets;

use std::future::Future;

pub use discovery::{Described, NoDocument};
pub use endpoint::TokenEndpoint;
pub use secret_file::{SecretError, read as read_secret};
pub use secrets::read_once;

use super::grant::{AskError, Grant};
use crate::tls::TlsError;

/// Where tokens come from.
pub trait Source: Send + Sync + 'static {
    /// Asks once, with the credential of this index.
    fn ask(&self, credential: usize) -> impl Future<Output = Result<Grant, AskError>> + Send;

    /// Whether what the credential is read from holds something else than when it was last used.
    fn changed(&self, credential: usize) -> impl Future<Output = bool> + Send;
}

/// Why a token's client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the HTTP client cannot be made: {0}")]
    Client(#[from] reqwest::Error),
}
