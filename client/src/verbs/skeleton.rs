//! The commented specs that `shardlift new` writes: valid as they are, to be filled in.

use shardlift_domain::ids::{ClusterName, MigrationId};
use shardlift_domain::spec::{Engine, Kind};

/// The text of a new spec.
pub(super) fn text(kind: Kind, engine: Engine, id: &MigrationId, cluster: &ClusterName) -> String {
    let skeleton = match (kind, engine) {
        (Kind::Schema, Engine::Postgres) => include_str!("skeletons/schema_postgres.yaml"),
        (Kind::Schema, Engine::Mongodb) => include_str!("skeletons/schema_mongodb.yaml"),
        (Kind::Data, Engine::Postgres) => include_str!("skeletons/data_postgres.yaml"),
        (Kind::Data, Engine::Mongodb) => include_str!("skeletons/data_mongodb.yaml"),
    };
    skeleton.replace("{{id}}", id.as_str()).replace("{{cluster}}", cluster.as_str())
}

#[cfg(test)]
mod tests {
    use shardlift_domain::spec::{SpecFile, parse};

    use super::*;

    #[test]
    fn the_columns_of_one_skeleton_are_those_that_the_other_writes() {
        let id = MigrationId::new("0007_first_try").expect("an id");
        let cluster = ClusterName::new("chat").expect("a name");
        let schema = text(Kind::Schema, Engine::Postgres, &id, &cluster);
        let data = text(Kind::Data, Engine::Postgres, &id, &cluster);
        for column in ["body_text", "schema_version"] {
            assert!(schema.contains(&format!("ADD COLUMN {column} ")), "{schema}");
            assert!(data.contains(&format!("\n    {column}: ")), "{data}");
        }
    }

    #[test]
    fn every_skeleton_is_a_valid_spec_of_its_kind() {
        let id = MigrationId::new("0007_first_try").expect("an id");
        let cluster = ClusterName::new("chat").expect("a name");
        for kind in [Kind::Schema, Kind::Data] {
            for engine in [Engine::Postgres, Engine::Mongodb] {
                let text = text(kind, engine, &id, &cluster);
                assert!(!text.contains("{{"), "{text}");
                let file = SpecFile { name: "0007_first_try.yaml".into(), text };
                let spec = parse(&file).unwrap_or_else(|problems| panic!("{problems}"));
                assert_eq!(
                    (spec.kind(), spec.engine, spec.id, spec.cluster),
                    (kind, engine, id.clone(), cluster.clone())
                );
            }
        }
    }
}
