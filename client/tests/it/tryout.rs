use crate::coordinator::{Coordinator, Script, migration};
use shardlift_proto::v1;
use std::time::Duration;
#[tokio::test]
async fn tryout() {
    let script = Script::default();
    script.has(vec![migration("a", v1::Status::Running)]);
    let c = Coordinator::start(&script).await;
    let url = c.url();
    let child = tokio::process::Command::new("script").args(["-qec", &format!("stty cols 120 rows 30; {} --coordinator {url} watch a", env!("CARGO_BIN_EXE_shardlift")), "/dev/null"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    for i in 1..10u64 {
        let mut m = migration("a", v1::Status::Running);
        m.shards[0].rows_seen = i * 10; m.shards[0].rows_per_second = 10.0; m.shards[0].batch_size = 1000; m.shards[0].pass = 1;
        let mut two = m.shards[0].clone(); two.shard = "chat-pg-02".into(); m.shards.push(two);
        script.has(vec![m]);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    script.has(vec![migration("a", v1::Status::Completed)]);
    let out = child.wait_with_output().await.unwrap();
    println!("{}", String::from_utf8_lossy(&out.stdout).replace('\x1b', "^"));
}
