//! What is read of a request: its query, its body, its headers. What is not understood is refused with the place.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use shardlift_domain::failure::ErrorCode;
use shardlift_proto::v1;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::api::MAX_MESSAGE;

/// Media types by which a spec comes as it is, and the file name that it gets unless the query names one.
const RAW: [(&str, &str); 5] = [
    ("application/yaml", "spec.yaml"),
    ("text/yaml", "spec.yaml"),
    ("application/x-yaml", "spec.yaml"),
    ("text/x-yaml", "spec.yaml"),
    ("application/sql", "spec.sql"),
];

/// Longest `Idempotency-Key`.
const MAX_KEY: usize = 255;

/// The query, by its documented keys only.
pub(super) struct Query<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let read = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        read.map(|axum::extract::Query(query)| Self(query)).map_err(|rejection| {
            let why = rejection.body_text();
            let why = why.strip_prefix("Failed to deserialize query string: ").unwrap_or(&why);
            invalid(
                format!("the query is not understood: {why}"),
                "use the keys that the route documents (/api/docs)",
            )
        })
    }
}

/// No key at all, in a query or in a body.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// A part of the path that names something.
pub(super) struct Path(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Path {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        read.map(|axum::extract::Path(name)| Self(name)).map_err(|rejection| {
            let why = rejection.body_text();
            invalid(format!("the path is not understood: {why}"), "write it in UTF-8, percent-encoded")
        })
    }
}

/// Headers and body, read to the end.
pub(super) struct Sent {
    headers: HeaderMap,
    body: Bytes,
}

impl<S: Sync> FromRequest<S> for Sent {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, MAX_MESSAGE).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                let message = format!("the body has more than {MAX_MESSAGE} bytes");
                return Problem::new(
                    ErrorCode::RequestTooLarge,
                    message,
                    "send the specs in several requests",
                );
            }
            invalid(format!("the body could not be read: {error}"), "send it again, whole")
        })?;
        Ok(Self { headers: head.headers, body: body.to_bytes() })
    }
}

/// Specs as JSON.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Specs)]
pub(super) struct SpecsAsked {
    specs: Vec<SpecAsked>,
}

/// One spec as its author wrote it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Spec)]
struct SpecAsked {
    /// Name as you know it; `.sql` or `.yaml` decides the form.
    #[schema(example = "0008_message_text.yaml")]
    name: String,
    /// The whole text of the file.
    text: String,
}

impl Sent {
    /// The specs: as JSON, or one as it is. `name`: of the one.
    pub(super) fn specs(&self, name: Option<String>) -> Result<Vec<v1::SpecFile>, Problem> {
        let media = self.media();
        if let Some((_, usual)) = RAW.iter().find(|(raw, _)| *raw == media) {
            let text = std::str::from_utf8(&self.body).map_err(|error| {
                let at = error.valid_up_to();
                invalid(format!("the spec is no UTF-8 text from byte {at} on"), "save the file as UTF-8")
            })?;
            return Ok(vec![v1::SpecFile {
                name: name.unwrap_or_else(|| (*usual).to_owned()),
                text: text.to_owned(),
            }]);
        }
        if name.is_some() {
            return Err(invalid(
                "`name` in the query belongs to a spec that is sent as it is",
                "name each spec in the JSON instead",
            ));
        }
        let SpecsAsked { specs } = self.json()?;
        Ok(specs.into_iter().map(|SpecAsked { name, text }| v1::SpecFile { name, text }).collect())
    }

    /// A body where none belongs: what is not read must not be sent.
    pub(super) fn nothing(&self) -> Result<(), Problem> {
        self.optional::<Nothing>().map(drop)
    }

    /// A body that may be left out.
    pub(super) fn optional<T: DeserializeOwned + Default>(&self) -> Result<T, Problem> {
        if self.body.is_empty() { Ok(T::default()) } else { self.json() }
    }

    /// The `Idempotency-Key`, if there is one. Nothing has to be remembered for it: the same content again is the same
    /// migration, and a verb that was carried out changes nothing more.
    pub(super) fn idempotency_key(&self) -> Result<Option<&str>, Problem> {
        let Some(key) = self.headers.get("idempotency-key") else { return Ok(None) };
        let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= MAX_KEY);
        key.map(Some).ok_or_else(|| {
            invalid(
                format!("the Idempotency-Key has not between 1 and {MAX_KEY} visible ASCII characters"),
                "use a UUID, or leave it out: every request may be repeated",
            )
        })
    }

    /// A body that must be there.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let media = self.media();
        if media != "application/json" {
            let sent = if media.is_empty() { "no Content-Type".to_owned() } else { format!("{media:?}") };
            return Err(Problem::new(
                ErrorCode::RequestWrongMediaType,
                format!("the body came with {sent}, which is not read here"),
                "send application/json; a spec may also come as it is, as application/yaml or application/sql",
            ));
        }
        // The error tells line and column.
        serde_json::from_slice(&self.body).map_err(|error| {
            invalid(
                format!("the body is not the JSON that is expected here: {error}"),
                "mend it there; /api/docs shows what is expected",
            )
        })
    }

    /// Without parameters such as a character set, in lower case.
    fn media(&self) -> String {
        let media = self.headers.get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok());
        media.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }
}

/// A request that is malformed.
pub(super) fn invalid(message: impl Into<String>, next: &str) -> Problem {
    Problem::new(ErrorCode::RequestInvalid, message, next)
}

/// How many are told: within its bounds, or refused.
pub(super) fn limit(asked: Option<u32>, usual: u32, most: u32) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(usual);
    if !(1..=most).contains(&limit) {
        let next = "ask for fewer, and go on with the next page";
        return Err(invalid(format!("limit is {limit}, and must be between 1 and {most}"), next));
    }
    Ok(limit as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(media: &str, body: &str) -> Sent {
        let mut headers = HeaderMap::new();
        if !media.is_empty() {
            headers.insert(header::CONTENT_TYPE, media.parse().expect("a header"));
        }
        Sent { headers, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    fn refused<T>(asked: Result<T, Problem>) -> (String, String) {
        let problem = asked.err().expect("refused");
        let told = serde_json::json!(problem.document("/", ""));
        (told["code"].as_str().unwrap_or_default().into(), told["detail"].as_str().unwrap_or_default().into())
    }

    #[test]
    fn specs_come_as_json_or_as_they_are() {
        let json = r#"{"specs": [{"name": "a.yaml", "text": "id: a"}, {"name": "b.sql", "text": "-- up"}]}"#;
        let specs = sent("application/json; charset=utf-8", json).specs(None).expect("read");
        assert_eq!((specs.len(), specs[1].name.as_str()), (2, "b.sql"));
        let raw = |media, name| sent(media, "id: a").specs(name).expect("read").remove(0);
        assert_eq!(raw("application/yaml", None).name, "spec.yaml");
        assert_eq!(raw("Application/SQL", None).name, "spec.sql");
        assert_eq!(raw("text/yaml", Some("7.yaml".into())).name, "7.yaml");
        assert_eq!(raw("text/yaml", None).text, "id: a");
    }

    #[test]
    fn what_is_malformed_is_refused_with_its_place() {
        let (code, detail) = refused(sent("application/json", "{\n  \"specs\": [,]\n}").specs(None));
        assert!(code == "request.invalid" && detail.contains("line 2 column 13"), "{code}: {detail}");
        let (_, detail) = refused(sent("application/json", r#"{"spec": []}"#).specs(None));
        assert!(detail.contains("unknown field `spec`"), "{detail}");
        let (code, detail) = refused(sent("", "{}").specs(None));
        assert!(code == "request.wrong-media-type" && detail.contains("no Content-Type"), "{code}: {detail}");
        let (_, detail) = refused(sent("application/json", r#"{"specs": []}"#).specs(Some("a.yaml".into())));
        assert!(detail.contains("`name`"), "{detail}");
    }

    #[test]
    fn a_limit_keeps_its_bounds() {
        assert_eq!(limit(None, 100, 500).ok(), Some(100));
        assert_eq!(limit(Some(500), 100, 500).ok(), Some(500));
        for wrong in [0, 501] {
            assert_eq!(refused(limit(Some(wrong), 100, 500)).0, "request.invalid");
        }
    }

    #[test]
    fn a_key_for_repeats_is_allowed_and_must_be_one() {
        let with = |key: &str| {
            let mut sent = sent("", "");
            sent.headers.insert("idempotency-key", key.parse().expect("a header"));
            sent
        };
        assert_eq!(sent("", "").idempotency_key().expect("none").map(str::len), None);
        assert_eq!(with("k-1").idempotency_key().expect("one"), Some("k-1"));
        assert_eq!(refused(with("").idempotency_key().map(drop)).0, "request.invalid");
        assert_eq!(refused(with(&"k".repeat(256)).idempotency_key().map(drop)).0, "request.invalid");
    }
}
