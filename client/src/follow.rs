//! Watching the migrations of a course, all in one loop, until nothing more happens or Ctrl-C.

use std::io;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use shardlift_client::{Client, Watched};
use shardlift_domain::failure::Failure;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::console::{Console, Ended, Output};
use crate::course::Course;
use crate::view::bars::Bars;
use crate::view::lines::{Display, Lines, Values};

const TICK: Duration = Duration::from_millis(250);

/// How the watching ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followed {
    /// Nothing more will happen by itself.
    ToTheEnd,
    /// Ctrl-C; the migrations go on.
    Interrupted,
}

/// Bars for a person, lines for a log, values for a script.
pub(crate) fn display(console: &Console) -> Box<dyn Display> {
    match console.output {
        form @ (Output::Json | Output::Yaml) => Box::new(Values::new(io::stdout(), form)),
        Output::Table if console.is_live() => Box::new(Bars::new(console.paint)),
        Output::Table => Box::new(Lines::new(io::stdout())),
    }
}

/// Follows the course and shows what happens.
pub(crate) async fn follow(
    client: &Client,
    course: &mut Course,
    display: &mut dyn Display,
) -> Result<Followed, Ended> {
    let mut news: SelectAll<BoxStream<'_, Result<Watched, Vec<Failure>>>> = SelectAll::new();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    loop {
        for id in course.open() {
            news.push(client.watch(&id).into_stream().boxed());
        }
        if course.is_over() {
            display.end()?;
            return Ok(Followed::ToTheEnd);
        }
        tokio::select! {
            Some(each) = news.next(), if !news.is_empty() => match each {
                Ok(Watched::Now(view)) => {
                    display.show(&view, Instant::now())?;
                    course.on(*view);
                }
                Ok(Watched::Lost(failure)) => display.lost(&failure)?,
                Err(failures) => {
                    display.end()?;
                    return Err(failures.into());
                }
            },
            _ = ticks.tick() => display.tick(Instant::now())?,
            caught = &mut interrupt => {
                // Without a handler nobody could interrupt: stop at once and say so.
                display.end()?;
                caught?;
                return Ok(Followed::Interrupted);
            }
        }
    }
}
