//! Lines of several events that wait to share a datagram.

use crate::encode::datagrams;
use crate::link::Link;
use crate::sync::lock;
use std::mem::swap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Room for what is usually sent at once: the longest datagram on a unix socket.
const USUAL_BYTES: usize = 8192;

#[derive(Debug)]
pub(crate) struct Buffer {
    link: Arc<Link>,
    max_bytes: usize,
    /// From the first line of a datagram until it is sent.
    max_wait: Duration,
    pending: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Pending {
    /// The next datagram.
    lines: Vec<u8>,
    /// When it is sent at the latest; `None` when it is empty.
    due: Option<Instant>,
    flusher: Option<JoinHandle<()>>,
    stop: bool,
}

impl Buffer {
    pub(crate) fn new(link: Arc<Link>, max_bytes: usize, max_wait: Duration) -> Self {
        Self { link, max_bytes, max_wait, pending: Mutex::default(), changed: Condvar::new() }
    }

    /// Adds the lines of an event, and sends those that they have no room beside.
    ///
    /// An event that is over a datagram by itself is sent at once.
    pub(crate) fn add(self: &Arc<Self>, lines: &mut Vec<u8>) {
        if lines.len() <= self.max_bytes {
            self.exchange(lines);
        }
        datagrams(lines, self.max_bytes).for_each(|datagram| self.link.transmit(datagram));
    }

    /// Sends what waits; `room` is used on the way, so that nothing has to be allocated.
    pub(crate) fn flush(&self, room: &mut Vec<u8>) {
        lock(&self.pending).take(room);
        if !room.is_empty() {
            self.link.transmit(room);
        }
    }

    /// Sends what waits and ends the thread that flushes.
    pub(crate) fn close(&self) {
        let flusher = {
            let mut pending = lock(&self.pending);
            pending.stop = true;
            pending.flusher.take()
        };
        self.changed.notify_all();
        // It may be sending at this moment. Its result is nothing, or a panic that it never has.
        let _ = flusher.map(JoinHandle::join);
        self.flush(&mut Vec::new());
    }

    /// Takes lines, and leaves those that are to be sent at once: none, as long as there is room.
    fn exchange(self: &Arc<Self>, lines: &mut Vec<u8>) {
        let mut pending = lock(&self.pending);
        if !self.has_flusher(&mut pending) {
            return;
        }
        let was_empty = pending.lines.is_empty();
        if was_empty || pending.lines.len() + 1 + lines.len() > self.max_bytes {
            swap(&mut pending.lines, lines);
            pending.due = Some(Instant::now() + self.max_wait);
        } else {
            pending.lines.push(b'\n');
            pending.lines.append(lines);
        }
        if was_empty {
            self.changed.notify_all();
        }
    }

    /// Starts the thread at the first use; false when the system has none to give.
    fn has_flusher(self: &Arc<Self>, pending: &mut Pending) -> bool {
        if pending.flusher.is_none() {
            let buffer = Arc::clone(self);
            let thread = thread::Builder::new().name("llmstatsd-flush".to_owned());
            pending.flusher = thread.spawn(move || buffer.flush_in_time()).ok();
        }
        pending.flusher.is_some()
    }

    fn flush_in_time(&self) {
        // It takes the place of what is sent, where a thread that adds to it finds it large enough.
        let mut room = Vec::with_capacity(self.max_bytes.min(USUAL_BYTES));
        let mut pending = lock(&self.pending);
        while !pending.stop {
            let due = pending.due;
            let rest = due.map(|due| due.saturating_duration_since(Instant::now()));
            pending = match rest {
                None => self.wait(pending, Duration::MAX),
                Some(rest) if !rest.is_zero() => self.wait(pending, rest),
                Some(_) => {
                    drop(pending);
                    self.flush(&mut room);
                    lock(&self.pending)
                }
            };
        }
    }

    fn wait<'p>(
        &self,
        pending: MutexGuard<'p, Pending>,
        at_most: Duration,
    ) -> MutexGuard<'p, Pending> {
        let waited = self.changed.wait_timeout(pending, at_most);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Pending {
    fn take(&mut self, room: &mut Vec<u8>) {
        room.clear();
        swap(&mut self.lines, room);
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use crate::{Client, Event};
    use std::net::UdpSocket;
    use std::time::Duration;

    const SHORT: usize = "llm_request_total:1|c|#model:m".len();

    fn receiver() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    /// A client that holds events back for longer than any test takes.
    fn client(receiver: &UdpSocket, max_bytes: usize) -> Client {
        let port = receiver.local_addr().unwrap().port();
        let builder = Client::builder().host("127.0.0.1").port(port).disabled(false);
        let mut builder = builder.buffered(true).max_datagram_bytes(max_bytes);
        builder.max_wait = Some(Duration::from_secs(3600));
        builder.build()
    }

    fn send(client: &Client, model: &str) {
        client.send(&Event { model: Some(model), ..Event::default() });
    }

    /// The next datagram, which on loopback is there as soon as it is sent.
    fn received(receiver: &UdpSocket) -> Option<String> {
        let mut bytes = [0; 1500];
        let length = receiver.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..length].to_vec()).unwrap())
    }

    fn lines(models: &[&str]) -> Option<String> {
        let line = |model| format!("llm_request_total:1|c|#model:{model}");
        Some(models.iter().map(line).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn events_share_a_datagram_until_the_next_has_no_room() {
        let receiver = receiver();
        let client = client(&receiver, SHORT * 2 + 1);
        send(&client, "a");
        send(&client, "b");
        assert_eq!(received(&receiver), None);
        send(&client, "c");
        assert_eq!(received(&receiver), lines(&["a", "b"]));
        assert_eq!(received(&receiver), None);
        client.flush();
        assert_eq!(received(&receiver), lines(&["c"]));
    }

    #[test]
    fn the_line_end_between_events_needs_room_too() {
        let receiver = receiver();
        let client = client(&receiver, SHORT * 2);
        send(&client, "a");
        send(&client, "b");
        assert_eq!(received(&receiver), lines(&["a"]));
    }

    #[test]
    fn the_end_of_the_last_clone_sends_what_waits() {
        let receiver = receiver();
        let client = client(&receiver, 1432);
        let clone = client.clone();
        send(&client, "a");
        drop(client);
        assert_eq!(received(&receiver), None);
        send(&clone, "b");
        drop(clone);
        assert_eq!(received(&receiver), lines(&["a", "b"]));
    }

    #[test]
    fn an_empty_buffer_sends_nothing() {
        let receiver = receiver();
        let client = client(&receiver, 1432);
        client.flush();
        send(&client, "a");
        client.flush();
        client.flush();
        client.close();
        assert_eq!(received(&receiver), lines(&["a"]));
        assert_eq!(client.stats().sent_datagrams, 1);
    }
}
