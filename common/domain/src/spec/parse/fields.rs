//! One section of the file: its keys held against the key table.

use crate::spec::keys::{KEYS, Key, Support, find};
use crate::spec::yaml::{Entry, Mark, Node, Scalar, Value};

use super::context::Context;
use super::nearest::nearest;

/// The keys of a section that this release obeys; all others were told as problems when it was opened.
pub(super) struct Fields<'n> {
    /// Where the section begins.
    pub(super) at: Mark,
    section: &'static str,
    entries: Vec<&'n Entry>,
}

impl<'n> Fields<'n> {
    /// Opens the mapping below `section` (empty at the top).
    pub(super) fn open(ctx: &mut Context, node: &'n Node, section: &'static str) -> Option<Self> {
        let Value::Mapping(entries) = &node.value else {
            let what = if section.is_empty() { "a spec" } else { section };
            ctx.invalid(
                node.at,
                format!("{what} must be a mapping of keys to values, not {}", node.describe()),
            );
            return None;
        };
        let entries = entries.iter().filter(|entry| admit(ctx, section, entry)).collect();
        Some(Self { at: node.at, section, entries })
    }

    /// The value of a key, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<&'n Node> {
        debug_assert!(find(self.section, name).is_some(), "{}.{name} is not in the key table", self.section);
        self.entries.iter().find(|entry| entry.key == name).map(|entry| &entry.value)
    }

    /// Where a key stands, or the section where it is missing.
    pub(super) fn place(&self, name: &str) -> Mark {
        self.entries.iter().find(|entry| entry.key == name).map_or(self.at, |entry| entry.at)
    }

    /// The value of a key that must be there.
    pub(super) fn require(&self, ctx: &mut Context, name: &str) -> Option<&'n Node> {
        let value = self.get(name);
        if value.is_none() {
            ctx.invalid(self.at, format!("key {:?} is missing", self.full(name)));
        }
        value
    }

    fn full(&self, name: &str) -> String {
        if self.section.is_empty() { name.to_owned() } else { format!("{}.{name}", self.section) }
    }
}

/// Tells what is wrong with a key; true if it may be read.
fn admit(ctx: &mut Context, section: &'static str, entry: &Entry) -> bool {
    let Some(key) = find(section, &entry.key) else {
        ctx.invalid(entry.at, format!("unknown key {:?}{}", entry.key, hint(ctx, section, &entry.key)));
        return false;
    };
    if let (Some(wanted), Some(kind)) = (key.kind, ctx.kind)
        && wanted != kind
    {
        ctx.invalid(entry.at, format!("key {:?} is for kind: {wanted}, this spec is kind: {kind}", key.path));
        return false;
    }
    if let (Some(wanted), Some(engine)) = (key.engine, ctx.engine)
        && wanted != engine
    {
        let message = format!(
            "key {:?} is for engine: {wanted}, this spec is engine: {engine}{}",
            key.path,
            instead(key)
        );
        ctx.invalid(entry.at, message);
        return false;
    }
    match key.support {
        Support::Now => true,
        Support::Later { no_op } => {
            if !asks_for_nothing(&entry.value, no_op) {
                ctx.unsupported(
                    entry.at,
                    format!("key {:?} is not in this release{}", key.path, only(no_op)),
                );
            }
            false
        }
    }
}

/// What the other engine has in its place.
fn instead(key: &Key) -> &'static str {
    match key.path {
        "atomic" => "; MongoDB commands cannot be prepared: there is compensation by `down` instead",
        _ => "",
    }
}

fn only(no_op: &[&str]) -> String {
    match no_op {
        [] => String::new(),
        [word, ..] => format!("; only {word:?} is accepted"),
    }
}

fn asks_for_nothing(value: &Node, no_op: &[&str]) -> bool {
    match &value.value {
        Value::Scalar(Scalar::Text(text, _)) => no_op.contains(&text.as_str()),
        Value::Scalar(Scalar::Bool(word)) => no_op.contains(&word.to_string().as_str()),
        _ => false,
    }
}

/// What the user may have meant.
fn hint(ctx: &Context, section: &str, name: &str) -> String {
    let fits = |key: &&Key| {
        key.kind.is_none_or(|kind| ctx.kind.is_none_or(|own| own == kind))
            && key.engine.is_none_or(|engine| ctx.engine.is_none_or(|own| own == engine))
    };
    let here = || KEYS.iter().filter(|key| key.section() == section).filter(fits);
    if let Some(near) = nearest(name, here().map(Key::name)) {
        return format!("; did you mean {near:?}?");
    }
    let elsewhere = KEYS.iter().filter(fits).find(|key| key.name() == name && key.section() != "verify");
    match elsewhere.map(Key::section) {
        Some("") => "; it belongs to the top of the file".into(),
        Some(section) => format!("; it belongs under {section:?}"),
        None => {
            let obeyed = here().filter(|key| key.support == Support::Now).map(Key::name);
            format!("; known here: {}", obeyed.collect::<Vec<_>>().join(", "))
        }
    }
}
