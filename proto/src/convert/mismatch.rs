//! What is not what its transform gives.

use shardlift_domain::ids::ShardId;
use shardlift_domain::mismatch::{
    Compared, Difference, DifferingRow, LogPlace, MismatchesPage, MismatchesRequest,
};

use super::common::key_from_wire;
use super::{WireError, need};
use crate::v1;
use v1::differing_row::Difference as Wire;

/// A question to the wire.
pub fn mismatches_to_wire(query: u64, shard: ShardId, request: MismatchesRequest) -> v1::MismatchesQuery {
    v1::MismatchesQuery {
        query,
        shard: shard.into(),
        migration: Some(request.migration.into()),
        spec: Some(request.file.into()),
        after: request.after.map(place_to_wire),
        limit: request.limit,
    }
}

/// A question from the wire.
pub fn mismatches_from_wire(query: v1::MismatchesQuery) -> Result<MismatchesRequest, WireError> {
    Ok(MismatchesRequest {
        migration: key_from_wire(need(query.migration, "migration")?)?,
        file: need(query.spec, "spec")?.into(),
        after: query.after.map(place_from_wire),
        limit: query.limit,
    })
}

/// A page to the wire.
pub fn mismatches_page_to_wire(page: MismatchesPage) -> v1::MismatchesPage {
    v1::MismatchesPage {
        compared: Some(compared_to_wire(page.compared)),
        rows: page.rows.into_iter().map(differing_to_wire).collect(),
        next: page.next.map(place_to_wire),
    }
}

/// A page from the wire.
pub fn mismatches_page_from_wire(page: v1::MismatchesPage) -> Result<MismatchesPage, WireError> {
    Ok(MismatchesPage {
        compared: compared_from_wire(need(page.compared, "compared")?),
        rows: page.rows.into_iter().map(differing_from_wire).collect::<Result<_, _>>()?,
        next: page.next.map(place_from_wire),
    })
}

pub(super) fn place_to_wire(place: LogPlace) -> v1::LogPlace {
    v1::LogPlace { range: place.range, batch: place.batch, part: place.part, row: place.row }
}

pub(super) fn place_from_wire(place: v1::LogPlace) -> LogPlace {
    LogPlace { range: place.range, batch: place.batch, part: place.part, row: place.row }
}

/// Figures to the wire.
pub fn compared_to_wire(compared: Compared) -> v1::Compared {
    let Compared { verified, mismatches, changed, gone, left_out } = compared;
    v1::Compared { verified, mismatches, changed, gone, left_out }
}

/// Figures from the wire.
pub fn compared_from_wire(compared: v1::Compared) -> Compared {
    let v1::Compared { verified, mismatches, changed, gone, left_out } = compared;
    Compared { verified, mismatches, changed, gone, left_out }
}

/// A row to the wire.
pub fn differing_to_wire(row: DifferingRow) -> v1::DifferingRow {
    let difference = match row.difference {
        Difference::Mismatch => Wire::Mismatch,
        Difference::Changed => Wire::Changed,
        Difference::Gone => Wire::Gone,
    };
    v1::DifferingRow { difference: difference.into(), key: row.key, reason: row.reason }
}

/// A row from the wire.
pub fn differing_from_wire(row: v1::DifferingRow) -> Result<DifferingRow, WireError> {
    let difference = match row.difference() {
        Wire::Mismatch => Difference::Mismatch,
        Wire::Changed => Difference::Changed,
        Wire::Gone => Difference::Gone,
        Wire::Unspecified => {
            return Err(WireError::Unknown { what: "difference", value: row.difference.to_string() });
        }
    };
    Ok(DifferingRow { difference, key: row.key, reason: row.reason })
}
