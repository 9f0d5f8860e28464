//! From the text of a spec file to its meaning, or to everything that is wrong with it.
//!
//! Both forms, YAML and annotated SQL, become the same tree and go through the same readers, so they cannot drift.
//! Nothing here knows shards or plans: whether a cluster or a dependency exists is the planner's question.

mod allow;
mod anew;
mod assertion;
mod commands;
mod context;
mod data;
mod fields;
mod json;
mod nearest;
mod on_block;
mod references;
mod rollout;
mod scalars;
mod schema;
mod sql_file;
mod tenants;
mod transform;
mod unique;
mod verify;

#[cfg(test)]
mod atomic_tests;
#[cfg(test)]
mod bad_spec_tests;
#[cfg(test)]
mod good_spec_tests;
#[cfg(test)]
mod robust_tests;

use std::collections::HashMap;
use std::str::FromStr;

use crate::failure::ErrorCode;
use crate::ids::{Checksum, IdError, MigrationId};

use self::context::Context;
use self::fields::Fields;
use self::scalars::{text, word};
use super::canonical::canonical;
use super::problem::{Problem, SpecProblems};
use super::yaml::{self, Broken, Mark, Node, Value};
use super::{Engine, Kind, OnVerifyFailure, Spec, SpecBody, SpecFile};

/// Longest spec file in bytes.
pub const MAX_FILE: usize = 1024 * 1024;
/// Most ids in `depends_on`.
const MAX_DEPENDENCIES: usize = 1000;

/// Reads one spec file. All its problems are told at once, each with its line and column.
pub fn parse(file: &SpecFile) -> Result<Spec, SpecProblems> {
    let mut ctx = Context::default();
    let spec = load(&mut ctx, file).and_then(|root| read(&mut ctx, &root));
    match spec {
        Some(spec) if ctx.is_clean() => Ok(spec),
        _ => Err(SpecProblems::new(&file.name, ctx.into_problems())),
    }
}

/// Reads several spec files that belong together. Tells the problems of all of them, ids that come twice included.
pub fn parse_all(files: &[SpecFile]) -> Result<Vec<Spec>, Vec<SpecProblems>> {
    let mut specs: Vec<Spec> = Vec::new();
    let mut refused = Vec::new();
    let mut owners: HashMap<MigrationId, &str> = HashMap::new();
    for file in files {
        match parse(file) {
            Err(problems) => refused.push(problems),
            Ok(spec) => match owners.insert(spec.id.clone(), &file.name) {
                Some(owner) => refused.push(twice(file, &spec.id, owner)),
                None => specs.push(spec),
            },
        }
    }
    if refused.is_empty() { Ok(specs) } else { Err(refused) }
}

fn twice(file: &SpecFile, id: &MigrationId, owner: &str) -> SpecProblems {
    let mut ctx = Context::default();
    let root = load(&mut ctx, file);
    let at = root.as_ref().and_then(|root| peek(root, "id")).map_or(Mark { line: 1, column: 1 }, |id| id.at);
    let problem = Problem {
        line: at.line,
        column: at.column,
        code: ErrorCode::SpecInvalid,
        message: format!("id {:?} is already the id of {owner}", id.as_str()),
        next: "give every spec an id of its own".into(),
    };
    SpecProblems::new(&file.name, vec![problem])
}

fn load(ctx: &mut Context, file: &SpecFile) -> Option<Node> {
    let top = Mark { line: 1, column: 1 };
    if file.text.len() > MAX_FILE {
        ctx.invalid(top, format!("the file is larger than {} KiB", MAX_FILE / 1024));
        return None;
    }
    // No text column of PostgreSQL holds one, a metadata store among them.
    if let Some(at) = file.text.find('\0') {
        let line = u32::try_from(file.text[..at].matches('\n').count() + 1).unwrap_or(u32::MAX);
        ctx.invalid(Mark { line, column: 1 }, "this line holds a NUL character, which no spec may");
        return None;
    }
    if file.name.contains('\0') {
        ctx.invalid(top, "the name of the file holds a NUL character");
        return None;
    }
    let extension = file.name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref() {
        Some("yaml" | "yml") => match yaml::load(&file.text) {
            Ok(document) => {
                document.faults.into_iter().for_each(|Broken { at, message }| ctx.invalid(at, message));
                Some(document.root)
            }
            Err(Broken { at, message }) => {
                ctx.invalid(at, message);
                None
            }
        },
        Some("sql") => sql_file::load(ctx, &file.text),
        _ => {
            ctx.invalid(top, "the name of a spec file must end in .yaml, .yml or .sql");
            None
        }
    }
}

fn read(ctx: &mut Context, root: &Node) -> Option<Spec> {
    // Which keys fit depends on these two, wherever in the file they stand.
    ctx.kind = peek(root, "kind").and_then(|node| kind(ctx, node));
    ctx.engine = peek(root, "engine").and_then(|node| engine(ctx, node));
    let fields = Fields::open(ctx, root, "")?;
    fields.require(ctx, "kind");
    fields.require(ctx, "engine");
    let id = fields.require(ctx, "id").and_then(|node| name(ctx, node, "id"));
    let cluster = fields.require(ctx, "cluster").and_then(|node| name(ctx, node, "cluster"));
    let depends_on = match fields.get("depends_on") {
        Some(node) => dependencies(ctx, node, id.as_ref()),
        None => Some(Vec::new()),
    };
    let body = match ctx.kind {
        Some(Kind::Schema) => schema::read(ctx, &fields).map(SpecBody::Schema),
        Some(Kind::Data) => data::read(ctx, &fields).map(|data| SpecBody::Data(Box::new(data))),
        None => None,
    };
    let on_verify_failure = match fields.get("on_verify_failure") {
        Some(node) => on_verify_failure(ctx, node),
        None => Some(OnVerifyFailure::default()),
    };
    let rollout = match fields.get("rollout") {
        Some(node) => rollout::read(ctx, node),
        None => Some(Vec::new()),
    };
    let placeholder = Checksum::of(&[]);
    let mut spec = Spec {
        id: id?,
        engine: ctx.engine?,
        cluster: cluster?,
        depends_on: depends_on?,
        body: body?,
        on_verify_failure: on_verify_failure?,
        rollout: rollout?,
        checksum: placeholder,
    };
    fits_together(ctx, &fields, &spec);
    spec.checksum = Checksum::of(canonical(&spec).as_bytes());
    Some(spec)
}

/// Keys that are right each by itself, but not together.
fn fits_together(ctx: &mut Context, fields: &Fields<'_>, spec: &Spec) {
    if spec.on_verify_failure == OnVerifyFailure::Rollback && !spec.undoable() {
        let message = match spec.kind() {
            Kind::Data => {
                "on_verify_failure: rollback needs undo: capture, which keeps what is to be restored"
            }
            Kind::Schema => "on_verify_failure: rollback needs a down, which takes the change back",
        };
        ctx.invalid(fields.place("on_verify_failure"), message);
    }
    if let SpecBody::Schema(schema) = &spec.body
        && schema.lock_deadline.is_some()
    {
        let place = fields.place("lock_deadline");
        if schema.atomic {
            let message = "lock_deadline cannot be had together with `atomic: true`: a vote ends by itself when a shard does \
                           not get its locks";
            ctx.invalid(place, message);
        } else if schema.down.is_empty() {
            ctx.invalid(place, "lock_deadline needs a down, which takes back what other shards have already");
        }
    }
    if spec.is_atomic() && !spec.rollout.is_empty() {
        let message = "rollout cannot be had together with `atomic: true`: all shards decide together, so none goes \
                       before the others; leave one of the two out";
        ctx.invalid(fields.place("rollout"), message);
    }
}

fn on_verify_failure(ctx: &mut Context, node: &Node) -> Option<OnVerifyFailure> {
    match word(ctx, node, "on_verify_failure", &["halt", "rollback"])? {
        "rollback" => Some(OnVerifyFailure::Rollback),
        _ => Some(OnVerifyFailure::Halt),
    }
}

/// The value of a key at the top, before keys are judged.
fn peek<'n>(root: &'n Node, key: &str) -> Option<&'n Node> {
    let Value::Mapping(entries) = &root.value else { return None };
    entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
}

fn kind(ctx: &mut Context, node: &Node) -> Option<Kind> {
    match word(ctx, node, "kind", &["schema", "data"])? {
        "schema" => Some(Kind::Schema),
        _ => Some(Kind::Data),
    }
}

fn engine(ctx: &mut Context, node: &Node) -> Option<Engine> {
    match word(ctx, node, "engine", &["postgres", "mongodb"])? {
        "postgres" => Some(Engine::Postgres),
        _ => Some(Engine::Mongodb),
    }
}

fn name<T: FromStr<Err = IdError>>(ctx: &mut Context, node: &Node, what: &str) -> Option<T> {
    let found = text(ctx, node, what)?;
    match found.parse() {
        Ok(name) => Some(name),
        Err(error) => {
            ctx.invalid(node.at, format!("{what} {:?} is not a name: {}", error.text, error.why));
            None
        }
    }
}

fn dependencies(ctx: &mut Context, node: &Node, own: Option<&MigrationId>) -> Option<Vec<MigrationId>> {
    let Value::Sequence(items) = &node.value else {
        ctx.invalid(node.at, format!("depends_on must be a list of ids, not {}", node.describe()));
        return None;
    };
    if items.len() > MAX_DEPENDENCIES {
        ctx.invalid(node.at, format!("depends_on names more than {MAX_DEPENDENCIES} ids"));
        return None;
    }
    let mut ids: Vec<MigrationId> = Vec::new();
    for item in items {
        let Some(id) = name::<MigrationId>(ctx, item, "an id in depends_on") else { continue };
        if Some(&id) == own {
            ctx.invalid(item.at, "a spec cannot depend on itself");
        } else if ids.contains(&id) {
            ctx.invalid(item.at, format!("depends_on names {:?} twice", id.as_str()));
        } else {
            ids.push(id);
        }
    }
    Some(ids)
}
