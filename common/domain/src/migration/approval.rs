//! Four eyes: who has approved that a migration may begin.

use serde::{Deserialize, Serialize};

use crate::failure::{ErrorCode, Failure};
use crate::ids::Checksum;

use super::state::{Migration, Status};

/// That somebody has approved it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Who.
    pub by: String,
    /// Of exactly this content.
    pub checksum: Checksum,
}

/// What must be approved before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ApprovalRule {
    /// Nothing.
    #[default]
    None,
    /// Every migration.
    Required,
    /// Every migration, by somebody else than its author.
    ByAnother,
}

impl ApprovalRule {
    /// Every rule.
    pub const ALL: [ApprovalRule; 3] = [ApprovalRule::None, ApprovalRule::Required, ApprovalRule::ByAnother];

    /// The word for people and settings.
    pub fn as_str(self) -> &'static str {
        match self {
            ApprovalRule::None => "none",
            ApprovalRule::Required => "required",
            ApprovalRule::ByAnother => "by-another",
        }
    }

    /// What keeps a migration from beginning: an approval that it needs and has not.
    pub fn needed(self, migration: &Migration) -> Option<Failure> {
        let given = migration.approval.as_ref().filter(|given| given.checksum == migration.checksum);
        let satisfied = match self {
            ApprovalRule::None => true,
            ApprovalRule::Required => given.is_some(),
            ApprovalRule::ByAnother => {
                given.is_some_and(|given| migration.author.as_ref() != Some(&given.by))
            }
        };
        if migration.status != Status::Pending || satisfied {
            return None;
        }
        let (who, author) = match (self, &migration.author) {
            (ApprovalRule::ByAnother, Some(author)) => {
                ("another approver than its author", format!(" ({author})"))
            }
            _ => ("an approver", String::new()),
        };
        let id = &migration.key.id;
        let message = format!("{id} begins once {who}{author} has approved it");
        let next = format!("have it approved: shardlift approve {id}");
        Some(Failure::new(ErrorCode::ApprovalNeeded, message, next).in_migration(&migration.key))
    }

    /// Whether this person may approve exactly this content now; otherwise why not. `checksum`: what the person has read.
    pub fn admits(self, migration: &Migration, by: &str, checksum: Option<&str>) -> Result<(), Failure> {
        let refuse = |message: String, next: &str| {
            Err(Failure::new(ErrorCode::ApprovalRefused, message, next).in_migration(&migration.key))
        };
        let id = &migration.key.id;
        if checksum.is_some_and(|read| read != migration.checksum.as_str()) {
            return refuse(
                format!(
                    "{id} has another content than the one that is to be approved ({})",
                    migration.checksum
                ),
                "read what it is now, then approve that",
            );
        }
        if migration.status != Status::Pending {
            return refuse(
                format!("{id} is {}: what has begun cannot be approved any more", migration.status),
                "pause or roll it back if it should not have begun",
            );
        }
        if self.is_of_the_author(migration, by) {
            return refuse(
                format!("{by} has submitted {id}, and must not approve it as well"),
                "ask somebody else with the role approver",
            );
        }
        Ok(())
    }

    /// Whether this person is the author, where another one must approve.
    pub fn is_of_the_author(self, migration: &Migration, by: &str) -> bool {
        self == ApprovalRule::ByAnother && migration.author.as_deref() == Some(by)
    }
}

impl Migration {
    /// Somebody has approved its content. What has begun needs none.
    pub(super) fn approved(&mut self, by: &str) {
        if self.status == Status::Pending {
            self.approval = Some(Approval { by: by.to_owned(), checksum: self.checksum.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Event;
    use super::super::tests::{fresh, go};
    use super::*;
    use crate::spec::Kind;

    fn by_mira() -> Migration {
        let mut migration = fresh(Kind::Schema, 1);
        migration.author = Some("mira".into());
        migration
    }

    fn approved_by(who: &str) -> Migration {
        go(&by_mira(), &Event::Approved { by: who.into() })
    }

    #[test]
    fn what_must_be_approved_waits_for_it() {
        use ApprovalRule::{ByAnother, None, Required};
        for (rule, migration, waits) in [
            (None, by_mira(), false),
            (Required, by_mira(), true),
            (ByAnother, by_mira(), true),
            (Required, approved_by("mira"), false),
            (ByAnother, approved_by("mira"), true),
            (ByAnother, approved_by("olaf"), false),
        ] {
            let needed = rule.needed(&migration);
            assert_eq!(needed.is_some(), waits, "{rule:?} {:?}", migration.approval);
            assert!(needed.is_none_or(|failure| failure.code == ErrorCode::ApprovalNeeded));
        }
        let mut other = approved_by("olaf");
        other.checksum = Checksum::of(b"another content");
        assert!(Required.needed(&other).is_some(), "it was approved with another content");
        other.status = Status::Running;
        assert!(Required.needed(&other).is_none(), "what has begun needs none");
    }

    #[test]
    fn an_approval_is_of_this_content_before_it_begins_and_by_who_may() {
        let migration = by_mira();
        let right = migration.checksum.to_string();
        let rule = ApprovalRule::ByAnother;
        assert!(rule.admits(&migration, "olaf", Some(&right)).is_ok());
        assert!(rule.admits(&migration, "olaf", None).is_ok());
        assert!(ApprovalRule::Required.admits(&migration, "mira", None).is_ok());
        let code = |refused: Result<(), Failure>| refused.expect_err("refused").code;
        assert_eq!(code(rule.admits(&migration, "mira", None)), ErrorCode::ApprovalRefused);
        assert_eq!(code(rule.admits(&migration, "olaf", Some("9f86"))), ErrorCode::ApprovalRefused);
        let mut begun = migration.clone();
        begun.status = Status::Running;
        assert_eq!(code(rule.admits(&begun, "olaf", None)), ErrorCode::ApprovalRefused);
        assert_eq!(go(&begun, &Event::Approved { by: "olaf".into() }), begun, "and nothing is changed by it");
    }

    #[test]
    fn a_repeat_changes_nothing_and_another_one_counts() {
        let first = approved_by("olaf");
        assert!(!first.on(&Event::Approved { by: "olaf".into() }).expect("legal").changed);
        let second = go(&first, &Event::Approved { by: "vera".into() });
        assert_eq!(second.approval.expect("approved").by, "vera");
    }
}
