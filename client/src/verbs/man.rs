//! `shardlift man`.

use clap::CommandFactory;
use clap_mangen::Man as Page;

use crate::cli::{Arguments, Session};
use crate::console::Ended;
use crate::exit::Exit;

/// Write the manual page, of the program or of one verb.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift man > /usr/local/share/man/man1/shardlift.1
  shardlift man apply | man -l -")]
pub(crate) struct Man {
    /// Of this verb only.
    verb: Option<String>,
}

impl Man {
    pub(crate) fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let mut program = Arguments::command();
        // The flags that every verb takes reach the verbs only in a program that was built.
        program.build();
        let page = match &self.verb {
            None => Page::new(program),
            Some(name) => match program.find_subcommand(name) {
                Some(verb) => Page::new(verb.clone()).title(format!("shardlift-{name}")),
                None => {
                    session.console.note(&format!("there is no verb {name:?}: see shardlift --help\n"));
                    return Ok(Exit::Usage);
                }
            },
        };
        // Into memory first: a closed pipe is told the way it always is.
        let mut text = Vec::new();
        page.render(&mut text)?;
        session.console.say(&String::from_utf8_lossy(&text))?;
        Ok(Exit::Done)
    }
}
