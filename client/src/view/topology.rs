//! Clusters, rules, drift and misplaced rows.

use std::fmt::Write;

use serde_json::{Value, json};
use shardlift_client::model::{ClusterDrift, ClusterView, Routed, TopologyView};
use shardlift_domain::facts::Misplaced;
use shardlift_domain::ids::ShardId;
use shardlift_domain::routing::{Routing, Rule};

use super::failure::brief;
use super::figures::{count, counted};
use super::harmless::line;
use super::paint::{Paint, Tone};

/// Shards of a group that are named.
const NAMED: usize = 8;
/// Newest changes that are shown.
const CHANGES: usize = 10;

/// Where a key is, in one line.
pub(crate) fn routed(routed: &Routed) -> String {
    let why = match routed.bucket {
        Some(bucket) => format!("{}, bucket {bucket}", line(&routed.rule)),
        None => line(&routed.rule),
    };
    format!("{}  (key {}, {why}, revision {})\n", routed.shard, line(&routed.key), routed.revision)
}

/// Where a key is.
pub(crate) fn routed_json(routed: &Routed) -> Value {
    json!({
        "shard": routed.shard,
        "key": routed.key,
        "rule": routed.rule,
        "bucket": routed.bucket,
        "topology_revision": routed.revision,
    })
}

/// Everything there is.
pub(crate) fn show(paint: Paint, view: &TopologyView) -> String {
    let mut text = format!("revision {}\n", view.revision);
    for cluster in &view.clusters {
        let _ = write!(text, "\n{}  {}\n", paint.tone(Tone::Strong, cluster.name.as_str()), cluster.engine);
        let _ = writeln!(text, "  routing    {}", rule(cluster));
        let discover =
            if cluster.discover { "announced shards join" } else { "announced shards are refused" };
        let _ = writeln!(text, "  discovery  {discover}");
        for (shard, origin) in &cluster.shards {
            let note = match *origin {
                "person" => "  added by a person",
                "worker" => "  announced by a worker",
                _ => "",
            };
            let _ = writeln!(text, "  shard      {shard}{note}");
        }
    }
    let newest = &view.changes[view.changes.len().saturating_sub(CHANGES)..];
    if !newest.is_empty() {
        text.push_str("\nchanges\n");
    }
    for change in newest {
        let _ = writeln!(text, "  {:>9}  {}", change.revision, line(&change.what));
    }
    text
}

fn rule(cluster: &ClusterView) -> String {
    let Some(routing) = &cluster.routing else { return "none".to_owned() };
    let parts: Vec<String> = match &routing.rule {
        Rule::Hash { spans, .. } => {
            spans.iter().map(|span| format!("{}-{} {}", span.first, span.last, span.shard)).collect()
        }
        Rule::Range { ranges } => ranges
            .iter()
            .map(|range| match &range.below {
                Some(below) => format!("below {} {}", line(below), range.shard),
                None => format!("rest {}", range.shard),
            })
            .collect(),
        Rule::Directory { default } => {
            let default =
                default.as_ref().map_or_else(|| "no default".to_owned(), |shard| format!("default {shard}"));
            vec![format!("{} entries", count(cluster.entries)), default]
        }
    };
    let declared = if cluster.routing_declared { ", declared in the file" } else { "" };
    format!("{} of {} keys{declared}: {}", routing.label(), routing.key, parts.join(", "))
}

/// Everything there is.
pub(crate) fn show_json(view: &TopologyView) -> Value {
    let cluster = |cluster: &ClusterView| {
        let shard = |(shard, origin): &(ShardId, &str)| json!({ "shard": shard, "origin": origin });
        json!({
            "cluster": cluster.name,
            "engine": cluster.engine,
            "shards": cluster.shards.iter().map(shard).collect::<Vec<_>>(),
            "routing": cluster.routing.as_ref().map(|routing: &Routing| json!(routing)),
            "routing_declared": cluster.routing_declared,
            "discover": cluster.discover,
            "entries": cluster.entries,
        })
    };
    json!({
        "revision": view.revision,
        "clusters": view.clusters.iter().map(cluster).collect::<Vec<_>>(),
        "changes": view.changes.iter().map(|change| json!(change)).collect::<Vec<_>>(),
    })
}

/// What differs, side by side: one line for each group under each object.
pub(crate) fn drift(paint: Paint, all: &[ClusterDrift]) -> String {
    let mut text = String::new();
    for cluster in all {
        let asked: usize = cluster.groups.iter().map(|(_, shards)| shards.len()).sum();
        let verdict = match cluster.drifted() {
            false => paint.tone(Tone::Good, "same schema"),
            true => paint.tone(Tone::Bad, &format!("{} different schemas", cluster.groups.len())),
        };
        let _ = writeln!(text, "cluster {}: {}, {verdict}", cluster.cluster, counted(asked, "shard"));
        if cluster.drifted() {
            for (number, (_, shards)) in (1..).zip(&cluster.groups) {
                let _ = writeln!(text, "  [{number}] {}", names(shards));
            }
        }
        for (object, sides) in &cluster.differences {
            let _ = writeln!(text, "\n  {}", paint.tone(Tone::Strong, &line(object)));
            for (number, side) in (1..).zip(sides) {
                let side = side.as_deref().map_or_else(|| "(not there)".to_owned(), line);
                let _ = writeln!(text, "    [{number}] {side}");
            }
        }
        for (shard, failure) in &cluster.unknown {
            let why = failure.as_ref().map(brief).unwrap_or_default();
            let _ = writeln!(text, "  {} {shard}: {why}", paint.tone(Tone::Bad, "not asked"));
        }
        if cluster.truncated {
            text.push_str("  there are more differences than could be compared\n");
        }
    }
    text
}

fn names(shards: &[ShardId]) -> String {
    let mut names: Vec<&str> = shards.iter().take(NAMED).map(|shard| shard.as_str()).collect();
    let more = format!("and {} more", shards.len().saturating_sub(NAMED));
    if shards.len() > NAMED {
        names.push(&more);
    }
    names.join(", ")
}

/// What differs.
pub(crate) fn drift_json(all: &[ClusterDrift]) -> Value {
    let cluster = |cluster: &ClusterDrift| {
        let group = |(digest, shards): &(String, Vec<ShardId>)| json!({ "digest": digest, "shards": shards });
        let difference =
            |(object, sides): &(String, Vec<Option<String>>)| json!({ "object": object, "sides": sides });
        let unknown = |(shard, failure): &(ShardId, Option<shardlift_domain::Failure>)| json!({ "shard": shard, "code": failure.as_ref().map(|failure| failure.code) });
        json!({
            "cluster": cluster.cluster,
            "drifted": cluster.drifted(),
            "groups": cluster.groups.iter().map(group).collect::<Vec<_>>(),
            "differences": cluster.differences.iter().map(difference).collect::<Vec<_>>(),
            "unknown": cluster.unknown.iter().map(unknown).collect::<Vec<_>>(),
            "truncated": cluster.truncated,
        })
    };
    json!({ "clusters": all.iter().map(cluster).collect::<Vec<_>>() })
}

/// A row on the wrong shard, in one line.
pub(crate) fn misplaced(shard: &ShardId, row: &Misplaced, to: Option<&ShardId>) -> String {
    let key = row.key.as_deref().map_or_else(|| "no key".to_owned(), |key| format!("key {}", line(key)));
    let to = to.map_or_else(|| "nowhere".to_owned(), ToString::to_string);
    format!("{shard}  row {}  {key}  belongs on {to}\n", line(&row.row))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(name: &str) -> ShardId {
        ShardId::new(name).expect("a name")
    }

    #[test]
    fn drift_is_shown_side_by_side_and_harmless() {
        let all = [ClusterDrift {
            cluster: "chat".parse().expect("a name"),
            groups: vec![("d1".into(), vec![shard("a"), shard("b")]), ("d2".into(), vec![shard("c")])],
            differences: vec![
                ("column public.t.x".into(), vec![Some("integer".into()), Some("text\x1b[2J".into())]),
                ("index public.t_x".into(), vec![Some("btree (x)".into()), None]),
            ],
            unknown: vec![],
            truncated: false,
        }];
        let expected = "\
cluster chat: 3 shards, 2 different schemas
  [1] a, b
  [2] c

  column public.t.x
    [1] integer
    [2] text\\u{1b}[2J

  index public.t_x
    [1] btree (x)
    [2] (not there)
";
        assert_eq!(drift(Paint::PLAIN, &all), expected);
    }
}
