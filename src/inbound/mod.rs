//! Listeners and the connections of apps.
//!
//! Must never know the identity provider.

pub mod settings;
