//! Uniqueness over all shards: a digest of each document, kept in Shardlift's own database, in the order of which shards are
//! compared.
//!
//! [`fields`] makes digests, in the worker, since the server cannot; [`collection`] says whose they are, [`collect`] walks the
//! documents, [`answer`] tells of what it has left. No value leaves the shard, only digests that are keyed by the installation's
//! uuid.
//!
//! ```text
//! collecting  _id {db, migration, version}   collection: which digests are its own, epoch, attempt, session, form, last: {v: key} or null,
//!                                            digests, done, dropped: collections whose digests are to be removed
//! collected   _id {c: collection, d: digest, n: which check, k: key}
//! ```

mod answer;
mod collect;
mod collection;
mod fields;

use shardlift_domain::ErrorCode;
use shardlift_domain::spec::Unique;
use shardlift_domain::verdict::Severity;

pub(super) use self::answer::answer;
pub(super) use self::collect::open;
use super::connection::Connection;
use super::inspect;
use crate::engine::EngineResult;
use crate::engine::findings::Findings;

/// Adds what keeps the shard's documents from being compared.
pub(super) async fn look(
    connection: &Connection,
    name: &str,
    unique: &Unique,
    findings: &mut Findings,
) -> EngineResult<()> {
    let there = inspect::collection(connection, name).await?;
    let options = there.as_ref().and_then(|there| there.get_document("options").ok());
    let collation = options.and_then(|options| options.get_document("collation").ok());
    if collation.is_some_and(|collation| collation.get_str("locale").ok() != Some("simple")) {
        let what = format!(
            "verify: unique cannot compare documents by {unique}: {name} has a collation, which takes texts that differ for equal"
        );
        findings.of_spec(Severity::Error, ErrorCode::PrecheckRefused, what, "leave the check out");
    }
    Ok(())
}
