//! The history of all migrations, and what a walk along its chain has found.

use serde_json::{Value, json};
use shardlift_client::model::{AuditEntry, AuditFact, Verified};
use shardlift_domain::ended::EndedSession;
use shardlift_domain::ids::ShardId;
use shardlift_domain::spec::Throttle;

use super::harmless::line;
use super::paint::{Paint, Tone};
use super::table::{Cell, Side, Table};

/// Characters of a hash in a table: enough to compare by eye.
const SHORT: usize = 12;

/// The table.
pub(crate) fn entries(paint: Paint, entries: &[AuditEntry], more: bool) -> String {
    if entries.is_empty() {
        return "nothing was recorded\n".to_owned();
    }
    let columns = ["SEQUENCE", "TIME", "ACTOR", "MIGRATION", "EVENT", "WHAT", "REQUEST", "HASH"];
    let mut table = Table::new(&columns.map(|name| (name, Side::Left)));
    for entry in entries {
        table.row(row(entry));
    }
    let mut text = table.render(paint);
    if let Some(last) = entries.last().filter(|_| more) {
        text.push_str(&format!("more: --after {}\n", last.sequence));
    }
    text
}

fn row(entry: &AuditEntry) -> Vec<Cell> {
    let hash: String = entry.hash.as_deref().unwrap_or("-").chars().take(SHORT).collect();
    let sequence = entry.sequence.to_string();
    match &entry.fact {
        Ok(fact) => vec![
            sequence.into(),
            line(&fact.at).into(),
            line(&fact.actor).into(),
            line(&about(fact)).into(),
            Cell::new(Tone::Strong, line(&fact.event)),
            line(&what(&fact.detail)).into(),
            line(fact.request_id.as_deref().unwrap_or("-")).into(),
            Cell::new(Tone::Dim, line(&hash)),
        ],
        Err(why) => vec![
            sequence.into(),
            "-".into(),
            "-".into(),
            "-".into(),
            Cell::new(Tone::Bad, "unreadable"),
            line(why).into(),
            "-".into(),
            Cell::new(Tone::Dim, line(&hash)),
        ],
    }
}

/// Which migration, or that it is about all of them.
fn about(fact: &AuditFact) -> String {
    fact.migration.as_ref().map_or_else(|| "-".to_owned(), |(id, version)| format!("{id}@{version}"))
}

/// A detail in a few words: from where to where, or on which shard.
fn what(detail: &str) -> String {
    let detail: Value = serde_json::from_str(detail).unwrap_or_default();
    let word = |value: &Value| value.as_str().map(str::to_owned);
    let stand = |value: &Value| Some(format!("{}/{}", word(&value["status"])?, word(&value["phase"])?));
    let mut words = Vec::new();
    match (stand(&detail["before"]), stand(&detail)) {
        (Some(before), Some(after)) if before != after => words.push(format!("{before} -> {after}")),
        (_, Some(after)) => words.push(after),
        _ => {}
    }
    let throttle = |value: &Value| serde_json::from_value::<Throttle>(value["throttle"].clone()).ok();
    if let (Some(before), Some(after)) = (throttle(&detail["before"]), throttle(&detail)) {
        words.push(format!("{before} -> {after}"));
    }
    words.extend(detail["what"].as_array().into_iter().flatten().filter_map(word));
    words.extend(word(&detail["worker"]));
    words.extend(word(&detail["verb"]));
    words.extend(word(&detail["shard"]));
    words.extend(word(&detail["step"]));
    words.extend(ended(&detail).iter().map(ToString::to_string));
    words.extend(word(&detail["code"]).or_else(|| word(&detail["failure"]["code"])));
    words.extend(detail["times"].as_u64().filter(|times| *times > 1).map(|times| format!("{times} times")));
    words.extend(detail["wave"].as_u64().map(|wave| format!("wave {}", wave + 1)));
    words.join(" ")
}

/// The sessions of the application that were ended, if the detail has any.
fn ended(detail: &Value) -> Vec<EndedSession> {
    serde_json::from_value(detail["sessions"].clone()).unwrap_or_default()
}

/// The same of an entry, each with its shard.
pub(crate) fn ended_by(entry: &AuditEntry) -> Vec<(ShardId, EndedSession)> {
    let detail = entry.fact.as_ref().ok().map(|fact| fact.detail.as_str());
    let detail: Value = detail.and_then(|detail| serde_json::from_str(detail).ok()).unwrap_or_default();
    let Some(shard) = detail["shard"].as_str().and_then(|shard| ShardId::new(shard).ok()) else {
        return Vec::new();
    };
    ended(&detail).into_iter().map(|session| (shard.clone(), session)).collect()
}

/// One entry as a line of a log.
pub(crate) fn sentence(entry: &AuditEntry) -> String {
    let text = match &entry.fact {
        Ok(fact) => {
            format!("{} {} {} {} {}", fact.at, fact.actor, about(fact), fact.event, what(&fact.detail))
        }
        Err(why) => format!("unreadable: {why}"),
    };
    format!("{}  {}\n", entry.sequence, line(text.trim_end()))
}

/// The same for programs.
pub(crate) fn entries_json(entries: &[AuditEntry], more: bool) -> Value {
    json!({ "entries": entries.iter().map(entry_json).collect::<Vec<_>>(), "more": more })
}

/// One entry for programs.
pub(crate) fn entry_json(entry: &AuditEntry) -> Value {
    let fact = entry.fact.as_ref().ok();
    let migration = fact.and_then(|fact| fact.migration.as_ref());
    json!({
        "sequence": entry.sequence,
        "migration": migration.map(|(id, _)| id),
        "version": migration.map(|(_, version)| version),
        "event": fact.map(|fact| fact.event.clone()),
        "at": fact.map(|fact| fact.at.clone()),
        "actor": fact.map(|fact| fact.actor.clone()),
        "request_id": fact.and_then(|fact| fact.request_id.clone()),
        "detail": fact.and_then(|fact| serde_json::from_str::<Value>(&fact.detail).ok()),
        "unreadable": entry.fact.as_ref().err(),
        "hash": entry.hash,
    })
}

/// What the walk has found, in sentences.
pub(crate) fn verified(paint: Paint, found: &Verified) -> String {
    let Verified { entries, unchained, head, broken, .. } = found;
    let old = if *unchained == 0 { String::new() } else { format!(", {unchained} older than the chain") };
    match broken {
        None => {
            let told = paint.tone(Tone::Good, "the chain holds");
            format!("{told}: {entries} entries{old}; head {}\n", line(head))
        }
        Some((at, why)) => {
            let place = at.map_or_else(|| "at the end".to_owned(), |sequence| format!("at entry {sequence}"));
            let told = paint.tone(Tone::Bad, "broken");
            format!("{told} {place}: {}\n{entries} entries before it hold{old}\n", line(why))
        }
    }
}

/// The same for programs.
pub(crate) fn verified_json(found: &Verified) -> Value {
    let broken = found.broken.as_ref().map(|(sequence, why)| json!({ "sequence": sequence, "why": why }));
    json!({
        "entries": found.entries, "unchained": found.unchained, "head": found.head, "last": found.last,
        "broken": broken,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_is_a_line_and_harmless() {
        let fact = AuditFact {
            migration: Some(("0001_text".into(), 1)),
            event: "started".into(),
            at: "2026-11-28T21:00:00.123456Z".into(),
            actor: "olaf\x1b[2J".into(),
            request_id: Some("r-1".into()),
            detail:
                r#"{"status":"running","phase":"precheck","before":{"status":"pending","phase":"precheck"}}"#
                    .into(),
        };
        let hash = Some("0123456789abcdef".to_owned());
        let told = AuditEntry { sequence: 7, fact: Ok(fact), hash };
        let wrong = AuditEntry { sequence: 8, fact: Err("no event".into()), hash: None };
        let expected = "\
SEQUENCE  TIME                         ACTOR          MIGRATION    EVENT       WHAT                                  REQUEST  HASH
7         2026-11-28T21:00:00.123456Z  olaf\\u{1b}[2J  0001_text@1  started     pending/precheck -> running/precheck  r-1      0123456789ab
8         -                            -              -            unreadable  no event                              -        -
more: --after 8
";
        assert_eq!(entries(Paint::PLAIN, &[told.clone(), wrong.clone()], true), expected);
        let line = "7  2026-11-28T21:00:00.123456Z olaf\\u{1b}[2J 0001_text@1 started pending/precheck -> running/precheck\n";
        assert_eq!(sentence(&told), line);
        assert_eq!(sentence(&wrong), "8  unreadable: no event\n");
        let mut ended = told.clone();
        let fact = ended.fact.as_mut().expect("readable");
        fact.detail = r#"{"shard":"pg-02","step":"apply","sessions":[{"pid":7,"application":"reports","user":"reader","state":"active","open_seconds":3,"quiet_seconds":1,"statement":"SELECT"}]}"#.into();
        let who = "pid 7 (reports, user reader, active, transaction open for 3 s, SELECT 1 s ago)";
        assert!(sentence(&ended).ends_with(&format!("pg-02 apply {who}\n")), "{}", sentence(&ended));
        let (shard, session) = ended_by(&ended).pop().expect("a session");
        assert_eq!((shard.as_str(), session.to_string().as_str()), ("pg-02", who));
        assert!(ended_by(&told).is_empty());
        let mut drained = told.clone();
        let fact = drained.fact.as_mut().expect("readable");
        (fact.migration, fact.event) = (None, "worker_drained".into());
        fact.detail = r#"{"worker":"worker-a","draining":true,"before":{"draining":false}}"#.into();
        let line = "7  2026-11-28T21:00:00.123456Z olaf\\u{1b}[2J - worker_drained worker-a\n";
        assert_eq!(sentence(&drained), line);
        assert_eq!(entry_json(&drained)["migration"], Value::Null);
        let mut refused = drained.clone();
        let fact = refused.fact.as_mut().expect("readable");
        fact.event = "refused".into();
        fact.detail = r#"{"verb":"POST /api/v1/migrations/{id}/start","code":"access.forbidden","role":"viewer","shard":null,"times":7}"#.into();
        let line = "7  2026-11-28T21:00:00.123456Z olaf\\u{1b}[2J - refused POST /api/v1/migrations/{id}/start access.forbidden 7 times\n";
        assert_eq!(sentence(&refused), line);
        assert_eq!(entries(Paint::PLAIN, &[], false), "nothing was recorded\n");
    }

    #[test]
    fn what_a_walk_has_found_is_a_sentence() {
        let holds = Verified { entries: 7, unchained: 0, head: "abc".into(), last: Some(9), broken: None };
        assert_eq!(verified(Paint::PLAIN, &holds), "the chain holds: 7 entries; head abc\n");
        let broken = Verified { unchained: 2, broken: Some((Some(8), "it was changed".into())), ..holds };
        let told = verified(Paint::PLAIN, &broken);
        assert_eq!(
            told,
            "broken at entry 8: it was changed\n7 entries before it hold, 2 older than the chain\n"
        );
        let cut = Verified { broken: Some((None, "the newest were removed".into())), ..broken };
        assert!(verified(Paint::PLAIN, &cut).starts_with("broken at the end: the newest were removed\n"));
        assert_eq!(verified_json(&cut)["broken"]["sequence"], Value::Null);
    }
}
