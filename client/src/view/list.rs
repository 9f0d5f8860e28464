//! Many migrations as a table, and the words for where one stands.

use shardlift_client::model::{Gate, MigrationView};
use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::Status;
use shardlift_domain::spec::Kind;

use super::figures;
use super::paint::{Paint, Tone};
use super::table::{Cell, Side, Table};

/// The table; a sentence where there is none.
pub(crate) fn list(paint: Paint, views: &[MigrationView]) -> String {
    if views.is_empty() {
        return "no migrations yet: write a spec (shardlift new) and apply it\n".to_owned();
    }
    let mut table = Table::new(&[
        ("ID", Side::Left),
        ("VERSION", Side::Right),
        ("KIND", Side::Left),
        ("ENGINE", Side::Left),
        ("CLUSTER", Side::Left),
        ("STATUS", Side::Left),
        ("CHANGED", Side::Right),
        ("TOTAL", Side::Right),
        ("SUBMITTED", Side::Left),
    ]);
    for view in views {
        let rows = |rows| if view.kind == Kind::Data { figures::count(rows) } else { "-".to_owned() };
        table.row(vec![
            view.id().as_str().into(),
            view.key.version.to_string().into(),
            view.kind.as_str().into(),
            view.engine.as_str().into(),
            view.cluster.as_str().into(),
            Cell::new(tone(view), standing(view)),
            rows(view.rows_done).into(),
            rows(view.rows_total).into(),
            view.created_at.as_deref().map_or_else(|| "-".to_owned(), seconds).into(),
        ]);
    }
    table.render(paint)
}

/// Where a migration stands, in words: `running, data`; `halted`; `pending, waits for 0001_columns`.
pub(crate) fn standing(view: &MigrationView) -> String {
    match view.status {
        Status::Running => match (&view.gate, view.phase) {
            (Some(gate), _) => format!("running{}, {}", wave(view), at_gate(gate)),
            (None, Some(phase)) => format!("running{}, {phase}{}", wave(view), decided(view)),
            (None, None) => "running".to_owned(),
        },
        Status::Paused if view.halted.is_some() => format!("halted{}", wave(view)),
        Status::Pending if !view.released => "pending, not started".to_owned(),
        Status::Pending if !view.waiting_for.is_empty() => {
            format!("pending, waits for {}", ids(&view.waiting_for))
        }
        Status::RollingBack => "rolling back".to_owned(),
        Status::RolledBack => "rolled back".to_owned(),
        Status::Completed if view.held.rows > 0 => {
            format!("completed, {} in quarantine", figures::count(view.held.rows))
        }
        status => format!("{status}{}", decided(view)),
    }
}

/// What was decided about what shards have prepared, while some have still to hear it.
fn decided(view: &MigrationView) -> String {
    view.decided.as_ref().map(|word| format!(", decided to {word}")).unwrap_or_default()
}

/// Which wave of how many, when there are several.
fn wave(view: &MigrationView) -> String {
    if view.waves > 1 { format!(", wave {} of {}", view.wave, view.waves) } else { String::new() }
}

fn at_gate(gate: &Gate) -> String {
    match &gate.closed {
        Some(_) => "done, gate closed".to_owned(),
        None => {
            let left = gate.soak_left.as_millis().div_ceil(1000);
            format!("done, soaks {} more", figures::span(u64::try_from(left).unwrap_or(u64::MAX)))
        }
    }
}

/// How a standing is meant.
pub(crate) fn tone(view: &MigrationView) -> Tone {
    match view.status {
        Status::Completed if view.held.rows > 0 => Tone::Warn,
        Status::Completed => Tone::Good,
        Status::Failed => Tone::Bad,
        Status::Paused if view.halted.is_some() => Tone::Bad,
        Status::Paused | Status::Cancelled | Status::RollingBack | Status::RolledBack => Tone::Warn,
        Status::Pending => Tone::Dim,
        Status::Running => Tone::Strong,
    }
}

/// Ids with commas, the first few of many.
pub(crate) fn ids(ids: &[MigrationId]) -> String {
    const SHOWN: usize = 6;
    let mut text = ids.iter().take(SHOWN).map(MigrationId::as_str).collect::<Vec<_>>().join(", ");
    if ids.len() > SHOWN {
        text.push_str(&format!(" and {} more", ids.len() - SHOWN));
    }
    text
}

/// A time without the fraction of its second: `2026-11-23T01:02:03Z`.
pub(crate) fn seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((whole, fraction)) if fraction.ends_with('Z') => format!("{whole}Z"),
        _ => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_list_reads_like_a_table() {
        let views = [
            samples::completed(),
            samples::running(),
            samples::halted(),
            samples::pending("0020_index", &["0008_message_text"]),
        ];
        let expected = "\
ID                 VERSION  KIND  ENGINE    CLUSTER  STATUS                                CHANGED    TOTAL  SUBMITTED
0008_message_text        1  data  postgres  chat     completed                             101,800  200,000  2026-11-23T01:02:03Z
0008_message_text        1  data  postgres  chat     running, data                         101,800  200,000  2026-11-23T01:02:03Z
0008_message_text        1  data  postgres  chat     halted                                101,800  200,000  2026-11-23T01:02:03Z
0020_index               1  data  postgres  chat     pending, waits for 0008_message_text        0        0  2026-11-23T01:02:03Z
";
        assert_eq!(list(Paint::PLAIN, &views), expected);
        assert_eq!(standing(&samples::soaking(false)), "running, wave 1 of 2, done, soaks 45s more");
        assert_eq!(standing(&samples::soaking(true)), "running, wave 1 of 2, done, gate closed");
        assert_eq!(seconds("2026-11-23T01:02:03.123456Z"), "2026-11-23T01:02:03Z");
        assert!(list(Paint::PLAIN, &[]).starts_with("no migrations yet"));
    }
}
