//! Where in a configuration something stands: `cluster[1].shards`, and in which line of the file that is.

use std::fmt;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// One part of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Key(String),
    Index(usize),
}

/// The way from the root to one value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KeyPath(Vec<Part>);

impl KeyPath {
    /// The path of these nested keys.
    pub(super) fn of_keys(keys: &[String]) -> Self {
        Self(keys.iter().cloned().map(Part::Key).collect())
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Part::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Part::Index(index))
    }

    fn with(&self, part: Part) -> Self {
        let mut parts = self.0.clone();
        parts.push(part);
        Self(parts)
    }

    /// Whether `other` is this path or lies below it.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// `line:column` of the deepest part that the text has, both from 1.
    pub(super) fn position(&self, text: &str) -> Option<String> {
        let root = DeTable::parse(text).ok()?;
        let mut table: Option<&DeTable<'_>> = Some(root.get_ref());
        let mut array = None;
        let mut deepest = None;
        for part in &self.0 {
            let (span, value): (Range<usize>, &DeValue<'_>) = match part {
                Part::Key(key) => {
                    let Some((name, value)) = table.and_then(|table| table.get_key_value(key.as_str()))
                    else {
                        break;
                    };
                    (name.span(), value.get_ref())
                }
                Part::Index(index) => {
                    let Some(value) = array.and_then(|array: &toml::de::DeArray<'_>| array.get(*index))
                    else {
                        break;
                    };
                    (value.span(), value.get_ref())
                }
            };
            deepest = Some(span.start);
            table = value.as_table();
            array = value.as_array();
        }
        deepest.map(|offset| line_and_column(text, offset))
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            match part {
                Part::Key(key) if at == 0 => f.write_str(key)?,
                Part::Key(key) => write!(f, ".{key}")?,
                Part::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// `line:column` of a byte offset, both from 1, columns in characters.
pub(super) fn line_and_column(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    format!("{line}:{column}")
}
