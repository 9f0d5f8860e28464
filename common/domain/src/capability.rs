//! What a worker can do, and what a spec needs: words, so that releases can be mixed while an installation is upgraded.

use std::collections::BTreeSet;
use std::fmt;

use crate::migration::Step;
use crate::spec::{Backup, Spec, SpecBody, Transform, Undo};

/// Splitting a running range, and going on at another rate.
pub const SHARE: &str = "share";
/// Keeping before-images, and taking a migration back.
pub const UNDO: &str = "undo";
/// Setting rows aside that cannot be changed.
pub const QUARANTINE: &str = "quarantine";
/// Reading a spec that has a rollout. Workers have nothing to do with waves, but an older one refuses the key.
pub const ROLLOUT: &str = "rollout";
/// Questions of the user's own in `verify`.
pub const ASSERT: &str = "verify.assert";
/// Preparing a schema change, and committing or rolling back what was prepared.
pub const ATOMIC: &str = "atomic";
/// Evaluating the transform anew on the before-images: as a check of `verify`, and for `mismatches`.
pub const ANEW: &str = "verify.transform";
/// Comparing rows by the digests of what was written: as a check of `verify`, and for `mismatches`.
pub const DIGEST: &str = "verify.digest";
/// Reading a spec some of whose tenants have opted out.
pub const LEFT_OUT: &str = "tenants.left-out";
/// Checking references in `verify`.
pub const REFERENCES: &str = "verify.references";
/// Removing before-images that are given up.
pub const PURGE: &str = "purge";
/// Saving a table or collection before it changes, and restoring it.
pub const BACKUP: &str = "backup";
/// Trying a transform on a sample, in transactions that are rolled back.
pub const REHEARSE: &str = "rehearse";
/// Reading a spec with a deadline for its locks. Workers have nothing to do with it, but an older one refuses the key.
pub const LOCK_DEADLINE: &str = "lock_deadline";
/// Ending sessions that keep a schema change from its locks.
pub const ON_BLOCK: &str = "on_block";
/// Braking while replicas of the shard are behind.
pub const REPLICA_LAG: &str = "throttle.max_replica_lag";
/// Keeping what verification finds different, and repairing it.
pub const REPAIR: &str = "repair";
/// Collecting digests, so that rows of all shards can be compared.
pub const UNIQUE: &str = "verify.unique";
/// Walking under another throttle than the spec's, also from the next batch on.
pub const THROTTLE: &str = "throttle";
/// The words that are not the name of a transformer.
const WORDS: [&str; 24] = [
    DIGEST,
    UNIQUE,
    THROTTLE,
    LEFT_OUT,
    BACKUP,
    SHARE,
    UNDO,
    QUARANTINE,
    ROLLOUT,
    ASSERT,
    ATOMIC,
    ANEW,
    PURGE,
    REHEARSE,
    LOCK_DEADLINE,
    REPAIR,
    REFERENCES,
    REPLICA_LAG,
    ON_BLOCK,
    "schema",
    "data",
    "transform.sql",
    "transform.pipeline",
    "transform.vrl",
];
/// What the release of protocol 1 could do: it had no words for it.
const FIRST: [&str; 8] = [
    "schema",
    "data",
    "transform.sql",
    "transform.pipeline",
    "transform.vrl",
    "transformer.message",
    "transformer.tenant",
    "transformer.channel",
];

/// A set of such words. A word that this release does not know is kept: it harms nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities(BTreeSet<String>);

impl Capabilities {
    /// What a worker of protocol 1 can do.
    pub fn of_the_first_protocol() -> Self {
        FIRST.into_iter().map(str::to_owned).collect()
    }

    /// What a worker of this release can do with these transformers compiled in.
    pub fn of_this_release<'a>(transformers: impl IntoIterator<Item = &'a str>) -> Self {
        let transformers = transformers.into_iter().map(transformer);
        WORDS.into_iter().map(str::to_owned).chain(transformers).collect()
    }

    /// What a worker must be able to do to run this step of this spec.
    pub fn of_step(spec: &Spec, step: Step) -> Self {
        let needed = Self::needed(spec);
        if step == Step::Undo { needed.and(UNDO) } else { needed }
    }

    /// What a worker must be able to do to run any step of this spec that a plan has.
    pub fn needed(spec: &Spec) -> Self {
        let mut needed: Self = match &spec.body {
            SpecBody::Schema(schema) => {
                let deadline = schema.lock_deadline.map(|_| LOCK_DEADLINE);
                let ends = schema.on_block.as_ref().map(|_| ON_BLOCK);
                let words =
                    ["schema"].into_iter().chain(schema.atomic.then_some(ATOMIC)).chain(deadline).chain(ends);
                words.map(str::to_owned).collect()
            }
            SpecBody::Data(data) => {
                let transform = match &data.transform {
                    Transform::Sql(_) => "transform.sql".to_owned(),
                    Transform::Pipeline(_) => "transform.pipeline".to_owned(),
                    Transform::Vrl(_) => "transform.vrl".to_owned(),
                    Transform::Named { name, .. } => transformer(name),
                };
                let undo = (data.undo == Undo::Capture).then(|| UNDO.to_owned());
                let quarantine = data.on_error.budget().map(|_| QUARANTINE.to_owned());
                let anew = data.anew().map(|_| ANEW.to_owned());
                let digest = data.digest().map(|_| DIGEST.to_owned());
                let backup = (data.backup == Backup::Table).then(|| BACKUP.to_owned());
                let references = data.references().next().map(|_| REFERENCES.to_owned());
                let words = ["data".to_owned(), transform].into_iter().chain(undo).chain(quarantine);
                let lag = data.max_replica_lag.map(|_| REPLICA_LAG.to_owned());
                let unique = data.unique().next().map(|_| UNIQUE.to_owned());
                let words = words.chain(anew).chain(digest).chain(references).chain(unique);
                words.chain(backup).chain(lag).collect()
            }
        };
        if !spec.rollout.is_empty() {
            needed.0.insert(ROLLOUT.to_owned());
        }
        if spec.tenants().is_some_and(|tenants| !tenants.left_out.is_empty()) {
            needed.0.insert(LEFT_OUT.to_owned());
        }
        if !spec.assertions().is_empty() {
            needed.0.insert(ASSERT.to_owned());
        }
        needed
    }

    /// These and one more.
    pub fn and(mut self, word: &str) -> Self {
        self.0.insert(word.to_owned());
        self
    }

    /// Whether the word is there.
    pub fn has(&self, word: &str) -> bool {
        self.0.contains(word)
    }

    /// Whether everything that is needed is there.
    pub fn cover(&self, needed: &Capabilities) -> bool {
        needed.0.is_subset(&self.0)
    }

    /// The words, in order.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

fn transformer(name: &str) -> String {
    format!("transformer.{name}")
}

impl FromIterator<String> for Capabilities {
    fn from_iter<I: IntoIterator<Item = String>>(words: I) -> Self {
        Self(words.into_iter().collect())
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{SpecFile, parse};

    fn spec(transform: &str) -> Spec {
        let text = format!(
            "id: m\nkind: data\nengine: postgres\ncluster: c\nsource: {{ table: t, where: not done }}\ntransform: {transform}\n"
        );
        parse(&SpecFile { name: "m.yaml".into(), text }).expect("a good spec")
    }

    #[test]
    fn a_worker_without_the_transformer_does_not_cover_the_spec() {
        let needed = Capabilities::needed(&spec("{ transformer: { name: yours } }"));
        assert_eq!(needed.to_string(), "data, transformer.yours");
        assert!(!Capabilities::of_this_release(["message"]).cover(&needed));
        assert!(Capabilities::of_this_release(["message", "yours"]).cover(&needed));
    }

    #[test]
    fn the_first_release_does_what_it_could() {
        let first = Capabilities::of_the_first_protocol();
        assert!(first.cover(&Capabilities::needed(&spec("{ sql: { done: \"true\" } }"))));
        assert!(first.cover(&Capabilities::needed(&spec("{ transformer: { name: tenant } }"))));
        assert!(!first.has(SHARE));
    }
}
