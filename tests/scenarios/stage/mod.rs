//! What scenarios share. It knows Shardlift by its files, its command line and its tables in a shard only.

mod browser;
mod bucket;
mod certificates;
mod collector;
mod control;
mod http;
mod invariants;
mod items;
mod outside;
mod play;
mod relay;
mod shard;
mod spec;
mod witness;

pub(crate) use browser::Browser;
pub(crate) use bucket::{Bucket, Mood};
pub(crate) use certificates::{Authority, Lifetime};
pub(crate) use collector::{Collector, Delivered, OTLP_ENDPOINT};
pub(crate) use control::{Control, Lead, SEAT};
pub(crate) use http::{Answer, Http, Sse, Stream};
pub(crate) use invariants::{assert_agreed, assert_exactly_once, assert_nothing_left, open_transactions};
pub(crate) use items::Items;
pub(crate) use outside::Outside;
pub(crate) use play::{DEADLINE, Play, refused, store};
pub(crate) use relay::{Fate, Relay};
pub(crate) use shard::{checkpoints, collection, execute, scalar};
pub(crate) use spec::{ItemsSpec, MONGODB, POSTGRES, Specs, VRL};
pub(crate) use witness::Witness;

pub(crate) use shardlift_harness::dataset::items::Form;
pub(crate) use shardlift_harness::installation::Engine;
use shardlift_harness::writer::ItemsWriter;

/// Both promises: a `where` that turns false hides repeats, so what may repeat is played without it as well.
pub(crate) const BOTH_FORMS: [Form; 2] = [Form::WithWhere, Form::WithoutWhere];

/// The application is told to write the new form, where the promise needs it: without `where` a row that is inserted as
/// if it had been changed would be changed again.
pub(crate) fn learns(writer: &ItemsWriter, form: Form) {
    if form == Form::WithWhere {
        writer.deploy_new_form();
    }
}

/// The end of a scenario with items on one shard: stops the application and checks every invariant.
pub(crate) async fn curtain(play: &Play, id: &str, items: &Items, form: Form, writer: Option<ItemsWriter>) {
    let report = match writer {
        Some(writer) => Some(writer.stop().await.unwrap()),
        None => None,
    };
    assert_exactly_once(items, form, report.as_ref()).await;
    assert_agreed(play, id, &[items]).await;
    assert_nothing_left(items).await;
}
