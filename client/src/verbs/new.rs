//! `shardlift new KIND ENGINE NAME`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::{ClusterName, MigrationId};
use shardlift_domain::spec::{Engine, Kind};

use super::skeleton;
use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::harmless::line;

/// Write a commented spec to begin with. An existing file is never overwritten.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  shardlift new schema postgres message_columns
  shardlift new data mongodb message_text --dir migrations/data --cluster chat-docs

The file gets the next free number in the directory and the directories below it: migrations/0007_message_columns.yaml.")]
pub(crate) struct New {
    /// What it changes.
    #[arg(value_enum)]
    kind: KindName,

    /// The database of its cluster.
    #[arg(value_enum)]
    engine: EngineName,

    /// What it is called: lower-case letters, digits and `_`.
    name: String,

    /// Where to write it; made if it is not there.
    #[arg(long, default_value = "migrations")]
    dir: PathBuf,

    /// The cluster that it is for.
    #[arg(long, default_value = "chat")]
    cluster: ClusterName,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum KindName {
    Schema,
    Data,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum EngineName {
    Postgres,
    Mongodb,
}

impl New {
    pub(crate) fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let kind = match self.kind {
            KindName::Schema => Kind::Schema,
            KindName::Data => Kind::Data,
        };
        let engine = match self.engine {
            EngineName::Postgres => Engine::Postgres,
            EngineName::Mongodb => Engine::Mongodb,
        };
        let (id, path) = write(&self.dir, &self.name, |id| skeleton::text(kind, engine, id, &self.cluster))?;
        let shown = line(&path.display().to_string());
        let sentence = format!("wrote {shown}\nfill it in, then look at its plan: shardlift plan {shown}\n");
        session.console.answer(|_| sentence, || json!({ "id": id, "file": path.display().to_string() }))?;
        Ok(Exit::Done)
    }
}

/// Writes `NNNN_name.yaml` with the next free number.
fn write(
    dir: &Path,
    name: &str,
    text: impl Fn(&MigrationId) -> String,
) -> Result<(MigrationId, PathBuf), Vec<Failure>> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        let message = "the name of a spec has lower-case letters, digits and '_' only";
        return Err(refused(message, "take another name, such as message_columns"));
    }
    let unwritable = |path: &Path, error: &io::Error| {
        refused(format!("cannot write {}: {error}", path.display()), "choose another directory with --dir")
    };
    fs::create_dir_all(dir).map_err(|error| unwritable(dir, &error))?;
    let number = highest(dir).map_err(|error| unwritable(dir, &error))? + 1;
    let id = MigrationId::new(format!("{number:04}_{name}"))
        .map_err(|error| refused(error.to_string(), "take a shorter name"))?;
    let path = dir.join(format!("{id}.yaml"));
    // Never overwrites: somebody else may take the same number at the same time.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(|error| unwritable(&path, &error))?;
    file.write_all(text(&id).as_bytes()).map_err(|error| unwritable(&path, &error))?;
    Ok((id, path))
}

fn refused(message: impl Into<String>, next: &str) -> Vec<Failure> {
    vec![Failure::new(ErrorCode::RequestInvalid, message, next)]
}

/// The highest number that a file name begins with, here and below; 0 where there is none.
fn highest(dir: &Path) -> io::Result<u64> {
    let mut highest = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            highest = highest.max(self::highest(&entry.path())?);
            continue;
        }
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.split_once('_')?.0.parse().ok());
        // Dates as numbers would leave no room for a next one in four digits, and are no numbers of this kind.
        highest = highest.max(number.filter(|number| *number < 10_000_000).unwrap_or(0));
    }
    Ok(highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }

    #[test]
    fn a_spec_gets_the_next_free_number() {
        let dir = tempfile::tempdir().expect("a directory");
        let below = dir.path().join("schema");
        for name in ["first", "second"] {
            write(dir.path(), name, |id| format!("id: {id}\n")).expect("written");
        }
        fs::create_dir(&below).expect("made");
        fs::write(below.join("0041_old.sql"), "").expect("written");
        fs::write(below.join("notes.md"), "").expect("written");
        let (id, path) = write(dir.path(), "third", |id| format!("id: {id}\n")).expect("written");
        assert_eq!(id.as_str(), "0042_third");
        assert_eq!(fs::read_to_string(path).expect("read"), "id: 0042_third\n");
        assert_eq!(names(dir.path()), ["0001_first.yaml", "0002_second.yaml", "0042_third.yaml", "schema"]);
    }

    #[test]
    fn a_name_that_is_none_is_refused_and_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["", "../x", "Add", "a b", "a-b", &"x".repeat(70)] {
            let failures = write(dir.path(), name, |_| String::new()).expect_err(name);
            assert_eq!(failures[0].code, ErrorCode::RequestInvalid);
        }
        assert!(names(dir.path()).is_empty());
    }
}
