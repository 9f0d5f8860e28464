//! What the program's exit code says. Scripts rely on it: numbers are never given another meaning.

use std::process::ExitCode;

use shardlift_client::model::MigrationView;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::migration::Status;

/// The table as `shardlift --help` shows it.
pub(crate) const TABLE: &str = "\
Exit codes:
  0    done, or nothing to do
  1    internal error
  2    wrong usage: arguments, addresses, files that cannot be read
  3    a migration failed
  4    a migration is paused, halted, cancelled or rolled back, waits for one that is, or for an approval; or a plan
       was declined
  5    a spec or the plan was refused
  6    no coordinator is reachable, or none leads
  7    the move is not possible in this state, a conflict, or not found
  8    shards differ (drift), rows lie on the wrong shard (placement), a rollback or a repair left rows alone
       (conflicts, repair), rows are not what their transform gives (mismatches), or the history is not what was
       written (audit verify)
  9    not allowed: no valid token, or its role does not cover what was asked for
  130  interrupted by Ctrl-C or a closed pipe; migrations keep running";

/// How a run of the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    Internal = 1,
    Usage = 2,
    Failed = 3,
    Stopped = 4,
    Refused = 5,
    Unreachable = 6,
    Conflict = 7,
    Differs = 8,
    Forbidden = 9,
    Interrupted = 130,
}

impl Exit {
    /// For a refused call: by the leading failure.
    pub(crate) fn of_refusal(failures: &[Failure]) -> Self {
        failures.first().map_or(Exit::Internal, |failure| Exit::of_code(failure.code))
    }

    /// For a migration that rests, or that nobody watches any more.
    pub(crate) fn of_migration(view: &MigrationView) -> Self {
        Exit::of_status(view.status)
    }

    /// The same, by its status.
    pub(crate) fn of_status(status: Status) -> Self {
        match status {
            Status::Completed => Exit::Done,
            Status::Failed => Exit::Failed,
            Status::Pending
            | Status::Running
            | Status::Paused
            | Status::Cancelled
            | Status::RollingBack
            | Status::RolledBack => Exit::Stopped,
        }
    }

    fn of_code(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Internal | ErrorCode::FenceStale | ErrorCode::FenceForked | ErrorCode::LeaseLost => {
                Exit::Internal
            }
            ErrorCode::RequestInvalid | ErrorCode::ConfigInvalid => Exit::Usage,
            ErrorCode::AccessUnauthenticated
            | ErrorCode::AccessForbidden
            | ErrorCode::AccessForbiddenShard => Exit::Forbidden,
            ErrorCode::CoordinatorUnreachable
            | ErrorCode::CoordinatorNotLeader
            | ErrorCode::CoordinatorNotReady
            | ErrorCode::StoreUnavailable
            | ErrorCode::StoreFenced => Exit::Unreachable,
            ErrorCode::SpecConflict
            | ErrorCode::PlanStale
            | ErrorCode::TopologyRefused
            | ErrorCode::RequestIllegal
            | ErrorCode::RequestNotFound
            | ErrorCode::ApprovalNeeded
            | ErrorCode::ApprovalRefused => Exit::Conflict,
            // What is wrong with a spec, a plan, or a shard that a plan needs.
            _ => Exit::Refused,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_exit_that_the_help_promises() {
        let table = [
            (1, "internal.defect fence.stale fence.forked lease.lost"),
            (2, "request.invalid config.invalid"),
            (
                6,
                "coordinator.unreachable coordinator.not-leader coordinator.not-ready store.unavailable store.fenced",
            ),
            (9, "access.unauthenticated access.forbidden access.forbidden-shard"),
            (
                7,
                "spec.conflict plan.stale topology.refused request.illegal-move request.not-found approval.needed approval.refused",
            ),
        ];
        for code in ErrorCode::ALL {
            let listed = table.iter().find(|(_, codes)| codes.split(' ').any(|each| each == code.as_str()));
            let expected = listed.map_or(5, |(exit, _)| *exit);
            let exit = Exit::of_refusal(&[Failure::new(*code, "m", "n")]);
            assert_eq!(exit as u8, expected, "{code}");
        }
        assert_eq!(Exit::of_refusal(&[]), Exit::Internal);
    }

    #[test]
    fn the_help_lists_every_exit_code() {
        let exits = [
            Exit::Done,
            Exit::Internal,
            Exit::Usage,
            Exit::Failed,
            Exit::Stopped,
            Exit::Refused,
            Exit::Unreachable,
            Exit::Conflict,
            Exit::Differs,
            Exit::Forbidden,
            Exit::Interrupted,
        ];
        let listed: Vec<u8> =
            TABLE.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        assert_eq!(listed, exits.map(|exit| exit as u8));
    }
}
