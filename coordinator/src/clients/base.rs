//! What all clients share: one request with its limits of time and size, tried again with growing, jittered pauses, and not at
//! all while the service is left alone. No redirect is followed, and no proxy of the environment used.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy as Redirects;
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shardlift_runtime::clock::{self, Monotonic};
use shardlift_runtime::retry::{Delays, Policy, Retryable};

use super::ServiceConfig;
use super::allow::Guarded;
use super::breaker::Breaker;
use super::error::ClientError;
use super::key::Shown;

/// Most bytes of an answer that are read.
const MAX_ANSWER: usize = 64 * 1024;
/// How one request is tried again.
const TRIES: Policy = Policy {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(2),
    total: Some(Duration::from_secs(6)),
};
/// Why a key cannot be shown, without a part of it.
const NO_HEADER: &str = "its key holds characters that no header may";
/// Names this program to those who are asked.
const AGENT: &str = concat!("shardlift/", env!("CARGO_PKG_VERSION"));

/// One service.
pub(super) struct Service {
    name: &'static str,
    base: Url,
    key: Shown,
    client: Client,
    clock: Monotonic,
    breaker: Mutex<Breaker>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("name", &self.name).field("base", &self.base.as_str()).finish()
    }
}

impl Service {
    pub(super) fn new(name: &'static str, config: &ServiceConfig) -> Result<Self, ClientError> {
        let unusable = |why: String| ClientError::Unusable { service: name, why };
        let base = Url::parse(&config.url).map_err(|error| unusable(error.to_string()))?;
        let key = Shown::new(&config.key).ok_or_else(|| unusable(NO_HEADER.to_owned()))?;
        let client = Client::builder()
            .user_agent(AGENT)
            .redirect(Redirects::none())
            .no_proxy()
            .dns_resolver(Guarded)
            .connect_timeout(config.timeout)
            .timeout(config.timeout)
            .build()
            .map_err(|error| unusable(causes(&error)))?;
        Ok(Self { name, base, key, client, clock: Monotonic::start(), breaker: Mutex::default() })
    }

    /// From now on it is asked with this key. One that is for another address is not for this one.
    pub(super) fn take_key(&self, config: &ServiceConfig) {
        if Url::parse(&config.url).ok().as_ref() != Some(&self.base) {
            return;
        }
        match self.key.replace(&config.key) {
            Some(true) => tracing::info!(service = self.name, "is asked with another key from now on"),
            Some(false) => {}
            None => tracing::warn!(service = self.name, "{NO_HEADER}: the one before stays in use"),
        }
    }

    /// Asks, and reads the answer. `None`: there is nothing at that address (404).
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Option<T>, ClientError> {
        let url = self.url(path)?;
        self.tried(|| self.get_once(&url)).await
    }

    async fn get_once<T: DeserializeOwned>(&self, url: &Url) -> Result<Option<T>, ClientError> {
        let answer = self.asked(self.client.get(url.clone())).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.read(self.judged(answer)?).await.map(Some)
    }

    /// Tells it something that may be told again, and reads the answer.
    pub(super) async fn put<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let (url, body) = (self.url(path)?, self.json(body)?);
        self.tried(|| self.put_once(&url, &body)).await
    }

    async fn put_once<T: DeserializeOwned>(&self, url: &Url, body: &[u8]) -> Result<T, ClientError> {
        self.read(self.tell_once(url, body).await?).await
    }

    /// The same where the answer does not matter.
    pub(super) async fn tell(&self, path: &[&str], body: &impl Serialize) -> Result<(), ClientError> {
        let (url, body) = (self.url(path)?, self.json(body)?);
        self.tried(|| self.tell_once(&url, &body)).await.map(drop)
    }

    async fn tell_once(&self, url: &Url, body: &[u8]) -> Result<Response, ClientError> {
        let request = self.client.request(Method::PUT, url.clone());
        let request = request.header(reqwest::header::CONTENT_TYPE, "application/json").body(body.to_vec());
        self.judged(self.asked(request).await?)
    }

    /// Tries again what may succeed later, no earlier than the service wishes.
    async fn tried<T, Once>(&self, once: impl Fn() -> Once) -> Result<T, ClientError>
    where
        Once: Future<Output = Result<T, ClientError>>,
    {
        let mut delays = Delays::new(&TRIES);
        let begun = self.clock.elapsed();
        let mut before = None;
        loop {
            if let Err(resting) = self.admitted() {
                // Why it is left alone tells more than that it is.
                return Err(before.unwrap_or(resting));
            }
            let error = match once().await {
                Ok(value) => {
                    self.breaker(|breaker, _| breaker.answered());
                    return Ok(value);
                }
                Err(error) => error,
            };
            self.breaker(|breaker, now| match error.after() {
                Some(wish) => breaker.asked_for_patience(now, wish),
                None if error.is_trouble() => breaker.failed(now),
                None => breaker.answered(),
            });
            let pause = delays.next().map(|pause| pause.max(error.after().unwrap_or_default()));
            let left = TRIES.total.unwrap_or(Duration::MAX).saturating_sub(self.clock.elapsed() - begun);
            match pause {
                Some(pause) if error.retryable() && pause < left => {
                    tracing::debug!(service = self.name, %error, ?pause, "trying again");
                    tokio::time::sleep(pause).await;
                    before = Some(error);
                }
                _ => return Err(error),
            }
        }
    }

    fn admitted(&self) -> Result<(), ClientError> {
        let admitted = self.breaker(|breaker, now| breaker.admit(now));
        admitted.map_err(|rest| ClientError::Resting { service: self.name, rest })
    }

    fn breaker<T>(&self, change: impl FnOnce(&mut Breaker, u64) -> T) -> T {
        let now = self.clock.millis();
        change(&mut self.breaker.lock().unwrap_or_else(PoisonError::into_inner), now)
    }

    async fn asked(&self, request: reqwest::RequestBuilder) -> Result<Response, ClientError> {
        let request = request.header(ACCEPT, "application/json").header(AUTHORIZATION, self.key.now().await);
        request.send().await.map_err(|error| self.silent(error))
    }

    fn judged(&self, answer: Response) -> Result<Response, ClientError> {
        let status = answer.status();
        let after = after(answer.headers());
        match status {
            _ if status.is_success() => Ok(answer),
            StatusCode::TOO_MANY_REQUESTS => {
                Err(ClientError::Busy { service: self.name, status: status.as_u16(), after })
            }
            StatusCode::SERVICE_UNAVAILABLE if after.is_some() => {
                Err(ClientError::Busy { service: self.name, status: status.as_u16(), after })
            }
            _ if status.is_server_error() => {
                Err(ClientError::Broken { service: self.name, status: status.as_u16() })
            }
            _ => Err(ClientError::Refused { service: self.name, status: status.as_u16() }),
        }
    }

    /// Reads no more than an answer may have: nobody may fill this process's memory.
    async fn read<T: DeserializeOwned>(&self, mut answer: Response) -> Result<T, ClientError> {
        let garbage = |why: String| ClientError::Garbage { service: self.name, why };
        let mut whole = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|error| self.silent(error))? {
            if whole.len() + part.len() > MAX_ANSWER {
                return Err(garbage(format!("it has more than {MAX_ANSWER} bytes")));
            }
            whole.extend_from_slice(&part);
        }
        // Its own words would quote what came.
        serde_json::from_slice(&whole).map_err(|error| {
            garbage(format!("line {}, column {} is not as it should be", error.line(), error.column()))
        })
    }

    /// The address of a route; each part is one name, whatever characters it holds.
    fn url(&self, path: &[&str]) -> Result<Url, ClientError> {
        let mut url = self.base.clone();
        // These would be left out, and another thing asked for than was meant.
        if let Some(part) = path.iter().find(|part| matches!(**part, "" | "." | "..")) {
            return Err(self.unaskable(&format!("{part:?} cannot be a part of an address")));
        }
        match url.path_segments_mut() {
            Ok(mut segments) => drop(segments.pop_if_empty().extend(path)),
            Err(()) => return Err(self.unaskable("its address has no path")),
        }
        Ok(url)
    }

    fn json(&self, body: &impl Serialize) -> Result<Vec<u8>, ClientError> {
        serde_json::to_vec(body).map_err(|error| self.unaskable(&error.to_string()))
    }

    fn unaskable(&self, why: &str) -> ClientError {
        ClientError::Unaskable { service: self.name, why: why.to_owned() }
    }

    fn silent(&self, error: reqwest::Error) -> ClientError {
        let why =
            if error.is_timeout() { "no answer in time".to_owned() } else { causes(&error.without_url()) };
        ClientError::Silent { service: self.name, why }
    }
}

/// When to come again, in seconds or as a date.
fn after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = chrono::DateTime::parse_from_rfc2822(text).ok()?;
    Some(at.signed_duration_since(clock::now()).to_std().unwrap_or_default())
}

/// The innermost words tell most: `Connection refused`.
fn causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words = format!("{words}: {inner}");
        cause = inner.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::super::Key;
    use super::*;

    fn told(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, text.parse().expect("a header"));
        after(&headers)
    }

    #[test]
    fn a_time_to_come_again_is_seconds_or_a_date() {
        assert_eq!(told("3"), Some(Duration::from_secs(3)));
        assert_eq!(told("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO), "long ago");
        assert!(told("Wed, 21 Oct 2099 07:28:00 GMT").is_some_and(|wait| wait > Duration::from_secs(3600)));
        assert_eq!(told("soon"), None);
        assert_eq!(told("-1"), None);
    }

    #[test]
    fn a_name_is_one_part_of_an_address_whatever_it_holds() {
        shardlift_runtime::tls::install_provider();
        let config = ServiceConfig {
            url: "http://127.0.0.1:1/base".to_owned(),
            key: Key::of("k"),
            timeout: Duration::from_secs(1),
        };
        let service = Service::new("mcp", &config).expect("a client");
        let url = service.url(&["api", "tenants", "a/../b?c#d e%2f", "config"]).expect("an address");
        assert_eq!(url.as_str(), "http://127.0.0.1:1/base/api/tenants/a%2F..%2Fb%3Fc%23d%20e%252f/config");
        for wrong in ["", ".", ".."] {
            assert!(matches!(service.url(&["api", wrong]), Err(ClientError::Unaskable { .. })), "{wrong:?}");
        }
        let told = format!("{service:?}");
        assert!(!told.contains("Bearer") && told.contains("127.0.0.1"), "{told}");
        let broken = ServiceConfig { key: Key::of("sec\nret"), ..config };
        let refused = Service::new("mcp", &broken).expect_err("no header").to_string();
        assert!(!refused.contains("sec"), "{refused}");
    }
}
