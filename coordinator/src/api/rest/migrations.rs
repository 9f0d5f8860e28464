//! Plans, submissions, and looks at migrations.

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use shardlift_proto::v1;
use utoipa::{IntoParams, ToSchema};

use super::Rest;
use super::answers::{ConflictsBody, MigrationsBody, PartsBody, PlanBody, QuarantineBody, StatusBody};
use super::asked::{Path, Query, Sent, SpecsAsked, invalid, limit};
use super::problem::Problem;
use super::words::Status;

/// How specs are read.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PlanQuery {
    /// Name of a spec that is sent as it is; `.sql` or `.yaml` decides the form.
    name: Option<String>,
    /// Also try the transforms on about so many rows of each shard, and roll back; 0: a number that is good for most.
    rehearse: Option<u32>,
}

/// How specs are read and stored.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SubmitQuery {
    /// Name of a spec that is sent as it is; `.sql` or `.yaml` decides the form.
    name: Option<String>,
    /// Also start them.
    #[serde(default)]
    start: bool,
    /// The revision of the plan that you have seen: refused when the topology has moved since.
    topology_revision: Option<u64>,
}

/// Makes a plan and changes nothing. A plan with errors among its findings is answered, too: it is not submittable.
#[utoipa::path(post, path = "/api/v1/plans", tag = "migrations", params(PlanQuery),
    request_body(content((SpecsAsked = "application/json"), (String = "application/yaml"), (String = "application/sql"))),
    responses((status = 200, description = "The plan.", body = PlanBody)))]
pub(super) async fn plan(
    rest: Rest,
    Query(PlanQuery { name, rehearse }): Query<PlanQuery>,
    sent: Sent,
) -> Result<Json<PlanBody>, Problem> {
    // Values of rows are not shown here.
    let rehearse = rehearse.map(|rows| v1::Rehearse { rows, shown: false });
    let asked = v1::PlanRequest { specs: sent.specs(name)?, rehearse };
    let answer = rest.migrations().plan(asked).await?.into_inner();
    Ok(Json(answer.plan.unwrap_or_default().into()))
}

/// Stores the migrations of the specs; answers after the commit. The same content again is the same migration.
#[utoipa::path(post, path = "/api/v1/migrations", tag = "migrations",
    params(SubmitQuery,
        ("idempotency-key" = Option<String>, Header, description = "Allowed, and not needed: the same content is the same migration.")),
    request_body(content((SpecsAsked = "application/json"), (String = "application/yaml"), (String = "application/sql"))),
    responses(
        (status = 200, description = "All of them were known already.", body = PlanBody),
        (status = 201, description = "Something is new; `Location` names it if it is all there is.", body = PlanBody)))]
pub(super) async fn submit(
    rest: Rest,
    Query(query): Query<SubmitQuery>,
    sent: Sent,
) -> Result<(StatusCode, HeaderMap, Json<PlanBody>), Problem> {
    if let Some(key) = sent.idempotency_key()? {
        tracing::info!(idempotency_key = key, "a submission that may be repeated");
    }
    let request = v1::SubmitRequest {
        specs: sent.specs(query.name)?,
        start: query.start,
        topology_revision: query.topology_revision,
    };
    let mut request = tonic::Request::new(request);
    // The submission belongs to the trace of the caller.
    let here = shardlift_runtime::telemetry::context::current().and_then(|text| text.parse().ok());
    if let Some(here) = here {
        request.metadata_mut().insert(shardlift_runtime::telemetry::context::HEADER, here);
    }
    let plan = rest.migrations().submit(request).await?.into_inner().plan.unwrap_or_default();
    let plan = PlanBody::from(plan);
    let mut headers = HeaderMap::new();
    if !plan.begins() {
        return Ok((StatusCode::OK, headers, Json(plan)));
    }
    let place = plan.only().and_then(|id| HeaderValue::from_str(&format!("/api/v1/migrations/{id}")).ok());
    headers.extend(place.map(|place| (header::LOCATION, place)));
    Ok((StatusCode::CREATED, headers, Json(plan)))
}

/// Which migrations are listed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// How many at most, up to 500; 100 unless told.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Only those that stand so: one or several words with commas between them.
    #[param(example = "running,paused")]
    status: Option<String>,
    /// In which order; `submitted` unless told.
    #[param(inline)]
    order: Option<Order>,
}

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// In the order of submission.
    Submitted,
    /// The newest first.
    Newest,
}

/// Migrations in their newest versions, without their shards.
#[utoipa::path(get, path = "/api/v1/migrations", tag = "migrations", params(ListQuery),
    responses((status = 200, description = "A page of them.", body = MigrationsBody)))]
pub(super) async fn list(
    rest: Rest,
    Query(query): Query<ListQuery>,
) -> Result<Json<MigrationsBody>, Problem> {
    let asked = Listing::of(&query)?;
    let all = rest.migrations().list(v1::ListRequest::default()).await?.into_inner().migrations;
    Ok(Json(asked.page(all)?))
}

struct Listing<'a> {
    limit: usize,
    statuses: Vec<v1::Status>,
    newest: bool,
    cursor: Option<&'a str>,
}

impl<'a> Listing<'a> {
    fn of(query: &'a ListQuery) -> Result<Self, Problem> {
        let words = query.status.as_deref().unwrap_or_default().split(',').filter(|word| !word.is_empty());
        Ok(Self {
            limit: limit(query.limit, 100, 500)?,
            statuses: words.map(status).collect::<Result<_, _>>()?,
            newest: query.order == Some(Order::Newest),
            cursor: query.cursor.as_deref(),
        })
    }

    fn page(&self, mut all: Vec<v1::Migration>) -> Result<MigrationsBody, Problem> {
        if self.newest {
            all.reverse();
        }
        let begin = match self.cursor {
            None => 0,
            // By its place among all: it may stand otherwise by now.
            Some(cursor) => {
                all.iter().position(|migration| cursor_of(migration) == cursor).ok_or_else(stale)? + 1
            }
        };
        let wanted = |migration: &v1::Migration| {
            self.statuses.is_empty() || self.statuses.contains(&migration.status())
        };
        let mut rest = all.into_iter().skip(begin).filter(wanted);
        let page: Vec<v1::Migration> = rest.by_ref().take(self.limit).collect();
        let next = rest.next().and_then(|_| page.last().map(cursor_of));
        Ok(MigrationsBody { migrations: page.into_iter().map(Into::into).collect(), next })
    }
}

fn cursor_of(migration: &v1::Migration) -> String {
    format!("{}@{}", migration.id, migration.version)
}

fn stale() -> Problem {
    invalid("the cursor names a migration that is not in the list", "begin the list anew, without a cursor")
}

fn status(word: &str) -> Result<v1::Status, Problem> {
    serde_json::from_value::<Status>(word.into()).map(Into::into).map_err(|error| {
        invalid(format!("{word:?} is no status: {error}"), "use the words that a migration's `status` has")
    })
}

/// Which version.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct VersionQuery {
    /// Of the migration; the newest unless told.
    version: Option<u32>,
}

/// One migration with its shards.
#[utoipa::path(get, path = "/api/v1/migrations/{id}", tag = "migrations",
    params(("id" = String, Path, description = "The migration's id."), VersionQuery),
    responses((status = 200, description = "As it is now.", body = StatusBody)))]
pub(super) async fn get(
    rest: Rest,
    Path(id): Path,
    Query(query): Query<VersionQuery>,
) -> Result<Json<StatusBody>, Problem> {
    Ok(Json(rest.migration(id, query.version).await?.into()))
}

/// Which shards of a migration.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PartsQuery {
    /// Of the migration; the newest unless told.
    version: Option<u32>,
    /// How many at most, up to 10,000; 1000 unless told.
    #[param(minimum = 1, maximum = 10_000)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// How far each shard of a migration is.
#[utoipa::path(get, path = "/api/v1/migrations/{id}/shards", tag = "migrations",
    params(("id" = String, Path, description = "The migration's id."), PartsQuery),
    responses((status = 200, description = "A page of them, by their ids.", body = PartsBody)))]
pub(super) async fn parts(
    rest: Rest,
    Path(id): Path,
    Query(query): Query<PartsQuery>,
) -> Result<Json<PartsBody>, Problem> {
    let limit = limit(query.limit, 1000, 10_000)?;
    let migration = rest.migration(id, query.version).await?;
    let behind = query.cursor.as_deref().unwrap_or_default();
    let mut parts = migration.shards.into_iter().filter(|part| part.shard.as_str() > behind);
    let page: Vec<v1::ShardMigration> = parts.by_ref().take(limit).collect();
    let next = parts.next().and_then(|_| page.last().map(|part| part.shard.clone()));
    let shards = page.into_iter().map(Into::into).collect();
    Ok(Json(PartsBody { id: migration.id, version: migration.version, shards, next }))
}

/// Which conflicts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ConflictsQuery {
    /// Of the migration; the newest unless told.
    version: Option<u32>,
    /// How many at most, up to 10,000; 1000 unless told.
    #[param(minimum = 1, maximum = 10_000)]
    limit: Option<u32>,
}

/// The rows that a rollback has left alone, asked of the shards.
#[utoipa::path(get, path = "/api/v1/migrations/{id}/conflicts", tag = "migrations",
    params(("id" = String, Path, description = "The migration's id."), ConflictsQuery),
    responses((status = 200, description = "Their keys, and why.", body = ConflictsBody)))]
pub(super) async fn conflicts(
    rest: Rest,
    Path(id): Path,
    Query(query): Query<ConflictsQuery>,
) -> Result<Json<ConflictsBody>, Problem> {
    let limit = u32::try_from(limit(query.limit, 1000, 10_000)?).unwrap_or(u32::MAX);
    let request = v1::ConflictsRequest { id, version: query.version.unwrap_or_default(), limit };
    Ok(Json(rest.migrations().conflicts(request).await?.into_inner().into()))
}

/// Which rows that were set aside.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct QuarantineQuery {
    /// Only those of this shard.
    shard: Option<String>,
    /// How many at most, up to 10,000; 1000 unless told.
    #[param(minimum = 1, maximum = 10_000)]
    limit: Option<u32>,
}

/// The rows that were set aside, asked of the shards; no values of them.
#[utoipa::path(get, path = "/api/v1/migrations/{id}/quarantine", tag = "migrations",
    params(("id" = String, Path, description = "The migration's id."), QuarantineQuery),
    responses((status = 200, description = "Their keys, and why.", body = QuarantineBody)))]
pub(super) async fn quarantine(
    rest: Rest,
    Path(id): Path,
    Query(query): Query<QuarantineQuery>,
) -> Result<Json<QuarantineBody>, Problem> {
    let limit = limit(query.limit, 1000, 10_000)?;
    let request = v1::ListQuarantineRequest { id, shard: query.shard };
    let mut found = rest.migrations().list_quarantine(request).await?.into_inner();
    let mut told = QuarantineBody { rows: Vec::new(), more: false };
    while let Some(row) = found.message().await? {
        if told.rows.len() == limit {
            told.more = true;
            break;
        }
        told.rows.push(row.into());
    }
    Ok(Json(told))
}

impl Rest {
    /// One migration with its shards.
    pub(super) async fn migration(&self, id: String, version: Option<u32>) -> Result<v1::Migration, Problem> {
        let request = v1::GetRequest { id, version: version.unwrap_or_default() };
        Ok(self.migrations().get(request).await?.into_inner().migration.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<v1::Migration> {
        let migration = |number: u32, status: v1::Status| v1::Migration {
            id: format!("m{number}"),
            version: 1,
            status: status.into(),
            ..v1::Migration::default()
        };
        (1..=5)
            .map(|number| migration(number, [v1::Status::Running, v1::Status::Failed][number as usize % 2]))
            .collect()
    }

    fn listed(query: &ListQuery, all: Vec<v1::Migration>) -> (Vec<String>, Option<String>) {
        let page = Listing::of(query).and_then(|asked| asked.page(all)).expect("a page");
        let told = serde_json::json!(page.migrations);
        let ids = told
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| one["id"].as_str().unwrap_or_default().to_owned());
        (ids.collect(), page.next)
    }

    #[test]
    fn pages_follow_each_other_in_either_order() {
        let mut query = ListQuery { limit: Some(2), ..ListQuery::default() };
        let mut seen = Vec::new();
        loop {
            let (ids, next) = listed(&query, all());
            seen.push(ids.join(" "));
            query.cursor = next;
            if query.cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, ["m1 m2", "m3 m4", "m5"]);
        let newest = ListQuery { limit: Some(2), order: Some(Order::Newest), ..ListQuery::default() };
        assert_eq!(listed(&newest, all()), (vec!["m5".into(), "m4".into()], Some("m4@1".into())));
    }

    #[test]
    fn a_cursor_holds_while_what_it_names_moves() {
        let query = ListQuery {
            status: Some("failed,cancelled".into()),
            cursor: Some("m1@1".into()),
            ..ListQuery::default()
        };
        let mut moved = all();
        moved[0].status = v1::Status::Running.into();
        assert_eq!(listed(&query, moved), (vec!["m3".into(), "m5".into()], None));
        let mut replaced = all();
        replaced[0].version = 2;
        let asked = Listing::of(&query).expect("valid");
        assert!(asked.page(replaced).is_err(), "its place is another one now");
    }

    #[test]
    fn a_word_that_is_no_status_is_refused() {
        let query = ListQuery { status: Some("running,asleep".into()), ..ListQuery::default() };
        assert!(Listing::of(&query).is_err());
    }
}
