//! Who asks, and whether they may: at both doors, before anything else is looked at.
//!
//! [`verbs`] is the one table of what needs which role. [`tokens`] are those that the configuration knows, [`jwt`] those of an
//! issuer, with its [`keys`], and [`signatures`] how they are checked; [`ending`] is what becomes of streams when they end or are
//! withdrawn. [`refusals`] are kept for the history. [`gate`] stands before the gRPC doors, `api/rest/caller.rs` before the
//! routes. While this coordinator follows, the caller's own credentials are passed on with the call, and the leader asks again: no
//! coordinator vouches for anybody.

mod ending;
mod gate;
mod jwt;
mod keys;
mod refusals;
mod signatures;
mod tokens;
pub(in crate::api) mod verbs;

use std::fmt;
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::ShardId;
use shardlift_domain::principal::{Principal, Role};
use shardlift_proto::status::refuse;
use tokio::sync::watch;
use tonic::{Request, Status};

use super::asker::REQUEST_ID;
use crate::config::AccessConfig;
use crate::metrics::Metrics;
use jwt::Jwt;
use refusals::Refusals;
use verbs::{Need, Verb};

use ending::Shown;
pub(in crate::api) use ending::Stay;
pub(in crate::api) use gate::GateLayer;
pub use jwt::JwtConfig;
pub use keys::KeySource;
pub(in crate::api) use refusals::Refusal;
pub use tokens::{KnownToken, TokenHash, hash};

/// Longest token: those of an issuer are a few hundred bytes to some thousand.
const MAX_TOKEN: usize = 8 * 1024;

/// A worker's session.
const SESSION: &str = "shardlift.v1.FleetService/Session";

/// Where somebody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Door {
    /// gRPC.
    Grpc,
    /// REST.
    Rest,
}

impl Door {
    /// As a label.
    fn as_str(self) -> &'static str {
        match self {
            Door::Grpc => "grpc",
            Door::Rest => "rest",
        }
    }
}

/// Knows who may ask for what. Clones share it.
#[derive(Clone)]
pub struct Access(Arc<Shared>);

struct Shared {
    known: watch::Sender<Arc<Known>>,
    metrics: Arc<Metrics>,
    refusals: Refusals,
}

/// Somebody who may.
#[derive(Debug, Clone)]
pub(in crate::api) struct Admitted {
    /// Who.
    pub(in crate::api) principal: Principal,
    /// For how long what is opened now may stay open.
    pub(in crate::api) stay: Stay,
}

/// Why somebody may not, and who that is if it is known.
#[derive(Debug)]
pub(in crate::api) struct Refused {
    /// What is told.
    pub(in crate::api) failure: Failure,
    /// Whose token came.
    pub(in crate::api) by: Option<Principal>,
}

/// Everybody who is known, as one configuration says.
struct Known {
    config: AccessConfig,
    jwt: Option<Jwt>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("open", &self.is_open()).finish_non_exhaustive()
    }
}

impl Access {
    /// Whoever this configuration knows. Nobody: it is open.
    pub fn new(config: AccessConfig, metrics: Arc<Metrics>) -> Self {
        let known = watch::Sender::new(Arc::new(Known::of(config)));
        Self(Arc::new(Shared { known, metrics, refusals: Refusals::default() }))
    }

    /// The configuration was read again: from now on it counts, also for what is open.
    pub fn replace(&self, config: &AccessConfig) {
        if self.known().config == *config {
            return;
        }
        self.0.known.send_replace(Arc::new(Known::of(config.clone())));
        tracing::info!(open = self.is_open(), "who may ask was read again");
    }

    /// Whether nobody is asked who they are.
    pub fn is_open(&self) -> bool {
        self.known().config.is_open()
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.0.known.borrow())
    }

    /// Somebody who was known by what they have shown.
    fn admitted(&self, known: Arc<Known>, principal: Principal, shown: Shown) -> Admitted {
        let stay = Stay::new(principal.clone(), shown, known, self.0.known.subscribe());
        Admitted { principal, stay }
    }

    /// Who asks for this, if they may. `None`: everybody may, and nobody was asked who they are.
    pub(in crate::api) async fn admit(
        &self,
        door: Door,
        name: &str,
        verb: Option<&Verb>,
        headers: &HeaderMap,
    ) -> Result<Option<Admitted>, Refused> {
        let known = self.known();
        if known.config.is_open() {
            return Ok(Some(self.admitted(known, Principal::anybody(), Shown::Nothing)));
        }
        let need = verb.map(|verb| verb.need);
        if need == Some(Need::Open) {
            return Ok(None);
        }
        let (principal, shown) = match known.principal(headers).await {
            Ok(found) => found,
            Err(why) => {
                let failure = self.refused(door, name, None, unauthenticated(&why));
                return Err(Refused { failure, by: None });
            }
        };
        let failure = match need {
            Some(Need::Least(least)) if !principal.role().covers(least) => {
                self.keep(&principal, name, None, headers);
                forbidden(&principal, name, least)
            }
            Some(_) => return Ok(Some(self.admitted(known, principal, shown))),
            None => Failure::new(
                ErrorCode::AccessForbidden,
                format!("{name} is in no table of what may be asked for"),
                "use a coordinator and a client of the same release",
            ),
        };
        let failure = self.refused(door, name, Some(&principal), failure);
        Err(Refused { failure, by: Some(principal) })
    }

    /// Refuses a worker that names a shard which it may not serve.
    pub(in crate::api) fn may_serve<'a>(
        &self,
        principal: &Principal,
        shards: impl IntoIterator<Item = &'a ShardId>,
    ) -> Result<(), Failure> {
        let Some(foreign) = shards.into_iter().find(|shard| !principal.serves(shard)) else { return Ok(()) };
        let failure = Failure::new(
            ErrorCode::AccessForbiddenShard,
            format!("the token of {} is not for shard {foreign}", principal.name()),
            "give the worker a token that is bound to the shards of its file, or take the shard out of it",
        );
        let failure = failure.on_shard(foreign);
        self.keep(principal, SESSION, Some(foreign), &HeaderMap::new());
        Err(self.refused(Door::Grpc, SESSION, Some(principal), failure))
    }

    /// For the history. What no line of the table names is in the log alone: anything can be written there.
    fn keep(&self, principal: &Principal, name: &str, shard: Option<&ShardId>, headers: &HeaderMap) {
        let Some(verb) = verbs::name(name) else { return };
        self.0.refusals.add(Refusal {
            principal: principal.clone(),
            verb,
            shard: shard.cloned(),
            credentials: headers.get(header::AUTHORIZATION).cloned(),
            request: headers.get(REQUEST_ID).cloned(),
            times: 1,
        });
    }

    /// Waits until something was refused to somebody who is known; each is told once.
    pub(in crate::api) async fn refusals(&self) -> Vec<Refusal> {
        self.0.refusals.taken().await
    }

    /// It could not be noted yet.
    pub(in crate::api) fn refused_again(&self, refusal: Refusal) {
        self.0.refusals.add(refusal);
    }

    /// Counts and logs it: who asked for what, and nothing of what they presented.
    fn refused(&self, door: Door, verb: &str, principal: Option<&Principal>, failure: Failure) -> Failure {
        let reason = match failure.code {
            ErrorCode::AccessUnauthenticated => "unauthenticated",
            ErrorCode::AccessForbiddenShard => "shard",
            _ => "forbidden",
        };
        self.0.metrics.access_refused(door.as_str(), reason);
        let (principal, role) =
            principal.map_or(("", ""), |principal| (principal.name(), principal.role().as_str()));
        tracing::warn!(door = door.as_str(), verb, principal, role, code = %failure.code, "refused: {}", failure.message);
        failure
    }
}

impl Known {
    fn of(config: AccessConfig) -> Self {
        Self { jwt: config.jwt.clone().map(Jwt::new), config }
    }

    /// Who presents these credentials, and of which kind they are; otherwise what is wrong with them.
    async fn principal(&self, headers: &HeaderMap) -> Result<(Principal, Shown), String> {
        let Some(presented) = headers.get(header::AUTHORIZATION) else {
            return Err("no token came with the request".to_owned());
        };
        let token = presented.to_str().ok().and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let token = token.filter(|token| !token.is_empty() && token.len() <= MAX_TOKEN);
        let token = token.ok_or("the header authorization holds no bearer token")?;
        let presented = hash(token);
        if let Some(owner) = tokens::owner(&self.config.tokens, &presented) {
            return Ok((owner.clone(), Shown::Token(presented)));
        }
        match &self.jwt {
            Some(jwt) if token.split('.').count() == 3 => {
                let principal = jwt.principal(token).await;
                let principal = principal.map_err(|why| format!("the token is not accepted: {why}"))?;
                Ok((principal, Shown::Issued))
            }
            _ => Err("the token is not known here".to_owned()),
        }
    }

    /// Whether what somebody has shown `before` is worth no less now.
    fn still_knows(&self, principal: &Principal, shown: &Shown, before: &Known) -> bool {
        match shown {
            Shown::Nothing => self.config.is_open(),
            Shown::Token(hash) => {
                tokens::owner(&self.config.tokens, hash).is_some_and(|owner| owner.still_may_what(principal))
            }
            // What its owner may follows from the token and from what is configured of its issuer.
            Shown::Issued => self.config.jwt == before.config.jwt,
        }
    }
}

/// Who asked, as the door found out; default deny where no door did.
pub(in crate::api) fn caller<T>(request: &Request<T>) -> Result<Principal, Status> {
    found(request)
}

/// For how long whoever asked may stay, as the door found out.
pub(in crate::api) fn stay<T>(request: &Request<T>) -> Result<Stay, Status> {
    found(request)
}

fn found<T, F: Clone + Send + Sync + 'static>(request: &Request<T>) -> Result<F, Status> {
    let found = request.extensions().get::<F>().cloned();
    found.ok_or_else(|| refuse(vec![unauthenticated("nobody was asked who they are")]))
}

fn unauthenticated(why: &str) -> Failure {
    Failure::new(
        ErrorCode::AccessUnauthenticated,
        why,
        "give a valid token: --token-file or SHARDLIFT_TOKEN for shardlift, token_file for a worker, the header \
         Authorization: Bearer TOKEN over HTTP",
    )
}

fn forbidden(principal: &Principal, name: &str, least: Role) -> Failure {
    Failure::new(
        ErrorCode::AccessForbidden,
        format!("{name} needs the role {least}, and {} is {}", principal.name(), principal.role()),
        format!(
            "ask somebody with the role {least}, or have the role changed in [access] of the coordinators"
        ),
    )
}

#[cfg(test)]
mod tests {
    use shardlift_domain::principal::Reach;

    use super::*;

    fn access() -> Access {
        let people = Role::ALL.map(|role| {
            let only = Reach::Only([ShardId::new("a").expect("a name")].into());
            let reach = if role == Role::Worker { only } else { Reach::Nothing };
            let principal = Principal::new(&format!("a {role}"), role, reach).expect("valid");
            KnownToken { hash: hash(&format!("token-{role}")), principal }
        });
        Access::new(AccessConfig { tokens: people.into(), ..AccessConfig::default() }, Arc::default())
    }

    fn with(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().expect("a header"))])
    }

    async fn code(access: &Access, name: &str, headers: &HeaderMap) -> Option<ErrorCode> {
        let verb = verbs::verb(name);
        access.admit(Door::Grpc, name, verb, headers).await.err().map(|refused| refused.failure.code)
    }

    /// Every verb of the table for every role: what the table says, and what a person would say.
    #[tokio::test]
    async fn each_role_may_what_the_table_says_and_nothing_else() {
        let access = access();
        for verb in verbs::VERBS {
            for name in verb.grpc.iter().chain(verb.rest) {
                assert_eq!(
                    code(&access, name, &HeaderMap::new()).await.is_none(),
                    verb.need == Need::Open,
                    "{name} without a token"
                );
                for role in Role::ALL {
                    let may = match verb.need {
                        Need::Open | Need::Known => true,
                        Need::Least(least) => role.covers(least),
                    };
                    let refused = code(&access, name, &with(&format!("Bearer token-{role}"))).await;
                    assert_eq!(refused, (!may).then_some(ErrorCode::AccessForbidden), "{name} as {role}");
                }
            }
        }
        let ours = |method: &str| format!("shardlift.v1.MigrationService/{method}");
        for (name, role, may) in [
            (ours("List"), "viewer", true),
            (ours("Start"), "viewer", false),
            (ours("Start"), "operator", true),
            (ours("Start"), "worker", false),
            ("shardlift.v1.ClusterService/ChangeTopology".into(), "approver", false),
            ("shardlift.v1.FleetService/Session".into(), "admin", false),
            ("shardlift.v1.FleetService/Session".into(), "worker", true),
        ] {
            let refused = code(&access, &name, &with(&format!("Bearer token-{role}"))).await;
            assert_eq!(refused.is_none(), may, "{name} as {role}");
        }
    }

    #[tokio::test]
    async fn what_is_no_valid_token_is_nobodys_and_is_not_repeated() {
        let access = access();
        let list = "shardlift.v1.MigrationService/List";
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Basic token-admin",
            "token-admin",
            "Bearer canary-token-admin",
            "Bearer a.b.c",
            &format!("Bearer {}", "x".repeat(MAX_TOKEN + 1)),
        ] {
            let refused = access.admit(Door::Rest, list, verbs::verb(list), &with(wrong)).await;
            let Refused { failure, by } = refused.expect_err("refused");
            assert_eq!((failure.code, by), (ErrorCode::AccessUnauthenticated, None), "{wrong}");
            assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
        }
        let admitted = access.admit(Door::Rest, list, verbs::verb(list), &with("bearer token-viewer")).await;
        let admitted = admitted.expect("the scheme has no case").expect("known");
        assert_eq!(admitted.principal.name(), "a viewer");
        assert_eq!(
            code(&access, "shardlift.v1.MigrationService/OfALaterRelease", &with("Bearer token-admin")).await,
            Some(ErrorCode::AccessForbidden)
        );
    }

    #[tokio::test]
    async fn nobody_known_means_open_until_the_configuration_is_read_again() {
        let open = Access::new(AccessConfig::default(), Arc::default());
        let list = "shardlift.v1.MigrationService/List";
        assert!(open.is_open() && code(&open, list, &HeaderMap::new()).await.is_none());
        open.replace(&access().known().config);
        assert!(!open.is_open());
        assert_eq!(code(&open, list, &HeaderMap::new()).await, Some(ErrorCode::AccessUnauthenticated));
    }

    #[tokio::test]
    async fn what_is_open_ends_once_its_token_is_taken_out_or_worth_less_and_only_then() {
        let access = access();
        let opened = async |name: &str, role: Role| {
            let headers = with(&format!("Bearer token-{role}"));
            let admitted = access.admit(Door::Grpc, name, verbs::verb(name), &headers);
            admitted.await.expect("admitted").expect("known").stay
        };
        let (list, session) = ("shardlift.v1.MigrationService/List", "shardlift.v1.FleetService/Session");
        let (viewer, operator) = (opened(list, Role::Viewer).await, opened(list, Role::Operator).await);
        let (admin, worker) = (opened(list, Role::Admin).await, opened(session, Role::Worker).await);
        let mut now = access.known().config.clone();
        now.tokens.retain(|token| token.principal.role() != Role::Viewer);
        let changed = |config: &mut AccessConfig, was: Role, role: Role, reach: Reach| {
            let token = config.tokens.iter_mut().find(|token| token.principal.role() == was).expect("there");
            token.principal = Principal::new(token.principal.name(), role, reach).expect("valid");
        };
        changed(&mut now, Role::Admin, Role::Viewer, Reach::Nothing);
        changed(&mut now, Role::Operator, Role::Approver, Reach::Nothing);
        changed(&mut now, Role::Worker, Role::Worker, Reach::Everything);
        let waiting = tokio::spawn(viewer.clone().over());
        access.replace(&now);
        let told = waiting.await.expect("it ends");
        assert_eq!(told.code, ErrorCode::AccessUnauthenticated);
        assert!(told.message.contains("taken out"), "{told:?}");
        assert!(viewer.is_over().is_some() && admin.is_over().is_some());
        assert!(operator.is_over().is_none() && worker.is_over().is_none());
        now.tokens.retain(|token| token.principal.role() != Role::Worker);
        access.replace(&now);
        assert!(operator.is_over().is_none() && worker.is_over().is_some());
    }

    #[tokio::test]
    async fn what_anybody_has_opened_ends_when_somebody_is_known() {
        let open = Access::new(AccessConfig::default(), Arc::default());
        let list = "shardlift.v1.MigrationService/List";
        let admitted = open.admit(Door::Rest, list, verbs::verb(list), &HeaderMap::new()).await;
        let stay = admitted.expect("admitted").expect("as anybody").stay;
        assert!(stay.is_over().is_none());
        open.replace(&access().known().config);
        assert!(stay.is_over().is_some());
    }

    #[tokio::test]
    async fn what_is_refused_to_somebody_who_is_known_is_kept_and_nothing_else() {
        let access = access();
        let start = "shardlift.v1.MigrationService/Start";
        for (name, token) in [
            (start, "Bearer token-viewer"),
            (start, "Bearer token-nobody"),
            (start, "Bearer token-operator"),
            ("shardlift.v1.MigrationService/Written", "Bearer token-admin"),
        ] {
            let _ = access.admit(Door::Grpc, name, verbs::verb(name), &with(token)).await;
        }
        let worker = access.known().config.tokens[4].principal.clone();
        let foreign = ShardId::new("b").expect("a name");
        access.may_serve(&worker, [&foreign]).expect_err("refused");
        let kept = access.refusals().await;
        let told: Vec<_> = kept
            .iter()
            .map(|kept| (kept.principal.name(), kept.verb, kept.shard.as_ref(), kept.credentials.is_some()))
            .collect();
        assert_eq!(
            told,
            [("a viewer", start, None, true), ("a worker", SESSION, Some(&foreign), false)],
            "{kept:?}"
        );
    }

    #[test]
    fn a_worker_serves_only_what_its_token_is_for() {
        let access = access();
        let worker = access.known().config.tokens[4].principal.clone();
        let shards = ["a", "b"].map(|id| ShardId::new(id).expect("a name"));
        assert!(access.may_serve(&worker, &shards[..1]).is_ok());
        let refused = access.may_serve(&worker, &shards).expect_err("refused");
        assert_eq!(
            (refused.code, refused.place.shard),
            (ErrorCode::AccessForbiddenShard, Some(shards[1].clone()))
        );
        assert!(access.may_serve(&Principal::anybody(), &shards).is_ok());
    }
}
