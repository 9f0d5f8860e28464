//! Following a run without a terminal: one line per change, at most one a second for each migration.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use shardlift_client::model::MigrationView;
use shardlift_domain::failure::Failure;
use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::{Phase, Status};
use shardlift_domain::spec::Kind;
use tokio::time::Instant;

use crate::console::Output;

use super::failure::brief;
use super::list::standing;
use super::{json, status};

const APART: Duration = Duration::from_secs(1);
/// Most passing troubles that one report names.
const TROUBLES: usize = 3;

/// How a run is shown while it lasts.
pub(crate) trait Display {
    /// A migration as it is now.
    fn show(&mut self, view: &MigrationView, now: Instant) -> io::Result<()>;
    /// The coordinator has gone away and is tried again.
    fn lost(&mut self, failure: &Failure) -> io::Result<()>;
    /// Time has passed.
    fn tick(&mut self, now: Instant) -> io::Result<()>;
    /// Nothing more will come.
    fn end(&mut self) -> io::Result<()>;
}

/// Plain lines.
#[derive(Debug)]
pub(crate) struct Lines<W> {
    out: W,
    runs: BTreeMap<MigrationId, Run>,
    lost: bool,
}

#[derive(Debug, Default)]
struct Run {
    newest: String,
    printed: Option<Instant>,
    held: bool,
}

impl<W: Write> Lines<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, runs: BTreeMap::new(), lost: false }
    }
}

impl<W: Write> Display for Lines<W> {
    fn show(&mut self, view: &MigrationView, now: Instant) -> io::Result<()> {
        if std::mem::take(&mut self.lost) {
            writeln!(self.out, "coordinator reachable again")?;
        }
        let run = self.runs.entry(view.id().clone()).or_default();
        let text = report(view);
        if text == run.newest {
            return Ok(());
        }
        run.newest = text;
        run.held = true;
        // The end is told at once: nothing follows that could release it.
        run.print(&mut self.out, now, view.rests())?;
        self.out.flush()
    }

    fn lost(&mut self, failure: &Failure) -> io::Result<()> {
        if !std::mem::replace(&mut self.lost, true) {
            writeln!(self.out, "{}", lost(failure))?;
        }
        self.out.flush()
    }

    fn tick(&mut self, now: Instant) -> io::Result<()> {
        for run in self.runs.values_mut() {
            run.print(&mut self.out, now, false)?;
        }
        self.out.flush()
    }

    fn end(&mut self) -> io::Result<()> {
        for run in self.runs.values_mut() {
            if std::mem::take(&mut run.held) {
                self.out.write_all(run.newest.as_bytes())?;
            }
        }
        self.out.flush()
    }
}

impl Run {
    fn print(&mut self, out: &mut impl Write, now: Instant, at_once: bool) -> io::Result<()> {
        let due = self.printed.is_none_or(|before| now.duration_since(before) >= APART);
        if self.held && (due || at_once) {
            out.write_all(self.newest.as_bytes())?;
            self.printed = Some(now);
            self.held = false;
        }
        Ok(())
    }
}

/// The line for a coordinator that has gone away.
pub(crate) fn lost(failure: &Failure) -> String {
    format!("coordinator not reachable, trying again ({})", brief(failure))
}

/// One migration in one line, and one more for each passing trouble.
pub(crate) fn report(view: &MigrationView) -> String {
    let mut text = format!("{}: {}", view.id(), standing(view));
    if view.kind == Kind::Data && view.status != Status::Pending {
        text.push_str(&format!("; {}", status::rows(view)));
    }
    if let Some(saved) = status::saved(view).filter(|_| view.phase == Some(Phase::Backup)) {
        text.push_str(&format!("; saved {saved}"));
    }
    if let Some(undone) = status::undone(view) {
        text.push_str(&format!("; {undone}"));
    }
    if !view.shards.is_empty() && view.status != Status::Pending {
        let verified = view.shards.iter().filter(|part| part.verified).count();
        text.push_str(&format!("; {verified}/{} shards verified", view.shards.len()));
    }
    text.push('\n');
    let troubles = view.shards.iter().filter_map(|part| Some((part, part.trouble.as_ref()?)));
    for (part, failure) in troubles.take(TROUBLES) {
        text.push_str(&format!("  {}\n", status::trouble(part, failure)));
    }
    if let Some(closed) = status::closed(view) {
        text.push_str(&format!("  {closed}\n"));
    }
    text
}

/// One value per change: a line of JSON, or a document of YAML.
#[derive(Debug)]
pub(crate) struct Values<W> {
    out: W,
    form: Output,
    newest: BTreeMap<MigrationId, String>,
}

impl<W: Write> Values<W> {
    pub(crate) fn new(out: W, form: Output) -> Self {
        Self { out, form, newest: BTreeMap::new() }
    }
}

impl<W: Write> Display for Values<W> {
    fn show(&mut self, view: &MigrationView, _now: Instant) -> io::Result<()> {
        let text = self.form.one(&json::status(view));
        if self.newest.get(view.id()) != Some(&text) {
            self.out.write_all(text.as_bytes())?;
            self.newest.insert(view.id().clone(), text);
        }
        self.out.flush()
    }

    fn lost(&mut self, _failure: &Failure) -> io::Result<()> {
        Ok(())
    }

    fn tick(&mut self, _now: Instant) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Shows nothing: the answer comes at the end.
#[derive(Debug)]
pub(crate) struct Silent;

impl Display for Silent {
    fn show(&mut self, _view: &MigrationView, _now: Instant) -> io::Result<()> {
        Ok(())
    }

    fn lost(&mut self, _failure: &Failure) -> io::Result<()> {
        Ok(())
    }

    fn tick(&mut self, _now: Instant) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use shardlift_domain::failure::ErrorCode;

    use super::super::samples;
    use super::*;

    fn printed(lines: &Lines<Vec<u8>>) -> String {
        String::from_utf8(lines.out.clone()).expect("UTF-8")
    }

    #[test]
    fn a_report_is_one_line() {
        let expected = "0008_message_text: running, data; 101,800 changed of about 200,000 (51 % walked), \
                        24,001 rows/s, ETA 5s; 0/2 shards verified\n";
        assert_eq!(report(&samples::running()), expected);
        assert_eq!(report(&samples::pending("0009", &["0008"])), "0009: pending, waits for 0008\n");
    }

    #[test]
    fn lines_come_for_changes_only_and_at_most_one_a_second() {
        let start = Instant::now();
        let mut lines = Lines::new(Vec::new());
        let mut view = samples::running();
        lines.show(&view, start).expect("written");
        lines.show(&view, start + APART * 2).expect("written");
        assert_eq!(printed(&lines).lines().count(), 1, "no change, no line");
        for step in 1..=9 {
            view.rows_done += 1;
            lines.show(&view, start + APART / 10 * step).expect("written");
        }
        assert_eq!(printed(&lines).lines().count(), 1, "held back");
        lines.tick(start + APART).expect("written");
        let text = printed(&lines);
        assert_eq!(text.lines().count(), 2, "the newest, once");
        assert!(text.contains("101,809 changed"), "{text}");
        lines.show(&samples::completed(), start + APART).expect("written");
        assert!(printed(&lines).ends_with("2/2 shards verified\n"), "the end is told at once");
    }

    #[test]
    fn a_lost_coordinator_is_told_once_and_so_is_its_return() {
        let mut lines = Lines::new(Vec::new());
        let failure = Failure::new(ErrorCode::CoordinatorUnreachable, "connection refused", "start it");
        lines.lost(&failure).expect("written");
        lines.lost(&failure).expect("written");
        lines.show(&samples::running(), Instant::now()).expect("written");
        let text = printed(&lines);
        assert_eq!(text.matches("coordinator not reachable, trying again").count(), 1, "{text}");
        assert_eq!(text.matches("coordinator reachable again").count(), 1, "{text}");
    }

    #[test]
    fn passing_troubles_are_named() {
        let mut view = samples::running();
        let failure = Failure::new(ErrorCode::ShardUnreachable, "connection\nrefused", "start the server");
        view.shards[0].trouble = Some(failure);
        let text = report(&view);
        let expected = "  chat-pg-01: shard.unreachable: connection refused (tried again by itself)\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn json_lines_are_values_of_their_own() {
        let mut lines = Values::new(Vec::new(), Output::Json);
        for view in [samples::running(), samples::running(), samples::completed()] {
            lines.show(&view, Instant::now()).expect("written");
        }
        let text = String::from_utf8(lines.out).expect("UTF-8");
        let statuses: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(statuses.len(), 2);
        assert_eq!(statuses[1]["status"], "completed");
    }
}
