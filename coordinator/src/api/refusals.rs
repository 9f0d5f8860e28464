//! What was refused to somebody who is known goes into the history, which the leader alone writes. A follower tells it with the
//! principal's own credentials: the leader finds out who that is, and whether it is refused to them, by itself. So nobody can
//! say it of anybody else, and a coordinator needs no secret of its own.

use std::time::Duration;

use axum::http::header;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::ShardId;
use shardlift_domain::principal::{Principal, Role};
use shardlift_proto::status::{failures_of, refuse};
use shardlift_proto::v1;
use shardlift_proto::v1::cluster_service_client::ClusterServiceClient;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::access::verbs::{self, Need};
use super::access::{Access, Refusal, caller};
use super::asker::{REQUEST_ID, asker};
use super::forward::Door;
use crate::orchestrator;
use crate::service::Services;

/// What comes within this time is told together.
const EVERY: Duration = Duration::from_secs(1);
/// More at once are not believed.
const MOST: u32 = 1_000_000;

/// Has all of them noted, until the token is cancelled.
pub(super) async fn note_all(access: Access, cluster: impl Door, shutdown: CancellationToken) {
    while let Some(refusals) = shutdown.run_until_cancelled(access.refusals()).await {
        for refusal in refusals {
            let Err(status) = noted_by(cluster.clone(), &refusal).await else { continue };
            if failures_of(&status).iter().all(Failure::retryable) {
                access.refused_again(refusal);
            } else {
                tracing::debug!(%status, "a refusal is in the log alone");
            }
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
    }
}

async fn noted_by(cluster: impl Door, refusal: &Refusal) -> Result<(), Status> {
    let Refusal { principal, verb, shard, credentials, request: id, times } = refusal.clone();
    let shard = shard.map(Into::into);
    let mut request = Request::new(v1::NoteRefusalRequest { verb: verb.to_owned(), shard, times });
    request.extensions_mut().insert(principal);
    let headers = request.metadata_mut().as_mut();
    headers.extend(credentials.map(|credentials| (header::AUTHORIZATION, credentials)));
    if let Some(id) = id {
        headers.insert(REQUEST_ID, id);
    }
    ClusterServiceClient::new(cluster).note_refusal(request).await.map(drop)
}

/// At the leader: notes it, if it is so.
pub(super) async fn noted(
    services: &Services,
    request: Request<v1::NoteRefusalRequest>,
) -> Result<Response<v1::NoteRefusalResponse>, Status> {
    let (principal, by) = (caller(&request)?, asker(&request)?);
    let found = refused(&principal, request.into_inner()).map_err(|failure| refuse(vec![failure]))?;
    let noted = services.orchestrator().refused(found, by).await;
    noted.map_err(|failure| refuse(vec![failure]))?;
    Ok(Response::new(v1::NoteRefusalResponse {}))
}

/// What is refused to this principal, if it is what they say.
fn refused(principal: &Principal, request: v1::NoteRefusalRequest) -> Result<orchestrator::Refusal, Failure> {
    let v1::NoteRefusalRequest { verb, shard, times } = request;
    let shard = shard.map(ShardId::new).transpose();
    let shard = shard.map_err(|error| nothing_refused(error.to_string()))?;
    let Some(need) = verbs::verb(&verb).map(|verb| verb.need) else {
        return Err(nothing_refused("no such verb is known here".to_owned()));
    };
    let may = match need {
        Need::Open | Need::Known => true,
        Need::Least(least) => principal.role().covers(least),
    };
    let foreign = shard.filter(|shard| !principal.serves(shard));
    let code = match (may, &foreign) {
        (false, _) => ErrorCode::AccessForbidden,
        (true, Some(_)) if need == Need::Least(Role::Worker) => ErrorCode::AccessForbiddenShard,
        (true, _) => return Err(nothing_refused(format!("{} may do that", principal.name()))),
    };
    let (role, times) = (Some(principal.role()), times.clamp(1, MOST));
    Ok(orchestrator::Refusal { verb, code, role, shard: foreign, times })
}

fn nothing_refused(why: String) -> Failure {
    let next = "coordinators tell each other what they have refused; nobody else needs to";
    Failure::new(ErrorCode::RequestInvalid, format!("nothing was refused: {why}"), next)
}

#[cfg(test)]
mod tests {
    use shardlift_domain::principal::Reach;

    use super::*;

    #[test]
    fn only_what_is_refused_to_whoever_says_so_is_noted() {
        let people = |role| Principal::new("p", role, Reach::Nothing).expect("valid");
        let worker =
            Principal::new("w", Role::Worker, Reach::Only([ShardId::new("a").expect("a name")].into()));
        let worker = worker.expect("valid");
        let told = |principal: &Principal, verb: &str, shard: Option<&str>| {
            let request = v1::NoteRefusalRequest {
                verb: verb.to_owned(),
                shard: shard.map(str::to_owned),
                times: u32::MAX,
            };
            refused(principal, request).ok().map(|refusal| (refusal.code, refusal.times))
        };
        let (start, session) = ("shardlift.v1.MigrationService/Start", "shardlift.v1.FleetService/Session");
        let forbidden = Some((ErrorCode::AccessForbidden, MOST));
        assert_eq!(told(&people(Role::Viewer), start, None), forbidden);
        assert_eq!(told(&people(Role::Viewer), "POST /api/v1/migrations/{id}/start", None), forbidden);
        assert_eq!(told(&people(Role::Admin), session, None), forbidden);
        assert_eq!(told(&worker, start, None), forbidden);
        assert_eq!(told(&worker, session, Some("b")), Some((ErrorCode::AccessForbiddenShard, MOST)));
        for (principal, verb, shard) in [
            (&people(Role::Operator), start, None),
            (&people(Role::Operator), start, Some("b")),
            (&people(Role::Viewer), "GET /api/v1/me", None),
            (&people(Role::Viewer), "whatever they like to write", None),
            (&worker, session, None),
            (&worker, session, Some("a")),
            (&worker, session, Some("no name")),
            (&Principal::anybody(), start, None),
        ] {
            assert_eq!(told(principal, verb, shard), None, "{principal:?} {verb} {shard:?}");
        }
    }
}
