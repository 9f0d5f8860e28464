//! A stranger with an HTTP client of no particular kind. Every JSON answer is held against the OpenAPI document that the
//! same coordinator serves.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// One answer, or the next line of a stream.
const WITHIN: Duration = Duration::from_secs(90);

/// The REST door of one coordinator.
#[derive(Clone)]
pub(crate) struct Http {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    document: Value,
    token: Option<String>,
}

/// Both ways of a connection.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Value,
    pub(crate) text: String,
}

/// One server-sent event.
#[derive(Debug, Clone)]
pub(crate) struct Sse {
    pub(crate) id: Option<u64>,
    pub(crate) kind: String,
    pub(crate) data: Value,
}

/// An open stream of them.
pub(crate) struct Stream {
    lines: Lines<BufReader<Box<dyn Wire>>>,
}

impl Http {
    /// Reads the document first.
    pub(crate) async fn of(address: SocketAddr) -> Self {
        Self::over(address, None).await
    }

    /// The same over TLS, if there is a connector.
    pub(crate) async fn over(address: SocketAddr, tls: Option<TlsConnector>) -> Self {
        let mut http = Self { address, tls, document: Value::Null, token: None };
        http.document = http.send("GET", "/api/v1/openapi.json", &[], "").await.body;
        http
    }

    /// The same door, asked with this token.
    pub(crate) fn showing(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// What is answered to a GET in plain, whatever that is.
    pub(crate) async fn plain(address: SocketAddr, path: &str) -> String {
        let http = Self { address, tls: None, document: Value::Null, token: None };
        let mut stream = http.open("GET", path, &[], "").await;
        let mut text = Vec::new();
        // Hung up is an answer, too.
        let _ = timeout(WITHIN, stream.read_to_end(&mut text)).await.expect("an end of the answer");
        String::from_utf8_lossy(&text).into_owned()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    /// A POST without a body.
    pub(crate) async fn post(&self, path: &str) -> Answer {
        self.send("POST", path, &[], "").await
    }

    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[("content-type", "application/json")], &body.to_string()).await
    }

    pub(crate) async fn post_yaml(&self, path: &str, text: &str) -> Answer {
        self.send("POST", path, &[("content-type", "application/yaml")], text).await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let asked = async {
            let mut stream = self.open(method, path, headers, body).await;
            let mut text = Vec::new();
            // A server that ends TLS without a goodbye has still answered.
            let _ = stream.read_to_end(&mut text).await;
            String::from_utf8(text).unwrap()
        };
        let text = timeout(WITHIN, asked).await.unwrap_or_else(|_| panic!("no answer to {method} {path}"));
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {text}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|word| word.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": "));
        let answer = Answer {
            status: status.unwrap_or_else(|| panic!("{method} {path}: {head}")),
            headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect(),
            body: serde_json::from_str(body).unwrap_or_default(),
            text: body.to_owned(),
        };
        assert!(answer.header("x-request-id").is_some_and(|id| !id.is_empty()), "{method} {path}: {head}");
        self.check(method, path, &answer);
        answer
    }

    /// Follows a migration; `last`: what came last before.
    pub(crate) async fn follow(&self, path: &str, last: Option<u64>) -> Stream {
        let last = last.map(|last| last.to_string());
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(last.as_deref().map(|last| ("last-event-id", last)));
        let stream = self.open("GET", path, &headers, "").await;
        let mut lines = BufReader::new(stream).lines();
        let first = lines.next_line().await.unwrap().unwrap();
        assert!(first.contains(" 200 "), "{path}: {first}");
        while lines.next_line().await.unwrap().is_some_and(|line| !line.is_empty()) {}
        Stream { lines }
    }

    /// HTTP/1.0: the answer ends with the connection, and comes without pieces.
    async fn open(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Box<dyn Wire> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let mut stream: Box<dyn Wire> = match &self.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::from(self.address.ip());
                Box::new(tls.connect(name, stream).await.unwrap())
            }
        };
        let mut request = format!("{method} {path} HTTP/1.0\r\nhost: {}\r\n", self.address);
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if let Some(token) = &self.token {
            request += &format!("authorization: Bearer {token}\r\n");
        }
        request += &format!("content-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// The answer is one that the document announces, of the shape that it announces.
    fn check(&self, method: &str, path: &str, answer: &Answer) {
        let path = path.split('?').next().unwrap_or_default();
        if self.document.is_null() || answer.body.is_null() || path.ends_with("/openapi.json") {
            return;
        }
        let refused = answer.header("content-type") == Some("application/problem+json");
        let route = self.document["paths"].as_object().unwrap().iter().find(|(known, _)| fits(known, path));
        let operation = route.map(|(_, methods)| &methods[method.to_ascii_lowercase()]);
        let named = operation.and_then(|operation| {
            let responses = &operation["responses"];
            let response =
                if refused { &responses["default"] } else { &responses[answer.status.to_string()] };
            let media = if refused { "application/problem+json" } else { "application/json" };
            response["content"][media]["schema"]["$ref"].as_str()
        });
        let shape = match named {
            Some(shape) => shape,
            // What is no route is refused all the same.
            None if refused => "#/components/schemas/Problem",
            None => panic!("{method} {path} answered {}, which the document does not know", answer.status),
        };
        let schema = json!({ "$ref": shape, "components": self.document["components"] });
        let validator = jsonschema::validator_for(&schema).unwrap();
        let wrong: Vec<String> = validator
            .iter_errors(&answer.body)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{method} {path} is no {shape}: {wrong:#?}\n{:#}", answer.body);
    }
}

/// `/a/{id}/b` fits `/a/7/b`.
fn fits(known: &str, path: &str) -> bool {
    let (known, path): (Vec<&str>, Vec<&str>) = (known.split('/').collect(), path.split('/').collect());
    known.len() == path.len()
        && known.iter().zip(&path).all(|(known, part)| known.starts_with('{') || known == part)
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body of an answer that must be this.
    pub(crate) fn ok(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }

    /// A refusal must be a problem document of this code.
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{}", self.text);
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        self.body
    }
}

impl Stream {
    /// The next event; `None`: the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<Sse> {
        let read = async {
            let mut event = Sse { id: None, kind: String::new(), data: Value::Null };
            while let Some(line) = self.lines.next_line().await.ok().flatten() {
                match line.split_once(": ") {
                    Some(("id", id)) => event.id = id.parse().ok(),
                    Some(("event", kind)) => event.kind = kind.to_owned(),
                    Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                    // The end of an event; of nothing, if only a comment came.
                    None if line.is_empty() && !event.kind.is_empty() => return Some(event),
                    _ => {}
                }
            }
            None
        };
        timeout(WITHIN, read).await.expect("an event, or the end of the stream")
    }
}
