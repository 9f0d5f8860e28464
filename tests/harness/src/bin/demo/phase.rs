//! Says what is being done, and how long it took.

use std::io::Write as _;
use std::time::Instant;

use anyhow::{Context, Result};

/// Runs one phase of the demo under its title; a failure tells the title.
pub(crate) async fn phase<T>(title: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    print!("{title} … ");
    let _ = std::io::stdout().flush();
    let started = Instant::now();
    let result = work.await.with_context(|| title.to_owned());
    let outcome = if result.is_ok() { "" } else { "failed after " };
    println!("{outcome}{:.1} s", started.elapsed().as_secs_f64());
    result
}
