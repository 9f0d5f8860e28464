//! The history as a chain, in every backend.

use std::sync::Arc;

use shardlift_domain::Version;

use super::samples::{self, entry, stored};
use super::{Place, lead, submit};
use crate::store::{Change, Head, HistoryEntry, HistoryEvent, Link, Store, Walk, Wanted};

/// All entries, page by page.
async fn links(store: &Arc<dyn Store>) -> Vec<Link> {
    let mut all: Vec<Link> = Vec::new();
    loop {
        let after = Some(all.last().map_or(0, |link| link.sequence));
        let page = store.links(&Wanted { after, limit: 2, ..Wanted::default() }).await.expect("reads");
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

pub(super) async fn the_history_is_a_chain_from_the_first_entry_to_the_head(place: impl Place) {
    let store = place.open().await;
    assert_eq!(store.head().await.expect("reads"), Head::default());
    let mut permit = lead(&store, "leader").await;
    submit(&store, &permit, "one").await;
    submit(&store, &permit, "two").await;
    let key = stored("one", Version::FIRST).migration.key;
    for number in 0..3 {
        // Several in one commit, several leaders, and commits that add nothing.
        let history = vec![entry(&key, HistoryEvent::Paused), entry(&key, HistoryEvent::Resumed)];
        store.commit(&permit, Change { history, ..Change::default() }).await.expect("commits");
        store.commit(&permit, Change::default()).await.expect("commits");
        permit = lead(&place.open().await, &format!("next {number}")).await;
    }
    // What is about no migration stands between, and alone.
    let (changed, drained) = (HistoryEvent::TopologyChanged, HistoryEvent::WorkerDrained);
    let between = vec![samples::of_the_installation(changed), entry(&key, HistoryEvent::Paused)];
    for history in [between, vec![samples::of_the_installation(drained)]] {
        store.commit(&permit, Change { history, ..Change::default() }).await.expect("commits");
    }
    // What was refused has left the chain as it was.
    let absent = stored("absent", Version::FIRST).migration.key;
    let refused = Change { history: vec![entry(&absent, HistoryEvent::Paused)], ..Change::default() };
    store.commit(&permit, refused).await.expect_err("nobody knows it");
    let (head, all) = (place.open().await.head().await.expect("reads"), links(&store).await);
    assert_eq!((head.count, all.len()), (11, 11));
    assert_eq!(all[8].entry, Ok(samples::of_the_installation(changed)));
    assert_eq!(all[10].entry, Ok(samples::of_the_installation(drained)));
    let events = store.events(&key.id, None, 100).await.expect("reads");
    assert!(events.len() == 8 && events.iter().all(|event| event.entry.is_about(&key.id)), "{events:?}");
    let mut walk = Walk::to(head.clone());
    all.iter().try_for_each(|link| walk.step(link)).expect("it holds");
    walk.end().expect("it holds");
    assert_eq!((walk.seen(), walk.unchained()), (&head, 0));
    assert_eq!(all[2].entry, Ok(entry(&key, HistoryEvent::Paused)), "everything of it came back");
}

pub(super) async fn entries_of_the_chain_are_found_by_what_they_say(place: impl Place) {
    let store = place.open().await;
    let permit = lead(&store, "leader").await;
    submit(&store, &permit, "one").await;
    submit(&store, &permit, "two").await;
    let key = stored("one", Version::FIRST).migration.key;
    let other = HistoryEntry {
        actor: "somebody else".into(),
        at: samples::moment(60),
        ..entry(&key, HistoryEvent::Paused)
    };
    store.commit(&permit, Change { history: vec![other], ..Change::default() }).await.expect("commits");
    let found = async |wanted: Wanted| {
        let found = store.links(&Wanted { limit: 10, ..wanted }).await.expect("reads");
        found.into_iter().map(|link| link.entry.expect("readable").event).collect::<Vec<_>>()
    };
    let one = Wanted { id: Some(key.id.clone()), ..Wanted::default() };
    assert_eq!(found(one.clone()).await, [HistoryEvent::Submitted, HistoryEvent::Paused]);
    assert_eq!(
        found(Wanted { after: Some(0), ..one }).await,
        [HistoryEvent::Submitted, HistoryEvent::Paused]
    );
    let actor = Wanted { actor: Some("somebody else".into()), ..Wanted::default() };
    assert_eq!(found(actor).await, [HistoryEvent::Paused]);
    for after in [None, Some(0)] {
        let event = Wanted { event: Some(HistoryEvent::Paused), after, ..Wanted::default() };
        assert_eq!(found(event.clone()).await, [HistoryEvent::Paused]);
        let two = Some(stored("two", Version::FIRST).migration.key.id);
        assert_eq!(found(Wanted { id: two, ..event }).await, []);
        let since = Wanted { since: Some(samples::moment(60)), after, ..Wanted::default() };
        assert_eq!(found(since).await, [HistoryEvent::Paused]);
        let late = Wanted { since: Some(samples::moment(61)), after, ..Wanted::default() };
        assert_eq!(found(late).await, []);
    }
    let newest = store.links(&Wanted { limit: 2, ..Wanted::default() }).await.expect("reads");
    assert_eq!(newest.len(), 2);
    assert!(newest[0].sequence < newest[1].sequence);
}
