//! Whatever a server writes into its free texts, no view passes a harmful character on.

use shardlift_domain::failure::Failure;
use shardlift_domain::ids::Checksum;

use super::paint::Paint;
use super::{bars, cluster, failure, json, lines, list, plan, samples, status};

const HOSTILE: &str = "\u{1b}[2J\u{9b}31m\u{7}\u{8}\r\u{202e}\u{2066}\u{200b}\u{feff}\u{e0041}end";

fn hostile() -> Failure {
    let mut failure = samples::failed().error.expect("an error");
    failure.message = HOSTILE.into();
    failure.next = HOSTILE.into();
    failure.place.key = Some(HOSTILE.into());
    failure.place.file = Some(HOSTILE.into());
    failure
}

fn check(view: &str, text: &str) {
    let harmful = |c: &char| *c != '\n' && (c.is_control() || HOSTILE.contains(*c) && !c.is_ascii());
    assert_eq!(text.chars().find(harmful), None, "{view}: {text:?}");
    assert!(text.contains("end"), "{view} does not show the text: {text}");
}

#[test]
fn no_view_passes_a_harmful_character_on() {
    let mut view = samples::failed();
    view.checksum = Checksum::from_stored(HOSTILE);
    view.error = Some(hostile());
    view.halted = Some(hostile());
    view.shards[0].error = Some(hostile());
    view.shards[1].trouble = Some(hostile());
    let mut planned = samples::plan();
    planned.migrations[1].notes = vec![HOSTILE.into()];
    planned.findings[0].failure = hostile();
    let mut shards = samples::shards();
    shards[0].server_version = Some(HOSTILE.into());
    shards[1].problem = Some(hostile());
    let mut workers = samples::workers();
    workers[0].version = HOSTILE.into();
    let coordinator = || shardlift_client::model::Coordinator {
        name: HOSTILE.into(),
        address: HOSTILE.into(),
        leads: true,
    };
    let coordinators = vec![coordinator(), coordinator()];
    let leader = shardlift_client::model::Leader {
        name: HOSTILE.into(),
        epoch: 1,
        here: true,
        coordinators,
        open: true,
    };

    check("status", &status::status(Paint::PLAIN, &view));
    check("report", &lines::report(&view));
    check("lost", &lines::lost(&hostile()));
    check("bar", &bars::figures_of(&view.shards[1]));
    check("plan", &plan::plan(Paint::PLAIN, &planned, &[]));
    check("failures", &failure::failures(Paint::PLAIN, &[hostile()], &[]));
    check("shards", &cluster::shards(Paint::PLAIN, &shards));
    check("workers", &cluster::workers(Paint::PLAIN, &workers));
    check("leader", &cluster::leader(Paint::PLAIN, &leader));
    check("json", &json::pretty(&json::status(&view)));
    check("json plan", &json::pretty(&json::plan(&planned)));
    let listed = list::list(Paint::PLAIN, &[view]);
    assert!(!listed.contains('\u{1b}'), "{listed}");
}
