//! The wire: generated types, and their conversions to and from the domain.
//!
//! Reading order: [`v1`] is generated from `shardlift/v1/*.proto`; [`convert`] has one file per message family;
//! [`status`] is the one table between failures and gRPC codes, [`bearer`] puts a caller's token on calls. Nobody else converts.

#![allow(missing_docs, reason = "generated types carry the comments of the protos")]

pub mod bearer;
pub mod convert;
pub mod status;

/// The newest version of the protocol between coordinator and worker.
pub const PROTOCOL: u32 = 2;
/// The oldest version that this release still speaks: a peer of it is used for what it can do.
pub const OLDEST_PROTOCOL: u32 = 1;

/// The version that this release and a peer have in common; `None`: there is none. `oldest` 0: only `newest`.
pub fn common_protocol(oldest: u32, newest: u32) -> Option<u32> {
    let oldest = if oldest == 0 { newest } else { oldest };
    let common = newest.min(PROTOCOL);
    (common >= oldest && common >= OLDEST_PROTOCOL).then_some(common)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_meet_at_the_newest_version_that_both_speak() {
        assert_eq!(common_protocol(0, 1), Some(1));
        assert_eq!(common_protocol(1, PROTOCOL), Some(PROTOCOL));
        assert_eq!(common_protocol(PROTOCOL, PROTOCOL + 7), Some(PROTOCOL));
        assert_eq!(common_protocol(0, PROTOCOL + 1), None, "too new");
        assert_eq!(common_protocol(0, 0), None, "too old");
        assert_eq!(common_protocol(PROTOCOL + 1, PROTOCOL + 2), None);
    }
}
