"""HOST:PORT texts: what is read, what is refused, and how they are written back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstatsd.address import Address, parse

READ = {
    "127.0.0.1:8125": ("127.0.0.1", 8125),
    "0.0.0.0:0": ("0.0.0.0", 0),  # noqa: S104 - read, not bound
    ":2112": ("", 2112),
    "[::1]:8125": ("::1", 8125),
    "[::]:65535": ("::", 65535),
    "[fe80::1%eth0]:8125": ("fe80::1%eth0", 8125),
    "localhost:8125": ("localhost", 8125),
    "my_host-1.example.org.:1": ("my_host-1.example.org.", 1),
    f"{'a' * 63}.b:1": (f"{'a' * 63}.b", 1),
}

REFUSED = (
    *("", ":", "localhost", "8125", "[::1]", "127.0.0.1:"),
    *("localhost:65536", "localhost:100000", "localhost:-1", "localhost:+1", "localhost:1_0"),
    *("localhost:0x50", "localhost: 80", " localhost:80", "localhost:80 ", "localhost:80\n"),
    *("localhost:٨٠", "höst:80", "a..b:80", ".a:80", f"{'a' * 64}:80"),
    *("::1:8125", "[]:80", "[127.0.0.1]:80", "[::1:80", "::1]:80", "[:::1]:80", "[::1%]:80"),
    *("127.1:80", "1:80", "256.0.0.1:80", "1.2.3.4.5:80", "127.0.0.1.:80"),
    *("udp://localhost:80", "localhost:80/metrics", "a b:80", "user@host:80"),
)


@pytest.mark.parametrize(("text", "address"), READ.items(), ids=READ)
def test_an_address_is_read_and_written_back_as_it_was(text: str, address: tuple[str, int]) -> None:
    assert parse(text) == address
    assert str(parse(text)) == text


@pytest.mark.parametrize("text", REFUSED, ids=ascii)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


@given(st.text(alphabet="0123456789abcdef.:[]%-_ \x00é", max_size=40))
def test_any_text_is_an_address_that_survives_a_round_trip_or_a_value_error(text: str) -> None:
    try:
        address = parse(text)
    except ValueError:
        return
    assert parse(str(address)) == address


@given(st.ip_addresses(v=6).map(str), st.integers(0, 65535))
def test_every_ipv6_address_in_square_brackets_is_read(host: str, port: int) -> None:
    assert parse(str(Address(host, port))) == (host, port)
