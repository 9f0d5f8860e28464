//! What an operator says about telemetry: the section `[telemetry]` of both programs, and the same by environment.

use serde::Deserialize;

use crate::config::{ConfigProblems, variable};

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogForm {
    /// For people.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// The settings, all valid.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where spans are delivered by OTLP over gRPC; `None`: nowhere.
    pub otlp_endpoint: Option<String>,
    /// The share of traces, and so of migrations, that are delivered: 0 to 1.
    pub sample_ratio: f64,
    /// The form of log lines.
    pub log: LogForm,
}

/// The share is a number between 0 and 1, so it equals itself.
impl Eq for Settings {}

impl Default for Settings {
    fn default() -> Self {
        Self { otlp_endpoint: None, sample_ratio: 1.0, log: LogForm::default() }
    }
}

/// The section `[telemetry]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub struct Written {
    otlp_endpoint: String,
    sample_ratio: f64,
    log: String,
}

impl Default for Written {
    fn default() -> Self {
        Self { otlp_endpoint: String::new(), sample_ratio: 1.0, log: "human".to_owned() }
    }
}

impl Written {
    /// The settings; what is wrong is added to the problems.
    pub fn check(self, problems: &mut ConfigProblems) -> Settings {
        if let Some(wrong) = wrong_endpoint(&self.otlp_endpoint) {
            problems.add("telemetry.otlp_endpoint", wrong);
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            let message = format!("{} is not between 0 and 1", self.sample_ratio);
            problems.add("telemetry.sample_ratio", message);
        }
        let log = match self.log.as_str() {
            "human" => LogForm::Human,
            "json" => LogForm::Json,
            other => {
                problems.add("telemetry.log", format!("{other:?} is neither \"human\" nor \"json\""));
                LogForm::Human
            }
        };
        let otlp_endpoint = (!self.otlp_endpoint.is_empty()).then_some(self.otlp_endpoint);
        Settings { otlp_endpoint, sample_ratio: self.sample_ratio, log }
    }
}

/// The text itself is left out of the answer: a password may be in it.
fn wrong_endpoint(text: &str) -> Option<&'static str> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        None if text.is_empty() => None,
        None => Some("it must begin with http:// or https://, such as http://127.0.0.1:4317"),
        Some(rest) if rest.contains('@') => {
            Some("it must not hold a user name or a password; set OTEL_EXPORTER_OTLP_HEADERS for those")
        }
        Some("") => Some("a host and a port are missing"),
        Some(_) => None,
    }
}

impl Settings {
    /// The settings of a command line, from the same variables that override the files of the programs.
    pub fn from_environment() -> Result<Self, ConfigProblems> {
        let mut problems = ConfigProblems::default();
        let set = |name| variable(&format!("SHARDLIFT__TELEMETRY__{name}"));
        let whole = Written::default();
        let written = Written {
            otlp_endpoint: set("OTLP_ENDPOINT").unwrap_or_default(),
            // What is no number is told as one that does not lie between 0 and 1.
            sample_ratio: set("SAMPLE_RATIO")
                .map_or(whole.sample_ratio, |text| text.parse().unwrap_or(f64::NAN)),
            ..whole
        };
        let settings = written.check(&mut problems);
        problems.into_result(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(written: Written) -> (Settings, String) {
        let mut problems = ConfigProblems::default();
        let settings = written.check(&mut problems);
        (settings, problems.to_string())
    }

    #[test]
    fn nothing_is_delivered_by_default() {
        let (settings, problems) = check(Written::default());
        assert_eq!((settings, problems.contains("telemetry")), (Settings::default(), false));
    }

    #[test]
    fn every_mistake_is_told_and_no_password_is() {
        let (_, told) = check(Written {
            otlp_endpoint: "http://me:hunter2@otel:4317".to_owned(),
            sample_ratio: 1.5,
            log: "xml".to_owned(),
        });
        for part in ["telemetry.otlp_endpoint", "1.5 is not between 0 and 1", "xml"] {
            assert!(told.contains(part), "{part} is not told in {told}");
        }
        assert!(!told.contains("hunter2"), "{told}");
        for wrong in ["127.0.0.1:4317", "http://", "grpc://otel:4317"] {
            let (_, told) = check(Written { otlp_endpoint: wrong.to_owned(), ..Written::default() });
            assert!(told.contains("telemetry.otlp_endpoint"), "{wrong} was taken");
        }
    }
}
