//! `shardlift context …`.

use clap::Subcommand;
use serde_json::json;

use crate::cli::Session;
use crate::console::Ended;
use crate::contexts::{Contexts, nameable};
use crate::exit::Exit;
use crate::view::harmless::line;
use crate::view::table::{Side, Table};

/// Keep names for installations, so that nobody has to write addresses and certificates again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift context add production --coordinator https://c1:7400,https://c2:7400 --ca /etc/shardlift/ca.pem
  shardlift context use production
  shardlift context list
  shardlift status 0008_message_text --context staging

They are in $XDG_CONFIG_HOME/shardlift/config.toml, or ~/.config/shardlift/config.toml. What a flag or a variable of the
environment says wins; --coordinator without --context leaves the present context alone.")]
pub(crate) struct Context {
    #[command(subcommand)]
    verb: Ask,
}

#[derive(Debug, Subcommand)]
enum Ask {
    /// List them; the present one is marked.
    List,
    /// Make one the present one.
    Use {
        /// Its name.
        name: String,
    },
    /// Keep what --coordinator, --ca, --server-name, --client-certificate, --client-key and --token-file say under a name. The first one becomes the present one.
    Add {
        /// Its name; one that is there already is replaced.
        name: String,
    },
}

impl Context {
    pub(crate) fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let mut contexts = Contexts::read()?;
        match &self.verb {
            Ask::List => list(session, &contexts)?,
            Ask::Use { name } => {
                contexts.find(name)?;
                contexts.current = Some(name.clone());
                contexts.write()?;
                session
                    .console
                    .answer(|_| format!("{}: present\n", line(name)), || json!({ "current": name }))?;
            }
            Ask::Add { name } => {
                nameable(name)?;
                contexts.all.insert(name.clone(), session.reach().context()?);
                contexts.current.get_or_insert_with(|| name.clone());
                let file = contexts.write()?.display().to_string();
                session.console.answer(
                    |_| format!("{}: kept in {}\n", line(name), line(&file)),
                    || json!({ "added": name, "file": file }),
                )?;
            }
        }
        Ok(Exit::Done)
    }
}

fn list(session: &Session, contexts: &Contexts) -> Result<(), Ended> {
    let present = |name: &str| contexts.current.as_deref() == Some(name);
    let table = |paint| {
        if contexts.all.is_empty() {
            return "no context; make one: shardlift context add NAME --coordinator HOST:PORT\n".to_owned();
        }
        let columns = ["", "NAME", "COORDINATORS", "CA"];
        let mut table = Table::new(&columns.map(|name| (name, Side::Left)));
        for (name, context) in &contexts.all {
            let ca = context.ca.as_ref().map_or_else(|| "-".to_owned(), |ca| ca.display().to_string());
            let mark = if present(name) { "*" } else { "" };
            table.row(vec![
                mark.into(),
                line(name).into(),
                line(&context.coordinators.join(",")).into(),
                line(&ca).into(),
            ]);
        }
        table.render(paint)
    };
    let one = |(name, context): (&String, &crate::contexts::Context)| {
        json!({ "name": name, "present": present(name), "coordinators": context.coordinators, "ca": context.ca,
            "server_name": context.server_name, "certificate": context.certificate, "key": context.key,
            "token_file": context.token_file })
    };
    session.console.answer(table, || json!({ "contexts": contexts.all.iter().map(one).collect::<Vec<_>>() }))
}
