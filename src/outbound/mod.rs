//! Everything between an admitted request and the upstream's answer: the request as it is sent, connections, pools.
//!
//! Must never know the route table or the identity provider.

mod dial;
mod guard;
mod http2;
mod lookup;
mod outgoing;
mod patient;
mod pool;
mod probe;
mod send;
mod through;
mod tunnel;
mod upstream;

pub use dial::{DestinationError, Destinations};
pub use guard::AddressGuard;
pub use outgoing::{Outgoing, Prepared, Unsealed};
pub use pool::Lease;
pub use probe::Probe;
pub use send::{Outbound, SWEEP, SendError};
pub use tunnel::Tunnel;
