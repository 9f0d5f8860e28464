//! Layered configuration: file, then environment, then flags. Unknown keys are refused, and everything that is
//! wrong is told at once. There is no global: a configuration is a value that `main` hands down.

mod path;
mod problems;
mod secret;
mod strict;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use path::{KeyPath, line_and_column};

pub use problems::{ConfigProblems, Problem};
pub use secret::{Secret, SecretError, read_secret};

/// Reads a configuration from a TOML file, from environment variables that begin with `env_prefix` and `__`
/// (`SHARDLIFT__STORE__PATH=…` is `store.path`), and from flags (`("store.path", value)`); the later wins.
///
/// An environment variable is read as a TOML value if it is one, else as a text.
pub fn load<T: DeserializeOwned>(
    file: Option<&Path>,
    env_prefix: &str,
    overrides: &[(&str, Value)],
) -> Result<T, ConfigProblems> {
    let text = match file.map(std::fs::read_to_string).transpose() {
        Ok(text) => text.unwrap_or_default(),
        Err(error) => {
            let mut problems = ConfigProblems::default();
            let place = file.map(|file| file.display().to_string()).unwrap_or_default();
            problems.add_at(place, "", format!("cannot read the configuration file: {error}"));
            return Err(problems);
        }
    };
    let name = file.map(|file| file.display().to_string()).unwrap_or_default();
    Layers::new(&name, &text).and_then(|mut layers| {
        layers.environment(env_prefix, environment());
        layers.flags(overrides);
        layers.read()
    })
}

/// One environment variable; `None` when it is not set or not UTF-8.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A file of the user's own settings: below XDG_CONFIG_HOME, else below `.config` of the home. `None`: the user has neither.
pub fn user_file(below: &str) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // The specification of these directories: a path that is not absolute is to be ignored.
    let settings = set("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    settings.or_else(|| set("HOME").map(|home| home.join(".config"))).map(|settings| settings.join(below))
}

#[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The layers laid over each other so far.
struct Layers<'a> {
    file: &'a str,
    text: &'a str,
    values: Table,
    /// Which keys did not come from the file, and from where instead.
    origins: Vec<(KeyPath, String)>,
    problems: ConfigProblems,
}

impl<'a> Layers<'a> {
    fn new(file: &'a str, text: &'a str) -> Result<Self, ConfigProblems> {
        let mut problems = ConfigProblems::default();
        match text.parse::<Table>() {
            Ok(values) => Ok(Self { file, text, values, origins: Vec::new(), problems }),
            Err(error) => {
                let at = error.span().map(|span| line_and_column(text, span.start)).unwrap_or_default();
                // `message` alone: the Display of this error quotes the line, which may hold a secret.
                problems.add_at(format!("{file}:{at}"), "", format!("not valid TOML: {}", error.message()));
                Err(problems)
            }
        }
    }

    fn environment(&mut self, prefix: &str, variables: impl Iterator<Item = (String, String)>) {
        let prefix = format!("{prefix}__");
        let mut ours: Vec<_> = variables.filter(|(name, _)| name.starts_with(&prefix)).collect();
        ours.sort_unstable();
        for (name, text) in ours {
            let keys: Vec<String> = name[prefix.len()..].split("__").map(str::to_ascii_lowercase).collect();
            self.lay(&keys, value_of(&text), name);
        }
    }

    fn flags(&mut self, overrides: &[(&str, Value)]) {
        for (key, value) in overrides {
            let keys: Vec<String> = key.split('.').map(str::to_owned).collect();
            self.lay(&keys, value.clone(), "command line".to_owned());
        }
    }

    fn lay(&mut self, keys: &[String], value: Value, origin: String) {
        let Some((last, tables)) = keys.split_last() else { return };
        let mut table = &mut self.values;
        for key in tables {
            let below = table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
            match below {
                Value::Table(inner) => table = inner,
                _ => {
                    self.problems.add_at(
                        origin,
                        KeyPath::of_keys(keys).to_string(),
                        format!("{key:?} is not a table"),
                    );
                    return;
                }
            }
        }
        table.insert(last.clone(), value);
        self.origins.push((KeyPath::of_keys(keys), origin));
    }

    fn read<T: DeserializeOwned>(mut self) -> Result<T, ConfigProblems> {
        match strict::read(Value::Table(std::mem::take(&mut self.values))) {
            Ok(value) => self.problems.into_result(value),
            Err(refused) => {
                for strict::Refused { path, message } in refused {
                    let path = path.unwrap_or_default();
                    self.problems.add_at(self.place(&path), path.to_string(), message);
                }
                Err(self.problems)
            }
        }
    }

    /// Where a value was written.
    fn place(&self, path: &KeyPath) -> String {
        if let Some((_, origin)) = self.origins.iter().rev().find(|(laid, _)| laid.covers(path)) {
            return origin.clone();
        }
        match path.position(self.text) {
            Some(position) => format!("{}:{position}", self.file),
            None => self.file.to_owned(),
        }
    }
}

/// The TOML value that a text is, or the text.
fn value_of(text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<Table>().ok();
    match parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value")) {
        Some(value) => value,
        None => Value::String(text.to_owned()),
    }
}
