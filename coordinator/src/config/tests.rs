//! What a person is told about wrong settings.

use super::*;

fn read(text: &str) -> Result<Config, ConfigProblems> {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("coordinator.toml");
    std::fs::write(&file, text).expect("writes");
    Config::load(&file, None)
}

const CLUSTER: &str = "[[cluster]]\nname = \"chat\"\nengine = \"postgres\"\nshards = [\"chat-pg-01\"]\n";

#[test]
fn what_is_left_out_has_a_default() {
    let config = read(CLUSTER).expect("good");
    assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 7400)));
    assert_eq!(config.store, StoreConfig::Sqlite { path: "coordinator.db".into() });
    assert_eq!(config.lease_ttl, Duration::from_secs(5));
    assert_eq!(config.clusters[0].engine, Engine::Postgres);
}

#[test]
fn a_flag_wins_over_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("coordinator.toml");
    std::fs::write(&file, CLUSTER).expect("writes");
    let config = Config::load(&file, Some("127.0.0.1:1")).expect("good");
    assert_eq!(config.listen.port(), 1);
}

#[test]
fn every_mistake_is_told_at_once() {
    let text = "listen = \"0.0.0.0:7400\"\nmetrics_listen = \"nonsense\"\nname = \" \"\n\
                [store]\nkind = \"postgres\"\n[election]\nkind = \"etcd\"\n[lease]\nttl_ms = 5\n\
                [[cluster]]\nname = \"chat\"\nengine = \"oracle\"\nshards = [\"a\", \"a\", \"b c\"]\n\
                [[cluster]]\nname = \"chat\"\nengine = \"mongodb\"\n";
    let problems = read(text).expect_err("it was accepted");
    let keys: Vec<_> = problems.list().iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "name",
            "listen",
            "metrics_listen",
            "store.kind",
            "election.kind",
            "lease.ttl_ms",
            "cluster[0].engine",
            "cluster[0].shards[1]",
            "cluster[0].shards[2]",
            "cluster[1].name",
            "cluster[1].shards",
        ],
        "{problems}"
    );
}

#[test]
fn a_coordinator_without_clusters_is_refused() {
    let problems = read("").expect_err("it was accepted");
    assert_eq!(problems.list().len(), 1, "{problems}");
    assert_eq!(problems.list()[0].key, "cluster");
}

#[test]
fn two_doors_need_two_addresses() {
    let same = format!("listen = \"127.0.0.1:7\"\nmetrics_listen = \"127.0.0.1:7\"\n{CLUSTER}");
    assert_eq!(read(&same).expect_err("it was accepted").list()[0].key, "metrics_listen");
    let free = format!("listen = \"127.0.0.1:0\"\nmetrics_listen = \"127.0.0.1:0\"\n{CLUSTER}");
    read(&free).expect("any free port, twice");
}

#[test]
fn a_slip_in_a_key_is_guessed() {
    let problems = read(&format!("[leese]\nttl_ms = 1\n{CLUSTER}")).expect_err("it was accepted");
    assert!(problems.to_string().contains("did you mean \"lease\"?"), "{problems}");
}
