//! Who may know whom: the floors and the invariants of absence A1 to A8 of docs/ARCHITECTURE.md.

use crate::source::{dependencies, lines_with, none};

const PRODUCT: [&str; 6] =
    ["common/domain/src", "common/runtime/src", "proto/src", "coordinator/src", "worker/src", "client/src"];

fn lacks(manifest: &str, forbidden: &[&str]) {
    let has = dependencies(manifest);
    let offences =
        forbidden.iter().filter(|name| has.iter().any(|has| has == *name)).map(|name| (*name).to_owned());
    none(&format!("{manifest} must not depend on"), offences.collect());
}

#[test]
fn a_crate_uses_only_crates_of_lower_floors() {
    let ours = [
        "shardlift-domain",
        "shardlift-runtime",
        "shardlift-proto",
        "shardlift-coordinator",
        "shardlift-worker",
        "shardlift-client",
        "shardlift-harness",
    ];
    lacks("common/domain/Cargo.toml", &ours);
    lacks("common/runtime/Cargo.toml", &ours[1..]);
    lacks("proto/Cargo.toml", &ours[1..]);
    for program in ["coordinator", "worker", "client"] {
        lacks(&format!("{program}/Cargo.toml"), &ours[3..]);
    }
    lacks("tests/harness/Cargo.toml", &ours);
    assert_eq!(
        dependencies("tools/Cargo.toml"),
        Vec::<String>::new(),
        "the launcher builds before anything is installed"
    );
}

#[test]
fn a1_the_domain_is_pure() {
    let forbidden = ["tokio", "tonic", "prost", "sqlx", "mongodb", "axum", "rand", "futures", "async-trait"];
    lacks("common/domain/Cargo.toml", &forbidden);
    none(
        "the domain awaits, reads or waits",
        lines_with(
            &["common/domain/src"],
            &["async fn", ".await", "std::fs", "std::net", "Instant::now"],
            |_| false,
        ),
    );
}

#[test]
fn a2_only_proto_knows_prost() {
    for program in ["coordinator", "worker", "client", "common/runtime", "common/domain"] {
        lacks(&format!("{program}/Cargo.toml"), &["prost", "prost-types", "tonic-prost"]);
    }
}

#[test]
fn a3_the_coordinator_opens_no_connection_to_a_shard() {
    none(
        "database drivers in the coordinator outside of its store, which knows no shard's address",
        lines_with(
            &["coordinator/src"],
            &["PgConnect", "PgPool", "sqlx::postgres", "mongodb::", "bson::", "bson!"],
            |path| path.starts_with("coordinator/src/store/"),
        ),
    );
}

#[test]
fn a4_only_the_store_touches_the_metadata_database() {
    none(
        "a database driver outside of the store",
        lines_with(&["coordinator/src"], &["sqlx", "mongodb::"], |path| {
            path.starts_with("coordinator/src/store/")
        }),
    );
    none(
        "a second place that commits",
        lines_with(&["coordinator/src"], &["store.commit("], |path| {
            path == "coordinator/src/orchestrator/book.rs" || path.starts_with("coordinator/src/store/")
        }),
    );
}

#[test]
fn the_metadata_has_the_same_numbers_in_every_store() {
    let numbers = |store: &str, ending| {
        let folder = format!("migrations/metadata/{store}");
        let mut names: Vec<String> = crate::source::files(&[&folder], ending)
            .into_iter()
            .filter_map(|file| Some(file.path.rsplit('/').next()?.strip_suffix(ending)?.to_owned()))
            .collect();
        names.sort();
        names
    };
    let sqlite = numbers("sqlite", "sql");
    assert_eq!(numbers("postgres", "sql"), sqlite);
    assert_eq!(numbers("mongodb", "json"), sqlite);
}

#[test]
fn a5_planner_and_scheduler_are_pure() {
    let words = ["async ", ".await", "tokio", "Instant::now", "shardlift_runtime", "std::fs"];
    none(
        "planner or scheduler are not pure",
        lines_with(&["coordinator/src/planner", "coordinator/src/scheduler"], &words, |_| false),
    );
}

#[test]
fn a6_only_the_doors_know_servers_and_only_effects_speak_to_workers() {
    none(
        "servers outside of api/",
        lines_with(&["coordinator/src"], &["use tonic", " tonic::", "use axum", " axum::"], |path| {
            path.starts_with("coordinator/src/api/")
        }),
    );
    none(
        "services outside are asked outside of clients/",
        lines_with(&["coordinator/src"], &["reqwest"], |path| {
            // An issuer's keys are fetched by the door that needs them, and their address is read as it will be fetched.
            path.starts_with("coordinator/src/clients/")
                || ["api/access/keys.rs", "config/access.rs"].iter().any(|file| path.ends_with(file))
        }),
    );
    none(
        "orders are sent outside of the effect runner",
        lines_with(&["coordinator/src"], &[".order(order)", "orders.try_send", "orders.send"], |path| {
            // A pulse can answer a sign of life and say nothing else.
            ["effects.rs", "fleet.rs", "pulse.rs"]
                .iter()
                .any(|file| path.ends_with(&format!("orchestrator/{file}")))
        }),
    );
}

#[test]
fn a7_permits_and_leases_are_made_by_their_checks_only() {
    none(
        "a LeaderPermit is made outside of the store",
        lines_with(&["coordinator/src"], &["LeaderPermit {", "LeaderPermit::new("], |path| {
            path.starts_with("coordinator/src/store/")
        }),
    );
    none(
        "a TaskLease is made outside of a session",
        lines_with(&["worker/src"], &["TaskLease {", ".grant("], |path| {
            path == "worker/src/lease.rs" || path == "worker/src/session/wire.rs"
        }),
    );
}

#[test]
fn a8_only_the_runtime_reads_environment_and_wall_clock() {
    let words = ["std::env::var", "env::vars", "SystemTime::now", "Utc::now", "Local::now", "var_os("];
    none(
        "environment or wall clock",
        lines_with(&PRODUCT, &words, |path| path.starts_with("common/runtime/")),
    );
}
