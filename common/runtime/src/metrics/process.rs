//! What the system knows of this process, read from `/proc` when it is asked for. Elsewhere there is nothing to read, and
//! nothing is shown.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Ticks of a second in `/proc`: the same on every Linux that we build for, whatever the kernel's own clock.
const TICKS: f64 = 100.0;

/// The metrics of a process, under their conventional names.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(bytes) = resident() {
            show(
                &mut encoder,
                "process_resident_memory",
                "Memory in use",
                Some(&Unit::Bytes),
                &ConstGauge::new(bytes),
            )?;
        }
        if let Some(open) = open_files() {
            show(&mut encoder, "process_open_fds", "Open file descriptors", None, &ConstGauge::new(open))?;
        }
        if let Some(seconds) = cpu_seconds() {
            let help = "Processor time, of user and system";
            show(&mut encoder, "process_cpu", help, Some(&Unit::Seconds), &ConstCounter::new(seconds))?;
        }
        Ok(())
    }
}

fn show(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
}

fn resident() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<i64>().ok()?.checked_mul(1024)
}

fn open_files() -> Option<i64> {
    i64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}

/// Fields 14 and 15 of `/proc/self/stat`, counted after the program's name, which may hold anything.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_itself() {
        assert!(resident().is_some_and(|bytes| bytes > 1 << 20), "{:?}", resident());
        assert!(open_files().is_some_and(|open| open >= 3), "{:?}", open_files());
        assert!(cpu_seconds().is_some_and(|seconds| seconds < 3600.0), "{:?}", cpu_seconds());
    }
}
