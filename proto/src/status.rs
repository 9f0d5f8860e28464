//! The one table between failures and gRPC: code out, typed details in and out, never text to be parsed.

use prost::Message;
use shardlift_domain::failure::{ErrorCode, Failure};
use tonic::{Code, Status};

use crate::convert::failure_from_wire;
use crate::v1;

const DETAIL_TYPE: &str = "type.googleapis.com/shardlift.v1.Failures";

/// The gRPC code of a failure.
pub fn grpc_code(code: ErrorCode) -> Code {
    use ErrorCode::{
        ConfigInvalid, CoordinatorNotReady, CoordinatorUnreachable, FenceForked, FenceStale, Internal,
        LeaseLost, PlanCycle, PlanMissingDependency, PlanRefused, RequestIllegal, RequestInvalid,
        RequestNotFound, ShardNoWorker, ShardUnreachable, SpecConflict, SpecInvalid, SpecUnsupported,
        StoreFenced, StoreUnavailable, WorkerRefused,
    };
    match code {
        SpecInvalid
        | SpecUnsupported
        | PlanCycle
        | PlanMissingDependency
        | RequestInvalid
        | ConfigInvalid => Code::InvalidArgument,
        SpecConflict => Code::AlreadyExists,
        RequestNotFound => Code::NotFound,
        CoordinatorNotReady
        | CoordinatorUnreachable
        | StoreUnavailable
        | StoreFenced
        | ShardNoWorker
        | ShardUnreachable => Code::Unavailable,
        FenceStale | FenceForked | LeaseLost => Code::Aborted,
        Internal => Code::Internal,
        RequestIllegal | PlanRefused | WorkerRefused => Code::FailedPrecondition,
        // Failures of work on a shard reach a caller only inside an answer; as a refusal they mean its state.
        _ => Code::FailedPrecondition,
    }
}

/// A refused call with all its failures as typed details. The first one leads.
pub fn refuse(failures: Vec<Failure>) -> Status {
    let Some(first) = failures.first() else {
        return Status::internal("refused without a reason");
    };
    let (code, message) = (grpc_code(first.code), first.to_string());
    let details = v1::Failures { failures: failures.into_iter().map(Into::into).collect() };
    let status = tonic_types::Status {
        code: code.into(),
        message: message.clone(),
        details: vec![prost_types::Any { type_url: DETAIL_TYPE.to_owned(), value: details.encode_to_vec() }],
    };
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
    fn a_foreign_refusal_is_told_as_such() {
        let failures = failures_of(&Status::unavailable("connection refused"));
        assert_eq!(failures[0].code, ErrorCode::CoordinatorUnreachable);
    }
}
