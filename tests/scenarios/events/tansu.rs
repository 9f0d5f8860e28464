//! With `tansu`, a broker that shares no code with librdkafka: `cargo xtask test --long` builds and plays it.

use shardlift_harness::servers::Tansu;

use super::kafka::{self, Brokers, Log, PARTITIONS, TOPICS};

impl Brokers for Tansu {
    fn servers(&self) -> String {
        Tansu::servers(self)
    }

    async fn go(&self) {
        self.kill9();
    }

    async fn come_back(&self) {
        self.restart().await.unwrap();
    }
}

async fn tansu() -> Log<Tansu> {
    Log::of(Tansu::start(&TOPICS, PARTITIONS).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: cargo xtask test --long"]
async fn a_stranger_drives_a_migration_from_request_to_completed() {
    super::driven_from_request_to_completed(tansu().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: cargo xtask test --long"]
async fn a_stranger_gives_a_migration_up_and_what_cannot_be_carried_out_is_kept_with_the_reason() {
    super::given_up_by_an_event_and_poison_is_kept(tansu().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: cargo xtask test --long"]
async fn what_was_published_and_not_noted_comes_again_with_the_same_ids() {
    super::what_was_published_and_not_noted_comes_again(tansu().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: cargo xtask test --long"]
async fn a_request_that_was_not_acknowledged_is_not_carried_out_again() {
    super::a_request_that_was_not_acknowledged_is_not_carried_out_again(tansu().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: cargo xtask test --long"]
async fn brokers_that_are_down_delay_events_and_requests_and_nothing_else() {
    kafka::brokers_that_are_down_delay_what_they_carry(tansu().await).await;
}
