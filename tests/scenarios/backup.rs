//! `backup: table`: what is to change is saved first, or nothing changes; what was saved comes back byte for byte, whoever dies,
//! wakes up late or spoils the object store.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use shardlift_harness::installation::{Output, WorkerSpec};
use tempfile::TempDir;

use crate::stage::{
    Bucket, DEADLINE, Engine, Form, Http, Items, ItemsSpec, Mood, Play, assert_nothing_left, collection,
    curtain, learns, scalar,
};

const ID: &str = "0001_items";
const ROWS: u64 = 3_000;
const SIGABRT: i32 = 6;
/// So that even a small table has several parts.
const PART: &str = "8192";
/// Where a restore goes unless told.
const BESIDE: &str = "restored_0001_items_v1";

fn spec(engine: Engine) -> String {
    format!("{}backup: table\n", ItemsSpec::new(ID, engine, Form::WithWhere).text())
}

fn worker(name: &str, items: &Items, directory: &Path) -> WorkerSpec {
    WorkerSpec::new(name, &[&items.shard])
        .env("SHARDLIFT__BACKUP__DIRECTORY", directory.to_str().unwrap())
        .env("SHARDLIFT__BACKUP__PART_BYTES", PART)
}

fn worker_with(name: &str, items: &Items, bucket: &Bucket, keys: (&str, &str)) -> WorkerSpec {
    let spec = WorkerSpec::new(name, &[&items.shard]).env("SHARDLIFT__BACKUP__PART_BYTES", PART);
    bucket.env(keys.0, keys.1).iter().fold(spec, |spec, (key, value)| spec.env(key, value))
}

async fn play(items: &Items, directory: &Path) -> Play {
    Play::of(Play::builder(&[items]).worker(worker("worker-1", items, directory))).await
}

async fn cli(play: &Play, args: &[&str]) -> Output {
    play.installation.cli(args).await.unwrap()
}

async fn done(play: &Play, args: &[&str]) -> String {
    let output = cli(play, args).await;
    assert_eq!(output.code, Some(0), "{args:?}: {output:#?}\n{}", play.installation.log_tails(20));
    output.stdout
}

/// Everything that a table or collection holds, as one text.
async fn fingerprint(items: &Items, place: Option<&str>) -> String {
    match items.engine() {
        Engine::Postgres => {
            let table = format!("{}.items", place.unwrap_or("public"));
            scalar(&items.dsn, &format!("SELECT md5(string_agg(i::text, '|' ORDER BY id)) FROM {table} i"))
                .await
        }
        Engine::Mongodb => {
            let all = documents(items, place).await;
            format!("{} {:?}", all.len(), all)
        }
    }
}

async fn documents(items: &Items, place: Option<&str>) -> Vec<bson::RawDocumentBuf> {
    use futures::TryStreamExt;
    let client = collection(&items.dsn).await.client().clone();
    let database = client.database(place.unwrap_or("items"));
    let all = database.collection::<bson::RawDocumentBuf>("items");
    all.find(bson::doc! {}).sort(bson::doc! { "_id": 1 }).await.unwrap().try_collect().await.unwrap()
}

/// Rows that the migration had changed already.
async fn changed(items: &Items, place: Option<&str>) -> u64 {
    match items.engine() {
        Engine::Postgres => {
            let table = format!("{}.items", place.unwrap_or("public"));
            let sql = format!("SELECT count(*)::text FROM {table} WHERE applied <> 0");
            scalar(&items.dsn, &sql).await.parse().unwrap()
        }
        Engine::Mongodb => {
            let database = collection(&items.dsn).await.client().database(place.unwrap_or("items"));
            let changed = bson::doc! { "applied": { "$gt": 0 } };
            database.collection::<bson::Document>("items").count_documents(changed).await.unwrap()
        }
    }
}

/// The only backup that is listed.
async fn listed(play: &Play) -> Value {
    let told = play.installation.cli_json(&["backup", "list", ID]).await.unwrap();
    let backups = told["backups"].as_array().unwrap();
    assert_eq!(backups.len(), 1, "{told:#}");
    backups[0].clone()
}

/// Files below a directory, without what says nothing.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found.sort();
    found
}

/// The folder of the files of the only backup.
fn folder(directory: &Path) -> PathBuf {
    let parts = files(directory).into_iter().find(|file| file.to_str().unwrap().ends_with(".zst.000001"));
    let part = parts.expect("a part");
    let within = |folder: &&Path| folder.parent().is_some_and(|above| above.join("manifest.json").exists());
    part.ancestors().find(within).expect("a manifest").to_owned()
}

async fn no_scratch(items: &Items) {
    match items.engine() {
        Engine::Postgres => {
            let sql = "SELECT count(*)::text FROM pg_namespace WHERE nspname LIKE 'shardlift_scratch%'";
            assert_eq!(scalar(&items.dsn, sql).await, "0");
        }
        Engine::Mongodb => {
            let own = collection(&items.dsn).await.client().database("shardlift");
            let names = own.list_collection_names().await.unwrap();
            assert!(!names.iter().any(|name| name.starts_with("scratch")), "{names:?}");
        }
    }
    assert_nothing_left(items).await;
}

async fn comes_back_byte_for_byte(engine: Engine, consistency: &str) {
    let (items, home) = (Items::of(engine, ROWS).await, TempDir::new().unwrap());
    let play = play(&items, home.path()).await;
    let before = fingerprint(&items, None).await;
    play.apply(&[spec(engine)]).await;
    play.completed(ID).await;
    assert_ne!(fingerprint(&items, None).await, before);
    let kept = listed(&play).await;
    let backup = &kept["backup"];
    assert_eq!((&backup["rows"], &backup["consistency"]), (&ROWS.into(), &consistency.into()), "{kept:#}");
    assert!(backup["parts"].as_u64() > Some(8), "some parts were not in the sample: {kept:#}");
    done(&play, &["backup", "restore", ID, "--dry-run"]).await;
    done(&play, &["backup", "restore", ID]).await;
    assert_eq!(fingerprint(&items, Some(BESIDE)).await, before);
    let again = play.refused(&["backup", "restore", ID], 7).await;
    assert!(again.contains("is there already") && again.contains("never writes over"), "{again}");
    done(&play, &["backup", "restore", ID, "--into", "elsewhere", "--shard", &items.shard]).await;
    assert_eq!(fingerprint(&items, Some("elsewhere")).await, before);
    no_scratch(&items).await;
    done(&play, &["backup", "purge", ID, "--yes"]).await;
    assert_eq!(files(home.path()), Vec::<PathBuf>::new());
    assert_eq!(listed(&play).await["backup"], Value::Null);
    let gone = play.refused(&["backup", "restore", ID], 7).await;
    assert!(gone.contains("no complete backup"), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_comes_back_byte_for_byte_beside_the_original() {
    comes_back_byte_for_byte(Engine::Postgres, "snapshot").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_comes_back_byte_for_byte_beside_the_original() {
    comes_back_byte_for_byte(Engine::Mongodb, "majority").await;
}

async fn saved_while_the_application_writes(engine: Engine) {
    let (items, home) = (Items::of(engine, ROWS).await, TempDir::new().unwrap());
    let play = play(&items, home.path()).await;
    let writer = items.writer(Form::WithWhere);
    play.apply(&[spec(engine)]).await;
    play.until_rows(ID, 1).await;
    learns(&writer, Form::WithWhere);
    play.completed(ID).await;
    done(&play, &["backup", "restore", ID]).await;
    assert_eq!(changed(&items, Some(BESIDE)).await, 0, "a row was saved after it had changed");
    no_scratch(&items).await;
    curtain(&play, ID, &items, Form::WithWhere, Some(writer)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_saved_before_it_changes_while_the_application_writes() {
    saved_while_the_application_writes(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_saved_before_it_changes_while_the_application_writes() {
    saved_while_the_application_writes(Engine::Mongodb).await;
}

/// The only worker anew, with these failpoints.
async fn restart(play: &Play, failpoints: &str) {
    let worker = play.installation.worker(0);
    worker.set_failpoints(failpoints);
    worker.restart().await.unwrap();
    play.until("the worker to be back", async || {
        let shards = play.installation.cli_json(&["shards"]).await?;
        anyhow::ensure!(shards["shards"][0]["reachable"] == true, "{shards:#}");
        Ok(())
    })
    .await;
}

/// The worker dies at a point of the backup; the next hand-out makes it anew.
async fn dies_and_is_saved_anew(engine: Engine, point: &str) {
    let (items, home) = (Items::of(engine, ROWS).await, TempDir::new().unwrap());
    let play = play(&items, home.path()).await;
    let before = fingerprint(&items, None).await;
    let worker = play.installation.worker(0);
    restart(&play, point).await;
    play.apply(&[spec(engine)]).await;
    let status = worker.process().wait_exit(DEADLINE).await.unwrap();
    assert_eq!(status.signal(), Some(SIGABRT), "{}", worker.process().log_tail(20));
    assert_eq!(fingerprint(&items, None).await, before, "nothing changes before the backup is whole");
    restart(&play, "").await;
    play.completed(ID).await;
    let folder = folder(home.path());
    let strays: Vec<_> = files(home.path())
        .into_iter()
        .filter(|file| !file.starts_with(&folder) && !file.ends_with("manifest.json"))
        .collect();
    assert_eq!(strays, Vec::<PathBuf>::new(), "what the dead worker wrote is left");
    done(&play, &["backup", "restore", ID]).await;
    assert_eq!(fingerprint(&items, Some(BESIDE)).await, before);
    no_scratch(&items).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_while_it_saves_a_table_leaves_no_half_backup() {
    dies_and_is_saved_anew(Engine::Postgres, "backup-before-part=3*off->return").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_while_it_saves_a_collection_leaves_no_half_backup() {
    dies_and_is_saved_anew(Engine::Mongodb, "backup-before-part=3*off->return").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_before_the_manifest_has_made_no_backup() {
    dies_and_is_saved_anew(Engine::Postgres, "backup-before-manifest=return").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_word_is_lost_is_found_and_not_made_again() {
    let (items, home) = (Items::of(Engine::Postgres, ROWS).await, TempDir::new().unwrap());
    let play = play(&items, home.path()).await;
    let worker = play.installation.worker(0);
    restart(&play, "backup-after-manifest=return").await;
    play.apply(&[spec(Engine::Postgres)]).await;
    let status = worker.process().wait_exit(DEADLINE).await.unwrap();
    assert_eq!(status.signal(), Some(SIGABRT), "{}", worker.process().log_tail(20));
    let made = files(home.path());
    restart(&play, "").await;
    play.completed(ID).await;
    assert_eq!(files(home.path()), made, "the same files");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_used_halts_before_any_change() {
    let (items, home) = (Items::of(Engine::Postgres, ROWS).await, TempDir::new().unwrap());
    let place = home.path().join("backups");
    std::fs::write(&place, "in the way").unwrap();
    let play = play(&items, &place).await;
    let before = fingerprint(&items, None).await;
    play.apply(&[spec(Engine::Postgres)]).await;
    let status = play.reached(ID, "paused").await;
    assert_eq!(
        (&status["halted"]["code"], &status["phase"]),
        (&"backup.failed".into(), &"backup".into()),
        "{status:#}"
    );
    assert_eq!(fingerprint(&items, None).await, before);
    std::fs::remove_file(&place).unwrap();
    done(&play, &["resume", ID]).await;
    play.completed(ID).await;
    assert_eq!(listed(&play).await["backup"]["rows"], ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_psql_reads_of_a_backup_is_the_old_table() {
    let (items, home) = (Items::of(Engine::Postgres, ROWS).await, TempDir::new().unwrap());
    let play = play(&items, home.path()).await;
    let before = fingerprint(&items, None).await;
    play.apply(&[spec(Engine::Postgres)]).await;
    play.completed(ID).await;
    let folder = folder(home.path());
    let page = std::fs::read_to_string(folder.join("schema.sql")).unwrap();
    let copy = page.lines().find_map(|line| line.strip_prefix("--   \\copy ")).expect("the line that copies");
    let restored = Command::new("psql")
        .args([items.dsn.as_str(), "-v", "ON_ERROR_STOP=1", "-q", "-c", "CREATE SCHEMA by_hand"])
        .args(["-c", "SET search_path TO by_hand", "-f", "schema.sql", "-c", &format!("\\copy {copy}")])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    assert_eq!(fingerprint(&items, Some("by_hand")).await, before);
}

/// What mongorestore is documented to read: `db/collection.bson`, documents one after another, each beginning with its length,
/// and `db/collection.metadata.json` with options and indexes in extended JSON. mongorestore itself is not at hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_collection_has_the_layout_of_mongodump() {
    let (items, home) = (Items::of(Engine::Mongodb, ROWS).await, TempDir::new().unwrap());
    let play = play(&items, home.path()).await;
    let before = documents(&items, None).await;
    play.apply(&[spec(Engine::Mongodb)]).await;
    play.completed(ID).await;
    let dump = folder(home.path()).join("items");
    let parts = files(&dump).into_iter().filter(|file| file.to_str().unwrap().contains("items.bson.zst."));
    let whole = Command::new("zstd").arg("-dc").args(parts).output().unwrap();
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    let (mut read, mut rest) = (Vec::new(), whole.stdout.as_slice());
    while let Some(length) = rest.get(..4) {
        let length = i32::from_le_bytes(length.try_into().unwrap()).try_into().unwrap();
        read.push(bson::RawDocumentBuf::from_bytes(rest[..length].to_vec()).unwrap());
        rest = &rest[length..];
    }
    assert_eq!(read, before, "in the order of _id");
    let metadata: Value =
        serde_json::from_slice(&std::fs::read(dump.join("items.metadata.json")).unwrap()).unwrap();
    assert_eq!((&metadata["collectionName"], &metadata["type"]), (&"items".into(), &"collection".into()));
    assert_eq!(metadata["indexes"][0]["name"], "_id_", "{metadata:#}");
    assert_eq!(metadata["uuid"].as_str().map(str::len), Some(32), "{metadata:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_was_spoilt_later_is_found_by_whoever_restores() {
    let (items, home) = (Items::of(Engine::Postgres, ROWS).await, TempDir::new().unwrap());
    let play = play(&items, home.path()).await;
    play.apply(&[spec(Engine::Postgres)]).await;
    play.completed(ID).await;
    let second =
        files(home.path()).into_iter().find(|file| file.to_str().unwrap().ends_with(".000002")).unwrap();
    let mut bytes = std::fs::read(&second).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&second, bytes).unwrap();
    for args in [&["backup", "restore", ID, "--dry-run"][..], &["backup", "restore", ID]] {
        let output = cli(&play, args).await;
        let told = output.stdout + &output.stderr;
        assert!(
            output.code != Some(0) && told.contains("backup.damaged") && told.contains(".000002"),
            "{told}"
        );
    }
    let rows = scalar(&items.dsn, &format!("SELECT count(*)::text FROM {BESIDE}.items")).await;
    assert!(rows.parse::<u64>().unwrap() < ROWS, "what is whole is there, and no more: {rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_goes_on_where_it_ended_whoever_dies() {
    let (items, home) = (Items::of(Engine::Postgres, ROWS).await, TempDir::new().unwrap());
    let play = play(&items, home.path()).await;
    let before = fingerprint(&items, None).await;
    play.apply(&[spec(Engine::Postgres)]).await;
    play.completed(ID).await;
    let worker = play.installation.worker(0);
    restart(&play, "pg-restore-before-commit=3*off->return").await;
    let cut = cli(&play, &["backup", "restore", ID]).await;
    assert_ne!(cut.code, Some(0), "{cut:#?}");
    worker.process().wait_exit(DEADLINE).await.unwrap();
    restart(&play, "").await;
    done(&play, &["backup", "restore", ID]).await;
    assert_eq!(fingerprint(&items, Some(BESIDE)).await, before);
    let notes = format!("SELECT (to_regclass('{BESIDE}.shardlift_restore') IS NULL)::text");
    assert_eq!(scalar(&items.dsn, &notes).await, "true", "nothing is left beside the table");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_spoils_a_part_is_found_before_any_change() {
    let (items, bucket) = (Items::of(Engine::Postgres, ROWS).await, Bucket::open().await);
    let spec_of = worker_with("worker-1", &items, &bucket, ("key", "secret"));
    let play = Play::of(Play::builder(&[&items]).rest().worker(spec_of)).await;
    let before = fingerprint(&items, None).await;
    bucket.turn(Mood::Spoils(".zst.000001"));
    play.apply(&[spec(Engine::Postgres)]).await;
    let status = play.reached(ID, "paused").await;
    assert_eq!(status["halted"]["code"], "backup.damaged", "{status:#}");
    assert_eq!(fingerprint(&items, None).await, before);
    assert_eq!(bucket.names(), Vec::<String>::new(), "what is no backup is removed");
    bucket.turn(Mood::Well);
    done(&play, &["resume", ID]).await;
    play.completed(ID).await;
    let http = Http::of(play.installation.coordinators()[0].rest_address().unwrap()).await;
    let told = http.get("/api/v1/backups").await.ok(200);
    assert_eq!(told["backups"][0]["backup"]["rows"], ROWS, "{told:#}");
    let place = told["backups"][0]["backup"]["place"].as_str().unwrap();
    assert!(place.starts_with("s3://backups/production/"), "{place}");
    assert_eq!(http.get(&format!("/api/v1/migrations/{ID}/backups")).await.ok(200), told);
    done(&play, &["backup", "restore", ID]).await;
    assert_eq!(fingerprint(&items, Some(BESIDE)).await, before);
    no_scratch(&items).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_full_halts_before_any_change_and_its_keys_appear_nowhere() {
    const KEY: &str = "KANARIENKEY4711";
    const SECRET: &str = "kanarienvogel/4711";
    let (items, bucket) = (Items::of(Engine::Postgres, ROWS).await, Bucket::open().await);
    let spec_of = worker_with("worker-1", &items, &bucket, (KEY, SECRET)).env("SHARDLIFT_LOG", "debug");
    let play = Play::of(Play::builder(&[&items]).worker(spec_of)).await;
    let before = fingerprint(&items, None).await;
    bucket.turn(Mood::Full);
    play.apply(&[spec(Engine::Postgres)]).await;
    let status = play.reached(ID, "paused").await;
    assert_eq!(status["halted"]["code"], "backup.failed", "{status:#}");
    assert_eq!(fingerprint(&items, None).await, before);
    let list = cli(&play, &["backup", "list", "--output", "json"]).await;
    assert!(list.stdout.contains("backup.failed"), "{list:#?}");
    let worker = play.installation.worker(0);
    let told = [status.to_string(), list.stdout + &list.stderr, worker.process().log_text()].concat()
        + &play.installation.coordinator().process().log_text();
    assert!(!told.contains(KEY) && !told.contains(SECRET), "a key was told");
    bucket.turn(Mood::Well);
    done(&play, &["resume", ID]).await;
    play.completed(ID).await;
    let told = play.installation.worker(0).process().log_text();
    assert!(!told.contains(KEY) && !told.contains(SECRET), "a key was told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_wakes_up_late_does_not_spoil_the_backup_of_its_heir() {
    let (items, bucket) = (Items::of(Engine::Postgres, ROWS).await, Bucket::open().await);
    let first = worker_with("worker-1", &items, &bucket, ("key", "secret"));
    let play = Play::of(Play::builder(&[&items]).worker(first)).await;
    let before = fingerprint(&items, None).await;
    bucket.turn(Mood::Holds(".zst.000003"));
    play.apply(&[spec(Engine::Postgres)]).await;
    play.until("the first worker to wait for the bucket", async || {
        anyhow::ensure!(bucket.held() == 1, "nothing is held");
        Ok(())
    })
    .await;
    let sleeper = play.installation.worker(0);
    sleeper.process().pause();
    play.installation.add_worker(&worker_with("worker-2", &items, &bucket, ("key", "secret"))).unwrap();
    play.completed(ID).await;
    let made = bucket.names();
    bucket.let_go();
    sleeper.process().resume();
    play.until("the part that was under way to arrive", async || {
        anyhow::ensure!(bucket.names().len() > made.len(), "{:?}", bucket.names());
        Ok(())
    })
    .await;
    done(&play, &["backup", "restore", ID]).await;
    assert_eq!(fingerprint(&items, Some(BESIDE)).await, before);
    done(&play, &["backup", "purge", ID, "--yes"]).await;
    assert_eq!(bucket.names(), Vec::<String>::new(), "also what came late");
    no_scratch(&items).await;
}
