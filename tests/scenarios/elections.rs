//! Three coordinators that agree through a real etcd and share one store: the leader dies, stands still, ends, is
//! deposed. There is one leader afterwards, in a larger epoch.

use std::path::Path;
use std::time::{Duration, Instant};

use shardlift_harness::ports::Port;
use shardlift_harness::process::{Launch, Process};
use shardlift_harness::programs;
use shardlift_harness::sandbox::Sandbox;
use shardlift_harness::servers::Etcd;
use shardlift_harness::wait::wait_for;
use shardlift_proto::v1::LeaderRequest;
use shardlift_proto::v1::cluster_service_client::ClusterServiceClient;
use tokio::time::timeout;

use crate::stage::DEADLINE;

const TTL: Duration = Duration::from_secs(3);
/// What a take-over may need beyond the time of the lease.
const AND_A_LITTLE: Duration = Duration::from_secs(2);
/// One answer of a coordinator; one that stands still gives none.
const ANSWER: Duration = Duration::from_millis(500);

struct Coordinator {
    process: Process,
    port: Port,
}

impl Coordinator {
    fn start(sandbox: &Sandbox, etcd: &Etcd, number: usize) -> Self {
        let port = Port::reserve().unwrap();
        let config = sandbox.path().join(format!("coordinator-{number}.toml"));
        let store = sandbox.path().join("store.db");
        std::fs::write(&config, toml(number, &port, &store, etcd)).unwrap();
        let program = programs::product("shardlift-coordinator").unwrap();
        let launch = Launch::new(format!("coordinator-{number}"), program).arg("--config").arg(config);
        Self { process: Process::spawn(sandbox, launch).unwrap(), port }
    }

    /// The epoch in which it leads, by its own word.
    async fn leads(&self) -> Option<u64> {
        let ask = async {
            let url = format!("http://{}", self.port.address());
            let mut client = ClusterServiceClient::connect(url).await.ok()?;
            let answer = client.leader(LeaderRequest {}).await.ok()?.into_inner();
            answer.here.then_some(answer.epoch)
        };
        timeout(ANSWER, ask).await.ok().flatten()
    }
}

fn toml(number: usize, port: &Port, store: &Path, etcd: &Etcd) -> String {
    format!(
        "name = \"coordinator-{number}\"\nlisten = \"{}\"\n[store]\nkind = \"sqlite\"\npath = {store:?}\n\
         [election]\nkind = \"etcd\"\nendpoints = {:?}\nttl_ms = {}\n\
         [[cluster]]\nname = \"chat\"\nengine = \"postgres\"\nshards = [\"s1\"]\n",
        port.address(),
        etcd.endpoints(),
        TTL.as_millis()
    )
}

/// Waits until one of them leads in an epoch above this one: which, its epoch, and how long it took.
async fn next(all: &[Coordinator], above: u64) -> (usize, u64, Duration) {
    let began = Instant::now();
    let found = wait_for("a coordinator that leads", DEADLINE, async || {
        for (number, coordinator) in all.iter().enumerate() {
            match coordinator.leads().await {
                Some(epoch) if epoch > above => return Some((number, epoch)),
                _ => {}
            }
        }
        None
    });
    let (number, epoch) = match found.await {
        Ok(found) => found,
        Err(error) => {
            let logs: Vec<String> = all.iter().map(|one| one.process.log_tail(15)).collect();
            panic!("{error:#}\n{}", logs.join("\n"))
        }
    };
    (number, epoch, began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_dies_ends_or_stands_still_is_followed_by_one_other() {
    let (etcd, sandbox) = (Etcd::start().await.unwrap(), Sandbox::new("election").unwrap());
    let all: Vec<_> = (1..=3).map(|number| Coordinator::start(&sandbox, &etcd, number)).collect();
    let (mut leader, mut epoch, _) = next(&all, 0).await;

    let died = leader;
    all[died].process.kill9();
    let took;
    (leader, epoch, took) = next(&all, epoch).await;
    println!("a leader killed with a lease of {TTL:?} was followed after {took:?}");
    assert!(took <= TTL + AND_A_LITTLE, "it took {took:?}");
    all[died].process.start_again().unwrap();

    let stood = leader;
    all[stood].process.pause();
    let took;
    (leader, epoch, took) = next(&all, epoch).await;
    println!("a leader that stood still with a lease of {TTL:?} was followed after {took:?}");
    assert_ne!(leader, stood);
    all[stood].process.resume();
    // It must not say once that it still leads.
    let answers = std::iter::repeat_with(|| all[stood].leads());
    for answer in answers.take(20) {
        assert_eq!(answer.await, None, "it leads after it stood still for {took:?}");
    }
    assert_eq!(all[leader].leads().await, Some(epoch), "the new leader lost its lead to the old one");

    all[leader].process.terminate();
    let (_, after, took) = next(&all, epoch).await;
    println!("a leader that was told to end was followed after {took:?}");
    assert_eq!(after, epoch + 1, "somebody led in between");
    assert!(took < TTL, "the others waited for the lease: {took:?}");
}

/// The key of the candidate that leads, once the other one waits behind it: else it would follow itself.
async fn oldest_of_two(etcd: &Etcd) -> String {
    let order = ["get", "--prefix", "--keys-only", "--sort-by=CREATE", "/shardlift/election/"];
    let found = wait_for("two candidates", DEADLINE, async || {
        let keys = etcd.ctl(&order).await.unwrap();
        let keys: Vec<&str> = keys.lines().filter(|line| !line.is_empty()).collect();
        (keys.len() == 2).then(|| keys[0].to_owned())
    });
    found.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_lease_is_revoked_is_followed_by_one_other() {
    let (etcd, sandbox) = (Etcd::start().await.unwrap(), Sandbox::new("election").unwrap());
    let all: Vec<_> = (1..=2).map(|number| Coordinator::start(&sandbox, &etcd, number)).collect();
    let (mut leader, mut epoch, _) = next(&all, 0).await;
    for _ in 0..3 {
        let first = oldest_of_two(&etcd).await;
        etcd.ctl(&["lease", "revoke", first.rsplit('/').next().unwrap()]).await.unwrap();
        let (follower, above, took) = next(&all, epoch).await;
        println!("a leader whose lease was revoked was followed after {took:?}");
        assert!(took <= AND_A_LITTLE, "it took {took:?}");
        assert_eq!(above, epoch + 1, "somebody led in between");
        assert_ne!(follower, leader, "the deposed one was faster than the one that waited");
        (leader, epoch) = (follower, above);
    }
}
