//! `_id`s of the MongoDB collection `items`: the loader's, fresh ones for the application, and their text
//! form.

use std::str::FromStr;

use anyhow::Context;
use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Bson, DateTime, Decimal128, Document, doc};

use super::Random;

/// What the `_id` of `items` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdKind {
    /// ObjectIds in the order of insertion.
    ObjectId,
    /// Integers of 64 bits: 0, negative, and gaps.
    Int,
    /// int, long, double, decimal, ObjectId, string, null, sub-document, bool, date and binary beside one
    /// another.
    Mixed,
}

impl IdKind {
    /// The `_id` of the loader's item `number`; different for each number.
    pub(crate) fn loaded(self, number: u64) -> Bson {
        match self {
            Self::ObjectId => object_id(number * 2).into(),
            Self::Int => Bson::Int64((number as i64 - 100) * 10),
            Self::Mixed => match number {
                0 => Bson::Null,
                1 => Bson::Boolean(false),
                2 => Bson::Boolean(true),
                3 => Bson::Int64(i64::MIN),
                4 => Bson::Int64(i64::MAX),
                5 => Bson::String(String::new()),
                6 => Bson::Document(Document::new()),
                _ => mixed(number, number as i64 - 100, ""),
            },
        }
    }

    /// An `_id` that the loader never uses, anywhere among or around its own.
    pub(crate) fn fresh(self, random: &mut Random, documents: u64) -> Bson {
        let number = random.below(documents.max(1) * 2 + 200);
        match self {
            Self::ObjectId => object_id(number * 2 + 1).into(),
            Self::Int => Bson::Int64((number as i64 - 150) * 10 + 1 + random.below(9) as i64),
            Self::Mixed => {
                mixed(random.below(1 << 40), 1_000_000_000_000 + random.below(1 << 40) as i64, "fresh ")
            }
        }
    }
}

/// Numbers of different types never meet: to MongoDB 5, 5.0 and NumberDecimal("5") are one key.
fn mixed(number: u64, signed: i64, prefix: &str) -> Bson {
    match number % 9 {
        0 if i32::try_from(signed).is_ok() => Bson::Int32(signed as i32),
        0 => Bson::Int64(signed),
        1 => Bson::Double(signed as f64 + 0.5),
        2 => {
            let digits = format!("{signed}.25");
            Bson::Decimal128(Decimal128::from_str(&digits).expect("an integer and two digits are a decimal"))
        }
        3 if prefix.is_empty() => object_id(number).into(),
        3 => object_id(signed as u64).into(),
        4 => Bson::String(format!("{prefix}{}{number}", ["a", "A", "é", "東"][(number / 9 % 4) as usize])),
        5 => doc! { "system": "crm", "number": signed }.into(),
        6 => DateTime::from_millis(signed * 1_000).into(),
        7 => doc! { "nested": { "b": signed, "a": null } }.into(),
        _ => {
            let bytes = signed.to_be_bytes().to_vec();
            Bson::Binary(bson::Binary { subtype: BinarySubtype::Generic, bytes })
        }
    }
}

fn object_id(number: u64) -> ObjectId {
    let mut bytes = [0x60_u8; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    ObjectId::from_bytes(bytes)
}

/// The bytes of `id` in hexadecimal, type included: equal texts are equal keys, and it can be read back.
pub(crate) fn id_to_text(id: &Bson) -> anyhow::Result<String> {
    let bytes = doc! { "_id": id.clone() }.to_vec().context("encoding an _id")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The inverse of [`id_to_text`].
pub(crate) fn id_from_text(text: &str) -> anyhow::Result<Bson> {
    let bytes: Vec<u8> = (0..text.len() / 2)
        .map(|place| u8::from_str_radix(text.get(place * 2..place * 2 + 2).unwrap_or("?"), 16))
        .collect::<Result<_, _>>()
        .context("an _id's text is hexadecimal")?;
    let document = Document::from_reader(bytes.as_slice()).context("decoding an _id")?;
    document.get("_id").cloned().context("an _id's text holds an _id")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{IdKind, Random, id_from_text, id_to_text};

    #[test]
    fn every_loaded_id_is_another_reads_back_and_meets_no_fresh_one() {
        for kind in [IdKind::ObjectId, IdKind::Int, IdKind::Mixed] {
            let mut loaded = BTreeSet::new();
            for number in 0..2_000 {
                let id = kind.loaded(number);
                let text = id_to_text(&id).unwrap();
                assert_eq!(id_from_text(&text).unwrap(), id);
                assert!(loaded.insert(text), "{kind:?}: {id} repeats");
            }
            let mut random = Random::new(1, 1);
            for _ in 0..2_000 {
                let fresh = kind.fresh(&mut random, 2_000);
                assert!(!loaded.contains(&id_to_text(&fresh).unwrap()), "{kind:?}: {fresh}");
            }
        }
    }
}
