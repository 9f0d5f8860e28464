//! Shards, workers and the leader as tables.

use shardlift_client::model::{Drained, Leader, ShardPresence, WorkerPresence};

use super::failure::failure;
use super::harmless::line;
use super::paint::{Paint, Tone};
use super::table::{Cell, Side, Table};

/// The declared shards, then what is wrong with them.
pub(crate) fn shards(paint: Paint, shards: &[ShardPresence]) -> String {
    if shards.is_empty() {
        return "no shards: declare clusters in the coordinator's configuration\n".to_owned();
    }
    let mut table = Table::new(&[
        ("SHARD", Side::Left),
        ("CLUSTER", Side::Left),
        ("ENGINE", Side::Left),
        ("REACHABLE", Side::Left),
        ("SERVER", Side::Left),
        ("WORKERS", Side::Left),
    ]);
    for shard in shards {
        let workers: Vec<_> = shard.workers.iter().map(|worker| worker.as_str()).collect();
        table.row(vec![
            shard.shard.as_str().into(),
            shard.cluster.as_str().into(),
            shard.engine.as_str().into(),
            if shard.reachable { Cell::new(Tone::Good, "yes") } else { Cell::new(Tone::Bad, "no") },
            shard.server_version.as_deref().map_or_else(|| "-".to_owned(), line).into(),
            if workers.is_empty() { "-".to_owned() } else { workers.join(", ") }.into(),
        ]);
    }
    let mut text = table.render(paint);
    for shard in shards {
        if let Some(problem) = &shard.problem {
            let mut problem = problem.clone();
            problem.place.shard.get_or_insert_with(|| shard.shard.clone());
            text.push('\n');
            text.push_str(&failure(paint, &problem, &[]));
        }
    }
    text
}

/// The connected workers.
pub(crate) fn workers(paint: Paint, workers: &[WorkerPresence]) -> String {
    if workers.is_empty() {
        return "no workers are connected: start shardlift-worker --config FILE beside each shard\n"
            .to_owned();
    }
    let mut table = Table::new(&[
        ("WORKER", Side::Left),
        ("VERSION", Side::Left),
        ("SLOTS", Side::Right),
        ("BUSY", Side::Right),
        ("STATE", Side::Left),
        ("SHARDS", Side::Left),
    ]);
    for worker in workers {
        let shards: Vec<_> = worker.shards.iter().map(|shard| shard.as_str()).collect();
        table.row(vec![
            worker.worker.as_str().into(),
            line(&worker.version).into(),
            worker.slots.to_string().into(),
            worker.busy.to_string().into(),
            if worker.draining { Cell::new(Tone::Warn, "draining") } else { "active".into() },
            shards.join(", ").into(),
        ]);
    }
    table.render(paint)
}

/// What became of a wish to drain a worker.
pub(crate) fn drained(answer: &Drained) -> String {
    let worker = &answer.worker;
    let already = if answer.changed { "" } else { " already" };
    if !worker.draining {
        return format!("{} takes work{already}\n", worker.worker);
    }
    let mut text =
        format!("{} is given nothing new{already}; {} of its tasks run\n", worker.worker, worker.busy);
    if !answer.alone.is_empty() {
        let shards: Vec<_> = answer.alone.iter().map(|shard| shard.as_str()).collect();
        text.push_str(&format!(
            "nobody else serves {}: what runs there is finished there, and nothing new begins\n",
            shards.join(", ")
        ));
    }
    text
}

/// Who leads, in one line; then all coordinators, if there are several.
pub(crate) fn leader(paint: Paint, leader: &Leader) -> String {
    if leader.name.is_empty() {
        return "nobody leads at the moment\n".to_owned();
    }
    let here = if leader.here { "the one that answered" } else { "another than the one that answered" };
    let mut text = format!("{}, epoch {}, {here}\n", line(&leader.name), leader.epoch);
    if leader.open {
        text.push_str("open: whoever reaches it may do everything ([access] knows nobody)\n");
    }
    if leader.coordinators.len() > 1 {
        let mut table =
            Table::new(&[("COORDINATOR", Side::Left), ("ADDRESS", Side::Left), ("LEADS", Side::Left)]);
        for coordinator in &leader.coordinators {
            let leads = if coordinator.leads { Cell::new(Tone::Good, "yes") } else { "no".into() };
            table.row(vec![line(&coordinator.name).into(), line(&coordinator.address).into(), leads]);
        }
        text.push('\n');
        text.push_str(&table.render(paint));
    }
    text
}

#[cfg(test)]
mod tests {
    use shardlift_client::model::Coordinator;

    use super::super::samples;
    use super::*;

    #[test]
    fn shards_are_listed_with_what_is_wrong() {
        let expected = "\
SHARD       CLUSTER  ENGINE    REACHABLE  SERVER  WORKERS
chat-pg-01  chat     postgres  yes        15.18   worker-a
chat-pg-02  chat     postgres  no         -       worker-a

error[shard.unreachable]: connection refused
  where: shard chat-pg-02
  whose fault: the shard's database server
  next: start the server
  more: docs/errors/shard.unreachable.md
";
        assert_eq!(shards(Paint::PLAIN, &samples::shards()), expected);
    }

    #[test]
    fn workers_are_listed_with_their_load() {
        let expected = "\
WORKER    VERSION  SLOTS  BUSY  STATE     SHARDS
worker-a  0.1.0        4     1  active    chat-pg-01, chat-pg-02
worker-b  0.1.0        2     0  draining  chat-pg-02
";
        assert_eq!(workers(Paint::PLAIN, &samples::workers()), expected);
    }

    #[test]
    fn a_drain_says_what_is_left_and_who_is_alone() {
        let [active, draining] = <[_; 2]>::try_from(samples::workers()).expect("two workers");
        let alone = draining.shards.clone();
        let answer = Drained { worker: draining, changed: true, alone };
        let expected = "\
worker-b is given nothing new; 0 of its tasks run
nobody else serves chat-pg-02: what runs there is finished there, and nothing new begins
";
        assert_eq!(drained(&answer), expected);
        let answer = Drained { worker: active, changed: false, alone: Vec::new() };
        assert_eq!(drained(&answer), "worker-a takes work already\n");
    }

    #[test]
    fn several_coordinators_are_listed_below_the_leader() {
        let coordinator = |number: u8, leads| Coordinator {
            name: format!("c{number}"),
            address: format!("host-{number}:7400"),
            leads,
        };
        let mut answer = Leader {
            name: "c2".into(),
            epoch: 7,
            here: false,
            coordinators: vec![coordinator(2, true)],
            open: false,
        };
        let first = "c2, epoch 7, another than the one that answered\n";
        assert_eq!(leader(Paint::PLAIN, &answer), first, "one alone is no list");
        answer.coordinators.insert(0, coordinator(1, false));
        let expected = "\
COORDINATOR  ADDRESS      LEADS
c1           host-1:7400  no
c2           host-2:7400  yes
";
        assert_eq!(leader(Paint::PLAIN, &answer), format!("{first}\n{expected}"));
        answer.open = true;
        assert!(leader(Paint::PLAIN, &answer).contains("\nopen: whoever reaches it"));
    }

    #[test]
    fn text_of_servers_is_made_harmless() {
        let mut present = samples::shards();
        present[0].server_version = Some("15\x1b[2J".into());
        let problem = present[1].problem.as_mut().expect("a problem");
        problem.message = "bad\x1b]0;title\x07".into();
        problem.next = "\u{202e}run".into();
        problem.place.key = Some("\u{9b}31m".into());
        let mut busy = samples::workers();
        busy[0].version = "1\x08".into();
        let text = shards(Paint::PLAIN, &present) + &workers(Paint::PLAIN, &busy);
        assert!(text.chars().all(|c| c == '\n' || !(c.is_control() || c == '\u{202e}')), "{text:?}");
    }
}
