//! A plan as text: everything a reader decides by, nothing that changes without a reason.

use std::fmt::Write;

use shardlift_domain::plan::{Disposition, Plan, PlannedMigration};
use shardlift_domain::verdict::Severity;

pub(super) fn render(plan: &Plan) -> String {
    let mut text = format!(
        "topology {}, {}\n",
        plan.topology_revision,
        if plan.submittable() { "may be submitted" } else { "refused" }
    );
    for (at, migration) in plan.migrations.iter().enumerate() {
        one(&mut text, at + 1, migration);
    }
    for finding in &plan.findings {
        let severity = match finding.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let failure = &finding.failure;
        let shard = failure.place.shard.as_ref().map(|shard| format!(" on {shard}")).unwrap_or_default();
        line(&mut text, format_args!("\n{severity} {}{shard}", failure.code));
        line(&mut text, format_args!("  {}", failure.message));
        line(&mut text, format_args!("  -> {}", failure.next));
    }
    text
}

fn one(text: &mut String, number: usize, migration: &PlannedMigration) {
    let disposition = match migration.disposition {
        Disposition::New => "new".to_owned(),
        Disposition::Known { status } => format!("known, {status}"),
        Disposition::NextVersion => "next version".to_owned(),
    };
    line(
        text,
        format_args!(
            "\n{number}. {}@{} {} {} {} ({disposition})",
            migration.id, migration.version, migration.kind, migration.engine, migration.cluster
        ),
    );
    line(text, format_args!("   waits for  {}", list(&migration.waits_for)));
    line(text, format_args!("   steps      {}", list(&migration.steps)));
    for wave in &migration.waves {
        let soak = if wave.soak.is_zero() { String::new() } else { format!(", soaks {:?}", wave.soak) };
        line(text, format_args!("   wave       {}{soak}", list(&wave.shards)));
    }
    for estimate in &migration.estimates {
        if let (Some(rows), Some(bytes)) = (estimate.rows, estimate.bytes) {
            line(text, format_args!("   estimate   {}: {rows} rows, {bytes} bytes", estimate.shard));
        }
    }
    for note in &migration.notes {
        line(text, format_args!("   note       {note}"));
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "-".to_owned();
    }
    items.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("writing to a String cannot fail");
}
