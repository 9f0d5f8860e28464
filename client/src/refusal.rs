//! What a refused call means: the coordinator said no, or nobody answered.

use std::error::Error;

use shardlift_domain::{ErrorCode, Failure};
use shardlift_proto::convert::WireError;
use shardlift_proto::status::failures_of;
use tonic::{Code, Status};

use crate::Address;

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Nobody answered, or nobody who could: asking again may help.
    Lost(Failure),
    /// The coordinator said no.
    Told(Vec<Failure>),
}

impl Refusal {
    /// What to tell, whoever's fault it is.
    pub(crate) fn into_failures(self) -> Vec<Failure> {
        match self {
            Refusal::Told(failures) => failures,
            Refusal::Lost(failure) => vec![failure],
        }
    }

    /// Judges a status by its typed details first, and by its origin where there are none.
    pub(crate) fn of(status: &Status, address: &Address) -> Self {
        if is_silence(status) {
            return Refusal::Lost(unreachable(address, status.message(), status.source()));
        }
        let mut failures = failures_of(status);
        match failures.first().map(|failure| failure.code) {
            Some(
                ErrorCode::CoordinatorUnreachable
                | ErrorCode::CoordinatorNotLeader
                | ErrorCode::CoordinatorNotReady
                | ErrorCode::StoreUnavailable
                | ErrorCode::StoreFenced,
            ) => Refusal::Lost(failures.swap_remove(0)),
            _ if is_foreign(status) => Refusal::Told(vec![foreign(address, status.message())]),
            _ => Refusal::Told(failures),
        }
    }
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        Refusal::Told(vec![error.into()])
    }
}

/// A call that ended without a word of Shardlift: a closed connection, a timeout, a proxy.
fn is_silence(status: &Status) -> bool {
    status.details().is_empty()
        && match status.code() {
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded | Code::Aborted => {
                true
            }
            // HTTP/2 calls a connection that broke in the middle an internal error; it then has a source.
            Code::Internal => status.source().is_some(),
            _ => false,
        }
}

/// An answer that is none of a coordinator: of its door for REST or metrics, of another server, of another release. What a
/// coordinator refuses has typed details.
fn is_foreign(status: &Status) -> bool {
    let broken = status.code() == Code::Internal && status.message().starts_with("protocol error");
    status.details().is_empty() && (broken || status.code() == Code::Unimplemented)
}

fn foreign(address: &Address, what: &str) -> Failure {
    Failure::new(
        ErrorCode::RequestInvalid,
        format!("what answers at {address} is no coordinator of this release: {what}"),
        "name the coordinator's `listen` address, not that of REST or metrics (--coordinator or SHARDLIFT_COORDINATOR); \
         compare the releases with --version",
    )
}

/// The failure of a coordinator that does not answer.
pub(crate) fn unreachable(address: &Address, what: &str, source: Option<&(dyn Error + 'static)>) -> Failure {
    let mut causes: Vec<String> = Vec::new();
    let mut source = source;
    while let Some(error) = source {
        causes.push(error.to_string());
        source = error.source();
    }
    // The innermost cause says it in the words of the operating system: "Connection refused".
    let cause = causes.pop().unwrap_or_else(|| what.to_owned());
    Failure::new(
        ErrorCode::CoordinatorUnreachable,
        format!("no coordinator answers at {address}: {cause}"),
        "check that it runs (shardlift-coordinator --config FILE), and that --coordinator or \
         SHARDLIFT_COORDINATOR names its `listen` address: with https:// if it wants TLS, without if not",
    )
}

#[cfg(test)]
mod tests {
    use shardlift_proto::status::refuse;

    use super::*;

    fn judged(status: &Status) -> Refusal {
        Refusal::of(status, &"127.0.0.1:1".parse().expect("an address"))
    }

    #[test]
    fn a_typed_refusal_is_told_and_a_silence_is_a_loss() {
        let told = refuse(vec![Failure::new(ErrorCode::SpecConflict, "other content", "take another id")]);
        assert!(
            matches!(judged(&told), Refusal::Told(failures) if failures[0].code == ErrorCode::SpecConflict)
        );
        for code in [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::DeadlineExceeded] {
            assert!(matches!(judged(&Status::new(code, "gone")), Refusal::Lost(_)), "{code:?}");
        }
        assert!(matches!(judged(&Status::internal("a defect")), Refusal::Told(_)));
    }

    #[test]
    fn an_answer_that_is_none_of_a_coordinator_is_told_with_the_address() {
        let broken = Status::internal("protocol error: received message with invalid compression flag: 123");
        for status in
            [broken, Status::unimplemented("grpc-status header missing, mapped from HTTP status code 404")]
        {
            let Refusal::Told(failures) = judged(&status) else { panic!("{status:?} is worth no other try") };
            assert_eq!(failures[0].code, ErrorCode::RequestInvalid, "{failures:?}");
            assert!(failures[0].message.starts_with("what answers at http://127.0.0.1:1 is no coordinator"));
        }
        let told = refuse(vec![Failure::new(ErrorCode::RequestNoSuchRoute, "no such call", "look it up")]);
        assert!(
            matches!(judged(&told), Refusal::Told(failures) if failures[0].code == ErrorCode::RequestNoSuchRoute)
        );
    }

    #[test]
    fn a_coordinator_that_is_not_ready_is_worth_another_try() {
        let status = refuse(vec![Failure::new(ErrorCode::CoordinatorNotReady, "recovering", "wait")]);
        assert!(
            matches!(judged(&status), Refusal::Lost(failure) if failure.code == ErrorCode::CoordinatorNotReady)
        );
    }
}
