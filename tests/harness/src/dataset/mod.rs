//! The data of the example library: a chat platform with tenants, channels, messages, drafts and deliveries,
//! as it was before any migration ran, and the checks that tell whether every row was changed exactly once.
//!
//! Everything is a function of the shard's index and a row's number, so two runs load the same data.
//! This module creates the application's own tables; it must not create what the migrations create.

#[cfg(test)]
mod by_hand;
pub mod items;
mod mongodb;
mod phrases;
mod postgres;
mod random;

pub use mongodb::{check_mongodb, load_mongodb};
pub use postgres::{check_postgres, load_postgres};

pub(crate) use phrases::PHRASES;
pub(crate) use random::Random;

/// How much data a cluster gets, in rows or documents of all tables together; each shard gets an equal part,
/// and beside it the few hundred rows of the side tables and of the oddities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatasetSize {
    /// Rows of the cluster `chat`, over all its shards.
    pub postgres_rows: u64,
    /// Documents of the cluster `chat-docs`, over all its shards.
    pub mongodb_documents: u64,
}

/// The rows of one shard, by table: most are messages, then deliveries, as on a real chat platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shares {
    tenants: u64,
    channels: u64,
    drafts: u64,
    deliveries: u64,
    messages: u64,
}

impl Shares {
    /// At least four tenants, eight channels and one of everything else, however small `rows` is.
    fn of(rows: u64, shards: usize) -> Self {
        let rows = rows / (shards.max(1) as u64);
        let tenants = (rows / 100).clamp(4, 2_000);
        let channels = (rows / 25).max(8);
        let drafts = (rows / 20).max(1);
        let deliveries = (rows / 5).max(1);
        let messages = rows.saturating_sub(tenants + channels + drafts + deliveries).max(1);
        Self { tenants, channels, drafts, deliveries, messages }
    }
}

/// At most this many keys are named in one violation: enough to start looking, not a second data set.
const NAMED_KEYS: usize = 3;

#[cfg(test)]
mod tests {
    use super::Shares;

    #[test]
    fn shares_add_up_and_messages_lead() {
        let shares = Shares::of(200_000, 2);
        let total = shares.tenants + shares.channels + shares.drafts + shares.deliveries + shares.messages;
        assert_eq!(total, 100_000);
        assert!(shares.messages >= 69_000, "messages are about 70 %: {shares:?}");
    }

    #[test]
    fn a_tiny_data_set_still_has_a_row_of_each_kind() {
        let shares = Shares::of(1, 2);
        assert_eq!((shares.tenants, shares.channels, shares.drafts, shares.messages), (4, 8, 1, 1));
    }
}
