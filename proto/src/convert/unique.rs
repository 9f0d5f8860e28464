//! Uniqueness over all shards. Digests travel as the bytes that they are.

use shardlift_domain::ids::ShardId;
use shardlift_domain::unique::{
    Collected, Counted, Digest, DigestSlice, KeyedDigest, UniqueAnswer, UniqueAsk, UniqueRequest,
};

use super::common::key_from_wire;
use super::{WireError, need};
use crate::v1;
use v1::unique_answer::Answer;
use v1::unique_query::Ask;

/// Bytes of one digest.
const BYTES: usize = size_of::<Digest>();

/// A question to the wire.
pub fn unique_to_wire(query: u64, shard: ShardId, request: UniqueRequest) -> v1::UniqueQuery {
    let ask = match request.ask {
        UniqueAsk::Summary => Ask::Summary(v1::UniqueSummary {}),
        UniqueAsk::Slice(DigestSlice { from, below, limit }) => Ask::Slice(v1::UniqueSlice {
            from: from.to_be_bytes().into(),
            below: below.map(|below| below.to_be_bytes().into()),
            limit,
        }),
        UniqueAsk::Rows(digests) => Ask::Rows(v1::UniqueRows { digests: packed(digests) }),
        UniqueAsk::Clear => Ask::Clear(v1::UniqueClear {}),
    };
    v1::UniqueQuery {
        query,
        shard: shard.into(),
        migration: Some(request.migration.into()),
        spec: Some(request.file.into()),
        ask: Some(ask),
    }
}

/// A question from the wire.
pub fn unique_from_wire(query: v1::UniqueQuery) -> Result<UniqueRequest, WireError> {
    let ask = match need(query.ask, "ask")? {
        Ask::Summary(_) => UniqueAsk::Summary,
        Ask::Slice(v1::UniqueSlice { from, below, limit }) => UniqueAsk::Slice(DigestSlice {
            from: digest(&from)?,
            below: below.map(|below| digest(&below)).transpose()?,
            limit,
        }),
        Ask::Rows(rows) => UniqueAsk::Rows(unpacked(&rows.digests)?),
        Ask::Clear(_) => UniqueAsk::Clear,
    };
    Ok(UniqueRequest {
        migration: key_from_wire(need(query.migration, "migration")?)?,
        file: need(query.spec, "spec")?.into(),
        ask,
    })
}

/// An answer to the wire.
pub fn unique_answer_to_wire(answer: UniqueAnswer) -> Answer {
    match answer {
        UniqueAnswer::Summary(Collected { digests, form }) => {
            Answer::Summary(v1::UniqueCollected { digests, form })
        }
        UniqueAnswer::Slice(counted) => {
            let repeats = (0_u32..).zip(&counted).filter(|(_, counted)| counted.rows > 1);
            let repeats = repeats.map(|(at, counted)| v1::UniqueRepeat { at, rows: counted.rows }).collect();
            let digests = packed(counted.into_iter().map(|counted| counted.digest));
            Answer::Slice(v1::UniqueDigests { digests, repeats })
        }
        UniqueAnswer::Rows(rows) => {
            let row = |KeyedDigest { digest, check, key }| v1::UniqueRow {
                digest: digest.to_be_bytes().into(),
                check,
                key,
            };
            Answer::Rows(v1::UniqueFound { rows: rows.into_iter().map(row).collect() })
        }
        UniqueAnswer::Cleared(more) => Answer::Cleared(v1::UniqueCleared { more }),
    }
}

/// An answer from the wire.
pub fn unique_answer_from_wire(answer: Answer) -> Result<Result<UniqueAnswer, v1::Failure>, WireError> {
    Ok(Ok(match answer {
        Answer::Summary(v1::UniqueCollected { digests, form }) => {
            UniqueAnswer::Summary(Collected { digests, form })
        }
        Answer::Slice(v1::UniqueDigests { digests, repeats }) => {
            let digests = unpacked(&digests)?.into_iter();
            let mut counted: Vec<Counted> = digests.map(|digest| Counted { digest, rows: 1 }).collect();
            for v1::UniqueRepeat { at, rows } in repeats {
                let repeated = usize::try_from(at).ok().and_then(|at| counted.get_mut(at));
                repeated.ok_or(WireError::Missing("digest"))?.rows = rows;
            }
            UniqueAnswer::Slice(counted)
        }
        Answer::Rows(found) => UniqueAnswer::Rows(
            found
                .rows
                .into_iter()
                .map(|row| Ok(KeyedDigest { digest: digest(&row.digest)?, check: row.check, key: row.key }))
                .collect::<Result<_, WireError>>()?,
        ),
        Answer::Cleared(v1::UniqueCleared { more }) => UniqueAnswer::Cleared(more),
        Answer::Failure(failure) => return Ok(Err(failure)),
    }))
}

fn packed(digests: impl IntoIterator<Item = Digest>) -> Vec<u8> {
    digests.into_iter().flat_map(Digest::to_be_bytes).collect()
}

fn unpacked(bytes: &[u8]) -> Result<Vec<Digest>, WireError> {
    let (whole, rest) = bytes.as_chunks::<BYTES>();
    if !rest.is_empty() {
        return Err(WireError::Missing("a part of a digest"));
    }
    Ok(whole.iter().map(|bytes| Digest::from_be_bytes(*bytes)).collect())
}

fn digest(bytes: &[u8]) -> Result<Digest, WireError> {
    let bytes = bytes.try_into().map_err(|_| WireError::Missing("a part of a digest"))?;
    Ok(Digest::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_with_their_counts_come_back_as_they_were_and_half_ones_are_refused() {
        let counted = vec![Counted { digest: 7, rows: 1 }, Counted { digest: u128::MAX, rows: 3 }];
        let wire = unique_answer_to_wire(UniqueAnswer::Slice(counted.clone()));
        assert_eq!(unique_answer_from_wire(wire), Ok(Ok(UniqueAnswer::Slice(counted))));
        let bad = |digests: Vec<u8>, at| {
            let repeats = vec![v1::UniqueRepeat { at, rows: 2 }];
            unique_answer_from_wire(Answer::Slice(v1::UniqueDigests { digests, repeats }))
        };
        assert!(bad(vec![0; 17], 0).is_err());
        assert!(bad(vec![0; 16], 1).is_err(), "a count of a digest that is not there");
    }
}
