//! Prepared transactions: how ours are named, and what is told of any.
//!
//! A name (gid) says whose it is down to the hand-out: `shardlift:<cluster uuid>:<migration>:<shard>:<epoch>.<attempt>`.
//! So a late worker can neither finish nor roll back what a later hand-out has prepared.

use std::fmt::Write;

use crate::fence::{Attempt, Epoch, Token};
use crate::ids::{Checksum, MigrationId, MigrationKey, ShardId, Version};

/// Longest name in bytes that PostgreSQL takes.
pub const LONGEST_GID: usize = 199;
/// A name within a gid that is longer is cut, and told apart by a digest.
const LONGEST_NAME: usize = 40;
const DIGEST: usize = 16;

/// The part of a gid that all hand-outs of one migration on one shard share.
pub fn gid_prefix(cluster_uuid: &str, migration: &MigrationKey, shard: &ShardId) -> String {
    let MigrationKey { id, version } = migration;
    format!("{}{}@{version}:{}:", family(cluster_uuid), cut(id.as_str()), cut(shard.as_str()))
}

/// The gid of what one hand-out prepares.
pub fn gid(prefix: &str, token: Token) -> String {
    format!("{prefix}{}.{}", token.epoch.0, token.attempt.0)
}

/// The hand-out that a gid with this prefix names.
pub fn token_of(prefix: &str, gid: &str) -> Option<Token> {
    let (epoch, attempt) = gid.strip_prefix(prefix)?.split_once('.')?;
    Some(Token { epoch: Epoch(epoch.parse().ok()?), attempt: Attempt(attempt.parse().ok()?) })
}

fn family(cluster_uuid: &str) -> String {
    format!("shardlift:{cluster_uuid}:")
}

/// No name of ours holds a `~`.
fn cut(name: &str) -> String {
    if name.len() <= LONGEST_NAME {
        return name.to_owned();
    }
    let mut short = name[..LONGEST_NAME - DIGEST - 1].to_owned();
    // Writing to a String cannot fail.
    let _ = write!(short, "~{}", &Checksum::of(name.as_bytes()).as_str()[..DIGEST]);
    short
}

/// What a gid of ours says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Id and version of the migration; a long id is cut.
    pub migration: String,
    /// The hand-out that prepared it.
    pub token: Token,
}

impl Named {
    /// What the gid says, if it is one of this cluster and shard.
    pub fn read(cluster_uuid: &str, shard: &ShardId, gid: &str) -> Option<Self> {
        let (migration, rest) = gid.strip_prefix(&family(cluster_uuid))?.split_once(':')?;
        let token = token_of(&format!("{}:", cut(shard.as_str())), rest)?;
        Some(Self { migration: migration.to_owned(), token })
    }

    /// Whether it is of this migration.
    pub fn is_of(&self, migration: &MigrationKey) -> bool {
        self.migration == format!("{}@{}", cut(migration.id.as_str()), migration.version)
    }

    /// The migration, unless its id was cut.
    pub fn key(&self) -> Option<MigrationKey> {
        let (id, version) = self.migration.rsplit_once('@')?;
        Some(MigrationKey { id: MigrationId::new(id).ok()?, version: Version(version.parse().ok()?) })
    }
}

/// One prepared transaction, as a shard tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedTransaction {
    /// Its name in the server.
    pub gid: String,
    /// For how long it has been prepared, in milliseconds by the server's clock.
    pub age_ms: u64,
    /// The database user who prepared it.
    pub owner: String,
    /// What its name says; `None`: it is not ours.
    pub named: Option<Named>,
    /// Locks that it holds on the application's tables and indexes, such as `AccessExclusiveLock public.messages`.
    pub locks: Vec<String>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: &str = "6f1c2b1e-5a0c-4b52-9d5e-0d7f6f0f5a11";

    fn key(id: &str, version: u32) -> MigrationKey {
        MigrationKey { id: MigrationId::new(id).expect("a name"), version: Version(version) }
    }

    fn token() -> Token {
        Token { epoch: Epoch(u64::MAX), attempt: Attempt(u32::MAX) }
    }

    #[test]
    fn a_gid_reads_like_what_it_is_and_the_longest_fits() {
        let shard = ShardId::new("chat-pg-01").expect("a name");
        let prefix = gid_prefix(UUID, &key("0001_columns", 2), &shard);
        let token = Token { epoch: Epoch(7), attempt: Attempt(31) };
        assert_eq!(gid(&prefix, token), format!("shardlift:{UUID}:0001_columns@2:chat-pg-01:7.31"));
        let long =
            gid_prefix(UUID, &key(&"m".repeat(63), u32::MAX), &ShardId::new("s".repeat(63)).expect("a name"));
        assert!(gid(&long, self::token()).len() <= LONGEST_GID, "{long}");
    }

    #[test]
    fn foreign_gids_are_not_ours() {
        let shard = ShardId::new("s1").expect("a name");
        let ours = gid(&gid_prefix(UUID, &key("m", 1), &shard), token());
        assert!(Named::read(UUID, &shard, &ours).is_some());
        let elsewhere = ours.replace(UUID, "00000000-0000-4000-8000-000000000000");
        let other_shard =
            gid(&gid_prefix(UUID, &key("m", 1), &ShardId::new("s10").expect("a name")), token());
        for foreign in [&elsewhere, &other_shard, "citus_0_1_2", &format!("{ours}x"), "shardlift:", ""] {
            assert_eq!(Named::read(UUID, &shard, foreign), None, "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn every_gid_is_found_again_and_no_two_share_a_name(
            ids in prop::collection::vec("[a-z0-9][a-z0-9._-]{0,62}", 2),
            shards in prop::collection::vec("[a-z0-9][a-z0-9._-]{0,62}", 2),
            epoch in any::<u64>(),
            attempt in any::<u32>(),
        ) {
            let token = Token { epoch: Epoch(epoch), attempt: Attempt(attempt) };
            let shards: Vec<_> = shards.iter().map(|name| ShardId::new(name).expect("a name")).collect();
            let prefix = gid_prefix(UUID, &key(&ids[0], 1), &shards[0]);
            let name = gid(&prefix, token);
            prop_assert_eq!(token_of(&prefix, &name), Some(token));
            let named = Named::read(UUID, &shards[0], &name).expect("ours");
            prop_assert!(named.is_of(&key(&ids[0], 1)) && !named.is_of(&key(&ids[0], 2)));
            prop_assert_eq!(named.is_of(&key(&ids[1], 1)), ids[0] == ids[1]);
            prop_assert_eq!(Named::read(UUID, &shards[1], &name).is_some(), shards[0] == shards[1]);
        }
    }
}
