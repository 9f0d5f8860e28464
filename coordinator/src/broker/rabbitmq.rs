//! RabbitMQ: events go to a durable topic exchange with their type as routing key, persistent, and each is confirmed.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueDeclareOptions,
};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{Acker, BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind};

use super::event::CONTENT_TYPE;
use shardlift_domain::failure::Failure;

use super::{Broker, BrokerError, Consumer, Message, Publisher, dead_letters, reason};

/// How long the broker may think about one request. One that is out of memory or disk takes nothing until it has some.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// A connection without a sign of life for about twice as many seconds is gone, unless the address says otherwise.
const HEARTBEAT: u16 = 10;
/// A message that survives a restart of the broker.
const PERSISTENT: u8 = 2;

/// A RabbitMQ server or cluster.
#[derive(Clone)]
pub struct RabbitMq {
    uri: AMQPUri,
    /// PEM certificates to trust instead of those of the system.
    ca: Option<String>,
    exchange: String,
    patience: Patience,
}

impl RabbitMq {
    /// Reached like this; `exchange` is where events go.
    pub fn new(mut uri: AMQPUri, ca: Option<String>, exchange: String) -> Self {
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        Self { uri, ca, exchange, patience: Patience(ANSWER) }
    }

    /// One that gives up sooner, for those who test that it does.
    #[cfg(test)]
    pub(super) fn hasty(self, patience: Duration) -> Self {
        Self { patience: Patience(patience), ..self }
    }

    async fn connect(&self) -> Result<Connection, BrokerError> {
        let properties = ConnectionProperties::default().with_connection_name("shardlift-coordinator".into());
        let tls = OwnedTLSConfig { identity: None, cert_chain: self.ca.clone() };
        let runtime = lapin::runtime::default_runtime().map_err(BrokerError::failed("connect"))?;
        let connect = Connection::connect_uri_with_config(self.uri.clone(), properties, tls, runtime);
        self.patience.answered("connect", connect).await
    }
}

#[async_trait]
impl Broker for RabbitMq {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    async fn publisher(&self) -> Result<Box<dyn Publisher>, BrokerError> {
        let (connection, patience) = (self.connect().await?, self.patience);
        let channel = patience.answered("open a channel", connection.create_channel()).await?;
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let exchange = self.exchange.as_str();
        let declare =
            channel.exchange_declare(exchange.into(), ExchangeKind::Topic, options, FieldTable::default());
        patience.answered("declare the exchange", declare).await?;
        patience
            .answered("confirm messages", channel.confirm_select(ConfirmSelectOptions::default()))
            .await?;
        let exchange = self.exchange.clone();
        Ok(Box::new(RabbitMqPublisher { _connection: connection, channel, exchange, patience }))
    }

    async fn consumer(&self, place: &str) -> Result<Box<dyn Consumer>, BrokerError> {
        let (connection, patience) = (self.connect().await?, self.patience);
        let channel = patience.answered("open a channel", connection.create_channel()).await?;
        let dead = dead_letters(place);
        for queue in [place, &dead] {
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            let declare = channel.queue_declare(queue.into(), options, FieldTable::default());
            patience.answered("declare a queue", declare).await?;
        }
        patience
            .answered("confirm messages", channel.confirm_select(ConfirmSelectOptions::default()))
            .await?;
        // One at a time: what comes later may depend on it.
        patience.answered("limit what it sends", channel.basic_qos(1, BasicQosOptions::default())).await?;
        // While another coordinator still holds a message, none behind it may be taken: refused until its connection is gone.
        let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let consume = channel.basic_consume(place.into(), "".into(), options, FieldTable::default());
        let messages = patience.answered("subscribe", consume).await?;
        let (_connection, taken) = (connection, None);
        Ok(Box::new(RabbitMqConsumer { _connection, channel, messages, dead, taken, patience }))
    }
}

struct RabbitMqPublisher {
    // Closed with the publisher.
    _connection: Connection,
    channel: Channel,
    exchange: String,
    patience: Patience,
}

#[async_trait]
impl Publisher for RabbitMqPublisher {
    async fn publish(&mut self, messages: &[Message]) -> Result<(), BrokerError> {
        let all = async {
            let mut confirms = Vec::with_capacity(messages.len());
            for message in messages {
                // Nobody may have bound a queue: then nobody wants it, which is no trouble.
                let options = BasicPublishOptions::default();
                let exchange = self.exchange.as_str().into();
                let kind = message.kind.into();
                let publish =
                    self.channel.basic_publish(exchange, kind, options, &message.body, properties(message));
                confirms.push(publish.await.map_err(BrokerError::failed("publish"))?);
            }
            for confirm in confirms {
                match confirm.await.map_err(BrokerError::failed("confirm"))? {
                    Confirmation::Ack(_) => {}
                    Confirmation::Nack(_) => {
                        return Err(BrokerError::NotTaken("it says that it could not keep it"));
                    }
                    Confirmation::NotRequested => return Err(BrokerError::NotTaken("it confirms nothing")),
                }
            }
            Ok(())
        };
        self.patience.in_time("confirm", all).await
    }
}

struct RabbitMqConsumer {
    // Closed with the consumer: what is not acknowledged comes again.
    _connection: Connection,
    channel: Channel,
    messages: lapin::Consumer,
    dead: String,
    taken: Option<Delivery>,
    patience: Patience,
}

impl RabbitMqConsumer {
    async fn acknowledge(&self, acker: &Acker) -> Result<(), BrokerError> {
        if self.patience.answered("acknowledge", acker.ack(BasicAckOptions::default())).await? {
            Ok(())
        } else {
            Err(BrokerError::NotTaken("the channel on which it came is closed"))
        }
    }
}

#[async_trait]
impl Consumer for RabbitMqConsumer {
    async fn next(&mut self) -> Result<Vec<u8>, BrokerError> {
        let Some(next) = self.messages.next().await else {
            return Err(BrokerError::NotTaken("it ended the subscription"));
        };
        let delivery = next.map_err(BrokerError::failed("deliver"))?;
        Ok(self.taken.insert(delivery).data.clone())
    }

    async fn done(&mut self) -> Result<(), BrokerError> {
        match self.taken.take() {
            Some(delivery) => self.acknowledge(&delivery.acker).await,
            None => Ok(()),
        }
    }

    async fn reject(&mut self, why: &Failure) -> Result<(), BrokerError> {
        let Some(delivery) = self.taken.take() else { return Ok(()) };
        let mut headers = delivery.properties.headers().clone().unwrap_or_default();
        for (name, text) in reason(why) {
            headers.insert(name.into(), AMQPValue::LongString(text.into()));
        }
        let properties = delivery.properties.clone().with_headers(headers).with_delivery_mode(PERSISTENT);
        // It must not be lost: who has no such queue gets it back.
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let dead = self.dead.as_str().into();
        let publish = async {
            let confirm =
                self.channel.basic_publish("".into(), dead, options, &delivery.data, properties).await;
            let confirm = confirm.map_err(BrokerError::failed("keep a dead letter"))?.await;
            match confirm.map_err(BrokerError::failed("keep a dead letter"))? {
                Confirmation::Ack(None) => Ok(()),
                _ => Err(BrokerError::NotTaken("it did not keep a dead letter")),
            }
        };
        self.patience.in_time("keep a dead letter", publish).await?;
        self.acknowledge(&delivery.acker).await
    }
}

fn properties(message: &Message) -> BasicProperties {
    BasicProperties::default()
        .with_content_type(CONTENT_TYPE.into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(message.id.as_str().into())
        .with_type(message.kind.into())
        .with_app_id("shardlift".into())
}

/// How long one request is waited for.
#[derive(Debug, Clone, Copy)]
struct Patience(Duration);

impl Patience {
    async fn answered<T>(
        self,
        doing: &'static str,
        request: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, BrokerError> {
        self.in_time(doing, async { request.await.map_err(BrokerError::failed(doing)) }).await
    }

    async fn in_time<T>(
        self,
        doing: &'static str,
        request: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let silent = |_| Err(BrokerError::Silent { doing, seconds: self.0.as_secs() });
        tokio::time::timeout(self.0, request).await.unwrap_or_else(silent)
    }
}
