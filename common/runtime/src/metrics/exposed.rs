//! What a registry shows, and what a page says that it shows: tests of the programs compare the two.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_client::registry::Registry;

/// Type and labels of one metric.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// Names of its labels.
    pub labels: BTreeSet<String>,
}

/// The metrics of a registry by the names under which they are queried. A family without a single series shows nothing.
pub fn exposed(registry: &Registry) -> Result<BTreeMap<String, Series>, std::fmt::Error> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    let mut found: BTreeMap<String, Series> = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            last = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            found.insert(last.clone(), Series { kind: kind.to_owned(), labels: BTreeSet::new() });
        } else if let (false, Some(series)) = (line.starts_with('#'), found.get_mut(&last)) {
            series.labels.extend(labels(line));
        }
    }
    Ok(found)
}

/// The names before each `="`, but for the bounds of a histogram. No value of ours holds a comma or a brace.
fn labels(sample: &str) -> impl Iterator<Item = String> {
    let inside =
        sample.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(inside, _)| inside);
    let names = inside.split(',').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name.to_owned());
    names.filter(|name| name != "le")
}

/// The rows `` | `name` | type | labels | … `` of a page whose names begin with one of the prefixes.
pub fn documented(page: &str, prefixes: &[&str]) -> BTreeMap<String, Series> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        let kind = cells.next()?.to_owned();
        let labels = cells.next()?.split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        prefixes.iter().any(|prefix| name.starts_with(prefix)).then_some((name, Series { kind, labels }))
    };
    page.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Counter, Family, Labels, Unit, durations, registry};

    #[test]
    fn a_page_is_compared_by_name_type_and_labels() {
        let mut registry = registry();
        let batches: Family<Labels<1>, Counter> = Family::default();
        registry.register("shardlift_batches", "Batches", batches.clone());
        registry.register_with_unit("shardlift_batch_duration", "Time", Unit::Seconds, durations());
        batches.get_or_create(&[("engine", "postgres")]).inc();
        let page = "| name | type |\n|---|---|\n\
            | `process_cpu_seconds_total` | counter | | processor time |\n\
            | `process_open_fds` | gauge | | open files |\n\
            | `process_resident_memory_bytes` | gauge | | memory |\n\
            | `other_total` | counter | | of somebody else |\n\
            | `shardlift_batches_total` | counter | `engine` | batches |\n\
            | `shardlift_batch_duration_seconds` | histogram | | time |\n";
        assert_eq!(exposed(&registry).expect("encodes"), documented(page, &["process_", "shardlift_"]));
    }
}
