//! `shardlift throttle ID`.

use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::{Limit, ThrottleChange, Verb};
use shardlift_domain::spec::{MAX_RATE, Window};

use super::moves::ask;
use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;

/// Let a data migration walk faster or slower, or at another time of day, without a new version of its spec.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("change")
        .args(["rows_per_second", "no_limit", "window", "always", "as_in_spec"])
        .required(true)
        .multiple(true),
    after_help = "Examples:
  shardlift throttle 0008_message_text --rows-per-second 2000           slower: the application needs the disks
  shardlift throttle 0008_message_text --window \"22:00-06:00 UTC\"       by night only; the rate stays as it is
  shardlift throttle 0008_message_text --no-limit --always              as fast as batches go
  shardlift throttle 0008_message_text --as-in-spec                     back to what the spec says

What is not named stays as it is. Ranges that run go on at the new pace from their next batch; nothing is handed out anew.
It holds until the migration ends, through restarts and new leaders; `shardlift status ID` shows it beside what the spec says."
)]
pub(crate) struct Throttle {
    /// The migration's id: it is pending, running, paused or failed.
    id: MigrationId,

    /// Most rows per second on each shard, over all its ranges.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_RATE)), conflicts_with = "no_limit")]
    rows_per_second: Option<u32>,

    /// No limit of rows per second, whatever the spec says.
    #[arg(long)]
    no_limit: bool,

    /// Daily time in which batches run, such as "22:00-06:00 UTC".
    #[arg(long, value_name = "TIME", conflicts_with = "always")]
    window: Option<Window>,

    /// Batches run at any time, whatever the spec says.
    #[arg(long)]
    always: bool,

    /// All as the spec says.
    #[arg(long, conflicts_with_all = ["rows_per_second", "no_limit", "window", "always"])]
    as_in_spec: bool,
}

impl Throttle {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        ask(session, Verb::Throttle(self.change()), &self.id).await
    }

    fn change(&self) -> ThrottleChange {
        if self.as_in_spec {
            return ThrottleChange::AS_IN_SPEC;
        }
        ThrottleChange {
            rows_per_second: self.rows_per_second.map(Limit::Of).or(self.no_limit.then_some(Limit::Lifted)),
            window: self.window.map(Limit::Of).or(self.always.then_some(Limit::Lifted)),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        throttle: Throttle,
    }

    fn read(words: &str) -> Option<ThrottleChange> {
        let words =
            ["throttle", "m"].into_iter().map(str::to_owned).chain(words.split('|').map(str::to_owned));
        Line::try_parse_from(words).ok().map(|line| line.throttle.change())
    }

    #[test]
    fn flags_say_what_changes_and_what_cannot_both_be_is_refused() {
        let night = Limit::Of(Window { from_minute: 1320, to_minute: 360 });
        let change = |rows_per_second, window| Some(ThrottleChange { rows_per_second, window });
        for (words, expected) in [
            ("--rows-per-second|5", change(Some(Limit::Of(5)), None)),
            ("--no-limit", change(Some(Limit::Lifted), None)),
            ("--window|22:00-06:00 UTC", change(None, Some(night))),
            ("--no-limit|--always", change(Some(Limit::Lifted), Some(Limit::Lifted))),
            ("--rows-per-second|5|--window|22:00-06:00 UTC", change(Some(Limit::Of(5)), Some(night))),
            ("--as-in-spec", Some(ThrottleChange::AS_IN_SPEC)),
            ("--rows-per-second|5|--no-limit", None),
            ("--window|22:00-06:00 UTC|--always", None),
            ("--as-in-spec|--always", None),
            ("--rows-per-second|0", None),
            ("--window|22-06", None),
        ] {
            assert_eq!(read(words), expected, "{words}");
        }
        assert!(Line::try_parse_from(["throttle", "m"]).is_err(), "nothing is said");
    }
}
