//! The verbs of a person in every state (fault 31), and what is refused before anything runs: only legal moves are made,
//! and every refusal says why.

use futures::future::join_all;
use serde_json::{Value, json};
use shardlift_harness::installation::Output;

use crate::stage::{
    BOTH_FORMS, Engine, Form, Items, ItemsSpec, POSTGRES, Play, Specs, Witness, assert_nothing_left, curtain,
    scalar,
};

const ID: &str = "0001_items";
const NONE: Vec<String> = Vec::new();
const DONE: i32 = 0;
const REFUSED: i32 = 5;
const ILLEGAL: i32 = 7;

/// Asks for a verb; `Ok` with the sentence, or `Err` with the complaint.
async fn ask(play: &Play, verb: &str, id: &str) -> Result<String, String> {
    let output: Output = play.installation.cli(&[verb, id]).await.unwrap();
    match output.code {
        Some(DONE) => Ok(output.stdout),
        Some(ILLEGAL) => Err(output.stderr),
        _ => panic!("shardlift {verb} {id}: {output:#?}\n{}", play.installation.log_tails(10)),
    }
}

/// Each verb that must be refused in this state, with a word of the reason.
async fn all_illegal(play: &Play, id: &str, state: &str, verbs: &[(&str, &str)]) {
    for (verb, why) in verbs {
        match ask(play, verb, id).await {
            Ok(said) => panic!("{verb} was made on a migration that is {state}: {said}"),
            Err(complaint) => {
                assert!(complaint.contains("request.illegal-move"), "{verb} while {state}: {complaint}");
                assert!(complaint.contains(why), "{verb} while {state} does not say {why:?}: {complaint}");
            }
        }
        assert_eq!(play.status(id).await["status"], state, "a refused {verb} changed something");
    }
}

/// A verb whose goal is reached already is no error, and says so.
async fn repeated(play: &Play, id: &str, verb: &str) {
    let said = ask(play, verb, id).await.unwrap();
    assert!(said.contains("nothing changed"), "{verb}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_makes_only_legal_moves_from_every_state() {
    let items = Items::of(Engine::Postgres, 3_000).await;
    let play = Play::start(&[&items]).await;
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithoutWhere).rows_per_second(30);
    let waiting = ItemsSpec::new("0002_waiting", Engine::Postgres, Form::WithWhere).depends_on(ID);
    let unwanted =
        ItemsSpec::new("0003_unwanted", Engine::Postgres, Form::WithWhere).depends_on("0002_waiting");
    play.apply(&[spec.text(), waiting.text(), unwanted.text()]).await;

    let pending = [("pause", "cancel it"), ("retry", "start"), ("resume", "start")];
    all_illegal(&play, "0002_waiting", "pending", &pending).await;
    ask(&play, "cancel", "0003_unwanted").await.unwrap();
    repeated(&play, "0003_unwanted", "cancel").await;
    let given_up =
        [("pause", "given up"), ("resume", "given up"), ("retry", "given up"), ("start", "given up")];
    all_illegal(&play, "0003_unwanted", "cancelled", &given_up).await;

    play.until_rows(ID, 30).await;
    for verb in ["resume", "retry", "start"] {
        repeated(&play, ID, verb).await;
    }
    ask(&play, "pause", ID).await.unwrap();
    repeated(&play, ID, "pause").await;
    all_illegal(&play, ID, "paused", &[("retry", "resume"), ("start", "resume")]).await;
    let at = settled(&items).await;
    assert_eq!(settled(&items).await, at, "a paused migration goes on");
    ask(&play, "resume", ID).await.unwrap();
    throttled_up(&play).await;
    play.completed(ID).await;
    let late = play.refused(&["throttle", ID, "--as-in-spec"], ILLEGAL).await;
    assert!(late.contains("request.illegal-move") && late.contains("finished"), "{late}");
    let finished = ["pause", "resume", "retry", "cancel", "start"].map(|verb| (verb, "finished"));
    all_illegal(&play, ID, "completed", &finished).await;
    play.completed("0002_waiting").await;
    let unknown = ask(&play, "pause", "0009_unknown").await.unwrap_err();
    assert!(unknown.contains("request.not-found"), "{unknown}");
    curtain(&play, ID, &items, Form::WithoutWhere, None).await;
}

/// At the rate of its spec it would not end in time: what an operator says holds for ranges that run, and outlives the
/// coordinator and the worker that were told.
async fn throttled_up(play: &Play) {
    let installation = &play.installation;
    let faster = ["throttle", ID, "--rows-per-second", "1000"];
    let said = installation.cli(&faster).await.unwrap();
    assert_eq!(said.code, Some(DONE), "{said:#?}");
    play.until_rows(ID, 300).await;
    installation.coordinator().kill9();
    installation.worker(0).kill9();
    installation.coordinator().restart().await.unwrap();
    installation.worker(0).restart().await.unwrap();
    let expected = json!({
        "rows_per_second": 1000, "window": null, "in_spec": { "rows_per_second": 30, "window": null },
    });
    play.until_status(ID, "what was said still holds", |status| status["throttle"] == expected).await;
    let again = installation.cli(&faster).await.unwrap();
    assert!(again.stdout.contains("nothing changed"), "{again:#?}");
}

/// Rows changed, once no batch is under way any more.
async fn settled(items: &Items) -> String {
    assert_nothing_left(items).await;
    scalar(&items.dsn, "SELECT sum(applied)::text FROM items").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_migration_is_retried_or_cancelled_and_nothing_else() {
    let items = Items::of(Engine::Postgres, 500).await;
    let play = Play::start(&[&items]).await;
    let spec =
        ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).transform("sql: { applied: applied + 1 }");
    play.apply(&[spec.text()]).await;
    play.reached(ID, "failed").await;
    let mend = [("pause", "retry"), ("resume", "retry"), ("start", "retry")];
    all_illegal(&play, ID, "failed", &mend).await;
    ask(&play, "retry", ID).await.unwrap();
    play.reached(ID, "failed").await;
    ask(&play, "cancel", ID).await.unwrap();
    repeated(&play, ID, "cancel").await;
    let corrected = ItemsSpec::new("0002_corrected", Engine::Postgres, Form::WithWhere);
    play.apply(&[corrected.text()]).await;
    play.completed("0002_corrected").await;
    curtain(&play, "0002_corrected", &items, Form::WithWhere, None).await;
}

async fn verbs_together(engine: Engine, form: Form) {
    let items = Items::of(engine, 3_000).await;
    let play = Play::start(&[&items]).await;
    let witness = Witness::of(&items).await;
    play.apply(&[ItemsSpec::new(ID, engine, form).rows_per_second(1_000).text()]).await;
    for _ in 0..4 {
        let verbs = ["pause", "resume", "pause", "retry", "resume", "pause", "start", "resume"];
        let said = join_all(verbs.map(|verb| ask(&play, verb, ID))).await;
        for complaint in said.iter().filter_map(|said| said.as_ref().err()) {
            assert!(complaint.contains("request.illegal-move"), "{complaint}");
        }
        let status = play.status(ID).await;
        let legal = ["running", "paused", "completed"].contains(&status["status"].as_str().unwrap());
        assert!(legal, "{status:#}");
    }
    let resumed = ask(&play, "resume", ID).await;
    assert!(resumed.is_ok() || play.status(ID).await["status"] == "completed", "{resumed:?}");
    play.completed(ID).await;
    assert_eq!(witness.complaints().await, NONE);
    curtain(&play, ID, &items, form, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_asked_for_together_leave_every_row_of_postgres_changed_once() {
    for form in BOTH_FORMS {
        verbs_together(Engine::Postgres, form).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_asked_for_together_leave_every_document_of_mongodb_changed_once() {
    verbs_together(Engine::Mongodb, Form::WithoutWhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_migration_stops_for_good_and_keeps_what_is_done() {
    let items = Items::of(Engine::Postgres, 5_000).await;
    let play = Play::start(&[&items]).await;
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).rows_per_second(500);
    play.apply(&[spec.text()]).await;
    play.until_rows(ID, 100).await;
    ask(&play, "cancel", ID).await.unwrap();
    let at = settled(&items).await;
    let again = play.installation.cli(&["apply", Specs::of(&[spec.text()]).as_str(), "--yes"]).await.unwrap();
    assert_eq!(
        again.code,
        Some(4),
        "what changed rows before it was cancelled is not begun anew: {again:#?}"
    );
    assert_eq!(play.status(ID).await["status"], "cancelled");
    let watched = play.installation.cli(&["watch", ID]).await.unwrap();
    assert_eq!(watched.code, Some(4), "{watched:#?}");
    let rest = ItemsSpec::new("0002_rest", Engine::Postgres, Form::WithWhere);
    assert_eq!(settled(&items).await, at);
    play.apply(&[rest.text()]).await;
    play.completed("0002_rest").await;
    assert_eq!(items.violations(Form::WithWhere, None).await, NONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_spec_again_is_nothing_to_do_and_another_content_is_a_conflict() {
    let items = Items::of(Engine::Postgres, 500).await;
    let play = Play::start(&[&items]).await;
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithoutWhere);
    play.apply(&[spec.text()]).await;
    play.completed(ID).await;
    // Comments and layout do not change what a spec means.
    let again = play.applied(&[format!("# once more\n{}", spec.text())]).await;
    assert_eq!(again.code, Some(DONE), "{again:#?}");
    assert!(again.stdout.contains("Nothing to do"), "{again:#?}");
    let changed = spec.clone().transform("sql: { applied: applied + 2, migrated: \"true\" }").text();
    for verb in [&["plan"][..], &["apply", "--yes"]] {
        let specs = Specs::of(&[changed.as_str()]);
        let args = [verb, &[specs.as_str()]].concat();
        let complaint = play.refused(&args, ILLEGAL).await;
        assert!(complaint.contains("spec.conflict") && complaint.contains(ID), "{complaint}");
    }
    curtain(&play, ID, &items, Form::WithoutWhere, None).await;
}

/// Bad files, and for each the places and words that must be told.
const BAD: [(&str, &[&str]); 6] = [
    (
        "id: 0001\nkind: data\nengine: postgres\ncluster: items\nsource:\n  table: items\n  wher: migrated = false\ntransform:\n  sql: { applied: applied + 1 }\nbatch: { target: 5 }\n",
        &["7:3", "unknown key \"wher\"", "did you mean \"where\"", "10:18"],
    ),
    (
        "id: a b\nkind: schema\nengine: postgres\ncluster: items\nup: [\"ALTER TABLE items ADD COLUMN a int\"]\nhold: true\n",
        &["1:5", "6:1", "spec.unsupported", "hold"],
    ),
    (
        "id: x\nkind: schema\nengine: postgres\ncluster: items\nup: [\"ALTER TABEL items\"]\n",
        &["5:7", "spec.invalid"],
    ),
    ("id: x\n  kind: [\n", &["spec.invalid", "2:"]),
    (
        "id: x\nkind: data\nengine: postgres\ncluster: items\nsource: { table: items }\ntransform: { sql: { a: \"1\" } }\n",
        &["5:9", "immutable_key"],
    ),
    ("id: x\nkind: schema\nengine: postgres\ncluster: items\nup: [\"COMMIT\"]\nid: y\n", &["6:1", "twice"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn bad_specs_are_refused_with_file_line_and_column_and_nothing_is_submitted() {
    let items = Items::of(Engine::Postgres, 100).await;
    let play = Play::start(&[&items]).await;
    for (text, expected) in BAD {
        let specs = Specs::of(&[text]);
        for verb in [&["plan"][..], &["apply", "--yes"]] {
            let complaint = play.refused(&[verb, &[specs.as_str()]].concat(), REFUSED).await;
            assert!(complaint.contains(&format!("{}/000.yaml:", specs.as_str())), "{complaint}");
            for word in expected {
                assert!(complaint.contains(word), "{word:?} is not told of\n{text}\n{complaint}");
            }
            assert!(complaint.contains("next:"), "{complaint}");
        }
    }
    let list = play.installation.cli_json(&["list"]).await.unwrap();
    assert_eq!(list["migrations"], Value::Array(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_that_cannot_work_are_refused_before_anything_is_submitted() {
    let items = Items::of(Engine::Postgres, 100).await;
    let play = Play::start(&[&items]).await;
    let spec = |id: &str| ItemsSpec::new(id, Engine::Postgres, Form::WithWhere);
    let circle = [spec("a").depends_on("b").text(), spec("b").depends_on("a").text()];
    let table = spec("a").text().replace("public.items", "public.itmes");
    let cases: [(&[String], &str); 5] = [
        (&circle, "plan.cycle"),
        (&[spec("a").depends_on("nobody").text()], "plan.missing-dependency"),
        (&[spec("a").text().replace(&format!("cluster: {POSTGRES}"), "cluster: nowhere")], "plan.refused"),
        (&[table], "itmes"),
        (&[spec("a").text(), spec("a").text()], "a"),
    ];
    for (specs, word) in cases {
        let complaint = play.refused(&["apply", Specs::of(specs).as_str(), "--yes"], REFUSED).await;
        assert!(complaint.contains(word), "{word}: {complaint}");
    }
    let list = play.installation.cli_json(&["list"]).await.unwrap();
    assert_eq!(list["migrations"], Value::Array(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transform_that_does_not_fit_the_table_is_refused_before_anything_is_submitted() {
    let items = Items::of(Engine::Postgres, 100).await;
    let play = Play::start(&[&items]).await;
    let misfit = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere)
        .transform("sql: { absent: \"1\", applied: applied + 1, migrated: \"true\" }");
    let specs = Specs::of(&[misfit.text()]);
    let complaint = play.refused(&["apply", specs.as_str(), "--yes"], REFUSED).await;
    assert!(complaint.contains("transform.invalid") && complaint.contains("column absent"), "{complaint}");
    assert_eq!(scalar(&items.dsn, "SELECT sum(applied)::text FROM items").await, "0");
    play.apply(&[ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).text()]).await;
    let status = play.completed(ID).await;
    assert_eq!(status["version"], 1, "{status:#}");
    curtain(&play, ID, &items, Form::WithWhere, None).await;
}
