//! Sends the same failed call N times from each thread, closes, and prints the counts as JSON:
//! `cargo run --release --example acceptance -- --threads 8 --calls 1000 [--buffered]`.
//!
//! The environment variables give the destination.

use llmstatsd_client::{Client, ErrorType, Event, Stats};
use std::env;
use std::thread;

const EVENT: Event<'static> = Event {
    model: Some("gpt-4o"),
    operation: Some("chat"),
    duration_seconds: Some(1.84),
    load_duration_seconds: Some(0.5),
    prompt_eval_duration_seconds: Some(0.12),
    total_duration_seconds: Some(1.8),
    time_to_first_token_seconds: Some(0.3),
    time_per_output_token_seconds: Some(0.0375),
    tokens: Some(230),
    prompt_tokens: Some(200),
    completion_tokens: Some(30),
    cached_tokens: Some(128),
    cost_dollars: Some(0.0123),
    error: Some(ErrorType::Timeout),
    rate_limited: true,
    fallback: true,
};

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let buffered = arguments.iter().any(|argument| argument == "--buffered");
    let client = Client::builder().buffered(buffered).build();
    let calls = number_after("--calls", &arguments);

    thread::scope(|scope| {
        for _ in 0..number_after("--threads", &arguments) {
            scope.spawn(|| (0..calls).for_each(|_| client.send(&EVENT)));
        }
    });
    client.close();
    println!("{}", json(&client.stats()));
}

/// 1 when it is missing.
fn number_after(flag: &str, arguments: &[String]) -> u32 {
    let at = arguments.iter().position(|argument| argument == flag);
    let value = at.and_then(|at| arguments.get(at + 1));
    value.and_then(|value| value.parse().ok()).unwrap_or(1)
}

fn json(stats: &Stats) -> String {
    let counts = [
        ("events", stats.events),
        ("refused_fields", stats.refused_fields),
        ("closed_events", stats.closed_events),
        ("sent_datagrams", stats.sent_datagrams),
        ("sent_bytes", stats.sent_bytes),
        ("dropped_full", stats.dropped_full),
        ("dropped_unresolved", stats.dropped_unresolved),
        ("dropped_unreachable", stats.dropped_unreachable),
        ("dropped_error", stats.dropped_error),
    ];
    let members = counts.map(|(name, count)| format!("\"{name}\": {count}"));
    format!("{{{}}}", members.join(", "))
}
