//! Reading parts of a backup back: what comes out is what was saved, or an error says which part is not.

use sha2::{Digest, Sha256};

use super::damaged;
use super::format::hex;
use super::manifest::Manifest;
use super::shelf::Shelf;
use crate::engine::EngineResult;

/// Most parts of a backup that are restored to see whether it can be.
const SAMPLE: usize = 8;

/// The rows of one part, without what stands before and after all rows.
pub(crate) async fn rows(shelf: &Shelf, manifest: &Manifest, index: usize) -> EngineResult<Vec<u8>> {
    let wrong = |name: &str, what: String| damaged(shelf.place(), format!("{name} {what}"));
    let Some(part) = manifest.parts.get(index) else {
        return Err(wrong("its manifest", format!("has no part {}", index + 1)));
    };
    let name = part.object.name.as_str();
    let Some(bytes) = shelf.get(manifest.token, name).await? else {
        return Err(wrong(name, "is missing".to_owned()));
    };
    if bytes.len() as u64 != part.object.bytes || hex(&Sha256::digest(&bytes)) != part.object.sha256 {
        return Err(wrong(name, "has other bytes than were written".to_owned()));
    }
    let format = manifest.subject.format;
    let head = if index == 0 { format.head() } else { &[] };
    let tail = if index + 1 == manifest.parts.len() { format.tail() } else { &[] };
    let length = usize::try_from(part.content_bytes).unwrap_or(usize::MAX);
    let room = length.saturating_add(head.len() + tail.len());
    let whole = zstd::bulk::decompress(&bytes, room)
        .map_err(|error| wrong(name, format!("cannot be decompressed: {error}")))?;
    let content = whole.strip_prefix(head).and_then(|rest| rest.strip_suffix(tail));
    match content {
        Some(content) if hex(&Sha256::digest(content)) == part.content_sha256 => Ok(content.to_vec()),
        _ => Err(wrong(name, "holds other rows than were saved".to_owned())),
    }
}

/// Which of so many parts are tried: all of a few, else the first, the last and some between.
pub(crate) fn sample(parts: usize) -> Vec<usize> {
    if parts <= SAMPLE {
        return (0..parts).collect();
    }
    (0..SAMPLE).map(|place| place * (parts - 1) / (SAMPLE - 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_the_first_and_the_last_part_and_none_twice() {
        assert_eq!(sample(3), [0, 1, 2]);
        for parts in 9..1000 {
            let sample = sample(parts);
            assert_eq!((sample.len(), sample[0], sample[SAMPLE - 1]), (SAMPLE, 0, parts - 1));
            assert!(sample.windows(2).all(|two| two[0] < two[1]), "{parts}: {sample:?}");
        }
    }
}
