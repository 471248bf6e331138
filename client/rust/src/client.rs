//! The client: hands events to the encoder and their lines to the socket.

use crate::buffer::Buffer;
use crate::builder::{Builder, Settings};
use crate::call::Call;
use crate::encode::{datagrams, encode};
use crate::event::Event;
use crate::link::Link;
use crate::stats::{Counters, Stats};
use crate::sync::{read, write};
use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::{Arc, RwLock};

thread_local! {
    /// Room for the lines of one event, kept so that events do not allocate.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Sends LLM calls to llmstatsd, or to any StatsD server.
///
/// A clone is the same client, shared: cheap, and good for any number of threads and tasks.
/// When the last clone is dropped the client is closed.
/// A client in a `static` is never dropped, so a buffered one needs [`Client::close`] at the end
/// of `main`, or it loses the last 300 ms.
///
/// After a `fork` the child has none of the client's threads: make a new client there.
///
/// ```
/// use llmstatsd_client::{Client, Event};
///
/// let client = Client::builder().disabled(true).build();
/// client.send(&Event {
///     model: Some("gpt-4o"),
///     operation: Some("chat"),
///     duration_seconds: Some(1.84),
///     ..Event::default()
/// });
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What clones share. Threads own a part of [`Sender`], never this, so that its end is the end of
/// the last clone.
#[derive(Debug)]
struct Shared {
    counters: Arc<Counters>,
    /// `None` when disabled.
    sender: Option<Sender>,
    /// Held for reading while an event is on its way, so that `close` comes before or after it.
    is_closed: RwLock<bool>,
}

#[derive(Debug)]
struct Sender {
    link: Arc<Link>,
    buffer: Option<Arc<Buffer>>,
    max_datagram_bytes: usize,
}

impl Client {
    /// A client with the settings of the environment variables.
    ///
    /// ```no_run
    /// let client = llmstatsd_client::Client::from_env();
    /// ```
    #[must_use]
    pub fn from_env() -> Self {
        Self::builder().build()
    }

    /// Settings in code, which beat the environment variables.
    ///
    /// ```
    /// let client = llmstatsd_client::Client::builder().port(9125).build();
    /// # let _ = client;
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(settings: Settings) -> Self {
        let counters = Arc::new(Counters::default());
        let is_disabled = settings.disabled;
        let sender = || Sender::new(settings, Arc::clone(&counters));
        let sender = (!is_disabled).then(sender);
        Self { shared: Arc::new(Shared { counters, sender, is_closed: RwLock::new(false) }) }
    }

    /// Counts a call that is over. Never blocks, never fails.
    ///
    /// ```
    /// use llmstatsd_client::{Client, ErrorType, Event};
    ///
    /// let client = Client::builder().disabled(true).build();
    /// client.send(&Event { error: Some(ErrorType::Connection), ..Event::default() });
    /// ```
    pub fn send(&self, event: &Event<'_>) {
        let Shared { counters, sender, is_closed } = &*self.shared;
        counters.events.add(1);
        let is_closed = read(is_closed);
        if *is_closed {
            counters.closed_events.add(1);
        } else if let Some(sender) = sender {
            with_room(|lines| {
                let mut refused = 0;
                encode(event, lines, |_| refused += 1);
                counters.refused_fields.add(refused);
                sender.transmit(lines);
            });
        }
    }

    /// Times a call from now until the [`Call`] is dropped, which counts it.
    ///
    /// ```
    /// # let client = llmstatsd_client::Client::builder().disabled(true).build();
    /// let mut call = client.start("gpt-4o", "chat");
    /// call.event().tokens = Some(230);
    /// drop(call);
    /// assert_eq!(client.stats().events, 1);
    /// ```
    pub fn start<'a>(
        &self,
        model: impl Into<Cow<'a, str>>,
        operation: impl Into<Cow<'a, str>>,
    ) -> Call<'a> {
        Call::new(self.clone(), model.into(), operation.into())
    }

    /// What became of the events so far.
    ///
    /// ```
    /// let client = llmstatsd_client::Client::builder().disabled(true).build();
    /// assert_eq!(client.stats().dropped_full, 0);
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.counters.stats()
    }

    /// Sends what a buffered client holds back.
    ///
    /// ```
    /// let client = llmstatsd_client::Client::builder().disabled(true).buffered(true).build();
    /// client.flush();
    /// ```
    pub fn flush(&self) {
        let is_closed = read(&self.shared.is_closed);
        if let (false, Some(sender)) = (*is_closed, &self.shared.sender) {
            sender.flush();
        }
    }

    /// Flushes and closes; later events are counted as `closed_events` and not sent.
    ///
    /// Waits, for a second at most, only while the first look-up of a host name has not ended.
    ///
    /// ```
    /// # use llmstatsd_client::{Client, Event};
    /// let client = Client::builder().disabled(true).build();
    /// client.close();
    /// client.send(&Event::default());
    /// assert_eq!(client.stats().closed_events, 1);
    /// ```
    pub fn close(&self) {
        self.shared.close();
    }
}

impl Shared {
    fn close(&self) {
        let was_closed = std::mem::replace(&mut *write(&self.is_closed), true);
        if let (false, Some(sender)) = (was_closed, &self.sender) {
            sender.close();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

impl Sender {
    fn new(settings: Settings, counters: Arc<Counters>) -> Self {
        let Settings { max_datagram_bytes, max_wait, .. } = settings;
        let link = Link::new(settings.destination, settings.lookup, counters);
        let link = Arc::new(link);
        let buffer = || Arc::new(Buffer::new(Arc::clone(&link), max_datagram_bytes, max_wait));
        Self { buffer: settings.buffered.then(buffer), link, max_datagram_bytes }
    }

    fn transmit(&self, lines: &mut Vec<u8>) {
        if let Some(buffer) = &self.buffer {
            buffer.add(lines);
        } else {
            for datagram in datagrams(lines, self.max_datagram_bytes) {
                self.link.transmit(datagram);
            }
        }
    }

    fn flush(&self) {
        if let Some(buffer) = &self.buffer {
            with_room(|room| buffer.flush(room));
        }
    }

    fn close(&self) {
        if let Some(buffer) = &self.buffer {
            buffer.close();
        }
        self.link.close();
    }
}

/// Runs `work` with this thread's room, or with new one while the thread is ending.
fn with_room(work: impl Fn(&mut Vec<u8>)) {
    let reused = ROOM.try_with(|room| match room.try_borrow_mut() {
        Ok(mut room) => work(&mut room),
        Err(_) => work(&mut Vec::new()),
    });
    if reused.is_err() {
        work(&mut Vec::new());
    }
}
