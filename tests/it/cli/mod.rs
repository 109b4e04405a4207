//! The command line and the running process, from outside: the real binary, real signals, an empty environment.

pub(crate) mod child;
pub(crate) mod stage;

mod access_log;
pub(crate) mod activation;
mod checking;
mod configured;
mod demo;
mod descriptors;
mod doctor;
mod ending;
mod examples;
mod exec;
mod health;
mod hints;
mod http2_abuse;
mod listeners;
mod logs;
mod memory;
mod mistakes;
mod newcomer;
mod proofs;
mod reload;
mod secrets;
mod service;
mod token;
mod usage;
mod websockets;
