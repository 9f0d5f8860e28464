//! The wire: generated types, and their conversions to and from the domain.
//!
//! Reading order: [`v1`] is generated from `shardlift/v1/*.proto`; [`convert`] has one file per message family;
//! [`status`] is the one table between failures and gRPC codes. Nobody else converts.

#![allow(missing_docs, reason = "generated types carry the comments of the protos")]

pub mod convert;
pub mod status;

/// The version of the protocol between coordinator and worker; both sides must have the same.
pub const PROTOCOL: u32 = 1;

/// Generated messages, clients and servers.
#[allow(
    clippy::all,
    clippy::wildcard_imports,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "generated code follows its generator's taste"
)]
pub mod v1 {
    tonic::include_proto!("shardlift.v1");
    pub use prost_types::Timestamp;
}

/// Descriptors of all messages, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shardlift.bin"));
