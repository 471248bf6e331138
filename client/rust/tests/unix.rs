//! A client and a real unix datagram socket.
#![cfg(unix)]

mod support;

use llmstatsd_client::{Client, Event};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use support::{wait_for, DEADLINE};

const EVENT: Event<'static> = Event {
    model: Some("m"),
    operation: None,
    duration_seconds: None,
    load_duration_seconds: None,
    prompt_eval_duration_seconds: None,
    total_duration_seconds: None,
    time_to_first_token_seconds: None,
    time_per_output_token_seconds: None,
    tokens: None,
    prompt_tokens: None,
    completion_tokens: None,
    cached_tokens: None,
    cost_dollars: None,
    error: None,
    rate_limited: false,
    fallback: false,
};

/// A path for a socket, removed at the end.
struct Place(PathBuf);

impl Place {
    /// `name` is the test's own.
    fn new(name: &str) -> Self {
        let place = std::env::temp_dir().join(format!("llmstatsd-{}-{name}", std::process::id()));
        let _ = fs::remove_file(&place);
        Self(place)
    }

    fn bind(&self) -> UnixDatagram {
        let _ = fs::remove_file(&self.0);
        let socket = UnixDatagram::bind(&self.0).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    }

    fn client(&self) -> Client {
        Client::builder().socket(&self.0).disabled(false).build()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn receive(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 9000];
    let length = socket.recv(&mut bytes).expect("a datagram before the deadline");
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

#[test]
fn an_event_is_one_datagram_of_8192_bytes_at_most() {
    let place = Place::new("long");
    let socket = place.bind();
    let client = place.client();
    let label = "\u{1F600}".repeat(128);
    let mut event = Event { model: Some(&label), operation: Some(&label), ..EVENT };
    event.duration_seconds = Some(1.0);
    client.send(&event);
    assert!(receive(&socket).len() > 1432);
    assert_eq!(client.stats().sent_datagrams, 1);
}

#[test]
fn a_full_socket_drops_and_counts() {
    let place = Place::new("full");
    let socket = place.bind();
    let client = place.client();
    (0..5000).for_each(|_| client.send(&EVENT));
    let stats = client.stats();
    assert!(stats.dropped_full > 0);
    assert_eq!(stats.sent_datagrams + stats.dropped_full, 5000);

    (0..stats.sent_datagrams).for_each(|_| drop(receive(&socket)));
    client.send(&EVENT);
    assert_eq!(receive(&socket), "llm_request_total:1|c|#model:m");
}

#[test]
fn without_a_daemon_datagrams_are_unreachable_until_there_is_one() {
    let place = Place::new("absent");
    let client = place.client();
    (0..3).for_each(|_| client.send(&EVENT));
    assert_eq!(client.stats().dropped_unreachable, 3);
    let socket = place.bind();
    wait_for("a datagram sent", || {
        client.send(&EVENT);
        client.stats().sent_datagrams > 0
    });
    assert_eq!(receive(&socket), "llm_request_total:1|c|#model:m");
}

#[test]
fn a_daemon_that_restarts_is_found_by_the_next_datagram() {
    let place = Place::new("restart");
    let old = place.bind();
    let client = place.client();
    client.send(&EVENT);
    drop(old);
    let new = place.bind();
    client.send(&EVENT);
    assert_eq!(client.stats().dropped_unreachable, 1);
    client.send(&EVENT);
    assert_eq!(client.stats().sent_datagrams, 2);
    assert_eq!(receive(&new), "llm_request_total:1|c|#model:m");
}

#[test]
fn what_is_no_datagram_socket_is_an_error() {
    let place = Place::new("file");
    let _listener = std::os::unix::net::UnixListener::bind(&place.0).unwrap();
    let client = place.client();
    (0..2).for_each(|_| client.send(&EVENT));
    assert_eq!(client.stats().dropped_error, 2);
}

#[test]
fn what_threads_send_arrives_or_is_counted() {
    let place = Place::new("threads");
    let socket = place.bind();
    let client = place.client();
    let (done, received) = (AtomicBool::new(false), std::sync::Mutex::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            *received.lock().unwrap() = count_until(&socket, &done);
        });
        let senders: Vec<_> =
            (0..8).map(|_| scope.spawn(|| (0..1000).for_each(|_| client.send(&EVENT)))).collect();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        done.store(true, Ordering::SeqCst);
    });
    let stats = client.stats();
    assert_eq!(stats.events, 8000);
    assert_eq!(stats.sent_datagrams + stats.dropped_full, 8000);
    assert_eq!(*received.lock().unwrap(), stats.sent_datagrams);
}

/// Datagrams received until the senders are done and nothing is left.
fn count_until(socket: &UnixDatagram, done: &AtomicBool) -> u64 {
    let mut count = 0;
    loop {
        let were_done = done.load(Ordering::SeqCst);
        match socket.recv(&mut [0; 100]) {
            Ok(_) => count += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock && were_done => return count,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}
