//! Repairing rows that verification has found different.

use axum::Json;
use serde::{Deserialize, Serialize};
use shardlift_proto::v1;
use utoipa::ToSchema;

use super::Rest;
use super::asked::{Nothing, Path, Query, Sent};
use super::problem::Problem;
use v1::repaired_row::Fate;

/// Rows that an answer names; all are counted.
const NAMED: usize = 10_000;

/// How to repair; may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = Repair)]
pub(super) struct RepairAsked {
    /// Only tell what would be done.
    dry_run: bool,
}

/// What became of the rows.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Repaired)]
pub(super) struct RepairedBody {
    dry_run: bool,
    /// So many are given what their transform gives; of a dry run: would be.
    repaired: u64,
    /// So many are what it gives already.
    right: u64,
    /// So many stay as they are.
    left: u64,
    /// The first 10,000 of them.
    rows: Vec<RepairedRowBody>,
}

/// What became of a row; no value of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RepairedRow)]
struct RepairedRowBody {
    shard: String,
    /// `repaired`, `right` or `left`.
    fate: String,
    key: String,
    reason: String,
}

impl RepairedBody {
    fn add(&mut self, shard: String, row: v1::RepairedRow) {
        let (count, fate) = match row.fate() {
            Fate::Repaired => (&mut self.repaired, "repaired"),
            Fate::Right => (&mut self.right, "right"),
            Fate::Left | Fate::Unspecified => (&mut self.left, "left"),
        };
        *count += 1;
        if self.rows.len() < NAMED {
            let v1::RepairedRow { key, reason, .. } = row;
            self.rows.push(RepairedRowBody { shard, fate: fate.to_owned(), key, reason });
        }
    }
}

/// Gives rows that the last verification has found different what their transform gives, where nobody has changed them
/// since. Only while the migration is halted, paused or failed; asked again it repairs nothing twice.
#[utoipa::path(post, path = "/api/v1/migrations/{id}/repair", tag = "verbs",
    params(("id" = String, Path, description = "The migration's id.")),
    request_body(content = Option<RepairAsked>),
    responses((status = 200, description = "What became of each row.", body = RepairedBody)))]
pub(super) async fn repair(
    rest: Rest,
    Path(id): Path,
    _: Query<Nothing>,
    sent: Sent,
) -> Result<Json<RepairedBody>, Problem> {
    let RepairAsked { dry_run } = sent.optional()?;
    let mut told = rest.migrations().repair(v1::RepairRequest { id, dry_run }).await?.into_inner();
    let mut body = RepairedBody { dry_run, ..RepairedBody::default() };
    while let Some(v1::RepairResponse { shard, row }) = told.message().await? {
        body.add(shard, row.unwrap_or_default());
    }
    Ok(Json(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_counted_and_the_first_ones_are_named() {
        let mut body = RepairedBody::default();
        for number in 0..NAMED + 5 {
            let fate = if number % 2 == 0 { Fate::Repaired } else { Fate::Left };
            let row = v1::RepairedRow { fate: fate.into(), ..v1::RepairedRow::default() };
            body.add("chat-01".into(), row);
        }
        assert_eq!((body.repaired + body.left, body.rows.len()), (NAMED as u64 + 5, NAMED));
        assert_eq!((body.rows[0].fate.as_str(), body.rows[1].fate.as_str()), ("repaired", "left"));
    }
}
