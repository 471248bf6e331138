//! Measures one call with all fields; `cargo bench` prints microseconds per call, as JSON.
//!
//! Each figure is the median of several rounds. The receiver reads what it gets, on loopback.

// A bench runs on a current toolchain; the package itself needs less.
#![allow(clippy::incompatible_msrv)]

use llmstatsd_client::{encode, Client, ErrorType, Event};
use std::hint::black_box;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: usize = 15;
const CALLS: u32 = 20_000;

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
    let port = receiver();
    let builder = || Client::builder().host("127.0.0.1").port(port);
    let (direct, buffered) = (builder().build(), builder().buffered(true).build());
    let mut lines = Vec::new();

    let encode = microseconds(|| encode(black_box(&EVENT), &mut lines, |_| ()));
    let send = microseconds(|| direct.send(black_box(&EVENT)));
    let send_buffered = microseconds(|| buffered.send(black_box(&EVENT)));
    let call = microseconds(|| {
        let mut call = direct.start("gpt-4o", "chat");
        call.first_token();
        *call.event() = black_box(EVENT);
    });

    println!(
        "{{\"encode_us\":{encode:.3},\"send_us\":{send:.3},\
         \"send_buffered_us\":{send_buffered:.3},\"call_us\":{call:.3}}}"
    );
}

fn microseconds(mut work: impl FnMut()) -> f64 {
    let mut rounds: Vec<Duration> = (0..ROUNDS).map(|_| round(&mut work)).collect();
    rounds.sort();
    rounds[ROUNDS / 2].as_secs_f64() * 1e6 / f64::from(CALLS)
}

fn round(work: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..CALLS {
        work();
    }
    start.elapsed()
}

/// The port of a socket that is read from until the program ends.
fn receiver() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket on loopback");
    let port = socket.local_addr().expect("a bound socket").port();
    thread::spawn(move || while socket.recv(&mut [0; 2048]).is_ok() {});
    port
}
