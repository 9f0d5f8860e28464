//! How the digest of a document is made: of bytes that are the same exactly if the server takes the values for equal, each with its
//! length. Numbers of all types are equal if they are the same number; a list and a document are compared as a whole.

use bson::{Bson, Document};
use sha2::{Digest as _, Sha256};
use shardlift_domain::spec::Unique;
use shardlift_domain::unique::Digest;

/// Whole numbers up to here are the same as doubles.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// Makes digests.
pub(super) struct Fields {
    checks: Vec<Unique>,
    /// What all digests begin with: the same on every shard, and known to nobody who only sees digests.
    salt: String,
}

/// A path that leads through a list has many values.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed(pub(super) String);

impl Fields {
    pub(super) fn new(checks: Vec<Unique>, salt: String) -> Self {
        Self { checks, salt }
    }

    /// What the digests are made of.
    pub(super) fn form(&self) -> String {
        self.checks.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    /// The fields that are read.
    pub(super) fn projection(&self) -> Document {
        let mut fields = Document::from_iter([("_id".to_owned(), Bson::Int32(1))]);
        for path in self.checks.iter().flat_map(|unique| &unique.fields) {
            // Of a field and one inside of it the server reads the outer one alone.
            let inside = |outer: &String| path != outer && path.starts_with(&format!("{outer}."));
            if !self.checks.iter().flat_map(|unique| &unique.fields).any(inside) {
                fields.insert(path, 1);
            }
        }
        fields
    }

    /// The digest of each check, with its number; none for a check of which a field is null or missing.
    pub(super) fn digests(&self, document: &Document) -> Result<Vec<(i32, Digest)>, Listed> {
        let mut digests = Vec::with_capacity(self.checks.len());
        for (number, unique) in (0_i32..).zip(&self.checks) {
            let mut bytes = Vec::new();
            put(&mut bytes, b'm', self.salt.as_bytes());
            put(&mut bytes, b'c', &number.to_be_bytes());
            let mut whole = true;
            for path in &unique.fields {
                match value(document, path)? {
                    Some(value) => encode(value, &mut bytes),
                    None => whole = false,
                }
            }
            if whole {
                digests.push((number, first(&Sha256::digest(&bytes))));
            }
        }
        Ok(digests)
    }
}

/// The first 16 bytes as a number.
fn first(bytes: &[u8]) -> Digest {
    bytes.iter().take(size_of::<Digest>()).fold(0, |number, byte| (number << 8) | Digest::from(*byte))
}

/// What stands at a path, unless it is null or missing.
fn value<'d>(document: &'d Document, path: &str) -> Result<Option<&'d Bson>, Listed> {
    let (mut here, mut found): (Option<&Document>, Option<&Bson>) = (Some(document), None);
    for name in path.split('.') {
        if let Some(Bson::Array(_)) = found {
            return Err(Listed(path.to_owned()));
        }
        found = here.and_then(|document| document.get(name));
        here = found.and_then(Bson::as_document);
    }
    Ok(found.filter(|value| !matches!(value, Bson::Null | Bson::Undefined)))
}

fn put(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend((bytes.len() as u64).to_be_bytes());
    out.extend(bytes);
}

fn encode(value: &Bson, out: &mut Vec<u8>) {
    match value {
        Bson::Int32(number) => put(out, b'n', decimal(&number.to_string()).as_bytes()),
        Bson::Int64(number) => put(out, b'n', decimal(&number.to_string()).as_bytes()),
        Bson::Double(number) => put(out, b'n', double(*number).as_bytes()),
        Bson::Decimal128(number) => put(out, b'n', decimal(&number.to_string()).as_bytes()),
        Bson::String(text) | Bson::Symbol(text) => put(out, b's', text.as_bytes()),
        Bson::ObjectId(id) => put(out, b'o', &id.bytes()),
        Bson::Boolean(is) => put(out, b'b', &[u8::from(*is)]),
        Bson::DateTime(at) => put(out, b'd', &at.timestamp_millis().to_be_bytes()),
        Bson::Binary(binary) => {
            put(out, b'y', &[u8::from(binary.subtype)]);
            put(out, b'y', &binary.bytes);
        }
        Bson::Document(inner) => {
            put(out, b'{', &(inner.len() as u64).to_be_bytes());
            for (name, value) in inner {
                put(out, b'f', name.as_bytes());
                encode(value, out);
            }
        }
        Bson::Array(items) => {
            put(out, b'[', &(items.len() as u64).to_be_bytes());
            items.iter().for_each(|item| encode(item, out));
        }
        other => put(out, b'x', other.clone().into_canonical_extjson().to_string().as_bytes()),
    }
}

/// A double, exactly: a decimal may be equal to it.
fn double(number: f64) -> String {
    if number.is_finite() && number.fract() == 0.0 && number.abs() < WHOLE {
        return decimal(&format!("{number:.0}"));
    }
    // No double has more digits.
    decimal(&format!("{number:.800e}"))
}

/// The one text of a number: its digits without zeros at either end, and where the point is.
fn decimal(text: &str) -> String {
    let text = text.to_ascii_lowercase();
    let (sign, magnitude) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.trim_start_matches('+')),
    };
    if magnitude.starts_with("nan") {
        return "nan".to_owned();
    }
    if magnitude.starts_with("inf") {
        return format!("{sign}inf");
    }
    let (mantissa, exponent) = magnitude.split_once('e').unwrap_or((magnitude, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return "0".to_owned();
    }
    let zeros = (digits.len() - significant.len()) as i64;
    let point = whole.len() as i64 - zeros + exponent.parse::<i64>().unwrap_or_default();
    format!("{sign}{}e{point}", significant.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Decimal128, doc};

    fn fields(lists: &[&[&str]]) -> Fields {
        let unique = |list: &&[&str]| Unique { fields: list.iter().map(|name| (*name).to_owned()).collect() };
        Fields::new(lists.iter().map(unique).collect(), "salt".into())
    }

    fn of(document: Document) -> Vec<(i32, Digest)> {
        fields(&[&["a", "b.c"]]).digests(&document).expect("no list on the way")
    }

    #[test]
    fn numbers_are_equal_whatever_their_type_and_only_if_they_are_the_same() {
        let same = |one: Bson, other: Bson| {
            of(doc! { "a": one, "b": { "c": 1 } }) == of(doc! { "a": other, "b": { "c": 1 } })
        };
        let decimal = |text: &str| Bson::Decimal128(text.parse::<Decimal128>().expect("a decimal"));
        assert!(same(Bson::Int32(1), Bson::Double(1.0)) && same(Bson::Int64(1), decimal("1.00")));
        assert!(same(Bson::Double(0.5), decimal("5E-1")) && same(decimal("1E+3"), Bson::Int32(1000)));
        assert!(same(Bson::Double(-0.0), Bson::Int32(0)) && same(Bson::Double(1e300), Bson::Double(1e300)));
        assert!(!same(Bson::Double(0.1), decimal("0.1")), "no double is a tenth");
        assert!(
            same(Bson::Double(f64::NAN), decimal("NaN"))
                && !same(Bson::Double(f64::INFINITY), decimal("NaN"))
        );
        assert!(!same(Bson::Int64(9_007_199_254_740_993), Bson::Double(9_007_199_254_740_992.0)));
        assert!(
            !same(Bson::Int32(1), Bson::String("1".into())) && !same(Bson::Int32(1), Bson::Boolean(true))
        );
        assert!(!same(Bson::Int32(-5), Bson::Int32(5)) && !same(Bson::Int32(10), Bson::Int32(1)));
    }

    #[test]
    fn no_two_lists_of_values_are_the_same_bytes() {
        let pairs = [
            (doc! { "a": "xy", "b": { "c": "z" } }, doc! { "a": "x", "b": { "c": "yz" } }),
            (doc! { "a": [1, 2], "b": { "c": 1 } }, doc! { "a": [12], "b": { "c": 1 } }),
            (
                doc! { "a": { "x": 1, "y": 2 }, "b": { "c": 1 } },
                doc! { "a": { "y": 2, "x": 1 }, "b": { "c": 1 } },
            ),
        ];
        for (one, other) in pairs {
            assert_ne!(of(one), of(other));
        }
    }

    #[test]
    fn what_lacks_a_field_is_like_no_other_and_a_list_on_the_way_is_refused() {
        assert!(of(doc! { "a": 1 }).is_empty() && of(doc! { "a": 1, "b": { "c": null } }).is_empty());
        assert!(of(doc! { "a": 1, "b": 2 }).is_empty(), "nothing is inside of a number");
        let listed = fields(&[&["b.c"]]).digests(&doc! { "b": [{ "c": 1 }] });
        assert_eq!(listed, Err(Listed("b.c".into())));
        let two = fields(&[&["a"], &["a"]]).digests(&doc! { "a": 1 }).expect("no list");
        assert_ne!(two[0].1, two[1].1, "each check by itself");
    }

    #[test]
    fn a_field_inside_of_another_one_is_read_with_it() {
        let read = fields(&[&["a", "a.b"], &["ab"]]).projection();
        assert_eq!(read, doc! { "_id": 1, "a": 1, "ab": 1 });
    }
}
