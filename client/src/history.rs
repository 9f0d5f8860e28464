//! Questions about what was done, over all migrations.

use shardlift_domain::failure::Failure;
use shardlift_proto::v1;

use crate::Client;
use crate::client::{QUICK, THOROUGH, within};
use crate::connection::Services;
use crate::model::{AuditAsked, AuditEntry, Verified};

impl Client {
    /// Entries of the history, oldest first, and whether there are more behind the last one.
    pub async fn audit(&self, asked: AuditAsked) -> Result<(Vec<AuditEntry>, bool), Vec<Failure>> {
        let AuditAsked { after, id, actor, event, since, limit } = asked;
        let request = v1::AuditRequest { after, id, actor, event, since, limit };
        let ask = |mut to: Services| {
            let request = within(QUICK, request.clone());
            async move { to.cluster.audit(request).await }
        };
        let page = self.connection.answered(ask).await?;
        Ok((page.entries.into_iter().map(AuditEntry::from_wire).collect(), page.more))
    }

    /// Walks along the chain of the whole history. `known`: a head that was told before; it must still be in the chain.
    pub async fn verify_audit(&self, known: Option<String>) -> Result<Verified, Vec<Failure>> {
        let ask = |mut to: Services| {
            let request = within(THOROUGH, v1::VerifyAuditRequest { known: known.clone() });
            async move { to.cluster.verify_audit(request).await }
        };
        Ok(self.connection.answered(ask).await?.into())
    }
}
