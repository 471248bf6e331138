//! A client and a real socket on loopback.

mod support;

use llmstatsd_client::{Call, Client, ErrorType, Event, Stats};
use std::net::UdpSocket;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::thread;
use support::{wait_for, Receiver};

fn event(model: &str) -> Event<'_> {
    Event { model: Some(model), ..Event::default() }
}

/// The length of `event("m")` on the wire.
const SHORT: u64 = "llm_request_total:1|c|#model:m".len() as u64;

#[test]
fn an_event_is_one_datagram() {
    let receiver = Receiver::new();
    let client = receiver.client().build();
    client.send(&Event { tokens: Some(3), ..event("m") });
    let expected = "llm_request_total:1|c|#model:m\nllm_tokens_total:3|c|#model:m";
    assert_eq!(receiver.datagram(), expected);
    let sent = (client.stats().sent_datagrams, client.stats().sent_bytes);
    assert_eq!(sent, (1, expected.len() as u64));
}

#[test]
fn an_event_over_one_datagram_is_several() {
    let receiver = Receiver::new();
    let client = receiver.client().max_datagram_bytes(30).build();
    client.send(&Event { tokens: Some(3), ..event("m") });
    assert_eq!(receiver.datagram(), "llm_request_total:1|c|#model:m");
    assert_eq!(receiver.datagram(), "llm_tokens_total:3|c|#model:m");
    assert_eq!(client.stats().sent_datagrams, 2);
}

#[test]
fn a_refused_field_is_counted_and_the_rest_is_sent() {
    let receiver = Receiver::new();
    let client = receiver.client().build();
    client.send(&Event {
        duration_seconds: Some(f64::NAN),
        total_duration_seconds: Some(-1.0),
        tokens: Some(i64::MIN),
        cost_dollars: Some(f64::INFINITY),
        prompt_tokens: Some(7),
        ..Event::default()
    });
    let expected = "llm_request_total:1|c\nllm_tokens_total:7|c\nllm_prompt_tokens_total:7|c";
    assert_eq!(receiver.datagram(), expected);
    assert_eq!(client.stats().refused_fields, 4);
}

#[test]
fn a_megabyte_of_text_is_cut() {
    let receiver = Receiver::new();
    let text = "\u{1F600}|".repeat(200_000);
    let client = receiver.client().build();
    client.send(&Event { operation: Some(&text), ..event(&text) });
    let label = "\u{1F600}_".repeat(64);
    let expected = format!("llm_request_total:1|c|#model:{label},operation:{label}");
    assert_eq!(receiver.datagram(), expected);
}

#[test]
fn a_closed_client_counts_events_and_sends_nothing() {
    let receiver = Receiver::new();
    let client = receiver.client().buffered(true).build();
    client.close();
    client.send(&event("m"));
    client.flush();
    client.close();
    let mut expected = Stats::default();
    expected.events = 1;
    expected.closed_events = 1;
    assert_eq!(client.stats(), expected);
}

#[test]
fn a_disabled_client_only_counts_events() {
    let receiver = Receiver::new();
    let client = receiver.client().disabled(true).build();
    client.send(&Event { tokens: Some(-1), ..event("m") });
    client.close();
    let mut expected = Stats::default();
    expected.events = 1;
    assert_eq!(client.stats(), expected);
}

#[test]
fn an_invalid_destination_drops_every_datagram_as_unresolved() {
    let receiver = Receiver::new();
    let invalid =
        [receiver.client().host(""), receiver.client().port(0), receiver.client().socket("/a\0b")];
    for builder in invalid {
        let client = builder.build();
        client.send(&event("m"));
        client.close();
        assert_eq!((client.stats().events, client.stats().dropped_unresolved), (1, 1));
    }
}

#[test]
fn a_daemon_that_is_not_there_disturbs_nobody() {
    let receiver = Receiver::new();
    let client = receiver.client().build();
    drop(receiver);
    (0..100).for_each(|_| client.send(&event("m")));
    let stats = client.stats();
    assert_eq!(stats.sent_datagrams + stats.dropped_unreachable, 100);
    assert_eq!(stats.sent_bytes, stats.sent_datagrams * SHORT);
}

#[test]
fn the_first_datagram_after_the_daemon_came_back_arrives() {
    let gone = Receiver::new();
    let client = gone.client().build();
    let port = gone.port();
    drop(gone);
    client.send(&event("lost"));
    let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(support::DEADLINE)).unwrap();
    client.send(&event("m"));
    let mut bytes = [0; 100];
    let length = socket.recv(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"llm_request_total:1|c|#model:m");
}

#[test]
fn a_datagram_too_long_for_the_network_is_an_error_and_the_next_is_sent() {
    let receiver = Receiver::new();
    let client = receiver.client().buffered(true).max_datagram_bytes(1 << 20).build();
    let model = "m".repeat(128);
    (0..600).for_each(|_| client.send(&event(&model)));
    client.flush();
    assert_eq!(client.stats().dropped_error, 1);
    client.send(&event("m"));
    client.flush();
    assert_eq!(receiver.datagram(), "llm_request_total:1|c|#model:m");
}

#[test]
fn a_buffered_event_over_one_datagram_goes_at_once() {
    let receiver = Receiver::new();
    let client = receiver.client().buffered(true).max_datagram_bytes(10).build();
    client.send(&event("m"));
    assert_eq!(client.stats().sent_datagrams, 1);
    assert_eq!(receiver.datagram(), "llm_request_total:1|c|#model:m");
}

#[test]
fn buffered_events_go_without_a_flush_after_a_while() {
    let receiver = Receiver::new();
    let client = receiver.client().buffered(true).build();
    for model in ["a", "b"] {
        client.send(&event(model));
        assert_eq!(receiver.datagram(), format!("llm_request_total:1|c|#model:{model}"));
    }
    wait_for("two datagrams", || client.stats().sent_datagrams == 2);
}

#[test]
fn close_sends_what_is_buffered() {
    let receiver = Receiver::new();
    let client = receiver.client().buffered(true).build();
    client.send(&event("m"));
    client.close();
    assert_eq!(client.stats().sent_datagrams, 1);
    assert_eq!(receiver.datagram(), "llm_request_total:1|c|#model:m");
}

#[test]
fn events_of_many_threads_are_all_counted_while_the_client_closes() {
    for buffered in [false, true] {
        let receiver = Receiver::new();
        let client = receiver.client().buffered(buffered).max_datagram_bytes(30).build();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1000).for_each(|_| client.send(&event("m"))));
            }
            wait_for("half of the events", || client.stats().events > 4000);
            client.close();
        });
        let Stats { events, closed_events, sent_datagrams, dropped_full, .. } = client.stats();
        assert_eq!(events, 8000);
        assert_eq!(closed_events + sent_datagrams + dropped_full, 8000);
    }
}

#[test]
fn a_call_is_counted_once_with_its_time() {
    let receiver = Receiver::new();
    let client = receiver.client().build();
    let mut call = client.start("m", "chat");
    call.first_token();
    call.event().tokens = Some(3);
    drop(call);
    let datagram = receiver.datagram();
    let lines: Vec<_> = datagram.lines().collect();
    assert_eq!(lines[0], "llm_request_total:1|c|#model:m,operation:chat");
    assert!(lines[1].starts_with("llm_request_duration_seconds:"), "{datagram}");
    assert_eq!(lines[2], "llm_tokens_total:3|c|#model:m");
    assert!(lines[3].starts_with("llm_time_to_first_token_seconds:"), "{datagram}");
    assert_eq!((lines.len(), client.stats().events), (4, 1));
}

#[test]
fn the_first_token_is_timed_and_not_a_later_one() {
    let receiver = Receiver::new();
    let client = receiver.client().build();
    let mut call = client.start("m", "chat");
    call.first_token();
    let first = call.event().time_to_first_token_seconds;
    call.first_token();
    assert!(first.is_some());
    assert_eq!(call.event().time_to_first_token_seconds, first);
}

#[test]
fn what_is_said_of_a_call_stands_in_place_of_what_is_measured() {
    let receiver = Receiver::new();
    let client = receiver.client().build();
    let mut call = client.start("m".to_owned(), "chat".to_owned());
    *call.event() = Event {
        model: Some("n"),
        operation: Some("embeddings"),
        duration_seconds: Some(1.5),
        ..Event::default()
    };
    drop(call);
    let expected = "llm_request_total:1|c|#model:n,operation:embeddings\n\
                    llm_request_duration_seconds:1500|ms|#model:n,operation:embeddings";
    assert_eq!(receiver.datagram(), expected);
}

#[test]
fn a_call_that_failed_says_why() {
    let receiver = Receiver::new();
    let client = receiver.client().build();
    client.start("m", "chat").error(ErrorType::Timeout);
    let datagram = receiver.datagram();
    assert!(datagram.ends_with("\nllm_error_total:1|c|#model:m,type:timeout"), "{datagram}");
}

/// Panics within a call, after `before`, and returns the datagram.
fn panicking_call(before: fn(&mut Call<'_>)) -> String {
    let receiver = Receiver::new();
    let client = receiver.client().build();
    let thread = thread::spawn(move || {
        let mut call = client.start("m", "chat");
        before(&mut call);
        // Unlike `panic!`, this prints nothing.
        std::panic::resume_unwind(Box::new("its value"));
    });
    let thrown = thread.join().expect_err("the panic goes on");
    assert_eq!(thrown.downcast_ref(), Some(&"its value"));
    receiver.datagram()
}

#[test]
fn a_panic_within_a_call_is_another_error() {
    let datagram = panicking_call(|_| ());
    assert!(datagram.ends_with("\nllm_error_total:1|c|#model:m,type:other"), "{datagram}");
}

#[test]
fn a_panic_after_an_error_is_that_error() {
    let datagram = panicking_call(|call| call.error(ErrorType::Quota));
    assert!(datagram.ends_with("\nllm_error_total:1|c|#model:m,type:quota"), "{datagram}");
    let datagram = panicking_call(|call| call.event().rate_limited = true);
    assert!(datagram.contains("\nllm_error_total:1|c|#model:m,type:rate_limit"), "{datagram}");
}

#[test]
fn a_call_made_while_unwinding_is_no_error() {
    struct CallsAtItsEnd(Client);
    impl Drop for CallsAtItsEnd {
        fn drop(&mut self) {
            drop(self.0.start("m", "chat"));
        }
    }
    let receiver = Receiver::new();
    let ends = CallsAtItsEnd(receiver.client().build());
    let thread = thread::spawn(move || {
        let _ends = ends;
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(thread.join().is_err());
    assert!(!receiver.datagram().contains("llm_error_total"));
}

#[test]
fn a_thread_local_that_ends_may_still_send() {
    struct SendsAtItsEnd(Client);
    impl Drop for SendsAtItsEnd {
        fn drop(&mut self) {
            self.0.send(&event("m"));
        }
    }
    thread_local!(static LAST: std::cell::RefCell<Option<SendsAtItsEnd>> = Default::default());
    let receiver = Receiver::new();
    let client = receiver.client().build();
    let thread = thread::spawn(move || {
        LAST.with(|last| *last.borrow_mut() = Some(SendsAtItsEnd(client.clone())));
        // Its own thread-local is made later than `LAST`, and so ends earlier.
        client.send(&event("m"));
    });
    thread.join().unwrap();
    receiver.datagram();
    assert_eq!(receiver.datagram(), "llm_request_total:1|c|#model:m");
}

#[test]
fn a_client_goes_anywhere() {
    fn anywhere<T: Send + Sync + UnwindSafe + RefUnwindSafe + Clone + 'static>() {}
    fn movable<T: Send + Sync>() {}
    anywhere::<Client>();
    movable::<Call<'static>>();
}
