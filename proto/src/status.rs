//! The one table between failures, gRPC and HTTP: code out, typed details in and out, never text to be parsed.

use prost::Message;
use shardlift_domain::failure::{ErrorCode, Failure};
use tonic::{Code, Status};

use crate::convert::failure_from_wire;
use crate::v1;

const DETAIL_TYPE: &str = "type.googleapis.com/shardlift.v1.Failures";
const LEADER_TYPE: &str = "type.googleapis.com/shardlift.v1.NotLeader";

/// The gRPC code of a failure.
pub fn grpc_code(code: ErrorCode) -> Code {
    use ErrorCode::{
        AccessForbidden, AccessForbiddenShard, AccessUnauthenticated, ApprovalNeeded, ApprovalRefused,
        ConfigInvalid, CoordinatorNotLeader, CoordinatorNotReady, CoordinatorUnreachable, FenceForked,
        FenceStale, Internal, LeaseLost, LintRefused, PlanCycle, PlanMissingDependency, PlanRefused,
        PlanStale, RequestForeignOrigin, RequestIllegal, RequestInvalid, RequestNoSuchRoute, RequestNotFound,
        RequestTimedOut, RequestTooLarge, RequestTooMany, RequestWrongMediaType, RequestWrongMethod,
        ServiceUnavailable, ShardNoWorker, ShardUnreachable, SpecConflict, SpecInvalid, SpecUnsupported,
        StoreFenced, StoreUnavailable, WorkerRefused,
    };
    match code {
        SpecInvalid
        | SpecUnsupported
        | PlanCycle
        | PlanMissingDependency
        | LintRefused
        | RequestInvalid
        | RequestWrongMediaType
        | ConfigInvalid => Code::InvalidArgument,
        SpecConflict => Code::AlreadyExists,
        RequestNotFound => Code::NotFound,
        RequestNoSuchRoute | RequestWrongMethod => Code::Unimplemented,
        RequestForeignOrigin | AccessForbidden | AccessForbiddenShard => Code::PermissionDenied,
        AccessUnauthenticated => Code::Unauthenticated,
        RequestTooLarge | RequestTooMany => Code::ResourceExhausted,
        RequestTimedOut => Code::DeadlineExceeded,
        CoordinatorNotLeader
        | CoordinatorNotReady
        | CoordinatorUnreachable
        | StoreUnavailable
        | ServiceUnavailable
        | StoreFenced
        | ShardNoWorker
        | ShardUnreachable => Code::Unavailable,
        FenceStale | FenceForked | LeaseLost | PlanStale => Code::Aborted,
        Internal => Code::Internal,
        RequestIllegal | PlanRefused | WorkerRefused | ApprovalNeeded | ApprovalRefused => {
            Code::FailedPrecondition
        }
        // Failures of work on a shard reach a caller only inside an answer; as a refusal they mean its state.
        _ => Code::FailedPrecondition,
    }
}

/// The HTTP status of a failure.
pub fn http_status(code: ErrorCode) -> u16 {
    use ErrorCode::{
        AccessForbidden, AccessForbiddenShard, AccessUnauthenticated, ConfigInvalid, CoordinatorNotLeader,
        CoordinatorNotReady, CoordinatorUnreachable, FenceForked, FenceStale, Internal, LeaseLost,
        LintRefused, PlanCycle, PlanMissingDependency, PlanRefused, RequestForeignOrigin, RequestInvalid,
        RequestNoSuchRoute, RequestNotFound, RequestTimedOut, RequestTooLarge, RequestTooMany,
        RequestWrongMediaType, RequestWrongMethod, RoutingUnroutable, ServiceUnavailable, ShardNoWorker,
        ShardUnreachable, SpecInvalid, SpecUnsupported, StoreFenced, StoreUnavailable, TransformInvalid,
        WorkerUnfit,
    };
    match code {
        RequestInvalid => 400,
        AccessUnauthenticated => 401,
        RequestForeignOrigin | AccessForbidden | AccessForbiddenShard => 403,
        RequestNotFound | RequestNoSuchRoute | RoutingUnroutable => 404,
        RequestWrongMethod => 405,
        RequestTooLarge => 413,
        RequestWrongMediaType => 415,
        // The request is well formed, and what it holds cannot be done.
        SpecInvalid
        | SpecUnsupported
        | PlanCycle
        | PlanMissingDependency
        | PlanRefused
        | LintRefused
        | TransformInvalid
        | ConfigInvalid => 422,
        RequestTooMany => 429,
        Internal => 500,
        CoordinatorNotLeader
        | CoordinatorNotReady
        | CoordinatorUnreachable
        | StoreUnavailable
        | ServiceUnavailable
        | StoreFenced
        | FenceStale
        | FenceForked
        | LeaseLost
        | ShardNoWorker
        | ShardUnreachable
        | WorkerUnfit => 503,
        RequestTimedOut => 504,
        // All others are about the state of a migration, of the topology or of a shard.
        _ => 409,
    }
}

/// A refused call with all its failures as typed details. The first one leads.
pub fn refuse(failures: Vec<Failure>) -> Status {
    refusal(failures, None)
}

/// A call refused because this coordinator does not lead, with whom to ask instead as a typed detail.
pub fn refuse_not_leader(failure: Failure, leader: Option<v1::Peer>) -> Status {
    let hint = v1::NotLeader { leader };
    let hint = prost_types::Any { type_url: LEADER_TYPE.to_owned(), value: hint.encode_to_vec() };
    refusal(vec![failure], Some(hint))
}

/// Whom a coordinator that does not lead says to ask instead.
pub fn leader_of(status: &Status) -> Option<v1::Peer> {
    let outer = tonic_types::Status::decode(status.details()).ok()?;
    let hint = outer.details.into_iter().find(|detail| detail.type_url == LEADER_TYPE)?;
    v1::NotLeader::decode(hint.value.as_slice()).ok()?.leader
}

fn refusal(failures: Vec<Failure>, more: Option<prost_types::Any>) -> Status {
    let Some(first) = failures.first() else {
        return Status::internal("refused without a reason");
    };
    let (code, message) = (grpc_code(first.code), first.to_string());
    let details = v1::Failures { failures: failures.into_iter().map(Into::into).collect() };
    let told = prost_types::Any { type_url: DETAIL_TYPE.to_owned(), value: details.encode_to_vec() };
    let details = std::iter::once(told).chain(more).collect();
    let status = tonic_types::Status { code: code.into(), message: message.clone(), details };
    Status::with_details(code, message, status.encode_to_vec().into())
}

/// The failures of a refused call. A call that was refused by something else than Shardlift (a proxy, a closed
/// connection) is told as such.
pub fn failures_of(status: &Status) -> Vec<Failure> {
    let typed = tonic_types::Status::decode(status.details()).ok().and_then(|outer| {
        let detail = outer.details.into_iter().find(|detail| detail.type_url == DETAIL_TYPE)?;
        v1::Failures::decode(detail.value.as_slice()).ok()
    });
    match typed {
        Some(details) if !details.failures.is_empty() => {
            details.failures.into_iter().map(failure_from_wire).collect()
        }
        _ => vec![untyped(status)],
    }
}

fn untyped(status: &Status) -> Failure {
    let code = match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
            ErrorCode::CoordinatorUnreachable
        }
        Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted => ErrorCode::RequestInvalid,
        Code::NotFound => ErrorCode::RequestNotFound,
        _ => ErrorCode::Internal,
    };
    let next = match code {
        ErrorCode::CoordinatorUnreachable => {
            "check the coordinator's address and that it runs; the request may be repeated"
        }
        _ => "check that client and coordinator are of the same release",
    };
    Failure::new(code, status.message(), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_the_table_agree_on_whose_turn_it_is() {
        for code in ErrorCode::ALL {
            let (grpc, http) = (grpc_code(*code), http_status(*code));
            let ours = http >= 500;
            let told =
                matches!(grpc, Code::Unavailable | Code::Aborted | Code::Internal | Code::DeadlineExceeded);
            // A stale plan is ours for gRPC, whose clients plan again by themselves, and the reader's for HTTP; of an
            // unfit worker the state is told by gRPC.
            let apart = matches!(code, ErrorCode::PlanStale | ErrorCode::WorkerUnfit);
            assert!(apart || ours == told, "{code}: {grpc:?} and {http}");
            assert!((400..600).contains(&http), "{code}: {http}");
        }
        for (code, http) in [
            (ErrorCode::RequestInvalid, 400),
            (ErrorCode::RequestNotFound, 404),
            (ErrorCode::RequestIllegal, 409),
            (ErrorCode::SpecConflict, 409),
            (ErrorCode::PlanStale, 409),
            (ErrorCode::SpecInvalid, 422),
            (ErrorCode::Internal, 500),
            (ErrorCode::CoordinatorNotReady, 503),
        ] {
            assert_eq!(http_status(code), http, "{code}");
        }
    }

    #[test]
    fn failures_survive_the_wire() {
        let sent = vec![
            Failure::new(ErrorCode::SpecInvalid, "unknown key", "remove it").in_file("a.yaml:1:2"),
            Failure::new(ErrorCode::PlanCycle, "a circle", "cut it").at_key("7"),
        ];
        let status = refuse(sent.clone());
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(failures_of(&status), sent);
    }

    #[test]
    fn who_leads_is_told_beside_the_failure_and_only_there() {
        let failure = Failure::new(ErrorCode::CoordinatorNotLeader, "does not lead", "ask the leader");
        let leader = v1::Peer { name: "c2".into(), address: "10.0.0.2:7400".into() };
        let status = refuse_not_leader(failure.clone(), Some(leader.clone()));
        assert_eq!((failures_of(&status), leader_of(&status)), (vec![failure.clone()], Some(leader)));
        assert_eq!(leader_of(&refuse_not_leader(failure.clone(), None)), None);
        assert_eq!(leader_of(&refuse(vec![failure])), None);
        assert_eq!(leader_of(&Status::unavailable("gone")), None);
    }

    #[test]
    fn a_foreign_refusal_is_told_as_such() {
        let failures = failures_of(&Status::unavailable("connection refused"));
        assert_eq!(failures[0].code, ErrorCode::CoordinatorUnreachable);
    }
}
