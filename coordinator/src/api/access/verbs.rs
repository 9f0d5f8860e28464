//! The one table of what may be asked for and the least role that may: every gRPC method and every REST route. What has no
//! line is refused. Tests hold it against the descriptors of the protos and against the OpenAPI document.

use std::collections::HashMap;
use std::sync::LazyLock;

use shardlift_domain::principal::Role::{self, Admin, Approver, Operator, Viewer, Worker};

/// Who may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Need {
    /// Everybody, also without a token.
    Open,
    /// Everybody who is known.
    Known,
    /// Whose role covers this one.
    Least(Role),
}

/// One line: a verb at its doors.
#[derive(Debug)]
pub(in crate::api) struct Verb {
    /// Who may.
    pub(in crate::api) need: Need,
    /// Its methods, as `package.Service/Method`.
    pub(super) grpc: &'static [&'static str],
    /// Its routes, as `METHOD /path/{with}/names`.
    pub(super) rest: &'static [&'static str],
}

const fn open(grpc: &'static [&'static str], rest: &'static [&'static str]) -> Verb {
    Verb { need: Need::Open, grpc, rest }
}

const fn known(grpc: &'static [&'static str], rest: &'static [&'static str]) -> Verb {
    Verb { need: Need::Known, grpc, rest }
}

const fn least(role: Role, grpc: &'static [&'static str], rest: &'static [&'static str]) -> Verb {
    Verb { need: Need::Least(role), grpc, rest }
}

macro_rules! ours {
    ($($service:literal / $method:literal),*) => { &[$(concat!("shardlift.v1.", $service, "/", $method)),*] };
}

/// All of them.
pub(super) const VERBS: &[Verb] = &[
    // Programs that watch programs have no token.
    open(&["grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch"], &[]),
    open(&[], &["GET /health/live", "GET /health/ready"]),
    // What this API is, is no secret.
    open(&[], &["GET /api/v1/openapi.json", "GET /api/docs", "GET /api/docs/errors/{code}"]),
    known(&[], &["GET /api/v1/me"]),
    // Of oneself alone.
    known(ours!("ClusterService" / "NoteRefusal"), &[]),
    least(Viewer, &["grpc.reflection.v1.ServerReflection/ServerReflectionInfo"], &[]),
    // Looking.
    least(
        Viewer,
        ours!("MigrationService" / "Get"),
        &["GET /api/v1/migrations/{id}", "GET /api/v1/migrations/{id}/shards"],
    ),
    least(Viewer, ours!("MigrationService" / "List"), &["GET /api/v1/migrations"]),
    least(
        Viewer,
        ours!("MigrationService" / "Events", "MigrationService" / "Watch"),
        &["GET /api/v1/migrations/{id}/events"],
    ),
    least(Viewer, ours!("MigrationService" / "Conflicts"), &["GET /api/v1/migrations/{id}/conflicts"]),
    least(Viewer, ours!("MigrationService" / "ListQuarantine"), &["GET /api/v1/migrations/{id}/quarantine"]),
    least(Viewer, ours!("ClusterService" / "Shards"), &["GET /api/v1/shards"]),
    least(Viewer, ours!("ClusterService" / "Workers"), &["GET /api/v1/workers"]),
    least(Viewer, ours!("ClusterService" / "Leader"), &["GET /api/v1/leader"]),
    least(Viewer, ours!("ClusterService" / "Topology"), &["GET /api/v1/topology"]),
    least(Viewer, ours!("ClusterService" / "Route"), &["GET /api/v1/routes"]),
    least(Viewer, ours!("ClusterService" / "Drift"), &["GET /api/v1/drift"]),
    least(Viewer, ours!("ClusterService" / "Indoubt"), &["GET /api/v1/indoubt"]),
    least(
        Viewer,
        ours!("MigrationService" / "ListBackups"),
        &["GET /api/v1/backups", "GET /api/v1/migrations/{id}/backups"],
    ),
    // They write rows of a shard, or give up what could be restored.
    least(Operator, ours!("MigrationService" / "RestoreBackup", "MigrationService" / "PurgeBackups"), &[]),
    least(Viewer, ours!("ClusterService" / "Audit"), &["GET /api/v1/audit"]),
    // It reads the whole history.
    least(Operator, ours!("ClusterService" / "VerifyAudit"), &["GET /api/v1/audit/verification"]),
    // A plan has shards look at a text of the caller's own.
    least(Operator, ours!("MigrationService" / "Plan"), &["POST /api/v1/plans"]),
    // Moving.
    least(Operator, ours!("MigrationService" / "Submit"), &["POST /api/v1/migrations"]),
    least(Operator, ours!("MigrationService" / "Start"), &["POST /api/v1/migrations/{id}/start"]),
    least(Operator, ours!("MigrationService" / "Pause"), &["POST /api/v1/migrations/{id}/pause"]),
    least(Operator, ours!("MigrationService" / "Resume"), &["POST /api/v1/migrations/{id}/resume"]),
    least(Operator, ours!("MigrationService" / "Cancel"), &["POST /api/v1/migrations/{id}/cancel"]),
    least(Operator, ours!("MigrationService" / "Retry"), &["POST /api/v1/migrations/{id}/retry"]),
    least(Operator, ours!("MigrationService" / "Rollback"), &["POST /api/v1/migrations/{id}/rollback"]),
    least(Operator, ours!("MigrationService" / "Throttle"), &["POST /api/v1/migrations/{id}/throttle"]),
    least(Operator, ours!("MigrationService" / "Purge"), &["POST /api/v1/migrations/{id}/purge"]),
    least(Operator, ours!("MigrationService" / "Repair"), &["POST /api/v1/migrations/{id}/repair"]),
    least(Operator, ours!("ClusterService" / "Drain"), &["POST /api/v1/workers/{id}/drain"]),
    // It walks whole tables.
    least(Operator, ours!("ClusterService" / "Placement"), &["GET /api/v1/placement"]),
    // Values of rows leave a shard for these alone, or follow from their keys.
    least(Operator, ours!("MigrationService" / "Mismatches"), &["GET /api/v1/migrations/{id}/mismatches"]),
    least(
        Operator,
        ours!("MigrationService" / "ShowQuarantine"),
        &["POST /api/v1/migrations/{id}/quarantine/show"],
    ),
    least(
        Operator,
        ours!("MigrationService" / "RetryQuarantine", "MigrationService" / "DiscardQuarantine"),
        &["POST /api/v1/migrations/{id}/quarantine/retry", "POST /api/v1/migrations/{id}/quarantine/discard"],
    ),
    // Four eyes.
    least(Approver, ours!("MigrationService" / "Approve"), &["POST /api/v1/plans/{id}/approve"]),
    // Where things are.
    least(
        Admin,
        ours!("ClusterService" / "ChangeTopology"),
        &[
            "POST /api/v1/topology/reload",
            "POST /api/v1/topology/add-shard",
            "POST /api/v1/topology/remove-shard",
            "POST /api/v1/topology/set-routing",
            "POST /api/v1/topology/route-key",
        ],
    ),
    // Serving shards.
    least(Worker, ours!("FleetService" / "Session"), &[]),
];

/// The lines by their method or route.
static LINES: LazyLock<HashMap<&'static str, &'static Verb>> = LazyLock::new(|| {
    let names =
        VERBS.iter().flat_map(|verb| verb.grpc.iter().chain(verb.rest).map(move |name| (*name, verb)));
    names.collect()
});

/// The route that a request is for, and its line. Where several fit, that with the most words of its own: so does the router.
pub(in crate::api) fn route(method: &str, path: &str) -> Option<(&'static str, &'static Verb)> {
    let routes = VERBS.iter().flat_map(|verb| verb.rest.iter().map(move |name| (*name, verb)));
    let fitting = routes.filter_map(|(name, verb)| {
        let (known, template) = name.split_once(' ')?;
        let words = fits(template, path).filter(|_| known == method)?;
        Some((words, name, verb))
    });
    fitting.max_by_key(|(words, ..)| *words).map(|(_, name, verb)| (name, verb))
}

/// How many parts of the path are words of the template; `None`: it is another path.
fn fits(template: &str, path: &str) -> Option<usize> {
    let (mut known, mut asked) = (template.split('/'), path.split('/'));
    let mut words = 0;
    loop {
        match (known.next(), asked.next()) {
            (None, None) => return Some(words),
            (Some(name), Some(part)) if name.starts_with('{') && !part.is_empty() => {}
            (Some(word), Some(part)) if word == part => words += 1,
            _ => return None,
        }
    }
}

/// The line of a method or route.
pub(in crate::api) fn verb(name: &str) -> Option<&'static Verb> {
    LINES.get(name).copied()
}

/// The name of a method or route as the table has it.
pub(super) fn name(asked: &str) -> Option<&'static str> {
    LINES.get_key_value(asked).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names of all methods in a descriptor set: services and methods by their fields' numbers, since nobody here
    /// knows the types of descriptors.
    fn methods(set: &[u8]) -> BTreeSet<String> {
        let text = |field: &[u8]| String::from_utf8(field.to_vec()).expect("a name");
        let one = |message: &[u8], number| fields(message, number).first().map(|field| text(field));
        let mut found = BTreeSet::new();
        for file in fields(set, 1) {
            let package = one(file, 2).unwrap_or_default();
            for service in fields(file, 6) {
                let name = one(service, 1).expect("a service's name");
                for method in fields(service, 2) {
                    found.insert(format!("{package}.{name}/{}", one(method, 1).expect("a method's name")));
                }
            }
        }
        found
    }

    /// The values of a length-delimited field of a message.
    fn fields(mut message: &[u8], wanted: u64) -> Vec<&[u8]> {
        let mut found = Vec::new();
        while !message.is_empty() {
            let tag = varint(&mut message);
            match tag & 7 {
                0 => drop(varint(&mut message)),
                1 => message = &message[8..],
                2 => {
                    let length = usize::try_from(varint(&mut message)).expect("a length");
                    let (value, rest) = message.split_at(length);
                    message = rest;
                    if tag >> 3 == wanted {
                        found.push(value);
                    }
                }
                5 => message = &message[4..],
                other => panic!("wire type {other}"),
            }
        }
        found
    }

    fn varint(message: &mut &[u8]) -> u64 {
        let mut number = 0;
        for at in 0.. {
            let byte = message[at];
            number |= u64::from(byte & 127) << (7 * at);
            if byte < 128 {
                *message = &message[at + 1..];
                break;
            }
        }
        number
    }

    fn listed(door: impl Fn(&Verb) -> &'static [&'static str]) -> Vec<String> {
        VERBS.iter().flat_map(|verb| door(verb).iter().map(|name| (*name).to_owned())).collect()
    }

    #[test]
    fn every_method_of_the_protos_has_one_line_and_no_line_is_without_its_method() {
        let mut there = methods(shardlift_proto::DESCRIPTORS);
        assert!(there.contains("shardlift.v1.MigrationService/Submit") && there.len() > 25, "{there:?}");
        there.extend(methods(tonic_health::pb::FILE_DESCRIPTOR_SET));
        there.extend(methods(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET));
        let lines = listed(|verb| verb.grpc);
        assert_eq!(lines.iter().cloned().collect::<BTreeSet<_>>(), there);
        assert_eq!(lines.len(), there.len(), "a method has two lines");
    }

    #[test]
    fn every_documented_route_has_one_line_and_no_line_is_without_its_route() {
        let there: BTreeSet<String> = crate::api::rest::documented()
            .into_iter()
            .map(|(method, path)| format!("{method} {path}"))
            .collect();
        let lines = listed(|verb| verb.rest);
        assert_eq!(lines.iter().cloned().collect::<BTreeSet<_>>(), there);
        assert_eq!(lines.len(), there.len(), "a route has two lines");
    }

    #[test]
    fn only_what_tells_nothing_is_open() {
        for verb in VERBS.iter().filter(|verb| verb.need == Need::Open) {
            for name in verb.grpc.iter().chain(verb.rest) {
                let harmless = ["Health/", " /health/", " /api/docs", "openapi.json"];
                assert!(harmless.iter().any(|part| name.contains(part)), "{name} is open");
            }
        }
        assert!(verb("shardlift.v1.MigrationService/Nonsense").is_none());
        assert!(verb("POST /api/v1/me").is_none());
    }

    #[test]
    fn a_request_finds_its_route() {
        let found = |method, path| route(method, path).map(|(name, _)| name);
        for (path, name) in [
            ("/api/v1/migrations", "GET /api/v1/migrations"),
            ("/api/v1/migrations/0001_a", "GET /api/v1/migrations/{id}"),
            ("/api/v1/migrations/%2e%2e/shards", "GET /api/v1/migrations/{id}/shards"),
            ("/api/docs/errors/spec.invalid", "GET /api/docs/errors/{code}"),
        ] {
            assert_eq!(found("GET", path), Some(name));
        }
        for path in ["/api/v1/migrations/", "/api/v1/migrations//shards", "//api/v1/migrations", "/", ""] {
            assert_eq!(found("GET", path), None, "{path}");
        }
        assert_eq!(found("PUT", "/api/v1/migrations"), None);
    }
}
