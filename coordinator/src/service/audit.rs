//! The history of all migrations, and the walk along its chain.

use shardlift_domain::failure::Failure;

use super::Services;
use crate::store::{Broken, Link, Walk, Wanted};

/// Entries that are read at once: the heart does other things in between.
const PAGE: u32 = 500;

/// What a walk along the chain has found.
#[derive(Debug)]
pub struct Verified {
    /// How far it came.
    pub walk: Walk,
    /// Where the chain does not hold.
    pub broken: Option<Broken>,
}

impl Services {
    /// Entries of the history, with their hashes.
    pub async fn audit(&self, wanted: Wanted) -> Result<Vec<Link>, Failure> {
        self.orchestrator.links(wanted).await
    }

    /// Walks along the whole chain. `known`: a hash that somebody kept; it must be in it.
    pub async fn verify_audit(&self, known: Option<&str>) -> Result<Verified, Failure> {
        // The head first: what is added meanwhile lies behind it.
        let mut walk = Walk::to(self.orchestrator.head().await?);
        let mut met = false;
        loop {
            let after = Some(walk.last().unwrap_or_default());
            let page = self.orchestrator.links(Wanted { after, limit: PAGE, ..Wanted::default() }).await?;
            for link in &page {
                if let Err(broken) = walk.step(link) {
                    return Ok(Verified { walk, broken: Some(broken) });
                }
                met = met || known.is_some_and(|known| link.hash.as_deref() == Some(known));
            }
            if page.len() < PAGE as usize {
                break;
            }
        }
        let broken = walk.end().err().or_else(|| lost(known.filter(|_| !met)));
        Ok(Verified { walk, broken })
    }
}

fn lost(known: Option<&str>) -> Option<Broken> {
    let why =
        "the hash that was kept elsewhere is not in the chain: all of it was written anew behind some entry";
    known.map(|_| Broken { sequence: None, why: why.to_owned() })
}
