//! The way of a datagram: opens sockets, follows host names, counts what was sent and dropped.

use crate::destination::Destination;
use crate::lookup::{Bell, Lookup};
use crate::socket::{failure, Failure, Peer, Sent, Socket};
use crate::stats::Counters;
use crate::sync::{read, write};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::{Duration, Instant};

/// Datagrams that wait for the first look-up to end; those over it are dropped as unresolved.
const MAX_WAITING_DATAGRAMS: usize = 1024;

/// From one attempt to connect to a unix socket where nobody listens to the next.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// How long `close` waits for a first look-up that has not ended.
const LAST_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Link {
    counters: Arc<Counters>,
    lookup: Lookup,
    bell: Bell,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    target: Target,
    connection: Connection,
}

#[derive(Debug, PartialEq, Eq)]
enum Target {
    Peer(Peer),
    /// A host name that nothing was sent to so far.
    Name(String, u16),
    /// The first look-up has not ended; these datagrams wait for it.
    Asked(Vec<Vec<u8>>),
    /// No look-up has found an address so far.
    Unresolved,
    /// An invalid setting, or closed.
    Nowhere,
}

/// A socket that is opened when it is needed.
#[derive(Debug, Default)]
struct Connection {
    socket: Option<Socket>,
    not_before: Option<Instant>,
}

impl Link {
    pub(crate) fn new(destination: Destination, lookup: Lookup, counters: Arc<Counters>) -> Self {
        let target = match destination {
            Destination::Address(address) => Target::Peer(Peer::Address(address)),
            Destination::Path(path) => Target::Peer(Peer::Path(path)),
            Destination::Name(host, port) => Target::Name(host, port),
            Destination::Invalid => Target::Nowhere,
        };
        let connection = Connection::default();
        Self {
            counters,
            lookup,
            bell: Bell::default(),
            state: RwLock::new(State { target, connection }),
        }
    }

    /// Sends a datagram, or drops it, or keeps it until its name is looked up.
    pub(crate) fn transmit(self: &Arc<Self>, datagram: &[u8]) {
        let sent = read(&self.state).connection.send(datagram);
        match sent.or_else(|| self.open_and_send(datagram)) {
            Some(Ok(sent)) => self.count_sent(datagram, sent),
            Some(Err(failure)) => self.count_dropped(failure),
            None => {}
        }
    }

    /// Closes the socket and ends look-ups, after a wait for a first one that has not ended.
    pub(crate) fn close(&self) {
        self.bell.wait_for_the_answer(LAST_WAIT);
        self.bell.stop();
        let waiting = self.turn_to(Target::Nowhere);
        self.counters.dropped_unresolved.add(waiting.len());
    }

    fn is_waiting(&self) -> bool {
        matches!(read(&self.state).target, Target::Asked(_))
    }

    /// The way of a datagram that finds no open socket; `None` when it is kept for later.
    fn open_and_send(self: &Arc<Self>, datagram: &[u8]) -> Option<Result<Sent, Failure>> {
        let mut state = write(&self.state);
        let State { target, connection } = &mut *state;
        if let Target::Name(host, port) = target {
            if self.start_to_look_up(host.clone(), *port).is_ok() {
                *target = Target::Asked(Vec::new());
            }
        }
        match target {
            Target::Peer(peer) => Some(connection.open_and_send(peer, datagram)),
            Target::Asked(waiting) if waiting.len() < MAX_WAITING_DATAGRAMS => {
                waiting.push(datagram.to_vec());
                None
            }
            _ => Some(Err(Failure::Unresolved)),
        }
    }

    fn count_sent(&self, datagram: &[u8], sent: Sent) {
        self.counters.sent_datagrams.add(1);
        self.counters.sent_bytes.add(datagram.len());
        if sent == Sent::AfterRefusal {
            self.bell.failed();
        }
    }

    fn count_dropped(&self, failure: Failure) {
        let counter = match failure {
            Failure::Full => &self.counters.dropped_full,
            Failure::Unreachable => &self.counters.dropped_unreachable,
            Failure::Unresolved => &self.counters.dropped_unresolved,
            Failure::Error => &self.counters.dropped_error,
        };
        counter.add(1);
        if failure != Failure::Full {
            write(&self.state).connection.mend(failure);
            self.bell.failed();
        }
    }

    fn start_to_look_up(self: &Arc<Self>, host: String, port: u16) -> io::Result<()> {
        let link = Arc::clone(self);
        let thread = thread::Builder::new().name("llmstatsd-lookup".to_owned());
        self.bell.asked();
        let started = thread.spawn(move || link.look_up(&host, port)).map(drop);
        if started.is_err() {
            self.bell.answered();
        }
        started
    }

    fn look_up(self: &Arc<Self>, host: &str, port: u16) {
        loop {
            self.answer(self.lookup.address(host, port));
            self.bell.answered();
            if !self.bell.wait_for_the_next(&self.lookup) {
                return;
            }
        }
    }

    /// An address stays in use while later look-ups find none.
    fn answer(self: &Arc<Self>, address: Option<SocketAddr>) {
        if let Some(address) = address {
            let waiting = self.turn_to(Target::Peer(Peer::Address(address)));
            waiting.iter().for_each(|datagram| self.transmit(datagram));
        } else if self.is_waiting() {
            let waiting = self.turn_to(Target::Unresolved);
            self.counters.dropped_unresolved.add(waiting.len());
        }
    }

    /// Returns the datagrams that waited for a target.
    fn turn_to(&self, next: Target) -> Vec<Vec<u8>> {
        let mut state = write(&self.state);
        if state.target == next {
            return Vec::new();
        }
        state.connection = Connection::default();
        match std::mem::replace(&mut state.target, next) {
            Target::Asked(waiting) => waiting,
            _ => Vec::new(),
        }
    }
}

impl Connection {
    /// `None` without an open socket.
    fn send(&self, datagram: &[u8]) -> Option<Result<Sent, Failure>> {
        self.socket.as_ref().map(|socket| socket.send(datagram))
    }

    fn open_and_send(&mut self, peer: &Peer, datagram: &[u8]) -> Result<Sent, Failure> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.open(peer)?,
        };
        self.socket.insert(socket).send(datagram)
    }

    fn open(&mut self, peer: &Peer) -> Result<Socket, Failure> {
        if self.not_before.map_or(false, |then| Instant::now() < then) {
            return Err(Failure::Unreachable);
        }
        let opened = Socket::open(peer).map_err(failure);
        if matches!(opened, Err(Failure::Unreachable)) {
            self.not_before = Some(Instant::now() + RECONNECT_PAUSE);
        }
        opened
    }

    /// Closes a socket that is of no more use; the next datagram opens another.
    fn mend(&mut self, failure: Failure) {
        self.socket = self.socket.take().filter(|socket| !socket.is_broken_by(failure));
    }
}
