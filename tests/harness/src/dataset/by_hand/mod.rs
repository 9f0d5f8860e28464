//! The example library run by hand, as a plain script would: whole statements, no batches, nothing that can
//! be killed. It proves that the library's SQL, pipelines and commands are right, that the checks pass when
//! they should and fail when they should, and that the writer's model holds. What runs in the worker is
//! replaced by SQL or by plain Rust here.

mod items;
mod mongodb;
mod postgres;

use std::path::PathBuf;
use std::time::Duration;

use bson::{Bson, Document};
use saphyr::{LoadableYamlNode, Scalar, Yaml};

use crate::wait::wait_for;
use crate::writer::{Writer, WriterReport};

/// The spec with this id, read from the example library.
fn spec(id: &str) -> Document {
    let text = text(&format!("{id}.yaml"));
    let documents = Yaml::load_from_str(&text).unwrap_or_else(|error| panic!("{id}: {error}"));
    match plain(&documents[0]) {
        Bson::Document(spec) => spec,
        other => panic!("{id} is no mapping: {other}"),
    }
}

fn text(file: &str) -> String {
    let library = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    ["schema/postgres", "schema/mongodb", "data/postgres", "data/mongodb"]
        .iter()
        .find_map(|room| std::fs::read_to_string(library.join(room).join(file)).ok())
        .unwrap_or_else(|| panic!("the library holds no {file}"))
}

fn plain(yaml: &Yaml<'_>) -> Bson {
    match yaml {
        Yaml::Value(Scalar::Null) => Bson::Null,
        Yaml::Value(Scalar::Boolean(value)) => Bson::Boolean(*value),
        Yaml::Value(Scalar::Integer(value)) => i32::try_from(*value).map_or(Bson::Int64(*value), Bson::Int32),
        Yaml::Value(Scalar::FloatingPoint(value)) => Bson::Double(value.into_inner()),
        Yaml::Value(Scalar::String(value)) => Bson::String(value.to_string()),
        Yaml::Sequence(list) => Bson::Array(list.iter().map(plain).collect()),
        Yaml::Mapping(map) => Bson::Document(
            map.iter()
                .map(|(key, value)| (key.as_str().expect("a string key").to_owned(), plain(value)))
                .collect(),
        ),
        other => panic!("unexpected YAML {other:?}"),
    }
}

fn strings<'a>(spec: &'a Document, key: &str) -> Vec<&'a str> {
    spec.get_array(key).unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

/// Lets the application make a number of writes more.
async fn writes_more(acknowledged: impl Fn() -> u64, writes: u64) {
    let wanted = acknowledged() + writes;
    let enough = async || (acknowledged() >= wanted).then_some(());
    wait_for("the writer to write", Duration::from_secs(60), enough).await.unwrap();
}

/// Lets the application make a number of writes more, then stops it.
async fn use_and_stop(writer: Writer, writes: u64) -> WriterReport {
    writes_more(|| writer.acknowledged(), writes).await;
    writer.stop().await.unwrap()
}

/// The application did something of each kind, and lost nothing.
async fn assert_nothing_lost(report: &WriterReport, dsn: &str) {
    let lost = report.lost_writes(dsn).await.unwrap();
    assert!(lost.is_empty(), "{lost:#?}\n{:?}", report.first_errors);
    assert!(
        report.inserted > 0 && report.updated > 0 && report.deleted > 0 && report.key_moves > 0,
        "{report:?}"
    );
    assert_eq!(report.errors, 0, "{:?}", report.first_errors);
}
