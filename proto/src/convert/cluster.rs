//! The topology, rules, and looks for misplaced rows.

use shardlift_domain::facts::{Misplaced, PlacementPage, PlacementRequest};
use shardlift_domain::ids::ShardId;
use shardlift_domain::routing::{Home, KeyKind, KeyRange, Residence, Routing, Rule, Span};

use super::{WireError, need};
use crate::v1;
use crate::v1::residence::Home as WireHome;
use crate::v1::routing::Rule as WireRule;

fn key_to_wire(key: KeyKind) -> v1::RoutingKey {
    match key {
        KeyKind::Text => v1::RoutingKey::Text,
        KeyKind::Integer => v1::RoutingKey::Integer,
        KeyKind::Uuid => v1::RoutingKey::Uuid,
    }
}

fn key_from_wire(key: v1::RoutingKey) -> Result<KeyKind, WireError> {
    match key {
        v1::RoutingKey::Text => Ok(KeyKind::Text),
        v1::RoutingKey::Integer => Ok(KeyKind::Integer),
        v1::RoutingKey::Uuid => Ok(KeyKind::Uuid),
        v1::RoutingKey::Unspecified => Err(WireError::Missing("key")),
    }
}

/// A rule to the wire.
pub fn routing_to_wire(routing: &Routing) -> v1::Routing {
    let rule = match &routing.rule {
        Rule::Hash { buckets, spans } => {
            let span =
                |span: &Span| v1::Span { first: span.first, last: span.last, shard: span.shard.to_string() };
            WireRule::Hash(v1::HashRule { buckets: *buckets, spans: spans.iter().map(span).collect() })
        }
        Rule::Range { ranges } => {
            let range = |range: &KeyRange| v1::KeyRange {
                below: range.below.clone(),
                shard: range.shard.to_string(),
            };
            WireRule::Range(v1::RangeRule { ranges: ranges.iter().map(range).collect() })
        }
        Rule::Directory { default } => {
            let default_shard = default.as_ref().map(ToString::to_string);
            WireRule::Directory(v1::DirectoryRule { default_shard })
        }
    };
    v1::Routing { key: key_to_wire(routing.key).into(), rule: Some(rule) }
}

/// A rule from the wire. Whether it is sound for a cluster is not looked at.
pub fn routing_from_wire(routing: v1::Routing) -> Result<Routing, WireError> {
    let key = key_from_wire(routing.key())?;
    let rule = match need(routing.rule, "rule")? {
        WireRule::Hash(hash) => {
            let span = |span: v1::Span| {
                Ok(Span { first: span.first, last: span.last, shard: ShardId::new(span.shard)? })
            };
            let spans = hash.spans.into_iter().map(span).collect::<Result<_, WireError>>()?;
            Rule::Hash { buckets: hash.buckets, spans }
        }
        WireRule::Range(range) => {
            let one =
                |range: v1::KeyRange| Ok(KeyRange { below: range.below, shard: ShardId::new(range.shard)? });
            Rule::Range { ranges: range.ranges.into_iter().map(one).collect::<Result<_, WireError>>()? }
        }
        WireRule::Directory(directory) => {
            Rule::Directory { default: directory.default_shard.map(ShardId::new).transpose()? }
        }
    };
    Ok(Routing { key, rule })
}

/// One page that is asked for, to the wire.
pub fn placement_to_wire(query: u64, shard: ShardId, request: PlacementRequest) -> v1::PlacementQuery {
    v1::PlacementQuery {
        query,
        shard: shard.into(),
        relation: request.relation,
        column: request.column,
        residence: Some(residence_to_wire(request.residence)),
        after: request.after.map(|parts| v1::Cursor { parts }),
        limit: request.limit,
    }
}

/// One page that is asked for, from the wire.
pub fn placement_from_wire(query: v1::PlacementQuery) -> Result<PlacementRequest, WireError> {
    Ok(PlacementRequest {
        relation: query.relation,
        column: query.column,
        residence: residence_from_wire(need(query.residence, "residence")?)?,
        after: query.after.map(|cursor| cursor.parts),
        limit: query.limit,
    })
}

fn residence_to_wire(residence: Residence) -> v1::Residence {
    let list = |keys: std::collections::BTreeSet<String>| v1::KeyList { keys: keys.into_iter().collect() };
    let home = match residence.home {
        Home::Buckets { buckets, spans } => {
            let span = |(first, last)| v1::Span { first, last, shard: String::new() };
            WireHome::Buckets(v1::BucketHome { buckets, spans: spans.into_iter().map(span).collect() })
        }
        Home::Intervals(intervals) => {
            let interval = |(from, below)| v1::Interval { from, below };
            WireHome::Intervals(v1::IntervalHome { intervals: intervals.into_iter().map(interval).collect() })
        }
        Home::Listed(keys) => WireHome::Listed(list(keys)),
        Home::Unlisted(keys) => WireHome::Unlisted(list(keys)),
    };
    v1::Residence { key: key_to_wire(residence.key).into(), home: Some(home) }
}

fn residence_from_wire(residence: v1::Residence) -> Result<Residence, WireError> {
    let key = key_from_wire(residence.key())?;
    let home = match need(residence.home, "home")? {
        WireHome::Buckets(home) => {
            let spans = home.spans.into_iter().map(|span| (span.first, span.last)).collect();
            Home::Buckets { buckets: home.buckets, spans }
        }
        WireHome::Intervals(home) => Home::Intervals(
            home.intervals.into_iter().map(|interval| (interval.from, interval.below)).collect(),
        ),
        WireHome::Listed(list) => Home::Listed(list.keys.into_iter().collect()),
        WireHome::Unlisted(list) => Home::Unlisted(list.keys.into_iter().collect()),
    };
    Ok(Residence { key, home })
}

/// What a page found, to the wire.
pub fn page_to_wire(page: PlacementPage) -> v1::PlacementPage {
    let misplaced =
        page.misplaced.into_iter().map(|row| v1::Misplaced { row: row.row, key: row.key }).collect();
    v1::PlacementPage { walked: page.walked, misplaced, next: page.next.map(|parts| v1::Cursor { parts }) }
}

/// What a page found, from the wire.
pub fn page_from_wire(page: v1::PlacementPage) -> PlacementPage {
    let misplaced = page.misplaced.into_iter().map(|row| Misplaced { row: row.row, key: row.key }).collect();
    PlacementPage { walked: page.walked, misplaced, next: page.next.map(|cursor| cursor.parts) }
}
