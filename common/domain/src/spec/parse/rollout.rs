//! `rollout`: in which waves a migration reaches the shards.

use std::time::Duration;

use crate::spec::yaml::{Mark, Node, Scalar, Value};
use crate::spec::{Reach, WaveSpec};

use super::context::Context;
use super::fields::Fields;
use super::scalars::{count, duration};

const MAX_WAVES: usize = 32;
const MAX_SHARDS: u32 = 100_000;
const SOAK_BOUNDS: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(7 * 24 * 3600));
const EVERYTHING: WaveSpec = WaveSpec { reach: Reach::Percent(100), soak: Duration::ZERO };

/// The waves, the last of which reaches everything, written or not. Empty: what happens without the key.
pub(super) fn read(ctx: &mut Context, node: &Node) -> Option<Vec<WaveSpec>> {
    let items = match &node.value {
        Value::Scalar(Scalar::Text(word, _)) if word == "all" => return Some(Vec::new()),
        Value::Sequence(items) if !items.is_empty() && items.len() <= MAX_WAVES => items,
        Value::Sequence(_) => {
            ctx.invalid(node.at, format!("rollout must have 1 to {MAX_WAVES} waves; leave it out for one"));
            return None;
        }
        _ => {
            let found = node.describe();
            let message = format!(
                "rollout must be all, or a list of waves such as {{ shards: 1, soak: 10m }}, not {found}"
            );
            ctx.invalid(node.at, message);
            return None;
        }
    };
    let read: Vec<Option<WaveSpec>> = items.iter().map(|item| wave(ctx, item)).collect();
    let places: Vec<(Mark, WaveSpec)> =
        items.iter().zip(&read).filter_map(|(item, wave)| Some((item.at, (*wave)?))).collect();
    growing(ctx, &places);
    let mut waves = read.into_iter().collect::<Option<Vec<_>>>()?;
    if waves.last().is_some_and(|last| last.reach != EVERYTHING.reach) {
        waves.push(EVERYTHING);
    }
    Some(if waves == [EVERYTHING] { Vec::new() } else { waves })
}

fn wave(ctx: &mut Context, node: &Node) -> Option<WaveSpec> {
    let fields = Fields::open(ctx, node, "rollout")?;
    let shards = fields.get("shards").map(|node| count(ctx, node, "rollout.shards", 1, MAX_SHARDS));
    let percent = fields.get("percent").map(|node| count(ctx, node, "rollout.percent", 1, 100));
    let soak = match fields.get("soak") {
        Some(node) => duration(ctx, node, "rollout.soak", SOAK_BOUNDS),
        None => Some(Duration::ZERO),
    };
    let reach = match (shards, percent) {
        (Some(shards), None) => shards.map(Reach::Shards),
        (None, Some(percent)) => percent.map(Reach::Percent),
        (Some(_), Some(_)) | (None, None) => {
            ctx.invalid(node.at, "a wave of rollout needs either shards or percent: how far it reaches");
            None
        }
    };
    Some(WaveSpec { reach: reach?, soak: soak? })
}

/// Each wave must reach further than those before it. How many shards a percentage is, only the plan knows.
fn growing(ctx: &mut Context, waves: &[(Mark, WaveSpec)]) {
    let (mut shards, mut percent) = (0, 0);
    for (at, wave) in waves {
        let (before, now, word) = match wave.reach {
            Reach::Shards(count) => (std::mem::replace(&mut shards, count), count, "shards"),
            Reach::Percent(share) => (std::mem::replace(&mut percent, share), share, "percent"),
        };
        if percent == 100 && word == "shards" {
            ctx.invalid(*at, "the wave before this one reaches everything; leave this one out");
        } else if now <= before {
            let message = format!(
                "waves of rollout are cumulative and must grow: {word}: {now} comes after {word}: {before}"
            );
            ctx.invalid(*at, message);
        }
    }
}
