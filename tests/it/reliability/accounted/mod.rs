//! bearerd as a process, and books about every request: what the app got is held against what came to the API.
//!
//! Each file is a bar of docs/reliability.md, or what they are made with. No bar knows another.

mod books;
mod clock;
mod cold_start;
mod cut;
mod hostile;
mod idle;
mod load;
mod names;
mod outage;
mod overload;
mod panics;
mod proof;
mod refused;
mod renewals;
mod resolver;
mod rotation;
mod stopped;
mod upstream;
mod world;
