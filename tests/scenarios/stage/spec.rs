//! Spec files as a user would write them, for the table or collection `items`.

use std::path::Path;

use tempfile::TempDir;

use super::{Engine, Form};

/// The cluster of the PostgreSQL shards.
pub(crate) const POSTGRES: &str = "items";
/// The cluster of the MongoDB shards.
pub(crate) const MONGODB: &str = "items-docs";

/// A data spec that adds 1 to `applied` and turns `migrated` true: applying it twice is seen.
#[derive(Debug, Clone)]
pub(crate) struct ItemsSpec {
    id: String,
    engine: Engine,
    form: Form,
    transform: Option<String>,
    batch: String,
    parallel: String,
    throttle: Vec<String>,
    depends_on: Vec<String>,
    verify: String,
    on_error: String,
}

impl ItemsSpec {
    /// Small batches, four ranges of which two run at once.
    pub(crate) fn new(id: &str, engine: Engine, form: Form) -> Self {
        // Without `where` the application inserts and deletes while the count is taken.
        let verify = match form {
            Form::WithWhere => "[remaining, { count: { tolerance: 0.5 } }]",
            Form::WithoutWhere => "[{ count: { tolerance: 0.5 } }]",
        };
        Self {
            id: id.to_owned(),
            engine,
            form,
            transform: None,
            batch: "{ target: 100ms, min: 50, max: 200 }".to_owned(),
            parallel: "{ ranges: 4, workers: 2 }".to_owned(),
            throttle: Vec::new(),
            depends_on: Vec::new(),
            verify: verify.to_owned(),
            on_error: "fail".to_owned(),
        }
    }

    /// The text under `transform:`, instead of the counting one.
    pub(crate) fn transform(mut self, yaml: &str) -> Self {
        self.transform = Some(yaml.to_owned());
        self
    }

    /// The value of `batch`.
    pub(crate) fn batch(mut self, yaml: &str) -> Self {
        self.batch = yaml.to_owned();
        self
    }

    /// The value of `parallel`.
    pub(crate) fn parallel(mut self, yaml: &str) -> Self {
        self.parallel = yaml.to_owned();
        self
    }

    /// Slows it down, so that a fault hits it in the middle.
    pub(crate) fn rows_per_second(mut self, rows: u32) -> Self {
        self.throttle.push(format!("rows_per_second: {rows}"));
        self
    }

    /// How far replicas may be behind.
    pub(crate) fn max_replica_lag(mut self, bound: &str) -> Self {
        self.throttle.push(format!("max_replica_lag: {bound}"));
        self
    }

    /// What must be completed before.
    pub(crate) fn depends_on(mut self, id: &str) -> Self {
        self.depends_on.push(id.to_owned());
        self
    }

    /// The value of `verify`.
    pub(crate) fn verify(mut self, yaml: &str) -> Self {
        self.verify = yaml.to_owned();
        self
    }

    /// The value of `on_error`.
    pub(crate) fn on_error(mut self, yaml: &str) -> Self {
        self.on_error = yaml.to_owned();
        self
    }

    /// The file.
    pub(crate) fn text(&self) -> String {
        let (cluster, relation) = match self.engine {
            Engine::Postgres => (POSTGRES, "table: public.items"),
            Engine::Mongodb => (MONGODB, "collection: items"),
        };
        let scope = match (self.engine, self.form) {
            (Engine::Postgres, Form::WithWhere) => "where: migrated = false",
            (Engine::Mongodb, Form::WithWhere) => "where: { migrated: false }",
            (Engine::Postgres, Form::WithoutWhere) => "immutable_key: true",
            (Engine::Mongodb, Form::WithoutWhere) => "",
        };
        let transform = self.transform.as_deref().unwrap_or(match self.engine {
            Engine::Postgres => "sql: { applied: applied + 1, migrated: \"true\" }",
            Engine::Mongodb => "pipeline: [{ $set: { applied: { $add: [$applied, 1] }, migrated: true } }]",
        });
        let throttle = match self.throttle.as_slice() {
            [] => String::new(),
            some => format!("throttle: {{ {} }}\n", some.join(", ")),
        };
        format!(
            "id: {}\nkind: data\nengine: {}\ncluster: {cluster}\ndepends_on: [{}]\nsource:\n  {relation}\n  {scope}\n\
             transform:\n  {transform}\nbatch: {}\nparallel: {}\n{throttle}on_error: {}\nverify: {}\n",
            self.id,
            self.engine.as_str(),
            self.depends_on.join(", "),
            self.batch,
            self.parallel,
            self.on_error,
            self.verify
        )
    }
}

/// A directory of spec files.
#[derive(Debug)]
pub(crate) struct Specs {
    directory: TempDir,
}

impl Specs {
    /// One file for each text, in this order.
    pub(crate) fn of<T: AsRef<str>>(texts: &[T]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (number, text) in texts.iter().enumerate() {
            std::fs::write(directory.path().join(format!("{number:03}.yaml")), text.as_ref()).unwrap();
        }
        Self { directory }
    }

    /// An empty directory that the scenario fills.
    pub(crate) fn empty() -> Self {
        Self::of::<&str>(&[])
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The directory, as an argument.
    pub(crate) fn as_str(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }
}

/// The counting transform as a program that runs in the worker.
pub(crate) const VRL: &str = "vrl: |\n    .applied = int!(.applied) + 1\n    .migrated = true";
