//! What is dangerous in a schema spec: long locks, rewrites, lost data, broken applications.
//!
//! It judges what a spec says, not what a shard holds. A broken rule of severity `Error` refuses the plan unless the spec
//! allows the rule and says why.

mod mongodb;
mod rules;

use crate::spec::{Engine, SchemaChange, SchemaSpec};
use crate::sql::{SqlProblem, dangers};
use crate::verdict::Severity;

/// One rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, as `allow` has it.
    pub name: &'static str,
    /// Whose statements it judges.
    pub engine: Engine,
    /// What becomes of a spec that breaks it.
    pub severity: Severity,
    /// What the statement does.
    pub danger: &'static str,
    /// What to write instead.
    pub instead: &'static str,
}

/// A rule that a statement breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub rule: &'static Rule,
    /// The number of the statement or command in `up`, from 1.
    pub statement: usize,
}

/// All rules of an engine.
pub fn rules(engine: Engine) -> impl Iterator<Item = &'static Rule> {
    rules::RULES.iter().filter(move |rule| rule.engine == engine)
}

/// What `up` breaks, in its order, allowed or not. `down` is not judged: it exists to take back. `server`: the major
/// version of the oldest server in the cluster.
pub fn lint(schema: &SchemaSpec, server: Option<u32>) -> Result<Vec<Broken>, SqlProblem> {
    let (engine, found) = match &schema.up {
        SchemaChange::Sql(statements) => {
            let wanted: Vec<&str> = rules(Engine::Postgres).map(|rule| rule.name).collect();
            (Engine::Postgres, dangers(statements, &wanted, server)?)
        }
        SchemaChange::Commands(commands) => (Engine::Mongodb, mongodb::dangers(commands)),
    };
    let broken = |(statement, name): (usize, String)| {
        rules(engine).find(|rule| rule.name == name).map(|rule| Broken { rule, statement })
    };
    Ok(found.into_iter().filter_map(broken).collect())
}

#[cfg(test)]
mod tests;
