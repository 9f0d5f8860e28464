//! Every route, each with what the OpenAPI document says of it: the two come from the same lines, so none is missing.

use std::sync::LazyLock;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::IntoResponse;
use utoipa::OpenApi;
use utoipa::openapi::{Content, Ref, RefOr, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::asked::{Nothing, Path, Query};
use super::problem::{PROBLEM, Problem, ProblemBody};
use super::{
    Shared, aside, audit, backups, changes, cluster, events, health, looks, me, migrations, repair, verbs,
};

/// The page that shows the document. It asks for nothing but the document.
const PAGE: &str = include_str!("page.html");
/// Its scripts and styles are its own, and it may load the document.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                           base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The pages of the errors, by code.
const ERRORS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/error_pages.rs"));

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Shardlift",
        description = "Plans, starts and watches migrations over many database shards. Every coordinator answers; one that \
            does not lead passes the request on. Refusals are problem documents (RFC 9457). Every request may be \
            repeated: the same content is the same migration, and a verb that was carried out changes nothing more.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(ProblemBody)),
    tags(
        (name = "migrations", description = "Submit them and look at them."),
        (name = "verbs", description = "Move one: decided by the table of moves, answered after the commit."),
        (name = "quarantine", description = "Rows that were set aside."),
        (name = "looks", description = "Looks into the shards themselves."),
        (name = "cluster", description = "Shards, workers, the leader, the topology."),
        (name = "topology", description = "Changes of the topology: each a new revision, answered after the commit."),
        (name = "audit", description = "What was done, by whom: the history as a chain of hashes."),
        (name = "program", description = "This coordinator itself.")
    )
)]
struct Head;

/// All of them.
pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(Head::openapi())
        .routes(routes!(migrations::submit, migrations::list))
        .routes(routes!(migrations::plan))
        .routes(routes!(migrations::get))
        .routes(routes!(migrations::parts))
        .routes(routes!(migrations::conflicts))
        .routes(routes!(migrations::quarantine))
        .routes(routes!(aside::show))
        .routes(routes!(aside::retry))
        .routes(routes!(aside::discard))
        .routes(routes!(looks::mismatches))
        .routes(routes!(backups::all))
        .routes(routes!(backups::of_one))
        .routes(routes!(events::events))
        .routes(routes!(verbs::throttle))
        .routes(routes!(verbs::approve))
        .routes(routes!(verbs::start))
        .routes(routes!(verbs::pause))
        .routes(routes!(verbs::resume))
        .routes(routes!(verbs::cancel))
        .routes(routes!(verbs::rollback))
        .routes(routes!(verbs::retry))
        .routes(routes!(verbs::purge))
        .routes(routes!(repair::repair))
        .routes(routes!(cluster::shards))
        .routes(routes!(cluster::workers))
        .routes(routes!(cluster::drain))
        .routes(routes!(cluster::leader))
        .routes(routes!(cluster::topology))
        .routes(routes!(cluster::route))
        .routes(routes!(changes::reload))
        .routes(routes!(changes::add_shard))
        .routes(routes!(changes::remove_shard))
        .routes(routes!(changes::set_routing))
        .routes(routes!(changes::route_key))
        .routes(routes!(looks::drift))
        .routes(routes!(looks::placement))
        .routes(routes!(looks::indoubt))
        .routes(routes!(me::me))
        .routes(routes!(audit::audit))
        .routes(routes!(audit::verify))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(openapi))
        .routes(routes!(page))
        .routes(routes!(error_page))
}

/// The document: what the routes say of themselves, and that each may be refused.
pub(super) static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut document = routes().into_openapi();
    let refusal = ResponseBuilder::new()
        .description("Refused: a problem document (RFC 9457).")
        .content(PROBLEM, Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem")))))
        .build();
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), RefOr::T(refusal.clone()));
        }
    }
    // Names and texts only: this cannot fail.
    document.to_json().unwrap_or_default()
});

/// The OpenAPI document of this API, made from its code.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "program",
    responses((status = 200, description = "The document.", body = Object)))]
pub(super) async fn openapi(_: Query<Nothing>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str())
}

/// This document for people.
#[utoipa::path(get, path = "/api/docs", tag = "program",
    responses((status = 200, description = "A page.", body = String, content_type = "text/html")))]
pub(super) async fn page() -> impl IntoResponse {
    let policy = (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    let html = (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    ([html, policy] as [(HeaderName, HeaderValue); 2], PAGE)
}

/// What an error means, how it comes about, what to do.
#[utoipa::path(get, path = "/api/docs/errors/{code}", tag = "program",
    params(("code" = String, Path, description = "A stable code, such as `spec.invalid`.")),
    responses((status = 200, description = "The page, in Markdown.", body = String, content_type = "text/plain")))]
pub(super) async fn error_page(Path(code): Path) -> Result<impl IntoResponse, Problem> {
    let page = ERRORS.iter().find(|(known, _)| *known == code && code.contains('.'));
    page.map(|(_, text)| ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], *text)).ok_or_else(|| {
        Problem::new(
            shardlift_domain::failure::ErrorCode::RequestNoSuchRoute,
            "this release has no error with that code",
            "use the `code` of a problem document",
        )
    })
}

#[cfg(test)]
mod tests {
    use shardlift_domain::failure::ErrorCode;

    use super::*;

    #[test]
    fn every_code_has_its_page_in_the_program() {
        for code in ErrorCode::ALL {
            let page = ERRORS.iter().find(|(known, _)| *known == code.as_str());
            assert!(page.is_some_and(|(_, text)| text.starts_with(&format!("# `{code}`"))), "{code}");
        }
    }

    #[test]
    fn the_page_asks_nobody_else() {
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
        assert!(PAGE.contains("/api/v1/openapi.json"));
    }
}
