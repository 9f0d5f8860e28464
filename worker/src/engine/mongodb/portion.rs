//! A document as it came from the server, divided into the fields that are kept and the rest, without decoding either: a
//! before-image is made of each document of a batch, and most of it is only passed on.

use std::ops::Range;

use bson::{RawDocument, RawDocumentBuf};
use sha2::{Digest, Sha256};

use super::defect;
use crate::engine::{EngineError, EngineResult};

/// Where a document's bytes begin behind its length, and how many it has beside its elements.
const BEGIN: usize = 4;
const AROUND: usize = 5;

/// Some fields of a document.
pub(super) struct Portion<'a> {
    bytes: &'a [u8],
    /// Where the wanted fields lie, in the order in which they are wanted; of a name that stands there twice, the last.
    kept: Vec<Option<Range<usize>>>,
    /// All that lie under a wanted name, in the order of the document.
    taken: Vec<Range<usize>>,
}

impl<'a> Portion<'a> {
    /// Looks for fields of these names.
    pub(super) fn of(document: &'a RawDocument, names: &[String]) -> EngineResult<Self> {
        let mut kept: Vec<Option<Range<usize>>> = vec![None; names.len()];
        let mut taken = Vec::with_capacity(names.len());
        let mut start = BEGIN;
        for element in document.iter_elements() {
            let element = element.map_err(invalid)?;
            let name = element.key().as_str();
            // The type, the name and its end, the value.
            let end = start + 1 + name.len() + 1 + element.size();
            let place = names.iter().position(|wanted| wanted == name);
            if let Some(kept) = place.and_then(|place| kept.get_mut(place)) {
                *kept = Some(start..end);
                taken.push(start..end);
            }
            start = end;
        }
        let bytes = document.as_bytes();
        if start + 1 != bytes.len() {
            return Err(invalid(()));
        }
        Ok(Self { bytes, kept, taken })
    }

    /// The wanted fields as a document, in the order in which they are wanted.
    pub(super) fn kept(&self) -> EngineResult<RawDocumentBuf> {
        let length: usize = self.kept.iter().flatten().map(Range::len).sum();
        let mut bytes = Vec::with_capacity(length + AROUND);
        bytes.extend(self.length(length)?);
        self.kept.iter().flatten().for_each(|place| bytes.extend_from_slice(&self.bytes[place.clone()]));
        bytes.push(0);
        RawDocumentBuf::from_bytes(bytes).map_err(invalid)
    }

    /// The digest of that document.
    pub(super) fn digest_of_kept(&self) -> EngineResult<i64> {
        let length = self.kept.iter().flatten().map(Range::len).sum();
        self.digest(length, self.kept.iter().flatten().cloned())
    }

    /// The digest of the document without these fields.
    pub(super) fn digest_of_rest(&self) -> EngineResult<i64> {
        let taken: usize = self.taken.iter().map(Range::len).sum();
        let ends = self.taken.iter().map(|place| place.start).chain([self.bytes.len() - 1]);
        let begins = [BEGIN].into_iter().chain(self.taken.iter().map(|place| place.end));
        self.digest(self.bytes.len() - AROUND - taken, begins.zip(ends).map(|(begin, end)| begin..end))
    }

    fn digest(&self, length: usize, places: impl Iterator<Item = Range<usize>>) -> EngineResult<i64> {
        let mut hash = Sha256::new();
        hash.update(self.length(length)?);
        places.for_each(|place| hash.update(&self.bytes[place]));
        hash.update([0]);
        Ok(first(&hash.finalize()))
    }

    /// What a document begins with whose elements have so many bytes.
    fn length(&self, elements: usize) -> EngineResult<[u8; BEGIN]> {
        i32::try_from(elements + AROUND).map(i32::to_le_bytes).map_err(invalid)
    }
}

/// The digest of a whole document.
pub(super) fn digest(document: &RawDocument) -> i64 {
    first(&Sha256::digest(document.as_bytes()))
}

/// The first eight bytes of a SHA-256, the first one highest.
fn first(hash: &[u8]) -> i64 {
    hash.iter().take(8).fold(0_u64, |digest, byte| digest << 8 | u64::from(*byte)).cast_signed()
}

pub(super) fn invalid<T>(_: T) -> EngineError {
    defect("a document of the shard is not valid BSON")
}
