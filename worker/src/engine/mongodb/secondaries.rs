//! Secondaries of the shard's replica set: how far they are behind, for specs with `throttle.max_replica_lag`.

use std::collections::BTreeSet;
use std::time::Duration;

use bson::{Bson, Document, doc};
use mongodb::Client;
use shardlift_domain::ErrorCode;
use shardlift_domain::verdict::Severity;
use tokio::time::Instant;

use super::connection::Connection;
use super::error;
use crate::engine::findings::Findings;
use crate::engine::replicas::Track;
use crate::engine::{EngineResult, Lag};

const PRIMARY: i32 = 1;
const SECONDARY: i32 = 2;
/// A primary to which nobody writes notes that it lives so often: as far a secondary may lie behind without lacking more
/// than that note.
const NOTED_EVERY: Duration = Duration::from_secs(10);

/// The secondary that is furthest behind.
pub(super) async fn lag(client: &Client, track: &Track) -> EngineResult<Option<Lag>> {
    let admin = client.database("admin");
    let asking = || error::asking("asking how far secondaries are behind");
    let hello = admin.run_command(doc! { "hello": 1 }).await.map_err(asking())?;
    let status = admin.run_command(doc! { "replSetGetStatus": 1 }).await.map_err(asking())?;
    Ok(furthest(&visible(&hello), &status, Instant::now(), track))
}

/// The members that applications may read from: not the hidden ones, nor arbiters.
fn visible(hello: &Document) -> BTreeSet<&str> {
    let list = |name: &str| hello.get_array(name).map(Vec::as_slice).unwrap_or_default();
    list("hosts").iter().chain(list("passives")).filter_map(Bson::as_str).collect()
}

fn furthest(visible: &BTreeSet<&str>, status: &Document, now: Instant, track: &Track) -> Option<Lag> {
    let all = status.get_array("members").map(Vec::as_slice).unwrap_or_default();
    let of = |state: i32| {
        let members = all.iter().filter_map(Bson::as_document);
        members.filter(move |member| member.get_i32("state").is_ok_and(|found| found == state))
    };
    let (written, at) = of(PRIMARY).find_map(place)?;
    track.note(now, written);
    let seen = of(SECONDARY).filter_map(|member| {
        let name = member.get_str("name").ok().filter(|name| visible.contains(name))?;
        let (applied, then) = place(member)?;
        let told = Duration::from_secs(u64::from(at.saturating_sub(then))).saturating_sub(NOTED_EVERY);
        Some(Lag { replica: name.to_owned(), behind: track.behind(now, applied).max(told) })
    });
    Lag::furthest(seen)
}

/// How far a member is in the oplog, as a number that grows, and when that was written, in seconds.
fn place(member: &Document) -> Option<(u64, u32)> {
    let time = member.get_document("optime").ok()?.get_timestamp("ts").ok()?;
    Some((u64::from(time.time) << 32 | u64::from(time.increment), time.time))
}

/// Whether the bound means anything here.
pub(super) async fn look(connection: &Connection, findings: &mut Findings) -> EngineResult<()> {
    let hello = connection.server_hello().await.map_err(error::asking("asking for the members"))?;
    if visible(&hello).len() < 2 {
        let what =
            "throttle.max_replica_lag has no effect as long as the replica set has no visible secondary";
        let next = "nothing, if it has none; one that is added later counts from then on";
        findings.of_spec(Severity::Note, ErrorCode::ShardLagging, what, next);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bson::Timestamp;

    use super::*;

    fn member(name: &str, state: i32, time: u32) -> Document {
        doc! { "name": name, "state": state, "optime": { "ts": Timestamp { time, increment: 1 }, "t": 1_i64 } }
    }

    fn status(secondary: Document) -> Document {
        doc! { "members": [member("a:1", PRIMARY, 1000), member("b:1", SECONDARY, 1000), secondary] }
    }

    #[test]
    fn the_visible_secondary_that_is_furthest_behind_is_told() {
        let hello = doc! { "hosts": ["a:1", "b:1"], "passives": ["c:1"], "arbiters": ["d:1"] };
        let visible = visible(&hello);
        let (track, now) = (Track::default(), Instant::now());
        let told = |secondary| furthest(&visible, &status(secondary), now, &track);
        let behind = |seconds| Lag { replica: "c:1".into(), behind: Duration::from_secs(seconds) };
        assert_eq!(
            told(member("c:1", SECONDARY, 940)),
            Some(behind(50)),
            "but for the note that a primary lives"
        );
        let none = Lag { replica: "b:1".into(), behind: Duration::ZERO };
        for other in
            [member("e:1", SECONDARY, 1), member("d:1", 7, 1), member("c:1", 8, 1), member("c:1", 3, 1)]
        {
            assert_eq!(told(other.clone()), Some(none.clone()), "{other}: hidden, an arbiter, down or away");
        }
    }

    #[test]
    fn a_secondary_that_stands_still_falls_behind_by_our_own_clock() {
        let visible = BTreeSet::from(["a:1", "b:1", "c:1"]);
        let (track, now) = (Track::default(), Instant::now());
        let still = member("c:1", SECONDARY, 999);
        assert_eq!(
            furthest(&visible, &status(still.clone()), now, &track).map(|lag| lag.behind),
            Some(Duration::ZERO)
        );
        let later = now + Duration::from_secs(4);
        let lag = furthest(&visible, &status(still), later, &track).expect("it is behind");
        assert_eq!((lag.replica.as_str(), lag.behind), ("c:1", Duration::from_secs(4)));
    }
}
