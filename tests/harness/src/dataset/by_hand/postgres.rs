//! The PostgreSQL half of the library, by hand.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::{assert_nothing_lost, spec, strings, text, use_and_stop};
use crate::dataset::{DatasetSize, check_postgres, load_postgres};
use crate::servers::shared_postgres;
use crate::writer::Writer;

const SIZE: DatasetSize = DatasetSize { postgres_rows: 6_000, mongodb_documents: 0 };

/// What the worker's transformers do, as SQL.
const IN_THE_WORKER: [&str; 4] = [
    r"UPDATE drafts SET schema_version = 2, applied = applied + 1, body_text = CASE
        WHEN jsonb_typeof(body->'text') = 'string' THEN btrim(regexp_replace(body->>'text', '\s+', ' ', 'g'))
        WHEN jsonb_typeof(body->'blocks') = 'array' THEN (
          SELECT string_agg(btrim(regexp_replace(b->>'text', '\s+', ' ', 'g')), E'\n' ORDER BY n)
          FROM jsonb_array_elements(body->'blocks') WITH ORDINALITY AS t (b, n) WHERE b ? 'text') END
      WHERE schema_version < 2",
    r#"UPDATE tenants SET settings_version = 2, applied = applied + 1, settings =
        '{"plan": "free", "retention_days": 365, "limits": {"seats": 10}}'::jsonb
        || CASE WHEN jsonb_typeof(settings) = 'object' THEN settings ELSE '{}' END
        || CASE WHEN jsonb_typeof(settings->'plan') = 'string'
             THEN jsonb_build_object('plan', lower(settings->>'plan')) ELSE '{}' END
      WHERE NOT live"#,
    "UPDATE channels SET slug_version = 2, applied = applied + 1, slug = coalesce(nullif(btrim(
        regexp_replace(lower(name), '[^a-z0-9]+', '-', 'g'), '-'), ''), md5(id::text))
      WHERE slug_version < 2",
    r"UPDATE attachments SET migrated = true, applied = applied + 1, note = nullif(btrim(note), ''),
        title = coalesce(CASE WHEN jsonb_typeof(meta->'title') = 'string' THEN meta->>'title' END,
          file_name, 'unnamed'),
        extension = lower(substring(file_name FROM '\.([^.]*)$')) WHERE NOT migrated",
];

async fn change_schema(session: &mut PgConnection, id: &str) {
    for statement in strings(&spec(id), "up") {
        session.execute(AssertSqlSafe(statement)).await.unwrap_or_else(|error| panic!("{id}: {error}"));
    }
}

/// Runs a data spec's SQL until nothing is pending, as the final sweep would.
async fn change_data(session: &mut PgConnection, id: &str) {
    let spec = spec(id);
    let source = spec.get_document("source").unwrap();
    let assignments: Vec<String> = spec
        .get_document("transform")
        .and_then(|transform| transform.get_document("sql"))
        .unwrap()
        .iter()
        .map(|(column, expression)| format!("{column} = {}", expression.as_str().unwrap()))
        .collect();
    let sql = format!(
        "UPDATE {} SET {} WHERE {}",
        source.get_str("table").unwrap(),
        assignments.join(", "),
        source.get_str("where").unwrap()
    );
    loop {
        let done = session
            .execute(AssertSqlSafe(sql.as_str()))
            .await
            .unwrap_or_else(|error| panic!("{id}: {error}"));
        if done.rows_affected() == 0 {
            break;
        }
    }
}

async fn expand(session: &mut PgConnection) {
    for id in ["0001_message_columns", "0002_tenant_and_channel_columns", "0004_draft_and_attachment_columns"]
    {
        change_schema(session, id).await;
    }
    let file = text("0003_delivery_columns.sql");
    let up = file.split("-- up").nth(1).and_then(|rest| rest.split("-- down").next()).unwrap();
    session.execute(AssertSqlSafe(up)).await.unwrap();
}

async fn backfill_and_contract(session: &mut PgConnection) {
    for id in ["0008_message_text", "0012_delivery_times"] {
        change_data(session, id).await;
    }
    for statement in IN_THE_WORKER {
        session.execute(statement).await.unwrap();
    }
    for id in
        ["0020_message_author_index", "0021_message_migrated_check", "0022_message_migrated_check_validated"]
    {
        change_schema(session, id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_postgres_library_changes_every_row_once_beside_a_live_application() {
    let dsn = shared_postgres().await.unwrap();
    load_postgres(&dsn, 1, 2, &SIZE).await.unwrap();
    let mut session = PgConnection::connect(&dsn).await.unwrap();
    let writer = Writer::start_postgres(dsn.clone(), 7);
    let before_the_columns = use_and_stop(writer, 100).await;
    assert_nothing_lost(&before_the_columns, &dsn).await;
    let writer = Writer::start_postgres(dsn.clone(), 8);
    expand(&mut session).await;
    backfill_and_contract(&mut session).await;
    let report = use_and_stop(writer, 120).await;
    assert_eq!(check_postgres(&dsn).await.unwrap(), Vec::<String>::new());
    assert_nothing_lost(&report, &dsn).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_postgres_check_tells_of_rows_that_are_pending_changed_twice_or_damaged() {
    let dsn = shared_postgres().await.unwrap();
    load_postgres(&dsn, 0, 1, &DatasetSize { postgres_rows: 400, mongodb_documents: 0 }).await.unwrap();
    let mut session = PgConnection::connect(&dsn).await.unwrap();
    expand(&mut session).await;
    let pending = check_postgres(&dsn).await.unwrap();
    for table in ["messages", "drafts", "channels", "deliveries", "attachments"] {
        assert!(
            pending.iter().any(|line| line.starts_with(&format!("{table}: not migrated"))),
            "{pending:#?}"
        );
    }
    backfill_and_contract(&mut session).await;
    assert_eq!(check_postgres(&dsn).await.unwrap(), Vec::<String>::new());
    let damages = [
        ("UPDATE messages SET applied = 2 WHERE id = 16", "messages: not changed exactly once"),
        ("UPDATE messages SET body_text = body_text || '!' WHERE id = 0", "messages: body_text is not"),
        ("UPDATE drafts SET body_text = NULL WHERE id = 2", "drafts: body_text is not"),
        ("UPDATE tenants SET settings = '{}' WHERE name = 'a null plan'", "tenants: settings lack"),
        ("UPDATE tenants SET applied = 0 WHERE name = 'a null plan'", "tenants: present throughout"),
        ("UPDATE channels SET slug = '' WHERE name = '---'", "channels: slug is empty"),
        (
            "UPDATE deliveries SET delivered_ts = now() WHERE delivered_at = 'never'",
            "deliveries: delivered_ts",
        ),
        (
            "UPDATE attachments SET ratio = 0 WHERE id = 'att-0-000002'",
            "attachments: an untouched column changed: 1 row(s), such as att-0-000002",
        ),
    ];
    for (damage, expected) in damages {
        let done = session.execute(damage).await.unwrap();
        assert!(done.rows_affected() > 0, "{damage} finds its row");
        let told = check_postgres(&dsn).await.unwrap();
        assert!(told.iter().any(|line| line.starts_with(expected)), "{damage}: {told:#?}");
    }
}
