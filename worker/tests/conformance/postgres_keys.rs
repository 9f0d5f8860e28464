//! Keys of every kind: each row is visited once, whatever type, order or gaps its key has.

use std::sync::Arc;

use anyhow::{Result, ensure};

use super::bench::{Bench, leader};
use super::drive::{split, walk, walk_sharing};
use super::postgres::{PostgresBench, data_job, set};

/// Walks a table of this key in small windows over several ranges; `rows` fills it.
async fn every_row_once(columns: &str, key: &[&str], rows: &str) -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench
        .execute(&format!(
            "CREATE TABLE keyed ({columns}, applied int NOT NULL DEFAULT 0, PRIMARY KEY ({}))",
            key.join(", ")
        ))
        .await?;
    bench.execute(&format!("INSERT INTO keyed ({}) {rows}", key.join(", "))).await?;
    let expected: u64 = bench.value("SELECT count(*)::text FROM keyed").await?.parse()?;
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    let job = Arc::new(data_job(("keyed", key, None), set(&[("applied", "applied + 1")]), None));
    let pass = split(&*engine, &leader, &job, 3).await?;
    ensure!(pass.ranges.len() == 3, "{pass:?}");
    // Splitting whatever can be split, so that keys of every kind are cut, too.
    let (changed, splits) = walk_sharing(&*engine, &leader, &job, &pass, 2).await?;
    let wrong = bench.value("SELECT count(*)::text FROM keyed WHERE applied <> 1").await?;
    ensure!(changed == expected && wrong == "0", "{changed} of {expected}, {wrong} not exactly once");
    ensure!(splits > 0, "nothing was split");
    Ok(())
}

macro_rules! keys {
    ($($name:ident: $columns:literal, [$($key:literal),+], $rows:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() -> Result<()> {
                every_row_once($columns, &[$($key),+], $rows).await
            }
        )*
    };
}

keys! {
    integers_with_gaps_and_both_ends: "id bigint", ["id"],
        "VALUES (-9223372036854775808), (-7), (-1), (0), (1), (3), (1000000), (9223372036854775807)";
    uuids: "id uuid", ["id"], "SELECT md5(n::text)::uuid FROM generate_series(1, 100) n";
    texts_in_an_icu_collation: "id text COLLATE \"sv-x-icu\"", ["id"],
        "SELECT c || n FROM unnest(ARRAY['a','A','b','z','å','ä','ö','é','','ß',' ','😀','日']) c, generate_series(1, 9) n";
    texts_in_bytes: "id varchar(40)", ["id"], "SELECT c || n FROM unnest(ARRAY['a','A','''','\\','\"','{','ü']) c, generate_series(1, 9) n";
    fixed_length_texts: "id char(6)", ["id"], "SELECT 'k' || n FROM generate_series(1, 60) n";
    timestamps: "id timestamptz", ["id"],
        "SELECT '2024-02-28 23:59:59.999999+03'::timestamptz + n * interval '1 hour 1 microsecond' FROM generate_series(1, 60) n \
         UNION ALL VALUES ('infinity'::timestamptz), ('-infinity'), ('0044-03-15 BC')";
    numerics: "id numeric", ["id"],
        "SELECT n / 7.0 FROM generate_series(-30, 30) n UNION ALL VALUES (1e100::numeric), (-1e100), ('NaN')";
    doubles: "id double precision", ["id"],
        "SELECT n / 7.0 FROM generate_series(-30, 30) n UNION ALL VALUES ('NaN'::float8), ('infinity'), (1e-300)";
    composite_of_number_and_text: "a bigint, b text", ["a", "b"],
        "SELECT n % 5, 'user-' || n FROM generate_series(1, 100) n";
    composite_of_three: "a uuid, b date, c smallint", ["a", "b", "c"],
        "SELECT md5((n % 3)::text)::uuid, date '2024-01-01' + n % 7, n FROM generate_series(1, 100) n";
    bytes: "id bytea", ["id"], "SELECT decode(md5(n::text), 'hex') FROM generate_series(1, 60) n";
    addresses: "id inet", ["id"], "SELECT '10.0.0.0'::inet + n FROM generate_series(1, 60) n";
    booleans_beside_intervals: "a boolean, b interval", ["a", "b"],
        "SELECT n % 2 = 0, n * interval '1 month 1 day 1 second' FROM generate_series(1, 60) n";
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partitioned_table_and_a_unique_index_in_descending_order() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench
        .execute(
            "CREATE TABLE parted (id int NOT NULL, applied int NOT NULL DEFAULT 0) PARTITION BY RANGE (id);
             CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (50);
             CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (50) TO (1000);
             CREATE UNIQUE INDEX parted_key ON parted (id DESC);
             INSERT INTO parted (id) SELECT generate_series(0, 99)",
        )
        .await?;
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    let job = Arc::new(data_job(("parted", &["id"], None), set(&[("applied", "applied + 1")]), None));
    let pass = split(&*engine, &leader, &job, 2).await?;
    ensure!(walk(&*engine, &leader, &job, &pass, 30).await? == 100);
    ensure!(bench.value("SELECT count(*)::text FROM parted WHERE applied = 1").await? == "100");
    Ok(())
}

/// Large enough that ranges are cut by a sample.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_table_is_cut_into_parts_of_about_the_same_size() -> Result<()> {
    let bench = PostgresBench::start().await?;
    bench
        .execute("INSERT INTO items (id) SELECT n * 3 FROM generate_series(1, 200000) n; ANALYZE items")
        .await?;
    let (engine, leader) = (bench.engine(), leader(1, "a"));
    let job = Arc::new(data_job(("items", &[], None), set(&[("applied", "applied + 1")]), None));
    let pass = split(&*engine, &leader, &job, 8).await?;
    ensure!(pass.ranges.len() == 8, "{pass:?}");
    walk(&*engine, &leader, &job, &pass, 20_000).await?;
    let after = split(&*engine, &leader, &job, 8).await?;
    ensure!(after.totals().rows == 200_000, "{:?}", after.totals());
    let sizes: Vec<u64> = after.ranges.iter().map(|range| range.seen).collect();
    ensure!(sizes.iter().all(|size| (15_000..35_000).contains(size)), "{sizes:?}");
    Ok(())
}
