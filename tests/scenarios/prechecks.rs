//! What is looked at before anything is changed: dangerous statements, and what is in the way on the shards.

use serde_json::Value;

use crate::stage::{Engine, Items, POSTGRES, Play, Specs};

const ID: &str = "0001_prechecked";
/// Exit code of a spec or plan that was refused.
const REFUSED: i32 = 5;

fn schema(id: &str, more: &str, up: &str) -> String {
    format!("id: {id}\nkind: schema\nengine: postgres\ncluster: {POSTGRES}\n{more}up: [\"{up}\"]\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dangerous_statement_is_refused_and_let_through_once_the_spec_says_why_it_is_meant() {
    let items = Items::of(Engine::Postgres, 100).await;
    let play = Play::start(&[&items]).await;
    let up = "ALTER TABLE items DROP COLUMN payload";
    let specs = Specs::of(&[schema(ID, "", up)]);
    let complaint = play.refused(&["apply", specs.as_str(), "--yes"], REFUSED).await;
    for word in ["lint.refused", "statement 1", "ban-drop-column", "allow"] {
        assert!(complaint.contains(word), "{word:?} is not told: {complaint}");
    }
    let list = play.installation.cli_json(&["list"]).await.unwrap();
    assert_eq!(list["migrations"], Value::Array(Vec::new()));
    let meant = schema(ID, "allow: [{ rule: ban-drop-column, reason: nobody reads it }]\n", up);
    let plan = play.installation.cli(&["plan", Specs::of(&[&meant]).as_str()]).await.unwrap();
    assert!(plan.code == Some(0) && plan.stdout.contains("nobody reads it"), "{plan:#?}");
    play.apply(&[meant]).await;
    play.completed(ID).await;
}
