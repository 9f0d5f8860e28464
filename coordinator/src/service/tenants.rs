//! What the MCP service says of tenants, where it matters: when a spec that names some is planned, and when it is started.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::{Migration, Status, Told};
use shardlift_domain::plan::{Disposition, Plan};
use shardlift_domain::spec::{Spec, SpecFile};
use tokio::time::timeout;

use super::Services;
use crate::clients::Mcp;
use crate::planner::{Tenancy, TenantSettings, tenancy};

/// How many tenants are asked about at once.
const AT_ONCE: usize = 16;
/// How long all of them may take.
const WITHIN: Duration = Duration::from_secs(20);

/// What tenants want, by their names.
type Settings = BTreeMap<String, TenantSettings>;

impl Services {
    /// The specs without tenants that have opted out, and what the others want. What cannot be learned refuses the plan.
    pub(super) async fn tenancy(
        &self,
        specs: Vec<Spec>,
        files: &[SpecFile],
        known: &BTreeMap<MigrationId, Migration>,
    ) -> (Tenancy, Settings) {
        let asked = self.settings(tenancy::wanted(&specs, known)).await;
        let (settings, trouble) = match asked {
            Ok(settings) => (settings, None),
            Err(failure) => (Settings::new(), Some(failure)),
        };
        let mut tenancy = tenancy::apply(specs, files, known, &settings);
        if let Some(failure) = trouble {
            tenancy.unknown(failure);
        }
        (tenancy, settings)
    }

    /// Which services hear of what is submitted now.
    pub(super) fn listeners(&self) -> Told {
        Told { chat: self.clients.chat.is_some(), mcp: self.clients.mcp.is_some(), ..Told::default() }
    }

    /// Refused while a tenant whose rows it changes is held, or when that is not known.
    pub(super) async fn may_begin(&self, id: &MigrationId) -> Result<(), Failure> {
        if self.clients.mcp.is_none() {
            return Ok(());
        }
        let migration = self.orchestrator.get(id.clone(), None).await?.migration;
        if migration.status != Status::Pending || migration.released {
            return Ok(());
        }
        let tenants = self.orchestrator.tenants(id.clone()).await?;
        let settings = self.settings(tenants.into_iter().collect()).await?;
        let held: Vec<_> =
            settings.into_iter().filter_map(|(tenant, settings)| Some((tenant, settings.held?))).collect();
        match tenancy::told_held(id, &held) {
            Some(failure) => Err(failure.in_migration(&migration.key)),
            None => Ok(()),
        }
    }

    /// The same of all that a plan would begin although it was submitted before.
    pub(super) async fn may_begin_known(&self, plan: &Plan) -> Result<(), Failure> {
        let pending = Disposition::Known { status: Status::Pending };
        for planned in plan.migrations.iter().filter(|planned| planned.disposition == pending) {
            self.may_begin(&planned.id).await?;
        }
        Ok(())
    }

    /// Of many tenants at once. Without such a service nobody wants anything.
    async fn settings(&self, tenants: BTreeSet<String>) -> Result<Settings, Failure> {
        let Some(mcp) = &self.clients.mcp else { return Ok(Settings::new()) };
        timeout(WITHIN, settings(mcp, &tenants)).await.unwrap_or_else(|_| Err(slow()))
    }
}

async fn settings(mcp: &Mcp, tenants: &BTreeSet<String>) -> Result<Settings, Failure> {
    let mut all = Settings::new();
    let tenants: Vec<&String> = tenants.iter().collect();
    for some in tenants.chunks(AT_ONCE) {
        let told = join_all(some.iter().map(|tenant| mcp.settings(tenant))).await;
        for (tenant, settings) in some.iter().zip(told) {
            all.insert((*tenant).clone(), settings?);
        }
    }
    Ok(all)
}

fn slow() -> Failure {
    Failure::new(
        ErrorCode::ServiceUnavailable,
        format!("the MCP service did not tell what all tenants want within {} s", WITHIN.as_secs()),
        "look why it is slow, then plan again; or name fewer tenants",
    )
}
