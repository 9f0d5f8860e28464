//! Real servers of databases and messages on free ports of the loopback interface, each in its own temporary directory.
//! They know nothing of Shardlift.

mod etcd;
mod mongod;
mod postgres;
mod rabbitmq;
mod replica_set;
mod shared;
mod tansu;

pub use etcd::{Etcd, EtcdOptions, EtcdTls};
pub use mongod::{Mongod, MongodOptions};
pub use postgres::{Postgres, PostgresOptions};
pub use rabbitmq::RabbitMq;
pub use replica_set::ReplicaSet;
pub use shared::{
    ExclusiveMongod, exclusive_mongod, shared_etcd, shared_mongod, shared_postgres, shared_postgres_server,
    shared_rabbitmq,
};
pub use tansu::Tansu;
