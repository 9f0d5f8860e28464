//! Verification that evaluates the transform anew (promise P8): what was planted behind its back is found with its keys, and a
//! live application is never taken for that.

use bson::{Bson, Document, doc};
use futures::TryStreamExt;
use serde_json::Value;

use crate::stage::{Engine, Form, Items, ItemsSpec, Play, VRL, collection, curtain, execute, learns, scalar};

pub(crate) const ID: &str = "0001_items";
pub(crate) const ROWS: u64 = 1_500;

/// A transform whose result depends on each row: what was swapped is seen.
pub(crate) fn telling(engine: Engine) -> ItemsSpec {
    let transform = match engine {
        Engine::Postgres => "sql: { payload: \"upper(payload)\", applied: applied + 1, migrated: \"true\" }",
        Engine::Mongodb => {
            "pipeline: [{ $set: { payload: { $toUpper: $payload }, applied: { $add: [$applied, 1] }, migrated: true } }]"
        }
    };
    ItemsSpec::new(ID, engine, Form::WithWhere).transform(transform)
}

pub(crate) fn kept(spec: &ItemsSpec) -> String {
    format!("{}undo: capture\n", spec.text())
}

/// The ids of some rows that were migrated, as the command line writes them.
pub(crate) async fn migrated(items: &Items, count: i64) -> Vec<String> {
    match items.engine() {
        Engine::Postgres => {
            let some = format!(
                "SELECT string_agg(id::text, ',') FROM (SELECT id FROM items WHERE migrated ORDER BY id LIMIT {count}) s"
            );
            scalar(&items.dsn, &some).await.split(',').map(str::to_owned).collect()
        }
        Engine::Mongodb => {
            let found = documents(items, count).await;
            found.iter().filter_map(|document| document.get("_id")).map(shown).collect()
        }
    }
}

pub(crate) async fn documents(items: &Items, count: i64) -> Vec<Document> {
    let items = collection(&items.dsn).await;
    let found = items.find(doc! { "migrated": true }).sort(doc! { "_id": 1 }).limit(count).await.unwrap();
    found.try_collect().await.unwrap()
}

fn shown(id: &Bson) -> String {
    id.clone().into_canonical_extjson().to_string()
}

/// Behind everybody's back: one row altered, two with each other's content, one dropped, one added as if it had been migrated.
/// The ids of the first three, and of the fourth.
async fn plant(items: &Items) -> (Vec<String>, String) {
    let ids = migrated(items, 4).await;
    match items.engine() {
        Engine::Postgres => {
            let [altered, one, other, dropped] = ids.as_slice() else { panic!("{ids:?}") };
            execute(
                &items.dsn,
                &format!(
                    "UPDATE items SET applied = 9 WHERE id = {altered};
                     UPDATE items SET payload = (SELECT payload FROM items b WHERE b.id = CASE items.id WHEN {one} THEN {other} ELSE {one} END)
                       WHERE id IN ({one}, {other});
                     DELETE FROM items WHERE id = {dropped};
                     INSERT INTO items (id, payload, applied, migrated) SELECT min(id) - 1, 'X', 1, true FROM items"
                ),
            )
            .await;
        }
        Engine::Mongodb => {
            let found = documents(items, 4).await;
            let id = |n: usize| found[n].get("_id").cloned().unwrap();
            let payload = |n: usize| found[n].get_str("payload").unwrap().to_owned();
            let all = collection(&items.dsn).await;
            let set = async |n: usize, change: Document| {
                let done = all.update_one(doc! { "_id": id(n) }, doc! { "$set": change }).await.unwrap();
                assert_eq!(done.modified_count, 1);
            };
            set(0, doc! { "applied": 9 }).await;
            set(1, doc! { "payload": payload(2) }).await;
            set(2, doc! { "payload": payload(1) }).await;
            assert_eq!(all.delete_one(doc! { "_id": id(3) }).await.unwrap().deleted_count, 1);
            let added =
                doc! { "_id": "added", "payload": "X", "applied": 1, "migrated": true, "origin": "nobody" };
            all.insert_one(added).await.unwrap();
        }
    }
    let dropped = ids[3].clone();
    (ids[..3].to_vec(), dropped)
}

/// `shardlift mismatches`, which must end with this code.
async fn mismatches(play: &Play, since: bool, code: i32) -> Value {
    let mut args = vec!["mismatches", ID, "--output", "json"];
    args.extend(since.then_some("--since"));
    let output = play.installation.cli(&args).await.unwrap();
    assert_eq!(output.code, Some(code), "{output:#?}\n{}", play.installation.log_tails(10));
    serde_json::from_str(&output.stdout).unwrap()
}

/// The keys of this kind, sorted.
fn keys(listed: &Value, difference: &str) -> Vec<String> {
    let rows = listed["rows"].as_array().unwrap().iter().filter(|row| row["difference"] == difference);
    let mut keys: Vec<String> = rows.map(|row| row["key"].as_str().unwrap().to_owned()).collect();
    keys.sort();
    keys
}

pub(crate) fn halted(status: &Value) -> bool {
    status["status"] == "paused"
}

/// The message of the halt, which must say that it can be rolled back.
fn told(status: &Value) -> String {
    let halted = &status["halted"];
    assert_eq!(halted["code"], "verify.mismatch", "{status:#}");
    assert!(halted["next"].as_str().unwrap().contains("`rollback`"), "{status:#}");
    halted["message"].as_str().unwrap().to_owned()
}

/// Nobody but the migration writes these rows, the spec says, and somebody does.
async fn behind_its_back(engine: Engine) {
    let items = Items::of(engine, ROWS).await;
    let play = Play::start(&[&items]).await;
    let checks = "[remaining, { count: { tolerance: 0 } }, digest, { transform: { changed: 0, gone: 0 } }]";
    play.apply(&[kept(&telling(engine).rows_per_second(1_000).verify(checks))]).await;
    play.until_rows(ID, 400).await;
    let (mut altered, dropped) = plant(&items).await;
    let status = play.until_status(ID, "to be halted", halted).await;
    let message = told(&status);
    let (by_digest, by_transform) = message.split_once("transform:").unwrap();
    for key in altered.iter().chain([&dropped]) {
        assert!(by_digest.contains(key.as_str()) && by_transform.contains(key.as_str()), "{key}: {message}");
    }
    assert!(by_digest.contains("digest:") && !message.contains("remaining:"), "{message}");
    let listed = mismatches(&play, true, 0).await;
    altered.sort();
    assert_eq!((keys(&listed, "changed"), keys(&listed, "gone")), (altered, vec![dropped]), "{listed:#}");
    let figures = &listed["shards"][0];
    assert_eq!((&figures["verified"], &figures["mismatches"]), (&(ROWS - 4).into(), &0.into()), "{listed:#}");
    let output = play.installation.cli(&["resume", ID]).await.unwrap();
    assert_eq!(output.code, Some(0), "{output:#?}");
    told(&play.until_status(ID, "to be halted again", halted).await);
    let output = play.installation.cli(&["rollback", ID, "--yes"]).await.unwrap();
    assert_eq!(output.code, Some(0), "{output:#?}");
    play.reached(ID, "rolled_back").await;
    let refused = play.refused(&["mismatches", ID], 7).await;
    assert!(refused.contains("undone"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_altered_swapped_and_dropped_behind_its_back_halt_a_migration_of_postgres_with_their_keys() {
    behind_its_back(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_altered_swapped_and_dropped_behind_its_back_halt_a_migration_of_mongodb_with_their_keys() {
    behind_its_back(Engine::Mongodb).await;
}

/// The database writes something else than the transform gives.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_wrongly_is_found_with_its_keys_and_verified_once_it_is_mended() {
    let items = Items::of(Engine::Postgres, ROWS).await;
    let few = "SELECT string_agg(id::text, ',') FROM (SELECT id FROM items ORDER BY md5(id::text) LIMIT 3) s";
    let ids = scalar(&items.dsn, few).await;
    execute(
        &items.dsn,
        &format!(
            "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN IF NOT OLD.migrated AND NEW.migrated THEN NEW.payload := 'meddled'; END IF; RETURN NEW; END $$;
             CREATE TRIGGER meddle BEFORE UPDATE ON items FOR EACH ROW WHEN (OLD.id IN ({ids})) EXECUTE FUNCTION meddle()"
        ),
    )
    .await;
    let play = Play::start(&[&items]).await;
    let spec = telling(Engine::Postgres).verify("[remaining, { transform: all }]");
    play.apply(&[kept(&spec)]).await;
    let status = play.until_status(ID, "to be halted", halted).await;
    let message = told(&status);
    let listed = mismatches(&play, false, 8).await;
    let mut wrong: Vec<String> = ids.split(',').map(str::to_owned).collect();
    wrong.sort();
    assert_eq!(keys(&listed, "mismatch"), wrong, "{listed:#}");
    assert!(wrong.iter().all(|key| message.contains(key.as_str())), "{message}");
    assert!(
        !message.contains("meddled") && !listed.to_string().contains("meddled"),
        "values stay: {message}"
    );

    // Mended by hand, they are what the transform gives.
    execute(
        &items.dsn,
        &format!(
            "DROP TRIGGER meddle ON items;
             UPDATE items SET payload = upper(u.old[array_position(u.keys, items.id::text)]) FROM shardlift.undo u
             WHERE u.fields[1] = 'payload' AND items.id::text = ANY (u.keys) AND items.id IN ({ids})"
        ),
    )
    .await;
    let output = play.installation.cli(&["resume", ID]).await.unwrap();
    assert_eq!(output.code, Some(0), "{output:#?}");
    play.completed(ID).await;
    let listed = mismatches(&play, true, 0).await;
    assert_eq!(listed["shards"][0]["verified"], ROWS, "{listed:#}");
}

/// The application goes on all the time: inserts, updates, deletes, gives rows other keys.
async fn beside_a_live_application(engine: Engine, transform: Option<&str>) {
    let items = Items::of(engine, 4_000).await;
    let play = Play::start(&[&items]).await;
    let writer = items.writer(Form::WithWhere);
    let mut spec = ItemsSpec::new(ID, engine, Form::WithWhere).rows_per_second(2_000);
    if let Some(transform) = transform {
        spec = spec.transform(transform);
    }
    play.apply(&[kept(&spec.verify("[remaining, { transform: all }]"))]).await;
    play.until_rows(ID, 1_000).await;
    let early = mismatches(&play, true, 0).await;
    assert!(keys(&early, "mismatch").is_empty(), "in the middle of the backfill: {early:#}");
    learns(&writer, Form::WithWhere);
    play.completed(ID).await;
    let before = writer.acknowledged();
    play.until("the application to go on", async || {
        anyhow::ensure!(writer.acknowledged() > before + 100);
        Ok(())
    })
    .await;
    let listed = mismatches(&play, true, 0).await;
    assert!(listed["shards"][0]["verified"].as_u64() > Some(1_000), "{listed:#}");
    curtain(&play, ID, &items, Form::WithWhere, Some(writer)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_of_postgres_is_never_taken_for_a_mismatch() {
    beside_a_live_application(Engine::Postgres, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_of_postgres_beside_a_program_is_never_taken_for_a_mismatch() {
    beside_a_live_application(Engine::Postgres, Some(VRL)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_of_mongodb_is_never_taken_for_a_mismatch() {
    beside_a_live_application(Engine::Mongodb, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_of_mongodb_beside_a_program_is_never_taken_for_a_mismatch() {
    beside_a_live_application(Engine::Mongodb, Some(VRL)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_evaluated_anew_is_refused_with_the_reason_before_anything_is_changed() {
    let items = Items::of(Engine::Postgres, 50).await;
    execute(&items.dsn, "CREATE FUNCTION dice() RETURNS int LANGUAGE sql AS 'SELECT 1'").await;
    let play = Play::start(&[&items]).await;
    let spec = |value: &str| {
        let list = format!("sql: {{ applied: \"{value}\", migrated: \"true\" }}");
        ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).transform(&list).verify("[{ transform: all }]")
    };
    for (text, why) in [
        (spec("applied + 1").text(), "verify: transform needs undo: capture"),
        (kept(&spec("extract(year from now())::int")), "it calls now: it reads the clock"),
        (kept(&spec("applied + dice()")), "it calls public.dice, which is declared VOLATILE"),
    ] {
        let output = play.applied(&[text]).await;
        assert_eq!(output.code, Some(5), "{output:#?}");
        let all = output.stdout + &output.stderr;
        assert!(all.contains(why), "{why}: {all}");
    }
    play.apply(&[ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).text()]).await;
    play.completed(ID).await;
    let refused = play.refused(&["mismatches", ID], 7).await;
    assert!(refused.contains("undo: capture"), "{refused}");

    // What a clock has written is found by its digest, and nobody can say what it ought to be.
    execute(&items.dsn, "UPDATE items SET migrated = false").await;
    let clock = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere)
        .verify("[remaining, digest]")
        .transform("sql: { payload: \"clock_timestamp()::text\", applied: applied + 1, migrated: \"true\" }");
    let next = "0002_clock";
    play.apply(&[kept(&clock).replace(ID, next)]).await;
    play.completed(next).await;
    let ids = migrated(&items, 1).await;
    execute(&items.dsn, &format!("UPDATE items SET payload = 'planted' WHERE id = {}", ids[0])).await;
    let output = play.installation.cli(&["mismatches", next, "--since", "--output", "json"]).await.unwrap();
    let listed: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((keys(&listed, "changed"), &listed["shards"][0]["verified"]), (ids, &49.into()), "{listed:#}");
    let refused = play.refused(&["repair", next], 7).await;
    assert!(refused.contains("cannot be evaluated anew"), "{refused}");
}
