"""Who counts as asking from this machine, so that lines of others may be shown to him."""

import pytest
from starlette.datastructures import Headers

from llmstatsd.web.tap import is_local


@pytest.mark.parametrize(
    ("client", "host", "expected"),
    [
        ("127.0.0.1", "localhost:2112", True),
        ("127.0.0.1", "LOCALHOST", True),
        ("127.8.0.1", "127.0.0.1", True),
        ("::1", "[::1]:2112", True),
        ("::1", "[::1]", True),
        ("::ffff:127.0.0.1", "localhost", True),
        ("127.0.0.1", None, True),
        ("127.0.0.1", "localhost.example", False),
        ("127.0.0.1", "192.0.2.1:2112", False),
        ("127.0.0.1", "a b", False),
        ("::ffff:192.0.2.1", "localhost", False),
        ("192.0.2.1", "localhost", False),
        ("", "localhost", False),
    ],
)
def test_who_is_local(client: str, host: str | None, expected: bool) -> None:
    assert is_local(client, Headers({"host": host} if host else {})) is expected


@pytest.mark.parametrize("name", ["forwarded", "x-forwarded-for", "x-forwarded-proto", "via"])
def test_who_comes_by_a_proxy_is_not_local(name: str) -> None:
    assert is_local("127.0.0.1", Headers({"host": "localhost"}))
    assert not is_local("127.0.0.1", Headers({"host": "localhost", name: "x"}))
