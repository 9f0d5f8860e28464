//! `shardlift plan PATH`.

use std::path::PathBuf;

use shardlift_domain::failure::Failure;
use shardlift_domain::plan::Plan as Planned;
use shardlift_domain::rehearsal::{MOST_REHEARSED_ROWS, REHEARSED_ROWS};
use shardlift_domain::verdict::Severity;

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::specs;
use crate::view::harmless::line;
use crate::view::{json, plan, rehearsal};

/// Show what applying these specs would do, and what is wrong with them. Changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift plan migrations
  shardlift plan migrations/data/0008_message_text.yaml --output json
  shardlift plan migrations --rehearse --rows 2000

A directory stands for all *.yaml files and all annotated *.sql files in it and in the directories below, in the
order of their names. Several paths make one plan, so that specs may depend on each other.
The files are checked here first, all problems of all files at once; then the coordinator plans with what the
shards tell. Ends with 5 when a spec or the plan is refused.

--rehearse runs each transform on a sample of every shard, in transactions that are rolled back: it shows a few rows
before and after, which rows cannot be changed and why, and foretells speed, duration and log volume.")]
pub(crate) struct Plan {
    /// Spec files, or directories of spec files.
    #[arg(value_name = "DIR|FILE", required = true)]
    paths: Vec<PathBuf>,

    /// Also try the transforms on a sample of every shard, and roll back.
    #[arg(long)]
    rehearse: bool,

    /// About how many rows of each shard.
    #[arg(
        long,
        value_name = "N",
        requires = "rehearse",
        default_value_t = REHEARSED_ROWS,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_REHEARSED_ROWS))
    )]
    rows: u32,
}

impl Plan {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let files = specs::load(&self.paths, &session.console)?;
        let client = session.client()?;
        let planned = if self.rehearse {
            client.rehearse(files.clone(), self.rows).await
        } else {
            client.plan(files.clone()).await.map(|plan| (plan, Vec::new()))
        };
        let (plan, shown) = match planned {
            Ok(planned) => planned,
            Err(failures) => return Err(Ended::Refused { failures, files }),
        };
        let table = |paint| plan::plan(paint, &plan, &files) + &rehearsal::samples(paint, &shown);
        session.console.answer(table, || {
            let mut answer = json::plan(&plan);
            if self.rehearse {
                answer["samples"] = shown.iter().map(rehearsal::sample_json).collect();
            }
            answer
        })?;
        if let Some(exit) = refused(&plan) {
            return Ok(exit);
        }
        if plan::is_over(&plan) {
            session.console.remark("Nothing to do.\n")?;
        } else {
            let paths: Vec<String> =
                self.paths.iter().map(|path| line(&path.display().to_string())).collect();
            session.console.remark(&format!("Apply it: shardlift apply {}\n", paths.join(" ")))?;
        }
        Ok(Exit::Done)
    }
}

/// How to end when the plan cannot be submitted.
pub(super) fn refused(plan: &Planned) -> Option<Exit> {
    let errors = plan.findings.iter().filter(|finding| finding.severity == Severity::Error);
    let errors: Vec<Failure> = errors.map(|finding| finding.failure.clone()).collect();
    (!errors.is_empty()).then(|| Exit::of_refusal(&errors))
}
