//! One measured goal: its value beside what it should be.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// What a value should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

impl Goal {
    fn met(self, value: f64) -> bool {
        match self {
            Goal::AtLeast(bound) => value >= bound,
            Goal::AtMost(bound) => value <= bound,
        }
    }

    fn text(self) -> String {
        match self {
            Goal::AtLeast(bound) => format!(">= {bound:.2}"),
            Goal::AtMost(bound) => format!("<= {bound:.2}"),
        }
    }
}

/// One measured goal.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// Its name in the list of goals, such as `S1`.
    pub(crate) name: &'static str,
    /// What it should be.
    pub(crate) goal: Goal,
    /// One value per run, in the order of the runs.
    pub(crate) runs: Vec<f64>,
    /// What it is measured against, with the unit.
    pub(crate) against: &'static str,
    /// Rows or documents.
    pub(crate) rows: u64,
}

impl Figure {
    /// The median of the runs.
    pub(crate) fn value(&self) -> f64 {
        median(&self.runs)
    }
}

/// The median; 0 of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// A table of the figures.
pub(crate) fn print(figures: &[Figure]) {
    println!("\n{:<6} {:>9} {:>9}  {:<4} {:>10}  against (runs)", "goal", "value", "wanted", "met", "rows");
    for figure in figures {
        let runs: Vec<_> = figure.runs.iter().map(|run| format!("{run:.2}")).collect();
        println!(
            "{:<6} {:>9.3} {:>9}  {:<4} {:>10}  {} ({})",
            figure.name,
            figure.value(),
            figure.goal.text(),
            if figure.goal.met(figure.value()) { "yes" } else { "no" },
            figure.rows,
            figure.against,
            runs.join(" "),
        );
    }
}

/// Writes the figures; those of goals that were not measured now stay.
pub(crate) fn write(path: &Path, figures: &[Figure]) -> Result<()> {
    let mut all: Map<String, Value> = match fs::read_to_string(path) {
        Ok(text) => {
            serde_json::from_str(&text).with_context(|| format!("{} is not a result file", path.display()))?
        }
        Err(_) => Map::new(),
    };
    for figure in figures {
        let value = json!({
            "value": round(figure.value()),
            "goal": figure.goal.text(),
            "met": figure.goal.met(figure.value()),
            "runs": figure.runs.iter().map(|run| round(*run)).collect::<Vec<_>>(),
            "against": figure.against,
            "rows": figure.rows,
        });
        all.insert(figure.name.to_owned(), value);
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, format!("{}\n", serde_json::to_string_pretty(&all)?))
        .with_context(|| path.display().to_string())
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
