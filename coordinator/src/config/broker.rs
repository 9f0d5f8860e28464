//! The section `[broker]`: who outside is told what happens, and may ask for something.

use std::path::PathBuf;
use std::time::Duration;

use lapin::uri::AMQPUri;
use serde::Deserialize;
use shardlift_domain::principal::{Principal, Reach, Role};
use shardlift_runtime::config::{ConfigProblems, Secret, read_secret};

/// How to reach a broker, and what is told it.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Which one.
    pub kind: BrokerKind,
    /// The source that events name.
    pub source: String,
    /// How often progress is told, at most.
    pub progress_every: Duration,
    /// Requests are taken, if at all, as this says.
    pub consumer: Option<ConsumerConfig>,
}

/// How requests are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// From which queue or topic.
    pub place: String,
    /// In whose name.
    pub principal: String,
}

/// The kinds of broker.
#[derive(Clone)]
pub enum BrokerKind {
    /// RabbitMQ.
    RabbitMq {
        /// How to reach it; holds a password.
        uri: Box<AMQPUri>,
        /// Certificates to trust, PEM.
        ca: Option<String>,
        /// Where events go.
        exchange: String,
    },
    /// Kafka.
    Kafka {
        /// `host:port`, separated by commas.
        servers: String,
        /// Where events go.
        topic: String,
    },
}

impl std::fmt::Debug for BrokerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RabbitMq { exchange, .. } => {
                f.debug_struct("RabbitMq").field("exchange", exchange).finish_non_exhaustive()
            }
            Self::Kafka { servers, topic } => {
                f.debug_struct("Kafka").field("servers", servers).field("topic", topic).finish()
            }
        }
    }
}

/// How often progress may be told, in milliseconds.
const PROGRESS_BOUNDS: std::ops::RangeInclusive<u64> = 100..=3_600_000;
const PROGRESS: u64 = 5_000;
const SOURCE: &str = "/shardlift";
const MIGRATIONS: &str = "migrations";
const REQUESTS: &str = "migration-requests";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WrittenBroker {
    kind: Option<String>,
    url: Option<Secret>,
    url_file: Option<PathBuf>,
    source: Option<String>,
    progress_every_ms: Option<u64>,
    exchange: Option<String>,
    topic: Option<String>,
    tls: Option<WrittenTls>,
    consumer: Option<WrittenConsumer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WrittenTls {
    ca_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WrittenConsumer {
    principal: Option<String>,
    role: Option<String>,
    queue: Option<String>,
    topic: Option<String>,
}

impl WrittenBroker {
    /// Keys of another kind are refused: nothing is accepted and ignored.
    pub(super) fn check(self, problems: &mut ConfigProblems) -> Option<BrokerConfig> {
        let (kind, foreign): (_, &[&str]) = match self.kind.as_deref() {
            None | Some("none") => {
                for key in self.given() {
                    problems.add(format!("broker.{key}"), "it means nothing without a `kind` of broker");
                }
                return None;
            }
            Some("rabbitmq") => (self.rabbitmq(problems), &["topic", "consumer.topic"]),
            Some("kafka") => (self.kafka(problems), &["exchange", "tls", "consumer.queue"]),
            Some(other) => {
                let known = "use \"none\", \"rabbitmq\" or \"kafka\"";
                problems.add("broker.kind", format!("{other:?} is no broker; {known}"));
                return None;
            }
        };
        for key in self.given().into_iter().filter(|key| foreign.contains(key)) {
            let why = match key {
                "tls" => "this build speaks to Kafka without TLS; put a proxy that does between them",
                _ => "a broker of this kind has no such key",
            };
            problems.add(format!("broker.{key}"), why);
        }
        let consumer = self.consumer(problems);
        let (source, progress_every) = self.told(problems);
        Some(BrokerConfig { kind: kind?, source, progress_every, consumer })
    }

    fn given(&self) -> Vec<&'static str> {
        let consumer = self.consumer.as_ref();
        let keys = [
            ("url", self.url.is_some()),
            ("url_file", self.url_file.is_some()),
            ("source", self.source.is_some()),
            ("progress_every_ms", self.progress_every_ms.is_some()),
            ("exchange", self.exchange.is_some()),
            ("topic", self.topic.is_some()),
            ("tls", self.tls.is_some()),
            ("consumer.principal", consumer.is_some_and(|consumer| consumer.principal.is_some())),
            ("consumer.role", consumer.is_some_and(|consumer| consumer.role.is_some())),
            ("consumer.queue", consumer.is_some_and(|consumer| consumer.queue.is_some())),
            ("consumer.topic", consumer.is_some_and(|consumer| consumer.topic.is_some())),
        ];
        keys.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect()
    }

    fn url(&self, problems: &mut ConfigProblems) -> Option<Secret> {
        let url = read_secret("url", self.url.as_ref(), self.url_file.as_deref());
        url.map_err(|error| problems.add("broker.url", error.to_string())).ok()
    }

    fn rabbitmq(&self, problems: &mut ConfigProblems) -> Option<BrokerKind> {
        // The parser's own words may repeat parts of the address.
        let uri = self.url(problems).and_then(|url| {
            let uri = url.expose().parse::<AMQPUri>().ok();
            if uri.is_none() {
                let example = "amqps://user:password@host:5671/vhost";
                problems.add("broker.url", format!("it is not an address such as {example}"));
            }
            uri
        });
        let file = self.tls.as_ref().and_then(|tls| tls.ca_file.as_ref());
        let ca = file.and_then(|file| match std::fs::read_to_string(file) {
            Ok(text) => Some(text),
            Err(error) => {
                problems.add("broker.tls.ca_file", format!("cannot read {}: {error}", file.display()));
                None
            }
        });
        let exchange = name(problems, "broker.exchange", self.exchange.as_deref(), MIGRATIONS);
        Some(BrokerKind::RabbitMq { uri: Box::new(uri?), ca, exchange })
    }

    fn kafka(&self, problems: &mut ConfigProblems) -> Option<BrokerKind> {
        if !cfg!(feature = "kafka") {
            problems.add("broker.kind", "this coordinator was built without the feature `kafka`");
        }
        let servers = self.url(problems).and_then(|url| {
            let servers = url.expose().strip_prefix("kafka://").map(str::to_owned);
            let valid = servers.filter(|servers| servers.split(',').all(is_server));
            if valid.is_none() {
                let example = "kafka://host-1:9092,host-2:9092, without user or password";
                problems.add("broker.url", format!("it is not an address such as {example}"));
            }
            valid
        });
        let topic = name(problems, "broker.topic", self.topic.as_deref(), MIGRATIONS);
        Some(BrokerKind::Kafka { servers: servers?, topic })
    }

    fn consumer(&self, problems: &mut ConfigProblems) -> Option<ConsumerConfig> {
        let WrittenConsumer { principal, role, queue, topic } = self.consumer.as_ref()?;
        let (key, given) = match queue {
            Some(queue) => ("broker.consumer.queue", Some(queue)),
            None => ("broker.consumer.topic", topic.as_ref()),
        };
        let place = name(problems, key, given.map(String::as_str), REQUESTS);
        let told = self.topic.as_deref().or(self.exchange.as_deref()).unwrap_or(MIGRATIONS);
        if place == told {
            problems.add(key, "requests come from a place of their own, not from where events go");
        }
        let word = role.as_deref().unwrap_or(Role::Operator.as_str());
        let role = Role::parse(word).filter(|role| role.covers(Role::Operator));
        if role.is_none() {
            let why = format!("{word:?} may not start or cancel anything; use operator, approver or admin");
            problems.add("broker.consumer.role", why);
        }
        let principal = principal.clone().unwrap_or_default();
        if let Err(error) = Principal::new(&principal, role.unwrap_or(Role::Operator), Reach::Nothing) {
            problems
                .add("broker.consumer.principal", format!("{error}: in its name requests are carried out"));
        }
        Some(ConsumerConfig { place, principal })
    }

    fn told(&self, problems: &mut ConfigProblems) -> (String, Duration) {
        let source = self.source.as_deref().unwrap_or(SOURCE);
        let strange = |c: char| c.is_whitespace() || c.is_control();
        if source.is_empty() || source.len() > 255 || source.contains(strange) {
            let example = "/shardlift or urn:my:migrations";
            problems.add("broker.source", format!("{source:?} is not a reference such as {example}"));
        }
        let every = self.progress_every_ms.unwrap_or(PROGRESS);
        if !PROGRESS_BOUNDS.contains(&every) {
            let (least, most) = (PROGRESS_BOUNDS.start(), PROGRESS_BOUNDS.end());
            let why = format!("{every} is not between {least} and {most} milliseconds");
            problems.add("broker.progress_every_ms", why);
        }
        (source.to_owned(), Duration::from_millis(every))
    }
}

/// `host:port`, and nothing that could be a password.
fn is_server(text: &str) -> bool {
    let host = |host: &str| !host.is_empty() && !host.contains(['@', '/', ' ']);
    text.rsplit_once(':')
        .is_some_and(|(name, port)| host(name) && port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// A name that every broker takes.
fn name(problems: &mut ConfigProblems, key: &str, given: Option<&str>, usual: &str) -> String {
    let text = given.unwrap_or(usual);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if text.is_empty() || text.len() > 100 || !text.chars().all(plain) {
        let why = "only letters, digits, '_', '-' and '.' are allowed, 1 to 100 of them";
        problems.add(key, format!("{text:?} is no name: {why}"));
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CLUSTER, read};
    use super::*;

    fn broker(text: &str) -> Result<Option<BrokerConfig>, ConfigProblems> {
        read(&format!("[broker]\n{text}\n{CLUSTER}")).map(|config| config.broker)
    }

    fn refused(text: &str) -> Vec<String> {
        let problems = broker(text).expect_err("it was accepted");
        assert!(!problems.to_string().contains("hunter2"), "{problems}");
        problems.list().iter().map(|problem| problem.key.clone()).collect()
    }

    #[test]
    fn nobody_is_told_unless_asked_for() {
        assert!(read(CLUSTER).expect("good").broker.is_none());
        assert!(broker("kind = \"none\"").expect("good").is_none());
        assert_eq!(refused("url = \"amqp://localhost\""), ["broker.url"]);
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let told = broker("kind = \"rabbitmq\"\nurl = \"amqp://u:hunter2@localhost/%2f\"")
            .expect("good")
            .expect("one");
        let BrokerKind::RabbitMq { exchange, ca: None, .. } = &told.kind else { panic!("{told:?}") };
        assert_eq!((exchange.as_str(), told.source.as_str()), ("migrations", "/shardlift"));
        assert_eq!((told.progress_every, &told.consumer), (Duration::from_secs(5), &None));
        assert!(!format!("{told:?}").contains("hunter2"));
        let told =
            broker("kind = \"kafka\"\nurl = \"kafka://a:1,b:2\"\n[broker.consumer]\nprincipal = \"ci\"");
        let told = told.expect("good").expect("one");
        let BrokerKind::Kafka { servers, topic } = &told.kind else { panic!("{told:?}") };
        assert_eq!((servers.as_str(), topic.as_str()), ("a:1,b:2", "migrations"));
        let consumer = ConsumerConfig { place: "migration-requests".into(), principal: "ci".into() };
        assert_eq!(told.consumer, Some(consumer));
    }

    #[test]
    fn mistakes_are_told_without_the_password() {
        let rabbit = "kind = \"rabbitmq\"\nurl = \"amqp://u:hunter2@localhost/%2f\"\n";
        for (text, keys) in [
            ("kind = \"nats\"", vec!["broker.kind"]),
            ("kind = \"rabbitmq\"", vec!["broker.url"]),
            ("kind = \"rabbitmq\"\nurl = \"http://u:hunter2@localhost\"", vec!["broker.url"]),
            ("kind = \"kafka\"\nurl = \"kafka://u:hunter2@localhost:1\"", vec!["broker.url"]),
            (
                "kind = \"kafka\"\nurl = \"kafka://localhost:1\"\ntls = { ca_file = \"x\" }",
                vec!["broker.tls"],
            ),
            (&*format!("{rabbit}topic = \"x\""), vec!["broker.topic"]),
            (&*format!("{rabbit}exchange = \"a b\""), vec!["broker.exchange"]),
            (&*format!("{rabbit}tls = {{ ca_file = \"/no/such/file\" }}"), vec!["broker.tls.ca_file"]),
            (&*format!("{rabbit}source = \"\""), vec!["broker.source"]),
            (&*format!("{rabbit}progress_every_ms = 1"), vec!["broker.progress_every_ms"]),
            (&*format!("{rabbit}consumer = {{}}"), vec!["broker.consumer.principal"]),
            (
                &*format!("{rabbit}consumer = {{ principal = \"ci\", role = \"viewer\" }}"),
                vec!["broker.consumer.role"],
            ),
            (
                &*format!("{rabbit}consumer = {{ principal = \"ci\", queue = \"migrations\" }}"),
                vec!["broker.consumer.queue"],
            ),
        ] {
            assert_eq!(refused(text), keys, "{text}");
        }
    }
}
