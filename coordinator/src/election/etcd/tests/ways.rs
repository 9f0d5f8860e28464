//! The ways to etcd: dead endpoints, TLS, passwords; and how fast the lead changes hands.

use std::path::Path;

use shardlift_harness::servers::EtcdTls as ServerTls;
use shardlift_runtime::config::Secret;

use super::*;
use crate::election::{ElectionError, EtcdTls};

#[tokio::test]
async fn a_resigned_lead_is_taken_over_at_once() {
    // How soon it is, is measured by the bench R2; here nobody may wait for the lease to run out.
    const LONG: Duration = Duration::from_secs(60);
    let options = EtcdOptions { ttl: LONG, ..options(shared().await) };
    let (one, two) = (coordinator(&options, "one").await, coordinator(&options, "two").await);
    let leadership = elected(&one).await;
    let next = tokio::spawn(async move { (elected(&two).await, Instant::now()) });
    let mut leader = one.leader();
    timeout(DEADLINE, leader.wait_for(Option::is_some)).await.expect("in time").expect("told");
    let began = Instant::now();
    leadership.resign().await;
    let (_second, at) = timeout(DEADLINE, next).await.expect("in time").expect("no panic");
    let took = at.saturating_duration_since(began);
    println!("hand-over on resign took {took:?}");
    assert!(took < LONG / 6, "hand-over took {took:?}");
}

#[tokio::test]
async fn a_dead_leader_is_followed_within_its_time_and_a_little() {
    let options = options(shared().await);
    let theirs = options.clone();
    // A runtime of its own, that ends like a process that is killed: nothing is given back.
    let leader = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let held = runtime.block_on(async {
            let one = coordinator(&theirs, "one").await;
            let leadership = elected(&one).await;
            (one, leadership)
        });
        (runtime, held)
    });
    let (runtime, held) =
        tokio::task::spawn_blocking(|| leader.join()).await.expect("joined").expect("no panic");
    let two = coordinator(&options, "two").await;
    let began = Instant::now();
    runtime.shutdown_background();
    std::mem::forget(held);
    let second = elected(&two).await;
    let took = began.elapsed();
    println!("take-over after a dead leader took {took:?} with a lease of {TTL:?}");
    second.confirm().await.expect("it leads");
    assert!(took <= TTL + Duration::from_secs(2), "take-over took {took:?}");
}

#[tokio::test]
async fn endpoints_on_which_nobody_listens_are_passed_over() {
    let mut options = options(shared().await);
    for port in [1, 2] {
        options.endpoints.insert(0, format!("http://127.0.0.1:{port}"));
    }
    for name in ["one", "two", "three"] {
        let election = coordinator(&options, name).await;
        let leadership = elected(&election).await;
        leadership.confirm().await.expect("it leads");
        leadership.resign().await;
    }
}

#[tokio::test]
async fn an_etcd_that_is_not_there_is_told_by_its_address() {
    let mut options = options(shared().await);
    options.endpoints = vec!["http://127.0.0.1:1".into()];
    let election = coordinator(&options, "one").await;
    let Err(error) = timeout(DEADLINE, election.campaign()).await.expect("in time") else {
        panic!("elected")
    };
    assert!(error.to_string().contains("http://127.0.0.1:1: "), "{error}");
    assert!(matches!(error, ElectionError::Unavailable(_)));
}

#[tokio::test]
async fn a_user_with_a_password_is_let_in_and_a_wrong_password_is_told() {
    let server = Server::start().await.expect("an etcd");
    for command in ["user add root:canary", "user grant-role root root", "auth enable"] {
        server.ctl(&command.split(' ').collect::<Vec<_>>()).await.expect(command);
    }
    let login = |password: &str| Some(("root".to_owned(), Secret::new(password)));
    let good = EtcdOptions { login: login("canary"), ..options(&server) };
    let one = coordinator(&good, "one").await;
    let leadership = elected(&one).await;
    leadership.confirm().await.expect("it leads");
    // A member that starts again has forgotten every login.
    server.restart().await.expect("restarted");
    assert!(timeout(2 * TTL, leadership.lost()).await.is_err() || leadership.is_lost());
    leadership.resign().await;
    elected(&one).await.confirm().await.expect("it leads with a new login");
    for wrong in
        [EtcdOptions { login: login("hunter2"), ..good.clone() }, EtcdOptions { login: None, ..good }]
    {
        let election = coordinator(&wrong, "two").await;
        let Err(error) = timeout(DEADLINE, election.campaign()).await.expect("in time") else {
            panic!("elected")
        };
        assert!(error.to_string().contains("user"), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn tls_with_certificates_on_both_sides() {
    shardlift_runtime::tls::install_provider();
    let dir = tempfile::tempdir().expect("a directory");
    let files = certificates(dir.path());
    let servers = Servers { tls: Some(files.clone()), ..Servers::default() };
    let server = Server::start_with(servers).await.expect("an etcd");
    let read = |path: &Path| Secret::new(std::fs::read_to_string(path).expect("a file"));
    let tls = EtcdTls { ca: Some(read(&files.ca)), identity: Some((read(&files.cert), read(&files.key))) };
    let good = EtcdOptions { tls: Some(tls.clone()), ..options(&server) };
    let one = coordinator(&good, "one").await;
    elected(&one).await.confirm().await.expect("it leads");
    let stranger = EtcdTls { identity: None, ..tls.clone() };
    let unknown = coordinator(&EtcdOptions { tls: Some(stranger), ..good.clone() }, "two").await;
    assert!(
        timeout(DEADLINE, unknown.campaign()).await.expect("in time").is_err(),
        "let in without a certificate"
    );
    let nonsense = Secret::new("-----BEGIN PRIVATE KEY-----\nbm9uc2Vuc2U=\n-----END PRIVATE KEY-----\n");
    let broken = EtcdTls { identity: tls.identity.clone().map(|(cert, _)| (cert, nonsense)), ..tls };
    let Err(failure) = Etcd::start(EtcdOptions { tls: Some(broken), ..good }, peer("three")).await else {
        panic!("accepted")
    };
    assert_eq!(failure.code, shardlift_domain::ErrorCode::ConfigInvalid);
}

/// An authority, and a certificate of it for 127.0.0.1.
fn certificates(dir: &Path) -> ServerTls {
    let make = |command: &str| {
        let output = std::process::Command::new("openssl")
            .args(command.split_whitespace())
            .current_dir(dir)
            .output()
            .expect("openssl");
        assert!(output.status.success(), "openssl {command}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    make(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"));
    make(&format!("req {key} -keyout key.pem -out request.pem -subj /CN=coordinator"));
    std::fs::write(
        dir.join("names"),
        "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n",
    )
    .expect("written");
    make(
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile names",
    );
    ServerTls { ca: dir.join("ca.pem"), cert: dir.join("cert.pem"), key: dir.join("key.pem") }
}
