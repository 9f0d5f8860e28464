//! What a comparison of rows with what their transform gives tells.

use shardlift_domain::ids::ShardId;
use shardlift_domain::mismatch::{Compared, DifferingRow};
use shardlift_proto::convert::{WireError, compared_from_wire, differing_from_wire};
use shardlift_proto::v1;

/// One piece of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Differing {
    /// A row that differs.
    Row(ShardId, DifferingRow),
    /// The figures of a shard so far; whether that is all of it.
    Compared(ShardId, Compared, bool),
}

impl Differing {
    pub(crate) fn from_wire(found: v1::MismatchesResponse) -> Result<Self, WireError> {
        use v1::mismatches_response::Found as Wire;
        Ok(match found.found.ok_or(WireError::Missing("found"))? {
            Wire::Row(found) => {
                let row = differing_from_wire(found.row.ok_or(WireError::Missing("row"))?)?;
                Differing::Row(ShardId::new(found.shard)?, row)
            }
            Wire::Compared(found) => {
                let compared = compared_from_wire(found.compared.ok_or(WireError::Missing("compared"))?);
                Differing::Compared(ShardId::new(found.shard)?, compared, found.done)
            }
        })
    }
}
