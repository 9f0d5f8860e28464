//! `shardlift apply PATH`.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use serde_json::{Value, json};
use shardlift_client::Client;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::migration::Status;
use shardlift_domain::plan::{Disposition, Plan, PlannedMigration};
use shardlift_domain::spec::SpecFile;

use super::watch::{explain, interrupted};
use crate::cli::Session;
use crate::console::{Ended, Output};
use crate::course::Course;
use crate::exit::Exit;
use crate::follow::{Followed, display, follow};
use crate::specs;
use crate::verbs::plan::refused;
use crate::view;
use crate::view::figures::counted;
use crate::view::harmless::line;
use crate::view::lines::Silent;
use crate::view::list::standing;
use crate::view::plan::is_done;

/// How often a plan is made when the topology moves between plan and submission.
const PLANS: u32 = 5;

/// Plan these specs, ask, submit and start them, and watch until all of them rest.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift apply migrations
  shardlift apply migrations --yes --output json      in a script
  shardlift apply migrations --yes --no-watch         return once they are submitted

Applied again, what was submitted before is not submitted twice, and what is completed is left alone.
Ctrl-C stops the watching, never the migrations. A coordinator that goes away is waited for.
Ends with 0 when all are completed, 3 when one failed, 4 when one is paused, halted or cancelled or waits for one
that is, 5 when a spec or the plan is refused, 7 when an id was submitted before with another content.")]
pub(crate) struct Apply {
    /// Spec files, or directories of spec files.
    #[arg(value_name = "DIR|FILE", required = true)]
    paths: Vec<PathBuf>,

    /// Do not ask.
    #[arg(long)]
    yes: bool,

    /// Return once they are submitted.
    #[arg(long)]
    no_watch: bool,
}

impl Apply {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let files = specs::load(&self.paths, &session.console)?;
        let client = session.client()?;
        let mut plans = 1;
        loop {
            let plan = match client.plan(files.clone()).await {
                Ok(plan) => plan,
                Err(failures) => return Err(Ended::Refused { failures, files }),
            };
            if let Some(exit) = self.needless(session, &plan, &files)? {
                return Ok(exit);
            }
            match submit(&client, files.clone(), plan.topology_revision).await {
                Ok(plan) => return self.after_submit(session, &client, &plan).await,
                Err(Ended::Refused { failures, .. }) if plans < PLANS && is_stale(&failures) => {
                    plans += 1;
                    let why = failures.first().map(|failure| line(&failure.message)).unwrap_or_default();
                    session.console.note(&format!("{why}\nplanned anew:\n"));
                }
                Err(ended) => return Err(ended),
            }
        }
    }

    /// Shows the plan and asks. Why nothing is to be submitted, if so.
    fn needless(&self, session: &Session, plan: &Plan, files: &[SpecFile]) -> Result<Option<Exit>, Ended> {
        if let Some(exit) = refused(plan) {
            session.console.answer(|paint| view::plan::plan(paint, plan, files), || report(plan, None))?;
            return Ok(Some(exit));
        }
        if is_done(plan) {
            let all = counted(plan.migrations.len(), "migration");
            let sentence = format!("Nothing to do: {all}, completed before.\n");
            session.console.answer(|_| sentence, || report(plan, None))?;
            return Ok(Some(Exit::Done));
        }
        session.console.remark(&view::plan::plan(session.console.paint, plan, files))?;
        if changes_something(plan) && !self.yes && !confirmed(session, plan)? {
            session.console.note("not applied\n");
            return Ok(Some(Exit::Stopped));
        }
        Ok(None)
    }

    async fn after_submit(&self, session: &Session, client: &Client, plan: &Plan) -> Result<Exit, Ended> {
        if self.no_watch {
            let (sentence, exit) = submitted(plan);
            session.console.answer(|_| sentence, || report(plan, None))?;
            return Ok(exit);
        }
        let mut course = Course::of(plan);
        let followed = match session.console.output {
            Output::Table => follow(client, &mut course, display(&session.console).as_mut()).await?,
            Output::Json | Output::Yaml => follow(client, &mut course, &mut Silent).await?,
        };
        if followed == Followed::Interrupted {
            return Ok(interrupted(&session.console, "shardlift list"));
        }
        for view in course.ended() {
            explain(&session.console, view);
        }
        session.console.answer(|_| summary(&course), || report(plan, Some(&course)))?;
        Ok(exit(&course))
    }
}

/// Whether the topology moved between plan and submission.
fn is_stale(failures: &[Failure]) -> bool {
    failures.iter().any(|failure| failure.code == ErrorCode::PlanStale)
}

/// Whether submitting does more than finding everything as it is.
fn changes_something(plan: &Plan) -> bool {
    plan.migrations.iter().any(|planned| match planned.disposition {
        Disposition::New | Disposition::NextVersion => true,
        Disposition::Known { status } => status == Status::Pending,
    })
}

fn confirmed(session: &Session, plan: &Plan) -> Result<bool, Ended> {
    if !io::stdin().is_terminal() {
        let message = "standard input is not a terminal, so nobody can be asked whether to apply this plan";
        return Err(Failure::new(
            ErrorCode::RequestInvalid,
            message,
            "give --yes to apply without a question",
        )
        .into());
    }
    let shards: BTreeSet<_> = plan.migrations.iter().flat_map(PlannedMigration::shards).collect();
    session.console.note(&format!("Apply this plan to {}? [y/N] ", counted(shards.len(), "shard")));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

async fn submit(client: &Client, files: Vec<SpecFile>, revision: u64) -> Result<Plan, Ended> {
    client.submit(files.clone(), true, Some(revision)).await.map_err(|mut failures| {
        for failure in failures.iter_mut().filter(|each| each.code == ErrorCode::CoordinatorUnreachable) {
            // Whether it was stored is not known, and need not be.
            failure.next =
                "apply again when it is back: what was submitted is not submitted twice".to_owned();
        }
        Ended::Refused { failures, files }
    })
}

/// What a submission alone has led to: whatever rests already stays at rest, and nobody watches to see it.
fn submitted(plan: &Plan) -> (String, Exit) {
    let mut text = String::new();
    let mut exit = Exit::Done;
    for planned in &plan.migrations {
        let Disposition::Known { status } = planned.disposition else { continue };
        let meant = Exit::of_status(status);
        if status.rests() && meant != Exit::Done {
            text.push_str(&format!("{}: {status}, as before; not started again\n", planned.id));
            exit = if exit == Exit::Failed { exit } else { meant };
        }
    }
    text.push_str("Submitted. Watch one: shardlift watch ID; look at all: shardlift list\n");
    (text, exit)
}

fn exit(course: &Course) -> Exit {
    let exits: Vec<Exit> = course.ended().map(Exit::of_migration).collect();
    if exits.contains(&Exit::Failed) {
        Exit::Failed
    } else if exits.contains(&Exit::Stopped) || !course.blocked().is_empty() {
        Exit::Stopped
    } else {
        Exit::Done
    }
}

/// How it ended, in lines.
fn summary(course: &Course) -> String {
    let rested = course.ended().filter(|view| view.status != Status::Completed);
    let mut text: String = rested.map(|view| format!("{}: {}\n", view.id(), standing(view))).collect();
    for (id, obstacles) in course.blocked() {
        let obstacles: Vec<_> = obstacles.into_iter().cloned().collect();
        text.push_str(&format!("{id}: not begun, waits for {}\n", view::list::ids(&obstacles)));
    }
    let completed = course.ended().filter(|view| view.status == Status::Completed).count();
    text.push_str(&format!("{} completed.\n", counted(completed, "migration")));
    text
}

/// The plan, and how what it holds has ended.
fn report(plan: &Plan, course: Option<&Course>) -> Value {
    let mut value = json!({ "plan": view::json::plan(plan) });
    let statuses = view::json::statuses(course.into_iter().flat_map(Course::seen));
    value["migrations"] = statuses["migrations"].clone();
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples;

    fn course_after(view: shardlift_client::model::MigrationView) -> Course {
        let mut course = Course::of(&samples::plan());
        course.open();
        course.on(view);
        course
    }

    #[test]
    fn the_exit_code_tells_how_it_ended() {
        assert_eq!(exit(&course_after(samples::completed())), Exit::Done);
        assert_eq!(exit(&course_after(samples::failed())), Exit::Failed);
        assert_eq!(exit(&course_after(samples::halted())), Exit::Stopped);
    }

    #[test]
    fn the_summary_names_what_did_not_get_through_and_what_waits_for_it() {
        let mut plan = samples::plan();
        let mut next = plan.migrations[1].clone();
        next.id = samples::id("0020_index");
        next.waits_for = vec![samples::id("0008_message_text")];
        plan.migrations.push(next);
        let mut course = Course::of(&plan);
        course.open();
        course.on(samples::failed());
        assert_eq!(exit(&course), Exit::Failed);
        let expected = "\
0008_message_text: failed
0020_index: not begun, waits for 0008_message_text
0 migrations completed.
";
        assert_eq!(summary(&course), expected);
        let report = report(&plan, Some(&course));
        assert_eq!(report["migrations"][0]["status"], "failed");
        assert_eq!(report["plan"]["migrations"][1]["disposition"], "new");
    }

    #[test]
    fn what_rests_already_is_told_though_nobody_watches() {
        let mut plan = samples::plan();
        assert_eq!(submitted(&plan).1, Exit::Done);
        plan.migrations[1].disposition = Disposition::Known { status: Status::Running };
        assert_eq!(submitted(&plan).1, Exit::Done);
        plan.migrations[1].disposition = Disposition::Known { status: Status::Cancelled };
        let (text, exit) = submitted(&plan);
        assert_eq!(exit, Exit::Stopped);
        let line = format!("{}: cancelled, as before; not started again\n", plan.migrations[1].id);
        assert!(text.starts_with(&line), "{text}");
        plan.migrations[0].disposition = Disposition::Known { status: Status::Failed };
        assert_eq!(submitted(&plan).1, Exit::Failed);
    }

    #[test]
    fn a_plan_of_what_runs_already_needs_no_question() {
        let mut plan = samples::plan();
        assert!(changes_something(&plan));
        plan.migrations[1].disposition = Disposition::Known { status: Status::Running };
        assert!(!changes_something(&plan));
    }
}
