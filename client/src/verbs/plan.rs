//! `shardlift plan PATH`.

use std::path::PathBuf;

use shardlift_domain::failure::Failure;
use shardlift_domain::plan::Plan as Planned;
use shardlift_domain::verdict::Severity;

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::specs;
use crate::view::harmless::line;
use crate::view::{json, plan};

/// Show what applying these specs would do, and what is wrong with them. Changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift plan migrations
  shardlift plan migrations/data/0008_message_text.yaml --output json

A directory stands for all *.yaml files and all annotated *.sql files in it and in the directories below, in the
order of their names. Several paths make one plan, so that specs may depend on each other.
The files are checked here first, all problems of all files at once; then the coordinator plans with what the
shards tell. Ends with 5 when a spec or the plan is refused.")]
pub(crate) struct Plan {
    /// Spec files, or directories of spec files.
    #[arg(value_name = "DIR|FILE", required = true)]
    paths: Vec<PathBuf>,
}

impl Plan {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let files = specs::load(&self.paths, &session.console)?;
        let client = session.client()?;
        let plan = match client.plan(files.clone()).await {
            Ok(plan) => plan,
            Err(failures) => return Err(Ended::Refused { failures, files }),
        };
        session.console.answer(|paint| plan::plan(paint, &plan, &files), || json::plan(&plan))?;
        if let Some(exit) = refused(&plan) {
            return Ok(exit);
        }
        if plan::is_done(&plan) {
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
