//! What is told to sinks and heard from brokers.

use chrono::TimeDelta;
use shardlift_domain::{MigrationKey, Version};

use super::samples::{entry, id, moment, stored};
use super::{Place, abandoned, lead, names, submit};
use crate::store::{Change, Heard, HistoryEvent, Position, Recorded, Relayed, StoreError};

const KINDS: [HistoryEvent; 2] = [HistoryEvent::Ready, HistoryEvent::Completed];

fn key(name: &str) -> MigrationKey {
    stored(name, Version::FIRST).migration.key
}

fn relayed(sink: &str, position: u64) -> Change {
    Change { relayed: Some(Relayed { sink: sink.to_owned(), position }), ..Change::default() }
}

fn heard(source: &str, id: &str, days: i64) -> Heard {
    Heard { source: source.to_owned(), id: id.to_owned(), at: moment(0) + TimeDelta::days(days) }
}

pub(super) async fn a_sink_keeps_its_place_and_never_goes_back(place: impl Place) {
    let store = place.open().await;
    let permit = lead(&store, "leader").await;
    assert_eq!(store.position("a").await.expect("reads"), Position { told: None, newest: 0 });
    submit(&store, &permit, "one").await;
    let newest = store.position("a").await.expect("reads").newest;
    assert_eq!(newest, store.events(&id("one"), None, 1).await.expect("reads")[0].sequence);
    for (sink, position, told) in [("a", 7, 7), ("b", 3, 3), ("a", 5, 7), ("a", 9, 9)] {
        store.commit(&permit, relayed(sink, position)).await.expect("commits");
        let seen = place.open().await.position(sink).await.expect("reads");
        assert_eq!(seen, Position { told: Some(told), newest });
    }
    lead(&place.open().await, "next").await;
    assert!(matches!(store.commit(&permit, relayed("a", 99)).await, Err(StoreError::Fenced { .. })));
    assert_eq!(store.position("a").await.expect("reads").told, Some(9), "a fenced leader moved it");
}

pub(super) async fn what_is_to_be_told_is_read_on_over_all_migrations(place: impl Place) {
    let store = place.open().await;
    let permit = lead(&store, "leader").await;
    for name in ["one", "two"] {
        submit(&store, &permit, name).await;
    }
    let second = stored("one", Version(2));
    store.commit(&permit, Change { new: vec![second.clone()], ..Change::default() }).await.expect("commits");
    for event in HistoryEvent::ALL {
        let keys = [key("one"), key("two"), second.migration.key.clone()];
        let history = keys.iter().map(|key| entry(key, *event)).collect();
        store.commit(&permit, Change { history, ..Change::default() }).await.expect("commits");
    }
    let all = store.told(&KINDS, 0, 100).await.expect("reads");
    let seen: Vec<_> = all
        .iter()
        .map(|told| {
            (told.entry.event, told.entry.migration.as_ref().map(ToString::to_string).unwrap_or_default())
        })
        .collect();
    let expected =
        KINDS.map(|event| ["one@1", "two@1", "one@2"].map(|name| (event, name.to_owned()))).concat();
    assert_eq!(seen, expected);
    let (mut read, mut after) = (Vec::new(), 0);
    while let [.., last] = store.told(&KINDS, after, 4).await.expect("reads").as_slice() {
        let page = store.told(&KINDS, after, 4).await.expect("reads");
        after = last.sequence;
        read.extend(page);
    }
    assert_eq!(read, all);
    assert_eq!(store.told(&KINDS, u64::MAX, 4).await.expect("reads"), []);
    assert_eq!(store.told(&[], 0, 4).await.expect("reads"), []);
    let mut numbers = Vec::new();
    for Recorded { sequence, entry } in &all {
        numbers.push(
            store
                .count(&entry.migration.as_ref().expect("of a migration").id, &KINDS, *sequence)
                .await
                .expect("counts"),
        );
    }
    assert_eq!(
        numbers,
        [1, 1, 2, 3, 2, 4],
        "each id has numbers of its own, without gaps, over its versions"
    );
    assert_eq!(store.count(&id("one"), &KINDS, u64::MAX).await.expect("counts"), 4);
}

/// A sequence is taken before its commit ends, and commits are abandoned on the way: nothing appears behind a reader's back.
pub(super) async fn no_entry_appears_behind_one_that_was_read(place: impl Place) {
    let store = place.open().await;
    let permit = lead(&store, "leader").await;
    submit(&store, &permit, "one").await;
    let reader = place.open().await;
    let reading = tokio::spawn(async move {
        let (mut read, mut after): (Vec<Recorded>, _) = (Vec::new(), 0);
        loop {
            let page = reader.told(&KINDS, after, 3).await.expect("reads");
            after = page.last().map_or(after, |last| last.sequence);
            let over = page.iter().any(|told| told.entry.event == HistoryEvent::Completed);
            read.extend(page);
            if over {
                return read;
            }
            tokio::task::yield_now().await;
        }
    });
    for polls in 0..40 {
        let history = vec![entry(&key("one"), HistoryEvent::Ready); 2];
        let change = Change { history, ..Change::default() };
        if let Some(made) = abandoned(store.commit(&permit, change), polls).await {
            made.expect("commits");
        }
    }
    let last = vec![entry(&key("one"), HistoryEvent::Completed)];
    store.commit(&permit, Change { history: last, ..Change::default() }).await.expect("commits");
    let read = reading.await.expect("no panic");
    assert_eq!(read, store.told(&KINDS, 0, 1000).await.expect("reads"));
}

pub(super) async fn a_request_is_carried_out_once_with_its_commit(place: impl Place) {
    let store = place.open().await;
    let permit = lead(&store, "leader").await;
    let with = |name: &str, heard: Heard| Change {
        new: vec![stored(name, Version::FIRST)],
        heard: Some(heard),
        ..Change::default()
    };
    assert!(!store.has_heard("/ci", "1").await.expect("reads"));
    store.commit(&permit, with("one", heard("/ci", "1", 0))).await.expect("commits");
    assert!(place.open().await.has_heard("/ci", "1").await.expect("reads"));
    let refused = store.commit(&permit, with("two", heard("/ci", "1", 1))).await;
    assert!(matches!(refused, Err(StoreError::AlreadyHeard { .. })), "{refused:?}");
    assert_eq!(names(&store).await, ["one@1"], "refused as a whole");
    store.commit(&permit, with("two", heard("/other", "1", 1))).await.expect("another source's");
    let refused = store.commit(&permit, with("one", heard("/ci", "2", 1))).await;
    assert!(matches!(refused, Err(StoreError::AlreadyStored(_))), "{refused:?}");
    assert!(!store.has_heard("/ci", "2").await.expect("reads"), "what was refused was not heard");
    store.commit(&permit, with("three", heard("/ci", "3", 31))).await.expect("commits");
    assert!(!store.has_heard("/ci", "1").await.expect("reads"), "forgotten after 30 days");
    assert!(store.has_heard("/other", "1").await.expect("reads"));
}
