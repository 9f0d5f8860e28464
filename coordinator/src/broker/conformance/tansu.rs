//! `tansu`: a broker that is no code of librdkafka. `cargo xtask test --long` builds and plays it.

use shardlift_harness::servers::Tansu;

use super::Perishable;
use super::kafka::{Cluster, PARTITIONS, TOPICS};

async fn tansu() -> Cluster<Tansu> {
    let brokers = Tansu::start(&TOPICS, PARTITIONS).await.expect("a broker");
    Cluster { servers: brokers.servers(), brokers }
}

impl Perishable for Cluster<Tansu> {
    async fn go(&self) {
        self.brokers.kill9();
    }

    async fn come_back(&self) {
        self.brokers.restart().await.expect("comes up");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: cargo xtask test --long"]
async fn what_is_published_is_there_in_its_order() {
    super::what_is_published_is_there_in_its_order(tansu().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: cargo xtask test --long"]
async fn what_was_not_dealt_with_comes_again() {
    super::what_was_not_dealt_with_comes_again(tansu().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: cargo xtask test --long"]
async fn what_cannot_be_carried_out_is_kept_with_the_reason() {
    super::what_cannot_be_carried_out_is_kept_with_the_reason(tansu().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: cargo xtask test --long"]
async fn one_that_is_not_there_is_an_error_in_time_and_takes_messages_later() {
    super::one_that_is_not_there_is_an_error_in_time_and_takes_messages_later(tansu().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: cargo xtask test --long"]
async fn who_waits_for_requests_is_told_that_it_is_away_and_hears_of_later_ones() {
    super::who_waits_for_requests_is_told_that_it_is_away_and_hears_of_later_ones(tansu().await).await;
}
