//! What is in the way of a change on one shard, collected so that everything is told at once.

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationKey, ShardId};
use shardlift_domain::verdict::{Finding, Severity};

use super::{EngineError, EngineResult};

/// The findings of one look.
pub(crate) struct Findings {
    shard: ShardId,
    migration: MigrationKey,
    found: Vec<Finding>,
}

impl Findings {
    /// Of a look at this shard for this migration.
    pub(crate) fn new(shard: &ShardId, migration: &MigrationKey) -> Self {
        Self { shard: shard.clone(), migration: migration.clone(), found: Vec::new() }
    }

    /// About the shard as a whole, whatever the migration.
    pub(crate) fn of_shard(
        &mut self,
        severity: Severity,
        code: ErrorCode,
        what: impl Into<String>,
        next: impl Into<String>,
    ) {
        self.push(severity, Failure::new(code, what, next));
    }

    /// About the migration on this shard.
    pub(crate) fn of_spec(
        &mut self,
        severity: Severity,
        code: ErrorCode,
        what: impl Into<String>,
        next: impl Into<String>,
    ) {
        let failure = Failure::new(code, what, next).in_migration(&self.migration);
        self.push(severity, failure);
    }

    /// An error that another part of the engine has put into words.
    pub(crate) fn error(&mut self, failure: Failure) {
        let failure = failure.in_migration(&self.migration);
        self.push(Severity::Error, failure);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.found.len()
    }

    fn push(&mut self, severity: Severity, failure: Failure) {
        self.found.push(Finding { severity, failure: failure.on_shard(&self.shard) });
    }

    /// All of them.
    pub(crate) fn into_all(self) -> Vec<Finding> {
        self.found
    }

    /// Refuses with all errors in one message; what is less is logged.
    pub(crate) fn verdict(self) -> EngineResult<()> {
        let (errors, rest): (Vec<Finding>, Vec<Finding>) =
            self.found.into_iter().partition(|finding| finding.severity == Severity::Error);
        for finding in rest {
            tracing::warn!(shard = %self.shard, migration = %self.migration, code = %finding.failure.code, "{}; {}", finding.failure.message, finding.failure.next);
        }
        match errors.as_slice() {
            [] => Ok(()),
            [only] => Err(EngineError::Failed(only.failure.clone())),
            many => {
                let joined = |part: fn(&Failure) -> &str| {
                    many.iter().map(|finding| part(&finding.failure)).collect::<Vec<_>>().join("; ")
                };
                let message = format!("{} findings: {}", many.len(), joined(|failure| &failure.message));
                let failure =
                    Failure::new(ErrorCode::PrecheckRefused, message, joined(|failure| &failure.next));
                Err(EngineError::Failed(failure.on_shard(&self.shard).in_migration(&self.migration)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(errors: usize) -> Findings {
        let migration =
            MigrationKey { id: "m".parse().expect("a name"), version: shardlift_domain::Version::FIRST };
        let mut findings = Findings::new(&ShardId::new("s").expect("a name"), &migration);
        findings.of_shard(Severity::Warning, ErrorCode::PrecheckRefused, "w", "x");
        (0..errors).for_each(|_| findings.of_spec(Severity::Error, ErrorCode::TransformInvalid, "a", "b"));
        findings
    }

    #[test]
    fn all_errors_come_in_one_message_and_warnings_refuse_nothing() {
        assert!(findings(0).verdict().is_ok());
        let only = findings(1).verdict().expect_err("an error").into_failure();
        assert_eq!(only.code, ErrorCode::TransformInvalid);
        let both = findings(2).verdict().expect_err("errors").into_failure();
        assert_eq!((both.code, both.message.as_str()), (ErrorCode::PrecheckRefused, "2 findings: a; a"));
    }
}
