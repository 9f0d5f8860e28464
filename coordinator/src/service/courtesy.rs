//! courtesy: services outside are told what concerns them, by whoever leads. What is still to be told follows from what is
//! stored, so wherever this ends, the next leader goes on. A service that is down keeps no migration from going on, but for a
//! gate at which adaptors must be quiet.

use std::time::Duration;

use futures::future::join_all;
use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::migration::{Headline, News, Status};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Services;
use crate::clients::{Adaptor, Cause, Chat, Ended, Mcp, Message};
use crate::orchestrator::{Courtesy, Quiet};

/// How often it is looked what is to be told, when nothing else happens.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long is waited after a look at least: changes come by the hundred.
const PAUSE: Duration = Duration::from_millis(500);
/// How long is waited after something could not be told, or is not over yet.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest reason that a message shows.
const MAX_REASON: usize = 500;

/// Who is told.
#[derive(Clone, Copy)]
enum Ear {
    Chat,
    Mcp,
    Adaptor,
}

impl Services {
    /// Tells each configured service what concerns it until the token is cancelled. While this coordinator does not lead,
    /// nothing happens. One that is slow keeps no other waiting.
    pub async fn courtesies(self, shutdown: CancellationToken) {
        let ears = [
            (Ear::Chat, self.clients.chat.is_some()),
            (Ear::Mcp, self.clients.mcp.is_some()),
            (Ear::Adaptor, self.clients.adaptor.is_some()),
        ];
        let open = ears.into_iter().filter(|(_, is_there)| *is_there);
        join_all(open.map(|(ear, _)| self.keep_told(ear, &shutdown))).await;
    }

    async fn keep_told(&self, ear: Ear, shutdown: &CancellationToken) {
        let mut changes = self.orchestrator.changes();
        loop {
            changes.mark_unchanged();
            let Some(whole) = shutdown.run_until_cancelled(self.tell_once(ear)).await else { return };
            let news = async {
                if !whole {
                    return tokio::time::sleep(AGAIN).await;
                }
                tokio::time::sleep(PAUSE).await;
                // A closed channel is the end of the orchestrator: the token follows.
                let _ = timeout(LOOK_EVERY, changes.changed()).await;
            };
            if shutdown.run_until_cancelled(news).await.is_none() {
                return;
            }
        }
    }

    /// Whether all is told that is to be.
    async fn tell_once(&self, ear: Ear) -> bool {
        // Another one leads otherwise, and tells.
        let Ok(open) = self.orchestrator.courtesies().await else { return true };
        let mut whole = true;
        for courtesy in open {
            if let Err(failure) = self.tell(ear, &courtesy).await {
                whole = false;
                let migration = &courtesy.migration;
                tracing::warn!(%migration, code = %failure.code, message = %failure.message, "a service was not told; it is tried again");
            }
        }
        whole
    }

    async fn tell(&self, ear: Ear, courtesy: &Courtesy) -> Result<(), Failure> {
        match (ear, &*self.clients) {
            (Ear::Chat, clients) => match clients.chat.as_ref().zip(courtesy.show.as_ref()) {
                Some((chat, show)) => self.show(chat, courtesy, show).await,
                None => Ok(()),
            },
            (Ear::Mcp, clients) => match clients.mcp.as_ref().zip(courtesy.end) {
                Some((mcp, status)) => self.report_end(mcp, courtesy, status).await,
                None => Ok(()),
            },
            (Ear::Adaptor, clients) => match clients.adaptor.as_ref().zip(courtesy.quiet) {
                Some((adaptor, Quiet::Begin(wave))) => self.quiesce(adaptor, courtesy, wave).await,
                Some((adaptor, Quiet::End)) => self.resume_adaptors(adaptor, courtesy).await,
                None => Ok(()),
            },
        }
    }

    async fn show(
        &self,
        chat: &Chat,
        courtesy: &Courtesy,
        (headline, reason): &(Headline, Option<Failure>),
    ) -> Result<(), Failure> {
        let text = text(courtesy, headline, reason.as_ref());
        let key = &courtesy.migration;
        let message = Message {
            text: &text,
            migration: key.id.as_str(),
            version: key.version.0,
            status: headline.status.as_str(),
        };
        chat.show(&name(courtesy), &message).await?;
        self.orchestrator.told(key.clone(), News::Shown(headline.clone())).await
    }

    /// First where the messages of each tenant stand, then that it has ended: whoever hears of the end finds the rest told.
    async fn report_end(&self, mcp: &Mcp, courtesy: &Courtesy, status: Status) -> Result<(), Failure> {
        let key = &courtesy.migration;
        if let Some(version) = courtesy.message_version.filter(|_| status == Status::Completed) {
            for tenant in &courtesy.tenants {
                mcp.message_version(tenant, version, key.id.as_str()).await?;
            }
        }
        let ended = Ended {
            migration: key.id.as_str(),
            version: key.version.0,
            cluster: courtesy.cluster.as_str(),
            status,
            tenants: &courtesy.tenants,
            message_schema_version: courtesy.message_version,
        };
        mcp.ended(&name(courtesy), &ended).await?;
        self.orchestrator.told(key.clone(), News::Ended(status)).await
    }

    /// Asks about each tenant; the gate opens once all of them are quiet.
    async fn quiesce(&self, adaptor: &Adaptor, courtesy: &Courtesy, wave: u32) -> Result<(), Failure> {
        let cause = cause(courtesy);
        let asked = courtesy.tenants.iter().map(|tenant| async {
            match adaptor.quiesce(tenant, &cause).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(busy(tenant)),
                Err(error) => Err(Failure::from(error)),
            }
        });
        let quiet: Result<(), Failure> = join_all(asked).await.into_iter().collect();
        self.orchestrator.quieted(courtesy.migration.clone(), wave, quiet.clone()).await?;
        quiet
    }

    async fn resume_adaptors(&self, adaptor: &Adaptor, courtesy: &Courtesy) -> Result<(), Failure> {
        let cause = cause(courtesy);
        let asked = courtesy.tenants.iter().map(|tenant| adaptor.resume(tenant, &cause));
        // One that cannot be reached keeps no other one quiet.
        join_all(asked).await.into_iter().collect::<Result<(), _>>()?;
        self.orchestrator.told(courtesy.migration.clone(), News::Loud).await
    }
}

fn cause(courtesy: &Courtesy) -> Cause<'_> {
    let key = &courtesy.migration;
    Cause { migration: key.id.as_str(), version: key.version.0, epoch: courtesy.epoch.0 }
}

/// The same for every leader, and that of no other installation.
fn name(courtesy: &Courtesy) -> String {
    let key = &courtesy.migration;
    format!("{}.{}.{}", courtesy.uuid, key.id, key.version.0)
}

fn busy(tenant: &str) -> Failure {
    let message = format!("the adaptors of tenant {tenant} still have something to finish");
    Failure::new(ErrorCode::ServiceUnavailable, message, "they are asked again")
}

/// What people read.
fn text(courtesy: &Courtesy, headline: &Headline, reason: Option<&Failure>) -> String {
    let (id, cluster) = (&courtesy.migration.id, &courtesy.cluster);
    let does = match (headline.status, reason) {
        (Status::Pending, _) => "waits",
        (Status::Running, _) => "is running",
        (Status::Paused, Some(_)) => "is halted",
        (Status::Paused, None) => "is paused",
        (Status::Completed, _) => "is completed and verified",
        (Status::Failed, _) => "has failed",
        (Status::Cancelled, _) => "was cancelled",
        (Status::RollingBack, _) => "is being rolled back",
        (Status::RolledBack, _) => "is rolled back",
    };
    match reason {
        None => format!("{id} on {cluster} {does}"),
        Some(failure) => {
            let mut message: String = failure.message.chars().take(MAX_REASON).collect();
            if message.len() < failure.message.len() {
                message.push('…');
            }
            format!("{id} on {cluster} {does}: {} ({message}). Next: {}", failure.code, failure.next)
        }
    }
}
