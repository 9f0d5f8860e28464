//! What a transform changed, written with the old document as the template: nothing that it did not touch changes its
//! type, its place or its bytes.
//!
//! A value that equals what the transform saw keeps its BSON. That holds for elements that moved within their array,
//! and for a field that got another name within its object, too. A changed `long` stays a `long`.

use bson::{Bson, Document};
use vrl::value::{ObjectMap, Value};

use super::image::{is_image, made};

/// How a document is to be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Write {
    /// It is as it was.
    Nothing,
    /// `$set` and `$unset` of the fields that differ.
    Fields(Document),
    /// The whole document: a changed field has a name that no path can express.
    Whole(Document),
}

/// The transform changed `_id`.
#[derive(Debug, PartialEq)]
pub(super) struct KeyChanged;

/// Compares what a transform left with what it was given.
pub(super) fn difference(old: &Document, new: &ObjectMap) -> Result<Write, KeyChanged> {
    match (old.get("_id"), new.get("_id")) {
        (Some(old), Some(new)) if is_image(old, new) => {}
        _ => return Err(KeyChanged),
    }
    let (mut set, mut unset) = (Document::new(), Document::new());
    if !fields("", old, new, &mut set, &mut unset) {
        return Ok(Write::Whole(object(old, new)));
    }
    let mut update = Document::new();
    for (operator, fields) in [("$set", set), ("$unset", unset)] {
        if !fields.is_empty() {
            update.insert(operator, fields);
        }
    }
    Ok(if update.is_empty() { Write::Nothing } else { Write::Fields(update) })
}

/// Adds the changes below `prefix`. `false`: a changed field of this object cannot be named in a path.
fn fields(prefix: &str, old: &Document, new: &ObjectMap, set: &mut Document, unset: &mut Document) -> bool {
    let changed = |name: &str| match (old.get(name), new.get(name)) {
        (Some(old), Some(new)) => !is_image(old, new),
        _ => true,
    };
    let added = new.keys().map(|name| name.as_str()).filter(|name| !old.contains_key(name));
    let touched: Vec<&str> =
        old.keys().map(String::as_str).chain(added).filter(|name| changed(name)).collect();
    if !touched.iter().all(|name| nameable(name)) {
        return false;
    }
    for name in touched {
        let path = format!("{prefix}{name}");
        match (old.get(name), new.get(name)) {
            (_, None) => drop(unset.insert(path, "")),
            (None, Some(value)) => drop(set.insert(path, renamed(old, new, value))),
            (Some(Bson::Document(inner)), Some(Value::Object(value))) if !inner.is_empty() => {
                let (mut below, mut gone) = (Document::new(), Document::new());
                if fields(&format!("{path}."), inner, value, &mut below, &mut gone) {
                    set.extend(below);
                    unset.extend(gone);
                } else {
                    set.insert(path, object(inner, value));
                }
            }
            (Some(inner), Some(value)) => drop(set.insert(path, merged(inner, value))),
        }
    }
    true
}

fn nameable(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('$') && !name.contains(['.', '\0'])
}

/// The new value, with everything of the old one that is still in it.
fn merged(old: &Bson, new: &Value) -> Bson {
    match (old, new) {
        (old, new) if is_image(old, new) => old.clone(),
        (Bson::Document(old), Value::Object(new)) => Bson::Document(object(old, new)),
        (Bson::Array(old), Value::Array(new)) => Bson::Array(array(old, new)),
        (Bson::Int64(_), Value::Integer(number)) => Bson::Int64(*number),
        (_, new) => made(new),
    }
}

/// An object as the transform made it, written with the old one as the template.
pub(super) fn object(old: &Document, new: &ObjectMap) -> Document {
    let kept =
        old.iter().filter_map(|(name, value)| Some((name.clone(), merged(value, new.get(name.as_str())?))));
    let added = new.iter().filter(|(name, _)| !old.contains_key(name.as_str()));
    kept.chain(added.map(|(name, value)| (name.to_string(), renamed(old, new, value)))).collect()
}

/// A value under a name that is new in its object: that of a field which is gone, if it is the same.
fn renamed(old: &Document, new: &ObjectMap, value: &Value) -> Bson {
    let gone = old.iter().filter(|(name, _)| !new.contains_key(name.as_str()));
    let same = gone.map(|(_, was)| was).find(|was| is_image(was, value));
    same.cloned().unwrap_or_else(|| made(value))
}

fn array(old: &[Bson], new: &[Value]) -> Vec<Bson> {
    let element = |(at, value): (usize, &Value)| {
        let here = old.get(at);
        let same =
            here.filter(|was| is_image(was, value)).or_else(|| old.iter().find(|was| is_image(was, value)));
        match (same, here) {
            (Some(same), _) => same.clone(),
            (None, Some(here)) => merged(here, value),
            (None, None) => made(value),
        }
    };
    new.iter().enumerate().map(element).collect()
}

#[cfg(test)]
mod tests {
    use super::super::image::image_of;
    use super::*;
    use bson::doc;
    use bson::oid::ObjectId;

    fn changed(old: &Document, change: impl FnOnce(&mut ObjectMap)) -> Write {
        let mut new = image_of(old);
        change(&mut new);
        difference(old, &new).expect("_id stays")
    }

    fn id(byte: u8) -> Bson {
        ObjectId::from_bytes([byte; 12]).into()
    }

    #[test]
    fn nothing_is_written_when_nothing_changed() {
        let old = doc! { "_id": id(1), "a": [1_i64, { "b": 1.0 }], "u": Bson::Undefined };
        assert_eq!(changed(&old, |_| {}), Write::Nothing);
    }

    #[test]
    fn only_what_differs_is_written_and_its_neighbours_keep_their_types() {
        let deep = doc! { "n": 1_i64, "oid": id(2), "x": { "gone": 1, "stay": 2.5 } };
        let old = doc! { "_id": 1, "deep": deep, "t": "a" };
        let write = changed(&old, |new| {
            let deep = new.get_mut("deep").and_then(Value::as_object_mut).expect("an object");
            deep.insert("n".into(), Value::Integer(2));
            deep.get_mut("x").and_then(Value::as_object_mut).expect("an object").remove("gone");
            new.insert("added".into(), Value::Integer(7));
        });
        let expected = doc! { "$set": { "deep.n": 2_i64, "added": 7_i32 }, "$unset": { "deep.x.gone": "" } };
        assert_eq!(write, Write::Fields(expected));
    }

    #[test]
    fn elements_that_move_within_their_array_keep_their_type() {
        let old = doc! { "_id": 1, "ids": [id(1), id(2), id(3)] };
        let write = changed(&old, |new| {
            let ids = new.get_mut("ids").and_then(Value::as_array_mut).expect("an array");
            ids.remove(0);
            ids.push(Value::from("new"));
        });
        assert_eq!(write, Write::Fields(doc! { "$set": { "ids": [id(2), id(3), "new"] } }));
    }

    #[test]
    fn a_field_with_another_name_keeps_its_type() {
        let old = doc! { "_id": 1, "user": id(9) };
        let write = changed(&old, |new| {
            let user = new.remove("user").expect("it is there");
            new.insert("author".into(), user);
        });
        assert_eq!(write, Write::Fields(doc! { "$set": { "author": id(9) }, "$unset": { "user": "" } }));
    }

    #[test]
    fn names_that_no_path_can_express_are_written_with_what_holds_them() {
        let old = doc! { "_id": 1, "m": { "a.b": 1_i64, "c": id(4) } };
        let write = changed(&old, |new| {
            new.get_mut("m")
                .and_then(Value::as_object_mut)
                .expect("an object")
                .insert("a.b".into(), Value::Integer(2));
        });
        assert_eq!(write, Write::Fields(doc! { "$set": { "m": { "a.b": 2_i64, "c": id(4) } } }));
        let old = doc! { "_id": 1, "$odd": 1, "rest": 1_i64 };
        let write = changed(&old, |new| drop(new.remove("$odd")));
        assert_eq!(write, Write::Whole(doc! { "_id": 1, "rest": 1_i64 }));
    }

    #[test]
    fn a_changed_key_is_told() {
        let old = doc! { "_id": 1 };
        let mut new = image_of(&old);
        new.insert("_id".into(), Value::Integer(2));
        assert_eq!(difference(&old, &new), Err(KeyChanged));
    }
}
