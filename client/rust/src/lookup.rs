//! The addresses of host names, asked for in a thread of its own.

use crate::destination::preferred;
use crate::sync::lock;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// How to look names up, and how often.
#[derive(Clone)]
pub(crate) struct Lookup {
    pub(crate) ask: fn(&str, u16) -> io::Result<Vec<SocketAddr>>,
    /// From one look-up to the next.
    pub(crate) every: Duration,
    /// From one look-up to the next after an error.
    pub(crate) after_error: Duration,
}

impl Default for Lookup {
    fn default() -> Self {
        Self {
            ask: |host, port| Ok((host, port).to_socket_addrs()?.collect()),
            every: Duration::from_secs(60),
            after_error: Duration::from_secs(1),
        }
    }
}

// Before Rust 1.70, a function pointer with a lifetime in it cannot be derived for.
impl fmt::Debug for Lookup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Lookup");
        shown.field("every", &self.every).field("after_error", &self.after_error);
        shown.finish_non_exhaustive()
    }
}

impl Lookup {
    pub(crate) fn address(&self, host: &str, port: u16) -> Option<SocketAddr> {
        (self.ask)(host, port).ok().and_then(preferred)
    }
}

/// What the thread that looks up and those that send tell each other.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    said: Mutex<Said>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    /// The first look-up goes on, or what waited for it is being sent.
    is_asking_first: bool,
    failed: bool,
    stop: bool,
}

impl Bell {
    /// A datagram could not be sent: look up again soon.
    pub(crate) fn failed(&self) {
        self.say(|said| !std::mem::replace(&mut said.failed, true));
    }

    /// The first look-up begins.
    pub(crate) fn asked(&self) {
        self.say(|said| !std::mem::replace(&mut said.is_asking_first, true));
    }

    /// A look-up is over, and what waited for it is sent.
    pub(crate) fn answered(&self) {
        self.say(|said| std::mem::replace(&mut said.is_asking_first, false));
    }

    pub(crate) fn stop(&self) {
        self.say(|said| !std::mem::replace(&mut said.stop, true));
    }

    /// Waits for the end of a first look-up that goes on, but not longer than this.
    pub(crate) fn wait_for_the_answer(&self, at_most: Duration) {
        let said = lock(&self.said);
        drop(self.changed.wait_timeout_while(said, at_most, |said| said.is_asking_first));
    }

    /// Waits until the next look-up is due; false when there is to be none.
    pub(crate) fn wait_for_the_next(&self, lookup: &Lookup) -> bool {
        let since = Instant::now();
        let mut said = lock(&self.said);
        loop {
            let pause = if said.failed { lookup.after_error } else { lookup.every };
            let rest = pause.saturating_sub(since.elapsed());
            if said.stop || rest.is_zero() {
                said.failed = false;
                return !said.stop;
            }
            let woken = self.changed.wait_timeout(said, rest);
            said = woken.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }

    /// Wakes whoever waits when `what` is said that was not before.
    fn say(&self, what: impl FnOnce(&mut Said) -> bool) {
        if what(&mut lock(&self.said)) {
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests;
