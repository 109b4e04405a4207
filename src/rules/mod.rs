//! Which request may go where, decided before anything is sent.
//!
//! Must never know token values or sockets.

pub mod admit;
pub mod allow;
pub mod callers;
pub mod guards;
pub mod settings;
mod table;

pub use admit::{Admitted, Refusal, Route, Routes};
pub use callers::{Arrival, Clients};
pub use guards::Guards;
pub use settings::RouteSettings;
