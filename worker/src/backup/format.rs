//! Where a row ends in the bytes of a backup, and a digest of rows that does not depend on their order.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What PostgreSQL writes before the first row of `COPY … (FORMAT binary)`: its signature, no flags, no extension.
const COPY_HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it writes after the last one.
const COPY_TAIL: &[u8] = &[0xff, 0xff];

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// `COPY … (FORMAT binary)` of PostgreSQL.
    #[serde(rename = "postgres-copy-binary")]
    PostgresCopy,
    /// BSON documents, one after another.
    #[serde(rename = "bson")]
    Bson,
}

/// What stands at the beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// A row of so many bytes.
    Row(usize),
    /// A row that is not all there.
    Part,
    /// The mark after the last row.
    End,
}

/// Bytes that are no rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its bytes are not rows in the format that it is said to have")]
pub struct Torn;

impl Format {
    /// What stands before the first row.
    pub fn head(self) -> &'static [u8] {
        match self {
            Format::PostgresCopy => COPY_HEAD,
            Format::Bson => &[],
        }
    }

    /// What stands after the last row.
    pub fn tail(self) -> &'static [u8] {
        match self {
            Format::PostgresCopy => COPY_TAIL,
            Format::Bson => &[],
        }
    }

    fn look(self, bytes: &[u8]) -> Result<Found, Torn> {
        match self {
            Format::PostgresCopy => copied(bytes),
            Format::Bson => Ok(match word(bytes, 0, i32::from_le_bytes) {
                None => Found::Part,
                Some(length) => whole(bytes, usize::try_from(length).map_err(|_| Torn)?.max(5)),
            }),
        }
    }

    /// The rows of some bytes that hold whole rows only.
    pub fn split(self, mut bytes: &[u8]) -> Result<Vec<&[u8]>, Torn> {
        let mut rows = Vec::new();
        while !bytes.is_empty() {
            let Found::Row(length) = self.look(bytes)? else { return Err(Torn) };
            let (row, rest) = bytes.split_at(length);
            rows.push(row);
            bytes = rest;
        }
        Ok(rows)
    }
}

/// A number of four bytes at a place.
fn word(bytes: &[u8], at: usize, read: fn([u8; 4]) -> i32) -> Option<i32> {
    Some(read(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn whole(bytes: &[u8], length: usize) -> Found {
    if bytes.len() < length { Found::Part } else { Found::Row(length) }
}

/// A row is the number of its fields, then each with its length; -1 is null. -1 fields are the end of all rows.
fn copied(bytes: &[u8]) -> Result<Found, Torn> {
    let Some(fields) = bytes.get(..2) else { return Ok(Found::Part) };
    let fields = i16::from_be_bytes([fields[0], fields[1]]);
    if fields == -1 {
        return Ok(Found::End);
    }
    let mut at = 2_usize;
    for _ in 0..u16::try_from(fields).map_err(|_| Torn)? {
        let Some(length) = word(bytes, at, i32::from_be_bytes) else { return Ok(Found::Part) };
        at += 4;
        if length != -1 {
            at = at.checked_add(usize::try_from(length).map_err(|_| Torn)?).ok_or(Torn)?;
        }
    }
    Ok(whole(bytes, at))
}

/// Cuts a stream of bytes into whole rows, wherever its pieces end.
#[derive(Debug)]
pub(crate) struct Cutter {
    format: Format,
    head: usize,
    rest: Vec<u8>,
    ended: bool,
}

impl Cutter {
    /// For a stream that begins with the format's head, if it has one.
    pub(crate) fn new(format: Format) -> Self {
        Self { format, head: format.head().len(), rest: Vec::new(), ended: false }
    }

    /// Takes a piece.
    pub(crate) fn feed(&mut self, piece: &[u8]) {
        self.rest.extend_from_slice(piece);
    }

    /// How many bytes wait.
    pub(crate) fn waits(&self) -> usize {
        self.rest.len()
    }

    /// All whole rows that have come, and how many they are.
    pub(crate) fn take(&mut self) -> Result<(Vec<u8>, u64), Torn> {
        if self.rest.len() < self.head {
            return Ok((Vec::new(), 0));
        }
        let (mut at, mut rows) = (self.head, 0);
        while !self.ended {
            match self.format.look(&self.rest[at..])? {
                Found::Row(length) => (at, rows) = (at + length, rows + 1),
                Found::Part => break,
                Found::End => self.ended = true,
            }
        }
        let left = self.rest.split_off(at);
        let mut whole = std::mem::replace(&mut self.rest, left);
        whole.drain(..std::mem::take(&mut self.head));
        Ok((whole, rows))
    }

    /// Whether the stream ended where it should.
    pub(crate) fn end(&self) -> Result<(), Torn> {
        let whole = match self.format {
            Format::PostgresCopy => self.ended && self.rest == COPY_TAIL,
            Format::Bson => self.rest.is_empty(),
        };
        if whole { Ok(()) } else { Err(Torn) }
    }
}

/// A digest of rows, whatever their order: the sum of the digests of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowsDigest {
    /// How many.
    pub rows: u64,
    sum: [u64; 4],
}

impl RowsDigest {
    /// Of these rows.
    pub fn of<'r>(rows: impl IntoIterator<Item = &'r [u8]>) -> Self {
        let mut digest = Self::default();
        rows.into_iter().for_each(|row| digest.add(row));
        digest
    }

    /// One row more.
    pub fn add(&mut self, row: &[u8]) {
        self.rows += 1;
        let digest = Sha256::digest(row);
        for (sum, eight) in self.sum.iter_mut().zip(digest.chunks_exact(8)) {
            let number = eight.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            *sum = sum.wrapping_add(number);
        }
    }
}

/// A digest as people write it.
pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fields: &[Option<&[u8]>]) -> Vec<u8> {
        let mut row = i16::try_from(fields.len()).expect("few").to_be_bytes().to_vec();
        for field in fields {
            let length = field.map_or(-1, |bytes| i32::try_from(bytes.len()).expect("short"));
            row.extend(length.to_be_bytes());
            row.extend(field.unwrap_or_default());
        }
        row
    }

    #[test]
    fn rows_are_whole_wherever_the_pieces_of_a_stream_end() {
        let rows = [row(&[Some(b"abc"), None]), row(&[]), row(&[Some(b""), Some(&[0xff; 300])])];
        let stream = [COPY_HEAD, &rows.concat(), COPY_TAIL].concat();
        for size in 1..stream.len() {
            let mut cutter = Cutter::new(Format::PostgresCopy);
            let (mut all, mut count) = (Vec::new(), 0);
            for piece in stream.chunks(size) {
                cutter.feed(piece);
                let (bytes, rows) = cutter.take().expect("rows");
                assert_eq!(Format::PostgresCopy.split(&bytes).expect("whole rows").len() as u64, rows);
                all.extend(bytes);
                count += rows;
            }
            cutter.end().expect("the end was there");
            assert_eq!((all, count), (rows.concat(), 3), "pieces of {size}");
        }
    }

    #[test]
    fn a_stream_that_ends_early_is_torn() {
        let mut cutter = Cutter::new(Format::PostgresCopy);
        cutter.feed(&[COPY_HEAD, &row(&[Some(b"abc")])[..4]].concat());
        assert_eq!(cutter.take(), Ok((Vec::new(), 0)));
        assert_eq!(cutter.end(), Err(Torn));
        assert_eq!(Format::PostgresCopy.split(&[0, 1, 0xff, 0xff, 0xff, 0xfe]), Err(Torn), "a length of -2");
        assert_eq!(Format::Bson.split(&[6, 0, 0, 0, 0]), Err(Torn), "one byte is missing");
    }

    #[test]
    fn documents_are_rows_too() {
        let document = bson::serialize_to_vec(&bson::doc! { "_id": 1, "text": "ä" }).expect("a document");
        let both = [document.clone(), document.clone()].concat();
        let rows = Format::Bson.split(&both).expect("rows");
        assert_eq!(rows, [document.as_slice(), document.as_slice()]);
    }

    #[test]
    fn the_digest_of_rows_knows_no_order_but_every_row() {
        let of = |rows: &[&str]| RowsDigest::of(rows.iter().map(|row| row.as_bytes()));
        assert_eq!(of(&["a", "b", "b"]), of(&["b", "a", "b"]));
        assert_ne!(of(&["a", "b", "b"]), of(&["a", "a", "b"]));
        assert_ne!(of(&["a", "b"]), of(&["a", "b", "b"]));
    }
}
