//! Changes of the topology: what each makes, and why each is refused.

use std::collections::BTreeMap;

use serde_json::json;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{ClusterName, ShardId};
use shardlift_domain::routing::{Directory, KeyKind, Routing, Rule, Span};
use shardlift_domain::spec::Engine;
use shardlift_domain::topology::{Cluster, ClusterRules, Joined, Topology};

use super::*;

fn name<T: std::str::FromStr<Err = shardlift_domain::IdError>>(text: &str) -> T {
    text.parse().expect("a name")
}

fn declared(shards: &[&str], rules: ClusterRules) -> Topology {
    let cluster = Cluster {
        name: name("chat"),
        uuid: "uuid".into(),
        engine: Engine::Postgres,
        shards: shards.iter().map(|shard| name(shard)).collect(),
        rules,
    };
    Topology { clusters: [(cluster.name.clone(), cluster)].into(), ..Topology::default() }
}

/// The registry with its commits.
#[derive(Default)]
struct World {
    topology: Topology,
    directory: Directory,
    needed: BTreeMap<ShardId, String>,
    told: serde_json::Value,
}

impl World {
    fn declared(shards: &[&str]) -> Self {
        let mut world = Self::default();
        world.made(Edit::Declare(declared(shards, ClusterRules::default())));
        world
    }

    fn edit(&mut self, change: Edit) -> Result<bool, Failure> {
        let present = Present { topology: &self.topology, directory: &self.directory, needed: &self.needed };
        let Some(edited) = edit(&present, change)? else { return Ok(false) };
        assert_eq!(edited.topology.revision, self.topology.revision + 1, "each change is a new revision");
        self.told = chronicled(&self.topology, &self.directory, &edited);
        self.topology = edited.topology;
        edited.entries.iter().for_each(|entry| self.directory.apply(entry));
        Ok(true)
    }

    fn made(&mut self, change: Edit) {
        assert!(self.edit(change).expect("it is possible"), "nothing was changed");
    }

    fn refused(&mut self, change: Edit) -> String {
        let failure = self.edit(change).expect_err("it was accepted");
        assert_eq!(failure.code, ErrorCode::TopologyRefused, "{failure}");
        failure.message
    }

    fn shards(&self) -> Vec<&str> {
        self.topology.clusters[&chat()].shards.iter().map(|shard| shard.as_str()).collect()
    }
}

fn chat() -> ClusterName {
    name("chat")
}

fn add(shard: &str) -> Edit {
    Edit::Add(chat(), name(shard), Joined::Person)
}

fn hash(shard: &str) -> Routing {
    let spans = vec![Span { first: 0, last: 7, shard: name(shard) }];
    Routing { key: KeyKind::Integer, rule: Rule::Hash { buckets: 8, spans } }
}

fn directory() -> Routing {
    Routing { key: KeyKind::Integer, rule: Rule::Directory { default: None } }
}

#[test]
fn what_was_added_stays_when_the_file_is_read_again_and_what_the_file_dropped_goes() {
    let mut world = World::declared(&["a", "b"]);
    assert!(!world.edit(Edit::Declare(declared(&["a", "b"], ClusterRules::default()))).expect("fine"));
    world.made(add("c"));
    assert!(!world.edit(add("c")).expect("fine"), "again is nothing");
    world.made(Edit::Declare(declared(&["a", "d"], ClusterRules::default())));
    assert_eq!(world.shards(), ["a", "d", "c"]);
    let changes: Vec<_> = world.topology.since(2).map(|change| change.what.as_str()).collect();
    assert_eq!(changes, ["shard d joined cluster chat", "shard b left cluster chat"]);
    world.made(Edit::Declare(declared(&["a", "d", "c"], ClusterRules::default())));
    assert!(world.refused(Edit::Remove(chat(), name("c"))).contains("declared"), "the file has it now");
}

#[test]
fn nothing_that_is_needed_leaves() {
    let mut world = World::declared(&["a"]);
    world.made(add("b"));
    world.made(add("c"));
    assert!(world.refused(Edit::Remove(chat(), name("a"))).contains("file"));
    world.needed.insert(name("b"), "migration m is running there".into());
    assert!(world.refused(Edit::Remove(chat(), name("b"))).contains("migration m"));
    world.needed.insert(name("a"), "migration m is running there".into());
    assert!(world.refused(Edit::Declare(declared(&["z"], ClusterRules::default()))).contains("migration m"));
    world.made(Edit::Route(chat(), Some(hash("c"))));
    assert!(world.refused(Edit::Remove(chat(), name("c"))).contains("rule"));
    world.made(Edit::Route(chat(), Some(directory())));
    world.made(Edit::Entry(chat(), "007".into(), Some(name("c"))));
    assert!(world.refused(Edit::Remove(chat(), name("c"))).contains("1 keys"));
    world.made(Edit::Entry(chat(), "7".into(), None));
    world.made(Edit::Remove(chat(), name("c")));
    assert_eq!(world.shards(), ["a", "b"]);
    assert!(!world.edit(Edit::Remove(chat(), name("c"))).expect("fine"), "again is nothing");
}

#[test]
fn a_rule_of_the_file_is_changed_by_the_file_alone_and_every_rule_is_checked() {
    let mut world = World::declared(&["a", "b"]);
    assert!(world.refused(Edit::Route(chat(), Some(hash("z")))).contains("not a shard"));
    world.made(Edit::Route(chat(), Some(hash("a"))));
    assert!(world.refused(Edit::Entry(chat(), "1".into(), Some(name("a")))).contains("directory"));
    let rules =
        |routing| ClusterRules { routing: Some(routing), routing_declared: true, ..ClusterRules::default() };
    world.made(Edit::Declare(declared(&["a", "b"], rules(hash("b")))));
    assert_eq!(route(&world.topology, &world.directory, &chat(), "5").expect("routed").shard, name("b"));
    assert!(world.refused(Edit::Route(chat(), None)).contains("file"));
    assert!(world.refused(Edit::Declare(declared(&["a"], rules(hash("b"))))).contains("not a shard"));
}

#[test]
fn a_file_that_drops_the_shard_of_an_entry_is_refused() {
    let mut world = World::declared(&["a", "b"]);
    world.made(Edit::Route(chat(), Some(directory())));
    world.made(Edit::Entry(chat(), "1".into(), Some(name("b"))));
    assert!(world.refused(Edit::Declare(declared(&["a"], ClusterRules::default()))).contains("\"1\""));
    world.made(Edit::Declare(Topology::default()));
    assert_eq!(world.directory, Directory::default(), "entries go with their cluster");
}

#[test]
fn a_key_without_a_rule_or_entry_is_told_with_what_to_do() {
    let mut world = World::declared(&["a"]);
    let lost = |world: &World, key: &str| {
        let failure = route(&world.topology, &world.directory, &chat(), key).expect_err("it was routed");
        assert_eq!(failure.code, ErrorCode::RoutingUnroutable);
        failure.message
    };
    assert!(lost(&world, "1").contains("no routing rule"));
    world.made(Edit::Route(chat(), Some(directory())));
    assert!(lost(&world, "1").contains("no entry"));
    assert!(lost(&world, "x").contains("whole number"));
}

#[test]
fn only_announced_shards_of_a_willing_cluster_and_the_right_engine_join() {
    use shardlift_domain::facts::ShardHello;
    let hello = |shard: &str, cluster: &str, engine| ShardHello {
        shard: name(shard),
        cluster: name(cluster),
        engine,
        fence: None,
        server_version: None,
        problem: None,
        alarm: None,
    };
    let announced = [
        hello("a", "chat", Engine::Postgres),
        hello("new", "chat", Engine::Postgres),
        hello("docs", "chat", Engine::Mongodb),
        hello("other", "unknown", Engine::Postgres),
    ];
    let mut topology = declared(&["a"], ClusterRules::default());
    assert_eq!(discovered(&topology, &announced), []);
    topology.clusters.get_mut(&chat()).expect("there").rules.discover = true;
    assert_eq!(discovered(&topology, &announced), [Edit::Add(chat(), name("new"), Joined::Worker)]);
}

#[test]
fn drift_is_laid_side_by_side_by_group() {
    let digests: BTreeMap<ShardId, String> =
        [("a", "x"), ("b", "y"), ("c", "x")].map(|(shard, digest)| (name(shard), digest.to_owned())).into();
    let lines = [
        (name("a"), vec!["column t.id: bigint".to_owned(), "column t.x: text".to_owned()]),
        (
            name("b"),
            vec![
                "column t.id: bigint".to_owned(),
                "column t.x: integer".to_owned(),
                "index t_x: …".to_owned(),
            ],
        ),
    ];
    let drift = compare(&digests, &lines.into());
    assert_eq!(drift.groups.iter().map(|group| group.shards.len()).collect::<Vec<_>>(), [2, 1]);
    let told: Vec<_> = drift.differences.iter().map(|one| (one.object.as_str(), one.sides.clone())).collect();
    let side = |text: &str| Some(text.to_owned());
    assert_eq!(
        told,
        [("column t.x", vec![side("text"), side("integer")]), ("index t_x", vec![None, side("…")])]
    );
}

#[test]
fn the_history_tells_what_was_before_and_what_is_now() {
    let mut world = World::declared(&["a", "b"]);
    let first = &world.told["clusters"]["chat"];
    assert_eq!((&first["before"], &first["joined"]), (&json!(null), &json!(["a", "b"])));
    world.made(add("c"));
    let told = &world.told;
    assert_eq!(told["what"], json!(["shard c joined cluster chat"]));
    assert_eq!((&told["before"]["revision"], &told["revision"]), (&json!(1), &json!(2)));
    let chat_now = &told["clusters"]["chat"];
    assert_eq!((&chat_now["before"]["shards"], &chat_now["after"]["shards"]), (&json!(2), &json!(3)));
    assert_eq!((&chat_now["joined"], &chat_now["left"]), (&json!(["c"]), &json!([])));
    world.made(Edit::Route(chat(), Some(directory())));
    let routing = |side: &str| world.told["clusters"]["chat"][side]["routing"].is_null();
    assert!(routing("before") && !routing("after"), "{:#}", world.told);
    world.made(Edit::Entry(chat(), "7".into(), Some(name("c"))));
    world.made(Edit::Entry(chat(), "7".into(), Some(name("a"))));
    let moved = json!([{ "cluster": "chat", "key": "7", "before": "c", "after": "a" }]);
    assert_eq!((&world.told["entries"], &world.told["clusters"]), (&moved, &json!({})));
}
