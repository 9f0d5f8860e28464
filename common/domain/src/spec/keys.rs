//! Every key that a spec file may hold, and whether this release has a room for it.
//!
//! This table is the only place that knows: the parser refuses what it does not list, and a test holds `docs/spec.md`
//! against it. When a room is built, its keys move from [`Support::Later`] to [`Support::Now`].

use super::{Engine, Kind};

/// Whether a key means something in this release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It is obeyed.
    Now,
    /// It is refused as unsupported, except for values that ask for nothing.
    Later {
        /// Values that say what happens anyway.
        no_op: &'static [&'static str],
    },
}

/// One key of a spec file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The sections above it and its name, such as `source.where`.
    pub path: &'static str,
    /// The only kind of spec that has it. `None`: both.
    pub kind: Option<Kind>,
    /// The only engine that has it. `None`: both.
    pub engine: Option<Engine>,
    /// Whether it is obeyed.
    pub support: Support,
}

impl Key {
    /// `source` in `source.where`; empty at the top.
    pub fn section(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// `where` in `source.where`.
    pub fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }
}

const fn both(path: &'static str) -> Key {
    Key { path, kind: None, engine: None, support: Support::Now }
}

const fn schema(path: &'static str) -> Key {
    Key { kind: Some(Kind::Schema), ..both(path) }
}

const fn data(path: &'static str) -> Key {
    Key { kind: Some(Kind::Data), ..both(path) }
}

const fn postgres(key: Key) -> Key {
    Key { engine: Some(Engine::Postgres), ..key }
}

const fn mongodb(key: Key) -> Key {
    Key { engine: Some(Engine::Mongodb), ..key }
}

const fn later(key: Key, no_op: &'static [&'static str]) -> Key {
    Key { support: Support::Later { no_op }, ..key }
}

/// The table.
pub const KEYS: &[Key] = &[
    both("id"),
    both("kind"),
    both("engine"),
    both("cluster"),
    both("depends_on"),
    schema("up"),
    schema("down"),
    postgres(schema("lock_timeout")),
    postgres(schema("hold_timeout")),
    postgres(schema("lock_deadline")),
    postgres(schema("on_block")),
    postgres(schema("on_block.end")),
    postgres(schema("on_block.end.applications")),
    postgres(schema("on_block.end.users")),
    postgres(schema("on_block.end.younger_than")),
    postgres(schema("on_block.end.written")),
    postgres(schema("atomic")),
    schema("allow"),
    schema("allow.rule"),
    schema("allow.reason"),
    data("source"),
    postgres(data("source.table")),
    mongodb(data("source.collection")),
    data("source.key"),
    data("source.where"),
    postgres(data("source.immutable_key")),
    data("source.tenant"),
    data("transform"),
    postgres(data("transform.sql")),
    mongodb(data("transform.pipeline")),
    data("transform.vrl"),
    data("transform.transformer"),
    data("transform.transformer.name"),
    data("transform.transformer.options"),
    data("batch"),
    data("batch.target"),
    data("batch.min"),
    data("batch.max"),
    data("parallel"),
    data("parallel.ranges"),
    data("parallel.workers"),
    data("throttle"),
    data("throttle.rows_per_second"),
    data("throttle.window"),
    data("throttle.max_replica_lag"),
    data("on_error"),
    data("on_error.quarantine"),
    data("on_error.quarantine.budget"),
    both("on_verify_failure"),
    both("verify"),
    data("verify.remaining"),
    data("verify.count"),
    data("verify.count.tolerance"),
    data("verify.transform"),
    data("verify.transform.rows"),
    data("verify.transform.changed"),
    data("verify.transform.gone"),
    data("verify.digest"),
    data("verify.digest.changed"),
    data("verify.digest.gone"),
    data("verify.references"),
    data("verify.references.fields"),
    data("verify.references.to"),
    data("verify.references.key"),
    data("verify.unique"),
    data("verify.unique.fields"),
    postgres(both("verify.sql")),
    mongodb(both("verify.collection")),
    mongodb(both("verify.where")),
    both("verify.equals"),
    both("undo"),
    both("rollout"),
    both("rollout.shards"),
    both("rollout.percent"),
    both("rollout.soak"),
    both("backup"),
    data("tenants"),
    data("left_out"),
    later(both("hold"), &["none"]),
];

/// The key at this place, if there is one.
pub(super) fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section() == section && key.name() == name)
}
