//! The worlds that are explored: sound ones, in which every promise holds, and those with a mistake, which is found.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use crate::model::{
    Bounds, Bug, COMPLETED, ENDS_WHEN_FAULTS_CEASE, EXACTLY_ONCE, FORKED, SHARD_IS_FENCED, SPLIT,
    STORE_IS_FENCED, ZOMBIE_LEADER, ZOMBIE_WORKER,
};

/// One coordinator that leads once and hands out once, one worker, one row.
const SMALL: Bounds = Bounds {
    coordinators: 1,
    workers: 1,
    rows: 1,
    reigns: 1,
    attempts: 1,
    restore: false,
    split: false,
    bug: None,
};
/// Two leaderships.
const TWO_LEADERS: Bounds = Bounds { coordinators: 2, reigns: 2, ..SMALL };
/// Two workers, who get two rows from one leader in turn.
const TWO_WORKERS: Bounds = Bounds { workers: 2, rows: 2, attempts: 3, ..SMALL };

/// Explores to the end: every promise holds, and what is named does happen.
fn holds(name: &str, bounds: Bounds, happens: &[&'static str]) {
    let began = Instant::now();
    let checker = bounds.checker().threads(2).spawn_bfs().join();
    let (states, all) = (checker.unique_state_count(), checker.state_count());
    println!("{name}: {states} states, {all} steps, depth {}, {:.1?}", checker.max_depth(), began.elapsed());
    for property in bounds.properties() {
        let found = checker.discovery(property.name);
        if property.expectation.discovery_is_failure() {
            let way = found.map(|path| path.into_actions());
            assert!(way.is_none(), "{name}: {}: {way:?}", property.name);
        } else if happens.contains(&property.name) {
            assert!(found.is_some(), "{name}: never happens: {}", property.name);
        }
    }
}

/// The mistake is found, as the loss of this promise, by a way that the test prints.
fn finds(bug: Bug, bounds: Bounds, lost: &'static str) {
    let bounds = Bounds { bug: Some(bug), ..bounds };
    let only = HasDiscoveries::AnyOf([lost].into_iter().collect());
    let checker = bounds.checker().finish_when(only).spawn_bfs().join();
    let path = checker.discovery(lost).unwrap_or_else(|| panic!("{bug:?} was not found"));
    let states = checker.unique_state_count();
    println!("{bug:?}: found after {states} states: {lost}");
    path.into_actions().iter().for_each(|step| println!("  {step:?}"));
}

#[test]
fn leaders_and_workers_come_and_go() {
    let bounds = Bounds { workers: 2, rows: 2, ..TWO_LEADERS };
    holds("leaders and workers", bounds, &[COMPLETED, ZOMBIE_LEADER, ZOMBIE_WORKER]);
}

#[test]
fn workers_take_a_range_from_each_other() {
    holds("workers", TWO_WORKERS, &[COMPLETED, ZOMBIE_WORKER]);
}

#[test]
fn three_coordinators_take_over_from_each_other() {
    holds("three coordinators", Bounds { coordinators: 3, ..TWO_LEADERS }, &[COMPLETED, ZOMBIE_LEADER]);
}

#[test]
fn a_store_is_restored_from_an_old_copy() {
    let bounds = Bounds { restore: true, ..TWO_LEADERS };
    holds("restored store", bounds, &[COMPLETED, ZOMBIE_LEADER, FORKED]);
}

#[test]
fn an_owner_splits_its_range() {
    holds("split", Bounds { split: true, ..TWO_WORKERS }, &[COMPLETED, SPLIT, ZOMBIE_WORKER]);
}

#[test]
fn a_batch_that_does_not_ask_for_its_claim_is_found() {
    finds(Bug::BatchWithoutCondition, TWO_WORKERS, EXACTLY_ONCE);
}

#[test]
fn a_take_over_without_a_nonce_is_found() {
    finds(Bug::NoNonce, Bounds { restore: true, ..TWO_LEADERS }, SHARD_IS_FENCED);
}

#[test]
fn a_write_that_keeps_no_take_over_waiting_is_found() {
    finds(Bug::WriteBesideTakeOver, TWO_LEADERS, STORE_IS_FENCED);
}

#[test]
fn a_split_by_somebody_who_does_not_own_the_range_is_found() {
    finds(Bug::SplitByAnybody, Bounds { attempts: 2, ..TWO_WORKERS }, EXACTLY_ONCE);
}

#[test]
fn a_leader_that_leads_on_when_a_shard_refuses_it_is_found() {
    finds(Bug::LeadsOn, Bounds { restore: true, ..TWO_LEADERS }, ENDS_WHEN_FAULTS_CEASE);
}
