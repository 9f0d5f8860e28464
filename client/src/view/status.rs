//! One migration in full: figures, shards, and everything that went wrong.

use shardlift_client::model::{MigrationView, ShardView};
use shardlift_domain::ended::EndedSession;
use shardlift_domain::failure::Failure;
use shardlift_domain::ids::ShardId;
use shardlift_domain::migration::{Phase, Status};
use shardlift_domain::spec::{Kind, Throttle};
use shardlift_domain::verdict::Undone;

use super::failure::{brief, failure};
use super::figures;
use super::harmless::line;
use super::list::{seconds, standing, tone};
use super::paint::{Paint, Tone};
use super::table::{Cell, Side, Table};

/// Most sessions that are named.
const ENDED: usize = 10;

/// The whole page.
pub(crate) fn status(paint: Paint, view: &MigrationView) -> String {
    let mut text = format!(
        "{}  {}, {}, cluster {}\n",
        paint.tone(Tone::Strong, &view.key.to_string()),
        view.kind,
        view.engine,
        view.cluster
    );
    let mut fact = |name: &str, value: &str| text.push_str(&format!("  {name:<10} {value}\n"));
    fact("status", &paint.tone(tone(view), &standing(view)));
    if view.kind == Kind::Data {
        fact("rows", &rows(view));
    }
    if let Some(text) = throttle(view) {
        fact("throttle", &text);
    }
    if let Some(text) = saved(view) {
        fact("saved", &text);
    }
    if let Some(author) = &view.author {
        fact("author", &line(author));
    }
    match (&view.approval_needed, &view.approved_by) {
        (Some(needed), _) => fact("approval", &format!("needed: {}", line(&needed.message))),
        (None, Some(by)) => fact("approved", &format!("by {}", line(by))),
        (None, None) => {}
    }
    if let Some(text) = undone(view) {
        fact("undone", &text);
    }
    match view.purged {
        Some(true) => fact("purged", "its before-images are gone: it cannot be rolled back"),
        Some(false) => fact("purging", "its before-images are being removed: it cannot be rolled back"),
        None => {}
    }
    if !view.held.is_empty() {
        fact("set aside", &held(view));
    }
    let times =
        [("created", &view.created_at), ("started", &view.started_at), ("completed", &view.completed_at)];
    for (name, time) in times {
        if let Some(time) = time {
            fact(name, &seconds(time));
        }
    }
    if !view.uncovered.is_empty() {
        let names: Vec<_> = view.uncovered.iter().take(5).map(|shard| shard.as_str()).collect();
        let more = if view.uncovered.len() > 5 { ", …" } else { "" };
        fact(
            "lacks",
            &format!("{}{more}: joined later, not covered; see `shardlift drift`", names.join(", ")),
        );
    }
    fact("checksum", &line(view.checksum.as_str()));
    if !view.shards.is_empty() {
        text.push('\n');
        text.push_str(&shards(paint, view));
    }
    text.push_str(&troubles(view));
    for each in failures(view) {
        text.push('\n');
        text.push_str(&failure(paint, each, &[]));
    }
    if let Some(hint) = hint(view) {
        text.push_str(&format!("\n{hint}\n"));
    }
    text
}

/// The sessions of the application that were ended, one line for each of the newest; `None`: nobody could say.
pub(crate) fn ended(sessions: Option<&[(ShardId, EndedSession)]>) -> String {
    let Some(sessions) = sessions else {
        return "\nwhether sessions were ended is not known: its events could not be read\n".to_owned();
    };
    if sessions.is_empty() {
        return String::new();
    }
    let mut text = String::from("\nsessions that kept it from its locks were ended:\n");
    let older = sessions.len().saturating_sub(ENDED);
    if older > 0 {
        text.push_str(&format!("  {older} before these (shardlift events)\n"));
    }
    for (shard, session) in sessions.iter().skip(older) {
        text.push_str(&format!("  {shard}: {}\n", line(&session.to_string())));
    }
    text
}

/// What holds, if anything does or an operator has said so.
fn throttle(view: &MigrationView) -> Option<String> {
    let in_force = view.throttle.as_ref()?;
    match in_force.in_spec {
        Some(in_spec) => Some(format!("{} (changed; the spec says: {in_spec})", in_force.now)),
        None if in_force.now == Throttle::default() => None,
        None => Some(in_force.now.to_string()),
    }
}

/// `120,000 rows, 31.4 MiB`; `None`: nothing was saved, or nobody has told of it since the leader changed.
pub(crate) fn saved(view: &MigrationView) -> Option<String> {
    let saved = || view.shards.iter().map(|part| part.progress.saved);
    let (rows, bytes) = (saved().map(|one| one.rows).sum::<u64>(), saved().map(|one| one.bytes).sum());
    let rows_told = figures::counted(usize::try_from(rows).unwrap_or(usize::MAX), "row");
    ((rows, bytes) != (0, 0)).then(|| format!("{rows_told}, {}", figures::bytes(bytes)))
}

/// `1,200 restored, 1 conflict (shardlift conflicts ID)`; `None`: nothing of it is undone.
pub(crate) fn undone(view: &MigrationView) -> Option<String> {
    let Undone { restored, conflicts } = view.undone;
    if view.kind == Kind::Schema || (restored, conflicts) == (0, 0) {
        return None;
    }
    let mut text = format!("{} restored", figures::count(restored));
    if conflicts > 0 {
        let noun = if conflicts == 1 { "conflict" } else { "conflicts" };
        let listed = format!("shardlift conflicts {}", view.id());
        text.push_str(&format!(", {} {noun} left alone ({listed})", figures::count(conflicts)));
    }
    Some(text)
}

/// `61,728 changed of about 100,000 (61 % walked), 12,000 rows/s, ETA 6s`.
pub(crate) fn rows(view: &MigrationView) -> String {
    let mut text =
        format!("{} changed of about {}", figures::count(view.rows_done), figures::count(view.rows_total));
    if let Some(fraction) = view.fraction() {
        text.push_str(&format!(" ({} walked)", figures::percent(fraction)));
    }
    if view.status == Status::Running && view.rows_per_second() > 0.0 {
        text.push_str(&format!(", {} rows/s", figures::rate(view.rows_per_second())));
        if let Some(eta) = view.eta_seconds() {
            text.push_str(&format!(", ETA {}", figures::span(eta)));
        }
    }
    text
}

/// `3 rows to decide about, 1 discarded`.
fn held(view: &MigrationView) -> String {
    let waits = figures::counted(usize::try_from(view.held.rows).unwrap_or(usize::MAX), "row");
    format!("{waits} to decide about, {} discarded", figures::count(view.held.discarded))
}

/// Everything that failed for good or halted it, each once.
pub(crate) fn failures(view: &MigrationView) -> Vec<&Failure> {
    let mut all: Vec<&Failure> = Vec::new();
    let of_shards = view.shards.iter().filter_map(|part| part.error.as_ref());
    for failure in view.halted.iter().chain(&view.error).chain(&view.rolled_back_for).chain(of_shards) {
        if !all.contains(&failure) {
            all.push(failure);
        }
    }
    all
}

/// What a person can do now, when it rests or was not started.
pub(crate) fn hint(view: &MigrationView) -> Option<String> {
    let id = view.id();
    Some(match view.status {
        Status::Pending if view.approval_needed.is_some() => {
            format!("have it approved: shardlift approve {id}")
        }
        Status::Pending if !view.released => format!("start it: shardlift start {id}"),
        Status::Failed | Status::Paused if view.phase == Some(Phase::Undo) => {
            format!("go on undoing it: shardlift rollback {id}   (or leave it so: shardlift cancel {id})")
        }
        Status::RolledBack => "the same id may be submitted again as its next version".to_owned(),
        Status::Failed => {
            format!("mend the cause, then: shardlift retry {id}   (or give up: shardlift cancel {id})")
        }
        Status::Completed if view.held.rows > 0 => {
            format!("rows were left out: shardlift quarantine list {id}")
        }
        Status::Paused => format!("go on: shardlift resume {id}   (or give up: shardlift cancel {id})"),
        _ => return None,
    })
}

fn shards(paint: Paint, view: &MigrationView) -> String {
    if view.kind == Kind::Schema {
        let columns =
            [("SHARD", Side::Left), ("STEP", Side::Left), ("VERIFIED", Side::Left), ("WORKERS", Side::Left)];
        let mut table = Table::new(&with_wave(view, columns.to_vec()));
        for part in &view.shards {
            let cells = vec![part.shard.as_str().into(), step(part), verified(part), workers(part).into()];
            table.row(and_wave(view, part, cells));
        }
        return table.render(paint);
    }
    // Only where there is something to tell: most migrations set nothing aside.
    let aside = view.shards.iter().any(|part| !part.held.is_empty());
    let mut columns = vec![
        ("SHARD", Side::Left),
        ("STEP", Side::Left),
        ("WALKED", Side::Right),
        ("CHANGED", Side::Right),
        ("TOTAL", Side::Right),
        ("ROWS/S", Side::Right),
        ("BATCHES", Side::Right),
        ("BATCH", Side::Right),
        ("PASS", Side::Right),
        ("RANGES", Side::Right),
        ("VERIFIED", Side::Left),
        ("WORKERS", Side::Left),
    ];
    if aside {
        columns.push(("SET ASIDE", Side::Right));
    }
    let mut table = Table::new(&with_wave(view, columns));
    for part in &view.shards {
        let progress = &part.progress;
        let mut cells: Vec<Cell> = vec![
            part.shard.as_str().into(),
            step(part),
            figures::percent(part.fraction()).into(),
            figures::count(progress.rows_done).into(),
            figures::count(progress.rows_total).into(),
            figures::rate(progress.rows_per_second).into(),
            figures::count(progress.batches).into(),
            figures::count(progress.batch_size.into()).into(),
            progress.pass.to_string().into(),
            format!("{}/{}", progress.ranges_done, progress.ranges).into(),
            verified(part),
            workers(part).into(),
        ];
        if aside {
            cells.push(figures::count(part.held.rows + part.held.discarded).into());
        }
        table.row(and_wave(view, part, cells));
    }
    table.render(paint)
}

/// With several waves, one more column: with which a shard goes.
fn with_wave(view: &MigrationView, mut columns: Vec<(&'static str, Side)>) -> Vec<(&'static str, Side)> {
    if view.waves > 1 {
        columns.insert(1, ("WAVE", Side::Right));
    }
    columns
}

fn and_wave(view: &MigrationView, part: &ShardView, mut cells: Vec<Cell>) -> Vec<Cell> {
    if view.waves > 1 {
        cells.insert(1, part.wave.to_string().into());
    }
    cells
}

fn step(part: &ShardView) -> Cell {
    match (part.step, &part.error) {
        (_, Some(_)) => {
            Cell::new(Tone::Bad, part.step.map_or("failed".to_owned(), |step| format!("{step} failed")))
        }
        (Some(step), None) => step.as_str().into(),
        (None, None) => Cell::new(Tone::Good, "done"),
    }
}

fn verified(part: &ShardView) -> Cell {
    if part.verified { Cell::new(Tone::Good, "yes") } else { "no".into() }
}

fn workers(part: &ShardView) -> String {
    part.workers.iter().map(|worker| worker.as_str()).collect::<Vec<_>>().join(", ")
}

/// Passing troubles, one line each.
fn troubles(view: &MigrationView) -> String {
    let lines = view.shards.iter().filter_map(|part| Some(trouble(part, part.trouble.as_ref()?)));
    let text: String = lines.chain(closed(view)).map(|line| format!("{line}\n")).collect();
    if text.is_empty() { text } else { format!("\n{text}") }
}

/// What keeps the gate behind a wave closed.
pub(crate) fn closed(view: &MigrationView) -> Option<String> {
    let closed = view.gate.as_ref()?.closed.as_ref()?;
    Some(format!("{} (it opens by itself when that is over)", brief(closed)))
}

/// One passing trouble.
pub(crate) fn trouble(part: &ShardView, failure: &Failure) -> String {
    format!("{}: {} (tried again by itself)", part.shard, brief(failure))
}

#[cfg(test)]
mod tests {
    use shardlift_domain::migration::InForce;
    use shardlift_domain::quarantine::Held;

    use super::super::samples;
    use super::*;

    #[test]
    fn a_status_reads_like_a_page() {
        let expected = "\
0008_message_text@1  data, postgres, cluster chat
  status     failed
  rows       101,800 changed of about 200,000 (51 % walked)
  created    2026-11-23T01:02:03Z
  started    2026-11-23T01:02:04Z
  checksum   7c1d9c36af3b3d78e2c4a6f31d2ef0d4

SHARD       STEP             WALKED  CHANGED    TOTAL  ROWS/S  BATCHES  BATCH  PASS  RANGES  VERIFIED  WORKERS
chat-pg-01  backfill failed    62 %   61,900  100,000  12,000       42  5,000     1     2/8  no        worker-a
chat-pg-02  backfill           40 %   39,900  100,000  12,000       42  5,000     1     2/8  no        worker-a

error[row.rejected]: null value in \"title\"
  where: migration 0008_message_text@1, shard chat-pg-01, step backfill, key 42
  whose fault: the application or its data
  next: mend the row, then retry
  more: docs/errors/row.rejected.md

mend the cause, then: shardlift retry 0008_message_text   (or give up: shardlift cancel 0008_message_text)
";
        let mut view = samples::failed();
        view.checksum = shardlift_domain::Checksum::from_stored("7c1d9c36af3b3d78e2c4a6f31d2ef0d4");
        assert_eq!(status(Paint::PLAIN, &view), expected);
    }

    #[test]
    fn a_run_shows_its_speed_and_what_it_struggles_with() {
        let mut view = samples::running();
        view.shards[1].trouble = Some(Failure::new(
            shardlift_domain::ErrorCode::ShardUnreachable,
            "connection refused",
            "start the server",
        ));
        let text = status(Paint::PLAIN, &view);
        assert!(text.contains("(51 % walked), 24,001 rows/s, ETA 5s\n"), "{text}");
        assert!(
            text.contains("\nchat-pg-02: shard.unreachable: connection refused (tried again by itself)\n"),
            "{text}"
        );
    }

    #[test]
    fn sessions_that_were_ended_are_named_the_newest_if_they_are_many() {
        let session =
            |pid| EndedSession { pid, application: "re\u{1b}ports".into(), ..EndedSession::default() };
        let all: Vec<_> =
            (1..=12).map(|pid| (ShardId::new("pg-02").expect("a name"), session(pid))).collect();
        let text = ended(Some(&all));
        assert!(
            text.contains("\n  2 before these (shardlift events)\n  pg-02: pid 3 (re\\u{1b}ports"),
            "{text}"
        );
        assert!(!text.contains("pid 2 ") && text.contains("pid 12 "), "{text}");
        assert_eq!(ended(Some(&[])), "");
    }

    #[test]
    fn a_throttle_is_told_and_that_it_is_not_the_specs() {
        let mut view = samples::throttled();
        let text = status(Paint::PLAIN, &view);
        let line = "  throttle   at most 5000 rows/s on each shard, at any time (changed; the spec says: at most 50 rows/s on each shard, 22:00-06:00 UTC)\n";
        assert!(text.contains(line), "{text}");
        view.throttle = view.throttle.map(|in_force| InForce { in_spec: None, ..in_force });
        let text = status(Paint::PLAIN, &view);
        assert!(text.contains("  throttle   at most 5000 rows/s on each shard, at any time\n"), "{text}");
        view.throttle = Some(InForce { now: Throttle::default(), in_spec: None });
        assert!(!status(Paint::PLAIN, &view).contains("throttle"));
    }

    #[test]
    fn a_completed_migration_says_what_it_left_out() {
        let mut view = samples::completed();
        view.held = Held { rows: 3, discarded: 1 };
        view.shards[0].held = view.held;
        let text = status(Paint::PLAIN, &view);
        assert!(text.contains("  status     completed, 3 in quarantine\n"), "{text}");
        assert!(text.contains("  set aside  3 rows to decide about, 1 discarded\n"), "{text}");
        assert!(text.contains("SET ASIDE"), "{text}");
        assert!(text.contains("rows were left out: shardlift quarantine list 0008_message_text"), "{text}");
    }

    #[test]
    fn waves_have_a_column_and_a_closed_gate_says_why() {
        let text = status(Paint::PLAIN, &samples::soaking(true));
        assert!(text.contains("  status     running, wave 1 of 2, done, gate closed\n"), "{text}");
        assert!(text.contains("SHARD       WAVE  STEP"), "{text}");
        assert!(text.contains("chat-pg-02     2  split"), "{text}");
        let why = "\ngate.closed: shard chat-pg-01 is not in health (it opens by itself when that is over)\n";
        assert!(text.contains(why), "{text}");
    }

    #[test]
    fn a_halt_is_told_with_its_reason_and_the_way_out() {
        let text = status(Paint::PLAIN, &samples::halted());
        assert!(text.contains("  status     halted\n"), "{text}");
        assert!(text.contains("error[sweep.not-converging]: still written in the old form\n"), "{text}");
        assert!(text.contains("go on: shardlift resume 0008_message_text"), "{text}");
    }
}
