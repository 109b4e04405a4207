//! Which request may go where, decided before anything is sent.
//!
//! Must never know token values or sockets.

pub mod settings;

pub use settings::RouteSettings;
