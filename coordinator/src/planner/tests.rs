//! Plans as text files that change only by a reviewed diff, and the order of random specs.

mod golden;
mod order;
mod render;
mod waves;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use shardlift_domain::facts::{AppliedEntry, RelationFacts, ShardFacts};
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{MigrationId, MigrationKey, ShardId, Version};
use shardlift_domain::migration::{Migration, Rollout, ShardMigration, Status, Step};
use shardlift_domain::plan::Plan;
use shardlift_domain::routing::Directory;
use shardlift_domain::spec::{self, Engine, Spec, SpecBody, SpecFile};
use shardlift_domain::topology::{Cluster, ClusterRules, Topology};
use shardlift_domain::verdict::{Finding, Severity};

use super::{Facts, needs, plan};

fn name<T: std::str::FromStr<Err = shardlift_domain::IdError>>(text: &str) -> T {
    text.parse().expect("a name")
}

/// Two clusters of two shards, as in the demo.
fn topology() -> Topology {
    let cluster = |cluster: &str, engine, shards: [&str; 2]| Cluster {
        name: name(cluster),
        uuid: format!("uuid of {cluster}"),
        engine,
        shards: shards.map(name).to_vec(),
        rules: ClusterRules::default(),
    };
    let clusters = [
        cluster("chat", Engine::Postgres, ["chat-pg-01", "chat-pg-02"]),
        cluster("chat-docs", Engine::Mongodb, ["chat-mg-01", "chat-mg-02"]),
    ];
    Topology {
        revision: 7,
        clusters: clusters.into_iter().map(|cluster| (cluster.name.clone(), cluster)).collect(),
        changes: Vec::new(),
    }
}

/// A schema spec of the PostgreSQL cluster.
fn schema(id: &str, depends_on: &[&str]) -> Spec {
    parse(&format!(
        "id: {id}\nkind: schema\nengine: postgres\ncluster: chat\ndepends_on: [{}]\n\
         up: [\"ALTER TABLE messages ADD COLUMN migrated boolean\"]\ndown: [\"ALTER TABLE messages DROP COLUMN migrated\"]\n",
        depends_on.join(", ")
    ))
}

/// A data spec of the PostgreSQL cluster.
fn data(id: &str, depends_on: &[&str]) -> Spec {
    parse(&format!(
        "id: {id}\nkind: data\nengine: postgres\ncluster: chat\ndepends_on: [{}]\n\
         source: {{ table: messages, where: not migrated }}\ntransform: {{ sql: {{ migrated: \"true\" }} }}\n",
        depends_on.join(", ")
    ))
}

/// A data spec of the MongoDB cluster.
fn documents(id: &str, depends_on: &[&str]) -> Spec {
    parse(&format!(
        "id: {id}\nkind: data\nengine: mongodb\ncluster: chat-docs\ndepends_on: [{}]\n\
         source: {{ collection: messages, where: {{ migrated: {{ $ne: true }} }} }}\n\
         transform: {{ pipeline: [{{ $set: {{ migrated: true }} }}] }}\n",
        depends_on.join(", ")
    ))
}

/// A schema spec of the MongoDB cluster that gives a collection a rule which its documents must fit.
fn rule(id: &str, collection: &str, depends_on: &[&str]) -> Spec {
    parse(&format!(
        "id: {id}\nkind: schema\nengine: mongodb\ncluster: chat-docs\ndepends_on: [{}]\n\
         allow: [{{ rule: strict-validator, reason: meant }}]\n\
         up: [{{ collMod: {collection}, validator: {{ migrated: true }} }}]\n\
         down: [{{ collMod: {collection}, validator: {{}} }}]\n",
        depends_on.join(", ")
    ))
}

fn parse(text: &str) -> Spec {
    let file = SpecFile { name: "spec.yaml".into(), text: text.into() };
    spec::parse(&file).unwrap_or_else(|problems| panic!("{problems}"))
}

/// What planning is told: by default every shard answers, every relation is there, nothing was submitted before.
struct World {
    topology: Topology,
    known: BTreeMap<MigrationId, Migration>,
    silent: BTreeSet<ShardId>,
    lacking: BTreeSet<(ShardId, String)>,
    found: BTreeMap<ShardId, Vec<Finding>>,
    applied: BTreeMap<ShardId, Vec<AppliedEntry>>,
}

impl World {
    fn new() -> Self {
        Self {
            topology: topology(),
            known: BTreeMap::new(),
            silent: BTreeSet::new(),
            lacking: BTreeSet::new(),
            found: BTreeMap::new(),
            applied: BTreeMap::new(),
        }
    }

    /// This spec was submitted before, as planned alone, and is there now.
    fn knows(mut self, spec: &Spec, status: Status, touched: bool) -> Self {
        let migration = self.submitted(spec, status, touched);
        self.known.insert(spec.id.clone(), migration);
        self
    }

    /// The same, and it was decided then that it waits for these.
    fn knows_waiting(mut self, spec: &Spec, waits_for: &[&str]) -> Self {
        let mut migration = self.submitted(spec, Status::Pending, false);
        migration.waits_for = waits_for.iter().map(|id| name(id)).collect();
        self.known.insert(spec.id.clone(), migration);
        self
    }

    fn without(mut self, shard: &str, relation: &str) -> Self {
        self.lacking.insert((name(shard), relation.to_owned()));
        self
    }

    /// A shard finds this when it is looked over; `about`: for which migration.
    fn finds(self, shard: &str, severity: Severity, about: Option<&str>, what: &str) -> Self {
        self.finds_as(ErrorCode::PrecheckRefused, shard, severity, about, what)
    }

    fn finds_as(
        mut self,
        code: ErrorCode,
        shard: &str,
        severity: Severity,
        about: Option<&str>,
        what: &str,
    ) -> Self {
        let mut failure = Failure::new(code, what, "mend it").on_shard(&name(shard));
        failure.place.migration = about.map(|id| MigrationKey { id: name(id), version: Version::FIRST });
        self.found.entry(name(shard)).or_default().push(Finding { severity, failure });
        self
    }

    /// The ledger of the shard holds this spec.
    fn applied(mut self, shard: &str, spec: &Spec) -> Self {
        let migration = MigrationKey { id: spec.id.clone(), version: Version::FIRST };
        let entry = AppliedEntry { migration, checksum: spec.checksum.clone() };
        self.applied.entry(name(shard)).or_default().push(entry);
        self
    }

    fn silent(mut self, shard: &str) -> Self {
        self.silent.insert(name(shard));
        self
    }

    fn submitted(&self, spec: &Spec, status: Status, touched: bool) -> Migration {
        let shards = &self.topology.clusters[&spec.cluster].shards;
        Migration {
            key: MigrationKey { id: spec.id.clone(), version: Version::FIRST },
            kind: spec.kind(),
            engine: spec.engine,
            cluster: spec.cluster.clone(),
            checksum: spec.checksum.clone(),
            relation: spec.relation().map(str::to_owned),
            has_where: matches!(&spec.body, SpecBody::Data(data) if data.source.pending.is_some()),
            atomic: false,
            backup: spec.backs_up(),
            decision: None,
            waits_for: spec.depends_on.clone(),
            status,
            released: status != Status::Pending,
            phase: Step::Precheck.phase(),
            touched,
            stop: None,
            on_verify_failure: spec.on_verify_failure,
            undo: None,
            purge: None,
            throttling: Default::default(),
            author: None,
            approval: None,
            traceparent: None,
            quarantined: BTreeMap::new(),
            rollout: Rollout::default(),
            told: Default::default(),
            unique: spec.compares_shards().then(Default::default),
            shards: shards.iter().map(|shard| (shard.clone(), ShardMigration::fresh(0))).collect(),
        }
    }

    /// Asks for what planning wants to know, and plans.
    fn plan(&self, specs: &[Spec]) -> Plan {
        let mut shards = BTreeMap::new();
        for (shard, request) in needs(specs, &[], &self.topology, &Directory::default(), &self.known) {
            let engine = self.topology.cluster_of(&shard).expect("a shard of the topology").engine;
            let told = if self.silent.contains(&shard) {
                Err(Failure::new(ErrorCode::ShardUnreachable, "the server does not answer", "start it"))
            } else {
                Ok(ShardFacts {
                    shard: shard.clone(),
                    engine,
                    server_version: "15".into(),
                    relations: request.relations.iter().map(|name| self.relation(&shard, name)).collect(),
                    applied: self.applied.get(&shard).cloned().unwrap_or_default(),
                    schema: None,
                    findings: self.found.get(&shard).cloned().unwrap_or_default(),
                })
            };
            shards.insert(shard, told);
        }
        plan(
            specs,
            &Facts {
                topology: &self.topology,
                directory: &Directory::default(),
                known: &self.known,
                tenants: &BTreeMap::new(),
                shards,
            },
        )
    }

    fn relation(&self, shard: &ShardId, relation: &str) -> RelationFacts {
        let exists = !self.lacking.contains(&(shard.clone(), relation.to_owned()));
        let rows = if exists { 1000 * relation.len() as u64 } else { 0 };
        RelationFacts { name: relation.to_owned(), exists, rows, bytes: rows * 100, key: vec!["id".into()] }
    }
}

fn code_of(plan: &Plan) -> Vec<ErrorCode> {
    plan.findings.iter().map(|finding| finding.failure.code).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the root").to_path_buf()
}
