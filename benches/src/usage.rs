//! What a process uses, as the kernel and its own metrics tell.

use std::time::Instant;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The kernel's clock ticks, on every Linux that we know.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time of a process at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    at: Instant,
    seconds: f64,
}

impl Usage {
    /// Now.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in brackets, may hold spaces; utime and stime are the 12th and 13th field after it.
        let fields = stat.rsplit_once(')').context("no name in /proc/PID/stat")?.1;
        let mut fields = fields.split_whitespace().skip(11);
        let mut ticks =
            || -> Result<f64> { Ok(fields.next().context("no times in /proc/PID/stat")?.parse()?) };
        Ok(Self { at: Instant::now(), seconds: (ticks()? + ticks()?) / TICKS_PER_SECOND })
    }

    /// Cores used in between.
    pub(crate) fn cores_since(&self, earlier: &Self) -> f64 {
        (self.seconds - earlier.seconds) / (self.at - earlier.at).as_secs_f64().max(1e-3)
    }
}

/// The most memory that a process has had, in MiB.
pub(crate) fn peak_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM in /proc")?;
    let kib: f64 = line.split_whitespace().nth(1).context("VmHWM has no value")?.parse()?;
    Ok(kib / 1024.0)
}

/// The value of a series without labels at `http://HOST:PORT/metrics`.
pub(crate) async fn metric(url: &str, name: &str) -> Result<f64> {
    let (host, path) = url.trim_start_matches("http://").split_once('/').context("no path in the URL")?;
    let mut stream = TcpStream::connect(host).await?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let line = answer.lines().find(|line| line.starts_with(name) && line[name.len()..].starts_with(' '));
    let line = line.with_context(|| format!("no series {name} at {url}"))?;
    Ok(line[name.len()..].trim().parse()?)
}
