//! What became of the events, in counts that only grow.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of the events so far; every count only grows.
///
/// ```
/// use llmstatsd_client::{Client, Event};
///
/// let client = Client::builder().disabled(true).build();
/// client.send(&Event::default());
/// assert_eq!(client.stats().events, 1);
/// assert_eq!(client.stats().sent_datagrams, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Events handed to the client, whether disabled, closed or neither.
    pub events: u64,
    /// Fields that were out of range and left out of their event.
    pub refused_fields: u64,
    /// Events that came after the client was closed.
    pub closed_events: u64,
    /// Datagrams that the kernel took.
    pub sent_datagrams: u64,
    /// Bytes in `sent_datagrams`, without headers.
    pub sent_bytes: u64,
    /// Datagrams for which the socket's buffer had no room.
    pub dropped_full: u64,
    /// Datagrams without a destination: a name without an address, or an invalid setting.
    pub dropped_unresolved: u64,
    /// Datagrams to where nobody listened.
    pub dropped_unreachable: u64,
    /// Datagrams that failed for any other reason.
    pub dropped_error: u64,
}

/// [`Stats`] as threads count them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) events: Counter,
    pub(crate) refused_fields: Counter,
    pub(crate) closed_events: Counter,
    pub(crate) sent_datagrams: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) dropped_full: Counter,
    pub(crate) dropped_unresolved: Counter,
    pub(crate) dropped_unreachable: Counter,
    pub(crate) dropped_error: Counter,
}

impl Counters {
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            events: self.events.get(),
            refused_fields: self.refused_fields.get(),
            closed_events: self.closed_events.get(),
            sent_datagrams: self.sent_datagrams.get(),
            sent_bytes: self.sent_bytes.get(),
            dropped_full: self.dropped_full.get(),
            dropped_unresolved: self.dropped_unresolved.get(),
            dropped_unreachable: self.dropped_unreachable.get(),
            dropped_error: self.dropped_error.get(),
        }
    }
}

/// Relaxed: the counts order nothing else.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: usize) {
        self.0.fetch_add(amount as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
