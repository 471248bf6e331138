//! What the tests share. Every test file is a program of its own and uses a part of it.
#![allow(dead_code)]

pub mod json;

use llmstatsd_client::{Builder, Client};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

/// Longest that anything here may take on a slow, shared core.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A daemon's place: a UDP socket on loopback, on a free port.
pub struct Receiver(UdpSocket);

impl Receiver {
    pub fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(socket)
    }

    pub fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// A client that sends here, whatever the environment says.
    pub fn client(&self) -> Builder {
        Client::builder().host("127.0.0.1").port(self.port()).disabled(false)
    }

    /// The next datagram, before the deadline.
    pub fn datagram(&self) -> String {
        let mut bytes = [0; 65536];
        let length = self.0.recv(&mut bytes).expect("a datagram before the deadline");
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }
}

/// Looks again and again until `is_so`, or fails after the deadline.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
