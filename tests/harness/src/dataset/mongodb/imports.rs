//! The side collection of documents from several older systems: `_id` of every type, a field of every BSON
//! type.

use std::str::FromStr;

use bson::raw::cstr;
use bson::spec::BinarySubtype;
use bson::{Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, Regex, Timestamp, doc};

/// Documents per shard. The count is small: the check compares each with its original, field by field.
const DOCUMENTS: u64 = 300;

/// The imports of one shard, as loaded.
pub(super) fn documents(shard: u64) -> Vec<Document> {
    (0..DOCUMENTS).map(|number| import(shard, number)).collect()
}

fn import(shard: u64, number: u64) -> Document {
    let mut document = doc! { "_id": id(shard, number) };
    match number % 5 {
        0 => {}
        1 => drop(document.insert("legacy_name", Bson::Null)),
        2 => drop(document.insert("legacy_name", "   ")),
        3 => drop(document.insert("legacy_name", format!("  Import {number} "))),
        _ => drop(document.insert("legacy_name", number as i64)),
    }
    document.insert("values", values(number));
    for (name, value) in values(number) {
        document.insert(format!("top_{name}"), value);
    }
    document
}

/// Numbers of different types never meet: to MongoDB 5, 5.0 and NumberDecimal("5") are one key.
fn id(shard: u64, number: u64) -> Bson {
    let signed = number as i64 - (DOCUMENTS as i64) / 2;
    match number {
        0 => return Bson::Null,
        1 => return Bson::Boolean(false),
        2 => return Bson::Boolean(true),
        3 => return Bson::String(String::new()),
        4 => return doc! {}.into(),
        5 => return Bson::Int64(i64::MAX),
        6 => return Bson::Int64(i64::MIN),
        _ => {}
    }
    match number % 9 {
        0 => Bson::Int32(signed as i32),
        1 => Bson::Int64(signed * 10_000_000_000),
        2 => Bson::Double(signed as f64 + 0.5),
        3 => decimal(&format!("{signed}.25")),
        4 => super::object_id(shard, super::Purpose::Draft, number).into(),
        5 => Bson::String(format!("{}-{number}", ["a", "A", "é", "東"][(number / 9 % 4) as usize])),
        6 => doc! { "system": "crm", "number": number as i64 }.into(),
        7 => DateTime::from_millis(signed * 86_400_000).into(),
        _ => binary(BinarySubtype::Generic, number),
    }
}

fn values(number: u64) -> Document {
    let regex =
        Bson::RegularExpression(Regex { pattern: cstr!("^a.*b$").into(), options: cstr!("im").into() });
    let scoped = JavaScriptCodeWithScope { code: "x".into(), scope: doc! { "x": 1 } };
    doc! {
        "double": 0.1 + number as f64,
        "nan": f64::NAN,
        "infinity": f64::NEG_INFINITY,
        "negative_zero": -0.0,
        "int": number as i32,
        "long": i64::MAX - number as i64,
        "whole_double": number as f64,
        "decimal": decimal("1234567890123456789.000100"),
        "decimal_nan": decimal("NaN"),
        "decimal_small": decimal("1E-6000"),
        "string": "text 👩‍👩‍👧‍👦",
        "bool": number.is_multiple_of(2),
        "null": null,
        "date": DateTime::from_millis(-62_135_596_800_000 + number as i64),
        "date_far": DateTime::from_millis(i64::MAX),
        "timestamp": Timestamp { time: number as u32, increment: 7 },
        "oid": bson::oid::ObjectId::from_bytes([number as u8; 12]),
        "binary": binary(BinarySubtype::Generic, number),
        "md5": binary(BinarySubtype::Md5, number),
        "user_binary": binary(BinarySubtype::UserDefined(0x81), number),
        "regex": regex,
        "code": Bson::JavaScriptCode("function() { return 1; }".into()),
        "scoped": Bson::JavaScriptCodeWithScope(scoped),
        "symbol": Bson::Symbol("symbol".into()),
        "undefined": Bson::Undefined,
        "min": Bson::MinKey,
        "max": Bson::MaxKey,
        "array": [1, "two", [null, { "three": 3.0 }], []],
        "dotted.key": { "$dollar": 1 },
        "empty": {},
    }
}

fn binary(subtype: BinarySubtype, number: u64) -> Bson {
    let mut bytes = vec![0xff, 0x00];
    bytes.extend(number.to_be_bytes());
    bytes.resize(16, 0);
    Bson::Binary(bson::Binary { subtype, bytes })
}

fn decimal(digits: &str) -> Bson {
    Bson::Decimal128(Decimal128::from_str(digits).expect("the callers pass decimal digits"))
}
