//! What stands on the wire: authorities, request forms, header hygiene, gRPC's words, and bodies that may be sent again.
//!
//! Must never know tokens or routes.

pub mod authority;
pub mod challenge;
pub mod ear;
pub mod fault;
pub mod form;
pub mod frames;
pub mod gathered;
pub mod grpc;
pub mod headers;
pub mod path;
pub mod proxy;
pub mod replay;
pub mod trace;
pub mod via;
pub mod websocket;
