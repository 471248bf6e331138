//! The settings of a client.

use crate::client::Client;
use crate::destination::{text, Arguments, Destination};
use crate::lookup::Lookup;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What fits an Ethernet frame of 1500 bytes less headers and some slack.
const MAX_UDP_BYTES: usize = 1432;
const MAX_UNIX_BYTES: usize = 8192;

/// From the first line of a buffered datagram until it is sent.
const MAX_WAIT: Duration = Duration::from_millis(300);

/// The settings of a [`Client`]: what is set here beats the environment variables, which beat the
/// defaults.
///
/// ```
/// use llmstatsd_client::Client;
///
/// let client = Client::builder().host("127.0.0.1").port(8125).buffered(true).build();
/// # let _ = client;
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is sent before `build`"]
pub struct Builder {
    destination: Arguments,
    disabled: Option<bool>,
    buffered: bool,
    max_datagram_bytes: Option<usize>,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) lookup: Lookup,
}

impl Builder {
    /// The daemon's host, a name or an IP address; 127.0.0.1 when only a port is given.
    ///
    /// ```
    /// let builder = llmstatsd_client::Client::builder().host("llmstatsd.internal");
    /// # let _ = builder;
    /// ```
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.destination.host = Some(host.into());
        self
    }

    /// The daemon's UDP port, 1 to 65535; 8125 when only a host is given.
    ///
    /// ```
    /// let builder = llmstatsd_client::Client::builder().port(9125);
    /// # let _ = builder;
    /// ```
    pub fn port(mut self, port: u16) -> Self {
        self.destination.port = Some(port);
        self
    }

    /// The path of the daemon's unix datagram socket; beats host and port.
    ///
    /// Where there are no such sockets, every datagram is dropped as unresolved.
    ///
    /// ```
    /// let builder = llmstatsd_client::Client::builder().socket("/run/llmstatsd/llmstatsd.sock");
    /// # let _ = builder;
    /// ```
    pub fn socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.destination.socket = Some(path.into());
        self
    }

    /// Whether to send nothing at all: a disabled client only counts events.
    ///
    /// ```
    /// let client = llmstatsd_client::Client::builder().disabled(true).build();
    /// # let _ = client;
    /// ```
    pub fn disabled(mut self, disabled: bool) -> Self {
        self.disabled = Some(disabled);
        self
    }

    /// Whether events share datagrams: sent when the next one does not fit, after 300 ms, at
    /// [`Client::flush`], at [`Client::close`], and when the last clone of the client is dropped.
    ///
    /// ```
    /// let client = llmstatsd_client::Client::builder().buffered(true).build();
    /// # let _ = client;
    /// ```
    pub fn buffered(mut self, buffered: bool) -> Self {
        self.buffered = buffered;
        self
    }

    /// The longest datagram; 1432 bytes by default, 8192 on a unix socket.
    ///
    /// A line that is longer goes alone in a datagram.
    ///
    /// ```
    /// let builder = llmstatsd_client::Client::builder().max_datagram_bytes(508);
    /// # let _ = builder;
    /// ```
    pub fn max_datagram_bytes(mut self, max_datagram_bytes: usize) -> Self {
        self.max_datagram_bytes = Some(max_datagram_bytes);
        self
    }

    /// A client with these settings, and those of the environment variables as they are now.
    ///
    /// Never fails: a client without a valid destination counts every datagram as
    /// `dropped_unresolved`.
    /// The socket is opened, and a host name looked up, when the first event is sent.
    ///
    /// ```
    /// let client = llmstatsd_client::Client::builder().build();
    /// # let _ = client;
    /// ```
    #[must_use]
    pub fn build(self) -> Client {
        Client::new(self.settings(|name| std::env::var_os(name)))
    }

    fn settings(self, variable: impl Fn(&str) -> Option<OsString>) -> Settings {
        let destination = Destination::choose(&self.destination, &variable);
        let max_bytes = match destination {
            Destination::Path(_) => MAX_UNIX_BYTES,
            _ => MAX_UDP_BYTES,
        };
        Settings {
            disabled: self.disabled.unwrap_or_else(|| is_on(&variable, "LLMSTATSD_DISABLE")),
            buffered: self.buffered,
            max_wait: self.max_wait.unwrap_or(MAX_WAIT),
            max_datagram_bytes: self.max_datagram_bytes.unwrap_or(max_bytes),
            destination,
            lookup: self.lookup,
        }
    }
}

/// What a client is made of, with nothing left to decide.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) disabled: bool,
    pub(crate) buffered: bool,
    pub(crate) max_wait: Duration,
    pub(crate) max_datagram_bytes: usize,
    pub(crate) destination: Destination,
    pub(crate) lookup: Lookup,
}

fn is_on(variable: &impl Fn(&str) -> Option<OsString>, name: &str) -> bool {
    let on = ["1", "true", "yes", "on"];
    let value = text(variable, name).unwrap_or_default();
    on.iter().any(|on| value.eq_ignore_ascii_case(on))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(builder: Builder, variables: &[(&str, &str)]) -> Settings {
        builder.settings(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_variable_disables_in_any_case() {
        for value in ["1", "true", "TRUE", "Yes", "on"] {
            assert!(settings(Builder::default(), &[("LLMSTATSD_DISABLE", value)]).disabled);
        }
        for value in ["", "0", "false", "no", "off", "2", " 1"] {
            assert!(!settings(Builder::default(), &[("LLMSTATSD_DISABLE", value)]).disabled);
        }
    }

    #[test]
    fn an_argument_beats_the_variable() {
        let on = [("LLMSTATSD_DISABLE", "1")];
        assert!(!settings(Builder::default().disabled(false), &on).disabled);
        assert!(settings(Builder::default().disabled(true), &[]).disabled);
    }

    #[test]
    fn the_longest_datagram_depends_on_the_socket() {
        assert_eq!(settings(Builder::default(), &[]).max_datagram_bytes, 1432);
        let unix = Builder::default().socket("/run/a.sock");
        assert_eq!(settings(unix.clone(), &[]).max_datagram_bytes, 8192);
        assert_eq!(settings(unix.max_datagram_bytes(99), &[]).max_datagram_bytes, 99);
    }

    #[test]
    fn buffering_is_off_by_default() {
        assert!(!settings(Builder::default(), &[]).buffered);
    }

    #[test]
    fn buffered_lines_wait_for_300_ms() {
        assert_eq!(settings(Builder::default(), &[]).max_wait, Duration::from_millis(300));
    }
}
