//! The grammar of the command line.

use std::time::Duration;

use clap::{Parser, Subcommand};
use shardlift_client::Client;

use crate::console::{Console, Ended, Output};
use crate::exit::{Exit, TABLE};
use crate::reach::{OF_EVERY_VERB, Reach};
use crate::verbs::apply::Apply;
use crate::verbs::approve::Approve;
use crate::verbs::audit::Audit;
use crate::verbs::backup::Backup;
use crate::verbs::cancel::Cancel;
use crate::verbs::completions::Completions;
use crate::verbs::conflicts::Conflicts;
use crate::verbs::context::Context;
use crate::verbs::drift::Drift;
use crate::verbs::events::Events;
use crate::verbs::indoubt::Indoubt;
use crate::verbs::leader::Leader;
use crate::verbs::list::List;
use crate::verbs::man::Man;
use crate::verbs::mismatches::Mismatches;
use crate::verbs::new::New;
use crate::verbs::pause::Pause;
use crate::verbs::placement::Placement;
use crate::verbs::plan::Plan;
use crate::verbs::purge::Purge;
use crate::verbs::quarantine::Quarantine;
use crate::verbs::repair::Repair;
use crate::verbs::resume::Resume;
use crate::verbs::retry::Retry;
use crate::verbs::rollback::Rollback;
use crate::verbs::route::Route;
use crate::verbs::shards::Shards;
use crate::verbs::start::Start;
use crate::verbs::status::Status;
use crate::verbs::throttle::Throttle;
use crate::verbs::topology::Topology;
use crate::verbs::watch::Watch;
use crate::verbs::workers::Workers;
use crate::view::failure::brief;

const EXAMPLES: &str = "\
A first migration:
  shardlift new schema postgres add_body_text   write a commented spec into migrations/
  shardlift plan migrations                     see what would happen; changes nothing
  shardlift apply migrations                    do it, after a question, and watch it
  shardlift status 0001_add_body_text           look at one migration
";

/// Changes the schema and the data of many database shards as one safe operation.
///
/// Write what should change into a spec file, read the plan, apply it. A coordinator plans and watches, a worker
/// beside each shard does the work. Everything may be killed at any moment and goes on where it was.
#[derive(Debug, Parser)]
#[command(name = "shardlift", version, max_term_width = 110, after_help = format!("{EXAMPLES}\n{TABLE}"))]
pub(crate) struct Arguments {
    #[command(flatten)]
    reach: Reach,

    /// The form of answers.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table, help_heading = OF_EVERY_VERB)]
    output: Output,

    /// No colour, even on a terminal.
    #[arg(
        long,
        global = true,
        help_heading = OF_EVERY_VERB,
        env = "NO_COLOR",
        hide_env_values = true,
        value_name = "ANY",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1"
    )]
    no_color: Option<String>,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Plan(Plan),
    Apply(Apply),
    List(List),
    Status(Status),
    Watch(Watch),
    Approve(Approve),
    Start(Start),
    Pause(Pause),
    Resume(Resume),
    Throttle(Throttle),
    Cancel(Cancel),
    Retry(Retry),
    Rollback(Rollback),
    Purge(Purge),
    Backup(Backup),
    Conflicts(Conflicts),
    Mismatches(Mismatches),
    Repair(Repair),
    Shards(Shards),
    Workers(Workers),
    Leader(Leader),
    Route(Route),
    Topology(Topology),
    Drift(Drift),
    Placement(Placement),
    Quarantine(Quarantine),
    Indoubt(Indoubt),
    Audit(Audit),
    Events(Events),
    New(New),
    Context(Context),
    Completions(Completions),
    Man(Man),
}

/// What every verb has at hand.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) console: Console,
    reach: Reach,
}

impl Session {
    /// Whom to ask, as the flags say.
    pub(crate) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// A client of the coordinators that were named.
    pub(crate) fn client(&self) -> Result<Client, Ended> {
        let client = self.reach.client()?;
        let (console, wait) = (self.console, self.reach.patience());
        // Standard error of a script holds failures in its form and nothing else.
        let told = move |failure: &shardlift_domain::Failure| match console.output {
            Output::Table => console.note(&waiting(failure, wait)),
            Output::Json | Output::Yaml => {}
        };
        Ok(client.on_wait(told))
    }
}

/// The line for whoever waits.
fn waiting(failure: &shardlift_domain::Failure, wait: Duration) -> String {
    let patience = wait.as_secs();
    format!("waiting for a coordinator that leads, for {patience} s at most ({})\n", brief(failure))
}

impl Arguments {
    pub(crate) fn console(&self) -> Console {
        Console::new(self.output, self.no_color.as_deref())
    }

    /// Does what the verb says.
    pub(crate) async fn run(self, console: Console) -> Result<Exit, Ended> {
        let session = Session { console, reach: self.reach };
        match &self.verb {
            Verb::Plan(verb) => verb.run(&session).await,
            Verb::Apply(verb) => verb.run(&session).await,
            Verb::List(verb) => verb.run(&session).await,
            Verb::Status(verb) => verb.run(&session).await,
            Verb::Watch(verb) => verb.run(&session).await,
            Verb::Approve(verb) => verb.run(&session).await,
            Verb::Start(verb) => verb.run(&session).await,
            Verb::Pause(verb) => verb.run(&session).await,
            Verb::Resume(verb) => verb.run(&session).await,
            Verb::Throttle(verb) => verb.run(&session).await,
            Verb::Cancel(verb) => verb.run(&session).await,
            Verb::Retry(verb) => verb.run(&session).await,
            Verb::Rollback(verb) => verb.run(&session).await,
            Verb::Purge(verb) => verb.run(&session).await,
            Verb::Backup(verb) => verb.run(&session).await,
            Verb::Conflicts(verb) => verb.run(&session).await,
            Verb::Mismatches(verb) => verb.run(&session).await,
            Verb::Repair(verb) => verb.run(&session).await,
            Verb::Shards(verb) => verb.run(&session).await,
            Verb::Workers(verb) => verb.run(&session).await,
            Verb::Leader(verb) => verb.run(&session).await,
            Verb::Route(verb) => verb.run(&session).await,
            Verb::Topology(verb) => verb.run(&session).await,
            Verb::Drift(verb) => verb.run(&session).await,
            Verb::Placement(verb) => verb.run(&session).await,
            Verb::Quarantine(verb) => verb.run(&session).await,
            Verb::Indoubt(verb) => verb.run(&session).await,
            Verb::Audit(verb) => verb.run(&session).await,
            Verb::Events(verb) => verb.run(&session).await,
            Verb::New(verb) => verb.run(&session),
            Verb::Context(verb) => verb.run(&session),
            Verb::Completions(verb) => verb.run(&session),
            Verb::Man(verb) => verb.run(&session),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_verb_teaches_by_example() {
        for verb in Arguments::command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            let call = format!("shardlift {}", verb.get_name());
            assert!(help.contains(&call), "{} has no example", verb.get_name());
            assert!(verb.get_about().is_some(), "{} has no description", verb.get_name());
        }
    }

    #[test]
    fn the_help_of_a_verb_has_its_own_options_first() {
        let mut program = Arguments::command();
        program.build();
        for (verb, own) in [("plan", "--rehearse"), ("apply", "--no-watch"), ("events", "--newest")] {
            let verb = program.find_subcommand_mut(verb).expect("a verb");
            for help in [verb.render_help().to_string(), verb.render_long_help().to_string()] {
                let (first, second) = help.split_once(OF_EVERY_VERB).expect("two lists");
                assert!(first.contains(own) && first.contains("--help"), "{help}");
                for flag in ["--coordinator", "--wait", "--output", "--no-color"] {
                    assert!(second.contains(flag) && !first.contains(flag), "{flag}: {help}");
                }
            }
        }
    }

    #[test]
    fn the_help_has_the_exit_codes() {
        let help = Arguments::command().render_long_help().to_string();
        assert!(help.contains("3    a migration failed"), "{help}");
    }

    #[test]
    fn coordinators_may_be_given_one_by_one_and_in_a_list() {
        let arguments = ["shardlift", "--coordinator", "a:1,b:2", "--coordinator", "c:3", "list"];
        let parsed = Arguments::try_parse_from(arguments).expect("parses");
        assert_eq!(
            (parsed.reach.coordinator, parsed.reach.wait),
            (vec!["a:1".into(), "b:2".into(), "c:3".into()], 30)
        );
    }

    #[test]
    fn no_color_is_a_flag_and_takes_any_value() {
        for (argument, expected) in [("--no-color", "1"), ("--no-color=", ""), ("--no-color=yes", "yes")] {
            let parsed = Arguments::try_parse_from(["shardlift", argument, "list"]).expect("parses");
            assert_eq!(parsed.no_color.as_deref(), Some(expected));
        }
    }
}
