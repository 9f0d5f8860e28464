//! What the verbs that move a migration have in common.

use shardlift_client::Answer;
use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::Verb;

use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;
use crate::view::list::{standing, tone};
use crate::view::{json, status};

/// Asks for the move and tells where the migration stands now.
pub(super) async fn ask(session: &Session, verb: Verb, id: &MigrationId) -> Result<Exit, Ended> {
    tell(session, &session.client()?.ask(verb, id).await?)
}

/// Tells where the migration stands now.
pub(super) fn tell(session: &Session, answer: &Answer) -> Result<Exit, Ended> {
    let view = &answer.migration;
    let id = view.id();
    let sentence = |paint: crate::view::paint::Paint| {
        let already = if answer.changed { "" } else { " (as before: nothing changed)" };
        let mut text = format!("{id}: {}{already}\n", paint.tone(tone(view), &standing(view)));
        if let Some(hint) = status::hint(view) {
            text.push_str(&format!("{hint}\n"));
        } else if !view.status.is_final() {
            text.push_str(&format!("watch it: shardlift watch {id}\n"));
        }
        text
    };
    session.console.answer(sentence, || json::status(view))?;
    Ok(Exit::Done)
}
