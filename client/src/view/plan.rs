//! A plan as a reviewer wants to read it: in order, with what waits for what, how much it is, and what is wrong.

use std::collections::BTreeSet;

use shardlift_domain::ids::ShardId;
use shardlift_domain::migration::Status;
use shardlift_domain::plan::{Disposition, Plan, PlannedMigration, ShardEstimate, Wave};
use shardlift_domain::rehearsal::Rehearsal;
use shardlift_domain::spec::SpecFile;
use shardlift_domain::verdict::Severity;

use super::failure::finding;
use super::figures::{self, counted};
use super::harmless::block;
use super::list::ids;
use super::paint::{Paint, Tone};

/// Most shards that are listed one by one.
const SHARDS_SHOWN: usize = 12;
/// Where the second column begins.
const INDENT: usize = 17;

/// The whole review. `files`: the specs, for the source lines of findings.
pub(crate) fn plan(paint: Paint, plan: &Plan, files: &[SpecFile]) -> String {
    let mut text = String::new();
    for (place, planned) in plan.migrations.iter().enumerate() {
        let rehearsal = plan.rehearsals.iter().find(|rehearsal| rehearsal.migration == planned.id);
        text.push_str(&migration(paint, place + 1, planned, rehearsal));
        text.push('\n');
    }
    for severity in [Severity::Note, Severity::Warning, Severity::Error] {
        text.push_str(&findings(paint, plan, severity, files));
    }
    text.push_str(&summary(plan));
    text
}

/// Whether submitting would add nothing and start nothing: everything was submitted before and is completed.
pub(crate) fn is_done(plan: &Plan) -> bool {
    plan.migrations.iter().all(is_completed)
}

/// Whether nothing of it is to be done: everything in it is completed, or was given up.
pub(crate) fn is_over(plan: &Plan) -> bool {
    plan.migrations.iter().all(|planned| is_completed(planned) || is_given_up(planned))
}

fn is_given_up(planned: &PlannedMigration) -> bool {
    planned.disposition == Disposition::Known { status: Status::Cancelled }
}

fn is_completed(planned: &PlannedMigration) -> bool {
    planned.disposition == Disposition::Known { status: Status::Completed }
}

fn migration(
    paint: Paint,
    number: usize,
    planned: &PlannedMigration,
    rehearsal: Option<&Rehearsal>,
) -> String {
    let (word, tone) = match planned.disposition {
        Disposition::New => ("new".to_owned(), Tone::Good),
        Disposition::Known { status } => (format!("submitted before: {status}"), Tone::Dim),
        Disposition::NextVersion => (format!("next version: {}", planned.version), Tone::Good),
    };
    let mut text = format!(
        "{number:>3}. {}  {}, {}, cluster {}  {}\n",
        paint.tone(Tone::Strong, planned.id.as_str()),
        planned.kind,
        planned.engine,
        planned.cluster,
        paint.tone(tone, &word)
    );
    let mut fact = |name: &str, value: String| text.push_str(&format!("     {name:<12}{value}\n"));
    if !planned.waits_for.is_empty() {
        fact("waits for", ids(&planned.waits_for));
    }
    let steps: Vec<_> = planned.steps.iter().map(|step| step.as_str()).collect();
    fact("steps", steps.join(", "));
    fact("shards", shards(planned));
    for (number, wave) in (1..).zip(&planned.waves) {
        if planned.waves.len() > 1 || !wave.soak.is_zero() {
            fact(&format!("wave {number}"), block(&wave_of(wave), INDENT));
        }
    }
    if is_given_up(planned) {
        fact("note", "it was given up: the same work needs a spec with a new id".to_owned());
    }
    for note in &planned.notes {
        fact("note", block(note, INDENT));
    }
    if let Some(rehearsal) = rehearsal {
        text.push_str(&super::rehearsal::rehearsal(rehearsal, planned.engine));
    }
    text
}

fn shards(planned: &PlannedMigration) -> String {
    let all: Vec<_> = planned.shards().collect();
    let estimates: Vec<&ShardEstimate> =
        planned.estimates.iter().filter(|each| each.rows.is_some() || each.bytes.is_some()).collect();
    if estimates.is_empty() {
        return names(&all);
    }
    let rows = estimates.iter().filter_map(|each| each.rows).fold(0, u64::saturating_add);
    let bytes = estimates.iter().filter_map(|each| each.bytes).fold(0, u64::saturating_add);
    let mut text = format!("{}: about {} rows, {}", all.len(), figures::count(rows), figures::bytes(bytes));
    let width = estimates.iter().take(SHARDS_SHOWN).map(|each| each.shard.as_str().len()).max().unwrap_or(0);
    for each in estimates.iter().take(SHARDS_SHOWN) {
        let rows = each.rows.map_or_else(|| "unknown".to_owned(), figures::count);
        let bytes = each.bytes.map_or_else(|| "unknown".to_owned(), figures::bytes);
        text.push_str(&format!(
            "\n{:INDENT$}{:width$}  {rows:>15} rows  {bytes:>11}",
            "",
            each.shard.as_str()
        ));
    }
    if estimates.len() > SHARDS_SHOWN {
        let more = figures::count((estimates.len() - SHARDS_SHOWN) as u64);
        text.push_str(&format!("\n{:INDENT$}and {more} more", ""));
    }
    text
}

/// `1: chat-pg-02, then soaks 10m 00s`.
fn wave_of(wave: &Wave) -> String {
    let mut text = names(&wave.shards.iter().collect::<Vec<_>>());
    if !wave.soak.is_zero() {
        let soak = if wave.soak.subsec_millis() == 0 {
            figures::span(wave.soak.as_secs())
        } else {
            format!("{} ms", wave.soak.as_millis())
        };
        text.push_str(&format!(", then soaks {soak}"));
    }
    text
}

/// `2: chat-pg-01, chat-pg-02`.
fn names(all: &[&ShardId]) -> String {
    let mut names = all.iter().take(SHARDS_SHOWN).map(|shard| shard.as_str()).collect::<Vec<_>>().join(", ");
    if all.len() > SHARDS_SHOWN {
        names.push_str(&format!(" and {} more", figures::count((all.len() - SHARDS_SHOWN) as u64)));
    }
    format!("{}: {names}", all.len())
}

fn findings(paint: Paint, plan: &Plan, severity: Severity, files: &[SpecFile]) -> String {
    let all: Vec<_> = plan.findings.iter().filter(|each| each.severity == severity).collect();
    let (word, tone) = match severity {
        Severity::Note => ("note", Tone::Strong),
        Severity::Warning => ("warning", Tone::Warn),
        Severity::Error => ("error", Tone::Bad),
    };
    if all.is_empty() {
        return String::new();
    }
    let mut text = format!("{}\n", paint.tone(tone, &counted(all.len(), word)));
    for each in all {
        text.push_str(&finding(paint, severity, &each.failure, files));
        text.push('\n');
    }
    text
}

/// `Plan: 1 to do, 1 completed before, on 2 shards. Nothing has been changed.`
fn summary(plan: &Plan) -> String {
    let done = plan.migrations.iter().filter(|planned| is_completed(planned)).count();
    let given_up = plan.migrations.iter().filter(|planned| is_given_up(planned)).count();
    let before = if given_up == 0 { String::new() } else { format!(", {given_up} cancelled before") };
    let shards: BTreeSet<_> = plan.migrations.iter().flat_map(PlannedMigration::shards).collect();
    let errors = plan.findings.iter().filter(|each| each.severity == Severity::Error).count();
    let verdict = match errors {
        0 => "Nothing has been changed yet.".to_owned(),
        _ => format!("It cannot be applied: {}. Nothing has been changed.", counted(errors, "error")),
    };
    format!(
        "Plan: {} to do, {done} completed before{before}, {}. {verdict}\n",
        plan.migrations.len() - done - given_up,
        counted(shards.len(), "shard")
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::samples;
    use super::*;

    #[test]
    fn a_plan_reads_like_a_review() {
        let expected = "
  1. 0001_message_columns  schema, postgres, cluster chat  submitted before: completed
     steps       precheck, apply, verify
     shards      2: chat-pg-01, chat-pg-02

  2. 0008_message_text  data, postgres, cluster chat  new
     waits for   0001_message_columns
     steps       precheck, split, backfill, sweep, verify
     shards      2: about 200,000 rows, 31.5 MiB
                 chat-pg-01          100,000 rows     15.7 MiB
                 chat-pg-02          100,000 rows     15.7 MiB
     note        rows that the application inserts during the run are found by the sweep

1 note
note[schema.locked]: the table has no index on schema_version
  next: nothing to do
  more: docs/errors/schema.locked.md

1 error
error[shard.no-worker]: nobody serves the shard
  where: shard chat-pg-02
  whose fault: the shard's database server
  next: start its worker
  more: docs/errors/shard.no-worker.md

Plan: 1 to do, 1 completed before, 2 shards. It cannot be applied: 1 error. Nothing has been changed.
";
        assert_eq!(plan(Paint::PLAIN, &samples::plan(), &[]), expected.trim_start_matches('\n'));
    }

    #[test]
    fn thousands_of_shards_are_summed_up() {
        let mut many = samples::plan();
        let names = (0..5000).map(|number| samples::shard(&format!("s{number}")));
        many.migrations[1].estimates =
            names.clone().map(|shard| ShardEstimate { shard, rows: Some(u64::MAX), bytes: None }).collect();
        many.migrations[1].waves = vec![Wave { shards: names.collect(), soak: Duration::ZERO }];
        let text = plan(Paint::PLAIN, &many, &[]);
        assert!(text.lines().count() < 60, "{text}");
        assert!(text.contains("and 4,988 more"), "{text}");
    }

    #[test]
    fn waves_are_shown_with_their_shards_and_how_long_they_soak() {
        let mut rollout = samples::plan();
        let wave = |name, soak| Wave { shards: vec![samples::shard(name)], soak: Duration::from_secs(soak) };
        rollout.migrations[1].waves = vec![wave("chat-pg-02", 600), wave("chat-pg-01", 0)];
        let text = plan(Paint::PLAIN, &rollout, &[]);
        let expected = "     wave 1      1: chat-pg-02, then soaks 10m 00s\n     wave 2      1: chat-pg-01\n";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn what_was_given_up_is_not_to_be_done() {
        let mut again = samples::plan();
        again.migrations[1].disposition = Disposition::Known { status: Status::Cancelled };
        let text = plan(Paint::PLAIN, &again, &[]);
        assert!(
            text.contains("note        it was given up: the same work needs a spec with a new id\n"),
            "{text}"
        );
        assert!(text.contains("Plan: 0 to do, 1 completed before, 1 cancelled before, 2 shards."), "{text}");
        assert!(is_over(&again) && !is_done(&again));
    }

    #[test]
    fn a_plan_is_done_when_everything_in_it_is_completed() {
        let mut again = samples::plan();
        assert!(!is_done(&again));
        again.migrations.truncate(1);
        assert!(is_done(&again));
    }
}
