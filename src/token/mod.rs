//! The life of an access token: when to ask for one, how, what to make of the answer, and who may read it.
//!
//! `machine` decides (pure), `source` asks, `driver` runs the two against each other, `slot` holds what was granted and
//! `registry` names the drivers. Must never know routes.

pub mod policy;
pub mod settings;

pub use settings::Settings;
