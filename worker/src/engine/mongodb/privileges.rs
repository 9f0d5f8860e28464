//! Whether the user of the dsn may do what the migration needs: asked of the server, not tried.

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};
use shardlift_domain::ErrorCode;
use shardlift_domain::spec::SchemaChange;
use shardlift_domain::verdict::Severity;

use super::commands::{self, Known};
use super::connection::{Connection, OWN_DATABASE};
use super::error;
use crate::engine::findings::Findings;
use crate::engine::{EngineResult, Job};

/// What our own collections need.
const OWN: [&str; 4] = ["find", "insert", "update", "remove"];

/// Adds what is lacking.
pub(super) async fn look(connection: &Connection, job: &Job, findings: &mut Findings) -> EngineResult<()> {
    let asked = doc! { "connectionStatus": 1, "showPrivileges": true };
    let told = connection.admin(asked).await.map_err(error::asking("asking for privileges"))?;
    let held = Privileges::read(&told);
    if !held.enforced {
        return Ok(());
    }
    let mut lacking: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (database, collection, action) in needed(connection, job) {
        if !held.allow(&database, &collection, action) {
            let place = format!("{database}.{collection}");
            let actions = lacking.entry(place).or_default();
            if !actions.contains(&action) {
                actions.push(action);
            }
        }
    }
    if !lacking.is_empty() {
        let places: Vec<String> =
            lacking.iter().map(|(place, actions)| format!("{} on {place}", actions.join(", "))).collect();
        let what = format!("the user of the dsn lacks privileges: {}", places.join("; "));
        let next = format!(
            "grant it the roles readWrite and dbAdmin on {} and readWrite on {OWN_DATABASE}",
            connection.database
        );
        findings.of_spec(Severity::Error, ErrorCode::PrecheckRefused, what, next);
    }
    let searches = matches!(job, Job::Data(job) if job.data.source.pending.is_some());
    if searches && !held.allow_cluster("inprog") {
        let what = "the user of the dsn may not look at open transactions (inprog): the final search cannot wait for them";
        let next =
            "grant it the role clusterMonitor, or be sure that the application writes the new form by then";
        findings.of_shard(Severity::Warning, ErrorCode::PrecheckRefused, what, next);
    }
    let brakes = matches!(job, Job::Data(job) if job.data.max_replica_lag.is_some());
    if brakes && !held.allow_cluster("replSetGetStatus") {
        let what = "the user of the dsn may not see how far secondaries are behind (replSetGetStatus), which \
                    throttle.max_replica_lag needs";
        let next = "grant it the role clusterMonitor, or leave throttle.max_replica_lag out";
        findings.of_spec(Severity::Error, ErrorCode::PrecheckRefused, what, next);
    }
    Ok(())
}

/// Database, collection and action of everything that the migration does.
fn needed(connection: &Connection, job: &Job) -> Vec<(String, String, &'static str)> {
    let here = |collection: &str, action| (connection.database.clone(), collection.to_owned(), action);
    let mut needed: Vec<_> =
        OWN.map(|action| (OWN_DATABASE.to_owned(), "checkpoint".to_owned(), action)).to_vec();
    match job {
        Job::Data(job) => {
            needed.extend(["find", "update"].map(|action| here(&job.data.source.relation, action)));
            needed.extend(job.data.references().map(|wanted| here(&wanted.to, "find")));
        }
        Job::Schema(job) => {
            let parsed = |change: &SchemaChange| commands::parse(change, &connection.database);
            // What cannot be parsed is told by the look at the commands.
            let all = parsed(&job.schema.up).into_iter().chain(parsed(&job.schema.down)).flatten();
            needed.extend(all.map(|command| here(&command.target, action(command.known))));
        }
    }
    needed
}

fn action(command: Known) -> &'static str {
    match command {
        Known::Create => "createCollection",
        Known::CreateIndexes => "createIndex",
        Known::CollMod => "collMod",
        Known::RenameCollection => "renameCollectionSameDB",
        Known::Drop => "dropCollection",
        Known::DropIndexes => "dropIndex",
    }
}

/// What the server says that the user may do.
struct Privileges {
    /// Whether anybody is let in only by name.
    enforced: bool,
    granted: Vec<(Document, Vec<String>)>,
}

impl Privileges {
    fn read(status: &Document) -> Self {
        let list = |name: &str| -> Vec<Bson> {
            let info = status.get_document("authInfo").ok();
            info.and_then(|info| info.get_array(name).ok()).cloned().unwrap_or_default()
        };
        let granted = list("authenticatedUserPrivileges").into_iter().filter_map(|entry| {
            let Bson::Document(entry) = entry else { return None };
            let actions = entry.get_array("actions").ok()?.iter().filter_map(Bson::as_str);
            let actions = actions.map(str::to_owned).collect();
            Some((entry.get_document("resource").ok()?.clone(), actions))
        });
        Self { enforced: !list("authenticatedUsers").is_empty(), granted: granted.collect() }
    }

    fn allow(&self, database: &str, collection: &str, action: &str) -> bool {
        let covers = |resource: &Document| {
            let part = |name: &str, wanted: &str| {
                resource.get_str(name).is_ok_and(|named| named.is_empty() || named == wanted)
            };
            any(resource) || (part("db", database) && part("collection", collection))
        };
        self.some(covers, action)
    }

    fn allow_cluster(&self, action: &str) -> bool {
        self.some(|resource| any(resource) || resource.get_bool("cluster").unwrap_or(false), action)
    }

    fn some(&self, covers: impl Fn(&Document) -> bool, action: &str) -> bool {
        let acts =
            |actions: &[String]| actions.iter().any(|granted| granted == action || granted == "anyAction");
        self.granted.iter().any(|(resource, actions)| covers(resource) && acts(actions))
    }
}

fn any(resource: &Document) -> bool {
    resource.get_bool("anyResource").unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(resource: Document, actions: &[&str]) -> Privileges {
        let user = doc! { "user": "shardlift", "db": "admin" };
        let privilege = doc! { "resource": resource, "actions": actions };
        Privileges::read(&doc! { "authInfo": {
            "authenticatedUsers": [user], "authenticatedUserPrivileges": [privilege],
        } })
    }

    #[test]
    fn a_privilege_covers_its_collection_its_database_or_everything() {
        let one = of(doc! { "db": "chat", "collection": "messages" }, &["find"]);
        assert!(one.enforced && one.allow("chat", "messages", "find"));
        assert!(!one.allow("chat", "messages", "update") && !one.allow("chat", "users", "find"));
        let whole = of(doc! { "db": "chat", "collection": "" }, &["find", "update"]);
        assert!(whole.allow("chat", "users", "update") && !whole.allow("shardlift", "fence", "update"));
        assert!(of(doc! { "anyResource": true }, &["anyAction"]).allow("chat", "users", "collMod"));
    }

    #[test]
    fn privileges_of_the_cluster_are_no_privileges_of_a_collection() {
        let cluster = of(doc! { "cluster": true }, &["inprog", "find"]);
        assert!(cluster.allow_cluster("inprog") && !cluster.allow("chat", "users", "find"));
    }

    #[test]
    fn a_server_without_access_control_names_nobody() {
        assert!(!Privileges::read(&doc! { "authInfo": { "authenticatedUsers": [] } }).enforced);
    }
}
