//! bearerd as a process, and books about every request: what the app got is held against what came to the API.
//!
//! Each file is a bar of docs/reliability.md, or what they are made with. No bar knows another.

mod books;
mod canary;
mod certificates;
mod clock;
mod cold_start;
mod cut;
mod disk;
mod drains;
mod exhausted;
mod handoff;
mod hostile;
mod http2;
mod idle;
mod load;
mod names;
mod network;
mod outage;
mod overload;
mod panics;
mod probes;
mod proof;
mod refused;
mod relay;
mod reloads;
mod renewals;
mod resolver;
mod rotation;
mod sigterms;
mod soak;
mod stopped;
mod tls_files;
mod upstream;
mod world;
