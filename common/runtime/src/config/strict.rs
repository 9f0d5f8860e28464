//! A deserializer that knows where it is and tells every key that no struct has a field for.
//!
//! Configuration types are plain structs, lists and enums of words: keys inside an enum with content are not watched.

use std::cell::RefCell;
use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use toml::Value;

use super::path::KeyPath;

/// A value or key that does not fit, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// `None` until the place is known.
    pub(super) path: Option<KeyPath>,
    pub(super) message: String,
}

impl Refused {
    fn at(mut self, path: &KeyPath) -> Self {
        self.path.get_or_insert_with(|| path.clone());
        self
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refused {}

impl Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { path: None, message: message.to_string() }
    }
}

/// Reads `T`, or tells every unknown key and the first value that does not fit.
pub(super) fn read<T: DeserializeOwned>(root: Value) -> Result<T, Vec<Refused>> {
    let unknown = RefCell::new(Vec::new());
    let result = T::deserialize(Node { value: root, path: KeyPath::default(), unknown: &unknown });
    let mut refused = unknown.into_inner();
    match result {
        Ok(value) if refused.is_empty() => Ok(value),
        Ok(_) => Err(refused),
        Err(error) => {
            refused.push(error);
            Err(refused)
        }
    }
}

struct Node<'a> {
    value: Value,
    path: KeyPath,
    unknown: &'a RefCell<Vec<Refused>>,
}

impl Node<'_> {
    /// Takes the keys out that are not among `fields`, and remembers them.
    fn keep_only(&mut self, fields: &'static [&'static str]) {
        let Value::Table(table) = &mut self.value else { return };
        let strangers: Vec<String> =
            table.keys().filter(|key| !fields.contains(&key.as_str())).cloned().collect();
        for key in strangers {
            table.remove(&key);
            let message = match nearest(&key, fields) {
                Some(field) => format!("unknown key; did you mean {field:?}?"),
                None => format!("unknown key; known here: {}", fields.join(", ")),
            };
            self.unknown.borrow_mut().push(Refused { path: Some(self.path.key(&key)), message });
        }
    }
}

/// The field that `key` is most likely a slip of.
fn nearest(key: &str, fields: &[&'static str]) -> Option<&'static str> {
    let near = |field: &&'static str| (strsim::damerau_levenshtein(key, field), *field);
    let (distance, field) = fields.iter().map(near).min()?;
    (distance <= 1 + key.len() / 4).then_some(field)
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let Node { value, path, unknown } = self;
        match value {
            Value::Table(table) => {
                let entries = table.into_iter();
                visitor.visit_map(Entries { entries, next: None, path, unknown })
            }
            Value::Array(items) => {
                visitor.visit_seq(Items { items: items.into_iter().enumerate(), path, unknown })
            }
            // `message` alone: the Display of these errors quotes the input.
            leaf => leaf.deserialize_any(visitor).map_err(|error| Refused::custom(error.message())),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.keep_only(fields);
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let read = self.value.deserialize_enum(name, variants, visitor);
        read.map_err(|error| Refused::custom(error.message()))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Entries<'a> {
    entries: toml::map::IntoIter<String, Value>,
    next: Option<(KeyPath, Value)>,
    path: KeyPath,
    unknown: &'a RefCell<Vec<Refused>>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        let path = self.path.key(&key);
        let read = seed.deserialize(key.into_deserializer()).map_err(|error: Refused| error.at(&path))?;
        self.next = Some((path, value));
        Ok(Some(read))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        let (path, value) = self.next.take().ok_or_else(|| Refused::custom("a value without its key"))?;
        let node = Node { value, path: path.clone(), unknown: self.unknown };
        seed.deserialize(node).map_err(|error| error.at(&path))
    }
}

struct Items<'a> {
    items: std::iter::Enumerate<std::vec::IntoIter<Value>>,
    path: KeyPath,
    unknown: &'a RefCell<Vec<Refused>>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Refused;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        let Some((index, value)) = self.items.next() else { return Ok(None) };
        let path = self.path.index(index);
        let node = Node { value, path: path.clone(), unknown: self.unknown };
        seed.deserialize(node).map(Some).map_err(|error| error.at(&path))
    }
}
