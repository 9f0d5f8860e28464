//! Repairing what verification has found different.

use shardlift_domain::ids::ShardId;
use shardlift_domain::repair::{Fate, RepairPage, RepairRequest, RepairedRow};

use super::common::key_from_wire;
use super::mismatch::{place_from_wire, place_to_wire};
use super::{WireError, need};
use crate::v1;
use v1::repaired_row::Fate as Wire;

/// A question to the wire.
pub fn repair_to_wire(query: u64, shard: ShardId, request: RepairRequest) -> v1::RepairQuery {
    v1::RepairQuery {
        query,
        shard: shard.into(),
        migration: Some(request.migration.into()),
        spec: Some(request.file.into()),
        after: request.after.map(place_to_wire),
        limit: request.limit,
        dry_run: request.dry_run,
    }
}

/// A question from the wire.
pub fn repair_from_wire(query: v1::RepairQuery) -> Result<RepairRequest, WireError> {
    Ok(RepairRequest {
        migration: key_from_wire(need(query.migration, "migration")?)?,
        file: need(query.spec, "spec")?.into(),
        after: query.after.map(place_from_wire),
        limit: query.limit,
        dry_run: query.dry_run,
    })
}

/// A page to the wire.
pub fn repair_page_to_wire(page: RepairPage) -> v1::RepairPage {
    v1::RepairPage {
        rows: page.rows.into_iter().map(repaired_to_wire).collect(),
        next: page.next.map(place_to_wire),
    }
}

/// A page from the wire.
pub fn repair_page_from_wire(page: v1::RepairPage) -> Result<RepairPage, WireError> {
    Ok(RepairPage {
        rows: page.rows.into_iter().map(repaired_from_wire).collect::<Result<_, _>>()?,
        next: page.next.map(place_from_wire),
    })
}

/// A row to the wire.
pub fn repaired_to_wire(row: RepairedRow) -> v1::RepairedRow {
    let fate = match row.fate {
        Fate::Repaired => Wire::Repaired,
        Fate::Right => Wire::Right,
        Fate::Left => Wire::Left,
    };
    v1::RepairedRow { fate: fate.into(), key: row.key, reason: row.reason }
}

/// A row from the wire.
pub fn repaired_from_wire(row: v1::RepairedRow) -> Result<RepairedRow, WireError> {
    let fate = match row.fate() {
        Wire::Repaired => Fate::Repaired,
        Wire::Right => Fate::Right,
        Wire::Left => Fate::Left,
        Wire::Unspecified => {
            return Err(WireError::Unknown { what: "fate", value: row.fate.to_string() });
        }
    };
    Ok(RepairedRow { fate, key: row.key, reason: row.reason })
}
