//! BSON as a transform in the worker sees it, and what a transform made as BSON.
//!
//! | BSON | seen as |
//! |---|---|
//! | string, symbol | text |
//! | int, long | integer |
//! | double | float; NaN as the text `NaN` |
//! | date | timestamp; beyond the year 262000 as text |
//! | object, array, bool, null | the same; undefined as null |
//! | binary | bytes |
//! | ObjectId | text of 24 hex digits |
//! | decimal | text of its digits |
//! | every other type | text: canonical extended JSON |
//!
//! The other way (only for what the transform changed, see `diff`): an integer becomes an `int` where it fits in 32
//! bits and a `long` otherwise, a timestamp a `date` in ms, bytes that are not UTF-8 a generic binary.

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document};
use chrono::{DateTime, Utc};
use vrl::value::{ObjectMap, Value};

/// A whole document.
pub(super) fn image_of(document: &Document) -> ObjectMap {
    document.iter().map(|(name, value)| (name.as_str().into(), image(value))).collect()
}

/// What a transform sees of a value.
pub(super) fn image(value: &Bson) -> Value {
    match value {
        Bson::String(text) | Bson::Symbol(text) => Value::from(text.as_str()),
        Bson::Int32(number) => Value::Integer(i64::from(*number)),
        Bson::Int64(number) => Value::Integer(*number),
        Bson::Double(number) if number.is_nan() => Value::from("NaN"),
        Bson::Double(number) => Value::from_f64_or_zero(*number),
        Bson::Boolean(truth) => Value::Boolean(*truth),
        Bson::Null | Bson::Undefined => Value::Null,
        Bson::Document(document) => Value::Object(image_of(document)),
        Bson::Array(values) => Value::Array(values.iter().map(image).collect()),
        Bson::DateTime(time) => match timestamp(*time) {
            Some(time) => Value::Timestamp(time),
            None => Value::from(time.timestamp_millis().to_string()),
        },
        Bson::Binary(binary) => Value::from(binary.bytes.as_slice()),
        Bson::ObjectId(id) => Value::from(id.to_hex()),
        Bson::Decimal128(number) => Value::from(number.to_string()),
        other => Value::from(other.clone().into_canonical_extjson().to_string()),
    }
}

fn timestamp(time: bson::DateTime) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(time.timestamp_millis())
}

/// Whether a value is what a transform sees of `old`; without building the image of large values.
pub(super) fn is_image(old: &Bson, new: &Value) -> bool {
    match (old, new) {
        (Bson::String(text), Value::String(seen)) => seen.as_bytes() == text.as_bytes(),
        (Bson::Document(document), Value::Object(seen)) => {
            document.len() == seen.len()
                && document
                    .iter()
                    .all(|(name, value)| seen.get(name.as_str()).is_some_and(|seen| is_image(value, seen)))
        }
        (Bson::Array(values), Value::Array(seen)) => {
            values.len() == seen.len() && values.iter().zip(seen).all(|(value, seen)| is_image(value, seen))
        }
        (Bson::Document(_) | Bson::Array(_), _) => false,
        (old, new) => image(old) == *new,
    }
}

/// A value that the transform made.
pub(super) fn made(value: &Value) -> Bson {
    match value {
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Bson::String(text.to_owned()),
            Err(_) => Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }),
        },
        Value::String(text) => Bson::String(text.to_string()),
        Value::Regex(regex) => Bson::String(regex.as_str().to_owned()),
        Value::Integer(number) => match i32::try_from(*number) {
            Ok(small) => Bson::Int32(small),
            Err(_) => Bson::Int64(*number),
        },
        Value::Float(number) => Bson::Double(number.into_inner()),
        Value::Boolean(truth) => Bson::Boolean(*truth),
        Value::Timestamp(time) => Bson::DateTime(bson::DateTime::from_millis(time.timestamp_millis())),
        Value::Object(fields) => {
            Bson::Document(fields.iter().map(|(name, value)| (name.to_string(), made(value))).collect())
        }
        Value::Array(values) => Bson::Array(values.iter().map(made).collect()),
        Value::Null => Bson::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    #[test]
    fn every_value_is_its_own_image() {
        let decimal: bson::Decimal128 = "1.50".parse().expect("digits");
        let all = doc! {
            "s": "x", "i": 1, "l": 1_i64, "d": 1.0, "nan": f64::NAN, "b": true, "n": null,
            "o": { "k": [1, { "z": 2 }] }, "far": bson::DateTime::MAX, "at": bson::DateTime::from_millis(-1),
            "id": bson::oid::ObjectId::from_bytes([7; 12]),
            "dec": decimal, "min": Bson::MinKey, "bin": Binary { subtype: BinarySubtype::Md5, bytes: vec![0xff] },
        };
        for (name, value) in &all {
            assert!(is_image(value, &image(value)), "{name}");
        }
        assert!(is_image(&Bson::Document(all.clone()), &Value::Object(image_of(&all))));
    }

    #[test]
    fn a_number_of_another_kind_is_not_the_image() {
        assert!(!is_image(&Bson::Double(1.0), &Value::Integer(1)));
        assert!(!is_image(&Bson::Int32(1), &Value::from_f64_or_zero(1.0)));
    }

    #[test]
    fn integers_take_the_smaller_type_that_holds_them() {
        assert_eq!(made(&Value::Integer(5)), Bson::Int32(5));
        assert_eq!(made(&Value::Integer(5_000_000_000)), Bson::Int64(5_000_000_000));
    }
}
