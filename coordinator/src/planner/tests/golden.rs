//! One plan per file in `tests/golden`. `SHARDLIFT_BLESS=1 cargo test -p shardlift-coordinator golden` writes them anew.

use std::fs;
use std::path::Path;

use shardlift_domain::failure::ErrorCode;
use shardlift_domain::migration::Status;
use shardlift_domain::plan::{Disposition, Plan};
use shardlift_domain::spec::{self, Spec, SpecFile};
use shardlift_domain::verdict::Severity;

use super::render::render;
use super::{World, code_of, data, documents, name, parse, root, rule, schema};

/// Compares byte for byte.
#[allow(clippy::disallowed_methods, reason = "a test may be told by its caller to write the files anew")]
pub(super) fn golden(case: &str, plan: &Plan) {
    let path = root().join("tests/golden").join(format!("plan_{case}.txt"));
    let text = render(plan);
    if std::env::var_os("SHARDLIFT_BLESS").is_some() {
        fs::write(&path, &text).expect("the file can be written");
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == wanted,
        "{} differs; if the new plan is right, bless it (SHARDLIFT_BLESS=1).\n--- wanted\n{wanted}\n--- got\n{text}",
        path.display()
    );
}

/// The example library, in the order in which the client sends it.
fn library() -> Vec<Spec> {
    let mut files = Vec::new();
    for folder in ["data/mongodb", "data/postgres", "schema/mongodb", "schema/postgres"] {
        files.extend(specs_in(&root().join("migrations").join(folder)));
    }
    spec::parse_all(&files).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn specs_in(folder: &Path) -> Vec<SpecFile> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    let file = |path: &Path| SpecFile {
        name: path.file_name().expect("a file").to_string_lossy().into_owned(),
        text: fs::read_to_string(path).expect("readable"),
    };
    paths.iter().map(|path| file(path)).collect()
}

#[test]
fn the_example_library() {
    let plan = World::new().plan(&library());
    assert_eq!((plan.migrations.len(), plan.submittable()), (23, true));
    golden("example_library", &plan);
}

#[test]
fn the_example_library_a_second_time_adds_nothing_and_asks_nobody() {
    let mut world = World::new();
    let first = world.plan(&library());
    for planned in &first.migrations {
        let specs = library();
        let spec = specs.iter().find(|spec| spec.id == planned.id).expect("of the library");
        let mut stored = world.submitted(spec, Status::Completed, true);
        stored.waits_for.clone_from(&planned.waits_for);
        world.known.insert(spec.id.clone(), stored);
    }
    for shard in ["chat-pg-01", "chat-mg-01"] {
        world = world.silent(shard);
    }
    let again = world.plan(&library());
    assert!(again.submittable() && again.findings.is_empty());
    let known = Disposition::Known { status: Status::Completed };
    assert!(again.migrations.iter().all(|planned| planned.disposition == known));
    let order = |plan: &Plan| plan.migrations.iter().map(|planned| planned.id.clone()).collect::<Vec<_>>();
    assert_eq!(order(&again), order(&first), "the order of the first time is kept");
}

#[test]
fn a_dependency_across_engines() {
    let specs = [documents("b_documents", &["a_rows"]), data("a_rows", &[])];
    golden("across_engines", &World::new().plan(&specs));
}

#[test]
fn schema_goes_before_data_without_a_dependency() {
    let specs = [data("a_data", &[]), documents("a_documents", &[]), schema("z_schema", &[])];
    golden("schema_before_data", &World::new().plan(&specs));
}

#[test]
fn expand_backfill_contract_is_one_plan() {
    let specs =
        [schema("c_contract", &["b_backfill"]), data("b_backfill", &["a_expand"]), schema("a_expand", &[])];
    let plan = World::new().plan(&specs);
    assert!(plan.findings.is_empty(), "schema that waits for data is no circle: {:?}", plan.findings);
    golden("expand_backfill_contract", &plan);
}

#[test]
fn an_atomic_change_says_how_long_locks_are_held() {
    let spec = parse(
        "id: a_schema\nkind: schema\nengine: postgres\ncluster: chat\natomic: true\n\
         up: [\"ALTER TABLE messages ADD COLUMN migrated boolean\"]\n\
         down: [\"ALTER TABLE messages DROP COLUMN migrated\"]\n",
    );
    golden("atomic", &World::new().plan(&[spec]));
}

#[test]
fn a_change_that_may_end_sessions_says_whose() {
    let spec = |on_block: &str| {
        parse(&format!(
            "id: a\nkind: schema\nengine: postgres\ncluster: chat\nup: [\"DROP VIEW v\"]\ndown: [SELECT 1]\n{on_block}"
        ))
    };
    let notes = |on_block| World::new().plan(&[spec(on_block)]).migrations[0].notes.join("\n");
    let told =
        notes("on_block: { end: { applications: [reports], users: [analyst, bot], younger_than: 10m } }");
    assert!(told.contains("ends sessions of reports (user analyst or bot) that are in the way"), "{told}");
    assert!(told.contains("younger than 600s and has written nothing"), "{told}");
    assert!(!notes("").contains("ends sessions"));
}

#[test]
fn a_circle_is_told_with_its_members_and_only_those() {
    let specs = [
        schema("a", &["c"]),
        data("b", &["a"]),
        data("c", &["b"]),
        data("behind", &["c"]),
        documents("x", &["y"]),
        documents("y", &["x"]),
        documents("free", &[]),
    ];
    golden("circles", &World::new().plan(&specs));
}

#[test]
fn a_dependency_that_nobody_knows() {
    golden("missing_dependency", &World::new().plan(&[data("a", &["nowhere"]), data("b", &[])]));
}

#[test]
fn a_cluster_that_nobody_declared() {
    let spec = parse(
        "id: a\nkind: schema\nengine: postgres\ncluster: billing\nup: [\"ALTER TABLE t ADD COLUMN c int\"]\n",
    );
    golden("unknown_cluster", &World::new().plan(&[spec]));
}

#[test]
fn a_spec_for_the_other_engine() {
    let spec = parse(
        "id: a\nkind: schema\nengine: postgres\ncluster: chat-docs\nup: [\"ALTER TABLE t ADD COLUMN c int\"]\n",
    );
    golden("engine_mismatch", &World::new().plan(&[spec]));
}

#[test]
fn a_shard_that_cannot_be_asked_is_never_left_out() {
    let specs = [data("a", &[]), data("b", &[]), documents("c", &[])];
    golden("unreachable_shard", &World::new().silent("chat-pg-02").plan(&specs));
}

#[test]
fn the_same_content_again_is_known() {
    let spec = data("a", &[]);
    golden("known", &World::new().knows(&spec, Status::Running, true).plan(&[spec]));
}

#[test]
fn another_content_under_the_same_id_is_a_conflict() {
    let (before, mut after) = (data("a", &[]), data("a", &["b"]));
    after.checksum =
        parse("id: a\nkind: schema\nengine: postgres\ncluster: chat\nup: [\"DROP TABLE t\"]\n").checksum;
    let world = World::new().knows(&before, Status::Completed, true);
    let plan = world.plan(&[after, data("b", &[])]);
    assert_eq!(code_of(&plan), [ErrorCode::SpecConflict]);
    let message = &plan.findings[0].failure.message;
    assert!(message.contains("completed") && message.contains(&before.checksum.as_str()[..12]), "{message}");
}

#[test]
fn which_ids_may_be_used_again() {
    let (before, after) = (data("a", &[]), data("a", &["b"]));
    let table = [
        (Status::Pending, false, Err(ErrorCode::SpecConflict)),
        (Status::Running, true, Err(ErrorCode::SpecConflict)),
        (Status::Paused, true, Err(ErrorCode::SpecConflict)),
        (Status::Completed, true, Err(ErrorCode::SpecConflict)),
        (Status::Failed, true, Err(ErrorCode::SpecConflict)),
        (Status::Failed, false, Err(ErrorCode::SpecConflict)),
        (Status::Cancelled, true, Err(ErrorCode::SpecConflict)),
        (Status::Cancelled, false, Ok(2)),
        (Status::RollingBack, true, Err(ErrorCode::SpecConflict)),
        (Status::RolledBack, true, Ok(2)),
    ];
    for (status, touched, wanted) in table {
        let world = World::new().knows(&before, status, touched);
        let plan = world.plan(&[after.clone(), data("b", &[])]);
        let got = match plan.migrations.iter().find(|planned| planned.id == after.id) {
            Some(planned) => {
                assert_eq!(planned.disposition, Disposition::NextVersion, "{status} {touched}");
                Ok(planned.version.0)
            }
            None => Err(plan.findings[0].failure.code),
        };
        assert_eq!(got, wanted, "{status}, touched: {touched}");
    }
}

#[test]
fn an_id_that_was_cancelled_before_any_change_gets_its_next_version() {
    let spec = data("a", &[]);
    golden("next_version", &World::new().knows(&spec, Status::Cancelled, false).plan(&[spec]));
}

#[test]
fn a_missing_table_is_an_error_unless_a_schema_migration_goes_before() {
    let world = || World::new().without("chat-pg-02", "messages").without("chat-mg-01", "messages");
    golden("missing_table", &world().plan(&[data("a", &[]), documents("b", &["a"])]));
    golden("missing_table_created_before", &world().plan(&[data("b", &[]), schema("a", &[])]));
}

#[test]
fn what_may_create_a_missing_table_is_of_the_same_cluster_and_still_to_be_done() {
    let lacking = || World::new().without("chat-mg-01", "messages").without("chat-pg-01", "messages");
    let severity = |plan: Plan| plan.findings.iter().map(|finding| finding.severity).max();
    let other = lacking().plan(&[schema("a", &[]), documents("b", &["a"])]);
    assert_eq!(
        severity(other),
        Some(Severity::Error),
        "a schema change of the other cluster creates nothing here"
    );
    let (creates, uses) = (schema("a", &[]), data("b", &["a"]));
    let done = lacking().knows(&creates, Status::Completed, true);
    assert_eq!(
        severity(done.plan(&[creates.clone(), uses.clone()])),
        Some(Severity::Error),
        "it was done long ago"
    );
    let waits = lacking().knows(&creates, Status::Pending, false);
    assert_eq!(severity(waits.plan(&[uses])), Some(Severity::Note), "it is submitted and still to come");
}

#[test]
fn a_dependency_that_was_given_up_is_a_warning() {
    let given_up = schema("a", &[]);
    let world = World::new().knows(&given_up, Status::Cancelled, true);
    golden("given_up_dependency", &world.plan(&[given_up, data("b", &["a"]), data("c", &[])]));
}

#[test]
fn a_circle_that_closes_over_what_was_submitted_before_is_told() {
    // b waits for a, by an edge that was implied then; a was cancelled, and now wants to wait for b.
    let (first, then) = (schema("a", &[]), data("b", &[]));
    let world = || World::new().knows(&first, Status::Cancelled, false).knows_waiting(&then, &["a"]);
    golden("circle_over_known", &world().plan(&[schema("a", &["b"])]));
    let with_both = world().plan(&[schema("a", &["b"]), then.clone()]);
    assert_eq!(code_of(&with_both), [ErrorCode::PlanCycle]);
    let began = World::new().knows(&first, Status::RolledBack, true).knows(&then, Status::Completed, true);
    assert!(began.plan(&[schema("a", &["b"])]).submittable(), "what has begun waits for nothing any more");
}

#[test]
fn facts_are_asked_of_the_shards_concerned_only() {
    let (old, new) = (documents("a", &[]), data("b", &[]));
    let world = World::new().knows(&old, Status::Running, true);
    let asked = super::needs(&[old, new], &[], &world.topology, &Default::default(), &world.known);
    let shards: Vec<_> = asked.keys().map(|shard| shard.as_str()).collect();
    assert_eq!(shards, ["chat-pg-01", "chat-pg-02"]);
    assert_eq!(asked[&name("chat-pg-01")].relations, ["messages"]);
}

#[test]
fn dangerous_statements_refuse_a_plan_unless_the_spec_says_why_they_are_meant() {
    let up =
        "[\"ALTER TABLE messages DROP COLUMN body\", \"CREATE INDEX ON messages (author)\", \"DROP VIEW v\"]";
    let head = "kind: schema\nengine: postgres\ncluster: chat";
    let refused = parse(&format!("id: a\n{head}\nup: {up}\n"));
    let allow = "[{ rule: ban-drop-column, reason: not read any more },\
                  { rule: require-concurrent-index-creation, reason: the table is small },\
                  { rule: renaming-table, reason: for nothing }]";
    let meant = parse(&format!("id: b\n{head}\nallow: {allow}\nup: {up}\n"));
    golden("lint", &World::new().plan(&[refused.clone(), meant.clone()]));
    assert!(World::new().plan(&[meant]).submittable());
    let before = World::new().knows(&refused, Status::Completed, true).plan(&[refused]);
    assert!(
        before.submittable() && before.findings.is_empty(),
        "what was submitted before is not judged again"
    );
}

#[test]
fn what_all_shards_found_is_told_in_one_plan() {
    let expand = schema("a_expand", &[]);
    let world = World::new()
        .finds("chat-pg-01", Severity::Error, None, "the prepared transaction \"left\" holds its locks")
        .finds("chat-pg-02", Severity::Warning, None, "pid 7 has a transaction open")
        .finds("chat-pg-01", Severity::Error, Some("b_data"), "column migrated does not exist")
        .finds("chat-pg-02", Severity::Error, Some("b_data"), "column migrated does not exist")
        .finds("chat-mg-01", Severity::Error, Some("c_documents"), "the pipeline is refused");
    golden("found_on_shards", &world.plan(&[expand, data("b_data", &[]), documents("c_documents", &[])]));
}

#[test]
fn documents_that_do_not_fit_a_rule_are_a_warning_unless_a_data_migration_mends_them_before() {
    let specs = [
        documents("a_backfill", &[]),
        rule("b_between", "tenants", &["a_backfill"]),
        rule("c_after_it", "messages", &["b_between"]),
        rule("d_beside_it", "messages", &[]),
    ];
    let misfit = |world: World, about| {
        let what = format!("documents do not fit the rule of {about}");
        world.finds_as(ErrorCode::RowRejected, "chat-mg-01", Severity::Warning, Some(about), &what)
    };
    let world = ["b_between", "c_after_it", "d_beside_it"].into_iter().fold(World::new(), misfit);
    golden("documents_mended_before", &world.plan(&specs));
    let done = misfit(World::new().knows(&specs[0], Status::Completed, true), "c_after_it");
    let plan = done.plan(&specs);
    assert_eq!(
        plan.findings[0].severity,
        Severity::Warning,
        "what has ended mends nothing any more: {plan:?}"
    );
}

#[test]
fn ledgers_that_disagree_and_migrations_that_stand_still_are_warnings() {
    let (lone, running, paused) = (schema("x_lone", &[]), schema("y_running", &[]), data("z_paused", &[]));
    let world = World::new()
        .applied("chat-pg-02", &lone)
        .applied("chat-pg-01", &running)
        .knows(&running, Status::Running, true)
        .knows(&paused, Status::Paused, true);
    golden("ledgers_and_locks", &world.plan(&[data("a", &[]), documents("b", &[])]));
}
