//! Every refusal as a problem document (RFC 9457), with our stable codes.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_proto::status::{failures_of, http_status};
use shardlift_proto::v1;
use tonic::Status;
use utoipa::ToSchema;

use super::answers::FailureBody;

/// The media type of problem documents.
pub(super) const PROBLEM: &str = "application/problem+json";

/// Why a request is refused: at least one failure, the first one leading.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    first: Box<v1::Failure>,
    others: Vec<v1::Failure>,
    code: ErrorCode,
    /// Seconds after which to come again, for codes that say so.
    after: u64,
}

impl Problem {
    /// A refusal of the door itself.
    pub(super) fn new(code: ErrorCode, message: impl Into<String>, next: impl Into<String>) -> Self {
        Failure::new(code, message, next).into()
    }

    /// The caller may come again after so many seconds.
    pub(super) fn after(self, seconds: u64) -> Self {
        Self { after: seconds, ..self }
    }

    /// Whether the same request may succeed by itself later.
    pub(super) fn retryable(&self) -> bool {
        self.code.retryable()
    }

    /// Its document for the path that was asked for.
    pub(super) fn document(&self, path: &str, request_id: &str) -> ProblemBody {
        let lead = FailureBody::from((*self.first).clone());
        let others = self.others.iter().cloned().map(FailureBody::from);
        ProblemBody {
            r#type: format!("/api/docs/errors/{}", self.code),
            title: self.code.summary().to_owned(),
            status: http_status(self.code),
            detail: lead.message.clone(),
            instance: path.to_owned(),
            code: lead.code.clone(),
            next: lead.next.clone(),
            fault: lead.fault.clone(),
            retryable: lead.retryable,
            migration: lead.migration.clone(),
            shard: lead.shard.clone(),
            step: lead.step,
            key: lead.key.clone(),
            file: lead.file.clone(),
            failures: std::iter::once(lead).chain(others).collect(),
            request_id: request_id.to_owned(),
        }
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(http_status(self.code)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self { code: failure.code, first: Box::new(failure.into()), others: Vec::new(), after: 1 }
    }
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        let mut failures = failures_of(&status).into_iter();
        let first = failures.next().unwrap_or_else(|| {
            Failure::new(ErrorCode::Internal, status.message(), "see the coordinator's log")
        });
        Self { others: failures.map(Into::into).collect(), ..first.into() }
    }
}

/// Without a body yet: [`super::door`] knows the path and the request's id.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        if matches!(response.status(), StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(self.after));
        }
        if response.status() == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// A problem document: RFC 9457, with members of ours.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody {
    /// The page of the code, on this coordinator.
    #[schema(example = "/api/docs/errors/request.illegal-move")]
    r#type: String,
    /// What the code means, always the same.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened.
    detail: String,
    /// The path that was asked for.
    instance: String,
    /// Stable code.
    #[schema(example = "request.illegal-move")]
    code: String,
    /// What to do now.
    next: String,
    /// Whose fault it usually is: `user`, `application`, `shard`, `network` or `shardlift`.
    fault: String,
    /// Whether the same request may succeed later without anybody changing anything.
    retryable: bool,
    /// Which migration.
    migration: Option<String>,
    /// Which shard.
    shard: Option<String>,
    /// Which step.
    step: Option<super::words::Step>,
    /// Which row or document, as its key in text.
    key: Option<String>,
    /// Which place of a file, as `file:line:column`.
    file: Option<String>,
    /// All of them; the first one is told above.
    failures: Vec<FailureBody>,
    /// The request's id, as in the header `x-request-id` and in the logs.
    request_id: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shardlift_proto::status::refuse;

    use super::*;

    #[test]
    fn a_refused_call_is_told_with_all_its_failures_and_their_places() {
        let shard = shardlift_domain::ShardId::new("chat-pg-01").expect("a name");
        let status = refuse(vec![
            Failure::new(ErrorCode::SpecInvalid, "unknown key", "remove it").in_file("a.yaml:1:2"),
            Failure::new(ErrorCode::ShardUnreachable, "silent", "look at it").on_shard(&shard),
        ]);
        let problem = Problem::from(status);
        let told = json!(problem.document("/api/v1/plans", "r-1"));
        assert_eq!(
            (&told["status"], &told["code"], &told["file"], &told["detail"], &told["shard"]),
            (&json!(422), &json!("spec.invalid"), &json!("a.yaml:1:2"), &json!("unknown key"), &json!(null))
        );
        assert_eq!(told["title"], "The spec file is not valid.");
        assert_eq!(told["type"], "/api/docs/errors/spec.invalid");
        assert_eq!((&told["instance"], &told["request_id"]), (&json!("/api/v1/plans"), &json!("r-1")));
        assert_eq!(told["failures"][1]["shard"], "chat-pg-01");
        assert_eq!(problem.into_response().status(), StatusCode::UNPROCESSABLE_ENTITY);
    }

    #[test]
    fn every_code_is_a_refusal_and_who_may_come_again_is_told_when() {
        for code in ErrorCode::ALL {
            let response = Problem::new(*code, "it is so", "do this").into_response();
            let status = response.status();
            assert!(status.is_client_error() || status.is_server_error(), "{code}: {status}");
            let again = matches!(status.as_u16(), 429 | 503);
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), again, "{code}");
        }
    }
}
