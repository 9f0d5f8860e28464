//! Rows that were set aside: questions, decisions, answers.

use shardlift_domain::ids::ShardId;
use shardlift_domain::quarantine::{
    Held, QuarantineAnswer, QuarantineAsk, QuarantineRequest, QuarantinedRow,
};

use super::common::key_from_wire;
use super::{WireError, need};
use crate::v1;
use v1::quarantine_answer::Answer;
use v1::quarantine_query::Ask;

/// Figures to the wire.
pub fn held_to_wire(held: Held) -> v1::Held {
    v1::Held { rows: held.rows, discarded: held.discarded }
}

/// Figures from the wire.
pub fn held_from_wire(held: v1::Held) -> Held {
    Held { rows: held.rows, discarded: held.discarded }
}

/// A question to the wire.
pub fn quarantine_to_wire(query: u64, shard: ShardId, request: QuarantineRequest) -> v1::QuarantineQuery {
    let ask = match request.ask {
        QuarantineAsk::List { after, limit } => Ask::List(v1::QuarantineList { after, limit }),
        QuarantineAsk::Show { key, offset } => Ask::Show(v1::QuarantineShow { key, offset }),
        QuarantineAsk::Retry(keys) => Ask::Retry(v1::QuarantineKeys { keys }),
        QuarantineAsk::Discard(keys) => Ask::Discard(v1::QuarantineKeys { keys }),
    };
    v1::QuarantineQuery {
        query,
        shard: shard.into(),
        migration: Some(request.migration.into()),
        ask: Some(ask),
    }
}

/// A question from the wire.
pub fn quarantine_from_wire(query: v1::QuarantineQuery) -> Result<QuarantineRequest, WireError> {
    let ask = match need(query.ask, "ask")? {
        Ask::List(list) => QuarantineAsk::List { after: list.after, limit: list.limit },
        Ask::Show(show) => QuarantineAsk::Show { key: show.key, offset: show.offset },
        Ask::Retry(rows) => QuarantineAsk::Retry(rows.keys),
        Ask::Discard(rows) => QuarantineAsk::Discard(rows.keys),
    };
    Ok(QuarantineRequest { migration: key_from_wire(need(query.migration, "migration")?)?, ask })
}

/// An answer to the wire.
pub fn quarantined_to_wire(answer: QuarantineAnswer) -> Answer {
    match answer {
        QuarantineAnswer::Page { rows, next } => {
            Answer::Page(v1::QuarantinePage { rows: rows.into_iter().map(row_to_wire).collect(), next })
        }
        QuarantineAnswer::Image { bytes, total } => Answer::Image(v1::QuarantineImage { bytes, total }),
        QuarantineAnswer::Decided { rows, held } => {
            Answer::Decided(v1::QuarantineDecided { rows, held: Some(held_to_wire(held)) })
        }
    }
}

/// An answer from the wire; a failure is the caller's.
pub fn quarantined_from_wire(answer: Answer) -> Result<QuarantineAnswer, v1::Failure> {
    Ok(match answer {
        Answer::Page(page) => QuarantineAnswer::Page {
            rows: page.rows.into_iter().map(row_from_wire).collect(),
            next: page.next,
        },
        Answer::Image(image) => QuarantineAnswer::Image { bytes: image.bytes, total: image.total },
        Answer::Decided(decided) => QuarantineAnswer::Decided {
            rows: decided.rows,
            held: decided.held.map(held_from_wire).unwrap_or_default(),
        },
        Answer::Failure(failure) => return Err(failure),
    })
}

/// One row to the wire.
pub fn row_to_wire(row: QuarantinedRow) -> v1::QuarantinedRow {
    let QuarantinedRow { key, class, message, attempts, discarded, at } = row;
    v1::QuarantinedRow { key, class, message, attempts, discarded, at }
}

/// One row from the wire.
pub fn row_from_wire(row: v1::QuarantinedRow) -> QuarantinedRow {
    let v1::QuarantinedRow { key, class, message, attempts, discarded, at } = row;
    QuarantinedRow { key, class, message, attempts, discarded, at }
}
