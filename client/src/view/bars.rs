//! Following a run on a terminal: a headline per migration, a bar per shard.

use std::collections::BTreeMap;
use std::io;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use shardlift_client::model::{MigrationView, ShardView};
use shardlift_domain::failure::Failure;
use shardlift_domain::ids::{MigrationId, ShardId};
use shardlift_domain::migration::Step;
use tokio::time::Instant;

use super::figures;
use super::harmless::line;
use super::lines::{Display, lost, report};
use super::list::{standing, tone};
use super::paint::{Paint, Tone};
use super::status;

/// Most bars at once: more than a screen helps nobody.
const MOST: usize = 16;
/// A bar counts in these.
const WHOLE: u64 = 1000;

/// Bars on standard error.
#[derive(Debug)]
pub(crate) struct Bars {
    all: MultiProgress,
    runs: BTreeMap<MigrationId, Run>,
    paint: Paint,
    lost: bool,
}

#[derive(Debug)]
struct Run {
    head: ProgressBar,
    shards: BTreeMap<ShardId, ProgressBar>,
}

impl Bars {
    pub(crate) fn new(paint: Paint) -> Self {
        Self { all: MultiProgress::new(), runs: BTreeMap::new(), paint, lost: false }
    }

    fn live(&self) -> usize {
        self.runs.values().map(|run| run.shards.len()).sum()
    }

    fn update(&mut self, view: &MigrationView) {
        let run = self.runs.entry(view.id().clone()).or_insert_with(|| {
            let head = self.all.add(ProgressBar::new(WHOLE).with_style(style("{msg}")));
            Run { head, shards: BTreeMap::new() }
        });
        // Among many shards only those get a bar that move or are in trouble: those in trouble first, then the slowest.
        let crowded = view.shards.len() > MOST;
        let (mut moving, still): (Vec<&ShardView>, Vec<_>) =
            view.shards.iter().partition(|part| !crowded || !part.workers.is_empty() || troubled(part));
        if crowded {
            moving.sort_by(|one, other| {
                let (first, second) = (troubled(one), troubled(other));
                second.cmp(&first).then(one.fraction().total_cmp(&other.fraction()))
            });
        }
        for part in still {
            if let Some(bar) = run.shards.remove(&part.shard) {
                self.all.remove(&bar);
            }
        }
        let mut room = MOST.saturating_sub(self.live());
        let Some(run) = self.runs.get_mut(view.id()) else { return };
        if room == 0 && crowded {
            // Whoever is in trouble gets the place of one that is not.
            room = give_way(&self.all, run, &moving);
        }
        for part in moving {
            if room > 0 && !run.shards.contains_key(&part.shard) {
                room -= 1;
                let above = run.shards.range(..&part.shard).next_back().map_or(&run.head, |(_, bar)| bar);
                let bar = self.all.insert_after(above, shard_bar(part));
                run.shards.insert(part.shard.clone(), bar);
            }
            if let Some(bar) = run.shards.get(&part.shard) {
                // The message draws at once, the position when it is its turn: so a bar never lags behind its figures.
                bar.set_position((part.fraction() * WHOLE as f64) as u64);
                bar.set_message(figures_of(part));
            }
        }
        run.head.set_message(headline(self.paint, view, run.shards.len()));
    }

    fn clear(&mut self, id: &MigrationId) {
        if let Some(run) = self.runs.remove(id) {
            for bar in run.shards.values().chain([&run.head]) {
                bar.finish_and_clear();
                self.all.remove(bar);
            }
        }
    }
}

impl Display for Bars {
    fn show(&mut self, view: &MigrationView, _now: Instant) -> io::Result<()> {
        if std::mem::take(&mut self.lost) {
            self.all.println("coordinator reachable again")?;
        }
        if view.rests() {
            self.clear(view.id());
            return self.all.println(self.paint.tone(tone(view), report(view).trim_end()));
        }
        self.update(view);
        Ok(())
    }

    fn lost(&mut self, failure: &Failure) -> io::Result<()> {
        if !std::mem::replace(&mut self.lost, true) {
            self.all.println(self.paint.tone(Tone::Warn, &lost(failure)))?;
        }
        Ok(())
    }

    fn tick(&mut self, _now: Instant) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        let ids: Vec<_> = self.runs.keys().cloned().collect();
        for id in &ids {
            self.clear(id);
        }
        self.all.clear()
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn shard_bar(part: &ShardView) -> ProgressBar {
    ProgressBar::new(WHOLE)
        .with_style(style("  {prefix:16} [{bar:24}] {msg}").progress_chars("=> "))
        .with_prefix(part.shard.to_string())
        .with_message(figures_of(part))
}

fn troubled(part: &ShardView) -> bool {
    part.error.is_some() || part.trouble.is_some()
}

/// Takes bars away from shards that do well, as many as there are shards in trouble without one. How many.
fn give_way(all: &MultiProgress, run: &mut Run, moving: &[&ShardView]) -> usize {
    let waiting =
        moving.iter().filter(|part| troubled(part) && !run.shards.contains_key(&part.shard)).count();
    let well: Vec<ShardId> = moving
        .iter()
        .rev()
        .filter(|part| !troubled(part) && run.shards.contains_key(&part.shard))
        .map(|part| part.shard.clone())
        .take(waiting)
        .collect();
    for shard in &well {
        if let Some(bar) = run.shards.remove(shard) {
            all.remove(&bar);
        }
    }
    well.len()
}

/// How many shards are where, for those that have more of them than a screen has lines.
fn summary(view: &MigrationView) -> String {
    let count = |wanted: &dyn Fn(&&ShardView) -> bool| view.shards.iter().filter(wanted).count();
    let failed = count(&|part| part.error.is_some());
    let done = count(&|part| part.step.is_none() && part.error.is_none());
    let running = count(&|part| part.step.is_some() && part.error.is_none() && !part.workers.is_empty());
    let waiting = view.shards.len() - failed - done - running;
    let figure = |number: usize| figures::count(u64::try_from(number).unwrap_or(u64::MAX));
    let mut text = format!("{} done, {} running, {} waiting", figure(done), figure(running), figure(waiting));
    if failed > 0 {
        text.push_str(&format!(", {} failed", figure(failed)));
    }
    text
}

/// `shown`: shards that have a bar below.
fn headline(paint: Paint, view: &MigrationView, shown: usize) -> String {
    let mut text = format!("{}  {}", paint.tone(Tone::Strong, view.id().as_str()), standing(view));
    if view.fraction().is_some() {
        text.push_str(&format!("  {}", status::rows(view)));
    }
    if shown < view.shards.len() {
        text.push_str(&format!("  ({}; below: in trouble, then the slowest)", summary(view)));
    }
    text
}

/// ` 62 %  backfill  12,000 rows/s  batch 5,000  pass 1  ETA 4s`.
pub(super) fn figures_of(part: &ShardView) -> String {
    let mut text = format!("{:>5}  ", figures::percent(part.fraction()));
    text.push_str(part.step.map_or("done", Step::as_str));
    let progress = &part.progress;
    if part.step == Some(Step::Backfill) {
        text.push_str(&format!(
            "  {} rows/s  batch {}  pass {}",
            figures::rate(progress.rows_per_second),
            figures::count(progress.batch_size.into()),
            progress.pass
        ));
        if let Some(eta) = part.eta_seconds() {
            text.push_str(&format!("  ETA {}", figures::span(eta)));
        }
    }
    if part.step == Some(Step::Backup) {
        let saved = progress.saved;
        text.push_str(&format!("  {} rows  {}", figures::count(saved.rows), figures::bytes(saved.bytes)));
    }
    if let Some(failure) = part.error.as_ref().or(part.trouble.as_ref()) {
        text.push_str(&format!("  {}: {}", failure.code, line(&failure.message)));
    }
    text
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressDrawTarget;

    use super::super::samples;
    use super::*;

    fn hidden() -> Bars {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        Bars { all, runs: BTreeMap::new(), paint: Paint::PLAIN, lost: false }
    }

    #[test]
    fn each_shard_has_a_bar_with_its_figures_until_the_end() {
        let mut bars = hidden();
        bars.show(&samples::running(), Instant::now()).expect("drawn");
        let run = bars.runs.values().next().expect("a run");
        let head = "0008_message_text  running, data  101,800 changed of about 200,000 (51 % walked), 24,001 rows/s, ETA 5s";
        assert_eq!(run.head.message(), head);
        let bar = &run.shards[&samples::shard("chat-pg-01")];
        assert_eq!((bar.prefix(), bar.position()), ("chat-pg-01".to_owned(), 620));
        assert_eq!(bar.message(), " 62 %  backfill  12,000 rows/s  batch 5,000  pass 1  ETA 4s");
        bars.show(&samples::completed(), Instant::now()).expect("drawn");
        assert_eq!(bars.live(), 0);
    }

    #[test]
    fn thousands_of_shards_get_a_screenful_of_bars() {
        let mut bars = hidden();
        let mut view = samples::running();
        let part = view.shards[0].clone();
        view.shards = (0..5000)
            .map(|number| ShardView { shard: samples::shard(&format!("s{number}")), ..part.clone() })
            .collect();
        bars.show(&view, Instant::now()).expect("drawn");
        assert_eq!(bars.live(), MOST);
        for part in view.shards.iter_mut().take(4000) {
            part.workers.clear();
        }
        bars.show(&view, Instant::now()).expect("drawn");
        assert_eq!(bars.live(), MOST);
        let head = bars.runs.values().next().expect("a run").head.message();
        assert!(
            head.ends_with("(0 done, 1,000 running, 4,000 waiting; below: in trouble, then the slowest)"),
            "{head}"
        );

        // A shard in trouble and one that failed get a place, also where all places are taken.
        view.shards[7].trouble = samples::failed().shards.iter().find_map(|part| part.error.clone());
        view.shards[9].error = view.shards[7].trouble.clone();
        bars.show(&view, Instant::now()).expect("drawn");
        let run = bars.runs.values().next().expect("a run");
        assert!(["s7", "s9"].iter().all(|name| run.shards.contains_key(&samples::shard(name))));
        assert_eq!(run.shards.len(), MOST);
        assert!(run.head.message().contains(", 1 failed;"), "{}", run.head.message());
    }
}
