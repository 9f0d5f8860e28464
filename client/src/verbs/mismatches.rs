//! `shardlift mismatches ID`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shardlift_client::model::Differing;
use shardlift_domain::ids::{MigrationId, ShardId};
use shardlift_domain::mismatch::{Compared, DifferingRow};

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::figures::{count, counted};
use crate::view::harmless::line;

/// Compare the rows of a data migration with what its transform gives, or with what was written. Reads only; keys, no other values.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift mismatches 0008_message_text
  shardlift mismatches 0008_message_text --since --output json

Needs `undo: capture` in the spec, and works as long as the before-images are kept. A mismatch is a row that nobody has changed since
and that is not what the transform gives. Where the spec asks `verify: digest` only, or the transform does not give the same again, rows are
compared with the digests of what was written: one that differs was changed since. Rows that somebody has changed or deleted since are counted, and listed with --since.
Ends with 0 when no row mismatches, and with 8 when some do.")]
pub(crate) struct Mismatches {
    /// The migration's id.
    id: MigrationId,

    /// Also list rows that were changed since, or are gone.
    #[arg(long)]
    since: bool,

    /// List at most so many.
    #[arg(long, value_name = "ROWS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
}

impl Mismatches {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let mut look = session.client()?.mismatches(&self.id, self.limit, self.since).await?;
        let mut rows = Vec::new();
        let mut shards: BTreeMap<ShardId, (Compared, bool)> = BTreeMap::new();
        while let Some(found) = look.next().await? {
            match found {
                Differing::Row(shard, row) => {
                    session.console.remark(&told(&shard, &row))?;
                    // Bounded by the limit.
                    rows.push(listed(&shard, &row));
                }
                Differing::Compared(shard, compared, done) => drop(shards.insert(shard, (compared, done))),
            }
        }
        let mut all = Compared::default();
        shards.values().for_each(|(compared, _)| all += *compared);
        let more = shards.values().any(|(_, done)| !done);
        let sentence =
            format!("{}{}\n", summary(&all), if more { "; there may be more (--limit)" } else { "" });
        let value = || {
            let shard = |(shard, (compared, done)): (&ShardId, &(Compared, bool))| {
                let mut figures = figures(compared);
                figures["shard"] = json!(shard);
                figures["done"] = json!(done);
                figures
            };
            json!({ "rows": rows, "shards": shards.iter().map(shard).collect::<Vec<_>>(), "more": more })
        };
        session.console.answer(|_| sentence, value)?;
        Ok(if all.mismatches > 0 { Exit::Differs } else { Exit::Done })
    }
}

fn told(shard: &ShardId, row: &DifferingRow) -> String {
    format!("{shard}: {}: {}: {}\n", row.difference.as_str(), line(&row.key), line(&row.reason))
}

fn listed(shard: &ShardId, row: &DifferingRow) -> Value {
    json!({ "shard": shard, "difference": row.difference.as_str(), "key": row.key, "reason": row.reason })
}

fn figures(compared: &Compared) -> Value {
    let Compared { verified, mismatches, changed, gone, .. } = compared;
    json!({ "verified": verified, "mismatches": mismatches, "changed": changed, "gone": gone })
}

fn summary(all: &Compared) -> String {
    let rows = usize::try_from(all.looked_at()).unwrap_or(usize::MAX);
    format!(
        "{}: {} right, {} not what the transform gives, {} changed since, {} gone",
        counted(rows, "row"),
        count(all.verified),
        count(all.mismatches),
        count(all.changed),
        count(all.gone)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_each_kind() {
        let all = Compared { verified: 1500, mismatches: 2, changed: 3, gone: 1, left_out: 0 };
        let expected = "1,506 rows: 1,500 right, 2 not what the transform gives, 3 changed since, 1 gone";
        assert_eq!(summary(&all), expected);
    }
}
