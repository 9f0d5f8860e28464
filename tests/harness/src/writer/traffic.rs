//! What the application does, whatever the engine: picks a write, sends it, and keeps the model.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::latency::Latencies;
use super::{Model, Orders, Source, WriterReport};
use crate::dataset::Random;

/// A write that takes longer counts as one of unknown outcome: the server may be stopped.
const PATIENCE: Duration = Duration::from_secs(30);
const RECONNECT: Duration = Duration::from_millis(100);
/// Percent of the writes to a table with moving keys that give a row another key.
const MOVES: u64 = 13;
/// Errors and surprises that are kept in full.
const KEPT: usize = 10;

/// One write. Keys and payloads are text.
#[derive(Debug, Clone)]
pub(super) enum Write {
    Insert { key: String, payload: String },
    Update { key: String, payload: String },
    Delete { key: String },
    Move { from: String, to: String },
}

/// How a write ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Done,
    /// The key to insert exists already.
    Taken,
    /// The row to change does not exist.
    Missing,
    /// It was certainly not applied, for example a deadlock victim.
    Refused(String),
    /// It may have been applied: the connection broke.
    Unknown(String),
}

/// How the application uses one table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) name: &'static str,
    /// Share of the writes, relative to the other tables.
    pub(super) weight: u64,
    /// Percent of its writes that insert a row; as many delete one, so that the table keeps its size.
    pub(super) churn: u64,
    /// Whether the application ever gives a row another key.
    pub(super) moves: bool,
}

/// An engine's side of the application.
pub(super) trait Store: Send + 'static {
    /// The tables, in the order in which the other verbs number them.
    fn usages(&self) -> Vec<Usage>;
    /// A key the loader never uses, and a payload for it. `rows` is the size of the table at the start.
    fn fresh_key(&self, table: usize, random: &mut Random, rows: u64) -> anyhow::Result<String>;
    fn fresh_payload(&self, table: usize, random: &mut Random) -> String;
    /// Opens the connection anew.
    fn connect(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Some rows the application may use (key, payload), and the number of rows of the table.
    fn sample(
        &mut self,
        table: usize,
    ) -> impl Future<Output = anyhow::Result<(Vec<(String, String)>, u64)>> + Send;
    /// Sends one write and waits for its end.
    fn apply(&mut self, table: usize, write: &Write, new_form: bool) -> impl Future<Output = Outcome> + Send;
    /// The payload of the row with this key, if there is one.
    fn read(
        &mut self,
        table: usize,
        key: &str,
    ) -> impl Future<Output = anyhow::Result<Option<String>>> + Send;
    /// The key as a person would write it.
    fn label(&self, key: &str) -> String;
}

/// The rows of one table that the application uses.
#[derive(Debug)]
struct Rows {
    usage: Usage,
    live: Vec<(String, String)>,
    deleted: Vec<String>,
    size: u64,
}

/// A running application.
pub(super) struct Traffic<S> {
    store: S,
    random: Random,
    orders: Arc<Orders>,
    moves: bool,
    tables: Vec<Rows>,
    latencies: Latencies,
    report: WriterReport,
}

impl<S: Store> Traffic<S> {
    pub(super) fn new(store: S, source: Source, seed: u64, orders: Arc<Orders>, moves: bool) -> Self {
        let report = WriterReport {
            inserted: 0,
            updated: 0,
            deleted: 0,
            key_moves: 0,
            errors: 0,
            max_stall_ms: 0.0,
            p99_ms: 0.0,
            first_errors: Vec::new(),
            model: Model::default(),
            surprises: Vec::new(),
            source,
        };
        let random = Random::new(seed, 0xA99);
        Self { store, random, orders, moves, tables: Vec::new(), latencies: Latencies::default(), report }
    }

    /// Writes until it is told to stop.
    pub(super) async fn run(mut self, rate: u32) -> anyhow::Result<WriterReport> {
        while let Err(error) = self.begin().await {
            if self.told_to_stop() {
                return Err(error.context("the writer never reached its tables"));
            }
            sleep(RECONNECT).await;
        }
        let mut pace = interval(Duration::from_secs(1) / rate.max(1));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.told_to_stop() {
            pace.tick().await;
            self.write_once().await?;
        }
        (self.report.p99_ms, self.report.max_stall_ms) = self.latencies.summary();
        Ok(self.report)
    }

    fn told_to_stop(&self) -> bool {
        self.orders.stop.load(Ordering::Relaxed)
    }

    async fn begin(&mut self) -> anyhow::Result<()> {
        self.store.connect().await?;
        let mut tables = Vec::new();
        for (place, usage) in self.store.usages().into_iter().enumerate() {
            let (live, size) = self.store.sample(place).await?;
            anyhow::ensure!(!live.is_empty(), "{} holds no row to use", usage.name);
            tables.push(Rows { usage, live, deleted: Vec::new(), size });
        }
        self.tables = tables;
        Ok(())
    }

    async fn write_once(&mut self) -> anyhow::Result<()> {
        let table = self.pick_table();
        let Some(write) = self.pick_write(table)? else { return Ok(()) };
        let new_form = self.orders.new_form.load(Ordering::Relaxed);
        let began = Instant::now();
        let outcome = match timeout(PATIENCE, self.store.apply(table, &write, new_form)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Unknown(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        match outcome {
            Outcome::Done => {
                self.latencies.succeeded(began);
                self.done(table, write);
                self.orders.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Taken => {}
            Outcome::Missing => self.surprise(table, &write),
            Outcome::Refused(error) => {
                self.latencies.failed(began);
                self.failed(error);
            }
            Outcome::Unknown(error) => {
                self.latencies.failed(began);
                self.failed(error);
                self.unknown(table, write);
                self.reconnect().await;
            }
        }
        Ok(())
    }

    fn pick_table(&mut self) -> usize {
        let mut left = self.random.below(self.tables.iter().map(|table| table.usage.weight).sum());
        for (place, table) in self.tables.iter().enumerate() {
            if left < table.usage.weight {
                return place;
            }
            left -= table.usage.weight;
        }
        0
    }

    /// `None`: nothing fits this time.
    fn pick_write(&mut self, place: usize) -> anyhow::Result<Option<Write>> {
        let table = &mut self.tables[place];
        let (name, size, churn) = (table.usage.name, table.size, table.usage.churn);
        let dice = self.random.below(100);
        if dice < churn || table.live.len() < 4 {
            let key = match self.random.chance(15).then(|| table.deleted.pop()).flatten() {
                Some(key) => key,
                None => self.store.fresh_key(place, &mut self.random, size)?,
            };
            let payload = self.store.fresh_payload(place, &mut self.random);
            return Ok((!self.report.model.is_open(name, &key)).then_some(Write::Insert { key, payload }));
        }
        let key = self.random.pick(&table.live).0.clone();
        if dice < churn * 2 {
            return Ok(Some(Write::Delete { key }));
        }
        if dice < churn * 2 + MOVES && self.moves && table.usage.moves {
            let to = self.store.fresh_key(place, &mut self.random, size)?;
            return Ok((!self.report.model.is_open(name, &to)).then_some(Write::Move { from: key, to }));
        }
        Ok(Some(Write::Update { key, payload: self.store.fresh_payload(place, &mut self.random) }))
    }

    /// The write was acknowledged.
    fn done(&mut self, place: usize, write: Write) {
        let table = &mut self.tables[place];
        let (name, model) = (table.usage.name, &mut self.report.model);
        match write {
            Write::Insert { key, payload } => {
                self.report.inserted += 1;
                model.wrote(name, &key, Some(payload.clone()));
                table.live.push((key, payload));
            }
            Write::Update { key, payload } => {
                self.report.updated += 1;
                model.wrote(name, &key, Some(payload.clone()));
                table.forget(&key);
                table.live.push((key, payload));
            }
            Write::Delete { key } => {
                self.report.deleted += 1;
                model.wrote(name, &key, None);
                table.forget(&key);
                table.deleted.push(key);
            }
            Write::Move { from, to } => {
                self.report.key_moves += 1;
                let payload = table.forget(&from);
                model.wrote(name, &from, None);
                model.wrote(name, &to, payload.clone());
                table.live.extend(payload.map(|payload| (to, payload)));
            }
        }
    }

    /// The write may have been committed: both states are right, and its keys are left alone from now on.
    fn unknown(&mut self, place: usize, write: Write) {
        let table = &mut self.tables[place];
        let (name, model) = (table.usage.name, &mut self.report.model);
        match write {
            Write::Insert { key, payload } => model.may_have_written(name, &key, None, Some(payload)),
            Write::Update { key, payload } => {
                let before = table.forget(&key);
                model.may_have_written(name, &key, before, Some(payload));
            }
            Write::Delete { key } => {
                let before = table.forget(&key);
                model.may_have_written(name, &key, before, None);
            }
            Write::Move { from, to } => {
                let payload = table.forget(&from);
                model.may_have_written(name, &from, payload.clone(), None);
                model.may_have_written(name, &to, None, payload);
            }
        }
    }

    /// A row the application relied on is gone: that is a lost write already, whatever comes later.
    fn surprise(&mut self, place: usize, write: &Write) {
        let table = &mut self.tables[place];
        let (verb, key) = match write {
            Write::Insert { key, .. } => ("insert", key),
            Write::Update { key, .. } => ("update", key),
            Write::Delete { key } => ("delete", key),
            Write::Move { from, .. } => ("move", from),
        };
        table.forget(key);
        if self.report.surprises.len() < KEPT {
            let key = self.store.label(key);
            self.report.surprises.push(format!("{}: {verb} found no row {key}", table.usage.name));
        }
    }

    fn failed(&mut self, error: String) {
        self.report.errors += 1;
        self.orders.failed.fetch_add(1, Ordering::Relaxed);
        if self.report.first_errors.len() < KEPT {
            self.report.first_errors.push(error);
        }
    }

    async fn reconnect(&mut self) {
        while !self.told_to_stop() && self.store.connect().await.is_err() {
            sleep(RECONNECT).await;
        }
    }
}

impl Rows {
    /// Takes a key out of use and tells its payload.
    fn forget(&mut self, key: &str) -> Option<String> {
        let place = self.live.iter().position(|(live, _)| live == key)?;
        Some(self.live.swap_remove(place).1)
    }
}

/// Reads every key of the model again and tells which states are none that the application left.
pub(super) async fn lost<S: Store>(mut store: S, model: &Model) -> anyhow::Result<Vec<String>> {
    store.connect().await?;
    let usages = store.usages();
    let mut told = Vec::new();
    for (name, key, states) in model.states() {
        let place =
            usages.iter().position(|usage| usage.name == name).context("the model names its tables")?;
        let found = store.read(place, key).await?;
        if !states.contains(&found) {
            told.push(format!(
                "{name} {}: found {found:?}, the application wrote {states:?}",
                store.label(key)
            ));
        }
    }
    Ok(told)
}
