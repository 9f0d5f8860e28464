//! Keys: what a text means, its one canonical form, and its order.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest key in bytes.
pub const MAX_KEY_TEXT: usize = 512;

/// What the keys of a cluster are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// Any text, as it is: ordered by its UTF-8 bytes.
    #[default]
    Text,
    /// A whole number of 64 bits: ordered as numbers, written in decimal without leading zeros.
    Integer,
    /// A UUID: ordered by its bytes, written in lower case with hyphens.
    Uuid,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Text, Self::Integer, Self::Uuid];

    /// `text`, `integer` or `uuid`.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyKind::Text => "text",
            KeyKind::Integer => "integer",
            KeyKind::Uuid => "uuid",
        }
    }

    /// The key that a text stands for.
    pub fn parse(self, text: &str) -> Result<Key, KeyError> {
        let refuse = |why| Err(KeyError { text: text.chars().take(80).collect(), kind: self, why });
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > MAX_KEY_TEXT {
            return refuse("it is longer than 512 bytes");
        }
        if text.contains('\0') {
            return refuse("it holds a NUL character");
        }
        match self {
            KeyKind::Text => Ok(Key::Text(text.to_owned())),
            KeyKind::Integer => match text.parse() {
                Ok(number) => Ok(Key::Integer(number)),
                Err(_) => refuse("it is not a whole number of 64 bits"),
            },
            KeyKind::Uuid => match uuid(text) {
                Some(bytes) => Ok(Key::Uuid(bytes)),
                None => refuse("it is not a UUID such as 0b8f4a4e-7f0c-4d52-9f61-0d8a4f3e2c1b"),
            },
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no key of kind {kind}: {why}")]
pub struct KeyError {
    /// The text, cut.
    pub text: String,
    /// What was expected.
    pub kind: KeyKind,
    /// What is wrong.
    pub why: &'static str,
}

/// One key. Keys of one kind are ordered; a cluster has one kind only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// As it is.
    Text(String),
    /// A number.
    Integer(i64),
    /// Its bytes.
    Uuid([u8; 16]),
}

impl Key {
    /// The one text form: what is hashed, and what a directory is searched for.
    pub fn canonical(&self) -> String {
        match self {
            Key::Text(text) => text.clone(),
            Key::Integer(number) => number.to_string(),
            Key::Uuid(bytes) => {
                let mut text = String::with_capacity(36);
                for (at, byte) in bytes.iter().enumerate() {
                    if matches!(at, 4 | 6 | 8 | 10) {
                        text.push('-');
                    }
                    use fmt::Write;
                    // Writing to a String cannot fail.
                    let _ = write!(text, "{byte:02x}");
                }
                text
            }
        }
    }
}

/// 32 hex digits, with hyphens at their places or none at all.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let hyphens = [8, 13, 18, 23];
    let digits: String = match text.len() {
        36 if text.char_indices().all(|(at, c)| (c == '-') == hyphens.contains(&at)) => {
            text.chars().filter(|c| *c != '-').collect()
        }
        32 => text.to_owned(),
        _ => return None,
    };
    let mut bytes = [0; 16];
    for (at, byte) in bytes.iter_mut().enumerate() {
        let pair = digits.get(2 * at..2 * at + 2)?;
        if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}
