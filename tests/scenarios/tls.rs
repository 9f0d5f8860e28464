//! Everything over TLS: who has no, a wrong or an expired certificate is refused, and others do not notice (fault 34); a
//! certificate is renewed in the middle of a run.

use std::time::Duration;

use shardlift_harness::installation::{Installation, Output, Tls, WorkerSpec};
use shardlift_harness::wait::wait_for_ok;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::stage::{
    Authority, Control, DEADLINE, Engine, Form, Http, Items, ItemsSpec, Lifetime, Play, curtain,
};

const ID: &str = "0001_items";
const FORM: Form = Form::WithWhere;

fn spec(rows_per_second: u32) -> String {
    ItemsSpec::new(ID, Engine::Postgres, FORM).rows_per_second(rows_per_second).text()
}

async fn started(items: &Items, tls: &Tls) -> Play {
    Play::of(Play::builder(&[items]).tls(tls)).await
}

/// `shardlift list` with these settings instead of those of the installation.
async fn list(installation: &Installation, env: &[(&str, &str)]) -> Output {
    installation.cli_with(&["list"], env).await.unwrap()
}

/// No coordinator answered, and the complaint says why.
fn not_reached(output: &Output, why: &str) {
    assert_eq!(output.code, Some(6), "{output:#?}");
    assert!(output.stderr.contains(why), "{why:?} is not said: {output:#?}");
}

/// One of the counts of the coordinator's handshakes or renewals.
async fn counted(installation: &Installation, metric: &str, outcome: &str) -> u64 {
    let url = installation.metrics_url();
    let address = url.trim_start_matches("http://").trim_end_matches("/metrics").parse().unwrap();
    let text = Http::plain(address, "/metrics").await;
    let wanted = format!("shardlift_coordinator_{metric}_total{{outcome=\"{outcome}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&wanted));
    line.unwrap_or_else(|| panic!("no {wanted}: {text}")).trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_is_applied_over_tls_from_end_to_end_by_worker_command_line_and_rest() {
    let authority = Authority::new("ours");
    let items = Items::of(Engine::Postgres, 1_000).await;
    let play = Play::of(Play::builder(&[&items]).rest().tls(&authority.installation())).await;
    play.apply(&[spec(2_000)]).await;
    play.completed(ID).await;

    let rest = play.installation.coordinators()[0].rest_address().unwrap();
    let http = Http::over(rest, Some(authority.connector())).await;
    let told = http.get(&format!("/api/v1/migrations/{ID}")).await.ok(200);
    assert_eq!(told["status"], "completed", "{told:#}");
    // The word by which a stranger finds out: plain HTTP is not answered.
    let plain = Http::plain(rest, "/health/live").await;
    assert!(!plain.contains("alive"), "{plain}");
    curtain(&play, ID, &items, FORM, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_no_a_wrong_or_an_expired_certificate_is_refused_and_others_do_not_notice() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let items = Items::of(Engine::Postgres, 4_000).await;
    let play = started(&items, &ours.mutual()).await;
    let installation = &play.installation;
    play.apply(&[spec(800)]).await;
    play.until_rows(ID, 200).await;

    let expired = ours.sign("late", Lifetime::Over);
    let wrong = theirs.sign("stranger", Lifetime::Now);
    for (certificate, key) in [&expired, &wrong] {
        let env = [
            ("SHARDLIFT_CERTIFICATE", certificate.to_str().unwrap()),
            ("SHARDLIFT_KEY", key.to_str().unwrap()),
        ];
        let output = list(installation, &env).await;
        assert_eq!(output.code, Some(6), "{output:#?}");
    }
    let none = shardlift(installation, &["list"], &[("SHARDLIFT_CA", ours.ca().to_str().unwrap())]).await;
    assert_eq!(none.code, Some(6), "{none:#?}");
    // Who trusts somebody else is not taken in by this coordinator.
    let theirs_only = [("SHARDLIFT_CA", theirs.ca())];
    let theirs_only = theirs_only.each_ref().map(|(key, file)| (*key, file.to_str().unwrap()));
    not_reached(&list(installation, &theirs_only).await, "UnknownIssuer");
    let plain = installation.url().replace("https://", "http://");
    let output = shardlift(installation, &["list", "--coordinator", &plain], &[]).await;
    assert_eq!(output.code, Some(6), "{output:#?}");
    let refused = counted(installation, "tls_handshakes", "refused").await;
    assert!(refused >= 4, "{refused} handshakes were refused");

    // Neither the worker nor those who are known have noticed.
    let known = list(installation, &[]).await;
    assert_eq!(known.code, Some(0), "{known:#?}");
    play.completed(ID).await;
    curtain(&play, ID, &items, FORM, None).await;
}

/// `shardlift ARGS` with this environment and nothing of the installation's certificates.
async fn shardlift(installation: &Installation, args: &[&str], env: &[(&str, &str)]) -> Output {
    let blank = ["SHARDLIFT_CA", "SHARDLIFT_CERTIFICATE", "SHARDLIFT_KEY"];
    installation.cli_without(args, env, &blank).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_of_the_coordinator_is_refused_by_whoever_dials() {
    let ours = Authority::new("ours");
    let items = Items::of(Engine::Postgres, 10).await;
    let tls = ours.installation();
    ours.sign_into(&tls.certificate, &tls.key, Lifetime::Over);
    let builder = Play::builder(&[&items]).tls(&tls);
    let installation = builder.launch().await.unwrap();
    not_reached(&list(&installation, &[]).await, "expired");
    let worker = installation.worker(0);
    let told = wait_for_ok("the worker to say why", DEADLINE, async || {
        let log = worker.process().log_tail(20);
        anyhow::ensure!(log.contains("expired"), "{log}");
        Ok(())
    });
    told.await.unwrap();
    // Renewed, everybody comes in by itself.
    ours.sign_into(&tls.certificate, &tls.key, Lifetime::Now);
    installation.wait_connected().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_while_a_migration_runs_and_somebody_watches() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let items = Items::of(Engine::Postgres, 6_000).await;
    let tls = ours.installation();
    let play = started(&items, &tls).await;
    let installation = &play.installation;
    play.apply(&[spec(900)]).await;
    play.until_rows(ID, 200).await;
    let watching = installation.cli(&["watch", ID, "--output", "json"]);
    let renewal = async {
        // A broken pair first: the one before stays in use.
        std::fs::write(&tls.key, "no key").unwrap();
        until_counted(installation, "refused").await;
        assert_eq!(list(installation, &[]).await.code, Some(0));
        // Then a pair of somebody else: whoever trusts him alone gets in now, and nobody else does.
        theirs.sign_into(&tls.certificate, &tls.key, Lifetime::Now);
        until_counted(installation, "taken").await;
        let env = [("SHARDLIFT_CA", theirs.ca())];
        let env = env.each_ref().map(|(key, file)| (*key, file.to_str().unwrap()));
        assert_eq!(list(installation, &env).await.code, Some(0));
        not_reached(&list(installation, &[]).await, "UnknownIssuer");
        ours.sign_into(&tls.certificate, &tls.key, Lifetime::Now);
        play.until("our certificate to be back", async || {
            anyhow::ensure!(list(installation, &[]).await.code == Some(0), "still theirs");
            Ok(())
        })
        .await;
        assert_eq!(play.status(ID).await["status"], "running", "it was renewed in the middle");
    };
    let (watched, ()) = tokio::join!(watching, renewal);
    let watched = watched.unwrap();
    assert_eq!(watched.code, Some(0), "{watched:#?}");
    assert!(watched.stdout.lines().last().unwrap_or_default().contains("\"status\":\"completed\""));
    // Neither worker nor watcher had to come again.
    let log = installation.worker(0).process().log_tail(1_000);
    assert_eq!(log.matches("connected").count(), 1, "{log}");
    curtain(&play, ID, &items, FORM, None).await;
}

async fn until_counted(installation: &Installation, outcome: &str) {
    let what = format!("a renewal to be {outcome}");
    let reached = wait_for_ok(&what, DEADLINE, async || {
        anyhow::ensure!(counted(installation, "tls_reloads", outcome).await > 0, "not yet");
        Ok(())
    });
    reached.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_connect_and_never_shake_hands_keep_nobody_out() {
    let authority = Authority::new("ours");
    let items = Items::of(Engine::Postgres, 1_000).await;
    let play = started(&items, &authority.installation()).await;
    let mut silent = Vec::new();
    for number in 0..700 {
        let mut stream = TcpStream::connect(play.installation.address()).await.unwrap();
        if number % 2 == 0 {
            // The beginning of a greeting that is never finished.
            stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.unwrap();
        }
        silent.push(stream);
    }
    let begun = std::time::Instant::now();
    play.apply(&[spec(2_000)]).await;
    play.completed(ID).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "it took {:?}", begun.elapsed());
    curtain(&play, ID, &items, FORM, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_coordinators_forward_over_mutual_tls_also_after_the_leader_was_killed() {
    let authority = Authority::new("ours");
    let control = Control::of(Engine::Postgres).await;
    let items = Items::of(Engine::Postgres, 4_000).await;
    let play = Play::of(control.builder(&[&items]).tls(&authority.mutual())).await;
    play.apply(&[spec(800)]).await;
    play.until_rows(ID, 100).await;
    let lead = control.lead().await.unwrap();
    for number in (0..3).filter(|number| *number != lead.number) {
        let list = play.ask(number, &["list", "--output", "json"]).await.json().unwrap();
        assert_eq!(list["migrations"][0]["id"], ID, "{list:#}");
    }
    play.installation.coordinators()[lead.number].member().kill9();
    let (next, _) = control.next(&play, lead.epoch).await;
    let follower = (0..3).find(|number| ![lead.number, next.number].contains(number)).unwrap();
    let paused = play.ask(follower, &["pause", ID, "--wait", "30"]).await;
    assert_eq!(paused.code, Some(0), "{paused:#?}");
    play.reached(ID, "paused").await;
    assert_eq!(play.ask(follower, &["resume", ID]).await.code, Some(0));
    play.completed(ID).await;
    curtain(&play, ID, &items, FORM, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn off_loopback_a_coordinator_without_tls_does_not_start() {
    let items = Items::of(Engine::Postgres, 10).await;
    for (key, extra) in [("rest_listen", "rest_listen = \"0.0.0.0:0\""), ("listen", "")] {
        let mut builder = Play::builder(&[&items]).no_workers().coordinator_config(extra);
        if extra.is_empty() {
            builder = builder.coordinator_env("SHARDLIFT__LISTEN", "0.0.0.0:0");
        }
        let refused = builder.launch().await.map(drop).unwrap_err();
        let told = format!("{refused:#}");
        assert!(told.contains("no loopback address") && told.contains(key), "{key}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_a_certificate_of_somebody_else_gets_no_work() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let items = Items::of(Engine::Postgres, 500).await;
    let play = started(&items, &ours.mutual()).await;
    let (certificate, key) = theirs.sign("stranger", Lifetime::Now);
    let stranger = WorkerSpec::new("stranger", &["pg-01"])
        .env("SHARDLIFT__TLS__CERTIFICATE", certificate.to_str().unwrap())
        .env("SHARDLIFT__TLS__KEY", key.to_str().unwrap());
    let stranger = play.installation.add_worker(&stranger).unwrap();
    play.until("the stranger to be refused", async || {
        let log = stranger.process().log_tail(30);
        anyhow::ensure!(log.contains("coordinator.unreachable"), "{log}");
        Ok(())
    })
    .await;
    let workers = play.installation.cli_json(&["workers"]).await.unwrap();
    assert_eq!(workers["workers"].as_array().map(Vec::len), Some(1), "{workers:#}");
    play.apply(&[spec(2_000)]).await;
    play.completed(ID).await;
}
