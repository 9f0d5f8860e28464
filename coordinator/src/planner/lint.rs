//! What is dangerous in the schema specs of a plan, as findings; what a spec allows, as notes.

use shardlift_domain::facts::ShardFacts;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationKey, ShardId};
use shardlift_domain::lint::{self, Broken};
use shardlift_domain::spec::{SchemaSpec, Spec, SpecBody};
use shardlift_domain::verdict::{Finding, Severity};

use super::Facts;

/// Adds the findings of one spec, and answers what it allows.
pub(super) fn judge(
    spec: &Spec,
    key: &MigrationKey,
    shards: &[ShardId],
    facts: &Facts<'_>,
    findings: &mut Vec<Finding>,
) -> Vec<String> {
    let SpecBody::Schema(schema) = &spec.body else { return Vec::new() };
    let tell = |severity, message: String, next: String| Finding {
        severity,
        failure: Failure::new(ErrorCode::LintRefused, format!("{}: {message}", spec.id), next)
            .in_migration(key),
    };
    let broken = match lint::lint(schema, oldest_server(shards, facts)) {
        Ok(broken) => broken,
        Err(problem) => {
            let message = format!("its statements could not be judged: {problem}");
            findings.push(tell(Severity::Warning, message, "read them yourself with docs/lint.md".into()));
            return Vec::new();
        }
    };
    let allows = |broken: &Broken| schema.allow.iter().find(|allowed| allowed.rule == broken.rule.name);
    for broken in broken.iter().filter(|broken| allows(broken).is_none()) {
        let rule = broken.rule;
        let message = format!("statement {} breaks {}: {}", broken.statement, rule.name, rule.danger);
        let next = match rule.severity {
            Severity::Error => {
                format!("{}; if it is meant, allow {} with a reason (docs/lint.md)", rule.instead, rule.name)
            }
            Severity::Warning | Severity::Note => rule.instead.to_owned(),
        };
        findings.push(tell(rule.severity, message, next));
    }
    for unneeded in unneeded(schema, &broken) {
        let message = format!("allows {unneeded}, but nothing in it breaks that rule");
        findings.push(tell(Severity::Note, message, "leave it out of `allow`".into()));
    }
    allowed(schema, &broken)
}

fn unneeded<'s>(schema: &'s SchemaSpec, broken: &'s [Broken]) -> impl Iterator<Item = &'s str> {
    let rules = schema.allow.iter().map(|allowed| allowed.rule.as_str());
    rules.filter(|rule| !broken.iter().any(|broken| broken.rule.name == *rule))
}

/// `allows ban-drop-column in statement 2: nobody reads it`.
fn allowed(schema: &SchemaSpec, broken: &[Broken]) -> Vec<String> {
    let mut notes = Vec::new();
    for allowed in &schema.allow {
        let of_rule = broken.iter().filter(|broken| broken.rule.name == allowed.rule);
        let numbers: Vec<String> = of_rule.map(|broken| broken.statement.to_string()).collect();
        if !numbers.is_empty() {
            let statements = if numbers.len() == 1 { "statement" } else { "statements" };
            notes.push(format!(
                "allows {} in {statements} {}: {}",
                allowed.rule,
                numbers.join(", "),
                allowed.reason
            ));
        }
    }
    notes
}

/// The smallest major version among the servers of these shards.
fn oldest_server(shards: &[ShardId], facts: &Facts<'_>) -> Option<u32> {
    let told = |shard: &ShardId| facts.shards.get(shard).and_then(|told| told.as_ref().ok());
    shards.iter().filter_map(told).filter_map(major).min()
}

fn major(facts: &ShardFacts) -> Option<u32> {
    let digits = facts.server_version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}
