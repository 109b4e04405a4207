//! Which request may go where, decided before anything is sent.
//!
//! Must never know token values or sockets.

pub mod admit;
pub mod allow;
pub mod callers;
pub mod connect;
pub mod gate;
pub mod guards;
pub mod settings;
mod table;
pub mod way_back;

pub use admit::{Admission, Admitted, Refusal, Route, RouteId, Routes};
pub use callers::{Arrival, Caller, Clients};
pub use connect::{Connect, Intercepted, TunnelHost, TunnelTo, Tunnelled};
pub use gate::Gate;
pub use guards::Guards;
pub use settings::RouteSettings;
