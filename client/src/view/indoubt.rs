//! What is in doubt: one line for each prepared transaction, and one for each of its locks.

use std::fmt::Write;

use serde_json::{Value, json};
use shardlift_client::model::InDoubt;
use shardlift_domain::Failure;
use shardlift_domain::ids::ShardId;
use shardlift_domain::prepared::PreparedTransaction;

use super::failure::brief;
use super::figures::span;
use super::harmless::line;
use super::paint::{Paint, Tone};
use super::table::{Cell, Side, Table};

/// The table.
pub(crate) fn in_doubt(paint: Paint, found: &InDoubt) -> String {
    let mut text = String::new();
    if found.transactions.is_empty() {
        let all = found.unknown.is_empty();
        text.push_str(if all {
            "nothing is in doubt\n"
        } else {
            "nothing is in doubt on the shards that answered\n"
        });
    } else {
        let columns = ["SHARD", "MIGRATION", "AGE", "OWNER", "EPOCH", "DECISION", "LOCKS"];
        let mut table = Table::new(&columns.map(|name| (name, Side::Left)));
        for (shard, one, decision) in &found.transactions {
            table.row(row(shard, one, decision));
        }
        text.push_str(&table.render(paint));
    }
    for (shard, failure) in &found.unknown {
        let why = failure.as_ref().map(brief).unwrap_or_default();
        let _ = writeln!(text, "{} {shard}: {why}", paint.tone(Tone::Bad, "not asked"));
    }
    text
}

fn row(shard: &ShardId, one: &PreparedTransaction, decision: &'static str) -> Vec<Cell> {
    let (what, epoch) = match &one.named {
        Some(named) => (line(&named.migration), named.token.epoch.to_string()),
        None => (line(&one.gid), "-".to_owned()),
    };
    let tone = match decision {
        "commit" | "abort" | "open" => Tone::Strong,
        "unknown" => Tone::Bad,
        _ => Tone::Dim,
    };
    let locks: Vec<String> = one.locks.iter().map(|lock| line(lock)).collect();
    let locks = if locks.is_empty() { "none on tables".to_owned() } else { locks.join(", ") };
    vec![
        shard.to_string().into(),
        what.into(),
        span(one.age_ms / 1000).into(),
        line(&one.owner).into(),
        epoch.into(),
        Cell::new(tone, decision),
        locks.into(),
    ]
}

/// The same for programs.
pub(crate) fn in_doubt_json(found: &InDoubt) -> Value {
    let one = |(shard, one, decision): &(ShardId, PreparedTransaction, &'static str)| {
        json!({
            "shard": shard,
            "gid": one.gid,
            "ours": one.named.is_some(),
            "migration": one.named.as_ref().map(|named| named.migration.clone()),
            "epoch": one.named.as_ref().map(|named| named.token.epoch),
            "attempt": one.named.as_ref().map(|named| named.token.attempt),
            "age_ms": one.age_ms,
            "owner": one.owner,
            "decision": decision,
            "locks": one.locks,
        })
    };
    let unknown = |(shard, failure): &(ShardId, Option<Failure>)| json!({ "shard": shard, "code": failure.as_ref().map(|failure| failure.code) });
    json!({
        "transactions": found.transactions.iter().map(one).collect::<Vec<_>>(),
        "unknown": found.unknown.iter().map(unknown).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use shardlift_domain::prepared::Named;
    use shardlift_domain::{Attempt, Epoch, Token};

    use super::*;

    #[test]
    fn each_prepared_transaction_is_a_line_and_harmless() {
        let shard = |name: &str| ShardId::new(name).expect("a name");
        let token = Token { epoch: Epoch(7), attempt: Attempt(3) };
        let ours = PreparedTransaction {
            gid: "shardlift:…".into(),
            age_ms: 12_400,
            owner: "app".into(),
            named: Some(Named { migration: "0001_columns@1".into(), token }),
            locks: vec!["AccessExclusiveLock public.messages".into()],
        };
        let foreign = PreparedTransaction {
            gid: "theirs\x1b[2J".into(),
            owner: "dba".into(),
            named: None,
            locks: vec![],
            ..ours.clone()
        };
        let found = InDoubt {
            transactions: vec![(shard("s1"), ours, "commit"), (shard("s2"), foreign, "foreign")],
            unknown: vec![],
        };
        let expected = "\
SHARD  MIGRATION        AGE  OWNER  EPOCH  DECISION  LOCKS
s1     0001_columns@1   12s  app    7      commit    AccessExclusiveLock public.messages
s2     theirs\\u{1b}[2J  12s  dba    -      foreign   none on tables
";
        assert_eq!(in_doubt(Paint::PLAIN, &found), expected);
        assert_eq!(in_doubt(Paint::PLAIN, &InDoubt::default()), "nothing is in doubt\n");
        let silent = InDoubt { unknown: vec![(shard("s3"), None)], ..InDoubt::default() };
        let told = in_doubt(Paint::PLAIN, &silent);
        assert!(told.starts_with("nothing is in doubt on the shards that answered\nnot asked s3"), "{told}");
        assert_eq!(in_doubt_json(&found)["transactions"][0]["epoch"], 7);
    }
}
