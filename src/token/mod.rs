//! The life of an access token: when to ask for one, how, what to make of the answer, and who may read it.
//!
//! `machine` decides (pure), `source` asks, `driver` runs the two against each other, `slot` holds what was granted and
//! `registry` names the drivers. Must never know routes.

mod cure;
mod driver;
pub mod grant;
pub mod machine;
pub mod memory;
pub mod policy;
mod purse;
mod registry;
pub mod settings;
mod slot;
pub mod source;

#[cfg(test)]
#[path = "driver_tests.rs"]
mod driver_tests;

pub use machine::Generation;
pub use registry::{Registry, RegistryError, Status};
pub use settings::Settings;
pub use slot::{Answer, Bearer, Granted, Identity, NoToken, Reader};
