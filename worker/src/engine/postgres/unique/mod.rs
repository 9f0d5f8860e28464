//! Uniqueness over all shards: a digest of each row, kept in the shard's own tables, in the order of which shards are compared.
//!
//! [`fields`] says how a digest is made, [`collection`] whose the digests are, [`collect`] walks the table, [`answer`] tells of what it
//! has left. No value of a row leaves the shard, only digests that are keyed by the installation's uuid.

mod answer;
mod collect;
mod collection;
mod fields;

use std::time::Duration;

use shardlift_domain::failure::ErrorCode;
use shardlift_domain::spec::Unique;
use shardlift_domain::verdict::Severity;

pub(super) use self::answer::answer;
pub(super) use self::collect::open;
use super::error::OrTrouble;
use super::session::{QUICK, Session, within};
use super::table::Table;
use crate::engine::EngineResult;
use crate::engine::findings::Findings;

/// The longest that the server lets one statement run.
const STATEMENT: Duration = Duration::from_secs(30);

/// Adds what keeps the shard's rows from being compared.
pub(super) async fn look(
    session: &mut Session,
    table: &Table,
    unique: &Unique,
    findings: &mut Findings,
) -> EngineResult<()> {
    let found =
        within(QUICK, fields::of(&mut session.conn, table, unique)).await.or_trouble(&session.shard)?;
    let refused = match found {
        Ok(fields) if fields.lack(session.version()) => {
            "before PostgreSQL 13 a server cannot compare numbers with fractions".to_owned()
        }
        Ok(_) => return Ok(()),
        Err(why) => why,
    };
    let what = format!("verify: unique cannot compare rows by {unique}: {refused}");
    findings.of_spec(Severity::Error, ErrorCode::PrecheckRefused, what, fields::MEND);
    Ok(())
}
