//! Lost replies, elections, expired transactions, zombies: every document exactly once.

use std::sync::Arc;
use std::time::Duration;

use bson::{Document, doc};
use futures::future::join_all;
use shardlift_domain::migration::Step;
use shardlift_harness::wait::wait_for_ok;
use shardlift_worker::engine::{DataJob, EngineError, RangeWriter, ShardEngine};
use tokio::time::Instant;

use super::{Stage, lease, marked, numbered, programmed, unmarked};

const DOCUMENTS: i32 = 300;

/// Walks range 0 to its end, claiming again as the executor does.
async fn to_the_end(stage: &Stage, job: &Arc<DataJob>, mut writer: Option<Box<dyn RangeWriter>>) {
    let lease = lease(1, 1, Step::Backfill, Some(0));
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < Duration::from_secs(60), "the range did not end");
        let Some(open) = writer.as_mut() else {
            writer = stage.engine.open_range(&lease, Arc::clone(job)).await.ok();
            continue;
        };
        if open.state().done {
            return;
        }
        match open.run_batch(&lease, 50).await {
            Ok(_) | Err(EngineError::Contended(_) | EngineError::TooSlow(_)) => {}
            Err(EngineError::Connection(_)) => writer = None,
            Err(other) => panic!("{other:?}"),
        }
    }
}

async fn staged(job: &Arc<DataJob>) -> (Stage, Box<dyn RangeWriter>) {
    let stage = Stage::set().await;
    stage.load(numbered(DOCUMENTS)).await;
    stage.split(job, 1).await;
    let writer = stage.writer(job, 0, 1).await;
    (stage, writer)
}

/// Lets the given commands fail and walks on; the first batch must answer with an unknown outcome.
async fn lost(job: &Arc<DataJob>, data: Document, times: i32) {
    let (stage, mut writer) = staged(job).await;
    let lease = lease(1, 1, Step::Backfill, Some(0));
    writer.run_batch(&lease, 50).await.expect("a batch");
    stage.server.fail_command(doc! { "times": times }, data.clone()).await.expect("a failpoint");
    let error = writer.run_batch(&lease, 50).await.expect_err("the reply is lost");
    assert!(matches!(error, EngineError::Connection(_)), "{data}: {error:?}");
    let again = writer.run_batch(&lease, 50).await.expect_err("the outcome is still unknown");
    assert!(matches!(again, EngineError::Connection(_)), "{again:?}");
    stage.server.heal_commands().await.expect("healed");
    to_the_end(&stage, job, None).await;
    assert_eq!(stage.once().await, DOCUMENTS as u64, "{data}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_of_a_commit_is_resolved_by_the_next_claim() {
    // Committed, but twice (the driver asks again once) the answer is that the majority is not certain.
    let uncertain = doc! {
        "failCommands": ["commitTransaction"],
        "writeConcernError": { "code": 91, "codeName": "ShutdownInProgress", "errmsg": "going away" },
        "errorLabels": ["RetryableWriteError"],
    };
    // Not committed: the connection broke before.
    let broken = doc! { "failCommands": ["commitTransaction"], "closeConnection": true };
    // Each on a server of its own, since what is awaited is mostly the driver's patience.
    let each = [marked(), unmarked(), programmed()].map(async |job| {
        lost(&job, uncertain.clone(), 2).await;
        lost(&job, broken.clone(), 2).await;
    });
    join_all(each).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_no_primary_any_more_is_found_again() {
    let job = unmarked();
    lost(&job, doc! { "failCommands": ["update"], "errorCode": 10107 }, 1).await;
    let (stage, writer) = staged(&job).await;
    let downs = async {
        for _ in 0..3 {
            stage.server.step_down().await.ok();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    tokio::join!(downs, to_the_end(&stage, &job, Some(writer)));
    assert_eq!(stage.once().await, DOCUMENTS as u64);
    let writable = async || stage.server.admin(doc! { "replSetGetStatus": 1 }).await.map(drop);
    wait_for_ok("the set to be well again", Duration::from_secs(30), writable).await.expect("well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_no_batch_that_was_acknowledged() {
    let job = unmarked();
    let (stage, mut writer) = staged(&job).await;
    writer.run_batch(&lease(1, 1, Step::Backfill, Some(0)), 100).await.expect("a batch");
    stage.server.kill9();
    stage.server.restart().await.expect("it runs again");
    to_the_end(&stage, &job, Some(writer)).await;
    assert_eq!(stage.once().await, DOCUMENTS as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_lives_too_long_asks_for_a_smaller_batch() {
    let job = unmarked();
    let (stage, mut writer) = staged(&job).await;
    stage.server.set_parameter("transactionLifetimeLimitSeconds", 1).await.expect("a parameter");
    let slow = doc! { "failCommands": ["commitTransaction"], "blockConnection": true, "blockTimeMS": 3000 };
    stage.server.fail_command(doc! { "times": 1 }, slow).await.expect("a failpoint");
    let error = writer.run_batch(&lease(1, 1, Step::Backfill, Some(0)), 50).await.expect_err("it expired");
    assert!(matches!(error, EngineError::TooSlow(_)), "{error:?}");
    to_the_end(&stage, &job, Some(writer)).await;
    assert_eq!(stage.once().await, DOCUMENTS as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_owner_is_refused_and_its_open_transaction_ended() {
    for job in [marked(), unmarked(), programmed()] {
        let (stage, mut zombie) = staged(&job).await;
        let old = lease(1, 1, Step::Backfill, Some(0));
        zombie.run_batch(&old, 20).await.expect("a batch");
        let stuck =
            doc! { "failCommands": ["commitTransaction"], "blockConnection": true, "blockTimeMS": 5000 };
        stage.server.fail_command(doc! { "times": 1 }, stuck).await.expect("a failpoint");
        let late = tokio::spawn(async move {
            let result = zombie.run_batch(&old, 20).await;
            (zombie, old, result)
        });
        let open = async || {
            let pipeline = vec![
                doc! { "$currentOp": { "idleSessions": true } },
                doc! { "$match": { "command.commitTransaction": { "$exists": true } } },
            ];
            let admin = stage.client.database("admin");
            let mut found = admin.aggregate(pipeline).await?;
            if found.advance().await? { Ok(()) } else { Err(anyhow::anyhow!("no commit is under way")) }
        };
        wait_for_ok("the zombie's commit to hang", Duration::from_secs(10), open).await.expect("it hangs");
        let started = Instant::now();
        let new = lease(1, 2, Step::Backfill, Some(0));
        let mut writer = stage.engine.open_range(&new, Arc::clone(&job)).await.expect("a claim");
        while !writer.state().done {
            match writer.run_batch(&new, 50).await {
                Ok(_) | Err(EngineError::Contended(_)) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        let (mut zombie, old, _) = late.await.expect("it ended");
        let after = zombie.run_batch(&old, 20).await;
        assert!(after.is_err(), "{after:?}");
        assert_eq!(stage.once().await, DOCUMENTS as u64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_the_same_owner_ends_its_former_claim() {
    let job = unmarked();
    let (stage, mut first) = staged(&job).await;
    let same = lease(1, 1, Step::Backfill, Some(0));
    let mut second = stage.writer(&job, 0, 1).await;
    let error = first.run_batch(&same, 10).await.expect_err("a newer claim is there");
    assert!(matches!(error, EngineError::LeaseLost), "{error:?}");
    second.run_batch(&same, 10).await.expect("a batch");
    let error = stage.engine.open_range(&lease(1, 0, Step::Backfill, Some(0)), Arc::clone(&job)).await;
    assert!(matches!(error, Err(EngineError::LeaseLost)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_the_application_changes_meanwhile_is_read_again() {
    let job = programmed();
    let (stage, mut writer) = staged(&job).await;
    let mut session = stage.client.start_session().await.expect("a session");
    session.start_transaction().await.expect("a transaction");
    let counted = doc! { "$inc": { "likes": 1 } };
    stage.documents().update_one(doc! { "_id": 5 }, counted).session(&mut session).await.expect("an update");
    let own = lease(1, 1, Step::Backfill, Some(0));
    let error = writer.run_batch(&own, 20).await.expect_err("the application holds a document");
    assert!(matches!(error, EngineError::Contended(_)), "{error:?}");
    session.commit_transaction().await.expect("a commit");
    to_the_end(&stage, &job, Some(writer)).await;
    assert_eq!(stage.once().await, DOCUMENTS as u64);
    let liked = stage.documents().count_documents(doc! { "likes": 1, "applied": 1 }).await.expect("a count");
    assert_eq!(liked, 1, "no write of the application is lost");
}
