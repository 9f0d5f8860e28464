//! What a person is told about wrong settings.

use std::path::PathBuf;

use super::*;

pub(super) fn read(text: &str) -> Result<Config, ConfigProblems> {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("coordinator.toml");
    std::fs::write(&file, text).expect("writes");
    Config::load(&file, &Flags::default())
}

pub(super) const CLUSTER: &str =
    "[[cluster]]\nname = \"chat\"\nengine = \"postgres\"\nshards = [\"chat-pg-01\"]\n";

#[test]
fn what_is_left_out_has_a_default() {
    let config = read(CLUSTER).expect("good");
    assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 7400)));
    let StoreConfig::Sqlite { path } = config.store else { panic!("{:?}", config.store) };
    assert_eq!(path, PathBuf::from("coordinator.db"));
    assert_eq!(config.lease_ttl, Duration::from_secs(5));
    assert_eq!(config.purge_after, Some(Duration::from_secs(7 * 86_400)));
    assert_eq!(config.clusters[0].engine, Engine::Postgres);
}

#[test]
fn before_images_are_kept_for_a_time_or_for_ever() {
    for (text, expected) in [("never", None), ("30m", Some(1_800)), ("0s", Some(0)), ("2d", Some(172_800))] {
        let config = read(&format!("[undo]\npurge_after = \"{text}\"\n{CLUSTER}")).expect("good");
        assert_eq!(config.purge_after, expected.map(Duration::from_secs), "{text}");
    }
    for text in ["", "7", "d", "-1d", "99999d", "1w"] {
        assert!(read(&format!("[undo]\npurge_after = \"{text}\"\n{CLUSTER}")).is_err(), "{text}");
    }
}

#[test]
fn a_flag_wins_over_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("coordinator.toml");
    std::fs::write(&file, CLUSTER).expect("writes");
    let flags = Flags { listen: Some("127.0.0.1:1".into()), rest_listen: Some("[::1]:2".into()) };
    let config = Config::load(&file, &flags).expect("good");
    assert_eq!(config.listen.port(), 1);
    assert_eq!(config.rest_listen.map(|address| address.port()), Some(2));
}

#[test]
fn the_rest_api_has_an_address_of_its_own() {
    assert_eq!(read(CLUSTER).expect("good").rest_listen, None, "none unless asked for");
    for (wrong, why) in [
        ("0.0.0.0:7410", "[access] knows nobody"),
        ("10.0.0.1:7410", "add [tls]"),
        ("127.0.0.1:7400", "the same address as `listen`"),
        ("127.0.0.1:7401", "the same address as `metrics_listen`"),
        ("localhost", "is not an address"),
    ] {
        let text = format!("metrics_listen = \"127.0.0.1:7401\"\nrest_listen = {wrong:?}\n{CLUSTER}");
        let problems = read(&text).expect_err("it was accepted");
        let mut told: Vec<_> = problems.list().iter().map(|problem| problem.key.as_str()).collect();
        told.dedup();
        assert_eq!(told, ["rest_listen"], "{wrong}: {problems}");
        assert!(problems.to_string().contains(why), "{wrong}: {problems}");
    }
    // Any free port is a free one for each.
    let text = format!("listen = \"127.0.0.1:0\"\nrest_listen = \"127.0.0.1:0\"\n{CLUSTER}");
    assert!(read(&text).is_ok());
}

#[test]
fn off_loopback_tls_is_needed_as_well_as_access() {
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let access =
        format!("[[access.principal]]\nname = \"mira\"\nrole = \"operator\"\ntoken_sha256 = \"{hash}\"\n");
    let tls =
        "[tls]\ncertificate = \"a.pem\"\nkey = \"a.key\"\nclient_ca = \"ca.pem\"\nserver_name = \"s\"\n";
    let read = |sections: &str| {
        read(&format!(
            "listen = \"10.0.0.1:7400\"\nrest_listen = \"[2001:db8::1]:7410\"\n{sections}{CLUSTER}"
        ))
    };
    for (sections, why) in [(access.as_str(), "add [tls]"), (tls, "[access] knows nobody")] {
        let problems = read(sections).expect_err("it was accepted");
        let keys: Vec<_> = problems.list().iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["listen", "rest_listen"], "{problems}");
        assert!(problems.to_string().contains(why), "{problems}");
    }
    let tls = read(&format!("{tls}{access}")).expect("good").tls.expect("there");
    assert_eq!(tls.files.client_ca, Some("ca.pem".into()));
    let identity = Some(("a.pem".into(), "a.key".into()));
    assert_eq!((tls.dial.server_name, tls.dial.identity), (Some("s".to_owned()), identity));
}

#[test]
fn tls_needs_a_certificate_and_its_key() {
    let problems = read(&format!("[tls]\nca = \"ca.pem\"\n{CLUSTER}")).expect_err("it was accepted");
    let keys: Vec<_> = problems.list().iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["tls.certificate", "tls.key"], "{problems}");
}

#[test]
fn requests_are_limited_unless_somebody_says_otherwise() {
    let each = |text: &str| read(&format!("{text}{CLUSTER}")).expect("good").requests_per_second;
    assert_eq!(each("").map(NonZeroU32::get), Some(REQUESTS_PER_SECOND));
    assert_eq!(each("[rest]\nrequests_per_second = 7\n").map(NonZeroU32::get), Some(7));
    assert_eq!(each("[rest]\nrequests_per_second = 0\n"), None);
}

#[test]
fn every_mistake_is_told_at_once() {
    let text = "listen = \"0.0.0.0:7400\"\nmetrics_listen = \"nonsense\"\nname = \" \"\n\
                [store]\nkind = \"oracle\"\n[election]\nkind = \"raft\"\n[lease]\nttl_ms = 5\n[undo]\npurge_after = \"soon\"\n\
                [[cluster]]\nname = \"chat\"\nengine = \"oracle\"\nshards = [\"a\", \"a\", \"b c\"]\n\
                [[cluster]]\nname = \"chat\"\nengine = \"mongodb\"\n";
    let problems = read(text).expect_err("it was accepted");
    let keys: Vec<_> = problems.list().iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "name",
            "metrics_listen",
            "listen",
            "listen",
            "store.kind",
            "election.kind",
            "lease.ttl_ms",
            "undo.purge_after",
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

/// The configuration of a coordinator that has this section `[election]`.
fn with_election(lines: &str) -> Result<Config, ConfigProblems> {
    read(&format!("name = \"one\"\n[election]\n{lines}\n{CLUSTER}"))
}

#[test]
fn an_election_by_etcd_has_everything_it_needs() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("writes");
        path.display().to_string()
    };
    let (ca, password) = (file("ca.pem", "-----BEGIN CERTIFICATE-----\n"), file("password", "hunter2\n"));
    let config = with_election(&format!(
        "kind = \"etcd\"\nendpoints = [\"https://e1.example:2379\", \"https://[::1]:2379\"]\nttl_ms = 3000\n\
         advertise = \"c1.example:7400\"\nuser = \"shardlift\"\npassword_file = {password:?}\n\
         [election.tls]\nca_file = {ca:?}"
    ))
    .expect("good");
    assert_eq!(config.advertise.as_deref(), Some("c1.example:7400"));
    assert!(!format!("{config:?}").contains("hunter2"), "a password is shown");
    let ElectionConfig::Etcd(etcd) = config.election else { panic!("another kind") };
    assert_eq!((etcd.prefix.as_str(), etcd.ttl), ("/shardlift", Duration::from_secs(3)));
    assert_eq!(etcd.login.expect("a login").1.expose(), "hunter2");
    assert!(etcd.tls.expect("certificates").identity.is_none());
}

#[test]
fn every_mistake_about_etcd_is_told_at_once() {
    let problems = read(&format!(
        "[election]\nkind = \"etcd\"\nendpoints = [\"http://e1.example:2379\", \"e2:2379\", \"https://u:pw@e3:1\"]\n\
         ttl_ms = 5\nprefix = \"/\"\nadvertise = \"http://c1:7400\"\nuser = \"u\"\n\
         [election.tls]\nca_file = \"/nowhere/ca.pem\"\nkey_file = \"/nowhere/key.pem\"\n{CLUSTER}"
    ))
    .expect_err("it was accepted");
    let keys: Vec<_> = problems.list().iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "election.advertise",
            "name",
            "election.endpoints[0]",
            "election.endpoints[1]",
            "election.endpoints[2]",
            "election.ttl_ms",
            "election.prefix",
            "election.tls.ca_file",
            "election.tls.key_file",
            "election.tls",
            "election.password_file",
        ],
        "{problems}"
    );
    assert!(!problems.to_string().contains("pw@"), "{problems}");
}

#[test]
fn settings_of_etcd_are_refused_without_it() {
    let problems = with_election("endpoints = []\nttl_ms = 3000\nprefix = \"/x\"\n[election.tls]")
        .expect_err("accepted");
    let keys: Vec<_> = problems.list().iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["election.endpoints", "election.ttl_ms", "election.prefix", "election.tls"]);
    let slip = with_election("kind = \"etcd\"\nendpoint = []").expect_err("accepted");
    assert!(slip.to_string().contains("did you mean \"endpoints\"?"), "{slip}");
    assert!(with_election("advertise = \"c1.example:7400\"").is_ok(), "the address is told by any election");
}

#[test]
fn the_address_of_a_store_is_a_secret_from_one_place() {
    let with = |store: &str| read(&format!("[store]\n{store}\n{CLUSTER}"));
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("url");
    std::fs::write(&file, "postgres://u:hunter2@db/shardlift\n").expect("writes");
    for store in [
        "kind = \"postgres\"\nurl = \"postgres://u:hunter2@db/shardlift\"".to_owned(),
        format!("kind = \"postgres\"\nurl_file = {:?}", file.display().to_string()),
    ] {
        let config = with(&store).expect("good");
        assert!(!format!("{config:?}").contains("hunter2"), "a secret was shown");
        let StoreConfig::Postgres { url } = config.store else { panic!("{:?}", config.store) };
        assert_eq!(url.expose(), "postgres://u:hunter2@db/shardlift");
    }
    for (store, key) in [
        ("kind = \"postgres\"", "store.url"),
        ("kind = \"postgres\"\nurl = \"x\"\nurl_file = \"y\"", "store.url"),
        ("kind = \"postgres\"\nurl = \"x\"\npath = \"y\"", "store.path"),
        ("kind = \"sqlite\"\nurl = \"x\"", "store.url"),
        ("kind = \"postgres\"\nurl = \"x\"\ndatabase = \"y\"", "store.database"),
        ("kind = \"mongodb\"", "store.url"),
        ("kind = \"mongodb\"\nurl = \"x\"\ndatabase = \"a/b\"", "store.database"),
    ] {
        let problems = with(store).expect_err("it was accepted");
        assert_eq!(problems.list()[0].key, key, "{problems}");
    }
}

#[test]
fn a_mongodb_store_has_a_database_of_its_own() {
    let text = format!("[store]\nkind = \"mongodb\"\nurl = \"mongodb://db/?replicaSet=rs0\"\n{CLUSTER}");
    let StoreConfig::Mongodb { database, .. } = read(&text).expect("good").store else {
        panic!("another kind")
    };
    assert_eq!(database, "shardlift_coordinator");
}

#[test]
fn the_example_of_a_cluster_is_good_once_its_secrets_are_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let secrets = [
        ("store-url", "postgres://shardlift:hunter2@db.example/shardlift"),
        ("etcd-password", "hunter2"),
        ("etcd-ca.pem", "-----BEGIN CERTIFICATE-----"),
        ("coordinator.pem", "-----BEGIN CERTIFICATE-----"),
        ("coordinator.key", "-----BEGIN PRIVATE KEY-----"),
    ];
    for (name, text) in secrets {
        std::fs::write(dir.path().join(name), text).expect("writes");
    }
    let example = include_str!("../../../deploy/cluster/coordinator.toml");
    // Those of [tls] are looked at when the doors open, not before.
    let certificates = example.matches("/etc/shardlift/tls/").count();
    assert_eq!(certificates, 4, "certificate, key, and the authorities of both sides");
    let files = example.matches("/etc/shardlift/").count();
    assert_eq!(files, secrets.len() + certificates, "one file for each secret");
    let here = example.replace("/etc/shardlift", &dir.path().display().to_string());
    let config = read(&here).expect("good");
    assert!(matches!(config.store, StoreConfig::Postgres { .. }));
    assert!(matches!(config.election, ElectionConfig::Etcd(_)));
}

const CLIENTS: &str = "[clients]\nallow = [\"127.0.0.1:9000\", \"chat.example:443\"]\n\
    [clients.mcp]\nurl = \"http://127.0.0.1:9000/\"\nkey = \"canary\"\n\
    [clients.chat]\nurl = \"https://chat.example\"\nkey = \"canary\"\nchannel = \"ops\"\n";

#[test]
fn services_outside_are_each_optional_and_their_keys_are_not_shown() {
    let none = read(CLUSTER).expect("good").clients;
    assert!(none.mcp.is_none() && none.chat.is_none() && none.adaptor.is_none());
    let config = read(&format!("{CLIENTS}{CLUSTER}")).expect("good");
    assert_eq!(config.clients.mcp.as_ref().map(|mcp| mcp.url.as_str()), Some("http://127.0.0.1:9000"));
    assert!(config.clients.chat.is_some() && config.clients.adaptor.is_none());
    assert!(!format!("{config:?}").contains("canary"));
}

#[test]
fn a_service_is_asked_only_where_the_list_lets_requests_go() {
    let text = "[clients]\nallow = [\"nonsense\"]\ntimeout_ms = 1\n\
        [clients.mcp]\nurl = \"https://mcp.example\"\nkey = \"canary\"\n\
        [clients.chat]\nurl = \"https://chat.example\"\nchannel = \" \"\n\
        [clients.adaptor]\nurl = \"https://adaptor.example\"\nkey = \"canary\"\ndeadline_ms = 1\n";
    let problems = read(&format!("{text}{CLUSTER}")).expect_err("it was accepted");
    let keys: Vec<_> = problems.list().iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "clients.allow[0]",
            "clients.timeout_ms",
            "clients.mcp.url",
            "clients.chat.url",
            "clients.chat.key",
            "clients.adaptor.url",
            "clients.chat.channel",
            "clients.adaptor.deadline_ms"
        ]
    );
    assert!(!problems.to_string().contains("canary"));
}
