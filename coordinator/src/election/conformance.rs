//! What every election must do, asked of each backend.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::{Election, Leadership, Standalone};

/// Long enough for any backend to answer.
const DEADLINE: Duration = Duration::from_secs(20);
/// Long enough to notice a second winner.
const A_WHILE: Duration = Duration::from_millis(100);

/// Two coordinators in the same election.
type Rivals = (Arc<dyn Election>, Arc<dyn Election>);

async fn elected(election: &Arc<dyn Election>) -> Leadership {
    timeout(DEADLINE, election.campaign()).await.expect("elected in time").expect("elected")
}

async fn one_leads_at_a_time((first, second): Rivals) {
    let leader = elected(&first).await;
    leader.confirm().await.expect("it leads");
    assert!(timeout(A_WHILE, second.campaign()).await.is_err(), "two coordinators lead");
    assert!(timeout(A_WHILE, leader.lost()).await.is_err(), "the lead was lost for no reason");
}

async fn the_next_is_elected_when_the_leader_resigns((first, second): Rivals) {
    elected(&first).await.resign().await;
    elected(&second).await.confirm().await.expect("it leads");
}

async fn the_next_is_elected_when_the_leader_is_gone((first, second): Rivals) {
    drop(elected(&first).await);
    elected(&second).await.confirm().await.expect("it leads");
}

async fn a_withdrawn_candidate_does_not_win((first, second): Rivals) {
    let leader = elected(&first).await;
    assert!(timeout(A_WHILE, second.campaign()).await.is_err(), "two coordinators lead");
    leader.resign().await;
    elected(&first).await.confirm().await.expect("the seat is free again");
}

macro_rules! suite {
    ($backend:ident, $rivals:expr) => {
        mod $backend {
            use super::*;

            #[tokio::test]
            async fn one_leads_at_a_time() {
                super::one_leads_at_a_time($rivals).await;
            }

            #[tokio::test]
            async fn the_next_is_elected_when_the_leader_resigns() {
                super::the_next_is_elected_when_the_leader_resigns($rivals).await;
            }

            #[tokio::test]
            async fn the_next_is_elected_when_the_leader_is_gone() {
                super::the_next_is_elected_when_the_leader_is_gone($rivals).await;
            }

            #[tokio::test]
            async fn a_withdrawn_candidate_does_not_win() {
                super::a_withdrawn_candidate_does_not_win($rivals).await;
            }
        }
    };
}

suite!(standalone, {
    let election = Standalone::new();
    (Arc::new(election.clone()) as Arc<dyn Election>, Arc::new(election) as Arc<dyn Election>)
});
