//! What becomes of a spec whose id may have been submitted before (promise P4).

use std::collections::BTreeMap;

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationId, Version};
use shardlift_domain::migration::{Migration, Status};
use shardlift_domain::plan::Disposition;
use shardlift_domain::spec::Spec;

/// The disposition and the version, or why the id is taken.
pub(super) fn of(
    spec: &Spec,
    known: &BTreeMap<MigrationId, Migration>,
) -> Result<(Disposition, Version), Failure> {
    let Some(known) = known.get(&spec.id) else { return Ok((Disposition::New, Version::FIRST)) };
    if reusable(known) {
        return Ok((Disposition::NextVersion, known.key.version.next()));
    }
    if known.checksum == spec.checksum {
        return Ok((Disposition::Known { status: known.status }, known.key.version));
    }
    Err(Failure::new(
        ErrorCode::SpecConflict,
        format!(
            "{} was submitted before with another content (checksum {}, now {}) and is {}",
            spec.id,
            short(known.checksum.as_str()),
            short(spec.checksum.as_str()),
            known.status
        ),
        "give the changed spec a new id; the same id is possible only after a rollback, or a cancel before any change",
    )
    .in_migration(&known.key))
}

/// Whether a next version of the id may be submitted.
pub(crate) fn reusable(known: &Migration) -> bool {
    known.status == Status::RolledBack || (known.status == Status::Cancelled && !known.touched)
}

fn short(checksum: &str) -> &str {
    checksum.get(..12).unwrap_or(checksum)
}
