//! A client and a made-up name service.

use super::*;
use crate::{Builder, Client, Event};
use std::collections::HashMap;
use std::net::UdpSocket;
use std::sync::MutexGuard;
use std::thread;

const DEADLINE: Duration = Duration::from_secs(20);

/// What names mean in these tests; every test has a name of its own. `None` is not yet known.
static ZONE: Mutex<Option<HashMap<String, Option<SocketAddr>>>> = Mutex::new(None);

/// How often a name was asked for.
static ASKED: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn zone() -> MutexGuard<'static, Option<HashMap<String, Option<SocketAddr>>>> {
    lock(&ZONE)
}

/// `None`: the answer takes its time. A name that was never set does not resolve.
fn set(name: &str, address: Option<SocketAddr>) {
    zone().get_or_insert_with(HashMap::new).insert(name.to_owned(), address);
}

fn asked(name: &str) -> usize {
    lock(&ASKED).iter().filter(|asked| *asked == name).count()
}

fn ask(name: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
    lock(&ASKED).push(name.to_owned());
    loop {
        match zone().as_ref().and_then(|zone| zone.get(name)) {
            Some(Some(address)) => return Ok(vec![*address]),
            Some(None) => {}
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn lookup(every: Duration, after_error: Duration) -> Lookup {
    Lookup { ask, every, after_error }
}

fn with(builder: Builder, lookup: Lookup) -> Client {
    let mut builder = builder.disabled(false);
    builder.lookup = lookup;
    builder.build()
}

fn client(name: &str, lookup: Lookup) -> Client {
    with(Client::builder().host(name), lookup)
}

fn never() -> Lookup {
    lookup(Duration::MAX, Duration::MAX)
}

fn receiver() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    receiver().1
}

fn receive(socket: &UdpSocket) {
    socket.recv(&mut [0; 100]).expect("a datagram before the deadline");
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sends until the socket has received.
fn send_until_received(client: &Client, socket: &UdpSocket) {
    socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    wait_for("a datagram", || {
        client.send(&Event::default());
        socket.recv(&mut [0; 100]).is_ok()
    });
}

#[test]
fn events_wait_for_the_first_look_up_and_nobody_else_does() {
    set("slow.test", None);
    let client = client("slow.test", never());
    (0..1100).for_each(|_| client.send(&Event::default()));
    assert_eq!(client.stats().sent_datagrams, 0);
    assert_eq!(client.stats().dropped_unresolved, 1100 - 1024);

    let (socket, address) = receiver();
    set("slow.test", Some(address));
    receive(&socket);
    wait_for("all that waited", || client.stats().sent_datagrams == 1024);
    client.send(&Event::default());
    assert_eq!(client.stats().sent_datagrams, 1025);
}

#[test]
fn close_waits_for_the_first_look_up() {
    let (socket, address) = receiver();
    set("close.test", Some(address));
    let client = client("close.test", never());
    client.send(&Event::default());
    client.close();
    assert_eq!(client.stats().sent_datagrams, 1);
    receive(&socket);
}

#[test]
fn close_gives_a_look_up_up_that_takes_too_long() {
    set("endless.test", None);
    let client = client("endless.test", never());
    client.send(&Event::default());
    client.close();
    assert_eq!(client.stats().dropped_unresolved, 1);
    // Lets the thread end; it finds a closed client.
    set("endless.test", Some(nobody()));
}

#[test]
fn a_name_that_does_not_resolve_drops_and_is_asked_for_again() {
    let client = client("absent.test", lookup(Duration::MAX, Duration::ZERO));
    client.send(&Event::default());
    wait_for("an answer", || client.stats().dropped_unresolved == 1);
    client.send(&Event::default());
    assert_eq!(client.stats().dropped_unresolved, 2);

    let (socket, address) = receiver();
    set("absent.test", Some(address));
    send_until_received(&client, &socket);
}

#[test]
fn a_name_that_does_not_resolve_is_counted_in_full() {
    let client = client("never.test", never());
    (0..10).for_each(|_| client.send(&Event::default()));
    client.close();
    assert_eq!(client.stats().dropped_unresolved, 10);
}

#[test]
fn a_name_that_moves_is_followed_in_time() {
    let ((old, first), (new, second)) = (receiver(), receiver());
    set("moving.test", Some(first));
    let client = client("moving.test", lookup(Duration::from_millis(1), Duration::MAX));
    send_until_received(&client, &old);
    set("moving.test", Some(second));
    send_until_received(&client, &new);
}

#[test]
fn a_name_that_moves_is_followed_after_an_error() {
    set("moved.test", Some(nobody()));
    let client = client("moved.test", lookup(Duration::MAX, Duration::ZERO));
    client.send(&Event::default());
    wait_for("the first datagram", || client.stats().sent_datagrams > 0);
    let (socket, address) = receiver();
    set("moved.test", Some(address));
    send_until_received(&client, &socket);
}

#[test]
fn an_address_stays_in_use_while_the_name_is_lost() {
    let (socket, address) = receiver();
    set("lost.test", Some(address));
    let client = client("lost.test", lookup(Duration::from_millis(1), Duration::MAX));
    send_until_received(&client, &socket);
    zone().as_mut().map(|zone| zone.remove("lost.test"));
    let before = asked("lost.test");
    wait_for("two look-ups", || asked("lost.test") > before + 2);
    send_until_received(&client, &socket);
    assert_eq!(client.stats().dropped_unresolved, 0);
}

#[test]
fn an_address_is_never_looked_up() {
    let (socket, address) = receiver();
    let builder = Client::builder().host("127.0.0.1").port(address.port());
    let client = with(builder, never());
    client.send(&Event::default());
    receive(&socket);
    assert_eq!(asked("127.0.0.1"), 0);
}

#[test]
fn the_system_knows_the_name_of_this_machine() {
    let address = Lookup::default().address("localhost", 8125).unwrap();
    assert!(address.ip().is_loopback());
    assert_eq!(address.port(), 8125);
}

#[test]
fn names_are_asked_for_again_every_minute_and_at_most_every_second_after_errors() {
    let lookup = Lookup::default();
    assert_eq!(lookup.every, Duration::from_secs(60));
    assert_eq!(lookup.after_error, Duration::from_secs(1));
}

#[test]
fn an_error_asks_once() {
    let bell = Bell::default();
    bell.failed();
    assert!(bell.wait_for_the_next(&lookup(Duration::MAX, Duration::ZERO)));
    assert!(!lock(&bell.said).failed);
}

#[test]
fn nothing_is_asked_after_the_stop() {
    let bell = Bell::default();
    bell.failed();
    bell.stop();
    assert!(!bell.wait_for_the_next(&lookup(Duration::MAX, Duration::ZERO)));
}
