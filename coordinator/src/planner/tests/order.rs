//! The order of random specs, against a second, slower opinion.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use shardlift_domain::failure::ErrorCode;
use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::{Limit, Status, Step};
use shardlift_domain::plan::Plan;
use shardlift_domain::spec::{Kind, Spec};

use super::{World, code_of, data, documents, name, parse, schema};

/// A schema spec and a data spec of each cluster; the others are made of them.
static MOULDS: LazyLock<[Spec; 4]> = LazyLock::new(|| {
    let rules = parse(
        "id: m\nkind: schema\nengine: mongodb\ncluster: chat-docs\nup: [{ create: audit }]\ndown: [{ drop: audit }]\n",
    );
    [schema("m", &[]), data("m", &[]), rules, documents("m", &[])]
});

fn spec(at: usize, mould: usize, depends_on: impl IntoIterator<Item = usize>) -> Spec {
    let id = |at: usize| -> MigrationId { name(&format!("m{at:03}")) };
    let depends_on = depends_on.into_iter().map(id).collect();
    Spec { id: id(at), depends_on, ..MOULDS[mould].clone() }
}

/// Specs in any order of files, whose dependencies point anywhere but to themselves.
fn any_specs() -> impl Strategy<Value = Vec<Spec>> {
    let one = (0..4_usize, prop::collection::btree_set(0..14_usize, 0..4));
    prop::collection::vec(one, 1..14).prop_map(|made| {
        let count = made.len();
        let make = |(at, (mould, needs)): (usize, (usize, BTreeSet<usize>))| {
            spec(at, mould, needs.into_iter().map(|need| need % count).filter(|need| *need != at))
        };
        made.into_iter().enumerate().map(make).collect()
    })
}

/// The same without circles: dependencies point backwards in a hidden order, and the files are shuffled.
fn specs_without_circles() -> impl Strategy<Value = Vec<Spec>> {
    let one = (0..4_usize, prop::collection::btree_set(0..14_usize, 0..4));
    prop::collection::vec(one, 1..14)
        .prop_map(|made| {
            let make = |(at, (mould, needs)): (usize, (usize, BTreeSet<usize>))| {
                spec(at, mould, needs.into_iter().filter(|need| *need < at))
            };
            made.into_iter().enumerate().map(make).collect::<Vec<_>>()
        })
        .prop_shuffle()
}

fn places(plan: &Plan) -> BTreeMap<MigrationId, usize> {
    plan.migrations.iter().enumerate().map(|(at, planned)| (planned.id.clone(), at)).collect()
}

/// All that lies before each id by these edges.
fn closed(
    edges: &BTreeMap<MigrationId, BTreeSet<MigrationId>>,
) -> BTreeMap<MigrationId, BTreeSet<MigrationId>> {
    let mut all = edges.clone();
    loop {
        let mut grew = false;
        for id in edges.keys() {
            let gained: BTreeSet<_> =
                all[id].iter().filter_map(|first| all.get(first)).flatten().cloned().collect();
            let before = all.get_mut(id).expect("the same keys");
            let size = before.len();
            before.extend(gained);
            grew |= before.len() > size;
        }
        if !grew {
            return all;
        }
    }
}

fn named(specs: &[Spec]) -> BTreeMap<MigrationId, BTreeSet<MigrationId>> {
    specs.iter().map(|spec| (spec.id.clone(), spec.depends_on.iter().cloned().collect())).collect()
}

/// Whatever is in the plan stands behind all that it waits for.
fn check_order(specs: &[Spec], plan: &Plan) -> Result<(), TestCaseError> {
    let places = places(plan);
    prop_assert_eq!(places.len(), plan.migrations.len(), "a spec is there twice");
    for planned in &plan.migrations {
        for first in &planned.waits_for {
            let before = places.get(first).is_some_and(|at| *at < places[&planned.id]);
            prop_assert!(before, "{} waits for {}, which does not stand before it", planned.id, first);
        }
        let spec = specs.iter().find(|spec| spec.id == planned.id).expect("of the specs");
        for first in &spec.depends_on {
            prop_assert!(planned.waits_for.contains(first), "{} lost its dependency on {first}", spec.id);
        }
    }
    Ok(())
}

/// Schema before data of the same cluster, except where it is the data that must go first.
fn check_schema_first(specs: &[Spec], plan: &Plan) -> Result<(), TestCaseError> {
    let waits: BTreeMap<MigrationId, BTreeSet<MigrationId>> = plan
        .migrations
        .iter()
        .map(|planned| (planned.id.clone(), planned.waits_for.iter().cloned().collect()))
        .collect();
    let before = closed(&waits);
    for data in specs.iter().filter(|spec| spec.kind() == Kind::Data) {
        let schemas = specs.iter().filter(|spec| spec.kind() == Kind::Schema && spec.cluster == data.cluster);
        for schema in schemas {
            prop_assert!(
                waits[&data.id].contains(&schema.id) || before[&schema.id].contains(&data.id),
                "{} neither waits for {} nor goes before it",
                data.id,
                schema.id
            );
        }
    }
    Ok(())
}

/// What cannot be ordered, with `depends_on` alone; and what may be held back by it, at most.
fn left_out(specs: &[Spec]) -> (BTreeSet<MigrationId>, BTreeSet<MigrationId>) {
    let before = closed(&named(specs));
    let on_circle = |id: &MigrationId| before[id].contains(id);
    let surely: BTreeSet<MigrationId> = specs
        .iter()
        .filter(|spec| on_circle(&spec.id) || before[&spec.id].iter().any(on_circle))
        .map(|spec| spec.id.clone())
        .collect();
    let mut at_most = surely.clone();
    loop {
        let held = |spec: &&Spec| {
            let by_schema = |other: &Spec| {
                spec.kind() == Kind::Data && other.kind() == Kind::Schema && other.cluster == spec.cluster
            };
            specs.iter().any(|other| {
                at_most.contains(&other.id) && (spec.depends_on.contains(&other.id) || by_schema(other))
            })
        };
        let more: Vec<_> = specs
            .iter()
            .filter(|spec| !at_most.contains(&spec.id))
            .filter(held)
            .map(|spec| spec.id.clone())
            .collect();
        if more.is_empty() {
            return (surely, at_most);
        }
        at_most.extend(more);
    }
}

proptest! {
    #[test]
    fn specs_without_circles_are_all_planned_in_order(specs in specs_without_circles()) {
        let plan = World::new().plan(&specs);
        prop_assert_eq!(code_of(&plan), Vec::<ErrorCode>::new());
        prop_assert_eq!(plan.migrations.len(), specs.len());
        check_order(&specs, &plan)?;
        check_schema_first(&specs, &plan)?;
        prop_assert_eq!(World::new().plan(&specs), plan, "the same arguments gave another plan");
    }

    #[test]
    fn nothing_is_lost_but_what_lies_on_a_circle_or_behind_one(specs in any_specs()) {
        let plan = World::new().plan(&specs);
        check_order(&specs, &plan)?;
        let places = places(&plan);
        let lost: BTreeSet<MigrationId> =
            specs.iter().map(|spec| spec.id.clone()).filter(|id| !places.contains_key(id)).collect();
        let (surely, at_most) = left_out(&specs);
        prop_assert!(lost.is_superset(&surely), "ordered what lies on a circle: {lost:?}, not {surely:?}");
        prop_assert!(lost.is_subset(&at_most), "lost more than what a circle holds back: {lost:?}, not {at_most:?}");
        prop_assert_eq!(lost.is_empty(), !code_of(&plan).contains(&ErrorCode::PlanCycle));
        prop_assert_eq!(World::new().plan(&specs), plan, "the same arguments gave another plan");
    }
}

#[test]
fn a_circle_over_several_implied_edges_is_not_made() {
    // Schema of each cluster waits for data of the other: only one of the two implied edges can be kept.
    let specs = [spec(0, 0, [3]), spec(1, 1, []), spec(2, 2, [1]), spec(3, 3, [])];
    let plan = World::new().plan(&specs);
    assert!(plan.findings.is_empty(), "{:?}", plan.findings);
    let order: Vec<_> = plan.migrations.iter().map(|planned| planned.id.as_str()).collect();
    assert_eq!(order, ["m003", "m000", "m001", "m002"]);
}

#[test]
fn five_hundred_specs_are_planned_at_once() {
    // The worst there is: half of them data in a chain, each schema behind a data spec, so that nearly every implied
    // edge has to be judged against a long past.
    let specs: Vec<Spec> = (0..500)
        .map(|at| match at % 2 {
            0 => spec(at, 1, (0..at).step_by(2).take(3)),
            _ => spec(at, 0, [at - 1]),
        })
        .collect();
    let began = Instant::now();
    let plan = World::new().plan(&specs);
    let took = began.elapsed();
    assert_eq!((plan.migrations.len(), plan.findings.len()), (500, 0));
    assert!(took < Duration::from_secs(10), "planning took {took:?}");
}

#[test]
fn a_plan_of_what_goes_under_another_throttle_says_so() {
    let spec = data("0001_a", &[]);
    let mut world = World::new().knows(&spec, Status::Running, true);
    let notes = |world: &World| world.plan(std::slice::from_ref(&spec)).migrations[0].notes.clone();
    assert_eq!(notes(&world), Vec::<String>::new());
    world.known.get_mut(&spec.id).expect("known").throttling.rows_per_second = Limit::Of(50);
    let told = "its throttle was changed: at most 50 rows/s on each shard, at any time; the spec says: no limit of rows/s, at any time";
    assert_eq!(notes(&world), [told]);
}

#[test]
fn rows_that_are_to_be_unique_over_shards_are_collected_last_and_the_plan_tells_the_room_that_takes() {
    let text = "id: m\nkind: data\nengine: postgres\ncluster: chat\nsource: { table: public.messages, where: v < 2 }\n\
                transform: { sql: { v: \"2\" } }\nundo: none\nverify: [ remaining, { unique: { fields: [a] } } ]\n";
    let plan = World::new().plan(&[parse(text)]);
    let planned = &plan.migrations[0];
    assert_eq!(planned.steps.last(), Some(&Step::Collect));
    // 15,000 rows of 150 bytes.
    assert!(planned.notes.iter().any(|note| note.contains("up to about 3 MiB")), "{:?}", planned.notes);
}
