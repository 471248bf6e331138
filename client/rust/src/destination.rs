//! Where datagrams go: argument beats variable beats default.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 8125;

/// The first pair with at least one half that is there decides; the other half is the default.
const HOSTS_AND_PORTS: [(&str, &str); 3] = [
    ("LLMSTATSD_HOST", "LLMSTATSD_PORT"),
    ("DD_AGENT_HOST", "DD_DOGSTATSD_PORT"),
    ("STATSD_HOST", "STATSD_PORT"),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// An IP address, which is never looked up.
    Address(SocketAddr),
    /// A host name and a port.
    Name(String, u16),
    /// A unix datagram socket.
    Path(PathBuf),
    /// An argument that can never be sent to.
    Invalid,
}

/// The destination as far as arguments give it; any of them hides the variables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) socket: Option<PathBuf>,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
}

impl Destination {
    pub(crate) fn choose(
        arguments: &Arguments,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        if let Some(path) = &arguments.socket {
            return Self::path(path);
        }
        let host = arguments.host.as_deref();
        Self::host_and_port(host, arguments.port)
            .or_else(|| Some(Self::path(Path::new(&text(&variable, "LLMSTATSD_SOCKET")?))))
            .or_else(|| Self::from_variables(&variable))
            .unwrap_or_else(|| Self::name(DEFAULT_HOST, DEFAULT_PORT))
    }

    fn from_variables(variable: &impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        HOSTS_AND_PORTS.iter().find_map(|(host, port)| {
            let host = text(variable, host);
            let host = host.as_ref().map(|host| host.to_string_lossy());
            let port = text(variable, port).and_then(|port| whole_port(port.to_str()?));
            Self::host_and_port(host.as_deref(), port)
        })
    }

    fn host_and_port(host: Option<&str>, port: Option<u16>) -> Option<Self> {
        if host.is_none() && port.is_none() {
            return None;
        }
        Some(Self::name(host.unwrap_or(DEFAULT_HOST), port.unwrap_or(DEFAULT_PORT)))
    }

    fn name(host: &str, port: u16) -> Self {
        if host.is_empty() || port == 0 {
            return Self::Invalid;
        }
        let address = host.parse().map(|ip: IpAddr| SocketAddr::new(ip, port));
        address.map_or_else(|_| Self::Name(host.to_owned(), port), Self::Address)
    }

    #[cfg(unix)]
    fn path(path: &Path) -> Self {
        let is_valid = |path: &Path| {
            !path.as_os_str().is_empty()
                && std::os::unix::net::SocketAddr::from_pathname(path).is_ok()
        };
        if is_valid(path) {
            Self::Path(path.to_owned())
        } else {
            Self::Invalid
        }
    }

    #[cfg(not(unix))]
    fn path(_: &Path) -> Self {
        Self::Invalid
    }
}

/// An empty variable is missing.
pub(crate) fn text(variable: &impl Fn(&str) -> Option<OsString>, name: &str) -> Option<OsString> {
    variable(name).filter(|value| !value.is_empty())
}

/// What is no port is missing: Kubernetes sets `LLMSTATSD_PORT=udp://10.0.0.1:8125` in the pods
/// beside a service called llmstatsd.
fn whole_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// Of a name's addresses the first of IPv4, else the first.
pub(crate) fn preferred(mut addresses: Vec<SocketAddr>) -> Option<SocketAddr> {
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn chosen(arguments: &Arguments, variables: &[(&str, &str)]) -> Destination {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        Destination::choose(arguments, |name| variables.get(name).map(OsString::from))
    }

    fn from_variables(variables: &[(&str, &str)]) -> Destination {
        chosen(&Arguments::default(), variables)
    }

    fn name(host: &str, port: u16) -> Destination {
        Destination::Name(host.to_owned(), port)
    }

    fn address(text: &str) -> Destination {
        Destination::Address(text.parse().unwrap())
    }

    #[test]
    fn without_any_setting_it_is_the_default() {
        assert_eq!(from_variables(&[]), address("127.0.0.1:8125"));
    }

    #[test]
    fn each_variable_beats_those_after_it() {
        let variables = [
            ("LLMSTATSD_SOCKET", "/run/a.sock"),
            ("LLMSTATSD_HOST", "b"),
            ("LLMSTATSD_PORT", "1"),
            ("DD_AGENT_HOST", "c"),
            ("DD_DOGSTATSD_PORT", "2"),
            ("STATSD_HOST", "d"),
            ("STATSD_PORT", "3"),
        ];
        let expected = [
            Destination::Path("/run/a.sock".into()),
            name("b", 1),
            address("127.0.0.1:1"),
            name("c", 2),
            address("127.0.0.1:2"),
            name("d", 3),
            address("127.0.0.1:3"),
        ];
        for (first, expected) in expected.iter().enumerate() {
            assert_eq!(from_variables(&variables[first..]), *expected, "{first}");
        }
    }

    #[test]
    fn the_missing_half_of_a_pair_is_the_default() {
        for (host, port) in HOSTS_AND_PORTS {
            assert_eq!(from_variables(&[(host, "a")]), name("a", 8125));
            assert_eq!(from_variables(&[(port, "9")]), address("127.0.0.1:9"));
        }
    }

    #[test]
    fn a_pair_is_not_filled_from_the_next_one() {
        let variables = [("LLMSTATSD_HOST", "a"), ("DD_DOGSTATSD_PORT", "9")];
        assert_eq!(from_variables(&variables), name("a", 8125));
    }

    #[test]
    fn an_empty_variable_is_missing() {
        let variables = [("LLMSTATSD_SOCKET", ""), ("LLMSTATSD_HOST", ""), ("STATSD_HOST", "a")];
        assert_eq!(from_variables(&variables), name("a", 8125));
    }

    #[test]
    fn a_port_that_is_no_port_is_missing() {
        for port in ["udp://10.0.0.1:8125", "0", "65536", "-1", "+9", " 9", "9.0", "a", "٩"] {
            let variables = [("LLMSTATSD_PORT", port), ("STATSD_PORT", "7")];
            assert_eq!(from_variables(&variables), address("127.0.0.1:7"), "{port}");
            let variables = [("LLMSTATSD_HOST", "a"), ("LLMSTATSD_PORT", port)];
            assert_eq!(from_variables(&variables), name("a", 8125), "{port}");
        }
    }

    #[test]
    fn the_range_of_a_port_is_1_to_65535() {
        assert_eq!(from_variables(&[("STATSD_PORT", "1")]), address("127.0.0.1:1"));
        assert_eq!(from_variables(&[("STATSD_PORT", "65535")]), address("127.0.0.1:65535"));
    }

    #[test]
    fn an_argument_hides_all_variables() {
        let variables =
            [("LLMSTATSD_SOCKET", "/run/a.sock"), ("LLMSTATSD_HOST", "b"), ("LLMSTATSD_PORT", "1")];
        let host = Arguments { host: Some("c".into()), ..Arguments::default() };
        assert_eq!(chosen(&host, &variables), name("c", 8125));
        let port = Arguments { port: Some(2), ..Arguments::default() };
        assert_eq!(chosen(&port, &variables), address("127.0.0.1:2"));
        let socket = Arguments { socket: Some("/run/d.sock".into()), ..host };
        assert_eq!(chosen(&socket, &variables), Destination::Path("/run/d.sock".into()));
    }

    #[test]
    fn an_invalid_argument_is_no_destination() {
        let invalid = [
            Arguments { host: Some(String::new()), ..Arguments::default() },
            Arguments { port: Some(0), ..Arguments::default() },
            Arguments { socket: Some("".into()), ..Arguments::default() },
            Arguments { socket: Some("/".repeat(200).into()), ..Arguments::default() },
            Arguments { socket: Some("/a\0b".into()), ..Arguments::default() },
        ];
        for arguments in invalid {
            assert_eq!(chosen(&arguments, &[]), Destination::Invalid, "{arguments:?}");
        }
    }

    #[test]
    fn an_ip_address_is_not_a_name() {
        assert_eq!(from_variables(&[("STATSD_HOST", "::1")]), address("[::1]:8125"));
        assert_eq!(from_variables(&[("STATSD_HOST", "10.0.0.1")]), address("10.0.0.1:8125"));
    }

    #[test]
    fn ipv4_is_preferred() {
        let (old, new): (SocketAddr, SocketAddr) =
            ("10.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap());
        assert_eq!(preferred(vec![new, old]), Some(old));
        assert_eq!(preferred(vec![new]), Some(new));
        assert_eq!(preferred(vec![]), None);
    }
}
