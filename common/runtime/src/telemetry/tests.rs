//! Telemetry of a process; the delivery over a real endpoint is played by the scenarios.

use std::time::Instant;

use super::*;

#[tokio::test]
async fn spans_have_a_place_in_their_trace_and_a_second_start_does_no_harm() {
    let settings = Settings::default();
    let first = start("test", "test-1", &settings);
    let second = start("test", "test-1", &settings);
    let span = tracing::info_span!("work");
    let text = context::of(&span).expect("a place");
    assert!(text.ends_with("-00"), "without an endpoint nothing is sampled: {text}");

    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let child = context::below(tracing::info_span!("work"), Some(parent));
    let text = context::of(&child).expect("a place");
    assert!(text.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && text.ends_with("-01"), "{text}");
    let astray = context::below(tracing::info_span!("work"), Some("nonsense"));
    assert!(context::of(&astray).is_some_and(|own| own[..35] != text[..35]), "a trace of its own");
    first.end().await;
    second.end().await;
}

#[tokio::test]
async fn a_dead_endpoint_holds_up_nothing_and_the_end_is_bounded() {
    // Bound but never accepted: a connection is made by the system, and nobody answers on it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let endpoint = format!("http://{}", silent.local_addr().expect("bound"));
    let settings = Settings { otlp_endpoint: Some(endpoint), ..Settings::default() };
    let provider = provider("test", "test-1", &settings);
    let subscriber = tracing_subscriber::registry().with(spans("test", &provider));
    let begun = Instant::now();
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..20_000 {
            drop(tracing::info_span!("work"));
        }
    });
    let telemetry = Telemetry { provider };
    let made = begun.elapsed();
    telemetry.end().await;
    let all = begun.elapsed();
    assert!(all - made < FLUSH_WITHIN * 2, "the end took {:?}", all - made);
}

#[tokio::test]
async fn a_trace_is_delivered_whole_or_not_at_all() {
    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    for (sample_ratio, own) in [(0.0, "-00"), (1.0, "-01")] {
        let endpoint = Some("http://127.0.0.1:1".to_owned());
        let provider = provider(
            "test",
            "test-1",
            &Settings { otlp_endpoint: endpoint, sample_ratio, ..Settings::default() },
        );
        let subscriber = tracing_subscriber::registry().with(spans("test", &provider));
        tracing::subscriber::with_default(subscriber, || {
            let begins = context::of(&tracing::info_span!("work")).expect("a place");
            assert!(begins.ends_with(own), "{sample_ratio}: {begins}");
            for (parent, kept) in [(SAMPLED, "-01"), (UNSAMPLED, "-00")] {
                let below = context::below(tracing::info_span!("work"), Some(parent));
                let text = context::of(&below).expect("a place");
                assert!(text.ends_with(kept), "where it began it was decided: {sample_ratio}: {text}");
            }
        });
        Telemetry { provider }.end().await;
    }
}
