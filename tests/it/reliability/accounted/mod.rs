//! bearerd as a process, and books about every request: what the app got is held against what came to the API.
//!
//! Each file is a bar of docs/reliability.md, or what they are made with. No bar knows another.

mod books;
mod cold_start;
mod cut;
mod disk;
mod drains;
mod exhausted;
mod handoff;
mod hostile;
mod idle;
mod load;
mod outage;
mod overload;
mod probes;
mod proof;
mod refused;
mod reloads;
mod renewals;
mod rotation;
mod sigterms;
mod stopped;
mod upstream;
mod world;
