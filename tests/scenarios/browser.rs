//! A person with a browser: signs in, looks at a real migration, throttles, pauses, resumes and gives it up.

mod pictures;

use serde_json::{Value, json};
use shardlift_harness::installation::WorkerSpec;

use crate::stage::{Browser, Engine, Form, Items, ItemsSpec, Play, assert_nothing_left};

const ID: &str = "0001_items";
/// Two minutes at the speed of these scenarios: what is clicked on still runs, on a slow machine too.
const ROWS: u64 = 60_000;

/// What the page says at its title, beside the name.
fn badge(word: &str) -> String {
    format!("document.querySelector('.head .badge')?.textContent === {}", json!(word))
}

/// The address of the page, and of a migration on it.
fn page(play: &Play, id: &str) -> String {
    format!("http://{}/#{id}", play.installation.coordinators()[0].rest_address().unwrap())
}

const BAR: &str =
    "Number(document.querySelector('.run [role=progressbar]')?.getAttribute('aria-valuenow') ?? 0)";
/// The key, as the protocol spells it.
const ESCAPE: &str = "\u{e00c}";
const ENTER: &str = "\u{e007}";
const CONFIRM: &str = "dialog[open] button[type=submit]";

#[tokio::test(flavor = "multi_thread")]
async fn a_person_follows_throttles_pauses_resumes_and_gives_up_a_migration() {
    let items = Items::of(Engine::Postgres, ROWS).await;
    let play = Play::of(Play::builder(&[&items]).rest()).await;
    let browser = Browser::open(1400, 1000).await;
    browser.go(&page(&play, "")).await;
    let empty = "document.querySelector('.welcome')?.checkVisibility() && document.body.innerText.includes('shardlift apply')";
    browser.until("an empty page that teaches", empty).await;

    // It appears by itself, is followed live, and its shard has a cell.
    play.apply(&[ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).rows_per_second(500).text()]).await;
    browser
        .until("the migration to appear", &format!("document.querySelector('.name')?.textContent === '{ID}'"))
        .await;
    browser.until("it to run", &badge("running")).await;
    browser
        .until("the stream to be open", "document.querySelector('#connection').dataset.how === 'live'")
        .await;
    browser.until("progress", &format!("{BAR} > 0")).await;
    let seen = browser.evaluate(BAR).await;
    browser.until("more progress", &format!("{BAR} > {seen}")).await;
    let cell = format!(
        "document.querySelector('.cell[data-shard=\"{}\"]')?.dataset.state === 'backfill'",
        items.shard
    );
    browser.until("the cell of the shard", &cell).await;

    // Nothing is done before the question is answered with yes.
    browser.click("[data-verb=pause]").await;
    browser
        .until(
            "the question",
            "document.querySelector('dialog[open]')?.innerText.includes('shardlift pause')",
        )
        .await;
    browser.press(&[ESCAPE]).await;
    browser.until("the question to go", "!document.querySelector('dialog[open]')").await;
    assert_eq!(play.status(ID).await["status"], "running");

    throttled_by_keys(&browser, &play).await;

    browser.click("[data-verb=pause]").await;
    browser.click(CONFIRM).await;
    browser.until("it to be paused", &badge("paused")).await;
    assert_eq!(play.status(ID).await["status"], "paused");
    let one_way = "!document.querySelector('[data-verb=rollback]')";
    browser.until("no way back to be offered where nothing is kept for it", one_way).await;

    throttled_otherwise_lifted_and_restored(&browser, &play).await;

    browser.click("[data-verb=resume]").await;
    browser.click(CONFIRM).await;
    browser.until("it to run again", &badge("running")).await;
    assert_eq!(play.status(ID).await["status"], "running");

    browser.click("[data-verb=cancel]").await;
    browser
        .until(
            "a word of what stays",
            "document.querySelector('dialog[open]')?.innerText.includes('keep their new form')",
        )
        .await;
    browser.click(CONFIRM).await;
    browser.until("it to be given up", &badge("cancelled")).await;
    assert_eq!(play.status(ID).await["status"], "cancelled");

    assert_eq!(browser.complaints().await, Vec::<String>::new(), "in the console");
    assert_nothing_left(&items).await;
}

/// What is asked for, as the command line would spell it.
fn asks(command: &str) -> String {
    let command = json!(command);
    format!("document.querySelector('dialog[open] code')?.textContent === {command}")
}

/// What the coordinator says of the throttle.
async fn throttle(play: &Play) -> (Value, Value, Value) {
    let throttle = play.status(ID).await["throttle"].clone();
    (throttle["rows_per_second"].clone(), throttle["window"].clone(), throttle["in_spec"].clone())
}

const NO_QUESTION: &str = "!document.querySelector('dialog[open]')";

/// The question has the number in hand: a person types another one, and Enter.
async fn throttled_by_keys(browser: &Browser, play: &Play) {
    browser.evaluate("document.querySelector('[data-verb=throttle]').focus()").await;
    browser.press(&[ENTER]).await;
    browser.until("a number in hand", "document.activeElement?.id === 'throttle-rate'").await;
    let idle = "document.querySelector('dialog[open] button[type=submit]').disabled";
    browser.until("nothing to be asked for yet", idle).await;
    browser.press(&["4", "0", "0"]).await;
    browser.until("the command", &asks(&format!("shardlift throttle {ID} --rows-per-second 400"))).await;
    let outlook =
        "document.querySelector('dialog[open] .hint').textContent.includes('or more at this speed')";
    browser.until("how long it will take", outlook).await;
    browser.press(&[ENTER]).await;
    browser.until("the question to go", NO_QUESTION).await;
    let spec = json!({ "rows_per_second": 500, "window": null });
    assert_eq!(throttle(play).await, (json!(400), Value::Null, spec));
    let told =
        "document.body.innerText.includes('at most 400 rows/s a shard, at any time, not as in the spec')";
    browser.until("the page to say so", told).await;
}

/// While it is paused: lifted, only by night, and as in the spec again. A mistake is told before anything is asked for.
async fn throttled_otherwise_lifted_and_restored(browser: &Browser, play: &Play) {
    browser.click("[data-verb=throttle]").await;
    browser.click("#throttle-speed-free").await;
    browser.until("the command", &asks(&format!("shardlift throttle {ID} --no-limit"))).await;
    let button =
        "document.querySelector('dialog[open] button[type=submit]').textContent === 'Lift the limit'";
    browser.until("what the button does", button).await;
    browser.click(CONFIRM).await;
    browser.until("the question to go", NO_QUESTION).await;
    assert_eq!(throttle(play).await.0, Value::Null);

    let set = |id: &str, time: &str| {
        format!(
            "(() => {{ const field = document.querySelector('#throttle-{id}'); field.value = '{time}';              field.dispatchEvent(new Event('input', {{ bubbles: true }})); return true; }})()"
        )
    };
    browser.click("[data-verb=throttle]").await;
    browser.evaluate(&set("from", "22:00")).await;
    browser.evaluate(&set("to", "22:00")).await;
    browser.click(CONFIRM).await;
    let wrong = "document.querySelector('dialog[open] #throttle-to:invalid') !== null";
    browser.until("an empty time of day to be refused by the page", wrong).await;
    browser.evaluate(&set("to", "06:00")).await;
    let command = format!("shardlift throttle {ID} --window \"22:00-06:00 UTC\"");
    browser.until("the command", &asks(&command)).await;
    browser.click(CONFIRM).await;
    browser.until("the question to go", NO_QUESTION).await;
    assert_eq!(throttle(play).await.1, "22:00-06:00 UTC");

    browser.click("[data-verb=throttle]").await;
    browser.click("#throttle-back").await;
    browser.until("the command", &asks(&format!("shardlift throttle {ID} --as-in-spec"))).await;
    browser.click(CONFIRM).await;
    browser.until("the question to go", NO_QUESTION).await;
    assert_eq!(throttle(play).await, (json!(500), Value::Null, Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_coordinator_is_away_says_so_and_recovers() {
    let items = Items::of(Engine::Postgres, ROWS).await;
    let play = Play::of(Play::builder(&[&items]).rest()).await;
    let browser = Browser::open(400, 800).await;
    // One that can be rolled back: that is the most buttons there are.
    let spec = ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).rows_per_second(500);
    play.apply(&[format!("{}undo: capture\n", spec.text())]).await;
    browser.go(&page(&play, ID)).await;
    browser.until("it to run", &badge("running")).await;
    let fits = "innerWidth === 400 && document.documentElement.scrollWidth <= innerWidth";
    browser.until("a page that fits a phone", fits).await;
    let whole = "[...document.querySelectorAll('.head .button')].length === 4 \
        && [...document.querySelectorAll('.head .button')].every((button) => button.clientHeight < 50)";
    browser.until("buttons whose words are not broken", whole).await;

    let seen = browser.evaluate(BAR).await;
    play.installation.coordinator().kill9();
    browser.until("the loss to be told", "document.querySelector('#lost').checkVisibility()").await;
    browser.until("buttons to be off", "document.querySelector('[data-verb=pause]').disabled").await;

    play.installation.coordinator().restart().await.unwrap();
    browser.until("the loss to be over", "!document.querySelector('#lost').checkVisibility()").await;
    browser
        .until("the stream to be open", "document.querySelector('#connection').dataset.how === 'live'")
        .await;
    browser.until("it to run on", &badge("running")).await;
    browser.until("more progress", &format!("{BAR} > {seen}")).await;
}

/// Types a token into the question for it, and sends it.
async fn sign_in(browser: &Browser, token: &str) {
    browser.until("the question who it is", "document.activeElement?.id === 'token'").await;
    let keys: Vec<String> = token.chars().map(String::from).chain([ENTER.to_owned()]).collect();
    browser.press(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_and_sees_what_their_role_may_do() {
    let items = Items::of(Engine::Postgres, 1_000).await;
    let hash = |token: &str| shardlift_domain::Checksum::of(token.as_bytes()).to_string();
    let one = |name: &str, role: &str, token: &str, shards: &str| {
        let hash = hash(token);
        format!(
            "[[access.principal]]\nname = {name:?}\nrole = {role:?}\ntoken_sha256 = {hash:?}\nshards = [{shards}]\n"
        )
    };
    let known = "[access]\napproval = \"by-another\"\n".to_owned()
        + &one("vera", "viewer", "of-vera", "")
        + &one("olaf", "operator", "of-olaf", "")
        + &one("anna", "approver", "of-anna", "")
        + &one("w", "worker", "of-w", &format!("{:?}", items.shard));
    let worker = WorkerSpec::new("worker", &[&items.shard]).token("of-w");
    let builder = Play::builder(&[&items]).rest().token("of-olaf").coordinator_config(&known).worker(worker);
    let play = Play::of(builder).await;
    play.apply(&[ItemsSpec::new(ID, Engine::Postgres, Form::WithWhere).text()]).await;
    let browser = Browser::open(1400, 1000).await;
    browser.go(&page(&play, ID)).await;

    sign_in(&browser, "nonsense").await;
    browser.until("a refusal", "document.querySelector('dialog[open] .refusal')?.checkVisibility()").await;
    let cleared = "document.querySelector('#token').value = ''";
    browser.evaluate(cleared).await;
    browser.click("#token").await;
    sign_in(&browser, "of-vera").await;
    browser.until("who it is", "document.querySelector('#who')?.textContent === 'vera · viewer'").await;
    browser.until("the migration", &badge("pending")).await;
    browser
        .until("the stream to be open", "document.querySelector('#connection').dataset.how === 'live'")
        .await;
    assert_eq!(browser.evaluate("document.querySelectorAll('[data-verb]').length").await, json!(0));
    assert!(browser.page().await.contains("Needs an approval"), "{}", browser.page().await);

    browser.click("#leave").await;
    sign_in(&browser, "of-anna").await;
    browser.click("[data-verb=approve]").await;
    browser.click(CONFIRM).await;
    browser.until("it to be completed", &badge("completed")).await;
    assert_eq!(play.status(ID).await["approved_by"], "anna");
    assert_nothing_left(&items).await;
}
