//! Only the documents of the named tenants, whatever their type, in every form of a job.

use std::sync::Arc;

use bson::{Bson, doc};
use shardlift_domain::spec::{TenantKey, Tenants};
use shardlift_domain::verdict::Sweep;
use shardlift_worker::engine::DataJob;

use super::{Stage, marked, numbered, programmed, unmarked};

fn scoped(job: &Arc<DataJob>, keys: &[TenantKey]) -> Arc<DataJob> {
    let mut data = job.data.clone();
    data.source.tenants =
        Some(Tenants { field: "of.tenant".into(), keys: keys.to_vec(), left_out: Vec::new() });
    Arc::new(DataJob { spec: job.spec.clone(), data, transformer: job.transformer.clone() })
}

/// Every third document is of another tenant.
async fn only_theirs(one: &[Bson], other: Bson, key: TenantKey) {
    for job in [marked(), unmarked(), programmed()] {
        let stage = Stage::set().await;
        let job = scoped(&job, &[key.clone(), TenantKey::Text("nobody's".into())]);
        let documents = numbered(300).enumerate().map(|(number, mut document)| {
            let tenant = if number % 3 == 0 { other.clone() } else { one[number % one.len()].clone() };
            document.insert("of", doc! { "tenant": tenant });
            document
        });
        stage.load(documents).await;
        stage.run(&job, 3, 40).await;
        assert_eq!(stage.once().await, 200, "{key}");
        let others = doc! { "of.tenant": &other, "applied": { "$exists": true } };
        assert_eq!(stage.documents().count_documents(others).await.expect("a count"), 0, "{key}");
        if job.data.source.pending.is_some() {
            stage.load([doc! { "_id": 1000, "of": { "tenant": &other } }]).await;
            assert_eq!(stage.sweep(&job).await, Sweep::Clean, "what is pending of others is left alone");
            stage.load([doc! { "_id": 1001, "of": { "tenant": &one[0] } }]).await;
            assert!(matches!(stage.sweep(&job).await, Sweep::Found { pending: 1, .. }));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_documents_of_tenants_that_are_integers_change_whatever_their_width() {
    let forms = [Bson::Int32(7), Bson::Int64(7), Bson::Double(7.0)];
    only_theirs(&forms, Bson::String("7".into()), TenantKey::Integer(7)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_documents_of_tenants_that_are_texts_change() {
    only_theirs(&[Bson::String("7".into())], Bson::Int32(7), TenantKey::Text("7".into())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_documents_of_tenants_that_are_uuids_change_as_binary_and_as_text() {
    let text = "0B8F4A4E-7F0C-4D52-9F61-0D8A4F3E2C1B";
    let uuid = bson::Uuid::parse_str(text).expect("a UUID");
    let forms = [Bson::from(uuid), Bson::String(uuid.to_string()), Bson::String(text.into())];
    only_theirs(&forms, Bson::from(bson::Uuid::new()), TenantKey::Text(text.into())).await;
}
