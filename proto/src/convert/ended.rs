//! Sessions that were ended.

use shardlift_domain::ended::EndedSession;

use crate::v1;

/// A session to the wire.
pub fn ended_to_wire(session: EndedSession) -> v1::EndedSession {
    let EndedSession { pid, application, user, state, open_seconds, quiet_seconds, statement } = session;
    v1::EndedSession { pid, application, user, state, open_seconds, quiet_seconds, statement }
}

/// A session from the wire.
pub fn ended_from_wire(session: v1::EndedSession) -> EndedSession {
    let v1::EndedSession { pid, application, user, state, open_seconds, quiet_seconds, statement } = session;
    EndedSession { pid, application, user, state, open_seconds, quiet_seconds, statement }
}
