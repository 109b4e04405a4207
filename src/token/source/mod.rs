//! How a token is asked for. One file for each way a client proves who it is; `endpoint` puts a request together.
//!
//! Must never know when to ask: that is the machine's.

pub mod assertion;
mod basic;
mod discovery;
mod endpoint;
pub mod key;
mod post;
mod secret_file;

use std::future::Future;

pub use endpoint::{SourceError, TokenEndpoint};
pub use secret_file::{SecretError, read as read_secret};

use super::grant::{AskError, Grant};

/// Where tokens come from.
pub trait Source: Send + Sync + 'static {
    /// Asks once, with the credential of this index.
    fn ask(&self, credential: usize) -> impl Future<Output = Result<Grant, AskError>> + Send;

    /// Whether what the credential's secret is read from holds something else than when it was last sent.
    fn changed(&self, credential: usize) -> bool;
}
