//! What a rehearsal foretells, and the rows that it shows.

use std::time::Duration;

use serde_json::{Value, json};
use shardlift_client::Sample;
use shardlift_domain::rehearsal::{ErrorClass, Foretold, Measured, Rehearsal, Rehearsed, RehearsedShard};
use shardlift_domain::spec::Engine;

use super::figures::{self, counted};
use super::harmless::{block, line};
use super::paint::{Paint, Tone};

/// Most shards that are listed one by one.
const SHARDS_SHOWN: usize = 12;
/// Where the second column begins.
const INDENT: usize = 17;

/// The lines of one migration in a plan.
pub(super) fn rehearsal(rehearsal: &Rehearsal, engine: Engine) -> String {
    let mut text = String::new();
    let mut fact = |name: &str, value: String| text.push_str(&format!("     {name:<12}{value}\n"));
    if let Some(why) = &rehearsal.skipped {
        fact("rehearsal", block(&format!("none: {why}"), INDENT));
        return text;
    }
    let head = match &rehearsal.duration {
        Some(spread) => format!(
            "half of the shards within {}, nine of ten within {}, all waves {}",
            about(spread.p50),
            about(spread.p90),
            about(spread.total)
        ),
        None => "it foretells nothing".to_owned(),
    };
    fact("rehearsal", head);
    for each in rehearsal.shards.iter().take(SHARDS_SHOWN) {
        fact("", block(&shard(each, engine), INDENT));
    }
    if rehearsal.shards.len() > SHARDS_SHOWN {
        fact("", format!("and {} more", figures::count((rehearsal.shards.len() - SHARDS_SHOWN) as u64)));
    }
    text
}

fn shard(shard: &RehearsedShard, engine: Engine) -> String {
    let name = &shard.shard;
    match &shard.outcome {
        Rehearsed::Measured { measured, foretold } => {
            format!("{name}  {}", told(measured, *foretold, engine))
        }
        Rehearsed::Later { why } => {
            format!("{name}  is rehearsed after its schema step is applied: {}", line(why))
        }
        Rehearsed::Failed { failure } => {
            format!("{name}  could not be rehearsed: {}: {}", failure.code, line(&failure.message))
        }
    }
}

fn told(measured: &Measured, foretold: Option<Foretold>, engine: Engine) -> String {
    let log = match engine {
        Engine::Postgres => "WAL",
        Engine::Mongodb => "oplog (an estimate)",
    };
    let mut text = format!(
        "{} gone over, {} changed",
        counted(usize::try_from(measured.walked).unwrap_or(usize::MAX), "row"),
        figures::count(measured.changed)
    );
    if let Some(rate) = measured.rows_per_second() {
        text.push_str(&format!(", {} rows/s", figures::count(rate)));
    }
    if let Some(Foretold { duration, log_bytes }) = foretold {
        text.push_str(&format!("; all of it {}, {} of {log}", about(duration), figures::bytes(log_bytes)));
    }
    if let Some(why) = &measured.cut_short {
        text.push_str(&format!("; cut short: {}", line(why)));
    }
    for ErrorClass { code, message, rows, keys } in &measured.errors {
        let keys: Vec<String> = keys.iter().map(|key| line(key)).collect();
        let rows = counted(usize::try_from(*rows).unwrap_or(usize::MAX), "row");
        text.push_str(&format!(
            "\n{rows} cannot be changed: {code}: {} (for example {})",
            line(message),
            keys.join(", ")
        ));
    }
    text
}

fn about(time: Duration) -> String {
    match time.as_secs() {
        0 => "below 1s".to_owned(),
        seconds => figures::span(seconds),
    }
}

/// Rows before and after, each difference on two lines.
pub(crate) fn samples(paint: Paint, samples: &[Sample]) -> String {
    let mut text = String::new();
    for Sample { migration, shard, row } in samples {
        let title = format!("{migration}, shard {shard}, key {}", line(&row.key));
        text.push_str(&format!("{}\n", paint.tone(Tone::Strong, &title)));
        for field in &row.fields {
            let value = |value: &Option<String>| value.as_deref().map_or_else(|| "–".to_owned(), line);
            let (before, after) = (value(&field.before), value(&field.after));
            let name = line(&field.name);
            text.push_str(&paint.tone(Tone::Bad, &format!("  - {name}: {before}")));
            text.push('\n');
            text.push_str(&paint.tone(Tone::Good, &format!("  + {name}: {after}")));
            text.push('\n');
        }
    }
    if !text.is_empty() {
        text.push_str("Rolled back: no row was changed.\n");
    }
    text
}

/// One migration, for scripts.
pub(crate) fn rehearsal_json(rehearsal: &Rehearsal) -> Value {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    json!({
        "migration": rehearsal.migration,
        "skipped": rehearsal.skipped,
        "duration": rehearsal.duration.map(|spread| json!({
            "p50_ms": millis(spread.p50), "p90_ms": millis(spread.p90), "total_ms": millis(spread.total),
        })),
        "shards": rehearsal.shards.iter().map(shard_json).collect::<Vec<_>>(),
    })
}

fn shard_json(shard: &RehearsedShard) -> Value {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (measured, foretold) = match &shard.outcome {
        Rehearsed::Measured { measured, foretold } => (Some(measured), *foretold),
        Rehearsed::Later { .. } | Rehearsed::Failed { .. } => (None, None),
    };
    let (later, failure) = match &shard.outcome {
        Rehearsed::Later { why } => (Some(why), None),
        Rehearsed::Failed { failure } => (None, Some(super::json::failure(failure))),
        Rehearsed::Measured { .. } => (None, None),
    };
    let class = |class: &ErrorClass| json!({ "code": class.code, "message": class.message, "rows": class.rows, "keys": class.keys });
    json!({
        "shard": shard.shard,
        "rows": measured.map(|measured| measured.walked),
        "changed": measured.map(|measured| measured.changed),
        "took_ms": measured.map(|measured| millis(measured.took)),
        "rows_per_second": measured.and_then(Measured::rows_per_second),
        "log_bytes": measured.map(|measured| measured.log_bytes),
        "errors": measured.map(|measured| measured.errors.iter().map(class).collect::<Vec<_>>()),
        "cut_short": measured.and_then(|measured| measured.cut_short.as_ref()),
        "foretold": foretold.map(|foretold| json!({
            "duration_ms": millis(foretold.duration), "log_bytes": foretold.log_bytes,
        })),
        "later": later,
        "failure": failure,
    })
}

/// A shown row, for scripts.
pub(crate) fn sample_json(Sample { migration, shard, row }: &Sample) -> Value {
    let fields = row.fields.iter();
    let fields: Vec<Value> = fields
        .map(|field| json!({ "name": field.name, "before": field.before, "after": field.after }))
        .collect();
    json!({ "migration": migration, "shard": shard, "key": row.key, "fields": fields })
}

#[cfg(test)]
mod tests {
    use shardlift_domain::rehearsal::{SampleField, SampleRow, Spread};

    use super::super::samples as sample;
    use super::*;

    fn rehearsed() -> Rehearsal {
        let took = Duration::from_millis(50);
        let class = ErrorClass {
            code: shardlift_domain::ErrorCode::RowRejected,
            message: "null value in column".into(),
            rows: 2,
            keys: vec!["17".into(), "42".into()],
        };
        let measured = Measured {
            walked: 1_002,
            changed: 900,
            took,
            log_bytes: 90_000,
            errors: vec![class],
            cut_short: None,
        };
        let foretold = measured.foretell(1_000_000, None);
        let outcome = Rehearsed::Measured { measured, foretold };
        let later = Rehearsed::Later { why: "no column body_text".into() };
        Rehearsal {
            migration: "0008_message_text".parse().expect("a name"),
            shards: vec![
                RehearsedShard { shard: sample::shard("chat-pg-01"), outcome },
                RehearsedShard { shard: sample::shard("chat-pg-02"), outcome: later },
            ],
            duration: Spread::of(vec![Duration::from_secs(50)], Duration::from_secs(110)),
            skipped: None,
        }
    }

    #[test]
    fn a_rehearsal_says_how_long_how_much_and_what_goes_wrong() {
        let expected =
            "     rehearsal   half of the shards within 50s, nine of ten within 50s, all waves 1m 50s
                 chat-pg-01  1,002 rows gone over, 900 changed, 20,000 rows/s; all of it 50s, 85.8 MiB of WAL
                 2 rows cannot be changed: row.rejected: null value in column (for example 17, 42)
                 chat-pg-02  is rehearsed after its schema step is applied: no column body_text
";
        assert_eq!(rehearsal(&rehearsed(), Engine::Postgres), expected);
        let json = rehearsal_json(&rehearsed());
        assert_eq!(json["shards"][0]["rows_per_second"], 20_000);
        assert_eq!(json["shards"][1]["later"], "no column body_text");
    }

    #[test]
    fn a_row_is_shown_before_and_after_and_does_the_terminal_no_harm() {
        let field = SampleField::of("body", None, Some("a\u{1b}[2J".into())).expect("differs");
        let row = SampleRow { key: "7".into(), fields: vec![field] };
        let migration = "m".parse().expect("a name");
        let text = samples(Paint::PLAIN, &[Sample { migration, shard: sample::shard("s"), row }]);
        let expected =
            "m, shard s, key 7\n  - body: –\n  + body: a\\u{1b}[2J\nRolled back: no row was changed.\n";
        assert_eq!(text, expected);
    }
}
