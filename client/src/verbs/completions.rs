//! `shardlift completions SHELL`.

use clap::CommandFactory;
use clap_complete::{Shell as Generator, generate};

use crate::cli::{Arguments, Session};
use crate::console::Ended;
use crate::exit::Exit;

/// Write the completion script of a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift completions bash > /etc/bash_completion.d/shardlift
  shardlift completions zsh > ~/.zfunc/_shardlift
  shardlift completions fish > ~/.config/fish/completions/shardlift.fish")]
pub(crate) struct Completions {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completions {
    pub(crate) fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let generator = match self.shell {
            Shell::Bash => Generator::Bash,
            Shell::Zsh => Generator::Zsh,
            Shell::Fish => Generator::Fish,
        };
        // Into memory first: the generator panics when it cannot write.
        let mut script = Vec::new();
        generate(generator, &mut Arguments::command(), "shardlift", &mut script);
        session.console.say(&String::from_utf8_lossy(&script))?;
        Ok(Exit::Done)
    }
}
