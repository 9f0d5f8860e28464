//! `shardlift repair ID`.

use serde_json::{Value, json};
use shardlift_domain::ids::{MigrationId, ShardId};
use shardlift_domain::repair::{Fate, RepairedRow};

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::figures::{count, counted};
use crate::view::harmless::line;

/// Rows that the JSON names; all are counted, and all are told as they come.
const NAMED: usize = 10_000;

/// Give rows that verification has found different what their transform gives, where nobody has changed them since.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift repair 0008_message_text --dry-run
  shardlift repair 0008_message_text
  shardlift resume 0008_message_text

Only while the migration is halted, paused or failed. Repaired are rows that verification has recorded and that still are as it has seen
them: mismatches, and, where the spec says `changed: 0`, rows that somebody has changed. All others are left alone, each with the
reason. A row is compared under its lock and repaired in a transaction of its own, once; a rollback still restores what was
there before the migration. Ends with 0 when nothing was left alone, and with 8 when something was. `resume` verifies again.")]
pub(crate) struct Repair {
    /// The migration's id.
    id: MigrationId,

    /// Only tell what would be done, by key.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Default)]
struct Told {
    repaired: u64,
    right: u64,
    left: u64,
    rows: Vec<Value>,
}

impl Repair {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let mut repair = session.client()?.repair(&self.id, self.dry_run).await?;
        let mut told = Told::default();
        while let Some((shard, row)) = repair.next().await? {
            session.console.remark(&sentence(&shard, &row, self.dry_run))?;
            told.add(&shard, &row);
        }
        let summary = told.summary(self.dry_run);
        let Told { repaired, right, left, rows } = told;
        let value = || {
            json!({
                "dry_run": self.dry_run, "repaired": repaired, "right": right, "left": left, "rows": rows,
            })
        };
        session.console.answer(|_| summary, value)?;
        Ok(if left > 0 { Exit::Differs } else { Exit::Done })
    }
}

impl Told {
    fn add(&mut self, shard: &ShardId, row: &RepairedRow) {
        *match row.fate {
            Fate::Repaired => &mut self.repaired,
            Fate::Right => &mut self.right,
            Fate::Left => &mut self.left,
        } += 1;
        if self.rows.len() < NAMED {
            self.rows.push(json!({
                "shard": shard, "fate": row.fate.as_str(), "key": row.key, "reason": row.reason,
            }));
        }
    }

    fn summary(&self, dry_run: bool) -> String {
        let all = self.repaired + self.right + self.left;
        if all == 0 {
            return "nothing to repair: verification has recorded no row that differs\n".to_owned();
        }
        let rows = counted(usize::try_from(all).unwrap_or(usize::MAX), "row");
        let done = if dry_run { "would be repaired" } else { "repaired" };
        format!(
            "{rows}: {} {done}, {} right already, {} left alone\n",
            count(self.repaired),
            count(self.right),
            count(self.left)
        )
    }
}

fn sentence(shard: &ShardId, row: &RepairedRow, dry_run: bool) -> String {
    let fate = match row.fate {
        Fate::Repaired if dry_run => "would be repaired",
        fate => fate.as_str(),
    };
    format!("{shard}: {fate}: {}: {}\n", line(&row.key), line(&row.reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_each_fate() {
        let shard = ShardId::new("chat-01").expect("a name");
        let mut told = Told::default();
        for fate in [Fate::Repaired, Fate::Repaired, Fate::Right, Fate::Left] {
            told.add(&shard, &RepairedRow { fate, key: "7".into(), reason: "why".into() });
        }
        assert_eq!(told.summary(false), "4 rows: 2 repaired, 1 right already, 1 left alone\n");
        assert!(told.summary(true).contains("2 would be repaired"));
        assert!(Told::default().summary(false).starts_with("nothing to repair"));
    }
}
