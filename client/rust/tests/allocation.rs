//! Once warm, an event allocates nothing on the thread that sends it.

mod support;

use llmstatsd_client::{Client, ErrorType, Event};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use support::Receiver;

struct Counting;

thread_local!(static ALLOCATIONS: Cell<usize> = const { Cell::new(0) });

// The only unsafe code here: it hands everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends may allocate when its counter is gone.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        System.alloc(layout)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        System.dealloc(pointer, layout);
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn event() -> Event<'static> {
    Event {
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
    }
}

/// What 1000 runs allocate after 100 that do not count.
fn allocations(mut work: impl FnMut()) -> usize {
    (0..100).for_each(|_| work());
    let before = ALLOCATIONS.with(Cell::get);
    (0..1000).for_each(|_| work());
    ALLOCATIONS.with(Cell::get) - before
}

fn client(receiver: &Receiver, buffered: bool) -> Client {
    receiver.client().buffered(buffered).build()
}

#[test]
fn the_counter_sees_an_allocation() {
    assert_eq!(allocations(|| drop(String::from("an allocation"))), 1000);
}

#[test]
fn sending_allocates_nothing() {
    let receiver = Receiver::new();
    let client = client(&receiver, false);
    assert_eq!(allocations(|| client.send(&event())), 0);
    assert_eq!(client.stats().sent_datagrams, 1100);
}

#[test]
fn buffered_sending_allocates_nothing() {
    let receiver = Receiver::new();
    let client = client(&receiver, true);
    assert_eq!(allocations(|| client.send(&event())), 0);
    assert!(client.stats().sent_datagrams >= 1099);
}

#[test]
fn flushing_allocates_nothing() {
    let receiver = Receiver::new();
    let client = client(&receiver, true);
    let small = Event { model: Some("gpt-4o"), ..Event::default() };
    let work = || {
        client.send(&event());
        client.send(&small);
        client.flush();
    };
    assert_eq!(allocations(work), 0);
    assert!(client.stats().sent_datagrams >= 1100);
}

#[test]
fn a_timed_call_allocates_nothing() {
    let receiver = Receiver::new();
    let client = client(&receiver, false);
    let work = || {
        let mut call = client.start("gpt-4o", "chat");
        call.first_token();
        call.event().tokens = Some(230);
    };
    assert_eq!(allocations(work), 0);
}
