"""An HTTP client that scrapes a URL a few times; as a process of its own it prints one JSON object.

It stands in for Prometheus: one keep-alive connection, the body read whole and thrown away.
Its own work lies outside the measured process, as a real scraper's does.
"""

import time
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import click
import msgspec


class Scraped(msgspec.Struct, frozen=True):
    """When each scrape began (monotonic clock) and its wall seconds, request to last byte.

    `bytes` is the size of the last body as it came over the wire.
    """

    started: list[float]
    seconds: list[float]
    bytes: int


REST_SECONDS = 0.2


def scrape_once(connection: HTTPConnection, path: str, encoding: str) -> int:
    """One scrape; return the bytes of its body as sent; raises ValueError unless it is a 200."""
    headers = {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": encoding}
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    received = 0
    while part := response.read(1 << 16):
        received += len(part)
    if response.status != 200:
        raise ValueError(f"scrape answered {response.status}")
    return received


def scraped(
    url: str,
    scrapes: int,
    encoding: str = "identity",
    *,
    seconds: float = 0.0,
    rest_seconds: float = REST_SECONDS,
) -> Scraped:
    """Scrape so many times at least, and until the seconds are over, with a rest before each.

    A bench that loads a receiver meanwhile calls it itself: the start of another process would
    take a processor from that receiver.
    """
    parts = urlsplit(url)
    ends = time.monotonic() + seconds
    started: list[float] = []
    took: list[float] = []
    received = 0
    with closing(HTTPConnection(parts.netloc, timeout=60)) as connection:
        while len(took) < scrapes or time.monotonic() < ends:
            time.sleep(rest_seconds)
            started.append(time.monotonic())
            received = scrape_once(connection, parts.path, encoding)
            took.append(time.monotonic() - started[-1])
    return Scraped(started, took, received)


@click.command()
@click.argument("url")
@click.option("--scrapes", default=5, type=click.IntRange(1, 100))
@click.option(
    "--interval", default=REST_SECONDS, type=click.FloatRange(0, 60), help="Seconds of rest."
)
@click.option("--gzip", "encoding", flag_value="gzip", default="identity")
def main(url: str, scrapes: int, interval: float, encoding: str) -> None:
    """Scrape URL a few times."""
    result = scraped(url, scrapes, encoding, rest_seconds=interval)
    click.echo(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main()
