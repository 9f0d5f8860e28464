//! `shardlift approve ID`.

use shardlift_domain::ids::{Checksum, MigrationId};

use super::moves::tell;
use crate::cli::Session;
use crate::console::Ended;
use crate::exit::Exit;

/// Approve a submitted migration, where the coordinators ask for that before it begins. Needs the role approver.
///
/// What is approved is exactly the content that the checksum names: `shardlift plan` of the same files and `shardlift status ID`
/// show it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  shardlift status 0008_message_text\n  shardlift approve 0008_message_text --checksum 9f86d081…\n\n\
                  Without --checksum the content that is stored now is approved."
)]
pub(crate) struct Approve {
    /// The migration's id.
    id: MigrationId,
    /// Checksum of the content that you have read: refused if it is another one by now.
    #[arg(long, value_name = "SHA256")]
    checksum: Option<String>,
}

impl Approve {
    pub(crate) async fn run(&self, session: &Session) -> Result<Exit, Ended> {
        let client = session.client()?;
        let checksum = match &self.checksum {
            Some(read) => Checksum::from_stored(read.clone()),
            None => client.get(&self.id, None).await?.checksum,
        };
        tell(session, &client.approve(&self.id, &checksum).await?)
    }
}
